//! Virtual reassembly: the first fragment's verdict holds for the fragments behind it.
//!
//! A [`FragmentTracker`] remembers, for each datagram whose first fragment was admitted, the flow
//! it belongs to and which of its bytes have passed. A later fragment is forwarded only if the
//! first was, and only if it overlaps nothing that passed before (RFC 5722, applied to IPv4 too):
//! after an overlap no further fragment of the datagram passes, so that it is never completed.
//!
//! Bounds: datagrams at once, fragments a datagram, seconds from first to last fragment, and the
//! share of the table one source may hold. Everything is allocated at the start.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::verdict::DropReason;
use crate::wire::{Address, Family, FlowKey, Fragment, PacketView};

/// Fragments one datagram may have.
pub const FRAGMENTS_PER_DATAGRAM_MAX: usize = 64;

/// Bounds of a [`FragmentTracker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Datagrams tracked at once.
    pub datagrams_max: u32,
    /// Datagrams of one source tracked at once.
    pub datagrams_per_source_max: u32,
    /// Microseconds from the first fragment to the last, IPv4.
    pub lifetime_us: u64,
    /// The same of IPv6 (RFC 8200 §4.5: 60 seconds).
    pub lifetime_v6_us: u64,
    /// Bytes of fragments that came before the first of their datagram.
    pub waiting_bytes_max: usize,
}

impl Default for FragmentLimits {
    /// 8,192 datagrams, an eighth of them from one source, 10 seconds (IPv6: 60), 4 MiB waiting.
    fn default() -> Self {
        FragmentLimits {
            datagrams_max: 8192,
            datagrams_per_source_max: 1024,
            lifetime_us: 10_000_000,
            lifetime_v6_us: 60_000_000,
            waiting_bytes_max: 4 << 20,
        }
    }
}

/// Table of datagrams whose fragments are under way.
///
/// Datagrams are told apart by family, zone, addresses, identification and, for IPv4, protocol
/// (RFC 791 §3.2, 8200 §4.5). An exact duplicate of a fragment that passed is dropped but does no
/// harm to the datagram (RFC 8200 §4.5). A complete datagram leaves the table at once, an
/// incomplete one when its time is over. When the table is full, new datagrams are refused.
#[derive(Debug)]
pub struct FragmentTracker {
    limits: FragmentLimits,
    hash_key: [u64; 2],
    entries: Vec<Entry>,
    /// Heads of chains through [`Entry::next`]; a power of two.
    buckets: Vec<u32>,
    /// Datagrams by hash of their source; a power of two. Two sources that share a counter share
    /// its limit, and the keyed hash keeps anyone from choosing with whom.
    sources: Vec<u32>,
    /// Head of the list of unused entries, through [`Entry::next`].
    unused: u32,
    /// Ends of the list of entries by age, through [`Entry::older`] and [`Entry::newer`].
    oldest: u32,
    newest: u32,
    used: u32,
}

/// No entry.
const NONE: u32 = u32::MAX;

/// Expired entries removed by one new datagram at the most.
const EXPIRED_PER_CALL_MAX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DatagramKey {
    pub(super) source: Address,
    destination: Address,
    identification: u32,
    zone: u16,
    /// 0 for IPv6, whose fragments of one datagram may differ in it.
    protocol: u8,
    pub(super) family: Family,
}

#[derive(Debug, Clone)]
struct Entry {
    key: DatagramKey,
    flow: FlowKey,
    expires_us: u64,
    next: u32,
    older: u32,
    newer: u32,
    source: u32,
    covered: Covered,
}

/// Which bytes of a datagram have passed.
#[derive(Debug, Clone)]
struct Covered {
    /// Start and end of each fragment that passed, by start; they do not overlap.
    ranges: [(u16, u16); FRAGMENTS_PER_DATAGRAM_MAX],
    count: u8,
    /// An overlap was seen: nothing passes any more.
    poisoned: bool,
    /// The datagram's length, once its last fragment has passed.
    total_bytes: Option<u16>,
}

impl FragmentTracker {
    /// A tracker with all its memory allocated. `hash_key` is chosen at random at the start, so
    /// that no one can choose which datagrams collide.
    pub fn new(limits: FragmentLimits, hash_key: [u64; 2]) -> Self {
        let slots = limits.datagrams_max.max(1).next_power_of_two() as usize;
        let mut tracker = FragmentTracker {
            limits,
            hash_key,
            entries: vec![Entry::UNUSED; limits.datagrams_max as usize],
            buckets: vec![NONE; slots],
            sources: vec![0; slots * 4],
            unused: NONE,
            oldest: NONE,
            newest: NONE,
            used: 0,
        };
        for index in (0..limits.datagrams_max).rev() {
            tracker.entries[index as usize].next = tracker.unused;
            tracker.unused = index;
        }
        tracker
    }

    /// Remembers the first fragment of a datagram that belongs to `flow` and was admitted; call it
    /// only for one that is about to be forwarded. Whole packets and atomic fragments pass without
    /// a trace.
    ///
    /// # Errors
    /// `FragmentOverlap` for a second first fragment of the datagram, `FragmentTableFull` when the
    /// table, or the source's share of it, is used up. The fragment must then be dropped.
    pub fn first(
        &mut self,
        now_us: u64,
        view: &PacketView,
        flow: FlowKey,
    ) -> Result<(), DropReason> {
        let Some(fragment) = view.fragment.filter(Fragment::is_first) else {
            return Ok(());
        };
        let key = DatagramKey::of(view, fragment);
        let bucket = self.bucket(&key);
        if let Some(index) = self.find(now_us, bucket, &key) {
            return self.pass(index, view, fragment);
        }
        for _ in 0..EXPIRED_PER_CALL_MAX {
            if self.oldest == NONE || self.entries[self.oldest as usize].expires_us > now_us {
                break;
            }
            self.remove(self.oldest);
        }
        let source = self.source(&key);
        if self.unused == NONE
            || self.sources[source as usize] >= self.limits.datagrams_per_source_max
        {
            return Err(DropReason::FragmentTableFull);
        }
        let index = self.insert(bucket, source, key);
        let entry = &mut self.entries[index as usize];
        entry.flow = flow;
        let lifetime_us = match key.family {
            Family::V4 => self.limits.lifetime_us,
            Family::V6 => self.limits.lifetime_v6_us,
        };
        entry.expires_us = now_us.saturating_add(lifetime_us);
        self.pass(index, view, fragment)
    }

    /// The flow that a later fragment belongs to: the one its first fragment was remembered with.
    ///
    /// # Errors
    /// `FragmentWithoutFirst`, `FragmentOverlap`, and `FragmentTableFull` for more than
    /// [`FRAGMENTS_PER_DATAGRAM_MAX`]. The fragment must then be dropped.
    pub fn later(&mut self, now_us: u64, view: &PacketView) -> Result<FlowKey, DropReason> {
        let fragment = view.fragment.filter(Fragment::is_later);
        let fragment = fragment.ok_or(DropReason::FragmentWithoutFirst)?;
        let key = DatagramKey::of(view, fragment);
        let found = self.find(now_us, self.bucket(&key), &key);
        let index = found.ok_or(DropReason::FragmentWithoutFirst)?;
        let flow = self.entries[index as usize].flow;
        self.pass(index, view, fragment)?;
        Ok(flow)
    }

    /// The flow that a later fragment belongs to, if its first has come; records nothing.
    pub fn flow_of(&mut self, now_us: u64, view: &PacketView) -> Option<FlowKey> {
        let fragment = view.fragment.filter(Fragment::is_later)?;
        let key = DatagramKey::of(view, fragment);
        let index = self.find(now_us, self.bucket(&key), &key)?;
        Some(self.entries[index as usize].flow)
    }

    /// Datagrams under way, expired ones not yet removed included.
    pub fn datagrams(&self) -> u32 {
        self.used
    }

    /// Records a fragment, and forgets the datagram once it is complete.
    fn pass(
        &mut self,
        index: u32,
        view: &PacketView,
        fragment: Fragment,
    ) -> Result<(), DropReason> {
        let data_bytes = view.packet_end.saturating_sub(u32::from(view.l4));
        let covered = &mut self.entries[index as usize].covered;
        covered.add(fragment, data_bytes)?;
        if covered.is_complete() {
            self.remove(index);
        }
        Ok(())
    }

    fn bucket(&self, key: &DatagramKey) -> u32 {
        key.hash(self.hash_key) as u32 & (self.buckets.len() as u32 - 1)
    }

    /// Which counter a source uses. All of an IPv6 /64 is one source: a host picks addresses in it
    /// freely.
    fn source(&self, key: &DatagramKey) -> u32 {
        let [k0, k1] = self.hash_key;
        let mut hasher = SipHasher13::new_with_keys(k0, k1);
        let [high, low] = key.source.halves();
        hasher.write_u64(match key.family {
            Family::V4 => low,
            Family::V6 => high,
        });
        hasher.write_u16(key.zone);
        hasher.write_u8(key.family as u8);
        hasher.finish() as u32 & (self.sources.len() as u32 - 1)
    }

    /// The live entry of a datagram; removes an expired one.
    fn find(&mut self, now_us: u64, bucket: u32, key: &DatagramKey) -> Option<u32> {
        let mut index = self.buckets[bucket as usize];
        while index != NONE {
            let entry = &self.entries[index as usize];
            if entry.key == *key {
                if entry.expires_us > now_us {
                    return Some(index);
                }
                self.remove(index);
                return None;
            }
            index = entry.next;
        }
        None
    }

    /// Takes an unused entry, of which there is one, and puts it in its bucket and at the end of
    /// the list by age.
    fn insert(&mut self, bucket: u32, source: u32, key: DatagramKey) -> u32 {
        let index = self.unused;
        self.unused = self.entries[index as usize].next;
        self.entries[index as usize] = Entry {
            key,
            source,
            next: self.buckets[bucket as usize],
            older: self.newest,
            ..Entry::UNUSED
        };
        self.buckets[bucket as usize] = index;
        match self.newest {
            NONE => self.oldest = index,
            newest => self.entries[newest as usize].newer = index,
        }
        self.newest = index;
        self.sources[source as usize] += 1;
        self.used += 1;
        index
    }

    fn remove(&mut self, index: u32) {
        let (key, older, newer, next, source) = {
            let entry = &self.entries[index as usize];
            (
                entry.key,
                entry.older,
                entry.newer,
                entry.next,
                entry.source,
            )
        };
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
        let bucket = self.bucket(&key) as usize;
        let mut previous = NONE;
        let mut current = self.buckets[bucket];
        while current != index {
            previous = current;
            current = self.entries[current as usize].next;
        }
        match previous {
            NONE => self.buckets[bucket] = next,
            previous => self.entries[previous as usize].next = next,
        }
        self.entries[index as usize].next = self.unused;
        self.unused = index;
        self.sources[source as usize] -= 1;
        self.used -= 1;
    }
}

impl DatagramKey {
    pub(super) fn hash(&self, [k0, k1]: [u64; 2]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(k0, k1);
        for half in [self.source.halves(), self.destination.halves()].as_flattened() {
            hasher.write_u64(*half);
        }
        hasher.write_u32(self.identification);
        hasher.write_u16(self.zone);
        hasher.write_u8(self.protocol);
        hasher.write_u8(self.family as u8);
        hasher.finish()
    }

    pub(super) const UNUSED: DatagramKey = DatagramKey {
        source: Address::ZERO,
        destination: Address::ZERO,
        identification: 0,
        zone: 0,
        protocol: 0,
        family: Family::V4,
    };

    pub(super) fn of(view: &PacketView, fragment: Fragment) -> DatagramKey {
        DatagramKey {
            source: view.key.source,
            destination: view.key.destination,
            identification: fragment.identification,
            zone: view.key.zone,
            protocol: match view.key.family {
                Family::V4 => view.key.protocol,
                Family::V6 => 0,
            },
            family: view.key.family,
        }
    }
}

impl Entry {
    const UNUSED: Entry = Entry {
        key: DatagramKey::UNUSED,
        flow: FlowKey {
            source: Address::ZERO,
            destination: Address::ZERO,
            source_port: 0,
            destination_port: 0,
            zone: 0,
            protocol: 0,
            family: Family::V4,
        },
        expires_us: 0,
        next: NONE,
        older: NONE,
        newer: NONE,
        source: 0,
        covered: Covered {
            ranges: [(0, 0); FRAGMENTS_PER_DATAGRAM_MAX],
            count: 0,
            poisoned: false,
            total_bytes: None,
        },
    };
}

impl Covered {
    fn add(&mut self, fragment: Fragment, data_bytes: u32) -> Result<(), DropReason> {
        if self.poisoned {
            return Err(DropReason::FragmentOverlap);
        }
        let start = fragment.offset_bytes;
        // The parser refuses fragments that reach further.
        let end = u16::try_from(u32::from(start) + data_bytes).unwrap_or(u16::MAX);
        let count = usize::from(self.count);
        let passed = &self.ranges[..count];
        // The ones before `at` begin before this one; fragments mostly come in order.
        let at = passed
            .iter()
            .rposition(|range| range.0 < start)
            .map_or(0, |index| index + 1);
        let same_last = fragment.more != (self.total_bytes == Some(end));
        if passed.get(at) == Some(&(start, end)) && same_last {
            return Err(DropReason::FragmentOverlap);
        }
        let overlaps_before = at > 0 && passed[at - 1].1 > start;
        let overlaps_behind = passed.get(at).is_some_and(|range| range.0 < end);
        let lies_about_end = match (self.total_bytes, fragment.more) {
            (Some(total_bytes), true) => end > total_bytes,
            (Some(_), false) => true,
            (None, true) => false,
            (None, false) => passed.last().is_some_and(|range| range.1 > end),
        };
        if overlaps_before || overlaps_behind || lies_about_end {
            self.poisoned = true;
            return Err(DropReason::FragmentOverlap);
        }
        if count == FRAGMENTS_PER_DATAGRAM_MAX {
            return Err(DropReason::FragmentTableFull);
        }
        self.ranges.copy_within(at..count, at + 1);
        self.ranges[at] = (start, end);
        self.count += 1;
        if !fragment.more {
            self.total_bytes = Some(end);
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        let Some(total_bytes) = self.total_bytes else {
            return false;
        };
        let passed = &self.ranges[..usize::from(self.count)];
        let passed_bytes: u32 = passed
            .iter()
            .map(|range| u32::from(range.1 - range.0))
            .sum();
        passed_bytes == u32::from(total_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::sample::{self, Ipv4, fragment_header, ipv6_frame};
    use crate::wire::{ParseOptions, Parsed, parse, protocol};

    const SECOND_US: u64 = 1_000_000;

    fn tracker() -> FragmentTracker {
        FragmentTracker::new(FragmentLimits::default(), [1, 2])
    }

    /// A UDP fragment of `data_bytes` at `offset_bytes` of datagram `id` from `host`.
    fn view(host: u8, id: u16, offset_bytes: u16, data_bytes: usize, more: bool) -> PacketView {
        let header = Ipv4 {
            source: [198, 18, 0, host],
            identification: id,
            flags_and_offset: (offset_bytes / 8) | if more { 0x2000 } else { 0 },
            ..Ipv4::new(protocol::UDP)
        };
        let mut data = sample::udp(&[]);
        data.resize(data_bytes, 0);
        sample::view(&header.frame(&data))
    }

    fn flow(view: &PacketView) -> FlowKey {
        FlowKey {
            source_port: 40000,
            destination_port: 53,
            ..view.key
        }
    }

    fn first(tracker: &mut FragmentTracker, now_us: u64, view: &PacketView) -> Option<DropReason> {
        tracker.first(now_us, view, flow(view)).err()
    }

    fn later(tracker: &mut FragmentTracker, now_us: u64, view: &PacketView) -> Option<DropReason> {
        match tracker.later(now_us, view) {
            Ok(found) => {
                assert_eq!(found, flow(view));
                None
            }
            Err(reason) => Some(reason),
        }
    }

    const WITHOUT_FIRST: Option<DropReason> = Some(DropReason::FragmentWithoutFirst);
    const OVERLAP: Option<DropReason> = Some(DropReason::FragmentOverlap);
    const FULL: Option<DropReason> = Some(DropReason::FragmentTableFull);

    #[test]
    fn a_datagram_passes_and_is_forgotten() {
        let mut tracker = tracker();
        assert_eq!(first(&mut tracker, 0, &view(1, 1, 0, 1200, true)), None);
        assert_eq!(later(&mut tracker, 1, &view(1, 1, 2400, 100, false)), None);
        assert_eq!(tracker.datagrams(), 1);
        assert_eq!(later(&mut tracker, 2, &view(1, 1, 1200, 1200, true)), None);
        assert_eq!(tracker.datagrams(), 0);
        let late = view(1, 1, 1200, 1200, true);
        assert_eq!(later(&mut tracker, 3, &late), WITHOUT_FIRST);
    }

    #[test]
    fn later_fragments_need_the_first() {
        let mut tracker = tracker();
        assert_eq!(
            later(&mut tracker, 0, &view(1, 1, 1200, 100, false)),
            WITHOUT_FIRST
        );
        assert_eq!(first(&mut tracker, 0, &view(1, 1, 0, 1200, true)), None);
        // Another identification, another host.
        assert_eq!(
            later(&mut tracker, 0, &view(1, 2, 1200, 100, false)),
            WITHOUT_FIRST
        );
        assert_eq!(
            later(&mut tracker, 0, &view(2, 1, 1200, 100, false)),
            WITHOUT_FIRST
        );
        // Another zone, another protocol.
        let mut other = view(1, 1, 1200, 100, false);
        other.key.zone = 5;
        assert_eq!(later(&mut tracker, 0, &other), WITHOUT_FIRST);
        let mut other = view(1, 1, 1200, 100, false);
        other.key.protocol = protocol::GRE;
        assert_eq!(later(&mut tracker, 0, &other), WITHOUT_FIRST);
        assert_eq!(later(&mut tracker, 0, &view(1, 1, 1200, 100, false)), None);
    }

    #[test]
    fn ipv6_fragments_may_differ_in_next_header() {
        let fragment = |next_header, offset, more, data: &[u8]| {
            let header = fragment_header(next_header, offset, more, 9);
            sample::view(&ipv6_frame(44, &[&header, data].concat()))
        };
        let mut tracker = tracker();
        let data = [60, 0, 1, 4, 0, 0, 0, 0];
        let data = [&data, sample::udp(&[]).as_slice()].concat();
        let mut data = data;
        data[0] = protocol::UDP;
        let opening = fragment(60, 0, true, &data);
        assert_eq!(tracker.first(0, &opening, opening.key), Ok(()));
        let closing = fragment(protocol::UDP, 16, false, &[0; 5]);
        assert_eq!(tracker.later(0, &closing), Ok(opening.key));
    }

    #[test]
    fn overlaps_poison_the_datagram() {
        // Each is sent after 0..1200 and 2400..3000 (the last) passed.
        for (offset, data_bytes, more) in [
            (1192, 16, true),
            (8, 8, true),
            (2000, 408, true),
            (2400, 8, true),
            (2400, 600, true),
            (3000, 8, true),
            (2400, 608, false),
            (1200, 8, false),
            (3200, 8, false),
        ] {
            let mut tracker = tracker();
            assert_eq!(first(&mut tracker, 0, &view(1, 1, 0, 1200, true)), None);
            assert_eq!(later(&mut tracker, 0, &view(1, 1, 2400, 600, false)), None);
            let overlapping = view(1, 1, offset, data_bytes, more);
            assert_eq!(later(&mut tracker, 0, &overlapping), OVERLAP, "{offset}");
            // The missing one does not pass any more.
            assert_eq!(
                later(&mut tracker, 0, &view(1, 1, 1200, 1200, true)),
                OVERLAP,
                "{offset}"
            );
        }
        // Another first fragment.
        let mut tracker = tracker();
        assert_eq!(first(&mut tracker, 0, &view(1, 1, 0, 1200, true)), None);
        assert_eq!(first(&mut tracker, 0, &view(1, 1, 0, 800, true)), OVERLAP);
        assert_eq!(later(&mut tracker, 0, &view(1, 1, 1200, 8, false)), OVERLAP);
    }

    #[test]
    fn duplicates_are_dropped_and_do_no_harm() {
        let mut tracker = tracker();
        assert_eq!(first(&mut tracker, 0, &view(1, 1, 0, 1200, true)), None);
        assert_eq!(first(&mut tracker, 0, &view(1, 1, 0, 1200, true)), OVERLAP);
        assert_eq!(later(&mut tracker, 0, &view(1, 1, 2400, 600, false)), None);
        assert_eq!(
            later(&mut tracker, 0, &view(1, 1, 2400, 600, false)),
            OVERLAP
        );
        assert_eq!(later(&mut tracker, 0, &view(1, 1, 1200, 1200, true)), None);
        assert_eq!(tracker.datagrams(), 0);
    }

    #[test]
    fn datagrams_expire() {
        let mut tracker = tracker();
        assert_eq!(first(&mut tracker, 0, &view(1, 1, 0, 800, true)), None);
        assert_eq!(
            later(&mut tracker, 10 * SECOND_US - 1, &view(1, 1, 800, 8, true)),
            None
        );
        let tardy = view(1, 1, 808, 8, true);
        assert_eq!(later(&mut tracker, 10 * SECOND_US, &tardy), WITHOUT_FIRST);
        assert_eq!(tracker.datagrams(), 0);
        // A new datagram may use the identification again.
        assert_eq!(
            first(&mut tracker, 10 * SECOND_US, &view(1, 1, 0, 1200, true)),
            None
        );
    }

    #[test]
    fn whole_packets_and_atomic_fragments_leave_no_trace() {
        let mut tracker = tracker();
        let whole = view(1, 1, 0, 100, false);
        assert_eq!(first(&mut tracker, 0, &whole), None);
        let atomic = [fragment_header(17, 0, false, 9), sample::udp(&[])].concat();
        let atomic = sample::view(&ipv6_frame(44, &atomic));
        assert_eq!(first(&mut tracker, 0, &atomic), None);
        assert_eq!(tracker.datagrams(), 0);
        assert_eq!(later(&mut tracker, 0, &whole), WITHOUT_FIRST);
    }

    #[test]
    fn fragments_of_a_datagram_are_bounded() {
        let mut tracker = tracker();
        assert_eq!(first(&mut tracker, 0, &view(1, 1, 0, 8, true)), None);
        for index in 1..FRAGMENTS_PER_DATAGRAM_MAX as u16 {
            assert_eq!(
                later(&mut tracker, 0, &view(1, 1, index * 8, 8, true)),
                None
            );
        }
        let one_more = FRAGMENTS_PER_DATAGRAM_MAX as u16 * 8;
        assert_eq!(later(&mut tracker, 0, &view(1, 1, one_more, 8, true)), FULL);
    }

    #[test]
    fn one_source_cannot_fill_the_table() {
        let limits = FragmentLimits {
            datagrams_max: 64,
            datagrams_per_source_max: 8,
            lifetime_us: 10 * SECOND_US,
            ..FragmentLimits::default()
        };
        let mut tracker = FragmentTracker::new(limits, [1, 2]);
        for id in 0..100 {
            let expected = if id < 8 { None } else { FULL };
            assert_eq!(first(&mut tracker, 0, &view(1, id, 0, 800, true)), expected);
        }
        // Completing one makes room for another, but for no more.
        assert_eq!(later(&mut tracker, 0, &view(1, 3, 800, 8, false)), None);
        assert_eq!(first(&mut tracker, 0, &view(1, 50, 0, 800, true)), None);
        assert_eq!(first(&mut tracker, 0, &view(1, 51, 0, 800, true)), FULL);
        for host in 2..9 {
            for id in 0..8 {
                assert_eq!(first(&mut tracker, 1, &view(host, id, 0, 800, true)), None);
            }
        }
        assert_eq!(tracker.datagrams(), 64);
        assert_eq!(first(&mut tracker, 1, &view(9, 0, 0, 800, true)), FULL);
        // Completing one makes room, and so does time.
        assert_eq!(later(&mut tracker, 1, &view(2, 0, 800, 8, false)), None);
        assert_eq!(first(&mut tracker, 1, &view(9, 0, 0, 800, true)), None);
        for host in 10..17 {
            let now_us = 10 * SECOND_US + 1;
            assert_eq!(
                first(&mut tracker, now_us, &view(host, 0, 0, 800, true)),
                None
            );
        }
    }

    #[test]
    fn a_prefix_of_ipv6_is_one_source() {
        let limits = FragmentLimits {
            datagrams_per_source_max: 8,
            ..FragmentLimits::default()
        };
        let mut tracker = FragmentTracker::new(limits, [1, 2]);
        for host in 0..16u8 {
            let header = fragment_header(17, 0, true, 1);
            let mut frame = ipv6_frame(44, &[header, sample::udp(&[0; 8])].concat());
            frame[14 + 23] = host;
            let expected = if host < 8 { None } else { FULL };
            assert_eq!(first(&mut tracker, 0, &sample::view(&frame)), expected);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let limits = FragmentLimits::default();
        let entries = limits.datagrams_max as usize * size_of::<Entry>();
        let slots = limits.datagrams_max.next_power_of_two() as usize;
        assert!(entries + slots * 5 * size_of::<u32>() <= 4 << 20);
    }

    /// Start, end, more.
    type Range = (u32, u32, bool);

    /// The obvious slow tracker: which fragments of each datagram passed, compared pairwise. A
    /// datagram has its time of expiry, what passed, and whether it is poisoned.
    #[derive(Default)]
    struct Reference {
        datagrams: HashMap<(u8, u16), (u64, Vec<Range>, bool)>,
    }

    impl Reference {
        fn pass(
            &mut self,
            now_us: u64,
            key: (u8, u16),
            (start, end, more): Range,
        ) -> Option<DropReason> {
            self.datagrams.retain(|_, datagram| datagram.0 > now_us);
            if start == 0 {
                let new = (now_us + 10 * SECOND_US, Vec::new(), false);
                self.datagrams.entry(key).or_insert(new);
            }
            let Some((_, passed, poisoned)) = self.datagrams.get_mut(&key) else {
                return WITHOUT_FIRST;
            };
            if *poisoned || passed.contains(&(start, end, more)) {
                return OVERLAP;
            }
            let contradicts = |other: &Range| {
                let overlap = start < other.1 && other.0 < end;
                let behind_last = (!other.2 && end > other.1) || (!more && other.1 > end);
                overlap || behind_last || (!more && !other.2)
            };
            if passed.iter().any(contradicts) {
                *poisoned = true;
                return OVERLAP;
            }
            passed.push((start, end, more));
            let bytes: u32 = passed.iter().map(|range| range.1 - range.0).sum();
            if passed.iter().any(|range| !range.2 && range.1 == bytes) {
                self.datagrams.remove(&key);
            }
            None
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn equals_the_obvious_tracker(
            fragments in vec((1..3u8, 0..2u16, 0..6u16, 1..4u16, 0..4u8, 0..2u64), 1..40),
        ) {
            let mut tracker = tracker();
            let mut reference = Reference::default();
            let mut now_us = 0;
            for (host, id, offset, words, kind, seconds) in fragments {
                now_us += seconds * SECOND_US;
                let more = kind != 0 || offset == 0;
                let (start, bytes) = (offset * 8, words * 8);
                let view = view(host, id, start, bytes as usize, more);
                let found = match start {
                    0 => first(&mut tracker, now_us, &view),
                    _ => later(&mut tracker, now_us, &view),
                };
                let range = (u32::from(start), u32::from(start + bytes), more);
                prop_assert_eq!(found, reference.pass(now_us, (host, id), range));
                prop_assert!(tracker.datagrams() as usize >= reference.datagrams.len());
            }
        }

        #[test]
        fn no_frame_panics(frames in vec(sample::mutated(), 1..20)) {
            let mut tracker = tracker();
            for frame in frames {
                if let Ok(Parsed::Ip(view)) = parse(&frame, &ParseOptions::default()) {
                    let _ = tracker.first(0, &view, view.key);
                    let _ = tracker.later(0, &view);
                }
            }
        }
    }
}
