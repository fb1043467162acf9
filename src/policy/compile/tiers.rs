//! The administrator's tiers to rules: four stages, in each the policies of a tier by precedence
//! and their rules in the order written.
//!
//! ```text
//! priority 0, 1, …   one number per policy rule, one compiled rule per port entry
//!          –         no rule: the tier has no opinion
//! ```
//!
//! A tier ends with the first rule that matches, whichever it is: `Pass` is nothing but a first
//! match without opinion.

use std::collections::HashMap;

use super::{Compiler, Draft, Ranges, StageDraft, block, intern, name_of, push, rule_id, singles};
use crate::classifier::{AddressMatch, AddressSet, PortRange, ProtocolMatch, RuleVerdict};
use crate::policy::compatibility::AdminScope;
use crate::policy::inventory::PodIndex;
use crate::policy::stage::StageKind;
use crate::policy::tiers::{
    Action, PodScope, Tier, TierPeer, TierPeerKind, TierPort, TierRule, domain_fits,
};
use crate::policy::{Direction, NameUser, PRIMARY_NETWORK, TierPolicy};
use crate::wire::{Address, Family, protocol};

/// A port name as a number: its text, subject and peer where they differ, protocol and port.
type Named = (
    String,
    (Option<AddressMatch>, Option<AddressMatch>),
    u8,
    PortRange,
);

/// Compiles the rules of one tier and direction.
pub fn compile(compiler: &mut Compiler, stage: &mut StageDraft) {
    let tier = match stage.kind {
        StageKind::AdminEgress | StageKind::AdminIngress => Tier::Admin,
        _ => Tier::Baseline,
    };
    let policies = compiler.policies.tiers.iter();
    let mut priority = 0;
    for policy in policies.filter(|policy| policy.tier == tier) {
        compiler.tier_policy(stage, policy, &mut priority);
    }
}

impl Compiler<'_> {
    fn tier_policy(&mut self, stage: &mut StageDraft, policy: &TierPolicy, priority: &mut u32) {
        let direction = name_of(stage.direction());
        let rules = policy.rules(stage.direction());
        if rules.is_empty() {
            return;
        }
        let pods = self.selections.scope(&policy.subject);
        let mut written: HashMap<String, u32> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            let origin = self.written(
                format!("{}#{index}", policy.label()),
                policy.source.at(rule.position),
                format!("spec.{direction}[{index}]"),
            );
            let rule_text = rule_text(rule);
            for (network, zone) in self.tier_networks() {
                for (port, clause) in self.tier_clauses(stage, rule, &pods, network) {
                    let content = format!("{rule_text} {port}{}", self.network_text(network));
                    let number = written.entry(content.clone()).or_default();
                    *number += 1;
                    let parts = [&policy.name, direction, &content, &number.to_string()];
                    let draft = Draft {
                        id: rule_id(policy.kind.name(), &parts),
                        priority: *priority,
                        zone,
                        origin,
                        ..clause
                    };
                    push(stage, draft);
                }
            }
            *priority += 1;
        }
    }

    /// The networks the tiers are about, each with what rules ask of it.
    fn tier_networks(&self) -> Vec<(u16, Option<u16>)> {
        let mut networks = vec![(PRIMARY_NETWORK, self.primary_zone())];
        if self.compatibility.cnp_secondary == AdminScope::All {
            let others = self.inventory.networks();
            networks.extend(others.map(|(number, _)| (number, Some(number))));
        }
        networks
    }

    /// What tells rules of one network from the same of another; empty for the cluster's own.
    pub(super) fn network_text(&self, number: u16) -> String {
        let mut networks = self.inventory.networks();
        let found = networks.find(|(one, _)| *one == number);
        found.map_or_else(String::new, |(_, network)| {
            format!(" on {}", network.full_name())
        })
    }

    /// The compiled rules of a policy rule, each with its port entry as text.
    fn tier_clauses(
        &self,
        stage: &mut StageDraft,
        rule: &TierRule,
        pods: &[PodIndex],
        network: u16,
    ) -> Vec<(String, Draft)> {
        let networks = &[network];
        let subject = self.pods_on(stage, pods, networks);
        let verdict = match rule.action {
            Action::Accept => RuleVerdict::Allow,
            Action::Deny => RuleVerdict::Deny,
            Action::Pass => RuleVerdict::Pass,
        };
        if rule.unknown_peer().is_some() {
            // Who meant this peer is told nothing wrong: either nobody is accepted, or all denied.
            let everybody = Draft::any(subject, AddressMatch::Any, RuleVerdict::Deny);
            let closed = (rule.action != Action::Accept).then_some(everybody);
            return closed
                .map(|draft| ("any".to_owned(), draft))
                .into_iter()
                .collect();
        }
        let peers = self.tier_peers(rule, networks);
        let peer = intern(stage, peers.clone());
        let mut clauses = Vec::new();
        if rule.ports.is_empty() {
            clauses.push(("any".to_owned(), Draft::any(subject, peer, verdict)));
        }
        for port in &rule.ports {
            match port {
                &TierPort::Range {
                    protocol,
                    first,
                    last,
                } => {
                    let draft = Draft {
                        protocol: ProtocolMatch::Number(protocol),
                        ports: PortRange { first, last },
                        ..Draft::any(subject, peer, verdict)
                    };
                    clauses.push((port_text(port), draft));
                }
                TierPort::Named(name) => {
                    let named = self.tier_named(stage, name, pods, &peers, network);
                    let named = named.into_iter().map(|(text, ends, protocol, ports)| {
                        let (own, other) = ends;
                        let draft = Draft {
                            protocol: ProtocolMatch::Number(protocol),
                            ports,
                            ..Draft::any(own.unwrap_or(subject), other.unwrap_or(peer), verdict)
                        };
                        (text, draft)
                    });
                    clauses.extend(named);
                }
            }
        }
        clauses
    }

    /// A port name, once per number it has, of whatever protocol: as text, the receivers that call
    /// it so in place of the end they are, protocol and port.
    fn tier_named(
        &self,
        stage: &mut StageDraft,
        name: &str,
        pods: &[PodIndex],
        peers: &[(Family, Address, Address)],
        network: u16,
    ) -> Vec<Named> {
        let networks = &[network];
        let within = AddressSet::from_ranges(peers.iter().copied());
        let mut named = Vec::new();
        for number in [protocol::TCP, protocol::UDP, protocol::SCTP] {
            let numbers = match stage.direction() {
                Direction::Ingress => self.numbers_of(number, name, pods, networks),
                Direction::Egress => self.numbers_within(number, name, Some(&within), networks),
            };
            for (port, addresses) in numbers {
                let receivers = Some(intern(stage, singles(&addresses)));
                let ends = match stage.direction() {
                    Direction::Ingress => (receivers, None),
                    Direction::Egress => (None, receivers),
                };
                let text = format!("{name}={}/{port}", protocol::name(number));
                named.push((text, ends, number, PortRange::single(port)));
            }
        }
        named
    }

    /// All addresses a rule's peers mean.
    fn tier_peers(&self, rule: &TierRule, networks: &[u16]) -> Ranges {
        let mut ranges = Ranges::new();
        for peer in &rule.peers {
            match &peer.kind {
                TierPeerKind::Pods(scope) => {
                    ranges.extend(singles(&self.selections.scope_addresses(scope, networks)));
                }
                TierPeerKind::Networks(blocks) => {
                    ranges.extend(blocks.iter().flat_map(|one| block(*one, &[])));
                }
                TierPeerKind::Nodes(selector) => {
                    let nodes = self.inventory.nodes();
                    let selected = nodes.filter(|node| selector.matches(&node.labels));
                    ranges.extend(selected.flat_map(|node| &node.addresses).map(single));
                }
                TierPeerKind::DomainNames(patterns) => {
                    let fits = |name: &str| patterns.iter().any(|one| domain_fits(one, name));
                    let known = self
                        .names
                        .iter(NameUser::Tiers)
                        .filter(|(name, _)| fits(name));
                    ranges.extend(known.flat_map(|(_, addresses)| addresses).map(single));
                }
                TierPeerKind::Unknown(_) => {}
            }
        }
        ranges
    }
}

fn single(address: &std::net::IpAddr) -> (Family, Address, Address) {
    let (family, address) = Address::from_ip(*address);
    (family, address, address)
}

/// Action and peers as text: equal for equal rules.
fn rule_text(rule: &TierRule) -> String {
    let mut peers: Vec<_> = rule.peers.iter().map(peer_text).collect();
    peers.sort();
    peers.dedup();
    format!("{:?} [{}]", rule.action, peers.join("; "))
}

fn peer_text(peer: &TierPeer) -> String {
    match &peer.kind {
        TierPeerKind::Pods(PodScope { namespaces, pods }) => {
            format!("namespaces ({namespaces}) pods ({pods})")
        }
        TierPeerKind::Networks(networks) => {
            let texts: Vec<_> = networks.iter().map(ToString::to_string).collect();
            format!("networks {}", texts.join(","))
        }
        TierPeerKind::Nodes(selector) => format!("nodes ({selector})"),
        TierPeerKind::DomainNames(names) => format!("names {}", names.join(",")),
        TierPeerKind::Unknown(field) => format!("unknown {field}"),
    }
}

fn port_text(port: &TierPort) -> String {
    match port {
        TierPort::Range {
            protocol,
            first,
            last,
        } => format!("{}/{first}-{last}", protocol::name(*protocol)),
        TierPort::Named(name) => name.clone(),
    }
}
