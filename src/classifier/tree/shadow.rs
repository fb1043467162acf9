//! Step 2: rules that one stronger rule covers wholly are taken out and reported.
//!
//! Whatever key such a rule matches, the stronger one has decided it. (A rule that only several
//! stronger rules cover together is kept; the tree drops it region by region.)

use super::classes::Classes;
use super::field::{FIELDS, Field};
use super::normalise::{ConditionId, Normal, NormalFamily, NormalRule};
use crate::classifier::RuleIndex;

/// Pairs of rules compared at most. Only very large sets of rules that nearly all overlap come
/// near; past it nothing more is taken out, which costs speed, never exactness.
const COMPARISONS_MAX: u64 = 200_000_000;

/// What the step found.
#[derive(Debug, Clone, Default)]
pub(super) struct Shadowed {
    /// `(covered, strongest covering)` of rules covered in every family they can match in, by the
    /// same rule; ordered by the covered rule.
    pub(super) pairs: Vec<(RuleIndex, RuleIndex)>,
    /// By family: the rules taken out of its list, ascending.
    pub(super) taken: [Vec<RuleIndex>; 2],
    /// Did the search run to its end?
    pub(super) complete: bool,
}

/// Takes covered rules out of both families' lists.
///
/// `classes` are the classes of the lists as they are before.
pub(super) fn remove_shadowed(normal: &mut Normal, classes: &[Classes; 2]) -> Shadowed {
    let mut result = Shadowed::default();
    let mut left = COMPARISONS_MAX;
    let searches = [0, 1].map(|f| Search::new(&normal[f], &classes[f]));
    for index in all_indices(normal) {
        let rules = [0, 1].map(|f| searches[f].find(index));
        let covering = [0, 1].map(|f| searches[f].strongest(rules[f]?, &mut left, |_| true));
        for (taken, covering) in result.taken.iter_mut().zip(covering) {
            if covering.is_some() {
                taken.push(index);
            }
        }
        let common = match (rules, covering) {
            ([Some(_), None], [one, _]) | ([None, Some(_)], [_, one]) => one,
            ([Some(rule), Some(other)], [Some(_), Some(_)]) => {
                searches[0].strongest(rule, &mut left, |index| {
                    searches[1]
                        .find(index)
                        .is_some_and(|covering| searches[1].covers(covering, other))
                })
            }
            _ => None,
        };
        result
            .pairs
            .extend(common.map(|covering| (index, covering)));
    }
    result.complete = left > 0;
    drop(searches);
    for (family, taken) in normal.iter_mut().zip(&result.taken) {
        family
            .rules
            .retain(|rule| taken.binary_search(&rule.index).is_err());
    }
    result
}

/// The rules that can match in either family, ascending.
fn all_indices(normal: &Normal) -> Vec<RuleIndex> {
    let mut indices: Vec<RuleIndex> = normal
        .iter()
        .flat_map(|family| family.rules.iter().map(|rule| rule.index))
        .collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

/// Finds the rules of one family that cover a given one.
struct Search<'a> {
    normal: &'a NormalFamily,
    classes: &'a Classes,
    /// By field, then condition: positions of the rules with that condition, ascending.
    rules_of: [Vec<Vec<u32>>; FIELDS],
}

impl<'a> Search<'a> {
    fn new(normal: &'a NormalFamily, classes: &'a Classes) -> Self {
        let mut rules_of =
            Field::ALL.map(|field| vec![Vec::new(); normal.conditions[field as usize].len()]);
        for (position, rule) in normal.rules.iter().enumerate() {
            for field in Field::ALL {
                rules_of[field as usize][rule.condition(field).0 as usize].push(position as u32);
            }
        }
        Search {
            normal,
            classes,
            rules_of,
        }
    }

    fn find(&self, index: RuleIndex) -> Option<&'a NormalRule> {
        let rules = &self.normal.rules;
        let position = rules.binary_search_by_key(&index, |rule| rule.index).ok()?;
        Some(&rules[position])
    }

    /// The strongest rule that covers `rule`, is stronger than it and accepted.
    fn strongest(
        &self,
        rule: &NormalRule,
        left: &mut u64,
        accept: impl Fn(RuleIndex) -> bool,
    ) -> Option<RuleIndex> {
        let mut best: Option<RuleIndex> = None;
        for list in self.candidates(rule) {
            for &position in list {
                let other = &self.normal.rules[position as usize];
                if *left == 0 || other.index >= best.unwrap_or(rule.index) {
                    break;
                }
                *left -= 1;
                if self.covers(other, rule) && accept(other.index) {
                    best = Some(other.index);
                }
            }
        }
        best
    }

    /// Lists that together hold every rule covering `rule`: a covering rule holds the first class
    /// of each of its conditions; the field in which the fewest rules do is taken.
    fn candidates(&self, rule: &NormalRule) -> Vec<&[u32]> {
        let lists_of = |field: Field| {
            let classes = &self.classes[field as usize];
            let rules_of = &self.rules_of[field as usize];
            let condition = rule.condition(field);
            let holding: &[ConditionId] = match condition {
                ConditionId::ANY => &[],
                _ => {
                    let class = classes.runs_of[condition.0 as usize][0].0;
                    &classes.conditions_of[class as usize]
                }
            };
            let any = std::iter::once(&ConditionId::ANY);
            any.chain(holding)
                .map(move |id| rules_of[id.0 as usize].as_slice())
        };
        let field = Field::ALL
            .into_iter()
            .min_by_key(|&field| lists_of(field).map(<[u32]>::len).sum::<usize>())
            .expect("there are fields");
        lists_of(field).collect()
    }

    fn covers(&self, outer: &NormalRule, inner: &NormalRule) -> bool {
        Field::ALL.into_iter().all(|field| {
            self.classes[field as usize].contains(outer.condition(field), inner.condition(field))
        })
    }
}
