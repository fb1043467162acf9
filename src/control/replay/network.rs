//! Links, routes and neighbours as `[replay]` in the settings gives them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::ReplayError;
use crate::control::plan;
use crate::dataplane::route::{Neighbour, PortLink, Route, RouteTable, RouteTarget};
use crate::dataplane::snapshot::{Forwarding, TransparentPort};
use crate::dataplane::verdict::PortId;
use crate::settings::{ForwardingMode, Replay, ReplayLink, Settings};
use crate::wire::MacAddress;

/// What stands in for the kernel's mirror.
pub(super) struct Network {
    pub(super) forwarding: Forwarding,
    pub(super) routes: RouteTable,
}

/// Builds it. Routed mode without any link, route or neighbour becomes a wire between two ports.
pub(super) fn of(settings: &Settings) -> Result<Network, ReplayError> {
    let replay = &settings.replay;
    let routed = settings.forwarding.mode == ForwardingMode::Routed;
    if routed && *replay != Replay::default() {
        let forwarding = Forwarding::Routed;
        return Ok(Network {
            forwarding,
            routes: routed_table(settings),
        });
    }
    let forwarding = match (routed, settings.ports.len()) {
        (false, _) => plan::fixed_parts(settings).forwarding,
        (true, 2) => {
            let port = |number: usize| TransparentPort {
                peer: Some(PortId(1 - number as u8)),
                vlans: settings.ports[number].vlans.clone(),
            };
            Forwarding::Transparent(vec![port(0), port(1)])
        }
        (true, ports) => return Err(ReplayError::NoNetwork { ports }),
    };
    // A wire needs links that are up, and nothing else.
    let port = |_| Some(link(None));
    let links = (0..settings.ports.len()).map(port).collect();
    Ok(Network {
        forwarding,
        routes: RouteTable::new(links, [], []),
    })
}

fn routed_table(settings: &Settings) -> RouteTable {
    let replay = &settings.replay;
    let mut links = vec![None; settings.ports.len()];
    let mut routes = Vec::new();
    for described in &replay.links {
        links[described.port] = Some(link(Some(described)));
        let port = PortId(described.port as u8);
        for &address in &described.addresses {
            routes.extend(address_routes(address, port));
        }
    }
    routes.extend(replay.routes.iter().map(|route| Route {
        prefix: route.prefix,
        metric: 1,
        target: RouteTarget::Port {
            port: PortId(route.port as u8),
            gateway: route.gateway,
        },
    }));
    let neighbours = replay.neighbours.iter().map(|neighbour| {
        let port = PortId(neighbour.port as u8);
        Neighbour {
            port,
            address: neighbour.address,
            mac: Some(MacAddress(neighbour.mac)),
        }
    });
    RouteTable::new(links, routes, neighbours)
}

fn link(described: Option<&ReplayLink>) -> PortLink {
    PortLink {
        mac: described.map_or(MacAddress::default(), |link| MacAddress(link.mac)),
        mtu_bytes: described.map_or(u32::from(u16::MAX), |link| link.mtu_bytes),
        up: true,
        addresses: described.map_or(Vec::new(), |link| link.addresses.clone()),
    }
}

/// What the kernel makes of an address on a link: the address itself, its network, and in IPv4 the
/// network's broadcast address.
fn address_routes(address: IpNet, port: PortId) -> impl Iterator<Item = Route> {
    let route = |prefix, target| Route {
        prefix,
        metric: 0,
        target,
    };
    let own = route(IpNet::from(address.addr()), RouteTarget::Local);
    let on_link = RouteTarget::Port {
        port,
        gateway: None,
    };
    let network = (!is_single(address)).then(|| route(address.trunc(), on_link));
    let broadcast = match address {
        // RFC 3021: a network of two addresses has no broadcast address.
        IpNet::V4(net) if net.prefix_len() < 31 => {
            let last = IpAddr::V4(net.broadcast());
            Some(route(IpNet::from(last), RouteTarget::Broadcast))
        }
        _ => None,
    };
    [Some(own), network, broadcast].into_iter().flatten()
}

fn is_single(address: IpNet) -> bool {
    match address {
        IpNet::V4(net) => net.prefix_len() == Ipv4Net::default().max_prefix_len(),
        IpNet::V6(net) => net.prefix_len() == Ipv6Net::default().max_prefix_len(),
    }
}
