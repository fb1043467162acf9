//! What security groups say: which are bound, the deciding rule, the nearest that allows.

use std::net::IpAddr;

use super::{Nearest, Written, asked, end_name};
use crate::classifier::RuleVerdict;
use crate::control::decide::{Decider, Opinion};
use crate::policy::security_group::{
    ALL_PORTS, GroupPolicy, GroupProtocol, GroupRule, Remote, ports_text, rules_field,
};
use crate::policy::{Direction, PolicySet, Port, SecurityGroup, StageKind};
use crate::wire::{Address, Family, FlowKey, protocol};

/// Is it a step of security groups?
pub(super) const fn is_one(opinion: &Opinion) -> bool {
    matches!(
        opinion.kind,
        StageKind::SecurityGroupEgress
            | StageKind::SecurityGroupEgressLower
            | StageKind::SecurityGroupIngress
            | StageKind::SecurityGroupIngressLower
    )
}

/// The groups the end a step protects is bound to, those of other tiers too.
pub(super) fn bound(policy: &PolicySet, key: &FlowKey, opinion: &Opinion) -> Vec<Written> {
    let written = |group: &SecurityGroup| Written {
        name: format!("SecurityGroup {}", group.name),
        place: Some(group.source.place()),
        path: String::new(),
    };
    groups(policy, key, opinion)
        .into_iter()
        .map(written)
        .collect()
}

fn ports<'p>(
    policy: &'p PolicySet,
    key: &FlowKey,
    direction: Direction,
) -> impl Iterator<Item = &'p Port> {
    let own = match direction {
        Direction::Ingress => key.destination,
        Direction::Egress => key.source,
    };
    // The key is the step's view: its zone is the network of this end.
    policy.ports.by_address(key.zone, key.family, own)
}

fn groups<'p>(policy: &'p PolicySet, key: &FlowKey, opinion: &Opinion) -> Vec<&'p SecurityGroup> {
    let ports: Vec<_> = ports(policy, key, opinion.direction()).collect();
    let is_bound = |group: &&SecurityGroup| {
        let mut ports = ports.iter();
        ports.any(|port| port.groups.contains(&group.name))
    };
    policy
        .policies
        .security_groups
        .iter()
        .filter(is_bound)
        .collect()
}

/// What the deciding rule says.
pub(super) fn reason(decider: &Decider, key: &FlowKey, opinion: &Opinion) -> String {
    let policy = decider.policy();
    let direction = opinion.direction();
    let peer = peer_name(policy, key, direction);
    let preposition = preposition(direction);
    let Some(origin) = decider.origin(opinion) else {
        return "no security group is bound".to_owned();
    };
    let groups = groups(policy, key, opinion);
    let names: Vec<_> = groups.iter().map(|group| &*group.name).collect();
    let names = names.join(", ");
    match origin.label.rsplit_once('#') {
        Some((_, "unknown")) => {
            let ports = ports(policy, key, direction);
            let missing: Vec<_> = ports.flat_map(|port| port.groups.clone()).collect();
            format!(
                "bound to {}, which does not exist, and to no other group \
                 (sg_unknown_groups=closed)",
                missing.join(", ")
            )
        }
        Some((_, "deny-all")) => format!(
            "bound to {names}, and no rule of theirs{} is about {} {preposition} {peer}",
            tier_text(opinion),
            asked(key)
        ),
        Some((_, "base")) => {
            "DHCP, VRRP and listener queries pass unless a rule denies them".to_owned()
        }
        Some((group, "same-group")) => {
            let name = group.trim_start_matches("SecurityGroup/");
            format!("{peer} is a member of SecurityGroup {name} too (allowSameGroupTraffic)")
        }
        _ => match written(policy, &origin.label, direction) {
            Some((group, index, rule)) => rule_text(group, index, rule, direction),
            None => format!("{} decides", origin.label),
        },
    }
}

/// The rule a label names.
fn written<'p>(
    policy: &'p PolicySet,
    label: &str,
    direction: Direction,
) -> Option<(&'p SecurityGroup, usize, &'p GroupRule)> {
    let (name, index) = label.strip_prefix("SecurityGroup/")?.rsplit_once('#')?;
    let index = index.parse().ok()?;
    let group = policy.policies.security_groups.iter();
    let group = group.into_iter().find(|group| group.name == name)?;
    Some((group, index, group.rules(direction).get(index)?))
}

/// `ingressRules[0] of SecurityGroup sg drops icmp from 10.16.0.14/32, priority 1`.
fn rule_text(
    group: &SecurityGroup,
    index: usize,
    rule: &GroupRule,
    direction: Direction,
) -> String {
    let verb = match rule.policy {
        GroupPolicy::Drop => "drops",
        GroupPolicy::Pass => "passes on to tier 1",
        GroupPolicy::Allow => "allows",
    };
    let field = rules_field(direction);
    format!(
        "{field}[{index}] of SecurityGroup {} {verb} {}, priority {}",
        group.name,
        about(rule, direction),
        rule.priority
    )
}

/// `tcp/80-443 from 10.16.0.0/16`.
fn about(rule: &GroupRule, direction: Direction) -> String {
    let mut text = match (rule.protocol, rule.family) {
        (GroupProtocol::Any, family) => format!("everything of IPv{}", family as u8),
        (GroupProtocol::Icmp, Family::V6) => "icmpv6".to_owned(),
        (protocol, _) if rule.ports != ALL_PORTS => {
            format!("{}/{}", protocol.name(), ports_text(rule.ports))
        }
        (protocol, _) => protocol.name().to_owned(),
    };
    let preposition = preposition(direction);
    match &rule.remote {
        Remote::Address(net) => text.push_str(&format!(" {preposition} {net}")),
        Remote::Group { name, .. } => {
            text.push_str(&format!(" {preposition} members of {name}"));
        }
    }
    if let Some(local) = rule.local {
        text.push_str(&format!(" at {local}"));
    }
    if rule.source_ports != ALL_PORTS {
        text.push_str(&format!(", source ports {}", ports_text(rule.source_ports)));
    }
    text
}

/// Of a denial: the rules that come nearest to allowing, nearest first, and what to change.
pub(super) fn nearest(decider: &Decider, key: &FlowKey, opinion: &Opinion) -> Vec<Nearest> {
    let policy = decider.policy();
    let direction = opinion.direction();
    let origin = decider.origin(opinion);
    let denial = Denial {
        policy,
        key,
        direction,
        by: origin.and_then(|origin| written(policy, &origin.label, direction)),
    };
    let mut found = Vec::new();
    for group in groups(policy, key, opinion) {
        if group.tier != tier(opinion) {
            continue;
        }
        for (index, rule) in group.rules(direction).iter().enumerate() {
            if rule.policy == GroupPolicy::Allow && rule.family == key.family {
                found.push((denial.off(rule), group, index, rule));
            }
        }
    }
    found.sort_by_key(|(off, group, index, _)| (*off, &group.name, *index));
    if let (true, Some((group, index, rule))) = (found.is_empty(), denial.by) {
        return vec![Nearest {
            text: "no rule of these groups allows anything here".to_owned(),
            change: denial.add_rule(group),
            rule: denial.place(group, index, rule),
        }];
    }
    let found = found.into_iter().take(NEAREST_MAX);
    found
        .map(|(off, group, index, rule)| denial.told(off, group, index, rule))
        .collect()
}

/// Most rules told as near.
const NEAREST_MAX: usize = 3;

/// A packet that is denied.
struct Denial<'d> {
    policy: &'d PolicySet,
    key: &'d FlowKey,
    direction: Direction,
    /// The rule that denies it, if one does.
    by: Option<(&'d SecurityGroup, usize, &'d GroupRule)>,
}

impl Denial<'_> {
    /// An allowing rule, and how it or its group would have to be changed.
    fn told(&self, off: Off, group: &SecurityGroup, index: usize, rule: &GroupRule) -> Nearest {
        let text = rule_text(group, index, rule, self.direction);
        let asked = asked(self.key);
        let peer = self.peer();
        let (text, change) = match (off, self.by) {
            (Off::Nothing, Some((_, _, by))) => (
                format!("{text}, which is weaker than {}", by.priority),
                match by.priority {
                    1 => self.add_rule(group),
                    priority => format!(
                        "SecurityGroup {}, spec.{}[{index}].priority: below {priority}",
                        group.name,
                        rules_field(self.direction)
                    ),
                },
            ),
            (Off::Ports, None) => (format!("{text}; asked {asked}"), self.add_rule(group)),
            (Off::Remote, None) => (format!("{text}; asked {peer}"), self.add_rule(group)),
            _ => (
                format!("{text}; asked {asked} {peer}"),
                self.add_rule(group),
            ),
        };
        Nearest {
            text,
            change,
            rule: self.place(group, index, rule),
        }
    }

    fn place(&self, group: &SecurityGroup, index: usize, rule: &GroupRule) -> Written {
        Written {
            name: format!("SecurityGroup/{}#{index}", group.name),
            place: Some(group.source.at(rule.position).place()),
            path: format!("spec.{}[{index}]", rules_field(self.direction)),
        }
    }

    /// `from a/cli`.
    fn peer(&self) -> String {
        let peer = peer_name(self.policy, self.key, self.direction);
        format!("{} {peer}", preposition(self.direction))
    }

    /// A rule that would allow it, stronger than the one that denies it; there is none stronger
    /// than priority 1.
    fn add_rule(&self, group: &SecurityGroup) -> String {
        let field = rules_field(self.direction);
        let (asked, peer) = (asked(self.key), self.peer());
        let priority = match self.by {
            None => String::new(),
            Some((denying, index, rule)) if rule.priority == 1 => {
                return format!(
                    "SecurityGroup {}, spec.{field}[{index}]: leave {asked} {peer} out of what it \
                     drops, {}",
                    denying.name,
                    about(rule, self.direction)
                );
            }
            Some((_, _, rule)) => format!(", priority below {}", rule.priority),
        };
        let name = &group.name;
        format!(
            "SecurityGroup {name}, spec.{field}: add a rule that allows {asked} {peer}{priority}"
        )
    }

    /// What of a rule does not fit.
    fn off(&self, rule: &GroupRule) -> Off {
        let (policy, key) = (self.policy, self.key);
        let (own, peer) = match self.direction {
            Direction::Ingress => (key.destination, key.source),
            Direction::Egress => (key.source, key.destination),
        };
        let ip = |address: Address| -> IpAddr { address.to_ip(key.family) };
        let number = match (rule.protocol, rule.family) {
            (GroupProtocol::Any, _) => key.protocol,
            (GroupProtocol::Tcp, _) => protocol::TCP,
            (GroupProtocol::Udp, _) => protocol::UDP,
            (GroupProtocol::Icmp, Family::V4) => protocol::ICMP,
            (GroupProtocol::Icmp, Family::V6) => protocol::ICMPV6,
        };
        let within = |(first, last): (u16, u16), port| (first..=last).contains(&port);
        let ports = number == key.protocol
            && within(rule.ports, key.destination_port)
            && within(rule.source_ports, key.source_port);
        let remote = match &rule.remote {
            Remote::Address(net) => net.contains(&ip(peer)),
            Remote::Group { name, .. } => {
                let mut known = policy.ports.by_address(key.zone, key.family, peer);
                known.any(|port| {
                    let mut addresses = port.addresses_as_member();
                    port.groups.contains(name) && addresses.any(|address| address == ip(peer))
                })
            }
        };
        let local = rule.local.is_none_or(|net| net.contains(&ip(own)));
        match (ports, remote && local) {
            (true, true) => Off::Nothing,
            (false, true) => Off::Ports,
            (true, false) => Off::Remote,
            (false, false) => Off::Both,
        }
    }
}

/// What of a rule does not fit a packet, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Off {
    Nothing,
    Ports,
    Remote,
    Both,
}

/// What to change where no rule is near.
pub(super) fn change(stage: &super::Stage) -> String {
    let names: Vec<_> = stage.isolated_by.iter().map(|by| &*by.name).collect();
    match names.first() {
        Some(_) => format!(
            "{}: add an {}Rules entry that allows it",
            names.join(" or "),
            stage.direction
        ),
        None => format!(
            "Pod {}: bind it to a SecurityGroup that exists, or to none",
            stage.protects
        ),
    }
}

const fn tier(opinion: &Opinion) -> u8 {
    match opinion.kind {
        StageKind::SecurityGroupEgressLower | StageKind::SecurityGroupIngressLower => 1,
        _ => 0,
    }
}

fn tier_text(opinion: &Opinion) -> String {
    match (tier(opinion), opinion.verdict) {
        (1, RuleVerdict::Deny) => " in tier 1".to_owned(),
        _ => String::new(),
    }
}

fn peer_name(policy: &PolicySet, key: &FlowKey, direction: Direction) -> String {
    let peer = match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    end_name(policy, key, peer)
}

const fn preposition(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}
