use proptest::prelude::*;

use super::super::sample::{self, Ipv4, ethernet, fragment_header, ipv6_frame};
use super::super::{Address, Family, FlowKey, MacAddress, checksum, edit, martian, protocol};
use super::*;

/// UDP 198.18.0.1:40000 > 198.18.1.1:53 with one byte of payload and 3 of padding.
const UDP_V4: &[u8] = &[
    0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00, // Ethernet
    0x45, 0, 0, 29, 0, 7, 0x40, 0, 64, 17, 0xad, 0xa2, 198, 18, 0, 1, 198, 18, 1, 1, // IPv4
    0x9c, 0x40, 0, 53, 0, 9, 0x5e, 0x3f, b'x', 0, 0, 0, // UDP
];

fn outcome(frame: &[u8]) -> Result<Parsed, ParseError> {
    parse(frame, &ParseOptions::default())
}

#[track_caller]
fn refused(frame: &[u8], because: ParseError) {
    assert_eq!(outcome(frame), Err(because));
}

#[track_caller]
fn view(frame: &[u8]) -> PacketView {
    sample::view(frame)
}

/// An IPv4 frame with another value in one byte of its header, checksum right.
fn ipv4_with(at: usize, value: u8) -> Vec<u8> {
    let mut frame = Ipv4::new(protocol::UDP).frame(&sample::udp(b"abcd"));
    frame[14 + at] = value;
    sample::repair_ipv4_checksum(&mut frame);
    frame
}

fn ipv4_with_options(options: &[u8]) -> Vec<u8> {
    let header = Ipv4 {
        options: options.to_vec(),
        ..Ipv4::new(protocol::UDP)
    };
    header.frame(&sample::udp(b"abcd"))
}

fn ipv4_fragment(protocol: u8, offset_bytes: u16, more: bool, data: &[u8]) -> Vec<u8> {
    let header = Ipv4 {
        flags_and_offset: (offset_bytes / 8) | if more { 0x2000 } else { 0 },
        ..Ipv4::new(protocol)
    };
    header.frame(data)
}

fn ipv6_fragment(next_header: u8, offset_bytes: u16, more: bool, data: &[u8]) -> Vec<u8> {
    let header = fragment_header(next_header, offset_bytes, more, 0x0102_0304);
    ipv6_frame(protocol::IPV6_FRAGMENT, &[&header, data].concat())
}

/// An extension header of 8 bytes: next header, length 0, and these.
fn extension(next_header: u8, rest: [u8; 6]) -> Vec<u8> {
    [[next_header, 0].as_slice(), &rest].concat()
}

/// Padding that fills an options header of 8 bytes.
const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];

#[test]
fn a_plain_udp_frame() {
    let view = view(UDP_V4);
    assert_eq!(
        format!("{:?}", view.key),
        "udp 198.18.0.1:40000 > 198.18.1.1:53"
    );
    assert_eq!(
        (view.l3, view.l4, view.payload(), view.packet_end),
        (14, 34, 42, 43)
    );
    assert_eq!(
        (view.ttl, view.dont_fragment, view.fragment),
        (64, true, None)
    );
    assert_eq!(view.packet_bytes(), 29);
    assert_eq!(source_mac(UDP_V4), MacAddress([2, 0, 0, 0, 0, 1]));
    assert_eq!(destination_mac(UDP_V4), MacAddress([2, 0, 0, 0, 0, 2]));
    assert_eq!(source_mac(&UDP_V4[..11]), MacAddress([0; 6]));
}

#[test]
fn a_view_is_small() {
    assert!(size_of::<PacketView>() <= 72, "{}", size_of::<PacketView>());
    assert!(size_of::<Result<Parsed, ParseError>>() <= 72);
}

#[test]
fn every_cut_of_a_frame_is_refused_or_keeps_inside() {
    for length in 0..UDP_V4.len() {
        let result = outcome(&UDP_V4[..length]);
        // The last three bytes are padding.
        assert_eq!(result.is_ok(), length >= 43, "{length}: {result:?}");
    }
    refused(&UDP_V4[..13], ParseError::EthernetTruncated);
    refused(&UDP_V4[..33], ParseError::Ipv4Truncated);
    refused(&UDP_V4[..42], ParseError::Ipv4TotalLength);
}

#[test]
fn ether_types_and_tags() {
    refused(
        &ethernet(&[], 0x88cc, &[0; 50]),
        ParseError::UnknownEtherType(0x88cc),
    );
    // IEEE 802.3 length and LLC.
    refused(
        &ethernet(&[], 38, &[0; 50]),
        ParseError::UnknownEtherType(38),
    );
    let packet = Ipv4::new(protocol::UDP).packet(&sample::udp(b""));
    let tagged = view(&ethernet(&[0xe064], protocol::ETHER_IPV4, &packet));
    assert_eq!(
        (tagged.vlan, tagged.vlan_count, tagged.key.zone, tagged.l3),
        (Some(0x64), 1, 0x64, 18)
    );
    let priority = view(&ethernet(&[0xe000], protocol::ETHER_IPV4, &packet));
    assert_eq!((priority.vlan, priority.key.zone), (Some(0), 0));
    let double = ethernet(&[100, 200], protocol::ETHER_IPV4, &packet);
    let view = view(&double);
    assert_eq!(
        (view.vlan, view.vlan_count, view.key.zone, view.l3),
        (Some(100), 2, 100, 22)
    );
    let one_tag = ParseOptions {
        vlan_tags_max: 1,
        ..ParseOptions::default()
    };
    assert_eq!(parse(&double, &one_tag), Err(ParseError::TooManyVlanTags));
    let triple = ethernet(&[1, 2, 3], protocol::ETHER_IPV4, &packet);
    refused(&triple, ParseError::TooManyVlanTags);
    refused(&double[..16], ParseError::EthernetTruncated);
    refused(
        &ethernet(&[1], 0x88cc, &[]),
        ParseError::UnknownEtherType(0x88cc),
    );
}

#[test]
fn arp() {
    let packet = [
        0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 198, 18, 0, 1, 2, 0, 0, 0, 0, 2, 198, 18, 0, 2,
    ];
    let Ok(Parsed::Arp(view)) = outcome(&ethernet(&[7], protocol::ETHER_ARP, &packet)) else {
        panic!();
    };
    assert_eq!(
        (view.operation, view.vlan, view.vlan_count, view.l3),
        (2, Some(7), 1, 18)
    );
    assert_eq!(view.sender_mac, MacAddress([2, 0, 0, 0, 0, 1]));
    assert_eq!(view.sender, Address::from_v4_bytes([198, 18, 0, 1]));
    assert_eq!(view.target_mac, MacAddress([2, 0, 0, 0, 0, 2]));
    assert_eq!(view.target, Address::from_v4_bytes([198, 18, 0, 2]));
    refused(
        &ethernet(&[], protocol::ETHER_ARP, &packet[..27]),
        ParseError::ArpTruncated,
    );
    for at in 0..6 {
        let mut other = packet;
        other[at] ^= 1;
        let frame = ethernet(&[], protocol::ETHER_ARP, &other);
        refused(&frame, ParseError::ArpNotIpv4);
    }
}

#[test]
fn ipv4_headers_that_lie() {
    refused(&ipv4_with(0, 0x55), ParseError::Ipv4Version);
    refused(&ipv4_with(0, 0x44), ParseError::Ipv4HeaderLength);
    let mut frame = ipv4_with(0, 0x49);
    refused(&frame, ParseError::Ipv4Truncated);
    frame.extend([0; 8]);
    refused(&frame, ParseError::Ipv4HeaderLength);
    refused(&ipv4_with(3, 19), ParseError::Ipv4TotalLength);
    refused(&ipv4_with(3, 33), ParseError::Ipv4TotalLength);
    refused(&ipv4_with(2, 1), ParseError::Ipv4TotalLength);
    let mut frame = ipv4_with(8, 63);
    assert!(outcome(&frame).is_ok());
    frame[22] = 64;
    refused(&frame, ParseError::Ipv4Checksum);
    let mut frame = ipv4_with_options(&[1, 1, 1, 1]);
    frame[22] ^= 1;
    refused(&frame, ParseError::Ipv4Checksum);
    // A header that says it is longer than the frame.
    let mut frame = ipv4_with_options(&[1; 40]);
    frame.truncate(14 + 30);
    refused(&frame, ParseError::Ipv4Truncated);
}

#[test]
fn ipv4_options() {
    for options in [
        [1, 1, 1, 0].as_slice(),
        &[0, 131, 3, 4],
        &[148, 4, 0, 0],
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[68, 4, 5, 0],
        &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[7, 3, 40, 0],
    ] {
        let view = view(&ipv4_with_options(options));
        assert_eq!(view.ip_header_bytes as usize, 20 + options.len());
        assert_eq!(view.key.destination_port, 53, "{options:?}");
    }
    for options in [
        [131, 3, 4, 0].as_slice(),
        &[137, 7, 4, 1, 2, 3, 4, 0],
        &[1, 131, 2, 0],
    ] {
        refused(&ipv4_with_options(options), ParseError::Ipv4SourceRoute);
    }
    for options in [
        [1, 1, 1, 7].as_slice(),
        &[7, 1, 0, 0],
        &[7, 0, 0, 0],
        &[130, 5, 0, 0],
        &[7, 3, 3, 0],
        &[7, 2, 0, 0],
        &[68, 3, 5, 0],
        &[68, 4, 4, 0],
        &[7, 3, 4, 7, 3, 4, 0, 0],
        &[68, 4, 5, 0, 68, 4, 5, 0],
    ] {
        refused(&ipv4_with_options(options), ParseError::Ipv4Options);
    }
}

#[test]
fn ipv6_headers_that_lie() {
    let frame = ipv6_frame(protocol::UDP, &sample::udp(b"abcd"));
    let mut other = frame.clone();
    other[14] = 0x50;
    refused(&other, ParseError::Ipv6Version);
    let mut other = frame.clone();
    other[19] += 1;
    refused(&other, ParseError::Ipv6PayloadLength);
    refused(&frame[..53], ParseError::Ipv6Truncated);
    let mut padded = frame.clone();
    padded.extend([0; 9]);
    assert_eq!(view(&padded).packet_end as usize, frame.len());
    // No payload at all is an upper layer cut short, or a jumbogram.
    refused(
        &ipv6_frame(protocol::TCP, &[]),
        ParseError::TransportTruncated,
    );
    refused(&ipv6_frame(0, &[]), ParseError::Ipv6Jumbogram);
    assert_eq!(
        view(&ipv6_frame(59, &[])).key.protocol,
        protocol::IPV6_NO_NEXT
    );
}

#[test]
fn ipv6_extension_headers_are_walked() {
    let udp = sample::udp(b"abcd");
    let chain = |headers: &[Vec<u8>]| [headers.concat(), udp.clone()].concat();
    let hop_by_hop = extension(60, PADDING);
    let destination = extension(51, PADDING);
    let authentication = [[43, 4].as_slice(), &[0; 22]].concat();
    let routing = extension(44, [4, 1, 0, 0, 0, 0]);
    let atomic = fragment_header(60, 0, false, 9);
    let last = extension(17, PADDING);
    let frame = ipv6_frame(
        0,
        &chain(&[
            hop_by_hop,
            destination,
            authentication,
            routing,
            atomic,
            last,
        ]),
    );
    let view = view(&frame);
    assert_eq!(
        (view.key.protocol, view.key.destination_port),
        (protocol::UDP, 53)
    );
    assert_eq!(view.l4, 14 + 40 + 8 + 8 + 24 + 8 + 8 + 8);
    assert!(view.routing_segments_left);
    assert!(view.fragment.unwrap().is_atomic() && !view.is_first_fragment());
    for (next_header, payload) in [
        (protocol::ESP, vec![0; 20]),
        (protocol::IPV6_MOBILITY, vec![59, 0, 0, 0, 0, 0, 0, 0]),
        (protocol::IPV6_NO_NEXT, vec![1]),
        (253, vec![1, 2]),
    ] {
        let view = self::view(&ipv6_frame(next_header, &payload));
        assert_eq!((view.key.protocol, view.key.source_port), (next_header, 0));
        assert_eq!(view.l4_header_bytes, 0);
    }
}

#[test]
fn ipv6_extension_headers_are_bounded() {
    let udp = sample::udp(b"abcd");
    let chain_of = |count: usize| {
        let mut payload: Vec<u8> = Vec::new();
        for index in 0..count {
            let next_header = if index + 1 == count { 17 } else { 60 };
            payload.extend(extension(next_header, PADDING));
        }
        payload.extend(&udp);
        ipv6_frame(if count == 0 { 17 } else { 60 }, &payload)
    };
    assert_eq!(view(&chain_of(8)).key.destination_port, 53);
    refused(&chain_of(9), ParseError::ExtensionsTooLong);
    let long = |blocks: u8| {
        let mut header = vec![17, blocks - 1];
        header.resize(blocks as usize * 8, 0);
        header.extend(&udp);
        ipv6_frame(60, &header)
    };
    assert_eq!(view(&long(64)).l4, 14 + 40 + 512);
    refused(&long(65), ParseError::ExtensionsTooLong);
    // Two that are too long together.
    let mut both = vec![60, 31];
    both.resize(256, 0);
    both.extend([17, 32]);
    both.resize(256 + 264, 0);
    both.extend(&udp);
    refused(&ipv6_frame(60, &both), ParseError::ExtensionsTooLong);
    let mut cut = extension(17, PADDING);
    cut[1] = 1;
    refused(&ipv6_frame(60, &cut), ParseError::ExtensionTruncated);
    refused(&ipv6_frame(60, &cut[..7]), ParseError::ExtensionTruncated);
    refused(
        &ipv6_frame(51, &[17, 0, 0, 0, 0, 0, 0, 0]),
        ParseError::ExtensionTruncated,
    );
}

#[test]
fn ipv6_extension_headers_that_are_refused() {
    let udp = sample::udp(b"abcd");
    let hop_by_hop =
        |options: [u8; 6]| ipv6_frame(0, &[extension(17, options), udp.clone()].concat());
    assert!(outcome(&hop_by_hop([5, 2, 0, 0, 1, 0])).is_ok());
    // Unknown, to be skipped.
    assert!(outcome(&hop_by_hop([0x1e, 4, 9, 9, 9, 9])).is_ok());
    for options in [
        // Unknown, to be discarded in three manners.
        [0x5e, 4, 9, 9, 9, 9],
        [0x9e, 4, 9, 9, 9, 9],
        [0xde, 4, 9, 9, 9, 9],
        // Router alert of another length; padding that speaks; a value beyond the header.
        [5, 3, 0, 0, 0, 0],
        [1, 4, 0, 0, 0, 1],
        [0x1e, 5, 9, 9, 9, 9],
        [0, 0, 0, 0, 0, 1],
    ] {
        refused(&hop_by_hop(options), ParseError::HopByHopOption);
    }
    refused(
        &hop_by_hop([0xc2, 4, 0, 1, 0, 0]),
        ParseError::Ipv6Jumbogram,
    );
    let second = [extension(0, PADDING), extension(17, PADDING), udp.clone()].concat();
    refused(&ipv6_frame(0, &second), ParseError::ExtensionOrder);
    refused(&ipv6_frame(60, &second), ParseError::ExtensionOrder);
    let bad = [extension(17, [9, 5, 0, 0, 0, 0]), udp.clone()].concat();
    refused(&ipv6_frame(60, &bad), ParseError::DestinationOption);
    for segments_left in [0, 1] {
        let routing = extension(17, [0, segments_left, 0, 0, 0, 0]);
        let frame = ipv6_frame(43, &[routing, udp.clone()].concat());
        refused(&frame, ParseError::RoutingHeaderType0);
    }
    let fragment = fragment_header(44, 0, false, 1);
    let twice = [fragment.clone(), fragment, udp].concat();
    refused(&ipv6_frame(44, &twice), ParseError::ExtensionOrder);
}

#[test]
fn fragments_of_both_families() {
    let segment = sample::tcp(0x02, &[], &[0; 12]);
    type Build = fn(u8, u16, bool, &[u8]) -> Vec<u8>;
    for (build, identification) in [
        (ipv4_fragment as Build, 7),
        (ipv6_fragment as Build, 0x0102_0304),
    ] {
        let first = view(&build(protocol::TCP, 0, true, &segment));
        assert!(first.is_first_fragment() && !first.is_later_fragment());
        assert_eq!(
            (first.key.source_port, first.tcp_flags),
            (40000, TcpFlags::SYN)
        );
        let later = view(&build(protocol::TCP, 32, false, &segment));
        assert!(later.is_later_fragment() && !later.is_first_fragment());
        assert_eq!((later.key.source_port, later.key.destination_port), (0, 0));
        assert_eq!(later.l4_header_bytes, 0);
        let expected = Fragment {
            identification,
            offset_bytes: 32,
            more: false,
        };
        assert_eq!(later.fragment, Some(expected));
        assert!(later.tcp_flags_valid(), "no flags, none invalid");
        // No data; a length that is no multiple of 8 before the last; beyond the longest datagram.
        refused(&build(17, 32, false, &[]), ParseError::FragmentLength);
        refused(&build(17, 32, true, &[0; 12]), ParseError::FragmentLength);
        refused(
            &build(17, 65528, false, &[0; 8]),
            ParseError::FragmentTooLong,
        );
        // Inside the TCP header.
        for offset in [8, 16] {
            refused(&build(6, offset, false, &[0; 8]), ParseError::TinyFragment);
        }
        // The header cut short.
        for (protocol, data) in [
            (protocol::TCP, &segment[..16]),
            (protocol::TCP, &sample::tcp(2, &[1; 8], &[])[..24]),
            (protocol::SCTP, &[0; 8]),
            (protocol::DCCP, &[0; 8]),
        ] {
            refused(&build(protocol, 0, true, data), ParseError::TinyFragment);
        }
        let udp = view(&build(17, 0, true, &sample::udp(&[0; 100])[..16]));
        assert_eq!(udp.key.destination_port, 53);
        refused(
            &build(17, 0, true, &[0, 1, 0, 2, 0, 7, 0, 0]),
            ParseError::UdpLength,
        );
        refused(&build(6, 0, true, &[0; 24]), ParseError::TcpDataOffset);
    }
    // IPv4 counts its header in the datagram's length, IPv6 only what stands before the fragment
    // header.
    assert!(outcome(&ipv6_fragment(17, 65520, false, &[0; 15])).is_ok());
    refused(
        &ipv4_fragment(17, 65512, false, &[0; 4]),
        ParseError::FragmentTooLong,
    );
    assert!(outcome(&ipv4_fragment(17, 65512, false, &[0; 3])).is_ok());
    // The chain behind the fragment header is cut short.
    refused(
        &ipv6_fragment(60, 0, true, &[17, 1, 1, 4, 0, 0, 0, 0]),
        ParseError::TinyFragment,
    );
    // What follows a later fragment's header is data, whatever its number says.
    let later = view(&ipv6_fragment(60, 8, false, &[0xff; 8]));
    assert_eq!(later.key.protocol, protocol::IPV6_DESTINATION_OPTIONS);
}

#[test]
fn upper_layers_that_lie() {
    type Build = fn(u8, &[u8]) -> Vec<u8>;
    let v4: Build = |protocol, l4| Ipv4::new(protocol).frame(l4);
    let v6: Build = ipv6_frame;
    for build in [v4, v6] {
        let tcp = sample::tcp(0x10, &[], &[]);
        refused(&build(6, &tcp[..19]), ParseError::TransportTruncated);
        for (offset, result) in [(0x40, false), (0x50, true), (0x60, false)] {
            let mut tcp = tcp.clone();
            tcp[12] = offset;
            assert_eq!(outcome(&build(6, &tcp)).is_ok(), result);
        }
        let udp = sample::udp(&[1, 2, 3, 4]);
        refused(&build(17, &udp[..7]), ParseError::TransportTruncated);
        for (length, result) in [(0, false), (7, false), (8, true), (12, true), (13, false)] {
            let mut udp = udp.clone();
            udp[5] = length;
            assert_eq!(outcome(&build(17, &udp)).is_ok(), result, "{length}");
            assert_eq!(
                outcome(&build(136, &udp)).is_ok(),
                result || length == 0,
                "coverage {length}"
            );
        }
        let sctp = sample::sctp(&[1, 2]);
        for (length, result) in [(3, false), (4, true), (6, true), (7, false)] {
            let mut sctp = sctp.clone();
            sctp[15] = length;
            assert_eq!(outcome(&build(132, &sctp)).is_ok(), result, "{length}");
        }
        refused(&build(132, &sctp[..15]), ParseError::TransportTruncated);
        let dccp = |offset: u8| build(33, &[0, 1, 0, 2, offset, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(view(&dccp(3)).key.destination_port, 2);
        refused(&dccp(2), ParseError::DccpDataOffset);
        refused(&dccp(4), ParseError::DccpDataOffset);
    }
}

#[test]
fn icmp_keys() {
    let echo = view(&Ipv4::new(1).frame(&sample::icmp(8, 0, b"x")));
    assert_eq!(
        (echo.key.source_port, echo.key.destination_port),
        (99, FlowKey::icmp_port(8, 0))
    );
    assert_eq!((echo.icmp_type(), echo.icmp_code()), (Some(8), Some(0)));
    assert!(!echo.is_icmp_error());
    let error = view(&Ipv4::new(1).frame(&sample::icmp(3, 13, &[0; 28])));
    assert_eq!((error.key.source_port, error.icmp_code()), (0, Some(13)));
    assert!(error.is_icmp_error());
    let echo = view(&ipv6_frame(58, &sample::icmp(129, 0, b"x")));
    assert_eq!((echo.key.source_port, echo.icmp_type()), (99, Some(129)));
    assert!(view(&ipv6_frame(58, &[2, 0, 0, 0])).is_icmp_error());
    refused(
        &ipv6_frame(58, &[128, 0, 0, 0]),
        ParseError::TransportTruncated,
    );
    refused(&ipv6_frame(58, &[1, 0, 0]), ParseError::TransportTruncated);
    refused(
        &Ipv4::new(1).frame(&[3, 0, 0, 0, 0, 0, 0]),
        ParseError::TransportTruncated,
    );
    // The other family's ICMP is just a protocol.
    assert_eq!(view(&ipv6_frame(1, &[])).icmp_type(), None);
    assert_eq!(view(&Ipv4::new(58).frame(&[])).icmp_type(), None);
}

#[test]
fn tcp_flags_as_nf_conntrack_sees_them() {
    let valid = [0x02, 0x22, 0x12, 0x04, 0x14, 0x11, 0x31, 0x10, 0x30];
    for flags in 0..=255u8 {
        let view = view(&Ipv4::new(6).frame(&sample::tcp(flags, &[], &[])));
        // ECE, CWR and PSH never matter.
        let expected = valid.contains(&(flags & 0x37));
        assert_eq!(view.tcp_flags_valid(), expected, "{:?}", view.tcp_flags);
    }
    assert_eq!(format!("{:?}", TcpFlags(0x92)), "SAC");
    assert_eq!(format!("{:?}", TcpFlags(0)), ".");
}

#[test]
fn tcp_header_fields() {
    let frame = Ipv4::new(6).frame(&sample::tcp(0x10, &[1, 1, 3, 3], b"hello"));
    let view = view(&frame);
    let header = view.tcp(&frame).unwrap();
    assert_eq!((header.sequence, header.acknowledgement), (0x1000, 0x2000));
    assert_eq!((header.window, header.payload_bytes), (0xffff, 5));
    assert_eq!(view.tcp_options(&frame), Some([1, 1, 3, 3].as_slice()));
    assert_eq!(view.tcp(&frame[..40]), None);
    assert_eq!(self::view(UDP_V4).tcp(UDP_V4), None);
}

#[test]
fn quoted_packets() {
    let inner = Ipv4::new(6).packet(&sample::tcp(0x02, &[], &[0; 40]));
    // All of it, and the least that is allowed.
    for quote in [&inner[..], &inner[..28]] {
        let frame = Ipv4::new(1).frame(&sample::icmp(3, 1, quote));
        let outer = view(&frame);
        let found = parse_icmp_error(&frame, &outer).unwrap();
        assert_eq!(
            format!("{:?}", found.key),
            "tcp 198.18.0.1:40000 > 198.18.1.1:443"
        );
        assert_eq!(found.tcp_sequence, Some(0x1000));
        assert_eq!((found.l3, found.l4), (outer.l4 + 8, outer.l4 + 28));
        assert_eq!(found.quote_end, outer.packet_end);
        assert!(found.header_checksum_valid);
        assert_eq!(found.fragment, None);
    }
    for (quote, error) in [
        (&inner[..19], ParseError::Ipv4Truncated),
        (&inner[..27], ParseError::TransportTruncated),
        (&[0x60; 40], ParseError::Ipv4Version),
        (&[0x44; 40], ParseError::Ipv4HeaderLength),
    ] {
        let frame = Ipv4::new(1).frame(&sample::icmp(3, 1, quote));
        assert_eq!(parse_icmp_error(&frame, &view(&frame)), Err(error));
    }
    let mut damaged = inner.clone();
    damaged[8] ^= 1;
    let frame = Ipv4::new(1).frame(&sample::icmp(11, 0, &damaged));
    let found = parse_icmp_error(&frame, &view(&frame)).unwrap();
    assert!(!found.header_checksum_valid);

    let later = Ipv4 {
        flags_and_offset: 4,
        ..Ipv4::new(6)
    };
    let frame = Ipv4::new(1).frame(&sample::icmp(3, 4, &later.packet(&[0xff; 8])));
    let found = parse_icmp_error(&frame, &view(&frame)).unwrap();
    assert_eq!((found.key.source_port, found.tcp_sequence), (0, None));
    assert!(found.fragment.unwrap().is_later());

    let echo = Ipv4::new(1).packet(&sample::icmp(8, 0, b"x"));
    let frame = Ipv4::new(1).frame(&sample::icmp(3, 1, &echo));
    let found = parse_icmp_error(&frame, &view(&frame)).unwrap();
    assert_eq!(
        (found.key.source_port, found.key.destination_port),
        (99, FlowKey::icmp_port(8, 0))
    );
    let plain = Ipv4::new(1).frame(&sample::icmp(8, 0, &inner));
    assert_eq!(
        parse_icmp_error(&plain, &view(&plain)),
        Err(ParseError::NotIcmpError)
    );
}

#[test]
fn quoted_ipv6_packets() {
    let chain = [extension(17, PADDING), sample::udp(b"abcd")].concat();
    let inner = sample::ipv6_packet(60, &chain);
    let packet = sample::ipv6_packet(58, &sample::icmp(1, 4, &inner[..56]));
    let frame = ethernet(&[9], protocol::ETHER_IPV6, &packet);
    let found = parse_icmp_error(&frame, &view(&frame)).unwrap();
    assert_eq!(
        (found.key.family, found.key.protocol, found.key.zone),
        (Family::V6, protocol::UDP, 9)
    );
    assert_eq!(
        (found.key.source_port, found.key.destination_port),
        (40000, 53)
    );
    let short = ipv6_frame(58, &sample::icmp(1, 4, &inner[..52]));
    assert_eq!(
        parse_icmp_error(&short, &view(&short)),
        Err(ParseError::TransportTruncated)
    );
}

/// Everything that may be done with a frame: nothing panics, no offset leaves the frame.
fn exercise(frame: &[u8]) -> Result<(), TestCaseError> {
    let Ok(parsed) = outcome(frame) else {
        return Ok(());
    };
    let view = match parsed {
        Parsed::Ip(view) => view,
        Parsed::Arp(arp) => {
            prop_assert!(arp.l3 as usize + 28 <= frame.len());
            return Ok(());
        }
    };
    let packet_end = view.packet_end as usize;
    prop_assert!(view.l3 + u16::from(view.ip_header_bytes) <= view.l4);
    prop_assert!(view.l4 as usize <= packet_end && packet_end <= frame.len());
    prop_assert!(view.is_first_fragment() || view.payload() <= packet_end);
    let _ = (martian(&view.key), view.tcp(frame), view.tcp_options(frame));
    let _ = (
        checksum::detect(frame, &view),
        checksum::verify(frame, &view),
    );
    if let Ok(inner) = parse_icmp_error(frame, &view) {
        prop_assert!(inner.l3 < inner.l4 && u32::from(inner.l4) <= inner.quote_end);
        prop_assert!(inner.quote_end == view.packet_end);
    }
    // With the view of this frame on this frame, and on one that is shorter.
    for length in [frame.len(), packet_end / 2, 13] {
        let mut bytes = frame[..length.min(frame.len())].to_vec();
        let mut view = view;
        let rewrite = edit::Rewrite {
            source: Some(Address::from_bits(0x0102_0304)),
            destination: Some(Address::from_bits(0x0506_0708)),
            source_port: Some(1),
            destination_port: Some(2),
        };
        if let Ok(mut inner) = parse_icmp_error(frame, &view) {
            edit::rewrite_quoted(&mut bytes, &view, &mut inner, &rewrite);
        }
        edit::rewrite(&mut bytes, &mut view, &rewrite);
        edit::decrement_ttl(&mut bytes, &mut view);
        edit::set_macs(&mut bytes, MacAddress([1; 6]), MacAddress([2; 6]));
        checksum::complete(&mut bytes, &view);
        checksum::fill(&mut bytes, &view);
        let _ = (
            checksum::verify(&bytes, &view),
            parse_icmp_error(&bytes, &view),
        );
        let _ = (view.tcp(&bytes), view.tcp_options(&bytes));
        edit::set_vlan(&mut bytes, &mut view, 5);
        bytes.extend([0; 4]);
        edit::push_vlan(&mut bytes, &mut view, 6);
        edit::pop_vlan(&mut bytes, &mut view);
        edit::pop_vlan(&mut bytes, &mut view);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic_or_lead_outside(frame in sample::noise()) {
        exercise(&frame)?;
    }

    #[test]
    fn no_mutated_frame_panics_or_leads_outside(frame in sample::mutated()) {
        exercise(&frame)?;
    }

    #[test]
    fn every_cut_is_refused_or_equal(
        frame in sample::well_formed(),
        cut in any::<prop::sample::Index>(),
    ) {
        let length = cut.index(frame.len());
        if let Ok(parsed) = outcome(&frame[..length]) {
            prop_assert_eq!(Ok(parsed), outcome(&frame));
        }
    }
}
