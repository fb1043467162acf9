//! Of a denial by a list for what leaves the cluster: the rules that come nearest to allowing.

use std::net::IpAddr;

use super::openshift::written;
use super::{Nearest, Written, asked};
use crate::control::decide::{Decider, Opinion};
use crate::policy::egress_firewall::{FirewallDestination, FirewallPort, FirewallRule};
use crate::policy::inventory::Source;
use crate::policy::openshift::{Destination, EgressRule, RuleType};
use crate::policy::{NameUser, PolicySet, StageKind};
use crate::wire::{FlowKey, protocol};

/// How far an allowing rule is from allowing, nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    /// It is about the destination, on other ports.
    Ports,
    /// It stands behind the rule that denies.
    Behind,
    /// It is about a name of which no address is known.
    Unresolved,
}

/// A rule of any list, as far as distances go.
struct Rule<'r> {
    allows: bool,
    /// Is it about the destination?
    fits: bool,
    /// And about the port?
    ports_fit: bool,
    /// A name without any address.
    unresolved: Option<&'r str>,
    /// `tcp/443 to 192.0.2.0/24`.
    about: String,
    position: crate::policy::document::Position,
}

/// The nearest rules, one of each way of being near.
pub(super) fn nearest(decider: &Decider, key: &FlowKey, opinion: &Opinion) -> Vec<Nearest> {
    let policy = decider.policy();
    let Some((name, decided)) = decider.origin(opinion).and_then(written) else {
        return Vec::new();
    };
    let (kind, source, rules) = match opinion.kind {
        StageKind::EgressNetworkPolicy => {
            let mut all = policy.policies.openshift.egress_network_policies.iter();
            let list = all.find(|one| format!("{}/{}", one.namespace, one.name) == name);
            let Some(list) = list else { return Vec::new() };
            let rules = list.rules.iter().map(|rule| of_policy(policy, key, rule));
            (
                "EgressNetworkPolicy",
                &list.source,
                rules.collect::<Vec<_>>(),
            )
        }
        StageKind::EgressFirewall => {
            let mut all = policy.policies.egress_firewalls.iter();
            let list = all.find(|one| format!("{}/{}", one.namespace, one.name) == name);
            let Some(list) = list else { return Vec::new() };
            let rules = list.rules.iter().map(|rule| of_firewall(policy, key, rule));
            ("EgressFirewall", &list.source, rules.collect())
        }
        _ => return Vec::new(),
    };
    let mut found: Vec<_> = rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.allows)
        .filter_map(|(index, rule)| {
            let distance = match (rule.fits, rule.ports_fit, rule.unresolved) {
                (true, true, _) if index > decided => Distance::Behind,
                (true, false, _) => Distance::Ports,
                (_, true, Some(_)) if index < decided => Distance::Unresolved,
                _ => return None,
            };
            Some((distance, index, rule))
        })
        .collect();
    found.sort_by_key(|(distance, index, _)| (*distance, *index));
    found.dedup_by_key(|(distance, ..)| *distance);
    let object = format!("{kind} {name}");
    let told = found.into_iter().map(|(distance, index, rule)| {
        let (text, change) = told(key, &object, decided, (distance, index, rule));
        Nearest {
            text,
            change,
            rule: place(kind, name, source, index, rule),
        }
    });
    told.collect()
}

fn place(kind: &str, name: &str, source: &Source, index: usize, rule: &Rule) -> Written {
    Written {
        name: format!("{kind}/{name}#{index}"),
        place: Some(source.at(rule.position).place()),
        path: format!("spec.egress[{index}]"),
    }
}

fn told(
    key: &FlowKey,
    object: &str,
    decided: usize,
    (distance, index, rule): (Distance, usize, &Rule),
) -> (String, String) {
    let allows = format!("rule {index} of {object} allows {}", rule.about);
    let asked = asked(key);
    match distance {
        Distance::Ports if index < decided => (
            format!("{allows}; asked {asked}"),
            format!("{object}, spec.egress[{index}].ports: add {asked}"),
        ),
        Distance::Ports => (
            format!("{allows}, and stands behind rule {decided}; asked {asked}"),
            format!("{object}: add a rule before rule {decided} that allows {asked} there"),
        ),
        Distance::Behind => (
            format!("{allows}, but stands behind rule {decided}"),
            format!("{object}: move rule {index} before rule {decided}"),
        ),
        Distance::Unresolved => {
            let name = rule.unresolved.unwrap_or_default();
            let destination = key.destination.to_ip(key.family);
            (
                format!("{allows}, of which no address is known"),
                format!(
                    "{object}: add a rule before rule {decided} that allows {destination}, if that \
                     is not {name}"
                ),
            )
        }
    }
}

/// `tcp/80, udp/53`.
pub(super) fn ports_text(ports: &[FirewallPort]) -> String {
    let text = |port: &FirewallPort| format!("{}/{}", protocol::name(port.protocol), port.port);
    let texts: Vec<_> = ports.iter().map(text).collect();
    texts.join(", ")
}

fn destination(key: &FlowKey) -> IpAddr {
    key.destination.to_ip(key.family)
}

/// Is it one of a name's addresses, and has the name none?
fn named(policy: &PolicySet, user: NameUser, name: &str, address: IpAddr) -> (bool, bool) {
    match policy.names.addresses(user, name) {
        Some(addresses) => (addresses.contains(&address), addresses.is_empty()),
        None => (false, true),
    }
}

fn of_policy<'r>(policy: &PolicySet, key: &FlowKey, rule: &'r EgressRule) -> Rule<'r> {
    let address = destination(key);
    let (fits, unresolved, about) = match &rule.to {
        Destination::Block(block) => (block.contains(&address), None, block.to_string()),
        Destination::Name(name) => {
            let user = NameUser::EgressNetworkPolicy;
            let (fits, unknown) = named(policy, user, name, address);
            (fits, unknown.then_some(&**name), name.clone())
        }
    };
    Rule {
        allows: rule.rule_type == RuleType::Allow,
        fits,
        ports_fit: true,
        unresolved,
        about,
        position: rule.position,
    }
}

fn of_firewall<'r>(policy: &PolicySet, key: &FlowKey, rule: &'r FirewallRule) -> Rule<'r> {
    let address = destination(key);
    let (fits, unresolved, about) = match &rule.to {
        FirewallDestination::Block(block) => (block.contains(&address), None, block.to_string()),
        FirewallDestination::Name(name) => {
            let user = NameUser::EgressFirewall;
            let (fits, unknown) = named(policy, user, name, address);
            let wildcard = name.starts_with("*.");
            (
                fits,
                (unknown && !wildcard).then_some(&**name),
                name.clone(),
            )
        }
        FirewallDestination::Nodes(selector) => {
            let mut nodes = policy.inventory.nodes();
            let fits = nodes
                .any(|node| selector.matches(&node.labels) && node.addresses.contains(&address));
            (fits, None, format!("the nodes ({selector})"))
        }
    };
    let asked =
        |port: &FirewallPort| port.protocol == key.protocol && port.port == key.destination_port;
    let ports = ports_text(&rule.ports);
    Rule {
        allows: rule.rule_type == RuleType::Allow,
        fits,
        ports_fit: rule.ports.is_empty() || rule.ports.iter().any(asked),
        unresolved,
        about: match rule.ports.is_empty() {
            true => about,
            false => format!("{ports} to {about}"),
        },
        position: rule.position,
    }
}

#[cfg(test)]
mod tests {
    use super::super::explain;
    use crate::classifier::tree::Limits;
    use crate::control::decide::Decider;
    use crate::control::probe::Probe;
    use crate::policy::{Compatibility, Names, SourceFile, load};

    const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {namespace: a, name: cli}, \
                       status: {podIP: 198.18.1.1}}\n---\n";

    #[test]
    fn the_nearest_rule_of_a_list_is_about_other_ports_or_stands_behind_or_waits_for_a_name() {
        let firewall = "{apiVersion: k8s.ovn.org/v1, kind: EgressFirewall, metadata: {namespace: a, \
                        name: default}, spec: {egress: [{type: Allow, to: {cidrSelector: \
                        203.0.113.0/24}, ports: [{protocol: TCP, port: 443}]}, {type: Allow, to: \
                        {dnsName: www.example.com}}, {type: Deny, to: {cidrSelector: 0.0.0.0/0}}, \
                        {type: Allow, to: {cidrSelector: 203.0.113.9/32}}]}}";
        let list = "{apiVersion: v1, kind: EgressNetworkPolicy, metadata: {namespace: a, name: p}, \
                    spec: {egress: [{type: Deny, to: {cidrSelector: 203.0.0.0/8}}, {type: \
                    Allow, to: \
                    {cidrSelector: 203.0.113.0/24}}]}}";
        for (object, nearest, change) in [
            (
                firewall,
                &[
                    "rule 0 of EgressFirewall a/default allows tcp/443 to 203.0.113.0/24; asked \
                     tcp/80",
                    "rule 3 of EgressFirewall a/default allows 203.0.113.9/32, but stands behind \
                     rule 2",
                    "rule 1 of EgressFirewall a/default allows www.example.com, of which no address \
                     is known",
                ][..],
                "EgressFirewall a/default, spec.egress[0].ports: add tcp/80",
            ),
            (
                list,
                &[
                    "rule 1 of EgressNetworkPolicy a/p allows 203.0.113.0/24, but stands behind rule 0",
                ],
                "EgressNetworkPolicy a/p: move rule 1 before rule 0",
            ),
        ] {
            let file = SourceFile {
                name: "m.yaml".into(),
                text: format!("{POD}{object}").into(),
            };
            let loaded = load(&[file], &Compatibility::default(), &Names::default());
            let decider = Decider::new(loaded.policy.unwrap(), &Limits::default()).unwrap();
            let probe = r#"{"from": "a/cli", "to": "ip:203.0.113.9", "proto": "tcp", "port": 80}"#;
            let probe: Probe = serde_json::from_str(probe).unwrap();
            let story = explain(&probe, &decider, &decider).unwrap();
            let denying = story.stages.iter().find(|stage| stage.verdict == "deny");
            let told: Vec<_> = denying
                .unwrap()
                .nearest
                .iter()
                .map(|one| &*one.text)
                .collect();
            assert_eq!(told, nearest);
            assert_eq!(story.change, [change]);
        }
    }
}
