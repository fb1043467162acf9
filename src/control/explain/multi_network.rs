//! Interfaces on secondary networks, and what isolates them.

use super::{Nearest, Written, is_multi_network_policy, nearest, protected};
use crate::classifier::RuleVerdict;
use crate::control::decide::Opinion;
use crate::policy::compatibility::MultiNetworkDialect;
use crate::policy::inventory::Attachment;
use crate::policy::multi_network::{acts_on, iptables_reads};
use crate::policy::{Direction, MultiNetworkPolicy, Origin, PRIMARY_NETWORK, Pod, PolicySet};
use crate::wire::{Address, FlowKey};

/// The interface an address belongs to, on the key's network first; none where the address is of
/// the cluster's own network.
pub(super) fn attachment<'p>(
    policy: &'p PolicySet,
    key: &FlowKey,
    address: Address,
) -> Option<(&'p Pod, &'p Attachment)> {
    let inventory = &policy.inventory;
    let ip = address.to_ip(key.family);
    let subjects = || inventory.pods().iter().filter(|pod| pod.is_subject());
    let interfaces = || {
        let of_pod = |pod: &'p Pod| pod.attachments.iter().map(move |one| (pod, one));
        subjects().flat_map(of_pod)
    };
    let has = |one: &&(&Pod, &Attachment)| one.1.addresses.contains(&ip);
    let on_network =
        |one: &&(&Pod, &Attachment)| inventory.network_number(&one.1.network) == Some(key.zone);
    let all: Vec<_> = interfaces().filter(|one| has(&one)).collect();
    let here = all.iter().find(on_network);
    if key.zone == PRIMARY_NETWORK && inventory.pod_by_address(key.family, address).is_some() {
        return None;
    }
    here.or(all.first()).copied()
}

/// The policies that isolate the interface a stage of this direction protects.
pub(super) fn isolation(policy: &PolicySet, key: &FlowKey, direction: Direction) -> Vec<Written> {
    let written = |one: &MultiNetworkPolicy| Written {
        name: format!("MultiNetworkPolicy {}", one.policy.full_name()),
        place: Some(one.policy.source.place()),
        path: String::new(),
    };
    let Some(pod) = protected(policy, key, direction) else {
        return Vec::new();
    };
    let isolating = isolating(policy, key, direction, pod).into_iter();
    isolating.map(written).collect()
}

fn isolating<'p>(
    policy: &'p PolicySet,
    key: &FlowKey,
    direction: Direction,
    pod: &Pod,
) -> Vec<&'p MultiNetworkPolicy> {
    let dialect = policy.compatibility.mnp_compat;
    let inventory = &policy.inventory;
    let number = |one: &Attachment| inventory.network_number(&one.network);
    let isolates = |one: &&MultiNetworkPolicy| {
        let numbers = one.network_numbers(inventory, dialect);
        let listed = numbers.contains(&key.zone);
        let attached = pod.attachments.iter().filter_map(number);
        let iptables = dialect == MultiNetworkDialect::Iptables;
        let mut networks = inventory.networks();
        let acts = networks.any(|(found, one)| found == key.zone && acts_on(one, dialect));
        let elsewhere = iptables && acts && attached.into_iter().any(|one| numbers.contains(&one));
        let selector = &one.policy.pod_selector;
        one.policy.namespace == pod.namespace
            && selector.matches(&pod.labels)
            && (!iptables || iptables_reads(selector))
            && one.isolates(direction, dialect)
            && (listed || elsewhere)
    };
    let policies = policy.policies.multi_network_policies.iter();
    policies.filter(isolates).collect()
}

/// The rules nearest to allowing what a stage of this direction denies.
pub(super) fn nearest(policy: &PolicySet, key: &FlowKey, direction: Direction) -> Vec<Nearest> {
    let Some(pod) = protected(policy, key, direction) else {
        return Vec::new();
    };
    let acting = isolating(policy, key, direction, pod).into_iter();
    let acting = acting.map(|one| &one.policy).collect();
    nearest::nearest_on_network(policy, key, direction, pod, acting)
}

/// That it is a policy for another network that isolates the interface, as under iptables, where
/// that is so.
pub(super) fn elsewhere(policy: &PolicySet, key: &FlowKey, direction: Direction) -> String {
    let dialect = policy.compatibility.mnp_compat;
    let Some(pod) = protected(policy, key, direction) else {
        return String::new();
    };
    let isolating = isolating(policy, key, direction, pod);
    let is_here = |one: &&MultiNetworkPolicy| {
        let numbers = one.network_numbers(&policy.inventory, dialect);
        numbers.contains(&key.zone)
    };
    match isolating.iter().any(is_here) {
        true => String::new(),
        false => " (mnp_compat=iptables: what is isolated on one network is closed on all)".into(),
    }
}

/// What the deciding rule of a step of MultiNetworkPolicy says; `None` of any other step.
pub(super) fn reason(
    policy: &PolicySet,
    key: &FlowKey,
    opinion: &Opinion,
    origin: &Origin,
) -> Option<String> {
    if !is_multi_network_policy(opinion) {
        return None;
    }
    match origin.label.rsplit_once('#')?.1 {
        "own-node" => {
            return Some("a pod and the node it runs on always reach each other".to_owned());
        }
        "icmp" => return Some("icmp=always lets ICMP pass".to_owned()),
        _ => {}
    }
    let direction = opinion.direction();
    let (object, index) = written(policy, origin)?;
    if opinion.verdict == RuleVerdict::Deny {
        let peer = match direction {
            Direction::Ingress => key.source,
            Direction::Egress => key.destination,
        };
        return Some(format!(
            "rule {index} of MultiNetworkPolicy {} excepts {}, and mnp_compat=iptables drops at once \
             what a block excepts",
            object.policy.full_name(),
            peer.to_ip(key.family)
        ));
    }
    let reading = nearest::Reading::MultiNetworkPolicy(policy.compatibility.mnp_compat);
    nearest::rule_text(policy, key, direction, reading, &object.policy, index)
}

/// What to change for a rule not to drop what its block excepts.
pub(super) fn change(policy: &PolicySet, opinion: &Opinion, origin: &Origin) -> Option<String> {
    if !is_multi_network_policy(opinion) {
        return None;
    }
    let (object, index) = written(policy, origin)?;
    Some(format!(
        "MultiNetworkPolicy {}, {}: take the address out of except, or put a rule that allows it \
         before rule {index}",
        object.policy.full_name(),
        origin.path
    ))
}

/// The policy and rule a label names.
fn written<'p>(policy: &'p PolicySet, origin: &Origin) -> Option<(&'p MultiNetworkPolicy, usize)> {
    let (name, index) = origin
        .label
        .strip_prefix("MultiNetworkPolicy/")?
        .rsplit_once('#')?;
    let mut all = policy.policies.multi_network_policies.iter();
    let found = all.find(|one| one.policy.full_name() == name)?;
    Some((found, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::explain;
    use crate::classifier::tree::Limits;
    use crate::control::decide::Decider;
    use crate::control::probe::Probe;
    use crate::policy::{Compatibility, Names, SourceFile, load};

    fn pod(name: &str, number: u8) -> String {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{namespace: d, name: {name}, labels: {{app: \
             {name}}}, annotations: {{k8s.v1.cni.cncf.io/network-status: '[{{\"name\": \"d/net1\", \
             \"interface\": \"net1\", \"ips\": [\"198.19.1.{number}\"]}}, {{\"name\": \"d/net2\", \
             \"interface\": \"net2\", \"ips\": [\"198.19.2.{number}\"]}}]'}}}}, status: {{podIP: \
             198.18.1.{number}}}}}\n---\n"
        )
    }

    /// The denying stage's reason, its nearest rules, and what to change.
    fn told(rules: &str, dialect: &str, interface: &str) -> (String, Vec<String>, Vec<String>) {
        let text = format!(
            "{}{}{{apiVersion: k8s.cni.cncf.io/v1beta1, kind: MultiNetworkPolicy, metadata: \
             {{namespace: d, name: p, annotations: {{k8s.v1.cni.cncf.io/policy-for: net1}}}}, \
             spec: \
             {{podSelector: {{matchLabels: {{app: s}}}}, policyTypes: [Ingress], ingress: \
             [{rules}]}}}}",
            pod("s", 1),
            pod("c", 2)
        );
        let file = SourceFile {
            name: "m.yaml".into(),
            text: text.into(),
        };
        let mut switches = Compatibility::default();
        switches.set("mnp_compat", dialect).unwrap();
        let loaded = load(&[file], &switches, &Names::default());
        let decider = Decider::new(loaded.policy.unwrap(), &Limits::default()).unwrap();
        let probe = format!(
            r#"{{"from": "d/c@{interface}", "to": "d/s@{interface}", "proto": "tcp", "port": 80}}"#
        );
        let probe: Probe = serde_json::from_str(&probe).unwrap();
        let story = explain(&probe, &decider, &decider).unwrap();
        let mut denying = story.stages.into_iter().filter(|one| one.verdict == "deny");
        let denying = denying.next().unwrap();
        let nearest = denying.nearest.into_iter().map(|one| one.text).collect();
        (denying.reason, nearest, story.change)
    }

    #[test]
    fn a_denial_on_a_secondary_network_tells_the_nearest_rule_as_the_dialect_reads_it() {
        let (reason, nearest, change) = told("{ports: [{port: 81}]}", "api", "net1");
        assert_eq!(reason, "no rule allows tcp/80 from d/c@net1");
        let text = "rule 0 of MultiNetworkPolicy d/p allows tcp/81 from this peer; asked tcp/80";
        assert_eq!(nearest, [text]);
        assert_eq!(
            change,
            ["MultiNetworkPolicy d/p, spec.ingress[0].ports: add tcp/80"]
        );
        let other = "{from: [{podSelector: {matchLabels: {app: x}}}]}";
        let (_, nearest, _) = told(other, "iptables", "net1");
        let text = "rule 0 of MultiNetworkPolicy d/p allows everything from pods app=x everywhere; \
                    asked from d/c@net1 (app=c)";
        assert_eq!(nearest, [text]);
    }

    #[test]
    fn what_iptables_does_otherwise_is_told() {
        let except = "{from: [{ipBlock: {cidr: 198.19.1.0/24, except: [198.19.1.2/32]}}]}";
        let (reason, nearest, change) = told(except, "iptables", "net1");
        let text = "rule 0 of MultiNetworkPolicy d/p excepts 198.19.1.2, and mnp_compat=iptables \
                    drops at once what a block excepts";
        assert_eq!((reason.as_str(), nearest.len()), (text, 0));
        assert!(
            change[0].contains("take the address out of except"),
            "{change:?}"
        );
        let (reason, ..) = told(except, "iptables", "net2");
        assert!(reason.ends_with("what is isolated on one network is closed on all)"));
    }
}
