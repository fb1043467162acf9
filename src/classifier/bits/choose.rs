//! Step 3: which bits a node asks.
//!
//! The cost of a list of `n` rules is `n · max(n, 8)`: each rule stands for the same traffic, and a
//! lookup that reaches the list pays for its length, but never less than for one group. Bits are
//! taken one by one; each is the one that leaves the cheapest lists. A rule that does not care
//! about a bit goes to both sides. Where rules may be handed on to the next tree, a rule that would
//! be copied too often is, at a price.

use super::group::LANES;
use super::key::WideRule;
use super::parameters::Parameters;

/// Bits of one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) word: usize,
    pub(super) mask: u64,
}

/// Which rules a node may hand on to the next tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct HandOn {
    /// Bits of a question a rule may leave open and still stay.
    pub(super) open_max: u32,
    /// Share of the rules handed on at the most.
    pub(super) share_max: f64,
}

/// Most bits of a question.
const BITS_MAX: u32 = 16;
/// Rules looked at; of more, as many evenly spread ones.
const SAMPLE_MAX: usize = 8192;

/// The cheapest question for a list; `None` when no bit is worth asking. `known` bits are not asked
/// again. Adds what was looked at to `work`.
pub(super) fn choose<const W: usize>(
    rules: &[WideRule<W>],
    list: &[u32],
    known: &[u64; W],
    hand_on: Option<HandOn>,
    parameters: &Parameters,
    work: &mut u64,
) -> Option<Question> {
    let step = list.len().div_ceil(SAMPLE_MAX).max(1);
    let sample: Vec<&WideRule<W>> = list
        .iter()
        .step_by(step)
        .map(|&rule| &rules[rule as usize])
        .collect();
    let scale = list.len() as f32 / sample.len() as f32;
    let bits_max = ((list.len() as f64 * parameters.fan).max(2.0).log2() as u32).clamp(1, BITS_MAX);
    let mut best: Option<(f32, Question)> = None;
    for (word, &known) in known.iter().enumerate() {
        let ones = sample.iter().fold(0, |all, r| all | r.pattern.value[word]);
        let zeros = sample.iter().fold(0, |all, r| {
            all | (r.pattern.care[word] & !r.pattern.value[word])
        });
        let candidates = ones & zeros & !known;
        if candidates == 0 {
            continue;
        }
        let mut refinement = Refinement::new(&sample, word, scale, hand_on, parameters);
        let mask = refinement.run(candidates, bits_max, work);
        let cost = refinement.cost;
        if mask != 0 && best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, Question { word, mask }));
        }
    }
    best.map(|(_, question)| question)
}

/// The lists that the bits taken so far leave.
struct Refinement<'a> {
    value: Vec<u64>,
    care: Vec<u64>,
    /// By rule: bits taken that the rule leaves open.
    open: Vec<u8>,
    handed_on: Vec<bool>,
    handed_on_count: usize,
    /// Rules, list after list.
    entries: Vec<u32>,
    /// Where each list ends.
    ends: Vec<u32>,
    /// Rules each of the sample stands for.
    scale: f32,
    cost: f32,
    hand_on: Option<HandOn>,
    parameters: &'a Parameters,
}

/// What each bit would cost.
struct Costs {
    lists: [f32; 64],
    handed_on: [u32; 64],
}

impl<'a> Refinement<'a> {
    fn new<const W: usize>(
        sample: &[&WideRule<W>],
        word: usize,
        scale: f32,
        hand_on: Option<HandOn>,
        parameters: &'a Parameters,
    ) -> Self {
        let count = sample.len();
        Refinement {
            value: sample.iter().map(|r| r.pattern.value[word]).collect(),
            care: sample.iter().map(|r| r.pattern.care[word]).collect(),
            open: vec![0; count],
            handed_on: vec![false; count],
            handed_on_count: 0,
            entries: (0..count as u32).collect(),
            ends: vec![count as u32],
            scale,
            cost: list_cost(count as f32 * scale),
            hand_on,
            parameters,
        }
    }

    /// Takes bits while they pay; returns them.
    fn run(&mut self, mut candidates: u64, bits_max: u32, work: &mut u64) -> u64 {
        let rules = self.value.len();
        let mut taken = 0u64;
        while candidates != 0 && taken.count_ones() < bits_max {
            *work += self.entries.len() as u64;
            let costs = self.costs();
            let Some((bit, cost)) = self.cheapest(&costs, candidates) else {
                break;
            };
            if cost > self.cost * self.parameters.stop {
                break;
            }
            self.take(bit);
            self.cost = cost;
            taken |= 1 << bit;
            candidates &= !(1 << bit);
            if self.entries.len() > rules * 6 {
                break;
            }
        }
        taken
    }

    fn cheapest(&self, costs: &Costs, candidates: u64) -> Option<(u32, f32)> {
        let share_max = self.hand_on.map_or(0.0, |hand_on| hand_on.share_max);
        let handed_on_max = (share_max * self.value.len() as f64) as usize;
        let price = self.scale * LANES as f32 * self.parameters.hand_on_price;
        let mut best: Option<(u32, f32)> = None;
        let mut left = candidates;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let handed_on = self.handed_on_count + costs.handed_on[bit as usize] as usize;
            if handed_on > handed_on_max && costs.handed_on[bit as usize] > 0 {
                continue;
            }
            let cost = costs.lists[bit as usize] + handed_on as f32 * price;
            if best.is_none_or(|(_, least)| cost < least) {
                best = Some((bit, cost));
            }
        }
        best
    }

    /// Would one more open bit be too many?
    fn at_limit(&self, rule: u32) -> bool {
        self.hand_on
            .is_some_and(|hand_on| u32::from(self.open[rule as usize]) >= hand_on.open_max)
    }

    fn costs(&self) -> Costs {
        let mut costs = Costs {
            lists: [0.0; 64],
            handed_on: [0; 64],
        };
        if self.hand_on.is_some() {
            let mut counter = Counter::default();
            for rule in 0..self.value.len() as u32 {
                if !self.handed_on[rule as usize] && self.at_limit(rule) {
                    counter.add(!self.care[rule as usize]);
                }
            }
            costs.handed_on = counter.counts();
        }
        // A list that fits one group gets no cheaper: only its copies count.
        let (mut short, mut short_open, mut short_leaving) =
            (0u32, Counter::default(), Counter::default());
        let mut from = 0usize;
        for &end in &self.ends {
            let entries = &self.entries[from..end as usize];
            from = end as usize;
            if entries.len() as f32 * self.scale > LANES as f32 {
                self.long_list(entries, &mut costs.lists);
                continue;
            }
            short += entries.len() as u32;
            for &rule in entries {
                let open = !self.care[rule as usize];
                if self.at_limit(rule) {
                    short_leaving.add(open);
                } else {
                    short_open.add(open);
                }
            }
        }
        let (open, leaving) = (short_open.counts(), short_leaving.counts());
        for (bit, cost) in costs.lists.iter_mut().enumerate() {
            let rules = short as f32 + open[bit] as f32 - leaving[bit] as f32;
            *cost += rules * self.scale * LANES as f32;
        }
        costs
    }

    /// Adds what the two halves of a list would cost, for each bit.
    fn long_list(&self, entries: &[u32], costs: &mut [f32; 64]) {
        let (mut ones, mut zeros, mut leaving) =
            (Counter::default(), Counter::default(), Counter::default());
        for &rule in entries {
            let (value, care) = (self.value[rule as usize], self.care[rule as usize]);
            ones.add(value);
            zeros.add(care & !value);
            if self.at_limit(rule) {
                leaving.add(!care);
            }
        }
        let (ones, zeros, leaving) = (ones.counts(), zeros.counts(), leaving.counts());
        let count = entries.len() as u32;
        for bit in 0..64 {
            let open = count - ones[bit] - zeros[bit] - leaving[bit];
            costs[bit] += list_cost((ones[bit] + open) as f32 * self.scale)
                + list_cost((zeros[bit] + open) as f32 * self.scale);
        }
    }

    /// Splits every list by a bit.
    fn take(&mut self, bit: u32) {
        for rule in 0..self.value.len() {
            if self.handed_on[rule] || self.care[rule] >> bit & 1 == 1 {
                continue;
            }
            if self.at_limit(rule as u32) {
                self.handed_on[rule] = true;
                self.handed_on_count += 1;
            } else {
                self.open[rule] += 1;
            }
        }
        let mut entries = Vec::with_capacity(self.entries.len() * 2);
        let mut ends = Vec::with_capacity(self.ends.len() * 2);
        let mut from = 0usize;
        for &end in &self.ends {
            let list = &self.entries[from..end as usize];
            from = end as usize;
            for side in [0, 1] {
                let begin = entries.len();
                entries.extend(list.iter().copied().filter(|&rule| {
                    let rule = rule as usize;
                    let open = self.care[rule] >> bit & 1 == 0;
                    !self.handed_on[rule] && (open || self.value[rule] >> bit & 1 == side)
                }));
                if entries.len() > begin {
                    ends.push(entries.len() as u32);
                }
            }
        }
        self.entries = entries;
        self.ends = ends;
    }
}

fn list_cost(rules: f32) -> f32 {
    rules * rules.max(LANES as f32)
}

/// Counts, for each of 64 bits, how many words have it.
struct Counter {
    /// Eight counts of eight bits each, by byte of the word.
    lanes: [u64; 8],
    /// Words counted in `lanes`.
    pending: u32,
    counts: [u32; 64],
}

/// Each bit of a byte as a byte of its own.
const SPREAD: [u64; 256] = {
    let mut spread = [0u64; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            spread[byte] |= ((byte as u64 >> bit) & 1) << (8 * bit);
            bit += 1;
        }
        byte += 1;
    }
    spread
};

impl Default for Counter {
    fn default() -> Self {
        Counter {
            lanes: [0; 8],
            pending: 0,
            counts: [0; 64],
        }
    }
}

impl Counter {
    fn add(&mut self, word: u64) {
        if self.pending == 255 {
            self.flush();
        }
        self.pending += 1;
        for (lane, byte) in self.lanes.iter_mut().zip(word.to_le_bytes()) {
            *lane += SPREAD[byte as usize];
        }
    }

    fn flush(&mut self) {
        for (lane, counts) in self.lanes.iter_mut().zip(self.counts.chunks_exact_mut(8)) {
            for (count, byte) in counts.iter_mut().zip(lane.to_le_bytes()) {
                *count += u32::from(byte);
            }
            *lane = 0;
        }
        self.pending = 0;
    }

    fn counts(mut self) -> [u32; 64] {
        self.flush();
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_past_what_a_lane_holds() {
        let mut counter = Counter::default();
        for word in 0..1_000u64 {
            counter.add(word | 1 << 63);
        }
        let counts = counter.counts();
        assert_eq!((counts[0], counts[63], counts[62]), (500, 1_000, 0));
    }
}
