//! The processor's own means: bits gathered by one instruction, eight rules tested at once, memory
//! asked for ahead, numbers checked once not checked again. All engines answer like [`Portable`].
#![allow(unsafe_code)]

use super::forest::Forest;
use super::frozen::{Frozen, Leaf, Node, Parts, Root};
use super::gather::gather;
use super::grid::{Cell, Grid};
use super::group::{Group, GroupV4, GroupV6, NO_RANK};
use super::key::{WORDS_V4, WORDS_V6};
use super::lookup;
use crate::classifier::RuleIndex;
use crate::wire::FlowKey;

/// Lookups of a batch at the most.
pub(super) const LOOKUPS: usize = 64;

/// What a lookup is made of.
///
/// # Safety
/// What `gather` gives is below two to the number of bits of the mask.
pub(super) unsafe trait Means: Copy {
    /// The bits of `word` that `mask` names, close together.
    fn gather(self, word: u64, mask: u64) -> u32;
    /// Bit by bit: is the rank above the limit?
    fn above(self, ranks: &[u32; LOOKUPS], limit: u32) -> u64;
    /// Lets the processor fetch a value while other work goes on. Any address will do.
    fn fetch<T>(self, value: *const T);
}

/// Tests groups of one kind.
pub(super) trait Engine<G, const W: usize>: Means {
    /// As [`Group::test`].
    fn test(self, group: &G, words: &[u64; W]) -> u32;
}

/// Lookups that ask a tree of a forest, side by side.
pub(super) struct Batch<'a, G, const W: usize> {
    pub(super) words: [[u64; W]; LOOKUPS],
    parts: &'a Parts<G>,
    /// The root asked: a node of `parts`.
    top: Node,
    /// Asked instead of the root.
    grid: Option<&'a Grid>,
    /// By place: number of a node of `parts`, to be asked next.
    nodes: [u32; LOOKUPS],
    /// At most [`LOOKUPS`].
    count: usize,
    /// By place: where a grid led to a leaf.
    leaves: [Leaf; LOOKUPS],
    /// Places of lookups that are not at a leaf yet, and how many.
    deeper: [u8; LOOKUPS],
    left: usize,
}

impl<'a, G: Group<W>, const W: usize> Batch<'a, G, W> {
    #[inline(always)]
    pub(super) fn new(forest: &'a Forest<G, W>, root: &Root, count: usize) -> Self {
        Batch {
            words: [[0; W]; LOOKUPS],
            parts: forest.parts(),
            top: forest.parts().nodes[root.node as usize],
            grid: forest.parts().grid.as_ref().filter(|_| root.has_grid),
            // The first node: there is one, as there is a root.
            nodes: [0; LOOKUPS],
            count: count.min(LOOKUPS),
            leaves: [Leaf::NOWHERE; LOOKUPS],
            deeper: [0; LOOKUPS],
            left: 0,
        }
    }

    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Turns to another tree, on behalf of so many lookups.
    #[inline(always)]
    pub(super) fn turn(&mut self, root: &Root, count: usize) {
        self.top = self.parts.nodes[root.node as usize];
        self.grid = None;
        self.count = count.min(LOOKUPS);
    }

    /// Takes the first step of a lookup, whose words are there.
    #[inline(always)]
    pub(super) fn enter<E: Engine<G, W>>(&mut self, engine: E, place: usize, fetch: bool) {
        let words = &self.words[place];
        if let Some(grid) = self.grid {
            let cell = cell(engine, grid, words);
            self.leaves[place] = cell.leaf();
            self.nodes[place] = cell.node();
            self.deeper[self.left & (LOOKUPS - 1)] = place as u8;
            self.left += usize::from(!cell.is_leaf());
            return;
        }
        let child = self.top.base + engine.gather(words[self.top.word::<W>()], self.top.mask);
        self.nodes[place] = child;
        if fetch {
            engine.fetch(self.parts.nodes.as_ptr().wrapping_add(child as usize));
        }
    }

    /// Takes the next step of a lookup; the node it was at.
    #[inline(always)]
    fn step<E: Engine<G, W>>(&mut self, engine: E, place: usize) -> Node {
        let number = self.nodes[place] as usize;
        // SAFETY: the number is 0 or that of a child of a node of `parts`, and `Forest::new` found
        // all children there are within `parts.nodes`; a leaf is its own child.
        let node = *unsafe { self.parts.nodes.get_unchecked(number) };
        let word = self.words[place][node.word::<W>()];
        self.nodes[place] = node.base + engine.gather(word, node.mask);
        node
    }

    /// Takes all lookups to their leaves, the first `steps` steps together, and tests these;
    /// `found` gets the place and the smallest rank.
    #[inline(always)]
    pub(super) fn ask<E: Engine<G, W>>(
        &mut self,
        engine: E,
        (steps, fetch_nodes, fetch_groups): (u32, bool, bool),
        mut found: impl FnMut(usize, u32),
    ) {
        let parts = self.parts;
        let count = self.count.min(LOOKUPS);
        if self.grid.is_none() {
            self.approach(engine, steps, fetch_nodes);
        }
        self.arrive(engine);
        let leaves = &self.leaves;
        if fetch_groups {
            for leaf in &leaves[..count] {
                engine.fetch(parts.groups.as_ptr().wrapping_add(leaf.first()));
            }
        }
        let mut answers = [NO_RANK; LOOKUPS];
        for (place, leaf) in leaves.iter().enumerate().take(count) {
            let words = &self.words[place];
            let first = leaf.first();
            // SAFETY: `leaf` is that of a leaf or a cell of `parts`, and `Forest::new` found its
            // groups, of which there is one at least, within `parts.groups`.
            let group = |number| unsafe { parts.groups.get_unchecked(number) };
            let mut answer = engine.test(group(first), words);
            // Nearly every leaf is one group.
            for number in first + 1..first + leaf.count() {
                if answer == NO_RANK {
                    answer = engine.test(group(number), words);
                }
            }
            if G::HAS_RECORDS {
                // It may stand in two lines, which the next begins in or behind.
                let record = parts.records.as_ptr().wrapping_add(answer as usize);
                engine.fetch(record);
                engine.fetch(record.wrapping_add(1));
            }
            answers[place] = answer;
        }
        for (place, &answer) in answers.iter().enumerate().take(count) {
            let mut rank = answer;
            if G::HAS_RECORDS && answer != NO_RANK {
                let (words, leaf) = (&self.words[place], self.leaves[place]);
                let record = parts.records.get(answer as usize);
                let verified = record.and_then(|record| record.rank(words));
                rank = verified.unwrap_or_else(|| parts.rank_in_spite(engine, leaf, words));
            }
            found(place, rank);
        }
    }

    /// Takes `steps` steps with all lookups, and one more, after which those at a leaf are known.
    #[inline(always)]
    fn approach<E: Engine<G, W>>(&mut self, engine: E, steps: u32, fetch: bool) {
        let count = self.count.min(LOOKUPS);
        for _ in 0..steps {
            for place in 0..count {
                self.step(engine, place);
                if fetch {
                    let next = self.nodes[place] as usize;
                    engine.fetch(self.parts.nodes.as_ptr().wrapping_add(next));
                }
            }
        }
        let mut left = 0;
        for place in 0..count {
            let node = self.step(engine, place);
            self.leaves[place] = node.detail;
            self.deeper[left & (LOOKUPS - 1)] = place as u8;
            left += usize::from(!node.is_leaf());
        }
        self.left = left;
    }

    /// Takes the lookups that are left to their leaves.
    #[inline(always)]
    fn arrive<E: Engine<G, W>>(&mut self, engine: E) {
        let mut left = self.left;
        while left > 0 {
            let mut still = 0;
            for index in 0..left.min(LOOKUPS) {
                let place = self.deeper[index] as usize & (LOOKUPS - 1);
                let node = self.step(engine, place);
                self.leaves[place] = node.detail;
                self.deeper[still & (LOOKUPS - 1)] = place as u8;
                still += usize::from(!node.is_leaf());
            }
            left = still;
        }
        self.left = 0;
    }
}

/// As [`Grid::cell`].
#[inline(always)]
pub(super) fn cell<E: Means, const W: usize>(engine: E, grid: &Grid, words: &[u64; W]) -> Cell {
    let [rows, columns] = grid.questions;
    let row = engine.gather(words[rows.word & (W - 1)], rows.mask) as usize;
    let column = engine.gather(words[columns.word & (W - 1)], columns.mask) as usize;
    // SAFETY: `Grid::check` found a place for every answer, and a cell for every two places.
    unsafe {
        let row = *grid.places[0].get_unchecked(row);
        let column = *grid.places[1].get_unchecked(column);
        *grid.cells.get_unchecked((row + column) as usize)
    }
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

    /// As [`lookup::run`].
    pub(super) fn run<G, const W: usize>(
        self,
        frozen: &Frozen<G, W>,
        keys: &[FlowKey],
        decisions: &mut [Option<RuleIndex>],
    ) -> bool
    where
        G: Group<W>,
        Avx2: Engine<G, W>,
    {
        match self {
            Level::Portable => lookup::run(Portable, frozen, keys, decisions),
            // SAFETY: the value exists only where `Avx2::detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(engine) => unsafe { x86::run(engine, frozen, keys, decisions) },
        }
    }

    /// As [`lookup::one`].
    pub(super) fn one<G, const W: usize>(
        self,
        frozen: &Frozen<G, W>,
        key: &FlowKey,
    ) -> Option<RuleIndex>
    where
        G: Group<W>,
        Avx2: Engine<G, W>,
    {
        match self {
            Level::Portable => lookup::one(Portable, frozen, key),
            // SAFETY: the value exists only where `Avx2::detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(engine) => unsafe { x86::one(engine, frozen, key) },
        }
    }
}

/// Plain code, for every processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portable;

// SAFETY: one bit is gathered for each bit of the mask.
unsafe impl Means for Portable {
    #[inline(always)]
    fn gather(self, word: u64, mask: u64) -> u32 {
        gather(word, mask)
    }

    #[inline(always)]
    fn above(self, ranks: &[u32; LOOKUPS], limit: u32) -> u64 {
        let bits = ranks.iter().enumerate();
        bits.fold(0, |bits, (place, &rank)| {
            bits | u64::from(rank > limit) << place
        })
    }

    #[inline(always)]
    fn fetch<T>(self, _value: *const T) {}
}

impl<G: Group<W>, const W: usize> Engine<G, W> for Portable {
    #[inline(always)]
    fn test(self, group: &G, words: &[u64; W]) -> u32 {
        group.test(words)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Avx2;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::*;
    use crate::classifier::bits::group::{LANES, Lanes, PortLanes};
    use crate::classifier::bits::key::PORT_WORD;

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
    pub(super) fn run<G, const W: usize>(
        engine: Avx2,
        frozen: &Frozen<G, W>,
        keys: &[FlowKey],
        decisions: &mut [Option<RuleIndex>],
    ) -> bool
    where
        G: Group<W>,
        Avx2: Engine<G, W>,
    {
        lookup::run(engine, frozen, keys, decisions)
    }

    /// One lookup inside such a function.
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub(super) fn one<G, const W: usize>(
        engine: Avx2,
        frozen: &Frozen<G, W>,
        key: &FlowKey,
    ) -> Option<RuleIndex>
    where
        G: Group<W>,
        Avx2: Engine<G, W>,
    {
        lookup::one(engine, frozen, key)
    }

    #[inline(always)]
    fn fetch_lines<T>(first: *const T) {
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

    /// Bit by bit: is the rank above the limit? Comes from an `Avx2` alone.
    #[inline(always)]
    fn ranks_above(ranks: &[u32; LOOKUPS], limit: u32) -> u64 {
        let mut at_most = 0;
        for (place, ranks) in ranks.as_chunks::<LANES>().0.iter().enumerate() {
            // SAFETY: AVX2 is there, as an `Avx2` was needed to come here.
            let bits = unsafe {
                let ranks = load(ranks);
                let least = _mm256_min_epu32(ranks, _mm256_set1_epi32(limit as i32));
                _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(least, ranks)))
            };
            at_most |= u64::from(bits as u8) << (LANES * place);
        }
        !at_most
    }

    /// Half of a word, the lower one first, read alone: it is spread straight from memory then.
    #[inline(always)]
    fn half<const NUMBER: usize>(word: &u64) -> i32 {
        const { assert!(NUMBER < 2) };
        // SAFETY: reads four of the eight bytes of the word.
        unsafe { std::ptr::from_ref(word).cast::<i32>().add(NUMBER).read() }
    }

    /// Lanes are not zero where ports or tag do not match.
    #[inline(always)]
    fn ports_differ(ports: &PortLanes, word: &u64) -> __m256i {
        // SAFETY: AVX2 is there, as an `Avx2` was needed to come here; the loads read 16 bytes of
        // arrays of eight numbers of 16 bits.
        unsafe {
            let code = _mm256_set1_epi32(half::<0>(word));
            let below = _mm256_subs_epu16(load(&ports.low), code);
            let above = _mm256_subs_epu16(code, load(&ports.high));
            let tag = _mm_set1_epi16(half::<1>(word) as i16);
            let value = _mm_loadu_si128(ports.tag_value.as_ptr().cast());
            let care = _mm_loadu_si128(ports.tag_care.as_ptr().cast());
            let tag = _mm256_cvtepu16_epi32(_mm_and_si128(_mm_xor_si128(tag, value), care));
            _mm256_or_si256(_mm256_or_si256(below, above), tag)
        }
    }

    /// The answer of the first lane that is zero.
    #[inline(always)]
    fn first_zero(differ: __m256i, ports: &PortLanes) -> u32 {
        // SAFETY: AVX2 is there, as an `Avx2` was needed to come here.
        let equal = unsafe {
            let zero = _mm256_cmpeq_epi32(differ, _mm256_setzero_si256());
            _mm256_movemask_ps(_mm256_castsi256_ps(zero)) as u32
        };
        let answer = ports.answer[equal.trailing_zeros() as usize & (LANES - 1)];
        if equal == 0 { NO_RANK } else { answer }
    }

    // SAFETY: the instruction gathers one bit for each bit of the mask.
    unsafe impl Means for Avx2 {
        #[inline(always)]
        fn gather(self, word: u64, mask: u64) -> u32 {
            // SAFETY: `self` proves BMI2.
            unsafe { _pext_u64(word, mask) as u32 }
        }

        #[inline(always)]
        fn above(self, ranks: &[u32; LOOKUPS], limit: u32) -> u64 {
            ranks_above(ranks, limit)
        }

        #[inline(always)]
        fn fetch<T>(self, value: *const T) {
            fetch_lines(value);
        }
    }

    /// As [`Group::test`].
    #[inline(always)]
    fn test_lanes(lanes: &Lanes, addresses: &u64, ports: &u64) -> u32 {
        // SAFETY: AVX2 is there, as an `Avx2` was needed to come here.
        let differ = unsafe {
            let differ = |key: i32, value, care| {
                let key = _mm256_set1_epi32(key);
                _mm256_and_si256(_mm256_xor_si256(key, load(value)), load(care))
            };
            let source = differ(
                half::<0>(addresses),
                &lanes.source_value,
                &lanes.source_care,
            );
            let destination = differ(
                half::<1>(addresses),
                &lanes.destination_value,
                &lanes.destination_care,
            );
            let both = _mm256_or_si256(source, destination);
            _mm256_or_si256(both, ports_differ(&lanes.ports, ports))
        };
        first_zero(differ, &lanes.ports)
    }

    impl Engine<GroupV4, WORDS_V4> for Avx2 {
        #[inline(always)]
        fn test(self, group: &GroupV4, words: &[u64; WORDS_V4]) -> u32 {
            test_lanes(&group.0, &words[0], &words[PORT_WORD])
        }
    }

    impl Engine<GroupV6, WORDS_V6> for Avx2 {
        #[inline(always)]
        fn test(self, group: &GroupV6, words: &[u64; WORDS_V6]) -> u32 {
            test_lanes(&group.0, &words[0], &words[PORT_WORD])
        }
    }
}
