//! From a key to the class of each of its fields.

use super::classes::{Classes, FieldClasses};
use super::field::{FIELDS, Field};
use super::interval_index::{IntervalIndex, Value};
use super::page_table::PageTable;
use super::walk::Lanes;
use crate::wire::FlowKey;

/// The class of each field of a key, by field; eight, for half a cache line and cheap indexing.
pub(super) type KeyClasses = [u32; 8];

/// Tables for the fields that have more than one class; the others are not even looked at.
#[derive(Debug, Clone)]
pub(super) struct ClassTables<V> {
    pub(super) addresses: [Option<IntervalIndex<V>>; 2],
    pub(super) numbers: [Option<PageTable>; FIELDS - 2],
}

/// What a table takes in a batch, as measured.
const ADDRESS_NS: f64 = 8.0;
const NUMBER_NS: f64 = 1.5;

/// Reads a small number out of a key.
type ReadNumber = fn(&FlowKey) -> u16;

/// The fields that are small numbers, and where a key has them.
const NUMBERS: [(Field, ReadNumber); FIELDS - 2] = [
    (Field::Protocol, |key| key.protocol as u16),
    (Field::SourcePort, |key| key.source_port),
    (Field::DestinationPort, |key| key.destination_port),
    (Field::Zone, |key| key.zone),
];

impl<V: Value> ClassTables<V> {
    pub(super) fn new(classes: &Classes) -> Self {
        let several = |field: Field| {
            let classes: &FieldClasses = &classes[field as usize];
            (classes.count() > 1).then_some(classes.stretches.as_slice())
        };
        let address = |field| several(field).map(IntervalIndex::new);
        let number = |field| several(field).map(PageTable::new);
        ClassTables {
            addresses: [Field::Source, Field::Destination].map(address),
            numbers: [
                Field::Protocol,
                Field::SourcePort,
                Field::DestinationPort,
                Field::Zone,
            ]
            .map(number),
        }
    }

    /// The classes of one key.
    #[inline]
    pub(super) fn classes(&self, key: &FlowKey) -> KeyClasses {
        let mut classes = KeyClasses::default();
        let addresses = [
            (Field::Source, key.source),
            (Field::Destination, key.destination),
        ];
        for (table, (field, address)) in self.addresses.iter().zip(addresses) {
            if let Some(table) = table {
                classes[field as usize] = table.class(V::from_bits(address.to_bits()));
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
        let value = |address: crate::wire::Address| V::from_bits(address.to_bits());
        if let Some(table) = &self.addresses[0] {
            let source = |lane: usize| value(keys[lane].source);
            table.classes(lanes, source, classes, Field::Source as usize);
        }
        if let Some(table) = &self.addresses[1] {
            let destination = |lane: usize| value(keys[lane].destination);
            table.classes(lanes, destination, classes, Field::Destination as usize);
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
        let numbers = self.numbers.iter().flatten().count();
        addresses as f64 * ADDRESS_NS + numbers as f64 * NUMBER_NS
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let addresses = self.addresses.iter().flatten().map(IntervalIndex::bytes);
        let numbers = self.numbers.iter().flatten().map(PageTable::bytes);
        addresses.sum::<u64>() + numbers.sum::<u64>()
    }
}
