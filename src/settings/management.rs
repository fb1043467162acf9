//! `[management]`: what may reach the box itself.

use std::ops::RangeInclusive;

use ipnet::IpNet;

/// What may reach the box's own addresses. ARP, neighbour discovery and answers to the box's own
/// traffic always do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Management {
    /// The box answers echo requests.
    pub ping: bool,
    /// The box may get its own addresses by DHCP or DHCPv6.
    pub dhcp_client: bool,
    /// `[[management.allow]]`: anything that one of these allows may reach the box.
    pub allow: Vec<ManagementRule>,
}

/// One `[[management.allow]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagementRule {
    /// Sources, not empty; no host bits set.
    pub from: Vec<IpNet>,
    /// IP protocol.
    pub protocol: ManagementProtocol,
    /// Destination ports; empty means all. Only with tcp, udp, sctp.
    pub ports: Vec<PortRange>,
    /// For people.
    pub comment: String,
}

/// Ports from the first to the last.
pub type PortRange = RangeInclusive<u16>;

/// Which IP protocol a management rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManagementProtocol {
    /// All of them.
    #[default]
    Any,
    /// The one with this number.
    Number(u8),
}
