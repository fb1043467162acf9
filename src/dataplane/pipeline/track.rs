//! Stage 3: which flow a packet belongs to, and whether it can.

use super::{Next, Packet, PacketState, Pipeline};
use crate::dataplane::conntrack::sctp::{SctpOutcome, SctpPacket, SctpTags};
use crate::dataplane::conntrack::tcp::{self, Outcome, Segment, Tracking};
use crate::dataplane::conntrack::{
    Flow, FlowDirection, FlowRef, FlowState, Marks, Place, Timeouts, Window,
};
use crate::dataplane::frame::FrameBuffer;
use crate::dataplane::reply::ErrorKind;
use crate::dataplane::route::RouteTarget;
use crate::dataplane::snapshot::{Forwarding, Snapshot, SourceCheck};
use crate::dataplane::verdict::{DropReason, PortId, Verdict};
use crate::wire::checksum::{self, ChecksumState};
use crate::wire::parse::{self, PacketView};
use crate::wire::{Family, FlowKey, protocol};

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
        if !self.is_sound(packet, &view) {
            return self.invalid(now_us, snapshot, packet, None);
        }
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

    /// Could any connection contain the packet: has TCP flags that occur, and a checksum that is
    /// right where checksums are verified (`nf_conntrack_checksum`)? A partial or absent checksum
    /// is not wrong, and one that covers several fragments cannot be verified.
    #[inline]
    fn is_sound(&self, packet: &mut Packet<F>, view: &PacketView) -> bool {
        if !view.tcp_flags_valid() {
            return false;
        }
        let Some(frame) = packet.frame.as_ref().filter(|_| self.verify_checksums) else {
            return true;
        };
        packet.checksum = checksum::verify(frame.bytes(), view);
        packet.checksum != ChecksumState::Wrong
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
            let first = self.fragments.first(now_us, view, view.key);
            if first.is_ok() {
                self.waiting.release(view);
            }
            first.map(|()| view.key)
        } else {
            self.fragments.later(now_us, view)
        };
        match outcome {
            Ok(key) => Some(key),
            Err(DropReason::FragmentWithoutFirst) => {
                self.await_first(now_us, packet, view);
                None
            }
            Err(reason) => {
                packet.drop_for(reason);
                None
            }
        }
    }

    /// A later fragment whose first one has not come waits for it.
    fn await_first(&mut self, now_us: u64, packet: &mut Packet<F>, view: &PacketView) {
        let Some(frame) = &packet.frame else { return };
        let held = self.waiting.hold(now_us, view, packet.port, frame.bytes());
        packet.verdict = Some(match held {
            Ok(()) => Verdict::Hold,
            Err(reason) => Verdict::Drop(reason),
        });
    }

    /// A packet of a tracked flow: moves the flow's state on.
    pub(super) fn track_known(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        view: &PacketView,
        found: FlowRef,
        direction: FlowDirection,
    ) {
        packet.trace.state = PacketState::Established;
        match self.advance(now_us, packet, view, found, direction) {
            Advance::Passes => self.flows.settle(found),
            Advance::Reopens => {
                self.flows.remove(found);
                return self.track_new(now_us, snapshot, packet, view, &view.key);
            }
            Advance::Invalid => {
                self.flows.settle(found);
                return self.invalid(now_us, snapshot, packet, None);
            }
        }
        self.judge_known(snapshot, packet, found, direction);
    }

    /// Asks the protocol's tracker about a packet, and renews the flow by its answer.
    fn advance(
        &mut self,
        now_us: u64,
        packet: &Packet<F>,
        view: &PacketView,
        found: FlowRef,
        direction: FlowDirection,
    ) -> Advance {
        let Some(frame) = &packet.frame else {
            return Advance::Invalid;
        };
        let timeouts = &self.timeouts;
        let flow = self.flows.get_mut(found);
        // A later fragment holds no header: it goes where the first one went.
        let whole = !view.is_later_fragment();
        match (flow.state, &mut flow.window) {
            (FlowState::Tcp(state), Window::Tcp(tracking)) if whole => {
                let Some(segment) = Segment::of(frame.bytes(), view) else {
                    return Advance::Invalid;
                };
                let life = tcp::Life {
                    replied: flow.marks.has(Marks::REPLIED),
                    assured: flow.marks.has(Marks::ASSURED),
                };
                let outcome = tracking.segment(state, direction, &segment, life, &self.tcp_rules);
                if let Some(refused) = renew(flow, outcome, timeouts, now_us) {
                    return refused;
                }
            }
            (FlowState::Sctp(state), Window::Sctp(tags)) if whole => {
                let Some(sctp) = SctpPacket::of(frame.bytes(), view) else {
                    return Advance::Invalid;
                };
                match tags.packet(state, direction, &sctp) {
                    SctpOutcome::To(state) => {
                        flow.state = FlowState::Sctp(state);
                        flow.deadline_us = now_us + timeouts.of(flow, now_us);
                    }
                    SctpOutcome::Ignore => {}
                    SctpOutcome::Invalid => return Advance::Invalid,
                }
            }
            (FlowState::Tcp(_) | FlowState::Sctp(_), _) => {}
            (FlowState::Unreplied | FlowState::Replied, _) => {
                // The first answer renews the flow as what it was: a question.
                flow.deadline_us = now_us + timeouts.of(flow, now_us);
                if direction == FlowDirection::Reply {
                    flow.state = FlowState::Replied;
                }
            }
        }
        if direction == FlowDirection::Reply {
            flow.marks.put(Marks::REPLIED, true);
        }
        Advance::Passes
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
        let asked_again = || {
            snapshot.reevaluate_established
                || flow.marks.has(Marks::BLOCKED)
                || policy.of_kept().is_some()
        };
        if flow.generation != policy.generation && asked_again() {
            packet.next = Next::Again(found, direction);
        } else if flow.marks.has(Marks::BLOCKED) {
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
        let opens = match key.is_icmp() {
            true => is_icmp_query(key),
            false => self.first_state(packet, view).is_some(),
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
        // Policy is asked about where the connection really goes.
        let redirected = snapshot.nat.redirect(packet.port, key);
        if redirected.is_none() && snapshot.nat.is_exclusive(key) {
            return packet.drop_for(DropReason::RedirectOnly);
        }
        packet.redirected_from = redirected.map(|_| *key);
        let key = &redirected.unwrap_or(*key);
        packet.trace.key = Some(*key);
        let (reason, reply) = match routes.lookup(key.family, key.destination) {
            Some(RouteTarget::Port { .. }) => {
                if !source_is_plausible(snapshot, packet.port, key) {
                    packet.drop_for(DropReason::SpoofedSource);
                }
                return;
            }
            // An address the box shares with its translated connections: whatever is not one of
            // them, the steering program would have given to the kernel if it were allowed.
            Some(RouteTarget::Local)
                if snapshot.nat.shares(routes, key.family, key.destination) =>
            {
                return packet.drop_for(DropReason::Management);
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
        let Some((found, direction)) = self.related(now_us, packet, view) else {
            return packet.drop_for(DropReason::UnrelatedIcmpError);
        };
        let routed = matches!(snapshot.forwarding, Forwarding::Routed);
        if routed && !source_is_plausible(snapshot, packet.port, &view.key) {
            return packet.drop_for(DropReason::SpoofedSource);
        }
        packet.trace.state = PacketState::Related;
        self.judge_known(snapshot, packet, found, direction);
        if packet.verdict.is_none() && matches!(packet.next, Next::Forward(..)) {
            packet.next = Next::ForwardRelated(found, direction);
        }
    }

    /// The flow an ICMP error is about, and the direction the error goes in: the opposite of the
    /// packet it quotes, which is quoted as it left here.
    fn related(
        &mut self,
        now_us: u64,
        packet: &Packet<F>,
        view: &PacketView,
    ) -> Option<(FlowRef, FlowDirection)> {
        // A redirect is a matter of its link (RFC 1812 §5.2.7.2): never forwarded.
        if view.key.family == Family::V4 && view.icmp_type() == Some(protocol::ICMP_REDIRECT) {
            return None;
        }
        let bytes = packet.frame.as_ref()?.bytes();
        let inner = parse::parse_icmp_error(bytes, view).ok()?;
        // RFC 5508 REQ-3: a quote that was damaged proves nothing.
        if inner.key.source != view.key.destination || !inner.header_checksum_valid {
            return None;
        }
        let (found, direction) = self.flows.find(&inner.key.reversed()?, now_us)?;
        // Who cannot see the connection cannot quote its numbers (RFC 5927 §4).
        if let (Window::Tcp(tracking), Some(sequence)) =
            (&self.flows.get(found).window, inner.tcp_sequence)
            && !tracking.may_have_sent(direction.opposite(), sequence)
        {
            return None;
        }
        Some((found, direction))
    }

    /// Is the packet for the box itself?
    pub(super) fn is_local(&self, snapshot: &Snapshot, view: &PacketView) -> bool {
        let target = snapshot
            .routes
            .lookup(view.key.family, view.key.destination);
        matches!(target, Some(RouteTarget::Local | RouteTarget::Broadcast))
    }

    /// First state of a flow, and what its protocol's tracker starts with; `None` when a packet
    /// like this cannot open one.
    pub(super) fn first_state(
        &self,
        packet: &Packet<F>,
        view: &PacketView,
    ) -> Option<(FlowState, Window)> {
        if view.is_later_fragment() {
            return Some((FlowState::Unreplied, Window::None));
        }
        let bytes = packet.frame.as_ref()?.bytes();
        match view.key.protocol {
            protocol::TCP => {
                let segment = Segment::of(bytes, view)?;
                let (tracking, state) = Tracking::open(&segment, &self.tcp_rules)?;
                Some((FlowState::Tcp(state), Window::Tcp(tracking)))
            }
            protocol::SCTP => {
                let (tags, state) = SctpTags::open(&SctpPacket::of(bytes, view)?)?;
                Some((FlowState::Sctp(state), Window::Sctp(tags)))
            }
            _ => Some((FlowState::Unreplied, Window::None)),
        }
    }
}

/// Takes what TCP's tracker says into a flow; some answer when the segment is not to pass.
fn renew(flow: &mut Flow, outcome: Outcome, timeouts: &Timeouts, now_us: u64) -> Option<Advance> {
    match outcome {
        Outcome::Accept {
            state,
            timer,
            assures,
        } => {
            flow.state = FlowState::Tcp(state);
            if assures {
                flow.marks.put(Marks::ASSURED, true);
            }
            flow.deadline_us = now_us + timeouts.of_segment(flow, timer, now_us);
        }
        Outcome::Ignore => {}
        // Gone when the next packet comes, but there for this one.
        Outcome::End => flow.deadline_us = now_us,
        Outcome::Reopen => return Some(Advance::Reopens),
        Outcome::Invalid { closing } => {
            if closing {
                let life_us = timeouts.tcp_unacknowledged_us;
                flow.deadline_us = flow.deadline_us.min(now_us + life_us);
            }
            return Some(Advance::Invalid);
        }
    }
    None
}

/// What a tracker says of a packet.
enum Advance {
    Passes,
    Reopens,
    Invalid,
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
