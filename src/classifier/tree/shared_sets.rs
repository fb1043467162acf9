//! Large address sets, divided into classes once for all trees that speak of them.
//!
//! A set of thousands of pods may be the other end of rules in hundreds of shards. Were its ranges
//! part of each shard's own division of addresses, the same pods would be divided in each of them
//! again. Here they are divided once, and a tree knows such a set as a condition on another field:
//! the *shared class* of the source or destination.
//!
//! ```text
//! address ─▶ shared class (one table for all) ─▶ class of the tree's field ─▶ …
//! ```
//!
//! Sets not in here, blocks above all, stay conditions on the address itself.

use std::collections::HashMap;
use std::sync::Arc;

use super::classes::{FieldClasses, Runs, TooMany, divide};
use super::interval_index::IntervalIndex;
use super::limits::Limits;
use super::normalise::{ConditionId, Ranges};
use crate::classifier::{AddressSet, RuleSet};
use crate::wire::{Address, Family};

/// Ranges from which on a set is worth a place here.
const RANGES_MIN: usize = 4;

/// Addresses a range holds on average at most. Wider sets are blocks with holes: they would be
/// members of nearly every class.
const RANGE_ADDRESSES_MAX: u128 = 256;

/// The address sets and the shared classes. Immutable; trees keep what they need of it.
#[derive(Debug)]
pub struct SharedSets {
    v4: Arc<IntervalIndex<u32>>,
    v6: Arc<IntervalIndex<u128>>,
    /// Shared classes in each set, by family.
    runs_of: HashMap<AddressSet, [Runs; 2]>,
}

impl SharedSets {
    /// Divides the large sets of these rules; none of them where that would bring nothing, or where
    /// they overlap beyond a limit.
    pub fn of<'r>(rules: impl IntoIterator<Item = &'r RuleSet>, limits: &Limits) -> SharedSets {
        let mut seen = std::collections::HashSet::new();
        let mut sets: Vec<&AddressSet> = rules
            .into_iter()
            .flat_map(RuleSet::address_sets)
            .filter(|set| is_large(set) && seen.insert(*set))
            .collect();
        let count = |set: &AddressSet| set.iter().count();
        let ranges = sets.iter().map(|set| count(set)).sum::<usize>();
        if ranges < limits.shared_ranges_min as usize {
            sets.clear();
        }
        // The order of rules says nothing about sets: equal sets give equal classes.
        sets.sort_by_cached_key(|set| (std::cmp::Reverse(count(set)), set.iter().next()));
        let divided = [Family::V4, Family::V6].map(|family| divided(&sets, family, limits));
        let [Ok(v4), Ok(v6)] = divided else {
            return SharedSets::of([], limits);
        };
        let runs = |of: &FieldClasses, position: usize| of.runs_of[position + 1].clone();
        let runs_of = sets.iter().enumerate().map(|(position, &set)| {
            let runs = [runs(&v4, position), runs(&v6, position)];
            (set.clone(), runs)
        });
        SharedSets {
            runs_of: runs_of.collect(),
            v4: Arc::new(IntervalIndex::new(&v4.stretches)),
            v6: Arc::new(IntervalIndex::new(&v6.stretches)),
        }
    }

    /// The shared classes in a set, when it is in here; empty when it holds no address of the
    /// family.
    pub(super) fn runs_of(&self, set: &AddressSet, family: Family) -> Option<&Runs> {
        let [v4, v6] = self.runs_of.get(set)?;
        Some(match family {
            Family::V4 => v4,
            Family::V6 => v6,
        })
    }

    pub(super) fn v4(&self) -> &Arc<IntervalIndex<u32>> {
        &self.v4
    }

    pub(super) fn v6(&self) -> &Arc<IntervalIndex<u128>> {
        &self.v6
    }

    /// Memory of what lookups read.
    pub fn bytes(&self) -> u64 {
        self.v4.bytes() + self.v6.bytes()
    }
}

/// Is it a list of single addresses and small blocks, and a long one?
fn is_large(set: &AddressSet) -> bool {
    let families = [Family::V4, Family::V6].map(|family| set.ranges(family));
    let is_list = |ranges: &&[(Address, Address)]| {
        let ranges = ranges.iter();
        let most = RANGE_ADDRESSES_MAX * ranges.len() as u128;
        let widths = ranges.map(|(first, last)| last.to_bits() - first.to_bits());
        widths.fold(0, u128::saturating_add) <= most
    };
    families.iter().any(|ranges| ranges.len() >= RANGES_MIN) && families.iter().all(is_list)
}

fn divided(sets: &[&AddressSet], family: Family, limits: &Limits) -> Result<FieldClasses, TooMany> {
    let last = family.last_address().to_bits();
    let any: Ranges = vec![(0, last)];
    let own = sets.iter().map(|set| {
        let ranges = set.ranges(family).iter();
        let bits = ranges.map(|(first, last)| (first.to_bits(), last.to_bits()));
        bits.collect()
    });
    let conditions: Vec<Ranges> = std::iter::once(any).chain(own).collect();
    let used = |id: ConditionId| id != ConditionId::ANY;
    divide(&conditions, last, used, limits)
}
