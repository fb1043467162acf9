//! Rules in, a compiled decision structure out, flow keys looked up in it.
//!
//! ```text
//! RuleSet (IR) ──▶ linear        the obvious slow reference
//!            └───▶ tree          compiled, immutable, what forwards: by classes of fields, or
//!                   └─▶ bits     by bits of the key, whichever is faster
//!            └───▶ shards        several trees, of which a key asks one
//! ```
//!
//! This room knows no packet in flight, no manifest and no time; of `wire` it uses the [`FlowKey`]
//! alone. Everything compiled is immutable and refers to rules by `u32` index, so that it can be
//! shared between workers and replaced by one pointer swap.

pub mod bits;
pub mod classbench;
pub mod linear;
pub mod rule_set;
pub mod shards;
pub mod synthetic;
pub mod tree;

pub use shards::{AddressGroups, ShardRules};

pub use rule_set::{
    AddressMatch, AddressSet, AddressSetId, OriginId, PortRange, ProtocolMatch, Rule, RuleId,
    RuleIndex, RuleSet, RuleVerdict,
};

use crate::wire::FlowKey;

/// Finds the deciding rule of a key: the first rule of the set, in order, that matches it.
///
/// Implementations: the linear reference and the compiled tree. Both give the same answer for every
/// key.
pub trait Classify: Send + Sync {
    /// The deciding rule, or `None` when no rule matches.
    fn classify(&self, key: &FlowKey) -> Option<RuleIndex>;

    /// Classifies `keys[i]` into `decisions[i]`.
    ///
    /// # Panics
    /// When the slices differ in length.
    fn classify_batch(&self, keys: &[FlowKey], decisions: &mut [Option<RuleIndex>]) {
        assert_eq!(keys.len(), decisions.len());
        for (key, decision) in keys.iter().zip(decisions) {
            *decision = self.classify(key);
        }
    }
}
