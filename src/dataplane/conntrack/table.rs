//! The bounded flow table: two keys a flow, one index for both, everything allocated at start.
//!
//! Each key hashes to two candidate buckets of eight entries and is stored in the emptier one, so a
//! look-up reads at most sixteen tags, whatever an attacker sends: there is no chain to grow. The
//! hash is SipHash-1-3 under a random key of this start. The index has room for twice the entries
//! it can hold; both candidates being full is therefore an accident of about one in 10⁹ insertions,
//! and is reported like a full table.
//!
//! Flows that may make room for new ones form three lists in order of arrival, by their
//! [`Worth`]: half-open ones go first, then closing ones, then streams. Open connections are in no
//! list and are never evicted. A source may have so many half-open flows and no more, and under
//! pressure, from three fifths of the table on, every list's flows age faster
//! ([`FlowTable::sweep`]).

mod room;

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::flow::{Flow, FlowDirection, Marks, Worth};
use crate::dataplane::nat::ports::{PortPool, Wish};
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
    /// The source has as many half-open flows as one may have.
    SourceLimit,
}

/// Flow counts and what happened at the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableStatistics {
    /// Live flows.
    pub flows: u32,
    /// Of these, half-open.
    pub unreplied: u32,
    /// Flows created since start.
    pub created: u64,
    /// Flows that reached their deadline.
    pub expired: u64,
    /// Flows removed to make room for new ones.
    pub evicted: u64,
    /// Flows that reached their deadline early, under pressure.
    pub hurried: u64,
    /// Flows refused because their source had too many half-open ones.
    pub source_limited: u64,
}

const BUCKET_ENTRIES: usize = 8;
const NO_SLOT: u32 = u32::MAX;
/// One cache line of the index. A tag of 0 is an empty entry.
#[derive(Clone)]
#[repr(align(64))]
struct Bucket {
    tags: [u16; BUCKET_ENTRIES],
    /// Slot << 1 | direction.
    entries: [u32; BUCKET_ENTRIES],
}

const EMPTY_LIST: List = List {
    oldest: NO_SLOT,
    newest: NO_SLOT,
};

const EMPTY_BUCKET: Bucket = Bucket {
    tags: [0; BUCKET_ENTRIES],
    entries: [0; BUCKET_ENTRIES],
};

/// A flow's memory, and its place in the list of those of its worth.
#[derive(Clone)]
struct Slot {
    flow: Option<Flow>,
    /// In a list: towards the older one.
    previous: u32,
    /// Towards the newer one; in the free list: the next free slot.
    next: u32,
    /// The list it is in; [`NO_LIST`] for none.
    list: u8,
}

/// Flows of one worth, oldest first.
#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

/// Lists of flows that may be evicted: one for each [`Worth`] below `Established`.
const LISTS: usize = Worth::Established as usize;
const NO_LIST: u8 = LISTS as u8;
/// Counters of half-open flows by hash of the source: two sources share one, and its limit, only by
/// an accident that nobody can arrange. One for every so many flows.
const FLOWS_PER_SOURCE_COUNTER: u32 = 4;
/// A source may have half-open this share of the table.
const SOURCE_SHARE: u32 = 16;
/// What a source may have half-open in a table however small, and counters of one.
const SOURCE_FLOWS_MIN: u32 = 64;
const SOURCE_COUNTERS_MIN: u32 = 1024;
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
    source_max: u32,
    /// Half-open flows by hash of their source.
    sources: Box<[u32]>,
    free_head: u32,
    lists: [List; LISTS],
    hash_key: (u64, u64),
    /// External ports of translated flows: given back when their flows are removed.
    ports: PortPool,
    /// Time of the last batch: that of a removal, near enough.
    clock_us: u64,
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
        let counters = (flows_max / FLOWS_PER_SOURCE_COUNTER).next_power_of_two();
        let counters = counters.max(SOURCE_COUNTERS_MIN);
        FlowTable {
            buckets: vec![EMPTY_BUCKET; buckets].into_boxed_slice(),
            slots: Vec::with_capacity(flows_max as usize),
            flows_max,
            half_open_max: half_open_max.clamp(1, flows_max),
            source_max: (flows_max / SOURCE_SHARE).max(SOURCE_FLOWS_MIN),
            sources: vec![0; counters as usize].into_boxed_slice(),
            free_head: NO_SLOT,
            lists: [EMPTY_LIST; LISTS],
            hash_key,
            ports: PortPool::default(),
            clock_us: 0,
            sweep_at: 0,
            swept_us: 0,
            statistics: TableStatistics::default(),
        }
    }

    /// The same, with external ports to give to translated flows.
    pub fn with_ports(self, ports: PortPool) -> Self {
        FlowTable { ports, ..self }
    }

    /// The external ports.
    pub fn ports(&self) -> &PortPool {
        &self.ports
    }

    /// Takes an external port for a connection, such that no other flow has the key its answers
    /// then have; `answers` gives that key, or `None` for a port that is nobody's. The flow is to
    /// be marked [`Marks::HOLDS_PORT`], or the port released.
    pub fn take_port(
        &mut self,
        key: &FlowKey,
        wish: &Wish,
        now_us: u64,
        answers: impl Fn(u16) -> Option<FlowKey>,
    ) -> Option<FlowKey> {
        let mut ports = std::mem::take(&mut self.ports);
        let is_free = |port| answers(port).is_some_and(|reply| !self.is_known(&reply));
        let taken = ports.take(key, wish, now_us, is_free);
        self.ports = ports;
        answers(taken?)
    }

    /// Gives back a port that was taken for a flow which is not in the table.
    pub fn release_port(&mut self, reply: &FlowKey, now_us: u64) {
        self.ports.release(reply, now_us);
    }

    /// Does a flow have this key, expired or not?
    pub fn is_known(&self, key: &FlowKey) -> bool {
        self.find_any(self.place(key), key).is_some()
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

    /// Adds a flow under both its keys, evicting the cheapest and oldest flow where a limit is
    /// reached.
    pub fn insert(&mut self, flow: Flow, now_us: u64) -> Result<FlowRef, InsertError> {
        let symmetric = flow.original == flow.reply();
        if self.find(&flow.original, now_us).is_some() {
            return Err(InsertError::KeyExists);
        }
        if !symmetric && self.find(&flow.reply(), now_us).is_some() {
            return Err(InsertError::KeyExists);
        }
        let half_open = flow.worth() == Worth::HalfOpen;
        if half_open && self.sources[self.source(&flow)] >= self.source_max {
            self.statistics.source_limited += 1;
            return Err(InsertError::SourceLimit);
        }
        let cheapest = match half_open && self.statistics.unreplied >= self.half_open_max {
            true => 1,
            false => LISTS,
        };
        let no_room = cheapest == 1 || self.statistics.flows >= self.flows_max;
        if no_room && !self.evict(cheapest) {
            return Err(InsertError::TableFull);
        }
        let (original, reply) = (self.place(&flow.original), self.place(&flow.reply()));
        let list = flow.worth() as u8;
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
        self.list(slot, list);
        self.statistics.flows += 1;
        self.statistics.created += 1;
        Ok(FlowRef(slot))
    }

    /// Puts a flow in the list it belongs to after its state has changed.
    #[inline]
    pub fn settle(&mut self, flow: FlowRef) {
        let slot = &self.slots[flow.0 as usize];
        let list = slot
            .flow
            .as_ref()
            .map_or(NO_LIST, |flow| flow.worth() as u8);
        if slot.list != list {
            self.unlist(flow.0);
            self.list(flow.0, list);
        }
    }

    /// Removes a flow.
    ///
    /// # Panics
    /// When the flow has been removed before.
    pub fn remove(&mut self, flow: FlowRef) {
        let (original, reply, holds_port) = {
            let flow = self.get(flow);
            let holds_port = flow.marks.has(Marks::HOLDS_PORT);
            (flow.original, flow.reply(), holds_port)
        };
        if holds_port {
            self.ports.release(&reply, self.clock_us);
        }
        self.unindex(self.place(&original), flow.0 << 1);
        if original != reply {
            self.unindex(self.place(&reply), flow.0 << 1 | 1);
        }
        self.unlist(flow.0);
        self.release_slot(flow.0);
        self.statistics.flows -= 1;
    }

    /// Flows it has room for.
    pub fn flows_max(&self) -> u32 {
        self.flows_max
    }

    /// A live flow by the number of its slot, for walking through the table in steps.
    pub fn at(&self, slot: u32) -> Option<(FlowRef, &Flow)> {
        let flow = self.slots.get(slot as usize)?.flow.as_ref()?;
        Some((FlowRef(slot), flow))
    }

    /// Slots used so far: one more than the highest that [`FlowTable::at`] knows.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
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
                if reply && flow.reply() == *key {
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

    fn take_slot(&mut self, flow: Flow) -> u32 {
        if self.free_head == NO_SLOT {
            // Within the capacity allocated at start: insert() keeps flows below flows_max.
            self.slots.push(Slot {
                flow: Some(flow),
                previous: NO_SLOT,
                next: NO_SLOT,
                list: NO_LIST,
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
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::room::{SWEEP_ROUND_US, SWEEP_SLOTS};
    use super::*;
    use crate::dataplane::conntrack::FlowState;
    use crate::dataplane::conntrack::Timeouts;
    use crate::dataplane::conntrack::tcp::TcpState;
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
        flow.marks
            .put(Marks::REPLIED, state != FlowState::Unreplied);
        flow.deadline_us = deadline_us;
        flow
    }

    const OPEN: FlowState = FlowState::Tcp(TcpState::Established);
    const CLOSING: FlowState = FlowState::Tcp(TcpState::FinWait);

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
    fn the_cheapest_flows_make_room_oldest_first_and_open_connections_never() {
        let mut table = FlowTable::new(5, 5, (1, 2));
        for (number, state) in [
            (1, OPEN),
            (2, FlowState::Replied),
            (3, CLOSING),
            (4, FlowState::Unreplied),
            (5, FlowState::Unreplied),
        ] {
            table.insert(flow(number, state, 0, 100), 0).unwrap();
        }
        for (number, gone) in [(6, 4), (7, 5), (8, 3), (9, 2)] {
            table.insert(flow(number, OPEN, 0, 100), 0).unwrap();
            assert!(table.find(&key(gone), 0).is_none(), "{gone} made room");
        }
        let full = table.insert(flow(10, FlowState::Unreplied, 0, 100), 0);
        assert_eq!(full, Err(InsertError::TableFull));
        for live in [1, 6, 7, 8, 9] {
            assert!(table.find(&key(live), 0).is_some());
        }
        assert_eq!(table.statistics().evicted, 4);
    }

    #[test]
    fn a_source_has_a_sixteenth_of_the_table_for_half_open_flows() {
        let mut table = FlowTable::new(4096, 4096, (1, 2));
        let of_one_source = |port: u16, state| {
            let original = FlowKey {
                source_port: port,
                ..key(1)
            };
            let mut flow = Flow::new(original, original.reversed().unwrap(), state, 0);
            flow.deadline_us = 9;
            flow
        };
        for port in 0..256 {
            let flow = of_one_source(port, FlowState::Unreplied);
            table.insert(flow, 0).unwrap();
        }
        let one_more = table.insert(of_one_source(999, FlowState::Unreplied), 0);
        assert_eq!(one_more, Err(InsertError::SourceLimit));
        table
            .insert(of_one_source(999, FlowState::Replied), 0)
            .unwrap();
        table
            .insert(flow(2, FlowState::Unreplied, 0, 9), 0)
            .unwrap();
        assert_eq!(table.statistics().source_limited, 1);
        let first = of_one_source(0, FlowState::Unreplied).original;
        let (first, _) = table.find(&first, 0).unwrap();
        table.remove(first);
        table
            .insert(of_one_source(1000, FlowState::Unreplied), 0)
            .unwrap();
    }

    #[test]
    fn under_pressure_flows_age_faster_but_not_open_connections() {
        let life_us = 30_000_000;
        let fill = |flows: u32, state| {
            let mut table = FlowTable::new(1000, 1000, (1, 2));
            for number in 0..flows {
                table.insert(flow(number, state, 0, life_us), 0).unwrap();
            }
            // Two thirds of their time are over.
            let now_us = life_us * 2 / 3;
            for round in 0..8 {
                table.sweep(&Timeouts::default(), now_us + round * SWEEP_ROUND_US / 4);
            }
            table.statistics()
        };
        assert_eq!(fill(600, FlowState::Unreplied).hurried, 0);
        let hurried = fill(1000, FlowState::Unreplied).hurried;
        assert!(
            (300..=500).contains(&hurried),
            "{hurried}: it ends with the pressure"
        );
        assert_eq!(fill(1000, OPEN).hurried, 0);
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
            table.sweep(&Timeouts::default(), now_us);
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
                    Operation::Sweep => table.sweep(&Timeouts::default(), now),
                    Operation::Wait(us) => now += us,
                }
            }
            let unreplied = table.iter().filter(|f| f.worth() == Worth::HalfOpen).count();
            prop_assert_eq!(table.statistics().unreplied as usize, unreplied);
            prop_assert_eq!(table.statistics().flows as usize, table.iter().count());
        }
    }
}
