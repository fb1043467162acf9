//! Pods as Kube-OVN sees them: one port an attachment, with its addresses, its security groups and
//! whether its addresses are held to be its own.
//!
//! Everything about a port is said by annotations under the name of its provider: `ovn` for the
//! pod's own network, `NAD.NAMESPACE.ovn` for a secondary one.

use std::collections::HashMap;
use std::net::IpAddr;

use super::inventory::{Inventory, Labels, Pod, PodIndex, Source};
use super::key::PRIMARY_NETWORK;
use super::port_security::Entry;
use crate::wire::{Address, Family, MacAddress};

/// Provider of a pod's own network.
pub const PRIMARY_PROVIDER: &str = "ovn";

/// Annotation that lists the attachments a pod was given, their MAC addresses among them
/// (Network Plumbing Working Group, multi-net-spec §5).
const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// `kubeovn.io/v1` Vip: an address that pods may have beside their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// `metadata.name`; of no namespace.
    pub name: String,
    /// `spec.namespace`: whose pods may have it.
    pub namespace: String,
    /// `spec.subnet`: on which of a pod's ports.
    pub subnet: String,
    /// `status.v4ip` and `status.v6ip`; where neither is there, those asked for in `spec`.
    pub addresses: Vec<IpAddr>,
    /// Where it is written.
    pub source: Source,
}

/// `kubeovn.io/v1` Subnet, as far as warnings ask about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// `metadata.name`; of no namespace.
    pub name: String,
    /// `spec.gateway`.
    pub gateways: Vec<IpAddr>,
    /// Where it is written.
    pub source: Source,
}

/// One attachment of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The pod.
    pub pod: PodIndex,
    /// Whose annotations speak of it: [`PRIMARY_PROVIDER`], or `NAD.NAMESPACE.ovn`.
    pub provider: String,
    /// Number of its network.
    pub network: u16,
    /// Its interface in the pod; empty on the pod's own network, and where nothing tells.
    pub interface: String,
    /// `P.kubernetes.io/mac_address`, else that of its network status.
    pub mac: Option<MacAddress>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Addresses it may have beside them: `P.kubernetes.io/port_vips`, and the Vips of
    /// `ovn.kubernetes.io/aaps`.
    pub virtual_addresses: Vec<IpAddr>,
    /// Does `P.kubernetes.io/port_security` say `true`, on the pod or else on its namespace?
    pub port_security: bool,
    /// `P.kubernetes.io/security_groups`, without blanks, each once.
    pub groups: Vec<String>,
    /// `P.kubernetes.io/logical_switch`: its Subnet.
    pub subnet: Option<String>,
}

/// Every port of every pod that has an identity of its own.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    ports: Vec<Port>,
    by_pod: HashMap<PodIndex, Vec<usize>>,
    by_address: HashMap<(Family, Address), Vec<usize>>,
}

/// An interface of a pod: what a provider's annotations are read for.
struct Attachment<'p> {
    provider: String,
    network: u16,
    interface: &'p str,
    /// As the network status gives it.
    mac: Option<MacAddress>,
    addresses: &'p [IpAddr],
}

/// The attachments of a pod: of its own network, then of the secondary ones.
fn attachments<'p>(inventory: &Inventory, pod: &'p Pod) -> Vec<Attachment<'p>> {
    let mut attachments = vec![Attachment {
        provider: PRIMARY_PROVIDER.to_owned(),
        network: PRIMARY_NETWORK,
        interface: "",
        mac: default_network_mac(&pod.annotations),
        addresses: &pod.addresses,
    }];
    for attached in &pod.attachments {
        let name = attached.network.split_once('/');
        let (namespace, name) = name.unwrap_or((&pod.namespace, &attached.network));
        attachments.extend(
            inventory
                .network_number(&attached.network)
                .map(|network| Attachment {
                    provider: format!("{name}.{namespace}.{PRIMARY_PROVIDER}"),
                    network,
                    interface: &attached.interface,
                    mac: attached.mac.parse().ok(),
                    addresses: &attached.addresses,
                }),
        );
    }
    attachments
}

/// `ovn.kubernetes.io/security_groups`.
pub fn annotation(provider: &str, name: &str) -> String {
    format!("{provider}.kubernetes.io/{name}")
}

/// The value of [`annotation`], without putting its name together: this is asked of every pod.
pub fn said<'a>(annotations: &'a Labels, provider: &str, name: &str) -> Option<&'a String> {
    let is_said = |key: &str| {
        let rest = key.strip_prefix(provider);
        rest.and_then(|rest| rest.strip_prefix(".kubernetes.io/")) == Some(name)
    };
    let mut annotations = annotations.iter();
    let found = annotations.find(|(key, _)| is_said(key));
    found.map(|(_, value)| value)
}

/// The MAC address the network status gives for a pod's own network.
fn default_network_mac(annotations: &Labels) -> Option<MacAddress> {
    let status: serde_json::Value = serde_json::from_str(annotations.get(NETWORK_STATUS)?).ok()?;
    let of_default = |entry: &&serde_json::Value| entry["default"] == true;
    let entry = status.as_array()?.iter().find(of_default)?;
    entry["mac"].as_str()?.parse().ok()
}

/// The items of a comma-separated list without blanks, each once.
pub fn listed(text: Option<&String>) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for item in text.map_or("", String::as_str).split(',') {
        let item: String = item.chars().filter(|char| !char.is_whitespace()).collect();
        if !item.is_empty() && !items.contains(&item) {
            items.push(item);
        }
    }
    items
}

impl Ports {
    /// Reads the annotations of every pod.
    pub fn new(inventory: &Inventory, vips: &[Vip]) -> Self {
        let mut ports = Ports::default();
        for (position, pod) in inventory.pods().iter().enumerate() {
            if pod.is_subject() {
                let pod_index = PodIndex(position as u32);
                for attachment in attachments(inventory, pod) {
                    ports.add(port(inventory, vips, pod, pod_index, attachment));
                }
            }
        }
        ports
    }

    fn add(&mut self, port: Port) {
        let index = self.ports.len();
        self.by_pod.entry(port.pod).or_default().push(index);
        for address in port.every_address() {
            let at = self
                .by_address
                .entry(Address::from_ip(address))
                .or_default();
            at.push(index);
        }
        self.ports.push(port);
    }

    /// All of them, in the order of the pods.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter()
    }

    /// Those of a pod, its own network's first.
    pub fn of_pod(&self, pod: PodIndex) -> impl Iterator<Item = &Port> {
        let of_pod = self.by_pod.get(&pod).map_or(&[][..], Vec::as_slice);
        of_pod.iter().map(|&index| &self.ports[index])
    }

    /// Those that have an address on a network; more than one where it is a virtual one.
    pub fn by_address(
        &self,
        network: u16,
        family: Family,
        address: Address,
    ) -> impl Iterator<Item = &Port> {
        let at = self.by_address.get(&(family, address));
        let at = at.map_or(&[][..], Vec::as_slice);
        let ports = at.iter().map(|&index| &self.ports[index]);
        ports.filter(move |port| port.network == network)
    }
}

fn port(
    inventory: &Inventory,
    vips: &[Vip],
    pod: &Pod,
    pod_index: PodIndex,
    attachment: Attachment,
) -> Port {
    let Attachment {
        provider,
        network,
        interface,
        mac,
        addresses,
    } = attachment;
    let said = |name: &str| said(&pod.annotations, &provider, name);
    let subnet = said("logical_switch").cloned();
    let named = listed(self::said(&pod.annotations, PRIMARY_PROVIDER, "aaps"));
    let may_have = |vip: &&Vip| {
        named.contains(&vip.name)
            && vip.namespace == pod.namespace
            && subnet.as_ref().is_none_or(|subnet| *subnet == vip.subnet)
    };
    let of_vips = vips.iter().filter(may_have).flat_map(|vip| &vip.addresses);
    let of_port = listed(said("port_vips"));
    let of_port = of_port.iter().filter_map(|text| text.parse().ok());
    let mut virtual_addresses: Vec<IpAddr> = Vec::new();
    for address in of_vips.copied().chain(of_port) {
        if !addresses.contains(&address) && !virtual_addresses.contains(&address) {
            virtual_addresses.push(address);
        }
    }
    Port {
        pod: pod_index,
        network,
        interface: interface.to_owned(),
        mac: said("mac_address")
            .and_then(|text| text.trim().parse().ok())
            .or(mac),
        addresses: addresses.to_vec(),
        virtual_addresses,
        port_security: port_security(inventory, pod, &provider).is_some_and(|said| said == "true"),
        groups: listed(said("security_groups")),
        subnet,
        provider,
    }
}

/// What the annotation `P.kubernetes.io/port_security` says of a pod, or of its namespace where the
/// pod does not say.
pub fn port_security<'i>(
    inventory: &'i Inventory,
    pod: &'i Pod,
    provider: &str,
) -> Option<&'i String> {
    let of = |annotations| said(annotations, provider, "port_security");
    let of_namespace = || of(&inventory.namespace(&pod.namespace)?.annotations);
    of(&pod.annotations).or_else(of_namespace)
}

impl Port {
    /// Its own addresses, then the others it may have.
    pub fn every_address(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses
            .iter()
            .chain(&self.virtual_addresses)
            .copied()
    }

    /// The addresses by which other groups' rules know it: the virtual ones too where port security
    /// vouches for them.
    pub fn addresses_as_member(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let of_vips = match self.port_security {
            true => &self.virtual_addresses[..],
            false => &[],
        };
        self.addresses.iter().chain(of_vips).copied()
    }

    /// What its frames are held against where a network lets nobody send under another's address
    /// (openshift-sdn), port security or not.
    pub fn own_addresses(&self) -> Option<Entry> {
        let known = !self.addresses.is_empty();
        known.then(|| Entry::new(None, self.every_address().map(IpAddr::into)))
    }

    /// What its frames are held against; `None` without port security, and where no address is
    /// known that could be held against anything.
    pub fn entry(&self) -> Option<Entry> {
        let known = self.port_security && !self.addresses.is_empty();
        known.then(|| Entry::new(self.mac, self.every_address().map(IpAddr::into)))
    }
}
