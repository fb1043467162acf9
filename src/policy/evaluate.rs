//! Asking the steps in their order, by whatever finds the matching rule of a step.

use super::key::{Exemption, PolicyKey};
use super::stage::{StageKind, StageMask, StageRules};
use super::{Direction, PolicySet, compile};
use crate::classifier::{RuleIndex, RuleVerdict};
use crate::wire::{Address, FlowKey};

/// What the steps say of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub allow: bool,
    /// Why some step was not asked, or none.
    pub exempt: Option<&'static str>,
    /// What each step says, in order. A step after the first denial is asked too: who mends one
    /// wants to know of the other.
    pub opinions: Vec<Opinion>,
}

/// What one step says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opinion {
    /// Which step.
    pub kind: StageKind,
    /// Position of the step in [`PolicySet::stages`].
    pub stage: usize,
    /// The deciding rule; `None` when no rule matches.
    pub rule: Option<RuleIndex>,
    /// What it says; `Pass` when there is none.
    pub verdict: RuleVerdict,
    /// The step was not asked, since this one before it had decided for it too.
    pub spared_by: Option<StageKind>,
}

impl Opinion {
    /// Short name of the family.
    pub fn family(&self) -> &'static str {
        self.kind.family()
    }

    /// Which end of the connection the step protects.
    pub fn direction(&self) -> Direction {
        self.kind.direction()
    }
}

impl Decision {
    /// The first step that denies.
    pub fn denial(&self) -> Option<&Opinion> {
        self.opinions
            .iter()
            .find(|opinion| opinion.verdict == RuleVerdict::Deny)
    }

    /// The step to report: the first that denies; else the last in which a rule decided, which is
    /// the destination's where both ends are isolated.
    pub fn deciding(&self) -> Option<&Opinion> {
        let last = || {
            self.opinions
                .iter()
                .rev()
                .find(|opinion| opinion.rule.is_some())
        };
        self.denial().or_else(last)
    }

    /// Allow or Deny.
    pub fn verdict(&self) -> RuleVerdict {
        match self.allow {
            true => RuleVerdict::Allow,
            false => RuleVerdict::Deny,
        }
    }
}

impl PolicySet {
    /// Decides a packet by reading the compiled rules from the top: slow, for tests.
    pub fn evaluate(&self, packet: impl Into<PolicyKey>) -> Decision {
        self.evaluate_by(&packet.into(), |stage, key| {
            self.stages[stage].first_match(key)
        })
    }

    /// Decides a packet as the data plane does, except that a denial does not keep later steps from
    /// being asked. `classify` finds the rule of a step, by its position, that matches a key.
    pub fn evaluate_by(
        &self,
        packet: &PolicyKey,
        classify: impl Fn(usize, &FlowKey) -> Option<RuleIndex>,
    ) -> Decision {
        let exemption = packet.exemption();
        let exempt = exemption.map_or(StageMask::NONE, |exemption| exemption.skips);
        let mut spared: Vec<(StageKind, StageMask)> = Vec::new();
        let mut opinions = Vec::new();
        for (stage, rules) in self.stages.iter().enumerate() {
            let kind = rules.kind;
            if exempt.contains(kind) {
                continue;
            }
            let mut spared_by = spared.iter().filter(|(_, skips)| skips.contains(kind));
            let mut opinion = Opinion {
                kind,
                stage,
                rule: None,
                verdict: RuleVerdict::Pass,
                spared_by: spared_by.next().map(|(by, _)| *by),
            };
            if opinion.spared_by.is_none() {
                let verdict = match self.groups_of_sender(rules, packet) {
                    Some((rule, verdict)) => {
                        opinion.rule = rule;
                        Some(verdict)
                    }
                    None => {
                        opinion.rule = classify(stage, &kind.view(packet, &self.compatibility));
                        opinion.rule.map(|rule| rules.rule(rule).verdict)
                    }
                };
                opinion.verdict = verdict.unwrap_or(RuleVerdict::Pass);
                spared.push((kind, kind.skips(verdict, &self.compatibility)));
            }
            opinions.push(opinion);
        }
        let deny = |opinion: &Opinion| opinion.verdict == RuleVerdict::Deny;
        Decision {
            allow: !opinions.iter().any(deny),
            exempt: exemption.map(|Exemption { reason, .. }| reason),
            opinions,
        }
    }
}

impl PolicySet {
    /// What the security groups of an end say that sends under an address it has not. Compiled
    /// rules know an end by its addresses alone; those with `localAddress` are about the address
    /// the packet has, and are compiled anew as it has them: met, or met by nobody. `None` where
    /// nothing of this is asked; a rule that no address the end has could meet is not named.
    fn groups_of_sender(
        &self,
        stage: &StageRules,
        packet: &PolicyKey,
    ) -> Option<(Option<RuleIndex>, RuleVerdict)> {
        let (StageKind::SecurityGroupEgress | StageKind::SecurityGroupEgressLower) = stage.kind
        else {
            return None;
        };
        packet.sender.filter(|sender| !sender.owns_source)?;
        let mut groups = self.policies.security_groups.clone();
        let rules = groups.iter_mut().flat_map(|group| &mut group.egress);
        let mut local: Vec<_> = rules.filter(|rule| rule.local.is_some()).collect();
        if local.is_empty() {
            return None;
        }
        let source = packet.key.source.to_ip(packet.key.family);
        for rule in &mut local {
            // The unspecified address is nobody's.
            let nobody = Address::ZERO.to_ip(rule.family).into();
            let met = rule.local.is_some_and(|net| net.contains(&source));
            rule.local = (!met).then_some(nobody);
        }
        let (rules, origins) = compile::security_groups(self, stage.kind, groups);
        let key = stage.kind.view(packet, &self.compatibility);
        let rule = rules.rule(rules.first_match(&key)?);
        let label = &origins[rule.origin.0 as usize].label;
        let mut known = (0..stage.len() as u32).map(RuleIndex);
        let index = known.find(|index| stage.origin(*index).label == *label);
        Some((index, rule.verdict))
    }
}
