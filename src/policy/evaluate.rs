//! Asking the compiled rules, by reading them from the top: slow, and with all the answers.

use super::{Direction, PolicySet, is_exempt};
use crate::classifier::{RuleIndex, RuleSet, RuleVerdict};
use crate::wire::FlowKey;

/// What one stage says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// [`super::StageRules::family`].
    pub family: &'static str,
    /// [`super::StageRules::direction`].
    pub direction: Direction,
    /// Position of the stage in [`PolicySet::stages`].
    pub stage: usize,
    /// The first rule that matches; `None`: the stage has no opinion.
    pub rule: Option<RuleIndex>,
    /// What it means: no opinion allows.
    pub verdict: RuleVerdict,
}

/// What all stages together say of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Why no stage was asked; see [`is_exempt`].
    pub exempt: Option<&'static str>,
    /// Every stage in order, those behind the first denial too; empty if exempt.
    pub steps: Vec<Step>,
}

impl Evaluation {
    /// The step that denies, if one does: the first in order.
    pub fn denied_by(&self) -> Option<&Step> {
        self.steps
            .iter()
            .find(|step| step.verdict == RuleVerdict::Deny)
    }

    /// Allow or Deny.
    pub fn verdict(&self) -> RuleVerdict {
        match self.denied_by() {
            Some(_) => RuleVerdict::Deny,
            None => RuleVerdict::Allow,
        }
    }
}

impl PolicySet {
    /// Decides a key as the packet path does, with the reason. Linear in the number of rules: for
    /// explanations and tests.
    pub fn evaluate(&self, key: &FlowKey) -> Evaluation {
        let exempt = is_exempt(key);
        let step = |(stage, rules): (usize, &super::StageRules)| {
            let rule = first_match(&rules.rules, key);
            let verdict = match rule.map(|rule| rules.rules.rule(rule).verdict) {
                Some(RuleVerdict::Deny) => RuleVerdict::Deny,
                Some(RuleVerdict::Allow | RuleVerdict::Pass) | None => RuleVerdict::Allow,
            };
            Step {
                family: rules.family,
                direction: rules.direction,
                stage,
                rule,
                verdict,
            }
        };
        let steps = match exempt {
            Some(_) => Vec::new(),
            None => self.stages.iter().enumerate().map(step).collect(),
        };
        Evaluation { exempt, steps }
    }
}

fn first_match(rules: &RuleSet, key: &FlowKey) -> Option<RuleIndex> {
    let position = rules
        .rules()
        .iter()
        .position(|rule| rules.matches(rule, key))?;
    Some(RuleIndex(position as u32))
}
