//! Whether a frame may leave or reach a port at all: its addresses must be the port's own.
//!
//! As OVN's logical switch decides it (`ovn-nb.xml`, Logical_Switch_Port `port_security`;
//! `controller/lflow.c`). It comes before every policy and is overridden by none: all of them trust
//! the source address. It knows nothing of rules and trees; a function of a port's entry and of
//! what a frame says.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::wire::{Family, MacAddress, protocol};

/// Type of a neighbour solicitation (RFC 4861 §4.3).
const SOLICITATION: u8 = 135;
/// Type of a neighbour advertisement (RFC 4861 §4.4).
const ADVERTISEMENT: u8 = 136;
/// What a host without an address yet sends to everybody: listener reports and solicitations of its
/// neighbours.
const UNSPECIFIED_SOURCE_TYPES: [u8; 3] = [131, 143, SOLICITATION];

/// The addresses frames of a port may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `None` where it is not known, and not checked.
    pub mac: Option<MacAddress>,
    /// Its IPv4 addresses and subnets, as [`Entry::new`] takes them.
    pub v4: Vec<Ipv4Net>,
    /// Its IPv6 addresses and subnets.
    pub v6: Vec<Ipv6Net>,
}

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Has it a VLAN tag?
    pub tagged: bool,
    /// Source MAC address.
    pub source: MacAddress,
    /// Destination MAC address.
    pub destination: MacAddress,
    /// What it carries.
    pub payload: Payload,
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// ARP, whatever its operation (RFC 826).
    Arp {
        /// Sender's hardware address.
        sender_mac: MacAddress,
        /// Sender's protocol address.
        sender: Ipv4Addr,
    },
    /// IPv4.
    V4 {
        /// Source address.
        source: Ipv4Addr,
        /// Destination address.
        destination: Ipv4Addr,
        /// Source and destination port, when it is UDP.
        udp: Option<(u16, u16)>,
    },
    /// IPv6.
    V6 {
        /// Source address.
        source: Ipv6Addr,
        /// Destination address.
        destination: Ipv6Addr,
        /// The message, when it is ICMPv6.
        icmp: Option<Icmpv6>,
    },
    /// Any other EtherType.
    Other(u16),
}

/// What is looked at of an ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmpv6 {
    /// Type.
    pub icmp_type: u8,
    /// Code.
    pub code: u8,
    /// Hop limit of the packet.
    pub hop_limit: u8,
    /// Target of a solicitation or advertisement.
    pub target: Option<Ipv6Addr>,
    /// Link-layer address in the option the message has: the source's of a solicitation, the
    /// target's of an advertisement.
    pub link_layer: Option<MacAddress>,
}

/// Why a frame is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A VLAN tag on a switch that has none.
    #[error("a frame with a VLAN tag is not taken")]
    Tagged,
    /// A source MAC address with the group bit.
    #[error("source MAC {0} is a group address, which no station has")]
    GroupSource(MacAddress),
    /// Another source MAC address.
    #[error("source MAC {found} is not the port's, {own}")]
    SourceMac {
        /// What the frame has.
        found: MacAddress,
        /// What it should have.
        own: MacAddress,
    },
    /// Another destination MAC address.
    #[error("destination MAC {found} is not the port's, {own}")]
    DestinationMac {
        /// What the frame has.
        found: MacAddress,
        /// What it should have.
        own: MacAddress,
    },
    /// ARP from another MAC address.
    #[error("ARP sender MAC {found} is not the port's, {own}")]
    ArpMac {
        /// What the message has.
        found: MacAddress,
        /// What it should have.
        own: MacAddress,
    },
    /// ARP for another address.
    #[error("ARP sender address {found} is none of the port's: {own}")]
    ArpAddress {
        /// What the message has.
        found: Ipv4Addr,
        /// What it may have.
        own: Addresses,
    },
    /// Another source address.
    #[error("source address {found} is none of the port's: {own}")]
    Source {
        /// What the packet has.
        found: IpAddr,
        /// What it may have.
        own: Addresses,
    },
    /// Another destination address.
    #[error("destination address {found} is none of the port's: {own}")]
    Destination {
        /// What the packet has.
        found: IpAddr,
        /// What it may have.
        own: Addresses,
    },
    /// Neighbour discovery with another link-layer address.
    #[error("link-layer address {found} in neighbour discovery is not the port's, {own}")]
    LinkLayer {
        /// What the message has.
        found: MacAddress,
        /// What it may have.
        own: MacAddress,
    },
    /// An advertisement of another address.
    #[error("advertised address {found} is none of the port's: {own}")]
    Target {
        /// What the message has.
        found: Ipv6Addr,
        /// What it may have.
        own: Addresses,
    },
    /// What nodes would take for a packet of their own tunnels.
    #[error("UDP to port {0} is the nodes' own: pods do not send into their tunnels")]
    Tunnel(u16),
    /// A family, or another protocol, the entry has no address for.
    #[error("the port has no address for {0}; it has {1}")]
    NoAddressFor(String, Addresses),
}

/// The addresses of an entry as text: `10.16.0.15, fd00::15`; `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(pub Vec<IpNet>);

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (number, net) in self.0.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            match net.prefix_len() == net.max_prefix_len() {
                true => write!(f, "{comma}{}", net.addr())?,
                false => write!(f, "{comma}{net}")?,
            }
        }
        Ok(())
    }
}

/// May a frame enter the switch from a port? `entry` is `None` without port security.
///
/// # Errors
/// Why not.
pub fn from_port(entry: Option<&Entry>, frame: &Frame) -> Result<(), Refusal> {
    if frame.tagged {
        return Err(Refusal::Tagged);
    }
    if frame.source.is_group() {
        return Err(Refusal::GroupSource(frame.source));
    }
    let Some(entry) = entry else {
        return Ok(());
    };
    if let Some(own) = entry.other_than_own(frame.source) {
        let found = frame.source;
        return Err(Refusal::SourceMac { found, own });
    }
    if entry.v4.is_empty() && entry.v6.is_empty() {
        return entry.check_arp_mac(&frame.payload);
    }
    match frame.payload {
        Payload::Arp { sender, .. } => {
            entry.check_arp_mac(&frame.payload)?;
            let own = || entry.addresses(Family::V4);
            match entry.has_v4(sender) {
                true => Ok(()),
                false if entry.v4.is_empty() => Err(entry.none_for("ARP")),
                false => Err(Refusal::ArpAddress {
                    found: sender,
                    own: own(),
                }),
            }
        }
        Payload::V4 {
            source,
            destination,
            udp,
        } => {
            // DHCP DISCOVER and REQUEST of a client without an address (RFC 2131 §4.1).
            let discovers = source.is_unspecified()
                && destination.is_broadcast()
                && udp == Some((DHCP_CLIENT, DHCP_SERVER));
            match entry.v4.is_empty() {
                true => Err(entry.none_for("IPv4")),
                false if entry.has_v4(source) || discovers => Ok(()),
                false => Err(entry.other_source(source.into())),
            }
        }
        Payload::V6 {
            source,
            destination,
            icmp,
        } => {
            let announces = source.is_unspecified()
                && destination.segments()[0] == 0xff02
                && icmp.is_some_and(|icmp| {
                    icmp.code == 0 && UNSPECIFIED_SOURCE_TYPES.contains(&icmp.icmp_type)
                });
            match entry.v6.is_empty() {
                true => Err(entry.none_for("IPv6")),
                false if entry.has_v6(source) || announces => entry.check_discovery(icmp),
                false => Err(entry.other_source(source.into())),
            }
        }
        Payload::Other(ether_type) => Err(entry.none_for(&format!("EtherType {ether_type:#06x}"))),
    }
}

/// May a frame leave the switch towards a port? `entry` is `None` without port security.
///
/// # Errors
/// Why not.
pub fn to_port(entry: Option<&Entry>, frame: &Frame) -> Result<(), Refusal> {
    let Some(entry) = entry.filter(|_| !frame.destination.is_group()) else {
        return Ok(());
    };
    if let Some(own) = entry.other_than_own(frame.destination) {
        let found = frame.destination;
        return Err(Refusal::DestinationMac { found, own });
    }
    if entry.v4.is_empty() && entry.v6.is_empty() {
        return Ok(());
    }
    match frame.payload {
        Payload::V4 { destination, .. } => {
            let everybody = destination.is_broadcast()
                || destination.is_multicast()
                || entry.v4.iter().any(|net| is_broadcast_of(net, destination));
            match entry.v4.is_empty() {
                true => Err(entry.none_for("IPv4")),
                false if entry.has_v4(destination) || everybody => Ok(()),
                false => Err(entry.other_destination(destination.into())),
            }
        }
        Payload::V6 { destination, .. } => match entry.v6.is_empty() {
            true => Err(entry.none_for("IPv6")),
            false if entry.has_v6(destination) || destination.is_multicast() => Ok(()),
            false => Err(entry.other_destination(destination.into())),
        },
        Payload::Arp { .. } | Payload::Other(_) => Ok(()),
    }
}

const DHCP_CLIENT: u16 = 68;
const DHCP_SERVER: u16 = 67;

impl Entry {
    /// An entry of these addresses. One with a prefix length and no bits behind it is a whole
    /// subnet; one with bits behind it is that address alone.
    pub fn new(mac: Option<MacAddress>, addresses: impl IntoIterator<Item = IpNet>) -> Self {
        let mut entry = Entry {
            mac,
            v4: Vec::new(),
            v6: Vec::new(),
        };
        for address in addresses {
            match address {
                IpNet::V4(net) => entry.v4.push(net),
                IpNet::V6(net) => entry.v6.push(net),
            }
        }
        entry
    }

    /// The port's MAC address, when this is another.
    fn other_than_own(&self, found: MacAddress) -> Option<MacAddress> {
        self.mac.filter(|own| *own != found)
    }

    fn has_v4(&self, address: Ipv4Addr) -> bool {
        let has = |net: &Ipv4Net| match net.trunc() == *net {
            true => net.contains(&address),
            false => net.addr() == address,
        };
        self.v4.iter().any(has)
    }

    fn has_v6(&self, address: Ipv6Addr) -> bool {
        let has = |net: &Ipv6Net| match net.trunc() == *net {
            true => net.contains(&address),
            false => net.addr() == address,
        };
        self.v6.iter().any(has) || self.mac.map(link_local) == Some(address)
    }

    fn check_arp_mac(&self, payload: &Payload) -> Result<(), Refusal> {
        let &Payload::Arp { sender_mac, .. } = payload else {
            return Ok(());
        };
        match self.other_than_own(sender_mac) {
            Some(own) => Err(Refusal::ArpMac {
                found: sender_mac,
                own,
            }),
            None => Ok(()),
        }
    }

    /// What neighbour discovery tells others must be true.
    fn check_discovery(&self, icmp: Option<Icmpv6>) -> Result<(), Refusal> {
        let on_link = |icmp: &Icmpv6| {
            let discovery = matches!(icmp.icmp_type, SOLICITATION | ADVERTISEMENT);
            discovery && icmp.code == 0 && icmp.hop_limit == 255
        };
        let Some(icmp) = icmp.filter(on_link) else {
            return Ok(());
        };
        let told = icmp.link_layer.filter(|mac| !mac.is_zero());
        if let (Some(found), Some(own)) = (told, told.and_then(|mac| self.other_than_own(mac))) {
            return Err(Refusal::LinkLayer { found, own });
        }
        match icmp.target {
            Some(found) if icmp.icmp_type == ADVERTISEMENT && !self.has_v6(found) => {
                Err(Refusal::Target {
                    found,
                    own: self.addresses(Family::V6),
                })
            }
            _ => Ok(()),
        }
    }

    fn addresses(&self, family: Family) -> Addresses {
        Addresses(match family {
            Family::V4 => self.v4.iter().copied().map(IpNet::V4).collect(),
            Family::V6 => self.v6.iter().copied().map(IpNet::V6).collect(),
        })
    }

    fn other_source(&self, found: IpAddr) -> Refusal {
        Refusal::Source {
            found,
            own: self.addresses(Family::of(found)),
        }
    }

    fn other_destination(&self, found: IpAddr) -> Refusal {
        Refusal::Destination {
            found,
            own: self.addresses(Family::of(found)),
        }
    }

    fn none_for(&self, what: &str) -> Refusal {
        let v4 = self.v4.iter().copied().map(IpNet::V4);
        let v6 = self.v6.iter().copied().map(IpNet::V6);
        Refusal::NoAddressFor(what.to_owned(), Addresses(v4.chain(v6).collect()))
    }
}

/// The subnet's broadcast address, of a host in it.
fn is_broadcast_of(net: &Ipv4Net, address: Ipv4Addr) -> bool {
    net.trunc() != *net && net.broadcast() == address
}

/// The link-local address a station gives itself (RFC 4291 appendix A).
pub fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&[0xfe, 0x80]);
    bytes[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from(bytes)
}

/// Is a message one of those whose payload is looked at?
pub const fn is_neighbour_discovery(protocol_number: u8, icmp_type: u8) -> bool {
    protocol_number == protocol::ICMPV6 && matches!(icmp_type, SOLICITATION | ADVERTISEMENT)
}

#[cfg(test)]
mod tests;
