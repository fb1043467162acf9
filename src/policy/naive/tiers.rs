//! The administrator's tiers, along the text of the network-policy-api.

use std::net::IpAddr;

use super::network_policy::{pod_at, selector_fits};
use crate::policy::PRIMARY_NETWORK;
use crate::policy::inventory::Pod;
use crate::policy::tiers::{
    Action, PodScope, Tier, TierKind, TierPeer, TierPeerKind, TierPolicy, TierPort, TierRule,
};
use crate::policy::{Direction, NameUser, PolicySet};
use crate::wire::FlowKey;

/// What a tier says of a packet on behalf of one of its ends.
pub enum Opinion {
    /// Final for this direction.
    Accept,
    /// Final.
    Deny,
    /// The next tier decides.
    None,
}

/// Walks a tier: its policies that select the end, by priority, and their rules from the top.
/// Pods are known by their addresses on `network`.
pub fn opinion(
    set: &PolicySet,
    key: &FlowKey,
    direction: Direction,
    network: u16,
    tier: Tier,
) -> Opinion {
    let set = &View { set, network };
    let source = key.source.to_ip(key.family);
    let destination = key.destination.to_ip(key.family);
    let (own, peer) = match direction {
        Direction::Egress => (source, destination),
        Direction::Ingress => (destination, source),
    };
    let Some(pod) = set.pod_at(own) else {
        return Opinion::None;
    };
    let mut policies: Vec<&TierPolicy> = set.policies.tiers.iter().collect();
    policies.retain(|policy| policy.tier == tier && scope_fits(set, &policy.subject, pod));
    policies.sort_by_key(|policy| {
        let number = match policy.kind {
            TierKind::Baseline => u32::MAX,
            _ => u32::from(policy.priority),
        };
        let older = policy.kind != TierKind::Cluster;
        (number, older, policy.name.clone())
    });
    for policy in policies {
        let rules = match direction {
            Direction::Ingress => &policy.ingress,
            Direction::Egress => &policy.egress,
        };
        for rule in rules {
            match outcome(set, rule, key, peer, destination) {
                Some(Action::Accept) => return Opinion::Accept,
                Some(Action::Deny) => return Opinion::Deny,
                Some(Action::Pass) => return Opinion::None,
                None => {}
            }
        }
    }
    Opinion::None
}

/// A set as seen on one network.
struct View<'v> {
    set: &'v PolicySet,
    network: u16,
}

impl std::ops::Deref for View<'_> {
    type Target = PolicySet;

    fn deref(&self) -> &PolicySet {
        self.set
    }
}

impl View<'_> {
    fn pod_at(&self, address: IpAddr) -> Option<&Pod> {
        if self.network == PRIMARY_NETWORK {
            return pod_at(self.set, address);
        }
        let inventory = &self.set.inventory;
        let mut networks = inventory.networks();
        let (_, network) = networks.find(|(number, _)| *number == self.network)?;
        inventory.pods().iter().find(|pod| {
            let mut attachments = pod.attachments.iter();
            let has = attachments.any(|one| {
                let of_network = one.network.split_once('/').unwrap_or(("", &one.network));
                of_network == (&network.namespace, &network.name)
                    && one.addresses.contains(&address)
            });
            has && !pod.terminated && !pod.host_network
        })
    }
}

/// What a rule does with a packet, if it matches.
fn outcome(
    set: &View,
    rule: &TierRule,
    key: &FlowKey,
    peer: IpAddr,
    destination: IpAddr,
) -> Option<Action> {
    let unknown = |peer: &TierPeer| matches!(peer.kind, TierPeerKind::Unknown(_));
    if rule.peers.iter().any(unknown) {
        return match rule.action {
            Action::Accept => None,
            Action::Deny | Action::Pass => Some(Action::Deny),
        };
    }
    let peer_fits = rule.peers.iter().any(|one| match &one.kind {
        TierPeerKind::Pods(scope) => set
            .pod_at(peer)
            .is_some_and(|pod| scope_fits(set, scope, pod)),
        TierPeerKind::Networks(networks) => networks.iter().any(|one| one.contains(&peer)),
        TierPeerKind::Nodes(selector) => set
            .inventory
            .nodes()
            .any(|node| selector_fits(selector, &node.labels) && node.addresses.contains(&peer)),
        TierPeerKind::DomainNames(patterns) => patterns.iter().any(|one| means(set, one, peer)),
        TierPeerKind::Unknown(_) => false,
    });
    let port_fits = rule.ports.iter().any(|port| match port {
        TierPort::Range {
            protocol,
            first,
            last,
        } => {
            *protocol == key.protocol
                && *first <= key.destination_port
                && key.destination_port <= *last
        }
        TierPort::Named(name) => set.pod_at(destination).is_some_and(|pod| {
            pod.ports.iter().any(|port| {
                port.name.as_deref() == Some(name)
                    && port.protocol == key.protocol
                    && port.number == key.destination_port
            })
        }),
    });
    (peer_fits && (rule.ports.is_empty() || port_fits)).then_some(rule.action)
}

/// Is the address one of those a pattern of names stands for?
fn means(set: &View, pattern: &str, address: IpAddr) -> bool {
    if !pattern.starts_with("*.") {
        return set
            .names
            .addresses(NameUser::Tiers, pattern)
            .is_some_and(|addresses| addresses.contains(&address));
    }
    let wanted: Vec<&str> = pattern.split('.').skip(1).collect();
    set.names.iter(NameUser::Tiers).any(|(name, addresses)| {
        let labels: Vec<&str> = name.split('.').collect();
        // At least one label in front of what the pattern ends with.
        labels.len() > wanted.len()
            && labels[labels.len() - wanted.len()..] == wanted[..]
            && addresses.contains(&address)
    })
}

fn scope_fits(set: &View, scope: &PodScope, pod: &Pod) -> bool {
    let mut namespaces = set.inventory.namespaces();
    let namespace = namespaces.find(|namespace| namespace.name == pod.namespace);
    namespace.is_some_and(|found| selector_fits(&scope.namespaces, &found.labels))
        && selector_fits(&scope.pods, &pod.labels)
}
