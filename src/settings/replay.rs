//! `[replay]`: what `replay` uses instead of the kernel's links, routes and neighbours.

use std::net::IpAddr;

use ipnet::IpNet;

/// The network around a capture. All empty: `replay` forwards between the two ports transparently.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replay {
    /// `[[replay.link]]`, at most one a port.
    pub links: Vec<ReplayLink>,
    /// `[[replay.route]]`; networks of link addresses need none.
    pub routes: Vec<ReplayRoute>,
    /// `[[replay.neighbour]]`
    pub neighbours: Vec<ReplayNeighbour>,
}

/// `[[replay.link]]`: a port's own side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayLink {
    /// Number of the port.
    pub port: usize,
    /// Its addresses, with the prefix length of their network.
    pub addresses: Vec<IpNet>,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu_bytes: u32,
}

/// `[[replay.route]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayRoute {
    /// Destinations.
    pub prefix: IpNet,
    /// Number of the port they leave by.
    pub port: usize,
    /// Next hop; `None` when destinations are on the link.
    pub gateway: Option<IpAddr>,
}

/// `[[replay.neighbour]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayNeighbour {
    /// Number of the port it lives behind.
    pub port: usize,
    /// Its IP address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}
