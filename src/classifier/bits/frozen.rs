//! What is asked: nodes, groups and the roots of the trees, in flat arrays.

use super::Shape;
use super::choose::Question;
use super::codes::Codes;
use super::engine::Means;
use super::forest::Forest;
use super::gather::gather;
use super::grid::Grid;
use super::group::{Group, LANES, NO_RANK, Record};

/// A question and where its answers are, or a leaf. Both have one shape, so that a batch takes all
/// its lookups one step on without asking which is which: a leaf asks for no bit and its base is
/// itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub(super) struct Node {
    /// Bits asked; 0 for a leaf.
    pub(super) mask: u64,
    /// Number of the node for the answer 0; the others follow.
    pub(super) base: u32,
    /// Of a leaf, its groups; otherwise the word asked.
    pub(super) detail: Leaf,
}

/// The groups of a leaf: `first << 7 | count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf(u32);

/// Bits of a leaf that hold the number of groups.
const COUNT_BITS: u32 = 7;
/// Bits in use; the rest is a cell's.
const LEAF_BITS: u32 = 31;
/// Groups of a leaf at the most.
pub(super) const LEAF_GROUPS_MAX: usize = (1 << COUNT_BITS) - 1;
/// Groups there can be.
pub(super) const GROUPS_MAX: usize = 1 << (LEAF_BITS - COUNT_BITS);

impl Leaf {
    /// No group.
    pub(super) const NOWHERE: Leaf = Leaf(0);

    /// As one number of 31 bits.
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub(super) fn of_bits(bits: u32) -> Self {
        Leaf(bits)
    }

    /// Is there a group, and are all of them among so many?
    pub(super) fn is_within(self, groups: usize) -> bool {
        self.count() > 0 && self.first() + self.count() <= groups
    }

    /// All groups.
    #[inline(always)]
    pub(super) fn groups(self) -> std::ops::Range<usize> {
        self.first()..self.first() + self.count()
    }

    /// Number of the first group.
    #[inline(always)]
    pub(super) fn first(self) -> usize {
        (self.0 >> COUNT_BITS) as usize
    }

    /// How many groups follow each other.
    #[inline(always)]
    pub(super) fn count(self) -> usize {
        self.0 as usize & LEAF_GROUPS_MAX
    }
}

impl Node {
    pub(super) fn question(word: usize, mask: u64, base: u32) -> Self {
        Node {
            mask,
            base,
            detail: Leaf(word as u32),
        }
    }

    pub(super) fn leaf(own: u32, first_group: usize, groups: usize) -> Self {
        debug_assert!(first_group < GROUPS_MAX && groups <= LEAF_GROUPS_MAX);
        Node {
            mask: 0,
            base: own,
            detail: Leaf((first_group as u32) << COUNT_BITS | groups as u32),
        }
    }

    #[inline(always)]
    pub(super) fn is_leaf(self) -> bool {
        self.mask == 0
    }

    /// Do all its answers lead to one of so many nodes or groups? `own` is its number.
    pub(super) fn leads_somewhere(self, own: usize, (nodes, groups): (usize, usize)) -> bool {
        if self.is_leaf() {
            return self.base as usize == own && own < nodes && self.detail.is_within(groups);
        }
        self.base as usize + (1usize << self.mask.count_ones()) <= nodes
    }

    /// A node of a bucket built on its own, as node `own` of a forest in which the bucket's nodes
    /// but for the first stand from `first` on.
    pub(super) fn moved(self, own: u32, first: u32) -> Self {
        let base = if self.is_leaf() {
            own
        } else {
            self.base - 1 + first
        };
        Node { base, ..self }
    }

    /// The question asked; `None` for a leaf.
    pub(super) fn asks<const W: usize>(self) -> Option<Question> {
        (!self.is_leaf()).then_some(Question {
            word: self.word::<W>(),
            mask: self.mask,
        })
    }

    /// The word asked; of a leaf, any.
    #[inline(always)]
    pub(super) fn word<const W: usize>(self) -> usize {
        self.detail.0 as usize & (W - 1)
    }
}

/// One tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    /// Number of its root node; of a tree behind the grid, any.
    pub(super) node: u32,
    /// Keys go through the grid first.
    pub(super) has_grid: bool,
    /// Smallest rank in the tree: a lookup that has a smaller one need not ask it.
    pub(super) rank_min: u32,
}

/// Nodes and groups that refer to each other by number.
#[derive(Debug, Clone)]
pub(super) struct Parts<G> {
    pub(super) nodes: Vec<Node>,
    pub(super) groups: Vec<G>,
    pub(super) roots: Vec<Root>,
    pub(super) grid: Option<Grid>,
    /// By number of a rule, where groups answer numbers.
    pub(super) records: Vec<Record>,
    /// Where these trees take for granted what records test: trees that do not, to be asked when a
    /// record does not match after all.
    pub(super) exact: Option<Box<Parts<G>>>,
}

/// A change of [`Parts`].
#[derive(Debug, Clone)]
pub(super) struct Patch<G> {
    /// To be added, in order.
    pub(super) nodes: Vec<Node>,
    pub(super) groups: Vec<G>,
    pub(super) records: Vec<Record>,
    /// Nodes that are there, by number, and what they become; the last one counts.
    pub(super) replaced: Vec<(u32, Node)>,
    /// By root.
    pub(super) ranks_min: Vec<u32>,
}

/// The trees of one family.
#[derive(Debug, Clone)]
pub(super) struct Frozen<G, const W: usize> {
    pub(super) codes: Codes,
    pub(super) forest: Forest<G, W>,
    /// By root: steps below it that a batch takes with all its lookups, needed or not.
    pub(super) steps: Vec<u32>,
    /// Fetching nodes before they are needed pays: they do not stay in the first cache.
    pub(super) fetch_nodes: bool,
    /// The same of groups.
    pub(super) fetch_groups: bool,
}

/// How far a lookup went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) rank: u32,
    pub(super) trees: u32,
    /// Nodes asked.
    pub(super) steps: u32,
    pub(super) groups: u32,
    /// Leaves of more than one group.
    pub(super) long_leaves: u32,
}

impl<G: Group<W>, const W: usize> Frozen<G, W> {
    /// Trees as built.
    pub(super) fn new(codes: Codes, parts: Parts<G>) -> Self {
        Frozen {
            codes,
            steps: vec![0; parts.roots.len()],
            forest: Forest::new(parts),
            fetch_nodes: true,
            fetch_groups: true,
        }
    }

    /// One lookup, step by step: the plain twin of the batches.
    pub(super) fn follow(&self, words: &[u64; W]) -> Path {
        let mut path = Path {
            rank: NO_RANK,
            ..Path::default()
        };
        let parts = self.forest.parts();
        for root in &parts.roots {
            if path.rank <= root.rank_min {
                continue;
            }
            path.trees += 1;
            let (leaf, steps) = self.descend(root, words);
            path.steps += steps;
            let groups = leaf.groups();
            path.groups += groups.len() as u32;
            path.long_leaves += u32::from(groups.len() > 1);
            path.rank = path.rank.min(parts.rank(leaf, words));
        }
        path
    }

    /// The leaf of a tree, and how many nodes were asked on the way; a grid counts as one.
    pub(super) fn descend(&self, root: &Root, words: &[u64; W]) -> (Leaf, u32) {
        let parts = self.forest.parts();
        let (mut node, mut steps) = (root.node, 0);
        if let Some(grid) = parts.grid.as_ref().filter(|_| root.has_grid) {
            let cell = grid.cell(words);
            if cell.is_leaf() {
                return (cell.leaf(), 1);
            }
            (node, steps) = (cell.node(), 1);
        }
        let mut node = parts.nodes[node as usize];
        while !node.is_leaf() {
            let child = node.base + gather(words[node.word::<W>()], node.mask);
            node = parts.nodes[child as usize];
            steps += 1;
        }
        (node.detail, steps)
    }
}

impl<G, const W: usize> Frozen<G, W> {
    /// Adds these trees; what a lookup visits at the most is taken from the worse family.
    pub(super) fn add_to(&self, shape: &mut Shape) {
        let parts = self.forest.parts();
        shape.trees += parts.roots.len() as u32;
        shape.nodes += parts.nodes.len() as u32;
        shape.groups += parts.groups.len() as u32;
        let worst = parts.roots.iter().map(|root| match &parts.grid {
            Some(grid) if root.has_grid => {
                let cells = grid.cells.iter().map(|cell| match cell.is_leaf() {
                    true => (1, cell.leaf().count() as u32),
                    false => parts.worst(cell.node()),
                });
                cells.fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)))
            }
            _ => parts.worst(root.node),
        });
        let (depth, groups) = worst.fold((0, 0), |all, tree| (all.0 + tree.0, all.1 + tree.1));
        shape.depth_max = shape.depth_max.max(depth);
        let rules = groups * LANES as u32;
        shape.rules_tested_max = shape.rules_tested_max.max(rules);
    }
}

impl<G: Copy> Patch<G> {
    /// Panics when a number leads nowhere, these parts being changed.
    pub(super) fn check(&self, parts: &Parts<G>) {
        let first = parts.nodes.len();
        let groups = parts.groups.len() + self.groups.len();
        let sizes = (first + self.nodes.len(), groups);
        for (number, node) in self.nodes.iter().enumerate() {
            assert!(node.leads_somewhere(first + number, sizes));
        }
        for &(number, node) in &self.replaced {
            assert!((number as usize) < first && node.leads_somewhere(number as usize, sizes));
        }
        assert_eq!(parts.roots.len(), self.ranks_min.len());
    }

    /// Changes the parts.
    pub(super) fn apply(&self, parts: &mut Parts<G>) {
        parts.nodes.extend_from_slice(&self.nodes);
        parts.groups.extend_from_slice(&self.groups);
        parts.records.extend_from_slice(&self.records);
        for &(number, node) in &self.replaced {
            parts.nodes[number as usize] = node;
        }
        for (root, &rank_min) in parts.roots.iter_mut().zip(&self.ranks_min) {
            root.rank_min = rank_min;
        }
    }
}

impl<G> Parts<G> {
    /// The smallest rank a leaf has for a key.
    pub(super) fn rank<const W: usize>(&self, leaf: Leaf, words: &[u64; W]) -> u32
    where
        G: Group<W>,
    {
        self.rank_by(leaf, words, &self.records)
    }

    fn rank_by<const W: usize>(&self, leaf: Leaf, words: &[u64; W], records: &[Record]) -> u32
    where
        G: Group<W>,
    {
        let groups = self.groups[leaf.groups()].iter();
        let ranks = groups.map(|group| group.rank(words, records));
        ranks.min().unwrap_or(NO_RANK)
    }

    /// The smallest rank for a key whose digest matches what its addresses do not, found in this
    /// leaf.
    pub(super) fn rank_in_spite<E: Means, const W: usize>(
        &self,
        engine: E,
        leaf: Leaf,
        words: &[u64; W],
    ) -> u32
    where
        G: Group<W>,
    {
        let Some(exact) = &self.exact else {
            return self.rank(leaf, words);
        };
        let ranks = exact.roots.iter().map(|root| {
            let mut node = exact.nodes[root.node as usize];
            while !node.is_leaf() {
                let child = node.base + engine.gather(words[node.word::<W>()], node.mask);
                node = exact.nodes[child as usize];
            }
            exact.rank_by(node.detail, words, &self.records)
        });
        ranks.min().unwrap_or(NO_RANK)
    }

    /// Panics when a number leads nowhere.
    pub(super) fn check(&self) {
        let sizes = (self.nodes.len(), self.groups.len());
        for (number, node) in self.nodes.iter().enumerate() {
            assert!(node.leads_somewhere(number, sizes), "node {number}");
        }
        let mut roots = self.roots.iter();
        assert!(roots.all(|root| (root.node as usize) < sizes.0));
        let has_grid = self.roots.first().is_some_and(|root| root.has_grid);
        assert_eq!(has_grid, self.grid.is_some());
        assert!(self.roots.iter().skip(1).all(|root| !root.has_grid));
        if let Some(grid) = &self.grid {
            grid.check(sizes.0, sizes.1);
        }
        if let Some(exact) = &self.exact {
            exact.check();
        }
    }

    /// Most nodes and groups a lookup meets at a node and below.
    fn worst(&self, number: u32) -> (u32, u32) {
        let node = self.nodes[number as usize];
        if node.is_leaf() {
            return (1, node.detail.count() as u32);
        }
        let children = node.base..node.base + (1 << node.mask.count_ones());
        let worst = children.map(|child| self.worst(child));
        let (depth, groups) = worst.fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
        (depth + 1, groups)
    }

    /// Memory of the nodes and of the groups.
    pub(super) fn bytes(&self) -> [usize; 2] {
        let grid = self.grid.as_ref().map_or(0, Grid::bytes);
        let records = size_of_val(self.records.as_slice());
        let exact = self.exact.as_ref().map_or([0; 2], |exact| exact.bytes());
        [
            size_of_val(self.nodes.as_slice()) + grid + exact[0],
            size_of_val(self.groups.as_slice()) + records + exact[1],
        ]
    }
}
