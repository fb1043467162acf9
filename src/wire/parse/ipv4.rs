use super::super::{Address, Family, FlowKey, checksum, protocol};
use super::transport::{self, Transport};
use super::{Fragment, Link, PacketView, ParseError, be16};

const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;
const OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn parse(bytes: &[u8], link: Link) -> Result<PacketView, ParseError> {
    let packet = bytes
        .get(link.l3 as usize..)
        .ok_or(ParseError::Ipv4Truncated)?;
    let header = packet
        .first_chunk::<20>()
        .ok_or(ParseError::Ipv4Truncated)?;
    let header_bytes = if header[0] == 0x45 {
        if checksum::sum(header) != 0xffff {
            return Err(ParseError::Ipv4Checksum);
        }
        20
    } else {
        check_unusual_header(packet)?
    };
    let total_bytes = be16(header[2], header[3]) as usize;
    if total_bytes < header_bytes || total_bytes > packet.len() {
        return Err(ParseError::Ipv4TotalLength);
    }
    let l4 = &packet[header_bytes..total_bytes];
    let flags = be16(header[6], header[7]);
    let number = header[9];
    let mut fragment = None;
    let transport = if flags & (MORE_FRAGMENTS | OFFSET) == 0 {
        transport::whole(Family::V4, number, l4)?
    } else {
        let found = Fragment {
            identification: be16(header[4], header[5]) as u32,
            offset_bytes: (flags & OFFSET) * 8,
            more: flags & MORE_FRAGMENTS != 0,
        };
        fragment = Some(found);
        super::fragment_transport(Family::V4, number, found, header_bytes, l4)?
    };
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let Transport {
        source_port,
        destination_port,
        header_bytes: l4_header_bytes,
        tcp_flags,
    } = transport;
    Ok(PacketView {
        key: FlowKey {
            source: Address::from_v4_bytes([s0, s1, s2, s3]),
            destination: Address::from_v4_bytes([d0, d1, d2, d3]),
            source_port,
            destination_port,
            zone: link.vlan.unwrap_or(0),
            protocol: number,
            family: Family::V4,
        },
        packet_end: link.l3 as u32 + total_bytes as u32,
        l3: link.l3,
        l4: link.l3 + header_bytes as u16,
        ip_header_bytes: header_bytes as u8,
        l4_header_bytes,
        vlan: link.vlan,
        vlan_count: link.vlan_count,
        ttl: header[8],
        tcp_flags,
        dont_fragment: flags & DONT_FRAGMENT != 0,
        routing_segments_left: false,
        fragment,
    })
}

/// Checks version, header length, checksum and options of a header that does not begin with 0x45.
/// Returns its length.
#[cold]
fn check_unusual_header(packet: &[u8]) -> Result<usize, ParseError> {
    if packet[0] >> 4 != 4 {
        return Err(ParseError::Ipv4Version);
    }
    let header_bytes = (packet[0] & 0x0f) as usize * 4;
    if header_bytes < 20 {
        return Err(ParseError::Ipv4HeaderLength);
    }
    let header = packet
        .get(..header_bytes)
        .ok_or(ParseError::Ipv4Truncated)?;
    if header_bytes > be16(header[2], header[3]) as usize {
        return Err(ParseError::Ipv4HeaderLength);
    }
    if checksum::sum(header) != 0xffff {
        return Err(ParseError::Ipv4Checksum);
    }
    check_options(&header[20..])?;
    Ok(header_bytes)
}

/// Walks the options (RFC 791 §3.1): each well formed, none a source route.
fn check_options(mut rest: &[u8]) -> Result<(), ParseError> {
    let (mut record_routes, mut timestamps) = (0, 0);
    while let [kind, tail @ ..] = rest {
        match *kind {
            protocol::IPV4_OPTION_END => return Ok(()),
            protocol::IPV4_OPTION_NOP => {
                rest = tail;
                continue;
            }
            _ => {}
        }
        let option_bytes = *tail.first().ok_or(ParseError::Ipv4Options)? as usize;
        if option_bytes < 2 || option_bytes > rest.len() {
            return Err(ParseError::Ipv4Options);
        }
        let pointer = rest.get(2).copied().filter(|_| option_bytes > 2);
        let well_formed = match *kind {
            protocol::IPV4_OPTION_LSRR | protocol::IPV4_OPTION_SSRR => {
                return Err(ParseError::Ipv4SourceRoute);
            }
            protocol::IPV4_OPTION_RECORD_ROUTE => {
                record_routes += 1;
                record_routes == 1 && pointer.is_some_and(|pointer| pointer >= 4)
            }
            protocol::IPV4_OPTION_TIMESTAMP => {
                timestamps += 1;
                let pointer_right = pointer.is_some_and(|pointer| pointer >= 5);
                timestamps == 1 && option_bytes >= 4 && pointer_right
            }
            _ => true,
        };
        if !well_formed {
            return Err(ParseError::Ipv4Options);
        }
        rest = &rest[option_bytes..];
    }
    Ok(())
}
