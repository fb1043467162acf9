//! One field as a short list of rules sees it: which classes differ for them, and in what.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::build::Builder;
use super::field::Field;
use super::normalise::ConditionId;

/// The conditions a list of rules has on one field, and where in the classes they begin and end.
pub(super) struct LocalField {
    /// The list's rules, by condition, within that by strength.
    rules: Vec<u32>,
    /// How many rules have no condition on the field; they stand first in `rules`.
    any: usize,
    /// The other rules' conditions: the rules of each, as a range of `rules`.
    conditions: Vec<Range<usize>>,
    /// Class and condition (its position in `conditions`), sorted: before that class the condition
    /// begins to hold or ends.
    edges: Vec<(u32, u32)>,
}

/// What testing a field would bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survey {
    /// Groups of classes that differ in the rules that hold them.
    pub(super) groups: u64,
    /// Rules in the lists of all groups together.
    pub(super) copies: u64,
}

/// The classes, grouped by the conditions that hold them.
pub(super) struct Groups {
    /// First class and group of each run of classes.
    pub(super) runs: Vec<(u32, u32)>,
    /// By group: positions of the conditions that hold.
    pub(super) holding: Vec<Vec<u32>>,
}

impl LocalField {
    pub(super) fn of(builder: &Builder<'_>, list: &[u32], field: Field) -> Self {
        let mut pairs: Vec<(ConditionId, u32)> = list
            .iter()
            .map(|&rule| (builder.rule(rule).condition(field), rule))
            .collect();
        pairs.sort_unstable();
        let any = pairs.partition_point(|pair| pair.0 == ConditionId::ANY);
        let runs_of = &builder.classes[field as usize].runs_of;
        let mut conditions = Vec::new();
        let mut edges = Vec::new();
        let mut begin = any;
        for same in pairs[any..].chunk_by(|one, other| one.0 == other.0) {
            let id = conditions.len() as u32;
            for &(first, last) in &runs_of[same[0].0.0 as usize] {
                edges.extend([(first, id), (last + 1, id)]);
            }
            conditions.push(begin..begin + same.len());
            begin += same.len();
        }
        edges.sort_unstable();
        // The last class ends nothing that a class after it could see.
        let count = builder.classes[field as usize].count();
        edges.truncate(edges.partition_point(|edge| edge.0 < count));
        LocalField {
            rules: pairs.into_iter().map(|pair| pair.1).collect(),
            any,
            conditions,
            edges,
        }
    }

    /// How many rules and edges it holds.
    pub(super) fn size(&self) -> usize {
        self.rules.len() + self.edges.len()
    }

    /// Counts groups and copies without making them.
    ///
    /// Groups are told apart by a 64-bit sum of hashes: a collision would make the estimate a
    /// little wrong, nothing else.
    pub(super) fn survey(&self) -> Survey {
        let mut active = vec![false; self.conditions.len()];
        let mut weight = self.any as u64;
        let mut signature: u64 = 0;
        let mut seen = HashSet::new();
        let mut survey = Survey {
            groups: 0,
            copies: 0,
        };
        let mut count = |signature, weight| {
            if seen.insert(signature) {
                survey.groups += 1;
                survey.copies += weight;
            }
        };
        if self.edges.first().is_none_or(|edge| edge.0 > 0) {
            count(signature, weight);
        }
        for same in self.edges.chunk_by(|one, other| one.0 == other.0) {
            for &(_, id) in same {
                let rules = self.conditions[id as usize].len() as u64;
                let active = &mut active[id as usize];
                *active = !*active;
                signature ^= mix(id);
                weight = if *active {
                    weight + rules
                } else {
                    weight - rules
                };
            }
            count(signature, weight);
        }
        survey
    }

    /// Splits the list so that testing the first part makes no more than about `copies_max` copies:
    /// the rules copied most often are moved to the second part. Both in order of strength.
    pub(super) fn split(&self, copies_max: u64) -> (Vec<u32>, Vec<u32>) {
        // Copies by condition, counted in runs of classes: groups are fewer, so this is careful.
        let mut places: Vec<u32> = self.edges.iter().map(|edge| edge.0).collect();
        places.dedup();
        let mut spread = vec![0i64; self.conditions.len()];
        let mut active = vec![false; self.conditions.len()];
        for &(class, id) in &self.edges {
            let place = places.partition_point(|&other| other < class) as i64;
            let id = id as usize;
            spread[id] += if active[id] { place } else { -place };
            active[id] = !active[id];
        }
        for (spread, active) in spread.iter_mut().zip(active) {
            *spread += if active { places.len() as i64 } else { 0 };
        }
        let mut by_spread: Vec<u32> = (0..self.conditions.len() as u32).collect();
        by_spread.sort_by_key(|&id| spread[id as usize]);
        let mut copies = 0;
        let mut narrow = Vec::new();
        let mut wide = self.rules[..self.any].to_vec();
        for id in by_spread {
            let rules = &self.rules[self.conditions[id as usize].clone()];
            copies += spread[id as usize] as u64 * rules.len() as u64;
            let part = if copies <= copies_max {
                &mut narrow
            } else {
                &mut wide
            };
            part.extend_from_slice(rules);
        }
        narrow.sort_unstable();
        wide.sort_unstable();
        (narrow, wide)
    }

    /// Groups the classes; `None` when the groups' lists would hold more than `copies_max` rules.
    pub(super) fn groups(&self, copies_max: u64) -> Option<Groups> {
        let mut ids: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut groups = Groups {
            runs: Vec::new(),
            holding: Vec::new(),
        };
        let mut active: Vec<u32> = Vec::new();
        let mut weight = self.any as u64;
        let mut copies = 0;
        let mut add = |class, active: &Vec<u32>, weight: u64| {
            let group = match ids.get(active) {
                Some(&group) => group,
                None => {
                    let group = groups.holding.len() as u32;
                    ids.insert(active.clone(), group);
                    groups.holding.push(active.clone());
                    copies += weight;
                    group
                }
            };
            groups.runs.push((class, group));
            copies <= copies_max
        };
        if self.edges.first().is_none_or(|edge| edge.0 > 0) && !add(0, &active, weight) {
            return None;
        }
        for same in self.edges.chunk_by(|one, other| one.0 == other.0) {
            for &(_, id) in same {
                let rules = self.conditions[id as usize].len() as u64;
                match active.binary_search(&id) {
                    Ok(position) => {
                        active.remove(position);
                        weight -= rules;
                    }
                    Err(position) => {
                        active.insert(position, id);
                        weight += rules;
                    }
                }
            }
            if !add(same[0].0, &active, weight) {
                return None;
            }
        }
        Some(groups)
    }

    /// First class of each run of classes and the strongest rule that holds it; neighbours differ.
    pub(super) fn decisions(&self) -> Vec<(u32, Option<u32>)> {
        let mut decisions: Vec<(u32, Option<u32>)> = Vec::new();
        let mut add = |class, rule| {
            if decisions.last().is_none_or(|last| last.1 != rule) {
                decisions.push((class, rule));
            }
        };
        let any = self.rules[..self.any].first().copied();
        let strongest = |id: u32| self.rules[self.conditions[id as usize].start];
        if self.edges.first().is_none_or(|edge| edge.0 > 0) {
            add(0, any);
        }
        let mut active: BTreeSet<u32> = any.into_iter().collect();
        for same in self.edges.chunk_by(|one, other| one.0 == other.0) {
            for &(_, id) in same {
                let rule = strongest(id);
                if !active.remove(&rule) {
                    active.insert(rule);
                }
            }
            add(same[0].0, active.first().copied());
        }
        decisions
    }

    /// The rules of a group, strongest first.
    pub(super) fn rules(&self, holding: &[u32]) -> Vec<u32> {
        let mut rules = self.rules[..self.any].to_vec();
        for &id in holding {
            rules.extend_from_slice(&self.rules[self.conditions[id as usize].clone()]);
        }
        rules.sort_unstable();
        rules
    }
}

/// Spreads small numbers over 64 bits (the finaliser of splitmix64).
fn mix(id: u32) -> u64 {
    let mut bits = (u64::from(id) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
