use super::super::{Family, FlowKey, MacAddress, protocol};

/// What [`parse`](super::parse) made of a frame that is well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// IPv4 or IPv6.
    Ip(PacketView),
    /// ARP for IPv4 over Ethernet.
    Arp(ArpView),
}

/// Where things are in an IP packet, and everything the pipeline asks about its headers.
///
/// Offsets count from the start of the frame, and all lie inside the frame that was parsed:
/// `l3 < l4 <= packet_end <= frame length`. The view does not borrow the frame; who edits the frame
/// keeps the view in step (the functions of [`edit`](crate::wire::edit) do).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketView {
    /// Addresses, ports, protocol and zone. The zone is the (outer) VLAN id, 0 when untagged.
    pub key: FlowKey,
    /// End of the IP packet as its header states it; Ethernet padding begins here.
    pub packet_end: u32,
    /// Start of the IP header.
    pub l3: u16,
    /// Start of the upper-layer header, behind IPv4 options and IPv6 extension headers; in a later
    /// fragment, start of the fragment's data.
    pub l4: u16,
    /// IPv4: header with options. IPv6: the fixed 40; extension headers lie between it and `l4`.
    pub ip_header_bytes: u8,
    /// Length of the upper-layer header, TCP options included. 0 where unknown: in a later
    /// fragment, or for a protocol without ports other than ICMP.
    pub l4_header_bytes: u8,
    /// VLAN id of the outermost tag; `Some(0)` is a priority tag.
    pub vlan: Option<u16>,
    /// Number of VLAN tags, 0 to 2.
    pub vlan_count: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Flags of a TCP header; empty for everything else.
    pub tcp_flags: TcpFlags,
    /// IPv4: the DF bit. IPv6: always, since only the source fragments (RFC 8200 §4.5).
    pub dont_fragment: bool,
    /// A routing header that has segments left stands before the upper-layer header: `key`'s
    /// destination is a way-point, and a transport checksum covers another address.
    pub routing_segments_left: bool,
    /// `None` when the packet is whole.
    pub fragment: Option<Fragment>,
}

/// Fields of an IPv4 header, or of an IPv6 fragment header, that make a packet a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Shared by all fragments of a datagram; IPv4 uses the low 16 bits.
    pub identification: u32,
    /// Position of this fragment's data in the datagram, in bytes; a multiple of 8.
    pub offset_bytes: u16,
    /// More fragments follow this one.
    pub more: bool,
}

/// The flag byte of a TCP header (RFC 9293 §3.1). The accurate-ECN bit is not in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

/// Fields of a TCP header that a state machine asks about, in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpHeader {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number; means nothing without the ACK flag.
    pub acknowledgement: u32,
    /// Window, unscaled.
    pub window: u16,
    /// Flags.
    pub flags: TcpFlags,
    /// Bytes of payload in this packet; 0 in a first fragment says nothing of the segment.
    pub payload_bytes: u32,
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpView {
    /// Start of the ARP header.
    pub l3: u16,
    /// VLAN id of the outermost tag.
    pub vlan: Option<u16>,
    /// Number of VLAN tags, 0 to 2.
    pub vlan_count: u8,
    /// 1 is a request, 2 a reply; others are passed on as they are.
    pub operation: u16,
    /// Sender's link-layer address.
    pub sender_mac: MacAddress,
    /// Sender's address.
    pub sender: crate::wire::Address,
    /// Target's link-layer address.
    pub target_mac: MacAddress,
    /// Target's address.
    pub target: crate::wire::Address,
}

impl PacketView {
    /// IP version.
    #[inline]
    pub const fn family(&self) -> Family {
        self.key.family
    }

    /// Bytes of the IP packet, headers included.
    #[inline]
    pub const fn packet_bytes(&self) -> usize {
        self.packet_end as usize - self.l3 as usize
    }

    /// Where the upper layer's payload begins; `l4` where the header's length is unknown.
    #[inline]
    pub const fn payload(&self) -> usize {
        self.l4 as usize + self.l4_header_bytes as usize
    }

    /// A fragment other than the first: it holds no upper-layer header, and its ports are 0.
    #[inline]
    pub const fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Some(fragment) if fragment.is_later())
    }

    /// The first of several fragments: policy can judge it, but its payload goes on elsewhere.
    #[inline]
    pub const fn is_first_fragment(&self) -> bool {
        matches!(self.fragment, Some(fragment) if fragment.is_first())
    }

    /// ICMP or ICMPv6 type, of a packet that holds the header.
    #[inline]
    pub const fn icmp_type(&self) -> Option<u8> {
        if self.key.is_icmp() && !self.is_later_fragment() {
            Some((self.key.destination_port >> 8) as u8)
        } else {
            None
        }
    }

    /// ICMP or ICMPv6 code, of a packet that holds the header.
    #[inline]
    pub const fn icmp_code(&self) -> Option<u8> {
        match self.icmp_type() {
            Some(_) => Some(self.key.destination_port as u8),
            None => None,
        }
    }

    /// An ICMP message that reports about another packet and quotes it: ICMP types 3, 4, 5, 11 and
    /// 12 (RFC 1122 §3.2.2), ICMPv6 types below 128 (RFC 4443 §2.1).
    #[inline]
    pub const fn is_icmp_error(&self) -> bool {
        match (self.icmp_type(), self.key.family) {
            (Some(icmp_type), Family::V4) => protocol::icmp_is_error(icmp_type),
            (Some(icmp_type), Family::V6) => icmp_type < 128,
            (None, _) => false,
        }
    }

    /// Is the combination of TCP flags one that RFC 9293 knows? True for all other protocols.
    #[inline]
    pub const fn tcp_flags_valid(&self) -> bool {
        self.key.protocol != protocol::TCP || self.is_later_fragment() || self.tcp_flags.is_valid()
    }

    /// The TCP header, if this is TCP and `bytes` is the frame that was parsed.
    #[inline]
    pub fn tcp(&self, bytes: &[u8]) -> Option<TcpHeader> {
        if self.key.protocol != protocol::TCP || self.is_later_fragment() {
            return None;
        }
        let header = bytes.get(self.l4 as usize..)?.first_chunk::<20>()?;
        let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, ..] = *header;
        Some(TcpHeader {
            sequence: u32::from_be_bytes([s0, s1, s2, s3]),
            acknowledgement: u32::from_be_bytes([a0, a1, a2, a3]),
            window: u16::from_be_bytes([header[14], header[15]]),
            flags: self.tcp_flags,
            payload_bytes: self.packet_end.saturating_sub(self.payload() as u32),
        })
    }

    /// The options of a TCP header as raw bytes, if this is TCP and `bytes` is the frame that was
    /// parsed.
    #[inline]
    pub fn tcp_options<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        if self.key.protocol != protocol::TCP || self.is_later_fragment() {
            return None;
        }
        bytes.get(self.l4 as usize + 20..self.payload())
    }
}

impl Fragment {
    /// The fragment that holds the upper-layer header; others follow it.
    #[inline]
    pub const fn is_first(&self) -> bool {
        self.offset_bytes == 0 && self.more
    }

    /// A fragment other than the first.
    #[inline]
    pub const fn is_later(&self) -> bool {
        self.offset_bytes != 0
    }

    /// An IPv6 packet with a fragment header that is first and last at once: treated as whole,
    /// whatever other fragments with its identification there are (RFC 6946).
    #[inline]
    pub const fn is_atomic(&self) -> bool {
        self.offset_bytes == 0 && !self.more
    }
}

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Reset the connection.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Push.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgement number is significant.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer is significant.
    pub const URG: TcpFlags = TcpFlags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: TcpFlags = TcpFlags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: TcpFlags = TcpFlags(0x80);

    /// One bit for each combination of FIN, SYN, RST, ACK and URG (as their bits stand in the flag
    /// byte, PSH removed) that a connection can contain. Those are the combinations nf_conntrack
    /// accepts.
    const VALID: u64 = {
        let (fin, syn, rst, ack, urg) = (0x01u64, 0x02u64, 0x04u64, 0x10u64, 0x20u64);
        1 << syn
            | 1 << (syn | urg)
            | 1 << (syn | ack)
            | 1 << rst
            | 1 << (rst | ack)
            | 1 << (fin | ack)
            | 1 << (fin | ack | urg)
            | 1 << ack
            | 1 << (ack | urg)
    };

    /// All of `flags` set?
    #[inline]
    pub const fn contains(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Any of `flags` set?
    #[inline]
    pub const fn intersects(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 != 0
    }

    /// A combination that occurs in a connection; ECN bits and PSH never matter (RFC 3360).
    #[inline]
    pub const fn is_valid(self) -> bool {
        Self::VALID >> (self.0 & 0x37) & 1 != 0
    }
}

impl std::ops::BitOr for TcpFlags {
    type Output = TcpFlags;

    #[inline]
    fn bitor(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

impl std::fmt::Debug for TcpFlags {
    /// `SA` for SYN and ACK, `.` for none, in the order of the header's bits from the right.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write;
        if self.0 == 0 {
            return f.write_char('.');
        }
        for (bit, letter) in "FSRPAUEC".chars().enumerate() {
            if self.0 >> bit & 1 != 0 {
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}
