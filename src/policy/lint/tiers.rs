//! Policies of the administrator's tiers that do nothing, or not what their writer will have meant.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::policy::document::Position;
use crate::policy::finding::id;
use crate::policy::inventory::{Inventory, PodIndex};
use crate::policy::selection::Selections;
use crate::policy::tiers::{
    Action, PodScope, Tier, TierKind, TierPeer, TierPeerKind, TierPolicy, TierPort, TierRule,
    domain_fits,
};
use crate::policy::{Direction, Finding, LabelSelector, NameUser, Names, Severity};
use crate::wire::protocol;

/// Rules of other policies that are compared, so that a large set of policies is not read as often
/// as it has rules. Shadows behind that are not told.
const COMPARISONS_MAX: usize = 2_000_000;

/// Warnings about policies that load; `policies` are in the order in which they are asked.
pub fn lint(
    inventory: &Inventory,
    selections: &Selections,
    policies: &[TierPolicy],
    names: &Names,
    findings: &mut Vec<Finding>,
) {
    let mut linter = Linter {
        inventory,
        selections,
        names,
        findings,
    };
    linter.priorities(policies);
    linter.shadowed_by_others(policies);
    for policy in policies {
        let subjects = selections.scope(&policy.subject);
        if subjects.is_empty() {
            let position = policy.subject.namespaces.position;
            let position = position.unwrap_or(policy.source.position);
            let message = format!(
                "no effect: subject (pods {} of namespaces {}) selects no pod",
                policy.subject.pods, policy.subject.namespaces
            );
            linter.warn(
                id::SELECTS_NOTHING,
                policy,
                position,
                "spec.subject",
                message,
            );
            continue;
        }
        if policy.ingress.is_empty() && policy.egress.is_empty() {
            let message = "no effect: neither ingress nor egress has rules".to_owned();
            linter.warn(
                id::INERT_RULES,
                policy,
                policy.source.position,
                "spec",
                message,
            );
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            linter.rules(policy, &subjects, direction);
        }
    }
}

struct Linter<'l> {
    inventory: &'l Inventory,
    selections: &'l Selections<'l>,
    names: &'l Names,
    findings: &'l mut Vec<Finding>,
}

impl Linter<'_> {
    fn priorities(&mut self, policies: &[TierPolicy]) {
        let mut first: HashMap<(Tier, u16), &TierPolicy> = HashMap::new();
        for policy in policies {
            // A BaselineAdminNetworkPolicy has no number: it comes last.
            if policy.kind == TierKind::Baseline {
                continue;
            }
            let other = *first
                .entry((policy.tier, policy.priority))
                .or_insert(policy);
            if other != policy {
                let message = format!(
                    "{} has priority {} too, and upstream leaves open which is asked first; here \
                     {} is",
                    other.label(),
                    policy.priority,
                    other.label()
                );
                let position = policy.source.position;
                self.warn(
                    id::EQUAL_PRIORITY,
                    policy,
                    position,
                    "spec.priority",
                    message,
                );
            }
        }
    }

    /// Rules to which a policy of the same tier that is asked before leaves nothing.
    fn shadowed_by_others(&mut self, policies: &[TierPolicy]) {
        let mut comparisons = 0;
        for (position, policy) in policies.iter().enumerate() {
            let before: Vec<_> = policies[..position]
                .iter()
                .filter(|one| {
                    one.tier == policy.tier && scope_covers(&one.subject, &policy.subject)
                })
                .collect();
            for (direction, field) in [
                (Direction::Ingress, "ingress"),
                (Direction::Egress, "egress"),
            ] {
                for (index, rule) in policy.rules(direction).iter().enumerate() {
                    let found = before.iter().find_map(|one| {
                        comparisons += one.rules(direction).len();
                        let mut rules = one.rules(direction).iter();
                        Some((one, rules.position(|earlier| covers(earlier, rule))?))
                    });
                    if let Some((one, earlier)) = found {
                        let message = format!(
                            "no effect: rule {earlier} of {} is asked before and matches everything \
                             this one could",
                            one.label()
                        );
                        let path = format!("spec.{field}[{index}]");
                        self.warn(id::SHADOWED_RULE, policy, rule.position, &path, message);
                    }
                    if comparisons > COMPARISONS_MAX {
                        return;
                    }
                }
            }
        }
    }

    fn rules(&mut self, policy: &TierPolicy, subjects: &[PodIndex], direction: Direction) {
        let (field, peers) = match direction {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        };
        let rules = policy.rules(direction);
        for (index, rule) in rules.iter().enumerate() {
            let path = format!("spec.{field}[{index}]");
            for (index, peer) in rule.peers.iter().enumerate() {
                self.peer(policy, peer, &format!("{path}.{peers}[{index}]"));
            }
            self.named_ports(policy, subjects, direction, rule, &path);
            let shadow = rules[..index]
                .iter()
                .position(|earlier| covers(earlier, rule));
            if let Some(earlier) = shadow {
                let message = format!(
                    "no effect: rule {earlier} before it matches everything this one could"
                );
                self.warn(id::SHADOWED_RULE, policy, rule.position, &path, message);
            } else if direction == Direction::Egress {
                self.everything_denied(policy, &rules[..index], rule, &path);
            }
        }
    }

    fn peer(&mut self, policy: &TierPolicy, peer: &TierPeer, path: &str) {
        let (id, message) = match &peer.kind {
            TierPeerKind::Pods(scope) if self.selections.scope(scope).is_empty() => (
                id::PEER_SELECTS_NOTHING,
                "no effect: this peer selects no pod".to_owned(),
            ),
            TierPeerKind::Nodes(selector) if !self.any_node(selector) => (
                id::PEER_SELECTS_NOTHING,
                "no effect: this peer selects no node with an address".to_owned(),
            ),
            TierPeerKind::DomainNames(patterns) => {
                let unknown = |pattern: &&String| {
                    let mut known = self.names.iter(NameUser::Tiers);
                    !known.any(|(name, addresses)| {
                        domain_fits(pattern, name) && !addresses.is_empty()
                    })
                };
                let unknown: Vec<_> = patterns.iter().filter(unknown).cloned().collect();
                if unknown.is_empty() {
                    return;
                }
                let message = format!("no address is known for {}", unknown.join(", "));
                (id::UNKNOWN_NAME, message)
            }
            _ => return,
        };
        self.warn(id, policy, peer.position, path, message);
    }

    fn any_node(&self, selector: &LabelSelector) -> bool {
        let mut nodes = self.inventory.nodes();
        nodes.any(|node| selector.matches(&node.labels) && !node.addresses.is_empty())
    }

    fn named_ports(
        &mut self,
        policy: &TierPolicy,
        subjects: &[PodIndex],
        direction: Direction,
        rule: &TierRule,
        path: &str,
    ) {
        let ports = match policy.kind {
            TierKind::Cluster => "protocols",
            TierKind::Admin | TierKind::Baseline => "ports",
        };
        for (index, port) in rule.ports.iter().enumerate() {
            let TierPort::Named(name) = port else {
                continue;
            };
            let has = |protocol: u8| match direction {
                Direction::Ingress => subjects.iter().any(|index| {
                    let pod = self.inventory.pod_at(*index);
                    pod.port_numbers(protocol, name).next().is_some()
                }),
                Direction::Egress => {
                    let pods = self.selections.with_named_port(protocol, name);
                    !pods.is_empty()
                }
            };
            let mut protocols = [protocol::TCP, protocol::UDP, protocol::SCTP].into_iter();
            if protocols.any(has) {
                continue;
            }
            let whose = match direction {
                Direction::Ingress => "no selected pod",
                Direction::Egress => "no pod",
            };
            let message = format!("no effect: {whose} has a port named \"{name}\"");
            let path = format!("{path}.{ports}[{index}]");
            self.warn(
                id::UNKNOWN_NAMED_PORT,
                policy,
                rule.position,
                &path,
                message,
            );
        }
    }

    /// A rule that was to close the way out of the cluster and closes the one to its pods too.
    fn everything_denied(
        &mut self,
        policy: &TierPolicy,
        earlier: &[TierRule],
        rule: &TierRule,
        path: &str,
    ) {
        let everything = |network: &IpNet| {
            let has = |address: &std::net::IpAddr| network.contains(address);
            let mut pods = self.inventory.pods().iter().filter(|pod| pod.is_subject());
            network.prefix_len() == 0 && pods.any(|pod| pod.addresses.iter().any(has))
        };
        let all_pods = |peer: &TierPeer| match &peer.kind {
            TierPeerKind::Pods(scope) => scope.namespaces.is_empty() && scope.pods.is_empty(),
            _ => false,
        };
        let spares_pods =
            |rule: &TierRule| rule.ports.is_empty() && rule.peers.iter().any(all_pods);
        if rule.action != Action::Deny || earlier.iter().any(spares_pods) {
            return;
        }
        for (index, peer) in rule.peers.iter().enumerate() {
            let TierPeerKind::Networks(networks) = &peer.kind else {
                continue;
            };
            if let Some(network) = networks.iter().find(|network| everything(network)) {
                let message = format!(
                    "{network} means pods too, so their traffic is denied; a rule before this one \
                     that passes all namespaces spares them"
                );
                let path = format!("{path}.to[{index}].networks");
                self.warn(id::DENIES_PODS, policy, peer.position, &path, message);
            }
        }
    }

    fn warn(
        &mut self,
        id: &'static str,
        policy: &TierPolicy,
        position: Position,
        path: &str,
        message: String,
    ) {
        self.findings.push(Finding {
            severity: Severity::Warning,
            id,
            place: policy.source.at(position).place(),
            document: policy.source.document(),
            object: policy.label(),
            path: path.to_owned(),
            message,
        });
    }
}

/// Does a rule match everything that a later one could?
fn covers(earlier: &TierRule, later: &TierRule) -> bool {
    if earlier.unknown_peer().is_some() {
        return earlier.action != Action::Accept;
    }
    if later.unknown_peer().is_some() {
        return false;
    }
    let port = |port: &TierPort| earlier.ports.iter().any(|one| port_covers(one, port));
    let peer = |peer: &TierPeer| peer_covers(&earlier.peers, &peer.kind);
    let ports = earlier.ports.is_empty() || !later.ports.is_empty() && later.ports.iter().all(port);
    ports && later.peers.iter().all(peer)
}

fn port_covers(one: &TierPort, other: &TierPort) -> bool {
    match (one, other) {
        (
            TierPort::Range {
                protocol,
                first,
                last,
            },
            TierPort::Range {
                protocol: of,
                first: from,
                last: to,
            },
        ) => protocol == of && first <= from && to <= last,
        _ => one == other,
    }
}

fn peer_covers(peers: &[TierPeer], kind: &TierPeerKind) -> bool {
    let any = |fits: &dyn Fn(&TierPeerKind) -> bool| peers.iter().any(|peer| fits(&peer.kind));
    match kind {
        TierPeerKind::Pods(scope) => any(&|peer| match peer {
            TierPeerKind::Pods(wider) => scope_covers(wider, scope),
            _ => false,
        }),
        TierPeerKind::Nodes(selector) => any(&|peer| match peer {
            TierPeerKind::Nodes(wider) => selector_covers(wider, selector),
            _ => false,
        }),
        TierPeerKind::Networks(networks) => networks.iter().all(|network| {
            any(&|peer| match peer {
                TierPeerKind::Networks(wider) => wider.iter().any(|one| one.contains(network)),
                _ => false,
            })
        }),
        TierPeerKind::DomainNames(names) => names.iter().all(|name| {
            any(&|peer| match peer {
                TierPeerKind::DomainNames(wider) => wider
                    .iter()
                    .any(|one| one == name || domain_fits(one, name)),
                _ => false,
            })
        }),
        TierPeerKind::Unknown(_) => false,
    }
}

fn scope_covers(wider: &PodScope, scope: &PodScope) -> bool {
    selector_covers(&wider.namespaces, &scope.namespaces)
        && selector_covers(&wider.pods, &scope.pods)
}

/// Everything one selects the other does: as far as can be told without asking for labels.
fn selector_covers(wider: &LabelSelector, selector: &LabelSelector) -> bool {
    let labels = wider
        .match_labels
        .iter()
        .all(|(key, value)| selector.match_labels.get(key) == Some(value));
    let expressions = wider
        .match_expressions
        .iter()
        .all(|one| selector.match_expressions.contains(one));
    labels && expressions
}
