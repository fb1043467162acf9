//! Random rules of every shape, asked about random keys and about their edges, by every engine,
//! against linear search and against a checker that has nothing in common with either but the
//! rules.
//!
//! A small volume runs always; the full one is `cargo test --release --lib bits::proof --
//! --ignored`.

use std::collections::BTreeSet;

use super::tests::{SHAPES, Shape, key_at, random_rule, random_rules};
use super::*;
use crate::classifier::linear::Linear;
use crate::classifier::synthetic::Random;
use crate::classifier::{AddressMatch, ProtocolMatch, Rule};
use crate::wire::Address;

/// Finds the first match by fields: each field's values are cut where any rule's condition begins
/// or ends, each piece has the set of rules that hold in it, and a key's rules are what its six
/// pieces have in common.
struct Checker {
    fields: Vec<Field>,
    words: usize,
}

/// First values of the pieces, and the rules of each.
struct Field {
    starts: Vec<u128>,
    rules: Vec<Vec<u64>>,
}

impl Checker {
    /// Asks all rules of one family.
    fn new<'a>(set: &RuleSet, rules: impl Iterator<Item = &'a Rule>, family: Family) -> Self {
        let rules: Vec<[Vec<(u128, u128)>; 6]> =
            rules.map(|rule| conditions(set, rule, family)).collect();
        let words = rules.len().div_ceil(64);
        let fields = (0..6)
            .map(|field| {
                let ranges = rules.iter().flat_map(|rule| &rule[field]);
                let edges = ranges.flat_map(|&(first, last)| [Some(first), last.checked_add(1)]);
                let starts: BTreeSet<u128> = edges.flatten().chain([0]).collect();
                let holding = |start: u128| {
                    let mut set = vec![0; words];
                    for (place, rule) in rules.iter().enumerate() {
                        let holds = rule[field].iter().any(|r| r.0 <= start && start <= r.1);
                        set[place / 64] |= u64::from(holds) << (place % 64);
                    }
                    set
                };
                Field {
                    rules: starts.iter().map(|&start| holding(start)).collect(),
                    starts: starts.into_iter().collect(),
                }
            })
            .collect();
        Checker { fields, words }
    }

    fn first(&self, key: &FlowKey) -> Option<usize> {
        let values = [
            key.source.to_bits(),
            key.destination.to_bits(),
            key.protocol.into(),
            key.source_port.into(),
            key.destination_port.into(),
            key.zone.into(),
        ];
        let pieces: Vec<&Vec<u64>> = self
            .fields
            .iter()
            .zip(values)
            .map(|(field, value)| {
                let after = field.starts.partition_point(|&start| start <= value);
                &field.rules[after - 1]
            })
            .collect();
        (0..self.words).find_map(|word| {
            let all = pieces.iter().fold(u64::MAX, |all, rules| all & rules[word]);
            (all != 0).then(|| word * 64 + all.trailing_zeros() as usize)
        })
    }
}

/// The ranges of each field in which the rule holds.
fn conditions(set: &RuleSet, rule: &Rule, family: Family) -> [Vec<(u128, u128)>; 6] {
    let addresses = |side| match side {
        AddressMatch::Any => vec![(0, u128::MAX)],
        AddressMatch::Set(id) => {
            let ranges = set.address_set(id).ranges(family).iter();
            ranges.map(|r| (r.0.to_bits(), r.1.to_bits())).collect()
        }
    };
    let ports = |first: u16, last: u16| match first <= last {
        true => vec![(u128::from(first), u128::from(last))],
        false => Vec::new(),
    };
    let (source, destination) = (rule.source_ports, rule.destination_ports);
    [
        addresses(rule.source),
        addresses(rule.destination),
        match rule.protocol {
            ProtocolMatch::Any => vec![(0, 255)],
            ProtocolMatch::Number(number) => vec![(number.into(), number.into())],
        },
        ports(source.first, source.last),
        ports(destination.first, destination.last),
        match rule.zone {
            None => vec![(0, u16::MAX.into())],
            Some(zone) => vec![(zone.into(), zone.into())],
        },
    ]
}

/// A key anywhere, at a rule's edges, or with the fields of several rules.
fn random_key(set: &RuleSet, rules: &[&Rule], random: &mut Random) -> FlowKey {
    let mut key = key_at(set, random.one_of(rules), random);
    match random.below(8) {
        0 => {
            let all = key.family.last_address().to_bits();
            key.source = Address::from_bits(random.between(0, all));
            key.destination = Address::from_bits(random.between(0, all));
            key.source_port = random.bits() as u16;
            key.destination_port = random.bits() as u16;
        }
        1 | 2 => {
            let other = key_at(set, random.one_of(rules), random);
            if other.family == key.family {
                key.source = other.source;
                key.destination_port = other.destination_port;
            }
        }
        // One bit of an address.
        3 => {
            let bit = random.below(key.family.bits().into());
            key.destination = Address::from_bits(key.destination.to_bits() ^ 1 << bit);
        }
        _ => {}
    }
    key
}

/// Holds one set against both references.
fn prove_set(shape: &Shape, count: usize, keys: usize, seed: u64) {
    let mut random = Random(seed);
    let families = [Family::V4, Family::V6];
    let rules = random_rules(shape, count, &families, &mut random);
    let budget = Budget {
        tries_max: random.one_of(&[2, 5, 9, 14]),
        ..Budget::default()
    };
    let Ok(mut bits) = compile(&rules, &budget) else {
        return;
    };
    let linear = Linear::new(&rules);
    let checkers = families.map(|family| Checker::new(&rules, rules.rules().iter(), family));
    let all: Vec<&Rule> = rules.rules().iter().collect();
    let levels = Level::available();
    let mut left = keys;
    while left > 0 {
        let batch = left.min(1 + random.below(200));
        left -= batch;
        let keys: Vec<FlowKey> = (0..batch)
            .map(|_| random_key(&rules, &all, &mut random))
            .collect();
        let mut decisions = vec![None; batch];
        bits.level = random.one_of(&levels);
        bits.classify_batch(&keys, &mut decisions);
        for (key, decision) in keys.iter().zip(&decisions) {
            let checker = &checkers[usize::from(key.family == Family::V6)];
            let expected = checker.first(key).map(|place| RuleIndex(place as u32));
            assert_eq!(linear.classify(key), expected, "linear, seed {seed}: {key}");
            assert_eq!(*decision, expected, "{:?}, seed {seed}: {key}", bits.level);
        }
        let alone = random.one_of(&keys);
        assert_eq!(
            bits.classify(&alone),
            linear.classify(&alone),
            "seed {seed}: {alone}"
        );
    }
}

/// Holds trees against the checker after each of so many changes, rebuilt now and then.
fn prove_changes(shape: &Shape, count: usize, changes: usize, keys: usize, seed: u64) {
    let mut random = Random(seed);
    let families = [Family::V4, Family::V6];
    let mut rules = random_rules(shape, count, &families, &mut random);
    let ranks: Vec<u32> = (0..count as u32).map(|place| place * 100).collect();
    let budget = Budget {
        tries_max: 4,
        ..Budget::default()
    };
    let Ok(mut updatable) = Updatable::new(&rules, &ranks, &budget) else {
        return;
    };
    let mut model: Vec<(u32, Rule)> = ranks.into_iter().zip(rules.rules().to_vec()).collect();
    let mut rebuild = None;
    for step in 0..changes {
        if random.percent(50) && model.len() > count / 2 {
            let (rank, _) = model.remove(random.below(model.len()));
            assert_eq!(updatable.remove(rank), Ok(()));
        } else {
            let rank = random.below(count * 100) as u32;
            let at = model.partition_point(|(other, _)| *other < rank);
            let is_taken = model.get(at).is_some_and(|(other, _)| *other == rank);
            let rule = random_rule(&mut rules, &mut random, shape, &families);
            match updatable.add(rank, &rules, &rule) {
                Ok(()) => {
                    assert!(!is_taken);
                    model.insert(at, (rank, rule));
                }
                Err(UpdateError::Taken(_)) => assert!(is_taken),
                Err(UpdateError::BuildAnew(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        match step % 50 {
            20 => rebuild = Some(updatable.rebuild()),
            40 => {
                let rebuilt = rebuild.take().map(|rebuild: Rebuild| rebuild.run(&budget));
                if let Some(Ok(rebuilt)) = rebuilt {
                    // A change that does not fit leaves all as it is.
                    let _ = updatable.adopt(rebuilt);
                }
            }
            _ => {}
        }
        let all: Vec<&Rule> = model.iter().map(|(_, rule)| rule).collect();
        let checkers = families.map(|family| Checker::new(&rules, all.iter().copied(), family));
        let keys: Vec<FlowKey> = (0..keys)
            .map(|_| random_key(&rules, &all, &mut random))
            .collect();
        let mut decisions = vec![None; keys.len()];
        updatable.snapshot().classify_batch(&keys, &mut decisions);
        for (key, decision) in keys.iter().zip(&decisions) {
            let checker = &checkers[usize::from(key.family == Family::V6)];
            let expected = checker.first(key).map(|place| RuleIndex(model[place].0));
            assert_eq!(*decision, expected, "seed {seed}, change {step}: {key}");
        }
    }
}

/// So many sets of all shapes, by turns.
fn prove(sets: u64, keys: usize, changed_sets: u64, changes: usize) {
    for seed in 0..sets {
        let shape = &SHAPES[seed as usize % SHAPES.len()];
        let count = [20, 60, 120, 300][seed as usize / SHAPES.len() % 4];
        prove_set(shape, count, keys, seed);
        if seed % 50 == 49 {
            println!("{} sets of {keys} keys proved", seed + 1);
        }
    }
    for seed in 0..changed_sets {
        prove_changes(
            &SHAPES[seed as usize % SHAPES.len()],
            150,
            changes,
            100,
            seed,
        );
    }
}

#[test]
fn random_sets_are_decided_as_two_references_decide() {
    prove(25, 2_000, 5, 60);
}

/// Takes about an hour of one core.
#[test]
#[ignore = "a thousand sets of a million keys"]
fn a_thousand_sets_are_decided_as_two_references_decide() {
    prove(1_000, 1_000_000, 5, 1_000);
}

/// Readers are never wrong and never wait while rules change.
#[test]
fn readers_agree_with_the_rules_of_their_snapshot_while_rules_change() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    /// What readers get by one pointer.
    struct Published {
        bits: Arc<Bits>,
        expected: Vec<Option<RuleIndex>>,
    }

    let mut random = Random(17);
    let mut rules = random_rules(&SHAPES[0], 400, &[Family::V4, Family::V6], &mut random);
    let ranks: Vec<u32> = (0..400).map(|place| place * 10).collect();
    let budget = Budget {
        tries_max: 3,
        ..Budget::default()
    };
    let mut updatable = Updatable::new(&rules, &ranks, &budget).unwrap();
    let mut model: Vec<(u32, Rule)> = ranks.into_iter().zip(rules.rules().to_vec()).collect();
    let all: Vec<&Rule> = rules.rules().iter().collect();
    let keys: Vec<FlowKey> = (0..500)
        .map(|_| random_key(&rules, &all, &mut random))
        .collect();
    let publish = |updatable: &Updatable, model: &[(u32, Rule)], rules: &RuleSet| {
        let first = |key| model.iter().find(|(_, rule)| rules.matches(rule, key));
        let expected = keys
            .iter()
            .map(|key| first(key).map(|(rank, _)| RuleIndex(*rank)));
        Arc::new(Published {
            bits: updatable.snapshot(),
            expected: expected.collect(),
        })
    };
    let current = arc_swap::ArcSwap::new(publish(&updatable, &model, &rules));
    let (is_over, reads) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut decisions = vec![None; keys.len()];
                while !is_over.load(Ordering::Acquire) || reads.load(Ordering::Relaxed) < 20 {
                    let published = current.load_full();
                    published.bits.classify_batch(&keys, &mut decisions);
                    assert_eq!(decisions, published.expected);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for step in 0..300 {
            let place = random.below(model.len());
            if step % 2 == 0 {
                let (rank, _) = model.remove(place);
                updatable.remove(rank).unwrap();
            } else {
                let rank = model[place].0 + 1 + random.below(8) as u32;
                let rule = random_rule(&mut rules, &mut random, &SHAPES[0], &[Family::V4]);
                if updatable.add(rank, &rules, &rule).is_ok() {
                    let at = model.partition_point(|(other, _)| *other < rank);
                    model.insert(at, (rank, rule));
                }
            }
            if step == 150 {
                let rebuilt = updatable.rebuild().run(&budget).unwrap();
                updatable.adopt(rebuilt).unwrap();
            }
            current.store(publish(&updatable, &model, &rules));
        }
        is_over.store(true, Ordering::Release);
    });
    assert!(reads.into_inner() >= 20);
}
