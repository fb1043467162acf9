use super::build::{BuiltTree, Node};
use super::field::FIELDS;
use super::strategy::Strategy;
use crate::classifier::bits::Bits;

/// Size and shape of a compiled tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Rules of the set the tree was compiled from.
    pub rules: u32,
    /// Rules never asked because one stronger rule covers them.
    pub rules_shadowed: u32,
    /// Nodes of every kind, leaves included, of both families.
    pub nodes: u32,
    /// Nodes that hold a list of rules, tested one by one; with bits, groups of eight rules.
    pub leaves: u32,
    /// Nodes that lead to two places, both to be asked.
    pub forks: u32,
    /// Most nodes any lookup visits.
    pub depth_max: u32,
    /// Most rules any lookup tests one by one, over all leaves it visits.
    pub rules_tested_max: u32,
    /// Equivalence classes by family (IPv4, IPv6) and field (source, destination, protocol, source
    /// port, destination port, zone, shared classes of source and destination).
    pub classes: [[u32; FIELDS]; 2],
    /// Memory of what lookups read.
    pub bytes: u64,
    /// Memory kept beside it: with bits, the tables [`Tree::classes`](super::Tree::classes) reads.
    pub bytes_beside: u64,
    /// How keys are decided.
    pub strategy: Strategy,
    /// Picoseconds a lookup takes by the model of each strategy that was compiled: classes, bits.
    pub lookup_ps: [Option<u32>; 2],
}

impl Statistics {
    /// Says what the trees of bits are like instead.
    pub(super) fn turn_to_bits(&mut self, bits: &Bits, tables_bytes: u64) {
        let shape = bits.shape();
        self.strategy = Strategy::Bits;
        self.nodes = shape.nodes;
        self.leaves = shape.groups;
        self.forks = 0;
        self.depth_max = shape.depth_max;
        self.rules_tested_max = shape.rules_tested_max;
        self.bytes = bits.bytes();
        self.bytes_beside = tables_bytes;
    }

    /// Counts one family's tree.
    pub(super) fn add_tree(&mut self, tree: &BuiltTree) {
        let count = |is_kind: fn(&Node) -> bool| tree.nodes.iter().filter(|n| is_kind(n)).count();
        self.leaves += count(|node| matches!(node, Node::Leaf { .. })) as u32;
        self.forks += count(|node| matches!(node, Node::Fork { .. })) as u32;
        self.nodes += tree.nodes.len() as u32;
        let worst = tree.worst(tree.root);
        self.depth_max = self.depth_max.max(worst.depth);
        self.rules_tested_max = self.rules_tested_max.max(worst.tested);
    }
}
