//! MultiNetworkPolicies that do nothing, or that the implementations read differently.

use crate::policy::compatibility::MultiNetworkDialect;
use crate::policy::document::Position;
use crate::policy::finding::id;
use crate::policy::inventory::Inventory;
use crate::policy::multi_network::{
    MultiNetworkPolicy, POLICY_FOR, acts_on, iptables_reads, iptables_reads_peer,
};
use crate::policy::network_policy::{Peer, PeerKind, PortMatch};
use crate::policy::selection::Selections;
use crate::policy::{Compatibility, Direction, Finding, Severity};

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
            place: policy.source.at(position),
            document: policy.source.document,
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
