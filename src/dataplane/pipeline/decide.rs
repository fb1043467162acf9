//! Stages 4 and 5: ask policy about first packets and about flows of an older generation, then
//! create the flow or bring it up to date.

use super::effects::Actor;
use super::{Next, Packet, PacketState, Pipeline, network};
use crate::dataplane::conntrack::{Flow, FlowDirection, FlowRef, InsertError, TrailId};
use crate::dataplane::event::Event;
use crate::dataplane::frame::FrameBuffer;
use crate::dataplane::snapshot::{DecidingRules, Decision, End, PolicySnapshot, Snapshot};
use crate::dataplane::verdict::DropReason;
use crate::wire::parse::TcpFlags;
use crate::wire::{FlowKey, protocol};

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
                    (self.flows.get(flow).original, travels, decision)
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
            (present.trail, present.blocked)
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
        flow.blocked = !decision.allowed;
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
            PacketState::Related => Next::ForwardAlone,
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
        let (Some(view), Some(reply)) = (packet.view, key.reversed()) else {
            return packet.drop_for(DropReason::InvalidState);
        };
        let state = Self::first_state(&view);
        let (original, reply) = match direction {
            FlowDirection::Original => (*key, reply),
            FlowDirection::Reply => (reply, *key),
        };
        let mut flow = Flow::new(original, reply, state, now_us);
        flow.generation = policy.generation;
        flow.trail = self.trail(&decision);
        flow.deadline_us = now_us + self.timeouts.of(key.protocol, state);
        match self.flows.insert(flow, now_us) {
            Ok(found) => packet.next = Next::Forward(found, direction),
            // An earlier packet of this batch has opened the flow, from this side or the other.
            Err(InsertError::KeyExists) => match self.flows.find(key, now_us) {
                Some((found, direction)) => self.judge_known(snapshot, packet, found, direction),
                None => packet.drop_for(DropReason::InvalidState),
            },
            Err(InsertError::TableFull) => packet.drop_for(DropReason::FlowTableFull),
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
