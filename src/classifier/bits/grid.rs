//! A root that asks both addresses at once, and not by their bits but by what these leave.
//!
//! ```text
//! bits of the source ──table──▶ row ┐
//!                                   ├──▶ cell ──▶ node, and on as in any tree
//! bits of the destination ─table▶ column ┘
//! ```
//!
//! Answers that leave the same rules share a row, or a column; cells that leave the same rules
//! share a node. So a root can ask for twenty bits of rules that leave one of the addresses open,
//! for which trees of one question a node would need copies, or several trees.

use std::collections::HashMap;

use super::choose::Question;
use super::frozen::{Leaf, Node};
use super::gather::gather;
use super::key::{Pattern, WideRule};
use super::region::answers;

/// Rules looked at when bits are chosen; of more, as many evenly spread ones.
const SAMPLE_MAX: usize = 1_024;
/// Bits of an address asked at the most.
pub(super) const SIDE_BITS_MAX: usize = 12;
/// A bit must tell apart one in so many of the pairs not yet told apart.
const PAIRS_EACH: u64 = 400;

/// The two questions, the classes of their answers, and where each pair of classes leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grid {
    /// About the source, about the destination.
    pub(super) questions: [Question; 2],
    /// By answer: the first cell of the row; the place in the row.
    pub(super) places: [Vec<u32>; 2],
    pub(super) cells: Vec<Cell>,
}

/// Where a cell leads: the number of a node, or a leaf itself, so that no node is read for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell(u32);

impl Cell {
    /// What the others are numbers of leaves with.
    const LEAF: u32 = 1 << 31;

    /// To a node.
    pub(super) fn to(number: u32, node: Node) -> Self {
        match node.is_leaf() {
            true => Cell(Cell::LEAF | node.detail.bits()),
            false => Cell(number),
        }
    }

    #[inline(always)]
    pub(super) fn is_leaf(self) -> bool {
        self.0 & Cell::LEAF != 0
    }

    /// The leaf; where it is a node, nowhere.
    #[inline(always)]
    pub(super) fn leaf(self) -> Leaf {
        if self.is_leaf() {
            Leaf::of_bits(self.0 & !Cell::LEAF)
        } else {
            Leaf::NOWHERE
        }
    }

    /// The number of the node; 0 where it is a leaf.
    #[inline(always)]
    pub(super) fn node(self) -> u32 {
        if self.is_leaf() { 0 } else { self.0 }
    }
}

impl Grid {
    /// Where a key goes: the plain twin of what the engine does.
    pub(super) fn cell<const W: usize>(&self, words: &[u64; W]) -> Cell {
        let place = |side: usize| {
            let Question { word, mask } = self.questions[side];
            self.places[side][gather(words[word], mask) as usize]
        };
        self.cells[(place(0) + place(1)) as usize]
    }

    /// Panics when an answer leads to no cell, or a cell to none of so many nodes.
    pub(super) fn check(&self, nodes: usize, groups: usize) {
        for (question, places) in self.questions.iter().zip(&self.places) {
            assert_eq!(places.len(), 1 << question.mask.count_ones());
        }
        let last = |side: usize| {
            self.places[side]
                .iter()
                .max()
                .map_or(0, |&last| last as usize)
        };
        assert!(last(0) + last(1) < self.cells.len());
        assert!(nodes > 0);
        for cell in &self.cells {
            let leads_somewhere = match cell.is_leaf() {
                true => cell.leaf().is_within(groups),
                false => (cell.node() as usize) < nodes,
            };
            assert!(leads_somewhere);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let words = self.cells.len() + self.places.iter().map(Vec::len).sum::<usize>();
        words * size_of::<u32>()
    }
}

/// A bit of the addresses: which rules ask for 0 and for 1, as sets.
struct Candidate {
    bit: u32,
    zeros: Vec<u64>,
    ones: Vec<u64>,
}

impl Candidate {
    fn new<const W: usize>(bit: u32, sample: &[&Pattern<W>]) -> Self {
        let mut candidate = Candidate {
            bit,
            zeros: vec![0; sample.len().div_ceil(64)],
            ones: vec![0; sample.len().div_ceil(64)],
        };
        for (place, pattern) in sample.iter().enumerate() {
            let is_one = pattern.value[0] >> bit & 1 == 1;
            let set = if is_one {
                &mut candidate.ones
            } else {
                &mut candidate.zeros
            };
            set[place / 64] |= (pattern.care[0] >> bit & 1) << (place % 64);
        }
        candidate
    }

    fn side(&self) -> usize {
        (self.bit / 32) as usize
    }

    /// Pairs of rules that nothing told apart yet, and this bit does.
    fn gain(&self, alike: &[Vec<u64>]) -> u64 {
        let of_rule = |rule: usize| -> u64 {
            let pairs = alike[rule].iter().zip(&self.zeros);
            pairs.map(|(a, b)| u64::from((a & b).count_ones())).sum()
        };
        members(&self.ones).map(of_rule).sum()
    }
}

/// Bits of both addresses by how well they tell rules apart, each as side and bit.
pub(super) fn order<const W: usize>(rules: &[WideRule<W>]) -> Vec<(usize, u32)> {
    let step = rules.len().div_ceil(SAMPLE_MAX).max(1);
    let patterns = rules.iter().map(|rule| &rule.pattern);
    let sample: Vec<&Pattern<W>> = patterns.step_by(step).collect();
    let bits = (0..64).map(|bit| Candidate::new(bit, &sample));
    let mut candidates: Vec<Candidate> = bits.collect();
    // By rule: rules not yet told from it.
    let mut alike = vec![vec![u64::MAX; sample.len().div_ceil(64)]; sample.len()];
    let mut left = (sample.len() * sample.len()) as u64 / 2;
    let mut order = Vec::new();
    let mut taken = [0; 2];
    loop {
        let gains = candidates.iter().map(|candidate| candidate.gain(&alike));
        let Some((best, most)) = gains.enumerate().max_by_key(|(_, gain)| *gain) else {
            break;
        };
        if most * PAIRS_EACH < left || most == 0 {
            break;
        }
        left -= most;
        let candidate = candidates.swap_remove(best);
        taken[candidate.side()] += 1;
        order.push((candidate.side(), candidate.bit));
        let Candidate { zeros, ones, .. } = &candidate;
        for (own, other) in [(ones, zeros), (zeros, ones)] {
            for rule in members(own) {
                let pairs = alike[rule].iter_mut().zip(other);
                pairs.for_each(|(alike, other)| *alike &= !other);
            }
        }
        candidates.retain(|candidate| taken[candidate.side()] < SIDE_BITS_MAX);
    }
    order
}

fn members(set: &[u64]) -> impl Iterator<Item = usize> + '_ {
    set.iter().enumerate().flat_map(|(place, &word)| {
        let mut left = word;
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros())?;
            left &= left - 1;
            Some(place * 64 + bit as usize)
        })
    })
}

/// The questions that ask for the first bits of an order, so many of a side at the most.
pub(super) fn questions(order: &[(usize, u32)], side_bits_max: u32) -> Option<[Question; 2]> {
    let mut masks = [0u64; 2];
    for &(side, bit) in order {
        if masks[side].count_ones() < side_bits_max {
            masks[side] |= 1 << bit;
        }
    }
    (masks[0] != 0 && masks[1] != 0).then(|| masks.map(|mask| Question { word: 0, mask }))
}

/// What the questions leave: places by answer, and rules (positions) by cell.
pub(super) struct Crossing {
    pub(super) places: [Vec<u32>; 2],
    /// By row and column, as sets of positions.
    rows: Vec<Vec<u64>>,
    columns: Vec<Vec<u64>>,
}

impl Crossing {
    /// `None` when there would be more cells than allowed.
    pub(super) fn new<const W: usize>(
        rules: &[WideRule<W>],
        questions: [Question; 2],
        cells_max: usize,
    ) -> Option<Self> {
        let [(mut row_of, rows), (column_of, columns)] =
            questions.map(|question| classes(rules, question));
        if rows.len() * columns.len() > cells_max {
            return None;
        }
        row_of
            .iter_mut()
            .for_each(|row| *row *= columns.len() as u32);
        Some(Crossing {
            places: [row_of, column_of],
            rows,
            columns,
        })
    }

    /// The rules of every cell, row by row.
    pub(super) fn cells(&self) -> impl Iterator<Item = Vec<u32>> + '_ {
        self.rows.iter().flat_map(move |row| {
            self.columns.iter().map(move |column| {
                let both: Vec<u64> = row.iter().zip(column).map(|(a, b)| a & b).collect();
                members(&both).map(|rule| rule as u32).collect()
            })
        })
    }

    /// In how many cells each rule is, against all cells.
    pub(super) fn shares(&self, rules: usize) -> Vec<f64> {
        let count = |sets: &[Vec<u64>]| {
            let mut counts = vec![0u32; rules];
            sets.iter()
                .flat_map(|set| members(set))
                .for_each(|rule| counts[rule] += 1);
            counts
        };
        let all = (self.rows.len() * self.columns.len()) as f64;
        let pairs = count(&self.rows).into_iter().zip(count(&self.columns));
        pairs
            .map(|(rows, columns)| f64::from(rows) * f64::from(columns) / all)
            .collect()
    }
}

/// By answer the number of its class, and by class the rules that can give such an answer.
fn classes<const W: usize>(rules: &[WideRule<W>], question: Question) -> (Vec<u32>, Vec<Vec<u64>>) {
    let words = rules.len().div_ceil(64);
    let mut sets = vec![vec![0u64; words]; 1 << question.mask.count_ones()];
    for (place, rule) in rules.iter().enumerate() {
        for answer in answers(&rule.pattern, question) {
            sets[answer as usize][place / 64] |= 1 << (place % 64);
        }
    }
    let mut known: HashMap<Vec<u64>, u32> = HashMap::new();
    let mut class_of = Vec::with_capacity(sets.len());
    let mut classes = Vec::new();
    for set in sets {
        let next = classes.len() as u32;
        class_of.push(*known.entry(set).or_insert_with_key(|set| {
            classes.push(set.clone());
            next
        }));
    }
    (class_of, classes)
}
