//! NetworkPolicies to rules: two stages, each one rule set for the whole inventory.
//!
//! ```text
//! priority 0  own node        isolated pods of a node × its addresses     allow
//!          1  icmp            only with icmp=always                       allow
//!          2  policy rules    one per rule and port entry                 allow
//!          3  isolation       the isolated pods of a namespace            deny
//!          –  no rule         nobody isolates the pod                     no opinion
//! ```
//!
//! A policy rule becomes one rule per port entry: its peers one set of addresses, the pods the
//! policy selects another, never a product of peers, ports and pods. A named port becomes one rule
//! per number the name has.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Compiler, Draft, Networks, Ranges, block, intern, name_of, push, singles};
use crate::classifier::{AddressMatch, AddressSet, PortRange, ProtocolMatch, RuleId, RuleVerdict};
use crate::policy::compatibility::{Icmp, NetworkPolicyProfile, Plugin};
use crate::policy::inventory::{Namespace, PodIndex};
use crate::policy::network_policy::{Peer, PeerKind, PolicyPort, PolicyRule, PortMatch};
use crate::policy::selection::Addresses;
use crate::policy::stage::StageRules;
use crate::policy::{Direction, LabelSelector, NetworkPolicy};
use crate::wire::{Address, Family, protocol};

/// Order of rules within a stage.
mod priority {
    pub const OWN_NODE: u32 = 0;
    pub const ICMP: u32 = 1;
    pub const POLICY: u32 = 2;
    pub const ISOLATION: u32 = 3;
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

/// Compiles the rules of one direction. They do not know the exemptions of
/// [`crate::policy::PolicyKey::exemption`].
pub fn compile(compiler: &mut Compiler, stage: &mut StageRules) {
    let direction = stage.direction();
    let policies = compiler.policies.network_policies.iter();
    let policies: Vec<_> = policies
        .filter(|policy| policy.isolates(direction))
        .map(|policy| (policy, compiler.selections.subjects(policy)))
        .collect();
    let isolated = compiler.isolated(&policies, direction);
    compiler.network_policies(stage, &policies, isolated);
}

/// A policy with the pods it selects.
type Subjects<'c> = (&'c NetworkPolicy, Vec<PodIndex>);

impl<'c> Compiler<'c> {
    fn network_policies(
        &mut self,
        stage: &mut StageRules,
        policies: &[Subjects],
        isolated: BTreeMap<&'c str, BTreeSet<PodIndex>>,
    ) {
        self.own_node_rules(stage, isolated.values().flatten());
        if self.compatibility.icmp == Icmp::Always {
            let pods: Vec<_> = isolated.values().flatten().copied().collect();
            self.icmp_rules(stage, &pods);
        }
        for (policy, subjects) in policies {
            if isolated.contains_key(&*policy.namespace) {
                self.policy_rules(stage, policy, subjects);
            }
        }
        for (namespace, pods) in &isolated {
            let pods: Vec<_> = pods.iter().copied().collect();
            let subject = self.pods(stage, &pods);
            let draft = Draft {
                id: rule_id(&[namespace, "*", name_of(stage.direction()), "isolation"]),
                priority: priority::ISOLATION,
                origin: self.implicit(format!("NetworkPolicy/{namespace}/*#isolation")),
                zone: self.primary_zone(),
                ..Draft::any(subject, AddressMatch::Any, RuleVerdict::Deny)
            };
            push(stage, draft);
        }
    }

    /// The isolated pods by namespace.
    fn isolated(
        &self,
        policies: &[Subjects<'c>],
        direction: Direction,
    ) -> BTreeMap<&'c str, BTreeSet<PodIndex>> {
        let mut isolated: BTreeMap<&str, BTreeSet<PodIndex>> = BTreeMap::new();
        if let Some(Plugin::MultiTenant | Plugin::Subnet) = self.compatibility.plugin {
            return isolated;
        }
        if self.compatibility.np_profile == NetworkPolicyProfile::V1Beta1Isolation {
            // Egress came with the profile that isolates pod by pod.
            let denied = |namespace: &&Namespace| {
                let annotation = isolation_annotation(namespace);
                direction == Direction::Ingress && matches!(annotation, Some(Ok(true)))
            };
            for namespace in self.inventory.namespaces().filter(denied) {
                let pods = self
                    .selections
                    .pods_in(&namespace.name, &Default::default());
                isolated.insert(&namespace.name, pods.into_iter().collect());
            }
            return isolated;
        }
        for (policy, subjects) in policies {
            let of_namespace = isolated.entry(&policy.namespace).or_default();
            of_namespace.extend(subjects);
        }
        isolated
    }

    /// NetworkPolicy does not stand between a pod and the addresses of the node it runs on; whoever
    /// else has an opinion of it may.
    fn own_node_rules<'p>(
        &mut self,
        stage: &mut StageRules,
        isolated: impl Iterator<Item = &'p PodIndex>,
    ) {
        let mut by_node: BTreeMap<&str, Vec<PodIndex>> = BTreeMap::new();
        for &index in isolated {
            if let Some(node) = &self.inventory.pod_at(index).node_name {
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
                priority: priority::OWN_NODE,
                origin: *origin.get_or_insert_with(|| self.implicit(label())),
                zone: self.primary_zone(),
                ..Draft::any(subject, peer, RuleVerdict::Pass)
            };
            push(stage, draft);
        }
    }

    /// `icmp=always`: ICMP over IPv4 and ICMPv6 over IPv6, for pods that are isolated; of others
    /// this step has no opinion, and the next tier may have one.
    fn icmp_rules(&mut self, stage: &mut StageRules, pods: &[PodIndex]) {
        if pods.is_empty() {
            return;
        }
        let addresses = self.selections.addresses(pods);
        let origin = self.implicit("NetworkPolicy/*/*#icmp".to_owned());
        for (family, number) in [(Family::V4, protocol::ICMP), (Family::V6, protocol::ICMPV6)] {
            let of_family = addresses.iter().filter(|(one, _)| *one == family);
            let id = protocol::name(number);
            let subject = intern(stage, singles(&of_family.copied().collect()));
            let draft = Draft {
                id: rule_id(&["*", "*", name_of(stage.direction()), "icmp", &id]),
                priority: priority::ICMP,
                protocol: ProtocolMatch::Number(number),
                zone: self.primary_zone(),
                origin,
                ..Draft::any(subject, AddressMatch::Any, RuleVerdict::Allow)
            };
            push(stage, draft);
        }
    }

    fn policy_rules(&mut self, stage: &mut StageRules, policy: &NetworkPolicy, pods: &[PodIndex]) {
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
            let peers = self.peer_ranges(policy, rule, networks.peers);
            let peer = match &peers {
                Some(ranges) => intern(stage, ranges.clone()),
                None => AddressMatch::Any,
            };
            let peers_text = peers_text(rule);
            for (port, clause) in self.clauses(stage, rule, pods, peer, peers.as_deref(), networks)
            {
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
        stage: &mut StageRules,
        rule: &PolicyRule,
        pods: &[PodIndex],
        peer: AddressMatch,
        peers: Option<&[(Family, Address, Address)]>,
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
                            self.numbers(entry.protocol, name, Some(pods), None, networks.own)
                        }
                        Direction::Egress => {
                            self.numbers(entry.protocol, name, None, peers, networks.peers)
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

    /// The numbers a port name has, each with the addresses of the pods that give it this number,
    /// among these pods (or all), and within these addresses (or anywhere).
    pub(super) fn numbers(
        &self,
        protocol: u8,
        name: &str,
        pods: Option<&[PodIndex]>,
        within: Option<&[(Family, Address, Address)]>,
        networks: &[u16],
    ) -> BTreeMap<u16, Addresses> {
        let within = within.map(|ranges| AddressSet::from_ranges(ranges.iter().copied()));
        let mut numbers: BTreeMap<u16, Vec<PodIndex>> = BTreeMap::new();
        for &(number, index) in self.selections.named_ports(protocol, name) {
            // Subjects are sorted by index.
            if pods.is_none_or(|pods| pods.binary_search(&index).is_ok()) {
                numbers.entry(number).or_default().push(index);
            }
        }
        let addresses = |pods: Vec<PodIndex>| -> Addresses {
            let all = self.selections.addresses_on(&pods, networks);
            let inside = |(family, address): &&(Family, Address)| {
                within
                    .as_ref()
                    .is_none_or(|within| within.contains(*family, *address))
            };
            all.iter().filter(inside).copied().collect()
        };
        numbers
            .into_iter()
            .map(|(number, pods)| (number, addresses(pods)))
            .collect()
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
