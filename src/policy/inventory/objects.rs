//! Objects that exist, after decoding and validation.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::policy::Place;
use crate::policy::document::{Position, Stand};

/// Labels, or annotations: sorted by key.
pub type Labels = BTreeMap<String, String>;

/// A pod, as far as policies ask about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.namespace`, `default` if left out.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// `spec.nodeName`; `None` before it is scheduled.
    pub node_name: Option<String>,
    /// `spec.hostNetwork`: shares the node's addresses, so that no policy can tell it from the
    /// node.
    pub host_network: bool,
    /// `status.phase` is `Succeeded` or `Failed`: its addresses may belong to another pod by now.
    pub terminated: bool,
    /// `status.phase` is neither `Running` nor missing nor one of these.
    pub pending: bool,
    /// Ports of all containers, then of sidecars (init containers that keep running).
    pub ports: Vec<ContainerPort>,
    /// `status.podIP` and `status.podIPs`, without repetition; empty while it has none.
    pub addresses: Vec<IpAddr>,
    /// `status.hostIP` and `status.hostIPs`.
    pub host_addresses: Vec<IpAddr>,
    /// Its interfaces on secondary networks, as `k8s.v1.cni.cncf.io/network-status` lists them.
    pub attachments: Vec<Attachment>,
    /// Where it is written.
    pub source: Source,
}

impl Pod {
    /// Is it a pod that policies select, with addresses of its own: neither terminated nor on the
    /// host's network?
    pub fn is_subject(&self) -> bool {
        !self.terminated && !self.host_network
    }

    /// The number a service's port name stands for in this pod: the first of that name and
    /// protocol, in the order the containers are written, as the Kubernetes endpoints controller
    /// takes it. To policies a name stands for all of its numbers.
    pub fn named_port(&self, protocol: u8, name: &str) -> Option<u16> {
        let fits =
            |port: &&ContainerPort| port.protocol == protocol && port.name.as_deref() == Some(name);
        self.ports.iter().find(fits).map(|port| port.number)
    }

    /// Every number a port name stands for in this pod; one may be there twice.
    pub fn port_numbers<'p>(
        &'p self,
        protocol: u8,
        name: &'p str,
    ) -> impl Iterator<Item = u16> + 'p {
        let fits = move |port: &&ContainerPort| {
            port.protocol == protocol && port.name.as_deref() == Some(name)
        };
        self.ports.iter().filter(fits).map(|port| port.number)
    }

    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// An interface of a pod on a secondary network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// `namespace/name` of its NetworkAttachmentDefinition. Without a namespace it is the pod's;
    /// under `mnp_compat=iptables` it stays without, and so is no policy's.
    pub network: String,
    /// `interface`; may be empty.
    pub interface: String,
    /// `ips`.
    pub addresses: Vec<IpAddr>,
    /// `mac`; may be empty.
    pub mac: String,
}

/// A secondary network: a NetworkAttachmentDefinition, or one that pods are attached to and nobody
/// describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// `metadata.namespace`, `default` if left out.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `type` of the CNI configuration, or of its first plugin; may be empty.
    pub plugin: String,
    /// `name` of the CNI configuration; may be empty.
    pub network_name: String,
    /// `topology`; may be empty.
    pub topology: String,
    /// Has it `subnets`, so that its addresses are known to whoever assigns them?
    pub has_subnets: bool,
    /// Where it is written; `None` when only pods mention it.
    pub source: Option<Source>,
}

impl Network {
    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A port a container declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// `name`.
    pub name: Option<String>,
    /// `containerPort`.
    pub number: u16,
    /// IP protocol number of `protocol`.
    pub protocol: u8,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`, and always [`NAMESPACE_NAME_LABEL`].
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// Where it is written; `None` when it exists only because something is in it.
    pub source: Option<Source>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `status.addresses` of type `InternalIP`, then `ExternalIP`, then those of other types that
    /// are addresses; then `status.podIPs` of pods on the host's network. Where the node itself is
    /// not written, its pods' `status.hostIPs` too.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDR`, `spec.podCIDRs`, and what OVN-Kubernetes writes beside them.
    pub pod_blocks: Vec<IpNet>,
    /// The condition `Ready` is there and not `True`.
    pub is_offline: bool,
    /// Where it is written; `None` when only pods mention it.
    pub source: Option<Source>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `metadata.namespace`, `default` if left out.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `spec.type`, `ClusterIP` if left out.
    pub service_type: String,
    /// `spec.clusterIP` and `spec.clusterIPs` without `None`.
    pub cluster_addresses: Vec<IpAddr>,
    /// `spec.selector`; empty selects nothing.
    pub selector: Labels,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// Where it is written.
    pub source: Source,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`.
    pub name: Option<String>,
    /// IP protocol number of `protocol`.
    pub protocol: u8,
    /// `port`.
    pub number: u16,
    /// `targetPort`, `port` if left out.
    pub target: TargetPort,
}

/// Where a service port leads in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// This number.
    Number(u16),
    /// The container port of this name.
    Name(String),
}

/// Where an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The document.
    pub stand: Arc<Stand>,
    /// Where the object starts.
    pub position: Position,
}

impl Source {
    /// Where the object starts.
    pub fn place(&self) -> Place {
        self.stand.place(self.position)
    }

    /// Another place in the same document.
    #[must_use]
    pub fn at(&self, position: Position) -> Source {
        Source {
            stand: self.stand.clone(),
            position,
        }
    }

    /// Number of the document in its file, from 1.
    pub fn document(&self) -> u32 {
        self.stand.number()
    }
}
