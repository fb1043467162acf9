use super::build::{BuiltTree, Child, Node};

/// Size and shape of a compiled tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Rules of the set the tree was compiled from.
    pub rules: u32,
    /// Rules never asked because one stronger rule covers them.
    pub rules_shadowed: u32,
    /// Nodes of every kind, leaves included, of both families.
    pub nodes: u32,
    /// Nodes that hold a list of rules, tested one by one.
    pub leaves: u32,
    /// Nodes that lead to two places, both to be asked.
    pub forks: u32,
    /// Most nodes any lookup visits.
    pub depth_max: u32,
    /// Most rules any lookup tests one by one, over all leaves it visits.
    pub rules_tested_max: u32,
    /// Equivalence classes by family (IPv4, IPv6) and field (source, destination, protocol, source
    /// port, destination port, zone).
    pub classes: [[u32; 6]; 2],
    /// Memory of the compiled form.
    pub bytes: u64,
}

impl Statistics {
    /// Counts one family's tree.
    pub(super) fn add_tree(&mut self, tree: &BuiltTree) {
        // Depth and rules tested by node; children stand before their parents.
        let mut costs: Vec<(u32, u32)> = Vec::with_capacity(tree.nodes.len());
        let cost_of = |costs: &[(u32, u32)], child: Child| match child {
            Child::Nothing | Child::Decision(_) => (0, 0),
            Child::Node(node) => costs[node as usize],
        };
        for node in &tree.nodes {
            let (depth, tested) = match node {
                Node::Test { children, .. } => children
                    .iter()
                    .map(|&(_, child)| cost_of(&costs, child))
                    .fold((0, 0), |worst, cost| {
                        (worst.0.max(cost.0), worst.1.max(cost.1))
                    }),
                Node::Fork { first, second } => {
                    let (one, other) = (cost_of(&costs, *first), cost_of(&costs, *second));
                    (one.0 + other.0, one.1 + other.1)
                }
                Node::Leaf { rules, .. } => (0, rules.len() as u32),
            };
            costs.push((depth + 1, tested));
            self.leaves += u32::from(matches!(node, Node::Leaf { .. }));
            self.forks += u32::from(matches!(node, Node::Fork { .. }));
        }
        let (depth, tested) = cost_of(&costs, tree.root);
        self.nodes += tree.nodes.len() as u32;
        self.depth_max = self.depth_max.max(depth);
        self.rules_tested_max = self.rules_tested_max.max(tested);
    }
}
