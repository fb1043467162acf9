//! Step 5: the tree's nodes, in the order a walk from the root meets them, in one array of words.

use std::collections::HashMap;

use super::build::{BuiltTree, Child, Node};
use super::classes::Classes;
use super::field::{Field, FieldSet};
use super::limits::{CompileError, Limit, Limits};
use super::normalise::{ConditionId, NormalFamily};
use super::packed::{
    BOUNDARY_STEP, COUNTED_BOUNDARIES_MAX, Kind, LEAF_ROWS, MANY_RUNS, NO_CLASS, NO_RULE,
    NUMBER_BITS, PackedTree, Place,
};
use crate::classifier::RuleIndex;

/// A table may be this many times as long as the list of boundaries it replaces.
const DENSE_FACTOR: usize = 4;

/// Packs one family's tree; counts its bytes on to `bytes`.
pub(super) fn pack(
    normal: &NormalFamily,
    classes: &Classes,
    built: &BuiltTree,
    limits: &Limits,
    bytes: &mut u64,
) -> Result<PackedTree, CompileError> {
    let mut packer = Packer {
        normal,
        classes,
        built,
        places: vec![Place::NOTHING; built.nodes.len()],
        order: Vec::new(),
        next: 0,
        words: Vec::new(),
        runs: Vec::new(),
        runs_of: HashMap::new(),
    };
    packer.find_runs();
    *bytes += size_of_val(packer.runs.as_slice()) as u64;
    if let Child::Node(root) = built.root {
        packer.lay_out(root, limits.bytes(), *bytes)?;
    }
    packer.write();
    *bytes += size_of_val(packer.words.as_slice()) as u64;
    Ok(PackedTree {
        root: packer.place(built.root),
        words: packer.words,
        runs: packer.runs,
    })
}

/// How a test node is packed.
enum TestForm {
    /// First class and span of the table.
    Dense {
        first: u32,
        span: u32,
    },
    Sparse,
}

struct Packer<'a> {
    normal: &'a NormalFamily,
    classes: &'a Classes,
    built: &'a BuiltTree,
    /// By node: where it stands; [`Place::NOTHING`] before it has been laid out.
    places: Vec<Place>,
    /// Nodes in the order of their places.
    order: Vec<u32>,
    /// Words laid out.
    next: usize,
    words: Vec<u32>,
    runs: Vec<[u32; 2]>,
    /// Where the runs of a condition stand, for conditions of several runs that a leaf tests.
    runs_of: HashMap<(Field, ConditionId), u32>,
}

impl Packer<'_> {
    fn place(&self, child: Child) -> Place {
        match child {
            Child::Nothing => Place::NOTHING,
            Child::Decision(rule) => Place::new(Kind::Decision, self.index(rule).0),
            Child::Node(node) => self.places[node as usize],
        }
    }

    fn index(&self, rule: u32) -> RuleIndex {
        self.normal.rules[rule as usize].index
    }

    /// Stores the runs of conditions that a leaf tests and that have several.
    fn find_runs(&mut self) {
        for node in &self.built.nodes {
            let Node::Leaf { rules, open } = node else {
                continue;
            };
            for &rule in rules {
                for (field, condition) in self.tests(rule, *open) {
                    let runs = &self.classes[field as usize].runs_of[condition.0 as usize];
                    if runs.len() > 1 && !self.runs_of.contains_key(&(field, condition)) {
                        let begin = self.runs.len() as u32;
                        self.runs_of.insert((field, condition), begin);
                        self.runs
                            .extend(runs.iter().map(|&(first, last)| [first, last - first]));
                    }
                }
            }
        }
    }

    /// The tests of a rule in a leaf, the one that fewest keys are likely to pass first.
    fn tests(&self, rule: u32, open: FieldSet) -> Vec<(Field, ConditionId)> {
        let rule = &self.normal.rules[rule as usize];
        let mut tests: Vec<(Field, ConditionId)> = open
            .intersection(rule.constrained())
            .iter()
            .map(|field| (field, rule.condition(field)))
            .collect();
        tests.sort_by_cached_key(|&(field, condition)| {
            let classes = &self.classes[field as usize];
            let runs = &classes.runs_of[condition.0 as usize];
            let held: u64 = runs.iter().map(|run| u64::from(run.1 - run.0) + 1).sum();
            held * (1 << 32) / u64::from(classes.count())
        });
        tests
    }

    /// Gives this node and all below it their places.
    fn lay_out(&mut self, node: u32, allowed: u64, bytes: u64) -> Result<(), CompileError> {
        if self.places[node as usize] != Place::NOTHING {
            return Ok(());
        }
        let built = self.built;
        let (kind, length) = self.form(&built.nodes[node as usize]);
        let end = self.next + length;
        let needed = bytes + 4 * end as u64;
        if needed > allowed {
            return Err(CompileError::LimitExceeded {
                limit: Limit::Bytes,
                allowed,
                needed,
                rule: self.index(self.built.below[node as usize].strongest),
            });
        }
        self.places[node as usize] = Place::new(kind, self.next as u32);
        self.order.push(node);
        self.next = end;
        let mut below = |child: Child| match child {
            Child::Node(node) => self.lay_out(node, allowed, bytes),
            _ => Ok(()),
        };
        match &built.nodes[node as usize] {
            Node::Test { children, .. } => {
                for &(_, child) in children {
                    below(child)?;
                }
            }
            Node::Fork { first, second } => {
                below(*first)?;
                below(*second)?;
            }
            Node::Leaf { .. } => {}
        }
        Ok(())
    }

    /// Kind and length in words.
    fn form(&self, node: &Node) -> (Kind, usize) {
        match node {
            Node::Test { children, .. } => match test_form(children) {
                TestForm::Dense { span, .. } => (Kind::Dense, 3 + span as usize + 2),
                TestForm::Sparse => {
                    let boundaries = padded_boundaries(children.len() - 1);
                    (Kind::Sparse, 2 + boundaries + children.len())
                }
            },
            Node::Fork { .. } => (Kind::Fork, 3),
            Node::Leaf { rules, open } => {
                let groups = rules.len().div_ceil(LEAF_ROWS);
                let with_rows = |fields: usize| 1 + fields + groups * LEAF_ROWS * (1 + 2 * fields);
                match open.iter().count() {
                    1 if self.single_runs(rules, *open) => (Kind::Leaf1, with_rows(1)),
                    2 if self.single_runs(rules, *open) => (Kind::Leaf2, with_rows(2)),
                    _ => {
                        let tests = rules.iter().map(|&rule| self.tests(rule, *open).len());
                        let words = tests.map(|tests| 1 + 2 * tests).sum::<usize>();
                        (Kind::Leaf, 1 + words)
                    }
                }
            }
        }
    }

    /// Is every test of the leaf one run of classes?
    fn single_runs(&self, rules: &[u32], open: FieldSet) -> bool {
        rules.iter().all(|&rule| {
            open.iter().all(|field| {
                let condition = self.normal.rules[rule as usize].condition(field);
                self.classes[field as usize].runs_of[condition.0 as usize].len() == 1
            })
        })
    }

    fn write(&mut self) {
        self.words.reserve_exact(self.next);
        let built = self.built;
        for node in std::mem::take(&mut self.order) {
            debug_assert_eq!(self.words.len() as u32, self.places[node as usize].number());
            match &built.nodes[node as usize] {
                Node::Test { field, children } => self.write_test(*field, children),
                Node::Fork { first, second } => {
                    let strongest = match built.strongest(*second) {
                        u32::MAX => NO_RULE,
                        rule => self.index(rule).0,
                    };
                    let places = [self.place(*first).word(), self.place(*second).word()];
                    self.words.extend(places);
                    self.words.push(strongest);
                }
                Node::Leaf { rules, open } => match self.places[node as usize].kind() {
                    Kind::Leaf => {
                        self.words.push(rules.len() as u32);
                        for &rule in rules {
                            self.write_leaf_rule(rule, *open);
                        }
                    }
                    _ => self.write_leaf_rows(rules, *open),
                },
            }
        }
        debug_assert_eq!(self.words.len(), self.next);
    }

    fn write_leaf_rows(&mut self, rules: &[u32], open: FieldSet) {
        self.words.push(rules.len().div_ceil(LEAF_ROWS) as u32);
        self.words.extend(open.iter().map(|field| field as u32));
        for group in rules.chunks(LEAF_ROWS) {
            let row = |row: usize| group.get(row).copied();
            let rules = [0, 1, 2, 3].map(|n| row(n).map_or(NO_RULE, |rule| self.index(rule).0));
            self.words.extend(rules);
            for field in open.iter() {
                let runs: [(u32, u32); LEAF_ROWS] = [0, 1, 2, 3].map(|n| match row(n) {
                    Some(rule) => {
                        let condition = self.normal.rules[rule as usize].condition(field);
                        self.classes[field as usize].runs_of[condition.0 as usize][0]
                    }
                    None => (NO_CLASS, NO_CLASS),
                });
                self.words.extend(runs.map(|(first, _)| first));
                self.words.extend(runs.map(|(first, last)| last - first));
            }
        }
    }

    fn write_test(&mut self, field: Field, children: &[(u32, Child)]) {
        self.words.push(field as u32);
        match test_form(children) {
            TestForm::Dense { first, span } => {
                self.words.extend([first, span]);
                self.words.push(self.place(children[0].1).word());
                for pair in children[1..].windows(2) {
                    let place = self.place(pair[0].1).word();
                    let classes = (pair[1].0 - pair[0].0) as usize;
                    self.words.extend(std::iter::repeat_n(place, classes));
                }
                let last = children[children.len() - 1].1;
                self.words.push(self.place(last).word());
            }
            TestForm::Sparse => {
                let boundaries = children.len() - 1;
                let padded = padded_boundaries(boundaries);
                self.words.push(padded as u32);
                self.words
                    .extend(children[1..].iter().map(|&(first, _)| first));
                self.words
                    .extend(std::iter::repeat_n(NO_CLASS, padded - boundaries));
                for &(_, child) in children {
                    self.words.push(self.place(child).word());
                }
            }
        }
    }

    fn write_leaf_rule(&mut self, rule: u32, open: FieldSet) {
        let tests = self.tests(rule, open);
        self.words
            .push((tests.len() as u32) << NUMBER_BITS | self.index(rule).0);
        for (field, condition) in tests {
            let runs = &self.classes[field as usize].runs_of[condition.0 as usize];
            let field_bits = (field as u32) << NUMBER_BITS;
            let test = match runs.as_slice() {
                &[(first, last)] => [field_bits | first, last - first],
                several => {
                    let begin = self.runs_of[&(field, condition)];
                    [field_bits | MANY_RUNS | begin, several.len() as u32]
                }
            };
            self.words.extend(test);
        }
    }
}

/// How many boundaries stand in a sparse node of so many true ones.
fn padded_boundaries(boundaries: usize) -> usize {
    if boundaries <= COUNTED_BOUNDARIES_MAX {
        boundaries.next_multiple_of(BOUNDARY_STEP)
    } else {
        boundaries
    }
}

/// A table where classes change often; otherwise a search among the boundaries.
fn test_form(children: &[(u32, Child)]) -> TestForm {
    // Below the second child's first class and from the last child's on, nothing changes.
    let first = children.get(1).map_or(0, |child| child.0);
    let span = children[children.len() - 1].0 - first;
    if span as usize <= DENSE_FACTOR * children.len() {
        TestForm::Dense { first, span }
    } else {
        TestForm::Sparse
    }
}
