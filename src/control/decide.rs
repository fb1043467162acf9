//! Asks every evaluation step about a key.

use std::collections::HashMap;
use std::sync::Arc;

use crate::classifier::shards::{Shards, Side};
pub use crate::classifier::tree::Limits;
use crate::classifier::tree::{CompileError, SharedSets, Tree};
use crate::classifier::{Classify, RuleVerdict};
pub use crate::policy::{Decision, Opinion};
use crate::policy::{Direction, Origin, PolicyKey, PolicySet, Shard, StageRules, naive};
use crate::wire::FlowKey;

/// A policy set with its compiled steps.
pub struct Decider {
    policy: Arc<PolicySet>,
    /// One per stage of the set: the very trees the data plane asks.
    trees: Vec<Arc<Shards>>,
}

/// A step whose rules cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("rules of {family} {direction:?}: {source}")]
pub struct DeciderError {
    /// Short name of the family.
    pub family: &'static str,
    /// Which end of the connection it protects.
    pub direction: Direction,
    /// What the compiler says.
    pub source: CompileError,
}

/// The compiled tree, the linear reference and the naive evaluator do not agree on a key: a defect
/// of this program, never of its input.
#[derive(Debug, thiserror::Error)]
#[error("internal error: {key}: the compiled tree says {tree}, but the {twin} says {other}")]
pub struct Disagreement {
    /// The key.
    pub key: FlowKey,
    /// What the tree says.
    pub tree: String,
    /// Who says otherwise.
    pub twin: &'static str,
    /// What it says.
    pub other: String,
}

impl Decider {
    /// Compiles every step.
    ///
    /// # Errors
    /// The first step whose rules exceed a limit of the classifier.
    pub fn new(policy: impl Into<Arc<PolicySet>>, limits: &Limits) -> Result<Self, DeciderError> {
        Self::compile(policy.into(), limits, None)
    }

    /// Compiles what `before` has not compiled already.
    ///
    /// # Errors
    /// As [`Decider::new`].
    pub fn after(
        before: &Decider,
        policy: Arc<PolicySet>,
        limits: &Limits,
    ) -> Result<Self, DeciderError> {
        Self::compile(policy, limits, Some(before))
    }

    fn compile(
        policy: Arc<PolicySet>,
        limits: &Limits,
        before: Option<&Decider>,
    ) -> Result<Self, DeciderError> {
        let groups = policy.inventory.address_groups();
        let compile = |stage: &StageRules| {
            let known = before.map(|before| before.known(stage)).unwrap_or_default();
            let shards: Vec<_> = stage.shards().iter().map(|shard| shard.rules()).collect();
            let side = match stage.direction() {
                Direction::Egress => Side::Source,
                Direction::Ingress => Side::Destination,
            };
            let known = |position: usize| {
                let shard = Arc::as_ptr(&stage.shards()[position]);
                known.get(&shard).map(|tree| Arc::clone(tree))
            };
            let sets = before.and_then(|before| before.sets(stage));
            Shards::compile(&shards, side, groups, limits, known, sets)
                .map(Arc::new)
                .map_err(|source| DeciderError {
                    family: stage.family(),
                    direction: stage.direction(),
                    source,
                })
        };
        let trees = policy.stages.iter().map(compile);
        let trees = trees.collect::<Result<_, _>>()?;
        Ok(Decider { policy, trees })
    }

    /// The trees of a step's shards.
    fn known(&self, of: &StageRules) -> HashMap<*const Shard, &Arc<Tree>> {
        let stages = self.policy.stages.iter().zip(&self.trees);
        let same = stages.filter(|(stage, _)| stage.kind == of.kind);
        let shards = same.flat_map(|(stage, trees)| {
            let shards = stage.shards().iter().enumerate();
            shards.map(move |(position, shard)| (Arc::as_ptr(shard), trees.tree(position)))
        });
        shards
            .filter_map(|(shard, tree)| Some((shard, tree?)))
            .collect()
    }

    /// The large address sets of a step.
    fn sets(&self, of: &StageRules) -> Option<Arc<SharedSets>> {
        let mut stages = self.policy.stages.iter().zip(&self.trees);
        let (_, trees) = stages.find(|(stage, _)| stage.kind == of.kind)?;
        trees.sets().cloned()
    }

    /// The compiled stages, in the order of [`PolicySet::stages`].
    pub fn trees(&self) -> &[Arc<Shards>] {
        &self.trees
    }

    /// The policy set it decides by.
    pub fn policy(&self) -> &PolicySet {
        &self.policy
    }

    /// Decides as the data plane does, except that a denial does not keep later steps from being
    /// asked.
    pub fn decide(&self, packet: impl Into<PolicyKey>) -> Decision {
        let by_tree = |stage: usize, key: &FlowKey| self.trees[stage].classify(key);
        self.policy.evaluate_by(&packet.into(), by_tree)
    }

    /// As [`Decider::decide`], held against the linear reference and the naive evaluator.
    ///
    /// # Errors
    /// When one of them says otherwise.
    pub fn decide_checked(
        &self,
        packet: impl Into<PolicyKey>,
    ) -> Result<Decision, Box<Disagreement>> {
        let packet = packet.into();
        let decision = self.decide(packet);
        let disagreement = |twin, tree: String, other: String| {
            Err(Box::new(Disagreement {
                key: packet.key,
                tree,
                twin,
                other,
            }))
        };
        let by_linear = |stage: usize, key: &FlowKey| self.policy.stages[stage].first_match(key);
        let linear = self.policy.evaluate_by(&packet, by_linear);
        if linear != decision {
            let (tree, other) = (format!("{decision:?}"), format!("{linear:?}"));
            return disagreement("linear reference", tree, other);
        }
        let naive = naive::evaluate(&self.policy, packet);
        let denial = decision.denial();
        let denied_by = denial.map(|denial| (denial.family(), denial.direction()));
        if (naive.verdict == RuleVerdict::Allow) != decision.allow || naive.denied_by != denied_by {
            let (tree, other) = (format!("{denied_by:?}"), format!("{:?}", naive.denied_by));
            return disagreement("naive evaluator", tree, other);
        }
        Ok(decision)
    }

    /// Where the deciding rule of an opinion was written.
    pub fn origin(&self, opinion: &Opinion) -> Option<&Origin> {
        Some(self.policy.stages[opinion.stage].origin(opinion.rule?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::RuleSet;
    use crate::classifier::shards::ShardRules;
    use crate::policy::{Compatibility, Names, SourceFile, load};
    use crate::wire::{Address, Family, protocol};

    fn decider() -> Decider {
        let text = "
{kind: Pod, apiVersion: v1, metadata: {namespace: x, name: a}, status: {podIP: 198.18.1.1}}
---
{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {namespace: x, name: p},
 spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ports: [{port: 80}]}]}}
";
        let file = SourceFile {
            name: "m.yaml".into(),
            text: text.into(),
        };
        let loaded = load(&[file], &Compatibility::default(), &Names::default());
        Decider::new(loaded.policy.unwrap(), &Limits::default()).unwrap()
    }

    fn key(source: u32, destination: u32, port: u16) -> FlowKey {
        FlowKey {
            source: Address::from_bits(source.into()),
            destination: Address::from_bits(destination.into()),
            source_port: 40_000,
            destination_port: port,
            zone: 0,
            protocol: protocol::TCP,
            family: Family::V4,
        }
    }

    const POD: u32 = 0xc612_0101;
    const OUTSIDE: u32 = 0xcb00_7109;

    #[test]
    fn the_first_denying_step_is_reported_and_the_others_are_asked() {
        let decider = decider();
        let denied = decider.decide_checked(key(OUTSIDE, POD, 81)).unwrap();
        assert!(!denied.allow);
        assert_eq!(denied.opinions.len(), 2);
        let denial = denied.denial().unwrap();
        assert_eq!(
            (denial.family(), denial.direction()),
            ("NP", Direction::Ingress)
        );
        assert_eq!(
            decider.origin(denial).unwrap().label,
            "NetworkPolicy/x/*#isolation"
        );

        let allowed = decider.decide_checked(key(OUTSIDE, POD, 80)).unwrap();
        assert!(allowed.allow);
        let deciding = allowed.deciding().unwrap();
        assert_eq!(
            decider.origin(deciding).unwrap().label,
            "NetworkPolicy/x/p#0"
        );

        let out = decider.decide_checked(key(POD, OUTSIDE, 80)).unwrap();
        assert_eq!(out.denial().unwrap().direction(), Direction::Egress);
        let nobody = decider
            .decide_checked(key(OUTSIDE, OUTSIDE + 1, 80))
            .unwrap();
        assert!(nobody.allow && nobody.deciding().is_none());
    }

    #[test]
    fn an_exempt_key_is_asked_of_no_step() {
        let decision = decider().decide_checked(key(POD, POD, 81)).unwrap();
        assert!(decision.allow && decision.exempt.is_some() && decision.opinions.is_empty());
    }

    #[test]
    fn twins_that_disagree_are_an_error_that_names_the_packet() {
        let mut decider = decider();
        let (group, rules) = (None, &RuleSet::new());
        let nothing = [ShardRules { group, rules }];
        let groups = decider.policy.inventory.address_groups();
        let limits = Limits::default();
        let side = Side::Destination;
        let nothing = Shards::compile(&nothing, side, groups, &limits, |_| None, None).unwrap();
        decider.trees.fill(Arc::new(nothing));
        let error = decider.decide_checked(key(OUTSIDE, POD, 81)).unwrap_err();
        assert_eq!(error.twin, "linear reference");
        let packet = "internal error: tcp 203.0.113.9:40000 > 198.18.1.1:81: ";
        assert!(error.to_string().starts_with(packet), "{error}");

        let mut decider = self::decider();
        let policy = Arc::make_mut(&mut decider.policy);
        policy.policies.network_policies.clear();
        let error = decider.decide_checked(key(OUTSIDE, POD, 81)).unwrap_err();
        assert_eq!(error.twin, "naive evaluator");
    }
}
