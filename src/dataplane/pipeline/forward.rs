//! Stages 6 and 7: the way out, and the headers for it.

use std::net::IpAddr;

use super::track::source_is_plausible;
use super::{Next, Packet, Pipeline};
use crate::dataplane::conntrack::{FlowDirection, FlowRef, HopCache, Marks};
use crate::dataplane::frame::FrameBuffer;
use crate::dataplane::neighbour::NeighbourRequest;
use crate::dataplane::reply::{self, ErrorKind, Replier};
use crate::dataplane::route::{NeighbourState, RouteTarget};
use crate::dataplane::snapshot::{Forwarding, Snapshot};
use crate::dataplane::verdict::{DropReason, PortId, Verdict};
use crate::wire::edit::Rewrite;
use crate::wire::fragment::may_fragment;
use crate::wire::{Address, Family, MacAddress, PacketView, checksum, edit, parse_icmp_error};

/// Result of looking for a way out.
enum Way {
    Found(HopCache),
    /// The neighbour is not known yet.
    Wait(PortId, IpAddr),
    None(DropReason, Option<ErrorKind>),
}

impl<F: FrameBuffer> Pipeline<F> {
    pub(super) fn forward(&mut self, now_us: u64, snapshot: &Snapshot, packet: &mut Packet<F>) {
        let Some(view) = packet.view else {
            return packet.drop_for(DropReason::MalformedHeader);
        };
        let way = match (&snapshot.forwarding, packet.next) {
            (Forwarding::Transparent(ports), next) => {
                if let Next::Forward(flow, direction) = next {
                    self.count_flow(packet, &view, flow, direction);
                }
                let peer = ports.get(packet.port.0 as usize).and_then(|port| port.peer);
                return self.forward_transparent(snapshot, packet, &view, peer);
            }
            (Forwarding::Routed, Next::Forward(flow, direction)) => {
                if !self.arrival_is_plausible(snapshot, packet, flow, direction) {
                    return packet.drop_for(DropReason::SpoofedSource);
                }
                self.count_flow(packet, &view, flow, direction);
                self.way_of_flow(snapshot, flow, direction)
            }
            (Forwarding::Routed, Next::ForwardRelated(flow, direction)) => {
                self.way_of_flow(snapshot, flow, direction)
            }
            (Forwarding::Routed, _) => find_way(
                snapshot,
                view.key.family,
                view.key.destination,
                self.hop_epoch,
            ),
        };
        match way {
            Way::Found(hop) => self.send(now_us, snapshot, packet, &view, hop),
            Way::Wait(out, next_hop) => {
                if self.prepare(now_us, snapshot, packet, &view, out) {
                    self.hold(now_us, packet, out, next_hop);
                }
            }
            Way::None(reason, kind) => {
                packet.drop_for(reason);
                if let Some(kind) = kind {
                    self.answer(now_us, snapshot, packet, kind);
                }
            }
        }
    }

    /// The flow's cached way out, or a new look-up when routes have changed since.
    fn way_of_flow(
        &mut self,
        snapshot: &Snapshot,
        found: FlowRef,
        direction: FlowDirection,
    ) -> Way {
        let epoch = self.hop_epoch;
        let flow = self.flows.get_mut(found);
        let cached = flow.hops[direction as usize];
        if cached.is_fresh(epoch) {
            return Way::Found(cached);
        }
        let key = flow.leaving(direction);
        let way = find_way(snapshot, key.family, key.destination, epoch);
        if let Way::Found(hop) = way {
            flow.hops[direction as usize] = hop;
        }
        way
    }

    /// A packet of a flow must come in where the flow's packets come from; checked again only when
    /// the port differs.
    fn arrival_is_plausible(
        &mut self,
        snapshot: &Snapshot,
        packet: &Packet<F>,
        found: FlowRef,
        direction: FlowDirection,
    ) -> bool {
        let flow = self.flows.get_mut(found);
        if flow.arrives[direction as usize] == packet.port {
            return true;
        }
        let key = flow.key(direction);
        if !source_is_plausible(snapshot, packet.port, &key) {
            return false;
        }
        flow.arrives[direction as usize] = packet.port;
        true
    }

    fn count_flow(
        &mut self,
        packet: &mut Packet<F>,
        view: &PacketView,
        found: FlowRef,
        direction: FlowDirection,
    ) {
        let flow = self.flows.get_mut(found);
        flow.packets[direction as usize] += 1;
        flow.bytes[direction as usize] += view.packet_bytes() as u64;
        let rules = self.trails.get(flow.trail);
        packet.trace.rule = rules.last();
        self.count_rules(rules, packet.received_bytes);
    }

    /// Rewrites the packet and addresses it to its next hop.
    fn send(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        view: &PacketView,
        hop: HopCache,
    ) {
        if !self.prepare(now_us, snapshot, packet, view, hop.port) {
            return;
        }
        let Some(link) = snapshot.routes.link(hop.port) else {
            return packet.drop_for(DropReason::PortDown);
        };
        self.send_to(snapshot, packet, hop.port, [hop.mac, link.mac]);
    }

    /// Everything but the Ethernet addresses: size, TTL, checksums. False when the packet has been
    /// dropped instead.
    fn prepare(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        view: &PacketView,
        out: PortId,
    ) -> bool {
        let Some(link) = snapshot.routes.link(out).filter(|link| link.up) else {
            packet.drop_for(DropReason::PortDown);
            return false;
        };
        let too_big = view.packet_bytes() as u32 > link.mtu_bytes;
        if too_big && may_fragment(view, link.mtu_bytes as usize) {
            packet.fragment_bytes_max = Some(link.mtu_bytes);
        } else if too_big {
            let kind = ErrorKind::PacketTooBig {
                mtu_bytes: link.mtu_bytes,
            };
            packet.drop_for(DropReason::PacketTooBig);
            self.answer(now_us, snapshot, packet, kind);
            return false;
        }
        if view.ttl <= 1 {
            // To one of the box's own addresses, which is a translated connection's.
            packet.drop_for(DropReason::TtlExceeded);
            self.answer(now_us, snapshot, packet, ErrorKind::TimeExceeded);
            return false;
        }
        let Some(frame) = &mut packet.frame else {
            return false;
        };
        // Ethernet padding, and whatever else stands behind the IP packet, stays behind.
        frame.set_len(view.packet_end as usize);
        let bytes = frame.bytes_mut();
        let mut view = *view;
        match packet.next {
            Next::Forward(flow, direction) => {
                let flow = self.flows.get(flow);
                if flow.marks.has(Marks::TRANSLATED) {
                    edit::rewrite(bytes, &mut view, &flow.rewrite(direction));
                }
            }
            Next::ForwardRelated(flow, direction) => {
                let flow = self.flows.get(flow);
                if flow.marks.has(Marks::TRANSLATED) {
                    rewrite_error(bytes, &mut view, &flow.rewrite(direction));
                }
            }
            _ => {}
        }
        if checksum::complete_known(bytes, &view, packet.checksum) {
            self.counters.checksums_completed.add(1);
        }
        edit::decrement_ttl(bytes, &mut view);
        packet.view = Some(view);
        true
    }

    /// Last step of the routed mode: port security of the receiver, which is who the neighbour
    /// table says has the address, and the Ethernet addresses.
    pub(super) fn send_to(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        out: PortId,
        [destination, source]: [MacAddress; 2],
    ) {
        if let (Some(stations), Some(view)) = (snapshot.stations(), &packet.view) {
            let (family, address) = (view.key.family, view.key.destination);
            let on_link = || snapshot.is_on_link(out, family, address);
            let told = stations.may_receive(out, destination, (family, address), on_link);
            if let Err(reason) = told {
                return packet.drop_for(reason);
            }
        }
        let Some(frame) = &mut packet.frame else {
            return;
        };
        edit::set_macs(frame.bytes_mut(), destination, source);
        packet.verdict = Some(Verdict::Forward(out));
    }

    /// Transparent mode changes nothing but checksums that were left to a device.
    fn forward_transparent(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        view: &PacketView,
        peer: Option<PortId>,
    ) {
        let Some(peer) = peer else {
            return packet.drop_for(DropReason::NoPeerPort);
        };
        let Some(link) = snapshot.routes.link(peer).filter(|link| link.up) else {
            return packet.drop_for(DropReason::PortDown);
        };
        if view.packet_bytes() as u32 > link.mtu_bytes {
            // Without an address there is nobody to say so (a bridge's behaviour).
            return packet.drop_for(DropReason::PacketTooBig);
        }
        let Some(frame) = &mut packet.frame else {
            return;
        };
        if checksum::complete_known(frame.bytes_mut(), view, packet.checksum) {
            self.counters.checksums_completed.add(1);
        }
        packet.verdict = Some(Verdict::Forward(peer));
    }

    /// Turns a dropped packet's frame into the ICMP error about it, where RFC 1812 §4.3.2 or
    /// RFC 4443 §2.4 call for one and the rate limit permits.
    pub(super) fn answer(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        kind: ErrorKind,
    ) {
        let (Some(view), Some(frame)) = (&packet.view, &mut packet.frame) else {
            return;
        };
        let Some(link) = snapshot.routes.link(packet.port) else {
            return;
        };
        let Some(source) = link.source_for(view.key.family) else {
            return;
        };
        let Some(limiter) = self.replies.get_mut(packet.port.0 as usize) else {
            return;
        };
        if !limiter.allow(now_us) {
            self.counters.replies_limited.add(1);
            return;
        }
        let replier = Replier {
            mac: link.mac,
            address: source,
        };
        if reply::icmp_error(frame, view, kind, &replier).is_ok() {
            self.counters.replies_sent.add(1);
            packet.reply_to = Some(packet.port);
        }
    }

    /// Asks control to resolve a next hop. Losing the request is not fatal: the next held frame, or
    /// the sender's next try, asks again.
    pub(super) fn request_neighbour(&mut self, port: PortId, next_hop: IpAddr) {
        let (family, address) = Address::from_ip(next_hop);
        self.requests.ask(NeighbourRequest {
            port,
            family,
            address,
        });
    }
}

/// Translates an ICMP error that goes the way of packets rewritten like this, and what it quotes:
/// the receiver must know the packet as it sent it (RFC 5508 REQ-4, REQ-5).
fn rewrite_error(bytes: &mut [u8], view: &mut PacketView, rewrite: &Rewrite) {
    if let Ok(mut inner) = parse_icmp_error(bytes, view) {
        let (source_port, destination_port) = match inner.key.is_icmp() {
            true => (rewrite.source_port, None),
            false => (rewrite.destination_port, rewrite.source_port),
        };
        let quoted = Rewrite {
            source: rewrite.destination,
            destination: rewrite.source,
            source_port,
            destination_port,
        };
        edit::rewrite_quoted(bytes, view, &mut inner, &quoted);
    }
    let outer = Rewrite {
        source_port: None,
        destination_port: None,
        ..*rewrite
    };
    edit::rewrite(bytes, view, &outer);
}

/// Route and neighbour of a destination.
fn find_way(snapshot: &Snapshot, family: Family, destination: Address, epoch: u32) -> Way {
    let routes = &snapshot.routes;
    let (port, gateway) = match routes.lookup(family, destination) {
        Some(RouteTarget::Port { port, gateway }) => (port, gateway),
        Some(RouteTarget::Local) => return Way::None(DropReason::KernelUnreachable, None),
        Some(RouteTarget::Broadcast) => {
            return Way::None(DropReason::MulticastDestination, None);
        }
        Some(RouteTarget::Blackhole) => return Way::None(DropReason::RouteRejects, None),
        Some(RouteTarget::Unreachable) => {
            return Way::None(DropReason::RouteRejects, Some(ErrorKind::HostUnreachable));
        }
        Some(RouteTarget::Prohibit) => {
            let kind = ErrorKind::AdministrativelyProhibited;
            return Way::None(DropReason::RouteRejects, Some(kind));
        }
        Some(RouteTarget::OtherDevice) => {
            return Way::None(
                DropReason::RouteRejects,
                Some(ErrorKind::NetworkUnreachable),
            );
        }
        None => return Way::None(DropReason::NoRoute, Some(ErrorKind::NetworkUnreachable)),
    };
    let next_hop = gateway.unwrap_or_else(|| destination.to_ip(family));
    match routes.neighbour(port, next_hop) {
        NeighbourState::Reachable(mac) => Way::Found(HopCache { epoch, mac, port }),
        NeighbourState::Unknown => Way::Wait(port, next_hop),
        NeighbourState::Failed => Way::None(
            DropReason::NeighbourUnresolved,
            Some(ErrorKind::HostUnreachable),
        ),
    }
}
