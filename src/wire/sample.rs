//! Frames for tests, built layer by layer; lengths and checksums are right unless asked otherwise.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{PacketView, ParseOptions, Parsed, checksum, parse, protocol};

/// Source address of all IPv4 samples.
pub const SOURCE_V4: [u8; 4] = [198, 18, 0, 1];
/// Destination address of all IPv4 samples.
pub const DESTINATION_V4: [u8; 4] = [198, 18, 1, 1];
/// Source address of all IPv6 samples.
pub const SOURCE_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Destination address of all IPv6 samples.
pub const DESTINATION_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// An IPv4 header to be.
#[derive(Debug, Clone)]
pub struct Ipv4 {
    pub source: [u8; 4],
    pub destination: [u8; 4],
    pub protocol: u8,
    pub ttl: u8,
    pub identification: u16,
    /// Reserved bit, DF, MF and the offset in 8-byte units.
    pub flags_and_offset: u16,
    /// A multiple of 4 bytes.
    pub options: Vec<u8>,
}

impl Ipv4 {
    pub fn new(protocol: u8) -> Self {
        Ipv4 {
            source: SOURCE_V4,
            destination: DESTINATION_V4,
            protocol,
            ttl: 64,
            identification: 7,
            flags_and_offset: 0,
            options: Vec::new(),
        }
    }

    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let header_bytes = 20 + self.options.len();
        let total_bytes = (header_bytes + payload.len()) as u16;
        let mut packet = vec![0x40 | (header_bytes / 4) as u8, 0];
        packet.extend(total_bytes.to_be_bytes());
        packet.extend(self.identification.to_be_bytes());
        packet.extend(self.flags_and_offset.to_be_bytes());
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(self.source);
        packet.extend(self.destination);
        packet.extend(&self.options);
        let checksum = !checksum::sum_reference(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(payload);
        packet
    }

    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        ethernet(&[], protocol::ETHER_IPV4, &self.packet(payload))
    }
}

/// An IPv6 packet; `payload` begins with the extension headers, if any.
pub fn ipv6_packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(SOURCE_V6);
    packet.extend(DESTINATION_V6);
    packet.extend(payload);
    packet
}

pub fn ipv6_frame(next_header: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(
        &[],
        protocol::ETHER_IPV6,
        &ipv6_packet(next_header, payload),
    )
}

pub fn ethernet(vlans: &[u16], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for vlan in vlans {
        frame.extend(protocol::ETHER_VLAN.to_be_bytes());
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A TCP segment 40000 > 443, checksum 0. `options` is a multiple of 4 bytes.
pub fn tcp(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0x01, 0xbb, 0, 0, 0x10, 0, 0, 0, 0x20, 0];
    segment.extend([((20 + options.len()) / 4) as u8 * 16, flags]);
    segment.extend([0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

/// A UDP datagram 40000 > 53, checksum 0.
pub fn udp(payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x9c, 0x40, 0, 53];
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// An ICMP or ICMPv6 message with identifier 99, checksum 0.
pub fn icmp(icmp_type: u8, code: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![icmp_type, code, 0, 0, 0, 99, 0, 1];
    message.extend(payload);
    message
}

/// An SCTP packet 40000 > 5000 with one DATA chunk, checksum 0.
pub fn sctp(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x9c, 0x40, 0x13, 0x88, 0, 0, 0, 1, 0, 0, 0, 0];
    packet.extend([0, 3]);
    packet.extend((4 + payload.len() as u16).to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 fragment header.
pub fn fragment_header(next_header: u8, offset_bytes: u16, more: bool, id: u32) -> Vec<u8> {
    let mut header = vec![next_header, 0];
    header.extend((offset_bytes | u16::from(more)).to_be_bytes());
    header.extend(id.to_be_bytes());
    header
}

/// The view of a frame that is well formed.
#[track_caller]
pub fn view(frame: &[u8]) -> PacketView {
    match parse(frame, &ParseOptions::default()) {
        Ok(Parsed::Ip(view)) => view,
        other => panic!("{other:?} from {frame:02x?}"),
    }
}

/// The frame with its transport checksum computed.
#[track_caller]
pub fn filled(mut frame: Vec<u8>) -> Vec<u8> {
    let view = view(&frame);
    checksum::fill(&mut frame, &view);
    frame
}

/// The frame with its transport checksum as a host leaves it to hardware: the pseudo-header's sum.
#[track_caller]
pub fn partial(mut frame: Vec<u8>) -> Vec<u8> {
    let view = view(&frame);
    let l4 = view.l4 as usize;
    let at = checksum::field_offset(view.key.family, view.key.protocol).unwrap();
    let sum = checksum::pseudo_header_sum(&view, view.packet_end - view.l4 as u32);
    frame[l4 + at..l4 + at + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Whole packets of both families with all upper layers, tagged or not, padded or not, some with
/// IPv4 options or IPv6 extension headers; checksums complete.
pub fn well_formed() -> impl Strategy<Value = Vec<u8>> {
    let upper = (0..8u8, any::<u8>(), vec(any::<u8>(), 0..120), any::<bool>());
    let link = (vec(0..4096u16, 0..3), 0..20usize);
    let network = (any::<bool>(), 0..6u8, 1..=255u8, any::<[u8; 8]>());
    (upper, link, network).prop_map(|(upper, (vlans, padding), (v6, extras, ttl, addresses))| {
        let (protocol, l4) = upper_layer(v6, upper);
        let mut packet = if v6 {
            let (next_header, mut payload) = extensions(extras, protocol);
            payload.extend(l4);
            let mut packet = ipv6_packet(next_header, &payload);
            packet[7] = ttl;
            packet[16..24].copy_from_slice(&addresses);
            packet
        } else {
            let [a, b, c, d, e, f, g, h] = addresses;
            let header = Ipv4 {
                source: [a, b, c, d],
                destination: [e, f, g, h],
                ttl,
                options: ipv4_options(extras),
                flags_and_offset: if extras % 2 == 0 { 0x4000 } else { 0 },
                ..Ipv4::new(protocol)
            };
            header.packet(&l4)
        };
        packet.extend(std::iter::repeat_n(0xee, padding));
        let ether_type = if v6 {
            protocol::ETHER_IPV6
        } else {
            protocol::ETHER_IPV4
        };
        filled(ethernet(&vlans, ether_type, &packet))
    })
}

/// Well-formed frames with up to four bytes of their headers changed, or cut short; the IPv4 header
/// checksum is made right again, so that more than that is met.
pub fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (well_formed(), changes, 0..8u8, any::<prop::sample::Index>()).prop_map(
        |(mut frame, changes, cut, cut_at)| {
            let headers_bytes = frame.len().min(90) - 12;
            for (index, value) in changes {
                frame[12 + index.index(headers_bytes)] = value;
            }
            if cut == 0 {
                frame.truncate(cut_at.index(frame.len()));
            }
            repair_ipv4_checksum(&mut frame);
            frame
        },
    )
}

/// Any bytes; half of them behind an Ethernet header that makes the parser read on.
pub fn noise() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(Vec::new()),
        Just([&[2; 12], [8, 0, 0x45].as_slice()].concat()),
        Just([&[2; 12], [0x86, 0xdd, 0x60].as_slice()].concat()),
        Just([&[2; 12], [0x81, 0, 0, 1, 0x86, 0xdd, 0x60].as_slice()].concat()),
        Just([&[2; 12], [8, 6].as_slice()].concat()),
    ];
    (start, vec(any::<u8>(), 0..200)).prop_map(|(mut frame, rest)| {
        frame.extend(rest);
        if let Some(length) = frame.get_mut(16..20)
            && length[0] > 0
        {
            // A length that the frame has, more often than not.
            length[0] = 0;
            length[2] = 0;
        }
        repair_ipv4_checksum(&mut frame);
        frame
    })
}

/// Writes the right header checksum into an untagged IPv4 frame, or a tagged one.
pub fn repair_ipv4_checksum(frame: &mut [u8]) {
    let mut l3 = 14;
    while frame.get(l3 - 2..l3) == Some(&[0x81, 0]) {
        l3 += 4;
    }
    if frame.get(l3 - 2..l3) != Some(&[8, 0]) {
        return;
    }
    let Some(first) = frame.get(l3) else { return };
    let header_bytes = (first & 15) as usize * 4;
    if let Some(header) = frame.get_mut(l3..l3 + header_bytes)
        && header_bytes >= 20
    {
        header[10..12].fill(0);
        let checksum = !checksum::sum_reference(header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn upper_layer(v6: bool, (kind, byte, payload, flag): (u8, u8, Vec<u8>, bool)) -> (u8, Vec<u8>) {
    match (kind, v6) {
        (0 | 1, _) => {
            let options = if flag {
                vec![1; byte as usize % 11 * 4]
            } else {
                Vec::new()
            };
            (protocol::TCP, tcp(byte, &options, &payload))
        }
        (2 | 3, _) => (protocol::UDP, udp(&payload)),
        (4, _) => (protocol::SCTP, sctp(&payload)),
        (5, false) => (protocol::ICMP, icmp(byte % 20, 0, &payload)),
        (5, true) => (protocol::ICMPV6, icmp(byte, 0, &payload)),
        (6, false) => {
            let inner = Ipv4::new(protocol::UDP).packet(&udp(&payload));
            (protocol::ICMP, icmp(protocol::ICMP_UNREACHABLE, 1, &inner))
        }
        (6, true) => {
            let inner = ipv6_packet(protocol::TCP, &tcp(0x02, &[], &payload));
            (
                protocol::ICMPV6,
                icmp(protocol::ICMPV6_TIME_EXCEEDED, 0, &inner),
            )
        }
        _ => (protocol::GRE, payload),
    }
}

fn extensions(kind: u8, protocol: u8) -> (u8, Vec<u8>) {
    let padding = [1, 4, 0, 0, 0, 0];
    let options = |next: u8| [[next, 0].as_slice(), &padding].concat();
    match kind {
        0 => (protocol::IPV6_HOP_BY_HOP, options(protocol)),
        1 => {
            let chain = [
                options(protocol::IPV6_DESTINATION_OPTIONS),
                options(protocol),
            ];
            (protocol::IPV6_HOP_BY_HOP, chain.concat())
        }
        // An atomic fragment.
        2 => (
            protocol::IPV6_FRAGMENT,
            fragment_header(protocol, 0, false, 5),
        ),
        // A routing header of type 2 without segments left.
        3 => (protocol::IPV6_ROUTING, vec![protocol, 0, 2, 0, 0, 0, 0, 0]),
        _ => (protocol, Vec::new()),
    }
}

fn ipv4_options(kind: u8) -> Vec<u8> {
    match kind {
        0 => vec![148, 4, 0, 0],
        1 => vec![1, 7, 7, 4, 0, 0, 0, 0],
        _ => Vec::new(),
    }
}
