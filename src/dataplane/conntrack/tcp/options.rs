//! TCP options that a tracker reads: window scale (RFC 7323 §2), SACK (RFC 2018).

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;

/// RFC 7323 §2.3: a larger shift is taken for this one.
const SCALE_MAX: u8 = 14;

/// What a SYN offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offer {
    /// Shift of the windows its sender announces, if it offers one.
    pub scale: Option<u8>,
    /// Selective acknowledgements.
    pub sack: bool,
}

const HAS_SCALE: u8 = 1 << 0;
const HAS_SACK: u8 = 1 << 1;

impl Offer {
    /// Reads a SYN's options; malformed ones end the list.
    pub fn read(options: &[u8]) -> Offer {
        let mut offer = Offer::default();
        for (kind, value) in walk(options) {
            match (kind, value) {
                (SACK_PERMITTED, []) => offer.sack = true,
                (WINDOW_SCALE, &[shift]) => offer.scale = Some(shift.min(SCALE_MAX)),
                _ => {}
            }
        }
        offer
    }

    /// As two bytes: shift, and what is offered.
    pub(super) fn to_bits(self) -> (u8, u8) {
        let scale = u8::from(self.scale.is_some()) * HAS_SCALE;
        let sack = u8::from(self.sack) * HAS_SACK;
        (self.scale.unwrap_or(0), scale | sack)
    }

    /// The opposite.
    pub(super) fn from_bits(scale: u8, flags: u8) -> Offer {
        Offer {
            scale: (flags & HAS_SCALE != 0).then_some(scale),
            sack: flags & HAS_SACK != 0,
        }
    }
}

/// The highest number that a segment acknowledges, selectively or not.
#[inline]
pub fn highest_acknowledged(options: &[u8], acknowledgement: u32) -> u32 {
    // Two NOPs and a timestamp: nearly every segment without a loss.
    if options.is_empty() || options.starts_with(&[1, 1, 8, 10]) && options.len() == 12 {
        return acknowledgement;
    }
    let mut highest = acknowledgement;
    for (kind, value) in walk(options) {
        if kind != SACK {
            continue;
        }
        let (blocks, _) = value.as_chunks::<8>();
        for &[.., r0, r1, r2, r3] in blocks {
            let right = u32::from_be_bytes([r0, r1, r2, r3]);
            if super::window::after(right, highest) {
                highest = right;
            }
        }
    }
    highest
}

/// Kind and value of each option.
fn walk(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let (&kind, tail) = rest.split_first()?;
            match kind {
                END => return None,
                NO_OPERATION => rest = tail,
                _ => {
                    let bytes = usize::from(*tail.first()?);
                    let value = rest.get(2..bytes)?;
                    rest = &rest[bytes..];
                    return Some((kind, value));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_read_and_the_shift_is_bounded() {
        let offer = Offer::read(&[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 15]);
        assert_eq!(
            offer,
            Offer {
                scale: Some(14),
                sack: true
            }
        );
        let (scale, flags) = offer.to_bits();
        assert_eq!(Offer::from_bits(scale, flags), offer);
        assert_eq!(
            Offer::read(&[3, 3, 0]).scale,
            Some(0),
            "a shift of 0 is an offer"
        );
    }

    #[test]
    fn malformed_options_end_the_list() {
        for options in [&[3][..], &[3, 0, 7], &[3, 1, 7], &[3, 9, 7], &[0, 3, 3, 7]] {
            assert_eq!(Offer::read(options), Offer::default(), "{options:?}");
        }
    }

    #[test]
    fn selective_acknowledgements_count_by_their_right_edges() {
        let mut options = vec![1, 1, 5, 18];
        for edge in [200_u32, 300, 0xffff_fff0, 10] {
            options.extend(edge.to_be_bytes());
        }
        assert_eq!(highest_acknowledged(&options, 100), 300);
        assert_eq!(highest_acknowledged(&options, 400), 400);
        let timestamp = [1, 1, 8, 10, 9, 9, 9, 9, 9, 9, 9, 9];
        assert_eq!(highest_acknowledged(&timestamp, 7), 7);
    }
}
