//! Security groups that do nothing, or not what their writer will have meant.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::compatibility::{EgressView, UnknownGroups};
use super::super::document::Position;
use super::super::finding::id;
use super::super::kube_ovn::{annotation, said};
use super::super::security_group::{GroupPolicy, GroupProtocol, GroupRule, Remote, rules_field};
use super::super::stage::StageKind;
use super::super::{
    Direction, Finding, PolicyKey, PolicySet, Port, SecurityGroup, Severity, Subnet,
};
use crate::classifier::RuleVerdict;
use crate::wire::{Address, Family, FlowKey, protocol};

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// Warnings about groups, and about pods that are bound to them.
pub fn lint(set: &PolicySet, subnets: &[Subnet], findings: &mut Vec<Finding>) {
    let groups = &set.policies.security_groups;
    let by_name = groups.iter().map(|group| (&*group.name, group));
    let mut members: HashMap<&str, Vec<&Port>> = HashMap::new();
    for port in set.ports.iter() {
        for name in names(port) {
            members.entry(name).or_default().push(port);
        }
    }
    let mut linter = Linter {
        set,
        subnets,
        groups: by_name.collect(),
        members,
        findings,
    };
    linter.bindings();
    for group in groups {
        if !linter.members.contains_key(&*group.name) {
            let message = "no effect: no pod is bound to it".to_owned();
            linter.group(id::UNUSED_GROUP, group, group.source.position, "", message);
        }
        let companions = linter.companions(group);
        for direction in DIRECTIONS {
            linter.shadowed(group, direction);
            for other in &companions {
                linter.shadowed_by(group, other, direction);
            }
        }
    }
    for direction in DIRECTIONS {
        linter.equal_priorities(direction);
        linter.tiers(direction);
    }
    linter.basics();
}

pub(super) fn names(port: &Port) -> impl Iterator<Item = &str> {
    port.groups.iter().map(String::as_str)
}

pub(super) struct Linter<'l> {
    pub(super) set: &'l PolicySet,
    subnets: &'l [Subnet],
    pub(super) groups: HashMap<&'l str, &'l SecurityGroup>,
    /// Ports by the groups they are bound to, whether these exist or not.
    members: HashMap<&'l str, Vec<&'l Port>>,
    findings: &'l mut Vec<Finding>,
}

impl<'l> Linter<'l> {
    pub(super) fn group(
        &mut self,
        id: &'static str,
        group: &SecurityGroup,
        position: Position,
        path: &str,
        message: String,
    ) {
        self.findings.push(Finding {
            severity: Severity::Warning,
            id,
            place: group.source.at(position).place(),
            document: group.source.document(),
            object: format!("SecurityGroup/{}", group.name),
            path: path.to_owned(),
            message,
        });
    }

    fn pod(&mut self, id: &'static str, port: &Port, message: String) {
        let pod = self.set.inventory.pod_at(port.pod);
        self.findings.push(Finding {
            severity: Severity::Warning,
            id,
            place: pod.source.place(),
            document: pod.source.document(),
            object: format!("Pod/{}", pod.full_name()),
            path: format!(
                "metadata.annotations[{}]",
                annotation(&port.provider, "security_groups")
            ),
            message,
        });
    }

    /// The ports bound to a group.
    pub(super) fn members(&self, group: &str) -> &[&'l Port] {
        self.members.get(group).map_or(&[], Vec::as_slice)
    }

    /// The groups of a port that exist.
    fn of_port(&self, port: &'l Port) -> Vec<&'l SecurityGroup> {
        let found = names(port).filter_map(|name| self.groups.get(name).copied());
        found.collect()
    }

    fn bindings(&mut self) {
        let set = self.set;
        for port in set.ports.iter() {
            let missing: Vec<_> = names(port)
                .filter(|name| !self.groups.contains_key(name))
                .collect();
            if missing.is_empty() {
                continue;
            }
            let all = missing.len() == port.groups.len();
            let what = match (all, set.compatibility.sg_unknown_groups) {
                (false, _) => "no effect: the other groups decide",
                (true, UnknownGroups::Closed) => {
                    "the pod has no other group and is closed both ways"
                }
                (true, UnknownGroups::Open) => "the pod has no other group and is open",
            };
            let message = format!("no SecurityGroup {}: {what}", missing.join(", "));
            self.pod(id::UNKNOWN_GROUP, port, message);
        }
    }

    /// Rules of one priority that overlap and say different things, in groups some pod has both of.
    fn equal_priorities(&mut self, direction: Direction) {
        let mut together: BTreeSet<(&str, &str)> = BTreeSet::new();
        let set = self.set;
        for group in &set.policies.security_groups {
            together.insert((&group.name, &group.name));
        }
        let lists: BTreeSet<&[String]> = set.ports.iter().map(|port| &port.groups[..]).collect();
        for list in lists {
            for one in list {
                for other in list.iter().filter(|other| one < *other) {
                    together.insert((one, other));
                }
            }
        }
        let field = rules_field(direction);
        for (one, other) in together {
            let (Some(&one), Some(&other)) = (self.groups.get(one), self.groups.get(other)) else {
                continue;
            };
            if one.tier != other.tier {
                continue;
            }
            let mut by_priority: HashMap<u32, Vec<usize>> = HashMap::new();
            for (index, rule) in one.rules(direction).iter().enumerate() {
                by_priority.entry(rule.priority).or_default().push(index);
            }
            for (index, rule) in other.rules(direction).iter().enumerate() {
                let rivals = by_priority.get(&rule.priority).into_iter().flatten();
                let rival = rivals.copied().find(|&rival| {
                    let first = &one.rules(direction)[rival];
                    let earlier = one.name != other.name || rival < index;
                    earlier && first.policy != rule.policy && self.overlap(first, rule)
                });
                let Some(rival) = rival else { continue };
                let first = &one.rules(direction)[rival];
                let message = format!(
                    "as strong as {field}[{rival}] of SecurityGroup {} at {}, which says {} of \
                     some of the same packets: OVN leaves open which decides, here it is {}",
                    one.name,
                    one.source.at(first.position).place(),
                    first.policy.name(),
                    first.policy.min(rule.policy).name()
                );
                let path = format!("spec.{field}[{index}].priority");
                self.group(id::EQUAL_PRIORITY, other, rule.position, &path, message);
            }
        }
    }

    fn overlap(&self, one: &GroupRule, other: &GroupRule) -> bool {
        let protocols = one.protocol == other.protocol
            || one.protocol == GroupProtocol::Any
            || other.protocol == GroupProtocol::Any;
        let nets = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
        let has_member_in = |name: &str, net: &IpNet| {
            self.members(name).iter().any(|port| {
                port.addresses_as_member()
                    .any(|address| net.contains(&address))
            })
        };
        let remotes = match (&one.remote, &other.remote) {
            (Remote::Address(one), Remote::Address(other)) => nets(one, other),
            (Remote::Group { name, .. }, Remote::Address(net))
            | (Remote::Address(net), Remote::Group { name, .. }) => has_member_in(name, net),
            (Remote::Group { name: one, .. }, Remote::Group { name: other, .. }) => one == other,
        };
        let locals = match (&one.local, &other.local) {
            (Some(one), Some(other)) => nets(one, other),
            _ => true,
        };
        let ranges = |one: (u16, u16), other: (u16, u16)| one.0 <= other.1 && other.0 <= one.1;
        one.family == other.family
            && protocols
            && remotes
            && locals
            && ranges(one.ports, other.ports)
            && ranges(one.source_ports, other.source_ports)
    }

    /// Groups of tier 1 on pods none of whose groups passes anything on.
    fn tiers(&mut self, direction: Direction) {
        let set = self.set;
        let mut told: BTreeSet<&str> = BTreeSet::new();
        for port in set.ports.iter() {
            let groups = self.of_port(port);
            let passes = |group: &&SecurityGroup| {
                let mut rules = group.rules(direction).iter();
                group.tier == 0 && rules.any(|rule| rule.policy == GroupPolicy::Pass)
            };
            if groups.iter().any(passes) {
                continue;
            }
            for group in groups.into_iter().filter(|group| group.tier == 1) {
                if group.rules(direction).is_empty() || !told.insert(&group.name) {
                    continue;
                }
                let field = rules_field(direction);
                let pod = set.inventory.pod_at(port.pod).full_name();
                let message = format!(
                    "{field} are never asked for pod {pod}: no group of tier 0 it is bound to has \
                     a rule with policy pass there, and what tier 0 does not pass on it denies"
                );
                let position = group.source.position;
                self.group(id::UNREACHABLE_TIER, group, position, "spec.tier", message);
            }
        }
    }

    /// What a pod does not come up without: its gateway, DHCP, the name service. Told once for all
    /// pods of the same groups and gateways.
    fn basics(&mut self) {
        let set = self.set;
        let mut alike: BTreeMap<(&[String], Vec<IpAddr>), Vec<&Port>> = BTreeMap::new();
        for port in set.ports.iter() {
            if !self.of_port(port).is_empty() {
                let key = (&port.groups[..], self.gateways(port));
                alike.entry(key).or_default().push(port);
            }
        }
        for ports in alike.values() {
            let others = match ports.len() {
                1 => String::new(),
                count => format!(" (and so {} more pods of these groups)", count - 1),
            };
            for (id, text) in self.missing(ports[0]) {
                self.pod(id, ports[0], format!("{text}{others}"));
            }
        }
    }

    fn missing(&self, port: &Port) -> Vec<(&'static str, String)> {
        let mut missing = Vec::new();
        for &own in &port.addresses {
            let family = Family::of(own);
            let gateways = self.gateways(port).into_iter();
            for gateway in gateways.filter(|gateway| Family::of(*gateway) == family) {
                let (icmp, echo) = match family {
                    Family::V4 => (protocol::ICMP, protocol::ICMP_ECHO),
                    Family::V6 => (protocol::ICMPV6, protocol::ICMPV6_ECHO),
                };
                let ping = key(own, gateway, icmp, 0, FlowKey::icmp_port(echo, 0));
                if let Some((by, _)) = self.denied(port, ping) {
                    let text = format!(
                        "no ping of its gateway {gateway}, without which Kube-OVN never reports \
                         the pod ready: {by}"
                    );
                    missing.push((id::NO_GATEWAY, text));
                }
            }
            let (server, ports, somewhere): (IpAddr, _, IpAddr) = match family {
                Family::V4 => ([255; 4].into(), (68, 67), [192, 0, 2, 53].into()),
                Family::V6 => {
                    let servers = [0xff02, 0, 0, 0, 0, 0, 1, 2];
                    let somewhere = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53];
                    (servers.into(), (546, 547), somewhere.into())
                }
            };
            let dhcp = key(own, server, protocol::UDP, ports.0, ports.1);
            let name_server = self.name_server(family).unwrap_or(somewhere);
            let question = key(own, name_server, protocol::UDP, 40_000, 53);
            for (what, key) in [("DHCP", dhcp), ("name service (udp/53)", question)] {
                match self.denied(port, key) {
                    // A rule against everything may forget it.
                    Some((by, true)) => {
                        missing.push((id::NO_BASICS, format!("no {what}: {by} denies it")));
                    }
                    // That nothing allows it is meant where nothing may leave at all.
                    Some((by, false)) if key == question && self.forgets_names(port, family) => {
                        missing.push((id::NO_BASICS, format!("no {what}: {by}")));
                    }
                    _ => {}
                }
            }
        }
        missing
    }

    /// May the pod open connections by its groups, and has nobody thought of names: is there no
    /// rule for port 53, and, where nothing tells the address of the name service, none that could
    /// mean it?
    fn forgets_names(&self, port: &Port, family: Family) -> bool {
        let groups: Vec<_> = names(port)
            .filter_map(|name| self.groups.get(name))
            .collect();
        let rules = groups.iter().flat_map(|group| &group.egress);
        let allowing: Vec<_> = rules
            .filter(|rule| rule.policy == GroupPolicy::Allow && rule.family == family)
            .filter(|rule| rule.protocol != GroupProtocol::Icmp)
            .collect();
        let about_names = |rule: &&&GroupRule| {
            let udp = matches!(rule.protocol, GroupProtocol::Udp | GroupProtocol::Any);
            udp && (rule.ports.0..=rule.ports.1).contains(&53)
        };
        let mut about_names = allowing.iter().filter(about_names);
        let known = self.name_server(family).is_some()
            && self.set.compatibility.sg_egress_view == EgressView::Original;
        !allowing.is_empty()
            && match known {
                true => !about_names.any(|rule| rule.ports == (53, 53)),
                false => about_names.next().is_none(),
            }
    }

    fn gateways(&self, port: &Port) -> Vec<IpAddr> {
        let pod = self.set.inventory.pod_at(port.pod);
        let said = said(&pod.annotations, &port.provider, "gateway");
        let said = super::super::kube_ovn::listed(said).into_iter();
        let said = said.filter_map(|text| text.parse().ok());
        let subnet = self.subnets.iter();
        let mut subnet = subnet.filter(|subnet| port.subnet.as_ref() == Some(&subnet.name));
        let of_subnet = subnet.next().map(|subnet| subnet.gateways.clone());
        let all: BTreeSet<_> = said.chain(of_subnet.into_iter().flatten()).collect();
        all.into_iter().collect()
    }

    /// The address of the cluster's name service, by the name everybody gives it.
    fn name_server(&self, family: Family) -> Option<IpAddr> {
        let service = self.set.inventory.service("kube-system", "kube-dns")?;
        let mut addresses = service.cluster_addresses.iter();
        addresses
            .find(|address| Family::of(**address) == family)
            .copied()
    }

    /// What of the source's security groups denies a packet, and whether somebody wrote it.
    fn denied(&self, port: &Port, key: FlowKey) -> Option<(String, bool)> {
        let set = self.set;
        let mut packet = PolicyKey::from(key);
        packet.source_network = port.network;
        for stage in &set.stages {
            let asked = matches!(
                stage.kind,
                StageKind::SecurityGroupEgress | StageKind::SecurityGroupEgressLower
            );
            if !asked {
                continue;
            }
            let view = stage.kind.view(&packet, &set.compatibility);
            let number = stage.first_match(&view)?;
            let rule = stage.rule(number);
            match rule.verdict {
                RuleVerdict::Allow => return None,
                RuleVerdict::Deny => {
                    let origin = stage.origin(number);
                    return Some(match &origin.place() {
                        Some(place) => (format!("{} at {place}", origin.label), true),
                        None => ("no rule allows it".to_owned(), false),
                    });
                }
                RuleVerdict::Pass => {}
            }
        }
        None
    }
}

fn key(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
) -> FlowKey {
    let (family, source) = Address::from_ip(source);
    FlowKey {
        source,
        destination: Address::from_ip(destination).1,
        source_port,
        destination_port,
        zone: 0,
        protocol,
        family,
    }
}
