//! The packed form: every node in one array of words.
//!
//! A [`Place`] says what to do next: its kind in the three highest bits, in the others a rule or
//! where in the array the node begins. The words of a node, by kind:
//!
//! ```text
//! Dense   field, first class, span, place below, span × place, place above
//! Sparse  field, count, count × class (ascending), place for each true one and one more
//! Fork    first place, second place, strongest rule of the second
//! Leaf1   groups, field, groups × (4 × rule, 4 × first, 4 × span)
//! Leaf2   groups, 2 × field, groups × (4 × rule, 2 × (4 × first, 4 × span))
//! Leaf    count, count × (tests << 29 | rule, tests × (field << 29 | many << 28 | first, span))
//! ```
//!
//! The last classes of a sparse node may be [`NO_CLASS`], to make up a round number of them.
//!
//! A leaf's test is one run of classes, `first` to `first + span`. Leaves that test one or two
//! fields compare four rules at a time, without a branch a rule; rows without a rule hold
//! [`NO_RULE`] and match nothing. Other leaves test rule by rule; there `many` says that the test
//! is not one run but `span` of them, which stand in an array of their own from `first` on.

use super::key_classes::KeyClasses;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

/// Kinds of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// No rule matches.
    Nothing = 0,
    /// A rule decides.
    Decision = 1,
    /// Test a field by table.
    Dense = 2,
    /// Test a field by search.
    Sparse = 3,
    /// Ask in two places.
    Fork = 4,
    /// Test rules, on one field.
    Leaf1 = 5,
    /// Test rules, on two fields.
    Leaf2 = 6,
    /// Test rules, on any fields.
    Leaf = 7,
}

impl Kind {
    pub(super) const COUNT: usize = 8;
}

/// Rules a leaf of one or two fields compares at a time.
pub(super) const LEAF_ROWS: usize = 4;

pub(super) const NUMBER_BITS: u32 = 29;
pub(super) const MANY_RUNS: u32 = 1 << 28;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;

/// Boundaries of a sparse node that are counted at a time; as many stand in one of few, with
/// [`NO_CLASS`] behind the true ones. More than two such steps, and halving is quicker.
pub(super) const BOUNDARY_STEP: usize = 8;
pub(super) const COUNTED_BOUNDARIES_MAX: usize = 2 * BOUNDARY_STEP;

/// No class has this number.
pub(super) const NO_CLASS: u32 = u32::MAX;

/// No rule, where a rule number is expected; weaker than every rule.
pub(super) const NO_RULE: u32 = u32::MAX;

impl Default for Place {
    fn default() -> Self {
        Place::NOTHING
    }
}

impl Place {
    pub(super) const NOTHING: Place = Place(0);

    pub(super) const fn new(kind: Kind, number: u32) -> Self {
        debug_assert!(number <= NUMBER_MASK);
        Place((kind as u32) << NUMBER_BITS | number)
    }

    pub(super) const fn from_word(word: u32) -> Self {
        Place(word)
    }

    pub(super) const fn word(self) -> u32 {
        self.0
    }

    #[inline]
    pub(super) const fn kind(self) -> Kind {
        match self.0 >> NUMBER_BITS {
            1 => Kind::Decision,
            2 => Kind::Dense,
            3 => Kind::Sparse,
            4 => Kind::Fork,
            5 => Kind::Leaf1,
            6 => Kind::Leaf2,
            7 => Kind::Leaf,
            _ => Kind::Nothing,
        }
    }

    /// The rule or the position in the array.
    #[inline]
    pub(super) const fn number(self) -> u32 {
        self.0 & NUMBER_MASK
    }
}

/// The nodes of one family's tree.
#[derive(Debug, Clone, Default)]
pub(super) struct PackedTree {
    pub(super) root: Place,
    pub(super) words: Vec<u32>,
    /// First class and span of runs, for leaf tests of many runs.
    pub(super) runs: Vec<[u32; 2]>,
}

impl PackedTree {
    /// The child of a dense node for a key of these classes.
    #[inline]
    pub(super) fn dense(&self, at: Place, classes: &KeyClasses) -> Place {
        let node = &self.words[at.number() as usize..];
        let (class, first, span) = (class_of(classes, node[0]), node[1], node[2]);
        let child = if class < first {
            0
        } else {
            (class - first).min(span) + 1
        };
        Place(node[3 + child as usize])
    }

    /// The child of a sparse node for a key of these classes.
    #[inline]
    pub(super) fn sparse(&self, at: Place, classes: &KeyClasses) -> Place {
        let node = &self.words[at.number() as usize..];
        let (class, count) = (class_of(classes, node[0]), node[1] as usize);
        let boundaries = &node[2..2 + count];
        let child = if count <= COUNTED_BOUNDARIES_MAX {
            let steps = boundaries.as_chunks::<BOUNDARY_STEP>().0.iter();
            steps
                .map(|step| {
                    step.iter()
                        .map(|&first| u32::from(first <= class))
                        .sum::<u32>()
                })
                .sum::<u32>() as usize
        } else {
            boundaries.partition_point(|&first| first <= class)
        };
        Place(node[2 + count + child])
    }

    /// Both places of a fork, and the strongest rule of the second.
    #[inline]
    pub(super) fn fork(&self, at: Place) -> (Place, Place, u32) {
        let node = &self.words[at.number() as usize..][..3];
        (Place(node[0]), Place(node[1]), node[2])
    }

    /// The strongest rule that matches of a leaf that tests `FIELDS` fields, or [`NO_RULE`].
    #[inline]
    pub(super) fn rows<const FIELDS: usize>(&self, at: Place, classes: &KeyClasses) -> u32 {
        let node = &self.words[at.number() as usize..];
        let (head, rows) = node.split_at(1 + FIELDS);
        let group_words = LEAF_ROWS * (1 + 2 * FIELDS);
        let mut best = NO_RULE;
        for group in rows.chunks_exact(group_words).take(head[0] as usize) {
            let (lines, _) = group.as_chunks::<LEAF_ROWS>();
            let mut misses = [0; LEAF_ROWS];
            for (field, &number) in head[1..].iter().enumerate() {
                let class = class_of(classes, number);
                let (first, span) = (&lines[1 + 2 * field], &lines[2 + 2 * field]);
                for row in 0..LEAF_ROWS {
                    misses[row] |= u32::from(class.wrapping_sub(first[row]) > span[row]);
                }
            }
            for row in 0..LEAF_ROWS {
                // A miss makes all bits one: weaker than every rule.
                best = best.min(lines[0][row] | misses[row].wrapping_neg());
            }
        }
        best
    }

    /// The strongest rule of a leaf that matches and is stronger than `than`; otherwise `than`.
    #[inline]
    pub(super) fn leaf(&self, at: Place, classes: &KeyClasses, than: u32) -> u32 {
        let begin = at.number() as usize;
        let mut rest = &self.words[begin + 1..];
        for _ in 0..self.words[begin] {
            let (rule, tests) = (rest[0] & NUMBER_MASK, (rest[0] >> NUMBER_BITS) as usize);
            if rule >= than {
                break;
            }
            let (own, after) = rest[1..].split_at(2 * tests);
            if own.chunks_exact(2).all(|test| self.holds(test, classes)) {
                return rule;
            }
            rest = after;
        }
        than
    }

    #[inline]
    fn holds(&self, test: &[u32], classes: &KeyClasses) -> bool {
        let class = class_of(classes, test[0] >> NUMBER_BITS);
        let first = test[0] & (MANY_RUNS - 1);
        if test[0] & MANY_RUNS == 0 {
            return class.wrapping_sub(first) <= test[1];
        }
        let runs = &self.runs[first as usize..][..test[1] as usize];
        let after = runs.partition_point(|run| run[0] <= class);
        after > 0 && class - runs[after - 1][0] <= runs[after - 1][1]
    }
}

#[inline]
fn class_of(classes: &KeyClasses, field: u32) -> u32 {
    // The remainder changes nothing; it spares the compiler a bounds check.
    classes[field as usize % classes.len()]
}
