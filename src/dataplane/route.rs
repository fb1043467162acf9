//! The data plane's picture of links, addresses, routes and neighbours: a mirror of the kernel's.
//!
//! Control builds a [`RouteTable`] from netlink (or, for `replay`, from settings) and publishes it
//! in the snapshot; it is immutable from then on.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::hash::KeyedHash;
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
/// Routes are shared between tables that differ in neighbours or links alone, so that a neighbour
/// that comes or goes does not cost a rebuild of the routes.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    routes: Arc<Routes>,
    neighbours: HashMap<NeighbourKey, (Option<MacAddress>, NeighbourUse), KeyedHash>,
    links: Vec<Option<PortLink>>,
}

#[derive(Debug, Default)]
struct Routes {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    targets: Vec<RouteTarget>,
}

/// Port, family and address in words that hash fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NeighbourKey([u64; 3]);

impl NeighbourKey {
    #[inline]
    fn new(port: PortId, ip: IpAddr) -> Self {
        let (family, address) = Address::from_ip(ip);
        let [high, low] = address.halves();
        NeighbourKey([high, low, u64::from(port.0) << 8 | family as u64])
    }
}

impl Hash for NeighbourKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|&word| state.write_u64(word));
    }
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
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let (mut targets, mut numbers) = (Vec::new(), HashMap::new());
        for Route {
            prefix,
            metric,
            target,
        } in routes
        {
            let number = *numbers.entry(target).or_insert_with(|| {
                targets.push(target);
                targets.len() as u32 - 1
            });
            let length = prefix.prefix_len();
            match prefix {
                IpNet::V4(prefix) => v4.push(Span {
                    first: prefix.network().to_bits(),
                    last: prefix.broadcast().to_bits(),
                    order: (length, metric),
                    target: number,
                }),
                IpNet::V6(prefix) => v6.push(Span {
                    first: prefix.network().to_bits(),
                    last: prefix.broadcast().to_bits(),
                    order: (length, metric),
                    target: number,
                }),
            }
        }
        let table = RouteTable {
            routes: Arc::new(Routes {
                v4: Ranges::build(v4, |address: u32| address.checked_add(1)),
                v6: Ranges::build(v6, |address: u128| address.checked_add(1)),
                targets,
            }),
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
            routes: Arc::clone(&self.routes),
            neighbours: neighbours
                .map(|(n, used)| (NeighbourKey::new(n.port, n.address), (n.mac, used)))
                .collect(),
            links,
        }
    }

    /// The route of the longest prefix that holds the address, the smallest metric among equals.
    #[inline]
    pub fn lookup(&self, family: Family, destination: Address) -> Option<RouteTarget> {
        let routes = &*self.routes;
        let number = match family {
            Family::V4 => routes.v4.lookup(destination.to_v4_bits()),
            Family::V6 => routes.v6.lookup(destination.to_bits()),
        };
        routes.targets.get(number as usize).copied()
    }

    /// What is known of a next hop. Also tells the mirror that it is in use, which keeps a
    /// reachable one fresh: whoever remembers the answer must still ask now and then.
    #[inline]
    pub fn neighbour(&self, port: PortId, address: IpAddr) -> NeighbourState {
        match self.neighbours.get(&NeighbourKey::new(port, address)) {
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

/// Prefixes flattened to ranges that do not overlap: one binary search finds the longest match.
///
/// Range `i` begins at `firsts[i]` and ends before the next one begins.
#[derive(Debug)]
struct Ranges<K> {
    firsts: Vec<K>,
    targets: Vec<u32>,
}

/// The number of no target.
const NO_ROUTE: u32 = u32::MAX;

/// A prefix as the range it is.
struct Span<K> {
    first: K,
    last: K,
    /// Length, metric.
    order: (u8, u32),
    target: u32,
}

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        let (firsts, targets) = (Vec::new(), Vec::new());
        Ranges { firsts, targets }
    }
}

impl<K: Copy + Ord> Ranges<K> {
    /// `next` is the address after another, `None` after the last.
    fn build(mut spans: Vec<Span<K>>, next: impl Fn(K) -> Option<K>) -> Self {
        // Outer prefixes before the inner ones that begin with them; stable among equals.
        spans.sort_by_key(|span| (span.first, span.order));
        spans.dedup_by(|new, kept| new.first == kept.first && new.order.0 == kept.order.0);
        let mut ranges = Ranges::default();
        // Prefixes that hold the place reached, innermost last.
        let mut open: Vec<Span<K>> = Vec::new();
        for span in spans {
            while let Some(done) = open.pop_if(|inner| inner.last < span.first) {
                ranges.close(&done, &open, &next);
            }
            ranges.begin(span.first, span.target);
            open.push(span);
        }
        while let Some(done) = open.pop() {
            ranges.close(&done, &open, &next);
        }
        ranges
    }

    /// Behind a prefix the one around it goes on.
    fn close(&mut self, done: &Span<K>, open: &[Span<K>], next: impl Fn(K) -> Option<K>) {
        if let Some(first) = next(done.last) {
            self.begin(first, open.last().map_or(NO_ROUTE, |around| around.target));
        }
    }

    fn begin(&mut self, first: K, target: u32) {
        if self.firsts.last() == Some(&first) {
            self.firsts.pop();
            self.targets.pop();
        }
        // Neighbouring prefixes often go the same way.
        if self.targets.last().copied().unwrap_or(NO_ROUTE) != target {
            self.firsts.push(first);
            self.targets.push(target);
        }
    }

    /// The number of the target, [`NO_ROUTE`] without one.
    #[inline]
    fn lookup(&self, address: K) -> u32 {
        let after = self.firsts.partition_point(|&first| first <= address);
        match after {
            0 => NO_ROUTE,
            after => self.targets[after - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

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
    fn neighbouring_addresses_spread_over_the_hash() {
        let hash = KeyedHash::default();
        let mut seen: Vec<u64> = (0..4096u32)
            .map(|last| {
                let ip = IpAddr::from((0xc612_0000 + last).to_be_bytes());
                hash.hash_one(NeighbourKey::new(PortId(1), ip))
            })
            .collect();
        // What a table of 4096 looks at: the low bits for the place, the top seven for the tag.
        let distinct = |seen: &mut Vec<u64>, bits: fn(u64) -> u64| {
            let mut bits: Vec<u64> = seen.iter().map(|&hash| bits(hash)).collect();
            bits.sort_unstable();
            bits.dedup();
            bits.len()
        };
        // 4096 balls in 4096 boxes leave 63 % of them full.
        assert!(distinct(&mut seen, |hash| hash & 4095) > 2_000);
        assert!(distinct(&mut seen, |hash| hash >> 57) > 100);
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
