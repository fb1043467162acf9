//! MultiNetworkPolicy, along its README and the table of what its two implementations do otherwise.

use std::net::IpAddr;

use super::network_policy::selector_fits;
use crate::classifier::RuleVerdict;
use crate::policy::compatibility::{Icmp, MultiNetworkDialect as Dialect};
use crate::policy::inventory::{Network, Pod};
use crate::policy::multi_network::{MultiNetworkPolicy, service_number};
use crate::policy::network_policy::{Peer, PeerKind, PolicyPort, PolicyRule, PortMatch};
use crate::policy::selector::Operator;
use crate::policy::{Direction, LabelSelector, PolicyKey, PolicySet};
use crate::wire::Family;

/// What MultiNetworkPolicy says of a packet on behalf of one of its ends.
pub fn opinion(set: &PolicySet, packet: &PolicyKey, direction: Direction) -> Option<RuleVerdict> {
    let key = &packet.key;
    let source = key.source.to_ip(key.family);
    let destination = key.destination.to_ip(key.family);
    let (own, peer, network) = match direction {
        Direction::Egress => (source, destination, packet.source_network),
        Direction::Ingress => (destination, source, packet.destination_network),
    };
    let network = network_of(set, network)?;
    let this = [network];
    let pod = every_pod_on(set, &this, own).next()?;
    let question = Question {
        set,
        packet,
        direction,
        pod,
        peer,
        destination,
    };
    let policies: Vec<&MultiNetworkPolicy> = set
        .policies
        .multi_network_policies
        .iter()
        .filter(|policy| question.applies(policy, network))
        .collect();
    if policies.is_empty() || question.is_own_node() {
        return None;
    }
    let icmp = match key.family {
        Family::V4 => 1,
        Family::V6 => 58,
    };
    if set.compatibility.icmp == Icmp::Always && key.protocol == icmp {
        return Some(RuleVerdict::Allow);
    }
    let on_this = |policy: &&&MultiNetworkPolicy| {
        let networks = networks_of(set, policy);
        networks
            .iter()
            .any(|one| full_name(one) == full_name(network))
    };
    for policy in policies.iter().filter(on_this) {
        let rules = match direction {
            Direction::Ingress => &policy.policy.ingress,
            Direction::Egress => &policy.policy.egress,
        };
        for rule in rules {
            if question.drops(rule) {
                return Some(RuleVerdict::Deny);
            }
            if question.peer_fits(policy, rule) && question.port_fits(policy, rule) {
                return Some(RuleVerdict::Allow);
            }
        }
    }
    Some(RuleVerdict::Deny)
}

/// One packet, asked on behalf of one pod.
struct Question<'q> {
    set: &'q PolicySet,
    packet: &'q PolicyKey,
    direction: Direction,
    pod: &'q Pod,
    peer: IpAddr,
    destination: IpAddr,
}

impl Question<'_> {
    fn dialect(&self) -> Dialect {
        self.set.compatibility.mnp_compat
    }

    /// Is the interface isolated by this policy?
    fn applies(&self, policy: &MultiNetworkPolicy, network: &Network) -> bool {
        let spec = &policy.policy;
        let rules = match self.direction {
            Direction::Ingress => !spec.ingress.is_empty(),
            Direction::Egress => !spec.egress.is_empty(),
        };
        let direction = match (policy.types, self.direction, self.dialect()) {
            (Some([ingress, _]), Direction::Ingress, _) => ingress,
            (Some([_, egress]), Direction::Egress, _) => egress,
            (None, Direction::Ingress, Dialect::Api) => true,
            (None, Direction::Egress, Dialect::Api) => rules,
            (None, _, Dialect::Iptables) => rules,
            (None, _, Dialect::OvnKubernetes) => false,
        };
        let selects = spec.namespace == self.pod.namespace
            && self.is_read(&spec.pod_selector)
            && selector_fits(&spec.pod_selector, &self.pod.labels);
        let networks = networks_of(self.set, policy);
        let listed = networks
            .iter()
            .any(|one| full_name(one) == full_name(network));
        // The iptables implementation drops on every interface it knows of a pod that has one on
        // a listed network.
        let attached = networks.iter().any(|one| is_attached(self.pod, one));
        let elsewhere = self.dialect() == Dialect::Iptables && acts_on(self.set, network);
        // Only a running pod is anybody's subject.
        direction && !self.pod.pending && selects && attached && (listed || elsewhere)
    }

    fn is_own_node(&self) -> bool {
        let mut nodes = self.set.inventory.nodes();
        nodes.any(|node| {
            self.pod.node_name.as_ref() == Some(&node.name) && node.addresses.contains(&self.peer)
        })
    }

    fn is_read(&self, selector: &LabelSelector) -> bool {
        let plain = selector
            .match_expressions
            .iter()
            .all(|one| one.operator == Operator::In && one.values.len() == 1);
        plain || self.dialect() != Dialect::Iptables
    }

    /// An exception drops there and then.
    fn drops(&self, rule: &PolicyRule) -> bool {
        let excepts = |peer: &Peer| match &peer.kind {
            PeerKind::IpBlock { except, .. } => {
                except.iter().any(|except| except.contains(&self.peer))
            }
            PeerKind::Pods { .. } => false,
        };
        self.dialect() == Dialect::Iptables && rule.peers.iter().any(excepts)
    }

    fn peer_fits(&self, policy: &MultiNetworkPolicy, rule: &PolicyRule) -> bool {
        let fits = |peer: &Peer| match &peer.kind {
            PeerKind::IpBlock { cidr, except } => {
                cidr.contains(&self.peer)
                    && !except.iter().any(|except| except.contains(&self.peer))
            }
            PeerKind::Pods { namespaces, pods } => {
                let networks = networks_of(self.set, policy);
                let own = &policy.policy.namespace;
                every_pod_on(self.set, &networks, self.peer)
                    .any(|pod| self.pod_fits(pod, own, namespaces.as_ref(), pods.as_ref()))
            }
        };
        rule.peers.is_empty() || rule.peers.iter().any(fits)
    }

    fn pod_fits(
        &self,
        pod: &Pod,
        own: &str,
        namespaces: Option<&LabelSelector>,
        pods: Option<&LabelSelector>,
    ) -> bool {
        let namespace_fits = match namespaces {
            None => self.dialect() == Dialect::Iptables || pod.namespace == own,
            Some(selector) => self.set.inventory.namespaces().any(|namespace| {
                namespace.name == pod.namespace && selector_fits(selector, &namespace.labels)
            }),
        };
        let read = namespaces.is_none_or(|one| self.is_read(one))
            && pods.is_none_or(|one| self.is_read(one));
        read && namespace_fits && pods.is_none_or(|one| selector_fits(one, &pod.labels))
    }

    fn port_fits(&self, policy: &MultiNetworkPolicy, rule: &PolicyRule) -> bool {
        let key = &self.packet.key;
        let fits = |port: &PolicyPort| {
            port.protocol == key.protocol
                && match &port.ports {
                    PortMatch::Any => true,
                    PortMatch::Range { first, last } => {
                        *first <= key.destination_port && key.destination_port <= *last
                    }
                    PortMatch::Named(name) if self.dialect() == Dialect::Iptables => {
                        service_number(name) == Some(key.destination_port)
                    }
                    PortMatch::Named(name) => self.receiver_calls(policy, name),
                }
        };
        rule.ports.is_empty() || rule.ports.iter().any(fits)
    }

    /// Does the pod the packet goes to give its port this name?
    fn receiver_calls(&self, policy: &MultiNetworkPolicy, name: &str) -> bool {
        let key = &self.packet.key;
        let called = |pod: &Pod| {
            pod.ports.iter().any(|port| {
                port.name.as_deref() == Some(name)
                    && port.protocol == key.protocol
                    && port.number == key.destination_port
            })
        };
        match self.direction {
            Direction::Ingress => called(self.pod),
            Direction::Egress => {
                let networks = networks_of(self.set, policy);
                every_pod_on(self.set, &networks, self.destination).any(called)
            }
        }
    }
}

fn full_name(network: &Network) -> (&str, &str) {
    (&network.namespace, &network.name)
}

fn network_of(set: &PolicySet, number: u16) -> Option<&Network> {
    let mut networks = set.inventory.networks();
    networks
        .find(|(one, _)| *one == number)
        .map(|(_, network)| network)
}

/// The networks a policy is about.
fn networks_of<'s>(set: &'s PolicySet, policy: &MultiNetworkPolicy) -> Vec<&'s Network> {
    let all: Vec<&Network> = set
        .inventory
        .networks()
        .map(|(_, network)| network)
        .collect();
    let named = |network: &Network| {
        let name = format!("{}/{}", network.namespace, network.name);
        policy.networks.iter().flatten().any(|one| *one == name)
    };
    let by_name: Vec<&Network> = all.iter().copied().filter(|one| named(one)).collect();
    let is_meant = |network: &&Network| {
        let same_network = by_name
            .iter()
            .any(|one| !one.network_name.is_empty() && one.network_name == network.network_name);
        let ovn = set.compatibility.mnp_compat == Dialect::OvnKubernetes;
        (named(network) || ovn && same_network) && acts_on(set, network)
    };
    all.into_iter().filter(is_meant).collect()
}

fn acts_on(set: &PolicySet, network: &Network) -> bool {
    match (set.compatibility.mnp_compat, &*network.plugin) {
        (Dialect::Api, _) | (_, "") => true,
        (Dialect::Iptables, plugin) => plugin == "macvlan",
        (Dialect::OvnKubernetes, plugin) => plugin == "ovn-k8s-cni-overlay",
    }
}

fn is_attached(pod: &Pod, network: &Network) -> bool {
    let name = match &*network.namespace {
        "" => network.name.clone(),
        namespace => format!("{namespace}/{}", network.name),
    };
    pod.attachments.iter().any(|one| one.network == name)
}

/// Every pod that has the address on one of the networks.
fn every_pod_on<'s>(
    set: &'s PolicySet,
    networks: &'s [&Network],
    address: IpAddr,
) -> impl Iterator<Item = &'s Pod> {
    let pods = set.inventory.pods().iter();
    pods.filter(move |pod| {
        let on_one = networks.iter().any(|network| {
            let name = match &*network.namespace {
                "" => network.name.clone(),
                namespace => format!("{namespace}/{}", network.name),
            };
            let mut attachments = pod.attachments.iter();
            attachments.any(|one| one.network == name && one.addresses.contains(&address))
        });
        on_one && !pod.terminated && !pod.host_network
    })
}
