//! Security groups to rules: four stages, one a tier and direction.
//!
//! ```text
//! priority  3(p-1) + 0, 1, 2   rules of priority p: drop, pass, allow    as written
//!           BASE               DHCP and VRRP of every bound port         allow
//!           SAME_GROUP         among the members of a group              allow
//!           DENY_ALL           every bound port                          deny
//!           –                  no rule: no group is bound                no opinion
//! ```
//!
//! One list for all groups of a tier: a rule is about the ports bound to its group, and what
//! decides between the groups of a port is the priority alone. Neighbour and router discovery,
//! which the base list of Kube-OVN has too, is asked of no stage at all.

use std::collections::{BTreeMap, HashMap};

use super::{Compiler, Draft, Ranges, StageDraft, block, intern, name_of, push};
use crate::classifier::{
    AddressMatch, AddressSet, OriginId, PortRange, ProtocolMatch, RuleVerdict,
};
use crate::policy::compatibility::UnknownGroups;
use crate::policy::kube_ovn::Port;
use crate::policy::security_group::{
    GroupPolicy, GroupProtocol, GroupRule, Remote, SecurityGroup, rules_field,
};
use crate::policy::stage::{QUERY_HOP_LIMIT, StageKind};
use crate::policy::{Direction, PRIMARY_NETWORK};
use crate::wire::{Address, Family, FlowKey, protocol};

/// Order of rules within a stage, behind those somebody wrote.
mod priority {
    pub const BASE: u32 = 1 << 20;
    pub const SAME_GROUP: u32 = BASE + 1;
    pub const DENY_ALL: u32 = BASE + 2;
}

/// What every bound port may do, unless a rule denies it.
const BASE: [Base; 4] = [
    Base {
        name: "dhcp",
        family: Some(Family::V4),
        protocol: protocol::UDP,
        client_and_server: Some((68, 67)),
    },
    Base {
        name: "dhcpv6",
        family: Some(Family::V6),
        protocol: protocol::UDP,
        client_and_server: Some((546, 547)),
    },
    Base {
        name: "vrrp",
        family: None,
        protocol: protocol::VRRP,
        client_and_server: None,
    },
    // The other messages of the base list are discovery, which is asked of no step.
    Base {
        name: "listener-query",
        family: Some(Family::V6),
        protocol: protocol::ICMPV6,
        client_and_server: None,
    },
];

struct Base {
    name: &'static str,
    family: Option<Family>,
    protocol: u8,
    client_and_server: Option<(u16, u16)>,
}

/// Compiles one tier of one direction.
pub fn compile(compiler: &mut Compiler, stage: &mut StageDraft) {
    let tier = match stage.kind {
        StageKind::SecurityGroupEgressLower | StageKind::SecurityGroupIngressLower => 1,
        _ => 0,
    };
    let direction = stage.direction();
    let passes = |group: &&SecurityGroup| {
        let passes = |rule: &GroupRule| rule.policy == GroupPolicy::Pass;
        group.tier == 0 && group.rules(direction).iter().any(passes)
    };
    let policies = compiler.policies;
    let groups = &policies.security_groups;
    if tier == 1 && !groups.iter().any(|group| passes(&group)) {
        return;
    }
    let bindings = Bindings::new(compiler);
    let mut drafts = Vec::new();
    for (position, group) in groups.iter().enumerate() {
        if group.tier == tier {
            let members = &bindings.members[position];
            compiler.group(stage, group, members, &bindings, &mut drafts);
        }
    }
    compiler.of_all(stage, &bindings, &mut drafts);
    drafts.sort_by_key(|draft| draft.priority);
    for draft in drafts {
        push(stage, draft);
    }
}

/// Who is bound to what.
struct Bindings<'c> {
    by_name: HashMap<&'c str, usize>,
    /// The ports of each group.
    members: Vec<Vec<&'c Port>>,
    /// Ports of some group that exists.
    bound: Vec<&'c Port>,
    /// Ports all of whose groups are unknown, where that closes them.
    closed: Vec<&'c Port>,
}

impl<'c> Bindings<'c> {
    fn new(compiler: &Compiler<'c>) -> Self {
        let policies = compiler.policies;
        let groups = &policies.security_groups;
        let by_name = groups.iter().enumerate();
        let mut bindings = Bindings {
            by_name: by_name.map(|(at, group)| (&*group.name, at)).collect(),
            members: vec![Vec::new(); groups.len()],
            bound: Vec::new(),
            closed: Vec::new(),
        };
        let closes = compiler.compatibility.sg_unknown_groups == UnknownGroups::Closed;
        for port in compiler.ports.iter() {
            let mut exists = false;
            for name in &port.groups {
                if let Some(&group) = bindings.by_name.get(&**name) {
                    bindings.members[group].push(port);
                    exists = true;
                }
            }
            match (exists, port.groups.is_empty()) {
                (true, _) => bindings.bound.push(port),
                (false, false) if closes => bindings.closed.push(port),
                _ => {}
            }
        }
        bindings
    }
}

/// Every address of ports, by network.
fn by_network(ports: &[&Port]) -> BTreeMap<u16, Ranges> {
    let mut networks: BTreeMap<u16, Ranges> = BTreeMap::new();
    for port in ports {
        let of_network = networks.entry(port.network).or_default();
        of_network.extend(port.every_address().map(single));
    }
    networks
}

fn single(address: std::net::IpAddr) -> (Family, Address, Address) {
    let (family, address) = Address::from_ip(address);
    (family, address, address)
}

/// The addresses by which rules know the members of a group, on one network.
fn known_as(members: &[&Port], network: u16) -> Ranges {
    let of_network = members.iter().filter(|port| port.network == network);
    let addresses = of_network.flat_map(|port| port.addresses_as_member());
    addresses.map(single).collect()
}

fn everyone(family: Family) -> Ranges {
    vec![(family, Address::ZERO, family.last_address())]
}

fn of_family(ranges: &Ranges, family: Family) -> Ranges {
    let fits = ranges.iter().filter(|range| range.0 == family);
    fits.copied().collect()
}

impl<'c> Compiler<'c> {
    fn zone_of(&self, network: u16) -> Option<u16> {
        match network {
            PRIMARY_NETWORK => self.primary_zone(),
            secondary => Some(secondary),
        }
    }

    /// What one group says of its members.
    fn group(
        &mut self,
        stage: &mut StageDraft,
        group: &'c SecurityGroup,
        members: &[&Port],
        bindings: &Bindings,
        drafts: &mut Vec<Draft>,
    ) {
        let direction = stage.direction();
        let networks = by_network(members);
        let mut written: HashMap<String, u32> = HashMap::new();
        for (index, rule) in group.rules(direction).iter().enumerate() {
            let origin = self.written(
                format!("SecurityGroup/{}#{index}", group.name),
                group.source.at(rule.position),
                format!("spec.{}[{index}]", rules_field(direction)),
            );
            let content = rule.to_string();
            let number = written.entry(content.clone()).or_default();
            *number += 1;
            let number = number.to_string();
            for (&network, own) in &networks {
                let remote = match &rule.remote {
                    Remote::Address(net) => block(*net, &[]),
                    Remote::Group { name, .. } => match bindings.by_name.get(&**name) {
                        Some(&other) => known_as(&bindings.members[other], network),
                        None => Ranges::new(),
                    },
                };
                let own = within(&of_family(own, rule.family), rule.local);
                let subject = intern(stage, own);
                let peer = intern(stage, of_family(&remote, rule.family));
                let parts = [&*group.name, name_of(direction), "rule", &content, &number];
                drafts.push(Draft {
                    id: rule_id(&parts, network),
                    priority: (rule.priority - 1) * 3 + rule.policy as u32,
                    zone: self.zone_of(network),
                    origin,
                    ..rule_draft(rule, subject, peer)
                });
            }
        }
        if group.allow_same_group_traffic && !members.is_empty() {
            let origin = self.written(
                format!("SecurityGroup/{}#same-group", group.name),
                group.source.clone(),
                "spec.allowSameGroupTraffic".to_owned(),
            );
            for (&network, own) in &networks {
                let subject = intern(stage, own.clone());
                let peer = intern(stage, known_as(members, network));
                let parts = [&*group.name, name_of(direction), "same-group"];
                drafts.push(Draft {
                    id: rule_id(&parts, network),
                    priority: priority::SAME_GROUP,
                    zone: self.zone_of(network),
                    origin,
                    ..Draft::any(subject, peer, RuleVerdict::Allow)
                });
            }
        }
    }

    /// What is said of every bound port, whatever its groups.
    fn of_all(&mut self, stage: &mut StageDraft, bindings: &Bindings, drafts: &mut Vec<Draft>) {
        let direction = name_of(stage.direction());
        let bound = by_network(&bindings.bound);
        if !bound.is_empty() {
            let base = self.implicit("SecurityGroup/*#base".to_owned());
            for (&network, own) in &bound {
                let zone = self.zone_of(network);
                for one in &BASE {
                    let id = rule_id(&["*", direction, "base", one.name], network);
                    let draft = base_draft(stage, one, own, zone, base);
                    drafts.push(Draft { id, ..draft });
                }
            }
        }
        for (label, ports) in [
            ("deny-all", bound),
            ("unknown", by_network(&bindings.closed)),
        ] {
            if ports.is_empty() {
                continue;
            }
            let origin = self.implicit(format!("SecurityGroup/*#{label}"));
            for (&network, own) in &ports {
                let subject = intern(stage, own.clone());
                drafts.push(Draft {
                    id: rule_id(&["*", direction, label], network),
                    priority: priority::DENY_ALL,
                    zone: self.zone_of(network),
                    origin,
                    ..Draft::any(subject, AddressMatch::Any, RuleVerdict::Deny)
                });
            }
        }
    }
}

fn base_draft(
    stage: &mut StageDraft,
    base: &Base,
    own: &Ranges,
    zone: Option<u16>,
    origin: OriginId,
) -> Draft {
    let own = match base.family {
        Some(family) => of_family(own, family),
        None => own.clone(),
    };
    let subject = intern(stage, own);
    let peer = match base.family {
        Some(family) => intern(stage, everyone(family)),
        None => AddressMatch::Any,
    };
    let (source_ports, ports) = match (base.client_and_server, stage.direction()) {
        (None, _) if base.protocol == protocol::ICMPV6 => (
            PortRange::single(QUERY_HOP_LIMIT.into()),
            PortRange::single(FlowKey::icmp_port(protocol::ICMPV6_MLD_QUERY, 0)),
        ),
        (None, _) => (PortRange::ANY, PortRange::ANY),
        (Some((client, server)), Direction::Egress) => {
            (PortRange::single(client), PortRange::single(server))
        }
        (Some((client, server)), Direction::Ingress) => {
            (PortRange::single(server), PortRange::single(client))
        }
    };
    Draft {
        priority: priority::BASE,
        zone,
        protocol: ProtocolMatch::Number(base.protocol),
        source_ports,
        ports,
        origin,
        ..Draft::any(subject, peer, RuleVerdict::Allow)
    }
}

/// Those of single addresses that lie within a block.
fn within(own: &Ranges, block_of: Option<ipnet::IpNet>) -> Ranges {
    let Some(net) = block_of else {
        return own.clone();
    };
    let set = AddressSet::from_ranges(block(net, &[]));
    let inside = own.iter().filter(|range| set.contains(range.0, range.1));
    inside.copied().collect()
}

fn rule_draft(rule: &GroupRule, subject: AddressMatch, peer: AddressMatch) -> Draft {
    let range = |(first, last)| PortRange { first, last };
    let verdict = match rule.policy {
        GroupPolicy::Drop => RuleVerdict::Deny,
        GroupPolicy::Pass => RuleVerdict::Pass,
        GroupPolicy::Allow => RuleVerdict::Allow,
    };
    let number = match (rule.protocol, rule.family) {
        (GroupProtocol::Any, _) => None,
        (GroupProtocol::Tcp, _) => Some(protocol::TCP),
        (GroupProtocol::Udp, _) => Some(protocol::UDP),
        (GroupProtocol::Icmp, Family::V4) => Some(protocol::ICMP),
        (GroupProtocol::Icmp, Family::V6) => Some(protocol::ICMPV6),
    };
    Draft {
        protocol: number.map_or(ProtocolMatch::Any, ProtocolMatch::Number),
        source_ports: range(rule.source_ports),
        ports: range(rule.ports),
        ..Draft::any(subject, peer, verdict)
    }
}

fn rule_id(parts: &[&str], network: u16) -> crate::classifier::RuleId {
    let network = network.to_string();
    let mut all = parts.to_vec();
    // The pod's own network is not named, so that counters outlive the first secondary one.
    if network != PRIMARY_NETWORK.to_string() {
        all.push(&network);
    }
    super::rule_id("SecurityGroup", &all)
}
