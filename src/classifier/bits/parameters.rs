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
    /// Bits of each address the first root asks for, by a grid; 0 is no grid.
    pub grid_bits: u32,
    /// A rule in more than this share of the grid's cells is handed on.
    pub grid_share_max: f64,
}

impl Parameters {
    const DEFAULT: Parameters = Parameters {
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
        grid_bits: 0,
        grid_share_max: 1.0,
    };

    /// What is tried first: what did best on sets of each kind, from a thousand rules to a hundred
    /// thousand. Those with a grid are the last.
    pub(super) const STARTS: [Parameters; 8] = [
        Parameters::DEFAULT,
        Parameters {
            trees_max: 5,
            root_open_max: 4,
            open_max: 3,
            root_share_max: 0.2,
            share_max: 0.15,
            hand_on_price: 16.0,
            fan: 4.0,
            stop: 0.98,
            ..Parameters::DEFAULT
        },
        Parameters {
            trees_max: 8,
            root_open_max: 1,
            open_max: 4,
            root_share_max: 0.4,
            share_max: 0.5,
            hand_on_price: 1.0,
            tail_groups: 2,
            ..Parameters::DEFAULT
        },
        Parameters {
            trees_max: 5,
            root_open_max: 1,
            open_max: 3,
            root_share_max: 0.2,
            share_max: 0.1,
            hand_on_price: 16.0,
            ..Parameters::DEFAULT
        },
        Parameters {
            trees_max: 3,
            root_share_max: 0.6,
            hand_on_price: 2.0,
            ..Parameters::DEFAULT
        },
        Parameters {
            open_max: 4,
            share_max: 0.4,
            fan: 2.0,
            stop: 0.98,
            tail_groups: 1,
            grid_bits: 12,
            grid_share_max: 0.05,
            ..Parameters::DEFAULT
        },
        Parameters {
            trees_max: 8,
            open_max: 3,
            share_max: 0.15,
            fan: 1.0,
            stop: 0.98,
            tail_groups: 8,
            port_tables: true,
            grid_bits: 8,
            grid_share_max: 0.02,
            ..Parameters::DEFAULT
        },
        Parameters {
            trees_max: 8,
            share_max: 0.5,
            hand_on_price: 1.0,
            fan: 4.0,
            stop: 0.98,
            tail_groups: 2,
            grid_bits: 10,
            grid_share_max: 0.2,
            ..Parameters::DEFAULT
        },
    ];
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters::DEFAULT
    }
}
