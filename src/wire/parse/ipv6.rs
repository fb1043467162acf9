use super::super::{Address, Family, FlowKey, protocol};
use super::transport::{self, Transport};
use super::{Fragment, Link, PacketView, ParseError, ParseOptions, be16};

/// Where a chain of extension headers led to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// Upper-layer protocol, or next header of a later fragment.
    pub protocol: u8,
    /// Bytes of extension headers.
    pub chain_bytes: u16,
    pub fragment: Option<Fragment>,
    pub routing_segments_left: bool,
}

#[inline(always)]
pub(super) fn parse(
    bytes: &[u8],
    link: Link,
    options: &ParseOptions,
) -> Result<PacketView, ParseError> {
    let packet = bytes
        .get(link.l3 as usize..)
        .ok_or(ParseError::Ipv6Truncated)?;
    let header = packet
        .first_chunk::<40>()
        .ok_or(ParseError::Ipv6Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(ParseError::Ipv6Version);
    }
    let payload_bytes = be16(header[4], header[5]) as usize;
    let payload = packet
        .get(40..40 + payload_bytes)
        .ok_or(ParseError::Ipv6PayloadLength)?;
    let next_header = header[6];
    let (chain, transport) = match next_header {
        // The commonest, kept apart from the walk over extension headers.
        protocol::TCP | protocol::UDP | protocol::ICMPV6 => (
            Chain::none(next_header),
            transport::whole(Family::V6, next_header, payload)?,
        ),
        _ => walk(next_header, payload, options)?,
    };
    let Transport {
        source_port,
        destination_port,
        header_bytes: l4_header_bytes,
        tcp_flags,
    } = transport;
    Ok(PacketView {
        key: FlowKey {
            source: address(header, 8),
            destination: address(header, 24),
            source_port,
            destination_port,
            zone: link.vlan.unwrap_or(0),
            protocol: chain.protocol,
            family: Family::V6,
        },
        packet_end: link.l3 as u32 + 40 + payload_bytes as u32,
        l3: link.l3,
        l4: link.l3 + 40 + chain.chain_bytes,
        ip_header_bytes: 40,
        l4_header_bytes,
        vlan: link.vlan,
        vlan_count: link.vlan_count,
        ttl: header[7],
        tcp_flags,
        dont_fragment: true,
        routing_segments_left: chain.routing_segments_left,
        fragment: chain.fragment,
    })
}

/// The address at `at`, 8 or 24. Slicing a constant place costs nothing, where building the array
/// byte by byte took longer than the rest of the parser.
#[inline(always)]
pub(super) fn address(header: &[u8; 40], at: usize) -> Address {
    let bytes = header[at..].first_chunk::<16>();
    bytes.map_or(Address::ZERO, |bytes| Address::from_v6_bytes(*bytes))
}

impl Chain {
    pub(super) const fn none(protocol: u8) -> Chain {
        Chain {
            protocol,
            chain_bytes: 0,
            fragment: None,
            routing_segments_left: false,
        }
    }
}

/// The way of packets with extension headers, or with an upper layer that is not common.
#[cold]
fn walk(
    next_header: u8,
    payload: &[u8],
    options: &ParseOptions,
) -> Result<(Chain, Transport), ParseError> {
    if payload.is_empty() && next_header == protocol::IPV6_HOP_BY_HOP {
        return Err(ParseError::Ipv6Jumbogram);
    }
    let chain = walk_chain(next_header, payload, options)?;
    let l4 = &payload[chain.chain_bytes as usize..];
    let transport = match chain.fragment {
        Some(fragment) if !fragment.is_atomic() => {
            // In a later fragment the chain ends with the fragment header, which does not count.
            let unfragmentable_bytes = match fragment.is_later() {
                true => chain.chain_bytes as usize - 8,
                false => 0,
            };
            super::fragment_transport(
                Family::V6,
                chain.protocol,
                fragment,
                unfragmentable_bytes,
                l4,
            )?
        }
        _ => transport::whole(Family::V6, chain.protocol, l4)?,
    };
    Ok((chain, transport))
}

/// Walks extension headers until an upper layer or the data of a later fragment begins.
/// `chain_bytes` of the result never exceeds the payload's length.
pub(super) fn walk_chain(
    mut next_header: u8,
    payload: &[u8],
    options: &ParseOptions,
) -> Result<Chain, ParseError> {
    let mut chain = Chain::none(next_header);
    let (mut at, mut headers) = (0usize, 0u8);
    loop {
        let is_extension = matches!(
            next_header,
            protocol::IPV6_HOP_BY_HOP
                | protocol::IPV6_ROUTING
                | protocol::IPV6_FRAGMENT
                | protocol::IPV6_DESTINATION_OPTIONS
                | protocol::AH
        );
        if !is_extension {
            break;
        }
        let in_first_fragment = chain.fragment.is_some_and(|fragment| fragment.is_first());
        let truncated = if in_first_fragment {
            ParseError::TinyFragment
        } else {
            ParseError::ExtensionTruncated
        };
        let header = payload[at..].first_chunk::<8>().ok_or(truncated)?;
        let header_bytes = match next_header {
            protocol::IPV6_FRAGMENT => 8,
            // In 4-byte words, minus 2 (RFC 4302 §2.2).
            protocol::AH => (header[1] as usize + 2) * 4,
            _ => (header[1] as usize + 1) * 8,
        };
        headers += 1;
        if headers > options.extension_headers_max
            || at + header_bytes > options.extension_bytes_max as usize
        {
            return Err(ParseError::ExtensionsTooLong);
        }
        let extension = payload.get(at..at + header_bytes).ok_or(truncated)?;
        if next_header == protocol::AH && header_bytes < 12 {
            return Err(ParseError::ExtensionTruncated);
        }
        match next_header {
            protocol::IPV6_HOP_BY_HOP if at > 0 => return Err(ParseError::ExtensionOrder),
            protocol::IPV6_HOP_BY_HOP => check_hop_by_hop(&extension[2..])?,
            protocol::IPV6_DESTINATION_OPTIONS => check_destination_options(&extension[2..])?,
            protocol::IPV6_ROUTING if header[2] == 0 => {
                return Err(ParseError::RoutingHeaderType0);
            }
            protocol::IPV6_ROUTING => chain.routing_segments_left |= header[3] != 0,
            protocol::IPV6_FRAGMENT if chain.fragment.is_some() => {
                return Err(ParseError::ExtensionOrder);
            }
            protocol::IPV6_FRAGMENT => chain.fragment = Some(read_fragment(header)),
            _ => {}
        }
        at += header_bytes;
        next_header = header[0];
        if chain.fragment.is_some_and(|fragment| fragment.is_later()) {
            break;
        }
    }
    chain.protocol = next_header;
    chain.chain_bytes = at as u16;
    Ok(chain)
}

fn read_fragment(header: &[u8; 8]) -> Fragment {
    let offset_and_flags = be16(header[2], header[3]);
    Fragment {
        identification: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        offset_bytes: offset_and_flags & 0xfff8,
        more: offset_and_flags & 1 != 0,
    }
}

/// Options every router on the way may look at: well formed, and none that a node which does not
/// know it must discard (RFC 8200 §4.2). The known ones change nothing here.
fn check_hop_by_hop(options: &[u8]) -> Result<(), ParseError> {
    walk_options(options, ParseError::HopByHopOption, |kind, value| {
        let acceptable = match kind {
            protocol::IPV6_OPTION_JUMBO => return Err(ParseError::Ipv6Jumbogram),
            protocol::IPV6_OPTION_ROUTER_ALERT => value.len() == 2,
            // Padding never needs more than 7 bytes, and has nothing to say (RFC 4942 §2.1.9.5).
            protocol::IPV6_OPTION_PADN => value.len() <= 5 && value.iter().all(|&byte| byte == 0),
            _ => kind >> 6 == 0,
        };
        match acceptable {
            true => Ok(()),
            false => Err(ParseError::HopByHopOption),
        }
    })
}

/// Options for the destination alone: only their lengths concern a firewall.
fn check_destination_options(options: &[u8]) -> Result<(), ParseError> {
    walk_options(options, ParseError::DestinationOption, |_, _| Ok(()))
}

fn walk_options(
    mut rest: &[u8],
    malformed: ParseError,
    mut judge: impl FnMut(u8, &[u8]) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    while let [kind, tail @ ..] = rest {
        if *kind == protocol::IPV6_OPTION_PAD1 {
            rest = tail;
            continue;
        }
        let [value_bytes, tail @ ..] = tail else {
            return Err(malformed);
        };
        let (value, next) = tail
            .split_at_checked(*value_bytes as usize)
            .ok_or(malformed)?;
        judge(*kind, value)?;
        rest = next;
    }
    Ok(())
}
