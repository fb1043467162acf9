//! Which pods a selector selects, for all policies of a load, without asking every pod each time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::inventory::{Inventory, PodIndex};
use super::tiers::PodScope;
use super::{LabelSelector, NetworkPolicy, PRIMARY_NETWORK};
use crate::wire::{Address, Family};

/// Addresses of pods, sorted.
pub type Addresses = Rc<[(Family, Address)]>;

/// Pods of one namespace by label.
type LabelIndex<'i> = HashMap<(&'i str, &'i str), Vec<PodIndex>>;

/// Pods that have a port name, with its number, by protocol.
type NamedPorts = HashMap<u8, Vec<(u16, PodIndex)>>;

/// Namespaces and pods of a peer as text, and the networks asked about.
type PeerQuestion = (String, String, Vec<u16>);

/// The cluster's own network alone.
pub const PRIMARY: &[u16] = &[PRIMARY_NETWORK];

/// Answers by selector; equal questions are worked out once.
pub struct Selections<'i> {
    inventory: &'i Inventory,
    labels: HashMap<&'i str, LabelIndex<'i>>,
    by_port_name: HashMap<&'i str, NamedPorts>,
    peers: RefCell<HashMap<PeerQuestion, Addresses>>,
}

impl<'i> Selections<'i> {
    /// Indexes the inventory.
    pub fn new(inventory: &'i Inventory) -> Self {
        let mut labels: HashMap<&str, LabelIndex> = HashMap::new();
        let mut by_port_name: HashMap<_, NamedPorts> = HashMap::new();
        for (position, pod) in inventory.pods().iter().enumerate() {
            if !pod.is_subject() {
                continue;
            }
            let index = PodIndex(position as u32);
            let of_namespace = labels.entry(pod.namespace.as_str()).or_default();
            for (key, value) in &pod.labels {
                of_namespace.entry((key, value)).or_default().push(index);
            }
            for port in &pod.ports {
                let Some(name) = port.name.as_deref() else {
                    continue;
                };
                let of_name = by_port_name.entry(name).or_default();
                let named = of_name.entry(port.protocol).or_default();
                // Two containers may give one name two numbers; both count, each once.
                let of_pod = named.iter().rev().take_while(|(_, last)| *last == index);
                if !of_pod.into_iter().any(|(number, _)| *number == port.number) {
                    named.push((port.number, index));
                }
            }
        }
        Selections {
            inventory,
            labels,
            by_port_name,
            peers: RefCell::default(),
        }
    }

    /// Pods with an identity of their own that the selector selects in a namespace, in order.
    pub fn pods_in(&self, namespace: &str, selector: &LabelSelector) -> Vec<PodIndex> {
        let all = self.inventory.pods_in(namespace);
        let none = &Vec::new();
        let candidates = match self.labels.get(namespace) {
            Some(index) => selector
                .match_labels
                .iter()
                .map(|(key, value)| index.get(&(key.as_str(), value.as_str())).unwrap_or(none))
                .min_by_key(|pods| pods.len())
                .map_or(all, Vec::as_slice),
            None => &[],
        };
        let selects = |index: &PodIndex| {
            let pod = self.inventory.pod_at(*index);
            pod.is_subject() && selector.matches(&pod.labels)
        };
        candidates.iter().copied().filter(selects).collect()
    }

    /// The pods a policy is about.
    pub fn subjects(&self, policy: &NetworkPolicy) -> Vec<PodIndex> {
        self.pods_in(&policy.namespace, &policy.pod_selector)
    }

    /// The pods a scope selects, sorted.
    pub fn scope(&self, scope: &PodScope) -> Vec<PodIndex> {
        let namespaces = self.inventory.namespaces();
        let mut pods: Vec<_> = namespaces
            .filter(|namespace| scope.namespaces.matches(&namespace.labels))
            .flat_map(|namespace| self.pods_in(&namespace.name, &scope.pods))
            .collect();
        pods.sort_unstable();
        pods
    }

    /// Addresses of the pods a scope selects, on these networks.
    pub fn scope_addresses(&self, scope: &PodScope, networks: &[u16]) -> Addresses {
        self.peer_on("", Some(&scope.namespaces), Some(&scope.pods), networks)
    }

    /// Addresses of the pods of a peer: `namespaces` as a selector, or `own` if it has none; `pods`
    /// as a selector, or all.
    pub fn peer(
        &self,
        own: &str,
        namespaces: Option<&LabelSelector>,
        pods: Option<&LabelSelector>,
    ) -> Addresses {
        self.peer_on(own, namespaces, pods, PRIMARY)
    }

    /// As [`Selections::peer`], of the interfaces on these networks.
    pub fn peer_on(
        &self,
        own: &str,
        namespaces: Option<&LabelSelector>,
        pods: Option<&LabelSelector>,
        networks: &[u16],
    ) -> Addresses {
        // A selector's text never starts with a slash.
        let scope = namespaces.map_or_else(|| format!("/{own}"), ToString::to_string);
        let everyone = LabelSelector::default();
        let pods = pods.unwrap_or(&everyone);
        let key = (scope, pods.to_string(), networks.to_vec());
        if let Some(known) = self.peers.borrow().get(&key) {
            return known.clone();
        }
        let selected: Vec<PodIndex> = match namespaces {
            None => self.pods_in(own, pods),
            Some(selector) => self
                .inventory
                .namespaces()
                .filter(|namespace| selector.matches(&namespace.labels))
                .flat_map(|namespace| self.pods_in(&namespace.name, pods))
                .collect(),
        };
        let addresses = self.addresses_on(&selected, networks);
        self.peers.borrow_mut().insert(key, addresses.clone());
        addresses
    }

    /// All addresses of pods, sorted.
    pub fn addresses(&self, pods: &[PodIndex]) -> Addresses {
        self.addresses_on(pods, PRIMARY)
    }

    /// All addresses of pods on these networks, sorted.
    pub fn addresses_on(&self, pods: &[PodIndex], networks: &[u16]) -> Addresses {
        let of_pod = |index: &PodIndex| {
            let pod = self.inventory.pod_at(*index);
            let on = |network: &u16| self.inventory.addresses_on(pod, *network);
            networks.iter().flat_map(on)
        };
        let mut addresses: Vec<_> = pods
            .iter()
            .flat_map(of_pod)
            .map(|&address| Address::from_ip(address))
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.into()
    }

    /// Every pod that has a port of this name and protocol, with its number.
    pub fn named_ports(&self, protocol: u8, name: &str) -> &[(u16, PodIndex)] {
        let of_name = self.by_port_name.get(name);
        let named = of_name.and_then(|of_name| of_name.get(&protocol));
        named.map_or(&[], Vec::as_slice)
    }
}
