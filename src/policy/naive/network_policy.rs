//! NetworkPolicy, along the text of the API (`k8s.io/api/networking/v1`).

use std::net::IpAddr;

use crate::classifier::RuleVerdict;
use crate::policy::compatibility::{Icmp, NetworkPolicyProfile, Plugin};
use crate::policy::inventory::{Labels, Namespace, Pod};
use crate::policy::network_policy::{
    NetworkPolicy, Peer, PeerKind, PolicyPort, PolicyRule, PortMatch,
};
use crate::policy::selector::{LabelSelector, Operator};
use crate::policy::{Direction, PolicySet};
use crate::wire::{Family, FlowKey, protocol};

/// What NetworkPolicy says of a packet on behalf of one of its ends: `None` where that end is not
/// isolated, or NetworkPolicy does not stand between it and the other.
pub fn opinion(set: &PolicySet, key: &FlowKey, direction: Direction) -> Option<RuleVerdict> {
    let source = key.source.to_ip(key.family);
    let destination = key.destination.to_ip(key.family);
    let (own, peer) = match direction {
        Direction::Egress => (source, destination),
        Direction::Ingress => (destination, source),
    };
    // Whoever has no pod's address is nobody policies speak about.
    let pod = pod_at(set, own)?;
    if !is_isolated(set, pod, direction) || is_own_node(set, pod, peer) {
        return None;
    }
    if set.compatibility.icmp == Icmp::Always {
        let icmp = match key.family {
            Family::V4 => protocol::ICMP,
            Family::V6 => protocol::ICMPV6,
        };
        if key.protocol == icmp {
            return Some(RuleVerdict::Allow);
        }
    }
    // There is no order and no deny: any rule of any policy that selects the pod.
    let allowed = set
        .policies
        .network_policies
        .iter()
        .filter(|policy| selects(policy, pod) && applies(policy, direction))
        .flat_map(|policy| {
            policy
                .rules(direction)
                .iter()
                .map(move |rule| (policy, rule))
        })
        .any(|(policy, rule)| {
            peer_fits(set, policy, rule, peer) && port_fits(set, rule, key, destination)
        });
    Some(match allowed {
        true => RuleVerdict::Allow,
        false => RuleVerdict::Deny,
    })
}

fn is_isolated(set: &PolicySet, pod: &Pod, direction: Direction) -> bool {
    if matches!(
        set.compatibility.plugin,
        Some(Plugin::MultiTenant | Plugin::Subnet)
    ) {
        return false;
    }
    match set.compatibility.np_profile {
        NetworkPolicyProfile::V1 => set
            .policies
            .network_policies
            .iter()
            .any(|policy| selects(policy, pod) && applies(policy, direction)),
        NetworkPolicyProfile::V1Beta1Isolation => {
            let of_pod = |namespace: &&Namespace| namespace.name == pod.namespace;
            let namespace = set.inventory.namespaces().find(of_pod);
            let annotation = namespace
                .and_then(|found| {
                    found
                        .annotations
                        .get("net.beta.kubernetes.io/network-policy")
                })
                .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
            let isolation = annotation
                .as_ref()
                .and_then(|value| value.pointer("/ingress/isolation")?.as_str());
            direction == Direction::Ingress && isolation == Some("DefaultDeny")
        }
    }
}

fn applies(policy: &NetworkPolicy, direction: Direction) -> bool {
    match direction {
        Direction::Ingress => policy.isolates_ingress,
        Direction::Egress => policy.isolates_egress,
    }
}

fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    policy.namespace == pod.namespace && selector_fits(&policy.pod_selector, &pod.labels)
}

/// The pod of an address. Finished pods have given theirs back, and pods on the host's network have
/// none of their own.
pub fn pod_at(set: &PolicySet, address: IpAddr) -> Option<&Pod> {
    set.inventory
        .pods()
        .iter()
        .filter(|pod| !pod.terminated && !pod.host_network)
        .find(|pod| pod.addresses.contains(&address))
}

pub fn is_own_node(set: &PolicySet, pod: &Pod, peer: IpAddr) -> bool {
    let Some(name) = &pod.node_name else {
        return false;
    };
    let mut nodes = set.inventory.nodes();
    nodes.any(|node| node.name == *name && node.addresses.contains(&peer))
}

fn peer_fits(set: &PolicySet, policy: &NetworkPolicy, rule: &PolicyRule, address: IpAddr) -> bool {
    let fits = |peer: &Peer| match &peer.kind {
        PeerKind::IpBlock {
            cidr: ipnet::IpNet::V6(_),
            ..
        } if set.compatibility.plugin == Some(Plugin::NetworkPolicy) => false,
        PeerKind::IpBlock { cidr, except } => {
            cidr.contains(&address) && !except.iter().any(|except| except.contains(&address))
        }
        PeerKind::Pods { namespaces, pods } => {
            let Some(pod) = pod_at(set, address) else {
                return false;
            };
            let namespace_fits = match namespaces {
                None => pod.namespace == policy.namespace,
                Some(selector) => set
                    .inventory
                    .namespaces()
                    .find(|namespace| namespace.name == pod.namespace)
                    .is_some_and(|namespace| selector_fits(selector, &namespace.labels)),
            };
            let pod_fits = match pods {
                None => true,
                Some(selector) => selector_fits(selector, &pod.labels),
            };
            namespace_fits && pod_fits
        }
    };
    rule.peers.is_empty() || rule.peers.iter().any(fits)
}

fn port_fits(set: &PolicySet, rule: &PolicyRule, key: &FlowKey, destination: IpAddr) -> bool {
    let fits = |port: &PolicyPort| {
        port.protocol == key.protocol
            && match &port.ports {
                PortMatch::Any => true,
                PortMatch::Range { first, last } => {
                    (*first..=*last).contains(&key.destination_port)
                }
                // openshift-sdn knows no port names.
                PortMatch::Named(_) if set.compatibility.plugin == Some(Plugin::NetworkPolicy) => {
                    false
                }
                PortMatch::Named(name) => pod_at(set, destination).is_some_and(|pod| {
                    pod.ports.iter().any(|declared| {
                        declared.protocol == key.protocol
                            && declared.name.as_ref() == Some(name)
                            && declared.number == key.destination_port
                    })
                }),
            }
    };
    rule.ports.is_empty() || rule.ports.iter().any(fits)
}

pub fn selector_fits(selector: &LabelSelector, labels: &Labels) -> bool {
    for (key, wanted) in &selector.match_labels {
        match labels.get(key) {
            Some(found) if found == wanted => {}
            _ => return false,
        }
    }
    for requirement in &selector.match_expressions {
        let holds = match (requirement.operator, labels.get(&requirement.key)) {
            (Operator::In, Some(found)) => requirement.values.iter().any(|value| value == found),
            (Operator::In, None) => false,
            (Operator::NotIn, Some(found)) => requirement.values.iter().all(|value| value != found),
            (Operator::NotIn, None) => true,
            (Operator::Exists, found) => found.is_some(),
            (Operator::DoesNotExist, found) => found.is_none(),
        };
        if !holds {
            return false;
        }
    }
    true
}
