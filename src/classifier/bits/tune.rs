//! Step 5: which parameters build the fastest trees.
//!
//! Trees are built with parameters drawn at random, later with variations of the best so far, and
//! rated by a model of the time a lookup takes over keys drawn from the rules. The whole is bounded
//! by work (rules looked at), never by a clock: the same rules give the same trees everywhere.

use super::build::{TooLarge, build, build_exact};
use super::codes::Codes;
use super::digest::Digest;
use super::expand::FlatRule;
use super::frozen::{Frozen, Path, Root};
use super::grid;
use super::group::Group;
use super::key::{PORT_WORD, Pattern, WORDS_V4, WORDS_V6, WideRule, digest_of};
use super::parameters::Parameters;
use crate::classifier::synthetic::Random;

/// Keys a tree is rated with, at the most.
const KEYS_MAX: usize = 4_000;
/// Memory every set may take; what is worse than the caches' sizes is in the model.
const BYTES_LEAST: f64 = 1e6;
/// Tries for a set of few rules, whose trees are all alike, and rules for each one more.
const TRIES_LEAST: usize = 2;
const TRY_RULES: usize = 8;

/// Tries for any trees at all.
const TRIES_FOR_ANY: usize = 40;
/// More parameters tried for trees that take nothing for granted.
const EXACT_TRIES: usize = 8;
/// Rules of which a grid is tried at the most.
const GRID_RULES_MAX: usize = 4_096;

/// What stays near enough that fetching it ahead costs more than it saves.
const NEAR_BYTES: usize = 256 << 10;

/// Time of the parts of a lookup in a batch, in nanoseconds, as measured in the first cache.
mod time {
    pub const KEY: f64 = 1.4;
    pub const PORT_TABLE: f64 = 1.0;
    pub const TREE: f64 = 2.8;
    pub const STEP: f64 = 2.1;
    /// By words of a key: of IPv4, of IPv6.
    pub const GROUP: [f64; 2] = [3.4, 5.6];
    /// A leaf whose groups are not all one is predicted badly.
    pub const LONG_LEAF: f64 = 2.8;
    /// A cache line that stands in the second cache, and in the third.
    pub const LINES: [f64; 2] = [0.2, 0.9];
}

/// Cache sizes reckoned with.
const CACHES: [f64; 2] = [24e3, 400e3];

/// Time a line of so many bytes of memory takes, fetched ahead like the others of its batch.
fn line_time(bytes: usize) -> f64 {
    let bytes = bytes as f64;
    match bytes {
        small if small <= CACHES[0] => 0.0,
        middle if middle <= CACHES[1] => time::LINES[0],
        large => time::LINES[1] - (time::LINES[1] - time::LINES[0]) * CACHES[1] / large,
    }
}

/// Bounds of a compilation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Work (about a rule looked at, 20 to 40 ns) whatever the number of rules.
    pub work_least: u64,
    /// Work for each rule on top.
    pub rule_work: u64,
    /// Parameters tried.
    pub tries_max: u32,
    /// Bytes a rule may take without being a disadvantage, in sets that fit the second cache.
    pub rule_bytes: f64,
    /// The same in sets of more than [`Budget::LARGE`] rules.
    pub rule_bytes_large: f64,
}

impl Budget {
    /// Rules of a large set.
    pub const LARGE: usize = 20_000;
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            work_least: 12_000_000,
            rule_work: 600,
            tries_max: 120,
            rule_bytes: 100.0,
            rule_bytes_large: 56.0,
        }
    }
}

/// What a lookup visits on average, of keys drawn from the rules.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Visits {
    /// Trees asked.
    pub trees: f64,
    /// Nodes that ask, and the grid.
    pub questions: f64,
    /// Groups of eight rules tested.
    pub groups: f64,
}

/// How a family's rules become rules with words.
pub(super) type Widen<const W: usize> = fn(&FlatRule, &Codes) -> WideRule<W>;

/// The rules with ports as they are, and with coded ports.
#[derive(Debug)]
pub(super) struct Coded<const W: usize> {
    pub(super) codes: [Codes; 2],
    pub(super) rules: [Vec<WideRule<W>>; 2],
    /// Bits of addresses a grid may ask for, the best first.
    pub(super) order: Vec<(usize, u32)>,
}

impl<const W: usize> Coded<W> {
    pub(super) fn new(flat: &[FlatRule], widen: Widen<W>) -> Self {
        Coded::with_codes(
            flat,
            widen,
            [false, true].map(|tables| Codes::new(flat, tables)),
        )
    }

    /// Coded so that rules with any ports can be added.
    pub(super) fn open(flat: &[FlatRule], widen: Widen<W>) -> Self {
        let mut coded = Coded::with_codes(flat, widen, [(); 2].map(|()| Codes::open(flat)));
        // A change of a rule would change too many cells.
        coded.order.clear();
        coded
    }

    fn with_codes(flat: &[FlatRule], widen: Widen<W>, codes: [Codes; 2]) -> Self {
        let digest = match W == WORDS_V6 {
            true => Digest::new(flat),
            false => Digest::default(),
        };
        let codes = codes.map(|codes| codes.with_digest(digest));
        let numbered = |(number, rule), codes| WideRule {
            number,
            ..widen(rule, codes)
        };
        let rules: [Vec<WideRule<W>>; 2] = codes.each_ref().map(|codes| {
            let rules = (0..).zip(flat);
            rules.map(|rule| numbered(rule, codes)).collect()
        });
        let order = match rules[0].len() <= GRID_RULES_MAX {
            true => grid::order(&rules[0]),
            false => Vec::new(),
        };
        Coded {
            codes,
            rules,
            order,
        }
    }
}

/// The trees found, and what made them.
pub(super) struct Tuned<G, const W: usize> {
    pub(super) frozen: Frozen<G, W>,
    pub(super) parameters: Parameters,
    pub(super) visits: Visits,
    /// Nanoseconds a lookup in a batch takes, by the model.
    pub(super) lookup_ns: f64,
    /// The same with what too much memory costs.
    cost: f64,
}

/// Tries parameters within the budget.
///
/// # Errors
/// When none of them gives trees that are not too large.
pub(super) fn tune<G: Group<W>, const W: usize>(
    coded: &Coded<W>,
    budget: &Budget,
) -> Result<Tuned<G, W>, TooLarge> {
    let mut random = Random(99);
    let keys = [0, 1].map(|table| sample(&coded.rules[table], &coded.codes[table], table == 1));
    let mut best: Option<Tuned<G, W>> = None;
    let entries_max = 16 * coded.rules[0].len() + 65_536;
    let (mut work, mut tries) = (0, 0);
    let tries_max = (TRIES_LEAST + coded.rules[0].len() / TRY_RULES).min(budget.tries_max as usize);
    let work_max = budget.work_least + budget.rule_work * coded.rules[0].len() as u64;
    // The fields of a grid are the last.
    let grids = !coded.order.is_empty();
    let fields = if grids { FIELDS } else { FIELDS - 2 };
    let starts = Parameters::STARTS.into_iter();
    let starts = starts
        .take_while(|start| grids || start.grid_bits == 0)
        .count();
    // Few parameters fit some sets: until some do, more are tried.
    let goes_on = |tries, work, found: bool| match found {
        true => tries < tries_max && work < work_max,
        false => tries < tries_max.max(TRIES_FOR_ANY) && work < 2 * work_max,
    };
    while goes_on(tries, work, best.is_some()) {
        let parameters = match &best {
            _ if tries < starts => Parameters::STARTS[tries],
            Some(best) if work * 2 > work_max || tries * 2 > tries_max => {
                varied(best.parameters, fields, &mut random)
            }
            _ => drawn(fields, &mut random),
        };
        tries += 1;
        let table = usize::from(parameters.port_tables);
        let rules = &coded.rules[table];
        let (parts, looked_at) = build::<G, W>(rules, &coded.order, &parameters, entries_max);
        work += looked_at + rules.len() as u64 + keys[table].len() as u64 * 8;
        let Ok(parts) = parts else {
            continue;
        };
        let mut frozen = Frozen::new(coded.codes[table].clone(), parts);
        let (visits, lookup_ns, cost) = rate(&mut frozen, &keys[table], rules.len(), budget);
        if best.as_ref().is_none_or(|best| cost < best.cost) {
            best = Some(Tuned {
                frozen,
                parameters,
                visits,
                lookup_ns,
                cost,
            });
        }
    }
    let mut best = best.ok_or(TooLarge)?;
    if G::HAS_RECORDS {
        let rules = &coded.rules[usize::from(best.parameters.port_tables)];
        let exact = |parameters| build_exact(rules, &parameters, entries_max);
        let more = (0..EXACT_TRIES).map(|_| drawn(FIELDS - 2, &mut random));
        let tries = [best.parameters, Parameters::default()]
            .into_iter()
            .chain(more);
        let exact = tries.map(exact).find(Result::is_ok).ok_or(TooLarge)??;
        best.frozen.forest.set_exact(exact);
    }
    Ok(best)
}

fn drawn(fields: usize, random: &mut Random) -> Parameters {
    let mut parameters = Parameters::default();
    for field in 0..fields {
        draw(&mut parameters, field, random);
    }
    parameters
}

fn varied(mut parameters: Parameters, fields: usize, random: &mut Random) -> Parameters {
    for _ in 0..1 + random.below(3) {
        let field = random.below(fields);
        draw(&mut parameters, field, random);
    }
    parameters
}

/// Fields of [`Parameters`].
const FIELDS: usize = 12;

fn draw(parameters: &mut Parameters, field: usize, random: &mut Random) {
    match field {
        0 => parameters.trees_max = random.one_of(&[2, 3, 4, 5, 6, 8]),
        1 => parameters.root_open_max = random.one_of(&[0, 1, 2, 3, 4]),
        2 => parameters.open_max = random.one_of(&[0, 1, 2, 3, 4]),
        3 => {
            let shares = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6];
            parameters.root_share_max = random.one_of(&shares);
        }
        4 => {
            let shares = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7];
            parameters.share_max = random.one_of(&shares);
        }
        5 => parameters.hand_on_price = random.one_of(&[0.5, 1.0, 2.0, 4.0, 8.0, 16.0]),
        6 => parameters.fan = random.one_of(&[0.125, 0.25, 0.5, 1.0, 2.0, 4.0]),
        7 => parameters.stop = random.one_of(&[0.8, 0.85, 0.9, 0.95, 0.98]),
        8 => parameters.tail_groups = random.one_of(&[1, 2, 4, 8]),
        9 => parameters.port_tables = random.percent(50),
        10 => parameters.grid_bits = random.one_of(&[0, 0, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        _ => parameters.grid_share_max = random.one_of(&[0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0]),
    }
}

/// What a lookup visits, what it costs by the model, and that with what memory beyond the budget
/// costs. Also sets how many steps a batch takes unasked.
fn rate<G: Group<W>, const W: usize>(
    frozen: &mut Frozen<G, W>,
    keys: &[[u64; W]],
    rules: usize,
    budget: &Budget,
) -> (Visits, f64, f64) {
    let mut bytes = frozen.forest.parts().bytes();
    // Records are not the parameters' doing.
    bytes[1] -= size_of_val(frozen.forest.parts().records.as_slice());
    let line = line_time(bytes.iter().sum());
    let lines = (size_of::<G>() / 64) as f64;
    let group = time::GROUP[usize::from(W != WORDS_V4)] + lines * line;
    let step = time::STEP + line;
    let mut sum = Path::default();
    for words in keys {
        let path = frozen.follow(words);
        sum.trees += path.trees;
        sum.steps += path.steps;
        sum.groups += path.groups;
        sum.long_leaves += path.long_leaves;
    }
    let average = |count: u32| f64::from(count) / keys.len().max(1) as f64;
    let visits = Visits {
        trees: average(sum.trees),
        questions: average(sum.steps),
        groups: average(sum.groups),
    };
    let visiting = time::TREE * visits.trees
        + step * visits.questions
        + group * visits.groups
        + time::LONG_LEAF * average(sum.long_leaves);
    let roots = frozen.forest.parts().roots.iter();
    frozen.steps = roots.map(|root| common_steps(frozen, root, keys)).collect();
    [frozen.fetch_nodes, frozen.fetch_groups] = bytes.map(|bytes| bytes > NEAR_BYTES);
    let tables = f64::from(frozen.codes.tables());
    let cost = time::KEY + time::PORT_TABLE * tables + visiting;
    let allowed = if rules > Budget::LARGE {
        budget.rule_bytes_large
    } else {
        budget.rule_bytes
    };
    let allowed = (rules as f64 * allowed).max(BYTES_LEAST);
    let excess = (bytes.iter().sum::<usize>() as f64 / allowed - 1.0).max(0.0);
    (visits, cost, cost * (1.0 + 3.0 * excess))
}

/// Steps below the root after which it is cheaper to follow the remaining lookups one by one.
fn common_steps<G: Group<W>, const W: usize>(
    frozen: &Frozen<G, W>,
    root: &Root,
    keys: &[[u64; W]],
) -> u32 {
    const STEPS_MAX: usize = 8;
    const DEPTH: usize = 32;
    let mut deep = [0u32; DEPTH];
    for words in keys {
        let (_, steps) = frozen.descend(root, words);
        deep[(steps as usize).saturating_sub(1).min(DEPTH - 1)] += 1;
    }
    let cost = |steps: usize| {
        let late = deep.iter().enumerate().skip(steps + 1);
        let late =
            late.map(|(depth, &keys)| f64::from(keys) * (4.0 + 1.2 * (depth - steps) as f64));
        (steps * keys.len()) as f64 + late.sum::<f64>()
    };
    let all = 0..STEPS_MAX;
    all.min_by(|&one, &other| cost(one).total_cmp(&cost(other)))
        .unwrap_or(0) as u32
}

/// Keys in rules drawn at random, in their corners as often as inside.
fn sample<const W: usize>(rules: &[WideRule<W>], codes: &Codes, tables: bool) -> Vec<[u64; W]> {
    let mut random = Random(7);
    let count = (rules.len() * 8).min(KEYS_MAX);
    (0..count)
        .map(|_| {
            let rule = &rules[random.below(rules.len())];
            let mut words = std::array::from_fn(|word| {
                let Pattern { value, care } = rule.pattern;
                let open = match random.below(3) {
                    0 => 0,
                    1 => u64::MAX,
                    _ => random.bits(),
                };
                value[word] | (open & !care[word])
            });
            if W == WORDS_V6 {
                words[0] = digest_of(&codes.digest, &words);
            }
            let word = &mut words[PORT_WORD];
            *word &= 0xffff << 32;
            // Zones nobody names share number 0.
            if rule.pattern.care[PORT_WORD] >> 40 == 0 {
                *word &= 0xff << 32;
            }
            for (port, &(low, high)) in rule.ports.iter().enumerate() {
                let code = random.between(low.into(), high.into()) as u16;
                let code = if tables {
                    codes.nearest(port, code)
                } else {
                    code
                };
                *word |= u64::from(code) << (16 * port);
            }
            words
        })
        .collect()
}
