//! The bounded flow table: two keys a flow, one index for both, everything allocated at start.
//!
//! Each key hashes to two candidate buckets of eight entries and is stored in the emptier one, so a
//! look-up reads at most sixteen tags, whatever an attacker sends: there is no chain to grow. The
//! hash is SipHash-1-3 under a random key of this start. The index has room for twice the entries
//! it can hold; both candidates being full is therefore an accident of about one in 10⁹ insertions,
//! and is reported like a full table.
//!
//! Unreplied flows form a list in order of creation: the oldest one makes room when the table or
//! the half-open limit is reached. Flows with traffic both ways are never evicted for a new one.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::flow::{Flow, FlowDirection};
use crate::dataplane::prefetch::prefetch;
use crate::wire::FlowKey;

/// Refers to a flow of one table, until that flow is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowRef(u32);

/// Why a flow could not be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertError {
    /// Full of flows that may not be evicted.
    TableFull,
    /// One of the two keys already belongs to a flow.
    KeyExists,
}

/// Flow counts and what happened at the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableStatistics {
    /// Live flows.
    pub flows: u32,
    /// Of these, not answered yet.
    pub unreplied: u32,
    /// Flows created since start.
    pub created: u64,
    /// Flows that reached their deadline.
    pub expired: u64,
    /// Unreplied flows removed to make room for new ones.
    pub evicted: u64,
}

const BUCKET_ENTRIES: usize = 8;
const NO_SLOT: u32 = u32::MAX;
/// Slots one sweep step looks at at the most; bounds the time a batch can lose to expiry.
const SWEEP_SLOTS: usize = 256;
/// Time in which steps come round the table, as far as that limit lets them. By time and not by
/// step: a step comes after every batch, and a slot looked at is a line of memory fetched.
const SWEEP_ROUND_US: u64 = 4_000_000;

/// One cache line of the index. A tag of 0 is an empty entry.
#[derive(Clone)]
#[repr(align(64))]
struct Bucket {
    tags: [u16; BUCKET_ENTRIES],
    /// Slot << 1 | direction.
    entries: [u32; BUCKET_ENTRIES],
}

const EMPTY_BUCKET: Bucket = Bucket {
    tags: [0; BUCKET_ENTRIES],
    entries: [0; BUCKET_ENTRIES],
};

/// A flow's memory, and its place in the list of unreplied flows.
#[derive(Clone)]
struct Slot {
    flow: Option<Flow>,
    /// In the list of unreplied flows: towards the older one; in the free list: the next free slot.
    previous: u32,
    next: u32,
    listed: bool,
}

/// Where a key may be stored in one table's index, and its tag: the hash of the key, to look it up
/// with more than once.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    buckets: [u32; 2],
    tag: u16,
}

/// The flows of one worker.
pub struct FlowTable {
    buckets: Box<[Bucket]>,
    slots: Vec<Slot>,
    flows_max: u32,
    half_open_max: u32,
    free_head: u32,
    oldest_unreplied: u32,
    newest_unreplied: u32,
    hash_key: (u64, u64),
    sweep_at: usize,
    swept_us: u64,
    statistics: TableStatistics,
}

impl FlowTable {
    /// Allocates a table for `flows_max` flows, of which `half_open_max` may wait for their first
    /// answer. `hash_key` must be unpredictable: random, and another at each start.
    ///
    /// # Panics
    /// When `flows_max` is 0 or exceeds 2³⁰.
    pub fn new(flows_max: u32, half_open_max: u32, hash_key: (u64, u64)) -> Self {
        assert!((1..=1 << 30).contains(&flows_max));
        let entries = flows_max as usize * 2;
        let buckets = (entries * 2).div_ceil(BUCKET_ENTRIES).next_power_of_two();
        FlowTable {
            buckets: vec![EMPTY_BUCKET; buckets].into_boxed_slice(),
            slots: Vec::with_capacity(flows_max as usize),
            flows_max,
            half_open_max: half_open_max.clamp(1, flows_max),
            free_head: NO_SLOT,
            oldest_unreplied: NO_SLOT,
            newest_unreplied: NO_SLOT,
            hash_key,
            sweep_at: 0,
            swept_us: 0,
            statistics: TableStatistics::default(),
        }
    }

    /// Finds the live flow a key belongs to, and the direction of the key. A flow past its deadline
    /// is removed and not found.
    #[inline]
    pub fn find(&mut self, key: &FlowKey, now_us: u64) -> Option<(FlowRef, FlowDirection)> {
        self.find_at(self.place(key), key, now_us)
    }

    /// The same for a key whose place is known.
    #[inline]
    pub fn find_at(
        &mut self,
        place: Place,
        key: &FlowKey,
        now_us: u64,
    ) -> Option<(FlowRef, FlowDirection)> {
        let (found, direction) = self.find_any(place, key)?;
        if self.get(found).deadline_us <= now_us {
            self.statistics.expired += 1;
            self.remove(found);
            return None;
        }
        Some((found, direction))
    }

    /// Starts to fetch the index at a place: the first thing a look-up waits for.
    #[inline]
    pub fn fetch_index(&self, place: Place) {
        for bucket in place.buckets {
            prefetch(&self.buckets[bucket as usize]);
        }
    }

    /// Starts to fetch the flow that probably has this place, once the index is there.
    #[inline]
    pub fn fetch_flow(&self, place: Place) {
        for bucket in place.buckets {
            let bucket = &self.buckets[bucket as usize];
            for i in 0..BUCKET_ENTRIES {
                if bucket.tags[i] == place.tag {
                    prefetch(&self.slots[(bucket.entries[i] >> 1) as usize]);
                }
            }
        }
    }

    /// The flow behind a reference.
    ///
    /// # Panics
    /// When the flow has been removed.
    #[inline]
    pub fn get(&self, flow: FlowRef) -> &Flow {
        self.slots[flow.0 as usize]
            .flow
            .as_ref()
            .expect("a reference outlived its flow")
    }

    /// The flow behind a reference, to change it. After changing its state call
    /// [`FlowTable::settle`].
    ///
    /// # Panics
    /// When the flow has been removed.
    #[inline]
    pub fn get_mut(&mut self, flow: FlowRef) -> &mut Flow {
        self.slots[flow.0 as usize]
            .flow
            .as_mut()
            .expect("a reference outlived its flow")
    }

    /// Adds a flow under both its keys, evicting the oldest unreplied flow where a limit is
    /// reached.
    pub fn insert(&mut self, flow: Flow, now_us: u64) -> Result<FlowRef, InsertError> {
        let symmetric = flow.original == flow.reply;
        if self.find(&flow.original, now_us).is_some() {
            return Err(InsertError::KeyExists);
        }
        if !symmetric && self.find(&flow.reply, now_us).is_some() {
            return Err(InsertError::KeyExists);
        }
        let half_open = flow.is_unreplied() && self.statistics.unreplied >= self.half_open_max;
        if (half_open || self.statistics.flows >= self.flows_max) && !self.evict() {
            return Err(InsertError::TableFull);
        }
        let (original, reply) = (self.place(&flow.original), self.place(&flow.reply));
        let unreplied = flow.is_unreplied();
        let slot = self.take_slot(flow);
        if !self.index(original, slot << 1) {
            self.release_slot(slot);
            return Err(InsertError::TableFull);
        }
        if !symmetric && !self.index(reply, slot << 1 | 1) {
            self.unindex(original, slot << 1);
            self.release_slot(slot);
            return Err(InsertError::TableFull);
        }
        if unreplied {
            self.list(slot);
        }
        self.statistics.flows += 1;
        self.statistics.created += 1;
        Ok(FlowRef(slot))
    }

    /// Brings the list of unreplied flows up to date after a flow's state has changed.
    #[inline]
    pub fn settle(&mut self, flow: FlowRef) {
        let slot = &self.slots[flow.0 as usize];
        let unreplied = slot.flow.as_ref().is_some_and(Flow::is_unreplied);
        if slot.listed != unreplied {
            if unreplied {
                self.list(flow.0);
            } else {
                self.unlist(flow.0);
            }
        }
    }

    /// Removes a flow.
    ///
    /// # Panics
    /// When the flow has been removed before.
    pub fn remove(&mut self, flow: FlowRef) {
        let (original, reply) = {
            let flow = self.get(flow);
            (flow.original, flow.reply)
        };
        self.unindex(self.place(&original), flow.0 << 1);
        if original != reply {
            self.unindex(self.place(&reply), flow.0 << 1 | 1);
        }
        if self.slots[flow.0 as usize].listed {
            self.unlist(flow.0);
        }
        self.release_slot(flow.0);
        self.statistics.flows -= 1;
    }

    /// Removes expired flows among the next few slots; called once a batch and when idle.
    pub fn sweep(&mut self, now_us: u64) {
        let since_us = now_us.saturating_sub(self.swept_us).min(SWEEP_ROUND_US);
        let due = since_us * self.slots.len() as u64 / SWEEP_ROUND_US;
        if due == 0 {
            return;
        }
        self.swept_us = now_us;
        for _ in 0..SWEEP_SLOTS.min(due as usize) {
            if self.sweep_at >= self.slots.len() {
                self.sweep_at = 0;
            }
            let slot = self.sweep_at;
            self.sweep_at += 1;
            if self.slots[slot]
                .flow
                .as_ref()
                .is_some_and(|flow| flow.deadline_us <= now_us)
            {
                self.statistics.expired += 1;
                self.remove(FlowRef(slot as u32));
            }
        }
    }

    /// Every live flow, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.slots.iter().filter_map(|slot| slot.flow.as_ref())
    }

    /// Counts.
    #[inline]
    pub fn statistics(&self) -> TableStatistics {
        self.statistics
    }

    #[inline]
    fn find_any(&self, place: Place, key: &FlowKey) -> Option<(FlowRef, FlowDirection)> {
        for bucket in place.buckets {
            let bucket = &self.buckets[bucket as usize];
            for i in 0..BUCKET_ENTRIES {
                if bucket.tags[i] != place.tag {
                    continue;
                }
                let (slot, reply) = (bucket.entries[i] >> 1, bucket.entries[i] & 1 != 0);
                let Some(flow) = &self.slots[slot as usize].flow else {
                    continue;
                };
                if !reply && flow.original == *key {
                    return Some((FlowRef(slot), FlowDirection::Original));
                }
                if reply && flow.reply == *key {
                    return Some((FlowRef(slot), FlowDirection::Reply));
                }
            }
        }
        None
    }

    /// Where a key stands if it is in the table.
    #[inline]
    pub fn place(&self, key: &FlowKey) -> Place {
        let mut hasher = SipHasher13::new_with_keys(self.hash_key.0, self.hash_key.1);
        let [source_high, source_low] = key.source.halves();
        let [destination_high, destination_low] = key.destination.halves();
        hasher.write_u64(source_high);
        hasher.write_u64(source_low);
        hasher.write_u64(destination_high);
        hasher.write_u64(destination_low);
        hasher.write_u64(
            u64::from(key.source_port)
                | u64::from(key.destination_port) << 16
                | u64::from(key.zone) << 32
                | u64::from(key.protocol) << 48
                | (key.family as u64) << 56,
        );
        let hash = hasher.finish();
        let mask = self.buckets.len() as u32 - 1;
        Place {
            buckets: [hash as u32 & mask, (hash >> 24) as u32 & mask],
            tag: (hash >> 48) as u16 | 1,
        }
    }

    /// Stores an entry in the emptier of its two buckets; false when both are full.
    fn index(&mut self, place: Place, entry: u32) -> bool {
        let free = |bucket: u32| {
            let tags = &self.buckets[bucket as usize].tags;
            tags.iter().filter(|&&tag| tag == 0).count()
        };
        let [one, other] = place.buckets;
        let bucket = if free(other) > free(one) { other } else { one };
        let bucket = &mut self.buckets[bucket as usize];
        let Some(i) = bucket.tags.iter().position(|&tag| tag == 0) else {
            return false;
        };
        bucket.tags[i] = place.tag;
        bucket.entries[i] = entry;
        true
    }

    fn unindex(&mut self, place: Place, entry: u32) {
        for bucket in place.buckets {
            let bucket = &mut self.buckets[bucket as usize];
            for i in 0..BUCKET_ENTRIES {
                if bucket.tags[i] == place.tag && bucket.entries[i] == entry {
                    bucket.tags[i] = 0;
                    return;
                }
            }
        }
        debug_assert!(false, "an indexed key was not found in its buckets");
    }

    /// Removes the oldest unreplied flow; false when there is none.
    fn evict(&mut self) -> bool {
        if self.oldest_unreplied == NO_SLOT {
            return false;
        }
        self.statistics.evicted += 1;
        self.remove(FlowRef(self.oldest_unreplied));
        true
    }

    fn take_slot(&mut self, flow: Flow) -> u32 {
        if self.free_head == NO_SLOT {
            // Within the capacity allocated at start: insert() keeps flows below flows_max.
            self.slots.push(Slot {
                flow: Some(flow),
                previous: NO_SLOT,
                next: NO_SLOT,
                listed: false,
            });
            return self.slots.len() as u32 - 1;
        }
        let slot = self.free_head;
        self.free_head = self.slots[slot as usize].next;
        self.slots[slot as usize].flow = Some(flow);
        slot
    }

    fn release_slot(&mut self, slot: u32) {
        let free = &mut self.slots[slot as usize];
        free.flow = None;
        free.next = self.free_head;
        self.free_head = slot;
    }

    fn list(&mut self, slot: u32) {
        let newest = self.newest_unreplied;
        let entry = &mut self.slots[slot as usize];
        (entry.previous, entry.next, entry.listed) = (newest, NO_SLOT, true);
        if newest == NO_SLOT {
            self.oldest_unreplied = slot;
        } else {
            self.slots[newest as usize].next = slot;
        }
        self.newest_unreplied = slot;
        self.statistics.unreplied += 1;
    }

    fn unlist(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        let (previous, next) = (entry.previous, entry.next);
        entry.listed = false;
        match previous {
            NO_SLOT => self.oldest_unreplied = next,
            previous => self.slots[previous as usize].next = next,
        }
        match next {
            NO_SLOT => self.newest_unreplied = previous,
            next => self.slots[next as usize].previous = previous,
        }
        self.statistics.unreplied -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::conntrack::FlowState;
    use crate::wire::{Address, Family, protocol};

    fn key(number: u32) -> FlowKey {
        FlowKey {
            source: Address::from_bits(number.into()),
            destination: Address::from_bits(1 << 31),
            source_port: 1000,
            destination_port: 53,
            zone: 0,
            protocol: protocol::UDP,
            family: Family::V4,
        }
    }

    fn flow(number: u32, state: FlowState, now_us: u64, deadline_us: u64) -> Flow {
        let original = key(number);
        let mut flow = Flow::new(original, original.reversed().unwrap(), state, now_us);
        flow.deadline_us = deadline_us;
        flow
    }

    #[test]
    fn a_flow_and_its_index_entries_fit_in_256_bytes() {
        let index = size_of::<Bucket>() / BUCKET_ENTRIES * 2 * 2;
        assert!(
            size_of::<Slot>() + index <= 256,
            "{} + {index}",
            size_of::<Slot>()
        );
    }

    #[test]
    fn replied_flows_are_never_evicted_and_unreplied_ones_go_oldest_first() {
        let mut table = FlowTable::new(3, 3, (1, 2));
        table
            .insert(flow(1, FlowState::Replied, 0, 100), 0)
            .unwrap();
        table
            .insert(flow(2, FlowState::Unreplied, 0, 100), 0)
            .unwrap();
        table
            .insert(flow(3, FlowState::Unreplied, 0, 100), 0)
            .unwrap();
        table
            .insert(flow(4, FlowState::Replied, 0, 100), 0)
            .unwrap();
        assert!(
            table.find(&key(2), 0).is_none(),
            "the oldest unreplied flow made room"
        );
        table
            .insert(flow(5, FlowState::Replied, 0, 100), 0)
            .unwrap();
        assert!(table.find(&key(3), 0).is_none());
        let full = table.insert(flow(6, FlowState::Unreplied, 0, 100), 0);
        assert_eq!(full, Err(InsertError::TableFull));
        for live in [1, 4, 5] {
            assert!(table.find(&key(live), 0).is_some());
        }
        assert_eq!(table.statistics().evicted, 2);
    }

    #[test]
    fn the_half_open_limit_evicts_before_the_table_is_full() {
        let mut table = FlowTable::new(100, 2, (1, 2));
        for number in 1..=3 {
            table
                .insert(flow(number, FlowState::Unreplied, 0, 100), 0)
                .unwrap();
        }
        assert_eq!(
            (table.statistics().unreplied, table.statistics().evicted),
            (2, 1)
        );
        let (second, _) = table.find(&key(2), 0).unwrap();
        table.get_mut(second).state = FlowState::Replied;
        table.settle(second);
        table
            .insert(flow(4, FlowState::Unreplied, 0, 100), 0)
            .unwrap();
        assert_eq!(
            (table.statistics().unreplied, table.statistics().evicted),
            (2, 1)
        );
    }

    #[test]
    fn an_expired_flow_is_not_found_and_its_key_is_free_again() {
        let mut table = FlowTable::new(4, 4, (1, 2));
        table
            .insert(flow(1, FlowState::Replied, 0, 100), 0)
            .unwrap();
        assert_eq!(
            table.insert(flow(1, FlowState::Replied, 0, 100), 99),
            Err(InsertError::KeyExists)
        );
        assert!(table.find(&key(1).reversed().unwrap(), 100).is_none());
        table
            .insert(flow(1, FlowState::Replied, 100, 200), 100)
            .unwrap();
    }

    #[test]
    fn a_full_table_of_the_default_shape_takes_every_flow() {
        // The index is at its design load of one half.
        let mut table = FlowTable::new(1 << 16, 1 << 16, (3, 4));
        for number in 0..1 << 16 {
            table
                .insert(flow(number, FlowState::Replied, 0, 100), 0)
                .unwrap();
        }
        assert_eq!(table.iter().count(), 1 << 16);
    }

    #[test]
    fn a_sweep_takes_the_share_of_the_table_that_the_time_is_of_a_round() {
        let mut table = FlowTable::new(1000, 1000, (1, 2));
        for number in 0..1000 {
            table
                .insert(flow(number, FlowState::Replied, 0, 1), 0)
                .unwrap();
        }
        let mut now_us = 0;
        let mut sweep = |after_us| {
            now_us += after_us;
            let before = table.statistics().flows;
            table.sweep(now_us);
            before - table.statistics().flows
        };
        assert_eq!(sweep(SWEEP_ROUND_US / 1000 - 1), 0);
        assert_eq!(sweep(1), 1, "time that was not enough counts the next time");
        assert_eq!(sweep(SWEEP_ROUND_US / 100), 10);
        assert_eq!(sweep(SWEEP_ROUND_US), SWEEP_SLOTS as u32);
    }

    /// Life of a flow in the model.
    const LIFE_US: u64 = SWEEP_ROUND_US / 2;

    #[derive(Debug, Clone)]
    enum Operation {
        Insert(u32, bool),
        Find(u32, bool),
        Remove(u32),
        Answer(u32),
        Sweep,
        Wait(u64),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let number = 0..40u32;
        prop_oneof![
            4 => (number.clone(), any::<bool>()).prop_map(|(n, r)| Operation::Insert(n, r)),
            4 => (number.clone(), any::<bool>()).prop_map(|(n, r)| Operation::Find(n, r)),
            1 => number.clone().prop_map(Operation::Remove),
            1 => number.prop_map(Operation::Answer),
            1 => Just(Operation::Sweep),
            1 => (1..LIFE_US * 2 / 3).prop_map(Operation::Wait),
        ]
    }

    proptest! {
        /// The table against a plain map that never evicts: limits above what is inserted.
        #[test]
        fn behaves_as_a_map_with_deadlines(
            operations in proptest::collection::vec(operation(), 1..400),
            hash_key: (u64, u64),
        ) {
            let mut table = FlowTable::new(64, 64, hash_key);
            let mut model: HashMap<u32, u64> = HashMap::new();
            let mut now = 0;
            for operation in operations {
                match operation {
                    Operation::Insert(n, replied) => {
                        let state = if replied { FlowState::Replied } else { FlowState::Unreplied };
                        let expect = match model.get(&n) {
                            Some(&deadline) if deadline > now => Err(InsertError::KeyExists),
                            _ => {
                                model.insert(n, now + LIFE_US);
                                Ok(())
                            }
                        };
                        let got = table.insert(flow(n, state, now, now + LIFE_US), now);
                        prop_assert_eq!(got.map(|_| ()), expect);
                    }
                    Operation::Find(n, reply) => {
                        let key = if reply { key(n).reversed().unwrap() } else { key(n) };
                        let live = model.get(&n).is_some_and(|&deadline| deadline > now);
                        prop_assert_eq!(table.find(&key, now).is_some(), live);
                    }
                    Operation::Remove(n) => {
                        if let Some((found, _)) = table.find(&key(n), now) {
                            table.remove(found);
                            model.remove(&n);
                        }
                    }
                    Operation::Answer(n) => {
                        if let Some((found, _)) = table.find(&key(n), now) {
                            table.get_mut(found).state = FlowState::Replied;
                            table.settle(found);
                        }
                    }
                    Operation::Sweep => table.sweep(now),
                    Operation::Wait(us) => now += us,
                }
            }
            let unreplied = table.iter().filter(|flow| flow.is_unreplied()).count();
            prop_assert_eq!(table.statistics().unreplied as usize, unreplied);
            prop_assert_eq!(table.statistics().flows as usize, table.iter().count());
        }
    }
}
