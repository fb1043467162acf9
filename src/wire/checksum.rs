//! Checksums: full sums (RFC 1071), incremental updates (RFC 1624), and partial checksums.
//!
//! # Partial checksums
//!
//! A packet that a host on the same machine sent over veth or macvlan was meant for hardware that
//! completes checksums: its TCP or UDP checksum field holds the folded sum of the pseudo-header
//! alone, and its SCTP checksum field holds 0. Such a field is not a wrong checksum but an
//! unfinished one. Forwarded as it is, the receiver discards the packet; patched as if it were
//! complete, it stays wrong.
//!
//! [`detect`] recognises one without reading the payload, [`complete`] finishes it. A complete
//! checksum that happens to equal the pseudo-header's sum is taken for a partial one, and
//! completing it computes the very same value again: harmless. What one packet in 65,536 loses is
//! only the receiver's chance to notice that it was damaged before it came here.

use super::{Address, Family, PacketView, crc32c, protocol};

/// What is known of a packet's transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksumState {
    /// Complete and right.
    Valid,
    /// Holds only the pseudo-header's sum (SCTP: 0).
    Partial,
    /// UDP over IPv4 without checksum.
    Absent,
    /// Complete and wrong, or 0 in UDP over IPv6 (RFC 8200 §8.1).
    Wrong,
    /// Not verified, or not verifiable: a fragment, a protocol without checksum, a routing header.
    Unknown,
}

/// Sum of the big-endian 16-bit words of `bytes` in ones' complement, folded, not complemented; an
/// odd last byte counts as the high half of a word (RFC 1071).
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    u16::from_be(fold(sum_native(bytes)))
}

/// The twin of [`sum`] for tests: the slow obvious way.
pub fn sum_reference(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u32::from(low));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Ones' complement addition of two folded sums.
#[inline(always)]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// The checksum field after the summed data changed: HC' = ~(~HC + ~m + m') (RFC 1624 eqn. 3).
/// `old` and `new` are folded sums of the replaced words before and after.
#[inline]
pub const fn update(field: u16, old: u16, new: u16) -> u16 {
    !add(add(!field, !old), new)
}

/// Folded sum of the pseudo-header (RFC 9293 §3.1, 8200 §8.1) for the packet's addresses, with
/// `transport_bytes` as upper-layer length.
#[inline]
pub fn pseudo_header_sum(view: &PacketView, transport_bytes: u32) -> u16 {
    let addresses = add(
        address_sum(view.key.source),
        address_sum(view.key.destination),
    );
    let rest = u64::from(transport_bytes) + u64::from(view.key.protocol);
    add(addresses, fold(rest))
}

/// Folded sum of an address's words. An IPv4 address is the low 32 bits of a number whose other
/// bits are 0, so the family does not matter.
#[inline]
pub fn address_sum(address: Address) -> u16 {
    let [high, low] = address.halves();
    let halves = |value: u64| (value >> 32) + (value & 0xffff_ffff);
    fold(halves(high) + halves(low))
}

/// The state of the packet's transport checksum as far as it shows without reading the payload:
/// [`ChecksumState::Partial`], [`ChecksumState::Absent`], or [`ChecksumState::Unknown`].
#[inline]
pub fn detect(bytes: &[u8], view: &PacketView) -> ChecksumState {
    match view.key.protocol {
        protocol::TCP | protocol::UDP => {}
        protocol::SCTP => return detect_sctp(bytes, view),
        _ => return ChecksumState::Unknown,
    }
    let Some(covered) = Covered::find(bytes, view) else {
        return ChecksumState::Unknown;
    };
    covered.shows(covered.field(bytes), covered.pseudo_header_sum(view), view)
}

/// The state of the packet's transport checksum, the payload read in full.
#[inline]
pub fn verify(bytes: &[u8], view: &PacketView) -> ChecksumState {
    if view.key.protocol == protocol::SCTP {
        return match detect_sctp(bytes, view) {
            ChecksumState::Unknown => verify_sctp(bytes, view),
            known => known,
        };
    }
    let Some(covered) = Covered::find(bytes, view) else {
        return ChecksumState::Unknown;
    };
    let field = covered.field(bytes);
    let pseudo_header_sum = covered.pseudo_header_sum(view);
    if matches!(view.key.protocol, protocol::TCP | protocol::UDP) {
        match covered.shows(field, pseudo_header_sum, view) {
            ChecksumState::Unknown => {}
            known => return known,
        }
    }
    if field == 0 && matches!(view.key.protocol, protocol::UDP | protocol::UDP_LITE) {
        return ChecksumState::Wrong;
    }
    match add(covered.data_sum(bytes), pseudo_header_sum) {
        0xffff => ChecksumState::Valid,
        _ => ChecksumState::Wrong,
    }
}

/// Finishes a partial checksum; leaves every other alone. Returns whether there was one.
#[inline]
pub fn complete(bytes: &mut [u8], view: &PacketView) -> bool {
    complete_known(bytes, view, ChecksumState::Unknown)
}

/// As [`complete`], of a packet whose checksum has been looked at already.
#[inline]
pub fn complete_known(bytes: &mut [u8], view: &PacketView, known: ChecksumState) -> bool {
    let state = match known {
        ChecksumState::Unknown => detect(bytes, view),
        known => known,
    };
    state == ChecksumState::Partial && fill(bytes, view)
}

/// Computes the packet's transport checksum anew, whatever the field holds. Returns false, and
/// changes nothing, where there is none to compute (see [`ChecksumState::Unknown`]).
pub fn fill(bytes: &mut [u8], view: &PacketView) -> bool {
    if view.key.protocol == protocol::SCTP {
        return fill_sctp(bytes, view);
    }
    let Some(covered) = Covered::find(bytes, view) else {
        return false;
    };
    covered.set_field(bytes, 0);
    let checksum = !add(covered.data_sum(bytes), covered.pseudo_header_sum(view));
    let never_zero = matches!(view.key.protocol, protocol::UDP | protocol::UDP_LITE);
    covered.set_field(
        bytes,
        if checksum == 0 && never_zero {
            0xffff
        } else {
            checksum
        },
    );
    true
}

/// Offset of the checksum field from the start of the upper-layer header, for protocols whose
/// checksum is a ones' complement sum.
#[inline]
pub const fn field_offset(family: Family, number: u8) -> Option<usize> {
    match (family, number) {
        (_, protocol::TCP) => Some(16),
        (_, protocol::UDP | protocol::UDP_LITE | protocol::DCCP) => Some(6),
        (Family::V4, protocol::ICMP) | (Family::V6, protocol::ICMPV6) => Some(2),
        _ => None,
    }
}

/// What a ones' complement transport checksum covers; all offsets lie inside the frame.
#[derive(Debug, Clone, Copy)]
struct Covered {
    start: usize,
    end: usize,
    field: usize,
    /// Length in the pseudo-header.
    transport_bytes: u32,
    pseudo_header: bool,
}

impl Covered {
    #[inline]
    fn find(bytes: &[u8], view: &PacketView) -> Option<Covered> {
        let whole = view.fragment.is_none_or(|fragment| fragment.is_atomic());
        if !whole || view.routing_segments_left {
            return None;
        }
        let (start, packet_end) = (view.l4 as usize, view.packet_end as usize);
        let l4 = bytes.get(start..packet_end)?;
        let number = view.key.protocol;
        let field = field_offset(view.key.family, number)?;
        l4.get(field..field + 2)?;
        let (covered_bytes, transport_bytes) = match number {
            protocol::UDP => {
                let length = u16::from_be_bytes([l4[4], l4[5]]) as usize;
                (length, length)
            }
            protocol::UDP_LITE => match u16::from_be_bytes([l4[4], l4[5]]) as usize {
                0 => (l4.len(), l4.len()),
                coverage => (coverage, l4.len()),
            },
            // Coverage 0 is everything, n is the header and n - 1 words (RFC 4340 §9.2).
            protocol::DCCP => match l4[5] & 0x0f {
                0 => (l4.len(), l4.len()),
                words => {
                    let covered_bytes = (l4[4] as usize + words as usize - 1) * 4;
                    (covered_bytes.min(l4.len()), l4.len())
                }
            },
            _ => (l4.len(), l4.len()),
        };
        (covered_bytes >= field + 2 && covered_bytes <= l4.len()).then_some(Covered {
            start,
            end: start + covered_bytes,
            field: start + field,
            transport_bytes: transport_bytes as u32,
            pseudo_header: number != protocol::ICMP,
        })
    }

    #[inline]
    fn field(&self, bytes: &[u8]) -> u16 {
        u16::from_be_bytes([bytes[self.field], bytes[self.field + 1]])
    }

    #[inline]
    fn set_field(&self, bytes: &mut [u8], value: u16) {
        bytes[self.field..self.field + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// What a field shows that a host on the same machine may have left.
    #[inline]
    fn shows(&self, field: u16, pseudo_header_sum: u16, view: &PacketView) -> ChecksumState {
        if field == 0 && view.key.protocol == protocol::UDP && view.key.family == Family::V4 {
            ChecksumState::Absent
        } else if field == pseudo_header_sum {
            ChecksumState::Partial
        } else {
            ChecksumState::Unknown
        }
    }

    /// Folded sum of the pseudo-header; 0 where there is none.
    #[inline]
    fn pseudo_header_sum(&self, view: &PacketView) -> u16 {
        match self.pseudo_header {
            true => pseudo_header_sum(view, self.transport_bytes),
            false => 0,
        }
    }

    /// Folded sum of the covered bytes, the field included.
    #[inline]
    fn data_sum(&self, bytes: &[u8]) -> u16 {
        sum(&bytes[self.start..self.end])
    }
}

/// Sum over native-endian words, unfolded. The ones' complement sum does not care for byte order
/// until it is read (RFC 1071 §2.B), so words are added as they lie in memory.
#[inline(always)]
fn sum_native(bytes: &[u8]) -> u64 {
    let mut sum = 0u64;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        sum += u64::from(u32::from_ne_bytes(last));
    }
    sum
}

/// Folds a sum of 16- or 32-bit words to 16 bits.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    // At most 0x1_ffff_fffe, then 0x1_fffe, then 0xffff.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

fn sctp_packet(bytes: &[u8], view: &PacketView) -> Option<std::ops::Range<usize>> {
    let whole = view.fragment.is_none_or(|fragment| fragment.is_atomic());
    let range = view.l4 as usize..view.packet_end as usize;
    (whole && bytes.get(range.clone())?.len() >= 12).then_some(range)
}

fn detect_sctp(bytes: &[u8], view: &PacketView) -> ChecksumState {
    match sctp_packet(bytes, view) {
        Some(range) if bytes[range.start + 8..range.start + 12] == [0; 4] => ChecksumState::Partial,
        _ => ChecksumState::Unknown,
    }
}

fn verify_sctp(bytes: &[u8], view: &PacketView) -> ChecksumState {
    let Some(range) = sctp_packet(bytes, view) else {
        return ChecksumState::Unknown;
    };
    let packet = &bytes[range];
    match packet[8..12] == crc32c::sctp(packet).to_le_bytes() {
        true => ChecksumState::Valid,
        false => ChecksumState::Wrong,
    }
}

fn fill_sctp(bytes: &mut [u8], view: &PacketView) -> bool {
    let Some(range) = sctp_packet(bytes, view) else {
        return false;
    };
    let packet = &mut bytes[range];
    let checksum = crc32c::sctp(packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    true
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::sample::{self, Ipv4, ipv6_frame, view};
    use super::*;

    /// The whole checksum field of a packet, and where it is.
    fn field(frame: &[u8]) -> (usize, u16) {
        let view = view(frame);
        let at = field_offset(view.key.family, view.key.protocol).unwrap() + view.l4 as usize;
        (at, u16::from_be_bytes([frame[at], frame[at + 1]]))
    }

    /// The checksum that etherparse computes for a packet's upper layer.
    fn twin(frame: &[u8]) -> Option<u16> {
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        match (sliced.net?, sliced.transport?) {
            (NetSlice::Ipv4(v4), TransportSlice::Tcp(tcp)) => tcp
                .calc_checksum_ipv4(v4.header().source(), v4.header().destination())
                .ok(),
            (NetSlice::Ipv6(v6), TransportSlice::Tcp(tcp)) => tcp
                .calc_checksum_ipv6(v6.header().source(), v6.header().destination())
                .ok(),
            (NetSlice::Ipv4(v4), TransportSlice::Udp(udp)) => {
                let header = udp.to_header();
                header
                    .calc_checksum_ipv4(&v4.header().to_header(), udp.payload())
                    .ok()
            }
            (NetSlice::Ipv6(v6), TransportSlice::Udp(udp)) => {
                let header = udp.to_header();
                header
                    .calc_checksum_ipv6(&v6.header().to_header(), udp.payload())
                    .ok()
            }
            // It keeps no unused words, so that only messages without them can be compared.
            (NetSlice::Ipv4(_), TransportSlice::Icmpv4(icmp)) if icmp.type_u8() == 8 => {
                Some(icmp.header().icmp_type.calc_checksum(icmp.payload()))
            }
            (NetSlice::Ipv6(v6), TransportSlice::Icmpv6(icmp)) if icmp.type_u8() == 128 => {
                let (source, destination) = (v6.header().source(), v6.header().destination());
                let icmp_type = icmp.header().icmp_type;
                icmp_type
                    .calc_checksum(source, destination, icmp.payload())
                    .ok()
            }
            _ => None,
        }
    }

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes), 0xddf2);
        assert_eq!(sum(&bytes[..7]), 0xdcfb);
        assert_eq!((sum(&[]), sum(&[0xff; 6])), (0, 0xffff));
    }

    #[test]
    fn folding_at_its_edges() {
        for sum in [
            0,
            1,
            0xffff,
            0x1_0000,
            0x1_ffff_fffe,
            u64::MAX,
            u64::MAX - 1,
            1 << 63,
        ] {
            let mut slow = u128::from(sum);
            while slow > 0xffff {
                slow = (slow & 0xffff) + (slow >> 16);
            }
            assert_eq!(u128::from(fold(sum)), slow, "{sum:#x}");
        }
    }

    #[test]
    fn rfc_1624_example() {
        // Section 4: a checksum of 0xdd2f over a word that goes from 0x5555 to 0x3285 becomes 0,
        // where the older equation gave 0xffff.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0);
    }

    #[test]
    fn states_of_udp() {
        let frame = Ipv4::new(protocol::UDP).frame(&sample::udp(b"abcd"));
        let state = |frame: &[u8]| (detect(frame, &view(frame)), verify(frame, &view(frame)));
        use ChecksumState::{Absent, Partial, Unknown, Valid, Wrong};
        assert_eq!(state(&frame), (Absent, Absent));
        let mut frame = sample::filled(frame);
        assert_eq!(state(&frame), (Unknown, Valid));
        *frame.last_mut().unwrap() ^= 1;
        assert_eq!(state(&frame), (Unknown, Wrong));
        assert_eq!(state(&sample::partial(frame)), (Partial, Partial));
        let frame = ipv6_frame(protocol::UDP, &sample::udp(b"abcd"));
        assert_eq!(state(&frame), (Unknown, Wrong));
        assert_eq!(state(&sample::filled(frame)), (Unknown, Valid));
    }

    #[test]
    fn fragments_and_way_points_are_unknown() {
        let fragment = Ipv4 {
            flags_and_offset: 0x2000,
            ..Ipv4::new(protocol::TCP)
        };
        let mut frame = fragment.frame(&sample::tcp(0x10, &[], &[0; 12]));
        assert!(!fill(
            &mut frame,
            &view(&fragment.frame(&sample::tcp(0x10, &[], &[0; 12])))
        ));
        assert_eq!(verify(&frame, &view(&frame)), ChecksumState::Unknown);
        let routing = [protocol::UDP, 0, 2, 1, 0, 0, 0, 0];
        let frame = ipv6_frame(43, &[&routing, sample::udp(b"abcd").as_slice()].concat());
        assert_eq!(verify(&frame, &view(&frame)), ChecksumState::Unknown);
        let frame = Ipv4::new(protocol::GRE).frame(&[0; 40]);
        assert_eq!(verify(&frame, &view(&frame)), ChecksumState::Unknown);
    }

    #[test]
    fn a_computed_zero_of_udp_is_sent_as_ones() {
        // The payload that makes the sum 0xffff.
        let mut frame = Ipv4::new(protocol::UDP).frame(&sample::udp(&[0, 0]));
        let at = frame.len() - 2;
        frame = sample::filled(frame);
        let (_, checksum) = field(&frame);
        frame[at..].copy_from_slice(&checksum.to_be_bytes());
        let frame = sample::filled(frame);
        assert_eq!(field(&frame).1, 0xffff);
        assert_eq!(verify(&frame, &view(&frame)), ChecksumState::Valid);
    }

    #[test]
    fn partial_coverage() {
        // UDP-Lite covers what it says, under the packet's length.
        let mut lite = sample::udp(b"abcdefgh");
        lite[5] = 12;
        let mut frame = sample::filled(Ipv4::new(protocol::UDP_LITE).frame(&lite));
        let last = frame.len() - 1;
        frame[last] ^= 1;
        assert_eq!(verify(&frame, &view(&frame)), ChecksumState::Valid);
        frame[last - 4] ^= 1;
        assert_eq!(verify(&frame, &view(&frame)), ChecksumState::Wrong);
        // DCCP: coverage 1 is the header alone.
        let dccp = [0, 1, 0, 2, 3, 1, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9];
        let mut frame = sample::filled(Ipv4::new(protocol::DCCP).frame(&dccp));
        let last = frame.len() - 1;
        frame[last] ^= 1;
        assert_eq!(verify(&frame, &view(&frame)), ChecksumState::Valid);
        frame[last - 5] ^= 1;
        assert_eq!(verify(&frame, &view(&frame)), ChecksumState::Wrong);
    }

    #[test]
    fn sctp_is_completed() {
        for frame in [
            Ipv4::new(protocol::SCTP).frame(&sample::sctp(b"abcdefg")),
            ipv6_frame(protocol::SCTP, &sample::sctp(b"abcdefg")),
        ] {
            let view = view(&frame);
            let mut frame = frame;
            assert_eq!(detect(&frame, &view), ChecksumState::Partial);
            assert!(complete(&mut frame, &view));
            assert_eq!(verify(&frame, &view), ChecksumState::Valid);
            assert!(!complete(&mut frame, &view));
            *frame.last_mut().unwrap() ^= 1;
            assert_eq!(verify(&frame, &view), ChecksumState::Wrong);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

        #[test]
        fn fast_sum_equals_slow(bytes in vec(any::<u8>(), 0..300), ones in 0..300usize) {
            prop_assert_eq!(sum(&bytes), sum_reference(&bytes));
            let mut bytes = bytes;
            bytes.extend(vec![0xff; ones]);
            prop_assert_eq!(sum(&bytes), sum_reference(&bytes));
        }

        #[test]
        fn incremental_equals_full(
            mut bytes in vec(any::<u8>(), 20..60),
            at in any::<prop::sample::Index>(),
            new in any::<[u8; 2]>(),
        ) {
            // A header is never all zero: the one case in which both differ.
            bytes[0] |= 1;
            let at = (1 + at.index(bytes.len() / 2 - 1)) * 2;
            let before = !sum_reference(&bytes);
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            bytes[at..at + 2].copy_from_slice(&new);
            let after = update(before, old, u16::from_be_bytes(new));
            prop_assert_eq!(after, !sum_reference(&bytes));
        }

        #[test]
        fn filled_checksums_are_valid_and_those_of_the_twin(frame in sample::well_formed()) {
            let view = view(&frame);
            let state = verify(&frame, &view);
            if view.key.protocol == protocol::GRE {
                prop_assert_eq!(state, ChecksumState::Unknown);
                return Ok(());
            }
            prop_assert!(
                // One complete checksum in 65,536 looks like a partial one.
                matches!(state, ChecksumState::Valid | ChecksumState::Partial),
                "{state:?}"
            );
            if let Some(twin) = twin(&frame) {
                prop_assert_eq!(field(&frame).1, twin);
            }
        }

        #[test]
        fn completing_a_partial_checksum_gives_the_full_one(frame in sample::well_formed()) {
            let view = view(&frame);
            if !matches!(view.key.protocol, protocol::TCP | protocol::UDP) {
                return Ok(());
            }
            let mut offloaded = sample::partial(frame.clone());
            prop_assert_eq!(detect(&offloaded, &view), ChecksumState::Partial);
            prop_assert!(complete(&mut offloaded, &view));
            prop_assert_eq!(&offloaded, &frame);
            // Completing a complete one changes nothing, even if it was taken for partial.
            complete(&mut offloaded, &view);
            prop_assert_eq!(&offloaded, &frame);
        }
    }
}
