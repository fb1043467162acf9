//! Parts that may be asked without looking whether a number leads anywhere: it was looked at here.

use super::frozen::{Parts, Patch};

/// Parts whose numbers all lead somewhere; whatever changes them checks that.
#[derive(Debug, Clone)]
pub(super) struct Forest<G, const W: usize>(Parts<G>);

impl<G, const W: usize> Forest<G, W> {
    /// Checks every number; panics when one leads nowhere, a defect of the builder.
    pub(super) fn new(parts: Parts<G>) -> Self {
        parts.check();
        Forest(parts)
    }

    /// Makes changes; panics as [`Forest::new`] does, having changed nothing then.
    pub(super) fn apply(&mut self, patch: &Patch<G>)
    where
        G: Copy,
    {
        patch.check(&self.0);
        patch.apply(&mut self.0);
    }

    /// Adds trees that take nothing for granted; panics as [`Forest::new`] does.
    pub(super) fn set_exact(&mut self, exact: Parts<G>) {
        exact.check();
        self.0.exact = Some(Box::new(exact));
    }

    /// Makes room for changes.
    pub(super) fn reserve(&mut self) {
        self.0.nodes.reserve(self.0.nodes.len());
        self.0.groups.reserve(self.0.groups.len());
        self.0.records.reserve(self.0.records.len());
    }

    pub(super) fn parts(&self) -> &Parts<G> {
        &self.0
    }
}
