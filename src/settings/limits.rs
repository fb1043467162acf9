//! `[limits]`: what is bounded, and where.

/// Bounds of everything that grows with traffic or input. Totals: workers share them evenly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Tracked flows. Memory for all is taken at start.
    pub flows: u32,
    /// Flows not yet answered or not yet fully open; never more than `flows`.
    pub half_open_flows: u32,
    /// Datagrams whose fragments are tracked at once.
    pub fragment_datagrams: u32,
    /// Bytes of fragments that wait for their first one.
    pub fragment_bytes: u32,
    /// Neighbours known (IPv4 and IPv6, all ports).
    pub neighbours: u32,
    /// Frames that wait for a neighbour to be resolved.
    pub neighbour_frames: u32,
    /// Events from workers that control has not read yet, per worker.
    pub events: u32,
    /// Rules of all policies together after compilation.
    pub rules: u32,
    /// Nodes of the compiled decision trees together.
    pub classifier_nodes: u32,
    /// Log lines per second for each kind of event; more are counted instead.
    pub log_lines_per_second: u32,
}
