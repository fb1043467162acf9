//! The tree against the linear reference, on generated rules and on keys at every rule's edges.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Strategy;

use super::build::FORKS_MAX;
use super::field::FIELDS;
use super::*;
use crate::classifier::linear::Linear;
use crate::classifier::synthetic::{self, Profile, Random};
use crate::classifier::{
    AddressMatch, AddressSet, OriginId, PortRange, ProtocolMatch, Rule, RuleId, RuleVerdict,
};
use crate::wire::{Address, protocol};

/// Limits that leave bits out: these tests are about classes and their trees.
pub(super) fn classes_only() -> Limits {
    Limits {
        strategy: Some(super::Strategy::Classes),
        ..Limits::default()
    }
}

/// A rule before its address sets are interned.
#[derive(Debug, Clone)]
struct Draft {
    source: Option<Vec<(Family, u128, u128)>>,
    destination: Option<Vec<(Family, u128, u128)>>,
    protocol: ProtocolMatch,
    source_ports: PortRange,
    destination_ports: PortRange,
    zone: Option<u16>,
    priority: u32,
}

fn rule_set(drafts: &[Draft]) -> RuleSet {
    let mut rules = RuleSet::new();
    for (position, draft) in drafts.iter().enumerate() {
        let mut address = |ranges: &Option<Vec<(Family, u128, u128)>>| match ranges {
            None => AddressMatch::Any,
            Some(ranges) => {
                let ranges = ranges.iter().map(|&(family, first, last)| {
                    let (first, last) = (Address::from_bits(first), Address::from_bits(last));
                    (family, first, last)
                });
                AddressMatch::Set(rules.intern(AddressSet::from_ranges(ranges)))
            }
        };
        let (source, destination) = (address(&draft.source), address(&draft.destination));
        rules.push(Rule {
            id: RuleId(position as u64),
            priority: draft.priority,
            source,
            destination,
            protocol: draft.protocol,
            source_ports: draft.source_ports,
            destination_ports: draft.destination_ports,
            zone: draft.zone,
            verdict: RuleVerdict::Deny,
            origin: OriginId(0),
        });
    }
    rules
}

/// Which shape of rule set is generated.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Most conditions are "any".
    Wildcards,
    /// Prefixes that nest, single ports, both families.
    Prefixes,
    /// Any ranges, overlapping each other.
    Ranges,
    /// Subject and peer sets of a few dozen addresses out of one pool, with a deny under them.
    Policy,
}

/// Addresses are drawn from so few that rules overlap, at the ends of the space and in clusters.
fn address(family: Family) -> impl Strategy<Value = u128> {
    let last = family.last_address().to_bits();
    let base = match family {
        Family::V4 => 0xc612_0000,
        Family::V6 => 0x2001_0db8 << 96,
    };
    prop_oneof![
        8 => (0u128..64).prop_map(move |low| base | low),
        4 => (0u128..8).prop_map(move |high| base | high << 8),
        1 => Just(0),
        1 => Just(last),
        1 => any::<u128>().prop_map(move |bits| bits & last),
    ]
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![2 => Just(Family::V4), 1 => Just(Family::V6)]
}

fn prefix() -> impl Strategy<Value = (Family, u128, u128)> {
    family().prop_flat_map(|family| {
        let free_bits = select(vec![0u32, 0, 0, 1, 2, 4, 8, 9, 16, 24, 32]);
        (address(family), free_bits).prop_map(move |(address, free_bits)| {
            let mask = (1u128 << free_bits) - 1;
            let last = family.last_address().to_bits();
            (family, address & !mask, (address | mask) & last)
        })
    })
}

fn range() -> impl Strategy<Value = (Family, u128, u128)> {
    family().prop_flat_map(|family| {
        (address(family), address(family))
            .prop_map(move |(one, other)| (family, one.min(other), one.max(other)))
    })
}

fn pod_set() -> impl Strategy<Value = Vec<(Family, u128, u128)>> {
    let pod = (family(), 0u128..300).prop_map(|(family, number)| match family {
        Family::V4 => (family, 0x0af4_0000 + number, 0x0af4_0000 + number),
        Family::V6 => (family, 0xfd << 120 | number, 0xfd << 120 | number),
    });
    prop::collection::vec(pod, 1..40)
}

fn addresses(shape: Shape) -> BoxedStrategy<Option<Vec<(Family, u128, u128)>>> {
    let few = |strategy: BoxedStrategy<_>| prop::collection::vec(strategy, 0..4).boxed();
    let (any_weight, set) = match shape {
        Shape::Wildcards => (3, few(prefix().boxed())),
        Shape::Prefixes => (1, few(prefix().boxed())),
        Shape::Ranges => (1, few(range().boxed())),
        Shape::Policy => (1, pod_set().boxed()),
    };
    prop_oneof![any_weight => Just(None), 2 => set.prop_map(Some)].boxed()
}

fn ports(shape: Shape) -> BoxedStrategy<PortRange> {
    let port = select(vec![0u16, 1, 53, 80, 443, 1023, 1024, 8080, 65534, 65535]);
    let single = port.clone().prop_map(PortRange::single);
    let range = (any::<u16>(), port).prop_map(|(one, other)| PortRange {
        first: one.min(other),
        last: one.max(other),
    });
    let inverted = Just(PortRange { first: 9, last: 8 });
    let range_weight = if matches!(shape, Shape::Ranges) {
        20
    } else {
        2
    };
    let any_weight = if matches!(shape, Shape::Ranges) {
        5
    } else {
        20
    };
    prop_oneof![
        any_weight => Just(PortRange::ANY),
        10 => single,
        range_weight => range,
        1 => inverted,
    ]
    .boxed()
}

/// Message types as ICMP rules have them: a type with any code, or one code.
fn icmp_types() -> impl Strategy<Value = PortRange> {
    let icmp_type = select(vec![0u8, 3, 8, 128, 129, 255]);
    (icmp_type, prop::option::of(select(vec![0u8, 1, 255]))).prop_map(|(icmp_type, code)| {
        PortRange {
            first: FlowKey::icmp_port(icmp_type, code.unwrap_or(0)),
            last: FlowKey::icmp_port(icmp_type, code.unwrap_or(255)),
        }
    })
}

fn draft(shape: Shape) -> impl Strategy<Value = Draft> {
    let icmp = (select(vec![protocol::ICMP, protocol::ICMPV6]), icmp_types())
        .prop_map(|(number, types)| (ProtocolMatch::Number(number), PortRange::ANY, types));
    let number = select(vec![0, protocol::TCP, protocol::UDP, protocol::SCTP, 255]);
    let other = (prop::option::of(number), ports(shape), ports(shape)).prop_map(
        |(number, source_ports, destination_ports)| {
            let protocol = number.map_or(ProtocolMatch::Any, ProtocolMatch::Number);
            (protocol, source_ports, destination_ports)
        },
    );
    let zone = prop_oneof![6 => Just(None), 1 => select(vec![0, 1, 7, 65535]).prop_map(Some)];
    (
        addresses(shape),
        addresses(shape),
        prop_oneof![4 => other.boxed(), 1 => icmp.boxed()],
        zone,
        0u32..4,
    )
        .prop_map(|(source, destination, upper, zone, priority)| Draft {
            source,
            destination,
            protocol: upper.0,
            source_ports: upper.1,
            destination_ports: upper.2,
            zone,
            priority,
        })
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let shapes = [
        Shape::Wildcards,
        Shape::Prefixes,
        Shape::Ranges,
        Shape::Policy,
    ];
    select(shapes.to_vec()).prop_flat_map(|shape| prop::collection::vec(draft(shape), 0..60))
}

/// First, last, one before and one after of each range, where these exist.
fn edges(ranges: impl IntoIterator<Item = (u128, u128)>, last_value: u128) -> Vec<u128> {
    let mut values: Vec<u128> = ranges
        .into_iter()
        .flat_map(|(first, last)| {
            let before = first.checked_sub(1);
            let after = (last < last_value).then(|| last + 1);
            [Some(first), Some(last), before, after]
        })
        .flatten()
        .collect();
    values.extend([0, last_value]);
    values.sort_unstable();
    values.dedup();
    values
}

/// Draws keys whose fields are edges of the same or of different rules.
struct EdgeKeys {
    state: u64,
    addresses: [Vec<u128>; 2],
    ports: Vec<u128>,
    protocols: Vec<u128>,
    zones: Vec<u128>,
}

impl EdgeKeys {
    fn new(rules: &RuleSet, seed: u64) -> Self {
        let addresses = [Family::V4, Family::V6].map(|family| {
            let ranges = rules
                .address_sets()
                .iter()
                .flat_map(|set| set.ranges(family));
            let ranges = ranges.map(|&(first, last)| (first.to_bits(), last.to_bits()));
            edges(ranges, family.last_address().to_bits())
        });
        let single = |value: u128| (value, value);
        let ports = rules.rules().iter().flat_map(|rule| {
            [rule.source_ports, rule.destination_ports]
                .map(|ports| (u128::from(ports.first), u128::from(ports.last)))
        });
        let protocols = rules.rules().iter().filter_map(|rule| match rule.protocol {
            ProtocolMatch::Any => None,
            ProtocolMatch::Number(number) => Some(single(number.into())),
        });
        let zones = rules.rules().iter().filter_map(|rule| rule.zone);
        EdgeKeys {
            state: seed | 1,
            addresses,
            ports: edges(ports, u16::MAX.into()),
            protocols: edges(protocols, u8::MAX.into()),
            zones: edges(zones.map(|zone| single(zone.into())), u16::MAX.into()),
        }
    }

    fn pick(state: &mut u64, values: &[u128]) -> u128 {
        // xorshift64: repeatable, and no more is asked of it.
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        values[(*state >> 33) as usize % values.len()]
    }
}

impl Iterator for EdgeKeys {
    type Item = FlowKey;

    fn next(&mut self) -> Option<FlowKey> {
        let state = &mut self.state;
        let family = if Self::pick(state, &[0, 1]) == 0 {
            Family::V4
        } else {
            Family::V6
        };
        let addresses = &self.addresses[usize::from(family == Family::V6)];
        Some(FlowKey {
            source: Address::from_bits(Self::pick(state, addresses)),
            destination: Address::from_bits(Self::pick(state, addresses)),
            source_port: Self::pick(state, &self.ports) as u16,
            destination_port: Self::pick(state, &self.ports) as u16,
            zone: Self::pick(state, &self.zones) as u16,
            protocol: Self::pick(state, &self.protocols) as u8,
            family,
        })
    }
}

/// A key inside the rule where it can be, at the first or last value of each condition.
fn keys_at_rule(rules: &RuleSet, rule: &Rule) -> Vec<FlowKey> {
    let mut keys = Vec::new();
    for family in [Family::V4, Family::V6] {
        let ends = |condition: AddressMatch| match condition {
            AddressMatch::Any => vec![Address::ZERO, family.last_address()],
            AddressMatch::Set(id) => {
                let ranges = rules.address_set(id).ranges(family);
                ranges.iter().flat_map(|range| [range.0, range.1]).collect()
            }
        };
        let (sources, destinations) = (ends(rule.source), ends(rule.destination));
        if sources.is_empty() || destinations.is_empty() {
            continue;
        }
        for turn in 0..sources.len().max(destinations.len()) {
            let ends = |ports: PortRange| [ports.first, ports.last][turn % 2];
            keys.push(FlowKey {
                source: sources[turn % sources.len()],
                destination: destinations[turn % destinations.len()],
                source_port: ends(rule.source_ports),
                destination_port: ends(rule.destination_ports),
                zone: rule.zone.unwrap_or(turn as u16),
                protocol: match rule.protocol {
                    ProtocolMatch::Any => protocol::TCP,
                    ProtocolMatch::Number(number) => number,
                },
                family,
            });
        }
    }
    keys
}

fn check_equal(rules: &RuleSet, tree: &Tree, keys: &[FlowKey]) {
    let linear = Linear::new(rules);
    let expected: Vec<_> = keys.iter().map(|key| linear.classify(key)).collect();
    for (key, expected) in keys.iter().zip(&expected) {
        assert_eq!(tree.classify(key), *expected, "{key:?}");
    }
    let mut decisions = vec![Some(RuleIndex(u32::MAX)); keys.len()];
    tree.classify_batch(keys, &mut decisions);
    assert_eq!(decisions, expected, "batch");
}

pub(super) fn edge_keys(rules: &RuleSet, seed: u64, count: usize) -> Vec<FlowKey> {
    let mut keys: Vec<FlowKey> = rules
        .rules()
        .iter()
        .flat_map(|rule| keys_at_rule(rules, rule))
        .collect();
    keys.extend(EdgeKeys::new(rules, seed).take(count));
    keys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn tree_equals_linear(drafts in drafts(), seed: u64) {
        let rules = rule_set(&drafts);
        let tree = compile(&rules, &classes_only()).unwrap();
        check_equal(&rules, &tree, &edge_keys(&rules, seed, 600));
    }

    /// Small leaves and little room: every kind of node, forks in forks among them.
    #[test]
    fn tree_equals_linear_where_leaves_are_short(drafts in drafts(), seed: u64) {
        let rules = rule_set(&drafts);
        let limits = Limits { rules_tested_max: 1, ..classes_only() };
        let tree = compile(&rules, &limits).unwrap();
        prop_assert!(tree.statistics().rules_tested_max <= 1);
        check_equal(&rules, &tree, &edge_keys(&rules, seed, 300));
    }

    /// Whatever sets are shared: those of these rules, of others, of only a part of them.
    #[test]
    fn tree_equals_linear_with_shared_sets(
        drafts in drafts(),
        others in drafts(),
        seed: u64,
    ) {
        let rules = rule_set(&drafts);
        let limits = Limits { shared_ranges_min: 0, ..classes_only() };
        let part = &drafts[..drafts.len() / 2];
        for known in [&drafts, part, &others] {
            let shared = SharedSets::of([&rule_set(known), &rule_set(&others)], &limits);
            let tree = compile_with(&rules, &limits, Some(&shared)).unwrap();
            check_equal(&rules, &tree, &edge_keys(&rules, seed, 200));
        }
    }

    #[test]
    fn equal_rules_compile_to_equal_dumps(drafts in drafts()) {
        let dumps = || {
            let compilation = Compilation::run(&rule_set(&drafts), &classes_only()).unwrap();
            Step::ALL.map(|step| compilation.dump(step))
        };
        prop_assert_eq!(dumps(), dumps());
    }

    #[test]
    fn shadowed_rules_never_decide(drafts in drafts(), seed: u64) {
        let rules = rule_set(&drafts);
        let tree = compile(&rules, &classes_only()).unwrap();
        let linear = Linear::new(&rules);
        for key in edge_keys(&rules, seed, 200) {
            if let Some(index) = linear.classify(&key) {
                prop_assert!(tree.shadowed().iter().all(|pair| pair.0 != index));
            }
        }
        for &(covered, covering) in tree.shadowed() {
            prop_assert!(covering < covered);
            for key in keys_at_rule(&rules, rules.rule(covered)) {
                prop_assert!(!rules.matches(rules.rule(covered), &key)
                    || rules.matches(rules.rule(covering), &key));
            }
        }
    }
}

/// Larger sets than properties can have, both families in one batch, every chunk length.
/// Whichever strategy is wanted or faster, the answers are those of the linear reference, and the
/// statistics say what is asked.
#[test]
fn every_strategy_decides_alike() {
    let sets = [
        synthetic::flat_rules(Profile::Firewall, 300, Family::V4, 5),
        synthetic::flat_rules(Profile::AccessList, 300, Family::V6, 6),
        synthetic::policy_rules(300, 60, &[Family::V4, Family::V6], 7),
    ];
    let wanted = [
        None,
        Some(super::Strategy::Classes),
        Some(super::Strategy::Bits),
    ];
    for rules in &sets {
        let linear = Linear::new(rules);
        for strategy in wanted {
            let limits = Limits {
                strategy,
                ..Limits::default()
            };
            let compilation = Compilation::run(rules, &limits).unwrap();
            let declined = compilation.not_for_bits().is_some();
            let tree = compilation.into_tree();
            let taken = tree.statistics().strategy;
            assert!(strategy.is_none_or(|strategy| strategy == taken || declined));
            assert_eq!(tree.bits.is_some(), taken == super::Strategy::Bits);
            for key in edge_keys(rules, 3, 4_000) {
                assert_eq!(tree.classify(&key), linear.classify(&key), "{key:?}");
            }
        }
    }
    let flat = compile(&sets[0], &Limits::default()).unwrap();
    assert_eq!(flat.statistics().strategy, super::Strategy::Bits);
}

#[test]
fn large_sets_equal_linear() {
    let both = [Family::V4, Family::V6];
    let sets = [
        synthetic::flat_rules(Profile::AccessList, 1_500, Family::V4, 1),
        synthetic::flat_rules(Profile::Firewall, 1_500, Family::V6, 2),
        synthetic::flat_rules(Profile::Chain, 1_500, Family::V4, 3),
        synthetic::policy_rules(2_000, 400, &both, 4),
    ];
    for rules in &sets {
        let tree = compile(rules, &classes_only()).unwrap();
        let linear = Linear::new(rules);
        let families: Vec<Family> = both
            .into_iter()
            .filter(|&family| !rules.address_sets()[0].ranges(family).is_empty())
            .collect();
        let mut keys: Vec<FlowKey> = families
            .iter()
            .flat_map(|&family| synthetic::keys(rules, family, 25_000 / families.len(), 5))
            .collect();
        // Neighbours of different families, as in traffic.
        keys.sort_by_key(|key| (key.source_port, key.source));
        let mut decisions = vec![None; keys.len()];
        let mut done = 0;
        for length in 0..200 {
            let batch = done..done + length;
            tree.classify_batch(&keys[batch.clone()], &mut decisions[batch]);
            done += length;
        }
        for (key, decision) in keys.iter().zip(&decisions).take(done).step_by(7) {
            assert_eq!(*decision, linear.classify(key), "{key:?}");
        }
        for (key, decision) in keys.iter().zip(&decisions).take(done) {
            assert_eq!(*decision, tree.classify(key), "{key:?}");
        }
    }
}

/// Rules that all overlap each other in four fields: nothing divides them well.
fn wide_rules(count: usize) -> RuleSet {
    let mut random = Random(9);
    let mut range = |last: u128| {
        let first = random.between(0, last / 2);
        (first, first + random.between(last / 10, last / 2))
    };
    let drafts: Vec<Draft> = (0..count)
        .map(|_| {
            let mut addresses = || {
                let (first, last) = range(u32::MAX.into());
                Some(vec![(Family::V4, first, last)])
            };
            let (source, destination) = (addresses(), addresses());
            let mut ports = || {
                let (first, last) = range(u16::MAX.into());
                PortRange {
                    first: first as u16,
                    last: last as u16,
                }
            };
            Draft {
                source,
                destination,
                protocol: ProtocolMatch::Any,
                source_ports: ports(),
                destination_ports: ports(),
                zone: None,
                priority: 0,
            }
        })
        .collect();
    rule_set(&drafts)
}

#[test]
fn rules_that_all_overlap_are_forked_and_searched_within_the_limit() {
    let rules = wide_rules(200);
    let limits = classes_only();
    let tree = compile(&rules, &limits).unwrap();
    let statistics = tree.statistics();
    assert!(statistics.forks > 0 && statistics.leaves > 0);
    assert!(statistics.rules_tested_max <= limits.rules_tested_max);
    assert!(statistics.depth_max <= 1 + 2 * (FORKS_MAX + 1) * FIELDS as u32);
    check_equal(&rules, &tree, &edge_keys(&rules, 1, 5_000));
}

/// Each limit, made too small for the same rules, is the one reported, with a rule of the set.
#[test]
fn a_limit_that_is_exceeded_is_named() {
    let rules = wide_rules(200);
    let ample = classes_only();
    let cases = [
        (
            Limit::Rules,
            Limits {
                rules_max: 199,
                ..ample.clone()
            },
        ),
        (
            Limit::Nodes,
            Limits {
                nodes_max: 10,
                ..ample.clone()
            },
        ),
        (
            Limit::Entries,
            Limits {
                entries_max: 1_000,
                ..ample.clone()
            },
        ),
        (
            Limit::Work,
            Limits {
                work_max: 10_000,
                ..ample.clone()
            },
        ),
        (
            Limit::Bytes,
            Limits {
                bytes_max: 1_000,
                ..ample.clone()
            },
        ),
        (
            Limit::Bytes,
            Limits {
                bytes_max: 50_000,
                ..ample.clone()
            },
        ),
        (
            Limit::Memberships,
            Limits {
                memberships_max: 100,
                ..ample.clone()
            },
        ),
    ];
    for (expected, limits) in cases {
        let error = compile(&rules, &limits).unwrap_err();
        let CompileError::LimitExceeded {
            limit,
            allowed,
            needed,
            rule,
        } = error.clone();
        assert_eq!(limit, expected);
        assert!(needed > allowed, "{error}");
        assert!((rule.0 as usize) < rules.rules().len(), "{error}");
        assert!(error.to_string().contains(&expected.to_string()), "{error}");
    }
}

#[test]
fn no_rules_decide_nothing() {
    let tree = compile(&RuleSet::new(), &classes_only()).unwrap();
    assert_eq!(tree.statistics().nodes, 0);
    check_equal(&RuleSet::new(), &tree, &edge_keys(&RuleSet::new(), 1, 100));
}
