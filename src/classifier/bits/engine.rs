//! The processor's own means: bits gathered by one instruction, eight rules tested at once, memory
//! asked for ahead. Each engine gives the answers of [`Portable`].
#![allow(unsafe_code)]

use super::frozen::Frozen;
use super::group::{Group, GroupV4, GroupV6};
use super::key::{WORDS_V4, WORDS_V6};
use super::lookup::{self, Batch};

/// What a lookup is made of.
pub(super) trait Engine<G, const W: usize>: Copy {
    /// The bits of `word` that `mask` names, close together.
    fn gather(self, word: u64, mask: u64) -> u32;
    /// As [`Group::test`].
    fn test(self, group: &G, words: &[u64; W]) -> u32;
    /// Lets the processor fetch the value while other work goes on.
    fn fetch<T>(self, value: &T);
}

/// Which engine a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

impl Level {
    /// All that run here, the slowest first.
    pub(super) fn available() -> Vec<Level> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        levels.extend(Avx2::detect().map(Level::Avx2));
        levels
    }

    /// The fastest that runs here.
    pub(super) fn best() -> Level {
        *Level::available().last().expect("one always runs")
    }

    /// Runs a batch of IPv4 lookups.
    pub(super) fn batch_v4(self, frozen: &Frozen<GroupV4, WORDS_V4>, batch: &mut Batch<WORDS_V4>) {
        match self {
            Level::Portable => lookup::run(Portable, frozen, batch),
            // SAFETY: the value exists only where `Avx2::detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(engine) => unsafe { x86::run_avx2(engine, frozen, batch) },
        }
    }

    /// Runs a batch of IPv6 lookups.
    pub(super) fn batch_v6(self, frozen: &Frozen<GroupV6, WORDS_V6>, batch: &mut Batch<WORDS_V6>) {
        match self {
            Level::Portable => lookup::run(Portable, frozen, batch),
            // SAFETY: the value exists only where `Avx2::detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(engine) => unsafe { x86::run_avx2(engine, frozen, batch) },
        }
    }
}

/// Plain code, for every processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portable;

impl<G: Group<W>, const W: usize> Engine<G, W> for Portable {
    #[inline(always)]
    fn gather(self, word: u64, mask: u64) -> u32 {
        gather(word, mask)
    }

    #[inline(always)]
    fn test(self, group: &G, words: &[u64; W]) -> u32 {
        group.test(words)
    }

    #[inline(always)]
    fn fetch<T>(self, _value: &T) {}
}

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

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Avx2;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::*;
    use crate::classifier::bits::group::{LANES, NO_RANK, PortLanes};

    /// Proves that AVX2, BMI1, BMI2 and POPCNT are there: made by [`Avx2::detect`] alone.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in crate::classifier::bits) struct Avx2(());

    impl Avx2 {
        pub(super) fn detect() -> Option<Self> {
            let there = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt");
            there.then_some(Avx2(()))
        }
    }

    /// A whole batch inside one function that has the features, so that all helpers are inlined.
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub(super) fn run_avx2<G, const W: usize>(
        engine: Avx2,
        frozen: &Frozen<G, W>,
        batch: &mut Batch<W>,
    ) where
        G: Group<W>,
        Avx2: Engine<G, W>,
    {
        lookup::run(engine, frozen, batch);
    }

    #[inline(always)]
    fn fetch_lines<T>(value: &T) {
        let first: *const T = value;
        for offset in (0..size_of::<T>()).step_by(64) {
            let line = first.cast::<i8>().wrapping_add(offset);
            // SAFETY: a hint: it gives no value, changes none and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
        }
    }

    /// Eight lanes of 32 bits.
    #[inline(always)]
    fn load<T: Copy>(lanes: &[T; LANES]) -> __m256i {
        const { assert!(size_of::<T>() == 4) };
        // SAFETY: reads the 32 bytes of the array, at any alignment; called in functions with AVX2.
        unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
    }

    /// Lanes are not zero where ports or tag do not match.
    #[inline(always)]
    fn ports_differ(ports: &PortLanes, word: u64) -> __m256i {
        // SAFETY: AVX2 is there, as an `Avx2` was needed to come here; the loads read 16 bytes of
        // arrays of eight numbers of 16 bits.
        unsafe {
            let code = _mm256_set1_epi32(word as i32);
            let below = _mm256_subs_epu16(load(&ports.low), code);
            let above = _mm256_subs_epu16(code, load(&ports.high));
            let tag = _mm_set1_epi16((word >> 32) as i16);
            let value = _mm_loadu_si128(ports.tag_value.as_ptr().cast());
            let care = _mm_loadu_si128(ports.tag_care.as_ptr().cast());
            let tag = _mm256_cvtepu16_epi32(_mm_and_si128(_mm_xor_si128(tag, value), care));
            _mm256_or_si256(_mm256_or_si256(below, above), tag)
        }
    }

    /// The rank of the first lane that is zero.
    #[inline(always)]
    fn first_zero(differ: __m256i, ports: &PortLanes) -> u32 {
        // SAFETY: AVX2 is there, as an `Avx2` was needed to come here.
        let equal = unsafe {
            let zero = _mm256_cmpeq_epi32(differ, _mm256_setzero_si256());
            _mm256_movemask_ps(_mm256_castsi256_ps(zero)) as u32
        };
        let rank = ports.rank[equal.trailing_zeros() as usize & (LANES - 1)];
        if equal == 0 { NO_RANK } else { rank }
    }

    impl Engine<GroupV4, WORDS_V4> for Avx2 {
        #[inline(always)]
        fn gather(self, word: u64, mask: u64) -> u32 {
            // SAFETY: `self` proves BMI2.
            unsafe { _pext_u64(word, mask) as u32 }
        }

        #[inline(always)]
        fn test(self, group: &GroupV4, words: &[u64; WORDS_V4]) -> u32 {
            // SAFETY: `self` proves AVX2.
            let differ = unsafe {
                let differ = |key: u32, value, care| {
                    let key = _mm256_set1_epi32(key as i32);
                    _mm256_and_si256(_mm256_xor_si256(key, load(value)), load(care))
                };
                let source = differ(words[0] as u32, &group.source_value, &group.source_care);
                let destination = differ(
                    (words[0] >> 32) as u32,
                    &group.destination_value,
                    &group.destination_care,
                );
                let addresses = _mm256_or_si256(source, destination);
                _mm256_or_si256(addresses, ports_differ(&group.ports, words[1]))
            };
            first_zero(differ, &group.ports)
        }

        #[inline(always)]
        fn fetch<T>(self, value: &T) {
            fetch_lines(value);
        }
    }

    impl Engine<GroupV6, WORDS_V6> for Avx2 {
        #[inline(always)]
        fn gather(self, word: u64, mask: u64) -> u32 {
            // SAFETY: `self` proves BMI2.
            unsafe { _pext_u64(word, mask) as u32 }
        }

        #[inline(always)]
        fn test(self, group: &GroupV6, words: &[u64; WORDS_V6]) -> u32 {
            // SAFETY: `self` proves AVX2. The loads read four of eight numbers of 64 bits, and all
            // eight of eight bits, at any alignment.
            let equal = unsafe {
                let mut halves = [_mm256_setzero_si256(); 2];
                for word in 0..4 {
                    let key = _mm256_set1_epi64x(words[word] as i64);
                    let open = _mm_loadl_epi64(group.open_bits[word].as_ptr().cast());
                    let opens = [open, _mm_srli_si128::<4>(open)];
                    for (half, open) in halves.iter_mut().zip(opens).enumerate() {
                        let (differ, open) = open;
                        let values = group.value[word][4 * half..].as_ptr();
                        let value = _mm256_loadu_si256(values.cast());
                        let open = _mm256_cvtepu8_epi64(open);
                        let other = _mm256_srlv_epi64(_mm256_xor_si256(key, value), open);
                        *differ = _mm256_or_si256(*differ, other);
                    }
                }
                let equal = halves.map(|half| _mm256_cmpeq_epi64(half, _mm256_setzero_si256()));
                let ports = ports_differ(&group.ports, words[4]);
                let zero = _mm256_cmpeq_epi32(ports, _mm256_setzero_si256());
                let ports = _mm256_movemask_ps(_mm256_castsi256_ps(zero)) as u32;
                let low = _mm256_movemask_pd(_mm256_castsi256_pd(equal[0])) as u32;
                let high = _mm256_movemask_pd(_mm256_castsi256_pd(equal[1])) as u32;
                ports & (low | high << 4)
            };
            let rank = group.ports.rank[equal.trailing_zeros() as usize & (LANES - 1)];
            if equal == 0 { NO_RANK } else { rank }
        }

        #[inline(always)]
        fn fetch<T>(self, value: &T) {
            fetch_lines(value);
        }
    }
}
