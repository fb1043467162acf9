//! `[forwarding]`: routed or transparent.

use super::choice::choice;

/// How frames find their way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// By the kernel's routes, or straight to the other port of a pair.
    pub mode: ForwardingMode,
    /// Transparent mode: pairs of port numbers. Empty in routed mode.
    pub pairs: Vec<(usize, usize)>,
    /// Routed mode: whether the source must route back (RFC 3704).
    pub reverse_path_filter: ReversePathFilter,
    /// ICMP errors sent per port and second at most (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
    pub icmp_errors_per_second: u32,
    /// ICMP errors that may be sent at once after a quiet time.
    pub icmp_errors_burst: u32,
}

choice! {
    /// How frames find their way out.
    ForwardingMode {
        /// As a router: by destination address, TTL counted down.
        Routed = "routed",
        /// As a wire: from one port of a pair to the other, frames unchanged.
        Transparent = "transparent",
    }
}

choice! {
    /// What the route back to a packet's source must be (RFC 3704).
    ReversePathFilter {
        /// It leaves by the port the packet came in on (§2.2).
        Strict = "strict",
        /// There is one (§2.4).
        Loose = "loose",
        /// Not asked.
        Off = "off",
    }
}
