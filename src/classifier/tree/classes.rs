//! Step 3: the values of a field fall into classes: two values are of one class when every
//! condition that holds one of them holds the other.
//!
//! However many addresses a set has, only how the sets overlap counts from here on: rules, nodes
//! and leaves speak of classes. Classes are numbered so that a condition is few runs of class
//! numbers: conditions are ranked by size, largest first, and classes sorted by the list of ranks
//! of the conditions they are in. Where conditions only nest (prefixes; namespaces, their
//! applications, their pods) each is then exactly one run.

use std::collections::HashMap;

use super::field::{FIELDS, Field};
use super::limits::{CompileError, Limit, Limits};
use super::normalise::{ConditionId, NormalFamily, Ranges};
use crate::classifier::RuleIndex;

/// Inclusive runs of class numbers, sorted, disjoint, not touching.
pub(super) type Runs = Vec<(u32, u32)>;

/// The classes of one field.
#[derive(Debug, Clone)]
pub(super) struct FieldClasses {
    /// First value and class of each stretch of values of one class; the first begins at 0 and
    /// neighbours differ.
    pub(super) stretches: Vec<(u128, u32)>,
    /// The conditions each class is in, by class.
    pub(super) conditions_of: Vec<Vec<ConditionId>>,
    /// The classes in each condition, by condition; empty for conditions no rule uses.
    pub(super) runs_of: Vec<Runs>,
}

/// The classes of all fields of a family.
pub(super) type Classes = [FieldClasses; FIELDS];

impl FieldClasses {
    /// How many classes there are; at least one.
    pub(super) fn count(&self) -> u32 {
        self.conditions_of.len() as u32
    }

    /// Does `outer` hold every value `inner` holds?
    pub(super) fn contains(&self, outer: ConditionId, inner: ConditionId) -> bool {
        if outer == inner || outer == ConditionId::ANY {
            return true;
        }
        if inner == ConditionId::ANY {
            return false;
        }
        let outer = &self.runs_of[outer.0 as usize];
        let inner = &self.runs_of[inner.0 as usize];
        let mut from = 0;
        inner.iter().all(|&(first, last)| {
            from += outer[from..].partition_point(|run| run.1 < first);
            outer
                .get(from)
                .is_some_and(|run| run.0 <= first && last <= run.1)
        })
    }
}

/// Finds the classes of every field, as the rules of the family need them.
pub(super) fn classes(normal: &NormalFamily, limits: &Limits) -> Result<Classes, CompileError> {
    let mut found = Vec::with_capacity(FIELDS);
    for field in Field::ALL {
        found.push(field_classes(normal, field, limits)?);
    }
    Ok(found.try_into().expect("one entry a field"))
}

fn field_classes(
    normal: &NormalFamily,
    field: Field,
    limits: &Limits,
) -> Result<FieldClasses, CompileError> {
    let conditions = &normal.conditions[field as usize];
    let mut used_by = vec![None; conditions.len()];
    for rule in &normal.rules {
        used_by[rule.condition(field).0 as usize].get_or_insert(rule.index);
    }
    let used = |id: ConditionId| used_by[id.0 as usize].is_some();
    let last_value = field.last_value(normal.family);
    divide(conditions, last_value, used, limits).map_err(|TooMany { needed, condition }| {
        CompileError::LimitExceeded {
            limit: Limit::Memberships,
            allowed: limits.memberships(),
            needed,
            rule: used_by[condition.0 as usize].unwrap_or(RuleIndex(0)),
        }
    })
}

/// There would be more memberships than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    /// As many, and perhaps more.
    needed: u64,
    /// A condition that holds where the limit is passed.
    condition: ConditionId,
}

/// Divides values from 0 to `last_value` by the conditions that are used; the first, which is every
/// value, divides nothing.
pub(super) fn divide(
    conditions: &[Ranges],
    last_value: u128,
    used: impl Fn(ConditionId) -> bool,
    limits: &Limits,
) -> Result<FieldClasses, TooMany> {
    let sweep = Sweep::run(conditions, last_value, used, limits)?;
    Ok(number(sweep, conditions.len()))
}

/// Walks over the field's values from 0 upwards with the set of conditions that hold there.
#[derive(Default)]
struct Sweep {
    /// First value and provisional class of each stretch.
    stretches: Vec<(u128, u32)>,
    /// The conditions of each provisional class, sorted.
    conditions_of: Vec<Vec<u32>>,
    ids: HashMap<Vec<u32>, u32>,
}

impl Sweep {
    fn run(
        conditions: &[Ranges],
        last_value: u128,
        used: impl Fn(ConditionId) -> bool,
        limits: &Limits,
    ) -> Result<Self, TooMany> {
        let mut edges: Vec<(u128, u32)> = Vec::new();
        // The condition that is everything (the first) separates nothing.
        for (id, ranges) in conditions.iter().enumerate().skip(1) {
            if used(ConditionId(id as u32)) {
                for &(first, last) in ranges {
                    edges.push((first, id as u32));
                    if last < last_value {
                        edges.push((last + 1, id as u32));
                    }
                }
            }
        }
        edges.sort_unstable();

        let mut sweep = Sweep::default();
        let mut active: Vec<u32> = Vec::new();
        let mut memberships: u64 = 0;
        if edges.first().is_none_or(|&(value, _)| value > 0) {
            sweep.stretch(0, &active);
        }
        for group in edges.chunk_by(|one, other| one.0 == other.0) {
            for &(_, id) in group {
                // Ranges of one condition do not touch: each edge begins or ends one.
                match active.binary_search(&id) {
                    Ok(position) => drop(active.remove(position)),
                    Err(position) => active.insert(position, id),
                }
            }
            sweep.stretch(group[0].0, &active);
            memberships += active.len() as u64;
            if memberships > limits.memberships() {
                return Err(TooMany {
                    needed: memberships,
                    condition: ConditionId(group[0].1),
                });
            }
        }
        Ok(sweep)
    }

    fn stretch(&mut self, first: u128, active: &[u32]) {
        let class = match self.ids.get(active) {
            Some(&class) => class,
            None => {
                let class = self.conditions_of.len() as u32;
                self.conditions_of.push(active.to_vec());
                self.ids.insert(active.to_vec(), class);
                class
            }
        };
        if self.stretches.last().is_none_or(|last| last.1 != class) {
            self.stretches.push((first, class));
        }
    }
}

/// Gives the classes their final numbers (see the head of this file).
fn number(sweep: Sweep, conditions: usize) -> FieldClasses {
    let mut sizes = vec![0u32; conditions];
    for class in &sweep.conditions_of {
        for &id in class {
            sizes[id as usize] += 1;
        }
    }
    let mut ranked: Vec<u32> = (0..conditions as u32).collect();
    ranked.sort_unstable_by_key(|&id| (std::cmp::Reverse(sizes[id as usize]), id));
    let mut rank_of = vec![0u32; conditions];
    for (rank, &id) in ranked.iter().enumerate() {
        rank_of[id as usize] = rank as u32;
    }

    let mut order: Vec<(Vec<u32>, u32)> = sweep
        .conditions_of
        .iter()
        .enumerate()
        .map(|(class, ids)| {
            let mut ranks: Vec<u32> = ids.iter().map(|&id| rank_of[id as usize]).collect();
            ranks.sort_unstable();
            (ranks, class as u32)
        })
        .collect();
    order.sort_unstable();

    let mut final_of = vec![0u32; order.len()];
    let mut conditions_of = Vec::with_capacity(order.len());
    let mut runs_of: Vec<Runs> = vec![Vec::new(); conditions];
    runs_of[ConditionId::ANY.0 as usize].push((0, order.len() as u32 - 1));
    for (class, (_, provisional)) in order.iter().enumerate() {
        let class = class as u32;
        final_of[*provisional as usize] = class;
        let ids = &sweep.conditions_of[*provisional as usize];
        for &id in ids {
            match runs_of[id as usize].last_mut() {
                Some(run) if run.1 + 1 == class => run.1 = class,
                _ => runs_of[id as usize].push((class, class)),
            }
        }
        conditions_of.push(ids.iter().map(|&id| ConditionId(id)).collect());
    }
    FieldClasses {
        stretches: sweep
            .stretches
            .into_iter()
            .map(|(first, class)| (first, final_of[class as usize]))
            .collect(),
        conditions_of,
        runs_of,
    }
}
