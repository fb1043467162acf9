//! The trees against the linear reference, and the engines against each other.

use proptest::prelude::*;

use super::*;
use crate::classifier::linear::Linear;
use crate::classifier::synthetic::{self, Profile, Random};
use crate::classifier::{
    AddressMatch, AddressSet, OriginId, PortRange, ProtocolMatch, Rule, RuleId, RuleVerdict,
};
use crate::wire::Address;

/// What random rules are like, in percent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    address_any: usize,
    port_any: usize,
    port_range: usize,
    /// Of addresses that are not "any": nested in few networks, or a range that is no prefix.
    nested: usize,
    ragged: usize,
    zoned: usize,
}

/// Deny-heavy (long prefixes, few ports), wildcard-heavy, nested, port-range-heavy, everything.
pub(super) const SHAPES: [Shape; 5] = [
    Shape {
        address_any: 5,
        port_any: 60,
        port_range: 10,
        nested: 40,
        ragged: 0,
        zoned: 0,
    },
    Shape {
        address_any: 70,
        port_any: 60,
        port_range: 50,
        nested: 50,
        ragged: 0,
        zoned: 0,
    },
    Shape {
        address_any: 5,
        port_any: 80,
        port_range: 30,
        nested: 100,
        ragged: 0,
        zoned: 0,
    },
    Shape {
        address_any: 30,
        port_any: 5,
        port_range: 95,
        nested: 60,
        ragged: 0,
        zoned: 0,
    },
    Shape {
        address_any: 30,
        port_any: 40,
        port_range: 40,
        nested: 60,
        ragged: 10,
        zoned: 30,
    },
];

fn address(
    rules: &mut RuleSet,
    random: &mut Random,
    shape: &Shape,
    families: &[Family],
) -> AddressMatch {
    if random.percent(shape.address_any) {
        return AddressMatch::Any;
    }
    let family = random.one_of(families);
    let width = u32::from(family.bits());
    let all = family.last_address().to_bits();
    let base = if random.percent(shape.nested) {
        (random.below(3) as u128) << (width - 8) | random.between(0, 0x3f)
    } else {
        random.between(0, all)
    };
    let range = if random.percent(shape.ragged) {
        (base, base.saturating_add(random.between(0, 40)).min(all))
    } else {
        let hosts = random.below(width as usize + 1) as u32;
        let mask = u128::MAX.checked_shr(128 - hosts).unwrap_or(0);
        (base & !mask, base | mask)
    };
    let (first, last) = (Address::from_bits(range.0), Address::from_bits(range.1));
    AddressMatch::Set(rules.intern(AddressSet::from_ranges([(family, first, last)])))
}

fn ports(random: &mut Random, shape: &Shape) -> PortRange {
    if random.percent(shape.port_any) {
        return PortRange::ANY;
    }
    let first = random.one_of(&[0, 1, 53, 80, 443, 1023, 1024, 5_000, 8_080, 65_535]);
    if !random.percent(shape.port_range) {
        return PortRange::single(first);
    }
    let last = random.between(first.into(), 65_535) as u16;
    // The last one is a range without a port, more often than not.
    let last = random.one_of(&[last, last, u16::MAX, first.saturating_add(7), 60]);
    PortRange { first, last }
}

pub(super) fn random_rule(
    rules: &mut RuleSet,
    random: &mut Random,
    shape: &Shape,
    families: &[Family],
) -> Rule {
    Rule {
        id: RuleId(0),
        priority: 0,
        source: address(rules, random, shape, families),
        destination: address(rules, random, shape, families),
        protocol: random.one_of(&[
            ProtocolMatch::Any,
            ProtocolMatch::Number(6),
            ProtocolMatch::Number(17),
        ]),
        source_ports: ports(random, shape),
        destination_ports: ports(random, shape),
        zone: random
            .percent(shape.zoned)
            .then(|| random.one_of(&[1, 7, 300])),
        verdict: RuleVerdict::Deny,
        origin: OriginId(0),
    }
}

pub(super) fn random_rules(
    shape: &Shape,
    count: usize,
    families: &[Family],
    random: &mut Random,
) -> RuleSet {
    let mut rules = RuleSet::new();
    for _ in 0..count {
        let rule = random_rule(&mut rules, random, shape, families);
        rules.push(rule);
    }
    rules
}

/// A key in, at, or just past a corner of the rule.
pub(super) fn key_at(rules: &RuleSet, rule: &Rule, random: &mut Random) -> FlowKey {
    let sides = [rule.source, rule.destination];
    let family_of = |side: &AddressMatch| match side {
        AddressMatch::Any => None,
        AddressMatch::Set(id) => rules.address_set(*id).iter().next().map(|range| range.0),
    };
    let family = sides.iter().find_map(family_of);
    let family = family.unwrap_or_else(|| random.one_of(&[Family::V4, Family::V6]));
    let all = family.last_address().to_bits();
    let mut number = |first: u128, last: u128, end: u128| match random.below(6) {
        _ if first > last => first,
        0 => first.saturating_sub(1),
        1 => last.saturating_add(1).min(end),
        2 => first,
        3 => last,
        _ => random.between(first, last),
    };
    let mut addresses = [0; 2];
    for (address, side) in addresses.iter_mut().zip(sides) {
        let range = match side {
            AddressMatch::Any => None,
            AddressMatch::Set(id) => rules.address_set(id).ranges(family).first(),
        };
        let (first, last) = range.map_or((0, all), |r| (r.0.to_bits(), r.1.to_bits()));
        *address = number(first, last, all);
    }
    let mut port =
        |ports: PortRange| number(ports.first.into(), ports.last.into(), u16::MAX.into()) as u16;
    FlowKey {
        source: Address::from_bits(addresses[0]),
        destination: Address::from_bits(addresses[1]),
        source_port: port(rule.source_ports),
        destination_port: port(rule.destination_ports),
        zone: match rule.zone {
            Some(zone) if random.percent(80) => zone,
            _ => random.one_of(&[0, 1, 2, 300]),
        },
        protocol: match rule.protocol {
            ProtocolMatch::Number(number) if random.percent(90) => number,
            _ => random.one_of(&[1, 6, 17, 255]),
        },
        family,
    }
}

/// Holds a compiled set against the linear reference, with every engine.
fn check(rules: &RuleSet, bits: &Bits, random: &mut Random, keys_each: usize) {
    let linear = Linear::new(rules);
    let keys: Vec<FlowKey> = rules
        .rules()
        .iter()
        .flat_map(|rule| std::iter::repeat_n(rule, keys_each))
        .map(|rule| key_at(rules, rule, random))
        .collect();
    let expected: Vec<_> = keys.iter().map(|key| linear.classify(key)).collect();
    let mut bits = bits.clone();
    for level in Level::available() {
        bits.level = level;
        let mut decisions = vec![None; keys.len()];
        bits.classify_batch(&keys, &mut decisions);
        for ((key, decision), expected) in keys.iter().zip(&decisions).zip(&expected) {
            assert_eq!(decision, expected, "{level:?} {key} {:?}", rules.rules());
        }
        for (key, expected) in keys.iter().zip(&expected).take(200) {
            assert_eq!(bits.classify(key), *expected, "{level:?} {key} alone");
        }
    }
}

fn quick() -> Budget {
    Budget {
        tries_max: 6,
        ..Budget::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn random_rules_are_decided_as_by_the_linear_reference(
        seed: u64,
        shape in 0..SHAPES.len(),
        count in 0usize..160,
        families in 0usize..3,
    ) {
        let families: &[Family] = match families {
            0 => &[Family::V4],
            1 => &[Family::V6],
            _ => &[Family::V4, Family::V6],
        };
        let mut random = Random(seed);
        let rules = random_rules(&SHAPES[shape], count, families, &mut random);
        match compile(&rules, &quick()) {
            Ok(bits) => check(&rules, &bits, &mut random, 8),
            Err(NotForBits::Prefixes { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// After every change the trees answer as the linear reference of the rules there are, and
    /// snapshots taken before go on answering as they did.
    #[test]
    fn changed_rules_are_decided_as_by_the_linear_reference(seed: u64, shape in 0..SHAPES.len()) {
        let families = [Family::V4, Family::V6];
        let mut random = Random(seed);
        let mut rules = random_rules(&SHAPES[shape], 120, &families, &mut random);
        let ranks: Vec<u32> = (0..120).map(|position| 1_000 + 10 * position).collect();
        let budget = Budget { tries_max: 3, ..Budget::default() };
        let mut updatable = Updatable::new(&rules, &ranks, &budget).unwrap();
        let mut held = updatable.snapshot();
        let mut model: Vec<(u32, Rule)> = ranks.into_iter().zip(rules.rules().to_vec()).collect();
        let mut before = model.clone();
        for step in 0..40 {
            if random.percent(50) && !model.is_empty() {
                let (rank, _) = model.remove(random.below(model.len()));
                prop_assert_eq!(updatable.remove(rank), Ok(()));
                prop_assert_eq!(updatable.remove(rank), Err(UpdateError::Missing(rank)));
            } else {
                let rank = random.below(3_000) as u32;
                let rule = random_rule(&mut rules, &mut random, &SHAPES[shape], &families);
                let at = model.partition_point(|(other, _)| *other < rank);
                let is_taken = model.get(at).is_some_and(|(other, _)| *other == rank);
                match updatable.add(rank, &rules, &rule) {
                    Ok(()) => {
                        prop_assert!(!is_taken);
                        model.insert(at, (rank, rule));
                    }
                    Err(UpdateError::Taken(_)) => prop_assert!(is_taken),
                    Err(UpdateError::BuildAnew(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            check_model(&rules, &model, &updatable.snapshot(), &mut random);
            if step % 7 == 0 {
                check_model(&rules, &before, &held, &mut random);
                (held, before) = (updatable.snapshot(), model.clone());
            }
        }
    }
}

/// Holds trees against asking the rules of a model one after another.
fn check_model(rules: &RuleSet, model: &[(u32, Rule)], bits: &Bits, random: &mut Random) {
    let keys: Vec<FlowKey> = (0..60)
        .filter(|_| !model.is_empty())
        .map(|_| key_at(rules, &model[random.below(model.len())].1, random))
        .collect();
    let mut decisions = vec![None; keys.len()];
    bits.classify_batch(&keys, &mut decisions);
    for (key, decision) in keys.iter().zip(decisions) {
        let first = model.iter().find(|(_, rule)| rules.matches(rule, key));
        let expected = first.map(|(rank, _)| RuleIndex(*rank));
        assert_eq!(decision, expected, "{key}");
        assert_eq!(bits.classify(key), expected, "{key} alone");
    }
}

#[test]
fn larger_sets_are_decided_as_by_the_linear_reference() {
    for (place, profile) in [Profile::AccessList, Profile::Firewall, Profile::Chain]
        .into_iter()
        .enumerate()
    {
        for family in [Family::V4, Family::V6] {
            let rules = synthetic::flat_rules(profile, 900, family, place as u64);
            let bits = compile(&rules, &quick()).unwrap();
            check(&rules, &bits, &mut Random(5), 3);
        }
    }
}

#[test]
fn every_parameter_gives_the_same_answers() {
    let rules = synthetic::flat_rules(Profile::Firewall, 400, Family::V4, 3);
    for tries_max in [1, 3, 9, 27] {
        let budget = Budget {
            tries_max,
            ..Budget::default()
        };
        check(
            &rules,
            &compile(&rules, &budget).unwrap(),
            &mut Random(8),
            4,
        );
    }
}

#[test]
fn nothing_matches_an_empty_set() {
    let rules = RuleSet::new();
    let bits = compile(&rules, &quick()).unwrap();
    let key = synthetic::keys(
        &synthetic::flat_rules(Profile::Chain, 10, Family::V4, 1),
        Family::V4,
        1,
        1,
    );
    assert_eq!(bits.classify(&key[0]), None);
}

#[test]
fn a_family_without_rules_does_not_answer_for_the_other() {
    let mut random = Random(4);
    let rules = random_rules(&SHAPES[0], 40, &[Family::V4], &mut random);
    let only_v4 = rules.rules().iter().filter(|rule| {
        let sides = [rule.source, rule.destination];
        sides.iter().any(|side| *side != AddressMatch::Any)
    });
    let mut set = rules.clone();
    set = {
        let mut kept = RuleSet::new();
        for rule in only_v4 {
            let mut side = |side| match side {
                AddressMatch::Any => AddressMatch::Any,
                AddressMatch::Set(id) => {
                    AddressMatch::Set(kept.intern(set.address_set(id).clone()))
                }
            };
            let (source, destination) = (side(rule.source), side(rule.destination));
            kept.push(Rule {
                source,
                destination,
                ..rule.clone()
            });
        }
        kept
    };
    let bits = compile(&set, &quick()).unwrap();
    assert!(bits.v6.forest.parts().roots.is_empty());
    let strange = FlowKey {
        family: Family::V6,
        ..key_at(&set, &set.rules()[0], &mut random)
    };
    let linear = Linear::new(&set);
    for rule in set.rules() {
        let keys = [strange, key_at(&set, rule, &mut random), strange];
        let mut decisions = [None; 3];
        bits.classify_batch(&keys, &mut decisions);
        assert_eq!(decisions, keys.each_ref().map(|key| linear.classify(key)));
    }
}

#[test]
fn a_set_of_many_addresses_is_declined() {
    let rules = synthetic::policy_rules(3_000, 100, &[Family::V4], 1);
    assert!(matches!(
        compile(&rules, &quick()),
        Err(NotForBits::Prefixes { .. })
    ));
}
