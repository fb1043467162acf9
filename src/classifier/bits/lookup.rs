//! Many lookups at once: all of them take a step, and what the next step needs is being fetched
//! meanwhile.

use super::engine::{Batch, Engine, LOOKUPS, cell};
use super::frozen::{Frozen, Leaf, Parts};
use super::group::{Group, NO_RANK};
use crate::classifier::RuleIndex;
use crate::wire::FlowKey;

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Answers up to [`LOOKUPS`] keys of the trees' family. Says no, with answers that mean nothing,
/// when keys of the other family are among them.
#[inline(always)]
pub(super) fn run<E, G, const W: usize>(
    engine: E,
    frozen: &Frozen<G, W>,
    keys: &[FlowKey],
    decisions: &mut [Option<RuleIndex>],
) -> bool
where
    G: Group<W>,
    E: Engine<G, W>,
{
    let Some(first) = frozen.forest.parts().roots.first() else {
        decisions.fill(None);
        return keys.iter().all(|key| key.family == G::FAMILY);
    };
    let mut ranks = [NO_RANK; LOOKUPS];
    let mut all = Batch::new(&frozen.forest, first, keys.len());
    // The first answers are gathered while the words are at hand.
    let own_family = if frozen.codes.has_tables() {
        let word = |key: &FlowKey| frozen.codes.word(key);
        begin(engine, frozen, keys, word, &mut all)
    } else {
        let word = |key: &FlowKey| frozen.codes.plain(key);
        begin(engine, frozen, keys, word, &mut all)
    };
    if !own_family {
        return false;
    }
    let how = (frozen.steps[0], frozen.fetch_nodes, frozen.fetch_groups);
    all.ask(engine, how, |place, rank| ranks[place] = rank);
    if frozen.steps.len() > 1 {
        ask_others(engine, frozen, &all, &mut ranks);
    }
    for (decision, &rank) in decisions.iter_mut().zip(&ranks) {
        *decision = (rank != NO_RANK).then_some(RuleIndex(rank));
    }
    true
}

/// Makes the words of all keys and takes the step from the first root. No when a key is of the
/// other family.
#[inline(always)]
fn begin<E, G, const W: usize>(
    engine: E,
    frozen: &Frozen<G, W>,
    keys: &[FlowKey],
    word: impl Fn(&FlowKey) -> u64,
    batch: &mut Batch<G, W>,
) -> bool
where
    G: Group<W>,
    E: Engine<G, W>,
{
    let mut strange = false;
    // Keys come from elsewhere; all of them are on their way while the first are taken.
    for line in 0..=size_of_val(keys) / LINE_BYTES {
        engine.fetch(keys.as_ptr().cast::<[u8; LINE_BYTES]>().wrapping_add(line));
    }
    for (place, key) in keys.iter().enumerate().take(LOOKUPS) {
        strange |= key.family != G::FAMILY;
        G::write(
            engine,
            &mut batch.words[place],
            key,
            &frozen.codes,
            word(key),
        );
        batch.enter(engine, place, frozen.fetch_nodes);
    }
    !strange
}

/// Asks the trees after the first, each on behalf of the lookups it may still improve.
#[inline(always)]
fn ask_others<E, G, const W: usize>(
    engine: E,
    frozen: &Frozen<G, W>,
    all: &Batch<G, W>,
    ranks: &mut [u32; LOOKUPS],
) where
    G: Group<W>,
    E: Engine<G, W>,
{
    let roots = &frozen.forest.parts().roots;
    let mut some = Batch::new(&frozen.forest, &roots[0], 0);
    let mut lookups = [0u8; LOOKUPS];
    for (root, &steps) in roots.iter().zip(&frozen.steps).skip(1) {
        let mut above = engine.above(ranks, root.rank_min);
        if all.count() < LOOKUPS {
            above &= (1 << all.count()) - 1;
        }
        if above == 0 {
            continue;
        }
        some.turn(root, above.count_ones() as usize);
        let count = some.count();
        for (place, slot) in lookups.iter_mut().enumerate().take(count) {
            let lookup = above.trailing_zeros() as usize & (LOOKUPS - 1);
            above &= above - 1;
            *slot = lookup as u8;
            some.words[place] = all.words[lookup];
            some.enter(engine, place, frozen.fetch_nodes);
        }
        let how = (steps, frozen.fetch_nodes, frozen.fetch_groups);
        some.ask(engine, how, |place, rank| {
            let lookup = lookups[place] as usize & (LOOKUPS - 1);
            ranks[lookup] = rank.min(ranks[lookup]);
        });
    }
}

/// Answers one key of the trees' family.
#[inline(always)]
pub(super) fn one<E, G, const W: usize>(
    engine: E,
    frozen: &Frozen<G, W>,
    key: &FlowKey,
) -> Option<RuleIndex>
where
    G: Group<W>,
    E: Engine<G, W>,
{
    let parts = frozen.forest.parts();
    let mut words = [0; W];
    G::write(
        engine,
        &mut words,
        key,
        &frozen.codes,
        frozen.codes.word(key),
    );
    let mut best = NO_RANK;
    for root in &parts.roots {
        if best <= root.rank_min {
            continue;
        }
        let leaf = match &parts.grid {
            Some(grid) if root.has_grid => match cell(engine, grid, &words) {
                cell if cell.is_leaf() => cell.leaf(),
                cell => leaf_below(engine, parts, cell.node(), &words),
            },
            _ => leaf_below(engine, parts, root.node, &words),
        };
        let groups = parts.groups[leaf.groups()].iter();
        let mut answers = groups.map(|group| engine.test(group, &words));
        let answer = answers.find(|&answer| answer != NO_RANK);
        best = best.min(match answer {
            Some(number) if G::HAS_RECORDS => {
                let rank = parts.records[number as usize].rank(&words);
                rank.unwrap_or_else(|| parts.rank_in_spite(engine, leaf, &words))
            }
            answer => answer.unwrap_or(NO_RANK),
        });
    }
    (best != NO_RANK).then_some(RuleIndex(best))
}

/// The leaf below a node.
#[inline(always)]
fn leaf_below<E, G, const W: usize>(
    engine: E,
    parts: &Parts<G>,
    node: u32,
    words: &[u64; W],
) -> Leaf
where
    E: Engine<G, W>,
{
    let mut node = parts.nodes[node as usize];
    while !node.is_leaf() {
        let child = node.base + engine.gather(words[node.word::<W>()], node.mask);
        node = parts.nodes[child as usize];
    }
    node.detail
}
