//! What the data plane knows of policy and routing at one moment: immutable, shared by all workers,
//! replaced by one pointer swap.

use std::sync::Arc;

use super::nat::NatPlan;
use super::rate_limit::RateLimit;
use super::route::{RouteTable, RouteTarget};
use super::station::Stations;
use super::verdict::PortId;
use crate::classifier::{Classify, RuleIndex, RuleVerdict};
use crate::wire::{Address, Family, FlowKey};

/// Counter slot of a rule. A rule keeps its slot across reloads, so its counters go on counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleSlot(pub u32);

impl RuleSlot {
    /// No rule.
    pub const NONE: RuleSlot = RuleSlot(u32::MAX);

    /// Does it name a rule?
    #[inline]
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

/// What the pipeline needs of one compiled rule.
#[derive(Debug, Clone, Copy)]
pub struct StageRule {
    /// What the rule says.
    pub verdict: RuleVerdict,
    /// Where its counters are.
    pub slot: RuleSlot,
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who opens it.
    Source,
    /// Whom it is opened to.
    Destination,
}

/// Numbers of the networks that a connection's two ends are on, as the rules know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Networks {
    /// The source's.
    pub source: u16,
    /// The destination's.
    pub destination: u16,
}

impl Networks {
    /// That of an end.
    #[inline]
    pub fn of(self, end: End) -> u16 {
        match end {
            End::Source => self.source,
            End::Destination => self.destination,
        }
    }
}

/// One evaluation step: a compiled classifier and its rules by [`RuleIndex`].
pub struct Stage {
    /// Short name of the policy family: `NP`.
    pub family: &'static str,
    /// The end it is asked on behalf of: its rules know the other by address alone.
    pub protects: End,
    /// The compiled rules; no match means no opinion.
    pub classifier: Arc<dyn Classify>,
    /// By [`RuleIndex`].
    pub rules: Vec<StageRule>,
    /// What its answers spare later stages.
    pub skips: Skips,
    /// What rules do beside deciding.
    pub effects: Option<Box<StageEffects>>,
}

/// What rules of a stage do beside deciding, when a packet opens a connection.
pub struct StageEffects {
    /// By [`RuleIndex`]: position in `effects`. Several rules may share one.
    pub by_rule: Vec<Option<u32>>,
    /// The effects.
    pub effects: Vec<Effect>,
}

/// What a rule does beside deciding.
pub struct Effect {
    /// Tells control of every match.
    pub log: bool,
    /// Beyond this it does not match.
    pub limit: Option<RateLimit>,
    /// It decides nothing: the rules behind it are asked.
    pub continues: bool,
    /// Whose matches are counted and limited.
    pub slot: RuleSlot,
    /// The rules behind it.
    pub rest: Arc<dyn Classify>,
    /// [`RuleIndex`] of the first of them.
    pub rest_first: u32,
}

impl StageEffects {
    /// That of a rule.
    #[inline]
    pub fn of(&self, index: RuleIndex) -> Option<&Effect> {
        let effect = self.by_rule.get(index.0 as usize).copied().flatten()?;
        self.effects.get(effect as usize)
    }

    /// The rule that decides a key, `matched` being the first that fits it. `matches` is asked of
    /// every rule with effects on the way, in order: does it match, this time?
    #[inline]
    pub fn settle(
        &self,
        key: &FlowKey,
        mut matched: Option<RuleIndex>,
        mut matches: impl FnMut(&Effect) -> bool,
    ) -> Option<RuleIndex> {
        while let Some(effect) = matched.and_then(|index| self.of(index)) {
            if matches(effect) && !effect.continues {
                break;
            }
            let next = effect.rest.classify(key);
            matched = next.map(|index| RuleIndex(index.0 + effect.rest_first));
        }
        matched
    }
}

impl Stage {
    /// `NP egress`.
    pub fn name(&self) -> String {
        let direction = match self.protects {
            End::Source => "egress",
            End::Destination => "ingress",
        };
        format!("{} {direction}", self.family)
    }
}

/// Which stages need not be asked after a stage's answer, each stage a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skips {
    /// The stage itself.
    pub own: u32,
    /// After a rule that allows.
    pub allow: u32,
    /// After a rule that passes the question on.
    pub pass: u32,
    /// When no rule matches.
    pub none: u32,
    /// After a denial that does not count, since the stage lets go on what is established.
    pub deny: u32,
    /// A connection that was allowed goes on whatever the stage says of it by now.
    pub keeps: bool,
}

/// Deciding rules a flow remembers at the most: an end has no more than two tiers of security
/// groups, one rule of each of three tiers of policies, and what leaves the cluster passes four
/// lists.
pub const DECIDING_RULES_MAX: usize = 12;

/// The rules that decided a packet, in the order of their stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecidingRules([RuleSlot; DECIDING_RULES_MAX]);

impl DecidingRules {
    /// None.
    pub const NONE: DecidingRules = DecidingRules([RuleSlot::NONE; DECIDING_RULES_MAX]);

    /// The rules, first stage first.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = RuleSlot> + '_ {
        let len = self.0.iter().position(|slot| !slot.is_some());
        self.0[..len.unwrap_or(DECIDING_RULES_MAX)].iter().copied()
    }

    /// The last one: the rule that denied, where one did.
    #[inline]
    pub fn last(&self) -> RuleSlot {
        self.iter().next_back().unwrap_or(RuleSlot::NONE)
    }

    #[inline]
    fn push(&mut self, rule: RuleSlot) {
        let free = self.0.iter_mut().find(|slot| !slot.is_some());
        debug_assert!(free.is_some(), "more stages decide than can be remembered");
        if let Some(free) = free {
            *free = rule;
        }
    }
}

impl FromIterator<RuleSlot> for DecidingRules {
    /// At most [`DECIDING_RULES_MAX`]; further ones are left out.
    fn from_iter<I: IntoIterator<Item = RuleSlot>>(rules: I) -> Self {
        let mut all = DecidingRules::NONE;
        rules.into_iter().for_each(|rule| all.push(rule));
        all
    }
}

/// Outcome of asking all stages about one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Does every stage let it pass?
    pub allowed: bool,
    /// Stage that denied it, when one did.
    pub denied_by: Option<u8>,
    /// Deciding rules of the stages asked.
    pub rules: DecidingRules,
    /// Asked of an established flow, one of the stages that keep such flows would deny it by now.
    pub kept: bool,
    /// It is an established flow that is asked about.
    established: bool,
    /// Stages that need not be asked.
    skips: u32,
}

impl Decision {
    /// Nothing has had an opinion yet.
    pub const NO_OPINION: Decision = Decision {
        allowed: true,
        denied_by: None,
        rules: DecidingRules::NONE,
        kept: false,
        established: false,
        skips: 0,
    };

    /// The same of an established flow that policy is asked about again.
    pub const ESTABLISHED: Decision = Decision {
        established: true,
        ..Decision::NO_OPINION
    };
}

/// The compiled policies of one generation.
pub struct PolicySnapshot {
    /// Counts complete loads from 1.
    pub generation: u32,
    /// Asked in this order; the first denial is final.
    pub stages: Vec<Stage>,
    /// Number of the network behind each port, as the rules know it; 0, the cluster's own, for
    /// ports beyond the list.
    pub networks: Vec<u16>,
    /// Whose frames are held to their own addresses; `None` where nobody's are.
    pub stations: Option<Arc<Stations>>,
}

impl PolicySnapshot {
    /// Is any port on a network of its own? Then it matters which networks a packet's ends are on.
    #[inline]
    pub fn has_networks(&self) -> bool {
        self.networks.iter().any(|network| *network != 0)
    }

    /// The network behind a port.
    #[inline]
    pub fn network(&self, port: PortId) -> u16 {
        let network = self.networks.get(port.0 as usize);
        network.copied().unwrap_or_default()
    }

    /// What is left to be asked about a flow of an older generation where all flows are kept;
    /// `None` where nothing is.
    pub fn of_kept(&self) -> Option<Decision> {
        let keeps = |stage: &&Stage| stage.skips.keeps;
        if self.stages.iter().all(|stage| stage.skips.keeps) {
            return None;
        }
        let keeping = self.stages.iter().filter(keeps);
        Some(Decision {
            skips: keeping.fold(0, |skips, stage| skips | stage.skips.own),
            ..Decision::ESTABLISHED
        })
    }

    /// Asks every stage about one key between these networks, with no effect: whatever rules match
    /// only so often match. The key's own zone, which keeps
    /// flows of different tags apart, is not looked at.
    pub fn decide(&self, key: &FlowKey, networks: Networks) -> Decision {
        let mut decision = Decision::NO_OPINION;
        for (number, stage) in self.stages.iter().enumerate() {
            if decision.wants(stage) {
                let zone = networks.of(stage.protects);
                let key = FlowKey { zone, ..*key };
                let matched = stage.classifier.classify(&key);
                let matched = match &stage.effects {
                    None => matched,
                    Some(effects) => effects.settle(&key, matched, |_| true),
                };
                decision.add(number, stage, matched);
            }
        }
        decision
    }
}

impl Decision {
    /// Is the stage to be asked? The first denial is final, and an earlier answer may have made it
    /// unnecessary.
    #[inline]
    pub fn wants(&self, stage: &Stage) -> bool {
        self.allowed && self.skips & stage.skips.own == 0
    }

    /// Adds the answer of a stage that is wanted.
    #[inline]
    pub fn add(&mut self, number: usize, stage: &Stage, matched: Option<RuleIndex>) {
        let Some(index) = matched else {
            self.skips |= stage.skips.none;
            return;
        };
        let rule = stage.rules[index.0 as usize];
        if rule.verdict == RuleVerdict::Deny && self.established && stage.skips.keeps {
            self.kept = true;
            self.skips |= stage.skips.deny;
            return;
        }
        self.rules.push(rule.slot);
        match rule.verdict {
            RuleVerdict::Allow => self.skips |= stage.skips.allow,
            RuleVerdict::Pass => self.skips |= stage.skips.pass,
            RuleVerdict::Deny => {
                self.allowed = false;
                self.denied_by = Some(number as u8);
            }
        }
    }
}

/// How frames find their way out.
#[derive(Debug, Clone)]
pub enum Forwarding {
    /// By destination address and the kernel's routes.
    Routed,
    /// Out of the other port of a pair, unchanged.
    Transparent(Vec<TransparentPort>),
}

/// A port of the transparent mode.
#[derive(Debug, Clone, Default)]
pub struct TransparentPort {
    /// The other port of the pair.
    pub peer: Option<PortId>,
    /// VLAN ids accepted besides untagged frames, sorted.
    pub vlans: Vec<u16>,
}

impl TransparentPort {
    /// May a frame with this outermost tag, and this many tags, come in?
    #[inline]
    pub fn accepts(&self, vlan: Option<u16>, tags: u8) -> bool {
        match vlan {
            None => true,
            Some(vlan) => tags == 1 && self.vlans.binary_search(&vlan).is_ok(),
        }
    }
}

/// How a source address is checked against the routes (RFC 3704).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceCheck {
    /// The route back leaves by the port the packet came in on (§2.2).
    Strict,
    /// There is a route back (§2.4).
    Loose,
    /// Not at all.
    Off,
}

/// Everything a worker reads per batch.
pub struct Snapshot {
    /// `None` until the first complete load: closed.
    pub policy: Option<Arc<PolicySnapshot>>,
    /// Are established flows asked again after a policy change?
    pub reevaluate_established: bool,
    /// Are packets in state INVALID judged as new instead of dropped?
    pub evaluate_invalid: bool,
    /// How frames find their way out.
    pub forwarding: Forwarding,
    /// Source address check of the routed mode.
    pub source_check: SourceCheck,
    /// Who gets other addresses.
    pub nat: Arc<NatPlan>,
    /// Counts changes of `routes` from 1.
    pub routing_generation: u32,
    /// Links, routes, neighbours.
    pub routes: Arc<RouteTable>,
}

impl Snapshot {
    /// Whose frames are held to their own addresses.
    #[inline]
    pub fn stations(&self) -> Option<&Stations> {
        self.policy.as_ref()?.stations.as_deref()
    }

    /// In routed mode: is an address one on a port's own link, with no router in between?
    pub fn is_on_link(&self, port: PortId, family: Family, address: Address) -> bool {
        let on_link = RouteTarget::Port {
            port,
            gateway: None,
        };
        self.routes.lookup(family, address) == Some(on_link)
    }
}
