use super::{Address, Family, FlowKey};

/// Why an address must never be forwarded (RFC 1122 §3.2.1.3, 1812 §5.3.7, 3927 §2.7, 4291 §2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Martian {
    /// Source in 0.0.0.0/8, or `::`.
    SourceUnspecified,
    /// Source in 127.0.0.0/8, or `::1`.
    SourceLoopback,
    /// Source in 169.254.0.0/16 or fe80::/10.
    SourceLinkLocal,
    /// Source in 224.0.0.0/4 or ff00::/8.
    SourceMulticast,
    /// Source in 240.0.0.0/4, the limited broadcast address included.
    SourceReserved,
    /// Source in ::ffff:0:0/96, which stands for an IPv4 address.
    SourceMapped,
    /// Destination in 0.0.0.0/8, or `::`.
    DestinationUnspecified,
    /// Destination in 127.0.0.0/8, or `::1`.
    DestinationLoopback,
    /// Destination in 169.254.0.0/16 or fe80::/10.
    DestinationLinkLocal,
    /// Destination in 240.0.0.0/4 other than the limited broadcast address.
    DestinationReserved,
    /// Destination in ::ffff:0:0/96.
    DestinationMapped,
    /// Source and destination are the same ("land").
    SourceIsDestination,
}

/// Whom a destination address means, as far as the address itself tells. The broadcast addresses of
/// attached networks look like unicast here: only routes know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DestinationKind {
    /// One host.
    Unicast,
    /// 224.0.0.0/4 or ff00::/8.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
}

/// Is there an address in the key with which a packet must never be forwarded?
///
/// Multicast and broadcast destinations are no martians; see [`destination_kind`]. Packets between
/// neighbours and the box itself (DHCP from 0.0.0.0, neighbour discovery from `::` or fe80::/10)
/// are martians here: ask this only about packets to be forwarded.
#[inline]
pub fn martian(key: &FlowKey) -> Option<Martian> {
    let found = match key.family {
        Family::V4 => martian_v4(key),
        Family::V6 => martian_v6(key),
    };
    if found.is_none() && key.source == key.destination {
        return Some(Martian::SourceIsDestination);
    }
    found
}

/// Whom the destination address means.
#[inline]
pub fn destination_kind(family: Family, destination: Address) -> DestinationKind {
    match family {
        Family::V4 if destination.to_v4_bits() == u32::MAX => DestinationKind::Broadcast,
        Family::V4 if destination.to_v4_bits() >> 28 == 0xe => DestinationKind::Multicast,
        Family::V6 if destination.halves()[0] >> 56 == 0xff => DestinationKind::Multicast,
        _ => DestinationKind::Unicast,
    }
}

#[inline]
fn martian_v4(key: &FlowKey) -> Option<Martian> {
    let source = key.source.to_v4_bits();
    let destination = key.destination.to_v4_bits();
    match source >> 24 {
        0 => return Some(Martian::SourceUnspecified),
        127 => return Some(Martian::SourceLoopback),
        169 if source >> 16 == 0xa9fe => return Some(Martian::SourceLinkLocal),
        224..=239 => return Some(Martian::SourceMulticast),
        240.. => return Some(Martian::SourceReserved),
        _ => {}
    }
    match destination >> 24 {
        0 => Some(Martian::DestinationUnspecified),
        127 => Some(Martian::DestinationLoopback),
        169 if destination >> 16 == 0xa9fe => Some(Martian::DestinationLinkLocal),
        240.. if destination != u32::MAX => Some(Martian::DestinationReserved),
        _ => None,
    }
}

#[inline]
fn martian_v6(key: &FlowKey) -> Option<Martian> {
    let [source_high, source_low] = key.source.halves();
    let [destination_high, destination_low] = key.destination.halves();
    match source_high {
        0 if source_low == 0 => return Some(Martian::SourceUnspecified),
        0 if source_low == 1 => return Some(Martian::SourceLoopback),
        0 if source_low >> 32 == 0xffff => return Some(Martian::SourceMapped),
        _ if source_high >> 56 == 0xff => return Some(Martian::SourceMulticast),
        _ if source_high >> 54 == 0xfe80 >> 6 => return Some(Martian::SourceLinkLocal),
        _ => {}
    }
    match destination_high {
        0 if destination_low == 0 => Some(Martian::DestinationUnspecified),
        0 if destination_low == 1 => Some(Martian::DestinationLoopback),
        0 if destination_low >> 32 == 0xffff => Some(Martian::DestinationMapped),
        _ if destination_high >> 54 == 0xfe80 >> 6 => Some(Martian::DestinationLinkLocal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn key(source: &str, destination: &str) -> FlowKey {
        let (family, source) = Address::from_ip(source.parse::<IpAddr>().unwrap());
        let (_, destination) = Address::from_ip(destination.parse::<IpAddr>().unwrap());
        FlowKey {
            source,
            destination,
            source_port: 1,
            destination_port: 2,
            zone: 0,
            protocol: 17,
            family,
        }
    }

    #[test]
    fn borders_of_the_forbidden_networks() {
        use Martian::*;
        let good = "198.18.0.1";
        for (source, destination, expected) in [
            ("0.0.0.0", good, Some(SourceUnspecified)),
            ("0.255.255.255", good, Some(SourceUnspecified)),
            ("1.0.0.0", good, None),
            ("126.255.255.255", good, None),
            ("127.0.0.1", good, Some(SourceLoopback)),
            ("128.0.0.0", good, None),
            ("169.253.255.255", good, None),
            ("169.254.0.0", good, Some(SourceLinkLocal)),
            ("169.254.255.255", good, Some(SourceLinkLocal)),
            ("169.255.0.0", good, None),
            ("223.255.255.255", good, None),
            ("224.0.0.0", good, Some(SourceMulticast)),
            ("239.255.255.255", good, Some(SourceMulticast)),
            ("240.0.0.0", good, Some(SourceReserved)),
            ("255.255.255.255", good, Some(SourceReserved)),
            (good, "0.0.0.0", Some(DestinationUnspecified)),
            (good, "127.255.255.255", Some(DestinationLoopback)),
            (good, "169.254.169.254", Some(DestinationLinkLocal)),
            (good, "224.0.0.1", None),
            (good, "239.255.255.255", None),
            (good, "240.0.0.0", Some(DestinationReserved)),
            (good, "255.255.255.254", Some(DestinationReserved)),
            (good, "255.255.255.255", None),
            (good, "10.0.0.1", None),
            (good, good, Some(SourceIsDestination)),
        ] {
            assert_eq!(
                martian(&key(source, destination)),
                expected,
                "{source} {destination}"
            );
        }
        let good = "2001:db8::1";
        for (source, destination, expected) in [
            ("::", good, Some(SourceUnspecified)),
            ("::1", good, Some(SourceLoopback)),
            ("::2", good, None),
            ("::ffff:198.18.0.1", good, Some(SourceMapped)),
            ("64:ff9b::1", good, None),
            ("fe7f::1", good, None),
            ("fe80::1", good, Some(SourceLinkLocal)),
            ("febf:ffff::1", good, Some(SourceLinkLocal)),
            ("fec0::1", good, None),
            ("fd00::1", good, None),
            ("ff02::1", good, Some(SourceMulticast)),
            (good, "::", Some(DestinationUnspecified)),
            (good, "::1", Some(DestinationLoopback)),
            (good, "::ffff:0:1", Some(DestinationMapped)),
            (good, "fe80::1", Some(DestinationLinkLocal)),
            (good, "ff02::1", None),
            (good, good, Some(SourceIsDestination)),
        ] {
            assert_eq!(
                martian(&key(source, destination)),
                expected,
                "{source} {destination}"
            );
        }
    }

    #[test]
    fn whom_destinations_mean() {
        for (destination, kind) in [
            ("224.0.0.0", DestinationKind::Multicast),
            ("239.255.255.255", DestinationKind::Multicast),
            ("240.0.0.0", DestinationKind::Unicast),
            ("255.255.255.255", DestinationKind::Broadcast),
            ("198.18.0.255", DestinationKind::Unicast),
            ("ff02::1", DestinationKind::Multicast),
            ("fe80::1", DestinationKind::Unicast),
        ] {
            let (family, address) = Address::from_ip(destination.parse().unwrap());
            assert_eq!(destination_kind(family, address), kind, "{destination}");
        }
    }
}
