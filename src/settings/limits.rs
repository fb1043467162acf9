//! `[limits]`: what is bounded, and where.

use super::kind::Whole;
use super::reader::{Section, defaults};

/// Bounds of everything that grows with traffic or input. Totals: workers share them evenly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Tracked flows. Memory for all is taken at start.
    pub flows: u32,
    /// Flows not yet answered or not yet fully open; never more than `flows`.
    pub half_open_flows: u32,
    /// Datagrams whose fragments are tracked at once.
    pub fragment_datagrams: u32,
    /// Neighbours known (IPv4 and IPv6, all ports).
    pub neighbours: u32,
    /// Frames that wait for a neighbour to be resolved.
    pub neighbour_frames: u32,
    /// Pairs of rule and source whose connections are counted, for rules with a rate.
    pub rate_limit_sources: u32,
    /// Events from workers that control has not read yet, per worker.
    pub events: u32,
    /// Rules of all policies together after compilation.
    pub rules: u32,
    /// Nodes of the compiled decision trees together.
    pub classifier_nodes: u32,
    /// Log lines per second for each kind of event; more are counted instead.
    pub log_lines_per_second: u32,
}

impl Limits {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Limits {
        let mut number = |key, default, bounds| section.optional(key, default, Whole(bounds));
        let flows = number("flows", 1_048_576, 1_024..=16_777_216);
        let half_open_flows = number("half_open_flows", 262_144, 64..=16_777_216);
        Limits {
            flows,
            half_open_flows: half_open_flows.min(flows),
            fragment_datagrams: number("fragment_datagrams", 4_096, 16..=1_048_576),
            neighbours: number("neighbours", 65_536, 16..=1_048_576),
            neighbour_frames: number("neighbour_frames", 1_024, 1..=65_536),
            rate_limit_sources: number("rate_limit_sources", 65_536, 64..=16_777_216),
            events: number("events", 4_096, 64..=1_048_576),
            rules: number("rules", 262_144, 1_000..=100_000_000),
            classifier_nodes: number("classifier_nodes", 4_194_304, 1_024..=1_073_741_824),
            log_lines_per_second: number("log_lines_per_second", 100, 1..=100_000),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        defaults(Self::read)
    }
}
