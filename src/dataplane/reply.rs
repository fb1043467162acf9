//! Answers to packets that are not forwarded: ICMP and ICMPv6 errors, TCP resets.
//!
//! An answer is built in the buffer of the frame it answers, and goes back out of the port that came
//! in on. Nothing is allocated.

use super::frame::FrameBuffer;
use crate::wire::{Address, MacAddress, PacketView};

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
    /// TCP: a reset is never answered, and only TCP is answered by one.
    #[error("a reset is not answered")]
    AboutReset,
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
pub fn icmp_error(
    frame: &mut impl FrameBuffer,
    view: &PacketView,
    kind: ErrorKind,
    replier: &Replier,
) -> Result<(), NoReply> {
    let _ = (frame, view, kind, replier);
    Err(NoReply::NoRoom)
}

/// Turns a TCP segment's frame into the reset that answers it (RFC 9293 §3.10.7.1).
pub fn tcp_reset(
    frame: &mut impl FrameBuffer,
    view: &PacketView,
    mac: MacAddress,
) -> Result<(), NoReply> {
    let _ = (frame, view, mac);
    Err(NoReply::NoRoom)
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
