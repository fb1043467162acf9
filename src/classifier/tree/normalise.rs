//! Step 1: rules of both families, written in sets and ranges, become rules of one family, written
//! in conditions.
//!
//! A condition is a canonical set of values of one field, interned: two rules about the same values
//! carry the same [`ConditionId`], however they were written. A set that holds every value of its
//! field is [`ConditionId::ANY`]. A rule that cannot match in a family is not in that family's
//! list.

use std::collections::HashMap;

use super::field::{FIELDS, Field, FieldSet};
use super::shared_sets::SharedSets;
use crate::classifier::{
    AddressMatch, AddressSetId, PortRange, ProtocolMatch, Rule, RuleIndex, RuleSet,
};
use crate::wire::Family;

/// Refers to a condition of one field of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConditionId(pub(super) u32);

impl ConditionId {
    /// Every value of the field.
    pub(super) const ANY: ConditionId = ConditionId(0);
}

/// Sorted disjoint inclusive ranges that do not touch.
pub(super) type Ranges = Vec<(u128, u128)>;

/// A rule of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NormalRule {
    pub(super) index: RuleIndex,
    /// By field.
    pub(super) conditions: [ConditionId; FIELDS],
}

impl NormalRule {
    pub(super) fn condition(&self, field: Field) -> ConditionId {
        self.conditions[field as usize]
    }

    /// The fields in which the rule does not match every value.
    pub(super) fn constrained(&self) -> FieldSet {
        Field::ALL
            .into_iter()
            .filter(|&field| self.condition(field) != ConditionId::ANY)
            .fold(FieldSet::EMPTY, FieldSet::with)
    }
}

/// The rules of one family, strongest first, and the conditions they use.
#[derive(Debug, Clone)]
pub(super) struct NormalFamily {
    pub(super) family: Family,
    /// By field, then by condition; the first of each field is [`ConditionId::ANY`].
    pub(super) conditions: [Vec<Ranges>; FIELDS],
    pub(super) rules: Vec<NormalRule>,
}

/// Both families, IPv4 first.
pub(super) type Normal = [NormalFamily; 2];

/// Rewrites the rules family by family; sets that are `shared` become conditions on their classes.
pub(super) fn normalise(rules: &RuleSet, shared: Option<&SharedSets>) -> Normal {
    [Family::V4, Family::V6].map(|family| Normaliser::new(rules, shared, family).run())
}

/// What a rule says of an address: of itself or of its shared class, never of both.
#[derive(Debug, Clone, Copy)]
struct AddressCondition {
    own: ConditionId,
    shared: ConditionId,
}

impl AddressCondition {
    const ANY: AddressCondition = AddressCondition {
        own: ConditionId::ANY,
        shared: ConditionId::ANY,
    };
}

struct Normaliser<'a> {
    rules: &'a RuleSet,
    shared: Option<&'a SharedSets>,
    ids: [HashMap<Ranges, ConditionId>; FIELDS],
    /// What an address set became as source and as destination, so that a large set is copied once;
    /// `None` inside when it has no address of this family.
    sets: [HashMap<AddressSetId, Option<AddressCondition>>; 2],
    result: NormalFamily,
}

impl<'a> Normaliser<'a> {
    fn new(rules: &'a RuleSet, shared: Option<&'a SharedSets>, family: Family) -> Self {
        let any = Field::ALL.map(|field| vec![(0, field.last_value(family))]);
        Normaliser {
            rules,
            shared,
            ids: any
                .clone()
                .map(|ranges| HashMap::from([(ranges, ConditionId::ANY)])),
            sets: Default::default(),
            result: NormalFamily {
                family,
                conditions: any.map(|ranges| vec![ranges]),
                rules: Vec::new(),
            },
        }
    }

    fn run(mut self) -> NormalFamily {
        for (position, rule) in self.rules.rules().iter().enumerate() {
            if let Some(conditions) = self.conditions(rule) {
                self.result.rules.push(NormalRule {
                    index: RuleIndex(position as u32),
                    conditions,
                });
            }
        }
        self.result
    }

    /// The rule's condition on each field; `None` when one of them holds no value.
    fn conditions(&mut self, rule: &Rule) -> Option<[ConditionId; FIELDS]> {
        let source = self.address([Field::Source, Field::SourceSets], rule.source)?;
        let both = [Field::Destination, Field::DestinationSets];
        let destination = self.address(both, rule.destination)?;
        Some([
            source.own,
            destination.own,
            match rule.protocol {
                ProtocolMatch::Any => ConditionId::ANY,
                ProtocolMatch::Number(number) => {
                    self.intern(Field::Protocol, vec![(number.into(), number.into())])
                }
            },
            self.ports(Field::SourcePort, rule.source_ports)?,
            self.ports(Field::DestinationPort, rule.destination_ports)?,
            rule.zone.map_or(ConditionId::ANY, |zone| {
                self.intern(Field::Zone, vec![(zone.into(), zone.into())])
            }),
            source.shared,
            destination.shared,
        ])
    }

    fn ports(&mut self, field: Field, ports: PortRange) -> Option<ConditionId> {
        (ports.first <= ports.last)
            .then(|| self.intern(field, vec![(ports.first.into(), ports.last.into())]))
    }

    /// `fields` are those of the address itself and of its shared class.
    fn address(&mut self, fields: [Field; 2], condition: AddressMatch) -> Option<AddressCondition> {
        let AddressMatch::Set(set) = condition else {
            return Some(AddressCondition::ANY);
        };
        let [own, shared] = fields;
        if let Some(&known) = self.sets[own as usize].get(&set) {
            return known;
        }
        let family = self.result.family;
        let addresses = self.rules.address_set(set);
        let runs = self.shared.and_then(|sets| sets.runs_of(addresses, family));
        let (field, ranges): (Field, Ranges) = match runs {
            Some(runs) => {
                let wide = |&(first, last): &(u32, u32)| (first.into(), last.into());
                (shared, runs.iter().map(wide).collect())
            }
            None => {
                let ranges = addresses.ranges(family).iter();
                let bits = ranges.map(|(first, last)| (first.to_bits(), last.to_bits()));
                (own, bits.collect())
            }
        };
        let condition = (!ranges.is_empty()).then(|| {
            let id = self.intern(field, ranges);
            match field == own {
                true => AddressCondition {
                    own: id,
                    ..AddressCondition::ANY
                },
                false => AddressCondition {
                    shared: id,
                    ..AddressCondition::ANY
                },
            }
        });
        self.sets[own as usize].insert(set, condition);
        condition
    }

    fn intern(&mut self, field: Field, ranges: Ranges) -> ConditionId {
        let conditions = &mut self.result.conditions[field as usize];
        let next = ConditionId(conditions.len() as u32);
        *self.ids[field as usize]
            .entry(ranges)
            .or_insert_with_key(|ranges| {
                conditions.push(ranges.clone());
                next
            })
    }
}
