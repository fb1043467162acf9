//! EgressFirewalls to rules: destinations in the cluster pass, then the list.

use std::collections::HashMap;

use super::openshift::verdict;
use super::scope::LIST;
use super::{Compiler, Draft, Ranges, StageDraft, block, intern, push, rule_id, singles};
use crate::classifier::{PortRange, ProtocolMatch};
use crate::policy::EgressFirewall;
use crate::policy::egress_firewall::{FirewallDestination, FirewallRule};
use crate::policy::names::NameUser;
use crate::wire::{Address, Family, protocol};

const SYSTEM: &str = "EgressFirewall";

/// Compiles the EgressFirewalls named `default`.
pub fn compile(compiler: &mut Compiler, stage: &mut StageDraft) {
    let all = compiler.policies.egress_firewalls.iter();
    let enforced: Vec<_> = all.filter(|firewall| firewall.is_enforced()).collect();
    let pods = compiler.pods_of_all(enforced.iter().map(|one| one.namespace.as_str()));
    if pods.is_empty() {
        return;
    }
    compiler.pass_inside(stage, SYSTEM, &pods);
    for firewall in enforced {
        compiler.firewall(stage, firewall);
    }
}

impl Compiler<'_> {
    fn firewall(&mut self, stage: &mut StageDraft, firewall: &EgressFirewall) {
        let pods = self.pods_of(&firewall.namespace);
        let subject = self.pods(stage, &pods);
        let mut written: HashMap<String, u32> = HashMap::new();
        for (index, rule) in firewall.rules.iter().enumerate() {
            let ranges = self.firewall_ranges(rule);
            if ranges.is_empty() {
                continue;
            }
            let peer = intern(stage, ranges);
            let origin = self.written(
                format!("{SYSTEM}/{}/{}#{index}", firewall.namespace, firewall.name),
                firewall.source.at(rule.position),
                format!("spec.egress[{index}]"),
            );
            let mut entries: Vec<_> = rule.ports.iter().map(|port| Some(*port)).collect();
            if entries.is_empty() {
                entries.push(None);
            }
            for entry in entries {
                let port = entry.map_or("any".to_owned(), |entry| {
                    format!("{}/{}", protocol::name(entry.protocol), entry.port)
                });
                let content = format!("{:?} {} {port}", rule.rule_type, text(&rule.to));
                let number = written.entry(content.clone()).or_default();
                *number += 1;
                let (namespace, number) = (&firewall.namespace, number.to_string());
                let any = self.here(subject, peer, verdict(rule.rule_type));
                let draft = Draft {
                    id: rule_id(SYSTEM, &[namespace, "rule", &content, &number]),
                    priority: LIST,
                    protocol: entry.map_or(ProtocolMatch::Any, |entry| {
                        ProtocolMatch::Number(entry.protocol)
                    }),
                    ports: entry.map_or(PortRange::ANY, |entry| PortRange::single(entry.port)),
                    origin,
                    ..any
                };
                push(stage, draft);
            }
        }
    }

    fn firewall_ranges(&self, rule: &FirewallRule) -> Ranges {
        let user = NameUser::EgressFirewall;
        let addresses: Vec<_> = match &rule.to {
            FirewallDestination::Block(cidr) => return block(*cidr, &[]),
            FirewallDestination::Name(name) => match name.strip_prefix("*.") {
                Some(parent) => {
                    let below = self.names.one_label_below(user, parent);
                    below.flatten().copied().collect()
                }
                None => {
                    let addresses = self.names.addresses(user, name);
                    addresses.into_iter().flatten().copied().collect()
                }
            },
            FirewallDestination::Nodes(selector) => {
                let nodes = self.inventory.nodes();
                let nodes = nodes.filter(|node| selector.matches(&node.labels));
                nodes.flat_map(|node| node.addresses.clone()).collect()
            }
        };
        let addresses: Vec<(Family, Address)> =
            addresses.into_iter().map(Address::from_ip).collect();
        singles(&addresses.into())
    }
}

/// The destination as text, the same wherever it is written.
fn text(to: &FirewallDestination) -> String {
    match to {
        FirewallDestination::Block(cidr) => format!("block {cidr}"),
        FirewallDestination::Name(name) => format!("name {name}"),
        FirewallDestination::Nodes(selector) => format!("nodes ({selector})"),
    }
}
