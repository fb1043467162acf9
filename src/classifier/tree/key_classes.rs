//! From a key to the class of each of its fields.

use std::sync::Arc;

use super::classes::{Classes, FieldClasses};
use super::field::Field;
use super::interval_index::{IntervalIndex, Value};
use super::page_table::PageTable;
use super::walk::Lanes;
use crate::wire::{Address, FlowKey};

/// The class of each field of a key, by field; eight, for half a cache line and cheap indexing.
pub(super) type KeyClasses = [u32; 8];

/// Tables for the fields that have more than one class; the others are not even looked at.
#[derive(Debug, Clone)]
pub(super) struct ClassTables<V> {
    pub(super) addresses: [Option<IntervalIndex<V>>; 2],
    pub(super) numbers: [Option<PageTable>; NUMBERS.len()],
    pub(super) sets: [Option<SetTable<V>>; 2],
}

/// From an address to its class among the shared sets a tree speaks of.
#[derive(Debug, Clone)]
pub(super) struct SetTable<V> {
    /// From the address to the shared class.
    shared: Arc<IntervalIndex<V>>,
    /// From the shared class to the tree's own.
    pub(super) own: IntervalIndex<u32>,
}

/// What a table takes in a batch, as measured.
const ADDRESS_NS: f64 = 8.0;
const NUMBER_NS: f64 = 1.5;

/// Reads a small number out of a key.
type ReadNumber = fn(&FlowKey) -> u16;

/// The fields that are small numbers, and where a key has them.
const NUMBERS: [(Field, ReadNumber); 4] = [
    (Field::Protocol, |key| key.protocol as u16),
    (Field::SourcePort, |key| key.source_port),
    (Field::DestinationPort, |key| key.destination_port),
    (Field::Zone, |key| key.zone),
];

/// The ends of a key: the fields of the address and of its shared class, and where it stands.
type ReadAddress = fn(&FlowKey) -> Address;
const ENDS: [(Field, Field, ReadAddress); 2] = [
    (Field::Source, Field::SourceSets, |key| key.source),
    (Field::Destination, Field::DestinationSets, |key| {
        key.destination
    }),
];

impl<V: Value> ClassTables<V> {
    /// `shared` is what finds the shared class of an address, where rules speak of such.
    pub(super) fn new(classes: &Classes, shared: Option<&Arc<IntervalIndex<V>>>) -> Self {
        let several = |field: Field| {
            let classes: &FieldClasses = &classes[field as usize];
            (classes.count() > 1).then_some(classes.stretches.as_slice())
        };
        ClassTables {
            addresses: ENDS.map(|(field, ..)| several(field).map(IntervalIndex::new)),
            numbers: NUMBERS.map(|(field, _)| several(field).map(PageTable::new)),
            sets: ENDS.map(|(_, field, _)| {
                let own = IntervalIndex::new(several(field)?);
                let shared = shared?.clone();
                Some(SetTable { shared, own })
            }),
        }
    }

    /// The classes of one key.
    #[inline]
    pub(super) fn classes(&self, key: &FlowKey) -> KeyClasses {
        let mut classes = KeyClasses::default();
        for (end, (field, sets_field, address)) in ENDS.into_iter().enumerate() {
            let address = V::from_bits(address(key).to_bits());
            if let Some(table) = &self.addresses[end] {
                classes[field as usize] = table.class(address);
            }
            if let Some(table) = &self.sets[end] {
                classes[sets_field as usize] = table.own.class(table.shared.class(address));
            }
        }
        for (table, (field, number)) in self.numbers.iter().zip(NUMBERS) {
            if let Some(table) = table {
                classes[field as usize] = table.class(number(key));
            }
        }
        classes
    }

    /// Writes the classes of `keys[lane]` to `classes[lane]`, for each lane; field by field, so
    /// that the look-ups of different keys, which do not wait for each other, stand side by side.
    pub(super) fn classes_batch(
        &self,
        keys: &[FlowKey],
        lanes: &Lanes,
        classes: &mut [KeyClasses],
    ) {
        for (end, (field, sets_field, address)) in ENDS.into_iter().enumerate() {
            let value = |lane: usize| V::from_bits(address(&keys[lane]).to_bits());
            if let Some(table) = &self.addresses[end] {
                table.classes(lanes, value, classes, field as usize);
            }
            if let Some(SetTable { shared, own }) = &self.sets[end] {
                let slot = sets_field as usize;
                shared.classes(lanes, value, classes, slot);
                for lane in lanes.iter() {
                    classes[lane][slot] = own.class(classes[lane][slot]);
                }
            }
        }
        for (table, (field, number)) in self.numbers.iter().zip(NUMBERS) {
            if let Some(table) = table {
                for lane in lanes.iter() {
                    classes[lane][field as usize] = table.class(number(&keys[lane]));
                }
            }
        }
    }

    /// Nanoseconds the tables take in a batch, by a model.
    pub(super) fn cost_ns(&self) -> f64 {
        let addresses = self.addresses.iter().flatten().count();
        let addresses = addresses + 2 * self.sets.iter().flatten().count();
        let numbers = self.numbers.iter().flatten().count();
        addresses as f64 * ADDRESS_NS + numbers as f64 * NUMBER_NS
    }

    /// Memory in bytes, without what is shared.
    pub(super) fn bytes(&self) -> u64 {
        let addresses = self.addresses.iter().flatten().map(IntervalIndex::bytes);
        let numbers = self.numbers.iter().flatten().map(PageTable::bytes);
        let sets = self.sets.iter().flatten().map(|sets| sets.own.bytes());
        addresses.sum::<u64>() + numbers.sum::<u64>() + sets.sum::<u64>()
    }
}
