//! Changes to a parsed frame in place, its checksums and its [`PacketView`] kept right.
//!
//! No function here reads the payload: checksums are updated incrementally (RFC 1624). All take the
//! frame the view was parsed from; with another one they change nothing, or the wrong bytes, but
//! never panic.

use super::checksum::{self, ChecksumState};
use super::{Address, Family, FlowKey, InnerPacket, MacAddress, PacketView, protocol};

/// New addresses and ports of a packet; `None` keeps what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// Source address, of the packet's family.
    pub source: Option<Address>,
    /// Destination address, of the packet's family.
    pub destination: Option<Address>,
    /// Source port; identifier of an ICMP query.
    pub source_port: Option<u16>,
    /// Destination port; ignored for ICMP.
    pub destination_port: Option<u16>,
}

/// Sets both Ethernet addresses.
#[inline]
pub fn set_macs(bytes: &mut [u8], destination: MacAddress, source: MacAddress) {
    if let Some(header) = bytes.first_chunk_mut::<12>() {
        header[..6].copy_from_slice(&destination.0);
        header[6..].copy_from_slice(&source.0);
    }
}

/// Takes one from TTL or hop limit. Returns false, and changes nothing, when it would become 0
/// (RFC 1812 §5.3.1, 8200 §3).
#[inline]
pub fn decrement_ttl(bytes: &mut [u8], view: &mut PacketView) -> bool {
    if view.ttl <= 1 {
        return false;
    }
    let Some(ip) = bytes.get_mut(view.l3 as usize..) else {
        return false;
    };
    match view.key.family {
        Family::V4 => {
            let Some(header) = ip.first_chunk_mut::<20>() else {
                return false;
            };
            let old = u16::from_be_bytes([header[8], header[9]]);
            header[8] -= 1;
            let field = u16::from_be_bytes([header[10], header[11]]);
            let field = checksum::update(field, old, old - 0x100);
            header[10..12].copy_from_slice(&field.to_be_bytes());
        }
        Family::V6 => match ip.get_mut(7) {
            Some(hop_limit) => *hop_limit -= 1,
            None => return false,
        },
    }
    view.ttl -= 1;
    true
}

/// Replaces addresses and ports, and brings IP header checksum, transport checksum and `view.key`
/// in step.
///
/// A partial checksum stays partial (only the pseudo-header's part of it changes), an absent one
/// absent; a wrong one stays wrong. Whoever sends the frame completes it afterwards
/// ([`checksum::complete`]), also if it did not look partial before. A later fragment has no ports
/// to replace. SCTP's checksum is no sum: when a port changes it is computed anew, which alone
/// reads the payload.
pub fn rewrite(bytes: &mut [u8], view: &mut PacketView, rewrite: &Rewrite) {
    let state = checksum::detect(bytes, view);
    let Some(packet) = bytes.get_mut(view.l3 as usize..view.packet_end as usize) else {
        return;
    };
    let l4 = (view.l4 - view.l3) as usize;
    let old_key = view.key;
    let Some(mut change) = replace_addresses(packet, old_key.family, rewrite) else {
        return;
    };
    view.key.source = rewrite.source.unwrap_or(old_key.source);
    view.key.destination = rewrite.destination.unwrap_or(old_key.destination);
    if view.is_later_fragment() {
        return;
    }
    let Some(upper) = packet.get_mut(l4..) else {
        return;
    };
    if view.routing_segments_left && rewrite.destination.is_some() {
        // The transport checksum covers the last way-point, which is not what was replaced.
        change = Change::of_address(old_key.source, view.key.source);
    }
    if !has_pseudo_header(old_key.family, old_key.protocol) {
        change = Change::NONE;
    }
    change.also(replace_ports(upper, &mut view.key, rewrite));
    let ports_changed = (old_key.source_port, old_key.destination_port)
        != (view.key.source_port, view.key.destination_port);
    match state {
        ChecksumState::Absent => {}
        ChecksumState::Partial if view.key.protocol == protocol::SCTP => {}
        ChecksumState::Partial => {
            let addresses = Change::of_address(old_key.source, view.key.source).and(
                Change::of_address(old_key.destination, view.key.destination),
            );
            apply(upper, &view.key, |field| addresses.add_to_sum(field));
        }
        _ if view.key.protocol == protocol::SCTP => {
            if ports_changed {
                checksum::fill(bytes, view);
            }
        }
        _ => apply(upper, &view.key, |field| {
            let field = change.update(field);
            let never_zero = matches!(old_key.protocol, protocol::UDP | protocol::UDP_LITE);
            if field == 0 && never_zero {
                0xffff
            } else {
                field
            }
        }),
    }
}

/// Replaces addresses and ports of the packet that an ICMP error quotes, and brings the quoted
/// checksums, the error's own checksum and `inner.key` in step.
///
/// A quoted transport checksum is right afterwards if it was before, unless the quote ends within
/// it; nobody verifies it (RFC 5508 REQ-3b), and SCTP's is left alone.
///
/// The error's own addresses are changed with [`rewrite`], before or after.
pub fn rewrite_quoted(
    bytes: &mut [u8],
    view: &PacketView,
    inner: &mut InnerPacket,
    rewrite: &Rewrite,
) {
    let (Some(icmp), true) = (
        bytes.get_mut(view.l4 as usize..inner.quote_end as usize),
        view.is_icmp_error() && inner.l3 >= view.l4 + 8,
    ) else {
        return;
    };
    let (header, quote) = icmp.split_at_mut((inner.l3 - view.l4) as usize);
    let l4 = (inner.l4 - inner.l3) as usize;
    // Everything that changes lies in the quoted headers.
    let touched_bytes = quote.len().min(l4 + 20);
    let before = checksum::sum(&quote[..touched_bytes]);
    let old_key = inner.key;
    let Some(mut change) = replace_addresses(quote, old_key.family, rewrite) else {
        return;
    };
    inner.key.source = rewrite.source.unwrap_or(old_key.source);
    inner.key.destination = rewrite.destination.unwrap_or(old_key.destination);
    let later = inner.fragment.is_some_and(|fragment| fragment.is_later());
    if let (Some(upper), false) = (quote.get_mut(l4..), later) {
        if !has_pseudo_header(old_key.family, old_key.protocol) {
            change = Change::NONE;
        }
        change.also(replace_ports(upper, &mut inner.key, rewrite));
        apply(upper, &inner.key, |field| match old_key.protocol {
            protocol::UDP | protocol::UDP_LITE if field == 0 => 0,
            protocol::UDP | protocol::UDP_LITE => match change.update(field) {
                0 => 0xffff,
                field => field,
            },
            _ => change.update(field),
        });
    }
    let after = checksum::sum(&quote[..touched_bytes]);
    if let Some(field) = header.get_mut(2..4) {
        let value = checksum::update(u16::from_be_bytes([field[0], field[1]]), before, after);
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Replaces the id in the outermost VLAN tag; priority bits stay. Returns false when there is no
/// tag. The zone of `view.key` stays: it says where the packet came from.
pub fn set_vlan(bytes: &mut [u8], view: &mut PacketView, vlan: u16) -> bool {
    let Some(tag) = bytes.get_mut(14..16).filter(|_| view.vlan_count > 0) else {
        return false;
    };
    tag[0] = tag[0] & 0xf0 | (vlan >> 8) as u8 & 0x0f;
    tag[1] = vlan as u8;
    view.vlan = Some(vlan & 0x0fff);
    true
}

/// Inserts an outermost VLAN tag. The caller has made the frame 4 bytes longer before; what these
/// hold does not matter. Returns false, and changes nothing, when the frame is too short or has two
/// tags. Moves the whole packet by 4 bytes.
pub fn push_vlan(bytes: &mut [u8], view: &mut PacketView, vlan: u16) -> bool {
    let old_bytes = bytes.len().saturating_sub(4);
    if old_bytes < view.packet_end as usize || old_bytes < 14 || view.vlan_count >= 2 {
        return false;
    }
    bytes.copy_within(12..old_bytes, 16);
    bytes[12..14].copy_from_slice(&protocol::ETHER_VLAN.to_be_bytes());
    bytes[14..16].copy_from_slice(&(vlan & 0x0fff).to_be_bytes());
    view.vlan = Some(vlan & 0x0fff);
    view.vlan_count += 1;
    view.l3 += 4;
    view.l4 += 4;
    view.packet_end += 4;
    true
}

/// Removes the outermost VLAN tag. The caller makes the frame 4 bytes shorter afterwards. Returns
/// false, and changes nothing, when there is no tag. Moves the whole packet by 4 bytes.
pub fn pop_vlan(bytes: &mut [u8], view: &mut PacketView) -> bool {
    if view.vlan_count == 0 || bytes.len() < 18 || view.l3 < 18 {
        return false;
    }
    bytes.copy_within(16.., 12);
    view.vlan_count -= 1;
    view.vlan = (view.vlan_count > 0).then(|| u16::from_be_bytes([bytes[14], bytes[15]]) & 0x0fff);
    view.l3 -= 4;
    view.l4 -= 4;
    view.packet_end -= 4;
    true
}

/// Folded sums of replaced words, before and after.
#[derive(Debug, Clone, Copy)]
struct Change {
    old: u16,
    new: u16,
}

impl Change {
    const NONE: Change = Change { old: 0, new: 0 };

    #[inline]
    fn of_address(old: Address, new: Address) -> Change {
        Change {
            old: checksum::address_sum(old),
            new: checksum::address_sum(new),
        }
    }

    #[inline]
    fn and(self, other: Change) -> Change {
        Change {
            old: checksum::add(self.old, other.old),
            new: checksum::add(self.new, other.new),
        }
    }

    #[inline]
    fn also(&mut self, other: Change) {
        *self = self.and(other);
    }

    /// A complete checksum field after the change.
    #[inline]
    fn update(self, field: u16) -> u16 {
        checksum::update(field, self.old, self.new)
    }

    /// A plain folded sum after the change. Never 0, like the sum of any pseudo-header.
    #[inline]
    fn add_to_sum(self, sum: u16) -> u16 {
        match checksum::add(checksum::add(sum, !self.old), self.new) {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// Writes the addresses of an IP header, and its checksum. `None` when `packet` is too short.
#[inline]
fn replace_addresses(packet: &mut [u8], family: Family, rewrite: &Rewrite) -> Option<Change> {
    let mut change = Change::NONE;
    match family {
        Family::V4 => {
            let header = packet.first_chunk_mut::<20>()?;
            for (at, new) in [(12, rewrite.source), (16, rewrite.destination)] {
                let Some(new) = new else { continue };
                let field = &mut header[at..at + 4];
                let old = checksum::sum(field);
                field.copy_from_slice(&new.to_v4_bits().to_be_bytes());
                let new = checksum::sum(field);
                change.also(Change { old, new });
            }
            let field = change.update(u16::from_be_bytes([header[10], header[11]]));
            header[10..12].copy_from_slice(&field.to_be_bytes());
        }
        Family::V6 => {
            let header = packet.first_chunk_mut::<40>()?;
            for (at, new) in [(8, rewrite.source), (24, rewrite.destination)] {
                let Some(new) = new else { continue };
                let field = &mut header[at..at + 16];
                let old = checksum::sum(field);
                field.copy_from_slice(&new.to_bits().to_be_bytes());
                let new = checksum::sum(field);
                change.also(Change { old, new });
            }
        }
    }
    Some(change)
}

/// Writes ports, or the identifier of an ICMP query, of a protocol that has them.
#[inline]
fn replace_ports(upper: &mut [u8], key: &mut FlowKey, rewrite: &Rewrite) -> Change {
    let mut change = Change::NONE;
    let mut replace = |at: usize, port: &mut u16, new: Option<u16>| {
        if let (Some(new), Some(field)) = (new, upper.get_mut(at..at + 2)) {
            field.copy_from_slice(&new.to_be_bytes());
            let old = std::mem::replace(port, new);
            change.also(Change { old, new });
        }
    };
    if key.is_icmp() {
        if key.reversed().is_some() {
            replace(4, &mut key.source_port, rewrite.source_port);
        }
    } else if protocol::has_ports(key.protocol) {
        replace(0, &mut key.source_port, rewrite.source_port);
        replace(2, &mut key.destination_port, rewrite.destination_port);
    }
    change
}

/// Passes the transport checksum field, where there is one, through `change`.
#[inline]
fn apply(upper: &mut [u8], key: &FlowKey, change: impl FnOnce(u16) -> u16) {
    let at = checksum::field_offset(key.family, key.protocol);
    if let Some(field) = at.and_then(|at| upper.get_mut(at..at + 2)) {
        let value = change(u16::from_be_bytes([field[0], field[1]]));
        field.copy_from_slice(&value.to_be_bytes());
    }
}

#[inline]
const fn has_pseudo_header(family: Family, number: u8) -> bool {
    !matches!((family, number), (Family::V4, protocol::ICMP))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::{self, Ipv4, ethernet, ipv6_frame, view};
    use super::super::{ParseOptions, Parsed, parse, parse_icmp_error};
    use super::*;

    fn rewrites(family: Family) -> impl Strategy<Value = Rewrite> {
        let address = any::<u128>().prop_map(move |bits| {
            Address::from_bits(match family {
                Family::V4 => bits & 0xffff_ffff,
                Family::V6 => bits,
            })
        });
        let ends = (
            proptest::option::of(address.clone()),
            proptest::option::of(address),
        );
        (ends, any::<Option<u16>>(), any::<Option<u16>>()).prop_map(|(ends, from, to)| Rewrite {
            source: ends.0,
            destination: ends.1,
            source_port: from,
            destination_port: to,
        })
    }

    fn frames_and_rewrites() -> impl Strategy<Value = (Vec<u8>, Rewrite)> {
        sample::well_formed().prop_flat_map(|frame| {
            let family = view(&frame).key.family;
            (Just(frame), rewrites(family))
        })
    }

    /// The frame after the slow obvious way: write the fields, compute all checksums anew.
    fn rewritten_slowly(mut frame: Vec<u8>, rewrite: &Rewrite) -> Vec<u8> {
        let view = view(&frame);
        let l3 = view.l3 as usize;
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        for (new, v4_at, v6_at) in [(rewrite.source, 12, 8), (rewrite.destination, 16, 24)] {
            match (new, view.key.family) {
                (None, _) => {}
                (Some(new), Family::V4) => put(l3 + v4_at, &new.to_v4_bits().to_be_bytes()),
                (Some(new), Family::V6) => put(l3 + v6_at, &new.to_bits().to_be_bytes()),
            }
        }
        let l4 = view.l4 as usize;
        let query = view.key.is_icmp() && view.key.reversed().is_some();
        for (new, at, icmp_at) in [
            (rewrite.source_port, 0, Some(4)),
            (rewrite.destination_port, 2, None),
        ] {
            let Some(new) = new else { continue };
            if protocol::has_ports(view.key.protocol) {
                put(l4 + at, &new.to_be_bytes());
            } else if let (true, Some(at)) = (query, icmp_at) {
                put(l4 + at, &new.to_be_bytes());
            }
        }
        sample::repair_ipv4_checksum(&mut frame);
        sample::filled(frame)
    }

    fn key_of(frame: &[u8]) -> FlowKey {
        view(frame).key
    }

    #[test]
    fn ttl_runs_out() {
        for frame in [
            Ipv4::new(protocol::UDP).frame(&sample::udp(b"x")),
            ipv6_frame(protocol::UDP, &sample::udp(b"x")),
        ] {
            let mut frame = frame;
            let mut view = view(&frame);
            for ttl in (1..64).rev() {
                assert!(decrement_ttl(&mut frame, &mut view));
                assert_eq!(view.ttl, ttl);
                // The parser refuses a wrong header checksum.
                assert_eq!(super::super::sample::view(&frame), view);
            }
            let before = frame.clone();
            assert!(!decrement_ttl(&mut frame, &mut view));
            assert_eq!((frame, view.ttl), (before, 1));
        }
    }

    #[test]
    fn a_udp_checksum_never_becomes_zero() {
        let frame = sample::filled(Ipv4::new(protocol::UDP).frame(&sample::udp(b"abcd")));
        let rewrite_to = |port| Rewrite {
            source_port: Some(port),
            ..Rewrite::default()
        };
        let ones = [0xff, 0xff];
        let port = (0..=u16::MAX)
            .find(|&port| rewritten_slowly(frame.clone(), &rewrite_to(port))[40..42] == ones)
            .expect("one port in 65,536 leads there");
        let mut fast = frame.clone();
        rewrite(&mut fast, &mut view(&frame), &rewrite_to(port));
        assert_eq!(fast[40..42], ones);
        let mut error = Ipv4::new(protocol::ICMP).frame(&sample::icmp(3, 3, &frame[14..]));
        let outer = view(&error);
        let mut quoted = parse_icmp_error(&error, &outer).unwrap();
        rewrite_quoted(&mut error, &outer, &mut quoted, &rewrite_to(port));
        assert_eq!(error[42..], fast[14..]);
    }

    #[test]
    fn fragments_are_rewritten() {
        let rewrite = Rewrite {
            source: Some(Address::from_v4_bytes([203, 0, 113, 9])),
            source_port: Some(1),
            ..Rewrite::default()
        };
        // Whole, then cut into two fragments, both rewritten: together they are valid again.
        let segment = sample::tcp(0x10, &[], &[7; 44]);
        let whole = sample::filled(Ipv4::new(protocol::TCP).frame(&segment));
        let data = &whole[34..];
        let fragment = |flags_and_offset, data: &[u8]| {
            let header = Ipv4 {
                flags_and_offset,
                ..Ipv4::new(protocol::TCP)
            };
            let mut frame = header.frame(data);
            let mut view = view(&frame);
            super::rewrite(&mut frame, &mut view, &rewrite);
            assert_eq!(view, sample::view(&frame));
            frame
        };
        let first = fragment(0x2000, &data[..32]);
        let later = fragment(4, &data[32..]);
        let header = Ipv4 {
            source: [203, 0, 113, 9],
            ..Ipv4::new(protocol::TCP)
        };
        let joined = header.frame(&[&first[34..], &later[34..]].concat());
        assert_eq!(joined, rewritten_slowly(whole, &rewrite));
    }

    #[test]
    fn a_way_point_is_not_in_the_transport_checksum() {
        let routing = [protocol::UDP, 0, 2, 1, 0, 0, 0, 0];
        let payload = [&routing, sample::udp(b"abcd").as_slice()].concat();
        let mut frame = ipv6_frame(protocol::IPV6_ROUTING, &payload);
        frame[14 + 48 + 6] = 1;
        let mut view = view(&frame);
        let rewrite = Rewrite {
            destination: Some(Address::from_bits(5)),
            ..Rewrite::default()
        };
        super::rewrite(&mut frame, &mut view, &rewrite);
        assert_eq!(view.key.destination, Address::from_bits(5));
        assert_eq!(frame[14 + 48 + 6..14 + 48 + 8], [1, 0]);
    }

    #[test]
    fn tags_come_and_go() {
        let packet = Ipv4::new(protocol::UDP).packet(&sample::udp(b"abcd"));
        let plain = ethernet(&[], protocol::ETHER_IPV4, &packet);
        let mut frame = plain.clone();
        let mut view = view(&frame);
        let mut length = frame.len();
        for vlan in [100, 200] {
            length += 4;
            frame.resize(length, 0xee);
            assert!(push_vlan(&mut frame, &mut view, vlan));
        }
        assert_eq!(frame, ethernet(&[200, 100], protocol::ETHER_IPV4, &packet));
        frame.extend([0; 4]);
        assert!(!push_vlan(&mut frame, &mut view, 300));
        frame.truncate(length);
        assert!(set_vlan(&mut frame, &mut view, 0xf00d));
        assert_eq!((view.vlan, view.vlan_count, view.l3), (Some(0x00d), 2, 22));
        // The zone says where the packet came from.
        assert_eq!(view.key.zone, 0);
        for (vlan, vlan_count) in [(Some(100), 1), (None, 0)] {
            assert!(pop_vlan(&mut frame, &mut view));
            frame.truncate(frame.len() - 4);
            assert_eq!((view.vlan, view.vlan_count), (vlan, vlan_count));
        }
        assert_eq!(frame, plain);
        assert_eq!(view, sample::view(&frame));
        assert!(!pop_vlan(&mut frame, &mut view) && !set_vlan(&mut frame, &mut view, 5));
    }

    #[test]
    fn priority_bits_of_a_tag_stay() {
        let packet = Ipv4::new(protocol::UDP).packet(&sample::udp(b"abcd"));
        let mut frame = ethernet(&[0xb123], protocol::ETHER_IPV4, &packet);
        let mut view = view(&frame);
        assert!(set_vlan(&mut frame, &mut view, 0x456));
        assert_eq!(frame[14..16], [0xb4, 0x56]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

        #[test]
        fn incremental_rewrites_equal_full_ones((frame, rewrite) in frames_and_rewrites()) {
            let mut fast = frame.clone();
            let mut fast_view = view(&fast);
            super::rewrite(&mut fast, &mut fast_view, &rewrite);
            // One in 65,536 looked partial and was treated so.
            checksum::complete(&mut fast, &fast_view);
            let slow = rewritten_slowly(frame, &rewrite);
            prop_assert_eq!(&fast, &slow);
            prop_assert_eq!(fast_view, view(&slow));
        }

        #[test]
        fn partial_checksums_stay_partial((frame, rewrite) in frames_and_rewrites()) {
            let mut view = view(&frame);
            if !matches!(view.key.protocol, protocol::TCP | protocol::UDP) {
                return Ok(());
            }
            let slow = rewritten_slowly(frame.clone(), &rewrite);
            let mut frame = sample::partial(frame);
            super::rewrite(&mut frame, &mut view, &rewrite);
            prop_assert_eq!(checksum::detect(&frame, &view), ChecksumState::Partial);
            prop_assert!(checksum::complete(&mut frame, &view));
            prop_assert_eq!(frame, slow);
        }

        #[test]
        fn an_absent_checksum_stays_absent(rewrite in rewrites(Family::V4)) {
            let mut frame = Ipv4::new(protocol::UDP).frame(&sample::udp(b"abc"));
            let mut view = view(&frame);
            super::rewrite(&mut frame, &mut view, &rewrite);
            prop_assert_eq!(checksum::detect(&frame, &view), ChecksumState::Absent);
            prop_assert_eq!(key_of(&frame), view.key);
        }

        #[test]
        fn quoted_packets_are_rewritten(
            (inner, rewrite) in frames_and_rewrites(),
            words in 0..100usize,
        ) {
            let inner_view = view(&inner);
            let family = inner_view.key.family;
            if inner_view.vlan_count > 0 || inner_view.key.protocol == protocol::SCTP {
                // SCTP's checksum in a quote cannot be brought in step.
                return Ok(());
            }
            let slow = rewritten_slowly(inner.clone(), &rewrite);
            let least = inner_view.l4 as usize + 8;
            // Half a checksum field cannot be brought in step.
            let end = (least + words * 2).min(inner_view.packet_end as usize).max(14);
            let error_about = |quote: &[u8]| sample::filled(match family {
                Family::V4 => Ipv4::new(protocol::ICMP).frame(&sample::icmp(3, 1, quote)),
                Family::V6 => ipv6_frame(protocol::ICMPV6, &sample::icmp(1, 4, quote)),
            });
            let mut frame = error_about(&inner[14..end]);
            let outer = view(&frame);
            let Ok(mut quoted) = parse_icmp_error(&frame, &outer) else {
                prop_assert!(end < least);
                return Ok(());
            };
            prop_assert_eq!(quoted.key, inner_view.key);
            rewrite_quoted(&mut frame, &outer, &mut quoted, &rewrite);
            // A quote may end before its checksum field, which then cannot differ.
            prop_assert_eq!(&frame, &error_about(&slow[14..end]));
            prop_assert_eq!(quoted.key, key_of(&slow));
            let reparsed = parse(&frame, &ParseOptions::default());
            prop_assert!(matches!(reparsed, Ok(Parsed::Ip(_))));
        }
    }
}
