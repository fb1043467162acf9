//! Step 4: the trees.
//!
//! A node's **region** is what is known of every key that gets there: the answers on the way. In
//! it, a rule that a stronger one covers is dropped, and a rule that covers the whole region ends
//! the list. A rule handed on is left to the next tree; since the strongest rule of a key is
//! dropped nowhere and is in some tree's leaf for that key, the smallest rank of all trees decides.

use std::collections::HashMap;

use super::choose::{HandOn, Question, choose};
use super::frozen::{GROUPS_MAX, Node, Parts, Root};
use super::gather::scatter;
use super::grid::{self, Cell, Crossing, Grid};
use super::group::{Group, LANES, NO_RANK, Record};
use super::key::{Pattern, WideRule};
use super::leaves::{Leaves, groups_of};
use super::parameters::Parameters;
use super::region::{answers, prune};

/// Questions on a way at the most; a list that is too long even then is a leaf, if it may be.
const DEPTH_MAX: u32 = 16;
/// Rules of a leaf at the most.
const LEAF_RULES_MAX: usize = 512;

/// Cells of a grid for each rule, and whatever the number of rules.
const CELLS_EACH: usize = 16;
const CELLS_LEAST: usize = 1 << 18;

/// How much work a child is, and a leaf, against looking at a rule.
const SPLIT_WORK: u64 = 4;
const LEAF_WORK: u64 = 32;

/// The trees would become larger than allowed, or a leaf longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// A tree as built.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) root: Root,
    /// By answer of the root: rules, before anything is dropped. For a root that is a leaf, one.
    pub(super) buckets: Vec<Vec<u32>>,
}

/// Builds trees for rules, which stand strongest first.
pub(super) struct Builder<'a, const W: usize> {
    rules: &'a [WideRule<W>],
    /// What questions are chosen by and rules are covered by: the rules without what records test,
    /// and behind a grid without what it has settled.
    asked: &'a [WideRule<W>],
    /// The same without a grid.
    all: &'a [WideRule<W>],
    parameters: &'a Parameters,
    nodes: Vec<Node>,
    leaves: Leaves,
    /// By node that is a leaf: its number there.
    leaf_nodes: Vec<(u32, u32)>,
    handed_on: Vec<u32>,
    may_hand_on: bool,
    entries_left: usize,
    /// Rules looked at.
    pub(super) work: u64,
}

impl<'a, const W: usize> Builder<'a, W> {
    /// `entries_max` bounds the rules of all lists together.
    pub(super) fn new(
        rules: &'a [WideRule<W>],
        parameters: &'a Parameters,
        entries_max: usize,
    ) -> Self {
        Builder {
            rules,
            asked: rules,
            all: rules,
            parameters,
            nodes: Vec::new(),
            leaves: Leaves::default(),
            leaf_nodes: Vec::new(),
            handed_on: Vec::new(),
            may_hand_on: false,
            entries_left: entries_max,
            work: 0,
        }
    }

    /// All trees of the rules. The buckets are kept when `keep_buckets` says so.
    pub(super) fn trees(&mut self, keep_buckets: bool) -> Result<Vec<Draft>, TooLarge> {
        let all = (0..self.rules.len() as u32).collect();
        self.trees_of(all, 0, keep_buckets)
    }

    fn trees_of(
        &mut self,
        mut left: Vec<u32>,
        before: usize,
        keep_buckets: bool,
    ) -> Result<Vec<Draft>, TooLarge> {
        let mut drafts = Vec::new();
        while !left.is_empty() {
            let is_last = before + drafts.len() + 1 >= self.parameters.trees_max
                || left.len() <= LANES * self.parameters.tail_groups;
            self.may_hand_on = !is_last;
            let rank_min = self.rules[left[0] as usize].rank;
            let node = self.nodes.len() as u32;
            self.nodes.push(Node::leaf(node, 0, 0));
            let all = std::mem::take(&mut left);
            let buckets = self.root(node, all, keep_buckets)?;
            if keep_buckets {
                // A rule is removed from the trees it is in: no other may have it in a group.
                self.leaves.close();
            }
            left = std::mem::take(&mut self.handed_on);
            left.sort_unstable();
            left.dedup();
            drafts.push(Draft {
                root: Root {
                    node,
                    has_grid: false,
                    rank_min,
                },
                buckets,
            });
        }
        Ok(drafts)
    }

    /// All trees of the rules, a grid before the first.
    fn behind_grid<G: Group<W>>(
        &mut self,
        asked: &'a [WideRule<W>],
        questions: [Question; 2],
    ) -> Result<Parts<G>, TooLarge> {
        let cells_max = self.rules.len() * CELLS_EACH + CELLS_LEAST;
        let crossing = Crossing::new(self.rules, questions, cells_max).ok_or(TooLarge)?;
        let shares = crossing.shares(self.rules.len());
        let share_max = self.parameters.grid_share_max;
        let stays = |rule: &u32| shares[*rule as usize] <= share_max;
        let all = 0..self.rules.len() as u32;
        self.handed_on = all.clone().filter(|rule| !stays(rule)).collect();
        self.may_hand_on = self.parameters.trees_max > 1;
        self.asked = asked;
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut cells = Vec::new();
        for mut list in crossing.cells() {
            self.work += (self.rules.len() / 512 + list.len()) as u64;
            list.retain(stays);
            let node = match known.get(&list) {
                Some(&node) => node,
                None => {
                    let node = self.nodes.len() as u32;
                    self.nodes.push(Node::leaf(node, 0, 0));
                    known.insert(list.clone(), node);
                    self.place(node, list, &Pattern::ANY, 1)?;
                    node
                }
            };
            cells.push(node);
        }
        self.asked = self.all;
        let mut left = std::mem::take(&mut self.handed_on);
        left.sort_unstable();
        left.dedup();
        let drafts = self.trees_of(left, 1, false)?;
        let mut parts = self.parts()?;
        let first = Root {
            node: 0,
            has_grid: true,
            rank_min: self.rules.first().map_or(NO_RANK, |rule| rule.rank),
        };
        let others = drafts.iter().map(|draft| draft.root);
        parts.roots = std::iter::once(first).chain(others).collect();
        parts.grid = Some(Grid {
            questions,
            places: crossing.places,
            cells: cells
                .into_iter()
                .map(|node| Cell::to(node, parts.nodes[node as usize]))
                .collect(),
        });
        Ok(parts)
    }

    /// A tree without a rule, whose root stays a leaf.
    pub(super) fn unsorted(&mut self) -> Draft {
        let node = self.nodes.len() as u32;
        self.nodes.push(Node::leaf(node, 0, 0));
        let leaf = self.leaves.place(Vec::new());
        self.leaf_nodes.push((node, leaf));
        Draft {
            root: Root {
                node,
                has_grid: false,
                rank_min: NO_RANK,
            },
            buckets: vec![Vec::new()],
        }
    }

    /// All rules as what is below one answer of a root, or as one leaf. The first node is what
    /// becomes of the answer's node; the numbers of the others begin at 1.
    pub(super) fn bucket<G: Group<W>>(
        &mut self,
        region: &Pattern<W>,
        one_leaf: bool,
        first_group: usize,
    ) -> Result<(Vec<Node>, Vec<G>), TooLarge> {
        let list = (0..self.rules.len() as u32).collect();
        self.nodes.push(Node::leaf(0, 0, 0));
        if one_leaf {
            self.leaf(0, list)?;
        } else {
            self.place(0, list, region, 1)?;
        }
        let groups = self.groups(first_group)?;
        Ok((std::mem::take(&mut self.nodes), groups))
    }

    /// What was built, without roots.
    pub(super) fn parts<G: Group<W>>(&mut self) -> Result<Parts<G>, TooLarge> {
        let groups = self.groups(0)?;
        Ok(Parts {
            nodes: std::mem::take(&mut self.nodes),
            groups,
            roots: Vec::new(),
            grid: None,
            exact: None,
            records: match G::HAS_RECORDS {
                true => self.rules.iter().map(Record::of).collect(),
                false => Vec::new(),
            },
        })
    }

    /// A tree's root and all below it; its buckets, if wanted.
    fn root(
        &mut self,
        node: u32,
        mut list: Vec<u32>,
        keep_buckets: bool,
    ) -> Result<Vec<Vec<u32>>, TooLarge> {
        // What a stronger rule covers everywhere comes back when that rule is removed: the buckets
        // have to know it.
        if !keep_buckets {
            prune(self.asked, &mut list, &Pattern::ANY);
        }
        let region = Pattern::ANY;
        let Some(question) = self.question(&mut list, &region, 0) else {
            let buckets = keep_buckets.then(|| list.clone()).into_iter().collect();
            self.leaf(node, list)?;
            return Ok(buckets);
        };
        let children = self.split(&list, question)?;
        let buckets = if keep_buckets {
            children.clone()
        } else {
            Vec::new()
        };
        self.children(node, question, children, &region, 0)?;
        Ok(buckets)
    }

    /// Builds what is below a node whose region is known.
    fn place(
        &mut self,
        node: u32,
        mut list: Vec<u32>,
        region: &Pattern<W>,
        depth: u32,
    ) -> Result<(), TooLarge> {
        prune(self.asked, &mut list, region);
        let Some(question) = self.question(&mut list, region, depth) else {
            return self.leaf(node, list);
        };
        let children = self.split(&list, question)?;
        let longest = children.iter().map(Vec::len).max().unwrap_or(0);
        let copies: usize = children.iter().map(Vec::len).sum();
        // Nothing was told apart.
        if longest >= list.len() && copies * 20 > list.len() * children.len() * 19 {
            return self.leaf(node, list);
        }
        drop(list);
        self.children(node, question, children, region, depth)
    }

    /// What the node asks; takes out of the list what is handed on. `None` makes it a leaf.
    fn question(
        &mut self,
        list: &mut Vec<u32>,
        region: &Pattern<W>,
        depth: u32,
    ) -> Option<Question> {
        if list.len() <= LANES || depth >= DEPTH_MAX {
            return None;
        }
        let parameters = self.parameters;
        let (open_max, mut share_max) = match depth {
            0 => (parameters.root_open_max, parameters.root_share_max),
            _ => (parameters.open_max, parameters.share_max),
        };
        let question = loop {
            let hand_on = self.may_hand_on.then_some(HandOn {
                open_max,
                share_max,
            });
            let known = &region.care;
            let found = choose(self.asked, list, known, hand_on, parameters, &mut self.work);
            if found.is_some() || !self.may_hand_on || share_max >= 1.0 {
                break found;
            }
            share_max = (share_max * 1.6).max(0.1);
        }?;
        if self.may_hand_on {
            let (rules, handed_on) = (self.asked, &mut self.handed_on);
            list.retain(|&rule| {
                let care = rules[rule as usize].pattern.care[question.word];
                let stays = (question.mask & !care).count_ones() <= open_max;
                if !stays {
                    handed_on.push(rule);
                }
                stays
            });
        }
        (list.len() > LANES).then_some(question)
    }

    /// The lists of a question's answers.
    fn split(&mut self, list: &[u32], question: Question) -> Result<Vec<Vec<u32>>, TooLarge> {
        let mut children = vec![Vec::new(); 1 << question.mask.count_ones()];
        self.work += children.len() as u64 * SPLIT_WORK;
        for &rule in list {
            let answers = answers(&self.asked[rule as usize].pattern, question);
            for answer in answers {
                self.entries_left = self.entries_left.checked_sub(1).ok_or(TooLarge)?;
                self.work += 1;
                children[answer as usize].push(rule);
            }
        }
        Ok(children)
    }

    fn children(
        &mut self,
        node: u32,
        question: Question,
        mut children: Vec<Vec<u32>>,
        region: &Pattern<W>,
        depth: u32,
    ) -> Result<(), TooLarge> {
        let base = self.nodes.len() as u32;
        let numbers = base..base + children.len() as u32;
        self.nodes
            .extend(numbers.map(|number| Node::leaf(number, 0, 0)));
        self.nodes[node as usize] = Node::question(question.word, question.mask, base);
        let region_of = |answer: usize| {
            let value = scatter(answer as u32, question.mask);
            region.with(question.word, question.mask, value)
        };
        let mut short: Vec<usize> = Vec::new();
        for (answer, list) in children.iter_mut().enumerate() {
            if list.len() <= LANES {
                prune(self.asked, list, &region_of(answer));
                short.push(answer);
            }
        }
        // The longest first, so that the others fill what they leave.
        short.sort_by_key(|&answer| std::cmp::Reverse(children[answer].len()));
        for answer in short {
            let list = std::mem::take(&mut children[answer]);
            self.leaf(base + answer as u32, list)?;
        }
        for (answer, list) in children.into_iter().enumerate() {
            if list.len() > LANES {
                self.place(base + answer as u32, list, &region_of(answer), depth + 1)?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, node: u32, list: Vec<u32>) -> Result<(), TooLarge> {
        if list.len() > LEAF_RULES_MAX {
            return Err(TooLarge);
        }
        self.work += LEAF_WORK;
        let leaf = self.leaves.place(list);
        self.leaf_nodes.push((node, leaf));
        Ok(())
    }

    /// The groups of all leaves, numbered from `first_group` on; points the leaf nodes at them.
    fn groups<G: Group<W>>(&mut self, first_group: usize) -> Result<Vec<G>, TooLarge> {
        if first_group + self.leaves.groups() >= GROUPS_MAX {
            return Err(TooLarge);
        }
        let mut groups = Vec::with_capacity(self.leaves.groups());
        let mut places = Vec::with_capacity(self.leaves.lists().len());
        for list in self.leaves.lists() {
            places.push((first_group + groups.len(), groups_of(list.len())));
            if list.is_empty() {
                groups.push(G::EMPTY);
            }
            for rules in list.chunks(LANES) {
                let mut group = G::EMPTY;
                for (lane, &rule) in rules.iter().enumerate() {
                    group.set(lane, &self.rules[rule as usize]);
                }
                groups.push(group);
            }
        }
        for &(node, leaf) in &self.leaf_nodes {
            let (first, count) = places[leaf as usize];
            let own = self.nodes[node as usize].base;
            self.nodes[node as usize] = Node::leaf(own, first, count);
        }
        Ok(groups)
    }
}

/// Builds all trees of the rules; also says how much was looked at. `order` has the bits a grid may
/// ask for.
pub(super) fn build<G: Group<W>, const W: usize>(
    rules: &[WideRule<W>],
    order: &[(usize, u32)],
    parameters: &Parameters,
    entries_max: usize,
) -> (Result<Parts<G>, TooLarge>, u64) {
    // What records test is taken for granted.
    let asked: Vec<WideRule<W>> = rules.iter().map(WideRule::by_digest).collect();
    let questions = grid::questions(order, parameters.grid_bits);
    let masks = questions.iter().flatten().map(|question| question.mask);
    let settled = masks.fold(0, |all, mask| all | mask);
    let behind: Vec<WideRule<W>> = match questions {
        Some(_) => asked.iter().map(|rule| rule.without(0, settled)).collect(),
        None => Vec::new(),
    };
    let mut builder = Builder::new(rules, parameters, entries_max);
    builder.asked = &asked;
    builder.all = &asked;
    let parts = match questions {
        Some(questions) => builder.behind_grid(&behind, questions),
        None => builder.trees(false).and_then(|drafts| {
            let mut parts = builder.parts()?;
            parts.roots = drafts.iter().map(|draft| draft.root).collect();
            Ok(parts)
        }),
    };
    (parts, builder.work)
}

/// Trees that take nothing for granted, for keys whose digest a rule matches that they do not.
/// Without records: those of the others serve.
pub(super) fn build_exact<G: Group<W>, const W: usize>(
    rules: &[WideRule<W>],
    parameters: &Parameters,
    entries_max: usize,
) -> Result<Parts<G>, TooLarge> {
    let mut builder = Builder::new(rules, parameters, entries_max);
    let drafts = builder.trees(false)?;
    let mut parts = builder.parts()?;
    parts.roots = drafts.iter().map(|draft| draft.root).collect();
    parts.records = Vec::new();
    Ok(parts)
}
