//! Eight rules, laid out to be tested at once, and the plain way to test them.

use super::key::{WORDS_V4, WORDS_V6, WideRule, port_word, write_v4, write_v6};
use crate::wire::{Family, FlowKey};

/// Rules of a group.
pub(super) const LANES: usize = 8;
/// What a lookup answers when nothing matches; no rule has this rank.
pub(super) const NO_RANK: u32 = u32::MAX;

/// What every group has: one lane a rule, strongest first. An unused lane has a port range nothing
/// is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(32))]
pub(super) struct PortLanes {
    /// Smallest codes, `destination << 16 | source`.
    pub(super) low: [u32; LANES],
    /// Largest codes.
    pub(super) high: [u32; LANES],
    pub(super) tag_value: [u16; LANES],
    pub(super) tag_care: [u16; LANES],
    pub(super) rank: [u32; LANES],
}

/// A group of IPv4 rules: four cache lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct GroupV4 {
    pub(super) source_value: [u32; LANES],
    pub(super) source_care: [u32; LANES],
    pub(super) destination_value: [u32; LANES],
    pub(super) destination_care: [u32; LANES],
    pub(super) ports: PortLanes,
}

/// A group of IPv6 rules: seven cache lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct GroupV6 {
    /// By address word.
    pub(super) value: [[u64; LANES]; 4],
    /// By address word: low bits that do not matter.
    pub(super) open_bits: [[u8; LANES]; 4],
    pub(super) ports: PortLanes,
}

const _: () = assert!(size_of::<GroupV4>() == 256 && size_of::<GroupV6>() == 448);

/// Groups of one family.
pub(super) trait Group<const W: usize>: Copy + Send + Sync + 'static {
    /// Whose rules they are.
    const FAMILY: Family;
    /// No rule.
    const EMPTY: Self;

    /// Writes the words of a key, with its port word. One by one: a store of the whole, read again
    /// word by word, would wait for itself.
    fn write(words: &mut [u64; W], key: &FlowKey, ports: u64);

    /// Puts a rule into a lane.
    fn set(&mut self, lane: usize, rule: &WideRule<W>);

    /// The rank of the strongest matching rule, or [`NO_RANK`]. The SIMD tests are held against it.
    fn test(&self, words: &[u64; W]) -> u32;
}

impl PortLanes {
    const EMPTY: Self = PortLanes {
        low: [u32::MAX; LANES],
        high: [0; LANES],
        tag_value: [0; LANES],
        tag_care: [0; LANES],
        rank: [NO_RANK; LANES],
    };

    fn set<const W: usize>(&mut self, lane: usize, rule: &WideRule<W>) {
        let both = |of: fn(&(u16, u16)) -> u16| {
            u32::from(of(&rule.ports[1])) << 16 | u32::from(of(&rule.ports[0]))
        };
        self.low[lane] = both(|ports| ports.0);
        self.high[lane] = both(|ports| ports.1);
        self.tag_value[lane] = (rule.pattern.value[port_word(W)] >> 32) as u16;
        self.tag_care[lane] = (rule.pattern.care[port_word(W)] >> 32) as u16;
        self.rank[lane] = rule.rank;
    }

    #[inline(always)]
    fn matches(&self, lane: usize, word: u64) -> bool {
        let (low, high, code) = (self.low[lane], self.high[lane], word as u32);
        let within = |shift: u32| {
            let part = |number: u32| (number >> shift) as u16;
            part(low) <= part(code) && part(code) <= part(high)
        };
        let tag = (word >> 32) as u16;
        within(0) && within(16) && (tag ^ self.tag_value[lane]) & self.tag_care[lane] == 0
    }
}

impl Group<WORDS_V4> for GroupV4 {
    const FAMILY: Family = Family::V4;
    const EMPTY: Self = GroupV4 {
        source_value: [0; LANES],
        source_care: [0; LANES],
        destination_value: [0; LANES],
        destination_care: [0; LANES],
        ports: PortLanes::EMPTY,
    };

    #[inline(always)]
    fn write(words: &mut [u64; WORDS_V4], key: &FlowKey, ports: u64) {
        write_v4(words, key, ports);
    }

    fn set(&mut self, lane: usize, rule: &WideRule<WORDS_V4>) {
        let (value, care) = (rule.pattern.value[0], rule.pattern.care[0]);
        self.source_value[lane] = value as u32;
        self.source_care[lane] = care as u32;
        self.destination_value[lane] = (value >> 32) as u32;
        self.destination_care[lane] = (care >> 32) as u32;
        self.ports.set(lane, rule);
    }

    #[inline(always)]
    fn test(&self, words: &[u64; WORDS_V4]) -> u32 {
        let (source, destination) = (words[0] as u32, (words[0] >> 32) as u32);
        let lane = (0..LANES).find(|&lane| {
            (source ^ self.source_value[lane]) & self.source_care[lane] == 0
                && (destination ^ self.destination_value[lane]) & self.destination_care[lane] == 0
                && self.ports.matches(lane, words[1])
        });
        lane.map_or(NO_RANK, |lane| self.ports.rank[lane])
    }
}

impl Group<WORDS_V6> for GroupV6 {
    const FAMILY: Family = Family::V6;
    const EMPTY: Self = GroupV6 {
        value: [[0; LANES]; 4],
        open_bits: [[0; LANES]; 4],
        ports: PortLanes::EMPTY,
    };

    #[inline(always)]
    fn write(words: &mut [u64; WORDS_V6], key: &FlowKey, ports: u64) {
        write_v6(words, key, ports);
    }

    fn set(&mut self, lane: usize, rule: &WideRule<WORDS_V6>) {
        for word in 0..4 {
            self.value[word][lane] = rule.pattern.value[word];
            // Addresses are prefixes, so what matters are the upper bits.
            self.open_bits[word][lane] = 64 - rule.pattern.care[word].count_ones() as u8;
        }
        self.ports.set(lane, rule);
    }

    #[inline(always)]
    fn test(&self, words: &[u64; WORDS_V6]) -> u32 {
        let lane = (0..LANES).find(|&lane| {
            let address = (0..4).all(|word| {
                let differing = words[word] ^ self.value[word][lane];
                let open = u32::from(self.open_bits[word][lane]);
                differing.checked_shr(open).unwrap_or(0) == 0
            });
            address && self.ports.matches(lane, words[4])
        });
        lane.map_or(NO_RANK, |lane| self.ports.rank[lane])
    }
}
