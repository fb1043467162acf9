/// Size and shape of a compiled tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Rules of the set the tree was compiled from.
    pub rules: u32,
    /// Rules never asked because one stronger rule covers them.
    pub rules_shadowed: u32,
    /// Nodes of every kind, leaves included.
    pub nodes: u32,
    /// Nodes that hold a rule list tested one by one.
    pub leaves: u32,
    /// Longest way from a root to a decision, in nodes.
    pub depth_max: u32,
    /// Most rules any lookup tests one by one, over all leaves it visits.
    pub rules_tested_max: u32,
    /// Equivalence classes by family (IPv4, IPv6) and field (source, destination, protocol, source
    /// port, destination port, zone).
    pub classes: [[u32; 6]; 2],
    /// Memory of the compiled form.
    pub bytes: u64,
}
