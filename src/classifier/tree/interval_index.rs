//! Address to class: a search tree of buckets over the points where the class changes.
//!
//! A bucket node divides the stretch between its first and its last change point into equal buckets
//! of a power of two of addresses, a few for each point. A bucket without a change inside says the
//! class; one with a few changes leads to a list of points compared at once; one with many to
//! another bucket node, over these points alone. Addresses in use stand in clusters, so that one or
//! two bucket nodes are the rule; memory is proportional to the number of points, whatever the
//! width of the address.

use std::fmt::Debug;

use super::key_classes::KeyClasses;
use super::walk::Lanes;

/// An address as a number: `u32` for IPv4, `u128` for IPv6.
pub(in crate::classifier) trait Value:
    Copy + Ord + Debug + Send + Sync
{
    /// From the number in the low bits.
    fn from_bits(bits: u128) -> Self;
    /// `min((self - first) >> shift, limit)`; anything up to the limit when `self < first`.
    fn bucket(self, first: Self, shift: u8, limit: u32) -> u32;
}

impl Value for u32 {
    #[inline]
    fn from_bits(bits: u128) -> Self {
        bits as u32
    }

    #[inline]
    fn bucket(self, first: Self, shift: u8, limit: u32) -> u32 {
        (self.wrapping_sub(first) >> (shift & 31)).min(limit)
    }
}

impl Value for u128 {
    #[inline]
    fn from_bits(bits: u128) -> Self {
        bits
    }

    #[inline]
    fn bucket(self, first: Self, shift: u8, limit: u32) -> u32 {
        (self.wrapping_sub(first) >> (shift & 127)).min(limit.into()) as u32
    }
}

/// Points a list may hold instead of becoming a bucket node.
const LIST_POINTS_MAX: usize = 4;

/// Buckets made for each change point.
const BUCKETS_PER_POINT: u128 = 4;

/// Buckets of one node at most.
const BUCKETS_MAX: u128 = 1 << 18;

/// Where a bucket leads: a kind in the two highest bits, a number in the others.
type Entry = u32;
const CLASS: Entry = 0 << 30;
const BUCKETS: Entry = 1 << 30;
const LIST: Entry = 2 << 30;
const KIND: Entry = 3 << 30;

/// `entries[begin]` is for values below `first`, then one for each bucket, then one for all values
/// above the last.
#[derive(Debug, Clone, Copy)]
struct BucketNode<V> {
    first: V,
    begin: u32,
    buckets: u32,
    shift: u8,
}

/// Class `classes[n]` for values that `n` of the points do not exceed. Unused points repeat the
/// largest value and their classes the last one.
#[derive(Debug, Clone, Copy)]
struct ListNode<V> {
    points: [V; LIST_POINTS_MAX],
    classes: [u32; LIST_POINTS_MAX + 1],
}

/// The class of every address of a family.
#[derive(Debug, Clone)]
pub(in crate::classifier) struct IntervalIndex<V> {
    root: Entry,
    buckets: Vec<BucketNode<V>>,
    lists: Vec<ListNode<V>>,
    entries: Vec<Entry>,
}

impl<V: Value> IntervalIndex<V> {
    /// From the first value and the class of each stretch of values; the first begins at 0.
    pub(in crate::classifier) fn new(stretches: &[(u128, u32)]) -> Self {
        let mut index = IntervalIndex {
            root: CLASS,
            buckets: Vec::new(),
            lists: Vec::new(),
            entries: Vec::new(),
        };
        index.root = index.build(&stretches[1..], stretches[0].1);
        index
    }

    /// The class of a value.
    #[inline]
    pub(in crate::classifier) fn class(&self, value: V) -> u32 {
        let mut at = self.root;
        while at & KIND == BUCKETS {
            at = self.bucket(at, value);
        }
        match at & KIND {
            LIST => self.list(at, value),
            _ => at,
        }
    }

    /// Looks the values of many lanes up: `values(lane)` gives the value, the class is written to
    /// `classes[lane][slot]`.
    ///
    /// All take a step before any takes the next, and which lanes need one is noted without a
    /// branch: how deep an address stands cannot be predicted.
    #[inline]
    pub(super) fn classes(
        &self,
        lanes: &Lanes,
        values: impl Fn(usize) -> V,
        classes: &mut [KeyClasses],
        slot: usize,
    ) {
        let mut in_lists = Lanes::default();
        let mut in_buckets = lanes.clone();
        for lane in lanes.iter() {
            classes[lane][slot] = self.root;
            in_lists.push_if(lane, self.root & KIND == LIST);
        }
        if self.root & KIND != BUCKETS {
            in_buckets = Lanes::default();
        }
        while !in_buckets.is_empty() {
            let mut deeper = Lanes::default();
            for lane in in_buckets.iter() {
                let entry = self.bucket(classes[lane][slot], values(lane));
                classes[lane][slot] = entry;
                deeper.push_if(lane, entry & KIND == BUCKETS);
                in_lists.push_if(lane, entry & KIND == LIST);
            }
            in_buckets = deeper;
        }
        for lane in in_lists.iter() {
            classes[lane][slot] = self.list(classes[lane][slot], values(lane));
        }
    }

    #[inline]
    fn bucket(&self, at: Entry, value: V) -> Entry {
        let node = &self.buckets[(at & !KIND) as usize];
        let bucket = value.bucket(node.first, node.shift, node.buckets) + 1;
        let bucket = if value < node.first { 0 } else { bucket };
        self.entries[(node.begin + bucket) as usize]
    }

    #[inline]
    fn list(&self, at: Entry, value: V) -> u32 {
        let node = &self.lists[(at & !KIND) as usize];
        let passed: u32 = node
            .points
            .iter()
            .map(|&point| u32::from(point <= value))
            .sum();
        node.classes[passed as usize % node.classes.len()]
    }

    /// Memory in bytes.
    pub(in crate::classifier) fn bytes(&self) -> u64 {
        let bytes = size_of_val(self.buckets.as_slice())
            + size_of_val(self.lists.as_slice())
            + size_of_val(self.entries.as_slice());
        bytes as u64
    }

    /// Bucket nodes, lists and buckets, for dumps.
    pub(super) fn shape(&self) -> [usize; 3] {
        [self.buckets.len(), self.lists.len(), self.entries.len()]
    }

    /// `below` is the class of the values before the first point.
    fn build(&mut self, points: &[(u128, u32)], below: u32) -> Entry {
        match points {
            [] => CLASS | below,
            _ if points.len() <= LIST_POINTS_MAX => self.build_list(points, below),
            _ => self.build_buckets(points, below),
        }
    }

    fn build_list(&mut self, points: &[(u128, u32)], below: u32) -> Entry {
        let last_class = points[points.len() - 1].1;
        let mut node = ListNode {
            points: [V::from_bits(u128::MAX); LIST_POINTS_MAX],
            classes: [last_class; LIST_POINTS_MAX + 1],
        };
        node.classes[0] = below;
        for (position, &(value, class)) in points.iter().enumerate() {
            node.points[position] = V::from_bits(value);
            node.classes[position + 1] = class;
        }
        self.lists.push(node);
        LIST | (self.lists.len() - 1) as u32
    }

    fn build_buckets(&mut self, points: &[(u128, u32)], below: u32) -> Entry {
        let (first, last) = (points[0].0, points[points.len() - 1].0);
        let buckets_max = (points.len() as u128 * BUCKETS_PER_POINT).min(BUCKETS_MAX);
        let mut shift = 0;
        while (last - first) >> shift >= buckets_max {
            shift += 1;
        }
        let bucket_of = |value: u128| (value - first) >> shift;
        let buckets = bucket_of(last) as u32 + 1;

        let number = self.buckets.len() as u32;
        let begin = self.entries.len() as u32;
        self.buckets.push(BucketNode {
            first: V::from_bits(first),
            begin,
            buckets,
            shift,
        });
        self.entries.push(CLASS | below);
        self.entries
            .resize(self.entries.len() + buckets as usize + 1, CLASS);
        let mut class = below;
        let mut rest = points;
        for bucket in 0..buckets {
            let inside = rest.partition_point(|point| bucket_of(point.0) <= bucket.into());
            let (mut own, after) = rest.split_at(inside);
            rest = after;
            // A change at the very start of the bucket is no change inside it.
            if let Some(&(value, changed)) = own.first()
                && value == first + (u128::from(bucket) << shift)
            {
                class = changed;
                own = &own[1..];
            }
            let entry = self.build(own, class);
            self.entries[(begin + 1 + bucket) as usize] = entry;
            class = own.last().map_or(class, |point| point.1);
        }
        self.entries[(begin + 1 + buckets) as usize] = CLASS | class;
        BUCKETS | number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class_by_search(stretches: &[(u128, u32)], value: u128) -> u32 {
        let after = stretches.partition_point(|stretch| stretch.0 <= value);
        stretches[after - 1].1
    }

    fn check<V: Value>(mut points: Vec<u128>, last: u128) {
        points.push(0);
        points.sort_unstable();
        points.dedup();
        let stretches: Vec<(u128, u32)> = points.iter().copied().zip(0..).collect();
        let index = IntervalIndex::<V>::new(&stretches);
        let edges = points
            .iter()
            .flat_map(|&point| [point.saturating_sub(1), point, point.saturating_add(1)]);
        for value in edges
            .chain([0, last / 2, last])
            .filter(|&value| value <= last)
        {
            let expected = class_by_search(&stretches, value);
            assert_eq!(index.class(V::from_bits(value)), expected, "at {value:#x}");
        }
    }

    proptest! {
        #[test]
        fn v4_index_equals_binary_search(points in points(32)) {
            check::<u32>(points, u32::MAX.into());
        }

        #[test]
        fn v6_index_equals_binary_search(points in points(128)) {
            check::<u128>(points, u128::MAX);
        }
    }

    /// Clusters around a few places, at every scale, the ends of the space among them.
    fn points(bits: u32) -> impl Strategy<Value = Vec<u128>> {
        let last = u128::MAX >> (128 - bits);
        let cluster = (any::<u128>(), 0..bits).prop_flat_map(move |(base, width)| {
            let base = [0, last, base & last][(base % 3) as usize];
            let offset = any::<u128>().prop_map(move |offset| offset & last >> (bits - 1 - width));
            prop::collection::vec(offset.prop_map(move |offset| (base ^ offset) & last), 0..40)
        });
        prop::collection::vec(cluster, 0..6).prop_map(|clusters| clusters.concat())
    }

    #[test]
    fn points_that_double_each_time_need_little_memory() {
        let stretches: Vec<(u128, u32)> = std::iter::once((0, 0))
            .chain((0..128).map(|bit| (1 << bit, bit + 1)))
            .collect();
        let index = IntervalIndex::<u128>::new(&stretches);
        assert!(index.bytes() < 64 * 1024, "{:?}", index.shape());
        for bit in 0..128 {
            assert_eq!(index.class(1 << bit), bit + 1);
            assert_eq!(index.class((1 << bit) - 1), bit);
        }
    }
}
