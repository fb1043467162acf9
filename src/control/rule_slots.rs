//! Which counter belongs to which rule, across reloads.

use std::collections::HashMap;

use crate::classifier::RuleId;
use crate::dataplane::snapshot::RuleSlot;

/// What is known of a counter slot.
#[derive(Debug, Clone)]
struct SlotInfo {
    id: RuleId,
    label: String,
    /// Generation whose rules last used the slot.
    last_generation: u32,
    /// Counter values at the time the slot was given to its present rule.
    baseline: RuleTotals,
}

/// Sums over all workers of what a rule has decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleTotals {
    /// First packets, and packets of flows asked again.
    pub decisions: u64,
    /// Packets admitted or denied.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl RuleTotals {
    fn since(self, baseline: RuleTotals) -> RuleTotals {
        RuleTotals {
            decisions: self.decisions.wrapping_sub(baseline.decisions),
            packets: self.packets.wrapping_sub(baseline.packets),
            bytes: self.bytes.wrapping_sub(baseline.bytes),
        }
    }
}

/// All slots are in use by rules of the current policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {rules_max} rules; raise limits.rules")]
pub struct SlotsExhausted {
    /// The limit.
    pub rules_max: u32,
}

/// Assigns counter slots by the stable id of a rule.
///
/// A rule that vanishes keeps its slot, so that it goes on counting when it comes back; only when
/// all slots are taken does the one unused for longest get another rule.
#[derive(Debug)]
pub struct RuleSlots {
    slots: Vec<SlotInfo>,
    by_id: HashMap<RuleId, RuleSlot>,
    rules_max: u32,
}

impl RuleSlots {
    /// No rule yet; `rules_max` slots, as many as the workers have counters.
    pub fn new(rules_max: u32) -> Self {
        RuleSlots {
            slots: Vec::new(),
            by_id: HashMap::new(),
            rules_max,
        }
    }

    /// The slot of a rule of this generation. `totals` reads a slot's counters, for the case that
    /// it changes hands.
    pub fn assign(
        &mut self,
        id: RuleId,
        label: &str,
        generation: u32,
        totals: impl Fn(RuleSlot) -> RuleTotals,
    ) -> Result<RuleSlot, SlotsExhausted> {
        if let Some(&slot) = self.by_id.get(&id) {
            let info = &mut self.slots[slot.0 as usize];
            info.last_generation = generation;
            if info.label != label {
                info.label = label.to_owned();
            }
            return Ok(slot);
        }
        let mut info = SlotInfo {
            id,
            label: label.to_owned(),
            last_generation: generation,
            baseline: RuleTotals::default(),
        };
        let slot = if (self.slots.len() as u32) < self.rules_max {
            self.slots.push(info);
            RuleSlot(self.slots.len() as u32 - 1)
        } else {
            let unused = self.longest_unused(generation);
            let slot = unused.ok_or(SlotsExhausted {
                rules_max: self.rules_max,
            })?;
            self.by_id.remove(&self.slots[slot.0 as usize].id);
            info.baseline = totals(slot);
            self.slots[slot.0 as usize] = info;
            slot
        };
        self.by_id.insert(id, slot);
        Ok(slot)
    }

    /// Label of the rule a slot belongs to.
    pub fn label(&self, slot: RuleSlot) -> Option<&str> {
        self.slots
            .get(slot.0 as usize)
            .map(|info| info.label.as_str())
    }

    /// Every slot in use: its label, its rule, whether `generation` still has the rule, its totals.
    pub fn totals(
        &self,
        generation: u32,
        totals: impl Fn(RuleSlot) -> RuleTotals,
    ) -> impl Iterator<Item = (&str, RuleId, bool, RuleTotals)> {
        self.slots.iter().enumerate().map(move |(number, info)| {
            let sums = totals(RuleSlot(number as u32)).since(info.baseline);
            (
                info.label.as_str(),
                info.id,
                info.last_generation == generation,
                sums,
            )
        })
    }

    fn longest_unused(&self, generation: u32) -> Option<RuleSlot> {
        let unused = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, i)| i.last_generation != generation);
        unused
            .min_by_key(|(_, info)| info.last_generation)
            .map(|(n, _)| RuleSlot(n as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: RuleSlot) -> RuleTotals {
        RuleTotals::default()
    }

    #[test]
    fn a_rule_that_comes_back_has_its_old_slot() {
        let mut slots = RuleSlots::new(4);
        let first = slots.assign(RuleId(1), "a", 1, none).unwrap();
        slots.assign(RuleId(2), "b", 2, none).unwrap();
        assert_eq!(slots.assign(RuleId(1), "a", 3, none).unwrap(), first);
    }

    #[test]
    fn when_all_are_taken_the_longest_unused_slot_starts_again_at_zero() {
        let mut slots = RuleSlots::new(2);
        slots.assign(RuleId(1), "a", 1, none).unwrap();
        slots.assign(RuleId(2), "b", 2, none).unwrap();
        let counted = |_| RuleTotals {
            decisions: 7,
            packets: 8,
            bytes: 9,
        };
        let third = slots.assign(RuleId(3), "c", 3, counted).unwrap();
        assert_eq!(third, RuleSlot(0));
        let rows: Vec<_> = slots.totals(3, counted).collect();
        assert_eq!(rows[0], ("c", RuleId(3), true, RuleTotals::default()));
        assert!(!rows[1].2);
    }

    #[test]
    fn more_rules_than_slots_in_one_generation_is_an_error() {
        let mut slots = RuleSlots::new(1);
        slots.assign(RuleId(1), "a", 1, none).unwrap();
        let error = slots.assign(RuleId(2), "b", 1, none).unwrap_err();
        assert_eq!(error.to_string(), "more than 1 rules; raise limits.rules");
    }
}
