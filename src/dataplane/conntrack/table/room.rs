//! Room for new flows: who makes it when there is none, how flows age, and who has his share.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::{FlowRef, FlowTable, NO_LIST, NO_SLOT};
use crate::dataplane::conntrack::flow::{Flow, Worth};
use crate::dataplane::conntrack::timeout::Timeouts;
use crate::wire::Family;

/// Slots one sweep step looks at at the most; bounds the time a batch can lose to expiry.
pub(super) const SWEEP_SLOTS: usize = 256;
/// Time in which steps come round the table, as far as that limit lets them. By time and not by
/// step: a step comes after every batch, and a slot looked at is a line of memory fetched.
pub(super) const SWEEP_ROUND_US: u64 = 4_000_000;
/// Pressure begins and ends when this many hundredths of the table are in use (OpenBSD pf's
/// adaptive.start), and timeouts would be 0 at the second figure (adaptive.end).
const PRESSURE_PERCENT: (u64, u64) = (60, 120);

impl FlowTable {
    /// Removes expired flows among the next few slots; called once a batch and when idle.
    ///
    /// Under pressure a flow that may be evicted expires before its deadline: its life shrinks
    /// linearly from all of it when three fifths of the table are used to a third when it is full
    /// (OpenBSD pf's adaptive timeouts).
    pub fn sweep(&mut self, timeouts: &Timeouts, now_us: u64) {
        self.clock_us = now_us;
        let since_us = now_us.saturating_sub(self.swept_us).min(SWEEP_ROUND_US);
        let due = since_us * self.slots.len() as u64 / SWEEP_ROUND_US;
        if due == 0 {
            return;
        }
        self.swept_us = now_us;
        let less = self.pressure();
        for _ in 0..SWEEP_SLOTS.min(due as usize) {
            if self.sweep_at >= self.slots.len() {
                self.sweep_at = 0;
            }
            let slot = self.sweep_at;
            self.sweep_at += 1;
            let Some(flow) = &self.slots[slot].flow else {
                continue;
            };
            if flow.deadline_us <= now_us {
                self.statistics.expired += 1;
            } else if let Some((part, whole)) = less
                && flow.worth() != Worth::Established
                && flow.deadline_us - now_us <= timeouts.of(flow, now_us) * part / whole
            {
                self.statistics.hurried += 1;
            } else {
                continue;
            }
            self.remove(FlowRef(slot as u32));
        }
    }

    /// Under pressure: by how much lives are shorter, as a fraction.
    #[inline]
    fn pressure(&self) -> Option<(u64, u64)> {
        let (start, end) = PRESSURE_PERCENT;
        let used = u64::from(self.statistics.flows) * 100;
        let begins = u64::from(self.flows_max) * start;
        let whole = u64::from(self.flows_max) * (end - start);
        (used > begins).then(|| (used - begins, whole))
    }

    /// Does the table make its flows age faster?
    #[inline]
    pub fn is_under_pressure(&self) -> bool {
        self.pressure().is_some()
    }

    /// Removes the oldest flow of the first of this many lists that has one; false when none has.
    pub(super) fn evict(&mut self, lists: usize) -> bool {
        let oldest = self.lists[..lists].iter().map(|list| list.oldest);
        let Some(slot) = oldest.into_iter().find(|&slot| slot != NO_SLOT) else {
            return false;
        };
        self.statistics.evicted += 1;
        self.remove(FlowRef(slot));
        true
    }

    /// Which counter a flow's source uses. All of an IPv6 /64 is one source: a host picks addresses
    /// in it freely.
    pub(super) fn source(&self, flow: &Flow) -> usize {
        let [high, low] = flow.original.source.halves();
        let mut hasher = SipHasher13::new_with_keys(self.hash_key.1, self.hash_key.0);
        hasher.write_u64(match flow.original.family {
            Family::V4 => low,
            Family::V6 => high,
        });
        hasher.write_u16(flow.original.zone);
        hasher.finish() as usize & (self.sources.len() - 1)
    }

    pub(super) fn list(&mut self, slot: u32, number: u8) {
        self.slots[slot as usize].list = number;
        let Some(list) = self.lists.get_mut(usize::from(number)) else {
            return;
        };
        let newest = std::mem::replace(&mut list.newest, slot);
        if newest == NO_SLOT {
            list.oldest = slot;
        } else {
            self.slots[newest as usize].next = slot;
        }
        let entry = &mut self.slots[slot as usize];
        (entry.previous, entry.next) = (newest, NO_SLOT);
        if number == Worth::HalfOpen as u8 {
            self.count_half_open(slot, 1);
        }
    }

    pub(super) fn unlist(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        let (previous, next) = (entry.previous, entry.next);
        let number = std::mem::replace(&mut entry.list, NO_LIST);
        let Some(list) = self.lists.get_mut(usize::from(number)) else {
            return;
        };
        match previous {
            NO_SLOT => list.oldest = next,
            previous => self.slots[previous as usize].next = next,
        }
        match next {
            NO_SLOT => list.newest = previous,
            next => self.slots[next as usize].previous = previous,
        }
        if number == Worth::HalfOpen as u8 {
            self.count_half_open(slot, -1);
        }
    }

    fn count_half_open(&mut self, slot: u32, change: i32) {
        self.statistics.unreplied = self.statistics.unreplied.wrapping_add_signed(change);
        if let Some(flow) = &self.slots[slot as usize].flow {
            let source = self.source(flow);
            self.sources[source] = self.sources[source].wrapping_add_signed(change);
        }
    }
}
