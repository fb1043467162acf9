//! EgressFirewall objects after decoding and validation (`k8s.ovn.org/v1`).

use ipnet::IpNet;

use super::LabelSelector;
use super::document::Position;
use super::inventory::Source;
use super::openshift::RuleType;

/// Name of the only EgressFirewall of a namespace that counts.
pub const EGRESS_FIREWALL_NAME: &str = "default";

/// Most rules an EgressFirewall has: they are numbered from 0 to 8000.
pub const EGRESS_FIREWALL_RULES_MAX: usize = 8001;

/// EgressFirewall: an ordered list for what leaves the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressFirewall {
    /// `metadata.namespace`, `default` if left out.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.egress`; the first that matches decides.
    pub rules: Vec<FirewallRule>,
    /// Where it is written.
    pub source: Source,
}

impl EgressFirewall {
    /// Is it the one of its namespace that counts?
    pub fn is_enforced(&self) -> bool {
        self.name == EGRESS_FIREWALL_NAME
    }
}

/// One of `spec.egress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallRule {
    /// Where it is written.
    pub position: Position,
    /// `type`.
    pub rule_type: RuleType,
    /// `ports`; empty is any protocol.
    pub ports: Vec<FirewallPort>,
    /// `to`.
    pub to: FirewallDestination,
}

/// One of `ports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirewallPort {
    /// IP protocol number of `protocol`.
    pub protocol: u8,
    /// `port`.
    pub port: u16,
}

/// Where a rule leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirewallDestination {
    /// `cidrSelector`, its host bits cleared.
    Block(IpNet),
    /// `dnsName`, as it is written; `*.` at its start is exactly one label.
    Name(String),
    /// `nodeSelector`: every address of these nodes.
    Nodes(LabelSelector),
}
