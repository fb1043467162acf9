//! NetworkPolicies that do nothing, or not what their writer will have meant.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::policy::compatibility::{NetworkPolicyProfile, Plugin};
use crate::policy::compile::{ISOLATION_ANNOTATION, isolation_annotation};
use crate::policy::document::Position;
use crate::policy::finding::id;
use crate::policy::inventory::{Inventory, Pod, PodIndex, Source};
use crate::policy::network_policy::{Peer, PeerKind, PolicyPort, PolicyRule, PortMatch};
use crate::policy::selection::Selections;
use crate::policy::{Compatibility, Direction, Finding, NetworkPolicy, Severity};
use crate::wire::protocol;

/// Warnings about policies that load.
pub fn lint(
    inventory: &Inventory,
    selections: &Selections,
    policies: &[Arc<NetworkPolicy>],
    compatibility: &Compatibility,
    findings: &mut Vec<Finding>,
) {
    let mut linter = Linter {
        inventory,
        selections,
        compatibility,
        findings,
    };
    linter.namespaces();
    if let Some(Plugin::MultiTenant | Plugin::Subnet) = compatibility.plugin {
        for policy in policies {
            let message = "no effect: plugin is not networkpolicy".to_owned();
            linter.warn(
                id::INERT_POLICY,
                &policy.source,
                object(policy),
                "",
                message,
            );
        }
        return;
    }
    let subjects: Vec<_> = policies
        .iter()
        .map(|policy| selections.subjects(policy))
        .collect();
    for (policy, subjects) in policies.iter().zip(&subjects) {
        linter.subjects(policy, subjects);
        linter.profile(policy);
        for direction in [Direction::Ingress, Direction::Egress] {
            if policy.isolates(direction) && !subjects.is_empty() {
                linter.rules(policy, subjects, direction);
            }
        }
    }
    linter.addresses(&subjects);
    linter.name_service(policies, &subjects);
}

struct Linter<'l> {
    inventory: &'l Inventory,
    selections: &'l Selections<'l>,
    compatibility: &'l Compatibility,
    findings: &'l mut Vec<Finding>,
}

impl Linter<'_> {
    fn namespaces(&mut self) {
        let inventory = self.inventory;
        for namespace in inventory.namespaces() {
            let Some(source) = &namespace.source else {
                continue;
            };
            let object = || format!("Namespace/{}", namespace.name);
            let legacy = self.compatibility.np_profile == NetworkPolicyProfile::V1Beta1Isolation;
            let path = format!("metadata.annotations[{ISOLATION_ANNOTATION}]");
            match isolation_annotation(namespace) {
                Some(Ok(true)) if !legacy => {
                    let message = "no effect: this annotation isolates a namespace only under \
                                   np_profile=v1beta1-isolation"
                        .to_owned();
                    self.warn(id::ISOLATION_ANNOTATION, source, object(), &path, message);
                }
                Some(Err(error)) if legacy => {
                    let message = format!("no effect: not JSON, counts as absent: {error}");
                    self.warn(id::ISOLATION_ANNOTATION, source, object(), &path, message);
                }
                _ => {}
            }
        }
    }

    fn subjects(&mut self, policy: &NetworkPolicy, subjects: &[PodIndex]) {
        if !subjects.is_empty() {
            return;
        }
        let of_namespace = self.inventory.pods_in(&policy.namespace).iter();
        let others = of_namespace
            .map(|&index| self.inventory.pod_at(index))
            .filter(|pod| policy.pod_selector.matches(&pod.labels))
            .count();
        let detail = match others {
            0 => "",
            _ => ": those it matches are on the host's network or have finished",
        };
        let message = format!(
            "no effect: podSelector ({}) selects no pod of namespace {}{detail}",
            policy.pod_selector, policy.namespace
        );
        let position = policy
            .pod_selector
            .position
            .unwrap_or(policy.source.position);
        self.warn_at(
            id::SELECTS_NOTHING,
            policy,
            position,
            "spec.podSelector",
            message,
        );
    }

    /// What the profile takes the effect from.
    fn profile(&mut self, policy: &NetworkPolicy) {
        if self.compatibility.np_profile == NetworkPolicyProfile::V1 {
            return;
        }
        let namespace = self.inventory.namespace(&policy.namespace);
        let isolated = namespace.and_then(isolation_annotation);
        if !matches!(isolated, Some(Ok(true))) {
            let message = format!(
                "no effect: namespace {} is not isolated by its annotation {ISOLATION_ANNOTATION}",
                policy.namespace
            );
            self.warn(
                id::INERT_POLICY,
                &policy.source,
                object(policy),
                "",
                message,
            );
        }
        if let Some(rule) = policy.egress.first().filter(|_| policy.isolates_egress) {
            let message = "no effect: np_profile=v1beta1-isolation knows no egress".to_owned();
            self.warn_at(
                id::INERT_RULES,
                policy,
                rule.position,
                "spec.egress",
                message,
            );
        }
    }

    fn rules(&mut self, policy: &NetworkPolicy, subjects: &[PodIndex], direction: Direction) {
        let (rules, peers) = match direction {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        };
        for (index, rule) in policy.rules(direction).iter().enumerate() {
            let path = format!("spec.{rules}[{index}]");
            for (index, peer) in rule.peers.iter().enumerate() {
                let PeerKind::Pods { namespaces, pods } = &peer.kind else {
                    self.unread_block(policy, peer, &format!("{path}.{peers}[{index}].ipBlock"));
                    continue;
                };
                let (namespaces, pods) = (namespaces.as_ref(), pods.as_ref());
                if self
                    .selections
                    .peer(&policy.namespace, namespaces, pods)
                    .is_empty()
                {
                    let path = format!("{path}.{peers}[{index}]");
                    let message = "no effect: this peer selects no pod".to_owned();
                    self.warn_at(
                        id::PEER_SELECTS_NOTHING,
                        policy,
                        peer.position,
                        &path,
                        message,
                    );
                }
            }
            self.named_ports(policy, subjects, direction, rule, &path);
        }
    }

    fn named_ports(
        &mut self,
        policy: &NetworkPolicy,
        subjects: &[PodIndex],
        direction: Direction,
        rule: &PolicyRule,
        path: &str,
    ) {
        for (index, port) in rule.ports.iter().enumerate() {
            let PortMatch::Named(name) = &port.ports else {
                continue;
            };
            let field = format!("{path}.ports[{index}].port");
            if self.compatibility.plugin == Some(Plugin::NetworkPolicy) {
                let message = format!(
                    "no effect: the plugin networkpolicy knows no port names, \"{name}\" neither; \
                     write the number"
                );
                self.warn_at(id::INERT_RULES, policy, port.position, &field, message);
                continue;
            }
            let named = |index: &PodIndex, protocol| {
                let pod = self.inventory.pod_at(*index);
                pod.port_numbers(protocol, name).next().is_some()
            };
            let has = |protocol| match direction {
                Direction::Ingress => subjects.iter().copied().find(|pod| named(pod, protocol)),
                Direction::Egress => {
                    let pods = self.selections.with_named_port(protocol, name);
                    pods.first().copied()
                }
            };
            if has(port.protocol).is_some() {
                continue;
            }
            let whose = match direction {
                Direction::Ingress => "no selected pod",
                Direction::Egress => "no pod",
            };
            let others = [protocol::TCP, protocol::UDP, protocol::SCTP].into_iter();
            let other = others.filter_map(|other| Some((other, has(other)?))).next();
            let hint = other.map(|(other, index)| {
                let pod = self.inventory.pod_at(index).full_name();
                format!("; pod {pod} has it for {}", protocol::name(other))
            });
            let message = format!(
                "no effect: {whose} has a port named \"{name}\" for {}{}",
                protocol::name(port.protocol),
                hint.unwrap_or_default()
            );
            self.warn_at(
                id::UNKNOWN_NAMED_PORT,
                policy,
                port.position,
                &field,
                message,
            );
        }
    }

    /// Blocks that the plugin of openshift-sdn passes over.
    fn unread_block(&mut self, policy: &NetworkPolicy, peer: &Peer, path: &str) {
        let of_plugin = self.compatibility.plugin == Some(Plugin::NetworkPolicy);
        if let PeerKind::IpBlock { cidr, .. } = &peer.kind
            && of_plugin
            && cidr.addr().is_ipv6()
        {
            let message = "no effect: the plugin networkpolicy knows IPv4 alone".to_owned();
            self.warn_at(id::INERT_RULES, policy, peer.position, path, message);
        }
    }

    /// Pods that policies select, but that no packet can be told to be from.
    fn addresses(&mut self, subjects: &[Vec<PodIndex>]) {
        let mut seen = HashSet::new();
        for &index in subjects.iter().flatten() {
            let pod = self.inventory.pod_at(index);
            if pod.addresses.is_empty() && seen.insert(index) {
                let object = format!("Pod/{}", pod.full_name());
                let message = "policies select this pod, but it has no address yet".to_owned();
                self.warn(
                    id::NO_ADDRESS,
                    &pod.source,
                    object,
                    "status.podIPs",
                    message,
                );
            }
        }
    }

    /// Egress rules that forget DNS, the commonest of all mistakes.
    fn name_service(&mut self, policies: &[Arc<NetworkPolicy>], subjects: &[Vec<PodIndex>]) {
        let egress = || {
            policies
                .iter()
                .zip(subjects)
                .filter(|(policy, _)| policy.isolates_egress)
        };
        let mut with_dns: HashSet<PodIndex> = HashSet::new();
        for (policy, subjects) in egress() {
            let asks = |rule: &PolicyRule| {
                rule.ports.is_empty() || rule.ports.iter().any(|port| self.admits_dns(port))
            };
            if policy.egress.iter().any(asks) {
                with_dns.extend(subjects);
            }
        }
        let mut without: HashMap<usize, &Pod> = HashMap::new();
        for (number, (policy, subjects)) in egress().enumerate() {
            let lacks = subjects.iter().find(|index| !with_dns.contains(index));
            if let Some(&index) = lacks.filter(|_| !policy.egress.is_empty()) {
                without.insert(number, self.inventory.pod_at(index));
            }
        }
        for (number, (policy, _)) in egress().enumerate() {
            let (Some(pod), Some(rule)) = (without.get(&number), policy.egress.first()) else {
                continue;
            };
            let message = format!(
                "pod {} may open connections, but no rule of any policy lets it ask for names \
                 (udp/53)",
                pod.full_name()
            );
            self.warn_at(
                id::EGRESS_WITHOUT_DNS,
                policy,
                rule.position,
                "spec.egress",
                message,
            );
        }
    }

    fn admits_dns(&self, port: &PolicyPort) -> bool {
        port.protocol == protocol::UDP
            && match &port.ports {
                PortMatch::Any => true,
                PortMatch::Range { first, last } => (*first..=*last).contains(&53),
                PortMatch::Named(name) => {
                    let pods = self.selections.with_named_port(protocol::UDP, name).iter();
                    let pods = pods.map(|index| self.inventory.pod_at(*index));
                    let mut numbers = pods.flat_map(|pod| pod.port_numbers(protocol::UDP, name));
                    numbers.any(|number| number == 53)
                }
            }
    }

    fn warn_at(
        &mut self,
        id: &'static str,
        policy: &NetworkPolicy,
        position: Position,
        path: &str,
        message: String,
    ) {
        let source = Source {
            position,
            ..policy.source.clone()
        };
        self.warn(id, &source, object(policy), path, message);
    }

    fn warn(
        &mut self,
        id: &'static str,
        source: &Source,
        object: String,
        path: &str,
        message: String,
    ) {
        self.findings.push(Finding {
            severity: Severity::Warning,
            id,
            place: source.place(),
            document: source.document(),
            object,
            path: path.to_owned(),
            message,
        });
    }
}

fn object(policy: &NetworkPolicy) -> String {
    format!("NetworkPolicy/{}", policy.full_name())
}
