//! The administrator's tiers: which rule decides, what a rule that passes spares, what to change.

use super::{asked, end_name, protected};
use crate::classifier::{RuleIndex, RuleVerdict};
use crate::control::decide::{Decider, Opinion};
use crate::policy::tiers::{Action, PodScope, Tier, TierPeer, TierPeerKind, TierPort, TierRule};
use crate::policy::{Direction, PolicySet, StageKind, TierPolicy};
use crate::wire::{FlowKey, protocol};

/// The tier of a stage, if it is one.
fn tier(opinion: &Opinion) -> Option<Tier> {
    match opinion.kind {
        StageKind::AdminEgress | StageKind::AdminIngress => Some(Tier::Admin),
        StageKind::BaselineEgress | StageKind::BaselineIngress => Some(Tier::Baseline),
        _ => None,
    }
}

/// What the deciding rule of a tier says, or why there is none; `None` of any other stage.
pub(super) fn reason(decider: &Decider, key: &FlowKey, opinion: &Opinion) -> Option<String> {
    let tier = tier(opinion)?;
    let set = decider.policy();
    let Some((policy, index, rule)) = deciding(decider, opinion) else {
        return Some(no_match(set, key, opinion.direction(), tier));
    };
    let place = rule_name(policy, index, rule);
    let what = format!(
        "{} {}",
        ports_text(rule),
        peers_text(rule, opinion.direction())
    );
    if let Some(field) = rule.unknown_peer() {
        return Some(format!(
            "{place} denies everything: its peer \"{field}\" is of a version not known here"
        ));
    }
    Some(match rule.action {
        Action::Accept => format!("{place} accepts {what}, and no weaker rule is asked"),
        Action::Deny => format!("{place} denies {what}"),
        Action::Pass => {
            let spared = spared(decider, key, opinion);
            format!("{place} passes {what}: the rest of the tier is not asked{spared}")
        }
    })
}

/// What to change for a rule of a tier not to deny.
pub(super) fn change(decider: &Decider, key: &FlowKey, opinion: &Opinion) -> Option<String> {
    let tier = tier(opinion)?;
    let (policy, index, _) = deciding(decider, opinion)?;
    let (field, peer) = match opinion.direction() {
        Direction::Ingress => ("ingress", Direction::Egress),
        Direction::Egress => ("egress", Direction::Ingress),
    };
    let wanted = format!("{} {}", asked(key), end_name(decider.policy(), key, peer));
    let wanted = match opinion.direction() {
        Direction::Ingress => wanted.replacen(' ', " from ", 1),
        Direction::Egress => wanted.replacen(' ', " to ", 1),
    };
    let accept = match policy.label().starts_with("Cluster") {
        true => "Accept",
        false => "Allow",
    };
    let or_before = match tier {
        Tier::Admin => "",
        Tier::Baseline => ", or a NetworkPolicy that allows it",
    };
    Some(format!(
        "{}, spec.{field}[{index}]: put a rule before it with action {accept} for {wanted}{or_before}",
        policy.label().replacen('/', " ", 1)
    ))
}

/// The policy rule that decides.
fn deciding<'d>(
    decider: &'d Decider,
    opinion: &Opinion,
) -> Option<(&'d TierPolicy, usize, &'d TierRule)> {
    let origin = decider.origin(opinion)?;
    of_label(decider.policy(), &origin.label, opinion.direction())
}

fn of_label<'s>(
    set: &'s PolicySet,
    label: &str,
    direction: Direction,
) -> Option<(&'s TierPolicy, usize, &'s TierRule)> {
    let (object, index) = label.rsplit_once('#')?;
    let index: usize = index.parse().ok()?;
    let mut policies = set.policies.tiers.iter();
    let policy = policies.find(|policy| policy.label() == object)?;
    Some((policy, index, policy.rules(direction).get(index)?))
}

fn rule_name(policy: &TierPolicy, index: usize, rule: &TierRule) -> String {
    let own = match &*rule.name {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    let object = policy.label().replacen('/', " ", 1);
    format!("rule {index}{own} of {object}")
}

/// What the tier would have said without the rule that passes.
fn spared(decider: &Decider, key: &FlowKey, opinion: &Opinion) -> String {
    let set = decider.policy();
    let Some(rule) = opinion.rule else {
        return String::new();
    };
    let (shard, RuleIndex(decided)) = set.stages[opinion.stage].shard_of(rule);
    let rules = &shard.rules;
    let own = rules.rule(RuleIndex(decided)).origin;
    let mut later = rules.rules().iter().skip(decided as usize + 1);
    let next = later.find(|rule| rule.origin != own && rules.matches(rule, key));
    next.map_or_else(String::new, |next| {
        let does = match next.verdict {
            RuleVerdict::Allow => "accept",
            RuleVerdict::Deny => "deny",
            RuleVerdict::Pass => "pass too",
        };
        format!(
            ", where {} would {does}",
            shard.origins[next.origin.0 as usize].label
        )
    })
}

fn no_match(set: &PolicySet, key: &FlowKey, direction: Direction, tier: Tier) -> String {
    let Some(pod) = protected(set, key, direction) else {
        return "no pod: the tier says nothing of it".to_owned();
    };
    let namespace = set.inventory.namespace(&pod.namespace);
    let selects = |policy: &&TierPolicy| {
        let PodScope { namespaces, pods } = &policy.subject;
        policy.tier == tier
            && !policy.rules(direction).is_empty()
            && namespace.is_some_and(|found| namespaces.matches(&found.labels))
            && pods.matches(&pod.labels)
    };
    let policies = set.policies.tiers.iter().filter(selects);
    let names: Vec<_> = policies.map(TierPolicy::label).collect();
    match names.is_empty() {
        true => "no policy of the tier selects it".to_owned(),
        false => format!("no rule of {} matches", names.join(", ")),
    }
}

fn ports_text(rule: &TierRule) -> String {
    let text = |port: &TierPort| match port {
        TierPort::Range {
            protocol,
            first,
            last,
        } if first == last => format!("{}/{first}", protocol::name(*protocol)),
        TierPort::Range {
            protocol,
            first,
            last,
        } => format!("{}/{first}-{last}", protocol::name(*protocol)),
        TierPort::Named(name) => format!("port {name}"),
    };
    let texts: Vec<_> = rule.ports.iter().map(text).collect();
    match texts.is_empty() {
        true => "everything".to_owned(),
        false => texts.join(", "),
    }
}

fn peers_text(rule: &TierRule, direction: Direction) -> String {
    let text = |peer: &TierPeer| match &peer.kind {
        TierPeerKind::Pods(PodScope { namespaces, pods }) => {
            let pods = match pods.is_empty() {
                true => "all pods".to_owned(),
                false => format!("pods {pods}"),
            };
            match namespaces.is_empty() {
                true => format!("{pods} everywhere"),
                false => format!("{pods} of namespaces {namespaces}"),
            }
        }
        TierPeerKind::Networks(networks) => {
            let texts: Vec<_> = networks.iter().map(ToString::to_string).collect();
            texts.join(", ")
        }
        TierPeerKind::Nodes(nodes) => format!("nodes {nodes}"),
        TierPeerKind::DomainNames(names) => names.join(", "),
        TierPeerKind::Unknown(field) => format!("\"{field}\""),
    };
    let preposition = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let texts: Vec<_> = rule.peers.iter().map(text).collect();
    format!("{preposition} {}", texts.join(", "))
}
