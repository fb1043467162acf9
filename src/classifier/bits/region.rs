//! Which answers a rule allows, and which rules a region needs.

use super::choose::Question;
use super::gather::gather;
use super::key::{Pattern, WideRule};

/// A list as long is not searched for covered rules: that takes the square of its length.
const PRUNED_MAX: usize = 64;

/// The answers keys that meet the pattern can give.
pub(super) fn answers<const W: usize>(
    pattern: &Pattern<W>,
    question: Question,
) -> impl Iterator<Item = u32> + use<W> {
    let count = question.mask.count_ones();
    let value = gather(pattern.value[question.word], question.mask);
    let care = gather(pattern.care[question.word], question.mask);
    let open = ((1u64 << count) - 1) as u32 & !care;
    // Counts through the open bits alone.
    let mut next = Some(0u32);
    std::iter::from_fn(move || {
        let part = next?;
        let after = part.wrapping_sub(open) & open;
        next = (after != 0).then_some(after);
        Some(value | part)
    })
}

/// Drops the rules that never decide a key of the region.
pub(super) fn prune<const W: usize>(
    rules: &[WideRule<W>],
    list: &mut Vec<u32>,
    region: &Pattern<W>,
) {
    let rule = |position: u32| &rules[position as usize];
    let ends = list.iter().position(|&r| rule(r).covers_region(region));
    if let Some(last) = ends {
        list.truncate(last + 1);
    }
    if list.len() > PRUNED_MAX {
        return;
    }
    let mut kept = 0;
    for next in 0..list.len() {
        let inner = rule(list[next]);
        let covered = list[..kept].iter().any(|&r| rule(r).covers(inner, region));
        if !covered {
            list[kept] = list[next];
            kept += 1;
        }
    }
    list.truncate(kept);
}
