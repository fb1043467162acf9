//! Kubernetes-style objects in, ordered rule sets out.
//!
//! ```text
//! SourceFile ─▶ document ─▶ objects ─▶ validate ─▶ Inventory + policies ─▶ compile ─▶ StageRules
//!   (text)      (spans)     (typed)    (findings)                    └──▶ naive (the slow twin)
//! ```
//!
//! This room never sees a frame. Of the classifier it knows the intermediate representation alone.

pub mod compatibility;
mod compile;
mod decode;
pub mod document;
pub mod evaluate;
pub mod finding;
pub mod inventory;
mod lint;
mod load;
pub mod naive;
pub mod network_policy;
pub mod origin;
mod selection;
pub mod selector;
pub mod source;

pub use compatibility::{Compatibility, CompatibilityError};
pub use compile::{ISOLATION_ANNOTATION, isolation_annotation};
pub use document::Document;
pub use evaluate::{Evaluation, Step};
pub use finding::{Finding, Place, Severity};
pub use inventory::{Inventory, Pod};
pub use load::{load, load_documents};
pub use network_policy::NetworkPolicy;
pub use origin::Origin;
pub use selector::LabelSelector;
pub use source::{ReadError, SourceFile, read_directory};

use crate::classifier::{OriginId, RuleSet};
use crate::wire::{FlowKey, protocol};

/// Which end of a connection a stage protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Asked on behalf of the destination.
    Ingress,
    /// Asked on behalf of the source.
    Egress,
}

/// The rules of one evaluation step, for the whole inventory at once.
///
/// A key that no rule matches is allowed: the step has no opinion of it.
#[derive(Debug, Clone)]
pub struct StageRules {
    /// Short name of the family in reports and in `deny_stage`: `NP`, later `SG`, `Admin`, ….
    pub family: &'static str,
    /// Which end of the connection it protects.
    pub direction: Direction,
    /// The rules, strongest first.
    pub rules: RuleSet,
}

/// What loading gives.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Everything there is to say, sorted by place.
    pub findings: Vec<Finding>,
    /// The policies in force; `None` exactly when a finding is an error: all or nothing.
    pub policy: Option<PolicySet>,
}

/// A complete set of objects, and the rules compiled from it.
#[derive(Debug, Clone)]
pub struct PolicySet {
    /// Pods, namespaces, nodes, services.
    pub inventory: Inventory,
    /// Every NetworkPolicy, sorted by namespace and name.
    pub policies: Vec<NetworkPolicy>,
    /// The evaluation steps in order: a packet passes when no step denies it.
    pub stages: Vec<StageRules>,
    /// Where rules were written, by [`OriginId`].
    pub origins: Vec<Origin>,
    /// The switches it was loaded with.
    pub compatibility: Compatibility,
}

impl PolicySet {
    /// Where a rule was written.
    pub fn origin(&self, id: OriginId) -> &Origin {
        &self.origins[id.0 as usize]
    }
}

/// Why no policy is asked about a key, if none is.
///
/// To be asked before the stages; the stages themselves do not know these exemptions:
/// - a pod talking to its own address cannot be cut off from itself;
/// - neighbour discovery, router discovery and multicast listener discovery (ICMPv6 types 130 to
///   137 and 143) keep the link alive and are judged elsewhere.
pub fn is_exempt(key: &FlowKey) -> Option<&'static str> {
    is_exempt_at(key, None)
}

/// As [`is_exempt`], of a packet whose hop limit is known.
///
/// Discovery never crosses a router: neighbour and router discovery arrives with hop limit 255
/// (RFC 4861 §6.1, §7.1), listener discovery with 1 (RFC 2710 §3, RFC 3810 §5). With any other it
/// is ICMPv6 like all the rest.
pub fn is_exempt_at(key: &FlowKey, hop_limit: Option<u8>) -> Option<&'static str> {
    if key.source == key.destination {
        return Some("a pod always reaches its own address");
    }
    let icmp_type = (key.destination_port >> 8) as u8;
    let discovery = matches!(
        icmp_type,
        protocol::ICMPV6_MLD_QUERY..=protocol::ICMPV6_REDIRECT | protocol::ICMPV6_MLD2_REPORT
    );
    let expected = match icmp_type {
        protocol::ICMPV6_ROUTER_SOLICITATION..=protocol::ICMPV6_REDIRECT => 255,
        _ => 1,
    };
    let on_link = hop_limit.is_none_or(|hop_limit| hop_limit == expected);
    (key.protocol == protocol::ICMPV6 && key.is_icmp() && discovery && on_link)
        .then_some("neighbour, router and listener discovery are not subject to policy")
}

#[cfg(test)]
mod tests;
