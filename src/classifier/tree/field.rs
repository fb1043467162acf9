//! The fields of a key a rule can speak of, those made of its addresses, and sets of fields.

use std::fmt;

use crate::wire::Family;

/// One field of a [`FlowKey`](crate::wire::FlowKey), or made of one. The family is none: each has
/// its own tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(super) enum Field {
    Source = 0,
    Destination = 1,
    Protocol = 2,
    SourcePort = 3,
    DestinationPort = 4,
    Zone = 5,
    /// The shared class of the source address (see [`SharedSets`](super::SharedSets)).
    SourceSets = 6,
    /// The shared class of the destination address.
    DestinationSets = 7,
}

/// How many fields there are.
pub(super) const FIELDS: usize = 8;

impl Field {
    pub(super) const ALL: [Field; FIELDS] = [
        Field::Source,
        Field::Destination,
        Field::Protocol,
        Field::SourcePort,
        Field::DestinationPort,
        Field::Zone,
        Field::SourceSets,
        Field::DestinationSets,
    ];

    /// Largest value the field can have; the smallest is 0.
    pub(super) fn last_value(self, family: Family) -> u128 {
        match self {
            Field::Source | Field::Destination => family.last_address().to_bits(),
            Field::Protocol => u8::MAX.into(),
            Field::SourcePort | Field::DestinationPort | Field::Zone => u16::MAX.into(),
            Field::SourceSets | Field::DestinationSets => u32::MAX.into(),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Source => "source",
            Field::Destination => "destination",
            Field::Protocol => "protocol",
            Field::SourcePort => "source_port",
            Field::DestinationPort => "destination_port",
            Field::Zone => "zone",
            Field::SourceSets => "source_sets",
            Field::DestinationSets => "destination_sets",
        })
    }
}

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct FieldSet(u8);

impl FieldSet {
    pub(super) const EMPTY: FieldSet = FieldSet(0);

    pub(super) const fn with(self, field: Field) -> Self {
        FieldSet(self.0 | 1 << field as u8)
    }

    pub(super) const fn without(self, field: Field) -> Self {
        FieldSet(self.0 & !(1 << field as u8))
    }

    pub(super) const fn intersection(self, other: FieldSet) -> Self {
        FieldSet(self.0 & other.0)
    }

    pub(super) const fn union(self, other: FieldSet) -> Self {
        FieldSet(self.0 | other.0)
    }

    pub(super) const fn contains(self, field: Field) -> bool {
        self.0 & 1 << field as u8 != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Field> {
        Field::ALL
            .into_iter()
            .filter(move |&field| self.contains(field))
    }
}
