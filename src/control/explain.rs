//! Why a packet is allowed or denied, stage by stage, as data and in one line.

mod ends;
mod layer2;
mod lists;
mod multi_network;
mod nearest;
mod openshift;
mod security_group;
mod state;
mod tiers;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use ends::{End, Owner, asked};
pub(super) use layer2::written as secured_by;

use super::decide::{Decider, Opinion};
use super::judge::{self, JudgeError, Judgement, Question};
use super::probe::Probe;
use crate::classifier::RuleVerdict;
use crate::policy::compatibility::{NetworkPolicyProfile, Plugin};
use crate::policy::inventory::{Namespace, Source};
use crate::policy::{
    Direction, NetworkPolicy, PRIMARY_NETWORK, Place, Pod, PolicyKey, PolicySet, StageKind,
};
use crate::policy::{ISOLATION_ANNOTATION, isolation_annotation};
use crate::wire::FlowKey;

/// The whole story of one packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The question, `a/cli > b/web tcp/80`.
    pub probe: String,
    /// `allow` or `deny`.
    pub verdict: String,
    /// The verdict's reason in one line.
    pub reason: String,
    /// What policy was asked about, `tcp 198.18.1.1:40000 > 198.18.2.1:80`; for an answer, the
    /// packet that opened its flow. Absent for ARP.
    pub packet: Option<String>,
    /// What the state of the packet has to do with it; absent for the first packet of a flow.
    pub state: Option<String>,
    /// Who sends `packet`.
    pub from: Option<End>,
    /// Who receives it.
    pub to: Option<End>,
    /// The Service in between.
    pub service: Option<ServiceStep>,
    /// The answer to a packet that opens a flow, and what it needs to pass; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// Why no stage was asked.
    pub exempt: Option<String>,
    /// What each stage says, in order.
    pub stages: Vec<Stage>,
    /// What would have to be changed to have it otherwise; empty when allowed.
    pub change: Vec<String>,
}

/// A Service's translation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStep {
    /// `namespace/name`.
    pub service: String,
    /// Its ClusterIP, if the manifests give it.
    pub cluster_address: Option<IpAddr>,
    /// The port asked for.
    pub port: u16,
    /// `namespace/name` of the pod behind it.
    pub backend: String,
    /// The port of that pod.
    pub backend_port: u16,
}

/// What one stage says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Short name of the family: `NP`.
    pub family: String,
    /// `egress` or `ingress`.
    pub direction: String,
    /// Whom it protects: `namespace/name` of a pod, else the address.
    pub protects: String,
    /// `allow`, `deny`, or `none` where it has no opinion, which allows.
    pub verdict: String,
    /// What isolates whom it protects; empty when nothing does.
    pub isolated_by: Vec<Written>,
    /// The deciding rule.
    pub rule: Option<Written>,
    /// What the deciding rule says, or that there is none.
    pub reason: String,
    /// For an implicit denial, the rules that come nearest to allowing, nearest first; one of each
    /// way of being near.
    pub nearest: Vec<Nearest>,
    /// What would have to be changed for a denying stage to allow, where no rule comes near.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// Something somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// A rule's label, `NetworkPolicy/b/web-in#0`; or the object, `NetworkPolicy b/web-in`.
    pub name: String,
    /// Where; absent for what no file holds.
    pub place: Option<Place>,
    /// Field path in the object; may be empty.
    pub path: String,
}

/// A rule that almost allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nearest {
    /// `rule 2 of NetworkPolicy b/web-in allows tcp/443 from this peer; asked tcp/80`.
    pub text: String,
    /// What would have to be changed for it to allow.
    pub change: String,
    /// The rule.
    pub rule: Written,
}

/// Explains a probe: the `before` generation matters to established flows alone.
///
/// # Errors
/// An end that cannot be resolved, or a defect of this program.
pub fn explain(probe: &Probe, now: &Decider, before: &Decider) -> Result<Explanation, JudgeError> {
    let judgement = judge::judge(probe, now, before)?;
    let decider = if judgement.question == Question::Kept {
        before
    } else {
        now
    };
    let key = judgement.key();
    let (asked_from, asked_to) = match judge::answers(probe.state) {
        true => (&probe.to, &probe.from),
        false => (&probe.from, &probe.to),
    };
    let end =
        |direction, endpoint| key.map(|key| ends::end(decider.policy(), key, direction, endpoint));
    let mut stages = layer2::stages(&judgement.layer2);
    let mut change: Vec<_> = judgement.layer2.iter().filter_map(layer2::change).collect();
    if let (Some(decision), Some(packet)) = (&judgement.decision, &judgement.asked) {
        let opinions = decision.opinions.iter();
        let opinions = opinions.map(|opinion| stage(decider, packet, opinion));
        let of_policy: Vec<_> = opinions.collect();
        change.extend(changes(&of_policy));
        stages.extend(of_policy);
    }
    Ok(Explanation {
        probe: probe.to_string(),
        verdict: verdict_name(judgement.allow).to_owned(),
        reason: summary(decider, &judgement),
        packet: key.map(FlowKey::to_string),
        state: state::state(&judgement),
        answers: state::answers(&judgement),
        from: end(Direction::Egress, asked_from),
        to: end(Direction::Ingress, asked_to),
        service: judgement
            .translation
            .as_ref()
            .zip(key)
            .map(|(translation, key)| ServiceStep {
                service: translation.service.clone(),
                cluster_address: translation.cluster_address,
                port: translation.port,
                backend: translation.backend.clone(),
                backend_port: key.destination_port,
            }),
        exempt: judgement
            .decision
            .as_ref()
            .and_then(|decision| decision.exempt)
            .map(str::to_owned),
        change,
        stages,
    })
}

const fn verdict_name(allow: bool) -> &'static str {
    if allow { "allow" } else { "deny" }
}

fn stage(decider: &Decider, packet: &PolicyKey, opinion: &Opinion) -> Stage {
    let key = &opinion.kind.view(packet, &decider.policy().compatibility);
    let rule = decider.origin(opinion).map(|origin| Written {
        name: origin.label.clone(),
        place: origin.place(),
        path: origin.path.clone(),
    });
    let change = match opinion.verdict {
        RuleVerdict::Deny => tiers::change(decider, key, opinion).or_else(|| {
            let origin = decider.origin(opinion)?;
            let policy = decider.policy();
            multi_network::change(policy, opinion, origin)
                .or_else(|| openshift::change(policy, key, opinion, origin))
        }),
        _ => None,
    };
    let nearest = match opinion.verdict {
        RuleVerdict::Deny if is_network_policy(opinion) => {
            nearest::nearest(decider.policy(), key, opinion.direction())
        }
        RuleVerdict::Deny if security_group::is_one(opinion) => {
            security_group::nearest(decider, key, opinion)
        }
        RuleVerdict::Deny if is_multi_network_policy(opinion) && change.is_none() => {
            multi_network::nearest(decider.policy(), key, opinion.direction())
        }
        RuleVerdict::Deny => lists::nearest(decider, key, opinion),
        _ => Vec::new(),
    };
    let verdict = match opinion.verdict {
        RuleVerdict::Allow => "allow",
        RuleVerdict::Deny => "deny",
        RuleVerdict::Pass => "none",
    };
    Stage {
        family: opinion.family().to_owned(),
        direction: direction_name(opinion.direction()).to_owned(),
        protects: end_name(decider.policy(), key, opinion.direction()),
        verdict: verdict.to_owned(),
        isolated_by: isolation(decider.policy(), key, opinion),
        change,
        rule,
        reason: stage_reason(decider, key, opinion),
        nearest,
    }
}

fn is_multi_network_policy(opinion: &Opinion) -> bool {
    matches!(
        opinion.kind,
        StageKind::MultiNetworkPolicyEgress | StageKind::MultiNetworkPolicyIngress
    )
}

fn is_network_policy(opinion: &Opinion) -> bool {
    matches!(
        opinion.kind,
        StageKind::NetworkPolicyEgress | StageKind::NetworkPolicyIngress
    )
}

fn stage_reason(decider: &Decider, key: &FlowKey, opinion: &Opinion) -> String {
    let policy = decider.policy();
    if let Some(by) = opinion.spared_by {
        return format!("not asked: {} has decided", by.family());
    }
    if let Some(reason) = tiers::reason(decider, key, opinion) {
        return reason;
    }
    if security_group::is_one(opinion) {
        return security_group::reason(decider, key, opinion);
    }
    let Some(origin) = decider.origin(opinion) else {
        return unmatched(policy, key, opinion);
    };
    let implicit = opinion.verdict == RuleVerdict::Deny && origin.source.is_none();
    if implicit && is_multi_network_policy(opinion) {
        let elsewhere = multi_network::elsewhere(policy, key, opinion.direction());
        return no_rule(policy, key, opinion.direction()) + &elsewhere;
    }
    if let Some(reason) = multi_network::reason(policy, key, opinion, origin) {
        return reason;
    }
    if let Some(story) = openshift::story(policy, key, opinion, origin) {
        return story.reason;
    }
    if !is_network_policy(opinion) {
        return match opinion.verdict {
            RuleVerdict::Allow => format!("{} allows", origin.label),
            RuleVerdict::Deny => format!("{} denies", origin.label),
            RuleVerdict::Pass => format!("{} passes the question on", origin.label),
        };
    }
    if opinion.verdict == RuleVerdict::Deny {
        return no_rule(policy, key, opinion.direction());
    }
    if origin.label.ends_with("#own-node") {
        return "a pod and the node it runs on always reach each other".into();
    }
    if origin.label.ends_with("#icmp") {
        return "icmp=always lets ICMP pass".into();
    }
    let text = policy.policies.network_policies.iter().find_map(|one| {
        let label = format!("NetworkPolicy/{}#", one.full_name());
        let index = origin.label.strip_prefix(&label)?.parse().ok()?;
        {
            let reading = nearest::Reading::NetworkPolicy;
            nearest::rule_text(policy, key, opinion.direction(), reading, one, index)
        }
    });
    text.unwrap_or_else(|| format!("{} allows", origin.label))
}

/// Why a step has no opinion.
fn unmatched(policy: &PolicySet, key: &FlowKey, opinion: &Opinion) -> String {
    let of_policies = is_network_policy(opinion) || is_multi_network_policy(opinion);
    let pod = protected(policy, key, opinion.direction());
    match (of_policies, pod) {
        (false, _) => "no rule matches".to_owned(),
        (true, None) => "not isolated: no pod has the address".to_owned(),
        (true, Some(_)) if is_network_policy(opinion) && key.zone != PRIMARY_NETWORK => {
            "not asked: NetworkPolicy is about the cluster's own network alone".to_owned()
        }
        (true, Some(_)) => "not isolated".to_owned(),
    }
}

fn no_rule(policy: &PolicySet, key: &FlowKey, direction: Direction) -> String {
    let (preposition, peer) = match direction {
        Direction::Ingress => ("from", Direction::Egress),
        Direction::Egress => ("to", Direction::Ingress),
    };
    let peer = end_name(policy, key, peer);
    format!("no rule allows {} {preposition} {peer}", asked(key))
}

/// One change a denying stage; all of them are needed.
fn changes(stages: &[Stage]) -> Vec<String> {
    let denying = stages.iter().filter(|stage| stage.verdict == "deny");
    denying
        .map(|stage| match (stage.nearest.first(), &stage.change) {
            (Some(nearest), _) => nearest.change.clone(),
            (None, Some(change)) => change.clone(),
            (None, None) if stage.family == "SG" => security_group::change(stage),
            (None, None) => {
                let Stage {
                    direction,
                    protects,
                    ..
                } = stage;
                let names: Vec<_> = stage.isolated_by.iter().map(|by| &*by.name).collect();
                let names = names.join(", ");
                format!("{names}: add an {direction} rule, here or in a policy for {protects}")
            }
        })
        .collect()
}

/// The verdict's reason in one line.
pub fn summary(decider: &Decider, judgement: &Judgement) -> String {
    if let Some(check) = judgement.dropped()
        && let Some(refusal) = &check.refusal
    {
        return layer2::summary(check, refusal);
    }
    let (Some(decision), Some(key)) = (&judgement.decision, judgement.key()) else {
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
        (None, Some(opinion)) => {
            let compatibility = &decider.policy().compatibility;
            let asked = judgement.asked.as_ref();
            let view = asked.map(|packet| opinion.kind.view(packet, compatibility));
            stage_summary(decider, opinion, &view.unwrap_or(*key))
        }
        (None, None) => "neither end is isolated".to_owned(),
    };
    of_flow + &reason
}

fn stage_summary(decider: &Decider, opinion: &Opinion, key: &FlowKey) -> String {
    let direction = direction_name(opinion.direction());
    let policy = decider.policy();
    let protects = end_name(policy, key, opinion.direction());
    if opinion.verdict != RuleVerdict::Deny {
        let reason = stage_reason(decider, key, opinion);
        return format!("{direction} at {protects}: {reason}");
    }
    if !is_network_policy(opinion) && !is_multi_network_policy(opinion) {
        let reason = stage_reason(decider, key, opinion);
        return format!("{} {direction} at {protects}: {reason}", opinion.family());
    }
    let isolation = isolation(policy, key, opinion);
    let names: Vec<_> = isolation.iter().map(|by| &*by.name).collect();
    let names = names.join(", ");
    let no_rule = no_rule(policy, key, opinion.direction());
    format!("{direction} at {protects}: isolated by {names}, and {no_rule}")
}

const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// The pod a stage of this direction protects.
fn protected<'p>(policy: &'p PolicySet, key: &FlowKey, direction: Direction) -> Option<&'p Pod> {
    let address = match direction {
        Direction::Ingress => key.destination,
        Direction::Egress => key.source,
    };
    let attached = multi_network::attachment(policy, key, address).map(|(pod, _)| pod);
    attached.or_else(|| policy.inventory.pod_by_address(key.family, address))
}

/// Its interface, where the address is of one on a secondary network.
fn interface<'p>(policy: &'p PolicySet, key: &FlowKey, direction: Direction) -> Option<&'p str> {
    let address = match direction {
        Direction::Ingress => key.destination,
        Direction::Egress => key.source,
    };
    let (_, attachment) = multi_network::attachment(policy, key, address)?;
    Some(&attachment.interface)
}

/// Name of the end a stage of this direction protects.
fn end_name(policy: &PolicySet, key: &FlowKey, direction: Direction) -> String {
    let address = match direction {
        Direction::Ingress => key.destination,
        Direction::Egress => key.source,
    };
    match (
        protected(policy, key, direction),
        interface(policy, key, direction),
    ) {
        (Some(pod), Some(interface)) => format!("{}@{interface}", pod.full_name()),
        (Some(pod), None) => pod.full_name(),
        (None, _) => address.to_ip(key.family).to_string(),
    }
}

/// What isolates the pod a step protects.
pub fn isolation(policy: &PolicySet, key: &FlowKey, opinion: &Opinion) -> Vec<Written> {
    let direction = opinion.direction();
    if security_group::is_one(opinion) {
        return security_group::bound(policy, key, opinion);
    }
    if is_multi_network_policy(opinion) {
        return multi_network::isolation(policy, key, direction);
    }
    if !is_network_policy(opinion) {
        return Vec::new();
    }
    let Some(pod) = protected(policy, key, direction) else {
        return Vec::new();
    };
    if policy.compatibility.np_profile == NetworkPolicyProfile::V1Beta1Isolation {
        let namespace = policy.inventory.namespace(&pod.namespace);
        let isolates = |namespace: &&Namespace| {
            direction == Direction::Ingress
                && matches!(isolation_annotation(namespace), Some(Ok(true)))
        };
        let annotated = namespace.filter(isolates).into_iter();
        let written = |namespace: &Namespace| Written {
            name: format!("the annotation of Namespace {}", namespace.name),
            place: namespace.source.as_ref().map(Source::place),
            path: format!("metadata.annotations[{ISOLATION_ANNOTATION}]"),
        };
        return annotated.map(written).collect();
    }
    let written = |isolating: &NetworkPolicy| Written {
        name: format!("NetworkPolicy {}", isolating.full_name()),
        place: Some(isolating.source.place()),
        path: String::new(),
    };
    isolating(policy, pod, direction).map(written).collect()
}

/// The policies that select a pod in a direction.
fn isolating<'p>(
    policy: &'p PolicySet,
    pod: &'p Pod,
    direction: Direction,
) -> impl Iterator<Item = &'p NetworkPolicy> {
    let live = !matches!(
        policy.compatibility.plugin,
        Some(Plugin::MultiTenant | Plugin::Subnet)
    );
    let policies = policy.policies.network_policies.iter().map(|one| &**one);
    policies.filter(move |one| {
        live && one.namespace == pod.namespace
            && one.isolates(direction)
            && one.pod_selector.matches(&pod.labels)
    })
}
