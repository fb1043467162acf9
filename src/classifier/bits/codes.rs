//! Step 2: small numbers are coded, so that few bits tell apart what rules tell apart.
//!
//! **Ports.** The ends of the rules' ranges cut the ports into intervals; each interval gets a code
//! of up to 16 bits, left-aligned, rising with the port. Intervals are split where the fewest
//! ranges lie across, so that most ranges become a prefix of the codes, and a tree can ask for them
//! bit by bit. A range of ports is exactly the range of the codes of its ends. Ports may also be
//! left as they are: that saves a lookup, and the tuner tries both.
//!
//! **Zones.** A zone some rule names gets a number from 1; all others share 0.

use std::collections::HashMap;

use super::digest::Digest;
use super::expand::FlatRule;
use super::key::{PORT_WORD, Pattern, WideRule};
use crate::classifier::{PortRange, ProtocolMatch};
use crate::wire::FlowKey;

/// Zones that rules may name; the tag has 8 bits for them.
pub(super) const ZONES_MAX: usize = 255;

/// Bits of a code.
const CODE_BITS: u32 = 16;
/// How much a range lying across a split weighs against the split being uneven.
const ACROSS_WEIGHT: f64 = 4.0;

/// From a port to its code.
#[derive(Debug, Clone)]
pub(super) enum PortCode {
    /// No rule asks for the port.
    Nothing,
    /// The port is its own code.
    Itself,
    /// Codes of at most 8 bits, by port; they stand in the upper half.
    Short(Box<[u8; 1 << 16]>),
    /// By port.
    Long(Box<[u16; 1 << 16]>),
}

/// Codes of all small fields of one family.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    pub(super) ports: [PortCode; 2],
    /// Bits of `destination << 16 | source` that are their own codes.
    plain_ports: u64,
    /// By zone; `None` when no rule names a zone.
    zones: Option<Box<[u8; 1 << 16]>>,
    /// Of IPv6 keys.
    pub(super) digest: Digest,
}

impl PortCode {
    fn new(ranges: impl Iterator<Item = PortRange>, table: bool) -> Self {
        let mut weights: HashMap<PortRange, u32> = HashMap::new();
        for range in ranges {
            *weights.entry(range).or_default() += 1;
        }
        weights.remove(&PortRange::ANY);
        if weights.is_empty() {
            return PortCode::Nothing;
        }
        if !table {
            return PortCode::Itself;
        }
        let mut coder = Coder::new(&weights);
        let intervals = coder.starts.len() - 1;
        let spans = coder.spans(&weights);
        coder.assign(0, intervals, 0, 0, spans);
        if coder.bits_used <= 8 {
            let mut short = boxed(0u8);
            for (short, long) in short.iter_mut().zip(coder.codes.iter()) {
                *short = (long >> 8) as u8;
            }
            return PortCode::Short(short);
        }
        PortCode::Long(coder.codes)
    }

    /// The code of a port.
    #[inline(always)]
    pub(super) fn code(&self, port: u16) -> u16 {
        match self {
            PortCode::Nothing => 0,
            PortCode::Itself => port,
            PortCode::Short(codes) => u16::from(codes[port as usize]) << 8,
            PortCode::Long(codes) => codes[port as usize],
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            PortCode::Nothing | PortCode::Itself => 0,
            PortCode::Short(_) => 1 << 16,
            PortCode::Long(_) => 2 << 16,
        }
    }
}

/// A table on the heap, never on the stack.
fn boxed<T: Copy>(value: T) -> Box<[T; 1 << 16]> {
    let table = vec![value; 1 << 16].into_boxed_slice();
    table
        .try_into()
        .unwrap_or_else(|_| unreachable!("has this length"))
}

impl Codes {
    /// Codes for these rules; with `tables`, ports are coded, otherwise they stay what they are.
    pub(super) fn new(rules: &[FlatRule], tables: bool) -> Self {
        let ports = [0, 1].map(|port| PortCode::new(rules.iter().map(|r| r.ports[port]), tables));
        Codes::with_ports(rules, ports)
    }

    /// Codes that separate any ports: rules may be added whatever they say of ports.
    pub(super) fn open(rules: &[FlatRule]) -> Self {
        Codes::with_ports(rules, [PortCode::Itself, PortCode::Itself])
    }

    fn with_ports(rules: &[FlatRule], ports: [PortCode; 2]) -> Self {
        let mut named: Vec<u16> = rules.iter().filter_map(|rule| rule.zone).collect();
        named.sort_unstable();
        named.dedup();
        let zones = (!named.is_empty()).then(|| {
            let mut zones = boxed(0u8);
            for (number, &zone) in named.iter().enumerate().take(ZONES_MAX) {
                zones[zone as usize] = number as u8 + 1;
            }
            zones
        });
        let plain = |port: usize| match ports[port] {
            PortCode::Itself => 0xffff << (16 * port),
            _ => 0,
        };
        Codes {
            plain_ports: plain(0) | plain(1),
            ports,
            zones,
            digest: Digest::default(),
        }
    }

    /// The same with a digest.
    pub(super) fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = digest;
        self
    }

    /// Ports and tag of a key, as the port word has them.
    #[inline(always)]
    pub(super) fn word(&self, key: &FlowKey) -> u64 {
        let source = u64::from(self.ports[0].code(key.source_port));
        let destination = u64::from(self.ports[1].code(key.destination_port));
        let zone = u64::from(self.zone(key.zone));
        zone << 40 | u64::from(key.protocol) << 32 | destination << 16 | source
    }

    /// Is any code read from a table?
    pub(super) fn has_tables(&self) -> bool {
        self.tables() > 0 || self.zones.is_some()
    }

    /// As [`Codes::word`], of codes without tables.
    #[inline(always)]
    pub(super) fn plain(&self, key: &FlowKey) -> u64 {
        let ports = u64::from(key.destination_port) << 16 | u64::from(key.source_port);
        u64::from(key.protocol) << 32 | (ports & self.plain_ports)
    }

    #[inline(always)]
    fn zone(&self, zone: u16) -> u8 {
        match &self.zones {
            None => 0,
            Some(zones) => zones[zone as usize],
        }
    }

    /// Zones that have a class of their own, with it.
    pub(super) fn zone_classes(&self) -> impl Iterator<Item = (usize, u8)> + '_ {
        let zones = self.zones.iter().flat_map(|zones| zones.iter().copied());
        zones.enumerate().filter(|&(_, class)| class != 0)
    }

    /// Has the rule's zone a number, if it names one?
    pub(super) fn knows(&self, rule: &FlatRule) -> bool {
        rule.zone.is_none_or(|zone| self.zone(zone) != 0)
    }

    /// Adds ports and tag to a rule whose addresses are in `pattern`.
    pub(super) fn rule<const W: usize>(
        &self,
        rule: &FlatRule,
        mut pattern: Pattern<W>,
    ) -> WideRule<W> {
        let word = PORT_WORD;
        let mut wide = WideRule {
            rank: rule.rank,
            number: 0,
            pattern: Pattern::ANY,
            ports: [(0, u16::MAX); 2],
            ranged: [false; 2],
        };
        for (port, range) in rule.ports.into_iter().enumerate() {
            if range == PortRange::ANY {
                continue;
            }
            let code = &self.ports[port];
            let (low, high) = (code.code(range.first), code.code(range.last));
            let care = u16::MAX
                .checked_shl(CODE_BITS - (low ^ high).leading_zeros())
                .unwrap_or(0);
            wide.ports[port] = (low, high);
            // A prefix of the codes that holds no code of another port needs no comparing.
            let before = range.first.checked_sub(1).map(|port| code.code(port));
            let after = range.last.checked_add(1).map(|port| code.code(port));
            wide.ranged[port] = before.is_some_and(|before| before >= low & care)
                || after.is_some_and(|after| after <= low | !care);
            pattern.care[word] |= u64::from(care) << (16 * port);
            pattern.value[word] |= u64::from(low & care) << (16 * port);
        }
        if let ProtocolMatch::Number(number) = rule.protocol {
            pattern.care[word] |= 0xff << 32;
            pattern.value[word] |= u64::from(number) << 32;
        }
        if let Some(zone) = rule.zone {
            pattern.care[word] |= 0xff << 40;
            pattern.value[word] |= u64::from(self.zone(zone)) << 40;
        }
        wide.pattern = pattern;
        wide
    }

    /// Tables read for a key's ports.
    pub(super) fn tables(&self) -> u32 {
        let table = |code: &&PortCode| matches!(code, PortCode::Short(_) | PortCode::Long(_));
        self.ports.iter().filter(table).count() as u32
    }

    /// The largest code in use that is not above `code`.
    pub(super) fn nearest(&self, port: usize, code: u16) -> u16 {
        let code_of = |number: u32| self.ports[port].code(number as u16);
        let (mut low, mut high) = (0u32, 1 << 16);
        while low + 1 < high {
            let middle = (low + high) / 2;
            if code_of(middle) <= code {
                low = middle;
            } else {
                high = middle;
            }
        }
        code_of(low)
    }

    /// Memory of the tables.
    pub(super) fn bytes(&self) -> u64 {
        let zones = if self.zones.is_some() { 1 << 16 } else { 0 };
        self.ports.iter().map(PortCode::bytes).sum::<u64>() + zones
    }
}

/// A range in intervals: from, to (not included), how many rules.
type Span = (usize, usize, u32);

struct Coder {
    /// First ports of the intervals, and 65536.
    starts: Vec<u32>,
    codes: Box<[u16; 1 << 16]>,
    bits_used: u32,
}

impl Coder {
    fn new(weights: &HashMap<PortRange, u32>) -> Self {
        let ends = weights.keys();
        let mut starts: Vec<u32> = ends
            .flat_map(|range| [u32::from(range.first), u32::from(range.last) + 1])
            .chain([0, 1 << 16])
            .collect();
        starts.sort_unstable();
        starts.dedup();
        Coder {
            starts,
            codes: boxed(0),
            bits_used: 0,
        }
    }

    fn spans(&self, weights: &HashMap<PortRange, u32>) -> Vec<Span> {
        let interval = |port: u32| self.starts.partition_point(|&start| start < port);
        let spans = weights.iter().map(|(range, &weight)| {
            let (from, to) = (range.first.into(), u32::from(range.last) + 1);
            (interval(from), interval(to), weight)
        });
        let mut spans: Vec<Span> = spans.collect();
        spans.sort_unstable();
        spans
    }

    /// Codes the intervals `from..to`, which share the first `depth` bits of `code`.
    fn assign(&mut self, from: usize, to: usize, code: u16, depth: u32, spans: Vec<Span>) {
        self.bits_used = self.bits_used.max(depth);
        if to - from == 1 {
            let ports = self.starts[from] as usize..self.starts[to] as usize;
            self.codes[ports].fill(code);
            return;
        }
        let middle = split(from, to, CODE_BITS - depth - 1, &spans);
        let part = |low: usize, high: usize| -> Vec<Span> {
            let inside = |span: &&Span| {
                let across = span.0 < high && span.1 > low;
                across && !(span.0 <= low && span.1 >= high)
            };
            spans.iter().filter(inside).copied().collect()
        };
        let (left, right) = (part(from, middle), part(middle, to));
        self.assign(from, middle, code, depth + 1, left);
        self.assign(middle, to, code | 0x8000 >> depth, depth + 1, right);
    }
}

/// Where to split intervals `from..to`, so that neither half has more than `2^bits`.
fn split(from: usize, to: usize, bits: u32, spans: &[Span]) -> usize {
    // across[k]: weight of the spans that hold both sides of the boundary before `from + k`.
    let mut across = vec![0i64; to - from + 1];
    let mut total = 0.0;
    for &(low, high, weight) in spans {
        let (low, high) = (low.max(from), high.min(to));
        across[low - from + 1] += i64::from(weight);
        across[high - from] -= i64::from(weight);
        total += f64::from(weight);
    }
    let most = 1usize << bits;
    let mut best = (f64::INFINITY, from + (to - from) / 2);
    let mut weight = across[0];
    for middle in from + 1..to {
        weight += across[middle - from];
        if middle - from > most || to - middle > most {
            continue;
        }
        let share = (middle - from) as f64 / (to - from) as f64;
        let uneven = (share - 0.5).abs() * 2.0;
        let cost = weight as f64 / (total + 1.0) * ACROSS_WEIGHT + uneven;
        if cost < best.0 {
            best = (cost, middle);
        }
    }
    best.1
}
