//! Lists of rules become groups. Equal lists share groups, and small lists that have rules in
//! common are put together: a group holds up to eight rules, and a rule that does not belong to a
//! region does no harm there, since it either does not match or is the right answer.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::group::LANES;

/// Groups still being filled that a list is tried with.
const OPEN_MAX: usize = 16;
/// How much a shared rule weighs against a fuller group.
const SHARED_WEIGHT: usize = 16;

/// Lists of rules (positions, ascending), each to become one leaf.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    lists: Vec<Vec<u32>>,
    /// Of lists placed before, as they were given.
    known: HashMap<Vec<u32>, u32, BuildHasherDefault<ListHasher>>,
    /// Lists with room left.
    open: Vec<u32>,
}

impl Leaves {
    /// Number of the leaf that holds the rules.
    pub(super) fn place(&mut self, list: Vec<u32>) -> u32 {
        if let Some(&leaf) = self.known.get(&list) {
            return leaf;
        }
        let leaf = if list.len() > LANES {
            self.lists.push(list.clone());
            self.lists.len() as u32 - 1
        } else {
            self.pack(&list)
        };
        self.known.insert(list, leaf);
        leaf
    }

    /// Shares nothing of what was placed so far with what comes.
    pub(super) fn close(&mut self) {
        self.known.clear();
        self.open.clear();
    }

    fn pack(&mut self, list: &[u32]) -> u32 {
        let mut best: Option<(usize, usize)> = None;
        for (place, &leaf) in self.open.iter().enumerate() {
            let there = &self.lists[leaf as usize];
            let shared = list.iter().filter(|rule| there.contains(rule)).count();
            let together = there.len() + list.len() - shared;
            let gain = shared * SHARED_WEIGHT + together;
            if together <= LANES && best.is_none_or(|(most, _)| gain > most) {
                best = Some((gain, place));
            }
        }
        let Some((_, place)) = best else {
            let leaf = self.lists.len() as u32;
            self.lists.push(list.to_vec());
            if list.len() < LANES {
                if self.open.len() == OPEN_MAX {
                    self.open.remove(0);
                }
                self.open.push(leaf);
            }
            return leaf;
        };
        let leaf = self.open[place];
        let there = &mut self.lists[leaf as usize];
        there.extend_from_slice(list);
        there.sort_unstable();
        there.dedup();
        if there.len() == LANES {
            self.open.remove(place);
        }
        leaf
    }

    /// By leaf: its rules.
    pub(super) fn lists(&self) -> &[Vec<u32>] {
        &self.lists
    }

    /// Groups the leaves need.
    pub(super) fn groups(&self) -> usize {
        self.lists.iter().map(|list| groups_of(list.len())).sum()
    }
}

/// Mixes rule numbers; nobody chooses them against us.
#[derive(Debug, Default)]
struct ListHasher(u64);

impl Hasher for ListHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// Groups a list needs; an empty one needs one too, so that every leaf can be tested alike.
pub(super) fn groups_of(rules: usize) -> usize {
    rules.div_ceil(LANES).max(1)
}
