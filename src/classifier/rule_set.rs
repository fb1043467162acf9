//! The intermediate representation every policy system compiles to.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::wire::{Address, Family, FlowKey};

/// Stable identity of a rule, derived from its content (object kind, namespace, name and the rule's
/// own canonical text), never from its position. Counters and logs are kept under it across
/// reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u64);

/// Position of a rule in its [`RuleSet`]; valid for that set alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex(pub u32);

/// Refers to an [`AddressSet`] of the same [`RuleSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressSetId(pub u32);

/// Refers to the policy object a rule came from, in a table the policy room keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub u32);

/// What a rule says of a matching packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleVerdict {
    /// The stage lets the packet through.
    Allow,
    /// The stage drops the packet.
    Deny,
    /// The stage has no opinion; the next tier decides.
    Pass,
}

/// An inclusive range of ports, or of ICMP `type << 8 | code` (see [`FlowKey`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// Smallest matching value.
    pub first: u16,
    /// Largest matching value.
    pub last: u16,
}

impl PortRange {
    /// Every value.
    pub const ANY: PortRange = PortRange {
        first: 0,
        last: u16::MAX,
    };

    /// Exactly one value.
    pub const fn single(port: u16) -> Self {
        PortRange {
            first: port,
            last: port,
        }
    }

    /// Does the range contain the value?
    #[inline]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// Which IP protocols a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolMatch {
    /// All 256.
    Any,
    /// This protocol number.
    Number(u8),
}

impl ProtocolMatch {
    /// Does the rule speak of this protocol?
    #[inline]
    pub const fn contains(self, protocol: u8) -> bool {
        match self {
            ProtocolMatch::Any => true,
            ProtocolMatch::Number(number) => number == protocol,
        }
    }
}

/// Which addresses a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressMatch {
    /// Every address of both families.
    Any,
    /// The addresses of a set; an address of a family the set has nothing of does not match.
    Set(AddressSetId),
}

/// A set of addresses of both families, as sorted disjoint inclusive ranges that do not touch.
///
/// Being canonical, two sets of the same addresses are equal. A copy shares them: one set may be
/// the other end of thousands of rules.
#[derive(Debug, Clone)]
pub struct AddressSet {
    ranges: Arc<Ranges>,
    /// Of the ranges: sets are interned far oftener than made.
    hash: u64,
}

/// Ranges by family.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Ranges {
    v4: Vec<(Address, Address)>,
    v6: Vec<(Address, Address)>,
}

impl Default for AddressSet {
    fn default() -> Self {
        AddressSet::from_ranges([])
    }
}

impl PartialEq for AddressSet {
    fn eq(&self, other: &Self) -> bool {
        // Compares pointers first.
        self.hash == other.hash && self.ranges == other.ranges
    }
}

impl Eq for AddressSet {}

impl Hash for AddressSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl AddressSet {
    /// Builds the canonical set of the given inclusive ranges, in any order, overlapping or not.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (Family, Address, Address)>) -> Self {
        let mut by_family = Ranges::default();
        for (family, first, last) in ranges {
            debug_assert!(first <= last && last <= family.last_address());
            match family {
                Family::V4 => by_family.v4.push((first, last)),
                Family::V6 => by_family.v6.push((first, last)),
            }
        }
        canonicalise(&mut by_family.v4);
        canonicalise(&mut by_family.v6);
        let mut hasher = DefaultHasher::new();
        by_family.hash(&mut hasher);
        AddressSet {
            ranges: Arc::new(by_family),
            hash: hasher.finish(),
        }
    }

    /// The ranges of one family, sorted, disjoint, not touching.
    pub fn ranges(&self, family: Family) -> &[(Address, Address)] {
        match family {
            Family::V4 => &self.ranges.v4,
            Family::V6 => &self.ranges.v6,
        }
    }

    /// All ranges of both families, as [`AddressSet::from_ranges`] takes them.
    pub fn iter(&self) -> impl Iterator<Item = (Family, Address, Address)> + '_ {
        let tagged = |family| move |&(first, last): &(Address, Address)| (family, first, last);
        let v4 = self.ranges.v4.iter().map(tagged(Family::V4));
        v4.chain(self.ranges.v6.iter().map(tagged(Family::V6)))
    }

    /// Is the address in the set?
    pub fn contains(&self, family: Family, address: Address) -> bool {
        let ranges = self.ranges(family);
        let after = ranges.partition_point(|&(first, _)| first <= address);
        after > 0 && address <= ranges[after - 1].1
    }

    /// Has the set no address at all?
    pub fn is_empty(&self) -> bool {
        self.ranges.v4.is_empty() && self.ranges.v6.is_empty()
    }
}

/// Sorts, and merges ranges that overlap or touch.
fn canonicalise(ranges: &mut Vec<(Address, Address)>) {
    ranges.sort_unstable();
    let mut kept: usize = 0;
    for next in 0..ranges.len() {
        let (first, last) = ranges[next];
        let joins = kept > 0 && first.to_bits() <= ranges[kept - 1].1.to_bits().saturating_add(1);
        if joins {
            ranges[kept - 1].1 = ranges[kept - 1].1.max(last);
        } else {
            ranges[kept] = (first, last);
            kept += 1;
        }
    }
    ranges.truncate(kept);
    ranges.shrink_to_fit();
}

/// One rule: conditions that must all hold, and the verdict when they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Stable identity for counters and logs.
    pub id: RuleId,
    /// Smaller decides first; rules of equal priority are asked in the order they were pushed.
    pub priority: u32,
    /// Condition on [`FlowKey::source`].
    pub source: AddressMatch,
    /// Condition on [`FlowKey::destination`].
    pub destination: AddressMatch,
    /// Condition on [`FlowKey::protocol`].
    pub protocol: ProtocolMatch,
    /// Condition on [`FlowKey::source_port`].
    pub source_ports: PortRange,
    /// Condition on [`FlowKey::destination_port`].
    pub destination_ports: PortRange,
    /// Condition on [`FlowKey::zone`]; `None` is every zone.
    pub zone: Option<u16>,
    /// What happens to a packet that meets every condition.
    pub verdict: RuleVerdict,
    /// Where the rule was written.
    pub origin: OriginId,
}

/// An ordered list of rules and the address sets they share: first match decides.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    sets: Vec<AddressSet>,
    set_ids: std::collections::HashMap<AddressSet, AddressSetId>,
    rules: Vec<Rule>,
}

impl RuleSet {
    /// A set without rules: every key is undecided.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an address set, or finds the equal one already there.
    pub fn intern(&mut self, set: AddressSet) -> AddressSetId {
        let next = AddressSetId(self.sets.len() as u32);
        *self.set_ids.entry(set).or_insert_with_key(|set| {
            self.sets.push(set.clone());
            next
        })
    }

    /// Adds a rule behind all rules of the same or a smaller priority number.
    ///
    /// Pushing in priority order is cheap; out of order costs a move of the rules behind.
    pub fn push(&mut self, rule: Rule) {
        let position = self
            .rules
            .partition_point(|other| other.priority <= rule.priority);
        self.rules.insert(position, rule);
    }

    /// The rules, strongest first.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// One rule.
    pub fn rule(&self, index: RuleIndex) -> &Rule {
        &self.rules[index.0 as usize]
    }

    /// The interned address sets, by id.
    pub fn address_sets(&self) -> &[AddressSet] {
        &self.sets
    }

    /// One address set.
    pub fn address_set(&self, id: AddressSetId) -> &AddressSet {
        &self.sets[id.0 as usize]
    }

    /// The first rule that matches the key, by asking every rule in turn.
    pub fn first_match(&self, key: &FlowKey) -> Option<RuleIndex> {
        let mut rules = self.rules.iter();
        let position = rules.position(|rule| self.matches(rule, key))?;
        Some(RuleIndex(position as u32))
    }

    /// Does the rule match the key? The definition everything compiled is tested against.
    pub fn matches(&self, rule: &Rule, key: &FlowKey) -> bool {
        self.address_matches(rule.source, key.family, key.source)
            && self.address_matches(rule.destination, key.family, key.destination)
            && rule.protocol.contains(key.protocol)
            && rule.source_ports.contains(key.source_port)
            && rule.destination_ports.contains(key.destination_port)
            && rule.zone.is_none_or(|zone| zone == key.zone)
    }

    fn address_matches(&self, condition: AddressMatch, family: Family, address: Address) -> bool {
        match condition {
            AddressMatch::Any => true,
            AddressMatch::Set(id) => self.address_set(id).contains(family, address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(first: u128, last: u128) -> (Family, Address, Address) {
        (
            Family::V4,
            Address::from_bits(first),
            Address::from_bits(last),
        )
    }

    #[test]
    fn ranges_are_sorted_and_merged_when_they_touch() {
        let set = AddressSet::from_ranges([v4(20, 30), v4(1, 5), v4(6, 9), v4(25, 40)]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [v4(1, 9), v4(20, 40)]);
        assert!(set.contains(Family::V4, Address::from_bits(9)));
        assert!(!set.contains(Family::V4, Address::from_bits(10)));
        assert!(!set.contains(Family::V6, Address::from_bits(9)));
    }

    #[test]
    fn the_last_address_of_a_family_does_not_overflow() {
        let all = AddressSet::from_ranges([
            (Family::V6, Address::ZERO, Family::V6.last_address()),
            (
                Family::V6,
                Family::V6.last_address(),
                Family::V6.last_address(),
            ),
        ]);
        assert_eq!(all.iter().count(), 1);
    }

    #[test]
    fn equal_sets_are_interned_once() {
        let mut rules = RuleSet::new();
        let one = rules.intern(AddressSet::from_ranges([v4(1, 2), v4(3, 4)]));
        let other = rules.intern(AddressSet::from_ranges([v4(1, 4)]));
        assert_eq!(one, other);
    }
}
