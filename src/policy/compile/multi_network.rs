//! MultiNetworkPolicies to rules: for each network as if it were the only one.
//!
//! ```text
//! priority 0      own node        isolated interfaces of a node's pods × its addresses  no opinion
//!          1      icmp            only with icmp=always                                 allow
//!          2      policy rules    one per rule, port entry and network                  allow
//!          last   isolation       the isolated interfaces on a network                  deny
//! ```
//!
//! Under `mnp_compat=iptables` the order of rules counts, since an `except` drops there and then:
//! each rule has two numbers of its own, one for what it drops and one for what it allows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::network_policy::peers_text;
use super::{Compiler, Draft, Networks, Ranges, StageDraft, block, intern, name_of, push, singles};
use crate::classifier::{AddressMatch, AddressSet, ProtocolMatch, RuleId, RuleVerdict};
use crate::policy::LabelSelector;
use crate::policy::compatibility::{Icmp, MultiNetworkDialect};
use crate::policy::inventory::PodIndex;
use crate::policy::multi_network::{
    MultiNetworkPolicy, acts_on, iptables_reads, iptables_reads_peer, service_number,
};
use crate::policy::network_policy::{PeerKind, PolicyPort, PolicyRule, PortMatch};
use crate::wire::{Address, Family, protocol};

/// Order of rules within a stage.
mod priority {
    pub const OWN_NODE: u32 = 0;
    pub const ICMP: u32 = 1;
    pub const POLICY: u32 = 2;
    pub const ISOLATION: u32 = u32::MAX;
}

/// A policy in force in a direction.
struct Active<'c> {
    object: &'c MultiNetworkPolicy,
    /// Numbers of its networks.
    networks: Vec<u16>,
    /// The pods it selects that have an interface on one of them.
    pods: Vec<PodIndex>,
}

/// Compiles the rules of one direction.
pub fn compile(compiler: &mut Compiler, stage: &mut StageDraft) {
    let active = compiler.active(stage);
    let isolated = compiler.isolated_interfaces(&active);
    compiler.multi_own_node(stage, &isolated);
    if compiler.compatibility.icmp == Icmp::Always {
        compiler.multi_icmp(stage, &isolated);
    }
    let mut priority = priority::POLICY;
    for policy in &active {
        compiler.multi_policy(stage, policy, &mut priority);
    }
    compiler.multi_isolation(stage, &isolated);
}

impl<'c> Compiler<'c> {
    fn active(&self, stage: &StageDraft) -> Vec<Active<'c>> {
        let dialect = self.compatibility.mnp_compat;
        let mut active = Vec::new();
        for object in &self.policies.multi_network_policies {
            let selector = &object.policy.pod_selector;
            let unread = dialect == MultiNetworkDialect::Iptables && !iptables_reads(selector);
            if unread || !object.isolates(stage.direction(), dialect) {
                continue;
            }
            let networks = object.network_numbers(self.inventory, dialect);
            let mut pods = self.selections.subjects(&object.policy);
            pods.retain(|index| !self.inventory.pod_at(*index).pending);
            pods.retain(|index| networks.iter().any(|number| self.is_on(*index, *number)));
            active.push(Active {
                object,
                networks,
                pods,
            });
        }
        active
    }

    /// Has the pod an interface on the network?
    fn is_on(&self, pod: PodIndex, number: u16) -> bool {
        let attachments = &self.inventory.pod_at(pod).attachments;
        let mut numbers = attachments
            .iter()
            .map(|attachment| self.inventory.network_number(&attachment.network));
        numbers.any(|found| found == Some(number))
    }

    /// The pods that are isolated, by network.
    fn isolated_interfaces(&self, active: &[Active]) -> BTreeMap<u16, BTreeSet<PodIndex>> {
        let mut isolated: BTreeMap<u16, BTreeSet<PodIndex>> = BTreeMap::new();
        for policy in active {
            let networks: Vec<u16> = match self.compatibility.mnp_compat {
                // The drop that ends a pod's chain does not ask for the interface.
                MultiNetworkDialect::Iptables => self
                    .inventory
                    .networks()
                    .filter(|(_, network)| acts_on(network, MultiNetworkDialect::Iptables))
                    .map(|(number, _)| number)
                    .collect(),
                _ => policy.networks.clone(),
            };
            for number in networks {
                let on = policy.pods.iter().filter(|pod| self.is_on(**pod, number));
                isolated.entry(number).or_default().extend(on);
            }
        }
        isolated.retain(|_, pods| !pods.is_empty());
        isolated
    }

    fn multi_own_node(
        &mut self,
        stage: &mut StageDraft,
        isolated: &BTreeMap<u16, BTreeSet<PodIndex>>,
    ) {
        let mut origin = None;
        for (&number, pods) in isolated {
            let mut by_node: BTreeMap<&str, Vec<PodIndex>> = BTreeMap::new();
            for &index in pods {
                if let Some(node) = &self.inventory.pod_at(index).node_name {
                    by_node.entry(node).or_default().push(index);
                }
            }
            for (name, pods) in by_node {
                let node = self.inventory.node(name);
                let addresses = node.map_or(&[][..], |node| &node.addresses);
                let addresses = addresses.iter().map(|one| Address::from_ip(*one)).collect();
                let subject = self.pods_on(stage, &pods, &[number]);
                let peer = intern(stage, singles(&addresses));
                let label = || "MultiNetworkPolicy/*/*#own-node".to_owned();
                let parts = ["own-node", name, &self.network_text(number)];
                let draft = Draft {
                    id: rule_id(stage, &parts),
                    priority: priority::OWN_NODE,
                    zone: Some(number),
                    origin: *origin.get_or_insert_with(|| self.implicit(label())),
                    ..Draft::any(subject, peer, RuleVerdict::Pass)
                };
                push(stage, draft);
            }
        }
    }

    fn multi_icmp(&mut self, stage: &mut StageDraft, isolated: &BTreeMap<u16, BTreeSet<PodIndex>>) {
        let mut origin = None;
        for (&number, pods) in isolated {
            let pods: Vec<_> = pods.iter().copied().collect();
            let addresses = self.selections.addresses_on(&pods, &[number]);
            let families = [(Family::V4, protocol::ICMP), (Family::V6, protocol::ICMPV6)];
            for (family, icmp) in families {
                let of_family = addresses.iter().filter(|(one, _)| *one == family);
                let subject = intern(stage, singles(&of_family.copied().collect()));
                let label = || "MultiNetworkPolicy/*/*#icmp".to_owned();
                let parts = ["icmp", &protocol::name(icmp), &self.network_text(number)];
                let draft = Draft {
                    id: rule_id(stage, &parts),
                    priority: priority::ICMP,
                    zone: Some(number),
                    protocol: ProtocolMatch::Number(icmp),
                    origin: *origin.get_or_insert_with(|| self.implicit(label())),
                    ..Draft::any(subject, AddressMatch::Any, RuleVerdict::Allow)
                };
                push(stage, draft);
            }
        }
    }

    fn multi_isolation(
        &mut self,
        stage: &mut StageDraft,
        isolated: &BTreeMap<u16, BTreeSet<PodIndex>>,
    ) {
        for (&number, pods) in isolated {
            let mut by_namespace: BTreeMap<&str, Vec<PodIndex>> = BTreeMap::new();
            for &index in pods {
                let namespace = &self.inventory.pod_at(index).namespace;
                by_namespace.entry(namespace).or_default().push(index);
            }
            for (namespace, pods) in by_namespace {
                let subject = self.pods_on(stage, &pods, &[number]);
                let parts = ["isolation", namespace, &self.network_text(number)];
                let label = format!("MultiNetworkPolicy/{namespace}/*#isolation");
                let draft = Draft {
                    id: rule_id(stage, &parts),
                    priority: priority::ISOLATION,
                    zone: Some(number),
                    origin: self.implicit(label),
                    ..Draft::any(subject, AddressMatch::Any, RuleVerdict::Deny)
                };
                push(stage, draft);
            }
        }
    }

    fn multi_policy(&mut self, stage: &mut StageDraft, active: &Active, priority: &mut u32) {
        let policy = &active.object.policy;
        let direction = name_of(stage.direction());
        let iptables = self.compatibility.mnp_compat == MultiNetworkDialect::Iptables;
        let mut written: HashMap<String, u32> = HashMap::new();
        for (index, rule) in policy.rules(stage.direction()).iter().enumerate() {
            let origin = self.written(
                format!("MultiNetworkPolicy/{}#{index}", policy.full_name()),
                policy.source.at(rule.position),
                format!("spec.{direction}[{index}]"),
            );
            let peers = match iptables {
                true => {
                    let ranges = self.iptables_peers(rule, &active.networks);
                    ranges.map(AddressSet::from_ranges)
                }
                false => self.peer_set(policy, rule, &active.networks),
            };
            let read = match iptables {
                true => iptables_rule(rule),
                false => Some(rule.clone()),
            };
            let peers_text = peers_text(rule);
            for &number in &active.networks {
                let on = |index: &PodIndex| self.is_on(*index, number);
                let pods: Vec<_> = active.pods.iter().copied().filter(on).collect();
                let networks = Networks {
                    own: &[number],
                    peers: &active.networks,
                };
                let mut clauses = Vec::new();
                if iptables {
                    clauses.extend(self.drops(stage, rule, &pods, number));
                }
                let peer = match &peers {
                    Some(set) => AddressMatch::Set(stage.rules.intern(set.clone())),
                    None => AddressMatch::Any,
                };
                if let Some(read) = &read {
                    let peers = peers.as_ref();
                    clauses.extend(self.clauses(stage, read, &pods, peer, peers, networks));
                }
                for (port, clause) in clauses {
                    let content = format!("{peers_text} {port}{}", self.network_text(number));
                    let times = written.entry(content.clone()).or_default();
                    *times += 1;
                    let parts = [
                        &policy.namespace,
                        &policy.name,
                        &content,
                        &times.to_string(),
                    ];
                    let behind_drops = u32::from(clause.verdict == RuleVerdict::Allow);
                    let draft = Draft {
                        id: rule_id(stage, &parts.map(String::as_str)),
                        priority: *priority + behind_drops,
                        zone: Some(number),
                        origin,
                        ..clause
                    };
                    push(stage, draft);
                }
            }
            // Without drops there is no order between rules.
            *priority += if iptables { 2 } else { 0 };
        }
    }

    /// What a rule's exceptions drop, whatever its ports.
    fn drops(
        &self,
        stage: &mut StageDraft,
        rule: &PolicyRule,
        pods: &[PodIndex],
        number: u16,
    ) -> Option<(String, Draft)> {
        let mut ranges = Ranges::new();
        for peer in &rule.peers {
            if let PeerKind::IpBlock { except, .. } = &peer.kind {
                ranges.extend(except.iter().flat_map(|except| block(*except, &[])));
            }
        }
        if ranges.is_empty() {
            return None;
        }
        let subject = self.pods_on(stage, pods, &[number]);
        let peer = intern(stage, ranges);
        let draft = Draft::any(subject, peer, RuleVerdict::Deny);
        Some(("except".to_owned(), draft))
    }

    /// As [`Compiler::peer_ranges`]: without a namespace selector pods of all namespaces, an
    /// exception still part of its block, and nobody where a selector cannot be read.
    fn iptables_peers(&self, rule: &PolicyRule, networks: &[u16]) -> Option<Ranges> {
        if rule.peers.is_empty() {
            return None;
        }
        let everywhere = LabelSelector::default();
        let mut ranges = Ranges::new();
        for peer in rule.peers.iter().filter(|peer| iptables_reads_peer(peer)) {
            match &peer.kind {
                PeerKind::Pods { namespaces, pods } => {
                    let namespaces = namespaces.as_ref().unwrap_or(&everywhere);
                    let pods = pods.as_ref();
                    let selections = self.selections;
                    let addresses = selections.peer_on("", Some(namespaces), pods, networks);
                    ranges.extend(singles(&addresses));
                }
                PeerKind::IpBlock { cidr, .. } => ranges.extend(block(*cidr, &[])),
            }
        }
        Some(ranges)
    }
}

/// A rule with its port names as numbers; `None` when no name of its ports stands for one.
fn iptables_rule(rule: &PolicyRule) -> Option<PolicyRule> {
    let ports: Vec<_> = rule.ports.iter().filter_map(numbered).collect();
    let none = ports.is_empty() && !rule.ports.is_empty();
    (!none).then(|| PolicyRule {
        ports,
        ..rule.clone()
    })
}

fn numbered(port: &PolicyPort) -> Option<PolicyPort> {
    let PortMatch::Named(name) = &port.ports else {
        return Some(port.clone());
    };
    let number = service_number(name)?;
    Some(PolicyPort {
        ports: PortMatch::Range {
            first: number,
            last: number,
        },
        ..port.clone()
    })
}

fn rule_id(stage: &StageDraft, parts: &[&str]) -> RuleId {
    let mut all = vec![name_of(stage.direction())];
    all.extend(parts);
    super::rule_id("MultiNetworkPolicy", &all)
}
