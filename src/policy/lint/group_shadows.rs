//! Rules of security groups to which stronger ones leave nothing.

use std::collections::HashMap;

use ipnet::IpNet;

use super::super::finding::id;
use super::super::security_group::{GroupProtocol, GroupRule, Remote, rules_field};
use super::super::{Direction, SecurityGroup};
use super::security_group::Linter;
use crate::wire::Family;

impl<'l> Linter<'l> {
    /// Rules to which a stronger one of their own group leaves nothing.
    pub(super) fn shadowed(&mut self, group: &SecurityGroup, direction: Direction) {
        let rules = group.rules(direction);
        let mut by_remote: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            by_remote.entry(remote_key(rule)).or_default().push(index);
        }
        let field = rules_field(direction);
        for (index, rule) in rules.iter().enumerate() {
            let wider = wider_remotes(rule).into_iter();
            let candidates = wider.filter_map(|key| by_remote.get(&key)).flatten();
            let covering = candidates
                .copied()
                .filter(|&other| other != index && covers(&rules[other], rule))
                .filter(|&other| {
                    let strength = |at: usize| (rules[at].priority, rules[at].policy, at);
                    let same = rules[other].policy == rule.policy;
                    let stronger = rules[other].priority < rule.priority;
                    stronger || same && strength(other) < strength(index)
                })
                .min();
            if let Some(other) = covering {
                let message = format!(
                    "no effect: {field}[{other}] (priority {}, {}) covers everything it is about",
                    rules[other].priority,
                    rules[other].policy.name()
                );
                let path = format!("spec.{field}[{index}]");
                self.group(id::SHADOWED_RULE, group, rule.position, &path, message);
            }
        }
    }

    /// The groups of the same tier that every pod of a group is bound to as well.
    pub(super) fn companions(&self, group: &SecurityGroup) -> Vec<&'l SecurityGroup> {
        let members = self.members(&group.name).iter();
        let mut lists = members.map(|port| &port.groups);
        let Some(first) = lists.next() else {
            return Vec::new();
        };
        let mut common: Vec<&str> = first.iter().map(String::as_str).collect();
        for list in lists {
            common.retain(|name| list.iter().any(|other| other == name));
        }
        let others = common.into_iter().filter(|name| *name != group.name);
        let others = others.filter_map(|name| self.groups.get(name).copied());
        others.filter(|other| other.tier == group.tier).collect()
    }

    /// Rules to which a stronger one of another group leaves nothing.
    pub(super) fn shadowed_by(
        &mut self,
        group: &SecurityGroup,
        other: &SecurityGroup,
        direction: Direction,
    ) {
        let stronger = other.rules(direction);
        let mut by_remote: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, rule) in stronger.iter().enumerate() {
            by_remote.entry(remote_key(rule)).or_default().push(index);
        }
        let field = rules_field(direction);
        for (index, rule) in group.rules(direction).iter().enumerate() {
            let wider = wider_remotes(rule).into_iter();
            let candidates = wider.filter_map(|key| by_remote.get(&key)).flatten();
            let covering = candidates.copied().find(|&at| {
                let one = &stronger[at];
                // Of two that say the same with the same strength one is enough to be told.
                let strength =
                    |rule: &GroupRule, name: &str| (rule.priority, rule.policy, name.to_owned());
                covers(one, rule) && strength(one, &other.name) < strength(rule, &group.name)
            });
            if let Some(at) = covering {
                let message = format!(
                    "no effect: {field}[{at}] of SecurityGroup {} (priority {}, {}), to which every \
                     pod of this group is bound too, covers everything it is about",
                    other.name,
                    stronger[at].priority,
                    stronger[at].policy.name()
                );
                let path = format!("spec.{field}[{index}]");
                self.group(id::SHADOWED_RULE, group, rule.position, &path, message);
            }
        }
    }
}

fn remote_key(rule: &GroupRule) -> String {
    match &rule.remote {
        Remote::Address(net) => net.to_string(),
        Remote::Group { name, .. } => format!("group {name}"),
    }
}

/// The keys of remotes that contain a rule's: its own, and every block around it.
fn wider_remotes(rule: &GroupRule) -> Vec<String> {
    match &rule.remote {
        Remote::Group { name, .. } => {
            let everything = match rule.family {
                Family::V4 => "0.0.0.0/0",
                Family::V6 => "::/0",
            };
            vec![format!("group {name}"), everything.to_owned()]
        }
        Remote::Address(net) => {
            let lengths = 0..=net.prefix_len();
            let around = lengths.filter_map(|length| IpNet::new(net.addr(), length).ok());
            around.map(|net| net.trunc().to_string()).collect()
        }
    }
}

/// Is every packet of `narrow` one of `wide`, remotes aside?
fn covers(wide: &GroupRule, narrow: &GroupRule) -> bool {
    let protocols = wide.protocol == GroupProtocol::Any || wide.protocol == narrow.protocol;
    let locals = match (&wide.local, &narrow.local) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide.contains(narrow),
        (Some(_), None) => false,
    };
    let ranges = |wide: (u16, u16), narrow: (u16, u16)| wide.0 <= narrow.0 && narrow.1 <= wide.1;
    wide.family == narrow.family
        && protocols
        && locals
        && ranges(wide.ports, narrow.ports)
        && ranges(wide.source_ports, narrow.source_ports)
}
