//! Who is behind an address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::protected;
use crate::control::probe::Endpoint;
use crate::policy::{Direction, Place, PolicySet};
use crate::wire::{FlowKey, protocol};

/// One end of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// As the question names it.
    pub endpoint: String,
    /// Its address in the packet.
    pub address: IpAddr,
    /// Whose address that is.
    pub owner: Owner,
}

/// Whose an address is, as policies see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Owner {
    /// A pod that policies can select.
    Pod {
        /// `metadata.namespace`.
        namespace: String,
        /// `metadata.name`.
        name: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// Labels of its namespace.
        namespace_labels: BTreeMap<String, String>,
        /// The node it runs on.
        node: Option<String>,
        /// Where it is written.
        place: Place,
    },
    /// A node, and with it the pods on its network: only blocks of addresses mean them.
    Node {
        /// `metadata.name`.
        name: String,
    },
    /// Nobody in the manifests: only blocks of addresses mean it.
    Unknown,
}

/// The end of a key that a stage of this direction protects.
pub(super) fn end(
    policy: &PolicySet,
    key: &FlowKey,
    direction: Direction,
    endpoint: &Endpoint,
) -> End {
    let address = match direction {
        Direction::Egress => key.source,
        Direction::Ingress => key.destination,
    };
    let inventory = &policy.inventory;
    let ip = address.to_ip(key.family);
    let owner = match protected(policy, key, direction) {
        Some(pod) => Owner::Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            labels: pod.labels.clone(),
            namespace_labels: inventory
                .namespace(&pod.namespace)
                .map(|namespace| namespace.labels.clone())
                .unwrap_or_default(),
            node: pod.node_name.clone(),
            place: pod.source.place(),
        },
        None => match inventory.nodes().find(|node| node.addresses.contains(&ip)) {
            Some(node) => Owner::Node {
                name: node.name.clone(),
            },
            None => Owner::Unknown,
        },
    };
    End {
        endpoint: endpoint.to_string(),
        address: ip,
        owner,
    }
}

/// What rules match of a key beside its addresses: `tcp/80`, `icmp type 8`, `ip47`.
pub fn asked(key: &FlowKey) -> String {
    let name = protocol::name(key.protocol);
    if key.is_icmp() {
        format!("{name} type {}", key.destination_port >> 8)
    } else if matches!(key.protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
        format!("{name}/{}", key.destination_port)
    } else {
        name.into_owned()
    }
}
