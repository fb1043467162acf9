//! Address translation: which connections get other addresses, and which.
//!
//! ```text
//! first packet ─▶ destination rules ─▶ route, policy ─▶ source rules, a port ─▶ flow with two keys
//! later ones   ─▶ flow ─▶ rewrite by the difference of its keys
//! ```
//!
//! Policy sees a connection after destination and before source translation. What a flow was given
//! stays until it ends, whatever the rules say by then.
//!
//! - this file: the rules, in order, first match.
//! - [`ports`]: the external ports of this worker, and who holds them.

pub mod ports;

use std::ops::RangeInclusive;

use super::route::RouteTable;
use super::verdict::PortId;
use crate::wire::{Address, Family, FlowKey, protocol};

/// All rules, immutable.
#[derive(Debug, Clone, Default)]
pub struct NatPlan {
    /// In order; the first that fits a new connection gives it its destination.
    pub destinations: Vec<DestinationRule>,
    /// In order; the first that fits a new connection gives it its source.
    pub sources: Vec<SourceRule>,
}

/// Which connections a rule is about. What is empty or `None` fits all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// Port they come in on.
    pub arrives: Option<PortId>,
    /// Family of their addresses.
    pub family: Option<Family>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Sources.
    pub from: Vec<AddressRange>,
    /// Destinations.
    pub to: Vec<AddressRange>,
    /// Destination ports, of protocols that have them.
    pub ports: Option<(u16, u16)>,
}

/// Addresses of one family from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    /// Their family.
    pub family: Family,
    /// The first.
    pub first: Address,
    /// The last.
    pub last: Address,
}

/// Sends connections elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationRule {
    /// Which ones.
    pub selector: Selector,
    /// Their destination from now on, of the selected addresses' family.
    pub target: Address,
    /// Family of `target`.
    pub family: Family,
    /// Its port; the connection's own where `None`.
    pub target_port: Option<u16>,
    /// Nobody reaches the target's port but by this rule.
    pub exclusive: bool,
}

/// Gives connections another source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRule {
    /// Which ones; destinations as they are after destination translation.
    pub selector: Selector,
    /// Port they leave by.
    pub leaves: Option<PortId>,
    /// Only connections that a destination rule has sent elsewhere.
    pub redirected: bool,
    /// The addresses to choose from; the outgoing port's own where empty. A source always gets the
    /// same one (RFC 4787 REQ-2).
    pub addresses: Vec<(Family, Address)>,
    /// The ports to choose from.
    pub ports: RangeInclusive<u16>,
    /// How a port is chosen.
    pub choice: PortChoice,
    /// How long a port is kept from others after its last connection.
    pub reuse_delay_us: u64,
}

/// How a port is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortChoice {
    /// Any of the range, as hard to guess as can be (RFC 6056, 6888 REQ-15).
    Random,
    /// The connection's own where nobody else has it, also outside the range; else any of the
    /// range.
    Preserve,
}

impl AddressRange {
    fn has(&self, family: Family, address: Address) -> bool {
        self.family == family && (self.first..=self.last).contains(&address)
    }
}

impl Selector {
    /// Does a connection fit?
    fn fits(&self, arrives: PortId, key: &FlowKey) -> bool {
        let within = |ranges: &[AddressRange], address| {
            ranges.is_empty() || ranges.iter().any(|range| range.has(key.family, address))
        };
        let port = |(first, last)| {
            protocol::has_ports(key.protocol) && (first..=last).contains(&key.destination_port)
        };
        self.arrives.is_none_or(|port| port == arrives)
            && self.family.is_none_or(|family| family == key.family)
            && self
                .protocol
                .is_none_or(|protocol| protocol == key.protocol)
            && self.ports.is_none_or(port)
            && within(&self.from, key.source)
            && within(&self.to, key.destination)
    }
}

impl NatPlan {
    /// Is there no rule at all?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty() && self.sources.is_empty()
    }

    /// The key a new connection goes on with, where a rule gives it another destination.
    pub fn redirect(&self, arrives: PortId, key: &FlowKey) -> Option<FlowKey> {
        let rule = self
            .destinations
            .iter()
            .find(|rule| rule.family == key.family && rule.selector.fits(arrives, key))?;
        let has_ports = protocol::has_ports(key.protocol);
        Some(FlowKey {
            destination: rule.target,
            destination_port: rule
                .target_port
                .filter(|_| has_ports)
                .unwrap_or(key.destination_port),
            ..*key
        })
    }

    /// Is this, without being sent there, where only a rule may send connections?
    pub fn is_exclusive(&self, key: &FlowKey) -> bool {
        self.destinations.iter().any(|rule| {
            let protocol = rule.selector.protocol;
            rule.exclusive
                && (rule.family, rule.target) == (key.family, key.destination)
                && protocol.is_none_or(|protocol| protocol == key.protocol)
                && rule.target_port.map_or_else(
                    || {
                        let ports = rule.selector.ports;
                        ports.is_none_or(|(first, last)| {
                            (first..=last).contains(&key.destination_port)
                        })
                    },
                    |port| port == key.destination_port,
                )
        })
    }

    /// The rule that gives a connection another source.
    pub fn source_rule(
        &self,
        [arrives, leaves]: [PortId; 2],
        key: &FlowKey,
        redirected: bool,
    ) -> Option<&SourceRule> {
        self.sources.iter().find(|rule| {
            rule.leaves.is_none_or(|port| port == leaves)
                && (redirected || !rule.redirected)
                && rule.selector.fits(arrives, key)
                && rule.has_address(key.family)
        })
    }

    /// May packets to this address, one of the box's own, belong to translated connections?
    pub fn shares(&self, routes: &RouteTable, family: Family, address: Address) -> bool {
        let is_target = |rule: &DestinationRule| {
            let to = &rule.selector.to;
            to.is_empty() || to.iter().any(|range| range.has(family, address))
        };
        self.is_source(routes, family, address) || self.destinations.iter().any(is_target)
    }

    /// Do connections get this address as their source?
    pub fn is_source(&self, routes: &RouteTable, family: Family, address: Address) -> bool {
        self.sources
            .iter()
            .any(|rule| match rule.addresses.as_slice() {
                [] => match rule.leaves {
                    Some(port) => has_address(routes, port, family, address),
                    None => (0..=u8::MAX).any(|port| {
                        routes.link(PortId(port)).is_some()
                            && has_address(routes, PortId(port), family, address)
                    }),
                },
                addresses => addresses.contains(&(family, address)),
            })
    }

    /// Would a new connection to this end be sent elsewhere, whoever opens it? No connection is
    /// given such a port.
    pub fn is_redirected(&self, key: &FlowKey) -> bool {
        self.destinations.iter().any(|rule| {
            rule.family == key.family
                && rule
                    .selector
                    .protocol
                    .is_none_or(|protocol| protocol == key.protocol)
                && rule
                    .selector
                    .ports
                    .is_none_or(|(first, last)| (first..=last).contains(&key.destination_port))
                && rule
                    .selector
                    .to
                    .iter()
                    .any(|range| range.has(key.family, key.destination))
        })
    }

    /// External addresses that may be in use at once.
    pub fn addresses_max(&self) -> usize {
        let of = |rule: &SourceRule| rule.addresses.len().max(2);
        self.sources.iter().map(of).sum()
    }
}

impl SourceRule {
    fn has_address(&self, family: Family) -> bool {
        self.addresses.is_empty() || self.addresses.iter().any(|(of, _)| *of == family)
    }

    /// The address a source gets: always the same one of the rule's (RFC 4787 REQ-2, "paired").
    /// `hash` is one of the source's address.
    pub fn address(
        &self,
        routes: &RouteTable,
        leaves: PortId,
        family: Family,
        hash: u64,
    ) -> Option<Address> {
        if self.addresses.is_empty() {
            return routes.link(leaves)?.source_for(family);
        }
        let of_family = || self.addresses.iter().filter(|(of, _)| *of == family);
        let count = of_family().count() as u64;
        let chosen = of_family().nth((hash % count.max(1)) as usize)?;
        Some(chosen.1)
    }
}

fn has_address(routes: &RouteTable, port: PortId, family: Family, address: Address) -> bool {
    routes.link(port).and_then(|link| link.source_for(family)) == Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        let (family, first) = Address::from_ip(text.parse().unwrap());
        AddressRange {
            family,
            first,
            last: first,
        }
    }

    fn key(to: &str, protocol: u8, port: u16) -> FlowKey {
        let (family, destination) = Address::from_ip(to.parse().unwrap());
        FlowKey {
            source: Address::from_bits(7),
            destination,
            source_port: 1000,
            destination_port: port,
            zone: 0,
            protocol,
            family,
        }
    }

    fn redirect(to: &str, port: u16, target: &str) -> DestinationRule {
        let (family, target) = Address::from_ip(target.parse().unwrap());
        DestinationRule {
            selector: Selector {
                arrives: Some(PortId(0)),
                protocol: Some(protocol::TCP),
                to: vec![range(to)],
                ports: Some((port, port)),
                ..Selector::default()
            },
            target,
            family,
            target_port: Some(80),
            exclusive: true,
        }
    }

    #[test]
    fn the_first_rule_that_fits_redirects() {
        let plan = NatPlan {
            destinations: vec![
                redirect("198.18.0.1", 8080, "198.18.1.7"),
                redirect("198.18.0.1", 8080, "198.18.1.8"),
            ],
            sources: Vec::new(),
        };
        let asked = key("198.18.0.1", protocol::TCP, 8080);
        let sent = plan.redirect(PortId(0), &asked).unwrap();
        assert_eq!(sent.destination, range("198.18.1.7").first);
        assert_eq!((sent.destination_port, sent.source_port), (80, 1000));
        assert!(plan.is_redirected(&asked));
        assert!(plan.is_exclusive(&key("198.18.1.7", protocol::TCP, 80)));
        assert!(!plan.is_exclusive(&key("198.18.1.7", protocol::TCP, 81)));
        assert!(!plan.is_exclusive(&key("198.18.1.7", protocol::UDP, 80)));
        for (arrives, other) in [
            (1, asked),
            (0, key("198.18.0.1", protocol::TCP, 8081)),
            (0, key("198.18.0.1", protocol::UDP, 8080)),
            (0, key("198.18.0.2", protocol::TCP, 8080)),
        ] {
            assert_eq!(plan.redirect(PortId(arrives), &other), None, "{other:?}");
        }
    }

    #[test]
    fn a_source_rule_without_an_address_of_the_family_is_passed_over() {
        let rule = SourceRule {
            selector: Selector::default(),
            leaves: Some(PortId(1)),
            redirected: false,
            addresses: vec![(Family::V4, Address::from_bits(9))],
            ports: 1024..=2047,
            choice: PortChoice::Random,
            reuse_delay_us: 0,
        };
        let plan = NatPlan {
            destinations: Vec::new(),
            sources: vec![rule],
        };
        let ports = [PortId(0), PortId(1)];
        let v4 = key("198.18.1.1", protocol::TCP, 80);
        assert!(plan.source_rule(ports, &v4, false).is_some());
        assert!(
            plan.source_rule([PortId(1), PortId(0)], &v4, false)
                .is_none()
        );
        let v6 = key("2001:db8::1", protocol::TCP, 80);
        assert!(plan.source_rule(ports, &v6, false).is_none());
    }
}
