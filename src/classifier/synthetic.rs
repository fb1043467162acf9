//! Generated rule sets and keys, for benches and tests; nothing that forwards calls this.
//!
//! The shapes follow what is published of real rule sets: access lists name both ends and one port,
//! firewalls leave one end open and use port ranges, chains mix both, and policies name sets of
//! pods on either end with a deny under each isolated set. The same seed gives the same rules.

use super::{
    AddressMatch, AddressSet, AddressSetId, OriginId, PortRange, ProtocolMatch, Rule, RuleId,
    RuleSet, RuleVerdict,
};
use crate::wire::{Address, Family, FlowKey, protocol};

/// A small repeatable random number generator (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u128, last: u128) -> u128 {
        let wide = u128::from(self.bits()) << 64 | u128::from(self.bits());
        match (last - first).checked_add(1) {
            Some(count) => first + wide % count,
            None => wide,
        }
    }

    /// True `percent` times of a hundred.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the items.
    pub fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// What a flat rule set is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Access list: both ends long prefixes, one destination port.
    AccessList,
    /// Firewall: one end often open, port ranges on both sides.
    Firewall,
    /// Chain: a mix of both.
    Chain,
}

/// Percentages a [`Profile`] stands for.
struct Mix {
    source_any: usize,
    destination_any: usize,
    source_port_any: usize,
    destination_port_any: usize,
    /// Of the ports that are not "any".
    port_range: usize,
    protocol_any: usize,
}

impl Profile {
    fn mix(self) -> Mix {
        match self {
            Profile::AccessList => Mix {
                source_any: 8,
                destination_any: 1,
                source_port_any: 100,
                destination_port_any: 25,
                port_range: 12,
                protocol_any: 5,
            },
            Profile::Firewall => Mix {
                source_any: 35,
                destination_any: 25,
                source_port_any: 70,
                destination_port_any: 30,
                port_range: 35,
                protocol_any: 10,
            },
            Profile::Chain => Mix {
                source_any: 12,
                destination_any: 10,
                source_port_any: 75,
                destination_port_any: 40,
                port_range: 20,
                protocol_any: 20,
            },
        }
    }
}

/// About `count` rules of one family without address sets of more than one prefix; the last one
/// matches everything.
pub fn flat_rules(profile: Profile, count: usize, family: Family, seed: u64) -> RuleSet {
    let mut random = Random(seed);
    let random = &mut random;
    let mix = profile.mix();
    let networks: Vec<u128> = (0..20 + count / 100)
        .map(|_| random.between(1, (1 << 16) - 1))
        .collect();
    let mut rules = RuleSet::new();
    for _ in 1..count {
        let source = prefix(&mut rules, random, family, &networks, mix.source_any);
        // Few rules leave both ends open: they would make the rest pointless.
        let destination_any = match source {
            AddressMatch::Any => 1,
            AddressMatch::Set(_) => mix.destination_any,
        };
        let destination = prefix(&mut rules, random, family, &networks, destination_any);
        let numbers = [protocol::TCP, protocol::TCP, protocol::UDP, protocol::ICMP];
        let protocol = if random.percent(mix.protocol_any) {
            ProtocolMatch::Any
        } else {
            ProtocolMatch::Number(random.one_of(&numbers))
        };
        let has_ports = !matches!(protocol, ProtocolMatch::Number(protocol::ICMP));
        let mut ports = |any_percent| match has_ports {
            true => ports(random, any_percent, mix.port_range),
            false => PortRange::ANY,
        };
        let (source_ports, destination_ports) =
            (ports(mix.source_port_any), ports(mix.destination_port_any));
        push(
            &mut rules,
            Rule {
                protocol,
                source_ports,
                destination_ports,
                ..rule(source, destination)
            },
        );
    }
    push(&mut rules, rule(AddressMatch::Any, AddressMatch::Any));
    rules
}

/// A prefix inside one of the networks, at one of the lengths in use, so that prefixes nest.
fn prefix(
    rules: &mut RuleSet,
    random: &mut Random,
    family: Family,
    networks: &[u128],
    any_percent: usize,
) -> AddressMatch {
    if random.percent(any_percent) {
        return AddressMatch::Any;
    }
    let lengths: &[u32] = &[16, 20, 22, 24, 24, 24, 26, 28, 30, 32, 32, 32, 32, 32];
    let host_bits = 32 - random.one_of(lengths);
    // Hosts keep to a corner of their network, as they do in real ones.
    let offset = random.between(0, 0xfff) & !((1 << host_bits) - 1);
    let first = random.one_of(networks) << 16 | offset;
    let last = first | ((1 << host_bits) - 1);
    let (first, last) = match family {
        Family::V4 => (first, last),
        // The same structure, spread over network and host part.
        Family::V6 => (
            widen(first),
            widen(last) | if host_bits >= 8 { u64::MAX.into() } else { 0 },
        ),
    };
    let ranges = [(family, Address::from_bits(first), Address::from_bits(last))];
    AddressMatch::Set(rules.intern(AddressSet::from_ranges(ranges)))
}

/// `a.b.c.d` as `2001:db8:aabb:cc::dd`.
fn widen(v4: u128) -> u128 {
    0x2001_0db8 << 96 | (v4 >> 8) << 72 | (v4 & 0xff)
}

fn ports(random: &mut Random, any_percent: usize, range_percent: usize) -> PortRange {
    const KNOWN: [u16; 12] = [20, 21, 22, 25, 53, 80, 123, 161, 443, 1521, 3306, 8080];
    if random.percent(any_percent) {
        return PortRange::ANY;
    }
    if !random.percent(range_percent) {
        let other = random.between(1, 9999) as u16;
        return PortRange::single(match random.percent(70) {
            true => random.one_of(&KNOWN),
            false => other,
        });
    }
    let low = random.between(0, 40) as u16 * 500;
    let width = random.between(1, 20) as u16 * 100;
    let ranges = [
        (1024, u16::MAX),
        (0, 1023),
        (low, low + width),
        (low, u16::MAX),
    ];
    let (first, last) = random.one_of(&ranges);
    PortRange { first, last }
}

/// Ingress rules of a cluster: per policy a subject (the pods of one application, or of a whole
/// namespace), peers (applications, namespaces, address blocks with exceptions) and few ports, all
/// allowing; under them, a deny for every subject. Pods have an address of each family given.
pub fn policy_rules(pods: usize, policies: usize, families: &[Family], seed: u64) -> RuleSet {
    let mut random = Random(seed);
    let random = &mut random;
    let mut rules = RuleSet::new();
    let cluster = Cluster::new(&mut rules, pods, families, random);
    let mut denied = Vec::new();
    for _ in 0..policies {
        let namespace = random.below(cluster.namespaces.len());
        let subject = if random.percent(10) {
            cluster.namespaces[namespace]
        } else {
            random.one_of(&cluster.applications[namespace])
        };
        denied.push(subject);
        for _ in 0..random.between(1, 3) {
            let peers: Vec<AddressMatch> = (0..random.between(1, 2))
                .map(|_| cluster.peer(&mut rules, random, namespace, families))
                .collect();
            for _ in 0..random.between(1, 3) {
                let destination_ports = ports(random, 10, 5);
                let number = random.one_of(&[protocol::TCP, protocol::TCP, protocol::UDP]);
                for &peer in &peers {
                    push(
                        &mut rules,
                        Rule {
                            protocol: ProtocolMatch::Number(number),
                            destination_ports,
                            ..rule(peer, AddressMatch::Set(subject))
                        },
                    );
                }
            }
        }
    }
    denied.sort_unstable();
    denied.dedup();
    for subject in denied {
        push(
            &mut rules,
            Rule {
                verdict: RuleVerdict::Deny,
                priority: 1,
                ..rule(AddressMatch::Any, AddressMatch::Set(subject))
            },
        );
    }
    rules
}

/// The address sets of a generated cluster.
struct Cluster {
    namespaces: Vec<AddressSetId>,
    /// By namespace.
    applications: Vec<Vec<AddressSetId>>,
    everyone: AddressSetId,
}

impl Cluster {
    fn new(rules: &mut RuleSet, pods: usize, families: &[Family], random: &mut Random) -> Self {
        const APPLICATIONS: usize = 10;
        let namespaces = (pods / 100).max(1);
        let mut by_application = vec![Vec::new(); namespaces * APPLICATIONS];
        for pod in 0..pods {
            // A pod runs on any node; a node gives its addresses out in order.
            by_application[random.below(namespaces * APPLICATIONS)].push(pod);
        }
        let mut set_of = |pods: &[usize]| {
            let ranges = pods.iter().flat_map(|&pod| {
                families.iter().map(move |&family| {
                    let address = pod_address(family, pod);
                    (family, address, address)
                })
            });
            rules.intern(AddressSet::from_ranges(ranges))
        };
        let by_namespace = by_application.chunks(APPLICATIONS);
        Cluster {
            namespaces: by_namespace
                .clone()
                .map(|applications| set_of(&applications.concat()))
                .collect(),
            applications: by_namespace
                .map(|applications| applications.iter().map(|pods| set_of(pods)).collect())
                .collect(),
            everyone: set_of(&by_application.concat()),
        }
    }

    fn peer(
        &self,
        rules: &mut RuleSet,
        random: &mut Random,
        namespace: usize,
        families: &[Family],
    ) -> AddressMatch {
        let other = random.below(self.namespaces.len());
        AddressMatch::Set(match random.below(20) {
            0..10 => random.one_of(&self.applications[namespace]),
            10..14 => random.one_of(&self.applications[other]),
            14..16 => self.namespaces[namespace],
            16 => self.namespaces[other],
            17 => self.everyone,
            _ => {
                let block = random.between(0, 50);
                let ranges = families.iter().flat_map(|&family| {
                    let first = match family {
                        Family::V4 => 0xc612_0000 | block << 8,
                        Family::V6 => widen(0xc612_0000 | block << 8),
                    };
                    // Without its address 16.
                    [(0, 15), (17, 255)].map(|(from, to)| {
                        let at = |offset| Address::from_bits(first + offset);
                        (family, at(from), at(to))
                    })
                });
                rules.intern(AddressSet::from_ranges(ranges))
            }
        })
    }
}

/// `10.244.0.0/16` and `fd00:10:244::/48`, a /24 or /64 a node, from host number 2 on.
fn pod_address(family: Family, pod: usize) -> Address {
    let (node, host) = (pod as u128 / 110, pod as u128 % 110 + 2);
    Address::from_bits(match family {
        Family::V4 => 0x0af4_0000 | node << 8 | host,
        Family::V6 => 0xfd00_0010_0244 << 80 | node << 64 | host,
    })
}

fn rule(source: AddressMatch, destination: AddressMatch) -> Rule {
    Rule {
        id: RuleId(0),
        priority: 0,
        source,
        destination,
        protocol: ProtocolMatch::Any,
        source_ports: PortRange::ANY,
        destination_ports: PortRange::ANY,
        zone: None,
        verdict: RuleVerdict::Allow,
        origin: OriginId(0),
    }
}

fn push(rules: &mut RuleSet, rule: Rule) {
    let id = RuleId(rules.rules().len() as u64);
    rules.push(Rule { id, ..rule });
}

/// Keys of one family: each inside a rule drawn at random (another rule may decide it), one in ten
/// with one of its addresses drawn from everywhere. Some rule must match a key of the family.
pub fn keys(rules: &RuleSet, family: Family, count: usize, seed: u64) -> Vec<FlowKey> {
    let mut random = Random(seed);
    let mut keys = Vec::with_capacity(count);
    while keys.len() < count {
        let rule = &rules.rules()[random.below(rules.rules().len())];
        let source = address_in(rules, &mut random, rule.source, family);
        let destination = address_in(rules, &mut random, rule.destination, family);
        let no_port = |ports: PortRange| ports.first > ports.last;
        if no_port(rule.source_ports) || no_port(rule.destination_ports) {
            continue;
        }
        let (Some(mut source), Some(destination)) = (source, destination) else {
            continue;
        };
        if random.percent(10) {
            source = anywhere(&mut random, family);
        }
        let port = |random: &mut Random, ports: PortRange| {
            random.between(ports.first.into(), ports.last.into()) as u16
        };
        keys.push(FlowKey {
            source,
            destination,
            source_port: port(&mut random, rule.source_ports),
            destination_port: port(&mut random, rule.destination_ports),
            zone: rule.zone.unwrap_or(0),
            protocol: match rule.protocol {
                ProtocolMatch::Any => random.one_of(&[protocol::TCP, protocol::UDP]),
                ProtocolMatch::Number(number) => number,
            },
            family,
        });
    }
    keys
}

fn anywhere(random: &mut Random, family: Family) -> Address {
    Address::from_bits(random.between(0, family.last_address().to_bits()))
}

/// `None` when the condition has no address of the family.
fn address_in(
    rules: &RuleSet,
    random: &mut Random,
    condition: AddressMatch,
    family: Family,
) -> Option<Address> {
    let AddressMatch::Set(id) = condition else {
        return Some(anywhere(random, family));
    };
    let ranges = rules.address_set(id).ranges(family);
    if ranges.is_empty() {
        return None;
    }
    let (first, last) = random.one_of(ranges);
    let bits = random.between(first.to_bits(), last.to_bits());
    Some(Address::from_bits(bits))
}
