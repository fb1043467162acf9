//! SecurityGroup, along the description of Kube-OVN's access lists.

use std::net::IpAddr;

use crate::classifier::RuleVerdict;
use crate::policy::compatibility::{EgressView, UnknownGroups};
use crate::policy::inventory::Pod;
use crate::policy::security_group::{GroupPolicy, GroupProtocol, GroupRule, Remote, SecurityGroup};
use crate::policy::{Direction, PolicyKey, PolicySet};
use crate::wire::{Address, Family, FlowKey};

/// What the security groups of one end say of a packet: `None` where it has none.
///
/// The packet is its sender's, whatever source it has: `written_source` is that.
pub fn opinion(
    set: &PolicySet,
    packet: &PolicyKey,
    written_source: Address,
    direction: Direction,
) -> Option<RuleVerdict> {
    let original = set.compatibility.sg_egress_view == EgressView::Original;
    let key = match direction {
        Direction::Egress if original => &packet.original,
        _ => &packet.key,
    };
    let received = packet.receiver.filter(|_| direction == Direction::Ingress);
    let key = &FlowKey {
        destination: received.unwrap_or(key.destination),
        ..*key
    };
    let (source, destination) = (
        key.source.to_ip(key.family),
        key.destination.to_ip(key.family),
    );
    let (own, peer, network) = match direction {
        Direction::Egress => (source, destination, packet.source_network),
        Direction::Ingress => (destination, source, packet.destination_network),
    };
    // An address several pods may have is bound to the groups of all of them.
    let mut groups: Vec<&SecurityGroup> = Vec::new();
    let mut bound_to_nothing_known = false;
    let ports = ports(set, network);
    for port in ports
        .iter()
        .filter(|port| port.every_address(set).contains(&own))
    {
        let names = port.list("security_groups");
        let known = set.policies.security_groups.iter();
        let known: Vec<_> = known.filter(|group| names.contains(&group.name)).collect();
        bound_to_nothing_known |= known.is_empty() && !names.is_empty();
        groups.extend(known);
    }
    let closed = set.compatibility.sg_unknown_groups == UnknownGroups::Closed;
    if groups.is_empty() {
        return (bound_to_nothing_known && closed).then_some(RuleVerdict::Deny);
    }
    let packet = Packet {
        set,
        key,
        direction,
        peer,
        local: match direction {
            Direction::Egress => written_source.to_ip(key.family),
            Direction::Ingress => own,
        },
        hop_limit: packet.hop_limit,
        ports: &ports,
    };
    Some(match packet.tier(&groups, 0) {
        GroupPolicy::Allow => RuleVerdict::Allow,
        GroupPolicy::Drop => RuleVerdict::Deny,
        GroupPolicy::Pass => match packet.tier(&groups, 1) {
            GroupPolicy::Allow => RuleVerdict::Allow,
            _ => RuleVerdict::Deny,
        },
    })
}

struct Packet<'p> {
    set: &'p PolicySet,
    key: &'p FlowKey,
    direction: Direction,
    peer: IpAddr,
    /// What `localAddress` is held against: the address the packet has at this end.
    local: IpAddr,
    hop_limit: Option<u8>,
    /// Every port on the network of the end that is asked for.
    ports: &'p [Port<'p>],
}

impl Packet<'_> {
    /// The first of: the strongest rule, what everybody may, what members may, no.
    fn tier(&self, groups: &[&SecurityGroup], tier: u8) -> GroupPolicy {
        let of_tier = || groups.iter().filter(|group| group.tier == tier);
        let rules = of_tier().flat_map(|group| group.rules(self.direction));
        let fitting = rules.filter(|rule| self.fits(rule));
        let order = |policy| match policy {
            GroupPolicy::Drop => 0,
            GroupPolicy::Pass => 1,
            GroupPolicy::Allow => 2,
        };
        let strongest = fitting.min_by_key(|rule| (rule.priority, order(rule.policy)));
        if let Some(rule) = strongest {
            return rule.policy;
        }
        let from_member = of_tier()
            .any(|group| group.allow_same_group_traffic && self.is_member(&group.name, self.peer));
        match self.is_basic() || from_member {
            true => GroupPolicy::Allow,
            false => GroupPolicy::Drop,
        }
    }

    fn fits(&self, rule: &GroupRule) -> bool {
        let key = self.key;
        let protocol_fits = match rule.protocol {
            GroupProtocol::Any => true,
            GroupProtocol::Tcp => key.protocol == 6,
            GroupProtocol::Udp => key.protocol == 17,
            GroupProtocol::Icmp if rule.family == Family::V4 => key.protocol == 1,
            GroupProtocol::Icmp => key.protocol == 58,
        };
        let remote_fits = match &rule.remote {
            Remote::Address(net) => net.contains(&self.peer),
            Remote::Group { name, .. } => self.is_member(name, self.peer),
        };
        let (first, last) = rule.ports;
        let (source_first, source_last) = rule.source_ports;
        key.family == rule.family
            && protocol_fits
            && remote_fits
            && rule.local.is_none_or(|net| net.contains(&self.local))
            && (first..=last).contains(&key.destination_port)
            && (source_first..=source_last).contains(&key.source_port)
    }

    /// DHCP of a client, VRRP, and listener queries with the hop limit of neighbour discovery.
    fn is_basic(&self) -> bool {
        let key = self.key;
        let (client, server) = match self.direction {
            Direction::Egress => (key.source_port, key.destination_port),
            Direction::Ingress => (key.destination_port, key.source_port),
        };
        match (key.protocol, key.family) {
            (17, Family::V4) => (client, server) == (68, 67),
            (17, Family::V6) => (client, server) == (546, 547),
            (112, _) => true,
            (58, Family::V6) => key.destination_port == 130 << 8 && self.hop_limit == Some(255),
            _ => false,
        }
    }

    /// Is it the address of one of a group's pods, or one that port security vouches for?
    fn is_member(&self, group: &String, address: IpAddr) -> bool {
        let mut groups = self.set.policies.security_groups.iter();
        let exists = groups.any(|existing| existing.name == *group);
        exists
            && self.ports.iter().any(|port| {
                let known = match port.is_secured(self.set) {
                    true => port.every_address(self.set).contains(&address),
                    false => port.addresses.contains(&address),
                };
                known && port.list("security_groups").contains(group)
            })
    }
}

/// One interface of a pod, and whose annotations speak of it.
struct Port<'p> {
    pod: &'p Pod,
    provider: String,
    addresses: &'p [IpAddr],
}

/// The ports on a network. Pods on the host's network and finished ones have none.
fn ports(set: &PolicySet, network: u16) -> Vec<Port<'_>> {
    let mut networks = set.inventory.networks();
    let secondary = networks.find(|(number, _)| *number == network);
    let secondary = secondary.map(|(_, found)| match found.namespace.is_empty() {
        true => found.name.clone(),
        false => format!("{}/{}", found.namespace, found.name),
    });
    let mut ports = Vec::new();
    for pod in set.inventory.pods() {
        if pod.host_network || pod.terminated {
            continue;
        }
        if network == 0 {
            ports.push(Port {
                pod,
                provider: "ovn".to_owned(),
                addresses: &pod.addresses,
            });
        }
        for attachment in &pod.attachments {
            let name = &attachment.network;
            if secondary.as_ref() != Some(name) {
                continue;
            }
            let (namespace, own) = match name.find('/') {
                Some(at) => (&name[..at], &name[at + 1..]),
                None => (pod.namespace.as_str(), name.as_str()),
            };
            ports.push(Port {
                pod,
                provider: format!("{own}.{namespace}.ovn"),
                addresses: &attachment.addresses,
            });
        }
    }
    ports
}

impl Port<'_> {
    fn said(&self, name: &str) -> Option<&String> {
        let key = format!("{}.kubernetes.io/{name}", self.provider);
        self.pod.annotations.get(&key)
    }

    fn list(&self, name: &str) -> Vec<String> {
        split(self.said(name))
    }

    fn is_secured(&self, set: &PolicySet) -> bool {
        let key = format!("{}.kubernetes.io/port_security", self.provider);
        let mut namespaces = set.inventory.namespaces();
        let namespace = namespaces.find(|namespace| namespace.name == self.pod.namespace);
        let of_namespace = namespace.and_then(|namespace| namespace.annotations.get(&key));
        let said = self.said("port_security").or(of_namespace);
        said.map(String::as_str) == Some("true")
    }

    /// Its own addresses and those it may have beside them.
    fn every_address(&self, set: &PolicySet) -> Vec<IpAddr> {
        let mut addresses = self.addresses.to_vec();
        let given = self.list("port_vips");
        addresses.extend(given.iter().filter_map(|text| text.parse::<IpAddr>().ok()));
        let named = split(self.pod.annotations.get("ovn.kubernetes.io/aaps"));
        let subnet = self.said("logical_switch");
        for vip in set.vips.iter() {
            let of_subnet = subnet.is_none_or(|subnet| vip.subnet == *subnet);
            if named.contains(&vip.name) && vip.namespace == self.pod.namespace && of_subnet {
                addresses.extend(&vip.addresses);
            }
        }
        addresses
    }
}

/// The items of a comma-separated list, without any blanks.
fn split(text: Option<&String>) -> Vec<String> {
    let items = text.map_or("", String::as_str).split(',');
    let stripped = items.map(|item| item.split_whitespace().collect::<String>());
    stripped.filter(|item| !item.is_empty()).collect()
}
