use super::super::flow_key::{icmp_reply_type, icmpv6_reply_type};
use super::super::{Family, FlowKey, protocol};
use super::{ParseError, TcpFlags, be16};

/// What the upper-layer header says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Transport {
    pub source_port: u16,
    pub destination_port: u16,
    pub header_bytes: u8,
    pub tcp_flags: TcpFlags,
}

/// Reads the upper-layer header of a whole packet; `l4` ends where the IP packet ends.
#[inline(always)]
pub(super) fn whole(family: Family, number: u8, l4: &[u8]) -> Result<Transport, ParseError> {
    match number {
        protocol::TCP => tcp(l4),
        protocol::UDP => {
            let udp = l4
                .first_chunk::<8>()
                .ok_or(ParseError::TransportTruncated)?;
            let length = be16(udp[4], udp[5]) as usize;
            // Shorter than the IP payload is allowed, as everywhere: the rest is ignored by hosts.
            if length < 8 || length > l4.len() {
                return Err(ParseError::UdpLength);
            }
            Ok(ports(udp, 8))
        }
        _ => other(family, number, l4, true),
    }
}

/// Reads the upper-layer header in a first fragment. `l4` ends where the fragment ends, and lengths
/// that speak of the whole datagram may go beyond it; the header itself may not.
#[cold]
pub(super) fn first_fragment(
    family: Family,
    number: u8,
    l4: &[u8],
) -> Result<Transport, ParseError> {
    let result = match number {
        protocol::TCP => tcp(l4),
        protocol::UDP => match l4.first_chunk::<8>() {
            None => Err(ParseError::TinyFragment),
            Some(udp) if be16(udp[4], udp[5]) < 8 => Err(ParseError::UdpLength),
            Some(udp) => Ok(ports(udp, 8)),
        },
        _ => other(family, number, l4, false),
    };
    result.map_err(|error| match error {
        ParseError::TransportTruncated => ParseError::TinyFragment,
        // At least 5 words, so what is missing is in the next fragment.
        ParseError::TcpDataOffset if l4.len() >= 20 && l4[12] >> 4 >= 5 => ParseError::TinyFragment,
        other => other,
    })
}

#[inline(always)]
fn tcp(l4: &[u8]) -> Result<Transport, ParseError> {
    let header = l4
        .first_chunk::<20>()
        .ok_or(ParseError::TransportTruncated)?;
    let header_bytes = (header[12] >> 4) * 4;
    if header_bytes < 20 || header_bytes as usize > l4.len() {
        return Err(ParseError::TcpDataOffset);
    }
    let mut transport = ports(header, header_bytes);
    transport.tcp_flags = TcpFlags(header[13]);
    Ok(transport)
}

#[inline(always)]
fn ports<const N: usize>(header: &[u8; N], header_bytes: u8) -> Transport {
    Transport {
        source_port: be16(header[0], header[1]),
        destination_port: be16(header[2], header[3]),
        header_bytes,
        tcp_flags: TcpFlags::default(),
    }
}

fn other(family: Family, number: u8, l4: &[u8], whole: bool) -> Result<Transport, ParseError> {
    match (family, number) {
        (Family::V4, protocol::ICMP) => icmp(l4),
        (Family::V6, protocol::ICMPV6) => icmpv6(l4),
        (_, protocol::UDP_LITE) => {
            let header = l4
                .first_chunk::<8>()
                .ok_or(ParseError::TransportTruncated)?;
            let coverage = be16(header[4], header[5]) as usize;
            if (1..8).contains(&coverage) || (whole && coverage > l4.len()) {
                return Err(ParseError::UdpLiteCoverage);
            }
            Ok(ports(header, 8))
        }
        (_, protocol::SCTP) => {
            // The common header and the header of the first chunk, of which there is always one.
            let header = l4
                .first_chunk::<16>()
                .ok_or(ParseError::TransportTruncated)?;
            let chunk_bytes = be16(header[14], header[15]) as usize;
            if chunk_bytes < 4 || (whole && chunk_bytes > l4.len() - 12) {
                return Err(ParseError::SctpChunk);
            }
            Ok(ports(header, 12))
        }
        (_, protocol::DCCP) => {
            let header = l4
                .first_chunk::<12>()
                .ok_or(ParseError::TransportTruncated)?;
            let data_offset = header[4] as usize * 4;
            if data_offset < 12 || (whole && data_offset > l4.len()) {
                return Err(ParseError::DccpDataOffset);
            }
            Ok(ports(header, 12))
        }
        _ => Ok(Transport::default()),
    }
}

/// All ICMP messages have 8 bytes (RFC 792).
fn icmp(l4: &[u8]) -> Result<Transport, ParseError> {
    let header = l4
        .first_chunk::<8>()
        .ok_or(ParseError::TransportTruncated)?;
    let query = icmp_reply_type(header[0]).is_some();
    Ok(Transport {
        source_port: if query { be16(header[4], header[5]) } else { 0 },
        destination_port: FlowKey::icmp_port(header[0], header[1]),
        header_bytes: 8,
        tcp_flags: TcpFlags::default(),
    })
}

/// ICMPv6 messages have 4 bytes at least (RFC 4443 §2.1), queries 8.
fn icmpv6(l4: &[u8]) -> Result<Transport, ParseError> {
    let header = l4
        .first_chunk::<4>()
        .ok_or(ParseError::TransportTruncated)?;
    let mut transport = Transport {
        source_port: 0,
        destination_port: FlowKey::icmp_port(header[0], header[1]),
        header_bytes: 4,
        tcp_flags: TcpFlags::default(),
    };
    if let Some(long) = l4.first_chunk::<8>() {
        transport.header_bytes = 8;
        if icmpv6_reply_type(header[0]).is_some() {
            transport.source_port = be16(long[4], long[5]);
        }
    } else if icmpv6_reply_type(header[0]).is_some() {
        return Err(ParseError::TransportTruncated);
    }
    Ok(transport)
}
