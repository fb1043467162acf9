//! Where a compiled rule was written, so that a verdict can be traced to a line.

use super::Place;
use super::inventory::Source;

/// Source of one compiled rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `kind/namespace/name#index`: `NetworkPolicy/b/web-in#0` is the first ingress (or egress: the
    /// stage tells) rule of that policy; `NetworkPolicy/b/*#isolation` the implicit deny of the
    /// namespace's isolated pods; `NetworkPolicy/*/*#own-node` a rule upstream defines without any
    /// object.
    pub label: String,
    /// Where the rule starts; `None` for rules no file holds.
    pub source: Option<Source>,
    /// Field path of the rule in its object, `spec.ingress[0]`; empty for implicit rules.
    pub path: String,
}

impl Origin {
    /// Where the rule starts; `None` for rules no file holds.
    pub fn place(&self) -> Option<Place> {
        self.source.as_ref().map(Source::place)
    }
}
