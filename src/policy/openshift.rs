//! Objects of OpenShift's own network after decoding and validation.
//!
//! `network.openshift.io/v1`, in OpenShift 3.x also `v1`.

mod cluster;
mod egress_address;
mod projects;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

pub use cluster::{cluster_ranges, is_everything, multicast_ranges};
pub use egress_address::{EgressAddresses, HostedAddress, SourceAfter, source_after};
pub use projects::{GLOBAL, PolicyState, Projects, Refusal, VNID_MAX, VNID_MIN, policy_states};

use super::compatibility::{Compatibility, Plugin};
use super::document::Position;
use super::inventory::{Labels, Node, Source};

/// Name of the only ClusterNetwork that counts.
pub const CLUSTER_NETWORK_NAME: &str = "default";

/// Annotation of a NetNamespace that asks for another network.
pub const CHANGE_NETWORK_ANNOTATION: &str = "pod.network.openshift.io/multitenant.change-network";

/// Annotation of a NetNamespace that lets multicast into its project, where it says `true`.
pub const MULTICAST_ANNOTATION: &str = "netnamespace.network.openshift.io/multicast-enabled";

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleType {
    /// `Allow`.
    Allow,
    /// `Deny`.
    Deny,
}

/// EgressNetworkPolicy: an ordered list for what leaves the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressNetworkPolicy {
    /// `metadata.namespace`, `default` if left out.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.egress`; the first that matches decides.
    pub rules: Vec<EgressRule>,
    /// Where it is written.
    pub source: Source,
}

/// One of `spec.egress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// Where it is written.
    pub position: Position,
    /// `type`.
    pub rule_type: RuleType,
    /// `to`.
    pub to: Destination,
}

/// Where an egress rule leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `cidrSelector`, its host bits cleared.
    Block(IpNet),
    /// `dnsName`, as it is written.
    Name(String),
}

/// NetNamespace: the network of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetNamespace {
    /// `metadata.name` and `netname`: the project.
    pub name: String,
    /// `netid`.
    pub vnid: u32,
    /// `egressIPs`, without repetition.
    pub egress_addresses: Vec<Ipv4Addr>,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// Where it is written.
    pub source: Source,
}

impl NetNamespace {
    /// Is multicast let in? Only the very text `true` does it.
    pub fn has_multicast(&self) -> bool {
        let annotation = self.annotations.get(MULTICAST_ANNOTATION);
        annotation.is_some_and(|text| text == "true")
    }
}

/// HostSubnet: a node's part of the cluster network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSubnet {
    /// `metadata.name` and `host`: the node.
    pub name: String,
    /// `hostIP`.
    pub host_address: IpAddr,
    /// `subnet`; its first address is the node's own in it.
    pub subnet: Option<IpNet>,
    /// `egressIPs`, without repetition.
    pub egress_addresses: Vec<Ipv4Addr>,
    /// `egressCIDRs`: from which a master would choose `egressIPs`.
    pub egress_blocks: Vec<IpNet>,
    /// Where it is written.
    pub source: Source,
}

impl HostSubnet {
    /// The node's own address in its part of the network, its pods' gateway.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.subnet?.hosts().next()
    }
}

/// ClusterNetwork: the addresses of pods and services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNetwork {
    /// `metadata.name`.
    pub name: String,
    /// `clusterNetworks[].CIDR`, or `network` where there are none.
    pub pod_blocks: Vec<IpNet>,
    /// `serviceNetwork`.
    pub service_block: Option<IpNet>,
    /// `pluginName`.
    pub plugin_name: String,
    /// Where it is written.
    pub source: Source,
}

impl ClusterNetwork {
    /// The plugin `pluginName` means, if it is one of openshift-sdn.
    pub fn plugin(&self) -> Option<Plugin> {
        match self.plugin_name.as_str() {
            "redhat/openshift-ovs-multitenant" => Some(Plugin::MultiTenant),
            "redhat/openshift-ovs-networkpolicy" => Some(Plugin::NetworkPolicy),
            "redhat/openshift-ovs-subnet" => Some(Plugin::Subnet),
            _ => None,
        }
    }
}

/// Everything of OpenShift's network; each list sorted by namespace and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenShift {
    /// EgressNetworkPolicy.
    pub egress_network_policies: Vec<EgressNetworkPolicy>,
    /// NetNamespace.
    pub net_namespaces: Vec<NetNamespace>,
    /// HostSubnet.
    pub host_subnets: Vec<HostSubnet>,
    /// ClusterNetwork.
    pub cluster_networks: Vec<ClusterNetwork>,
}

impl OpenShift {
    /// The ClusterNetwork that counts.
    pub fn cluster_network(&self) -> Option<&ClusterNetwork> {
        let mut networks = self.cluster_networks.iter();
        networks.find(|network| network.name == CLUSTER_NETWORK_NAME)
    }

    /// Is any of it there?
    pub fn is_used(&self) -> bool {
        !(self.egress_network_policies.is_empty()
            && self.net_namespaces.is_empty()
            && self.host_subnets.is_empty()
            && self.cluster_networks.is_empty())
    }

    /// The switches with the plugin that ClusterNetwork names, unless they name one themselves.
    pub fn effective(&self, switches: &Compatibility) -> Compatibility {
        let named = self.cluster_network().and_then(ClusterNetwork::plugin);
        Compatibility {
            plugin: switches.plugin.or(named),
            ..*switches
        }
    }

    /// Adds to the nodes what HostSubnets say of them: the address of a node that is not written
    /// itself, and the address every node has in the pod network.
    pub fn complete(&self, nodes: &mut Vec<Node>) {
        for host_subnet in &self.host_subnets {
            let known = nodes.iter().position(|node| node.name == host_subnet.name);
            let position = known.unwrap_or_else(|| {
                nodes.push(Node {
                    name: host_subnet.name.clone(),
                    labels: Labels::new(),
                    addresses: vec![host_subnet.host_address],
                    pod_blocks: Vec::new(),
                    is_offline: false,
                    source: None,
                });
                nodes.len() - 1
            });
            let addresses = &mut nodes[position].addresses;
            if let Some(gateway) = host_subnet.gateway()
                && !addresses.contains(&gateway)
            {
                addresses.push(gateway);
            }
        }
    }

    /// Is there what the plugin keeps apart projects by: everywhere but under `subnet`?
    pub fn has_networks(plugin: Option<Plugin>) -> bool {
        plugin != Some(Plugin::Subnet)
    }

    /// Puts the lists in order.
    pub fn sort(&mut self) {
        self.egress_network_policies.sort_by(|one, other| {
            (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name))
        });
        self.net_namespaces
            .sort_by(|one, other| one.name.cmp(&other.name));
        self.host_subnets
            .sort_by(|one, other| one.name.cmp(&other.name));
        self.cluster_networks
            .sort_by(|one, other| one.name.cmp(&other.name));
    }
}
