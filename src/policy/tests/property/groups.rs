//! Security groups of the small world, and the pods' annotations that bind to them.

use super::*;
use crate::policy::security_group::{ALL_PORTS, GroupPolicy, GroupProtocol, GroupRule, Remote};
use crate::policy::{SecurityGroup, Vip};

const GROUPS: [&str; 4] = ["g0", "g1", "g2", "unknown"];

/// Makes half of the worlds have security groups.
pub(super) fn add(choices: &mut Choices, objects: &mut Objects) {
    if !choices.one_in(2) {
        return;
    }
    for name in GROUPS.iter().take(choices.below(4)) {
        let group = group(choices, name);
        objects.policies.security_groups.push(group);
    }
    for name in ["v0", "v1"] {
        let vip = vip(choices, name);
        objects.vips.push(vip);
    }
    for pod in &mut objects.pods {
        let list = |choices: &mut Choices, of: &[&str]| {
            choices.list(2, |choices| choices.pick(of)).join(", ")
        };
        for (name, value) in [
            ("security_groups", list(choices, &GROUPS)),
            ("port_vips", list(choices, &["10.0.0.21", "fd00::3", "x"])),
            ("aaps", list(choices, &["v0", "v1", "v2"])),
            (
                "port_security",
                choices.pick(&["", "true", "True"]).to_owned(),
            ),
            ("logical_switch", choices.pick(&["", "s"]).to_owned()),
        ] {
            if !value.is_empty() {
                // A third of what is said is said of a secondary network.
                let provider = match pod.attachments.first().filter(|_| choices.one_in(3)) {
                    Some(attachment) => {
                        let name = attachment.network.split_once('/');
                        let (namespace, name) = name.unwrap();
                        format!("{name}.{namespace}.ovn")
                    }
                    None => "ovn".to_owned(),
                };
                let name = format!("{provider}.kubernetes.io/{name}");
                pod.annotations.insert(name, value);
            }
        }
    }
    for namespace in &mut objects.namespaces {
        if choices.one_in(4) {
            let name = "ovn.kubernetes.io/port_security".to_owned();
            namespace.annotations.insert(name, "true".to_owned());
        }
    }
}

fn group(choices: &mut Choices, name: &str) -> SecurityGroup {
    let tier = u8::from(choices.one_in(3));
    SecurityGroup {
        name: name.to_owned(),
        tier,
        allow_same_group_traffic: choices.one_in(2),
        ingress: choices.list(3, |choices| rule(choices, tier)),
        egress: choices.list(3, |choices| rule(choices, tier)),
        source: source(),
    }
}

fn rule(choices: &mut Choices, tier: u8) -> GroupRule {
    let family = choices.pick(&[Family::V4, Family::V6]);
    let net = |choices: &mut Choices| {
        let length = family.bits() - choices.pick(&[0, 2, 5]);
        let number = choices.below(64) as u8;
        let net = IpNet::new(address(family, number), length).unwrap();
        match choices.one_in(4) {
            true => IpNet::new(address(family, 0), 0).unwrap().trunc(),
            false => net.trunc(),
        }
    };
    let range = |choices: &mut Choices| {
        let (one, other) = (choices.pick(&PORTS), choices.pick(&PORTS));
        (one.min(other), one.max(other))
    };
    let protocols = [
        GroupProtocol::Any,
        GroupProtocol::Tcp,
        GroupProtocol::Udp,
        GroupProtocol::Icmp,
    ];
    let protocol = choices.pick(&protocols);
    let local = choices.one_in(4).then(|| net(choices));
    let policies = match tier {
        0 => &[GroupPolicy::Allow, GroupPolicy::Drop, GroupPolicy::Pass][..],
        _ => &[GroupPolicy::Allow, GroupPolicy::Drop],
    };
    GroupRule {
        position: source().position,
        family,
        priority: 1 + choices.below(4) as u32,
        protocol,
        remote: match choices.one_in(3) {
            true => Remote::Group {
                name: choices.pick(&GROUPS).to_owned(),
                position: source().position,
            },
            false => Remote::Address(net(choices)),
        },
        local,
        ports: match protocol.has_ports() {
            true => range(choices),
            false => ALL_PORTS,
        },
        source_ports: match protocol.has_ports() && local.is_some() {
            true => range(choices),
            false => ALL_PORTS,
        },
        policy: choices.pick(policies),
    }
}

fn vip(choices: &mut Choices, name: &str) -> Vip {
    let number = choices.below(20) as u8;
    let families = choices.pick(&[&[Family::V4][..], &[Family::V4, Family::V6], &[]]);
    let addresses = families.iter().map(|&family| address(family, 40 + number));
    Vip {
        name: name.to_owned(),
        namespace: choices.pick(&NAMESPACES).to_owned(),
        subnet: choices.pick(&["s", "t"]).to_owned(),
        addresses: addresses.collect(),
        source: source(),
    }
}

/// Addresses at which the decision of a group may change.
pub(super) fn edges(set: &PolicySet) -> Vec<IpAddr> {
    let of_ports = set
        .ports
        .iter()
        .flat_map(crate::policy::Port::every_address);
    let groups = set.policies.security_groups.iter();
    let rules = groups.flat_map(|group| group.ingress.iter().chain(&group.egress));
    let of_rules = rules.flat_map(|rule| match &rule.remote {
        Remote::Address(net) => vec![net.network(), net.broadcast()],
        Remote::Group { .. } => Vec::new(),
    });
    of_ports.chain(of_rules).collect()
}

/// Ports the base list is about.
pub(super) fn basic_ports(choices: &mut Choices, key: &mut FlowKey) {
    if choices.one_in(8) {
        let ports = [(68, 67), (67, 68), (546, 547), (547, 546)];
        (key.source_port, key.destination_port) = choices.pick(&ports);
        key.protocol = protocol::UDP;
    } else if choices.one_in(12) {
        key.protocol = protocol::VRRP;
    }
}
