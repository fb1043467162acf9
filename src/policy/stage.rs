//! The evaluation steps, their order, and which of them a verdict makes unnecessary.
//!
//! ```text
//! source       SG egress ▸ Admin ▸ NP, MNP ▸ Baseline
//! in between   VNID | ENP ▸ EgressFirewall ▸ egressIP ▸ AdminOutput
//! destination  Admin ▸ SG ingress ▸ NP, MNP ▸ Baseline
//! ```
//!
//! A packet passes when no step denies it; the first that does is reported. A step that allows may
//! end the asking within its family and direction, never beyond: an allowing NetworkPolicy spares
//! the packet the Baseline tier of the same end, and nothing else.

use std::sync::Arc;

use super::admin_output::Effects;
use super::compatibility::{
    Combination, Compatibility, EgressView, Established, MultiNetworkDialect,
};
use super::key::{MULTICAST_NETWORK, PRIMARY_NETWORK};
use super::{Direction, Origin, PolicyKey};
use crate::classifier::{Rule, RuleId, RuleIndex, RuleSet, RuleVerdict, ShardRules};
use crate::wire::{Family, FlowKey, protocol};

/// The rules of one evaluation step, for the whole inventory.
///
/// A key that no rule matches is not denied: the step has no opinion of it. Rules are numbered
/// through all shards: those of the first shard first.
#[derive(Debug, Clone)]
pub struct StageRules {
    /// Which step.
    pub kind: StageKind,
    shards: Vec<Arc<Shard>>,
    /// Number of the first rule of each shard.
    firsts: Vec<u32>,
}

/// Rules of a step that are compiled together, and anew when one of them changes.
#[derive(Debug, Clone, Default)]
pub struct Shard {
    /// The namespace whose pods the rules protect, by its number; `None` where they are about pods
    /// of all namespaces: these are stronger than those of namespaces.
    pub group: Option<u32>,
    /// The rules, strongest first.
    pub rules: RuleSet,
    /// Where they were written, by [`crate::classifier::OriginId`].
    pub origins: Vec<Origin>,
    /// What rules that decide do beside it, by their identity.
    pub effects: Vec<(RuleId, Effects)>,
    /// The step as a connection's first packet meets it, where any of its rules does more than
    /// decide.
    pub acting: Option<Box<ActingRules>>,
}

/// The rules of a step, those among them that do something without deciding. A rule that continues
/// says [`RuleVerdict::Pass`].
#[derive(Debug, Clone, Default)]
pub struct ActingRules {
    /// The rules, strongest first.
    pub rules: RuleSet,
    /// By [`crate::classifier::RuleIndex`]: position in `effects`.
    pub by_rule: Vec<Option<usize>>,
    /// What rules do beside deciding, in their order; and whether the next rule is asked then.
    pub effects: Vec<(Effects, bool)>,
}

/// The evaluation steps, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageKind {
    /// Security groups of the source, before a Service is translated.
    SecurityGroupEgress,
    /// The second tier of security groups, asked where the first says `pass`.
    SecurityGroupEgressLower,
    /// AdminNetworkPolicy, and ClusterNetworkPolicy of the Admin tier, for the source.
    AdminEgress,
    /// NetworkPolicy, for the source.
    NetworkPolicyEgress,
    /// MultiNetworkPolicy, for the source's secondary attachments.
    MultiNetworkPolicyEgress,
    /// BaselineAdminNetworkPolicy, and ClusterNetworkPolicy of the Baseline tier, for the source.
    BaselineEgress,
    /// Isolation of projects from each other: destinations in the cluster.
    ProjectIsolation,
    /// EgressNetworkPolicy: destinations outside the cluster, as the steps below.
    EgressNetworkPolicy,
    /// EgressFirewall.
    EgressFirewall,
    /// Projects whose egress addresses no node has.
    EgressIp,
    /// The administrator's list for everything that leaves the cluster.
    AdminOutput,
    /// As [`StageKind::AdminEgress`], for the destination.
    AdminIngress,
    /// Security groups of the destination.
    SecurityGroupIngress,
    /// The second tier of security groups, asked where the first says `pass`.
    SecurityGroupIngressLower,
    /// NetworkPolicy, for the destination.
    NetworkPolicyIngress,
    /// MultiNetworkPolicy, for the destination's secondary attachments.
    MultiNetworkPolicyIngress,
    /// As [`StageKind::BaselineEgress`], for the destination.
    BaselineIngress,
}

/// A set of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageMask(pub u32);

impl StageMask {
    /// No step.
    pub const NONE: StageMask = StageMask(0);
    /// Every step.
    pub const ALL: StageMask = StageMask(u32::MAX);

    /// The set of these steps.
    pub const fn of(kinds: &[StageKind]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < kinds.len() {
            bits |= 1 << kinds[i] as u32;
            i += 1;
        }
        StageMask(bits)
    }

    /// Is the step in the set?
    pub const fn contains(self, kind: StageKind) -> bool {
        self.0 >> kind as u32 & 1 == 1
    }

    /// The steps of either.
    #[must_use]
    pub const fn union(self, other: StageMask) -> StageMask {
        StageMask(self.0 | other.0)
    }
}

use StageKind as K;

impl StageKind {
    /// Every step, in order.
    pub const ALL: [StageKind; 17] = [
        K::SecurityGroupEgress,
        K::SecurityGroupEgressLower,
        K::AdminEgress,
        K::NetworkPolicyEgress,
        K::MultiNetworkPolicyEgress,
        K::BaselineEgress,
        K::ProjectIsolation,
        K::EgressNetworkPolicy,
        K::EgressFirewall,
        K::EgressIp,
        K::AdminOutput,
        K::AdminIngress,
        K::SecurityGroupIngress,
        K::SecurityGroupIngressLower,
        K::NetworkPolicyIngress,
        K::MultiNetworkPolicyIngress,
        K::BaselineIngress,
    ];

    /// Short name of the family in reports and in `deny_stage`.
    pub const fn family(self) -> &'static str {
        match self {
            K::SecurityGroupEgress
            | K::SecurityGroupEgressLower
            | K::SecurityGroupIngress
            | K::SecurityGroupIngressLower => "SG",
            K::AdminEgress | K::AdminIngress => "Admin",
            K::NetworkPolicyEgress | K::NetworkPolicyIngress => "NP",
            K::MultiNetworkPolicyEgress | K::MultiNetworkPolicyIngress => "MNP",
            K::BaselineEgress | K::BaselineIngress => "Baseline",
            K::ProjectIsolation => "VNID",
            K::EgressNetworkPolicy => "ENP",
            K::EgressFirewall => "EgressFirewall",
            K::EgressIp => "egressIP",
            K::AdminOutput => "AdminOutput",
        }
    }

    /// Is it asked again of every connection that exists when policies change, whatever the switch
    /// `established` says? The lists for what leaves the cluster remember no connections.
    pub const fn is_stateless(self) -> bool {
        matches!(
            self,
            K::EgressNetworkPolicy | K::EgressFirewall | K::EgressIp | K::AdminOutput
        )
    }

    /// Does a connection that was allowed go on whatever the step says by now? Under
    /// `established=keep` all but the lists without state; those of multi-networkpolicy-iptables,
    /// which accepts what is established before anything else.
    pub fn keeps_established(self, switches: &Compatibility) -> bool {
        match self {
            K::MultiNetworkPolicyEgress | K::MultiNetworkPolicyIngress
                if switches.mnp_compat == MultiNetworkDialect::Iptables =>
            {
                true
            }
            _ => switches.established == Established::Keep && !self.is_stateless(),
        }
    }

    /// Which end of the connection it protects. What stands between the two is asked on behalf of
    /// the source.
    pub const fn direction(self) -> Direction {
        match self {
            K::AdminIngress
            | K::SecurityGroupIngress
            | K::SecurityGroupIngressLower
            | K::NetworkPolicyIngress
            | K::MultiNetworkPolicyIngress
            | K::BaselineIngress => Direction::Ingress,
            _ => Direction::Egress,
        }
    }

    /// The later steps that need not be asked after this answer; `None` is no opinion, and what a
    /// denial spares is of no interest.
    pub fn skips(self, verdict: Option<RuleVerdict>, compatibility: &Compatibility) -> StageMask {
        const EGRESS: StageMask = StageMask::of(&[
            K::NetworkPolicyEgress,
            K::MultiNetworkPolicyEgress,
            K::BaselineEgress,
        ]);
        const INGRESS: StageMask = StageMask::of(&[
            K::NetworkPolicyIngress,
            K::MultiNetworkPolicyIngress,
            K::BaselineIngress,
        ]);
        const LOWER_INGRESS: StageMask = StageMask::of(&[K::SecurityGroupIngressLower]);
        let kube_ovn = compatibility.sg_np_combine == Combination::KubeOvn;
        let final_for_kube_ovn = |mask: StageMask| match kube_ovn {
            true => INGRESS.union(mask),
            false => mask,
        };
        match (self, verdict) {
            (K::SecurityGroupEgress, Some(RuleVerdict::Allow) | None) => {
                StageMask::of(&[K::SecurityGroupEgressLower])
            }
            (K::AdminEgress, Some(RuleVerdict::Allow)) => EGRESS,
            // Whoever is isolated is not asked of the Baseline tier, whatever comes of it.
            (
                K::NetworkPolicyEgress | K::MultiNetworkPolicyEgress,
                Some(RuleVerdict::Allow | RuleVerdict::Deny),
            ) => StageMask::of(&[K::BaselineEgress]),
            (K::AdminIngress, Some(RuleVerdict::Allow)) if kube_ovn => INGRESS
                .union(LOWER_INGRESS)
                .union(StageMask::of(&[K::SecurityGroupIngress])),
            (K::AdminIngress, Some(RuleVerdict::Allow)) => INGRESS,
            (K::SecurityGroupIngress, Some(RuleVerdict::Allow)) => {
                final_for_kube_ovn(LOWER_INGRESS)
            }
            (K::SecurityGroupIngress, None) => LOWER_INGRESS,
            (K::SecurityGroupIngressLower, Some(RuleVerdict::Allow)) => {
                final_for_kube_ovn(StageMask::NONE)
            }
            (
                K::NetworkPolicyIngress | K::MultiNetworkPolicyIngress,
                Some(RuleVerdict::Allow | RuleVerdict::Deny),
            ) => StageMask::of(&[K::BaselineIngress]),
            _ => StageMask::NONE,
        }
    }

    /// The key this step is asked about: before or behind the translation of a Service, its zone
    /// the network of the end the step protects.
    pub fn view(self, packet: &PolicyKey, compatibility: &Compatibility) -> FlowKey {
        let lower = matches!(self, K::SecurityGroupEgress | K::SecurityGroupEgressLower);
        let by_group =
            lower || matches!(self, K::SecurityGroupIngress | K::SecurityGroupIngressLower);
        let known_by_source = lower && packet.sender.is_some_and(|sender| sender.owns_source);
        let packet = &match self.direction() {
            Direction::Egress if !known_by_source => packet.as_from_sender(),
            _ => *packet,
        };
        let key = match lower && compatibility.sg_egress_view == EgressView::Original {
            true => packet.original,
            false => packet.key,
        };
        let zone = match self.direction() {
            Direction::Egress => packet.source_network,
            Direction::Ingress => packet.destination_network,
        };
        match packet.receiver {
            Some(receiver) if self == K::ProjectIsolation && zone == PRIMARY_NETWORK => FlowKey {
                zone: MULTICAST_NETWORK,
                destination: receiver,
                ..key
            },
            Some(destination) if by_group && !lower => FlowKey {
                zone,
                destination,
                ..key
            },
            // Hop limits are told apart by nobody but the groups' base rules, which look for this
            // one where ICMPv6 has its identifier, and a listener query none.
            _ if by_group && is_query(&key) && packet.hop_limit == Some(QUERY_HOP_LIMIT) => {
                FlowKey {
                    zone,
                    source_port: QUERY_HOP_LIMIT.into(),
                    ..key
                }
            }
            _ => FlowKey { zone, ..key },
        }
    }
}

/// The hop limit with which Kube-OVN's base list lets listener queries pass; in nature they have 1.
pub const QUERY_HOP_LIMIT: u8 = 255;

/// Is it a query of multicast listener discovery (RFC 2710 §3)?
fn is_query(key: &FlowKey) -> bool {
    key.protocol == protocol::ICMPV6
        && key.family == Family::V6
        && key.destination_port == FlowKey::icmp_port(protocol::ICMPV6_MLD_QUERY, 0)
}

impl StageRules {
    /// The rules of these shards.
    pub fn new(kind: StageKind, shards: Vec<Arc<Shard>>) -> Self {
        let mut next = 0;
        let firsts = shards.iter().map(|shard| {
            let first = next;
            next += shard.rules.rules().len() as u32;
            first
        });
        let firsts = firsts.collect();
        StageRules {
            kind,
            shards,
            firsts,
        }
    }

    /// The shards.
    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        let counts = self.shards.iter().map(|shard| shard.rules.rules().len());
        counts.sum()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What rules do beside deciding, where any of them does: such a step is one shard.
    pub fn acting(&self) -> Option<&ActingRules> {
        let mut acting = self
            .shards
            .iter()
            .filter_map(|shard| shard.acting.as_deref());
        acting.next()
    }

    /// Every rule, by [`RuleIndex`].
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.shards.iter().flat_map(|shard| shard.rules.rules())
    }

    /// The shard of a rule, and the rule's number in it.
    pub fn shard_of(&self, RuleIndex(rule): RuleIndex) -> (&Shard, RuleIndex) {
        let after = self.firsts.partition_point(|first| *first <= rule);
        // Shards without rules begin where the next one does.
        let position = after - 1;
        (
            &self.shards[position],
            RuleIndex(rule - self.firsts[position]),
        )
    }

    /// One rule.
    pub fn rule(&self, rule: RuleIndex) -> &Rule {
        let (shard, rule) = self.shard_of(rule);
        shard.rules.rule(rule)
    }

    /// Where a rule was written.
    pub fn origin(&self, rule: RuleIndex) -> &Origin {
        let (shard, rule) = self.shard_of(rule);
        shard.origin(rule)
    }

    /// The rule that decides a key, by reading all of them from the top: slow, and what everything
    /// compiled is tested against.
    pub fn first_match(&self, key: &FlowKey) -> Option<RuleIndex> {
        let mut shards = self.shards.iter().zip(&self.firsts);
        shards.find_map(|(shard, first)| {
            let RuleIndex(rule) = shard.rules.first_match(key)?;
            Some(RuleIndex(first + rule))
        })
    }

    /// Short name of the family: `NP`.
    pub fn family(&self) -> &'static str {
        self.kind.family()
    }

    /// Which end of the connection it protects.
    pub fn direction(&self) -> Direction {
        self.kind.direction()
    }
}

impl Shard {
    /// What is compiled of it.
    pub fn rules(&self) -> ShardRules<'_> {
        ShardRules {
            group: self.group,
            rules: &self.rules,
        }
    }

    /// Where a rule was written.
    pub fn origin(&self, rule: RuleIndex) -> &Origin {
        &self.origins[self.rules.rule(rule).origin.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_steps_are_listed_in_their_order() {
        for (number, kind) in K::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
        assert_eq!(K::ALL.len(), K::BaselineIngress as usize + 1);
    }

    #[test]
    fn an_answer_spares_only_later_steps_of_its_own_end() {
        let mut kube_ovn = Compatibility::default();
        kube_ovn.set("sg_np_combine", "kube-ovn").unwrap();
        let verdicts = [None, Some(RuleVerdict::Allow), Some(RuleVerdict::Pass)];
        for compatibility in [Compatibility::default(), kube_ovn] {
            for kind in K::ALL {
                for verdict in verdicts {
                    let skips = kind.skips(verdict, &compatibility);
                    for other in K::ALL.into_iter().filter(|other| skips.contains(*other)) {
                        assert!(other > kind && other.direction() == kind.direction());
                        assert!(other < K::ProjectIsolation || other > K::AdminOutput);
                    }
                }
            }
        }
    }
}
