//! What OpenShift's network and the other lists for destinations outside the cluster have to say.

use super::asked;
use crate::classifier::RuleVerdict;
use crate::control::decide::Opinion;
use crate::policy::egress_firewall::FirewallDestination;
use crate::policy::openshift::{
    CHANGE_NETWORK_ANNOTATION, Destination, EgressAddresses, PolicyState, Projects, RuleType,
    policy_states,
};
use crate::policy::{Origin, PolicySet, StageKind};
use crate::wire::{Address, Family, FlowKey};

/// Why a step said what it said, and what would have to be changed; `None` for other steps.
pub struct Story {
    /// Why.
    pub reason: String,
    /// What to change, where it denies.
    pub change: String,
}

/// The story of an opinion a rule decided.
pub fn story(
    policy: &PolicySet,
    key: &FlowKey,
    opinion: &Opinion,
    origin: &Origin,
) -> Option<Story> {
    let part = origin.label.rsplit('#').next().unwrap_or_default();
    let fixed = match part {
        "in-cluster" => Some("the destination is in the cluster, and this list is not asked"),
        "own-node-dns" => Some("a pod always reaches port 53 of the node it runs on"),
        "own-node" => Some("packets to the pod's own node do not pass this list"),
        _ => None,
    };
    let is_ours =
        StageKind::ProjectIsolation <= opinion.kind && opinion.kind <= StageKind::AdminOutput;
    if let Some(reason) = fixed.filter(|_| is_ours) {
        return Some(Story {
            reason: reason.to_owned(),
            change: String::new(),
        });
    }
    match opinion.kind {
        StageKind::ProjectIsolation => Some(isolation(policy, key, part)),
        StageKind::EgressNetworkPolicy => Some(egress_policy(policy, key, origin)),
        StageKind::EgressFirewall => Some(firewall(policy, key, origin)),
        StageKind::EgressIp => Some(egress_address(policy, key)),
        StageKind::AdminOutput => Some(output(policy, key, origin)),
        _ => None,
    }
}

/// What would have to be changed for a step not to deny.
pub fn change(
    policy: &PolicySet,
    key: &FlowKey,
    opinion: &Opinion,
    origin: &Origin,
) -> Option<String> {
    let story = story(policy, key, opinion, origin)?;
    (opinion.verdict == RuleVerdict::Deny).then_some(story.change)
}

fn namespace(policy: &PolicySet, family: Family, address: Address) -> String {
    let pod = policy.inventory.pod_by_address(family, address);
    let of_service = || {
        let address = address.to_ip(family);
        let mut services = policy.inventory.services().iter();
        let service = services.find(|one| one.cluster_addresses.contains(&address))?;
        Some(service.namespace.clone())
    };
    let name = pod.map(|pod| pod.namespace.clone()).or_else(of_service);
    name.unwrap_or_else(|| address.to_ip(family).to_string())
}

fn isolation(policy: &PolicySet, key: &FlowKey, part: &str) -> Story {
    let openshift = &policy.policies.openshift;
    let plugin = policy.compatibility.plugin;
    let projects = Projects::new(&policy.inventory, openshift, plugin);
    let from = namespace(policy, key.family, key.source);
    let to = namespace(policy, key.family, key.destination);
    let network = |project: &str| match projects.vnid(project) {
        Some(vnid) => format!("{project} (network {vnid})"),
        None => project.to_owned(),
    };
    match part {
        "no-multicast" => Story {
            reason: format!(
                "multicast stays within a network all of whose projects want it; that of {} is none, \
                 or the receiver is not in it",
                network(&from)
            ),
            change: "annotate the NetNamespace of every project of the network with \
                     netnamespace.network.openshift.io/multicast-enabled: \"true\""
                .to_owned(),
        },
        "multicast" => Story {
            reason: format!(
                "every project of the network of {} wants multicast",
                network(&from)
            ),
            change: String::new(),
        },
        "isolation" => Story {
            reason: format!(
                "{} and {} are in different networks, and neither is global",
                network(&from),
                network(&to)
            ),
            change: format!(
                "NetNamespace {from}: give it the netid of {to}, annotate it with \
                 {CHANGE_NETWORK_ANNOTATION}: join:{to}, or make one of the two global"
            ),
        },
        _ => Story {
            reason: format!(
                "{} and {} are in one network, or one of them is global",
                network(&from),
                network(&to)
            ),
            change: String::new(),
        },
    }
}

/// `Kind/…/name#3`: the object's name without its kind, and the rule.
pub(super) fn written(origin: &Origin) -> Option<(&str, usize)> {
    let (object, rule) = origin.label.rsplit_once('#')?;
    let (_, name) = object.split_once('/')?;
    Some((name, rule.parse().ok()?))
}

fn verb(rule_type: RuleType) -> &'static str {
    match rule_type {
        RuleType::Allow => "allows",
        RuleType::Deny => "denies",
    }
}

fn egress_policy(policy: &PolicySet, key: &FlowKey, origin: &Origin) -> Story {
    let openshift = &policy.policies.openshift;
    let destination = key.destination.to_ip(key.family);
    if let Some((name, index)) = written(origin) {
        let mut all = openshift.egress_network_policies.iter();
        let found = all.find(|one| format!("{}/{}", one.namespace, one.name) == name);
        if let Some(rule) = found.and_then(|one| one.rules.get(index)) {
            let to = match &rule.to {
                Destination::Block(block) => block.to_string(),
                Destination::Name(name) => format!("{name} ({destination})"),
            };
            let verb = verb(rule.rule_type);
            return Story {
                reason: format!("rule {index} of EgressNetworkPolicy {name} {verb} {to}"),
                change: format!(
                    "EgressNetworkPolicy {name}: add a rule before rule {index} that allows \
                     {destination}"
                ),
            };
        }
    }
    let own = namespace(policy, key.family, key.source);
    let plugin = policy.compatibility.plugin;
    let projects = Projects::new(&policy.inventory, openshift, plugin);
    match policy_states(openshift, &projects, plugin).get(&own) {
        Some(PolicyState::Joined(members)) => Story {
            reason: format!(
                "the projects {} share a network and one of them has an EgressNetworkPolicy: \
                 everything that leaves the cluster is dropped",
                members.join(", ")
            ),
            change: format!("isolate the project {own}, or delete the EgressNetworkPolicies"),
        },
        _ => Story {
            reason: format!(
                "the project {own} has more than one EgressNetworkPolicy: everything that leaves \
                 the cluster is dropped"
            ),
            change: format!("leave one EgressNetworkPolicy in {own}"),
        },
    }
}

fn firewall(policy: &PolicySet, key: &FlowKey, origin: &Origin) -> Story {
    let label = origin.label.as_str();
    let destination = key.destination.to_ip(key.family);
    let (name, index) = written(origin).unwrap_or((label, 0));
    let mut all = policy.policies.egress_firewalls.iter();
    let found = all.find(|one| format!("{}/{}", one.namespace, one.name) == name);
    let Some(rule) = found.and_then(|one| one.rules.get(index)) else {
        return Story {
            reason: label.to_owned(),
            change: label.to_owned(),
        };
    };
    let to = match &rule.to {
        FirewallDestination::Block(block) => block.to_string(),
        FirewallDestination::Name(name) => format!("{name} ({destination})"),
        FirewallDestination::Nodes(selector) => format!("the nodes ({selector})"),
    };
    let verb = verb(rule.rule_type);
    let what = match rule.ports.is_empty() {
        true => String::new(),
        false => format!("{} to ", super::lists::ports_text(&rule.ports)),
    };
    Story {
        reason: format!("rule {index} of EgressFirewall {name} {verb} {what}{to}"),
        change: format!(
            "EgressFirewall {name}: add a rule before rule {index} that allows {} to {destination}",
            asked(key)
        ),
    }
}

fn egress_address(policy: &PolicySet, key: &FlowKey) -> Story {
    let openshift = &policy.policies.openshift;
    let projects = Projects::new(&policy.inventory, openshift, policy.compatibility.plugin);
    let own = namespace(policy, key.family, key.source);
    let mut states = EgressAddresses::by_project(&policy.inventory, openshift, &projects);
    match states.remove(&own) {
        Some(EgressAddresses::Hosted(hosted)) => {
            let hosted = hosted.iter();
            let texts: Vec<_> = hosted
                .map(|one| format!("{} ({})", one.address, one.node))
                .collect();
            Story {
                reason: format!("the project {own} leaves with {}", texts.join(" or ")),
                change: String::new(),
            }
        }
        Some(EgressAddresses::Dropped(reason)) => Story {
            reason: format!("the project {own} has no address to leave with: {reason}"),
            change: format!(
                "list one of its addresses in egressIPs of exactly one HostSubnet, or empty \
                 egressIPs of NetNamespace {own}"
            ),
        },
        None => Story {
            reason: format!("the project {own} asks for no address"),
            change: String::new(),
        },
    }
}

fn output(policy: &PolicySet, key: &FlowKey, origin: &Origin) -> Story {
    let (name, index) = written(origin).unwrap_or((&origin.label, 0));
    let mut all = policy.policies.admin_output_rules.iter();
    let list = all.find(|list| list.name == name);
    let rule = list.and_then(|list| list.rules.get(index));
    let rule = rule.map_or(String::new(), |rule| format!(" ({})", rule.name));
    Story {
        reason: format!("rule {index}{rule} of AdminOutputRules {name} decides"),
        change: format!(
            "AdminOutputRules {name}: add a rule before rule {index} that accepts {} to {}",
            asked(key),
            key.destination.to_ip(key.family)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Explanation, explain};
    use crate::classifier::tree::Limits;
    use crate::control::decide::Decider;
    use crate::control::probe::{Probe, State};
    use crate::policy::{Compatibility, Names, SourceFile, load};

    fn explained(objects: &str, to: &str, port: u16) -> Explanation {
        let text = format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: n}}, status: {{addresses: [{{type: \
             InternalIP, address: 198.18.0.1}}]}}}}\n---\n\
             {{apiVersion: v1, kind: Pod, metadata: {{namespace: a, name: cli}}, spec: {{nodeName: \
             n}}, status: {{podIP: 198.18.1.1}}}}\n---\n\
             {{apiVersion: v1, kind: Pod, metadata: {{namespace: b, name: web}}, status: {{podIP: \
             198.18.1.2}}}}\n{objects}"
        );
        let file = SourceFile {
            name: "m.yaml".into(),
            text: text.into(),
        };
        let loaded = load(&[file], &Compatibility::default(), &Names::default());
        let policy = loaded
            .policy
            .unwrap_or_else(|| panic!("{:?}", loaded.findings));
        let decider = Decider::new(policy, &Limits::default()).unwrap();
        let probe = Probe {
            from: "a/cli".parse().unwrap(),
            to: to.parse().unwrap(),
            protocol: "udp".parse().unwrap(),
            port: Some(port),
            source_port: None,
            icmp_type: None,
            hop_limit: None,
            family: None,
            source: None,
            destination: None,
            state: State::New,
            source_mac: None,
            destination_mac: None,
            vlan: None,
            arp: None,
            nd: None,
        };
        explain(&probe, &decider, &decider).unwrap()
    }

    fn network(name: &str, number: u32, more: &str) -> String {
        format!(
            "---\n{{apiVersion: v1, kind: NetNamespace, metadata: {{name: {name}}}, netname: {name}, \
             netid: {number}{more}}}\n"
        )
    }

    fn policy(name: &str) -> String {
        format!(
            "---\n{{apiVersion: v1, kind: EgressNetworkPolicy, metadata: {{namespace: a, name: \
             {name}}}, spec: {{egress: [{{type: Deny, to: {{cidrSelector: 0.0.0.0/0}}}}]}}}}\n"
        )
    }

    #[test]
    fn every_denial_says_why_and_what_to_change() {
        let firewall = "---\n{apiVersion: k8s.ovn.org/v1, kind: EgressFirewall, metadata: {namespace: \
                        a, name: default}, spec: {egress: [{type: Deny, to: {nodeSelector: {}}}]}}\n";
        let list = "---\n{apiVersion: portcullis.io/v1alpha1, kind: AdminOutputRules, metadata: \
                    {name: out}, spec: {rules: [{name: none, action: drop}]}}\n";
        let outside = "ip:203.0.113.9";
        for (objects, to, reason, change) in [
            (
                network("a", 10, "") + &network("b", 11, ""),
                "b/web",
                "a (network 10) and b (network 11) are in different networks, and neither is global",
                "NetNamespace a: give it the netid of b, annotate it with \
                 pod.network.openshift.io/multitenant.change-network: join:b, or make one of \
                 the two global",
            ),
            (
                policy("p"),
                outside,
                "rule 0 of EgressNetworkPolicy a/p denies 0.0.0.0/0",
                "EgressNetworkPolicy a/p: add a rule before rule 0 that allows 203.0.113.9",
            ),
            (
                policy("p") + &policy("q"),
                outside,
                "the project a has more than one EgressNetworkPolicy: everything that leaves the \
                 cluster is dropped",
                "leave one EgressNetworkPolicy in a",
            ),
            (
                policy("p") + &network("a", 10, "") + &network("b", 10, ""),
                outside,
                "the projects a, b share a network and one of them has an EgressNetworkPolicy: \
                 everything that leaves the cluster is dropped",
                "isolate the project a, or delete the EgressNetworkPolicies",
            ),
            (
                network("a", 10, ", egressIPs: [198.18.0.9]"),
                outside,
                "the project a has no address to leave with: no node has 198.18.0.9",
                "list one of its addresses in egressIPs of exactly one HostSubnet, or empty egressIPs \
                 of NetNamespace a",
            ),
            (
                firewall.to_owned(),
                "node:n",
                "rule 0 of EgressFirewall a/default denies the nodes (everything)",
                "EgressFirewall a/default: add a rule before rule 0 that allows udp/99 to 198.18.0.1",
            ),
            (
                list.to_owned(),
                outside,
                "rule 0 (none) of AdminOutputRules out decides",
                "AdminOutputRules out: add a rule before rule 0 that accepts udp/99 to 203.0.113.9",
            ),
        ] {
            let story = explained(&objects, to, 99);
            assert_eq!(story.verdict, "deny", "{objects}");
            assert!(story.reason.ends_with(reason), "{}", story.reason);
            assert_eq!(story.change, [change]);
        }
        let story = explained(&policy("p"), "node:n", 53);
        assert_eq!(story.verdict, "allow");
        let reason = "a pod always reaches port 53 of the node it runs on";
        assert!(story.reason.ends_with(reason), "{}", story.reason);
    }
}
