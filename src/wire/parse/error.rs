/// Why a frame is not a well-formed packet. One variant for each distinct cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// Fewer than the 14 bytes of an Ethernet header, or a VLAN tag cut short.
    #[error("frame shorter than its Ethernet header")]
    EthernetTruncated,
    /// Neither IPv4, IPv6 nor ARP (an IEEE 802.3 length field counts as an unknown type).
    #[error("EtherType {0:#06x} is neither IPv4, IPv6 nor ARP")]
    UnknownEtherType(u16),
    /// More VLAN tags than [`ParseOptions::vlan_tags_max`](super::ParseOptions::vlan_tags_max).
    #[error("too many VLAN tags")]
    TooManyVlanTags,
    /// An ARP packet cut short.
    #[error("ARP packet cut short")]
    ArpTruncated,
    /// An ARP packet for other than IPv4 over Ethernet.
    #[error("ARP for other than IPv4 over Ethernet")]
    ArpNotIpv4,

    /// The frame ends inside the IPv4 header.
    #[error("frame ends inside the IPv4 header")]
    Ipv4Truncated,
    /// The version field is not 4.
    #[error("IPv4 version field is not 4")]
    Ipv4Version,
    /// The header length is below 5 words, or beyond the total length.
    #[error("IPv4 header length out of range")]
    Ipv4HeaderLength,
    /// The total length is below the header's, or beyond the frame.
    #[error("IPv4 total length out of range")]
    Ipv4TotalLength,
    /// The header checksum is wrong (RFC 1812 §5.2.2).
    #[error("IPv4 header checksum wrong")]
    Ipv4Checksum,
    /// An option's length or pointer is impossible, or an option stands twice.
    #[error("IPv4 option malformed")]
    Ipv4Options,
    /// Loose or strict source route (RFC 7126 §4.3, §4.4).
    #[error("IPv4 source route")]
    Ipv4SourceRoute,

    /// The frame ends inside the IPv6 header.
    #[error("frame ends inside the IPv6 header")]
    Ipv6Truncated,
    /// The version field is not 6.
    #[error("IPv6 version field is not 6")]
    Ipv6Version,
    /// The payload length goes beyond the frame.
    #[error("IPv6 payload length beyond the frame")]
    Ipv6PayloadLength,
    /// A jumbogram (RFC 2675).
    #[error("IPv6 jumbogram")]
    Ipv6Jumbogram,
    /// An extension header cut short by the end of the packet.
    #[error("IPv6 extension header cut short")]
    ExtensionTruncated,
    /// More extension headers, or more bytes of them, than the options allow.
    #[error("too many IPv6 extension headers")]
    ExtensionsTooLong,
    /// A hop-by-hop header that is not the first, or a second fragment header.
    #[error("IPv6 extension headers out of order")]
    ExtensionOrder,
    /// A hop-by-hop option that is malformed, or unknown and not to be skipped (RFC 8200 §4.2).
    #[error("IPv6 hop-by-hop option malformed or unknown")]
    HopByHopOption,
    /// A destination option that is malformed.
    #[error("IPv6 destination option malformed")]
    DestinationOption,
    /// A type 0 routing header (RFC 5095).
    #[error("IPv6 type 0 routing header")]
    RoutingHeaderType0,

    /// A fragment without data, or one that is not the last and whose length is no multiple of 8.
    #[error("fragment length out of range")]
    FragmentLength,
    /// A fragment that reaches beyond 65,535 bytes.
    #[error("fragment reaches beyond the longest datagram")]
    FragmentTooLong,
    /// A first fragment without the whole header chain, or a TCP fragment that begins inside the
    /// TCP header (RFC 1858, 3128, 7112).
    #[error("tiny fragment")]
    TinyFragment,

    /// The packet ends inside its upper-layer header.
    #[error("packet ends inside its upper-layer header")]
    TransportTruncated,
    /// TCP data offset below 5 words, or beyond the packet.
    #[error("TCP data offset out of range")]
    TcpDataOffset,
    /// UDP length below 8, or beyond the packet.
    #[error("UDP length out of range")]
    UdpLength,
    /// UDP-Lite checksum coverage between 1 and 7, or beyond the packet (RFC 3828 §3.1).
    #[error("UDP-Lite checksum coverage out of range")]
    UdpLiteCoverage,
    /// First SCTP chunk shorter than its header, or longer than the packet.
    #[error("SCTP chunk length out of range")]
    SctpChunk,
    /// DCCP data offset shorter than the header, or beyond the packet.
    #[error("DCCP data offset out of range")]
    DccpDataOffset,

    /// Asked for the quoted packet of what is no ICMP error.
    #[error("not an ICMP error")]
    NotIcmpError,
}
