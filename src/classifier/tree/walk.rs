//! The lookup: from a key's classes to the deciding rule.

use super::build::FORKS_MAX;
use super::interval_index::Value;
use super::key_classes::{ClassTables, KeyClasses};
use super::packed::{Kind, NO_RULE, PackedTree, Place};
use crate::classifier::RuleIndex;
use crate::wire::{Family, FlowKey};

/// Keys looked up together.
pub(super) const LANES: usize = 64;

/// What the parts of a lookup in a batch take, as measured.
const BASE_NS: f64 = 6.0;
const STEP_NS: f64 = 5.0;
const SEARCH_NS: f64 = 8.0;
const LEAF_NS: f64 = 6.0;
const TEST_NS: f64 = 2.0;

/// Everything a lookup of one family reads.
#[derive(Debug, Clone)]
pub(super) struct FamilyTree<V> {
    pub(super) tables: ClassTables<V>,
    pub(super) tree: PackedTree,
}

impl<V: Value> FamilyTree<V> {
    #[inline]
    pub(super) fn classify(&self, key: &FlowKey) -> Option<RuleIndex> {
        let classes = self.tables.classes(key);
        let mut walk = Walk::new(self.tree.root);
        while walk.step(&self.tree, &classes) {}
        walk.decision()
    }

    /// Nanoseconds the lookup takes in a batch, by a model.
    pub(super) fn cost(&self, key: &FlowKey) -> f64 {
        let classes = self.tables.classes(key);
        let mut walk = Walk::new(self.tree.root);
        let mut cost = BASE_NS + self.tables.cost_ns();
        loop {
            cost += match walk.at.kind() {
                Kind::Dense | Kind::Fork => STEP_NS,
                Kind::Sparse => SEARCH_NS,
                Kind::Leaf1 | Kind::Leaf2 | Kind::Leaf => {
                    LEAF_NS + TEST_NS * f64::from(self.tree.words[walk.at.number() as usize])
                }
                Kind::Decision | Kind::Nothing => 0.0,
            };
            if !walk.step(&self.tree, &classes) {
                return cost;
            }
        }
    }

    /// Decides the keys of one family among at most [`LANES`] keys.
    ///
    /// All walk a level at a time, those at nodes of the same kind together: the memory one key
    /// needs is on its way while others compute, and the processor need not guess each key's kind
    /// of node.
    pub(super) fn classify_lanes(
        &self,
        family: Family,
        keys: &[FlowKey],
        decisions: &mut [Option<RuleIndex>],
    ) {
        let mut active = Lanes::default();
        for (lane, key) in keys.iter().enumerate() {
            active.push_if(lane, key.family == family);
        }
        if active.is_empty() {
            return;
        }
        let mut classes = [KeyClasses::default(); LANES];
        self.tables.classes_batch(keys, &active, &mut classes);
        let mut walks = [Walk::new(self.tree.root); LANES];
        let all = active.clone();
        while !active.is_empty() {
            active = self.level(&active, &classes, &mut walks);
        }
        for lane in all.iter() {
            decisions[lane] = walks[lane].decision();
        }
    }

    /// Takes every active walk one node further; gives those that go on.
    fn level(
        &self,
        active: &Lanes,
        classes: &[KeyClasses; LANES],
        walks: &mut [Walk; LANES],
    ) -> Lanes {
        let tree = &self.tree;
        let mut by_kind: [Lanes; Kind::COUNT] = Default::default();
        for lane in active.iter() {
            by_kind[walks[lane].at.kind() as usize].push_if(lane, true);
        }
        let mut going_on = Lanes::default();
        for lane in by_kind[Kind::Dense as usize].iter() {
            walks[lane].at = tree.dense(walks[lane].at, &classes[lane]);
            going_on.push_if(lane, true);
        }
        for lane in by_kind[Kind::Sparse as usize].iter() {
            walks[lane].at = tree.sparse(walks[lane].at, &classes[lane]);
            going_on.push_if(lane, true);
        }
        for lane in by_kind[Kind::Fork as usize].iter() {
            walks[lane].fork(tree);
            going_on.push_if(lane, true);
        }
        let mut finish = |walk: &mut Walk, lane: usize, rule: u32| {
            walk.best = walk.best.min(rule);
            going_on.push_if(lane, walk.next_pending());
        };
        for lane in by_kind[Kind::Leaf1 as usize].iter() {
            let rule = tree.rows::<1>(walks[lane].at, &classes[lane]);
            finish(&mut walks[lane], lane, rule);
        }
        for lane in by_kind[Kind::Leaf2 as usize].iter() {
            let rule = tree.rows::<2>(walks[lane].at, &classes[lane]);
            finish(&mut walks[lane], lane, rule);
        }
        for lane in by_kind[Kind::Leaf as usize].iter() {
            let rule = tree.leaf(walks[lane].at, &classes[lane], walks[lane].best);
            finish(&mut walks[lane], lane, rule);
        }
        for lane in by_kind[Kind::Decision as usize].iter() {
            let rule = walks[lane].at.number();
            finish(&mut walks[lane], lane, rule);
        }
        for lane in by_kind[Kind::Nothing as usize].iter() {
            finish(&mut walks[lane], lane, NO_RULE);
        }
        going_on
    }
}

/// A list of lanes of a batch.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    lanes: [u8; LANES],
    count: usize,
}

impl Default for Lanes {
    fn default() -> Self {
        Lanes {
            lanes: [0; LANES],
            count: 0,
        }
    }
}

impl Lanes {
    /// Adds a lane, or writes it where the next will stand; a branch would be mispredicted often.
    #[inline]
    pub(super) fn push_if(&mut self, lane: usize, condition: bool) {
        self.lanes[self.count % LANES] = lane as u8;
        self.count += usize::from(condition);
    }

    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.lanes[..self.count]
            .iter()
            .map(|&lane| usize::from(lane) % LANES)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// One lookup under way.
#[derive(Debug, Clone, Copy)]
struct Walk {
    at: Place,
    /// Strongest rule found so far.
    best: u32,
    pending_count: u32,
    /// Places still to be asked at, with the strongest rule found there.
    pending: [(Place, u32); FORKS_MAX as usize],
}

impl Walk {
    const fn new(root: Place) -> Self {
        Walk {
            at: root,
            best: NO_RULE,
            pending_count: 0,
            pending: [(Place::NOTHING, NO_RULE); FORKS_MAX as usize],
        }
    }

    /// Asks at one node. False when there is none left.
    #[inline]
    fn step(&mut self, tree: &PackedTree, classes: &KeyClasses) -> bool {
        let rule = match self.at.kind() {
            Kind::Dense => {
                self.at = tree.dense(self.at, classes);
                return true;
            }
            Kind::Sparse => {
                self.at = tree.sparse(self.at, classes);
                return true;
            }
            Kind::Fork => {
                self.fork(tree);
                return true;
            }
            Kind::Leaf1 => tree.rows::<1>(self.at, classes),
            Kind::Leaf2 => tree.rows::<2>(self.at, classes),
            Kind::Leaf => tree.leaf(self.at, classes, self.best),
            Kind::Decision => self.at.number(),
            Kind::Nothing => NO_RULE,
        };
        self.best = self.best.min(rule);
        self.next_pending()
    }

    /// Goes to the first place of a fork, and keeps the second in mind.
    #[inline]
    fn fork(&mut self, tree: &PackedTree) {
        let (first, second, strongest) = tree.fork(self.at);
        self.at = first;
        self.pending[self.pending_count as usize] = (second, strongest);
        self.pending_count += 1;
    }

    /// Goes on where a stronger rule than the best may still be.
    #[inline]
    fn next_pending(&mut self) -> bool {
        while self.pending_count > 0 {
            self.pending_count -= 1;
            let (place, strongest) = self.pending[self.pending_count as usize];
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
