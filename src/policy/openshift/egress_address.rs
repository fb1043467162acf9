//! Addresses that projects leave the cluster with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::{OpenShift, Projects, cluster_ranges};
use crate::classifier::AddressSet;
use crate::policy::PolicySet;
use crate::policy::inventory::Inventory;
use crate::wire::{Family, FlowKey, protocol};

/// What a project with addresses of its own does with packets to destinations outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressAddresses {
    /// They leave through one of these nodes.
    Hosted(Vec<HostedAddress>),
    /// They are dropped, and why.
    Dropped(String),
}

/// An egress address and the node that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// The node.
    pub node: String,
}

/// Whose networks are one in this question: a VNID, or a project nobody gave one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Vnid(u32),
    Project(String),
}

impl EgressAddresses {
    /// By project; of projects that ask for no address there is none.
    pub fn by_project(
        inventory: &Inventory,
        openshift: &OpenShift,
        projects: &Projects,
    ) -> BTreeMap<String, EgressAddresses> {
        let mut wanted: BTreeMap<Group, Vec<Ipv4Addr>> = BTreeMap::new();
        let mut groups: BTreeMap<Ipv4Addr, BTreeSet<Group>> = BTreeMap::new();
        let group = |project: &str| match projects.vnid(project) {
            Some(vnid) => Group::Vnid(vnid),
            None => Group::Project(project.to_owned()),
        };
        for net_namespace in &openshift.net_namespaces {
            let group = group(&net_namespace.name);
            for &address in &net_namespace.egress_addresses {
                let of_group = wanted.entry(group.clone()).or_default();
                if !of_group.contains(&address) {
                    of_group.push(address);
                }
                groups.entry(address).or_default().insert(group.clone());
            }
        }
        let mut hosts: BTreeMap<Ipv4Addr, Vec<&str>> = BTreeMap::new();
        for host_subnet in &openshift.host_subnets {
            for &address in &host_subnet.egress_addresses {
                hosts.entry(address).or_default().push(&host_subnet.name);
            }
        }
        let states: BTreeMap<_, _> = wanted
            .iter()
            .map(|(group, wanted)| (group, state(inventory, wanted, &groups, &hosts)))
            .collect();
        let mut by_project = BTreeMap::new();
        for net_namespace in &openshift.net_namespaces {
            if let Some(state) = states.get(&group(&net_namespace.name)) {
                by_project.insert(net_namespace.name.clone(), state.clone());
            }
        }
        by_project
    }
}

fn state(
    inventory: &Inventory,
    wanted: &[Ipv4Addr],
    groups: &BTreeMap<Ipv4Addr, BTreeSet<Group>>,
    hosts: &BTreeMap<Ipv4Addr, Vec<&str>>,
) -> EgressAddresses {
    let mut hosted = Vec::new();
    let mut problems = Vec::new();
    for address in wanted {
        if groups[address].len() > 1 {
            let reason = format!("another project wants {address} too");
            return EgressAddresses::Dropped(reason);
        }
        let node = match hosts_of(hosts, address) {
            [node] => *node,
            [] => {
                problems.push(format!("no node has {address}"));
                continue;
            }
            several => {
                problems.push(format!("{} all claim {address}", several.join(", ")));
                continue;
            }
        };
        let same_node = |other: &&Ipv4Addr| *other != address && hosts_of(hosts, other) == [node];
        if let Some(other) = wanted.iter().find(same_node) {
            problems.push(format!("{node} has both {address} and {other}"));
        } else if inventory.node(node).is_some_and(|node| node.is_offline) {
            problems.push(format!("{node}, which has {address}, is not ready"));
        } else {
            hosted.push(HostedAddress {
                address: *address,
                node: node.to_owned(),
            });
        }
    }
    match hosted.is_empty() {
        true => EgressAddresses::Dropped(problems.join("; ")),
        false => EgressAddresses::Hosted(hosted),
    }
}

fn hosts_of<'h>(hosts: &'h BTreeMap<Ipv4Addr, Vec<&str>>, address: &Ipv4Addr) -> &'h [&'h str] {
    hosts.get(address).map_or(&[], Vec::as_slice)
}

/// The source address a packet has when it has left the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceAfter {
    /// The sender's own: it does not leave, or nothing is known of the network.
    Own,
    /// That of the sender's node.
    Node(IpAddr),
    /// One of the project's egress addresses.
    Egress(Vec<Ipv4Addr>),
    /// None: it is dropped.
    Dropped,
}

/// The source address behind the address translation of OpenShift's network. A set without objects
/// of that network translates nothing.
pub fn source_after(set: &PolicySet, key: &FlowKey) -> SourceAfter {
    let openshift = &set.policies.openshift;
    let Some(pod) = set.inventory.pod_by_address(key.family, key.source) else {
        return SourceAfter::Own;
    };
    let inside = AddressSet::from_ranges(cluster_ranges(&set.inventory, openshift));
    if !openshift.is_used() || inside.contains(key.family, key.destination) {
        return SourceAfter::Own;
    }
    let node = set.inventory.node_of(pod);
    let destination = key.destination.to_ip(key.family);
    let to_own_node = node.is_some_and(|node| node.addresses.contains(&destination));
    let is_dns =
        key.destination_port == 53 && matches!(key.protocol, protocol::TCP | protocol::UDP);
    if to_own_node && is_dns {
        return SourceAfter::Own;
    }
    let plugin = set.compatibility.plugin;
    if OpenShift::has_networks(plugin) {
        let projects = Projects::new(&set.inventory, openshift, plugin);
        let mut states = EgressAddresses::by_project(&set.inventory, openshift, &projects);
        match states.remove(&pod.namespace) {
            Some(EgressAddresses::Dropped(_)) => return SourceAfter::Dropped,
            Some(EgressAddresses::Hosted(hosted)) if key.family == Family::V4 => {
                return SourceAfter::Egress(hosted.iter().map(|one| one.address).collect());
            }
            _ => {}
        }
    }
    let of_family = |address: &&IpAddr| Family::of(**address) == key.family;
    match node.and_then(|node| node.addresses.iter().find(of_family)) {
        Some(&address) if !to_own_node => SourceAfter::Node(address),
        _ => SourceAfter::Own,
    }
}
