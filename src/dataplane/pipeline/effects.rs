//! What rules do beside deciding, when a packet opens a connection: they log it, and some match
//! only so often.

use super::{Next, Packet, Scratch};
use crate::dataplane::event::{Event, Events};
use crate::dataplane::rate_limit::{RateLimiter, Taken};
use crate::dataplane::snapshot::{Effect, Stage, StageEffects};
use crate::dataplane::statistics::WorkerCounters;
use crate::wire::FlowKey;

/// What effects act upon.
pub(super) struct Actor<'a> {
    pub(super) now_us: u64,
    pub(super) limiter: &'a mut RateLimiter,
    pub(super) events: &'a Events,
    pub(super) counters: &'a WorkerCounters,
}

impl Actor<'_> {
    /// Adds the answers of a stage whose rules have effects, one packet after the other: what one
    /// takes is gone for the next.
    pub(super) fn answer<F>(
        &mut self,
        (number, stage, effects): (usize, &Stage, &StageEffects),
        batch: &[Packet<F>],
        scratch: &mut Scratch,
    ) {
        for i in 0..scratch.keys.len() {
            if !scratch.decisions[i].wants(stage) {
                continue;
            }
            let packet = &batch[scratch.packets[i]];
            let (key, matched) = (scratch.keys[i], scratch.matches[i]);
            let acts = matched.is_some_and(|index| effects.of(index).is_some());
            let opens = matches!(packet.next, Next::Admit);
            let matched = match acts && opens {
                // A connection that is open has been counted and told of.
                false => effects.settle(&key, matched, |_| true),
                true => match first_of_flow(scratch, batch, i) {
                    Some(first) => scratch.matches[first],
                    None => {
                        effects.settle(&key, matched, |effect| self.matches(packet, &key, effect))
                    }
                },
            };
            scratch.matches[i] = matched;
            scratch.decisions[i].add(number, stage, matched);
        }
    }

    /// Does a rule match that matches only so often? If it does, it does what it does.
    fn matches<F>(&mut self, packet: &Packet<F>, key: &FlowKey, effect: &Effect) -> bool {
        if let Some(limit) = effect.limit {
            let source = (key.family, key.source);
            match self.limiter.take(self.now_us, effect.slot, source, limit) {
                Taken::Within => {}
                Taken::Beyond => {
                    self.counters.connections_over_rate.add(1);
                    return false;
                }
                Taken::NoRoom => {
                    self.counters.rate_limits_full.add(1);
                    return false;
                }
            }
        }
        if effect.continues
            && let Some(rule) = self.counters.rule(effect.slot)
        {
            rule.decisions.add(1);
        }
        if effect.log {
            self.counters.rules_logged.add(1);
            let event = Event::Logged {
                port: packet.port,
                key: packet.trace.key.unwrap_or(*key),
                rule: effect.slot,
            };
            if !self.events.push(event) {
                self.counters.events_lost.add(1);
            }
        }
        true
    }
}

/// An earlier packet of the batch that opens the same connection and is let through so far: the
/// flow will be there for this one, as it would be in a batch of its own.
fn first_of_flow<F>(scratch: &Scratch, batch: &[Packet<F>], i: usize) -> Option<usize> {
    (0..i).find(|&earlier| {
        let opens = matches!(batch[scratch.packets[earlier]].next, Next::Admit);
        opens && scratch.decisions[earlier].allowed && scratch.keys[earlier] == scratch.keys[i]
    })
}
