//! The bits of an IPv6 address that tell rules apart.
//!
//! Few of the 128 bits of an address tell rules apart, and a question asks bits of one word. So 32
//! bits of each address are put into one word, the **digest** of a key, laid out as the addresses
//! of an IPv4 key are: trees ask it, and groups test it, as they do with IPv4. What a group finds
//! is then held against the whole addresses, once a tree.
//!
//! Trees even take for granted that a rule whose digest matches does match, and drop the rules it
//! covers: the first rule whose digest matches is the strongest of all whose digest matches, so if
//! it matches the whole key, it decides. If it does not, trees that take nothing for granted are
//! asked.

use super::engine::Means;
use super::expand::FlatRule;
use crate::classifier::synthetic::Random;

/// Bits of an address in a digest at the most.
const BITS_MAX: u32 = 32;
/// Prefixes looked at, in runs of neighbours.
const SAMPLE_MAX: usize = 1024;
const RUN: usize = 16;

/// Which bits a digest has, by half of an address: source high, source low, destination high,
/// destination low. No more than 32 of one address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest([u64; 4]);

impl Digest {
    /// The bits that tell these rules apart best.
    pub(super) fn new(rules: &[FlatRule]) -> Self {
        let source = Sample::new(rules.iter().map(|rule| rule.source.bits(128)));
        let destination = Sample::new(rules.iter().map(|rule| rule.destination.bits(128)));
        let [source, destination] = [source, destination].map(|sample| chosen_bits(&sample));
        let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
        let ([a, b], [c, d]) = (halves(source), halves(destination));
        Digest([a, b, c, d])
    }

    /// Which bits, by half.
    pub(super) fn masks(&self) -> [u64; 4] {
        self.0
    }

    /// The digest of the halves of both addresses.
    #[inline(always)]
    pub(super) fn of<E: Means>(&self, engine: E, halves: [u64; 4]) -> u64 {
        let [a, b, c, d] = self.0;
        let side = |high: (u64, u64), low: (u64, u64)| {
            let upper = u64::from(engine.gather(high.0, high.1)) << low.1.count_ones();
            upper | u64::from(engine.gather(low.0, low.1))
        };
        let source = side((halves[0], a), (halves[1], b));
        side((halves[2], c), (halves[3], d)) << BITS_MAX | source
    }
}

/// Prefixes of one address, and a key in each, to be told from the prefixes it is not in.
struct Sample {
    /// Value and care.
    prefixes: Vec<(u128, u128)>,
    /// By bit: the keys that have it, as a set.
    keys: Vec<Vec<u64>>,
    /// By prefix: the keys outside of it.
    outside: Vec<Vec<u64>>,
}

impl Sample {
    fn new(prefixes: impl Iterator<Item = (u128, u128)>) -> Self {
        let mut all: Vec<(u128, u128)> = prefixes.collect();
        all.sort_unstable();
        all.dedup();
        // Neighbours are told apart by the low bits, runs of them by the high ones.
        let runs = (SAMPLE_MAX / RUN).min(all.len().div_ceil(RUN));
        let starts = (0..runs).map(|run| run * all.len() / runs.max(1));
        let runs = starts.flat_map(|start| start..(start + RUN).min(all.len()));
        let mut prefixes: Vec<(u128, u128)> = runs.map(|place| all[place]).collect();
        prefixes.dedup();
        let words = prefixes.len().div_ceil(64);
        let (mut keys, mut random) = (vec![vec![0; words]; 128], Random(5));
        let mut outside = vec![vec![0; words]; prefixes.len()];
        for (place, &(value, care)) in prefixes.iter().enumerate() {
            let key = value | (random.between(0, u128::MAX) & !care);
            let (word, bit) = (place / 64, 1 << (place % 64));
            for number in (0..128).filter(|number| key >> number & 1 == 1) {
                keys[number][word] |= bit;
            }
            for (outside, (value, care)) in outside.iter_mut().zip(&prefixes) {
                outside[word] |= if (key ^ value) & care != 0 { bit } else { 0 };
            }
        }
        Sample {
            prefixes,
            keys,
            outside,
        }
    }

    /// By prefix: what a bit does not tell apart of what is left.
    fn left(&self, bit: usize, place: usize, left: &[u64]) -> impl Iterator<Item = u64> {
        let (value, care) = self.prefixes[place];
        let cares = if care >> bit & 1 == 1 { u64::MAX } else { 0 };
        let flip = if value >> bit & 1 == 1 { u64::MAX } else { 0 };
        let words = left.iter().zip(&self.keys[bit]);
        words.map(move |(left, keys)| left & !((keys ^ flip) & cares))
    }
}

/// Takes bits one by one, each the one that keeps most keys out of prefixes they are not in, of
/// those no bit has kept out; once all are, from the beginning.
fn chosen_bits(sample: &Sample) -> u128 {
    let count = |sets: &[Vec<u64>]| -> u64 {
        sets.iter()
            .flatten()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    };
    let mut chosen = 0u128;
    let mut left = sample.outside.clone();
    let mut is_first = true;
    for _ in 0..BITS_MAX {
        let before = count(&left);
        let remaining = |bit: &usize| -> u64 {
            let places = left.iter().enumerate();
            let words = places.flat_map(|(place, left)| sample.left(*bit, place, left));
            words.map(|word| u64::from(word.count_ones())).sum()
        };
        // Of equal bits the highest: more prefixes to come will care.
        let bits = (0..128).rev().filter(|bit| chosen >> bit & 1 == 0);
        let best = bits
            .map(|bit| (remaining(&bit), bit))
            .min_by_key(|(remaining, _)| *remaining);
        let Some((remaining, bit)) = best else {
            break;
        };
        if remaining == before {
            if is_first {
                break;
            }
            (left, is_first) = (sample.outside.clone(), true);
            continue;
        }
        is_first = false;
        chosen |= 1 << bit;
        left = left
            .iter()
            .enumerate()
            .map(|(place, left)| sample.left(bit, place, left).collect())
            .collect();
    }
    chosen
}
