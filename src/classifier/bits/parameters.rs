/// What the compiler tries variants of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Trees at the most; the last hands nothing on.
    pub trees_max: usize,
    /// Bits of a root's question a rule may leave open and still stay in its tree.
    pub root_open_max: u32,
    /// The same of every other node.
    pub open_max: u32,
    /// Share of its rules a root may hand on.
    pub root_share_max: f64,
    /// The same of every other node.
    pub share_max: f64,
    /// What handing a rule on costs, in group tests.
    pub hand_on_price: f32,
    /// Children a node may have for each of its rules.
    pub fan: f64,
    /// A bit must leave less than this share of the cost.
    pub stop: f32,
    /// A tree of no more rules than groups hold of this many hands nothing on.
    pub tail_groups: usize,
    /// Ports are coded by a table instead of being their own codes.
    pub port_tables: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            trees_max: 4,
            root_open_max: 2,
            open_max: 2,
            root_share_max: 0.3,
            share_max: 0.3,
            hand_on_price: 4.0,
            fan: 0.5,
            stop: 0.95,
            tail_groups: 4,
            port_tables: false,
        }
    }
}
