//! Step 4: the decision tree over classes.
//!
//! A place in the tree is a list of rules, strongest first, and the set of *open* fields: those not
//! yet tested on the way there. In the closed fields every rule of the list matches. Three things
//! can be done with a place:
//!
//! - **test** one open field: the classes fall into groups by which rules of the list hold them,
//!   and each group is a place of its own, with shorter lists and one open field less;
//! - **fork**: rules so wide that the test would copy them into most groups are searched on their
//!   own, after the others; the stronger answer wins;
//! - **leaf**: the list is short, or nothing would shorten it: its rules are tested one by one.
//!
//! Places with equal lists and open fields are one node, however many ways lead there. [`choose`]
//! says what is done; this file does it, and prunes: a rule whose open conditions a stronger rule
//! of the list covers is dropped, and a rule without open conditions ends the list.
//!
//! [`choose`]: super::choose

use std::collections::HashMap;

use super::choose::{Choice, Room};
use super::classes::Classes;
use super::field::{Field, FieldSet};
use super::limits::{CompileError, Limit, Limits};
use super::local_field::LocalField;
use super::normalise::{NormalFamily, NormalRule};

/// Forks on one way from the root to a decision. A lookup keeps as many places to come back to.
pub(super) const FORKS_MAX: usize = 8;

/// Lists up to this length are pruned rule against rule.
const PRUNED_LENGTH_MAX: usize = 48;

/// Where a test leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    /// No rule matches.
    Nothing,
    /// This rule (by its position in the family's list) decides.
    Decision(u32),
    /// Ask on at this node.
    Node(u32),
}

/// One node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// Ask for the key's class in a field. Each child begins at a class and reaches to the next;
    /// the first begins at 0, and neighbours differ.
    Test {
        field: Field,
        children: Vec<(u32, Child)>,
    },
    /// Ask at both; the stronger rule decides. The first holds the strongest rule of all.
    Fork { first: Child, second: Child },
    /// Test the open fields of these rules, strongest first.
    Leaf { rules: Vec<u32>, open: FieldSet },
}

/// The tree of one family.
#[derive(Debug, Clone)]
pub(super) struct BuiltTree {
    /// Children stand before their parents.
    pub(super) nodes: Vec<Node>,
    /// By node: the strongest rule below it.
    pub(super) strongest: Vec<u32>,
    /// By node: most forks on any way down from it, itself included.
    pub(super) forks: Vec<u8>,
    pub(super) root: Child,
}

impl BuiltTree {
    /// The strongest rule at or below a child; `u32::MAX` when there is none.
    pub(super) fn strongest(&self, child: Child) -> u32 {
        match child {
            Child::Nothing => u32::MAX,
            Child::Decision(rule) => rule,
            Child::Node(node) => self.strongest[node as usize],
        }
    }

    fn forks(&self, child: Child) -> u8 {
        match child {
            Child::Node(node) => self.forks[node as usize],
            _ => 0,
        }
    }
}

/// Builds the tree of one family; `used` counts nodes and copies over both families.
pub(super) fn build(
    normal: &NormalFamily,
    classes: &Classes,
    limits: &Limits,
    used: &mut Used,
) -> Result<BuiltTree, CompileError> {
    let mut builder = Builder {
        normal,
        classes,
        limits,
        used,
        tree: BuiltTree {
            nodes: Vec::new(),
            strongest: Vec::new(),
            forks: Vec::new(),
            root: Child::Nothing,
        },
        known: HashMap::new(),
    };
    let all = (0..normal.rules.len() as u32).collect();
    let open = Field::ALL.into_iter().fold(FieldSet::EMPTY, FieldSet::with);
    builder.tree.root = builder.place(all, open, Room::default())?;
    Ok(builder.tree)
}

/// What of the limits is used up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    nodes: u64,
    copies: u64,
}

pub(super) struct Builder<'a> {
    pub(super) normal: &'a NormalFamily,
    pub(super) classes: &'a Classes,
    pub(super) limits: &'a Limits,
    used: &'a mut Used,
    tree: BuiltTree,
    known: HashMap<(Vec<u32>, FieldSet), Child>,
}

impl Builder<'_> {
    pub(super) fn rule(&self, rule: u32) -> &NormalRule {
        &self.normal.rules[rule as usize]
    }

    /// The node for a list of rules, built unless known.
    fn place(
        &mut self,
        mut list: Vec<u32>,
        open: FieldSet,
        room: Room,
    ) -> Result<Child, CompileError> {
        let open = self.prune(&mut list, open);
        let Some(&first) = list.first() else {
            return Ok(Child::Nothing);
        };
        if open.is_empty() {
            return Ok(Child::Decision(first));
        }
        let place = (list, open);
        // A node known from a way with fewer forks may have more below it than may follow here.
        if let Some(&known) = self.known.get(&place)
            && usize::from(self.tree.forks(known)) <= room.forks
        {
            return Ok(known);
        }
        self.count_copies(place.0.len(), first)?;
        let node = match self.choose(&place.0, open, room) {
            Choice::Leaf => Node::Leaf {
                rules: place.0.clone(),
                open,
            },
            Choice::Test { field, room } => self.test(&place.0, open, field, room)?,
            Choice::Fork { narrow, wide, room } => {
                let narrow = self.place(narrow, open, room)?;
                let wide = self.place(wide, open, room)?;
                let narrow_first = self.tree.strongest(narrow) < self.tree.strongest(wide);
                let (first, second) = if narrow_first {
                    (narrow, wide)
                } else {
                    (wide, narrow)
                };
                Node::Fork { first, second }
            }
        };
        let child = self.add(node, first)?;
        self.known.insert(place, child);
        Ok(child)
    }

    /// Shortens the list and gives the fields that are really open: those some rule left has a
    /// condition on.
    fn prune(&self, list: &mut Vec<u32>, open: FieldSet) -> FieldSet {
        let constrained = |rule: u32| self.rule(rule).constrained().intersection(open);
        if let Some(end) = list.iter().position(|&rule| constrained(rule).is_empty()) {
            list.truncate(end + 1);
        }
        if list.len() <= PRUNED_LENGTH_MAX {
            let mut kept = 0;
            for next in 0..list.len() {
                let rule = list[next];
                if !list[..kept]
                    .iter()
                    .any(|&other| self.covers(other, rule, open))
                {
                    list[kept] = rule;
                    kept += 1;
                }
            }
            list.truncate(kept);
        }
        list.iter().fold(FieldSet::EMPTY, |fields, &rule| {
            fields.union(constrained(rule))
        })
    }

    fn covers(&self, outer: u32, inner: u32, open: FieldSet) -> bool {
        let (outer, inner) = (self.rule(outer), self.rule(inner));
        open.iter().all(|field| {
            self.classes[field as usize].contains(outer.condition(field), inner.condition(field))
        })
    }

    /// Builds the test of one field and everything below it.
    fn test(
        &mut self,
        list: &[u32],
        open: FieldSet,
        field: Field,
        room: Room,
    ) -> Result<Node, CompileError> {
        let below = open.without(field);
        let local = LocalField::of(self, list, field);
        let copies_left = u64::from(self.limits.copies_max) - self.used.copies;
        let groups = match local.groups(copies_left) {
            Some(groups) => groups,
            None => return Err(self.exceeded(Limit::Copies, self.limits.copies_max, list[0])),
        };
        let mut places: Vec<Option<Child>> = vec![None; groups.holding.len()];
        let mut children: Vec<(u32, Child)> = Vec::new();
        for &(first, group) in &groups.runs {
            let child = match places[group as usize] {
                Some(child) => child,
                None => {
                    let rules = local.rules(&groups.holding[group as usize]);
                    self.place(rules, below, room)?
                }
            };
            places[group as usize] = Some(child);
            if children.last().is_none_or(|last| last.1 != child) {
                children.push((first, child));
            }
        }
        Ok(Node::Test { field, children })
    }

    fn add(&mut self, node: Node, strongest: u32) -> Result<Child, CompileError> {
        self.used.nodes += 1;
        if self.used.nodes > self.limits.nodes_max.into() {
            return Err(self.exceeded(Limit::Nodes, self.limits.nodes_max, strongest));
        }
        let forks = match &node {
            Node::Test { children, .. } => {
                let below = children.iter().map(|&(_, child)| self.tree.forks(child));
                below.max().unwrap_or(0)
            }
            Node::Fork { first, second } => {
                1 + self.tree.forks(*first).max(self.tree.forks(*second))
            }
            Node::Leaf { .. } => 0,
        };
        self.tree.forks.push(forks);
        self.tree.nodes.push(node);
        self.tree.strongest.push(strongest);
        Ok(Child::Node(self.tree.nodes.len() as u32 - 1))
    }

    fn count_copies(&mut self, copies: usize, rule: u32) -> Result<(), CompileError> {
        self.used.copies += copies as u64;
        if self.used.copies > self.limits.copies_max.into() {
            return Err(self.exceeded(Limit::Copies, self.limits.copies_max, rule));
        }
        Ok(())
    }

    /// One more than allowed is what the compilation needed when it stopped.
    fn exceeded(&self, limit: Limit, allowed: u32, rule: u32) -> CompileError {
        CompileError::LimitExceeded {
            limit,
            allowed: allowed.into(),
            needed: u64::from(allowed) + 1,
            rule: self.rule(rule).index,
        }
    }
}
