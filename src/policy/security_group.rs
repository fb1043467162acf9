//! SecurityGroup objects of Kube-OVN after decoding and validation.

use ipnet::IpNet;

use super::Direction;
use super::document::Position;
use super::inventory::Source;
use crate::wire::Family;

/// `kubeovn.io/v1` SecurityGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    /// `metadata.name`; groups are of no namespace.
    pub name: String,
    /// `spec.tier`: 0, or 1 for rules that only a `pass` of tier 0 leads to.
    pub tier: u8,
    /// `spec.allowSameGroupTraffic`.
    pub allow_same_group_traffic: bool,
    /// `spec.ingressRules`.
    pub ingress: Vec<GroupRule>,
    /// `spec.egressRules`.
    pub egress: Vec<GroupRule>,
    /// Where it is written.
    pub source: Source,
}

/// One of `spec.ingressRules` or `spec.egressRules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRule {
    /// Where it is written.
    pub position: Position,
    /// `ipVersion`.
    pub family: Family,
    /// `priority`, from 1; the smallest decides.
    pub priority: u32,
    /// `protocol`.
    pub protocol: GroupProtocol,
    /// `remoteType`, `remoteAddress` and `remoteSecurityGroup`: the other end.
    pub remote: Remote,
    /// `localAddress` without its host bits: which of the pod's own addresses.
    pub local: Option<IpNet>,
    /// `portRangeMin` to `portRangeMax`, destination ports; all of them unless TCP or UDP.
    pub ports: (u16, u16),
    /// `sourcePortRangeMin` to `sourcePortRangeMax`; all of them unless TCP or UDP with a
    /// `localAddress`.
    pub source_ports: (u16, u16),
    /// `policy`.
    pub policy: GroupPolicy,
}

/// Every port there is.
pub const ALL_PORTS: (u16, u16) = (0, u16::MAX);

/// Which protocols a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupProtocol {
    /// Whatever the family carries.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, or ICMPv6 under `ipVersion: ipv6`.
    Icmp,
}

/// The other end a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// Addresses, without host bits.
    Address(IpNet),
    /// The addresses of a group's members.
    Group {
        /// Its name.
        name: String,
        /// Where it is named.
        position: Position,
    },
}

/// What a rule says. Of rules of one priority the first of these decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupPolicy {
    /// Denied.
    Drop,
    /// Tier 1 decides.
    Pass,
    /// Allowed.
    Allow,
}

impl SecurityGroup {
    /// Its rules of a direction.
    pub fn rules(&self, direction: Direction) -> &[GroupRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// The name Kube-OVN keeps its port group under: dashes become dots.
    pub fn folded_name(&self) -> String {
        self.name.replace('-', ".")
    }
}

impl GroupProtocol {
    /// As a rule names it.
    pub const fn name(self) -> &'static str {
        match self {
            GroupProtocol::Any => "all",
            GroupProtocol::Tcp => "tcp",
            GroupProtocol::Udp => "udp",
            GroupProtocol::Icmp => "icmp",
        }
    }

    /// Has it ports a rule may name?
    pub const fn has_ports(self) -> bool {
        matches!(self, GroupProtocol::Tcp | GroupProtocol::Udp)
    }
}

impl GroupPolicy {
    /// As a rule names it.
    pub const fn name(self) -> &'static str {
        match self {
            GroupPolicy::Drop => "drop",
            GroupPolicy::Pass => "pass",
            GroupPolicy::Allow => "allow",
        }
    }
}

/// The field rules of a direction are in.
pub const fn rules_field(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingressRules",
        Direction::Egress => "egressRules",
    }
}

impl std::fmt::Display for GroupRule {
    /// `drop ipv4 icmp from 10.16.0.14/32, priority 1`, without the preposition's direction:
    /// `remote` stands for either.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let policy = self.policy.name();
        write!(
            f,
            "{policy} ipv{} {}",
            self.family as u8,
            self.protocol.name()
        )?;
        if self.protocol.has_ports() {
            write!(f, "/{}", ports_text(self.ports))?;
        }
        match &self.remote {
            Remote::Address(net) => write!(f, " remote {net}")?,
            Remote::Group { name, .. } => write!(f, " remote group {name}")?,
        }
        if let Some(local) = self.local {
            write!(f, " local {local}")?;
        }
        if self.source_ports != ALL_PORTS {
            write!(f, " source ports {}", ports_text(self.source_ports))?;
        }
        write!(f, ", priority {}", self.priority)
    }
}

/// `80`, or `80-443`.
pub fn ports_text((first, last): (u16, u16)) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}
