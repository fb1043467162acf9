//! What is asked: nodes, groups and the roots of the trees, in flat arrays.

use super::codes::Codes;
use super::engine::gather;
use super::group::{Group, NO_RANK};

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
    /// The word asked, or of a leaf `first group << 7 | groups`.
    detail: u32,
}

/// Bits of a leaf's `detail` that hold the number of groups.
const COUNT_BITS: u32 = 7;
/// Groups of a leaf at the most.
pub(super) const LEAF_GROUPS_MAX: usize = (1 << COUNT_BITS) - 1;
/// Groups there can be.
pub(super) const GROUPS_MAX: usize = 1 << (32 - COUNT_BITS);

impl Node {
    pub(super) fn question(word: usize, mask: u64, base: u32) -> Self {
        Node {
            mask,
            base,
            detail: word as u32,
        }
    }

    pub(super) fn leaf(own: u32, first_group: usize, groups: usize) -> Self {
        debug_assert!(first_group < GROUPS_MAX && groups <= LEAF_GROUPS_MAX);
        Node {
            mask: 0,
            base: own,
            detail: (first_group as u32) << COUNT_BITS | groups as u32,
        }
    }

    pub(super) fn is_leaf(self) -> bool {
        self.mask == 0
    }

    /// The word asked; of a leaf, any.
    #[inline(always)]
    pub(super) fn word<const W: usize>(self) -> usize {
        self.detail as usize & (W - 1)
    }

    /// The groups of a leaf.
    #[inline(always)]
    pub(super) fn groups(self) -> std::ops::Range<usize> {
        let first = (self.detail >> COUNT_BITS) as usize;
        first..first + (self.detail as usize & LEAF_GROUPS_MAX)
    }
}

/// One tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    /// Number of its root node.
    pub(super) node: u32,
    /// Smallest rank in the tree: a lookup that has a smaller one need not ask it.
    pub(super) rank_min: u32,
    /// Steps below the root that a batch takes with all its lookups, whether they need them or not.
    pub(super) steps: u32,
}

/// The trees of one family.
#[derive(Debug, Clone)]
pub(super) struct Frozen<G, const W: usize> {
    pub(super) codes: Codes,
    pub(super) nodes: Vec<Node>,
    pub(super) groups: Vec<G>,
    /// By `rank_min`.
    pub(super) roots: Vec<Root>,
    /// Fetching groups before they are needed pays: they do not stay in the first cache.
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
    /// One lookup, step by step: the plain twin of the batches.
    pub(super) fn follow(&self, words: &[u64; W]) -> Path {
        let mut path = Path {
            rank: NO_RANK,
            ..Path::default()
        };
        for root in &self.roots {
            if path.rank <= root.rank_min {
                break;
            }
            path.trees += 1;
            let (leaf, steps) = self.descend(root, words);
            path.steps += steps;
            let groups = leaf.groups();
            path.groups += groups.len() as u32;
            path.long_leaves += u32::from(groups.len() > 1);
            for group in &self.groups[groups] {
                path.rank = path.rank.min(group.test(words));
            }
        }
        path
    }

    /// The leaf of a tree, and how many nodes were asked on the way.
    pub(super) fn descend(&self, root: &Root, words: &[u64; W]) -> (Node, u32) {
        let mut node = self.nodes[root.node as usize];
        let mut steps = 0;
        while !node.is_leaf() {
            let child = node.base + gather(words[node.word::<W>()], node.mask);
            node = self.nodes[child as usize];
            steps += 1;
        }
        (node, steps)
    }

    /// Memory of the nodes and groups.
    pub(super) fn tree_bytes(&self) -> u64 {
        (size_of_val(self.nodes.as_slice()) + size_of_val(self.groups.as_slice())) as u64
    }
}
