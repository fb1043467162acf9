//! What neighbour discovery tells others (RFC 4861 §4.3, §4.4).

use super::super::{Address, MacAddress, protocol};
use super::PacketView;

/// A neighbour solicitation or advertisement that hosts would believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discovery {
    /// Is it an advertisement?
    pub advertises: bool,
    /// Whom it asks for, or speaks of.
    pub target: Address,
    /// The sender's link-layer address in a solicitation, the target's in an advertisement.
    pub link_layer: LinkLayer,
}

/// What the options of a message say of a link-layer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkLayer {
    /// Nothing.
    Unstated,
    /// This.
    Stated(MacAddress),
    /// One thing and another, or nothing that can be read.
    Unclear,
}

/// Option of a solicitation with its sender's link-layer address (RFC 4861 §4.6.1).
const SOURCE_LINK_LAYER: u8 = 1;
/// Option of an advertisement with its target's.
const TARGET_LINK_LAYER: u8 = 2;
/// Type, code, checksum and a word, in front of the target.
const TARGET_OFFSET: usize = 8;
const OPTIONS_OFFSET: usize = TARGET_OFFSET + 16;

/// Reads a message of neighbour discovery; `None` for every other packet, and for one that hosts
/// ignore since it may have crossed a router (RFC 4861 §7.1). `bytes` is the frame parsed.
#[inline]
pub fn neighbour_discovery(bytes: &[u8], view: &PacketView) -> Option<Discovery> {
    let advertises = match view.icmp_type()? {
        protocol::ICMPV6_NEIGHBOUR_SOLICITATION => false,
        protocol::ICMPV6_NEIGHBOUR_ADVERTISEMENT => true,
        _ => return None,
    };
    let is_v6 = view.key.protocol == protocol::ICMPV6;
    if !is_v6 || view.icmp_code() != Some(0) || view.ttl != 255 {
        return None;
    }
    let message = bytes.get(view.l4 as usize..view.packet_end as usize)?;
    let Some(target) = message.get(TARGET_OFFSET..OPTIONS_OFFSET) else {
        return Some(Discovery {
            advertises,
            target: Address::ZERO,
            link_layer: LinkLayer::Unclear,
        });
    };
    let mut octets = [0; 16];
    octets.copy_from_slice(target);
    let wanted = match advertises {
        false => SOURCE_LINK_LAYER,
        true => TARGET_LINK_LAYER,
    };
    Some(Discovery {
        advertises,
        target: Address::from_v6_bytes(octets),
        link_layer: link_layer(&message[OPTIONS_OFFSET..], wanted),
    })
}

/// Options are a type, a length in units of 8 bytes, and the rest.
fn link_layer(mut options: &[u8], wanted: u8) -> LinkLayer {
    let mut found = LinkLayer::Unstated;
    while !options.is_empty() {
        let units = options.get(1).copied().unwrap_or_default();
        let bytes = usize::from(units) * 8;
        let Some(option) = options.get(..bytes).filter(|option| !option.is_empty()) else {
            return LinkLayer::Unclear;
        };
        if option[0] == wanted {
            let mac = option[2..].first_chunk::<6>().copied().map(MacAddress);
            found = match (found, mac) {
                (LinkLayer::Unstated, Some(mac)) if bytes == 8 => LinkLayer::Stated(mac),
                (LinkLayer::Stated(known), Some(mac)) if bytes == 8 && known == mac => found,
                _ => return LinkLayer::Unclear,
            };
        }
        options = &options[bytes..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ParseOptions, Parsed, parse};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn message(icmp_type: u8, code: u8, hop_limit: u8, options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 0x86, 0xdd];
        let body_bytes = (OPTIONS_OFFSET + options.len()) as u8;
        frame.extend([0x60, 0, 0, 0, 0, body_bytes, 58, hop_limit]);
        let address = |last| [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        frame.extend(address(7));
        frame.extend(address(1));
        frame.extend([icmp_type, code, 0, 0, 0, 0, 0, 0]);
        frame.extend(address(9));
        frame.extend(options);
        frame
    }

    fn read(frame: &[u8]) -> Option<Discovery> {
        match parse(frame, &ParseOptions::default()) {
            Ok(Parsed::Ip(view)) => neighbour_discovery(frame, &view),
            _ => None,
        }
    }

    fn option(kind: u8, mac: [u8; 6]) -> Vec<u8> {
        [&[kind, 1][..], &mac].concat()
    }

    #[test]
    fn a_message_tells_its_target_and_one_link_layer_address() {
        let solicits = read(&message(135, 0, 255, &option(1, MAC))).unwrap();
        assert_eq!(solicits.link_layer, LinkLayer::Stated(MacAddress(MAC)));
        assert!(!solicits.advertises && solicits.target.to_bits() as u8 == 9);
        let twice = [option(2, MAC), option(2, MAC)].concat();
        let advertises = read(&message(136, 0, 255, &twice)).unwrap();
        assert!(advertises.advertises);
        assert_eq!(advertises.link_layer, LinkLayer::Stated(MacAddress(MAC)));
        // The other message's option, and a nonce, say nothing.
        for other in [option(2, MAC), option(14, MAC), Vec::new()] {
            let discovery = read(&message(135, 0, 255, &other)).unwrap();
            assert_eq!(discovery.link_layer, LinkLayer::Unstated);
        }
    }

    #[test]
    fn what_cannot_be_read_is_unclear() {
        let differs = [option(1, MAC), option(1, [2; 6])].concat();
        let long = [&[1, 2][..], &[2; 14]].concat();
        for options in [differs, long, vec![1, 0, 0, 0], vec![1], vec![1, 1, 2, 0]] {
            let discovery = read(&message(135, 0, 255, &options)).unwrap();
            assert_eq!(discovery.link_layer, LinkLayer::Unclear, "{options:?}");
        }
        let mut short = message(136, 0, 255, &[]);
        short.truncate(14 + 40 + 20);
        short[19] = 20;
        assert_eq!(read(&short).unwrap().link_layer, LinkLayer::Unclear);
    }

    #[test]
    fn nobody_believes_what_may_have_crossed_a_router() {
        for frame in [
            message(135, 0, 64, &[]),
            message(136, 1, 255, &[]),
            message(134, 0, 255, &[]),
        ] {
            assert_eq!(read(&frame), None);
        }
    }
}
