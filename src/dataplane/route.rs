//! The data plane's picture of links, addresses, routes and neighbours: a mirror of the kernel's.
//!
//! Control builds a [`RouteTable`] from netlink (or, for `replay`, from settings) and publishes it
//! in the snapshot; it is immutable from then on.

use std::net::IpAddr;

use ipnet::IpNet;

use super::verdict::PortId;
use crate::wire::{Address, Family, MacAddress};

/// What a route says of its destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteTarget {
    /// Leave by this port, towards a gateway or, without one, the destination itself.
    Port {
        /// Outgoing port.
        port: PortId,
        /// Next hop; `None` when the destination is on the link. May be of the other family
        /// (RFC 5549).
        gateway: Option<IpAddr>,
    },
    /// An address of the box itself.
    Local,
    /// Broadcast address of an attached IPv4 network.
    Broadcast,
    /// The kernel's route leaves by a device that is no port of ours.
    OtherDevice,
    /// `ip route add unreachable`: answered with ICMP host unreachable.
    Unreachable,
    /// `ip route add prohibit`: answered with ICMP administratively prohibited.
    Prohibit,
    /// `ip route add blackhole`: dropped in silence.
    Blackhole,
}

/// One route, for building a [`RouteTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destinations.
    pub prefix: IpNet,
    /// Smaller wins between routes of equal prefix.
    pub metric: u32,
    /// Where they go.
    pub target: RouteTarget,
}

/// One resolved neighbour, for building a [`RouteTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Port it lives behind.
    pub port: PortId,
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address; `None` when the kernel tried and failed.
    pub mac: Option<MacAddress>,
}

/// What the data plane needs to know of a port's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortLink {
    /// Link-layer address frames leave with.
    pub mac: MacAddress,
    /// Largest IP packet the link carries, in bytes.
    pub mtu_bytes: u32,
    /// Administratively up, with carrier.
    pub up: bool,
    /// The port's own addresses: sources for the ICMP errors sent from it.
    pub addresses: Vec<IpNet>,
}

/// What is known of a next hop's link-layer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// Known.
    Reachable(MacAddress),
    /// Not asked for yet, or being asked for.
    Unknown,
    /// Asked for in vain.
    Failed,
}

/// Immutable forwarding information: longest-prefix routes, neighbours, links.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    v4: prefix_trie::PrefixMap<ipnet::Ipv4Net, (u32, RouteTarget)>,
    v6: prefix_trie::PrefixMap<ipnet::Ipv6Net, (u32, RouteTarget)>,
    neighbours: std::collections::HashMap<(PortId, IpAddr), Option<MacAddress>>,
    links: Vec<Option<PortLink>>,
}

impl RouteTable {
    /// Builds the table. `links[i]` is port `i`'s link, `None` while its interface does not exist.
    pub fn new(
        links: Vec<Option<PortLink>>,
        routes: impl IntoIterator<Item = Route>,
        neighbours: impl IntoIterator<Item = Neighbour>,
    ) -> Self {
        let mut table = RouteTable {
            links,
            ..Default::default()
        };
        for route in routes {
            let value = (route.metric, route.target);
            match route.prefix {
                IpNet::V4(prefix) => insert_better(&mut table.v4, prefix.trunc(), value),
                IpNet::V6(prefix) => insert_better(&mut table.v6, prefix.trunc(), value),
            }
        }
        let neighbours = neighbours.into_iter();
        table.neighbours = neighbours.map(|n| ((n.port, n.address), n.mac)).collect();
        table
    }

    /// The route of the longest prefix that holds the address, the smallest metric among equals.
    #[inline]
    pub fn lookup(&self, family: Family, destination: Address) -> Option<RouteTarget> {
        match destination.to_ip(family) {
            IpAddr::V4(v4) => self.v4.get_lpm(&v4.into()).map(|(_, (_, target))| *target),
            IpAddr::V6(v6) => self.v6.get_lpm(&v6.into()).map(|(_, (_, target))| *target),
        }
    }

    /// What is known of a next hop.
    #[inline]
    pub fn neighbour(&self, port: PortId, address: IpAddr) -> NeighbourState {
        match self.neighbours.get(&(port, address)) {
            Some(Some(mac)) => NeighbourState::Reachable(*mac),
            Some(None) => NeighbourState::Failed,
            None => NeighbourState::Unknown,
        }
    }

    /// The link of a port, while its interface exists.
    #[inline]
    pub fn link(&self, port: PortId) -> Option<&PortLink> {
        self.links.get(port.0 as usize).and_then(Option::as_ref)
    }
}

fn insert_better<P: prefix_trie::Prefix>(
    map: &mut prefix_trie::PrefixMap<P, (u32, RouteTarget)>,
    prefix: P,
    value: (u32, RouteTarget),
) {
    let better = map.get(&prefix).is_none_or(|&(metric, _)| value.0 < metric);
    if better {
        map.insert(prefix, value);
    }
}
