//! AdminOutputRules objects after decoding and validation (`portcullis.io/v1alpha1`): what an
//! administrator of OpenShift 3.x writes into the chain OPENSHIFT-ADMIN-OUTPUT-RULES.

use ipnet::IpNet;

use super::document::Position;
use super::inventory::Source;

/// An ordered list for everything that leaves the cluster, whatever the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminOutputRules {
    /// `metadata.name`.
    pub name: String,
    /// `spec.rules`; the first that drops or accepts decides.
    pub rules: Vec<OutputRule>,
    /// Where it is written.
    pub source: Source,
}

/// One of `spec.rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRule {
    /// Where it is written.
    pub position: Position,
    /// `name`, unique in its object.
    pub name: String,
    /// `from`; empty is every pod.
    pub from: Vec<IpNet>,
    /// `to`; empty is everything outside.
    pub to: Vec<IpNet>,
    /// IP protocol number of `protocol`; `None` is any.
    pub protocol: Option<u8>,
    /// `ports`, inclusive ranges; empty is every port.
    pub ports: Vec<(u16, u16)>,
    /// `action`.
    pub action: OutputAction,
    /// `log` and `rateLimit`.
    pub effects: Effects,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputAction {
    /// `drop`.
    Drop,
    /// `accept`: no further rule is asked.
    Accept,
    /// `continue`: the next rule is asked.
    Continue,
}

/// What a rule does beside deciding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effects {
    /// Matches are logged.
    pub log: bool,
    /// The rule matches only so often.
    pub rate_limit: Option<RateLimit>,
}

/// Connections beyond this the rule does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// `connectionsPerSecond`.
    pub connections_per_second: u32,
    /// `burst`.
    pub burst: u32,
}
