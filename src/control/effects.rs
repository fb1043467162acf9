//! Rules that do more than decide, compiled: behind each of them the list goes on where it does not
//! match after all, or only tells.

use std::sync::Arc;

use super::decide::DeciderError;
use crate::classifier::tree::{self, CompileError, Limits, Tree};
use crate::classifier::{AddressMatch, Rule, RuleSet};
use crate::policy::{PolicySet, StageRules};

/// A stage's rules with effects.
pub struct CompiledEffects {
    /// All rules that decide or have effects.
    pub tree: Arc<Tree>,
    /// By effect: the rules behind it, and the position of the first of them.
    pub rests: Vec<(Arc<Tree>, u32)>,
}

/// One for each stage of the set, `None` where rules only decide.
///
/// # Errors
/// Together they exceed the limit of nodes.
pub fn compile(
    set: &PolicySet,
    limits: &Limits,
) -> Result<Vec<Option<CompiledEffects>>, DeciderError> {
    let mut nodes_left = limits.nodes_max;
    let of_stage = |stage: &StageRules| {
        let failed = |source| DeciderError {
            family: stage.family(),
            direction: stage.direction(),
            source,
        };
        let compiled = of_stage(stage, limits, &mut nodes_left);
        compiled.transpose().map_err(failed)
    };
    set.stages.iter().map(of_stage).collect()
}

fn of_stage(
    stage: &StageRules,
    limits: &Limits,
    nodes_left: &mut u32,
) -> Option<Result<CompiledEffects, CompileError>> {
    let acting = stage.acting()?;
    let mut compile = |rules: &RuleSet| {
        let limits = Limits {
            nodes_max: *nodes_left,
            ..limits.clone()
        };
        let tree = tree::compile(rules, &limits)?;
        *nodes_left -= tree.statistics().nodes.min(*nodes_left);
        Ok(Arc::new(tree))
    };
    let rest = |effect: usize| {
        // A rule with several ranges of ports is several rules here; the list goes on behind all.
        let last = acting.by_rule.iter().rposition(|one| *one == Some(effect));
        last.map_or(acting.rules.rules().len(), |last| last + 1)
    };
    let all = compile(&acting.rules);
    Some(all.and_then(|tree| {
        let rests = (0..acting.effects.len()).map(|effect| {
            let first = rest(effect);
            Ok((compile(&behind(&acting.rules, first))?, first as u32))
        });
        Ok(CompiledEffects {
            rests: rests.collect::<Result<_, _>>()?,
            tree,
        })
    }))
}

/// The rules of a set from a position on.
fn behind(all: &RuleSet, first: usize) -> RuleSet {
    let mut rest = RuleSet::new();
    for rule in &all.rules()[first..] {
        let mut intern = |condition| match condition {
            AddressMatch::Any => AddressMatch::Any,
            AddressMatch::Set(id) => AddressMatch::Set(rest.intern(all.address_set(id).clone())),
        };
        let (source, destination) = (intern(rule.source), intern(rule.destination));
        rest.push(Rule {
            source,
            destination,
            ..rule.clone()
        });
    }
    rest
}
