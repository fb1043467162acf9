//! AdminOutputRules to rules. A rule that continues decides nothing, so that there is none for it;
//! what rules do beside deciding is kept as data.

use super::scope::LIST;
use super::{Compiler, Draft, Ranges, StageDraft, block, intern, push, rule_id, singles};
use crate::classifier::{AddressMatch, AddressSet, PortRange, ProtocolMatch, RuleVerdict};
use crate::policy::admin_output::{Effects, OutputAction, OutputRule};
use crate::policy::inventory::PodIndex;

const SYSTEM: &str = "AdminOutputRules";

/// Compiles every list, in the order of their names, for every pod.
pub fn compile(compiler: &mut Compiler, stage: &mut StageDraft) {
    let lists = &compiler.policies.admin_output_rules;
    let namespaces = compiler.inventory.namespaces();
    let pods = compiler.pods_of_all(namespaces.map(|one| one.name.as_str()));
    if pods.is_empty() || lists.iter().all(|list| list.rules.is_empty()) {
        return;
    }
    compiler.pass_own_node(stage, SYSTEM, &pods);
    compiler.pass_inside(stage, SYSTEM, &pods);
    for list in lists {
        for (index, rule) in list.rules.iter().enumerate() {
            let verdict = match rule.action {
                OutputAction::Drop => RuleVerdict::Deny,
                OutputAction::Accept => RuleVerdict::Allow,
                OutputAction::Continue => continue,
            };
            let origin = compiler.written(
                format!("{SYSTEM}/{}#{index}", list.name),
                list.source.at(rule.position),
                format!("spec.rules[{index}]"),
            );
            compiler.output_rule(stage, &list.name, rule, &pods, verdict, origin);
        }
    }
}

impl Compiler<'_> {
    fn output_rule(
        &mut self,
        stage: &mut StageDraft,
        list: &str,
        rule: &OutputRule,
        pods: &[PodIndex],
        verdict: RuleVerdict,
        origin: crate::classifier::OriginId,
    ) {
        let mut senders = singles(&self.selections.addresses(pods));
        if !rule.from.is_empty() {
            let from = AddressSet::from_ranges(blocks(&rule.from));
            senders.retain(|(family, address, _)| from.contains(*family, *address));
        }
        let subject = intern(stage, senders);
        let peer = match rule.to.is_empty() {
            true => AddressMatch::Any,
            false => intern(stage, blocks(&rule.to)),
        };
        let protocol = rule
            .protocol
            .map_or(ProtocolMatch::Any, ProtocolMatch::Number);
        let mut ports: Vec<_> = rule.ports.clone();
        if ports.is_empty() {
            ports.push((PortRange::ANY.first, PortRange::ANY.last));
        }
        for (number, (first, last)) in ports.into_iter().enumerate() {
            let id = rule_id(SYSTEM, &[list, &rule.name, &number.to_string()]);
            let draft = Draft {
                id,
                priority: LIST,
                protocol,
                ports: PortRange { first, last },
                origin,
                ..self.here(subject, peer, verdict)
            };
            push(stage, draft);
            if rule.effects != Effects::default() {
                stage.effects.push((id, rule.effects));
            }
        }
    }
}

fn blocks(cidrs: &[ipnet::IpNet]) -> Ranges {
    cidrs.iter().flat_map(|cidr| block(*cidr, &[])).collect()
}
