//! What `steer.c` is to do, said once more, slowly; and frames to ask both about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dataplane::xdp::{AttachRequest, ManagementRule};

/// The counter a frame is to move when no socket of the box is open.
pub fn expected(request: &AttachRequest, frame: &[u8]) -> &'static str {
    if request.transparent {
        return "dropped-no-socket";
    }
    match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0800 => ipv4(request, &frame[14..]),
        0x86dd => ipv6(request, &frame[14..]),
        0x0806 => "passed-arp",
        0x8100 | 0x88a8 => "dropped-no-socket",
        _ => "dropped-ether-type",
    }
}

/// A packet for the box, as far as it could be read.
struct Packet<'a> {
    source: IpAddr,
    multicast: bool,
    protocol: u8,
    hop_limit: u8,
    fragmented: bool,
    later_fragment: bool,
    upper: &'a [u8],
}

fn is_local(request: &AttachRequest, address: IpAddr) -> bool {
    request
        .local_addresses
        .iter()
        .any(|local| local.contains(&address))
}

fn ipv4(request: &AttachRequest, packet: &[u8]) -> &'static str {
    if packet.len() < 20 {
        return "dropped-no-socket";
    }
    let fragment_offset = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff;
    let word = |at: usize| [packet[at], packet[at + 1], packet[at + 2], packet[at + 3]];
    let destination = Ipv4Addr::from(word(16));
    let dhcp = request.dhcp_client
        && packet[0] == 0x45
        && packet[9] == 17
        && fragment_offset == 0
        && packet.get(20..24) == Some(&[0, 67, 0, 68]);
    if dhcp {
        return "passed-dhcp";
    }
    let multicast = destination.is_multicast() || destination.is_broadcast();
    if !multicast && !is_local(request, destination.into()) {
        return "dropped-no-socket";
    }
    let header = usize::from(packet[0] & 15) * 4;
    if packet[0] >> 4 != 4 || header < 20 {
        return "dropped-malformed";
    }
    judge(
        request,
        &Packet {
            source: Ipv4Addr::from(word(12)).into(),
            multicast,
            protocol: packet[9],
            hop_limit: packet[8],
            fragmented: false,
            later_fragment: fragment_offset != 0,
            upper: packet.get(header..).unwrap_or(&[]),
        },
    )
}

fn ipv6(request: &AttachRequest, packet: &[u8]) -> &'static str {
    if packet.len() < 40 {
        return "dropped-no-socket";
    }
    let address = |at: usize| -> Ipv6Addr {
        let bytes: [u8; 16] = packet[at..at + 16].try_into().expect("sixteen bytes");
        bytes.into()
    };
    let destination = address(24);
    if !destination.is_multicast() && !is_local(request, destination.into()) {
        return "dropped-no-socket";
    }
    if packet[0] >> 4 != 6 {
        return "dropped-malformed";
    }
    let mut found = Packet {
        source: address(8).into(),
        multicast: destination.is_multicast(),
        protocol: packet[6],
        hop_limit: packet[7],
        fragmented: false,
        later_fragment: false,
        upper: &[],
    };
    let (mut at, mut headers) = (40, 0);
    while matches!(found.protocol, 0 | 43 | 44 | 60) && !found.later_fragment {
        headers += 1;
        let too_far = headers > 8 || at + 14 > 1024;
        let header = packet.get(at..at + 8);
        let (false, false, Some(header)) = (too_far, found.protocol == 43, header) else {
            return "dropped-extension-headers";
        };
        if found.protocol == 44 {
            found.fragmented = true;
            found.later_fragment = u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0;
            at += 8;
        } else {
            at += (usize::from(header[1]) + 1) * 8;
        }
        found.protocol = header[0];
    }
    if at + 14 > 1024 && !found.later_fragment {
        return "dropped-extension-headers";
    }
    found.upper = packet.get(at..).unwrap_or(&[]);
    judge(request, &found)
}

fn judge(request: &AttachRequest, packet: &Packet) -> &'static str {
    let ports = matches!(packet.protocol, 6 | 17 | 33 | 132 | 136);
    let icmp = matches!(packet.protocol, 1 | 58);
    let first = !packet.later_fragment;
    if first && (ports || icmp) && packet.upper.len() < 4 {
        return "dropped-malformed";
    }
    let port_at = |at: usize| u16::from_be_bytes([packet.upper[at], packet.upper[at + 1]]);
    let source_port = (ports && first).then(|| port_at(0));
    let destination_port = (ports && first).then(|| port_at(2));
    let icmp_type = (icmp && first).then(|| packet.upper[0]);

    if let (IpAddr::V6(_), 58, Some(kind)) = (packet.source, packet.protocol, icmp_type) {
        match kind {
            133..=137 if packet.hop_limit == 255 && !packet.fragmented => {
                return "passed-neighbour-discovery";
            }
            133..=137 => return "dropped-hop-limit",
            130..=132 | 143 => return "passed-multicast-listener",
            _ => {}
        }
    }
    let tcp_or_udp = matches!(packet.protocol, 6 | 17);
    if let (Some(range), Some(port)) = (&request.data_plane_ports, destination_port)
        && tcp_or_udp
        && !packet.multicast
        && range.contains(&port)
    {
        return "dropped-no-socket";
    }
    let dhcpv6 = packet.source.is_ipv6()
        && packet.protocol == 17
        && source_port == Some(547)
        && destination_port == Some(546);
    if request.dhcp_client && dhcpv6 {
        return "passed-dhcp";
    }
    let asked = destination_port.or(icmp_type.map(u16::from));
    if request
        .management
        .iter()
        .any(|rule| allows(rule, packet, asked))
    {
        return "passed-management";
    }
    if packet.multicast {
        return "dropped-multicast";
    }
    if request.shared {
        return "dropped-no-socket";
    }
    match (packet.source, packet.protocol, icmp_type) {
        (IpAddr::V4(_), 1, Some(0 | 3 | 11 | 12)) => "passed-icmp",
        (IpAddr::V6(_), 58, Some(1..=4 | 129)) => "passed-icmp",
        _ => "dropped-management",
    }
}

fn allows(rule: &ManagementRule, packet: &Packet, asked: Option<u16>) -> bool {
    rule.source.contains(&packet.source)
        && rule
            .protocol
            .is_none_or(|protocol| protocol == packet.protocol)
        && asked.is_none_or(|port| rule.ports.contains(&port))
}

/// One IPv6 extension header.
#[derive(Debug, Clone, Copy)]
pub enum Layer {
    HopByHop,
    Destination,
    /// A destination options header of this length field.
    Long(u8),
    Routing,
    /// With this offset-and-flags field.
    Fragment(u16),
}

/// The upper part of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    pub icmp_type: u8,
    pub hop_limit: u8,
}

impl Build {
    pub fn tcp_or_udp(protocol: u8, source_port: u16, destination_port: u16) -> Self {
        Build {
            protocol,
            source_port,
            destination_port,
            icmp_type: 0,
            hop_limit: 64,
        }
    }

    pub fn icmp(protocol: u8, icmp_type: u8, hop_limit: u8) -> Self {
        Build {
            protocol,
            source_port: 0,
            destination_port: 0,
            icmp_type,
            hop_limit,
        }
    }

    fn upper(&self) -> Vec<u8> {
        let mut upper = vec![0; 20];
        if matches!(self.protocol, 1 | 58) {
            upper[0] = self.icmp_type;
        } else {
            upper[..2].copy_from_slice(&self.source_port.to_be_bytes());
            upper[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        }
        upper
    }

    /// A frame whose IPv4 header has this many words.
    pub fn ipv4(&self, from: [u8; 4], to: [u8; 4], fragment: u16, words: u8) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x40 | words, 0, 0, 0, 0, 0]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([self.hop_limit, self.protocol, 0, 0]);
        frame.extend(from);
        frame.extend(to);
        frame.resize(14 + usize::from(words) * 4, 1);
        frame.extend(self.upper());
        frame
    }

    /// A frame whose IPv6 header is followed by these.
    pub fn ipv6(&self, from: [u8; 16], to: [u8; 16], layers: &[Layer]) -> Vec<u8> {
        let number = |layer: &Layer| match layer {
            Layer::HopByHop => 0,
            Layer::Destination | Layer::Long(_) => 60,
            Layer::Routing => 43,
            Layer::Fragment(_) => 44,
        };
        let numbers = layers.iter().map(number);
        let mut next = numbers.chain([self.protocol]);
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0]);
        frame.extend([next.next().unwrap_or(59), self.hop_limit]);
        frame.extend(from);
        frame.extend(to);
        for (layer, next) in layers.iter().zip(next) {
            let start = frame.len();
            match layer {
                Layer::Fragment(field) => {
                    frame.extend([next, 0]);
                    frame.extend(field.to_be_bytes());
                    frame.extend([0; 4]);
                }
                Layer::Long(length) => {
                    frame.extend([next, *length]);
                    frame.resize(start + (usize::from(*length) + 1) * 8, 0);
                }
                _ => frame.extend([next, 0, 0, 0, 0, 0, 0, 0]),
            }
        }
        frame.extend(self.upper());
        frame
    }
}
