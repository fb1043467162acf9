//! Rules added and removed one at a time.
//!
//! A tree's root sorts its rules into **buckets**, one for each answer. A rule added or removed
//! touches the buckets it can be asked in, few of them: these are built anew, and nothing else.
//! What is built is put behind the nodes and groups that are there; what it replaces stays unused
//! until the whole is built again, which restores speed and memory.
//!
//! Readers hold a snapshot and never wait. Two copies of the trees take turns: the change is made
//! to the one that is not in use, and once more to the other when its turn comes. Only where a
//! reader still holds that one, all is copied.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::build::{Builder, Draft};
use super::codes::Codes;
use super::engine::Level;
use super::expand::{FlatRule, expand, flatten};
use super::forest::Forest;
use super::frozen::{Frozen, Node, Patch};
use super::gather::scatter;
use super::group::{Group, GroupV4, GroupV6, NO_RANK, Record};
use super::key::{Pattern, WORDS_V4, WORDS_V6, WideRule, wide_v4, wide_v6};
use super::parameters::Parameters;
use super::region::answers;
use super::tune::{Budget, Coded, Visits, Widen, tune};
use super::{Bits, FLAT_RULES_EACH, FLAT_RULES_LEAST, NotForBits};
use crate::classifier::{Rule, RuleSet};
use crate::wire::Family;

/// Buckets a rule may be in; one that would be in more goes to the tree without buckets.
const BUCKETS_MAX: u32 = 16;
/// Rules in the tree without buckets.
const UNSORTED_MAX: usize = 64;
/// Rules of one prefix a side that one rule may become.
const FLAT_RULES_MAX: usize = 64;
/// Room for rules to come, whatever the number of rules.
const ROOM_LEAST: usize = 4_096;
/// Rules of all lists of a bucket together.
const BUCKET_ENTRIES_MAX: usize = 1 << 16;

/// Why a rule was not added or removed. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// There is a rule of this rank.
    #[error("rank {0} is taken")]
    Taken(u32),
    /// There is no rule of this rank.
    #[error("there is no rule of rank {0}")]
    Missing(u32),
    /// The rule does not fit what was built: build anew.
    #[error("the trees have to be built anew to take the rule of rank {0}")]
    BuildAnew(u32),
}

/// Trees that rules can be added to and removed from.
///
/// Rules have **ranks** the caller gives, a smaller one deciding first; lookups answer ranks (as
/// [`RuleIndex`](crate::classifier::RuleIndex)). Gaps between ranks leave room for rules to come.
#[derive(Debug)]
pub struct Updatable {
    pub(super) v4: Rules<WORDS_V4>,
    pub(super) v6: Rules<WORDS_V6>,
    current: Arc<Bits>,
    /// The copy that was in use before, and what it lacks.
    spare: Option<(Arc<Bits>, Patches)>,
    /// What has changed since a rebuild began, if one is under way.
    pub(super) since_rebuild: Option<Vec<Change>>,
    /// Memory when it was built.
    pub(super) bytes_built: u64,
}

/// A change, to be made once more.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Add(u32, [Vec<FlatRule>; 2]),
    Remove(u32),
}

/// Nanoseconds of a lookup by the model, and what it visits.
pub(super) type Rating = (f64, Visits);
type Patches = (Option<Patch<GroupV4>>, Option<Patch<GroupV6>>);

/// What is known of the rules of one family, for building.
#[derive(Debug)]
pub(super) struct Rules<const W: usize> {
    family: Family,
    widen: Widen<W>,
    pub(super) codes: Codes,
    parameters: Parameters,
    pub(super) rules: Vec<WideRule<W>>,
    /// By rank: places in `rules`.
    pub(super) places: BTreeMap<u32, Vec<u32>>,
    /// The last one has no buckets.
    trees: Vec<Draft>,
}

impl Updatable {
    /// Builds trees for rules whose ranks are `ranks`, by position, ascending.
    ///
    /// # Errors
    /// When the set is not for this strategy.
    ///
    /// # Panics
    /// When there is not one rank for each rule, or they do not ascend.
    pub fn new(rules: &RuleSet, ranks: &[u32], budget: &Budget) -> Result<Self, NotForBits> {
        assert_eq!(rules.rules().len(), ranks.len(), "a rank for each rule");
        assert!(ranks.is_sorted_by(|one, next| one < next), "ranks ascend");
        assert!(ranks.last().is_none_or(|&last| last != NO_RANK));
        let v4 = Rules::build(rules, ranks, Family::V4, wide_v4, budget)?;
        let v6 = Rules::build(rules, ranks, Family::V6, wide_v6, budget)?;
        Ok(Updatable::of(v4, v6))
    }

    pub(super) fn of(
        (v4, frozen_v4, lookup_v4): Built<GroupV4, WORDS_V4>,
        (v6, frozen_v6, lookup_v6): Built<GroupV6, WORDS_V6>,
    ) -> Self {
        let mut current = Bits {
            v4: frozen_v4,
            v6: frozen_v6,
            level: Level::best(),
            lookup_ns: [lookup_v4.0, lookup_v6.0],
            visits: [lookup_v4.1, lookup_v6.1],
            parameters: [v4.parameters, v6.parameters],
        };
        let bytes_built = current.bytes();
        let mut spare = current.clone();
        // Growing copies all, which takes longer than a change may.
        for bits in [&mut current, &mut spare] {
            bits.v4.forest.reserve();
            bits.v6.forest.reserve();
        }
        Updatable {
            v4,
            v6,
            current: Arc::new(current),
            spare: Some((Arc::new(spare), (None, None))),
            since_rebuild: None,
            bytes_built,
        }
    }

    /// What readers ask: it never changes.
    pub fn snapshot(&self) -> Arc<Bits> {
        Arc::clone(&self.current)
    }

    /// Adds a rule; its address sets are those of `rules`.
    ///
    /// # Errors
    /// When the rank is taken, or the rule does not fit what was built.
    pub fn add(&mut self, rank: u32, rules: &RuleSet, rule: &Rule) -> Result<(), UpdateError> {
        if self.v4.places.contains_key(&rank) || rank == NO_RANK {
            return Err(UpdateError::Taken(rank));
        }
        let anew = UpdateError::BuildAnew(rank);
        let v4 = self.v4.flat(rules, rule, rank).ok_or(anew)?;
        let v6 = self.v6.flat(rules, rule, rank).ok_or(anew)?;
        self.add_flat(rank, &v4, &v6)?;
        if let Some(changes) = &mut self.since_rebuild {
            changes.push(Change::Add(rank, [v4, v6]));
        }
        Ok(())
    }

    pub(super) fn add_flat(
        &mut self,
        rank: u32,
        v4: &[FlatRule],
        v6: &[FlatRule],
    ) -> Result<(), UpdateError> {
        let patches = (
            self.v4.add(rank, v4, &self.current.v4),
            self.v6.add(rank, v6, &self.current.v6),
        );
        if let (Some(v4), Some(v6)) = patches {
            self.publish((Some(v4), Some(v6)));
            return Ok(());
        }
        self.v4.take_out(rank, &self.current.v4);
        self.v6.take_out(rank, &self.current.v6);
        Err(UpdateError::BuildAnew(rank))
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// When there is none of this rank, or a bucket without it would become too large.
    pub fn remove(&mut self, rank: u32) -> Result<(), UpdateError> {
        if !self.v4.places.contains_key(&rank) {
            return Err(UpdateError::Missing(rank));
        }
        let anew = UpdateError::BuildAnew(rank);
        let v4 = self.v4.remove(rank, &self.current.v4).ok_or(anew)?;
        let v6 = self.v6.remove(rank, &self.current.v6).ok_or(anew)?;
        self.v4.take_out(rank, &self.current.v4);
        self.v6.take_out(rank, &self.current.v6);
        self.publish((Some(v4), Some(v6)));
        if let Some(changes) = &mut self.since_rebuild {
            changes.push(Change::Remove(rank));
        }
        Ok(())
    }

    /// Memory of the snapshot, what nothing leads to any more included: see [`Updatable::is_worn`].
    pub fn bytes(&self) -> u64 {
        self.current.bytes()
    }

    /// Makes the changed copy the current one.
    fn publish(&mut self, patches: Patches) {
        let (mut next, lacking) = match self.spare.take() {
            Some((spare, lacking)) => (spare, lacking),
            None => (Arc::clone(&self.current), (None, None)),
        };
        // A copy some reader still holds is left to it.
        match Arc::get_mut(&mut next) {
            Some(bits) => bits.apply(&lacking),
            None => next = Arc::new(Bits::clone(&self.current)),
        }
        if let Some(bits) = Arc::get_mut(&mut next) {
            bits.apply(&patches);
        }
        let before = std::mem::replace(&mut self.current, next);
        self.spare = Some((before, patches));
    }
}

impl Bits {
    fn apply(&mut self, (v4, v6): &Patches) {
        if let Some(patch) = v4 {
            self.v4.forest.apply(patch);
        }
        if let Some(patch) = v6 {
            self.v6.forest.apply(patch);
        }
    }
}

/// Rules of a family, what is asked, and how it is rated.
pub(super) type Built<G, const W: usize> = (Rules<W>, Frozen<G, W>, Rating);

impl<const W: usize> Rules<W> {
    fn build<G: Group<W>>(
        rules: &RuleSet,
        ranks: &[u32],
        family: Family,
        widen: Widen<W>,
        budget: &Budget,
    ) -> Result<Built<G, W>, NotForBits> {
        let flat_rules_max = rules.rules().len() * FLAT_RULES_EACH + FLAT_RULES_LEAST;
        let mut flat = expand(rules, family, flat_rules_max)?;
        for rule in &mut flat {
            rule.rank = ranks[rule.rank as usize];
        }
        let coded = Coded::open(&flat, widen);
        Rules::of(coded, ranks.iter().copied(), family, widen, budget)
    }

    pub(super) fn of<G: Group<W>>(
        coded: Coded<W>,
        ranks: impl Iterator<Item = u32>,
        family: Family,
        widen: Widen<W>,
        budget: &Budget,
    ) -> Result<Built<G, W>, NotForBits> {
        let too_large = NotForBits::TooLarge(coded.rules[0].len());
        let Ok(tuned) = tune::<G, W>(&coded, budget) else {
            return Err(too_large);
        };
        let [codes, _] = coded.codes;
        let [mut wide, _] = coded.rules;
        // Built once more, now keeping what is in the buckets.
        let built = [tuned.parameters]
            .into_iter()
            .chain(Parameters::STARTS)
            .find_map(|parameters| {
                let mut builder = Builder::new(&wide, &parameters, usize::MAX);
                let mut trees = builder.trees(true).ok()?;
                trees.push(builder.unsorted());
                Some((parameters, trees, builder.parts().ok()?))
            });
        let (parameters, trees, mut parts) = built.ok_or(too_large)?;
        parts.roots = trees.iter().map(|tree| tree.root).collect();
        let mut steps = tuned.frozen.steps;
        steps.resize(parts.roots.len(), 0);
        let frozen = Frozen {
            codes: codes.clone(),
            forest: Forest::new(parts),
            steps,
            ..tuned.frozen
        };
        // Growing copies all, which takes longer than a change may.
        wide.reserve(wide.len() / 4 + ROOM_LEAST);
        let mut places: BTreeMap<u32, Vec<u32>> = ranks.map(|rank| (rank, Vec::new())).collect();
        for (place, rule) in wide.iter().enumerate() {
            places.entry(rule.rank).or_default().push(place as u32);
        }
        let rules = Rules {
            family,
            widen,
            codes,
            parameters,
            rules: wide,
            places,
            trees,
        };
        Ok((rules, frozen, (tuned.lookup_ns, tuned.visits)))
    }

    /// What the rule becomes in this family; `None` when that does not fit.
    fn flat(&self, rules: &RuleSet, rule: &Rule, rank: u32) -> Option<Vec<FlatRule>> {
        let flat = flatten(rules, rule, rank, self.family, FLAT_RULES_MAX)?;
        flat.iter()
            .all(|flat| self.codes.knows(flat))
            .then_some(flat)
    }

    /// Puts rules of one rank into trees.
    fn add<G: Group<W>>(
        &mut self,
        rank: u32,
        flat: &[FlatRule],
        frozen: &Frozen<G, W>,
    ) -> Option<Patch<G>> {
        let mut touched = Vec::new();
        self.places.insert(rank, Vec::new());
        for flat in flat {
            let place = self.rules.len() as u32;
            self.rules.push(WideRule {
                number: place,
                ..(self.widen)(flat, &self.codes)
            });
            self.places.entry(rank).or_default().push(place);
            let pattern = self.rules[place as usize].pattern;
            let tree = self.tree_for(&pattern, frozen);
            for bucket in self.buckets(tree, &pattern, frozen) {
                let list = &mut self.trees[tree].buckets[bucket as usize];
                let at = list.partition_point(|&other| self.rules[other as usize].rank <= rank);
                list.insert(at, place);
                touched.push((tree, bucket));
            }
            let root = &mut self.trees[tree].root;
            root.rank_min = root.rank_min.min(rank);
        }
        let unsorted = self.trees.last()?.buckets[0].len();
        if unsorted > UNSORTED_MAX {
            return None;
        }
        self.rebuild(touched, None, frozen)
    }

    /// The patch that takes the rules of a rank out of the trees; the lists keep them still.
    fn remove<G: Group<W>>(&self, rank: u32, frozen: &Frozen<G, W>) -> Option<Patch<G>> {
        let mut touched = Vec::new();
        for &place in &self.places[&rank] {
            let pattern = self.rules[place as usize].pattern;
            for (number, tree) in self.trees.iter().enumerate() {
                let holding = self
                    .buckets(number, &pattern, frozen)
                    .into_iter()
                    .filter(|&bucket| tree.buckets[bucket as usize].contains(&place));
                touched.extend(holding.map(|bucket| (number, bucket)));
            }
        }
        self.rebuild(touched, Some(rank), frozen)
    }

    /// Forgets the rules of a rank.
    fn take_out<G>(&mut self, rank: u32, frozen: &Frozen<G, W>) {
        for place in self.places.remove(&rank).unwrap_or_default() {
            let pattern = self.rules[place as usize].pattern;
            for tree in 0..self.trees.len() {
                for bucket in self.buckets(tree, &pattern, frozen) {
                    let list = &mut self.trees[tree].buckets[bucket as usize];
                    list.retain(|&other| other != place);
                }
            }
        }
    }

    /// The buckets of a tree a rule can be in.
    fn buckets<G>(&self, tree: usize, pattern: &Pattern<W>, frozen: &Frozen<G, W>) -> Vec<u32> {
        let root = self.trees[tree].root.node as usize;
        let Some(question) = frozen.forest.parts().nodes[root].asks::<W>() else {
            return vec![0];
        };
        // The last tree of the builder takes every rule; the others hand on what is too open.
        let takes_all = tree + 2 == self.trees.len();
        let open_max = self.parameters.root_open_max.max(BUCKETS_MAX.ilog2());
        let open = (question.mask & !pattern.care[question.word]).count_ones();
        if takes_all || open <= open_max {
            answers(pattern, question).collect()
        } else {
            Vec::new()
        }
    }

    /// The first tree in which the rule is in few buckets.
    fn tree_for<G>(&self, pattern: &Pattern<W>, frozen: &Frozen<G, W>) -> usize {
        let nodes = &frozen.forest.parts().nodes;
        let sorted = self.trees.iter().position(|tree| {
            let question = nodes[tree.root.node as usize].asks::<W>();
            question.is_some_and(|question| {
                let open = (question.mask & !pattern.care[question.word]).count_ones();
                1 << open.min(31) <= BUCKETS_MAX
            })
        });
        sorted.unwrap_or(self.trees.len() - 1)
    }

    /// Builds buckets anew, without the rules of a rank.
    fn rebuild<G: Group<W>>(
        &self,
        mut touched: Vec<(usize, u32)>,
        without: Option<u32>,
        frozen: &Frozen<G, W>,
    ) -> Option<Patch<G>> {
        touched.sort_unstable();
        touched.dedup();
        let parts = frozen.forest.parts();
        let mut patch = Patch {
            nodes: Vec::new(),
            groups: Vec::new(),
            records: match G::HAS_RECORDS {
                true => self.rules[parts.records.len()..]
                    .iter()
                    .map(Record::of)
                    .collect(),
                false => Vec::new(),
            },
            replaced: Vec::new(),
            ranks_min: self.trees.iter().map(|tree| tree.root.rank_min).collect(),
        };
        for (tree, bucket) in touched {
            let tree = &self.trees[tree];
            let list = tree.buckets[bucket as usize].iter();
            let rules: Vec<WideRule<W>> = list
                .map(|&place| self.rules[place as usize])
                .filter(|rule| Some(rule.rank) != without)
                .collect();
            let root = parts.nodes[tree.root.node as usize];
            let (number, region) = match root.asks::<W>() {
                None => (tree.root.node, Pattern::ANY),
                Some(question) => {
                    let value = scatter(bucket, question.mask);
                    let region = Pattern::ANY.with(question.word, question.mask, value);
                    (root.base + bucket, region)
                }
            };
            let first_node = parts.nodes.len() + patch.nodes.len();
            let first_group = parts.groups.len() + patch.groups.len();
            let mut builder = Builder::new(&rules, &self.parameters, BUCKET_ENTRIES_MAX);
            let built = builder.bucket::<G>(&region, root.is_leaf(), first_group);
            let (nodes, groups) = built.ok()?;
            let moved = |node: Node, own| node.moved(own, first_node as u32);
            patch.replaced.push((number, moved(nodes[0], number)));
            let added = nodes[1..].iter().zip(first_node as u32..);
            patch
                .nodes
                .extend(added.map(|(&node, own)| moved(node, own)));
            patch.groups.extend(groups);
        }
        Some(patch)
    }
}
