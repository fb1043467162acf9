//! The lookup: from a key's classes to the deciding rule.

use super::build::FORKS_MAX;
use super::interval_index::Value;
use super::key_classes::{ClassTables, KeyClasses};
use super::packed::{Kind, NO_RULE, PackedTree, Place};
use crate::classifier::RuleIndex;
use crate::wire::{Family, FlowKey};

/// Keys looked up together.
pub(super) const LANES: usize = 64;

/// Everything a lookup of one family reads.
#[derive(Debug, Clone)]
pub(super) struct FamilyTree<V> {
    pub(super) tables: ClassTables<V>,
    pub(super) tree: PackedTree,
}

/// One lookup under way.
#[derive(Debug, Clone, Copy)]
struct Lane {
    at: Place,
    /// Strongest rule found so far.
    best: u32,
    /// Places still to be asked at, with the strongest rule found there.
    pending: [(Place, u32); FORKS_MAX],
    pending_count: usize,
}

impl Lane {
    const fn new(root: Place) -> Self {
        Lane {
            at: root,
            best: NO_RULE,
            pending: [(Place::NOTHING, NO_RULE); FORKS_MAX],
            pending_count: 0,
        }
    }

    /// Asks at one node. False when there is none left.
    #[inline]
    fn step(&mut self, tree: &PackedTree, classes: &KeyClasses) -> bool {
        match self.at.kind() {
            Kind::Dense => self.at = tree.dense(self.at, classes),
            Kind::Sparse => self.at = tree.sparse(self.at, classes),
            Kind::Fork => {
                let (first, second, strongest) = tree.fork(self.at);
                if strongest < self.best {
                    self.pending[self.pending_count] = (second, strongest);
                    self.pending_count += 1;
                }
                self.at = first;
            }
            Kind::Leaf => {
                self.best = tree.leaf(self.at, classes, self.best);
                return self.next_pending();
            }
            Kind::Decision => {
                self.best = self.best.min(self.at.number());
                return self.next_pending();
            }
            Kind::Nothing => return self.next_pending(),
        }
        true
    }

    /// Goes on where a stronger rule than the best may still be.
    #[inline]
    fn next_pending(&mut self) -> bool {
        while self.pending_count > 0 {
            self.pending_count -= 1;
            let (place, strongest) = self.pending[self.pending_count];
            if strongest < self.best {
                self.at = place;
                return true;
            }
        }
        false
    }

    fn decision(&self) -> Option<RuleIndex> {
        (self.best != NO_RULE).then_some(RuleIndex(self.best))
    }
}

impl<V: Value> FamilyTree<V> {
    #[inline]
    pub(super) fn classify(&self, key: &FlowKey) -> Option<RuleIndex> {
        let classes = self.tables.classes(key);
        let mut lane = Lane::new(self.tree.root);
        while lane.step(&self.tree, &classes) {}
        lane.decision()
    }

    /// Decides the keys of one family among at most [`LANES`] keys, all a level at a time: the
    /// memory a level needs is asked for by all of them before the first needs the next.
    pub(super) fn classify_lanes(
        &self,
        family: Family,
        keys: &[FlowKey],
        decisions: &mut [Option<RuleIndex>],
    ) {
        let mut active = [0u8; LANES];
        let mut active_count = 0;
        for (lane, key) in keys.iter().enumerate() {
            active[active_count] = lane as u8;
            active_count += usize::from(key.family == family);
        }
        if active_count == 0 {
            return;
        }
        let lanes_of_family = active;
        let lanes_of_family = lanes_of_family[..active_count]
            .iter()
            .map(|&l| usize::from(l));
        let mut classes = [KeyClasses::default(); LANES];
        self.tables
            .classes_batch(keys, lanes_of_family.clone(), &mut classes);
        let mut lanes = [Lane::new(self.tree.root); LANES];
        while active_count > 0 {
            let mut kept = 0;
            for position in 0..active_count {
                let lane = active[position];
                let index = usize::from(lane);
                let goes_on = lanes[index].step(&self.tree, &classes[index]);
                active[kept] = lane;
                kept += usize::from(goes_on);
            }
            active_count = kept;
        }
        for lane in lanes_of_family {
            decisions[lane] = lanes[lane].decision();
        }
    }
}
