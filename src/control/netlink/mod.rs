//! The kernel mirror: links, addresses, routes and neighbours, followed by netlink.
//!
//! ```text
//! kernel ── notifications ──▶ Mirror ── watch: KernelView ──▶ supervisor ──▶ snapshots
//!        ◀── dumps ─────────        ◀── NeighbourRequests ─── workers
//!        ◀── NTF_USE (resolve) ──
//! ```
//!
//! The kernel stays the control plane of the box: `ip route`, routing daemons and DHCP clients work
//! unchanged, and the data plane follows within milliseconds.
//!
//! Notifications about links, addresses, routes and rules only *trigger* a new dump, they are not
//! applied: the kernel does not notify of every change (IPv4 routes vanish in silence with their
//! link), and a whole picture read again cannot drift from the truth. Neighbours, which change all
//! the time and are notified completely, are applied one by one.

mod dump;
mod forwarding;
mod link;
mod message;
mod mirror;
mod neighbours;
mod rule;
mod socket;
mod topology;

pub use forwarding::kernel_forwards;
pub use mirror::{Mirror, MirrorError, MirrorHandle};

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::dataplane::route::RouteTable;
use crate::wire::MacAddress;

/// What the mirror follows.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// Interface names; the position is the port's number.
    pub interfaces: Vec<String>,
    /// Neighbours known at most, all ports together.
    pub neighbours_max: usize,
    /// Resolution requests that may wait at once.
    pub requests_max: usize,
    /// How long changes of links, addresses and routes are gathered before they are published.
    pub settle: Duration,
}

impl MirrorConfig {
    /// These interfaces, otherwise defaults.
    pub fn new(interfaces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        MirrorConfig {
            interfaces: interfaces.into_iter().map(Into::into).collect(),
            neighbours_max: 65_536,
            requests_max: 4_096,
            settle: Duration::from_millis(5),
        }
    }
}

/// One complete picture of the kernel's state.
#[derive(Debug, Clone)]
pub struct KernelView {
    /// Counts pictures, from 1.
    pub generation: u64,
    /// What the data plane forwards by.
    pub routes: Arc<RouteTable>,
    /// Each port's link; `None` while no interface has its name. An interface that was deleted and
    /// created again has another `ifindex`.
    pub links: Arc<[Option<LinkState>]>,
    /// The box's own addresses on all its interfaces, loopback ones excepted: what the steering
    /// program passes to the kernel.
    pub local_addresses: Arc<[LocalAddress]>,
    /// What of the kernel's configuration the data plane does not follow.
    pub warnings: Arc<[MirrorWarning]>,
}

/// The link of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// Index of the interface.
    pub ifindex: u32,
    /// Its name.
    pub interface: String,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Largest IP packet, in bytes.
    pub mtu_bytes: u32,
    /// Administratively up.
    pub admin_up: bool,
    /// The lower layer is up.
    pub carrier: bool,
    /// Neighbours need no resolution (`IFF_NOARP`).
    pub no_arp: bool,
    /// Kind of a virtual interface (`veth`, `macvlan`, `vlan`, …); `None` for a physical one.
    pub kind: Option<String>,
    /// Index of the interface it is stacked on (macvlan, vlan) or paired with (veth).
    pub lower_ifindex: Option<u32>,
    /// Index of the bridge, bond or VRF it belongs to.
    pub controller_ifindex: Option<u32>,
    /// Receive queues it was created with.
    pub receive_queues: u32,
}

/// How an address is the box's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LocalKind {
    /// Configured on an interface, or by a route of type `local`.
    Unicast,
    /// Broadcast address of an attached IPv4 network.
    Broadcast,
    /// IPv6 anycast (RFC 4291 §2.6).
    Anycast,
}

/// Addresses the kernel accepts as its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalAddress {
    /// Nearly always a single address (`/32`, `/128`).
    pub prefix: IpNet,
    /// How it is the box's own.
    pub kind: LocalKind,
}

/// Something of the kernel's configuration that the data plane does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorWarning {
    /// `ip rule` has rules besides the three usual ones.
    #[error("{count} policy routing rules are ignored: only tables local and main are followed")]
    PolicyRules {
        /// Their number.
        count: usize,
    },
    /// Routes with several next hops.
    #[error("{count} multipath routes use one next hop only; the first of them is {example}")]
    Multipath {
        /// Their number.
        count: usize,
        /// One of them.
        example: IpNet,
    },
    /// Routes by traffic class, source prefix or with an encapsulation.
    #[error("{count} routes of kinds not followed ({reason}); the first of them is {example}")]
    UnfollowedRoutes {
        /// Their number.
        count: usize,
        /// What is not followed.
        reason: &'static str,
        /// One of them.
        example: IpNet,
    },
    /// A port that carries no Ethernet frames.
    #[error("interface {interface} is not Ethernet and cannot be a port")]
    NotEthernet {
        /// The port's interface.
        interface: String,
    },
    /// A port belongs to a bridge, bond or VRF.
    #[error("interface {interface} belongs to a bridge, bond or VRF; its traffic bypasses that")]
    Enslaved {
        /// The port's interface.
        interface: String,
    },
    /// Messages from the kernel that could not be understood.
    #[error("{count} messages from the kernel could not be understood: {example}")]
    Undecodable {
        /// Their number in the last dump.
        count: usize,
        /// The first error.
        example: String,
    },
    /// The kernel or the configured limit refuses further neighbours.
    #[error("neighbour {address} was not resolved: {reason}; {count} such since the start")]
    NeighbourRefused {
        /// The last one refused.
        address: IpAddr,
        /// Why.
        reason: String,
        /// Their number.
        count: u64,
    },
}
