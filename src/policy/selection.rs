//! Which pods a selector selects, for all policies of a load, without asking every pod each time.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::inventory::{Inventory, PodIndex};
use super::tiers::PodScope;
use super::{LabelSelector, NetworkPolicy, PRIMARY_NETWORK};
use crate::classifier::AddressSet;
use crate::wire::{Address, Family};

/// Addresses of pods, sorted.
pub type Addresses = Rc<[(Family, Address)]>;

/// Addresses of pods that have a port name, with a number it has there, sorted.
pub type NamedAddresses = Rc<[(Family, Address, u16)]>;

/// Pods of one namespace by label: key, then value.
type LabelIndex = HashMap<String, HashMap<String, Vec<PodIndex>>>;

/// Namespaces and pods of a peer as text, and the networks asked about.
type PeerQuestion = (String, String, Vec<u16>);

/// Protocol and name of a port, and the networks asked about.
type PortQuestion = (u8, String, Vec<u16>);

/// The cluster's own network alone.
pub const PRIMARY: &[u16] = &[PRIMARY_NETWORK];

/// Answers by selector; equal questions are worked out once, and nothing before it is asked for.
pub struct Selections<'i> {
    inventory: &'i Inventory,
    labels: RefCell<HashMap<String, Rc<LabelIndex>>>,
    /// Pods that have a port of this name, by protocol.
    by_port_name: OnceCell<HashMap<String, HashMap<u8, Vec<PodIndex>>>>,
    peers: RefCell<HashMap<PeerQuestion, Addresses>>,
    peer_sets: RefCell<HashMap<PeerQuestion, AddressSet>>,
    named: RefCell<HashMap<PortQuestion, NamedAddresses>>,
}

impl<'i> Selections<'i> {
    /// Nothing asked yet.
    pub fn new(inventory: &'i Inventory) -> Self {
        Selections {
            inventory,
            labels: RefCell::default(),
            by_port_name: OnceCell::new(),
            peers: RefCell::default(),
            peer_sets: RefCell::default(),
            named: RefCell::default(),
        }
    }

    fn labels_in(&self, namespace: &str) -> Rc<LabelIndex> {
        if let Some(known) = self.labels.borrow().get(namespace) {
            return known.clone();
        }
        let mut labels = LabelIndex::new();
        for &index in self.inventory.pods_in(namespace) {
            let pod = self.inventory.pod_at(index);
            for (key, value) in pod.labels.iter().filter(|_| pod.is_subject()) {
                entry(entry(&mut labels, key), value).push(index);
            }
        }
        let labels = Rc::new(labels);
        let mut known = self.labels.borrow_mut();
        known.insert(namespace.to_owned(), labels.clone());
        labels
    }

    /// Pods with an identity of their own that the selector selects in a namespace, in order.
    pub fn pods_in(&self, namespace: &str, selector: &LabelSelector) -> Vec<PodIndex> {
        let all = self.inventory.pods_in(namespace);
        let none = &Vec::new();
        let index = match selector.match_labels.is_empty() {
            true => Rc::default(),
            false => self.labels_in(namespace),
        };
        let candidates = selector
            .match_labels
            .iter()
            .map(|(key, value)| index.get(key).and_then(|of| of.get(value)).unwrap_or(none))
            .min_by_key(|pods| pods.len())
            .map_or(all, Vec::as_slice);
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
        let key = question(own, namespaces, pods, networks);
        let everyone = LabelSelector::default();
        let pods = pods.unwrap_or(&everyone);
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

    /// As [`Selections::peer_on`], as a set that all who ask share.
    pub fn peer_set(
        &self,
        own: &str,
        namespaces: Option<&LabelSelector>,
        pods: Option<&LabelSelector>,
        networks: &[u16],
    ) -> AddressSet {
        let key = question(own, namespaces, pods, networks);
        if let Some(known) = self.peer_sets.borrow().get(&key) {
            return known.clone();
        }
        let addresses = self.peer_on(own, namespaces, pods, networks);
        let single = |&(family, address): &(Family, Address)| (family, address, address);
        let set = AddressSet::from_ranges(addresses.iter().map(single));
        self.peer_sets.borrow_mut().insert(key, set.clone());
        set
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

    /// The pods that have a port of this name and protocol.
    pub fn with_named_port(&self, protocol: u8, name: &str) -> &[PodIndex] {
        let by_name = self.by_port_name.get_or_init(|| {
            let mut by_name: HashMap<String, HashMap<u8, Vec<PodIndex>>> = HashMap::new();
            for (index, pod) in self.inventory.subjects() {
                for port in &pod.ports {
                    let Some(name) = &port.name else {
                        continue;
                    };
                    let pods = entry(&mut by_name, name).entry(port.protocol).or_default();
                    // Two containers may give one name two numbers.
                    if pods.last() != Some(&index) {
                        pods.push(index);
                    }
                }
            }
            by_name
        });
        let named = by_name.get(name).and_then(|named| named.get(&protocol));
        named.map_or(&[], Vec::as_slice)
    }

    /// The addresses of all pods that have a port of this name and protocol, on these networks,
    /// each with every number the name has there.
    pub fn named_addresses(&self, protocol: u8, name: &str, networks: &[u16]) -> NamedAddresses {
        let question = (protocol, name.to_owned(), networks.to_vec());
        if let Some(known) = self.named.borrow().get(&question) {
            return known.clone();
        }
        let mut named = Vec::new();
        for &index in self.with_named_port(protocol, name) {
            let pod = self.inventory.pod_at(index);
            for number in pod.port_numbers(protocol, name) {
                let on = |network: &u16| self.inventory.addresses_on(pod, *network);
                let addresses = networks
                    .iter()
                    .flat_map(on)
                    .map(|&one| Address::from_ip(one));
                named.extend(addresses.map(|(family, address)| (family, address, number)));
            }
        }
        named.sort_unstable();
        named.dedup();
        let named: NamedAddresses = named.into();
        self.named.borrow_mut().insert(question, named.clone());
        named
    }
}

fn question(
    own: &str,
    namespaces: Option<&LabelSelector>,
    pods: Option<&LabelSelector>,
    networks: &[u16],
) -> PeerQuestion {
    // A selector's text never starts with a slash.
    let scope = namespaces.map_or_else(|| format!("/{own}"), ToString::to_string);
    let pods = pods.map_or_else(|| LabelSelector::default().to_string(), ToString::to_string);
    (scope, pods, networks.to_vec())
}

/// As `map.entry(key.to_owned()).or_default()`, without the copy where the key is there already.
fn entry<'m, T: Default>(map: &'m mut HashMap<String, T>, key: &str) -> &'m mut T {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), T::default());
    }
    map.get_mut(key).expect("just made sure of")
}
