//! Classes of addresses, protocols and ports that neither set of steps tells apart.

use std::collections::BTreeSet;

use super::partition::Partition;
use super::{Point, address};
use crate::classifier::tree::Tree;
use crate::classifier::{AddressMatch, AddressSet, ProtocolMatch, Rule, RuleId, RuleSet};
use crate::control::decide::Decider;
use crate::wire::{Address, Family, FlowKey, protocol};

/// A rule as far as it matters whether it changed, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changed {
    id: RuleId,
    priority: u32,
    verdict: u8,
    source: Option<Ranges>,
    destination: Option<Ranges>,
    protocol: Option<u8>,
    source_ports: (u16, u16),
    destination_ports: (u16, u16),
    zone: Option<u16>,
}

type Ranges = Vec<(Family, Address, Address)>;

/// Fields of a key, as [`Tree::classes`] orders them.
mod field {
    /// From the field of an address to that of its shared class.
    pub const TO_SHARED: usize = 6;
    pub const SOURCE: usize = 0;
    pub const DESTINATION: usize = 1;
    pub const PROTOCOL: usize = 2;
    pub const SOURCE_PORT: usize = 3;
    pub const DESTINATION_PORT: usize = 4;
}

/// How a protocol uses the ports of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortUse {
    Ports,
    Icmp,
    None,
}

/// All classes of one family.
pub struct Classes {
    pub family: Family,
    pub sources: Partition,
    pub destinations: Partition,
    pub source_ports: Partition,
    pub destination_ports: Partition,
    /// One protocol number of each class, and those everybody knows.
    protocols: Vec<u8>,
    by_protocol: Partition,
}

/// The classes a changed rule is about.
pub struct Box {
    sources: BTreeSet<u32>,
    destinations: BTreeSet<u32>,
    source_ports: BTreeSet<u32>,
    destination_ports: BTreeSet<u32>,
    protocols: Vec<(u8, PortUse)>,
    /// Classes of port 0, of protocols without ports.
    no_ports: (u32, u32),
    zone: u16,
}

impl Changed {
    pub fn new(rules: &RuleSet, rule: &Rule) -> Self {
        let ranges = |side: AddressMatch| match side {
            AddressMatch::Any => None,
            AddressMatch::Set(id) => Some(rules.address_set(id).iter().collect()),
        };
        Changed {
            id: rule.id,
            priority: rule.priority,
            verdict: rule.verdict as u8,
            source: ranges(rule.source),
            destination: ranges(rule.destination),
            protocol: match rule.protocol {
                ProtocolMatch::Any => None,
                ProtocolMatch::Number(number) => Some(number),
            },
            source_ports: (rule.source_ports.first, rule.source_ports.last),
            destination_ports: (rule.destination_ports.first, rule.destination_ports.last),
            zone: rule.zone,
        }
    }
}

impl Classes {
    pub fn new(family: Family, deciders: [&Decider; 2]) -> Self {
        let trees: Vec<&Tree> = deciders
            .iter()
            .flat_map(|decider| decider.trees())
            .flat_map(|trees| trees.trees())
            .map(|tree| &**tree)
            .collect();
        let rule_sets = || {
            let stages = deciders.iter().flat_map(|decider| &decider.policy().stages);
            let shards = stages.flat_map(|stage| stage.shards());
            shards.map(|shard| &shard.rules)
        };
        let addresses: BTreeSet<u128> = rule_sets()
            .flat_map(RuleSet::address_sets)
            .flat_map(|set: &AddressSet| set.ranges(family))
            .flat_map(|(first, last)| [first.to_bits(), last.to_bits().saturating_add(1)])
            .collect();
        let ports = |range: fn(&Rule) -> (u16, u16)| -> BTreeSet<u128> {
            let rules = rule_sets().flat_map(RuleSet::rules).map(range);
            rules
                .flat_map(|(first, last)| [first.into(), u128::from(last) + 1])
                .collect()
        };
        let source_ports = ports(|rule| (rule.source_ports.first, rule.source_ports.last));
        let destination_ports =
            ports(|rule| (rule.destination_ports.first, rule.destination_ports.last));
        // Which class each tree puts a value of one field into, the other fields being the same.
        // Of an address there are two, its own and the shared one.
        let divide = |field: usize, boundaries: &BTreeSet<u128>, last: u128| {
            Partition::new(boundaries.iter().copied(), last, |value| {
                let key = with(family, field, value);
                let of = |tree: &&Tree| {
                    let classes = tree.classes(&key);
                    let is_address = field <= field::DESTINATION;
                    let shared = is_address.then(|| classes[field + field::TO_SHARED]);
                    [classes[field], shared.unwrap_or(0)]
                };
                trees.iter().flat_map(of).collect()
            })
        };
        let last = family.last_address().to_bits();
        let last_port = u16::MAX.into();
        let by_protocol = divide(field::PROTOCOL, &(0..=255).collect(), 255);
        Classes {
            family,
            sources: divide(field::SOURCE, &addresses, last),
            destinations: divide(field::DESTINATION, &addresses, last),
            source_ports: divide(field::SOURCE_PORT, &source_ports, last_port),
            destination_ports: divide(field::DESTINATION_PORT, &destination_ports, last_port),
            protocols: protocols(family, &by_protocol),
            by_protocol,
        }
    }

    /// The classes a rule is about.
    pub fn about(&self, rule: &Changed) -> Box {
        let addresses = |partition: &Partition, ranges: &Option<Ranges>| match ranges {
            None => (0..partition.classes()).collect(),
            Some(ranges) => ranges
                .iter()
                .filter(|(family, ..)| *family == self.family)
                .flat_map(|(_, first, last)| {
                    partition.classes_within(first.to_bits(), last.to_bits())
                })
                .collect::<BTreeSet<_>>(),
        };
        let ports = |partition: &Partition, (first, last): (u16, u16)| {
            partition.classes_within(first.into(), last.into())
        };
        let wanted = |number: &u8| {
            let class = |number: u8| self.by_protocol.class_of(number.into());
            rule.protocol
                .is_none_or(|protocol| class(protocol) == class(*number))
        };
        let from_zero = rule.source_ports.0 == 0 && rule.destination_ports.0 == 0;
        let with_use = self
            .protocols
            .iter()
            .copied()
            .filter(wanted)
            .map(|number| (number, port_use(self.family, number)));
        Box {
            sources: addresses(&self.sources, &rule.source),
            destinations: addresses(&self.destinations, &rule.destination),
            source_ports: ports(&self.source_ports, rule.source_ports),
            destination_ports: ports(&self.destination_ports, rule.destination_ports),
            protocols: with_use
                .filter(|(_, used)| from_zero || *used != PortUse::None)
                .collect(),
            no_ports: (
                self.source_ports.class_of(0),
                self.destination_ports.class_of(0),
            ),
            zone: rule.zone.unwrap_or(0),
        }
    }

    /// Every protocol looked at.
    pub fn protocols(&self) -> &[u8] {
        &self.protocols
    }

    /// Does the protocol have ports?
    pub fn has_ports(&self, number: u8) -> bool {
        port_use(self.family, number) == PortUse::Ports
    }

    /// A packet of a combination; none where the only one goes from an address to itself.
    pub fn witness(&self, point: &Point) -> Option<FlowKey> {
        let first = |partition: &Partition, class: u32| {
            let mut of_class = partition
                .stretches()
                .filter(move |(.., found)| *found == class);
            of_class.next().map(|(first, ..)| first)
        };
        let source = self.sources.ranges_of(&[point.source].into());
        let destination = self.destinations.ranges_of(&[point.destination].into());
        let (from, to) = two_ends(&source, &destination)?;
        let source_port = match port_use(self.family, point.protocol) {
            PortUse::None | PortUse::Icmp => 0,
            // An ephemeral one, where the class has it.
            PortUse::Ports if self.source_ports.class_of(40_000) == point.source_port => 40_000,
            PortUse::Ports => first(&self.source_ports, point.source_port)? as u16,
        };
        Some(FlowKey {
            source: address(from),
            destination: address(to),
            source_port,
            destination_port: first(&self.destination_ports, point.destination_port)? as u16,
            zone: 0,
            protocol: point.protocol,
            family: self.family,
        })
    }

    /// Is one of these protocols looked at for the other?
    #[cfg(test)]
    pub fn same_protocol(&self, looked_at: u8, other: u8) -> bool {
        let class = |number: u8| self.by_protocol.class_of(number.into());
        let same_use = port_use(self.family, looked_at) == port_use(self.family, other);
        looked_at == other
            || class(looked_at) == class(other) && same_use && !self.protocols.contains(&other)
    }

    /// The protocols of a class of which only this number is looked at.
    pub fn protocols_like(&self, number: u8) -> usize {
        let class = self.by_protocol.class_of(number.into());
        let looked_at = |other: u8| other != number && self.protocols.contains(&other);
        let used = port_use(self.family, number);
        let of_class = |other: &u8| {
            let same_use = port_use(self.family, *other) == used;
            same_use && self.by_protocol.class_of((*other).into()) == class
        };
        (0..=255)
            .filter(of_class)
            .filter(|other| !looked_at(*other))
            .count()
    }
}

/// A key in which one field has a value and all others are 0.
fn with(family: Family, field: usize, value: u128) -> FlowKey {
    let mut key = FlowKey {
        source: Address::ZERO,
        destination: Address::ZERO,
        source_port: 0,
        destination_port: 0,
        zone: 0,
        protocol: 0,
        family,
    };
    match field {
        field::SOURCE => key.source = address(value),
        field::DESTINATION => key.destination = address(value),
        field::PROTOCOL => key.protocol = value as u8,
        field::SOURCE_PORT => key.source_port = value as u16,
        _ => key.destination_port = value as u16,
    }
    key
}

/// An address of each, not the same one, and not the very first there is where there is another.
fn two_ends(sources: &[(u128, u128)], destinations: &[(u128, u128)]) -> Option<(u128, u128)> {
    let some = |ranges: &[(u128, u128)]| {
        let ends = ranges.iter().take(2);
        let mut some: Vec<u128> = ends
            .flat_map(|&(first, last)| [first, (first + 1).min(last), last])
            .collect();
        some.sort_by_key(|address| (*address == 0, *address));
        some
    };
    let destinations = some(destinations);
    some(sources).into_iter().find_map(|source| {
        let other = destinations.iter().find(|other| **other != source)?;
        Some((source, *other))
    })
}

/// TCP, UDP, SCTP and the family's ICMP, then one of every class that has others.
fn protocols(family: Family, by_protocol: &Partition) -> Vec<u8> {
    let icmp = match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    };
    let mut protocols = vec![protocol::TCP, protocol::UDP, protocol::SCTP, icmp];
    for class in 0..by_protocol.classes() {
        for used in [PortUse::Ports, PortUse::None] {
            let fits = |number: &u8| {
                by_protocol.class_of((*number).into()) == class
                    && port_use(family, *number) == used
                    && !protocols.contains(number)
            };
            // GRE is a protocol people have.
            let found = [47].into_iter().chain(0..=255).find(fits);
            protocols.extend(found);
        }
    }
    protocols
}

fn port_use(family: Family, number: u8) -> PortUse {
    match (family, number) {
        (Family::V4, protocol::ICMP) | (Family::V6, protocol::ICMPV6) => PortUse::Icmp,
        (
            _,
            protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDP_LITE | protocol::DCCP,
        ) => PortUse::Ports,
        _ => PortUse::None,
    }
}

impl Box {
    pub fn combinations(&self) -> u64 {
        let ports = |used: PortUse| match used {
            PortUse::Ports => (self.source_ports.len() * self.destination_ports.len()) as u64,
            PortUse::Icmp => self.destination_ports.len() as u64,
            PortUse::None => 1,
        };
        let services: u64 = self.protocols.iter().map(|(_, used)| ports(*used)).sum();
        (self.sources.len() * self.destinations.len()) as u64 * services
    }

    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        let zero = BTreeSet::from([self.no_ports.0]);
        let none = BTreeSet::from([self.no_ports.1]);
        let mut services = Vec::new();
        for &(protocol, used) in &self.protocols {
            let (source_ports, destination_ports) = match used {
                PortUse::Ports => (&self.source_ports, &self.destination_ports),
                PortUse::Icmp => (&zero, &self.destination_ports),
                PortUse::None => (&zero, &none),
            };
            for &source_port in source_ports {
                for &destination_port in destination_ports {
                    services.push((protocol, source_port, destination_port));
                }
            }
        }
        let pairs = self
            .sources
            .iter()
            .flat_map(|source| self.destinations.iter().map(move |to| (*source, *to)));
        pairs.flat_map(move |(source, destination)| {
            let points: Vec<_> = services
                .iter()
                .map(|&(protocol, source_port, destination_port)| Point {
                    source,
                    destination,
                    protocol,
                    source_port,
                    destination_port,
                    zone: self.zone,
                })
                .collect();
            points
        })
    }
}
