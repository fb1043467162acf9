//! AdminOutputRules to rules. A rule that continues decides nothing, so that there is none for it
//! among those that decide; where rules do something beside deciding there is a second list with
//! all that do anything.

use std::collections::HashMap;

use super::scope::LIST;
use super::{Compiler, Draft, Ranges, StageDraft, block, intern, push, rule_id, singles};
use crate::classifier::{
    AddressMatch, AddressSet, PortRange, ProtocolMatch, Rule, RuleId, RuleVerdict,
};
use crate::policy::admin_output::{Effects, OutputAction, OutputRule};
use crate::policy::inventory::PodIndex;
use crate::policy::stage::ActingRules;

const SYSTEM: &str = "AdminOutputRules";

/// Compiles every list, in the order of their names, for every pod.
pub fn compile(compiler: &mut Compiler, stage: &mut StageDraft) {
    let lists = &compiler.policies.admin_output_rules;
    let namespaces = compiler.inventory.namespaces();
    let pods = compiler.pods_of_all(namespaces.map(|one| one.name.as_str()));
    if pods.is_empty() || lists.iter().all(|list| list.rules.is_empty()) {
        return;
    }
    let mut acting = StageDraft::new(stage.kind);
    for stage in [&mut *stage, &mut acting] {
        compiler.pass_own_node(stage, SYSTEM, &pods);
        compiler.pass_inside(stage, SYSTEM, &pods);
    }
    let (mut effects, mut by_id) = (Vec::new(), HashMap::new());
    for list in lists {
        for (index, rule) in list.rules.iter().enumerate() {
            let (verdict, continues) = match rule.action {
                OutputAction::Drop => (RuleVerdict::Deny, false),
                OutputAction::Accept => (RuleVerdict::Allow, false),
                OutputAction::Continue => (RuleVerdict::Pass, true),
            };
            if continues && !rule.effects.log {
                continue;
            }
            let origin = compiler.written(
                format!("{SYSTEM}/{}#{index}", list.name),
                list.source.at(rule.position),
                format!("spec.rules[{index}]"),
            );
            if !continues {
                compiler.output_rule(stage, &list.name, rule, &pods, verdict, origin);
            }
            let ids = compiler.output_rule(&mut acting, &list.name, rule, &pods, verdict, origin);
            if rule.effects != Effects::default() {
                by_id.extend(ids.into_iter().map(|id| (id, effects.len())));
                effects.push((rule.effects, continues));
            }
        }
    }
    if !effects.is_empty() {
        let of_rule = |rule: &Rule| by_id.get(&rule.id).copied();
        stage.acting = Some(Box::new(ActingRules {
            by_rule: acting.rules.rules().iter().map(of_rule).collect(),
            rules: acting.rules,
            effects,
        }));
    }
}

impl Compiler<'_> {
    /// Adds the rules of one, a rule for each of its ranges of ports, and gives their identities.
    fn output_rule(
        &mut self,
        stage: &mut StageDraft,
        list: &str,
        rule: &OutputRule,
        pods: &[PodIndex],
        verdict: RuleVerdict,
        origin: crate::classifier::OriginId,
    ) -> Vec<RuleId> {
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
        let mut ids = Vec::new();
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
            ids.push(id);
        }
        ids
    }
}

fn blocks(cidrs: &[ipnet::IpNet]) -> Ranges {
    cidrs.iter().flat_map(|cidr| block(*cidr, &[])).collect()
}
