//! NetworkPolicy objects after decoding, defaulting and validation.

use ipnet::IpNet;

use super::document::Position;
use super::inventory::Source;
use super::{Direction, LabelSelector};

/// `networking.k8s.io/v1` or `extensions/v1beta1` NetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// `metadata.namespace`, `default` if left out.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.podSelector`.
    pub pod_selector: LabelSelector,
    /// Does it isolate for ingress (`policyTypes`, defaulted)?
    pub isolates_ingress: bool,
    /// Does it isolate for egress (`policyTypes`, defaulted)?
    pub isolates_egress: bool,
    /// `spec.ingress`.
    pub ingress: Vec<PolicyRule>,
    /// `spec.egress`.
    pub egress: Vec<PolicyRule>,
    /// Where it is written.
    pub source: Source,
}

/// One of `spec.ingress` or `spec.egress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// Where it is written.
    pub position: Position,
    /// `from` or `to`; empty is any peer.
    pub peers: Vec<Peer>,
    /// `ports`; empty is any protocol and port.
    pub ports: Vec<PolicyPort>,
}

/// One of `from` or `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it is written.
    pub position: Position,
    /// Whom it means.
    pub kind: PeerKind,
}

/// Whom a peer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerKind {
    /// Pods. At least one selector is there.
    Pods {
        /// `namespaceSelector`; `None` is the policy's own namespace.
        namespaces: Option<LabelSelector>,
        /// `podSelector`; `None` is every pod of the namespaces.
        pods: Option<LabelSelector>,
    },
    /// `ipBlock`: addresses, whoever has them.
    IpBlock {
        /// `cidr` without its host bits.
        cidr: IpNet,
        /// `except` without their host bits.
        except: Vec<IpNet>,
    },
}

/// One of `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyPort {
    /// Where it is written.
    pub position: Position,
    /// IP protocol number of `protocol`, TCP if left out.
    pub protocol: u8,
    /// `port` and `endPort`.
    pub ports: PortMatch,
}

/// Which ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortMatch {
    /// All: `port` is left out.
    Any,
    /// `port` to `endPort`, inclusive; equal without `endPort`.
    Range {
        /// `port`.
        first: u16,
        /// `endPort`, or `port`.
        last: u16,
    },
    /// The port each destination pod gives this name.
    Named(String),
}

impl PolicyRule {
    /// The rule as the plugin `networkpolicy` of openshift-sdn reads it, which knows neither port
    /// names nor IPv6: these entries are ignored, and a rule that has no other matches nothing
    /// (`None`).
    pub fn for_openshift_sdn(&self) -> Option<PolicyRule> {
        let reads_port = |port: &&PolicyPort| !matches!(port.ports, PortMatch::Named(_));
        let reads_peer = |peer: &&Peer| match &peer.kind {
            PeerKind::IpBlock { cidr, .. } => cidr.addr().is_ipv4(),
            PeerKind::Pods { .. } => true,
        };
        let rule = PolicyRule {
            position: self.position,
            peers: self.peers.iter().filter(reads_peer).cloned().collect(),
            ports: self.ports.iter().filter(reads_port).cloned().collect(),
        };
        // What is empty by now, and was not, would mean everything.
        let peers_left = self.peers.is_empty() || !rule.peers.is_empty();
        let ports_left = self.ports.is_empty() || !rule.ports.is_empty();
        (peers_left && ports_left).then_some(rule)
    }
}

impl NetworkPolicy {
    /// Does it isolate the pods it selects in this direction?
    pub fn isolates(&self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.isolates_ingress,
            Direction::Egress => self.isolates_egress,
        }
    }

    /// Its rules of a direction, whether it isolates in it or not.
    pub fn rules(&self, direction: Direction) -> &[PolicyRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}
