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

use super::compatibility::{Icmp, NetworkPolicyProfile, Plugin};
use super::inventory::{Inventory, Namespace, PodIndex};
use super::network_policy::{Peer, PeerKind, PolicyPort, PolicyRule, PortMatch};
use super::selection::{Addresses, Selections};
use super::{Compatibility, Direction, NetworkPolicy, Origin, StageRules};
use crate::classifier::{
    AddressMatch, AddressSet, OriginId, PortRange, ProtocolMatch, Rule, RuleId, RuleSet,
    RuleVerdict,
};
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

/// Inclusive ranges, as [`AddressSet::from_ranges`] takes them.
type Ranges = Vec<(Family, Address, Address)>;

/// Compiles the policies in force.
///
/// Stages: egress of the source, then ingress of the destination. Neither knows the exemptions of
/// [`super::is_exempt`].
pub fn compile<'c>(
    inventory: &'c Inventory,
    selections: &'c Selections<'c>,
    policies: &'c [NetworkPolicy],
    compatibility: &'c Compatibility,
) -> (Vec<StageRules>, Vec<Origin>) {
    let mut compiler = Compiler {
        inventory,
        selections,
        compatibility,
        policies: policies
            .iter()
            .map(|policy| (policy, selections.subjects(policy)))
            .collect(),
        origins: Vec::new(),
    };
    let stages = [Direction::Egress, Direction::Ingress].map(|direction| compiler.stage(direction));
    (stages.into(), compiler.origins)
}

/// What the isolation annotation of a namespace says: `None` without one; an error when it is no
/// JSON, which counts as absent.
pub fn isolation_annotation(namespace: &Namespace) -> Option<Result<bool, serde_json::Error>> {
    let text = namespace.annotations.get(ISOLATION_ANNOTATION)?;
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(text);
    Some(parsed.map(|annotation| annotation["ingress"]["isolation"] == "DefaultDeny"))
}

struct Compiler<'c> {
    inventory: &'c Inventory,
    selections: &'c Selections<'c>,
    compatibility: &'c Compatibility,
    /// With the pods each selects.
    policies: Vec<(&'c NetworkPolicy, Vec<PodIndex>)>,
    origins: Vec<Origin>,
}

/// The parts in which compiled rules differ.
struct Draft {
    id: RuleId,
    priority: u32,
    /// The end of the connection the stage protects.
    subject: AddressMatch,
    /// The other end.
    peer: AddressMatch,
    protocol: ProtocolMatch,
    ports: PortRange,
    verdict: RuleVerdict,
    origin: OriginId,
}

impl<'c> Compiler<'c> {
    fn stage(&mut self, direction: Direction) -> StageRules {
        let mut stage = StageRules {
            family: "NP",
            direction,
            rules: RuleSet::new(),
        };
        let isolated = self.isolated(direction);
        self.own_node_rules(&mut stage, isolated.values().flatten());
        if !isolated.is_empty() && self.compatibility.icmp == Icmp::Always {
            self.icmp_rules(&mut stage);
        }
        let policies = std::mem::take(&mut self.policies);
        for (policy, subjects) in &policies {
            if policy.isolates(direction) && isolated.contains_key(&*policy.namespace) {
                self.policy_rules(&mut stage, policy, subjects);
            }
        }
        self.policies = policies;
        for (namespace, pods) in &isolated {
            let pods: Vec<_> = pods.iter().copied().collect();
            let draft = Draft {
                id: rule_id(&[namespace, "*", name_of(direction), "isolation"]),
                priority: priority::ISOLATION,
                subject: self.pods(&mut stage, &pods),
                peer: AddressMatch::Any,
                protocol: ProtocolMatch::Any,
                ports: PortRange::ANY,
                verdict: RuleVerdict::Deny,
                origin: self.implicit(format!("NetworkPolicy/{namespace}/*#isolation")),
            };
            push(&mut stage, draft);
        }
        stage
    }

    /// The isolated pods by namespace.
    fn isolated(&self, direction: Direction) -> BTreeMap<&'c str, BTreeSet<PodIndex>> {
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
        for (policy, subjects) in &self.policies {
            if policy.isolates(direction) {
                isolated
                    .entry(&policy.namespace)
                    .or_default()
                    .extend(subjects);
            }
        }
        isolated
    }

    /// Isolated pods and the addresses of the node they run on always reach each other.
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
            let draft = Draft {
                id: rule_id(&["*", "*", name_of(stage.direction), "own-node", name]),
                priority: priority::OWN_NODE,
                subject: self.pods(stage, &pods),
                peer: intern(stage, singles(&addresses)),
                protocol: ProtocolMatch::Any,
                ports: PortRange::ANY,
                verdict: RuleVerdict::Allow,
                origin: *origin.get_or_insert_with(|| self.implicit(label())),
            };
            push(stage, draft);
        }
    }

    /// `icmp=always`: ICMP over IPv4 and ICMPv6 over IPv6, whoever is isolated.
    fn icmp_rules(&mut self, stage: &mut StageRules) {
        let origin = self.implicit("NetworkPolicy/*/*#icmp".to_owned());
        for (family, number) in [(Family::V4, protocol::ICMP), (Family::V6, protocol::ICMPV6)] {
            let everyone = vec![(family, Address::ZERO, family.last_address())];
            let id = protocol::name(number);
            let draft = Draft {
                id: rule_id(&["*", "*", name_of(stage.direction), "icmp", &id]),
                priority: priority::ICMP,
                subject: intern(stage, everyone),
                peer: AddressMatch::Any,
                protocol: ProtocolMatch::Number(number),
                ports: PortRange::ANY,
                verdict: RuleVerdict::Allow,
                origin,
            };
            push(stage, draft);
        }
    }

    fn policy_rules(&mut self, stage: &mut StageRules, policy: &NetworkPolicy, pods: &[PodIndex]) {
        let direction = name_of(stage.direction);
        let mut written: HashMap<String, u32> = HashMap::new();
        for (index, rule) in policy.rules(stage.direction).iter().enumerate() {
            let origin = OriginId(self.origins.len() as u32);
            self.origins.push(Origin {
                label: format!("NetworkPolicy/{}#{index}", policy.full_name()),
                place: Some(policy.source.at(rule.position)),
                path: format!("spec.{direction}[{index}]"),
            });
            let peers = self.peer_ranges(policy, rule);
            let peer = match &peers {
                Some(ranges) => intern(stage, ranges.clone()),
                None => AddressMatch::Any,
            };
            let peers_text = peers_text(rule);
            for (port, clause) in self.clauses(stage, rule, pods, peer, peers.as_deref()) {
                let content = format!("{peers_text} {port}");
                let number = written.entry(content.clone()).or_default();
                *number += 1;
                let (namespace, name) = (&policy.namespace, &policy.name);
                let number = number.to_string();
                let draft = Draft {
                    id: rule_id(&[namespace, name, direction, "rule", &content, &number]),
                    priority: priority::POLICY,
                    origin,
                    ..clause
                };
                push(stage, draft);
            }
        }
    }

    /// The compiled rules of a policy rule, each with its port entry as text. Identity, priority
    /// and origin are left to the caller.
    fn clauses(
        &self,
        stage: &mut StageRules,
        rule: &PolicyRule,
        pods: &[PodIndex],
        peer: AddressMatch,
        peers: Option<&[(Family, Address, Address)]>,
    ) -> Vec<(String, Draft)> {
        let subject = self.pods(stage, pods);
        let clause = |subject, peer, protocol, ports| Draft {
            id: RuleId(0),
            priority: priority::POLICY,
            subject,
            peer,
            protocol,
            ports,
            verdict: RuleVerdict::Allow,
            origin: OriginId(0),
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
                    let among = match stage.direction {
                        Direction::Ingress => self.numbers(entry.protocol, name, Some(pods), None),
                        Direction::Egress => self.numbers(entry.protocol, name, None, peers),
                    };
                    for (number, addresses) in among {
                        let named = intern(stage, singles(&addresses));
                        let (subject, peer) = match stage.direction {
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
    fn numbers(
        &self,
        protocol: u8,
        name: &str,
        pods: Option<&[PodIndex]>,
        within: Option<&[(Family, Address, Address)]>,
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
            let all = self.selections.addresses(&pods);
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
    fn peer_ranges(&self, policy: &NetworkPolicy, rule: &PolicyRule) -> Option<Ranges> {
        if rule.peers.is_empty() {
            return None;
        }
        let mut ranges = Ranges::new();
        for peer in &rule.peers {
            match &peer.kind {
                PeerKind::Pods { namespaces, pods } => {
                    let (namespaces, pods) = (namespaces.as_ref(), pods.as_ref());
                    let addresses = self.selections.peer(&policy.namespace, namespaces, pods);
                    ranges.extend(singles(&addresses));
                }
                PeerKind::IpBlock { cidr, except } => ranges.extend(block(*cidr, except)),
            }
        }
        Some(ranges)
    }

    fn pods(&self, stage: &mut StageRules, pods: &[PodIndex]) -> AddressMatch {
        intern(stage, singles(&self.selections.addresses(pods)))
    }

    /// Origin of a rule no file holds.
    fn implicit(&mut self, label: String) -> OriginId {
        self.origins.push(Origin {
            label,
            place: None,
            path: String::new(),
        });
        OriginId(self.origins.len() as u32 - 1)
    }
}

/// Adds a rule, unless one of its ends is nobody.
fn push(stage: &mut StageRules, draft: Draft) {
    let nobody = |end: AddressMatch| match end {
        AddressMatch::Any => false,
        AddressMatch::Set(id) => stage.rules.address_set(id).is_empty(),
    };
    if nobody(draft.subject) || nobody(draft.peer) {
        return;
    }
    let (source, destination) = match stage.direction {
        Direction::Ingress => (draft.peer, draft.subject),
        Direction::Egress => (draft.subject, draft.peer),
    };
    stage.rules.push(Rule {
        id: draft.id,
        priority: draft.priority,
        source,
        destination,
        protocol: draft.protocol,
        source_ports: PortRange::ANY,
        destination_ports: draft.ports,
        zone: None,
        verdict: draft.verdict,
        origin: draft.origin,
    });
}

fn intern(stage: &mut StageRules, ranges: Ranges) -> AddressMatch {
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

/// The peers as text; the same for the same peers in any order.
fn peers_text(rule: &PolicyRule) -> String {
    let mut texts: Vec<_> = rule.peers.iter().map(peer_text).collect();
    texts.sort();
    texts.dedup();
    format!("[{}]", texts.join("; "))
}

fn peer_text(peer: &Peer) -> String {
    match &peer.kind {
        PeerKind::Pods { namespaces, pods } => {
            let text = |selector: &Option<super::LabelSelector>, none: &str| match selector {
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

fn name_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// The first eight bytes of a hash over the parts; no part can run into the next.
fn rule_id(parts: &[&str]) -> RuleId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"NetworkPolicy");
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    RuleId(u64::from_le_bytes(first))
}
