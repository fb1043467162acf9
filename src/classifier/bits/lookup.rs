//! Many lookups at once: all of them take a step, and what the next step needs is being fetched
//! meanwhile.

use super::engine::Engine;
use super::frozen::{Frozen, Root};
use super::group::NO_RANK;

/// Lookups of a batch at the most.
pub(super) const LOOKUPS: usize = 64;

/// Keys of one family and their answers.
pub(super) struct Batch<const W: usize> {
    /// The first `count` are asked.
    pub(super) words: [[u64; W]; LOOKUPS],
    pub(super) count: usize,
    /// Smallest rank found, or [`NO_RANK`].
    pub(super) ranks: [u32; LOOKUPS],
}

impl<const W: usize> Batch<W> {
    pub(super) fn new(count: usize) -> Self {
        debug_assert!(count <= LOOKUPS);
        Batch {
            words: [[0; W]; LOOKUPS],
            count,
            ranks: [NO_RANK; LOOKUPS],
        }
    }
}

/// Lookups that are still asking a tree.
struct Asking {
    /// Which ones.
    lookups: [u8; LOOKUPS],
    /// By place in `lookups`: the node it is at.
    nodes: [u32; LOOKUPS],
    count: usize,
}

/// Answers a batch.
#[inline(always)]
pub(super) fn run<E, G, const W: usize>(engine: E, frozen: &Frozen<G, W>, batch: &mut Batch<W>)
where
    E: Engine<G, W>,
{
    let mut asking = Asking {
        lookups: [0; LOOKUPS],
        nodes: [0; LOOKUPS],
        count: 0,
    };
    for root in &frozen.roots {
        asking.count = 0;
        for lookup in 0..batch.count.min(LOOKUPS) {
            asking.lookups[asking.count & (LOOKUPS - 1)] = lookup as u8;
            asking.count += usize::from(batch.ranks[lookup] > root.rank_min);
        }
        if asking.count == 0 {
            continue;
        }
        descend(engine, frozen, root, &batch.words, &mut asking);
        if frozen.fetch_groups {
            for &node in &asking.nodes[..asking.count] {
                let groups = frozen.nodes[node as usize].groups();
                engine.fetch(&frozen.groups[groups.start]);
            }
        }
        for place in 0..asking.count {
            let lookup = asking.lookups[place] as usize & (LOOKUPS - 1);
            let words = &batch.words[lookup];
            let mut rank = batch.ranks[lookup];
            for group in &frozen.groups[frozen.nodes[asking.nodes[place] as usize].groups()] {
                rank = rank.min(engine.test(group, words));
            }
            batch.ranks[lookup] = rank;
        }
    }
}

/// Takes all lookups to their leaves.
#[inline(always)]
fn descend<E, G, const W: usize>(
    engine: E,
    frozen: &Frozen<G, W>,
    root: &Root,
    words: &[[u64; W]; LOOKUPS],
    asking: &mut Asking,
) where
    E: Engine<G, W>,
{
    let nodes = frozen.nodes.as_slice();
    let count = asking.count.min(LOOKUPS);
    let top = nodes[root.node as usize];
    let top_word = top.word::<W>();
    for place in 0..count {
        let lookup = asking.lookups[place] as usize & (LOOKUPS - 1);
        let child = top.base + engine.gather(words[lookup][top_word], top.mask);
        asking.nodes[place] = child;
        engine.fetch(&nodes[child as usize]);
    }
    let step = |asking: &mut Asking, place: usize| {
        let lookup = asking.lookups[place] as usize & (LOOKUPS - 1);
        let node = nodes[asking.nodes[place] as usize];
        let child = node.base + engine.gather(words[lookup][node.word::<W>()], node.mask);
        asking.nodes[place] = child;
        (child, node.mask != 0)
    };
    for _ in 0..root.steps {
        for place in 0..count {
            let (child, _) = step(asking, place);
            engine.fetch(&nodes[child as usize]);
        }
    }
    let mut deeper = [0u8; LOOKUPS];
    let mut left = 0;
    for place in 0..count {
        let (_, went) = step(asking, place);
        deeper[left & (LOOKUPS - 1)] = place as u8;
        left += usize::from(went);
    }
    while left > 0 {
        let mut still = 0;
        for index in 0..left.min(LOOKUPS) {
            let place = deeper[index] as usize & (LOOKUPS - 1);
            let (_, went) = step(asking, place);
            deeper[still & (LOOKUPS - 1)] = place as u8;
            still += usize::from(went);
        }
        left = still;
    }
}
