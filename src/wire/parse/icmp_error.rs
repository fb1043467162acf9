use super::super::{Address, Family, FlowKey, checksum, protocol};
use super::transport;
use super::{Fragment, PacketView, ParseError, ParseOptions, be16, ipv6};

/// The packet an ICMP error quotes: the beginning of one that was sent the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerPacket {
    /// As in a [`PacketView`]; the zone is that of the error. Ports are 0 in a later fragment.
    pub key: FlowKey,
    /// End of what is quoted; most quotes are cut short.
    pub quote_end: u32,
    /// Start of the quoted IP header in the frame.
    pub l3: u16,
    /// Start of the quoted upper-layer header in the frame.
    pub l4: u16,
    /// Sequence number of a quoted TCP segment.
    pub tcp_sequence: Option<u32>,
    /// `None` when the quoted packet was whole.
    pub fragment: Option<Fragment>,
    /// Is the quoted IPv4 header's checksum right? (RFC 5508 REQ-3; always true for IPv6.)
    pub header_checksum_valid: bool,
}

/// Reads the packet that an ICMP or ICMPv6 error quotes.
///
/// The quote holds the whole IP header and 8 bytes behind it at least (RFC 792, 1812 §4.3.2.3);
/// everything behind these may be missing and is not looked at. IPv6 extension headers in it are
/// walked under the default bounds.
///
/// # Errors
/// [`ParseError::NotIcmpError`] when the view is of another kind of packet; otherwise what is wrong
/// with the quote.
pub fn parse_icmp_error(bytes: &[u8], view: &PacketView) -> Result<InnerPacket, ParseError> {
    if !view.is_icmp_error() {
        return Err(ParseError::NotIcmpError);
    }
    let l3 = view.l4 + 8;
    let quote = bytes
        .get(l3 as usize..view.packet_end as usize)
        .ok_or(ParseError::TransportTruncated)?;
    let mut inner = match view.key.family {
        Family::V4 => inner_v4(quote)?,
        Family::V6 => inner_v6(quote)?,
    };
    inner.key.zone = view.key.zone;
    let l4 = &quote[inner.l4 as usize..];
    if inner.fragment.is_none_or(|fragment| !fragment.is_later()) {
        let ports = inner_ports(inner.key.family, inner.key.protocol, l4)?;
        (inner.key.source_port, inner.key.destination_port) = ports;
        if inner.key.protocol == protocol::TCP {
            let sequence = l4.get(4..).and_then(|rest| rest.first_chunk::<4>());
            inner.tcp_sequence = sequence.map(|bytes| u32::from_be_bytes(*bytes));
        }
    }
    inner.l3 = l3;
    inner.l4 += l3;
    inner.quote_end = view.packet_end;
    Ok(inner)
}

/// Offsets in the result count from the quote's start.
fn inner_v4(quote: &[u8]) -> Result<InnerPacket, ParseError> {
    let header = quote.first_chunk::<20>().ok_or(ParseError::Ipv4Truncated)?;
    if header[0] >> 4 != 4 {
        return Err(ParseError::Ipv4Version);
    }
    let header_bytes = (header[0] & 0x0f) as usize * 4;
    let total_bytes = be16(header[2], header[3]) as usize;
    if header_bytes < 20 {
        return Err(ParseError::Ipv4HeaderLength);
    }
    if total_bytes < header_bytes {
        return Err(ParseError::Ipv4TotalLength);
    }
    let whole_header = quote.get(..header_bytes).ok_or(ParseError::Ipv4Truncated)?;
    let flags = be16(header[6], header[7]);
    let fragment = (flags & 0x3fff != 0).then(|| Fragment {
        identification: be16(header[4], header[5]) as u32,
        offset_bytes: (flags & 0x1fff) * 8,
        more: flags & 0x2000 != 0,
    });
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    Ok(InnerPacket {
        key: FlowKey {
            source: Address::from_v4_bytes([s0, s1, s2, s3]),
            destination: Address::from_v4_bytes([d0, d1, d2, d3]),
            source_port: 0,
            destination_port: 0,
            zone: 0,
            protocol: header[9],
            family: Family::V4,
        },
        quote_end: 0,
        l3: 0,
        l4: header_bytes as u16,
        tcp_sequence: None,
        fragment,
        header_checksum_valid: checksum::sum(whole_header) == 0xffff,
    })
}

/// Offsets in the result count from the quote's start.
fn inner_v6(quote: &[u8]) -> Result<InnerPacket, ParseError> {
    let header = quote.first_chunk::<40>().ok_or(ParseError::Ipv6Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(ParseError::Ipv6Version);
    }
    let chain = ipv6::walk_chain(header[6], &quote[40..], &ParseOptions::default())?;
    Ok(InnerPacket {
        key: FlowKey {
            source: ipv6::address(header, 8),
            destination: ipv6::address(header, 24),
            source_port: 0,
            destination_port: 0,
            zone: 0,
            protocol: chain.protocol,
            family: Family::V6,
        },
        quote_end: 0,
        l3: 0,
        l4: 40 + chain.chain_bytes,
        tcp_sequence: None,
        fragment: chain.fragment.filter(|fragment| !fragment.is_atomic()),
        header_checksum_valid: true,
    })
}

/// Source and destination port of a quoted upper-layer header, of which 8 bytes are enough.
fn inner_ports(family: Family, number: u8, l4: &[u8]) -> Result<(u16, u16), ParseError> {
    let key_of = |bytes: &[u8; 8]| match (family, number) {
        (Family::V4, protocol::ICMP) | (Family::V6, protocol::ICMPV6) => {
            let icmp = transport::whole(family, number, bytes)?;
            Ok((icmp.source_port, icmp.destination_port))
        }
        _ => Ok((be16(bytes[0], bytes[1]), be16(bytes[2], bytes[3]))),
    };
    match number {
        protocol::TCP
        | protocol::UDP
        | protocol::UDP_LITE
        | protocol::SCTP
        | protocol::DCCP
        | protocol::ICMP
        | protocol::ICMPV6 => {
            let bytes = l4
                .first_chunk::<8>()
                .ok_or(ParseError::TransportTruncated)?;
            if matches!(
                (family, number),
                (Family::V6, protocol::ICMP) | (Family::V4, protocol::ICMPV6)
            ) {
                return Ok((0, 0));
            }
            key_of(bytes)
        }
        _ => Ok((0, 0)),
    }
}
