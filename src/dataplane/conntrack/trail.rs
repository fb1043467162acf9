//! The rules that decided a flow, shared by all flows that the same rules decided.

use std::collections::HashMap;

use crate::dataplane::snapshot::DecidingRules;

/// Combinations of deciding rules a worker remembers; far more than policies in practice give.
const TRAILS_MAX: usize = 1 << 16;

/// Refers to a combination of deciding rules of the same worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrailId(u16);

/// Every combination of deciding rules met so far, each once: a flow keeps two bytes instead of
/// twelve rules. Allocates at creation alone.
///
/// None is ever forgotten: rules keep their slots across reloads, and so combinations come back.
pub struct Trails {
    trails: Vec<DecidingRules>,
    ids: HashMap<DecidingRules, TrailId>,
}

impl Trails {
    /// Knows no rule's flow yet.
    pub fn new() -> Self {
        let mut trails = Vec::with_capacity(TRAILS_MAX);
        trails.push(DecidingRules::NONE);
        Trails {
            trails,
            ids: HashMap::with_capacity(TRAILS_MAX),
        }
    }

    /// The id of a combination; that of no rule at all, which counts nothing, when too many are
    /// known already.
    pub fn intern(&mut self, rules: &DecidingRules) -> Option<TrailId> {
        if *rules == DecidingRules::NONE {
            return Some(TrailId::default());
        }
        if let Some(&known) = self.ids.get(rules) {
            return Some(known);
        }
        if self.trails.len() == TRAILS_MAX {
            return None;
        }
        let id = TrailId(self.trails.len() as u16);
        self.trails.push(*rules);
        self.ids.insert(*rules, id);
        Some(id)
    }

    /// The rules of a flow.
    #[inline]
    pub fn get(&self, id: TrailId) -> &DecidingRules {
        &self.trails[id.0 as usize]
    }
}

impl Default for Trails {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::snapshot::RuleSlot;

    fn rules(slot: u32) -> DecidingRules {
        [RuleSlot(slot), RuleSlot(7)].into_iter().collect()
    }

    #[test]
    fn equal_rules_are_remembered_once_and_too_many_not_at_all() {
        let mut trails = Trails::new();
        assert_eq!(
            trails.intern(&DecidingRules::NONE),
            Some(TrailId::default())
        );
        let first = trails.intern(&rules(1)).unwrap();
        assert_eq!(trails.intern(&rules(1)), Some(first));
        assert_eq!(trails.get(first), &rules(1));
        for slot in 2..TRAILS_MAX as u32 {
            assert_ne!(trails.intern(&rules(slot)), Some(first));
        }
        assert_eq!(trails.intern(&rules(1 << 20)), None);
        assert_eq!(trails.intern(&rules(1)), Some(first), "the known ones stay");
    }
}
