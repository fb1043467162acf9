//! Policy routing rules: which of them are the kernel's own.

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

/// Priority and table of the rules every namespace begins with (net/ipv4/fib_rules.c,
/// net/ipv6/fib6_rules.c).
const USUAL: [(u32, u32); 3] = [(0, 255), (32_766, 254), (32_767, 253)];

/// `FRA_SUPPRESS_PREFIXLEN` when there is nothing to suppress.
const SUPPRESS_NOTHING: u32 = u32::MAX;

/// Is this one of the three rules the kernel makes by itself?
///
/// Table 253, `default`, is looked at by none but the last of them and is empty unless somebody
/// fills it.
pub(super) fn is_usual(rule: &RuleMessage) -> bool {
    let header = &rule.header;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        // Multicast routing has rules of its own.
        return true;
    }
    let mut priority = 0;
    let mut table = u32::from(header.table);
    let mut plain = header.action == RuleAction::ToTable
        && (header.dst_len, header.src_len, header.tos) == (0, 0, 0);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Protocol(_) => {}
            RuleAttribute::SuppressPrefixLen(SUPPRESS_NOTHING) => {}
            RuleAttribute::SuppressIfGroup(SUPPRESS_NOTHING) => {}
            // Anything else selects.
            _ => plain = false,
        }
    }
    plain && USUAL.contains(&(priority, table))
}
