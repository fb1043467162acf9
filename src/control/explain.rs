//! Why a packet is allowed or denied.

use super::decide::{Decider, Opinion};
use super::judge::{Judgement, Question};
use crate::classifier::RuleVerdict;
use crate::policy::{Direction, NetworkPolicy, Pod};
use crate::wire::{FlowKey, protocol};

/// The deciding reason in one line.
pub fn summary(decider: &Decider, judgement: &Judgement) -> String {
    let (Some(decision), Some(key)) = (&judgement.decision, &judgement.asked) else {
        return "address resolution is not subject to policy".into();
    };
    let of_flow = match judgement.question {
        Question::Arp | Question::Opens => String::new(),
        Question::Answers => format!("the flow it answers, {key}: "),
        Question::AnswersAny if decision.allow => format!("it may answer {key}: "),
        Question::AnswersAny => "no flow it could belong to may be opened: ".into(),
        Question::GoesOn => format!("the flow, {key}, asked again: "),
        Question::Kept => format!("the flow, {key}, was allowed and is kept: "),
    };
    let reason = match (decision.exempt, decision.deciding()) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(opinion)) => step_summary(decider, opinion, key),
        (None, None) => "neither end is isolated".to_owned(),
    };
    of_flow + &reason
}

fn step_summary(decider: &Decider, opinion: &Opinion, key: &FlowKey) -> String {
    let direction = direction_name(opinion.direction);
    let subject = end_name(decider, key, opinion.direction);
    let label = decider.origin(opinion).map_or("?", |origin| &origin.label);
    if opinion.verdict != RuleVerdict::Deny {
        return format!("{direction} at {subject}: {label} allows");
    }
    let peer = end_name(decider, key, opposite(opinion.direction));
    let isolating = isolating(decider, key, opinion.direction);
    let names: Vec<_> = isolating
        .iter()
        .map(|policy| format!("NetworkPolicy {}", policy.full_name()))
        .collect();
    let preposition = match opinion.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let by = if names.is_empty() {
        label.to_owned()
    } else {
        names.join(", ")
    };
    format!(
        "{direction} at {subject}: isolated by {by}, and no rule allows {} {preposition} {peer}",
        what(key)
    )
}

/// `tcp/80`, `icmp type 8`, `ip47`.
pub fn what(key: &FlowKey) -> String {
    let name = protocol::name(key.protocol);
    if key.is_icmp() {
        format!("{name} type {}", key.destination_port >> 8)
    } else if matches!(key.protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
        format!("{name}/{}", key.destination_port)
    } else {
        name.into_owned()
    }
}

const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

const fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

/// The pod a step protects.
fn subject<'d>(decider: &'d Decider, key: &FlowKey, direction: Direction) -> Option<&'d Pod> {
    let address = match direction {
        Direction::Ingress => key.destination,
        Direction::Egress => key.source,
    };
    decider
        .policy()
        .inventory
        .pod_by_address(key.family, address)
}

fn end_name(decider: &Decider, key: &FlowKey, direction: Direction) -> String {
    let address = match direction {
        Direction::Ingress => key.destination,
        Direction::Egress => key.source,
    };
    match subject(decider, key, direction) {
        Some(pod) => pod.full_name(),
        None => address.to_ip(key.family).to_string(),
    }
}

/// The policies that isolate the pod a step protects.
fn isolating<'d>(
    decider: &'d Decider,
    key: &FlowKey,
    direction: Direction,
) -> Vec<&'d NetworkPolicy> {
    let Some(pod) = subject(decider, key, direction) else {
        return Vec::new();
    };
    let isolates = |policy: &&NetworkPolicy| {
        policy.namespace == pod.namespace
            && policy.isolates(direction)
            && policy.pod_selector.matches(&pod.labels)
    };
    decider.policy().policies.iter().filter(isolates).collect()
}
