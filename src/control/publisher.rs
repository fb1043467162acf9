//! Publishes snapshots to the workers, and frees the ones no worker uses any more.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::dataplane::nat::NatPlan;
use crate::dataplane::route::RouteTable;
use crate::dataplane::snapshot::{Forwarding, PolicySnapshot, Snapshot, SourceCheck};

/// What of a snapshot does not change while the process runs.
#[derive(Debug, Clone)]
pub struct FixedParts {
    /// Are established flows asked again after a policy change?
    pub reevaluate_established: bool,
    /// Are packets in state INVALID judged as new?
    pub evaluate_invalid: bool,
    /// How frames find their way out.
    pub forwarding: Forwarding,
    /// Source address check.
    pub source_check: SourceCheck,
    /// Who gets other addresses.
    pub nat: Arc<NatPlan>,
}

/// The control side of the pointer the workers read once a batch.
///
/// A worker drops its old snapshot at a batch edge; so that it never frees memory there, the
/// publisher keeps every snapshot until it holds the last reference.
pub struct Publisher {
    fixed: FixedParts,
    policy: Option<Arc<PolicySnapshot>>,
    routes: Arc<RouteTable>,
    routing_generation: u32,
    shared: Arc<ArcSwap<Snapshot>>,
    retired: Vec<Arc<Snapshot>>,
}

impl Publisher {
    /// Starts closed: no policy, no routes.
    pub fn new(fixed: FixedParts) -> Self {
        let routes = Arc::new(RouteTable::default());
        let snapshot = Arc::new(assemble(&fixed, &None, &routes, 1));
        Publisher {
            fixed,
            policy: None,
            routes,
            routing_generation: 1,
            shared: Arc::new(ArcSwap::new(snapshot)),
            retired: Vec::new(),
        }
    }

    /// What workers read.
    pub fn shared(&self) -> Arc<ArcSwap<Snapshot>> {
        self.shared.clone()
    }

    /// The policy in force.
    pub fn policy(&self) -> Option<&Arc<PolicySnapshot>> {
        self.policy.as_ref()
    }

    /// The routes in force.
    pub fn routes(&self) -> &Arc<RouteTable> {
        &self.routes
    }

    /// Puts a new policy in force.
    pub fn set_policy(&mut self, policy: Arc<PolicySnapshot>) {
        self.policy = Some(policy);
        self.publish();
    }

    /// Puts new routes in force.
    pub fn set_routes(&mut self, routes: Arc<RouteTable>) {
        self.routes = routes;
        // 0 marks an empty hop cache and is left out when the number wraps.
        self.routing_generation = self.routing_generation.checked_add(1).unwrap_or(1);
        self.publish();
    }

    /// Frees the snapshots that no worker holds; called now and then.
    pub fn collect(&mut self) {
        self.retired
            .retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    fn publish(&mut self) {
        let next = assemble(
            &self.fixed,
            &self.policy,
            &self.routes,
            self.routing_generation,
        );
        self.retired.push(self.shared.swap(Arc::new(next)));
        self.collect();
    }
}

fn assemble(
    fixed: &FixedParts,
    policy: &Option<Arc<PolicySnapshot>>,
    routes: &Arc<RouteTable>,
    routing_generation: u32,
) -> Snapshot {
    Snapshot {
        policy: policy.clone(),
        reevaluate_established: fixed.reevaluate_established,
        evaluate_invalid: fixed.evaluate_invalid,
        forwarding: fixed.forwarding.clone(),
        source_check: fixed.source_check,
        nat: fixed.nat.clone(),
        routing_generation,
        routes: routes.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_snapshot_lives_until_its_last_reader_is_gone() {
        let mut publisher = Publisher::new(FixedParts {
            reevaluate_established: true,
            evaluate_invalid: false,
            forwarding: Forwarding::Routed,
            source_check: SourceCheck::Strict,
            nat: Arc::default(),
        });
        let reader = publisher.shared().load_full();
        publisher.set_routes(Arc::new(RouteTable::default()));
        assert_eq!(publisher.retired.len(), 1);
        assert_eq!(publisher.shared().load().routing_generation, 2);
        drop(reader);
        publisher.collect();
        assert!(publisher.retired.is_empty());
    }
}
