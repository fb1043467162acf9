//! Numbers of the "Protocol Numbers", "ICMP Parameters" and "IEEE 802 Numbers" registries (IANA)
//! used here.

/// ICMP for IPv4 (RFC 792).
pub const ICMP: u8 = 1;
/// IGMP (RFC 3376).
pub const IGMP: u8 = 2;
/// TCP (RFC 9293).
pub const TCP: u8 = 6;
/// UDP (RFC 768).
pub const UDP: u8 = 17;
/// GRE (RFC 2784).
pub const GRE: u8 = 47;
/// ESP (RFC 4303).
pub const ESP: u8 = 50;
/// AH (RFC 4302).
pub const AH: u8 = 51;
/// ICMP for IPv6 (RFC 4443).
pub const ICMPV6: u8 = 58;
/// OSPF (RFC 2328).
pub const OSPF: u8 = 89;
/// VRRP (RFC 5798).
pub const VRRP: u8 = 112;
/// SCTP (RFC 9260).
pub const SCTP: u8 = 132;
/// UDP-Lite (RFC 3828).
pub const UDP_LITE: u8 = 136;
/// DCCP (RFC 4340).
pub const DCCP: u8 = 33;

/// IPv6 hop-by-hop options header (RFC 8200 §4.3).
pub const IPV6_HOP_BY_HOP: u8 = 0;
/// IPv6 routing header (RFC 8200 §4.4).
pub const IPV6_ROUTING: u8 = 43;
/// IPv6 fragment header (RFC 8200 §4.5).
pub const IPV6_FRAGMENT: u8 = 44;
/// IPv6 "no next header" (RFC 8200 §4.7).
pub const IPV6_NO_NEXT: u8 = 59;
/// IPv6 destination options header (RFC 8200 §4.6).
pub const IPV6_DESTINATION_OPTIONS: u8 = 60;
/// IPv6 mobility header (RFC 6275).
pub const IPV6_MOBILITY: u8 = 135;

/// IPv4 option: end of the list (RFC 791 §3.1).
pub const IPV4_OPTION_END: u8 = 0;
/// IPv4 option: no operation.
pub const IPV4_OPTION_NOP: u8 = 1;
/// IPv4 option: record route.
pub const IPV4_OPTION_RECORD_ROUTE: u8 = 7;
/// IPv4 option: time stamp.
pub const IPV4_OPTION_TIMESTAMP: u8 = 68;
/// IPv4 option: loose source route.
pub const IPV4_OPTION_LSRR: u8 = 131;
/// IPv4 option: strict source route.
pub const IPV4_OPTION_SSRR: u8 = 137;

/// IPv6 option: one byte of padding (RFC 8200 §4.2).
pub const IPV6_OPTION_PAD1: u8 = 0;
/// IPv6 option: two or more bytes of padding.
pub const IPV6_OPTION_PADN: u8 = 1;
/// IPv6 option: router alert (RFC 2711).
pub const IPV6_OPTION_ROUTER_ALERT: u8 = 5;
/// IPv6 option: jumbo payload (RFC 2675).
pub const IPV6_OPTION_JUMBO: u8 = 0xc2;

/// EtherType of IPv4.
pub const ETHER_IPV4: u16 = 0x0800;
/// EtherType of ARP (RFC 826).
pub const ETHER_ARP: u16 = 0x0806;
/// EtherType of an IEEE 802.1Q customer VLAN tag.
pub const ETHER_VLAN: u16 = 0x8100;
/// EtherType of an IEEE 802.1ad service VLAN tag.
pub const ETHER_QINQ: u16 = 0x88a8;
/// EtherType of IPv6.
pub const ETHER_IPV6: u16 = 0x86dd;

/// ICMP echo reply (RFC 792).
pub const ICMP_ECHO_REPLY: u8 = 0;
/// ICMP destination unreachable (RFC 792).
pub const ICMP_UNREACHABLE: u8 = 3;
/// ICMP source quench, deprecated (RFC 6633).
pub const ICMP_SOURCE_QUENCH: u8 = 4;
/// ICMP redirect (RFC 792).
pub const ICMP_REDIRECT: u8 = 5;
/// ICMP echo request (RFC 792).
pub const ICMP_ECHO: u8 = 8;
/// ICMP time exceeded (RFC 792).
pub const ICMP_TIME_EXCEEDED: u8 = 11;
/// ICMP parameter problem (RFC 792).
pub const ICMP_PARAMETER_PROBLEM: u8 = 12;
/// ICMP time stamp request (RFC 792).
pub const ICMP_TIMESTAMP: u8 = 13;
/// ICMP time stamp reply (RFC 792).
pub const ICMP_TIMESTAMP_REPLY: u8 = 14;
/// ICMP information request, deprecated (RFC 6918).
pub const ICMP_INFORMATION: u8 = 15;
/// ICMP information reply, deprecated (RFC 6918).
pub const ICMP_INFORMATION_REPLY: u8 = 16;
/// ICMP address mask request, deprecated (RFC 6918).
pub const ICMP_ADDRESS_MASK: u8 = 17;
/// ICMP address mask reply, deprecated (RFC 6918).
pub const ICMP_ADDRESS_MASK_REPLY: u8 = 18;

/// ICMPv6 destination unreachable (RFC 4443 §3.1).
pub const ICMPV6_UNREACHABLE: u8 = 1;
/// ICMPv6 packet too big (RFC 4443 §3.2).
pub const ICMPV6_PACKET_TOO_BIG: u8 = 2;
/// ICMPv6 time exceeded (RFC 4443 §3.3).
pub const ICMPV6_TIME_EXCEEDED: u8 = 3;
/// ICMPv6 parameter problem (RFC 4443 §3.4).
pub const ICMPV6_PARAMETER_PROBLEM: u8 = 4;
/// ICMPv6 echo request (RFC 4443 §4.1).
pub const ICMPV6_ECHO: u8 = 128;
/// ICMPv6 echo reply (RFC 4443 §4.2).
pub const ICMPV6_ECHO_REPLY: u8 = 129;
/// Multicast listener query (RFC 2710).
pub const ICMPV6_MLD_QUERY: u8 = 130;
/// Multicast listener report, version 1 (RFC 2710).
pub const ICMPV6_MLD_REPORT: u8 = 131;
/// Multicast listener done (RFC 2710).
pub const ICMPV6_MLD_DONE: u8 = 132;
/// Router solicitation (RFC 4861 §4.1).
pub const ICMPV6_ROUTER_SOLICITATION: u8 = 133;
/// Router advertisement (RFC 4861 §4.2).
pub const ICMPV6_ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation (RFC 4861 §4.3).
pub const ICMPV6_NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour advertisement (RFC 4861 §4.4).
pub const ICMPV6_NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Redirect (RFC 4861 §4.5).
pub const ICMPV6_REDIRECT: u8 = 137;
/// Node information query (RFC 4620).
pub const ICMPV6_NODE_INFORMATION: u8 = 139;
/// Node information reply (RFC 4620).
pub const ICMPV6_NODE_INFORMATION_REPLY: u8 = 140;
/// Multicast listener report, version 2 (RFC 3810).
pub const ICMPV6_MLD2_REPORT: u8 = 143;

/// Protocols whose header begins with source and destination port.
#[inline]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | UDP_LITE | SCTP | DCCP)
}

/// ICMP types that report about another packet, which they quote (RFC 1122 §3.2.2).
#[inline]
pub const fn icmp_is_error(icmp_type: u8) -> bool {
    matches!(
        icmp_type,
        ICMP_UNREACHABLE
            | ICMP_SOURCE_QUENCH
            | ICMP_REDIRECT
            | ICMP_TIME_EXCEEDED
            | ICMP_PARAMETER_PROBLEM
    )
}

/// Name used in messages and metrics: `tcp`, `udp`, or `ip47` for a protocol without a name here.
pub fn name(protocol: u8) -> std::borrow::Cow<'static, str> {
    match protocol {
        ICMP => "icmp".into(),
        IGMP => "igmp".into(),
        TCP => "tcp".into(),
        UDP => "udp".into(),
        ICMPV6 => "icmpv6".into(),
        SCTP => "sctp".into(),
        other => format!("ip{other}").into(),
    }
}
