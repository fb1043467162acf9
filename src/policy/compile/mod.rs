//! Policies to rules: one rule set a step, each for the whole inventory.
//!
//! A policy rule becomes one rule per port entry: its peers one set of addresses, the pods it is
//! about another, never a product of peers, ports and pods.

mod admin_output;
mod egress_firewall;
mod multi_network;
mod network_policy;
mod openshift;
mod scope;
mod security_group;
mod tiers;

use std::sync::Arc;

pub use network_policy::{ISOLATION_ANNOTATION, isolation_annotation};

use super::admin_output::Effects;
use super::inventory::{Inventory, PodIndex, Source};
use super::load::Input;
use super::selection::{Addresses, PRIMARY, Selections};
use super::stage::{ActingRules, Shard, StageKind, StageRules};
use super::{
    Compatibility, Direction, Names, Origin, PRIMARY_NETWORK, Policies, PolicySet, Ports,
    SecurityGroup,
};
use crate::classifier::{
    AddressMatch, AddressSet, OriginId, PortRange, ProtocolMatch, Rule, RuleId, RuleSet,
    RuleVerdict,
};
use crate::wire::{Address, Family};

/// Inclusive ranges, as [`AddressSet::from_ranges`] takes them.
type Ranges = Vec<(Family, Address, Address)>;

/// Compiles the policies in force into the steps that have rules, in order. The steps of
/// NetworkPolicy are always there, so that there is somebody to say that nobody isolates a pod.
///
/// `before` are the policies and steps of a set with the same inventory, names and switches: what
/// the difference does not touch is taken from there.
pub fn compile(input: &Input, before: Option<Before>) -> Vec<StageRules> {
    let mut compiler = Compiler {
        inventory: input.inventory,
        ports: input.ports,
        selections: input.selections,
        compatibility: input.compatibility,
        policies: input.policies,
        names: input.names,
        origins: Vec::new(),
    };
    let mut stages = Vec::new();
    for kind in StageKind::ALL {
        let by_namespace = matches!(
            kind,
            StageKind::NetworkPolicyEgress | StageKind::NetworkPolicyIngress
        );
        let shards = match by_namespace {
            true => network_policy::shards(&mut compiler, kind, before),
            false => compiler.whole(kind, before),
        };
        if by_namespace || !shards.is_empty() {
            stages.push(StageRules::new(kind, shards));
        }
    }
    stages
}

/// What was compiled before.
#[derive(Clone, Copy)]
pub struct Before<'b> {
    /// The policies.
    pub policies: &'b Policies,
    /// The steps they were compiled into.
    pub stages: &'b [StageRules],
}

impl<'b> Before<'b> {
    /// The shards of a step; none where it had no rules.
    fn shards(self, kind: StageKind) -> &'b [Arc<Shard>] {
        let mut stages = self.stages.iter();
        let stage = stages.find(|stage| stage.kind == kind);
        stage.map_or(&[], StageRules::shards)
    }

    /// Are the objects a step is compiled from the same?
    fn is_same(self, kind: StageKind, now: &Policies) -> bool {
        let before = self.policies;
        let same_projects = || before.openshift == now.openshift;
        match kind {
            StageKind::SecurityGroupEgress
            | StageKind::SecurityGroupEgressLower
            | StageKind::SecurityGroupIngress
            | StageKind::SecurityGroupIngressLower => before.security_groups == now.security_groups,
            StageKind::NetworkPolicyEgress | StageKind::NetworkPolicyIngress => {
                before.network_policies == now.network_policies
            }
            StageKind::MultiNetworkPolicyEgress | StageKind::MultiNetworkPolicyIngress => {
                before.multi_network_policies == now.multi_network_policies
            }
            StageKind::AdminEgress
            | StageKind::AdminIngress
            | StageKind::BaselineEgress
            | StageKind::BaselineIngress => before.tiers == now.tiers,
            StageKind::ProjectIsolation | StageKind::EgressNetworkPolicy | StageKind::EgressIp => {
                same_projects()
            }
            StageKind::EgressFirewall => {
                before.egress_firewalls == now.egress_firewalls && same_projects()
            }
            StageKind::AdminOutput => {
                before.admin_output_rules == now.admin_output_rules && same_projects()
            }
        }
    }
}

/// A shard being compiled.
struct StageDraft {
    kind: StageKind,
    rules: RuleSet,
    effects: Vec<(RuleId, Effects)>,
    acting: Option<Box<ActingRules>>,
}

impl StageDraft {
    fn new(kind: StageKind) -> Self {
        StageDraft {
            kind,
            rules: RuleSet::new(),
            effects: Vec::new(),
            acting: None,
        }
    }

    fn direction(&self) -> Direction {
        self.kind.direction()
    }
}

/// One of the steps of security groups, of other groups than the set's: its rules and origins.
pub(super) fn security_groups(
    set: &PolicySet,
    kind: StageKind,
    groups: Vec<SecurityGroup>,
) -> (RuleSet, Vec<Origin>) {
    let policies = Policies {
        security_groups: groups,
        ..Policies::default()
    };
    let mut compiler = Compiler {
        inventory: &set.inventory,
        ports: &set.ports,
        selections: &Selections::new(&set.inventory),
        compatibility: &set.compatibility,
        policies: &policies,
        names: &set.names,
        origins: Vec::new(),
    };
    let mut stage = StageDraft::new(kind);
    security_group::compile(&mut compiler, &mut stage);
    (stage.rules, compiler.origins)
}

/// What the systems share while they compile.
struct Compiler<'c> {
    inventory: &'c Inventory,
    ports: &'c Ports,
    selections: &'c Selections<'c>,
    compatibility: &'c Compatibility,
    policies: &'c Policies,
    names: &'c Names,
    origins: Vec<Origin>,
}

/// Whose addresses a rule means by pods: the numbers of networks.
#[derive(Clone, Copy)]
struct Networks<'n> {
    /// Of the end the stage protects.
    own: &'n [u16],
    /// Of the other end.
    peers: &'n [u16],
}

impl Networks<'static> {
    /// The cluster's own network alone.
    const PRIMARY: Networks<'static> = Networks {
        own: PRIMARY,
        peers: PRIMARY,
    };
}

/// The parts in which compiled rules differ.
struct Draft {
    id: RuleId,
    priority: u32,
    /// The end of the connection the stage protects.
    subject: AddressMatch,
    /// The other end.
    peer: AddressMatch,
    /// Network of the end the stage protects; `None` is any.
    zone: Option<u16>,
    protocol: ProtocolMatch,
    /// Source ports.
    source_ports: PortRange,
    /// Destination ports.
    ports: PortRange,
    verdict: RuleVerdict,
    origin: OriginId,
}

impl Draft {
    /// Any protocol and port, of the primary network.
    fn any(subject: AddressMatch, peer: AddressMatch, verdict: RuleVerdict) -> Self {
        Draft {
            id: RuleId(0),
            priority: 0,
            subject,
            peer,
            zone: None,
            protocol: ProtocolMatch::Any,
            source_ports: PortRange::ANY,
            ports: PortRange::ANY,
            verdict,
            origin: OriginId(0),
        }
    }
}

impl Compiler<'_> {
    /// A step as one shard; none where it has no rules.
    fn whole(&mut self, kind: StageKind, before: Option<Before>) -> Vec<Arc<Shard>> {
        if let Some(before) = before.filter(|before| before.is_same(kind, self.policies)) {
            return before.shards(kind).to_vec();
        }
        let mut stage = StageDraft::new(kind);
        self.compile(&mut stage);
        let shard = self.finish(stage, None);
        shard.into_iter().collect()
    }

    /// The shard of what has been compiled; `None` where that is nothing.
    fn finish(&mut self, stage: StageDraft, group: Option<u32>) -> Option<Arc<Shard>> {
        let origins = std::mem::take(&mut self.origins);
        let is_empty = stage.rules.rules().is_empty() && stage.acting.is_none();
        (!is_empty).then(|| {
            Arc::new(Shard {
                group,
                rules: stage.rules,
                origins,
                effects: stage.effects,
                acting: stage.acting,
            })
        })
    }

    /// Fills a step with the rules of its system.
    fn compile(&mut self, stage: &mut StageDraft) {
        match stage.kind {
            StageKind::NetworkPolicyEgress | StageKind::NetworkPolicyIngress => {
                unreachable!("compiled by namespace")
            }
            StageKind::SecurityGroupEgress
            | StageKind::SecurityGroupEgressLower
            | StageKind::SecurityGroupIngress
            | StageKind::SecurityGroupIngressLower => security_group::compile(self, stage),
            StageKind::MultiNetworkPolicyEgress | StageKind::MultiNetworkPolicyIngress => {
                multi_network::compile(self, stage);
            }
            StageKind::AdminEgress
            | StageKind::AdminIngress
            | StageKind::BaselineEgress
            | StageKind::BaselineIngress => tiers::compile(self, stage),
            StageKind::ProjectIsolation => openshift::isolation(self, stage),
            StageKind::EgressNetworkPolicy => openshift::egress_network_policies(self, stage),
            StageKind::EgressFirewall => egress_firewall::compile(self, stage),
            StageKind::EgressIp => openshift::egress_addresses(self, stage),
            StageKind::AdminOutput => admin_output::compile(self, stage),
        }
    }

    fn pods(&self, stage: &mut StageDraft, pods: &[PodIndex]) -> AddressMatch {
        self.pods_on(stage, pods, PRIMARY)
    }

    fn pods_on(&self, stage: &mut StageDraft, pods: &[PodIndex], networks: &[u16]) -> AddressMatch {
        intern(
            stage,
            singles(&self.selections.addresses_on(pods, networks)),
        )
    }

    /// What rules about the cluster's own network say of the network: nothing where there is no
    /// other, which keeps their trees small.
    fn primary_zone(&self) -> Option<u16> {
        let others = self.inventory.networks().next();
        others.map(|_| PRIMARY_NETWORK)
    }

    /// Origin of a rule no file holds, in the table of the shard being compiled.
    fn implicit(&mut self, label: String) -> OriginId {
        self.origins.push(Origin {
            label,
            source: None,
            path: String::new(),
        });
        OriginId(self.origins.len() as u32 - 1)
    }

    /// Origin of a rule somebody wrote.
    fn written(&mut self, label: String, source: Source, path: String) -> OriginId {
        self.origins.push(Origin {
            label,
            source: Some(source),
            path,
        });
        OriginId(self.origins.len() as u32 - 1)
    }
}

/// Adds a rule, unless one of its ends is nobody.
fn push(stage: &mut StageDraft, draft: Draft) {
    let nobody = |end: AddressMatch| match end {
        AddressMatch::Any => false,
        AddressMatch::Set(id) => stage.rules.address_set(id).is_empty(),
    };
    if nobody(draft.subject) || nobody(draft.peer) {
        return;
    }
    let (source, destination) = match stage.direction() {
        Direction::Ingress => (draft.peer, draft.subject),
        Direction::Egress => (draft.subject, draft.peer),
    };
    stage.rules.push(Rule {
        id: draft.id,
        priority: draft.priority,
        source,
        destination,
        protocol: draft.protocol,
        source_ports: draft.source_ports,
        destination_ports: draft.ports,
        zone: draft.zone,
        verdict: draft.verdict,
        origin: draft.origin,
    });
}

fn intern(stage: &mut StageDraft, ranges: Ranges) -> AddressMatch {
    AddressMatch::Set(stage.rules.intern(AddressSet::from_ranges(ranges)))
}

fn singles(addresses: &Addresses) -> Ranges {
    let single = |&(family, address): &(Family, Address)| (family, address, address);
    addresses.iter().map(single).collect()
}

/// `cidr` minus `except`, as disjoint ranges.
fn block(cidr: ipnet::IpNet, except: &[ipnet::IpNet]) -> Ranges {
    let bounds = |net: &ipnet::IpNet| {
        let (family, first) = Address::from_ip(net.network());
        let (_, last) = Address::from_ip(net.broadcast());
        (family, first.to_bits(), last.to_bits())
    };
    let (family, first, last) = bounds(&cidr);
    let mut holes: Vec<_> = except.iter().map(bounds).collect();
    holes.sort_unstable();
    let range = |first, last| (family, Address::from_bits(first), Address::from_bits(last));
    let mut ranges = Ranges::new();
    let mut next = Some(first);
    for (_, hole_first, hole_last) in holes {
        // Nothing is left behind a hole that ends with the last address of all.
        let Some(start) = next else {
            break;
        };
        if hole_first > start {
            ranges.push(range(start, hole_first - 1));
        }
        next = hole_last.checked_add(1).map(|behind| behind.max(start));
    }
    if let Some(start) = next.filter(|start| *start <= last) {
        ranges.push(range(start, last));
    }
    ranges
}

fn name_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// The first eight bytes of a hash over a system and the parts; no part can run into the next.
fn rule_id(system: &str, parts: &[&str]) -> RuleId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(system.as_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    RuleId(u64::from_le_bytes(first))
}
