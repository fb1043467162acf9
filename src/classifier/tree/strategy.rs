//! Which way a compiled set is asked.
//!
//! Both ways are compiled, within their limits, and rated by models of the time a lookup takes over
//! the same kind of keys. The models were measured once; no clock is read here, so that equal rules
//! give equal classifiers on every machine.

use super::{Limits, Tree};
use crate::classifier::bits::{self, Bits, NotForBits};
use crate::classifier::synthetic;
use crate::classifier::{AddressMatch, Rule, RuleSet};
use crate::wire::Family;

/// How keys are decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Fields become classes first; a tree asks for classes. Good for sets of many addresses.
    #[default]
    Classes,
    /// Trees ask for bits of the key. Good for prefixes and port ranges.
    Bits,
}

/// Rules of a set whose lookups by classes take so long at the least, as measured.
const LARGE: usize = 4_096;
const CLASSES_LEAST_NS: f64 = 60.0;

/// Keys a tree is rated with.
const KEYS: usize = 500;

/// Compiles the rules into trees that ask for bits; `None` when these are not wanted.
pub(super) fn bits(rules: &RuleSet, limits: &Limits) -> Option<Result<Bits, NotForBits>> {
    if limits.strategy == Some(Strategy::Classes) {
        return None;
    }
    let bits = bits::compile(rules, &bits::Budget::default());
    Some(bits.and_then(|bits| {
        let within = bits.bytes() <= limits.bytes() && bits.shape().nodes <= limits.nodes_max;
        let too_large = NotForBits::TooLarge(rules.rules().len());
        if within { Ok(bits) } else { Err(too_large) }
    }))
}

/// Are the trees of bits quicker than any over classes of as many rules would be, so that these
/// need not be compiled?
pub(super) fn suffices(rules: &RuleSet, bits: &Option<Result<Bits, NotForBits>>) -> bool {
    let quick = |bits: &Bits| bits.lookup_ns() < CLASSES_LEAST_NS;
    let bits = bits.as_ref().and_then(|bits| bits.as_ref().ok());
    rules.rules().len() >= LARGE && bits.is_some_and(quick)
}

impl Tree {
    /// The trees of bits, where these decide.
    pub fn bits(&self) -> Option<&Bits> {
        self.bits.as_ref()
    }

    /// Takes the faster strategy, or the one wanted where it can be had; says why bits could not.
    pub(super) fn choose(
        &mut self,
        rules: &RuleSet,
        bits: Option<Result<Bits, NotForBits>>,
        class_trees_are_there: bool,
        wanted: Option<Strategy>,
        tables_bytes: u64,
    ) -> Option<NotForBits> {
        let picoseconds = |nanoseconds: f64| (nanoseconds * 1e3) as u32;
        let classes_ps = class_trees_are_there.then(|| picoseconds(classes_cost(self, rules)));
        self.statistics.lookup_ps[0] = classes_ps;
        let bits = match bits? {
            Ok(bits) => bits,
            Err(reason) => return Some(reason),
        };
        let bits_ps = picoseconds(bits.lookup_ns());
        self.statistics.lookup_ps[1] = Some(bits_ps);
        let faster = classes_ps.is_none_or(|classes_ps| bits_ps < classes_ps);
        if faster || wanted == Some(Strategy::Bits) {
            self.statistics.turn_to_bits(&bits, tables_bytes);
            self.bits = Some(bits);
        }
        None
    }
}

/// Nanoseconds a lookup in the class tree takes, by the model; of the family that takes longer.
pub(super) fn classes_cost(tree: &Tree, rules: &RuleSet) -> f64 {
    let families = [Family::V4, Family::V6].into_iter();
    let costs = families.map(|family| {
        if !rules
            .rules()
            .iter()
            .any(|rule| speaks_of(rules, rule, family))
        {
            return 0.0;
        }
        let keys = synthetic::keys(rules, family, KEYS, 11);
        let cost = match family {
            Family::V4 => keys.iter().map(|key| tree.v4.cost(key)).sum::<f64>(),
            Family::V6 => keys.iter().map(|key| tree.v6.cost(key)).sum::<f64>(),
        };
        cost / KEYS as f64
    });
    costs.fold(0.0, f64::max)
}

/// Can the rule match a key of the family?
fn speaks_of(rules: &RuleSet, rule: &Rule, family: Family) -> bool {
    let ports = [rule.source_ports, rule.destination_ports];
    if ports.into_iter().any(|ports| ports.first > ports.last) {
        return false;
    }
    [rule.source, rule.destination]
        .into_iter()
        .all(|side| match side {
            AddressMatch::Any => true,
            AddressMatch::Set(id) => !rules.address_set(id).ranges(family).is_empty(),
        })
}
