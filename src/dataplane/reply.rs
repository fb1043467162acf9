//! Answers to packets that are not forwarded: ICMP and ICMPv6 errors, TCP resets.
//!
//! An answer is built in the buffer of the frame it answers, and goes back out of the port that came
//! in on. Nothing is allocated.

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
    /// It is a fragment other than the first.
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
/// The caller keeps from asking about packets to the broadcast addresses of attached networks, which
/// look like any other here unless the frame was broadcast too.
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
