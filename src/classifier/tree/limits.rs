use std::fmt;

use super::strategy::Strategy;
use crate::classifier::{RuleIndex, RuleSet};

/// Bounds of a compilation. Exceeding one is a [`CompileError`], never a slow tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rules of the set; never more than 2^28.
    pub rules_max: u32,
    /// Nodes of the decision trees of both families together.
    pub nodes_max: u32,
    /// Rules in the lists and children of all nodes together: bounds the memory a compilation
    /// takes, some dozen bytes each.
    pub entries_max: u32,
    /// Rules, pairs of rules and edges of conditions looked at: bounds the time a compilation
    /// takes, in a way that is the same on every machine.
    pub work_max: u64,
    /// Bytes of the finished tree; never more than 2 GiB.
    pub bytes_max: u64,
    /// Memberships of classes in conditions, per family and field. Only many wide conditions that
    /// overlap each other come near. Less than 2^28.
    pub memberships_max: u32,
    /// Rules any lookup tests one by one, over all leaves it visits. Where splitting a list would
    /// copy too much, the list becomes a leaf as long as this allows it; past it, copying goes on
    /// until another limit ends it.
    pub rules_tested_max: u32,
    /// Rules of all shards of a set up to which they are compiled as one tree: a single look-up is
    /// quicker than two, and a small whole is soon compiled anew.
    pub joined_rules_max: u32,
    /// Ranges of all large address sets together from which on they are divided into classes once
    /// for all shards; below, each shard is quick to divide its own.
    pub shared_ranges_min: u32,
    /// How keys are to be decided; `None` leaves it to what is faster.
    pub strategy: Option<Strategy>,
}

impl Limits {
    /// Class numbers are packed into 28 bits.
    pub(super) fn memberships(&self) -> u64 {
        u64::from(self.memberships_max).min((1 << 28) - 1)
    }

    /// Refuses a set of too many rules. Rule positions are packed into 29 bits.
    pub(super) fn check_rules(&self, rules: &RuleSet) -> Result<(), CompileError> {
        self.check_count(rules.rules().len() as u64)
    }

    /// Refuses more rules than this.
    pub(in crate::classifier) fn check_count(&self, needed: u64) -> Result<(), CompileError> {
        let allowed = u64::from(self.rules_max).min(1 << 28);
        if needed <= allowed {
            return Ok(());
        }
        Err(CompileError::LimitExceeded {
            limit: Limit::Rules,
            allowed,
            needed,
            rule: RuleIndex(allowed as u32),
        })
    }

    /// Places are packed into 29 bits of a word number.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes_max.min(1 << 31)
    }

    /// Refuses class tables, which belong to no rule in particular, that are too large already.
    pub(super) fn check_bytes(&self, needed: u64) -> Result<(), CompileError> {
        let allowed = self.bytes();
        if needed <= allowed {
            return Ok(());
        }
        Err(CompileError::LimitExceeded {
            limit: Limit::Bytes,
            allowed,
            needed,
            rule: RuleIndex(0),
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            rules_max: 1_000_000,
            nodes_max: 4_000_000,
            entries_max: 16_000_000,
            work_max: 100_000_000,
            bytes_max: 512 << 20,
            memberships_max: 16_000_000,
            rules_tested_max: 512,
            joined_rules_max: 1_000,
            shared_ranges_min: 2_000,
            strategy: None,
        }
    }
}

/// Names one of the [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// [`Limits::rules_max`].
    Rules,
    /// [`Limits::nodes_max`].
    Nodes,
    /// [`Limits::entries_max`].
    Entries,
    /// [`Limits::work_max`].
    Work,
    /// [`Limits::bytes_max`].
    Bytes,
    /// [`Limits::memberships_max`].
    Memberships,
}

impl fmt::Display for Limit {
    /// The field's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Rules => "rules_max",
            Limit::Nodes => "nodes_max",
            Limit::Entries => "entries_max",
            Limit::Work => "work_max",
            Limit::Bytes => "bytes_max",
            Limit::Memberships => "memberships_max",
        })
    }
}

/// Why a rule set was not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The compiled form would exceed a limit.
    #[error("{limit} exceeded at rule {}: {needed} needed, {allowed} allowed", rule.0)]
    LimitExceeded {
        /// Which limit.
        limit: Limit,
        /// Its value.
        allowed: u64,
        /// What was needed when the compilation stopped; the whole may need more.
        needed: u64,
        /// The rule being placed when it happened.
        rule: RuleIndex,
    },
}

impl CompileError {
    /// The same error of a rule that stands behind so many others.
    #[must_use]
    pub(in crate::classifier) fn behind(mut self, first: u32) -> Self {
        let CompileError::LimitExceeded { rule, .. } = &mut self;
        rule.0 += first;
        self
    }
}
