//! What leaves the cluster: which destinations are outside, EgressFirewall, and the administrator's
//! list.

use std::net::IpAddr;

use super::network_policy::{is_own_node, pod_at, selector_fits};
use crate::policy::PolicySet;
use crate::policy::admin_output::OutputAction;
use crate::policy::egress_firewall::FirewallDestination;
use crate::policy::names::NameUser;
use crate::policy::openshift::RuleType;
use crate::wire::FlowKey;

/// A group of receivers rather than a place.
pub fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] & 0xf0 == 0xe0,
        IpAddr::V6(address) => address.octets()[0] == 0xff,
    }
}

/// Is this no destination outside?
pub fn in_cluster(set: &PolicySet, address: IpAddr) -> bool {
    let openshift = &set.policies.openshift;
    let networks = openshift.cluster_networks.iter();
    let mut networks = networks.filter(|network| network.name == "default");
    let mut of_nodes = set.inventory.nodes().flat_map(|node| &node.pod_blocks);
    let mut services = set.inventory.services().iter();
    is_multicast(address)
        || networks.any(|network| {
            let mut blocks = network.pod_blocks.iter().chain(&network.service_block);
            blocks.any(|block| block.contains(&address))
        })
        || openshift
            .host_subnets
            .iter()
            .any(|one| one.subnet.is_some_and(|subnet| subnet.contains(&address)))
        || of_nodes.any(|block| block.contains(&address))
        || services.any(|service| service.cluster_addresses.contains(&address))
        || pod_at(set, address).is_some()
}

/// EgressFirewall; `None` where it has no opinion.
pub fn firewall_allows(set: &PolicySet, key: &FlowKey) -> Option<bool> {
    let destination = key.destination.to_ip(key.family);
    let pod = pod_at(set, key.source.to_ip(key.family))?;
    let mut firewalls = set.policies.egress_firewalls.iter();
    let firewall = firewalls.find(|one| one.namespace == pod.namespace && one.name == "default")?;
    if in_cluster(set, destination) {
        return None;
    }
    let names = || set.names.iter(NameUser::EgressFirewall);
    let named = |wanted: &str| {
        let wanted = wanted.to_lowercase();
        let wanted = wanted.trim_end_matches('.');
        names().any(|(name, addresses)| {
            let fits = match wanted.strip_prefix('*') {
                None => name == wanted,
                Some(parent) => {
                    let dots = |text: &str| text.matches('.').count();
                    name.ends_with(parent)
                        && dots(name) == dots(parent)
                        && name.len() > parent.len()
                }
            };
            fits && addresses.contains(&destination)
        })
    };
    let rule = firewall.rules.iter().find(|rule| {
        let to = match &rule.to {
            FirewallDestination::Block(block) => block.contains(&destination),
            FirewallDestination::Name(name) => named(name),
            FirewallDestination::Nodes(selector) => set.inventory.nodes().any(|node| {
                selector_fits(selector, &node.labels) && node.addresses.contains(&destination)
            }),
        };
        let port = rule
            .ports
            .iter()
            .any(|port| port.protocol == key.protocol && port.port == key.destination_port);
        to && (rule.ports.is_empty() || port)
    })?;
    Some(rule.rule_type == RuleType::Allow)
}

/// Does the administrator's list drop it?
pub fn output_drops(set: &PolicySet, key: &FlowKey) -> bool {
    let source = key.source.to_ip(key.family);
    let destination = key.destination.to_ip(key.family);
    let Some(pod) = pod_at(set, source) else {
        return false;
    };
    if in_cluster(set, destination) || is_own_node(set, pod, destination) {
        return false;
    }
    for list in &set.policies.admin_output_rules {
        for rule in &list.rules {
            let within = |blocks: &[ipnet::IpNet], address| {
                blocks.is_empty() || blocks.iter().any(|block| block.contains(&address))
            };
            let port = |&(first, last): &(u16, u16)| {
                first <= key.destination_port && key.destination_port <= last
            };
            let matches = within(&rule.from, source)
                && within(&rule.to, destination)
                && rule
                    .protocol
                    .is_none_or(|protocol| protocol == key.protocol)
                && (rule.ports.is_empty() || rule.ports.iter().any(port));
            match rule.action {
                OutputAction::Drop if matches => return true,
                OutputAction::Accept if matches => return false,
                _ => {}
            }
        }
    }
    false
}
