//! Stage 3: which flow a packet belongs to, and whether it can.

use super::{Next, Packet, PacketState, Pipeline};
use crate::dataplane::conntrack::tcp::{SegmentKind, TcpState, Transition};
use crate::dataplane::conntrack::{FlowDirection, FlowRef, FlowState, Place};
use crate::dataplane::frame::FrameBuffer;
use crate::dataplane::reply::ErrorKind;
use crate::dataplane::route::RouteTarget;
use crate::dataplane::snapshot::{Forwarding, Snapshot, SourceCheck};
use crate::dataplane::verdict::{DropReason, PortId, Verdict};
use crate::wire::parse::{self, PacketView, TcpFlags};
use crate::wire::{FlowKey, protocol};

impl<F: FrameBuffer> Pipeline<F> {
    /// Fetches what [`Pipeline::track`] will read, for the whole batch at once: a look-up waits for
    /// the index and then for the flow, and with many flows neither is in the cache.
    pub(super) fn look_ahead(&mut self, batch: &[Packet<F>]) {
        let places = &mut self.scratch.places;
        places.clear();
        places.extend(batch.iter().map(|packet| {
            let view = packet.view.as_ref()?;
            // A fragment's key may be another's, an error's is inside it.
            let own_key = view.fragment.is_none() && !view.is_icmp_error();
            (packet.verdict.is_none() && own_key).then(|| self.flows.place(&view.key))
        }));
        for place in places.iter().flatten() {
            self.flows.fetch_index(*place);
        }
        for place in places.iter().flatten() {
            self.flows.fetch_flow(*place);
        }
    }

    /// `place` is that of the packet's own key, where it is judged by it.
    pub(super) fn track(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        place: Option<Place>,
    ) {
        let Some(view) = packet.view else {
            debug_assert!(false, "an undecided packet has been parsed");
            return packet.drop_for(DropReason::MalformedHeader);
        };
        if view.is_icmp_error() {
            return self.track_icmp_error(now_us, snapshot, packet, &view);
        }
        let Some(key) = self.key_of(now_us, packet, &view) else {
            return;
        };
        packet.trace.key = Some(key);
        let place = place.unwrap_or_else(|| self.flows.place(&key));
        match self.flows.find_at(place, &key, now_us) {
            Some((flow, direction)) => {
                self.track_known(now_us, snapshot, packet, &view, flow, direction);
            }
            None => self.track_new(now_us, snapshot, packet, &view, &key),
        }
    }

    /// The key a packet is judged by: its own, or for a later fragment that of the first.
    ///
    /// The first fragment is remembered before its verdict is known, because later ones may stand
    /// in the same batch; they are then judged by the same key, to the same verdict.
    fn key_of(
        &mut self,
        now_us: u64,
        packet: &mut Packet<F>,
        view: &PacketView,
    ) -> Option<FlowKey> {
        let Some(fragment) = view.fragment.filter(|fragment| !fragment.is_atomic()) else {
            return Some(view.key);
        };
        let outcome = if fragment.is_first() {
            self.fragments
                .first(now_us, view, view.key)
                .map(|()| view.key)
        } else {
            self.fragments.later(now_us, view)
        };
        match outcome {
            Ok(key) => Some(key),
            Err(reason) => {
                packet.drop_for(reason);
                None
            }
        }
    }

    /// A packet of a tracked flow: moves the flow's state on.
    fn track_known(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        view: &PacketView,
        found: FlowRef,
        direction: FlowDirection,
    ) {
        let flow = self.flows.get_mut(found);
        let transport = view.key.protocol == protocol::TCP && !view.is_later_fragment();
        match flow.state {
            FlowState::Tcp(state) if transport => {
                if !view.tcp_flags_valid() {
                    return self.invalid(now_us, snapshot, packet, None);
                }
                match state.after(direction, SegmentKind::of(view.tcp_flags)) {
                    Transition::To(next) => {
                        flow.state = FlowState::Tcp(next);
                        flow.deadline_us = now_us + self.timeouts.of(protocol::TCP, flow.state);
                    }
                    Transition::Ignore => {}
                    Transition::Reopen => {
                        self.flows.remove(found);
                        return self.track_new(now_us, snapshot, packet, view, &view.key);
                    }
                    Transition::Invalid => return self.invalid(now_us, snapshot, packet, None),
                }
            }
            FlowState::Tcp(_) => {}
            FlowState::Unreplied | FlowState::Replied => {
                if direction == FlowDirection::Reply {
                    flow.state = FlowState::Replied;
                }
                flow.deadline_us = now_us + self.timeouts.of(flow.original.protocol, flow.state);
            }
        }
        self.flows.settle(found);
        packet.trace.state = PacketState::Established;
        self.judge_known(snapshot, packet, found, direction);
    }

    /// The verdict of the current generation, where the flow has it already.
    pub(super) fn judge_known(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        found: FlowRef,
        direction: FlowDirection,
    ) {
        let Some(policy) = &snapshot.policy else {
            return packet.drop_for(DropReason::NoPolicy);
        };
        let flow = self.flows.get(found);
        let rules = self.trails.get(flow.trail);
        packet.trace.rule = rules.last();
        // Where flows are kept, what a list without state blocks may be let go by its successor.
        let asked_again =
            || snapshot.reevaluate_established || flow.blocked || policy.of_kept().is_some();
        if flow.generation != policy.generation && asked_again() {
            packet.next = Next::Again(found, direction);
        } else if flow.blocked {
            self.count_rules(rules, packet.received_bytes);
            packet.drop_for(DropReason::Policy);
        } else {
            packet.next = Next::Forward(found, direction);
        }
    }

    /// A packet of no flow: may it open one?
    fn track_new(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        view: &PacketView,
        key: &FlowKey,
    ) {
        let opens = match key.protocol {
            protocol::TCP if !view.is_later_fragment() => {
                view.tcp_flags_valid() && opens_tcp(view.tcp_flags)
            }
            _ if key.is_icmp() => is_icmp_query(key),
            _ => true,
        };
        if !opens {
            return self.invalid(now_us, snapshot, packet, Some(key));
        }
        packet.trace.state = PacketState::New;
        self.route_new(now_us, snapshot, packet, key);
    }

    /// State INVALID: dropped, or by setting judged as if it were new.
    fn invalid(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        key: Option<&FlowKey>,
    ) {
        packet.trace.state = PacketState::Invalid;
        match key {
            // A message without an answer (a bare redirect) cannot become a flow.
            Some(key) if snapshot.evaluate_invalid && key.reversed().is_some() => {
                self.route_new(now_us, snapshot, packet, key);
            }
            _ => packet.drop_for(DropReason::InvalidState),
        }
    }

    /// Routing of a first packet comes before policy: what is for the box itself, has no way out,
    /// or comes from the wrong side is no matter for policy.
    fn route_new(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        key: &FlowKey,
    ) {
        packet.next = Next::Admit;
        if snapshot.policy.is_none() {
            return packet.drop_for(DropReason::NoPolicy);
        }
        if !matches!(snapshot.forwarding, Forwarding::Routed) {
            return;
        }
        let routes = &snapshot.routes;
        let (reason, reply) = match routes.lookup(key.family, key.destination) {
            Some(RouteTarget::Port { .. }) => {
                if !source_is_plausible(snapshot, packet.port, key) {
                    packet.drop_for(DropReason::SpoofedSource);
                }
                return;
            }
            Some(RouteTarget::Local) => {
                packet.verdict = Some(Verdict::Kernel);
                return;
            }
            Some(RouteTarget::Broadcast) => (DropReason::MulticastDestination, None),
            Some(RouteTarget::Blackhole) => (DropReason::RouteRejects, None),
            Some(RouteTarget::Unreachable) => {
                (DropReason::RouteRejects, Some(ErrorKind::HostUnreachable))
            }
            Some(RouteTarget::Prohibit) => (
                DropReason::RouteRejects,
                Some(ErrorKind::AdministrativelyProhibited),
            ),
            Some(RouteTarget::OtherDevice) => (
                DropReason::RouteRejects,
                Some(ErrorKind::NetworkUnreachable),
            ),
            None => (DropReason::NoRoute, Some(ErrorKind::NetworkUnreachable)),
        };
        packet.drop_for(reason);
        if let Some(kind) = reply {
            self.answer(now_us, snapshot, packet, kind);
        }
    }

    /// An ICMP error passes only when it quotes a packet of a live flow and goes to that packet's
    /// sender. It is forwarded beside the flow and does not refresh it (RFC 5508 REQ-6).
    fn track_icmp_error(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        view: &PacketView,
    ) {
        let Some(frame) = &packet.frame else { return };
        let Ok(inner) = parse::parse_icmp_error(frame.bytes(), view) else {
            return packet.drop_for(DropReason::UnrelatedIcmpError);
        };
        if inner.key.source != view.key.destination {
            return packet.drop_for(DropReason::UnrelatedIcmpError);
        }
        let Some((found, quoted)) = self.flows.find(&inner.key, now_us) else {
            return packet.drop_for(DropReason::UnrelatedIcmpError);
        };
        packet.trace.state = PacketState::Related;
        self.judge_known(snapshot, packet, found, quoted.opposite());
        if packet.verdict.is_none() && matches!(packet.next, Next::Forward(..)) {
            packet.next = Next::ForwardAlone;
        }
    }

    /// Is the packet for the box itself?
    pub(super) fn is_local(&self, snapshot: &Snapshot, view: &PacketView) -> bool {
        let target = snapshot
            .routes
            .lookup(view.key.family, view.key.destination);
        matches!(target, Some(RouteTarget::Local | RouteTarget::Broadcast))
    }

    /// First state of a flow.
    pub(super) fn first_state(view: &PacketView) -> FlowState {
        if view.key.protocol != protocol::TCP || view.is_later_fragment() {
            return FlowState::Unreplied;
        }
        match SegmentKind::of(view.tcp_flags) {
            SegmentKind::Syn => FlowState::Tcp(TcpState::SynSent),
            // Picked up in mid-stream.
            SegmentKind::Fin => FlowState::Tcp(TcpState::FinWait),
            _ => FlowState::Tcp(TcpState::Established),
        }
    }
}

/// SYN opens a flow; ACK and FIN without one are picked up in mid-stream (as
/// `nf_conntrack_tcp_loose` does); an answer or a reset without a flow is nobody's.
fn opens_tcp(flags: TcpFlags) -> bool {
    match SegmentKind::of(flags) {
        SegmentKind::Syn | SegmentKind::Ack | SegmentKind::Fin => true,
        SegmentKind::SynAck | SegmentKind::Reset | SegmentKind::None => false,
    }
}

/// Does the message ask for an answer? A reply without a request, and a message that has no answer
/// (redirect, router advertisement), are not forwarded.
fn is_icmp_query(key: &FlowKey) -> bool {
    let icmp_type = (key.destination_port >> 8) as u8;
    match key.protocol {
        protocol::ICMP => matches!(
            icmp_type,
            protocol::ICMP_ECHO
                | protocol::ICMP_TIMESTAMP
                | protocol::ICMP_INFORMATION
                | protocol::ICMP_ADDRESS_MASK
        ),
        _ => matches!(
            icmp_type,
            protocol::ICMPV6_ECHO | protocol::ICMPV6_NODE_INFORMATION
        ),
    }
}

/// Could a packet from this source come in on this port? (RFC 2827, RFC 3704)
pub(super) fn source_is_plausible(snapshot: &Snapshot, port: PortId, key: &FlowKey) -> bool {
    match (
        snapshot.source_check,
        snapshot.routes.lookup(key.family, key.source),
    ) {
        (SourceCheck::Off, _) => true,
        // Our own address, from outside.
        (_, Some(RouteTarget::Local | RouteTarget::Broadcast)) => false,
        (SourceCheck::Strict, Some(RouteTarget::Port { port: back, .. })) => back == port,
        (SourceCheck::Loose, Some(RouteTarget::Port { .. } | RouteTarget::OtherDevice)) => true,
        _ => false,
    }
}
