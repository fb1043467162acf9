//! What OpenShift's network and the other lists for destinations outside the cluster have to say.

use super::{Nearest, Written, asked};
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

/// As the nearest rule of a denial: what denies is what has to be changed.
pub fn denial(
    policy: &PolicySet,
    key: &FlowKey,
    opinion: &Opinion,
    origin: &Origin,
) -> Option<Nearest> {
    let story = story(policy, key, opinion, origin)?;
    (opinion.verdict == RuleVerdict::Deny).then(|| Nearest {
        text: story.reason,
        change: story.change,
        rule: Written {
            name: origin.label.clone(),
            place: origin.place.clone(),
            path: origin.path.clone(),
        },
    })
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
fn written(origin: &Origin) -> Option<(&str, usize)> {
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
    Story {
        reason: format!("rule {index} of EgressFirewall {name} {verb} {to}"),
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
