//! MultiNetworkPolicies that do nothing, or that the implementations read differently.

use crate::policy::compatibility::MultiNetworkDialect;
use crate::policy::document::Position;
use crate::policy::finding::id;
use crate::policy::inventory::{Inventory, PodIndex};
use crate::policy::multi_network::{
    MultiNetworkPolicy, POLICY_FOR, acts_on, iptables_reads, iptables_reads_peer, service_number,
};
use crate::policy::network_policy::{Peer, PeerKind, PolicyPort, PortMatch};
use crate::policy::selection::Selections;
use crate::policy::{Compatibility, Direction, Finding, LabelSelector, Severity};
use crate::wire::protocol;

/// Warnings about policies that load.
pub fn lint(
    inventory: &Inventory,
    selections: &Selections,
    policies: &[MultiNetworkPolicy],
    compatibility: &Compatibility,
    findings: &mut Vec<Finding>,
) {
    let mut linter = Linter {
        inventory,
        dialect: compatibility.mnp_compat,
        findings,
    };
    for object in policies {
        linter.networks(object);
        if selections.subjects(&object.policy).is_empty() {
            let message = format!(
                "no effect: podSelector ({}) selects no pod of namespace {}",
                object.policy.pod_selector, object.policy.namespace
            );
            linter.warn(
                id::SELECTS_NOTHING,
                object,
                None,
                "spec.podSelector",
                message,
            );
        }
        linter.subject(object);
        linter.nobody(object, selections);
        for direction in [Direction::Ingress, Direction::Egress] {
            linter.rules(object, direction);
        }
    }
}

struct Linter<'l> {
    inventory: &'l Inventory,
    dialect: MultiNetworkDialect,
    findings: &'l mut Vec<Finding>,
}

impl Linter<'_> {
    fn networks(&mut self, object: &MultiNetworkPolicy) {
        let path = format!("metadata.annotations[{POLICY_FOR}]");
        for name in object.networks.iter().flatten() {
            let network = self.inventory.network(name);
            if network.is_none_or(|network| network.source.is_none()) {
                let effect = match network {
                    None => ": no effect there",
                    Some(_) => ", though pods are attached to it",
                };
                let message = format!("no NetworkAttachmentDefinition {name}{effect}");
                self.warn(id::UNKNOWN_NETWORK, object, None, &path, message);
            } else if let Some(network) = network.filter(|one| !acts_on(one, self.dialect)) {
                let message = format!(
                    "no effect on {name}: mnp_compat={} does not act on networks of type {}",
                    self.dialect_name(),
                    network.plugin
                );
                self.warn(id::INERT_POLICY, object, None, &path, message);
            }
        }
    }

    /// Subjects, peers and port names nobody on the policy's networks has.
    fn nobody(&mut self, object: &MultiNetworkPolicy, selections: &Selections) {
        let numbers = object.network_numbers(self.inventory, self.dialect);
        let subjects = selections.subjects(&object.policy);
        if numbers.is_empty() || subjects.is_empty() {
            return;
        }
        if selections.addresses_on(&subjects, &numbers).is_empty() {
            let message =
                "no effect: no pod it selects has an interface on its networks".to_owned();
            self.warn(
                id::SELECTS_NOTHING,
                object,
                None,
                "spec.podSelector",
                message,
            );
            return;
        }
        for (direction, field, peers) in [
            (Direction::Ingress, "ingress", "from"),
            (Direction::Egress, "egress", "to"),
        ] {
            for (index, rule) in object.policy.rules(direction).iter().enumerate() {
                let path = format!("spec.{field}[{index}]");
                for (number, peer) in rule.peers.iter().enumerate() {
                    let path = format!("{path}.{peers}[{number}]");
                    self.unknown_peer(object, peer, selections, &numbers, &path);
                }
                for (number, port) in rule.ports.iter().enumerate() {
                    let counts = |pod: &PodIndex| {
                        direction == Direction::Egress || subjects.binary_search(pod).is_ok()
                    };
                    let path = format!("{path}.ports[{number}].port");
                    self.unknown_port(object, port, selections, counts, &path);
                }
            }
        }
    }

    fn unknown_peer(
        &mut self,
        object: &MultiNetworkPolicy,
        peer: &Peer,
        selections: &Selections,
        networks: &[u16],
        path: &str,
    ) {
        let PeerKind::Pods { namespaces, pods } = &peer.kind else {
            return;
        };
        let everywhere = LabelSelector::default();
        let any = (self.dialect == MultiNetworkDialect::Iptables).then_some(&everywhere);
        let namespaces = namespaces.as_ref().or(any);
        let namespace = &object.policy.namespace;
        let found = selections.peer_on(namespace, namespaces, pods.as_ref(), networks);
        if found.is_empty() {
            let message = "no effect: this peer selects no pod with an interface on the policy's \
                           networks";
            let (id, position) = (id::PEER_SELECTS_NOTHING, Some(peer.position));
            self.warn(id, object, position, path, message.to_owned());
        }
    }

    fn unknown_port(
        &mut self,
        object: &MultiNetworkPolicy,
        port: &PolicyPort,
        selections: &Selections,
        counts: impl Fn(&PodIndex) -> bool,
        path: &str,
    ) {
        let PortMatch::Named(name) = &port.ports else {
            return;
        };
        let mut named = selections.with_named_port(port.protocol, name).iter();
        let (known, whose) = match self.dialect {
            MultiNetworkDialect::Iptables => {
                (service_number(name).is_some(), "no service known here")
            }
            _ => (named.any(counts), "no pod in question"),
        };
        if !known {
            let message = format!(
                "no effect: {whose} has a port named \"{name}\" for {}",
                protocol::name(port.protocol)
            );
            let (id, position) = (id::UNKNOWN_NAMED_PORT, Some(port.position));
            self.warn(id, object, position, path, message);
        }
    }

    fn dialect_name(&self) -> &'static str {
        match self.dialect {
            MultiNetworkDialect::Api => "api",
            MultiNetworkDialect::Iptables => "iptables",
            MultiNetworkDialect::OvnKubernetes => "ovn-kubernetes",
        }
    }

    fn subject(&mut self, object: &MultiNetworkPolicy) {
        if object.types.is_none() {
            let isolates = |dialect| {
                [Direction::Ingress, Direction::Egress].map(|one| object.isolates(one, dialect))
            };
            let told = |dialect| match isolates(dialect) {
                [true, true] => "Ingress and Egress",
                [true, false] => "Ingress",
                [false, true] => "Egress",
                [false, false] => "nothing",
            };
            let message = format!(
                "without policyTypes implementations disagree (mnp_compat): the API isolates for \
                 {}, iptables for {}, OVN-Kubernetes for {}",
                told(MultiNetworkDialect::Api),
                told(MultiNetworkDialect::Iptables),
                told(MultiNetworkDialect::OvnKubernetes),
            );
            self.disagree(object, None, "spec.policyTypes", message);
        }
        if !iptables_reads(&object.policy.pod_selector) {
            let message =
                "implementations disagree (mnp_compat): iptables reads no expression but \
                           In with one value, and skips this policy"
                    .to_owned();
            self.disagree(object, None, "spec.podSelector", message);
        }
    }

    fn rules(&mut self, object: &MultiNetworkPolicy, direction: Direction) {
        let (field, peers) = match direction {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        };
        for (index, rule) in object.policy.rules(direction).iter().enumerate() {
            for (number, peer) in rule.peers.iter().enumerate() {
                if let Some(reading) = reading(peer) {
                    let path = format!("spec.{field}[{index}].{peers}[{number}]");
                    let message = format!("implementations disagree (mnp_compat): {reading}");
                    self.disagree(object, Some(peer.position), &path, message);
                }
            }
            for (number, port) in rule.ports.iter().enumerate() {
                if let PortMatch::Named(name) = &port.ports {
                    let path = format!("spec.{field}[{index}].ports[{number}]");
                    let message = format!(
                        "implementations disagree (mnp_compat): iptables takes the number of \
                         \"{name}\" from the node's list of services, not from the pod"
                    );
                    self.disagree(object, Some(port.position), &path, message);
                }
            }
        }
    }

    fn disagree(
        &mut self,
        object: &MultiNetworkPolicy,
        position: Option<Position>,
        path: &str,
        message: String,
    ) {
        self.warn(id::DIALECTS_DISAGREE, object, position, path, message);
    }

    fn warn(
        &mut self,
        id: &'static str,
        object: &MultiNetworkPolicy,
        position: Option<Position>,
        path: &str,
        message: String,
    ) {
        let policy = &object.policy;
        let position = position.unwrap_or(policy.source.position);
        self.findings.push(Finding {
            severity: Severity::Warning,
            id,
            place: policy.source.at(position).place(),
            document: policy.source.document(),
            object: format!("MultiNetworkPolicy/{}", policy.full_name()),
            path: path.to_owned(),
            message,
        });
    }
}

/// What another implementation makes of a peer.
fn reading(peer: &Peer) -> Option<&'static str> {
    match &peer.kind {
        PeerKind::IpBlock { except, .. } if !except.is_empty() => {
            Some("iptables drops what except names there and then, whatever the port")
        }
        PeerKind::IpBlock { .. } => None,
        PeerKind::Pods { .. } if !iptables_reads_peer(peer) => Some(
            "iptables reads no expression but In with one value, and takes nobody for the peer",
        ),
        PeerKind::Pods {
            namespaces: None, ..
        } => Some("without namespaceSelector iptables takes pods of all namespaces"),
        PeerKind::Pods { .. } => None,
    }
}
