//! What is done with a place of the tree: test which field, fork, or leave the list as it is.

use super::build::{Builder, FORKS_MAX, Worst};
use super::field::{Field, FieldSet};
use super::limits::{CompileError, Limits};
use super::local_field::Survey;

/// Copies a place may make by a test however long its list: short lists may always be split.
const COPIES_FREE: u64 = 64;

/// Copies made of each rule, on average, in the whole tree; lists of few rules come on top.
const COPIES_PER_RULE: f64 = 64.0;

/// Rules tested one by one rather than split, where it makes no difference otherwise.
const LEAF_RULES: f64 = 6.0;

/// How much of the room a test may use up, as an exponent: below a half, and the first test would
/// hardly be allowed to copy; 1, and it could leave nothing to those below.
const ROOM_SHARE: f64 = 0.6;

/// What a place may spend; handed down from the root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Copies that may be made of each rule, on average, from here down.
    copies_per_rule: f64,
    /// Forks a lookup may still meet.
    forks: u32,
    /// Rules a lookup may still test one by one.
    tested: u32,
}

impl Room {
    /// The root's.
    pub(super) fn new(limits: &Limits) -> Self {
        Room {
            copies_per_rule: COPIES_PER_RULE,
            forks: FORKS_MAX,
            tested: limits.rules_tested_max,
        }
    }

    /// May a lookup meet this?
    pub(super) fn allows(self, worst: Worst) -> bool {
        worst.forks <= self.forks && worst.tested <= self.tested
    }

    fn copies_max(self, rules: usize) -> u64 {
        let copies = rules as f64 * self.copies_per_rule.powf(ROOM_SHARE);
        (copies as u64).max(COPIES_FREE)
    }

    fn after_test(self, rules: usize, survey: Survey) -> Self {
        let left = self.copies_per_rule * rules as f64 / survey.copies as f64;
        Room {
            copies_per_rule: left.clamp(1.0, COPIES_PER_RULE),
            ..self
        }
    }

    /// A lookup goes to both parts of a fork: what it may spend is divided, forks evenly, rules
    /// tested by the parts' lengths.
    fn after_fork(self, narrow: usize, wide: usize) -> (Self, Self) {
        let forks = self.forks - 1;
        let tested = u64::from(self.tested) * narrow as u64 / (narrow + wide) as u64;
        let narrow = Room {
            forks: forks / 2,
            tested: tested as u32,
            ..self
        };
        let wide = Room {
            forks: forks - narrow.forks,
            tested: self.tested - narrow.tested,
            ..self
        };
        (narrow, wide)
    }
}

/// What is done with a place.
pub(super) enum Choice {
    /// Test the rules one by one.
    Leaf,
    /// Test the only open field: every class has its decision then.
    Decide {
        /// Which.
        field: Field,
    },
    /// Test a field.
    Test {
        /// Which.
        field: Field,
        /// What the places below may spend.
        room: Room,
    },
    /// Search two parts of the list on their own.
    Fork {
        /// Rules that a test of some field copies little.
        narrow: Vec<u32>,
        /// The rest.
        wide: Vec<u32>,
        /// What they may spend.
        rooms: (Room, Room),
    },
}

impl Builder<'_> {
    /// Chooses by estimated cost of a lookup, among what the room allows.
    pub(super) fn choose(
        &mut self,
        list: &[u32],
        open: FieldSet,
        room: Room,
    ) -> Result<Choice, CompileError> {
        let copies_max = room.copies_max(list.len());
        let only = open
            .iter()
            .next()
            .filter(|&field| open.without(field).is_empty());
        if let Some(field) = only
            && (list.len() > LEAF_RULES as usize || list.len() > room.tested as usize)
        {
            return Ok(Choice::Decide { field });
        }
        let mut best = if list.len() <= room.tested as usize {
            Some((leaf_cost(list.len() as f64), Choice::Leaf))
        } else {
            None
        };
        let mut consider = |cost: f64, choice: Choice| {
            if best.as_ref().is_none_or(|best| cost < best.0) {
                best = Some((cost, choice));
            }
        };
        let mut fewest_copies: Option<(Field, Survey)> = None;
        for field in open.iter() {
            let local = self.local(list, field)?;
            let survey = local.survey();
            if survey.copies <= copies_max {
                let room = room.after_test(list.len(), survey);
                let cost = test_cost(list.len(), survey);
                consider(cost, Choice::Test { field, room });
            } else if room.forks > 0 {
                let (narrow, wide) = local.split(copies_max);
                if narrow.is_empty() {
                    continue;
                }
                let survey = self.local(&narrow, field)?.survey();
                let cost = test_cost(narrow.len(), survey) + lookup_cost(wide.len() as f64);
                let rooms = room.after_fork(narrow.len(), wide.len());
                consider(
                    cost,
                    Choice::Fork {
                        narrow,
                        wide,
                        rooms,
                    },
                );
            }
            if fewest_copies.is_none_or(|(_, fewest)| survey.copies < fewest.copies) {
                fewest_copies = Some((field, survey));
            }
        }
        if let Some((_, choice)) = best {
            return Ok(choice);
        }
        // Nothing fits, and the list is too long to be tested rule by rule: copy, and let the hard
        // limits decide whether that ends well.
        let (field, survey) = fewest_copies.expect("a place has an open field");
        Ok(Choice::Test {
            field,
            room: room.after_test(list.len(), survey),
        })
    }
}

/// Estimated nanoseconds to test a field and go on in the list it leads to.
fn test_cost(rules: usize, survey: Survey) -> f64 {
    let expansion = survey.copies as f64 / rules as f64;
    5.0 + lookup_cost(survey.copies as f64 / survey.groups as f64) + 1.5 * expansion.max(1.0).log2()
}

/// Estimated nanoseconds for a list of some length, before it is known what will be done with it.
fn lookup_cost(rules: f64) -> f64 {
    if rules <= LEAF_RULES {
        leaf_cost(rules)
    } else {
        leaf_cost(LEAF_RULES) + 10.0 * (rules / LEAF_RULES).log2()
    }
}

/// Estimated nanoseconds to test rules one by one.
fn leaf_cost(rules: f64) -> f64 {
    2.5 * rules
}
