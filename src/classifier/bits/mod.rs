//! The any-bit trees: the strategy for rules written in prefixes and port ranges.
//!
//! A rule's way from the set into a leaf, and a key's way to the rule:
//!
//! ```text
//! RuleSet ─ expand ─▶ FlatRule      one family, one prefix a side (several for a set of ranges)
//!         ─ codes ──▶ WideRule      bits of a few 64-bit words: value and care; coded port ranges
//!         ─ choose ─▶ Question      up to 16 bits of one word that split a list best
//!         ─ build ──▶ nodes, lists  several trees; rules that would be copied are handed on
//!         ─ grid ───▶ cells         for few rules, a root that asks both addresses at once
//!         ─ leaves ─▶ groups        eight rules side by side, shared between leaves
//!         ─ tune ───▶ Frozen        the fastest of many variants
//!
//! FlowKey ─ key ────▶ words         addresses, coded ports, protocol, zone
//!         ─ lookup ─▶ leaf          child = base + gather(word, mask), for up to 64 keys at once
//!         ─ group ──▶ rank          the first matching lane; of all trees, the smallest decides
//! ```
//!
//! Terms: a **rank** is what a lookup answers, the position of the rule in its set. A bit a rule
//! does not care about is **open** in it. A **region** is what the answers on the way to a node say
//! about every key that gets there. A rule is **handed on** from one tree to the next.
//!
//! **One rule followed.** `allow 10.1.0.0/16 → any, TCP 80-443` at position 7 becomes one
//! [`FlatRule`](expand::FlatRule) of rank 7. Its pattern cares about the upper 16 of the 32 source
//! bits in word 0 and the protocol's 8 bits in word 1; the port range, which is no prefix, leaves
//! the lower bits open and is compared in the leaf. A root asking for 10 bits, 3 of which the
//! pattern leaves open, has it in 2³ of its 1,024 lists, or hands it on when that is one open bit
//! too many. In a list of eight rules or fewer it gets a lane of a group: value and care of both
//! addresses, the ends of both port ranges, value and care of the tag, and the rank 7.
//!
//! **One key followed.** Its words are made once. In the first tree the root's bits pick a child,
//! whose bits pick one of its own, down to a leaf; the group there gives the rank of the first lane
//! that matches. The next tree is asked unless its smallest rank is no better.
//!
//! **The grid.** Of few rules, the first tree's root may be a [grid](grid::Grid): it asks some bits
//! of both addresses at once, and answers that leave the same rules share a row or a column.
//!
//! **IPv6.** Trees and groups see a [digest](digest::Digest) of both addresses, as large as those
//! of IPv4; a record of the rule found tests the rest.
//!
//! **Changes** of single rules: [`Updatable`].
//!
//! A set that is not made of prefixes and ranges, like a peer of thousands of pods, would multiply
//! here. The strategy declines it ([`NotForBits`]), and the [class tree](super::tree) takes it.

mod build;
mod choose;
mod codes;
mod digest;
mod dump;
mod engine;
mod expand;
mod forest;
mod frozen;
mod gather;
mod grid;
mod group;
mod key;
mod leaves;
mod lookup;
mod parameters;
mod rebuild;
mod region;
mod tune;
mod update;

#[cfg(test)]
mod proof;
#[cfg(test)]
mod tests;

pub use dump::Step;
pub use parameters::Parameters;
pub use rebuild::{Rebuild, Rebuilt};
pub use tune::{Budget, Visits};
pub use update::{Updatable, UpdateError};

use self::build::TooLarge;
use self::engine::{LOOKUPS, Level};
use self::expand::expand;
use self::frozen::Frozen;
use self::group::{GroupV4, GroupV6};
use self::key::{WORDS_V4, WORDS_V6, wide_v4, wide_v6};

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
const FLAT_RULES_LEAST: usize = 1_024;

/// A compiled rule set.
#[derive(Debug, Clone)]
pub struct Bits {
    v4: Frozen<GroupV4, WORDS_V4>,
    v6: Frozen<GroupV6, WORDS_V6>,
    level: Level,
    lookup_ns: [f64; 2],
    visits: [Visits; 2],
    parameters: [Parameters; 2],
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
        lookup_ns: [v4.lookup_ns, v6.lookup_ns],
        visits: [v4.visits, v6.visits],
        parameters: [v4.parameters, v6.parameters],
    })
}

impl Bits {
    /// Memory of nodes, groups and tables.
    pub fn bytes(&self) -> u64 {
        let tables = self.v4.codes.bytes() + self.v6.codes.bytes();
        let trees = [
            self.v4.forest.parts().bytes(),
            self.v6.forest.parts().bytes(),
        ];
        tables + trees.as_flattened().iter().sum::<usize>() as u64
    }

    /// Up to [`LOOKUPS`] keys.
    fn classify_chunk(&self, keys: &[FlowKey], decisions: &mut [Option<RuleIndex>]) {
        let done = match keys.first().map(|key| key.family) {
            Some(Family::V4) => self.level.run(&self.v4, keys, decisions),
            Some(Family::V6) => self.level.run(&self.v6, keys, decisions),
            None => true,
        };
        if !done {
            self.classify_mixed(keys, decisions);
        }
    }

    /// Up to [`LOOKUPS`] keys of both families.
    fn classify_mixed(&self, keys: &[FlowKey], decisions: &mut [Option<RuleIndex>]) {
        for family in [Family::V4, Family::V6] {
            let mut lookups = [0u8; LOOKUPS];
            let mut own_keys = [keys[0]; LOOKUPS];
            let mut count = 0;
            for (lookup, key) in keys.iter().enumerate() {
                if key.family == family {
                    lookups[count] = lookup as u8;
                    own_keys[count] = *key;
                    count += 1;
                }
            }
            let mut own_decisions = [None; LOOKUPS];
            self.classify_chunk(&own_keys[..count], &mut own_decisions[..count]);
            for (&lookup, &decision) in lookups.iter().zip(&own_decisions).take(count) {
                decisions[lookup as usize] = decision;
            }
        }
    }
}

impl Classify for Bits {
    fn classify(&self, key: &FlowKey) -> Option<RuleIndex> {
        match key.family {
            Family::V4 => self.level.one(&self.v4, key),
            Family::V6 => self.level.one(&self.v6, key),
        }
    }

    fn classify_batch(&self, keys: &[FlowKey], decisions: &mut [Option<RuleIndex>]) {
        assert_eq!(keys.len(), decisions.len());
        for (keys, decisions) in keys.chunks(LOOKUPS).zip(decisions.chunks_mut(LOOKUPS)) {
            self.classify_chunk(keys, decisions);
        }
    }
}

/// Size and shape of a compiled set, of both families together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Trees.
    pub trees: u32,
    /// Nodes of all trees, leaves included.
    pub nodes: u32,
    /// Groups of eight rules.
    pub groups: u32,
    /// Most nodes a lookup visits, over all trees.
    pub depth_max: u32,
    /// Most rules a lookup tests, over all trees.
    pub rules_tested_max: u32,
}

impl Bits {
    /// Size and shape.
    pub fn shape(&self) -> Shape {
        let mut shape = Shape::default();
        self.v4.add_to(&mut shape);
        self.v6.add_to(&mut shape);
        shape
    }

    /// Nanoseconds a lookup in a batch takes, by the model the tuner rates with; of the family that
    /// takes longer.
    pub fn lookup_ns(&self) -> f64 {
        self.lookup_ns[0].max(self.lookup_ns[1])
    }

    /// What a lookup visits on average, IPv4 and IPv6, in the tuner's sample of keys.
    pub fn visits(&self) -> &[Visits; 2] {
        &self.visits
    }

    /// What the tuner settled on, IPv4 and IPv6.
    pub fn parameters(&self) -> &[Parameters; 2] {
        &self.parameters
    }
}
