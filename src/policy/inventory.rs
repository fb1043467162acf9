//! What exists: pods, namespaces, nodes and services, and who has which address.

mod objects;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

pub use objects::{
    Attachment, ContainerPort, Labels, Namespace, Network, Node, Pod, Service, ServicePort, Source,
    TargetPort,
};

use super::{LabelSelector, PRIMARY_NETWORK};
use crate::classifier::AddressGroups;
use crate::wire::{Address, Family};

/// The label every namespace has, whoever wrote its manifest (Kubernetes 1.21).
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Position of a pod in [`Inventory::pods`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodIndex(pub u32);

/// Everything that exists, with look-ups by name and address.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    pods: Vec<Pod>,
    pods_by_name: HashMap<(String, String), PodIndex>,
    pods_by_address: HashMap<(Family, Address), PodIndex>,
    pods_by_namespace: BTreeMap<String, Vec<PodIndex>>,
    namespaces: BTreeMap<String, Namespace>,
    nodes: BTreeMap<String, Node>,
    services: Vec<Service>,
    services_by_name: HashMap<(String, String), usize>,
    /// By `namespace/name`; a network's number is one more than its position.
    networks: BTreeMap<String, Network>,
    network_numbers: HashMap<String, u16>,
    address_groups: OnceLock<Arc<AddressGroups>>,
}

impl Inventory {
    /// Builds the look-ups.
    ///
    /// Namespaces and nodes that are only mentioned come into being, namespaces get their name
    /// label, nodes the addresses their pods know them by. Of objects of equal name, and of pods of
    /// equal address, the first is found; the loader refuses both before.
    pub fn new(
        pods: Vec<Pod>,
        namespaces: Vec<Namespace>,
        nodes: Vec<Node>,
        services: Vec<Service>,
        namespaces_mentioned: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut inventory = Inventory::default();
        for namespace in namespaces {
            let name = namespace.name.clone();
            inventory.namespaces.entry(name).or_insert(namespace);
        }
        let of_pods = pods.iter().map(|pod| pod.namespace.clone());
        let of_services = services.iter().map(|service| service.namespace.clone());
        let mentioned: BTreeSet<_> = of_pods
            .chain(of_services)
            .chain(namespaces_mentioned)
            .collect();
        for name in mentioned {
            let implicit = || Namespace {
                name: name.clone(),
                labels: Labels::new(),
                annotations: Labels::new(),
                source: None,
            };
            inventory
                .namespaces
                .entry(name.clone())
                .or_insert_with(implicit);
        }
        for (name, namespace) in &mut inventory.namespaces {
            let label = NAMESPACE_NAME_LABEL.to_owned();
            namespace.labels.insert(label, name.clone());
        }
        for node in nodes {
            inventory.nodes.entry(node.name.clone()).or_insert(node);
        }
        for service in services {
            let name = (service.namespace.clone(), service.name.clone());
            let next = inventory.services.len();
            inventory.services_by_name.entry(name).or_insert(next);
            inventory.services.push(service);
        }
        for pod in pods {
            inventory.add_pod(pod);
        }
        inventory
    }

    fn add_pod(&mut self, pod: Pod) {
        let index = PodIndex(self.pods.len() as u32);
        let name = (pod.namespace.clone(), pod.name.clone());
        self.pods_by_name.entry(name).or_insert(index);
        if pod.is_subject() {
            for &address in &pod.addresses {
                let address = Address::from_ip(address);
                self.pods_by_address.entry(address).or_insert(index);
            }
        }
        if let Some(name) = &pod.node_name {
            let node = self.nodes.entry(name.clone()).or_insert_with(|| Node {
                name: name.clone(),
                labels: Labels::new(),
                addresses: Vec::new(),
                pod_blocks: Vec::new(),
                is_offline: false,
                source: None,
            });
            let own = if pod.host_network && !pod.terminated {
                &pod.addresses[..]
            } else {
                &[]
            };
            // What a pod says of its node counts only where the node does not speak for itself.
            let hearsay = match node.source {
                Some(_) => &[],
                None => &pod.host_addresses[..],
            };
            for address in own.iter().chain(hearsay) {
                if !node.addresses.contains(address) {
                    node.addresses.push(*address);
                }
            }
        }
        let in_namespace = self.pods_by_namespace.entry(pod.namespace.clone());
        in_namespace.or_default().push(index);
        self.pods.push(pod);
    }

    /// Adds secondary networks, and those that pods are attached to though nobody describes them,
    /// and numbers them all by name.
    #[must_use]
    pub fn with_networks(mut self, networks: Vec<Network>) -> Self {
        for network in networks {
            let name = network.full_name();
            self.networks.entry(name).or_insert(network);
        }
        for attachment in self.pods.iter().flat_map(|pod| &pod.attachments) {
            let name = &attachment.network;
            let (namespace, own) = name.split_once('/').unwrap_or(("", name));
            let implicit = || Network {
                namespace: namespace.to_owned(),
                name: own.to_owned(),
                plugin: String::new(),
                network_name: String::new(),
                topology: String::new(),
                has_subnets: true,
                source: None,
            };
            self.networks.entry(name.clone()).or_insert_with(implicit);
        }
        let names = self.networks.keys().cloned();
        self.network_numbers = names.zip(PRIMARY_NETWORK + 1..).collect();
        self
    }

    /// Every secondary network with its number, sorted by name.
    pub fn networks(&self) -> impl Iterator<Item = (u16, &Network)> {
        (PRIMARY_NETWORK + 1..).zip(self.networks.values())
    }

    /// The secondary network of a name, `namespace/name`.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.get(name)
    }

    /// Number of the secondary network of a name, as [`crate::wire::FlowKey::zone`] has it.
    pub fn network_number(&self, name: &str) -> Option<u16> {
        self.network_numbers.get(name).copied()
    }

    /// A pod's addresses on a network, [`PRIMARY_NETWORK`] being the cluster's own.
    pub fn addresses_on<'p>(
        &'p self,
        pod: &'p Pod,
        network: u16,
    ) -> impl Iterator<Item = &'p IpAddr> {
        let own: &[IpAddr] = match network {
            PRIMARY_NETWORK => &pod.addresses,
            _ => &[],
        };
        let attached = pod
            .attachments
            .iter()
            .filter(move |attachment| self.network_number(&attachment.network) == Some(network));
        own.iter()
            .chain(attached.flat_map(|attachment| &attachment.addresses))
    }

    /// The pod's interface that has this address on a secondary network.
    pub fn attachment_by_address(&self, address: IpAddr) -> Option<(&Pod, &Attachment)> {
        let subjects = self.pods.iter().filter(|pod| pod.is_subject());
        let mut attachments =
            subjects.flat_map(|pod| pod.attachments.iter().map(move |one| (pod, one)));
        attachments.find(|(_, attachment)| attachment.addresses.contains(&address))
    }

    /// Every pod, in the order the files name them; terminated and host-network pods too.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Every pod with an identity of its own.
    pub fn subjects(&self) -> impl Iterator<Item = (PodIndex, &Pod)> {
        let pods = (0..).map(PodIndex).zip(&self.pods);
        pods.filter(|(_, pod)| pod.is_subject())
    }

    /// One pod by index.
    pub fn pod_at(&self, index: PodIndex) -> &Pod {
        &self.pods[index.0 as usize]
    }

    /// The pod of a name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        let name = (namespace.to_owned(), name.to_owned());
        self.pods_by_name
            .get(&name)
            .map(|&index| self.pod_at(index))
    }

    /// As [`Inventory::pod`].
    pub fn pod_index(&self, namespace: &str, name: &str) -> Option<PodIndex> {
        let name = (namespace.to_owned(), name.to_owned());
        self.pods_by_name.get(&name).copied()
    }

    /// The pod that has this address as its own: neither a terminated pod nor one on the host's
    /// network.
    pub fn pod_by_address(&self, family: Family, address: Address) -> Option<&Pod> {
        self.pod_index_by_address(family, address)
            .map(|index| self.pod_at(index))
    }

    /// As [`Inventory::pod_by_address`].
    pub fn pod_index_by_address(&self, family: Family, address: Address) -> Option<PodIndex> {
        self.pods_by_address.get(&(family, address)).copied()
    }

    /// Indices of the pods of a namespace.
    pub fn pods_in(&self, namespace: &str) -> &[PodIndex] {
        self.pods_by_namespace
            .get(namespace)
            .map_or(&[], Vec::as_slice)
    }

    /// Every namespace, sorted by name; mentioned ones too.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values()
    }

    /// The namespace of a name.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// The addresses of every namespace's pods, on any network: group `n` is the `n`th namespace.
    pub fn address_groups(&self) -> &Arc<AddressGroups> {
        self.address_groups.get_or_init(|| {
            let groups: HashMap<&str, u32> = self
                .namespaces
                .keys()
                .map(|name| &**name)
                .zip(0..)
                .collect();
            let of_pod = |(_, pod): (PodIndex, &Pod)| {
                let group = groups[&*pod.namespace];
                let attached = pod.attachments.iter().flat_map(|one| &one.addresses);
                let addresses = pod.addresses.iter().chain(attached).copied();
                let addresses = addresses.map(Address::from_ip);
                addresses
                    .map(|(family, address)| (family, address, group))
                    .collect::<Vec<_>>()
            };
            Arc::new(AddressGroups::new(self.subjects().flat_map(of_pod)))
        })
    }

    /// Every node, sorted by name; mentioned ones too.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The node of a name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// The node a pod runs on.
    pub fn node_of(&self, pod: &Pod) -> Option<&Node> {
        self.node(pod.node_name.as_ref()?)
    }

    /// Every service, in the order the files name them.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The service of a name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        let name = (namespace.to_owned(), name.to_owned());
        self.services_by_name
            .get(&name)
            .map(|&index| &self.services[index])
    }

    /// The pods behind a service: those of its namespace that its selector selects and that have an
    /// address and have not terminated.
    pub fn backends<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Pod> {
        let selector = LabelSelector::from_labels(service.selector.clone());
        let none = service.selector.is_empty();
        self.pods_in(&service.namespace)
            .iter()
            .map(|&index| self.pod_at(index))
            .filter(move |pod| {
                let ready = !pod.terminated && !pod.addresses.is_empty();
                ready && !none && selector.matches(&pod.labels)
            })
    }
}
