//! Stages 4 and 5: ask policy about first packets and about flows of an older generation, then
//! create the flow or bring it up to date.

use super::effects::Actor;
use super::translate::Translated;
use super::{Next, Packet, PacketState, Pipeline, network};
use crate::dataplane::conntrack::tcp::{TcpState, Tracking};
use crate::dataplane::conntrack::{
    Flow, FlowDirection, FlowRef, FlowState, InsertError, Marks, TrailId, Window,
};
use crate::dataplane::event::Event;
use crate::dataplane::frame::FrameBuffer;
use crate::dataplane::reply::ErrorKind;
use crate::dataplane::snapshot::{DecidingRules, Decision, End, PolicySnapshot, Snapshot};
use crate::dataplane::verdict::DropReason;
use crate::wire::parse::TcpFlags;
use crate::wire::{FlowKey, PacketView, protocol};

impl<F: FrameBuffer> Pipeline<F> {
    /// Asks every stage about all undecided keys of the batch at once.
    pub(super) fn classify(&mut self, now_us: u64, snapshot: &Snapshot, batch: &[Packet<F>]) {
        let scratch = &mut self.scratch;
        scratch.packets.clear();
        scratch.keys.clear();
        scratch.networks.clear();
        scratch.decisions.clear();
        let Some(policy) = &snapshot.policy else {
            return;
        };
        for (position, packet) in batch.iter().enumerate() {
            let (key, travels, decision) = match (packet.verdict, packet.next, packet.trace.key) {
                (None, Next::Admit, Some(key)) => {
                    (key, FlowDirection::Original, Decision::NO_OPINION)
                }
                (None, Next::Again(flow, travels), _) => {
                    let kept = match snapshot.reevaluate_established {
                        true => None,
                        false => policy.of_kept(),
                    };
                    let decision = kept.unwrap_or(Decision::ESTABLISHED);
                    (self.flows.get(flow).policy_key(), travels, decision)
                }
                _ => continue,
            };
            let networks = network::of(snapshot, policy, packet, &key, travels);
            let zone = networks.source;
            scratch.packets.push(position);
            scratch.keys.push(FlowKey { zone, ..key });
            scratch.networks.push(networks);
            scratch.decisions.push(decision);
        }
        if scratch.keys.is_empty() {
            return;
        }
        let mut protects = End::Source;
        for (number, stage) in policy.stages.iter().enumerate() {
            if stage.protects != protects {
                protects = stage.protects;
                for (key, networks) in scratch.keys.iter_mut().zip(&scratch.networks) {
                    key.zone = networks.of(protects);
                }
            }
            scratch.matches.clear();
            scratch.matches.resize(scratch.keys.len(), None);
            stage
                .classifier
                .classify_batch(&scratch.keys, &mut scratch.matches);
            if let Some(effects) = &stage.effects {
                let mut actor = Actor {
                    now_us,
                    limiter: &mut self.limiter,
                    events: &self.events,
                    counters: &self.counters,
                };
                actor.answer((number, stage, effects), batch, scratch);
                continue;
            }
            for (decision, matched) in scratch.decisions.iter_mut().zip(&scratch.matches) {
                if decision.wants(stage) {
                    decision.add(number, stage, *matched);
                }
            }
        }
    }

    /// Turns the decisions into flows or drops.
    pub(super) fn admit(&mut self, now_us: u64, snapshot: &Snapshot, batch: &mut [Packet<F>]) {
        let Some(policy) = &snapshot.policy else {
            return;
        };
        for i in 0..self.scratch.packets.len() {
            let packet = &mut batch[self.scratch.packets[i]];
            let decision = self.scratch.decisions[i];
            match packet.next {
                Next::Again(flow, direction) => {
                    let kept = !snapshot.reevaluate_established;
                    self.admit_again(policy, packet, decision, kept, (flow, direction));
                }
                _ => {
                    let Some(key) = packet.trace.key else {
                        continue;
                    };
                    self.admit_new(now_us, snapshot, policy, packet, decision, &key);
                }
            }
        }
    }

    /// A flow of an older generation takes over the present verdict; a denied one stays, blocked,
    /// so that it resumes when a later generation allows it again.
    fn admit_again(
        &mut self,
        policy: &PolicySnapshot,
        packet: &mut Packet<F>,
        decision: Decision,
        kept: bool,
        (found, direction): (FlowRef, FlowDirection),
    ) {
        let (trail, blocked) = {
            let present = self.flows.get(found);
            (present.trail, present.marks.has(Marks::BLOCKED))
        };
        // A flow that is kept goes on under the rules that admitted it.
        let goes_on = (kept || decision.kept) && decision.allowed && !blocked;
        let trail = match goes_on {
            true => trail,
            false => self.trail(&decision),
        };
        let flow = self.flows.get_mut(found);
        // Another packet of the batch may have been first.
        let first = flow.generation != policy.generation;
        flow.generation = policy.generation;
        flow.marks.put(Marks::BLOCKED, !decision.allowed);
        flow.trail = trail;
        if !goes_on {
            packet.trace.rule = decision.rules.last();
        }
        packet.trace.denied_by = decision.denied_by;
        if first {
            self.count_decision(&decision);
        }
        if !decision.allowed {
            self.count_rules(&decision.rules, packet.received_bytes);
            if first {
                let original = self.flows.get(found).original;
                self.tell_denied(packet, original, &decision, true);
            }
            return packet.drop_for(DropReason::Policy);
        }
        packet.next = match packet.trace.state {
            PacketState::Related => Next::ForwardRelated(found, direction),
            _ => Next::Forward(found, direction),
        };
    }

    fn admit_new(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        policy: &PolicySnapshot,
        packet: &mut Packet<F>,
        decision: Decision,
        key: &FlowKey,
    ) {
        let mut decision = decision;
        let mut direction = FlowDirection::Original;
        if !decision.allowed
            && let Some(opposite) = self.decide_opposite(now_us, snapshot, packet, key)
        {
            (decision, direction) = (opposite, FlowDirection::Reply);
        }
        packet.trace.rule = decision.rules.last();
        packet.trace.denied_by = decision.denied_by;
        self.count_decision(&decision);
        if !decision.allowed {
            self.count_rules(&decision.rules, packet.received_bytes);
            self.tell_denied(packet, *key, &decision, false);
            return packet.drop_for(DropReason::Policy);
        }
        let Some(view) = packet.view else {
            return packet.drop_for(DropReason::InvalidState);
        };
        // As it arrived; an earlier packet of this batch may have opened the flow.
        let arrived = packet.redirected_from.unwrap_or(*key);
        if let Some((found, direction)) = self.flows.find(&arrived, now_us) {
            return self.join(now_us, snapshot, packet, &view, found, direction);
        }
        let Some(Translated { reply, holds_port }) =
            self.translate_or_answer(now_us, snapshot, packet, key, direction)
        else {
            return;
        };
        let (state, window) = self.first_state_or_any(packet, &view);
        let (original, reply, window) = match direction {
            FlowDirection::Original => (arrived, reply, window),
            // Met in its middle, from the other side: which end has sent what is not known.
            FlowDirection::Reply => (reply, *key, Window::Tcp(Tracking::unknown())),
        };
        let mut flow = Flow::new(original, reply, state, now_us);
        flow.generation = policy.generation;
        flow.trail = self.trail(&decision);
        flow.window = window;
        flow.marks
            .put(Marks::REPLIED, direction == FlowDirection::Reply);
        let translated = arrived.reversed() != Some(reply);
        flow.marks.put(Marks::TRANSLATED, translated);
        flow.marks.put(Marks::HOLDS_PORT, holds_port);
        flow.deadline_us = now_us + self.timeouts.of(&flow, now_us);
        let error = match self.flows.insert(flow, now_us) {
            Ok(found) => {
                packet.next = Next::Forward(found, direction);
                return;
            }
            Err(error) => error,
        };
        if holds_port {
            self.flows.release_port(&reply, now_us);
        }
        match error {
            // The answers would be taken for those of another flow.
            InsertError::KeyExists => packet.drop_for(DropReason::InvalidState),
            InsertError::TableFull => packet.drop_for(DropReason::FlowTableFull),
            InsertError::SourceLimit => packet.drop_for(DropReason::HalfOpenSource),
        }
    }

    /// The key of a new flow's answers. Without one the packet has been dropped.
    fn translate_or_answer(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        key: &FlowKey,
        direction: FlowDirection,
    ) -> Option<Translated> {
        let translated = match direction {
            FlowDirection::Original => self.translate(now_us, snapshot, packet, key),
            // An answer: what it answers was given its addresses elsewhere.
            FlowDirection::Reply => Translated::plain(key),
        };
        match translated {
            Ok(translated) => Some(translated),
            Err(reason) => {
                packet.drop_for(reason);
                if reason == DropReason::NatPortsExhausted {
                    // RFC 5508 REQ-8.
                    let kind = ErrorKind::AdministrativelyProhibited;
                    self.answer(now_us, snapshot, packet, kind);
                }
                None
            }
        }
    }

    /// First state of a flow; what opens nothing is judged as if it did, by setting.
    fn first_state_or_any(&self, packet: &Packet<F>, view: &PacketView) -> (FlowState, Window) {
        match self.first_state(packet, view) {
            Some(first) => first,
            None if view.key.protocol == protocol::TCP => {
                let window = Window::Tcp(Tracking::unknown());
                (FlowState::Tcp(TcpState::Established), window)
            }
            None => (FlowState::Unreplied, Window::None),
        }
    }

    /// A first packet whose flow an earlier packet of the batch has opened.
    fn join(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &mut Packet<F>,
        view: &PacketView,
        found: FlowRef,
        direction: FlowDirection,
    ) {
        self.track_known(now_us, snapshot, packet, view, found, direction);
        if !matches!(packet.next, Next::Forward(..)) && packet.verdict.is_none() {
            packet.drop_for(DropReason::InvalidState);
        }
    }

    /// Shortly after start, a TCP segment in mid-stream may be the answer of a flow that was open
    /// before: it passes when the opposite direction is allowed.
    fn decide_opposite(
        &self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &Packet<F>,
        key: &FlowKey,
    ) -> Option<Decision> {
        let policy = snapshot.policy.as_ref()?;
        let view = packet.view?;
        let in_grace = now_us < self.started_us? + self.restart_grace_us;
        if !in_grace || key.protocol != protocol::TCP || view.tcp_flags.contains(TcpFlags::SYN) {
            return None;
        }
        let key = key.reversed()?;
        let networks = network::of(snapshot, policy, packet, &key, FlowDirection::Reply);
        let opposite = policy.decide(&key, networks);
        opposite.allowed.then_some(opposite)
    }

    fn tell_denied(
        &self,
        packet: &Packet<F>,
        key: FlowKey,
        decision: &Decision,
        established: bool,
    ) {
        let Some(stage) = decision.denied_by else {
            return;
        };
        let rule = decision.rules.last();
        let event = Event::Denied {
            port: packet.port,
            key,
            rule,
            stage,
            established,
        };
        if !self.events.push(event) {
            self.counters.events_lost.add(1);
        }
    }

    fn trail(&mut self, decision: &Decision) -> TrailId {
        self.trails.intern(&decision.rules).unwrap_or_else(|| {
            self.counters.trails_full.add(1);
            TrailId::default()
        })
    }

    fn count_decision(&self, decision: &Decision) {
        for rule in decision
            .rules
            .iter()
            .filter_map(|slot| self.counters.rule(slot))
        {
            rule.decisions.add(1);
        }
    }

    /// Counts a packet under the rules that decided its flow.
    #[inline]
    pub(super) fn count_rules(&self, rules: &DecidingRules, bytes: usize) {
        for rule in rules.iter().filter_map(|slot| self.counters.rule(slot)) {
            rule.volume.count(bytes);
        }
    }
}
