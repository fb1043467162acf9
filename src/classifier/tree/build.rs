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

/// Forks a lookup meets at most: it searches one place more than that, and keeps no more than that
/// in mind to come back to.
pub(super) const FORKS_MAX: u32 = 8;

/// Lists up to this length are pruned rule against rule.
const PRUNED_LENGTH_MAX: usize = 48;

/// Where a test leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Child {
    /// No rule matches.
    #[default]
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
#[derive(Debug, Clone, Default)]
pub(super) struct BuiltTree {
    /// Children stand before their parents.
    pub(super) nodes: Vec<Node>,
    /// By node.
    pub(super) below: Vec<Below>,
    pub(super) root: Child,
}

impl BuiltTree {
    /// The strongest rule at or below a child; `u32::MAX` when there is none.
    pub(super) fn strongest(&self, child: Child) -> u32 {
        match child {
            Child::Nothing => u32::MAX,
            Child::Decision(rule) => rule,
            Child::Node(node) => self.below[node as usize].strongest,
        }
    }

    /// What a lookup may meet at a child and below it.
    pub(super) fn worst(&self, child: Child) -> Worst {
        match child {
            Child::Nothing | Child::Decision(_) => Worst::default(),
            Child::Node(node) => self.below[node as usize].worst,
        }
    }

    fn worst_of(&self, node: &Node) -> Worst {
        let mut worst = match node {
            Node::Test { children, .. } => children
                .iter()
                .map(|&(_, child)| self.worst(child))
                .fold(Worst::default(), Worst::either),
            Node::Fork { first, second } => {
                let mut worst = self.worst(*first).both(self.worst(*second));
                worst.forks += 1;
                worst
            }
            Node::Leaf { rules, .. } => Worst {
                tested: rules.len() as u32,
                ..Worst::default()
            },
        };
        worst.depth += 1;
        worst
    }
}

/// Facts of a node and all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Below {
    /// The strongest rule.
    pub(super) strongest: u32,
    pub(super) worst: Worst,
}

/// Most a lookup can meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Worst {
    /// Nodes visited.
    pub(super) depth: u32,
    /// Forks among them.
    pub(super) forks: u32,
    /// Rules tested one by one.
    pub(super) tested: u32,
}

impl Worst {
    fn either(self, other: Worst) -> Worst {
        Worst {
            depth: self.depth.max(other.depth),
            forks: self.forks.max(other.forks),
            tested: self.tested.max(other.tested),
        }
    }

    fn both(self, other: Worst) -> Worst {
        Worst {
            depth: self.depth + other.depth,
            forks: self.forks + other.forks,
            tested: self.tested + other.tested,
        }
    }
}

/// Builds the tree of one family; `used` counts over both families.
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
            below: Vec::new(),
            root: Child::Nothing,
        },
        known: HashMap::new(),
    };
    let all = (0..normal.rules.len() as u32).collect();
    let open = Field::ALL.into_iter().fold(FieldSet::EMPTY, FieldSet::with);
    builder.tree.root = builder.place(all, open, Room::new(limits))?;
    Ok(builder.tree)
}

/// What of the limits is used up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    nodes: u64,
    entries: u64,
    work: u64,
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
        let open = self.prune(&mut list, open)?;
        let Some(&first) = list.first() else {
            return Ok(Child::Nothing);
        };
        if open.is_empty() {
            return Ok(Child::Decision(first));
        }
        let place = (list, open);
        // A node known from a place with more room may cost a lookup more than it may cost here.
        if let Some(&known) = self.known.get(&place)
            && room.allows(self.tree.worst(known))
        {
            return Ok(known);
        }
        self.count_entries(place.0.len(), first)?;
        let node = match self.choose(&place.0, open, room)? {
            Choice::Decide { field } => {
                let local = self.local(&place.0, field)?;
                let children = local
                    .decisions()
                    .into_iter()
                    .map(|(class, rule)| (class, rule.map_or(Child::Nothing, Child::Decision)));
                Node::Test {
                    field,
                    children: children.collect(),
                }
            }
            Choice::Leaf => Node::Leaf {
                rules: place.0.clone(),
                open,
            },
            Choice::Test { field, room } => {
                let children = self.test(&place.0, open, field, room)?;
                if let &[(_, only)] = children.as_slice() {
                    self.known.insert(place, only);
                    return Ok(only);
                }
                Node::Test { field, children }
            }
            Choice::Fork {
                narrow,
                wide,
                rooms,
            } => {
                let narrow = self.place(narrow, open, rooms.0)?;
                let wide = self.place(wide, open, rooms.1)?;
                let narrow_first = self.tree.strongest(narrow) < self.tree.strongest(wide);
                let (first, second) = if narrow_first {
                    (narrow, wide)
                } else {
                    (wide, narrow)
                };
                Node::Fork { first, second }
            }
        };
        if let Node::Test { children, .. } = &node {
            self.count_entries(children.len(), first)?;
        }
        let child = self.add(node, first)?;
        self.known.insert(place, child);
        Ok(child)
    }

    /// Shortens the list and gives the fields that are really open: those some rule left has a
    /// condition on.
    fn prune(&mut self, list: &mut Vec<u32>, open: FieldSet) -> Result<FieldSet, CompileError> {
        let mut work = list.len() as u64;
        let constrained = |rule: u32| {
            let rule = &self.normal.rules[rule as usize];
            rule.constrained().intersection(open)
        };
        if let Some(end) = list.iter().position(|&rule| constrained(rule).is_empty()) {
            list.truncate(end + 1);
        }
        if list.len() <= PRUNED_LENGTH_MAX {
            let mut kept = 0;
            for next in 0..list.len() {
                let rule = list[next];
                let covering = |&other: &u32| self.covers(other, rule, open);
                work += kept as u64;
                if !list[..kept].iter().any(covering) {
                    list[kept] = rule;
                    kept += 1;
                }
            }
            list.truncate(kept);
        }
        let open = list.iter().fold(FieldSet::EMPTY, |fields, &rule| {
            fields.union(constrained(rule))
        });
        if let Some(&first) = list.first() {
            self.count_work(work, first)?;
        }
        Ok(open)
    }

    fn covers(&self, outer: u32, inner: u32, open: FieldSet) -> bool {
        let (outer, inner) = (self.rule(outer), self.rule(inner));
        open.iter().all(|field| {
            self.classes[field as usize].contains(outer.condition(field), inner.condition(field))
        })
    }

    /// Builds everything below the test of a field: the test's children.
    fn test(
        &mut self,
        list: &[u32],
        open: FieldSet,
        field: Field,
        room: Room,
    ) -> Result<Vec<(u32, Child)>, CompileError> {
        let below = open.without(field);
        let local = self.local(list, field)?;
        let entries_max = u64::from(self.limits.entries_max);
        let entries_left = entries_max - self.used.entries;
        let groups = match local.groups(entries_left) {
            Some(groups) => groups,
            None => return Err(self.exceeded(Limit::Entries, entries_max, list[0])),
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
        Ok(children)
    }

    fn add(&mut self, node: Node, strongest: u32) -> Result<Child, CompileError> {
        self.used.nodes += 1;
        if self.used.nodes > self.limits.nodes_max.into() {
            return Err(self.exceeded(Limit::Nodes, self.limits.nodes_max.into(), strongest));
        }
        let worst = self.tree.worst_of(&node);
        self.tree.nodes.push(node);
        self.tree.below.push(Below { strongest, worst });
        Ok(Child::Node(self.tree.nodes.len() as u32 - 1))
    }

    fn count_entries(&mut self, entries: usize, rule: u32) -> Result<(), CompileError> {
        self.used.entries += entries as u64;
        if self.used.entries > self.limits.entries_max.into() {
            return Err(self.exceeded(Limit::Entries, self.limits.entries_max.into(), rule));
        }
        Ok(())
    }

    /// One field of a list of rules.
    pub(super) fn local(&mut self, list: &[u32], field: Field) -> Result<LocalField, CompileError> {
        let local = LocalField::of(self, list, field);
        self.count_work(local.size() as u64, list[0])?;
        Ok(local)
    }

    fn count_work(&mut self, work: u64, rule: u32) -> Result<(), CompileError> {
        self.used.work += work;
        if self.used.work > self.limits.work_max {
            return Err(self.exceeded(Limit::Work, self.limits.work_max, rule));
        }
        Ok(())
    }

    /// One more than allowed is what the compilation needed when it stopped.
    fn exceeded(&self, limit: Limit, allowed: u64, rule: u32) -> CompileError {
        CompileError::LimitExceeded {
            limit,
            allowed,
            needed: allowed.saturating_add(1),
            rule: self.rule(rule).index,
        }
    }
}
