//! Objects of OpenShift's network that do nothing, or drop everything.

use std::collections::BTreeMap;

use super::egress::{Blocks, warning};
use crate::policy::finding::id;
use crate::policy::load::Input;
use crate::policy::names::NameUser;
use crate::policy::openshift::{
    CLUSTER_NETWORK_NAME, Destination, EgressAddresses, EgressNetworkPolicy, MULTICAST_ANNOTATION,
    OpenShift, PolicyState, Projects, RuleType, is_everything, policy_states,
};
use crate::policy::{Finding, Severity};

/// Warnings about objects that load.
pub fn lint(input: &Input, findings: &mut Vec<Finding>) {
    let openshift = &input.policies.openshift;
    let plugin = input.compatibility.plugin;
    for network in &openshift.cluster_networks {
        let object = format!("ClusterNetwork/{}", network.name);
        let mut warn = |path: &str, message: String| {
            findings.push(warning(
                id::INERT_POLICY,
                &network.source,
                &object,
                path,
                message,
            ));
        };
        if network.name != CLUSTER_NETWORK_NAME {
            let message = format!("no effect: only the one named {CLUSTER_NETWORK_NAME} has");
            warn("metadata.name", message);
        } else if network.plugin().is_none() && !network.plugin_name.is_empty() {
            let message = format!(
                "no effect: \"{}\" is no plugin of openshift-sdn",
                network.plugin_name
            );
            warn("pluginName", message);
        }
    }
    let projects = Projects::new(input.inventory, openshift, plugin);
    refusals(&projects, findings);
    if !OpenShift::has_networks(plugin) {
        without_networks(openshift, findings);
        return;
    }
    unnumbered(input, &projects, findings);
    let states = policy_states(openshift, &projects, plugin);
    for policy in &openshift.egress_network_policies {
        let state = states.get(&policy.namespace);
        policy_state(policy, &openshift.egress_network_policies, state, findings);
        if let Some(PolicyState::Enforced(_)) = state {
            rules(input, policy, findings);
        }
    }
    multicast(input, &projects, findings);
    addresses(input, &projects, findings);
}

/// Changes of networks that are not made. Upstream such a command fails and nothing changes, which
/// of a set of files means that the set is refused.
fn refusals(projects: &Projects, findings: &mut Vec<Finding>) {
    for refusal in projects.refusals() {
        let (severity, message) = match refusal.is_asked_for {
            true => (Severity::Error, refusal.reason.clone()),
            false => (Severity::Warning, format!("no effect: {}", refusal.reason)),
        };
        let object = format!("NetNamespace/{}", refusal.name);
        let id = id::NETWORK_CHANGE_REFUSED;
        let finding = warning(id, &refusal.source, &object, &refusal.path, message);
        findings.push(Finding {
            severity,
            ..finding
        });
    }
}

/// Where projects are kept apart by numbers, those without one are told.
fn unnumbered(input: &Input, projects: &Projects, findings: &mut Vec<Finding>) {
    if !projects.is_live() {
        return;
    }
    for namespace in input.inventory.namespaces() {
        let (Some(source), None) = (&namespace.source, projects.vnid(&namespace.name)) else {
            continue;
        };
        let object = format!("Namespace/{}", namespace.name);
        let message = "not kept apart from other projects: it has no NetNamespace".to_owned();
        let id = id::UNNUMBERED_PROJECT;
        findings.push(warning(id, source, &object, "metadata.name", message));
    }
}

/// Under the plugin `subnet`.
fn without_networks(openshift: &OpenShift, findings: &mut Vec<Finding>) {
    let message = || "no effect: the plugin subnet keeps no projects apart".to_owned();
    for policy in &openshift.egress_network_policies {
        let object = name(policy);
        findings.push(warning(
            id::INERT_POLICY,
            &policy.source,
            &object,
            "",
            message(),
        ));
    }
    for one in &openshift.net_namespaces {
        let object = format!("NetNamespace/{}", one.name);
        findings.push(warning(
            id::INERT_POLICY,
            &one.source,
            &object,
            "",
            message(),
        ));
    }
}

fn name(policy: &EgressNetworkPolicy) -> String {
    format!("EgressNetworkPolicy/{}/{}", policy.namespace, policy.name)
}

fn policy_state(
    policy: &EgressNetworkPolicy,
    all: &[EgressNetworkPolicy],
    state: Option<&PolicyState>,
    findings: &mut Vec<Finding>,
) {
    let namespace = &policy.namespace;
    let names: Vec<_> = all
        .iter()
        .filter(|other| other.namespace == *namespace && !other.rules.is_empty())
        .map(|other| format!("{namespace}:{}", other.name))
        .collect();
    let names = names.join(", ");
    let (id, path, message) = match state {
        _ if policy.rules.is_empty() => {
            let message = "no effect: a policy without rules counts as none".to_owned();
            (id::INERT_POLICY, "spec.egress", message)
        }
        Some(PolicyState::Ignored) => {
            let message = format!(
                "no effect: EgressNetworkPolicy in global network namespace is not allowed \
                 ({namespace}:{}); ignoring",
                policy.name
            );
            (id::INERT_POLICY, "", message)
        }
        Some(PolicyState::Joined(projects)) => {
            let message = format!(
                "EgressNetworkPolicy not allowed in shared NetNamespace ({}); dropping all traffic \
                 to destinations outside the cluster",
                projects.join(", ")
            );
            (id::EGRESS_DROPPED, "", message)
        }
        Some(PolicyState::Several) => {
            let message = format!(
                "multiple EgressNetworkPolicies in same network namespace ({names}) is not allowed; \
                 dropping all traffic to destinations outside the cluster"
            );
            (id::EGRESS_DROPPED, "", message)
        }
        Some(PolicyState::Enforced(_)) | None => return,
    };
    findings.push(warning(id, &policy.source, &name(policy), path, message));
}

fn rules(input: &Input, policy: &EgressNetworkPolicy, findings: &mut Vec<Finding>) {
    let object = name(policy);
    let mut everything = None;
    let mut blocks = Blocks::default();
    for (index, rule) in policy.rules.iter().enumerate() {
        let mut warn = |id, field: &str, message: String| {
            let path = format!("spec.egress[{index}]{field}");
            let place = policy.source.at(rule.position).place();
            let finding = warning(id, &policy.source, &object, &path, message);
            findings.push(Finding { place, ..finding });
        };
        if let Some(before) = everything {
            let message = format!("no effect: rule {before} matches everything before it");
            warn(id::UNREACHABLE_RULE, "", message);
            continue;
        }
        match &rule.to {
            Destination::Block(block) if is_everything(block) => {
                everything = Some(index);
                if block.prefix_len() == 32 {
                    let message = "0.0.0.0/32 is taken for 0.0.0.0/0, as older versions wrote it";
                    warn(id::CIDR_HOST_BITS, ".to.cidrSelector", message.into());
                }
            }
            Destination::Block(block) if block.addr().is_ipv6() => {
                let message = "no effect: this network has IPv4 alone";
                warn(id::INERT_RULES, ".to.cidrSelector", message.into());
            }
            Destination::Block(block) => {
                if let Some(earlier) = blocks.around(*block, |_| true) {
                    let message = format!(
                        "no effect: rule {earlier} before it matches everything this one could"
                    );
                    warn(id::SHADOWED_RULE, "", message);
                }
                blocks.add(*block, index);
            }
            Destination::Name(name) => {
                let user = NameUser::EgressNetworkPolicy;
                if input.names.addresses(user, name).is_none() {
                    let consequence = match rule.rule_type {
                        RuleType::Deny => "and what it should deny may pass",
                        RuleType::Allow => "and what it should allow is left to later rules",
                    };
                    let message = format!(
                        "\"{name}\" has no known address: the rule matches nothing, {consequence}"
                    );
                    warn(id::UNRESOLVED_NAME, ".to.dnsName", message);
                }
            }
        }
    }
}

/// Annotations that let multicast in as long as all projects of a network have them.
fn multicast(input: &Input, projects: &Projects, findings: &mut Vec<Finding>) {
    let all = &input.policies.openshift.net_namespaces;
    let wants: BTreeMap<_, _> = all
        .iter()
        .map(|one| (one.name.as_str(), one.has_multicast()))
        .collect();
    let by_vnid = projects.by_vnid();
    for one in all {
        let Some(text) = one.annotations.get(MULTICAST_ANNOTATION) else {
            continue;
        };
        let vnid = projects.vnid(&one.name);
        let members = vnid
            .and_then(|vnid| by_vnid.get(&vnid))
            .into_iter()
            .flatten();
        let mut without = members.filter(|name| {
            let exists = input.inventory.namespace(name).is_some();
            exists && wants.get(**name) != Some(&true)
        });
        let message = match (text.as_str(), without.next()) {
            ("true", None) => continue,
            ("true", Some(other)) => {
                format!("no effect: {other} shares the network and does not want multicast")
            }
            _ => format!("no effect: only \"true\" lets multicast in, not \"{text}\""),
        };
        let path = format!("metadata.annotations[{MULTICAST_ANNOTATION}]");
        let object = format!("NetNamespace/{}", one.name);
        findings.push(warning(
            id::INERT_POLICY,
            &one.source,
            &object,
            &path,
            message,
        ));
    }
}

fn addresses(input: &Input, projects: &Projects, findings: &mut Vec<Finding>) {
    let openshift = &input.policies.openshift;
    let states = EgressAddresses::by_project(input.inventory, openshift, projects);
    for one in &openshift.net_namespaces {
        if let Some(EgressAddresses::Dropped(reason)) = states.get(&one.name) {
            let message = format!(
                "all packets of {} to destinations outside the cluster are dropped: {reason}",
                one.name
            );
            let object = format!("NetNamespace/{}", one.name);
            let id = id::EGRESS_DROPPED;
            findings.push(warning(id, &one.source, &object, "egressIPs", message));
        }
    }
    for one in &openshift.host_subnets {
        if !one.egress_blocks.is_empty() && one.egress_addresses.is_empty() {
            let message = "no effect: nobody here chooses addresses from a block; write those the \
                           node has into egressIPs";
            let object = format!("HostSubnet/{}", one.name);
            let (id, path) = (id::INERT_POLICY, "egressCIDRs");
            findings.push(warning(id, &one.source, &object, path, message.into()));
        }
    }
}
