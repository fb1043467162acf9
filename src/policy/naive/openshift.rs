//! OpenShift's network, along the texts of its documentation: isolation of projects, multicast,
//! EgressNetworkPolicy, egress addresses.

use std::collections::{BTreeMap, BTreeSet};

use super::egress::{in_cluster, is_multicast};
use super::network_policy::{is_own_node, pod_at};
use crate::policy::compatibility::Plugin;
use crate::policy::names::NameUser;
use crate::policy::openshift::{Destination, NetNamespace, RuleType};
use crate::policy::{PolicyKey, PolicySet};
use crate::wire::FlowKey;

/// Networks nobody wrote a number for are numbered from here.
const MADE_UP: u64 = 1 << 40;

/// The number of each project's network, after the changes that annotations ask for.
fn networks(set: &PolicySet) -> BTreeMap<String, u64> {
    let mut networks = BTreeMap::new();
    let plugin = set.compatibility.plugin;
    if plugin == Some(Plugin::Subnet) {
        return networks;
    }
    let mut made_up = MADE_UP;
    let openshift = &set.policies.openshift;
    for one in &openshift.net_namespaces {
        networks.insert(one.name.clone(), u64::from(one.vnid));
    }
    networks.insert("default".to_owned(), 0);
    if plugin == Some(Plugin::MultiTenant) && !openshift.net_namespaces.is_empty() {
        for namespace in set.inventory.namespaces() {
            made_up += 1;
            networks.entry(namespace.name.clone()).or_insert(made_up);
        }
    }
    if plugin == Some(Plugin::NetworkPolicy) {
        return networks;
    }
    let mut written: Vec<&NetNamespace> = openshift.net_namespaces.iter().collect();
    written.sort_by_key(|one| one.source.place());
    for one in written {
        let change = one
            .annotations
            .get("pod.network.openshift.io/multitenant.change-network");
        let Some(change) = change.filter(|_| one.name != "default") else {
            continue;
        };
        let parts: Vec<&str> = change.split(':').collect();
        if parts[0] == "global" {
            networks.insert(one.name.clone(), 0);
        } else if parts[0] == "join" && parts.len() == 2 {
            if let Some(&other) = networks.get(parts[1]) {
                networks.insert(one.name.clone(), other);
            }
        } else if parts[0] == "isolate" {
            let own = networks[&one.name];
            let sharing = networks.values().filter(|network| **network == own);
            if sharing.count() > 1 {
                made_up += 1;
                networks.insert(one.name.clone(), made_up);
            }
        }
    }
    networks
}

/// May the source reach the destination, as far as their projects' networks go?
pub fn isolation_denies(set: &PolicySet, packet: &PolicyKey) -> bool {
    let key = &packet.key;
    let plugin = set.compatibility.plugin;
    let nobody_numbered = set.policies.openshift.net_namespaces.is_empty();
    if plugin.is_none() && nobody_numbered {
        return false;
    }
    let networks = networks(set);
    let source = key.source.to_ip(key.family);
    let destination = key.destination.to_ip(key.family);
    if let Some(receiver) = packet.receiver {
        let receiver = pod_at(set, receiver.to_ip(key.family));
        let (Some(sender), Some(receiver)) = (pod_at(set, source), receiver) else {
            return true;
        };
        let one = networks.get(&sender.namespace);
        return one != networks.get(&receiver.namespace)
            || !has_multicast(set, &networks, &sender.namespace);
    }
    if is_multicast(destination) {
        let sender = pod_at(set, source);
        return sender.is_some_and(|sender| !has_multicast(set, &networks, &sender.namespace));
    }
    if !matches!(plugin, None | Some(Plugin::MultiTenant)) {
        return false;
    }
    let service = || {
        let mut services = set.inventory.services().iter();
        let service = services.find(|one| one.cluster_addresses.contains(&destination));
        service.map(|service| service.namespace.as_str())
    };
    let to = pod_at(set, destination).map(|pod| pod.namespace.as_str());
    let from = pod_at(set, source).map(|pod| pod.namespace.as_str());
    let (Some(from), Some(to)) = (from, to.or_else(service)) else {
        return false;
    };
    match (networks.get(from), networks.get(to)) {
        (Some(&from), Some(&to)) => from != 0 && to != 0 && from != to,
        _ => false,
    }
}

/// Do all projects of this project's network want multicast?
fn has_multicast(set: &PolicySet, networks: &BTreeMap<String, u64>, project: &str) -> bool {
    let Some(network) = networks.get(project) else {
        return false;
    };
    let members = networks.iter().filter(|(_, other)| *other == network);
    // The project `default` exists only as far as somebody mentions it.
    let mut members = members.filter(|(name, _)| set.inventory.namespace(name).is_some());
    members.all(|(name, _)| {
        let mut all = set.policies.openshift.net_namespaces.iter();
        let one = all.find(|one| one.name == *name);
        let key = "netnamespace.network.openshift.io/multicast-enabled";
        one.and_then(|one| one.annotations.get(key))
            .map(String::as_str)
            == Some("true")
    })
}

/// EgressNetworkPolicy; `None` where it has no opinion.
pub fn policy_allows(set: &PolicySet, key: &FlowKey) -> Option<bool> {
    let destination = key.destination.to_ip(key.family);
    let pod = pod_at(set, key.source.to_ip(key.family))?;
    if set.compatibility.plugin == Some(Plugin::Subnet) || in_cluster(set, destination) {
        return None;
    }
    if is_own_node(set, pod, destination) && is_dns(key) {
        return None;
    }
    let networks = networks(set);
    let own = networks.get(&pod.namespace);
    if own == Some(&0) {
        return None;
    }
    let with_rules = |namespace: &str| {
        let all = set.policies.openshift.egress_network_policies.iter();
        let of_namespace = all.filter(move |policy| policy.namespace == namespace);
        let counted: Vec<_> = of_namespace
            .filter(|policy| !policy.rules.is_empty())
            .collect();
        counted
    };
    let together = networks.iter().filter(|(_, other)| Some(*other) == own);
    let together: Vec<_> = together.map(|(name, _)| name.as_str()).collect();
    if together.len() > 1 && together.iter().any(|name| !with_rules(name).is_empty()) {
        return Some(false);
    }
    let policies = with_rules(&pod.namespace);
    let policy = match policies[..] {
        [] => return None,
        [policy] => policy,
        _ => return Some(false),
    };
    let matches = |to: &Destination| match to {
        Destination::Name(name) => {
            let known = set.names.addresses(NameUser::EgressNetworkPolicy, name);
            known.is_some_and(|known| known.contains(&destination))
        }
        Destination::Block(block) => {
            let everything = block.to_string() == "0.0.0.0/32" && destination.is_ipv4();
            destination.is_ipv4() && (everything || block.contains(&destination))
        }
    };
    let rule = policy.rules.iter().find(|rule| matches(&rule.to))?;
    Some(rule.rule_type == RuleType::Allow)
}

fn is_dns(key: &FlowKey) -> bool {
    [6, 17].contains(&key.protocol) && key.destination_port == 53
}

/// Is a packet dropped because no node has an address its project may leave with?
pub fn has_no_egress_address(set: &PolicySet, key: &FlowKey) -> bool {
    let destination = key.destination.to_ip(key.family);
    let Some(pod) = pod_at(set, key.source.to_ip(key.family)) else {
        return false;
    };
    let own_dns = is_own_node(set, pod, destination) && is_dns(key);
    let plugin = set.compatibility.plugin;
    if plugin == Some(Plugin::Subnet) || in_cluster(set, destination) || own_dns {
        return false;
    }
    let openshift = &set.policies.openshift;
    let networks = networks(set);
    let same_network = |one: &str, other: &str| {
        one == other || networks.contains_key(one) && networks.get(one) == networks.get(other)
    };
    if !openshift
        .net_namespaces
        .iter()
        .any(|one| one.name == pod.namespace)
    {
        return false;
    }
    let of_network = openshift.net_namespaces.iter();
    let of_network = of_network.filter(|one| same_network(&one.name, &pod.namespace));
    let wanted: BTreeSet<_> = of_network.flat_map(|one| &one.egress_addresses).collect();
    let wanted_elsewhere = |address| {
        openshift.net_namespaces.iter().any(|one| {
            !same_network(&one.name, &pod.namespace) && one.egress_addresses.contains(address)
        })
    };
    if wanted.is_empty() {
        return false;
    }
    if wanted.iter().any(|address| wanted_elsewhere(address)) {
        return true;
    }
    let nodes_of = |address| -> Vec<&str> {
        let all = openshift.host_subnets.iter();
        let claiming = all.filter(|one| one.egress_addresses.contains(address));
        claiming.map(|one| one.name.as_str()).collect()
    };
    let usable = |address| {
        let nodes = nodes_of(address);
        let is_offline = |node: &str| {
            let node = set.inventory.node(node);
            node.is_some_and(|node| node.is_offline)
        };
        let mut others = wanted.iter().filter(|other| **other != address);
        nodes.len() == 1 && !is_offline(nodes[0]) && !others.any(|other| nodes_of(other) == nodes)
    };
    !wanted.iter().any(|address| usable(address))
}
