//! One pass over an Ethernet frame: where its headers are, and what the pipeline asks about them.
//!
//! [`parse`] accepts only what may be forwarded: every length has been compared with the frame,
//! every header that policy asks about lies inside it. It never panics and never allocates,
//! whatever the bytes.
//!
//! # Rules
//!
//! - **IPv4** (RFC 791, 1812 §5.2.2): version, header length, total length, header checksum;
//!   padding behind the packet is cut. Options must be well formed; source routes are refused
//!   (RFC 7126 §4.3).
//! - **IPv6** (RFC 8200): the chain of extension headers is walked, bounded in number and bytes
//!   (RFC 8504 §5.3). A hop-by-hop header comes first or not at all; unknown hop-by-hop options
//!   count by their action bits; type 0 routing headers are refused (RFC 5095), all other routing
//!   headers are the business of the node they name. AH is walked through; ESP, "no next header",
//!   mobility and everything unknown is an upper layer without ports.
//! - **Fragments**: the first holds the whole header chain (RFC 7112, for both families), later
//!   ones are never asked for ports, and none of TCP begins inside the header (RFC 1858, 3128).
//!   An atomic fragment (RFC 6946) is a whole packet.
//! - **Upper layers**: TCP data offset, UDP length (shorter than the packet is allowed), UDP-Lite
//!   coverage, first SCTP chunk, DCCP offset, ICMP minimum. Transport checksums are left to
//!   [`checksum`](crate::wire::checksum).

mod discovery;
mod error;
mod icmp_error;
mod ipv4;
mod ipv6;
#[cfg(test)]
mod tests;
mod transport;
#[cfg(test)]
mod twin;
mod view;

pub use discovery::{Discovery, LinkLayer, neighbour_discovery};
pub use error::ParseError;
pub use icmp_error::{InnerPacket, parse_icmp_error};
pub use view::{ArpView, Fragment, PacketView, Parsed, TcpFlags, TcpHeader};

use super::{Address, Family, MacAddress, protocol};
use transport::Transport;

/// Bounds that a deployment may want tighter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseOptions {
    /// VLAN tags a frame may have, 0 to 2.
    pub vlan_tags_max: u8,
    /// IPv6 extension headers a packet may have.
    pub extension_headers_max: u8,
    /// Bytes all IPv6 extension headers of a packet may have together.
    pub extension_bytes_max: u16,
}

impl Default for ParseOptions {
    /// Two tags, 8 extension headers, 512 bytes of them.
    fn default() -> Self {
        ParseOptions {
            vlan_tags_max: 2,
            extension_headers_max: 8,
            extension_bytes_max: 512,
        }
    }
}

/// What stands before the IP header.
#[derive(Debug, Clone, Copy)]
struct Link {
    l3: u16,
    vlan: Option<u16>,
    vlan_count: u8,
}

/// Reads one Ethernet frame.
///
/// # Errors
/// The first rule of the [module](self) that the frame breaks.
#[inline]
pub fn parse(bytes: &[u8], options: &ParseOptions) -> Result<Parsed, ParseError> {
    let header = bytes
        .first_chunk::<14>()
        .ok_or(ParseError::EthernetTruncated)?;
    let link = Link {
        l3: 14,
        vlan: None,
        vlan_count: 0,
    };
    match be16(header[12], header[13]) {
        protocol::ETHER_IPV4 => ipv4::parse(bytes, link).map(Parsed::Ip),
        protocol::ETHER_IPV6 => ipv6::parse(bytes, link, options).map(Parsed::Ip),
        protocol::ETHER_VLAN | protocol::ETHER_QINQ => parse_tagged(bytes, options),
        protocol::ETHER_ARP => parse_arp(bytes, link).map(Parsed::Arp),
        other => Err(ParseError::UnknownEtherType(other)),
    }
}

/// Destination address of an Ethernet frame; zero when it is too short to have one.
#[inline]
pub fn destination_mac(bytes: &[u8]) -> MacAddress {
    MacAddress(bytes.first_chunk::<6>().copied().unwrap_or_default())
}

/// Source address of an Ethernet frame; zero when it is too short to have one.
#[inline]
pub fn source_mac(bytes: &[u8]) -> MacAddress {
    let source = bytes.get(6..).and_then(|rest| rest.first_chunk::<6>());
    MacAddress(source.copied().unwrap_or_default())
}

fn parse_tagged(bytes: &[u8], options: &ParseOptions) -> Result<Parsed, ParseError> {
    let mut link = Link {
        l3: 14,
        vlan: None,
        vlan_count: 0,
    };
    let mut ether_type = be16(bytes[12], bytes[13]);
    while matches!(ether_type, protocol::ETHER_VLAN | protocol::ETHER_QINQ) {
        if link.vlan_count >= options.vlan_tags_max.min(2) {
            return Err(ParseError::TooManyVlanTags);
        }
        let tag = bytes
            .get(link.l3 as usize..)
            .and_then(|rest| rest.first_chunk::<4>())
            .ok_or(ParseError::EthernetTruncated)?;
        link.vlan = link.vlan.or(Some(be16(tag[0], tag[1]) & 0x0fff));
        link.vlan_count += 1;
        link.l3 += 4;
        ether_type = be16(tag[2], tag[3]);
    }
    match ether_type {
        protocol::ETHER_IPV4 => ipv4::parse(bytes, link).map(Parsed::Ip),
        protocol::ETHER_IPV6 => ipv6::parse(bytes, link, options).map(Parsed::Ip),
        protocol::ETHER_ARP => parse_arp(bytes, link).map(Parsed::Arp),
        other => Err(ParseError::UnknownEtherType(other)),
    }
}

#[cold]
fn parse_arp(bytes: &[u8], link: Link) -> Result<ArpView, ParseError> {
    let arp = bytes
        .get(link.l3 as usize..)
        .and_then(|rest| rest.first_chunk::<28>())
        .ok_or(ParseError::ArpTruncated)?;
    // Hardware type Ethernet, protocol type IPv4, their address lengths.
    if arp[..6] != [0, 1, 8, 0, 6, 4] {
        return Err(ParseError::ArpNotIpv4);
    }
    let mac = |at: usize| MacAddress(std::array::from_fn(|i| arp[at + i]));
    let address = |at: usize| Address::from_v4_bytes(std::array::from_fn(|i| arp[at + i]));
    Ok(ArpView {
        l3: link.l3,
        vlan: link.vlan,
        vlan_count: link.vlan_count,
        operation: be16(arp[6], arp[7]),
        sender_mac: mac(8),
        sender: address(14),
        target_mac: mac(18),
        target: address(24),
    })
}

/// Checks a fragment's extent (`unfragmentable_bytes` are those before its data that the length
/// field of the whole datagram will count), and reads the upper-layer header if it is a first one.
#[cold]
fn fragment_transport(
    family: Family,
    number: u8,
    fragment: Fragment,
    unfragmentable_bytes: usize,
    data: &[u8],
) -> Result<Transport, ParseError> {
    if data.is_empty() || (fragment.more && !data.len().is_multiple_of(8)) {
        return Err(ParseError::FragmentLength);
    }
    let datagram_end = unfragmentable_bytes + fragment.offset_bytes as usize + data.len();
    if datagram_end > u16::MAX as usize {
        return Err(ParseError::FragmentTooLong);
    }
    if !fragment.is_later() {
        return transport::first_fragment(family, number, data);
    }
    if number == protocol::TCP && fragment.offset_bytes < 20 {
        return Err(ParseError::TinyFragment);
    }
    Ok(Transport::default())
}

#[inline(always)]
const fn be16(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}
