//! Kubernetes-style objects in, ordered rule sets out.
//!
//! ```text
//! SourceFile ─▶ document ─▶ objects ─▶ validate ─▶ Inventory + policies ─▶ compile ─▶ StageRules
//!   (text)      (spans)     (typed)    (findings)                    └──▶ naive (the slow twin)
//! ```
//!
//! This room never sees a frame. Of the classifier it knows the intermediate representation alone.

pub mod compatibility;
pub mod finding;
pub mod origin;

pub use compatibility::Compatibility;
pub use finding::{Finding, Place, Severity};
pub use origin::Origin;

use crate::classifier::RuleSet;

/// One file of manifests: YAML (any number of documents) or JSON.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path as messages name it.
    pub name: String,
    /// Its whole text.
    pub text: String,
}

/// Which end of a connection a stage protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Asked on behalf of the destination.
    Ingress,
    /// Asked on behalf of the source.
    Egress,
}

/// The rules of one evaluation step, for the whole inventory at once.
///
/// A key that no rule matches is allowed: the step has no opinion of it.
#[derive(Debug, Clone)]
pub struct StageRules {
    /// Short name of the family in reports and in `deny_stage`: `NP`, later `SG`, `Admin`, ….
    pub family: &'static str,
    /// Which end of the connection it protects.
    pub direction: Direction,
    /// The rules, strongest first.
    pub rules: RuleSet,
}
