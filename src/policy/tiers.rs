//! The tiers of the cluster's administrator: AdminNetworkPolicy, BaselineAdminNetworkPolicy
//! (`policy.networking.k8s.io/v1alpha1`) and ClusterNetworkPolicy (`v1alpha2`), in one model.

use ipnet::IpNet;

use super::document::Position;
use super::inventory::Source;
use super::{Direction, LabelSelector};

/// One object of any of the three kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierPolicy {
    /// Which kind it is written as.
    pub kind: TierKind,
    /// `metadata.name`.
    pub name: String,
    /// Before or behind NetworkPolicy.
    pub tier: Tier,
    /// `spec.priority`, 0 to 1000, smaller first; BaselineAdminNetworkPolicy has none, and 0 here.
    pub priority: u16,
    /// `spec.subject`.
    pub subject: PodScope,
    /// `spec.ingress`.
    pub ingress: Vec<TierRule>,
    /// `spec.egress`.
    pub egress: Vec<TierRule>,
    /// Where it is written.
    pub source: Source,
}

/// The kinds of objects that make up the tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TierKind {
    /// ClusterNetworkPolicy, of either tier.
    Cluster,
    /// AdminNetworkPolicy.
    Admin,
    /// BaselineAdminNetworkPolicy.
    Baseline,
}

/// A tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Asked before NetworkPolicy.
    Admin,
    /// Asked where no NetworkPolicy isolates.
    Baseline,
}

/// Pods by their namespace's labels and their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodScope {
    /// `namespaces`, or `pods.namespaceSelector`; empty selects all.
    pub namespaces: LabelSelector,
    /// `pods.podSelector`; empty selects all, as `namespaces` does.
    pub pods: LabelSelector,
}

/// One of `spec.ingress` or `spec.egress`: the first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierRule {
    /// Where it is written.
    pub position: Position,
    /// `name`; may be empty.
    pub name: String,
    /// `action`.
    pub action: Action,
    /// `from` or `to`; there is at least one.
    pub peers: Vec<TierPeer>,
    /// `ports` or `protocols`; empty is any protocol, those without ports too.
    pub ports: Vec<TierPort>,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `Accept`, or `Allow`: no weaker tier is asked.
    Accept,
    /// `Deny`.
    Deny,
    /// `Pass`: the rest of the tier is not asked.
    Pass,
}

/// One of `from` or `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierPeer {
    /// Where it is written.
    pub position: Position,
    /// Whom it means.
    pub kind: TierPeerKind,
}

/// Whom a peer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TierPeerKind {
    /// `namespaces` or `pods`.
    Pods(PodScope),
    /// `networks`: addresses, whoever has them, without their host bits.
    Networks(Vec<IpNet>),
    /// `nodes`: addresses of the nodes with these labels.
    Nodes(LabelSelector),
    /// `domainNames`: what names stand for; lower case, without the dot that ends a full name.
    DomainNames(Vec<String>),
    /// A field of a newer version, by name: the whole rule fails closed.
    Unknown(String),
}

/// One of `ports` or `protocols`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TierPort {
    /// Numbers of one protocol.
    Range {
        /// IP protocol number.
        protocol: u8,
        /// First port.
        first: u16,
        /// Last port, inclusive.
        last: u16,
    },
    /// The port, of whatever protocol, that the destination pod gives this name.
    Named(String),
}

impl TierPolicy {
    /// Its rules of a direction.
    pub fn rules(&self, direction: Direction) -> &[TierRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Order within a tier: by number, ClusterNetworkPolicy before AdminNetworkPolicy where equal,
    /// then by name; BaselineAdminNetworkPolicy behind all.
    pub fn precedence(&self) -> (Tier, bool, u16, TierKind, &str) {
        let last = self.kind == TierKind::Baseline;
        (self.tier, last, self.priority, self.kind, &self.name)
    }

    /// `AdminNetworkPolicy/name`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.kind.name(), self.name)
    }
}

impl TierKind {
    /// As `kind` is written.
    pub const fn name(self) -> &'static str {
        match self {
            TierKind::Cluster => "ClusterNetworkPolicy",
            TierKind::Admin => "AdminNetworkPolicy",
            TierKind::Baseline => "BaselineAdminNetworkPolicy",
        }
    }
}

impl TierRule {
    /// The field of a newer version in its peers, if there is one. Then the rule fails closed: one
    /// that accepts matches nothing, any other denies everything.
    pub fn unknown_peer(&self) -> Option<&str> {
        self.peers.iter().find_map(|peer| match &peer.kind {
            TierPeerKind::Unknown(field) => Some(field.as_str()),
            _ => None,
        })
    }
}

/// Does a pattern of `domainNames` mean this name? `*.` stands for one or more labels.
pub fn domain_fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        // The dot stays: `*.example.com` means neither `example.com` nor `notexample.com`.
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_or_more_whole_labels() {
        for (pattern, name, expected) in [
            ("*.kubernetes.io", "blog.kubernetes.io", true),
            ("*.kubernetes.io", "latest.blog.kubernetes.io", true),
            ("*.kubernetes.io", "kubernetes.io", false),
            ("*.kubernetes.io", "my-kubernetes.io", false),
            ("*.kubernetes.io", ".kubernetes.io", false),
            ("kubernetes.io", "kubernetes.io", true),
            ("kubernetes.io", "www.kubernetes.io", false),
        ] {
            assert_eq!(domain_fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
