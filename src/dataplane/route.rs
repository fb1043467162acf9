//! The data plane's picture of links, addresses, routes and neighbours: a mirror of the kernel's.
//!
//! Control builds a [`RouteTable`] from netlink (or, for `replay`, from settings) and publishes it
//! in the snapshot; it is immutable from then on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::neighbour::NeighbourUse;
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

impl PortLink {
    /// The address that ICMP errors sent from this port bear (RFC 1812 §4.3.2.4): the first one of
    /// the family that is not link-local, or else the first.
    pub fn source_for(&self, family: Family) -> Option<Address> {
        let of_family = || {
            self.addresses
                .iter()
                .map(IpNet::addr)
                .filter(|a| Family::of(*a) == family)
        };
        let routable = of_family().find(|address| match address {
            IpAddr::V4(v4) => !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        });
        routable
            .or_else(|| of_family().next())
            .map(|address| Address::from_ip(address).1)
    }
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
///
/// Prefixes are shared between tables that differ in neighbours or links alone, so that a neighbour
/// that comes or goes does not cost a rebuild of the routes.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    prefixes: Arc<Prefixes>,
    neighbours: HashMap<(PortId, IpAddr), (Option<MacAddress>, NeighbourUse)>,
    links: Vec<Option<PortLink>>,
}

#[derive(Debug, Default)]
struct Prefixes {
    v4: PrefixMap<Ipv4Net, (u32, RouteTarget)>,
    v6: PrefixMap<Ipv6Net, (u32, RouteTarget)>,
}

impl RouteTable {
    /// Builds the table. `links[i]` is port `i`'s link, `None` while its interface does not exist.
    ///
    /// Of routes with equal prefix and metric the first one counts.
    pub fn new(
        links: Vec<Option<PortLink>>,
        routes: impl IntoIterator<Item = Route>,
        neighbours: impl IntoIterator<Item = Neighbour>,
    ) -> Self {
        let mut prefixes = Prefixes::default();
        for route in routes {
            let value = (route.metric, route.target);
            match route.prefix {
                IpNet::V4(prefix) => insert_better(&mut prefixes.v4, prefix.trunc(), value),
                IpNet::V6(prefix) => insert_better(&mut prefixes.v6, prefix.trunc(), value),
            }
        }
        let table = RouteTable {
            prefixes: Arc::new(prefixes),
            ..Default::default()
        };
        let neighbours = neighbours.into_iter();
        table.with_neighbours(links, neighbours.map(|n| (n, NeighbourUse::default())))
    }

    /// The same routes with other links and neighbours.
    pub fn with_neighbours(
        &self,
        links: Vec<Option<PortLink>>,
        neighbours: impl IntoIterator<Item = (Neighbour, NeighbourUse)>,
    ) -> Self {
        let neighbours = neighbours.into_iter();
        RouteTable {
            prefixes: Arc::clone(&self.prefixes),
            neighbours: neighbours
                .map(|(n, used)| ((n.port, n.address), (n.mac, used)))
                .collect(),
            links,
        }
    }

    /// The route of the longest prefix that holds the address, the smallest metric among equals.
    #[inline]
    pub fn lookup(&self, family: Family, destination: Address) -> Option<RouteTarget> {
        let Prefixes { v4, v6 } = &*self.prefixes;
        match destination.to_ip(family) {
            IpAddr::V4(address) => v4.get_lpm(&address.into()).map(|(_, (_, target))| *target),
            IpAddr::V6(address) => v6.get_lpm(&address.into()).map(|(_, (_, target))| *target),
        }
    }

    /// What is known of a next hop. Also tells the mirror that it is in use, which keeps a
    /// reachable one fresh: whoever remembers the answer must still ask now and then.
    #[inline]
    pub fn neighbour(&self, port: PortId, address: IpAddr) -> NeighbourState {
        match self.neighbours.get(&(port, address)) {
            Some((Some(mac), used)) => {
                used.mark();
                NeighbourState::Reachable(*mac)
            }
            Some((None, _)) => NeighbourState::Failed,
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
    map: &mut PrefixMap<P, (u32, RouteTarget)>,
    prefix: P,
    value: (u32, RouteTarget),
) {
    let better = map.get(&prefix).is_none_or(|&(metric, _)| value.0 < metric);
    if better {
        map.insert(prefix, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The obvious twin: looks at every route.
    fn scan(routes: &[Route], destination: IpAddr) -> Option<RouteTarget> {
        let mut best: Option<&Route> = None;
        for route in routes.iter().filter(|r| r.prefix.contains(&destination)) {
            let better = best.is_none_or(|best| {
                let (new, old) = (route.prefix.prefix_len(), best.prefix.prefix_len());
                new > old || new == old && route.metric < best.metric
            });
            if better {
                best = Some(route);
            }
        }
        best.map(|route| route.target)
    }

    /// Few distinct bits, so that prefixes nest, collide and cover each other's edges.
    fn address() -> impl Strategy<Value = IpAddr> {
        let v4 = prop::sample::select(vec![0u32, 0xc612_0000, 0xc612_0100, 0xc613_ffff, u32::MAX]);
        let v6 = prop::sample::select(vec![0u128, 1, 0x2001_0db8 << 96, u128::MAX]);
        prop_oneof![
            (v4, 0..33u32).prop_map(|(bits, flip)| {
                IpAddr::from((bits ^ 1u32.checked_shl(flip).unwrap_or(0)).to_be_bytes())
            }),
            (v6, 0..129u32).prop_map(|(bits, flip)| {
                IpAddr::from((bits ^ 1u128.checked_shl(flip).unwrap_or(0)).to_be_bytes())
            }),
        ]
    }

    fn route() -> impl Strategy<Value = Route> {
        (address(), 0..=128u8, 0..3u32, 0..8u8).prop_map(|(address, length, metric, port)| {
            let length = length.min(if address.is_ipv4() { 32 } else { 128 });
            let target = match port {
                0 => RouteTarget::Local,
                1 => RouteTarget::Blackhole,
                port => RouteTarget::Port {
                    port: PortId(port),
                    gateway: None,
                },
            };
            Route {
                prefix: IpNet::new(address, length).unwrap(),
                metric,
                target,
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn lookup_equals_a_scan_of_all_routes(
            routes in prop::collection::vec(route(), 0..40),
            probes in prop::collection::vec(address(), 1..40),
        ) {
            let table = RouteTable::new(Vec::new(), routes.iter().copied(), []);
            let edges = routes.iter().flat_map(|r| [r.prefix.network(), r.prefix.broadcast()]);
            for destination in probes.into_iter().chain(edges) {
                let (family, bits) = Address::from_ip(destination);
                prop_assert_eq!(
                    table.lookup(family, bits),
                    scan(&routes, destination),
                    "{} in {:?}", destination, routes
                );
            }
        }
    }

    #[test]
    fn neighbours_are_replaced_and_routes_kept() {
        let prefix = "198.18.0.0/24".parse().unwrap();
        let (metric, target) = (0, RouteTarget::Local);
        let routes = [Route {
            prefix,
            metric,
            target,
        }];
        let neighbour = |last, mac| Neighbour {
            port: PortId(1),
            address: IpAddr::from([198, 18, 0, last]),
            mac,
        };
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        let first = RouteTable::new(vec![None], routes, [neighbour(1, Some(mac))]);
        let used = NeighbourUse::default();
        let second = first.with_neighbours(
            vec![None],
            [
                (neighbour(2, Some(mac)), used.clone()),
                (neighbour(3, None), NeighbourUse::default()),
            ],
        );
        let state = |last| second.neighbour(PortId(1), IpAddr::from([198, 18, 0, last]));
        assert!(!used.take());
        assert_eq!(state(1), NeighbourState::Unknown);
        assert_eq!(state(2), NeighbourState::Reachable(mac));
        assert_eq!(state(3), NeighbourState::Failed);
        assert!(used.take());
        let destination = Address::from_v4_bytes([198, 18, 0, 9]);
        assert_eq!(second.lookup(Family::V4, destination), Some(target));
    }
}
