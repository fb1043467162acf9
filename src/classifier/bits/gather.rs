//! Bits of a word put close together, and apart again.

/// The bits of `word` that `mask` names (16 at the most), close together.
#[inline]
pub(super) fn gather(word: u64, mut mask: u64) -> u32 {
    let mut gathered = 0;
    let mut place = 0;
    while mask != 0 {
        gathered |= ((word >> mask.trailing_zeros()) as u32 & 1) << place;
        place += 1;
        mask &= mask - 1;
    }
    gathered
}

/// The reverse of [`gather`]: the low bits of `gathered` at the places `mask` names.
pub(super) fn scatter(gathered: u32, mut mask: u64) -> u64 {
    let mut word = 0;
    let mut place = 0;
    while mask != 0 {
        word |= u64::from(gathered >> place & 1) << mask.trailing_zeros();
        place += 1;
        mask &= mask - 1;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathered_bits_scatter_back() {
        let (word, mask) = (0xdead_beef_0123_4567, 0x8000_0421_0030_0f01);
        let gathered = gather(word, mask);
        assert!(gathered < 1 << mask.count_ones());
        assert_eq!(scatter(gathered, mask), word & mask);
    }
}
