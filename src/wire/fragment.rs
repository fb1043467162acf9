//! Cutting an IPv4 packet into fragments for a link of a smaller MTU (RFC 791 §2.3 and 3.2,
//! RFC 1812 §4.2.2.7 and 5.2.6).

use super::{Family, PacketView, checksum};

/// Set in an option's type when every fragment must carry it (RFC 791 §3.1).
const OPTION_COPIED: u8 = 0x80;
const OPTION_END: u8 = 0;
const OPTION_NO_OPERATION: u8 = 1;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// What stands before the Ethernet payload is copied: addresses, two VLAN tags, type.
const LINK_BYTES_MAX: usize = 22;
const IP_HEADER_BYTES_MAX: usize = 60;

/// The fragments an IPv4 packet becomes, first one first, each a frame of its own.
///
/// A packet that is a fragment already is cut further. Nothing is allocated: every fragment is
/// written to memory the caller brings.
#[derive(Debug)]
pub struct Fragments<'frame> {
    /// Link header, and IP header as the first fragment bears it.
    first: &'frame [u8],
    /// The same with the options every fragment carries.
    later: [u8; LINK_BYTES_MAX + IP_HEADER_BYTES_MAX],
    later_bytes: usize,
    l3: usize,
    /// Identical in all: flags and offset of the packet that is cut.
    flags_and_offset: u16,
    payload: &'frame [u8],
    payload_max_bytes: usize,
    /// Payload written so far.
    done_bytes: usize,
}

/// Can the packet be cut into fragments no larger than `mtu_bytes`? An IPv6 packet cannot (RFC 8200
/// §4.5), nor one whose sender forbids it, nor any for a link that has no room for eight bytes
/// behind the header.
#[inline]
pub fn may_fragment(view: &PacketView, mtu_bytes: usize) -> bool {
    view.key.family == Family::V4
        && !view.dont_fragment
        && mtu_bytes >= usize::from(view.ip_header_bytes) + 8
}

impl<'frame> Fragments<'frame> {
    /// `view` is that of `frame`. `None` where [`may_fragment`] forbids it, or when the frame is
    /// not the one that was parsed.
    pub fn new(frame: &'frame [u8], view: &PacketView, mtu_bytes: usize) -> Option<Self> {
        if !may_fragment(view, mtu_bytes) {
            return None;
        }
        let l3 = view.l3 as usize;
        let header_bytes = usize::from(view.ip_header_bytes);
        let first = frame.get(..l3 + header_bytes)?;
        let payload = frame.get(l3 + header_bytes..view.packet_end as usize)?;
        let header = first.get(l3..).filter(|header| header.len() >= 20)?;
        let mut later = [0; LINK_BYTES_MAX + IP_HEADER_BYTES_MAX];
        later.get_mut(..l3 + 20)?.copy_from_slice(&first[..l3 + 20]);
        let options = later.get_mut(l3 + 20..l3 + header_bytes)?;
        let options_bytes = copy_options(&header[20..], options);
        later[l3] = 0x40 | ((20 + options_bytes) / 4) as u8;
        Some(Fragments {
            first,
            later,
            later_bytes: l3 + 20 + options_bytes,
            l3,
            flags_and_offset: u16::from_be_bytes([header[6], header[7]]),
            payload,
            payload_max_bytes: (mtu_bytes - header_bytes) & !7,
            done_bytes: 0,
        })
    }

    /// Has the last fragment been written?
    pub fn is_done(&self) -> bool {
        self.done_bytes >= self.payload.len()
    }

    /// Writes the next fragment's frame to the front of `out` and returns its length; `None` after
    /// the last one, or when `out` is too short for it.
    pub fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        let rest = self.payload.get(self.done_bytes..)?;
        if rest.is_empty() {
            return None;
        }
        let piece = &rest[..rest.len().min(self.payload_max_bytes)];
        let headers = match self.done_bytes {
            0 => self.first,
            _ => &self.later[..self.later_bytes],
        };
        let bytes = headers.len() + piece.len();
        let out = out.get_mut(..bytes)?;
        out[..headers.len()].copy_from_slice(headers);
        out[headers.len()..].copy_from_slice(piece);
        let header = &mut out[self.l3..headers.len()];
        let total = (bytes - self.l3) as u16;
        header[2..4].copy_from_slice(&total.to_be_bytes());
        let offset = (self.flags_and_offset & OFFSET) + (self.done_bytes / 8) as u16;
        self.done_bytes += piece.len();
        let more = match self.done_bytes < self.payload.len() {
            true => MORE_FRAGMENTS,
            false => self.flags_and_offset & MORE_FRAGMENTS,
        };
        header[6..8].copy_from_slice(&(offset | more).to_be_bytes());
        header[10..12].fill(0);
        let sum = !checksum::sum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        Some(bytes)
    }
}

/// Copies the options that belong into every fragment, padded to a multiple of four; returns their
/// bytes. An option whose length is wrong ends the list.
fn copy_options(options: &[u8], out: &mut [u8]) -> usize {
    let mut done = 0;
    let mut rest = options;
    while let Some(&kind) = rest.first() {
        let bytes = match kind {
            OPTION_END => break,
            OPTION_NO_OPERATION => 1,
            _ => match rest.get(1) {
                Some(&bytes) if bytes >= 2 && usize::from(bytes) <= rest.len() => bytes.into(),
                _ => break,
            },
        };
        let (option, behind) = rest.split_at(bytes);
        if kind & OPTION_COPIED != 0 {
            out[done..done + bytes].copy_from_slice(option);
            done += bytes;
        }
        rest = behind;
    }
    let padded = done.next_multiple_of(4);
    out[done..padded].fill(OPTION_END);
    padded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::sample::{self, Ipv4};
    use crate::wire::{edit, protocol};

    /// All fragments, each written to memory full of other bytes.
    fn cut(frame: &[u8], mtu_bytes: usize) -> Option<Vec<Vec<u8>>> {
        let mut fragments = Fragments::new(frame, &sample::view(frame), mtu_bytes)?;
        let mut all = Vec::new();
        let mut out = [0xa5; 4096];
        while let Some(bytes) = fragments.write_next(&mut out) {
            all.push(out[..bytes].to_vec());
            out.fill(0xa5);
        }
        Some(all)
    }

    /// Puts the payload together as a receiver does.
    fn reassemble(fragments: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = Vec::new();
        for frame in fragments {
            let view = sample::view(frame);
            let at = view.fragment.map_or(0, |f| f.offset_bytes.into());
            let data = view.l3 as usize + usize::from(view.ip_header_bytes);
            assert_eq!(at, payload.len(), "no gap, no overlap, in order");
            payload.extend_from_slice(&frame[data..view.packet_end as usize]);
        }
        payload
    }

    #[test]
    fn a_datagram_of_1000_bytes_for_an_mtu_of_600_is_two_fragments() {
        let frame = Ipv4::new(protocol::UDP).frame(&sample::udp(&[7; 972]));
        let fragments = cut(&frame, 600).unwrap();
        let sizes: Vec<_> = fragments
            .iter()
            .map(|f| sample::view(f).packet_bytes())
            .collect();
        // 576 is the largest multiple of eight behind a header of 20.
        assert_eq!(sizes, [596, 20 + 980 - 576]);
        let marks: Vec<_> = fragments
            .iter()
            .map(|f| sample::view(f).fragment.unwrap())
            .collect();
        assert!(marks[0].more && !marks[1].more);
        assert_eq!((marks[0].offset_bytes, marks[1].offset_bytes), (0, 576));
        assert_eq!(marks[0].identification, marks[1].identification);
    }

    #[test]
    fn options_without_the_copied_bit_stay_in_the_first_fragment() {
        // Record route (7) is not copied, a stream identifier (136) is.
        let options = vec![7, 7, 4, 0, 0, 0, 0, 1, 136, 4, 0x12, 0x34];
        let packet = Ipv4 {
            options,
            ..Ipv4::new(protocol::UDP)
        };
        let fragments = cut(&packet.frame(&sample::udp(&[7; 500])), 300).unwrap();
        let headers: Vec<_> = fragments
            .iter()
            .map(|f| f[34..14 + usize::from(sample::view(f).ip_header_bytes)].to_vec())
            .collect();
        assert_eq!(headers[0].len(), 12);
        assert_eq!(headers[1], [136, 4, 0x12, 0x34]);
    }

    #[test]
    fn what_must_stay_whole_is_not_cut() {
        let v6 = sample::ipv6_frame(protocol::UDP, &sample::udp(&[7; 1400]));
        assert!(cut(&v6, 1280).is_none());
        let v4 = Ipv4::new(protocol::UDP).frame(&sample::udp(&[7; 1400]));
        assert!(cut(&v4, 27).is_none() && cut(&v4, 28).is_some());
        let mut forbidden = v4;
        forbidden[20] |= 0x40;
        sample::repair_ipv4_checksum(&mut forbidden);
        assert!(cut(&forbidden, 576).is_none());
    }

    #[test]
    fn short_memory_ends_it_without_a_panic() {
        let frame = Ipv4::new(protocol::UDP).frame(&sample::udp(&[7; 1400]));
        let mut fragments = Fragments::new(&frame, &sample::view(&frame), 576).unwrap();
        assert_eq!(fragments.write_next(&mut [0; 100]), None);
    }

    proptest! {
        #[test]
        fn fragments_fit_and_hold_the_packet(
            payload_bytes in 0_usize..2000,
            mtu_bytes in 28_usize..1500,
            second_mtu_bytes in 28_usize..600,
            vlan: bool,
        ) {
            let payload: Vec<u8> = (0..payload_bytes).map(|byte| byte as u8).collect();
            let datagram = sample::udp(&payload);
            let mut frame = Ipv4::new(protocol::UDP).frame(&datagram);
            if vlan {
                frame.extend([0; 4]);
                let mut view = sample::view(&frame[..frame.len() - 4]);
                prop_assert!(edit::push_vlan(&mut frame, &mut view, 7));
            }
            let fragments = cut(&frame, mtu_bytes).unwrap();
            for fragment in &fragments {
                prop_assert!(sample::view(fragment).packet_bytes() <= mtu_bytes);
            }
            prop_assert_eq!(&reassemble(&fragments), &datagram);
            // A router further on may cut once more.
            let again: Vec<_> = fragments
                .iter()
                .flat_map(|fragment| cut(fragment, second_mtu_bytes).unwrap())
                .collect();
            prop_assert_eq!(&reassemble(&again), &datagram);
        }
    }
}
