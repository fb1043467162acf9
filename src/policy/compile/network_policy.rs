//! NetworkPolicies to rules: two stages, each one rule set for the whole inventory.
//!
//! ```text
//! first       own node        pods of a node × its addresses              no opinion
//!
//! then, for each namespace on its own:
//! priority 0  icmp            only with icmp=always                       allow
//!          1  policy rules    one per rule and port entry                 allow
//!          2  isolation       the isolated pods                           deny
//!          –  no rule         nobody isolates the pod                     no opinion
//! ```
//!
//! A policy rule becomes one rule per port entry: its peers one set of addresses, the pods the
//! policy selects another, never a product of peers, ports and pods. A named port becomes one rule
//! per number the name has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{
    Before, Compiler, Draft, Networks, Ranges, StageDraft, block, intern, name_of, push, singles,
};
use crate::classifier::{AddressMatch, AddressSet, PortRange, ProtocolMatch, RuleId, RuleVerdict};
use crate::policy::compatibility::{Icmp, NetworkPolicyProfile, Plugin};
use crate::policy::inventory::{Namespace, PodIndex};
use crate::policy::network_policy::{Peer, PeerKind, PolicyPort, PolicyRule, PortMatch};
use crate::policy::selection::Addresses;
use crate::policy::stage::{Shard, StageKind};
use crate::policy::{Direction, LabelSelector, NetworkPolicy};
use crate::wire::{Address, Family, protocol};

/// Order of rules within a stage.
mod priority {
    pub const ICMP: u32 = 0;
    pub const POLICY: u32 = 1;
    pub const ISOLATION: u32 = 2;
}

/// Annotation of a namespace that isolates its pods under `np_profile=v1beta1-isolation`.
pub const ISOLATION_ANNOTATION: &str = "net.beta.kubernetes.io/network-policy";

/// What the isolation annotation of a namespace says: `None` without one; an error when it is no
/// JSON, which counts as absent.
pub fn isolation_annotation(namespace: &Namespace) -> Option<Result<bool, serde_json::Error>> {
    let text = namespace.annotations.get(ISOLATION_ANNOTATION)?;
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(text);
    Some(parsed.map(|annotation| annotation["ingress"]["isolation"] == "DefaultDeny"))
}

/// Compiles the rules of one direction: what pods of all namespaces have in common, and a shard for
/// each namespace. They do not know the exemptions of [`crate::policy::PolicyKey::exemption`].
///
/// Nothing of another namespace's policies has a part in what is asked of a pod, so that a
/// namespace whose policies stayed keeps its shard.
pub fn shards(compiler: &mut Compiler, kind: StageKind, before: Option<Before>) -> Vec<Arc<Shard>> {
    if let Some(Plugin::MultiTenant | Plugin::Subnet) = compiler.compatibility.plugin {
        return Vec::new();
    }
    let known = before.map_or(&[][..], |before| before.shards(kind));
    let known_at = |group| known.binary_search_by_key(&Some(group), |shard| shard.group);
    let all = &compiler.policies.network_policies;
    let mut shards = Vec::new();
    for (group, namespace) in (0..).zip(compiler.inventory.namespaces()) {
        let policies = of_namespace(all, &namespace.name);
        let stays = before.is_some_and(|before| {
            policies == of_namespace(&before.policies.network_policies, &namespace.name)
        });
        if stays {
            shards.extend(known_at(group).ok().map(|position| known[position].clone()));
            continue;
        }
        let mut stage = StageDraft::new(kind);
        compiler.namespace(&mut stage, namespace, policies);
        shards.extend(compiler.finish(stage, Some(group)));
    }
    if shards.is_empty() {
        return shards;
    }
    let common = match known.first().filter(|shard| shard.group.is_none()) {
        Some(known) => Some(known.clone()),
        None => {
            let mut stage = StageDraft::new(kind);
            compiler.own_node_rules(&mut stage);
            compiler.finish(stage, None)
        }
    };
    shards.splice(..0, common);
    shards
}

/// The policies of a namespace, of all by namespace and name.
fn of_namespace<'p>(all: &'p [Arc<NetworkPolicy>], namespace: &str) -> &'p [Arc<NetworkPolicy>] {
    let first = all.partition_point(|policy| *policy.namespace < *namespace);
    let behind = all.partition_point(|policy| *policy.namespace <= *namespace);
    &all[first..behind]
}

impl Compiler<'_> {
    /// The rules of one namespace.
    fn namespace(
        &mut self,
        stage: &mut StageDraft,
        namespace: &Namespace,
        policies: &[Arc<NetworkPolicy>],
    ) {
        let direction = stage.direction();
        let policies = policies.iter().filter(|policy| policy.isolates(direction));
        let policies: Vec<_> = policies
            .map(|policy| (&**policy, self.selections.subjects(policy)))
            .collect();
        let Some(isolated) = self.isolated(namespace, &policies, direction) else {
            return;
        };
        if self.compatibility.icmp == Icmp::Always {
            self.icmp_rules(stage, &namespace.name, &isolated);
        }
        for (policy, subjects) in &policies {
            self.policy_rules(stage, policy, subjects);
        }
        let subject = self.pods(stage, &isolated);
        let draft = Draft {
            id: rule_id(&[&namespace.name, "*", name_of(direction), "isolation"]),
            priority: priority::ISOLATION,
            origin: self.implicit(format!("NetworkPolicy/{}/*#isolation", namespace.name)),
            zone: self.primary_zone(),
            ..Draft::any(subject, AddressMatch::Any, RuleVerdict::Deny)
        };
        push(stage, draft);
    }

    /// The isolated pods of a namespace, sorted; `None` where policies do not count.
    fn isolated(
        &self,
        namespace: &Namespace,
        policies: &[(&NetworkPolicy, Vec<PodIndex>)],
        direction: Direction,
    ) -> Option<Vec<PodIndex>> {
        if self.compatibility.np_profile == NetworkPolicyProfile::V1Beta1Isolation {
            // Egress came with the profile that isolates pod by pod.
            let annotation = isolation_annotation(namespace);
            let denied = direction == Direction::Ingress && matches!(annotation, Some(Ok(true)));
            let pods = || {
                self.selections
                    .pods_in(&namespace.name, &Default::default())
            };
            return denied.then(pods);
        }
        let subjects = policies.iter().flat_map(|(_, subjects)| subjects);
        let isolated: BTreeSet<PodIndex> = subjects.copied().collect();
        Some(isolated.into_iter().collect())
    }

    /// NetworkPolicy does not stand between a pod and the addresses of the node it runs on; whoever
    /// else has an opinion of it may. Of a pod that nobody isolates this says nothing new.
    fn own_node_rules(&mut self, stage: &mut StageDraft) {
        let mut by_node: BTreeMap<&str, Vec<PodIndex>> = BTreeMap::new();
        for (index, pod) in self.inventory.subjects() {
            if let Some(node) = &pod.node_name {
                by_node.entry(node).or_default().push(index);
            }
        }
        let mut origin = None;
        for (name, pods) in by_node {
            let addresses = self
                .inventory
                .node(name)
                .map_or(&[][..], |node| &node.addresses);
            let addresses = addresses
                .iter()
                .map(|&address| Address::from_ip(address))
                .collect();
            let label = || "NetworkPolicy/*/*#own-node".to_owned();
            let subject = self.pods(stage, &pods);
            let peer = intern(stage, singles(&addresses));
            let draft = Draft {
                id: rule_id(&["*", "*", name_of(stage.direction()), "own-node", name]),
                origin: *origin.get_or_insert_with(|| self.implicit(label())),
                zone: self.primary_zone(),
                ..Draft::any(subject, peer, RuleVerdict::Pass)
            };
            push(stage, draft);
        }
    }

    /// `icmp=always`: ICMP over IPv4 and ICMPv6 over IPv6, for pods that are isolated; of others
    /// this step has no opinion, and the next tier may have one.
    fn icmp_rules(&mut self, stage: &mut StageDraft, namespace: &str, pods: &[PodIndex]) {
        let addresses = self.selections.addresses(pods);
        let origin = self.implicit("NetworkPolicy/*/*#icmp".to_owned());
        for (family, number) in [(Family::V4, protocol::ICMP), (Family::V6, protocol::ICMPV6)] {
            let of_family = addresses.iter().filter(|(one, _)| *one == family);
            let id = protocol::name(number);
            let subject = intern(stage, singles(&of_family.copied().collect()));
            let draft = Draft {
                id: rule_id(&[namespace, "*", name_of(stage.direction()), "icmp", &id]),
                priority: priority::ICMP,
                protocol: ProtocolMatch::Number(number),
                zone: self.primary_zone(),
                origin,
                ..Draft::any(subject, AddressMatch::Any, RuleVerdict::Allow)
            };
            push(stage, draft);
        }
    }

    fn policy_rules(&mut self, stage: &mut StageDraft, policy: &NetworkPolicy, pods: &[PodIndex]) {
        let direction = name_of(stage.direction());
        let mut written: HashMap<String, u32> = HashMap::new();
        for (index, rule) in policy.rules(stage.direction()).iter().enumerate() {
            let origin = self.written(
                format!("NetworkPolicy/{}#{index}", policy.full_name()),
                policy.source.at(rule.position),
                format!("spec.{direction}[{index}]"),
            );
            let of_plugin;
            let rule = match self.compatibility.plugin {
                Some(Plugin::NetworkPolicy) => {
                    of_plugin = rule.for_openshift_sdn();
                    let Some(rule) = &of_plugin else {
                        continue;
                    };
                    rule
                }
                _ => rule,
            };
            let networks = Networks::PRIMARY;
            let peers = self.peer_set(policy, rule, networks.peers);
            let peer = match &peers {
                Some(set) => AddressMatch::Set(stage.rules.intern(set.clone())),
                None => AddressMatch::Any,
            };
            let peers_text = peers_text(rule);
            for (port, clause) in self.clauses(stage, rule, pods, peer, peers.as_ref(), networks) {
                let content = format!("{peers_text} {port}");
                let number = written.entry(content.clone()).or_default();
                *number += 1;
                let (namespace, name) = (&policy.namespace, &policy.name);
                let number = number.to_string();
                let draft = Draft {
                    id: rule_id(&[namespace, name, direction, "rule", &content, &number]),
                    priority: priority::POLICY,
                    zone: self.primary_zone(),
                    origin,
                    ..clause
                };
                push(stage, draft);
            }
        }
    }

    /// The compiled rules of a policy rule, each with its port entry as text. Identity, priority
    /// and origin are left to the caller.
    pub(super) fn clauses(
        &self,
        stage: &mut StageDraft,
        rule: &PolicyRule,
        pods: &[PodIndex],
        peer: AddressMatch,
        peers: Option<&AddressSet>,
        networks: Networks,
    ) -> Vec<(String, Draft)> {
        let subject = self.pods_on(stage, pods, networks.own);
        let clause = |subject, peer, protocol, ports| Draft {
            protocol,
            ports,
            ..Draft::any(subject, peer, RuleVerdict::Allow)
        };
        if rule.ports.is_empty() {
            let clause = clause(subject, peer, ProtocolMatch::Any, PortRange::ANY);
            return vec![("any".to_owned(), clause)];
        }
        let mut clauses = Vec::new();
        for entry in &rule.ports {
            let protocol = ProtocolMatch::Number(entry.protocol);
            let text = port_text(entry);
            match &entry.ports {
                PortMatch::Any => {
                    clauses.push((text, clause(subject, peer, protocol, PortRange::ANY)));
                }
                &PortMatch::Range { first, last } => {
                    let ports = PortRange { first, last };
                    clauses.push((text, clause(subject, peer, protocol, ports)));
                }
                PortMatch::Named(name) => {
                    let among = match stage.direction() {
                        Direction::Ingress => {
                            self.numbers_of(entry.protocol, name, pods, networks.own)
                        }
                        Direction::Egress => {
                            self.numbers_within(entry.protocol, name, peers, networks.peers)
                        }
                    };
                    for (number, addresses) in among {
                        let named = intern(stage, singles(&addresses));
                        let (subject, peer) = match stage.direction() {
                            Direction::Ingress => (named, peer),
                            Direction::Egress => (subject, named),
                        };
                        let ports = PortRange::single(number);
                        let text = format!("{text}={number}");
                        clauses.push((text, clause(subject, peer, protocol, ports)));
                    }
                }
            }
        }
        clauses
    }

    /// The numbers a port name has among these pods, each with the addresses of those that give it
    /// this number.
    pub(super) fn numbers_of(
        &self,
        protocol: u8,
        name: &str,
        pods: &[PodIndex],
        networks: &[u16],
    ) -> BTreeMap<u16, Addresses> {
        let mut numbers: BTreeMap<u16, Vec<PodIndex>> = BTreeMap::new();
        for &index in pods {
            for number in self.inventory.pod_at(index).port_numbers(protocol, name) {
                numbers.entry(number).or_default().push(index);
            }
        }
        let addresses = |pods: Vec<PodIndex>| self.selections.addresses_on(&pods, networks);
        let numbers = numbers.into_iter();
        numbers
            .map(|(number, pods)| (number, addresses(pods)))
            .collect()
    }

    /// The numbers a port name has within these addresses, or anywhere, each with the addresses of
    /// the pods that give it this number.
    pub(super) fn numbers_within(
        &self,
        protocol: u8,
        name: &str,
        within: Option<&AddressSet>,
        networks: &[u16],
    ) -> BTreeMap<u16, Addresses> {
        let named = self.selections.named_addresses(protocol, name, networks);
        let mut numbers: BTreeMap<u16, Vec<(Family, Address)>> = BTreeMap::new();
        let mut note = |named: &[(Family, Address, u16)]| {
            for &(family, address, number) in named {
                numbers.entry(number).or_default().push((family, address));
            }
        };
        match within {
            None => note(&named),
            Some(within) => {
                for (family, first, last) in within.iter() {
                    let begin = named.partition_point(|one| (one.0, one.1) < (family, first));
                    let end = named.partition_point(|one| (one.0, one.1) <= (family, last));
                    note(&named[begin..end]);
                }
            }
        }
        let numbers = numbers.into_iter();
        numbers
            .map(|(number, addresses)| (number, addresses.into()))
            .collect()
    }

    /// As [`Compiler::peer_ranges`], as a set: that of a selector alone is shared by all rules that
    /// have it.
    pub(super) fn peer_set(
        &self,
        policy: &NetworkPolicy,
        rule: &PolicyRule,
        networks: &[u16],
    ) -> Option<AddressSet> {
        if let [
            Peer {
                kind: PeerKind::Pods { namespaces, pods },
                ..
            },
        ] = &rule.peers[..]
        {
            let (namespaces, pods) = (namespaces.as_ref(), pods.as_ref());
            let own = &policy.namespace;
            return Some(self.selections.peer_set(own, namespaces, pods, networks));
        }
        let ranges = self.peer_ranges(policy, rule, networks)?;
        Some(AddressSet::from_ranges(ranges))
    }

    /// All addresses a rule's peers mean; `None` for a rule without peers, which means anyone.
    pub(super) fn peer_ranges(
        &self,
        policy: &NetworkPolicy,
        rule: &PolicyRule,
        networks: &[u16],
    ) -> Option<Ranges> {
        if rule.peers.is_empty() {
            return None;
        }
        let mut ranges = Ranges::new();
        for peer in &rule.peers {
            match &peer.kind {
                PeerKind::Pods { namespaces, pods } => {
                    let (namespaces, pods) = (namespaces.as_ref(), pods.as_ref());
                    let own = &policy.namespace;
                    let addresses = self.selections.peer_on(own, namespaces, pods, networks);
                    ranges.extend(singles(&addresses));
                }
                PeerKind::IpBlock { cidr, except } => ranges.extend(block(*cidr, except)),
            }
        }
        Some(ranges)
    }
}

/// The peers as text; the same for the same peers in any order.
pub(super) fn peers_text(rule: &PolicyRule) -> String {
    let mut texts: Vec<_> = rule.peers.iter().map(peer_text).collect();
    texts.sort();
    texts.dedup();
    format!("[{}]", texts.join("; "))
}

fn peer_text(peer: &Peer) -> String {
    match &peer.kind {
        PeerKind::Pods { namespaces, pods } => {
            let text = |selector: &Option<LabelSelector>, none: &str| match selector {
                Some(selector) => format!("({selector})"),
                None => none.to_owned(),
            };
            let (namespaces, pods) = (text(namespaces, "own"), text(pods, "all"));
            format!("namespaces {namespaces} pods {pods}")
        }
        PeerKind::IpBlock { cidr, except } => {
            let mut except: Vec<_> = except.iter().map(ToString::to_string).collect();
            except.sort();
            format!("block {cidr} except {}", except.join(","))
        }
    }
}

fn port_text(port: &PolicyPort) -> String {
    let protocol = protocol::name(port.protocol);
    match &port.ports {
        PortMatch::Any => format!("{protocol}"),
        PortMatch::Range { first, last } => format!("{protocol}/{first}-{last}"),
        PortMatch::Named(name) => format!("{protocol}/{name}"),
    }
}

fn rule_id(parts: &[&str]) -> RuleId {
    super::rule_id("NetworkPolicy", parts)
}
