//! `[tracking]`: what connection tracking is lenient about.

use super::choice::choice;
use super::kind::{Flag, Whole};
use super::reader::{Section, defaults};

choice! {
    /// What becomes of packets with a wrong transport checksum.
    Checksums {
        /// They are dropped.
        Verify = "verify",
        /// They are forwarded as they are.
        Ignore = "ignore",
    }
}

/// `[tracking]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// TCP connections may be picked up in their middle.
    pub tcp_loose: bool,
    /// TCP segments outside the window pass.
    pub tcp_be_liberal: bool,
    /// TCP segments sent again without an answer before the flow's time is cut.
    pub tcp_retransmissions_max: u32,
    /// What becomes of packets with a wrong transport checksum.
    pub checksums: Checksums,
}

impl Tracking {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Tracking {
        let retransmissions = Whole(1..=255);
        Tracking {
            tcp_loose: section.optional("tcp_loose", true, Flag),
            tcp_be_liberal: section.optional("tcp_be_liberal", false, Flag),
            tcp_retransmissions_max: section.optional(
                "tcp_retransmissions_max",
                3,
                retransmissions,
            ),
            checksums: section.choice("checksums"),
        }
    }
}

impl Default for Tracking {
    fn default() -> Self {
        defaults(Self::read)
    }
}
