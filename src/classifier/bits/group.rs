//! Eight rules, laid out to be tested at once, and the plain way to test them.

use super::codes::Codes;
use super::engine::Means;
use super::key::{
    ADDRESS_WORD, PORT_WORD, Pattern, WORDS_V4, WORDS_V6, WideRule, write_v4, write_v6,
};
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
    /// Ranks, or numbers of records.
    pub(super) answer: [u32; LANES],
}

/// What tests a whole IPv4 key, or the digest and the ports of an IPv6 key: four cache lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct Lanes {
    pub(super) source_value: [u32; LANES],
    pub(super) source_care: [u32; LANES],
    pub(super) destination_value: [u32; LANES],
    pub(super) destination_care: [u32; LANES],
    pub(super) ports: PortLanes,
}

/// A group of IPv4 rules; what it answers are ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct GroupV4(pub(super) Lanes);

/// A group of IPv6 rules; what it answers are numbers of [`Record`]s, which test the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct GroupV6(pub(super) Lanes);

const _: () = assert!(size_of::<Lanes>() == 256 && size_of::<Record>() == 40);

/// The addresses of an IPv6 rule, which a group tests a digest of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    value: [u64; 4],
    /// Low bits of each half that do not matter.
    open_bits: [u8; 4],
    pub(super) rank: u32,
}

/// Groups of one family.
pub(super) trait Group<const W: usize>: Copy + Send + Sync + 'static {
    /// Whose rules they are.
    const FAMILY: Family;
    /// No rule.
    const EMPTY: Self;
    /// What a group finds is the number of a record, to be held against the whole addresses.
    const HAS_RECORDS: bool;

    /// Writes the words of a key, with its port word. One by one: a store of the whole, read again
    /// word by word, would wait for itself.
    fn write<E: Means>(engine: E, words: &mut [u64; W], key: &FlowKey, codes: &Codes, ports: u64);

    /// Puts a rule into a lane.
    fn set(&mut self, lane: usize, rule: &WideRule<W>);

    /// What it is made of.
    fn lanes(&self) -> &Lanes;

    /// What the first matching lane has, or [`NO_RANK`]. The SIMD tests are held against it.
    fn test(&self, words: &[u64; W]) -> u32;

    /// The rank of the strongest rule that matches the whole key, or [`NO_RANK`].
    fn rank(&self, words: &[u64; W], records: &[Record]) -> u32;
}

impl Record {
    pub(super) fn of<const W: usize>(rule: &WideRule<W>) -> Self {
        let Pattern { value, care } = rule.pattern;
        Record {
            value: std::array::from_fn(|half| value[ADDRESS_WORD + half]),
            // Addresses are prefixes, so what matters are the upper bits.
            open_bits: std::array::from_fn(|half| care[ADDRESS_WORD + half].count_zeros() as u8),
            rank: rule.rank,
        }
    }

    /// The rank, if both addresses of the key match.
    #[inline(always)]
    pub(super) fn rank<const W: usize>(&self, words: &[u64; W]) -> Option<u32> {
        let mut differing = 0;
        for half in 0..4 {
            let bits = words[ADDRESS_WORD + half] ^ self.value[half];
            let open = u32::from(self.open_bits[half]);
            // In two parts, as a shift by 64 is none.
            differing |= bits >> (open / 2) >> (open - open / 2);
        }
        (differing == 0).then_some(self.rank)
    }
}

impl PortLanes {
    const EMPTY: Self = PortLanes {
        low: [u32::MAX; LANES],
        high: [0; LANES],
        tag_value: [0; LANES],
        tag_care: [0; LANES],
        answer: [NO_RANK; LANES],
    };

    fn set<const W: usize>(&mut self, lane: usize, rule: &WideRule<W>, answer: u32) {
        let both = |of: fn(&(u16, u16)) -> u16| {
            u32::from(of(&rule.ports[1])) << 16 | u32::from(of(&rule.ports[0]))
        };
        self.low[lane] = both(|ports| ports.0);
        self.high[lane] = both(|ports| ports.1);
        self.tag_value[lane] = (rule.pattern.value[PORT_WORD] >> 32) as u16;
        self.tag_care[lane] = (rule.pattern.care[PORT_WORD] >> 32) as u16;
        self.answer[lane] = answer;
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

impl Lanes {
    const EMPTY: Self = Lanes {
        source_value: [0; LANES],
        source_care: [0; LANES],
        destination_value: [0; LANES],
        destination_care: [0; LANES],
        ports: PortLanes::EMPTY,
    };

    fn set<const W: usize>(&mut self, lane: usize, rule: &WideRule<W>, answer: u32) {
        let (value, care) = (rule.pattern.value[0], rule.pattern.care[0]);
        self.source_value[lane] = value as u32;
        self.source_care[lane] = care as u32;
        self.destination_value[lane] = (value >> 32) as u32;
        self.destination_care[lane] = (care >> 32) as u32;
        self.ports.set(lane, rule, answer);
    }

    /// What the matching lanes answer, in order.
    #[inline(always)]
    fn answers(&self, addresses: u64, ports: u64) -> impl Iterator<Item = u32> + '_ {
        let (source, destination) = (addresses as u32, (addresses >> 32) as u32);
        let lanes = (0..LANES).filter(move |&lane| {
            (source ^ self.source_value[lane]) & self.source_care[lane] == 0
                && (destination ^ self.destination_value[lane]) & self.destination_care[lane] == 0
                && self.ports.matches(lane, ports)
        });
        lanes.map(|lane| self.ports.answer[lane])
    }
}

impl Group<WORDS_V4> for GroupV4 {
    const FAMILY: Family = Family::V4;
    const EMPTY: Self = GroupV4(Lanes::EMPTY);
    const HAS_RECORDS: bool = false;

    #[inline(always)]
    fn write<E: Means>(_: E, words: &mut [u64; WORDS_V4], key: &FlowKey, _: &Codes, ports: u64) {
        write_v4(words, key, ports);
    }

    fn lanes(&self) -> &Lanes {
        &self.0
    }

    fn set(&mut self, lane: usize, rule: &WideRule<WORDS_V4>) {
        self.0.set(lane, rule, rule.rank);
    }

    #[inline(always)]
    fn test(&self, words: &[u64; WORDS_V4]) -> u32 {
        self.0
            .answers(words[0], words[PORT_WORD])
            .next()
            .unwrap_or(NO_RANK)
    }

    fn rank(&self, words: &[u64; WORDS_V4], _: &[Record]) -> u32 {
        self.test(words)
    }
}

impl Group<WORDS_V6> for GroupV6 {
    const FAMILY: Family = Family::V6;
    const EMPTY: Self = GroupV6(Lanes::EMPTY);
    const HAS_RECORDS: bool = true;

    #[inline(always)]
    fn write<E: Means>(
        engine: E,
        words: &mut [u64; WORDS_V6],
        key: &FlowKey,
        codes: &Codes,
        ports: u64,
    ) {
        write_v6(engine, words, key, &codes.digest, ports);
    }

    fn lanes(&self) -> &Lanes {
        &self.0
    }

    fn set(&mut self, lane: usize, rule: &WideRule<WORDS_V6>) {
        self.0.set(lane, rule, rule.number);
    }

    #[inline(always)]
    fn test(&self, words: &[u64; WORDS_V6]) -> u32 {
        self.0
            .answers(words[0], words[PORT_WORD])
            .next()
            .unwrap_or(NO_RANK)
    }

    fn rank(&self, words: &[u64; WORDS_V6], records: &[Record]) -> u32 {
        let found = self.0.answers(words[0], words[PORT_WORD]);
        let mut ranks = found.filter_map(|number| records.get(number as usize)?.rank(words));
        ranks.next().unwrap_or(NO_RANK)
    }
}
