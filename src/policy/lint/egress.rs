//! EgressFirewalls and AdminOutputRules that do nothing, or less than they say.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::policy::admin_output::{AdminOutputRules, OutputAction};
use crate::policy::egress_firewall::{EGRESS_FIREWALL_NAME, EgressFirewall, FirewallDestination};
use crate::policy::finding::id;
use crate::policy::inventory::Source;
use crate::policy::load::Input;
use crate::policy::names::NameUser;
use crate::policy::openshift::RuleType;
use crate::policy::{Finding, Severity};

/// Warnings about objects that load.
pub fn lint(input: &Input, findings: &mut Vec<Finding>) {
    for firewall in &input.policies.egress_firewalls {
        self::firewall(input, firewall, findings);
    }
    for list in &input.policies.admin_output_rules {
        output(list, findings);
    }
}

/// A warning at an object.
pub fn warning(
    id: &'static str,
    source: &Source,
    object: &str,
    path: &str,
    message: String,
) -> Finding {
    Finding {
        severity: Severity::Warning,
        id,
        place: source.place(),
        document: source.document(),
        object: object.to_owned(),
        path: path.to_owned(),
        message,
    }
}

/// The blocks of a list's earlier rules, by the block.
#[derive(Default)]
pub struct Blocks {
    rules: HashMap<IpNet, Vec<usize>>,
}

impl Blocks {
    /// The first earlier rule about a block around this one that `covers` the rule too.
    pub fn around(&self, block: IpNet, covers: impl Fn(usize) -> bool) -> Option<usize> {
        let lengths = 0..=block.prefix_len();
        let around = lengths.filter_map(|length| IpNet::new(block.addr(), length).ok());
        let rules = around.filter_map(|block| self.rules.get(&block.trunc()));
        rules.flatten().copied().filter(|&rule| covers(rule)).min()
    }

    /// Adds a rule.
    pub fn add(&mut self, block: IpNet, rule: usize) {
        self.rules.entry(block.trunc()).or_default().push(rule);
    }
}

/// Rules that stand behind one about the same destinations and ports.
fn shadowed(firewall: &EgressFirewall, object: &str, findings: &mut Vec<Finding>) {
    let mut blocks = Blocks::default();
    for (index, rule) in firewall.rules.iter().enumerate() {
        let FirewallDestination::Block(block) = rule.to else {
            continue;
        };
        let covers = |earlier: usize| {
            let ports = &firewall.rules[earlier].ports;
            let has = |port| ports.contains(port);
            ports.is_empty() || !rule.ports.is_empty() && rule.ports.iter().all(has)
        };
        if let Some(earlier) = blocks.around(block, covers) {
            let path = format!("spec.egress[{index}]");
            let message =
                format!("no effect: rule {earlier} before it matches everything this one could");
            let place = firewall.source.at(rule.position).place();
            let id = id::SHADOWED_RULE;
            let finding = warning(id, &firewall.source, object, &path, message);
            findings.push(Finding { place, ..finding });
        }
        blocks.add(block, index);
    }
}

fn firewall(input: &Input, firewall: &EgressFirewall, findings: &mut Vec<Finding>) {
    let object = format!("EgressFirewall/{}/{}", firewall.namespace, firewall.name);
    if !firewall.is_enforced() {
        let message = format!("no effect: only the one named {EGRESS_FIREWALL_NAME} has");
        let (id, path) = (id::INERT_POLICY, "metadata.name");
        findings.push(warning(id, &firewall.source, &object, path, message));
        return;
    }
    shadowed(firewall, &object, findings);
    for (index, rule) in firewall.rules.iter().enumerate() {
        let mut warn = |id, field: &str, message: String| {
            let path = format!("spec.egress[{index}].to.{field}");
            let place = firewall.source.at(rule.position).place();
            let finding = warning(id, &firewall.source, &object, &path, message);
            findings.push(Finding { place, ..finding });
        };
        match &rule.to {
            FirewallDestination::Block(_) => {}
            FirewallDestination::Nodes(selector) => {
                let mut nodes = input.inventory.nodes();
                if !nodes.any(|node| selector.matches(&node.labels)) {
                    let message = format!("no effect: ({selector}) selects no node");
                    warn(id::PEER_SELECTS_NOTHING, "nodeSelector", message);
                }
            }
            FirewallDestination::Name(name) => {
                let user = NameUser::EgressFirewall;
                let known = match name.strip_prefix("*.") {
                    Some(parent) => input.names.one_label_below(user, parent).next().is_some(),
                    None => input.names.addresses(user, name).is_some(),
                };
                if !known {
                    let consequence = match rule.rule_type {
                        RuleType::Deny => "and what it should deny may pass",
                        RuleType::Allow => "and what it should allow is left to later rules",
                    };
                    let message = format!(
                        "\"{name}\" has no known address: the rule matches nothing, {consequence}"
                    );
                    warn(id::UNRESOLVED_NAME, "dnsName", message);
                }
            }
        }
    }
}

fn output(list: &AdminOutputRules, findings: &mut Vec<Finding>) {
    let object = format!("AdminOutputRules/{}", list.name);
    for (index, rule) in list.rules.iter().enumerate() {
        if rule.action == OutputAction::Continue && !rule.effects.log {
            let path = format!("spec.rules[{index}].action");
            let place = list.source.at(rule.position).place();
            let message = "no effect: a rule that continues and does not log does nothing";
            let message = message.to_owned();
            let finding = warning(id::NOT_ENFORCED, &list.source, &object, &path, message);
            findings.push(Finding { place, ..finding });
        }
    }
}
