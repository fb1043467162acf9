//! `[fragments]`: how long and how many fragments are waited for.

use super::kind::Whole;
use super::reader::{Section, defaults};

/// `[fragments]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragments {
    /// Seconds from the first fragment of an IPv4 datagram to its last.
    pub ipv4_lifetime_s: u32,
    /// The same of IPv6 (RFC 8200 §4.5).
    pub ipv6_lifetime_s: u32,
    /// Bytes of fragments that came before the first of their datagram, in all.
    pub waiting_bytes: u32,
}

impl Fragments {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Fragments {
        let bytes = Whole(65_536..=1_073_741_824);
        Fragments {
            ipv4_lifetime_s: section.optional("ipv4_lifetime_s", 10, Whole(1..=300)),
            ipv6_lifetime_s: section.optional("ipv6_lifetime_s", 60, Whole(1..=300)),
            waiting_bytes: section.optional("waiting_bytes", 4_194_304, bytes),
        }
    }
}

impl Default for Fragments {
    fn default() -> Self {
        defaults(Self::read)
    }
}
