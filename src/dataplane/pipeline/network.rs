//! Which networks the two ends of a packet are on: rules are about the network of the end they
//! protect.
//!
//! A network is behind a port. One end is behind the port the packet came in on, the other behind
//! the one it leaves by. An end that is behind none is taken to be on the other's network.

use super::{Packet, PacketState};
use crate::dataplane::conntrack::FlowDirection;
use crate::dataplane::route::RouteTarget;
use crate::dataplane::snapshot::{Forwarding, Networks, PolicySnapshot, Snapshot};
use crate::dataplane::verdict::PortId;
use crate::wire::{Address, Family, FlowKey};

/// The networks of the ends of `key`, which a packet travels in a direction of.
///
/// An ICMP error may come from a router on the way, and so by another port than its flow: its ends
/// are where the routes to the flow's addresses lead.
pub(super) fn of<F>(
    snapshot: &Snapshot,
    policy: &PolicySnapshot,
    packet: &Packet<F>,
    key: &FlowKey,
    travels: FlowDirection,
) -> Networks {
    if !policy.has_networks() {
        return Networks::default();
    }
    let (from, to) = match travels {
        FlowDirection::Original => (key.source, key.destination),
        FlowDirection::Reply => (key.destination, key.source),
    };
    let arrives = match packet.trace.state {
        PacketState::Related => port_towards(snapshot, key.family, from).unwrap_or(packet.port),
        _ => packet.port,
    };
    let leaves = match &snapshot.forwarding {
        Forwarding::Routed => port_towards(snapshot, key.family, to),
        Forwarding::Transparent(ports) => {
            let port = ports.get(arrives.0 as usize);
            port.and_then(|port| port.peer)
        }
    };
    let near = policy.network(arrives);
    let far = leaves.map_or(near, |port| policy.network(port));
    match travels {
        FlowDirection::Original => Networks {
            source: near,
            destination: far,
        },
        FlowDirection::Reply => Networks {
            source: far,
            destination: near,
        },
    }
}

/// The port an address is behind, in routed mode.
fn port_towards(snapshot: &Snapshot, family: Family, address: Address) -> Option<PortId> {
    match (
        &snapshot.forwarding,
        snapshot.routes.lookup(family, address),
    ) {
        (Forwarding::Routed, Some(RouteTarget::Port { port, .. })) => Some(port),
        _ => None,
    }
}
