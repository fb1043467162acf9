//! Keys as 64-bit words.
//!
//! ```text
//! word 0      IPv4: destination << 32 | source;   IPv6: the digest of both
//! word 1      tag << 32 | coded destination port << 16 | coded source port
//! word 2…5    IPv6: source high, source low, destination high, destination low
//! word 6, 7   IPv6: 0
//! ```
//!
//! The tag is `zone class << 8 | protocol`. Coding of ports and zones: [`codes`](super::codes); the
//! [`digest`](super::digest) are the bits of IPv6 addresses that tell rules apart.

use super::codes::Codes;
use super::digest::Digest;
use super::engine::{Means, Portable};
use super::expand::FlatRule;
use crate::wire::FlowKey;

/// Words of an IPv4 key.
pub(super) const WORDS_V4: usize = 2;
/// Words of an IPv6 key; a power of two, and one cache line.
pub(super) const WORDS_V6: usize = 8;

/// Which word holds ports and tag.
pub(super) const PORT_WORD: usize = 1;
/// The first word of the IPv6 addresses; four.
pub(super) const ADDRESS_WORD: usize = 2;

/// Some bits of a key, and the values they have. `value` has no bit outside `care`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Pattern<const W: usize> {
    pub(super) value: [u64; W],
    pub(super) care: [u64; W],
}

impl<const W: usize> Pattern<W> {
    /// Says nothing.
    pub(super) const ANY: Self = Pattern {
        value: [0; W],
        care: [0; W],
    };

    /// The pattern with `bits` of `word` known too.
    pub(super) fn with(mut self, word: usize, bits: u64, value: u64) -> Self {
        self.care[word] |= bits;
        self.value[word] |= value;
        self
    }

    /// Does every key of `inner` meet this pattern?
    pub(super) fn contains(&self, inner: &Self) -> bool {
        (0..W).all(|word| {
            let open = self.care[word] & !inner.care[word];
            let differing = (self.value[word] ^ inner.value[word]) & self.care[word];
            open | differing == 0
        })
    }

    /// What both say together; they must not contradict each other.
    pub(super) fn and(&self, other: &Self) -> Self {
        Pattern {
            value: std::array::from_fn(|word| self.value[word] | other.value[word]),
            care: std::array::from_fn(|word| self.care[word] | other.care[word]),
        }
    }

    /// Smallest and largest code of a port field (0 source, 1 destination) a key can have.
    pub(super) fn port_codes(&self, port: usize) -> (u16, u16) {
        let care = (self.care[PORT_WORD] >> (16 * port)) as u16;
        let value = (self.value[PORT_WORD] >> (16 * port)) as u16;
        (value, value | !care)
    }
}

/// A rule of one family as the trees see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WideRule<const W: usize> {
    /// What is answered; a smaller one decides first.
    pub(super) rank: u32,
    /// Its place among all rules of the family.
    pub(super) number: u32,
    /// Every key the rule matches meets it; the reverse holds but for ports in `ranged`.
    pub(super) pattern: Pattern<W>,
    /// Smallest and largest code, source and destination.
    pub(super) ports: [(u16, u16); 2],
    /// Ports whose range is narrower than the pattern can say.
    pub(super) ranged: [bool; 2],
}

impl<const W: usize> WideRule<W> {
    /// The rule as its digest and ports have it.
    pub(super) fn by_digest(&self) -> Self {
        let mut rule = *self;
        rule.pattern.value[ADDRESS_WORD..].fill(0);
        rule.pattern.care[ADDRESS_WORD..].fill(0);
        rule
    }

    /// The rule without what it says of some bits of a word.
    pub(super) fn without(mut self, word: usize, bits: u64) -> Self {
        self.pattern.value[word] &= !bits;
        self.pattern.care[word] &= !bits;
        self
    }

    /// Does the rule match every key of the region?
    pub(super) fn covers_region(&self, region: &Pattern<W>) -> bool {
        self.pattern.contains(region) && self.covers_ports(region, [(0, u16::MAX); 2])
    }

    /// Does the rule match every key of the region that `other` matches? `other` matches some.
    pub(super) fn covers(&self, other: &Self, region: &Pattern<W>) -> bool {
        self.pattern.contains(&other.pattern.and(region)) && self.covers_ports(region, other.ports)
    }

    fn covers_ports(&self, region: &Pattern<W>, within: [(u16, u16); 2]) -> bool {
        (0..2).filter(|&port| self.ranged[port]).all(|port| {
            let (first, last) = region.port_codes(port);
            let (low, high) = self.ports[port];
            low <= first.max(within[port].0) && last.min(within[port].1) <= high
        })
    }
}

/// Writes the words of an IPv4 key, with its port word.
#[inline(always)]
pub(super) fn write_v4(words: &mut [u64; WORDS_V4], key: &FlowKey, ports: u64) {
    let source = u64::from(key.source.to_bits() as u32);
    let destination = u64::from(key.destination.to_bits() as u32);
    words[0] = destination << 32 | source;
    words[1] = ports;
}

/// Writes the words of an IPv6 key, with its port word.
#[inline(always)]
pub(super) fn write_v6<E: Means>(
    engine: E,
    words: &mut [u64; WORDS_V6],
    key: &FlowKey,
    digest: &Digest,
    ports: u64,
) {
    let ([a, b], [c, d]) = (key.source.halves(), key.destination.halves());
    words[0] = digest.of(engine, [a, b, c, d]);
    words[PORT_WORD] = ports;
    words[ADDRESS_WORD] = a;
    words[ADDRESS_WORD + 1] = b;
    words[ADDRESS_WORD + 2] = c;
    words[ADDRESS_WORD + 3] = d;
}

/// An IPv4 rule with coded ports.
pub(super) fn wide_v4(rule: &FlatRule, codes: &Codes) -> WideRule<WORDS_V4> {
    let (source, source_care) = rule.source.bits(32);
    let (destination, destination_care) = rule.destination.bits(32);
    let value = [(destination << 32 | source) as u64, 0];
    let care = [(destination_care << 32 | source_care) as u64, 0];
    codes.rule(rule, Pattern { value, care })
}

/// An IPv6 rule with coded ports.
pub(super) fn wide_v6(rule: &FlatRule, codes: &Codes) -> WideRule<WORDS_V6> {
    let mut pattern = Pattern::ANY;
    for (side, prefix) in [rule.source, rule.destination].into_iter().enumerate() {
        let (value, care) = prefix.bits(128);
        let word = ADDRESS_WORD + 2 * side;
        pattern.value[word] = (value >> 64) as u64;
        pattern.value[word + 1] = value as u64;
        pattern.care[word] = (care >> 64) as u64;
        pattern.care[word + 1] = care as u64;
    }
    pattern.value[0] = digest_of(&codes.digest, &pattern.value);
    pattern.care[0] = digest_of(&codes.digest, &pattern.care);
    codes.rule(rule, pattern)
}

/// The digest of the addresses in these words.
pub(super) fn digest_of<const W: usize>(digest: &Digest, words: &[u64; W]) -> u64 {
    digest.of(
        Portable,
        std::array::from_fn(|half| words[ADDRESS_WORD + half]),
    )
}
