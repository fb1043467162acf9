//! The compiled decision structure.

mod build;
mod choose;
mod classes;
mod dump;
mod field;
pub(super) mod interval_index;
mod key_classes;
mod limits;
mod local_field;
mod normalise;
mod pack;
mod packed;
mod page_table;
mod shadow;
mod shared_sets;
mod statistics;
mod strategy;
mod walk;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub use dump::Step;
pub use limits::{CompileError, Limit, Limits};
pub use shared_sets::SharedSets;
pub use statistics::Statistics;
pub use strategy::Strategy;

use self::build::{BuiltTree, Used};
use self::classes::Classes;
use self::field::FIELDS;
use self::key_classes::ClassTables;
use self::normalise::{Normal, NormalRule};
use self::packed::PackedTree;
use self::shadow::Shadowed;
use self::walk::{FamilyTree, LANES};
use super::bits::{Bits, NotForBits};
use super::{Classify, RuleIndex, RuleSet};
use crate::wire::{Family, FlowKey};

/// Compiles rules into a tree that decides every key as the linear reference does.
///
/// # Errors
/// [`CompileError`] when a limit would be exceeded. Nothing is built then: the caller keeps what it
/// had.
pub fn compile(rules: &RuleSet, limits: &Limits) -> Result<Tree, CompileError> {
    compile_with(rules, limits, None)
}

/// As [`compile`]; sets that are `shared` with other trees are not divided into classes again.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    rules: &RuleSet,
    limits: &Limits,
    shared: Option<&SharedSets>,
) -> Result<Tree, CompileError> {
    Compilation::run_with(rules, limits, shared).map(Compilation::into_tree)
}

/// A compiled rule set: immutable, shared between workers, replaced by one pointer swap.
#[derive(Debug, Clone)]
pub struct Tree {
    v4: FamilyTree<u32>,
    v6: FamilyTree<u128>,
    /// Asked instead of the trees of `v4` and `v6`, which are empty then.
    bits: Option<Bits>,
    shadowed: Vec<(RuleIndex, RuleIndex)>,
    statistics: Statistics,
}

impl Tree {
    /// Rules that can never decide because one stronger rule covers them, each with the strongest
    /// such rule: `(covered, covering)`, ordered by the covered rule.
    pub fn shadowed(&self) -> &[(RuleIndex, RuleIndex)] {
        &self.shadowed
    }

    /// The class of each field of a key: source, destination, protocol, source port, destination
    /// port, zone, shared classes of source and destination. Keys of one family whose fields are of
    /// equal classes are decided alike.
    pub fn classes(&self, key: &FlowKey) -> [u32; FIELDS] {
        let classes = match key.family {
            Family::V4 => self.v4.tables.classes(key),
            Family::V6 => self.v6.tables.classes(key),
        };
        std::array::from_fn(|field| classes[field])
    }

    /// Size and shape, for `status` and benches.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }
}

impl Classify for Tree {
    fn classify(&self, key: &FlowKey) -> Option<RuleIndex> {
        if let Some(bits) = &self.bits {
            return bits.classify(key);
        }
        match key.family {
            Family::V4 => self.v4.classify(key),
            Family::V6 => self.v6.classify(key),
        }
    }

    fn classify_batch(&self, keys: &[FlowKey], decisions: &mut [Option<RuleIndex>]) {
        assert_eq!(keys.len(), decisions.len());
        if let Some(bits) = &self.bits {
            return bits.classify_batch(keys, decisions);
        }
        for (keys, decisions) in keys.chunks(LANES).zip(decisions.chunks_mut(LANES)) {
            self.v4.classify_lanes(Family::V4, keys, decisions);
            self.v6.classify_lanes(Family::V6, keys, decisions);
        }
    }
}

/// A compilation with what each of its steps made.
#[derive(Debug, Clone)]
pub struct Compilation {
    /// The rules by family as they were before any was taken out.
    rules_before: [Vec<NormalRule>; 2],
    normal: Normal,
    shadowed: Shadowed,
    classes: [Classes; 2],
    built: [BuiltTree; 2],
    not_for_bits: Option<NotForBits>,
    tree: Tree,
}

impl Compilation {
    /// Runs all steps.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn run(rules: &RuleSet, limits: &Limits) -> Result<Self, CompileError> {
        Self::run_with(rules, limits, None)
    }

    fn run_with(
        rules: &RuleSet,
        limits: &Limits,
        shared: Option<&SharedSets>,
    ) -> Result<Self, CompileError> {
        limits.check_rules(rules)?;
        let mut normal = normalise::normalise(rules, shared);
        let rules_before = normal.each_ref().map(|family| family.rules.clone());
        let mut classes = both(|f| classes::classes(&normal[f], limits))?;
        let shadowed = shadow::remove_shadowed(&mut normal, &classes);
        // Fewer rules may leave fewer classes.
        if !shadowed.pairs.is_empty() {
            classes = both(|f| classes::classes(&normal[f], limits))?;
        }
        let tables = (
            ClassTables::new(&classes[0], shared.map(SharedSets::v4)),
            ClassTables::new(&classes[1], shared.map(SharedSets::v6)),
        );
        let tables_bytes = tables.0.bytes() + tables.1.bytes();
        limits.check_bytes(tables_bytes)?;

        let bits = strategy::bits(rules, limits);
        let class_trees = if strategy::suffices(rules, &bits) {
            None
        } else {
            let class_trees = ClassTrees::compile(&normal, &classes, limits, tables_bytes);
            match (class_trees, &bits) {
                (Err(_), Some(Ok(_))) => None,
                (class_trees, _) => Some(class_trees?),
            }
        };
        let mut statistics = Statistics {
            rules: rules.rules().len() as u32,
            rules_shadowed: shadowed.pairs.len() as u32,
            classes: [0, 1].map(|f| classes[f].each_ref().map(|field| field.count())),
            ..Statistics::default()
        };
        let are_there = class_trees.is_some();
        let class_trees = class_trees.unwrap_or_default();
        statistics.bytes = class_trees.bytes;
        class_trees
            .built
            .iter()
            .for_each(|t| statistics.add_tree(t));
        let [v4, v6] = class_trees.packed;
        let mut tree = Tree {
            v4: FamilyTree {
                tables: tables.0,
                tree: v4,
            },
            v6: FamilyTree {
                tables: tables.1,
                tree: v6,
            },
            bits: None,
            shadowed: shadowed.pairs.clone(),
            statistics,
        };
        let not_for_bits = tree.choose(rules, bits, are_there, limits.strategy, tables_bytes);
        Ok(Compilation {
            rules_before,
            normal,
            shadowed,
            classes,
            built: class_trees.built,
            not_for_bits,
            tree,
        })
    }

    /// Why the rules cannot be decided by trees of bits, when they cannot.
    pub fn not_for_bits(&self) -> Option<&NotForBits> {
        self.not_for_bits.as_ref()
    }

    /// The compiled set.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Keeps the result alone, without trees that are not asked.
    pub fn into_tree(mut self) -> Tree {
        if self.tree.bits.is_some() {
            self.tree.v4.tree = PackedTree::default();
            self.tree.v6.tree = PackedTree::default();
        }
        self.tree
    }
}

/// The trees over classes, of both families.
#[derive(Debug, Clone, Default)]
struct ClassTrees {
    built: [BuiltTree; 2],
    packed: [PackedTree; 2],
    /// With the tables.
    bytes: u64,
}

impl ClassTrees {
    fn compile(
        normal: &Normal,
        classes: &[Classes; 2],
        limits: &Limits,
        tables_bytes: u64,
    ) -> Result<Self, CompileError> {
        let mut used = Used::default();
        let built = both(|f| build::build(&normal[f], &classes[f], limits, &mut used))?;
        let mut bytes = tables_bytes;
        let packed = both(|f| pack::pack(&normal[f], &classes[f], &built[f], limits, &mut bytes))?;
        Ok(ClassTrees {
            built,
            packed,
            bytes,
        })
    }
}

/// Runs a step for IPv4 (0), then for IPv6 (1).
fn both<T, E>(mut step: impl FnMut(usize) -> Result<T, E>) -> Result<[T; 2], E> {
    Ok([step(0)?, step(1)?])
}
