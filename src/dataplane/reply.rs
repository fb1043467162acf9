//! Answers to packets that are not forwarded: ICMP and ICMPv6 errors, TCP resets.
//!
//! An answer is built in the buffer of the frame it answers, and goes back out of the port it
//! came in on. Nothing is allocated.

use super::frame::FrameBuffer;
use crate::wire::{
    Address, DestinationKind, Family, MacAddress, Martian, PacketView, TcpFlags, checksum,
    destination_kind, destination_mac, edit, martian, protocol, source_mac,
};

/// What an ICMP error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// TTL or hop limit ran out.
    TimeExceeded,
    /// No route.
    NetworkUnreachable,
    /// The next hop does not answer.
    HostUnreachable,
    /// A policy denies it.
    AdministrativelyProhibited,
    /// No one listens.
    PortUnreachable,
    /// Larger than the next link's MTU: "fragmentation needed", or ICMPv6 "packet too big".
    PacketTooBig {
        /// The next link's MTU.
        mtu_bytes: u32,
    },
}

/// Why a packet is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoReply {
    /// It is an ICMP error, or a redirect.
    #[error("never an error about an ICMP error")]
    AboutIcmpError,
    /// It is a fragment other than the first; for a reset, any fragment.
    #[error("never an error about a later fragment")]
    AboutLaterFragment,
    /// Its IP or Ethernet destination is a multicast or broadcast address.
    #[error("never an error about a multicast or broadcast packet")]
    AboutMulticast,
    /// Its source address names no single host.
    #[error("source address names no single host")]
    BadSource,
    /// A TCP reset, which is never answered with another.
    #[error("a reset is not answered")]
    AboutReset,
    /// Not TCP, and a reset was asked for.
    #[error("only TCP is answered with a reset")]
    NotTcp,
    /// The frame's buffer cannot hold the answer, or the frame is not the one that was parsed.
    #[error("no room for the answer")]
    NoRoom,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replier {
    /// Link-layer address of the port the frame came in on.
    pub mac: MacAddress,
    /// Address of the box on that port, of the packet's family.
    pub address: Address,
}

/// Turns a frame into the ICMP or ICMPv6 error about it (RFC 1812 §4.3.2, 4443 §2.4).
///
/// `view` is that of the frame as it came in: call this before any edit, so that the error quotes
/// the packet as its sender knows it, in as many bytes as fit in 576 (IPv4) or 1,280 (IPv6) and in
/// the frame. Only a partial transport checksum is completed in the quote. The answer goes from
/// `replier` to the frame's sender; VLAN tags stay.
///
/// The caller keeps from asking about packets to the broadcast addresses of attached networks,
/// which look like any other here unless the frame was broadcast too.
///
/// # Errors
/// Why the packet must not be answered; the frame is unchanged then.
pub fn icmp_error(
    frame: &mut impl FrameBuffer,
    view: &PacketView,
    kind: ErrorKind,
    replier: &Replier,
) -> Result<(), NoReply> {
    check_answerable(frame.bytes(), view, kind)?;
    let (headers_bytes, answer_bytes_max) = match view.key.family {
        Family::V4 => (28, 576),
        Family::V6 => (48, 1280),
    };
    let l3 = view.l3 as usize;
    let room_bytes = frame.capacity().saturating_sub(l3).min(answer_bytes_max);
    let quote_bytes = room_bytes
        .saturating_sub(headers_bytes)
        .min(view.packet_bytes());
    // A quote must hold the IP header and 8 bytes (RFC 792, 4443 §2.4(c)).
    let needed_bytes = view.packet_bytes().min((view.l4 - view.l3) as usize + 8);
    if quote_bytes < needed_bytes {
        return Err(NoReply::NoRoom);
    }
    checksum::complete(frame.bytes_mut(), view);
    let answer_end = l3 + headers_bytes + quote_bytes;
    if answer_end > frame.bytes().len() {
        frame.set_len(answer_end);
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(l3..l3 + quote_bytes, l3 + headers_bytes);
    turn_around(bytes, replier.mac);
    let answer = &mut bytes[l3..answer_end];
    let message = kind.message(view.key.family);
    let icmp_at = headers_bytes - 8;
    answer[icmp_at..headers_bytes].copy_from_slice(&message);
    let (protocol, pseudo_header) = match view.key.family {
        Family::V4 => (protocol::ICMP, false),
        Family::V6 => (protocol::ICMPV6, true),
    };
    let from_to = (replier.address, view.key.source);
    write_ip_header(answer, view.key.family, protocol, from_to);
    let icmp = &mut answer[icmp_at..];
    let sum = if pseudo_header {
        checksum::add(
            checksum::sum(icmp),
            pseudo_sum(from_to, protocol, icmp.len()),
        )
    } else {
        checksum::sum(icmp)
    };
    icmp[2..4].copy_from_slice(&(!sum).to_be_bytes());
    frame.set_len(answer_end);
    Ok(())
}

/// Turns a TCP segment's frame into the reset that answers it (RFC 9293 §3.10.7.1), in the name of
/// the segment's destination. `mac` is that of the port the frame came in on.
///
/// # Errors
/// Why the segment must not be answered; the frame is unchanged then.
pub fn tcp_reset(
    frame: &mut impl FrameBuffer,
    view: &PacketView,
    mac: MacAddress,
) -> Result<(), NoReply> {
    check_answerable(frame.bytes(), view, ErrorKind::PortUnreachable)?;
    let segment = view.tcp(frame.bytes()).ok_or(NoReply::NotTcp)?;
    if view.fragment.is_some_and(|fragment| !fragment.is_atomic()) {
        // The segment's length is not known.
        return Err(NoReply::AboutLaterFragment);
    }
    if segment.flags.contains(TcpFlags::RST) {
        return Err(NoReply::AboutReset);
    }
    let (sequence, acknowledgement, flags) = if segment.flags.contains(TcpFlags::ACK) {
        (segment.acknowledgement, 0, TcpFlags::RST)
    } else {
        let control = u32::from(segment.flags.contains(TcpFlags::SYN))
            + u32::from(segment.flags.contains(TcpFlags::FIN));
        let beyond = segment
            .sequence
            .wrapping_add(segment.payload_bytes)
            .wrapping_add(control);
        (0, beyond, TcpFlags::RST | TcpFlags::ACK)
    };
    let l3 = view.l3 as usize;
    let ip_bytes = match view.key.family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    // The frame holds a TCP header behind an IP header already: it never grows.
    let answer_end = l3 + ip_bytes + 20;
    let bytes = frame.bytes_mut();
    if bytes.len() < answer_end {
        return Err(NoReply::NoRoom);
    }
    turn_around(bytes, mac);
    let answer = &mut bytes[l3..answer_end];
    let from_to = (view.key.destination, view.key.source);
    write_ip_header(answer, view.key.family, protocol::TCP, from_to);
    let tcp = &mut answer[ip_bytes..];
    tcp[0..2].copy_from_slice(&view.key.destination_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&view.key.source_port.to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
    tcp[12..20].copy_from_slice(&[5 << 4, flags.0, 0, 0, 0, 0, 0, 0]);
    let sum = checksum::add(checksum::sum(tcp), pseudo_sum(from_to, protocol::TCP, 20));
    tcp[16..18].copy_from_slice(&(!sum).to_be_bytes());
    frame.set_len(answer_end);
    Ok(())
}

impl ErrorKind {
    /// Type, code, checksum 0 and the four bytes behind it.
    fn message(self, family: Family) -> [u8; 8] {
        let (icmp_type, code) = match (self, family) {
            (ErrorKind::TimeExceeded, Family::V4) => (protocol::ICMP_TIME_EXCEEDED, 0),
            (ErrorKind::NetworkUnreachable, Family::V4) => (protocol::ICMP_UNREACHABLE, 0),
            (ErrorKind::HostUnreachable, Family::V4) => (protocol::ICMP_UNREACHABLE, 1),
            (ErrorKind::PortUnreachable, Family::V4) => (protocol::ICMP_UNREACHABLE, 3),
            (ErrorKind::PacketTooBig { .. }, Family::V4) => (protocol::ICMP_UNREACHABLE, 4),
            (ErrorKind::AdministrativelyProhibited, Family::V4) => (protocol::ICMP_UNREACHABLE, 13),
            (ErrorKind::TimeExceeded, Family::V6) => (protocol::ICMPV6_TIME_EXCEEDED, 0),
            (ErrorKind::NetworkUnreachable, Family::V6) => (protocol::ICMPV6_UNREACHABLE, 0),
            (ErrorKind::AdministrativelyProhibited, Family::V6) => {
                (protocol::ICMPV6_UNREACHABLE, 1)
            }
            (ErrorKind::HostUnreachable, Family::V6) => (protocol::ICMPV6_UNREACHABLE, 3),
            (ErrorKind::PortUnreachable, Family::V6) => (protocol::ICMPV6_UNREACHABLE, 4),
            (ErrorKind::PacketTooBig { .. }, Family::V6) => (protocol::ICMPV6_PACKET_TOO_BIG, 0),
        };
        let [m0, m1, m2, m3] = match (self, family) {
            // The next hop's MTU is 16 bits behind 16 unused ones (RFC 1191 §4).
            (ErrorKind::PacketTooBig { mtu_bytes }, Family::V4) => mtu_bytes.min(0xffff),
            (ErrorKind::PacketTooBig { mtu_bytes }, Family::V6) => mtu_bytes,
            _ => 0,
        }
        .to_be_bytes();
        [icmp_type, code, 0, 0, m0, m1, m2, m3]
    }
}

/// The conditions under which nothing may be sent (RFC 1812 §4.3.2.7, 4443 §2.4(e)).
fn check_answerable(bytes: &[u8], view: &PacketView, kind: ErrorKind) -> Result<(), NoReply> {
    if bytes.len() < view.packet_end as usize {
        return Err(NoReply::NoRoom);
    }
    if view.is_later_fragment() {
        return Err(NoReply::AboutLaterFragment);
    }
    let (family, key) = (view.key.family, &view.key);
    // An ICMP type unknown here may be an error's.
    let maybe_error = match (view.icmp_type(), family) {
        (Some(icmp_type), Family::V4) => {
            view.is_icmp_error() || icmp_type > protocol::ICMP_ADDRESS_MASK_REPLY
        }
        (Some(icmp_type), Family::V6) => {
            view.is_icmp_error() || icmp_type == protocol::ICMPV6_REDIRECT
        }
        (None, _) => false,
    };
    if maybe_error {
        return Err(NoReply::AboutIcmpError);
    }
    // Path MTU discovery works for IPv6 multicast too (RFC 4443 §2.4(e.3)).
    let exempt = family == Family::V6 && matches!(kind, ErrorKind::PacketTooBig { .. });
    let multicast = destination_kind(family, key.destination) != DestinationKind::Unicast
        || destination_mac(bytes).is_group();
    if multicast && !exempt {
        return Err(NoReply::AboutMulticast);
    }
    let source_mac = source_mac(bytes);
    let bad_address = matches!(
        martian(key),
        Some(
            Martian::SourceUnspecified
                | Martian::SourceLoopback
                | Martian::SourceMulticast
                | Martian::SourceReserved
                | Martian::SourceMapped
                | Martian::SourceIsDestination
        )
    );
    if bad_address || source_mac.is_group() || source_mac.is_zero() {
        return Err(NoReply::BadSource);
    }
    Ok(())
}

/// Sends an Ethernet frame back to where it came from.
fn turn_around(bytes: &mut [u8], mac: MacAddress) {
    let sender = source_mac(bytes);
    edit::set_macs(bytes, sender, mac);
}

/// Writes the IP header of an answer of `answer.len()` bytes.
fn write_ip_header(answer: &mut [u8], family: Family, protocol: u8, from_to: (Address, Address)) {
    const TTL: u8 = 64;
    let answer_bytes = answer.len();
    match family {
        Family::V4 => {
            let length = (answer_bytes as u16).to_be_bytes();
            let header = &mut answer[..20];
            // Precedence "internetwork control" (RFC 1812 §4.3.2.5); DF, so that the
            // identification means nothing (RFC 6864 §4.1).
            header[..12].copy_from_slice(&[
                0x45, 0xc0, length[0], length[1], 0, 0, 0x40, 0, TTL, protocol, 0, 0,
            ]);
            header[12..16].copy_from_slice(&from_to.0.to_v4_bits().to_be_bytes());
            header[16..20].copy_from_slice(&from_to.1.to_v4_bits().to_be_bytes());
            let checksum = !checksum::sum(header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        Family::V6 => {
            let length = (answer_bytes as u16 - 40).to_be_bytes();
            let header = &mut answer[..40];
            header[..8].copy_from_slice(&[0x60, 0, 0, 0, length[0], length[1], protocol, TTL]);
            header[8..24].copy_from_slice(&from_to.0.to_bits().to_be_bytes());
            header[24..40].copy_from_slice(&from_to.1.to_bits().to_be_bytes());
        }
    }
}

fn pseudo_sum(from_to: (Address, Address), protocol: u8, transport_bytes: usize) -> u16 {
    let addresses = checksum::add(
        checksum::address_sum(from_to.0),
        checksum::address_sum(from_to.1),
    );
    checksum::add(
        addresses,
        checksum::add(u16::from(protocol), transport_bytes as u16),
    )
}

/// Token bucket that bounds the answers sent by one port.
#[derive(Debug, Clone)]
pub struct ReplyLimiter {
    per_second: u32,
    burst: u32,
    /// Millionths of an answer.
    credit: u64,
    last_us: u64,
}

impl ReplyLimiter {
    /// `per_second` answers in the long run, `burst` at once.
    pub fn new(per_second: u32, burst: u32) -> Self {
        ReplyLimiter {
            per_second,
            burst,
            credit: u64::from(burst) * 1_000_000,
            last_us: 0,
        }
    }

    /// May an answer be sent now? Takes one from the bucket if so.
    pub fn allow(&mut self, now_us: u64) -> bool {
        let elapsed_us = now_us.saturating_sub(self.last_us);
        self.last_us = self.last_us.max(now_us);
        let earned = elapsed_us.saturating_mul(u64::from(self.per_second));
        let full = u64::from(self.burst) * 1_000_000;
        self.credit = self.credit.saturating_add(earned).min(full);
        if self.credit < 1_000_000 {
            return false;
        }
        self.credit -= 1_000_000;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::sample::{self, Ipv4, ethernet, fragment_header, ipv6_frame, view};
    use crate::wire::{ParseOptions, Parsed, parse, parse_icmp_error};

    const PORT_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xfe]);
    const FRAME_CAPACITY: usize = 2048;

    /// A frame in memory of a fixed size.
    #[derive(Debug, Clone, PartialEq)]
    struct Memory {
        bytes: Vec<u8>,
        capacity: usize,
    }

    impl FrameBuffer for Memory {
        fn bytes(&self) -> &[u8] {
            &self.bytes
        }

        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.bytes
        }

        fn capacity(&self) -> usize {
            self.capacity
        }

        fn set_len(&mut self, len: usize) {
            assert!(len <= self.capacity);
            self.bytes.resize(len, 0xa5);
        }
    }

    fn memory(bytes: &[u8]) -> Memory {
        Memory {
            bytes: bytes.to_vec(),
            capacity: FRAME_CAPACITY,
        }
    }

    fn replier(family: Family) -> Replier {
        Replier {
            mac: PORT_MAC,
            address: match family {
                Family::V4 => Address::from_v4_bytes([198, 18, 0, 254]),
                Family::V6 => Address::from_bits(0x2001_0db8_0001 << 80 | 0xfe),
            },
        }
    }

    fn error(frame: &[u8], kind: ErrorKind) -> Result<Vec<u8>, NoReply> {
        let view = view(frame);
        let mut memory = memory(frame);
        let result = icmp_error(&mut memory, &view, kind, &replier(view.key.family));
        match result {
            Ok(()) => Ok(memory.bytes),
            Err(reason) => {
                assert_eq!(memory.bytes, frame, "not answered, but changed");
                Err(reason)
            }
        }
    }

    fn reset(frame: &[u8]) -> Result<Vec<u8>, NoReply> {
        let mut memory = memory(frame);
        tcp_reset(&mut memory, &view(frame), PORT_MAC).map(|()| memory.bytes)
    }

    fn udp_v4() -> Vec<u8> {
        sample::filled(Ipv4::new(protocol::UDP).frame(&sample::udp(&[7; 40])))
    }

    fn udp_v6() -> Vec<u8> {
        sample::filled(ipv6_frame(protocol::UDP, &sample::udp(&[7; 40])))
    }

    #[test]
    fn types_codes_and_mtu() {
        use ErrorKind::*;
        let too_big = |mtu_bytes| PacketTooBig { mtu_bytes };
        for (kind, v4, v6) in [
            (TimeExceeded, (11, 0, 0), (3, 0, 0)),
            (NetworkUnreachable, (3, 0, 0), (1, 0, 0)),
            (HostUnreachable, (3, 1, 0), (1, 3, 0)),
            (PortUnreachable, (3, 3, 0), (1, 4, 0)),
            (AdministrativelyProhibited, (3, 13, 0), (1, 1, 0)),
            (too_big(1400), (3, 4, 1400), (2, 0, 1400)),
            (too_big(70_000), (3, 4, 65_535), (2, 0, 70_000)),
        ] {
            for (frame, expected) in [(udp_v4(), v4), (udp_v6(), v6)] {
                let answer = error(&frame, kind).unwrap();
                let view = view(&answer);
                let l4 = view.l4 as usize;
                let word = u32::from_be_bytes(answer[l4 + 4..l4 + 8].try_into().unwrap());
                assert_eq!((answer[l4], answer[l4 + 1], word), expected, "{kind:?}");
                assert!(etherparse::SlicedPacket::from_ethernet(&answer).is_ok());
            }
        }
    }

    #[test]
    fn an_answer_goes_back_where_the_frame_came_from() {
        let packet = Ipv4::new(protocol::UDP).packet(&sample::udp(b"abcd"));
        let frame = ethernet(&[0x2064, 7], protocol::ETHER_IPV4, &packet);
        let answer = error(&frame, ErrorKind::TimeExceeded).unwrap();
        assert_eq!(destination_mac(&answer), MacAddress([2, 0, 0, 0, 0, 1]));
        assert_eq!(source_mac(&answer), PORT_MAC);
        assert_eq!(answer[12..22], frame[12..22]);
        let view = view(&answer);
        assert_eq!(view.key.source, replier(Family::V4).address);
        assert_eq!(
            view.key.destination,
            Address::from_v4_bytes(sample::SOURCE_V4)
        );
        assert_eq!(view.ttl, 64);
    }

    #[test]
    fn as_much_is_quoted_as_may_be() {
        let long_v4 = Ipv4::new(protocol::UDP).frame(&sample::udp(&[7; 1400]));
        let long_v6 = ipv6_frame(protocol::UDP, &sample::udp(&[7; 1400]));
        for (frame, answer_bytes, headers_bytes) in [
            (long_v4, 576, 28),
            (long_v6, 1280, 48),
            (udp_v4(), 96, 28),
            (udp_v6(), 136, 48),
        ] {
            let answer = error(&frame, ErrorKind::HostUnreachable).unwrap();
            assert_eq!(answer.len(), 14 + answer_bytes);
            let quote = &answer[14 + headers_bytes..];
            // The UDP checksum of the IPv6 sample is wrong (0), and stays so in the quote.
            assert_eq!(quote, &frame[14..14 + quote.len()]);
        }
    }

    #[test]
    fn padding_is_not_quoted() {
        let mut frame = udp_v4();
        frame.extend([0xee; 6]);
        let answer = error(&frame, ErrorKind::HostUnreachable).unwrap();
        assert_eq!(answer.len(), 14 + 28 + 20 + 48);
        assert!(!answer.ends_with(&[0xee]));
    }

    #[test]
    fn a_small_buffer_gets_a_short_quote_or_none() {
        let frame = udp_v4();
        for (capacity, expected) in [
            (frame.len() + 28, Ok(14 + 96)),
            (frame.len(), Ok(frame.len())),
            (frame.len() - 13, Err(NoReply::NoRoom)),
        ] {
            let mut memory = Memory {
                bytes: frame.clone(),
                capacity,
            };
            let replier = replier(Family::V4);
            let kind = ErrorKind::HostUnreachable;
            let result = icmp_error(&mut memory, &view(&frame), kind, &replier);
            assert_eq!(result.map(|()| memory.bytes.len()), expected);
        }
    }

    #[test]
    fn a_partial_checksum_is_completed_in_the_quote() {
        for complete in [udp_v4(), udp_v6()] {
            let partial = sample::partial(complete.clone());
            assert_ne!(partial, complete);
            let kind = ErrorKind::HostUnreachable;
            assert_eq!(error(&partial, kind), error(&complete, kind));
        }
    }

    /// A good frame with these bytes changed.
    fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        sample::repair_ipv4_checksum(&mut frame);
        frame
    }

    #[test]
    fn silence_where_it_is_required() {
        let kind = ErrorKind::AdministrativelyProhibited;
        let icmp_v4 = |icmp_type| Ipv4::new(1).frame(&sample::icmp(icmp_type, 0, &[0; 28]));
        let icmp_v6 = |icmp_type| ipv6_frame(58, &sample::icmp(icmp_type, 0, &[0; 48]));
        for icmp_type in [0, 8, 13, 14, 17, 18] {
            assert!(error(&icmp_v4(icmp_type), kind).is_ok(), "{icmp_type}");
        }
        for icmp_type in [3, 4, 5, 11, 12, 19, 40, 255] {
            assert_eq!(
                error(&icmp_v4(icmp_type), kind),
                Err(NoReply::AboutIcmpError)
            );
        }
        for icmp_type in [1, 2, 3, 4, 127, 137] {
            assert_eq!(
                error(&icmp_v6(icmp_type), kind),
                Err(NoReply::AboutIcmpError)
            );
        }
        assert!(error(&icmp_v6(128), kind).is_ok());

        let fragment = |flags_and_offset| {
            let header = Ipv4 {
                flags_and_offset,
                ..Ipv4::new(protocol::UDP)
            };
            header.frame(&sample::udp(&[0; 16]))
        };
        assert!(error(&fragment(0x2000), kind).is_ok());
        assert_eq!(
            error(&fragment(0x0003), kind),
            Err(NoReply::AboutLaterFragment)
        );
        let later = [fragment_header(17, 24, false, 1), vec![0; 8]].concat();
        assert_eq!(
            error(&ipv6_frame(44, &later), kind),
            Err(NoReply::AboutLaterFragment)
        );

        for source in [
            [0, 0, 0, 0],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [255; 4],
            [240, 0, 0, 1],
        ] {
            assert_eq!(
                error(&with(udp_v4(), 26, &source), kind),
                Err(NoReply::BadSource)
            );
        }
        assert_eq!(
            error(&with(udp_v4(), 26, &sample::DESTINATION_V4), kind),
            Err(NoReply::BadSource)
        );
        let mut loopback = [0; 16];
        assert_eq!(
            error(&with(udp_v6(), 22, &loopback), kind),
            Err(NoReply::BadSource)
        );
        loopback[15] = 1;
        assert_eq!(
            error(&with(udp_v6(), 22, &loopback), kind),
            Err(NoReply::BadSource)
        );
        assert_eq!(
            error(&with(udp_v6(), 22, &[0xff]), kind),
            Err(NoReply::BadSource)
        );
        assert_eq!(
            error(&with(udp_v4(), 6, &[1]), kind),
            Err(NoReply::BadSource)
        );
        assert_eq!(
            error(&with(udp_v4(), 6, &[0; 6]), kind),
            Err(NoReply::BadSource)
        );

        let too_big = ErrorKind::PacketTooBig { mtu_bytes: 1280 };
        for (frame, too_big_allowed) in [
            (with(udp_v4(), 30, &[224]), false),
            (with(udp_v4(), 30, &[255; 4]), false),
            (with(udp_v4(), 0, &[0xff; 6]), false),
            (with(udp_v6(), 38, &[0xff]), true),
            (with(udp_v6(), 0, &[0x33, 0x33]), true),
        ] {
            assert_eq!(error(&frame, kind), Err(NoReply::AboutMulticast));
            assert_eq!(error(&frame, too_big).is_ok(), too_big_allowed);
        }
    }

    #[test]
    fn another_frame_than_the_one_parsed_is_refused() {
        let frame = udp_v4();
        let mut short = memory(&frame[..30]);
        let kind = ErrorKind::TimeExceeded;
        let result = icmp_error(&mut short, &view(&frame), kind, &replier(Family::V4));
        assert_eq!(result, Err(NoReply::NoRoom));
    }

    #[test]
    fn resets_answer_by_the_rules() {
        let tcp_v4 = |flags, payload: &[u8]| {
            Ipv4::new(protocol::TCP).frame(&sample::tcp(flags, &[1; 4], payload))
        };
        let tcp_v6 =
            |flags, payload: &[u8]| ipv6_frame(protocol::TCP, &sample::tcp(flags, &[], payload));
        // The samples have sequence 0x1000, acknowledgement 0x2000.
        for (flags, payload, expected) in [
            (0x02, b"".as_slice(), (0, 0x1001, TcpFlags(0x14))),
            (0x02, b"fast", (0, 0x1005, TcpFlags(0x14))),
            (0x01, b"abc", (0, 0x1004, TcpFlags(0x14))),
            (0x00, b"abc", (0, 0x1003, TcpFlags(0x14))),
            (0x10, b"abc", (0x2000, 0, TcpFlags(0x04))),
            (0x12, b"", (0x2000, 0, TcpFlags(0x04))),
        ] {
            for frame in [tcp_v4(flags, payload), tcp_v6(flags, payload)] {
                let asked = view(&frame);
                let answer = reset(&frame).unwrap();
                let view = view(&answer);
                let header = view.tcp(&answer).unwrap();
                let found = (header.sequence, header.acknowledgement, header.flags);
                assert_eq!(found, expected);
                assert_eq!(Some(view.key), asked.key.reversed());
                assert_eq!(
                    checksum::verify(&answer, &view),
                    checksum::ChecksumState::Valid
                );
                assert_eq!((header.window, header.payload_bytes), (0, 0));
                assert_eq!(source_mac(&answer), PORT_MAC);
                assert_eq!(destination_mac(&answer), source_mac(&frame));
            }
        }
        assert_eq!(reset(&tcp_v4(0x14, b"")), Err(NoReply::AboutReset));
        assert_eq!(reset(&udp_v4()), Err(NoReply::NotTcp));
        let fragment = Ipv4 {
            flags_and_offset: 0x2000,
            ..Ipv4::new(protocol::TCP)
        };
        let first = fragment.frame(&sample::tcp(0x02, &[1; 4], &[]));
        assert_eq!(reset(&first), Err(NoReply::AboutLaterFragment));
        assert_eq!(
            reset(&with(tcp_v4(0x02, b""), 0, &[0xff; 6])),
            Err(NoReply::AboutMulticast)
        );
    }

    #[test]
    fn the_limiter_bounds_burst_and_rate() {
        let mut limiter = ReplyLimiter::new(100, 50);
        let burst = |limiter: &mut ReplyLimiter, now_us| {
            std::iter::repeat_with(|| limiter.allow(now_us))
                .take_while(|&allowed| allowed)
                .count()
        };
        assert_eq!(burst(&mut limiter, 5), 50);
        assert_eq!(burst(&mut limiter, 5), 0);
        assert_eq!(burst(&mut limiter, 9_000), 0);
        assert_eq!(burst(&mut limiter, 10_005), 1);
        assert_eq!(burst(&mut limiter, 110_005), 10);
        // Never more than the burst, and time that goes back earns nothing.
        assert_eq!(burst(&mut limiter, 1_000_000_000), 50);
        assert_eq!(burst(&mut limiter, 0), 0);
        assert_eq!(burst(&mut limiter, 1_000_009_999), 0);
        assert_eq!(burst(&mut limiter, u64::MAX), 50);
        assert_eq!(burst(&mut ReplyLimiter::new(0, 0), u64::MAX), 0);
    }

    fn kinds() -> impl Strategy<Value = ErrorKind> {
        prop_oneof![
            Just(ErrorKind::TimeExceeded),
            Just(ErrorKind::NetworkUnreachable),
            Just(ErrorKind::AdministrativelyProhibited),
            any::<u32>().prop_map(|mtu_bytes| ErrorKind::PacketTooBig { mtu_bytes }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

        #[test]
        fn every_answer_is_well_formed_and_quotes_the_packet(
            frame in sample::well_formed(),
            kind in kinds(),
        ) {
            let asked = view(&frame);
            let Ok(answer) = error(&frame, kind) else {
                return Ok(());
            };
            let view = view(&answer);
            prop_assert!(view.is_icmp_error());
            prop_assert_eq!(view.key.destination, asked.key.source);
            prop_assert_eq!(checksum::verify(&answer, &view), checksum::ChecksumState::Valid);
            let quoted = parse_icmp_error(&answer, &view).unwrap();
            prop_assert_eq!(quoted.key, asked.key);
            prop_assert!(quoted.header_checksum_valid);
            prop_assert_eq!(view.vlan, asked.vlan);
            // An answer is never answered.
            prop_assert_eq!(error(&answer, kind), Err(NoReply::AboutIcmpError));
        }

        #[test]
        fn no_bytes_panic(frame in sample::mutated(), kind in kinds(), capacity in 0..300usize) {
            let Ok(Parsed::Ip(view)) = parse(&frame, &ParseOptions::default()) else {
                return Ok(());
            };
            let memory = Memory {
                capacity: capacity.max(frame.len()),
                bytes: frame,
            };
            let mut answer = memory.clone();
            let result = icmp_error(&mut answer, &view, kind, &replier(view.key.family));
            prop_assert_eq!(result.is_err(), answer == memory);
            let mut answer = memory.clone();
            let result = tcp_reset(&mut answer, &view, PORT_MAC);
            prop_assert_eq!(result.is_err(), answer == memory);
        }
    }
}
