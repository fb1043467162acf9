//! The any-bit trees: the strategy for rules written in prefixes and port ranges.
//!
//! A rule's way from the set into a leaf, and a key's way to the rule:
//!
//! ```text
//! RuleSet ─ expand ─▶ FlatRule      one family, one prefix a side (several for a set of ranges)
//!         ─ codes ──▶ WideRule      bits of a few 64-bit words: value and care; coded port ranges
//!         ─ choose ─▶ Question      up to 16 bits of one word that split a list best
//!         ─ build ──▶ nodes, lists  several trees; rules that would be copied are handed on
//!         ─ leaves ─▶ groups        eight rules side by side, shared between leaves
//!         ─ tune ───▶ Frozen        the fastest of many variants
//!
//! FlowKey ─ key ────▶ words         addresses, coded ports, protocol, zone
//!         ─ lookup ─▶ leaf          child = base + gather(word, mask), for up to 64 keys at once
//!         ─ group ──▶ rank          the first matching lane; the smallest rank of all trees decides
//! ```
//!
//! Terms: a **rank** is what a lookup answers, the position of the rule in its set. A bit a rule does
//! not care about is **open** in it. A **region** is what the answers on the way to a node say about
//! every key that gets there. A rule is **handed on** from one tree to the next.
//!
//! A set that is not made of prefixes and ranges, like a peer of thousands of pods, would multiply
//! here. The strategy declines it ([`NotForBits`]), and the [class tree](super::tree) takes it.

mod build;
mod choose;
mod codes;
mod engine;
mod expand;
mod frozen;
mod group;
mod key;
mod leaves;
mod lookup;
mod parameters;
mod tune;

#[cfg(test)]
mod tests;

pub use parameters::Parameters;
pub use tune::Budget;

use self::build::TooLarge;
use self::engine::Level;
use self::expand::expand;
use self::frozen::Frozen;
use self::group::{GroupV4, GroupV6, NO_RANK};
use self::key::{WORDS_V4, WORDS_V6, wide_v4, wide_v6, words_v4, words_v6};
use self::lookup::{Batch, LOOKUPS};
use self::tune::{Coded, Tuned, tune};
use super::{Classify, RuleIndex, RuleSet};
use crate::wire::{Family, FlowKey};

/// Why a rule set is not for this strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotForBits {
    /// Address sets would become too many prefixes.
    #[error("more than {allowed} rules of one prefix a side, at rule {}", rule.0)]
    Prefixes {
        /// Rules of one prefix a side allowed.
        allowed: usize,
        /// The rule at which there were more.
        rule: RuleIndex,
    },
    /// Rules name too many zones.
    #[error("{needed} zones, {allowed} allowed")]
    Zones {
        /// Zones named.
        needed: usize,
        /// Zones allowed.
        allowed: usize,
    },
    /// Trees of every kind tried would be too large, or have leaves too long.
    #[error("trees of {} rules would be too large", .0)]
    TooLarge(usize),
}

/// Rules of one prefix a side allowed for each rule of the set.
const FLAT_RULES_EACH: usize = 4;
/// The same, whatever the number of rules.
const FLAT_RULES_LEAST: usize = 16_384;

/// A compiled rule set.
#[derive(Debug, Clone)]
pub struct Bits {
    v4: Frozen<GroupV4, WORDS_V4>,
    v6: Frozen<GroupV6, WORDS_V6>,
    level: Level,
    costs: [f64; 2],
    parameters: [Parameters; 2],
    rules: u32,
}

/// Compiles rules.
///
/// # Errors
/// When the set is not for this strategy.
pub fn compile(rules: &RuleSet, budget: &Budget) -> Result<Bits, NotForBits> {
    let flat_rules_max = rules.rules().len() * FLAT_RULES_EACH + FLAT_RULES_LEAST;
    let flat = |family| expand(rules, family, flat_rules_max);
    let (flat_v4, flat_v6) = (flat(Family::V4)?, flat(Family::V6)?);
    let too_large = |rules: usize| move |TooLarge| NotForBits::TooLarge(rules);
    let v4: Tuned<GroupV4, WORDS_V4> =
        tune(&Coded::new(&flat_v4, wide_v4), budget).map_err(too_large(flat_v4.len()))?;
    let v6: Tuned<GroupV6, WORDS_V6> =
        tune(&Coded::new(&flat_v6, wide_v6), budget).map_err(too_large(flat_v6.len()))?;
    Ok(Bits {
        v4: v4.frozen,
        v6: v6.frozen,
        level: Level::best(),
        costs: [v4.cost, v6.cost],
        parameters: [v4.parameters, v6.parameters],
        rules: rules.rules().len() as u32,
    })
}

impl Bits {
    /// Memory of nodes, groups and tables.
    pub fn bytes(&self) -> u64 {
        let tables = self.v4.codes.bytes() + self.v6.codes.bytes();
        self.v4.tree_bytes() + self.v6.tree_bytes() + tables
    }

    fn batch_v4<'a>(&self, keys: impl ExactSizeIterator<Item = &'a FlowKey>) -> Batch<WORDS_V4> {
        let mut batch = Batch::new(keys.len());
        for (words, key) in batch.words.iter_mut().zip(keys) {
            *words = words_v4(key, &self.v4.codes);
        }
        self.level.batch_v4(&self.v4, &mut batch);
        batch
    }

    fn batch_v6<'a>(&self, keys: impl ExactSizeIterator<Item = &'a FlowKey>) -> Batch<WORDS_V6> {
        let mut batch = Batch::new(keys.len());
        for (words, key) in batch.words.iter_mut().zip(keys) {
            *words = words_v6(key, &self.v6.codes);
        }
        self.level.batch_v6(&self.v6, &mut batch);
        batch
    }

    /// Up to [`LOOKUPS`] keys.
    fn classify_chunk(&self, keys: &[FlowKey], decisions: &mut [Option<RuleIndex>]) {
        let v6 = keys.iter().filter(|key| key.family == Family::V6).count();
        let all = keys.iter();
        match (v6, keys.len() - v6) {
            (0, _) => answer(&self.batch_v4(all).ranks, decisions.iter_mut()),
            (_, 0) => answer(&self.batch_v6(all).ranks, decisions.iter_mut()),
            _ => {
                let mut lookups = [[0u8; LOOKUPS]; 2];
                let mut counts = [0usize; 2];
                for (lookup, key) in keys.iter().enumerate() {
                    let family = usize::from(key.family == Family::V6);
                    lookups[family][counts[family]] = lookup as u8;
                    counts[family] += 1;
                }
                let of = |family: usize| lookups[family][..counts[family]].iter();
                let keys_of = |family: usize| of(family).map(|&lookup| &keys[lookup as usize]);
                let ranks = [
                    self.batch_v4(keys_of(0)).ranks,
                    self.batch_v6(keys_of(1)).ranks,
                ];
                for (family, ranks) in ranks.iter().enumerate() {
                    for (&lookup, &rank) in of(family).zip(ranks) {
                        decisions[lookup as usize] = decision(rank);
                    }
                }
            }
        }
    }
}

fn answer<'a>(ranks: &[u32], decisions: impl Iterator<Item = &'a mut Option<RuleIndex>>) {
    for (slot, &rank) in decisions.zip(ranks) {
        *slot = decision(rank);
    }
}

#[inline(always)]
fn decision(rank: u32) -> Option<RuleIndex> {
    (rank != NO_RANK).then_some(RuleIndex(rank))
}

impl Classify for Bits {
    fn classify(&self, key: &FlowKey) -> Option<RuleIndex> {
        let mut decisions = [None];
        self.classify_chunk(std::slice::from_ref(key), &mut decisions);
        decisions[0]
    }

    fn classify_batch(&self, keys: &[FlowKey], decisions: &mut [Option<RuleIndex>]) {
        assert_eq!(keys.len(), decisions.len());
        for (keys, decisions) in keys.chunks(LOOKUPS).zip(decisions.chunks_mut(LOOKUPS)) {
            self.classify_chunk(keys, decisions);
        }
    }
}
