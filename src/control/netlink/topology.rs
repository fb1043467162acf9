//! From the kernel's links, addresses, routes and rules to what the data plane forwards by.
//!
//! Where one table per family cannot say what the kernel does, the deviation is a
//! [`MirrorWarning`]:
//! - of several next hops one is used: the first that is usable, by a port if there is one;
//! - policy routing rules, routes by traffic class, source prefix or with an encapsulation are not
//!   followed.
//!
//! The kernel asks table `local` first, whatever the prefix lengths in `main`: routes of `main`
//! inside a prefix of `local` are left out here, after which one longest-prefix table for both
//! gives the same answers.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RoutePreference, RouteType, RouteVia,
};
use rtnetlink::packet_route::rule::RuleMessage;

use super::message::Nexthop;
use super::{LinkState, LocalAddress, LocalKind, MirrorWarning, link, rule};
use crate::dataplane::route::{PortLink, Route, RouteTarget};
use crate::dataplane::verdict::PortId;

/// Routing tables the kernel fills by itself (linux/rtnetlink.h).
pub(super) const TABLE_MAIN: u32 = 254;
pub(super) const TABLE_LOCAL: u32 = 255;

/// All that was dumped.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub links: Vec<LinkMessage>,
    pub addresses: Vec<AddressMessage>,
    pub routes: Vec<RouteMessage>,
    pub rules: Vec<RuleMessage>,
    pub nexthops: Vec<Nexthop>,
    /// Something changed while it was read.
    pub interrupted: bool,
    pub undecodable: usize,
    pub first_error: Option<String>,
}

/// What the mirror publishes, but for neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Topology {
    pub links: Vec<Option<LinkState>>,
    pub port_links: Vec<Option<PortLink>>,
    pub ports: HashMap<u32, PortId>,
    pub routes: Vec<Route>,
    pub local: Vec<LocalAddress>,
    pub warnings: Vec<MirrorWarning>,
}

impl Topology {
    pub fn build(interfaces: &[String], raw: &Raw) -> Topology {
        let mut topology = Topology::default();
        for (number, interface) in interfaces.iter().enumerate() {
            let state = match link::find(interface, &raw.links) {
                Ok(state) => state,
                Err(warning) => {
                    topology.warnings.push(warning);
                    None
                }
            };
            let port_link = state
                .as_ref()
                .map(|state| link::port_link(state, &raw.addresses));
            if let Some(state) = &state {
                topology.ports.insert(state.ifindex, PortId(number as u8));
                if state.controller_ifindex.is_some() {
                    let interface = interface.clone();
                    topology
                        .warnings
                        .push(MirrorWarning::Enslaved { interface });
                }
            }
            topology.port_links.push(port_link);
            topology.links.push(state);
        }
        topology.take_routes(raw);
        topology.warn(raw);
        topology
    }

    fn take_routes(&mut self, raw: &Raw) {
        let nexthops = raw
            .nexthops
            .iter()
            .map(|nexthop| (nexthop.id, nexthop))
            .collect();
        let mut reader = RouteReader {
            ports: &self.ports,
            nexthops,
            multipath: Vec::new(),
            unfollowed: HashMap::new(),
        };
        let mut read: Vec<Read> = raw
            .routes
            .iter()
            .filter_map(|route| reader.read(route))
            .collect();
        // Stable: among equals the kernel's order stays.
        read.sort_by_key(|read| Reverse(read.preference));
        let mut local = LocalPrefixes::default();
        for Read { route, .. } in read.iter().filter(|read| read.table == TABLE_LOCAL) {
            local.insert(route.prefix);
        }
        let live = |read: &&Read| read.table == TABLE_LOCAL || !local.covers(read.route.prefix);
        self.routes = read.iter().filter(live).map(|read| read.route).collect();
        self.local = read.iter().filter_map(Read::local).collect();
        self.local.sort_unstable();
        self.local.dedup();
        let RouteReader {
            multipath,
            unfollowed,
            ..
        } = reader;
        if let Some(&example) = multipath.first() {
            let count = multipath.len();
            self.warnings
                .push(MirrorWarning::Multipath { count, example });
        }
        let mut unfollowed: Vec<_> = unfollowed.into_iter().collect();
        unfollowed.sort_unstable();
        self.warnings
            .extend(unfollowed.into_iter().map(|(reason, (count, example))| {
                MirrorWarning::UnfollowedRoutes {
                    count,
                    reason,
                    example,
                }
            }));
    }

    fn warn(&mut self, raw: &Raw) {
        let count = raw
            .rules
            .iter()
            .filter(|rule| !rule::is_usual(rule))
            .count();
        if count > 0 {
            self.warnings.push(MirrorWarning::PolicyRules { count });
        }
        if raw.undecodable > 0 {
            self.warnings.push(MirrorWarning::Undecodable {
                count: raw.undecodable,
                example: raw.first_error.clone().unwrap_or_default(),
            });
        }
    }
}

/// A route as it was understood.
struct Read {
    table: u32,
    route: Route,
    kind: RouteType,
    /// Router preference (RFC 4191): among routes of equal metric the higher wins.
    preference: u8,
}

impl Read {
    fn local(&self) -> Option<LocalAddress> {
        let kind = match self.kind {
            RouteType::Local => LocalKind::Unicast,
            RouteType::Broadcast => LocalKind::Broadcast,
            RouteType::Anycast => LocalKind::Anycast,
            _ => return None,
        };
        let prefix = self.route.prefix;
        let off_box = !prefix.network().is_loopback();
        off_box.then_some(LocalAddress { prefix, kind })
    }
}

struct RouteReader<'r> {
    ports: &'r HashMap<u32, PortId>,
    nexthops: HashMap<u32, &'r Nexthop>,
    multipath: Vec<IpNet>,
    unfollowed: HashMap<&'static str, (usize, IpNet)>,
}

/// One way a route may go.
#[derive(Debug, Clone, Copy, Default)]
struct Leg {
    ifindex: Option<u32>,
    gateway: Option<IpAddr>,
    blackhole: bool,
    encapsulated: bool,
    dead: bool,
    link_down: bool,
}

impl RouteReader<'_> {
    /// `None` for what the data plane never looks up, or cannot follow.
    fn read(&mut self, message: &RouteMessage) -> Option<Read> {
        let header = &message.header;
        let mut table = u32::from(header.table);
        let (mut metric, mut preference) = (0, 1);
        let mut destination = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Priority(number) => metric = *number,
                RouteAttribute::Preference(RoutePreference::Low) => preference = 0,
                RouteAttribute::Preference(RoutePreference::High) => preference = 2,
                RouteAttribute::Destination(address) => destination = address_of(address)?,
                _ => {}
            }
        }
        let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?;
        let followed = matches!(table, TABLE_MAIN | TABLE_LOCAL);
        if !followed || header.flags.contains(RouteFlags::Cloned) || never_forwarded(prefix) {
            return None;
        }
        let target = self.target(message, prefix)?;
        let route = Route {
            prefix,
            metric,
            target,
        };
        Some(Read {
            table,
            route,
            kind: header.kind,
            preference,
        })
    }

    fn target(&mut self, message: &RouteMessage, prefix: IpNet) -> Option<RouteTarget> {
        let header = &message.header;
        if header.tos != 0 {
            return self.unfollowed("traffic class", prefix);
        }
        if header.source_prefix_length != 0 {
            return self.unfollowed("source prefix", prefix);
        }
        match header.kind {
            RouteType::Unicast => self.unicast(message, prefix),
            RouteType::Local | RouteType::Anycast => Some(RouteTarget::Local),
            RouteType::Broadcast => Some(RouteTarget::Broadcast),
            RouteType::BlackHole => Some(RouteTarget::Blackhole),
            // A throw route goes on to the next rule's table, where there is nothing.
            RouteType::Unreachable | RouteType::Throw => Some(RouteTarget::Unreachable),
            RouteType::Prohibit => Some(RouteTarget::Prohibit),
            RouteType::Multicast => None,
            _ => self.unfollowed("type", prefix),
        }
    }

    fn unicast(&mut self, message: &RouteMessage, prefix: IpNet) -> Option<RouteTarget> {
        let legs = self.legs(message);
        if legs.len() > 1 {
            self.multipath.push(prefix);
        }
        let port = |leg: &Leg| {
            leg.ifindex
                .and_then(|index| self.ports.get(&index).copied())
        };
        // The smallest key wins, and of equal ones the first.
        let chosen = legs
            .iter()
            .filter(|leg| !leg.dead)
            .min_by_key(|leg| (leg.link_down, !leg.blackhole && port(leg).is_none()))?;
        if chosen.encapsulated {
            // Sent bare it would reach the wrong place: better not at all.
            self.unfollowed("encapsulation", prefix);
            return Some(RouteTarget::OtherDevice);
        }
        Some(match port(chosen) {
            _ if chosen.blackhole => RouteTarget::Blackhole,
            Some(port) => RouteTarget::Port {
                port,
                gateway: chosen.gateway,
            },
            None => RouteTarget::OtherDevice,
        })
    }

    fn legs(&self, message: &RouteMessage) -> Vec<Leg> {
        let mut leg = Leg {
            dead: message.header.flags.contains(RouteFlags::Dead),
            link_down: message.header.flags.contains(RouteFlags::Linkdown),
            ..Leg::default()
        };
        let mut several: Option<&[RouteNextHop]> = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::NhId(id) if self.nexthops.contains_key(id) => {
                    return self.object_legs(*id);
                }
                RouteAttribute::MultiPath(hops) => several = Some(hops),
                other => leg.take(other),
            }
        }
        let Some(hops) = several else {
            return vec![leg];
        };
        let legs = hops.iter().map(|hop| {
            let mut leg = Leg {
                ifindex: Some(hop.interface_index),
                dead: hop.flags.contains(RouteNextHopFlags::Dead),
                link_down: hop.flags.contains(RouteNextHopFlags::Linkdown),
                ..Leg::default()
            };
            hop.attributes
                .iter()
                .for_each(|attribute| leg.take(attribute));
            leg
        });
        legs.collect()
    }

    fn object_legs(&self, id: u32) -> Vec<Leg> {
        let object = self.nexthops[&id];
        let single = std::slice::from_ref(&id);
        let members = if object.group.is_empty() {
            single
        } else {
            &object.group
        };
        let objects = members
            .iter()
            .filter_map(|member| self.nexthops.get(member));
        let legs = objects.map(|object| Leg {
            ifindex: object.ifindex,
            gateway: object.gateway,
            blackhole: object.blackhole,
            encapsulated: object.encapsulated,
            dead: object.dead,
            link_down: object.link_down,
        });
        legs.collect()
    }

    fn unfollowed(&mut self, reason: &'static str, prefix: IpNet) -> Option<RouteTarget> {
        self.unfollowed.entry(reason).or_insert((0, prefix)).0 += 1;
        None
    }
}

impl Leg {
    fn take(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Oif(index) => self.ifindex = Some(*index),
            RouteAttribute::Gateway(address) => {
                self.gateway = address_of(address).filter(|address| !address.is_unspecified());
            }
            RouteAttribute::Via(RouteVia::Inet(address)) => self.gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => self.gateway = Some((*address).into()),
            RouteAttribute::Encap(_) => self.encapsulated = true,
            _ => {}
        }
    }
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// Networks of link-local addresses appear once a port, and multicast ones too: neither is ever
/// forwarded, so neither is looked up. Single link-local addresses are the box's own and stay.
fn never_forwarded(prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(_) => false,
        IpNet::V6(prefix) => {
            let address = prefix.network();
            address.is_multicast() || address.is_unicast_link_local() && prefix.prefix_len() < 128
        }
    }
}

#[derive(Default)]
struct LocalPrefixes {
    v4: prefix_trie::PrefixSet<ipnet::Ipv4Net>,
    v6: prefix_trie::PrefixSet<Ipv6Net>,
}

impl LocalPrefixes {
    fn insert(&mut self, prefix: IpNet) {
        match prefix {
            IpNet::V4(prefix) => self.v4.insert(prefix),
            IpNet::V6(prefix) => self.v6.insert(prefix),
        };
    }

    fn covers(&self, prefix: IpNet) -> bool {
        match prefix {
            IpNet::V4(prefix) => self.v4.get_lpm(&prefix).is_some(),
            IpNet::V6(prefix) => self.v6.get_lpm(&prefix).is_some(),
        }
    }
}
