//! The obvious slow reference: every rule in turn.
//!
//! Nothing forwards with it. It defines what the compiled tree must answer, and property tests,
//! benches and `verify` hold the tree against it.

use super::{Classify, RuleIndex, RuleSet};
use crate::wire::FlowKey;

/// Asks the rules one after another.
#[derive(Debug, Clone)]
pub struct Linear {
    rules: RuleSet,
}

impl Linear {
    /// Keeps its own copy of the rules and their address sets.
    pub fn new(rules: &RuleSet) -> Self {
        Linear {
            rules: rules.clone(),
        }
    }
}

impl Classify for Linear {
    fn classify(&self, key: &FlowKey) -> Option<RuleIndex> {
        self.rules.first_match(key)
    }
}
