//! Step 1: rules written in address sets become rules written in one prefix a side.
//!
//! A set of several ranges becomes as many rules as prefixes cover it, times those of the other
//! side. All of them answer the rank of the rule they came from. Where that would multiply the
//! rules, the strategy declines: classes of addresses are the better way then.

use super::NotForBits;
use super::codes::ZONES_MAX;
use crate::classifier::{AddressMatch, PortRange, ProtocolMatch, Rule, RuleIndex, RuleSet};
use crate::wire::Family;

/// The first `length` bits of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Prefix {
    /// Smallest address.
    pub(super) first: u128,
    /// Bits that are given.
    pub(super) length: u8,
}

impl Prefix {
    const ANY: Prefix = Prefix {
        first: 0,
        length: 0,
    };

    /// Value and mask of the given bits of an address of `width` bits.
    pub(super) fn bits(self, width: u32) -> (u128, u128) {
        let hosts = width - u32::from(self.length);
        let all = u128::MAX >> (128 - width);
        let care = all.checked_shr(hosts).unwrap_or(0) << hosts.min(127);
        (self.first, care & all)
    }
}

/// A rule of one family, one prefix a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FlatRule {
    pub(super) rank: u32,
    pub(super) source: Prefix,
    pub(super) destination: Prefix,
    pub(super) protocol: ProtocolMatch,
    /// Source and destination.
    pub(super) ports: [PortRange; 2],
    pub(super) zone: Option<u16>,
}

/// What a rule of the set becomes in one family; nothing when it cannot match there.
pub(super) fn flatten(
    rules: &RuleSet,
    rule: &Rule,
    rank: u32,
    family: Family,
    room: usize,
) -> Option<Vec<FlatRule>> {
    let ports = [rule.source_ports, rule.destination_ports];
    if ports.into_iter().any(|ports| ports.first > ports.last) {
        return Some(Vec::new());
    }
    let sources = prefixes(rules, rule.source, family, room)?;
    let destinations = prefixes(rules, rule.destination, family, room)?;
    if sources.len().saturating_mul(destinations.len()) > room {
        return None;
    }
    let mut flat = Vec::with_capacity(sources.len() * destinations.len());
    for &source in &sources {
        flat.extend(destinations.iter().map(|&destination| FlatRule {
            rank,
            source,
            destination,
            protocol: rule.protocol,
            ports,
            zone: rule.zone,
        }));
    }
    Some(flat)
}

/// The rules of one family, strongest first; ranks are positions in the set.
///
/// # Errors
/// When there would be more than `flat_rules_max`, or more zones than the tag has room for.
pub(super) fn expand(
    rules: &RuleSet,
    family: Family,
    flat_rules_max: usize,
) -> Result<Vec<FlatRule>, NotForBits> {
    let mut zones: Vec<u16> = rules.rules().iter().filter_map(|rule| rule.zone).collect();
    zones.sort_unstable();
    zones.dedup();
    if zones.len() > ZONES_MAX {
        return Err(NotForBits::Zones {
            needed: zones.len(),
            allowed: ZONES_MAX,
        });
    }
    let mut flat = Vec::new();
    for (position, rule) in rules.rules().iter().enumerate() {
        let rank = position as u32;
        let room = flat_rules_max - flat.len();
        let more = flatten(rules, rule, rank, family, room).ok_or(NotForBits::Prefixes {
            allowed: flat_rules_max,
            rule: RuleIndex(rank),
        })?;
        flat.extend(more);
    }
    Ok(flat)
}

/// The prefixes that make up a condition, at most `room`; `None` when there are more.
fn prefixes(
    rules: &RuleSet,
    condition: AddressMatch,
    family: Family,
    room: usize,
) -> Option<Vec<Prefix>> {
    let AddressMatch::Set(id) = condition else {
        return (room > 0).then(|| vec![Prefix::ANY]);
    };
    let ranges = rules.address_set(id).ranges(family);
    if ranges.len() > room {
        return None;
    }
    let mut prefixes = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        split(first.to_bits(), last.to_bits(), family, &mut prefixes);
    }
    (prefixes.len() <= room).then_some(prefixes)
}

/// The largest prefixes an inclusive range consists of, in order.
fn split(mut first: u128, last: u128, family: Family, prefixes: &mut Vec<Prefix>) {
    let width = u32::from(family.bits());
    loop {
        let aligned = first.trailing_zeros().min(width);
        // Addresses left after this one, as a power of two that surely fits.
        let fitting = match (last - first).checked_add(1) {
            Some(count) => count.ilog2(),
            None => 128,
        };
        let hosts = aligned.min(fitting);
        prefixes.push(Prefix {
            first,
            length: (width - hosts) as u8,
        });
        let end = first | u128::MAX.checked_shr(128 - hosts).unwrap_or(0);
        if end >= last {
            return;
        }
        first = end + 1;
    }
}
