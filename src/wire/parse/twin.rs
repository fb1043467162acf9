//! The parser against its checked twin, etherparse: same frames accepted, same fields found, but
//! for the differences named here.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::super::{Address, Family, FlowKey, protocol, sample};
use super::{PacketView, ParseError, ParseOptions, Parsed, parse};

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn well_formed_frames_are_accepted_with_the_same_fields(frame in sample::well_formed()) {
        let parsed = parse(&frame, &ParseOptions::default());
        prop_assert!(matches!(parsed, Ok(Parsed::Ip(_))), "{parsed:?}");
        judge_alike(&frame)?;
    }

    #[test]
    fn mutated_frames_are_judged_alike(frame in sample::mutated()) {
        judge_alike(&frame)?;
    }

    #[test]
    fn noise_is_judged_alike(frame in sample::noise()) {
        judge_alike(&frame)?;
    }
}

fn judge_alike(frame: &[u8]) -> Result<(), TestCaseError> {
    let parsed = parse(frame, &ParseOptions::default());
    let twin = SlicedPacket::from_ethernet(frame);
    match (parsed, twin) {
        (Ok(Parsed::Ip(view)), Ok(twin)) => same_fields(frame, &view, &twin)?,
        (Ok(Parsed::Arp(view)), Ok(twin)) => {
            let Some(NetSlice::Arp(arp)) = &twin.net else {
                return Err(TestCaseError::fail("no ARP for the twin"));
            };
            prop_assert_eq!(view.operation, arp.operation().0);
            prop_assert_eq!(&view.sender_mac.0[..], arp.sender_hw_addr());
            prop_assert_eq!(&view.target_mac.0[..], arp.target_hw_addr());
            let sender: [u8; 4] = arp.sender_protocol_addr().try_into().unwrap();
            prop_assert_eq!(view.sender, Address::from_v4_bytes(sender));
            let target: [u8; 4] = arp.target_protocol_addr().try_into().unwrap();
            prop_assert_eq!(view.target, Address::from_v4_bytes(target));
        }
        (Ok(parsed), Err(error)) => {
            prop_assert!(
                only_we_accept(frame, &parsed),
                "{parsed:?}, but twin: {error}"
            );
        }
        (Err(error), Ok(twin)) => {
            prop_assert!(
                only_we_refuse(error, &twin),
                "{error:?}, but twin: {twin:?}"
            );
        }
        (Err(_), Err(_)) => {}
    }
    Ok(())
}

/// What etherparse refuses and we do not.
fn only_we_accept(frame: &[u8], parsed: &Parsed) -> bool {
    let Parsed::Ip(view) = parsed else {
        return false;
    };
    let l4_bytes = view.packet_end as usize - view.l4 as usize;
    match (view.key.family, view.key.protocol) {
        // It asks for 8 bytes of an ICMPv6 message, for RFC 4443's 4.
        (Family::V6, protocol::ICMPV6) => l4_bytes < 8,
        // It reads these in the other family too, where they are upper layers without meaning.
        (Family::V6, protocol::ICMP) | (Family::V4, protocol::ICMPV6) => true,
        // It reads IGMP, which has no ports.
        (_, protocol::IGMP) => true,
        // It takes AH for part of the IPv4 header chain; over IPv4 we do not look behind it.
        (Family::V4, protocol::AH) => true,
        // It asks for the optional words of an ICMP message of these types.
        (Family::V4, protocol::ICMP) => matches!(
            view.icmp_type(),
            Some(protocol::ICMP_TIMESTAMP | protocol::ICMP_TIMESTAMP_REPLY)
        ),
        // It looks for extension headers in the data of a later fragment.
        (Family::V6, _) if view.is_later_fragment() => frame[view.l3 as usize + 6] == 44,
        _ => false,
    }
}

/// What we refuse and etherparse does not.
fn only_we_refuse(error: ParseError, twin: &SlicedPacket<'_>) -> bool {
    let v4 = match &twin.net {
        Some(NetSlice::Ipv4(v4)) => Some(v4.header().to_header()),
        _ => None,
    };
    let fragmented = twin.is_ip_payload_fragmented();
    let payload = twin.ip_payload();
    match error {
        // Before IEEE 802.1ad some devices tagged with this type; it reads it as a tag.
        ParseError::UnknownEtherType(0x9100) => true,
        ParseError::UnknownEtherType(_) => twin.net.is_none(),
        ParseError::TooManyVlanTags => twin.link_exts.len() > 2,
        ParseError::ArpNotIpv4 | ParseError::ArpTruncated => {
            matches!(twin.net, Some(NetSlice::Arp(_)))
        }
        ParseError::Ipv4Checksum => {
            v4.is_some_and(|v4| v4.header_checksum != v4.calc_header_checksum())
        }
        ParseError::Ipv4Options => v4.is_some_and(|v4| !v4.options.is_empty()),
        ParseError::Ipv4SourceRoute => {
            v4.is_some_and(|v4| v4.options.iter().any(|kind| matches!(kind, 131 | 137)))
        }
        // A payload length of 0 means "to the end" to it.
        ParseError::Ipv6Jumbogram
        | ParseError::TransportTruncated
        | ParseError::TcpDataOffset
        | ParseError::ExtensionTruncated
            if matches!(&twin.net, Some(NetSlice::Ipv6(v6)) if v6.header().payload_length() == 0) =>
        {
            true
        }
        ParseError::Ipv6Jumbogram
        | ParseError::ExtensionsTooLong
        | ParseError::ExtensionOrder
        | ParseError::HopByHopOption
        | ParseError::DestinationOption
        | ParseError::RoutingHeaderType0 => {
            matches!(&twin.net, Some(NetSlice::Ipv6(v6)) if !v6.extensions().is_empty())
        }
        ParseError::FragmentLength | ParseError::FragmentTooLong | ParseError::TinyFragment => {
            fragmented
        }
        ParseError::UdpLength if fragmented => true,
        // A UDP length of 0 means "to the end" to it.
        ParseError::UdpLength => matches!(
            &twin.transport,
            Some(TransportSlice::Udp(udp)) if udp.length() == 0
        ),
        ParseError::TcpDataOffset => fragmented,
        // Upper layers it does not read.
        ParseError::TransportTruncated
        | ParseError::UdpLiteCoverage
        | ParseError::SctpChunk
        | ParseError::DccpDataOffset => payload.is_some_and(|payload| {
            fragmented
                || matches!(
                    payload.ip_number.0,
                    protocol::UDP_LITE | protocol::SCTP | protocol::DCCP
                )
        }),
        _ => false,
    }
}

fn same_fields(
    frame: &[u8],
    view: &PacketView,
    twin: &SlicedPacket<'_>,
) -> Result<(), TestCaseError> {
    let ids: Vec<u16> = twin.vlan_ids().iter().map(|id| id.value()).collect();
    prop_assert_eq!(view.vlan, ids.first().copied());
    prop_assert_eq!(view.vlan_count as usize, ids.len());
    prop_assert_eq!(view.key.zone, ids.first().copied().unwrap_or(0));
    let payload = match &twin.net {
        Some(NetSlice::Ipv4(v4)) => {
            let header = v4.header();
            prop_assert_eq!(view.key.family, Family::V4);
            prop_assert_eq!(view.key.source, Address::from_v4_bytes(header.source()));
            let destination = Address::from_v4_bytes(header.destination());
            prop_assert_eq!(view.key.destination, destination);
            prop_assert_eq!(view.key.protocol, header.protocol().0);
            prop_assert_eq!(view.ttl, header.ttl());
            prop_assert_eq!(view.ip_header_bytes, header.slice().len() as u8);
            prop_assert_eq!(view.dont_fragment, header.dont_fragment());
            prop_assert_eq!(view.fragment.is_some(), header.is_fragmenting_payload());
            if let Some(fragment) = view.fragment {
                let offset = header.fragments_offset().byte_offset();
                prop_assert_eq!(fragment.offset_bytes, offset);
                prop_assert_eq!(fragment.more, header.more_fragments());
                prop_assert_eq!(fragment.identification, u32::from(header.identification()));
            }
            v4.payload()
        }
        Some(NetSlice::Ipv6(v6)) => {
            let header = v6.header();
            prop_assert_eq!(view.key.family, Family::V6);
            prop_assert_eq!(view.key.source, Address::from_v6_bytes(header.source()));
            let destination = Address::from_v6_bytes(header.destination());
            prop_assert_eq!(view.key.destination, destination);
            prop_assert_eq!(view.ttl, header.hop_limit());
            if header.payload_length() == 0 || view.is_later_fragment() {
                // Named in `only_we_refuse` and `only_we_accept`.
                return Ok(());
            }
            v6.payload()
        }
        other => return Err(TestCaseError::fail(format!("{other:?}"))),
    };
    if view.key.family == Family::V4 && view.key.protocol == protocol::AH {
        return Ok(());
    }
    prop_assert_eq!(view.key.protocol, payload.ip_number.0);
    let l4 = &frame[view.l4 as usize..view.packet_end as usize];
    prop_assert_eq!(l4, payload.payload);
    same_transport(view, l4, twin)
}

fn same_transport(
    view: &PacketView,
    l4: &[u8],
    twin: &SlicedPacket<'_>,
) -> Result<(), TestCaseError> {
    let ports = (view.key.source_port, view.key.destination_port);
    match &twin.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            prop_assert_eq!(ports, (tcp.source_port(), tcp.destination_port()));
            prop_assert_eq!(view.l4_header_bytes as usize, tcp.header_slice().len());
            let header = tcp.to_header();
            let flags = [
                header.fin, header.syn, header.rst, header.psh, header.ack, header.urg, header.ece,
                header.cwr,
            ];
            for (bit, flag) in flags.into_iter().enumerate() {
                prop_assert_eq!(view.tcp_flags.0 >> bit & 1 != 0, flag);
            }
        }
        Some(TransportSlice::Udp(udp)) => {
            prop_assert_eq!(ports, (udp.source_port(), udp.destination_port()));
            prop_assert_eq!(view.l4_header_bytes, 8);
        }
        Some(TransportSlice::Icmpv4(icmp)) if view.key.family == Family::V4 => {
            let port = FlowKey::icmp_port(icmp.type_u8(), icmp.code_u8());
            prop_assert_eq!(ports.1, port);
            let identifier = u16::from_be_bytes([l4[4], l4[5]]);
            let query = matches!(icmp.type_u8(), 0 | 8 | 13..=18);
            prop_assert_eq!(ports.0, if query { identifier } else { 0 });
        }
        Some(TransportSlice::Icmpv6(icmp)) if view.key.family == Family::V6 => {
            let port = FlowKey::icmp_port(icmp.type_u8(), icmp.code_u8());
            prop_assert_eq!(ports.1, port);
            let identifier = u16::from_be_bytes([l4[4], l4[5]]);
            let query = matches!(icmp.type_u8(), 128 | 129 | 139 | 140);
            prop_assert_eq!(ports.0, if query { identifier } else { 0 });
        }
        _ if protocol::has_ports(view.key.protocol) && !view.is_later_fragment() => {
            let read = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
            prop_assert_eq!(ports, (read(0), read(2)));
        }
        _ if view.key.is_icmp() && view.is_first_fragment() => {}
        _ => prop_assert_eq!(ports, (0, 0)),
    }
    Ok(())
}
