//! Which rules come nearest to allowing what is denied.

use std::fmt::Display;
use std::net::IpAddr;

use super::{Nearest, Written, asked, direction_name, end_name, isolating, protected};
use crate::policy::compatibility::MultiNetworkDialect;
use crate::policy::inventory::Labels;
use crate::policy::multi_network::{iptables_reads_peer, service_number};
use crate::policy::network_policy::{Peer, PeerKind, PolicyPort, PolicyRule, PortMatch};
use crate::policy::{Direction, LabelSelector, NetworkPolicy, Pod, PolicySet};
use crate::wire::{FlowKey, protocol};

/// How far a rule is from allowing, nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    /// It allows just this, but its policy does not act in this direction.
    Inert,
    /// The peer is right, the port is off by this much.
    Ports(u32),
    /// The port is right, the peer is not, by so many conditions.
    Peer(u32),
    /// It allows just this, for pods its policy selects, which this one is not.
    NotSelected,
    /// Neither peer nor port.
    Neither(u32),
}

/// The rules nearest to allowing a key a stage of this direction denies.
pub(super) fn nearest(policy: &PolicySet, key: &FlowKey, direction: Direction) -> Vec<Nearest> {
    let Some(pod) = protected(policy, key, direction) else {
        return Vec::new();
    };
    let question = Question {
        set: policy,
        key,
        direction,
        pod,
        acting: isolating(policy, pod, direction).collect(),
        reading: Reading::NetworkPolicy,
    };
    let all = policy.policies.network_policies.iter().map(|one| &**one);
    question.nearest(all.filter(|one| one.namespace == pod.namespace))
}

/// As [`nearest`], of the policies that are about a secondary network; `acting` are those that
/// isolate the interface.
pub(super) fn nearest_on_network<'q>(
    set: &'q PolicySet,
    key: &'q FlowKey,
    direction: Direction,
    pod: &'q Pod,
    acting: Vec<&'q NetworkPolicy>,
) -> Vec<Nearest> {
    let dialect = set.compatibility.mnp_compat;
    let question = Question {
        set,
        key,
        direction,
        pod,
        acting,
        reading: Reading::MultiNetworkPolicy(dialect),
    };
    let inventory = &set.inventory;
    let all = set.policies.multi_network_policies.iter();
    let here = all.filter(|one| {
        let numbers = one.network_numbers(inventory, dialect);
        one.policy.namespace == pod.namespace && numbers.contains(&key.zone)
    });
    question.nearest(here.map(|one| &one.policy))
}

fn nearest_of<'q>(
    question: &Question<'q>,
    policies: impl Iterator<Item = &'q NetworkPolicy>,
) -> Vec<(Distance, &'q NetworkPolicy, usize, &'q PolicyRule)> {
    let direction = question.direction;
    let mut found = Vec::new();
    for one in policies {
        for (index, rule) in one.rules(direction).iter().enumerate() {
            if let Some(distance) = question.distance(one, rule) {
                found.push((distance, one, index, rule));
            }
        }
    }
    // Among equals the order of the policies, which is by name; of each kind the nearest.
    found.sort_by_key(|(distance, ..)| *distance);
    found.dedup_by_key(|(distance, ..)| std::mem::discriminant(distance));
    if found.len() > 1 {
        // What is far off is told when there is nothing else.
        let far = |distance: Distance| match distance {
            Distance::Neither(_) => true,
            Distance::Peer(off) => off > SELECTORS,
            Distance::Inert | Distance::Ports(_) | Distance::NotSelected => false,
        };
        let first = found[0].0;
        found.retain(|(distance, ..)| *distance == first || !far(*distance));
    }
    found
}

/// Whose reading of a policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The API's, of a NetworkPolicy.
    NetworkPolicy,
    /// An implementation's, of a MultiNetworkPolicy.
    MultiNetworkPolicy(MultiNetworkDialect),
}

impl Reading {
    const fn kind(self) -> &'static str {
        match self {
            Reading::NetworkPolicy => "NetworkPolicy",
            Reading::MultiNetworkPolicy(_) => "MultiNetworkPolicy",
        }
    }

    fn is_iptables(self) -> bool {
        self == Reading::MultiNetworkPolicy(MultiNetworkDialect::Iptables)
    }
}

/// `rule 0 of NetworkPolicy b/web-in allows tcp/80 from pods app=cli of namespace b`.
pub(super) fn rule_text(
    set: &PolicySet,
    key: &FlowKey,
    direction: Direction,
    reading: Reading,
    policy: &NetworkPolicy,
    index: usize,
) -> Option<String> {
    let rule = policy.rules(direction).get(index)?;
    let receiver = protected(set, key, Direction::Ingress);
    let ports = ports_text(receiver, rule, reading);
    let preposition = preposition(direction);
    let peers = peers_text(policy, rule, reading);
    let (kind, name) = (reading.kind(), policy.full_name());
    Some(format!(
        "rule {index} of {kind} {name} allows {ports} {preposition} {peers}"
    ))
}

struct Question<'q> {
    set: &'q PolicySet,
    key: &'q FlowKey,
    direction: Direction,
    pod: &'q Pod,
    /// The policies that isolate it.
    acting: Vec<&'q NetworkPolicy>,
    reading: Reading,
}

impl<'q> Question<'q> {
    fn nearest(&self, policies: impl Iterator<Item = &'q NetworkPolicy>) -> Vec<Nearest> {
        let nearest = nearest_of(self, policies).into_iter();
        nearest
            .map(|(distance, one, index, rule)| self.told(distance, one, index, rule))
            .collect()
    }

    fn distance(&self, policy: &NetworkPolicy, rule: &PolicyRule) -> Option<Distance> {
        let selected = policy.pod_selector.matches(&self.pod.labels);
        let acts = self.acting.iter().any(|one| std::ptr::eq(*one, policy));
        let ports = self.ports_off(rule);
        let peer = self.peer_off(policy, rule);
        Some(match (ports, peer) {
            // What acts and fits would have allowed.
            (0, 0) if acts => return None,
            (0, 0) if selected => Distance::Inert,
            (0, 0) if policy.isolates(self.direction) => Distance::NotSelected,
            _ if !acts => return None,
            (off, 0) => Distance::Ports(off),
            (0, off) => Distance::Peer(off),
            (ports, peer) => Distance::Neither(ports.saturating_add(peer)),
        })
    }

    /// 0 when a port entry fits; else how many ports away the closest of the right protocol is, or
    /// more than any port is.
    fn ports_off(&self, rule: &PolicyRule) -> u32 {
        if rule.ports.is_empty() {
            return 0;
        }
        let off = |entry: &PolicyPort| -> u32 {
            if entry.protocol != self.key.protocol {
                return OTHER_PROTOCOL;
            }
            let asked = self.key.destination_port;
            match &entry.ports {
                PortMatch::Any => 0,
                &PortMatch::Range { first, last } => {
                    u32::from(first.saturating_sub(asked).max(asked.saturating_sub(last)))
                }
                PortMatch::Named(_) => match number(self.receiver(), entry, self.reading) {
                    Some(number) => u32::from(number.abs_diff(asked)),
                    None => NO_SUCH_NAME,
                },
            }
        };
        rule.ports.iter().map(off).min().unwrap_or(0)
    }

    fn receiver(&self) -> Option<&Pod> {
        protected(self.set, self.key, Direction::Ingress)
    }

    /// 0 when a peer fits; else how many conditions of the closest one do not.
    fn peer_off(&self, policy: &NetworkPolicy, rule: &PolicyRule) -> u32 {
        let off = |peer: &Peer| self.one_peer_off(policy, peer);
        rule.peers.iter().map(off).min().unwrap_or(0)
    }

    fn one_peer_off(&self, policy: &NetworkPolicy, peer: &Peer) -> u32 {
        match &peer.kind {
            PeerKind::IpBlock { cidr, except } => {
                let address = self.peer_address();
                let excepted = except.iter().any(|except| except.contains(&address));
                match (cidr.contains(&address), excepted) {
                    (true, false) => 0,
                    (true, true) => 1,
                    (false, _) => SELECTORS + 1,
                }
            }
            PeerKind::Pods { namespaces, pods } => {
                let Some(pod) = protected(self.set, self.key, opposite(self.direction)) else {
                    return SELECTORS + 2;
                };
                if self.reading.is_iptables() && !iptables_reads_peer(peer) {
                    return SELECTORS + 1;
                }
                let namespace_fits = match namespaces {
                    None if self.reading.is_iptables() => true,
                    None => pod.namespace == policy.namespace,
                    Some(selector) => selector.matches(&self.namespace_labels(pod)),
                };
                let pod_fits = pods.as_ref().is_none_or(|pods| pods.matches(&pod.labels));
                u32::from(!namespace_fits) + u32::from(!pod_fits)
            }
        }
    }

    fn peer_address(&self) -> IpAddr {
        let address = match self.direction {
            Direction::Ingress => self.key.source,
            Direction::Egress => self.key.destination,
        };
        address.to_ip(self.key.family)
    }

    fn namespace_labels(&self, pod: &Pod) -> Labels {
        let namespace = self.set.inventory.namespace(&pod.namespace);
        namespace
            .map(|namespace| namespace.labels.clone())
            .unwrap_or_default()
    }

    fn told(
        &self,
        distance: Distance,
        policy: &NetworkPolicy,
        index: usize,
        rule: &PolicyRule,
    ) -> Nearest {
        let direction = direction_name(self.direction);
        let preposition = preposition(self.direction);
        let kind = self.reading.kind();
        let object = format!("{kind} {}", policy.full_name());
        let rule_path = format!("spec.{direction}[{index}]");
        let allows = format!(
            "rule {index} of {object} allows {}",
            ports_text(self.receiver(), rule, self.reading)
        );
        let asked = asked(self.key);
        let peer = end_name(self.set, self.key, opposite(self.direction));
        let name = self.pod.full_name();
        let labels = labels_text(&self.pod.labels);
        let selector = &policy.pod_selector;
        let type_name = type_name(self.direction);
        let (text, change) = match distance {
            Distance::Ports(_) => (
                format!("{allows} {preposition} this peer; asked {asked}"),
                format!("{object}, {rule_path}.ports: add {asked}"),
            ),
            Distance::Peer(_) => (
                format!(
                    "{allows} {preposition} {}; asked {preposition} {}",
                    peers_text(policy, rule, self.reading),
                    self.peer_text()
                ),
                format!(
                    "{object}, {rule_path}.{preposition}: add {}",
                    self.peer_wanted()
                ),
            ),
            Distance::Neither(_) => (
                format!(
                    "{allows} {preposition} {}; asked {asked} {preposition} {}",
                    peers_text(policy, rule, self.reading),
                    self.peer_text()
                ),
                format!("{object}: add a rule for {asked} {preposition} {peer}"),
            ),
            Distance::Inert => (
                format!("{allows} {preposition} this peer, but policyTypes lacks {type_name}"),
                format!("{object}, spec.policyTypes: add {type_name}"),
            ),
            Distance::NotSelected => (
                format!(
                    "{allows} {preposition} this peer, but podSelector ({selector}) does not \
                     select {name} ({labels})"
                ),
                format!("{object}, spec.podSelector, or the labels of Pod {name}"),
            ),
        };
        Nearest {
            text,
            change,
            rule: Written {
                name: format!("{kind}/{}#{index}", policy.full_name()),
                place: Some(policy.source.at(rule.position).place()),
                path: rule_path,
            },
        }
    }

    /// What a rule would have to say to mean the peer.
    fn peer_wanted(&self) -> String {
        match protected(self.set, self.key, opposite(self.direction)) {
            Some(pod) => format!("a selector of {}", pod.full_name()),
            None => {
                let address = self.peer_address();
                format!("ipBlock {address}/{}", self.key.family.bits())
            }
        }
    }

    /// The peer and what selectors could ask of it.
    fn peer_text(&self) -> String {
        let peer = opposite(self.direction);
        let name = end_name(self.set, self.key, peer);
        match protected(self.set, self.key, peer) {
            Some(pod) => format!("{name} ({})", labels_text(&pod.labels)),
            None => name,
        }
    }
}

/// Most conditions a peer of pods has: its namespace and its own labels.
const SELECTORS: u32 = 2;
/// Further than any port.
const OTHER_PROTOCOL: u32 = 1 << 17;
const NO_SUCH_NAME: u32 = 1 << 16;

const fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

/// The word before a peer, which is also the field peers are in.
const fn preposition(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}

/// A direction's name in `policyTypes`.
const fn type_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    }
}

/// What a port name stands for in the pod a packet goes to.
fn number(receiver: Option<&Pod>, entry: &PolicyPort, reading: Reading) -> Option<u16> {
    match &entry.ports {
        PortMatch::Named(name) if reading.is_iptables() => service_number(name),
        PortMatch::Named(name) => receiver?.named_port(entry.protocol, name),
        _ => None,
    }
}

fn ports_text(receiver: Option<&Pod>, rule: &PolicyRule, reading: Reading) -> String {
    let entry = |entry: &PolicyPort| {
        let protocol = protocol::name(entry.protocol);
        match &entry.ports {
            PortMatch::Any => protocol.into_owned(),
            PortMatch::Range { first, last } if first == last => format!("{protocol}/{first}"),
            PortMatch::Range { first, last } => format!("{protocol}/{first}-{last}"),
            PortMatch::Named(name) => match number(receiver, entry, reading) {
                Some(number) => format!("{protocol}/{name} ({number})"),
                None => format!("{protocol}/{name} (no such port there)"),
            },
        }
    };
    list("everything", rule.ports.iter().map(entry))
}

fn peers_text(policy: &NetworkPolicy, rule: &PolicyRule, reading: Reading) -> String {
    let text = |peer: &Peer| match &peer.kind {
        PeerKind::IpBlock { cidr, except } if except.is_empty() => cidr.to_string(),
        PeerKind::IpBlock { cidr, except } => {
            format!("{cidr} except {}", list("nothing", except.iter()))
        }
        PeerKind::Pods { namespaces, pods } => {
            let pods = match pods.as_ref().filter(|pods| !pods.is_empty()) {
                Some(pods) => format!("pods {pods}"),
                None => "all pods".to_owned(),
            };
            match namespaces.as_ref().map(LabelSelector::to_string) {
                None if reading.is_iptables() => format!("{pods} everywhere"),
                None => format!("{pods} of namespace {}", policy.namespace),
                Some(selector) if selector == "everything" => format!("{pods} everywhere"),
                Some(selector) => format!("{pods} of namespaces {selector}"),
            }
        }
    };
    list("anyone", rule.peers.iter().map(text))
}

fn labels_text(labels: &Labels) -> String {
    list(
        "no labels",
        labels.iter().map(|(key, value)| format!("{key}={value}")),
    )
}

fn list<T: Display>(empty: &str, items: impl Iterator<Item = T>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    match items.is_empty() {
        true => empty.to_owned(),
        false => items.join(", "),
    }
}
