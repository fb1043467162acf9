use std::fmt;

use super::{Address, Family, protocol};

/// What identifies one direction of a flow, and what policy is asked about.
///
/// Ports by protocol, as Linux' conntrack tuples have them:
/// - TCP, UDP, UDP-Lite, SCTP, DCCP: the header's ports;
/// - ICMP and ICMPv6: `source_port` is the identifier of a query (0 for other messages),
///   `destination_port` is `type << 8 | code`. A rule about ICMP types is therefore a rule about a
///   range of destination ports;
/// - every other protocol: both 0.
///
/// `zone` separates overlapping address spaces (VLAN id, or an attachment of a secondary network);
/// 0 is the untagged primary network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, or ICMP identifier.
    pub source_port: u16,
    /// Destination port, or ICMP type and code.
    pub destination_port: u16,
    /// Separates overlapping address spaces; 0 unless tagged.
    pub zone: u16,
    /// IP protocol number of the upper-layer header (after IPv6 extension headers).
    pub protocol: u8,
    /// IP version, shared by both addresses.
    pub family: Family,
}

impl FlowKey {
    /// `type << 8 | code`, as [`FlowKey::destination_port`] holds it for ICMP and ICMPv6.
    #[inline]
    pub const fn icmp_port(icmp_type: u8, code: u8) -> u16 {
        (icmp_type as u16) << 8 | code as u16
    }

    /// Is this ICMP (over IPv4) or ICMPv6 (over IPv6)?
    ///
    /// ICMP over IPv6 and ICMPv6 over IPv4 are other protocols without ports.
    #[inline]
    pub const fn is_icmp(&self) -> bool {
        matches!(
            (self.family, self.protocol),
            (Family::V4, protocol::ICMP) | (Family::V6, protocol::ICMPV6)
        )
    }

    /// The key of the opposite direction, or `None` for an ICMP message that has no reply.
    #[inline]
    pub fn reversed(&self) -> Option<FlowKey> {
        let (source_port, destination_port) = if self.is_icmp() {
            let icmp_type = (self.destination_port >> 8) as u8;
            let reply = match self.family {
                Family::V4 => icmp_reply_type(icmp_type)?,
                Family::V6 => icmpv6_reply_type(icmp_type)?,
            };
            (
                self.source_port,
                (self.destination_port & 0xff) | (reply as u16) << 8,
            )
        } else {
            (self.destination_port, self.source_port)
        };
        Some(FlowKey {
            source: self.destination,
            destination: self.source,
            source_port,
            destination_port,
            ..*self
        })
    }
}

/// The type that answers an ICMP query (and the query that a reply answers).
#[inline]
pub(super) const fn icmp_reply_type(icmp_type: u8) -> Option<u8> {
    Some(match icmp_type {
        protocol::ICMP_ECHO => protocol::ICMP_ECHO_REPLY,
        protocol::ICMP_ECHO_REPLY => protocol::ICMP_ECHO,
        protocol::ICMP_TIMESTAMP => protocol::ICMP_TIMESTAMP_REPLY,
        protocol::ICMP_TIMESTAMP_REPLY => protocol::ICMP_TIMESTAMP,
        protocol::ICMP_INFORMATION => protocol::ICMP_INFORMATION_REPLY,
        protocol::ICMP_INFORMATION_REPLY => protocol::ICMP_INFORMATION,
        protocol::ICMP_ADDRESS_MASK => protocol::ICMP_ADDRESS_MASK_REPLY,
        protocol::ICMP_ADDRESS_MASK_REPLY => protocol::ICMP_ADDRESS_MASK,
        _ => return None,
    })
}

/// The type that answers an ICMPv6 query (and the query that a reply answers).
#[inline]
pub(super) const fn icmpv6_reply_type(icmp_type: u8) -> Option<u8> {
    Some(match icmp_type {
        protocol::ICMPV6_ECHO => protocol::ICMPV6_ECHO_REPLY,
        protocol::ICMPV6_ECHO_REPLY => protocol::ICMPV6_ECHO,
        protocol::ICMPV6_NODE_INFORMATION => protocol::ICMPV6_NODE_INFORMATION_REPLY,
        protocol::ICMPV6_NODE_INFORMATION_REPLY => protocol::ICMPV6_NODE_INFORMATION,
        _ => return None,
    })
}

impl fmt::Display for FlowKey {
    /// `tcp 198.18.0.1:40000 > 198.18.1.1:80`, `icmp 198.18.0.1 > 198.18.1.1 type 8 code 0 id 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = protocol::name(self.protocol);
        let source = self.source.to_ip(self.family);
        let destination = self.destination.to_ip(self.family);
        if self.is_icmp() {
            let (icmp_type, code) = (self.destination_port >> 8, self.destination_port & 0xff);
            return write!(
                f,
                "{name} {source} > {destination} type {icmp_type} code {code} id {}",
                self.source_port
            );
        }
        let bracket = |ip: std::net::IpAddr| match ip {
            std::net::IpAddr::V4(v4) => v4.to_string(),
            std::net::IpAddr::V6(v6) => format!("[{v6}]"),
        };
        write!(
            f,
            "{name} {}:{} > {}:{}",
            bracket(source),
            self.source_port,
            bracket(destination),
            self.destination_port
        )
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        if self.zone != 0 {
            write!(f, " zone {}", self.zone)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(family: Family, protocol: u8, source_port: u16, destination_port: u16) -> FlowKey {
        FlowKey {
            source: Address::from_bits(1),
            destination: Address::from_bits(2),
            source_port,
            destination_port,
            zone: 7,
            protocol,
            family,
        }
    }

    #[test]
    fn a_key_is_forty_bytes() {
        assert_eq!(size_of::<FlowKey>(), 40);
    }

    #[test]
    fn reversing_swaps_ends_and_keeps_the_zone() {
        let reply = key(Family::V4, protocol::TCP, 1000, 80).reversed().unwrap();
        assert_eq!(
            (reply.source_port, reply.destination_port, reply.zone),
            (80, 1000, 7)
        );
        assert_eq!(
            (reply.source, reply.destination),
            (Address::from_bits(2), Address::from_bits(1))
        );
    }

    #[test]
    fn reversing_an_echo_request_gives_the_reply_with_its_identifier() {
        let echo = key(Family::V4, protocol::ICMP, 99, FlowKey::icmp_port(8, 0));
        let reply = echo.reversed().unwrap();
        assert_eq!(
            (reply.source_port, reply.destination_port),
            (99, FlowKey::icmp_port(0, 0))
        );
        assert_eq!(reply.reversed(), Some(echo));
        let echo = key(Family::V6, protocol::ICMPV6, 99, FlowKey::icmp_port(128, 0));
        assert_eq!(
            echo.reversed().unwrap().destination_port,
            FlowKey::icmp_port(129, 0)
        );
    }

    #[test]
    fn an_icmp_error_has_no_reverse() {
        assert_eq!(
            key(Family::V4, protocol::ICMP, 0, FlowKey::icmp_port(3, 1)).reversed(),
            None
        );
        // Type 8 is no query in ICMPv6.
        assert_eq!(
            key(Family::V6, protocol::ICMPV6, 0, FlowKey::icmp_port(8, 0)).reversed(),
            None
        );
    }
}
