//! What loads but does nothing, or not what its writer will have meant: one file a system.
//!
//! Every id is explained in `docs/lint.md`.

mod multi_network;
mod network_policy;
mod tiers;

use super::inventory::Inventory;
use super::selection::Selections;
use super::{Compatibility, Finding, Names, Policies};

/// Warnings about policies that load.
pub fn lint(
    inventory: &Inventory,
    selections: &Selections,
    policies: &Policies,
    names: &Names,
    compatibility: &Compatibility,
    findings: &mut Vec<Finding>,
) {
    let network_policies = &policies.network_policies;
    network_policy::lint(
        inventory,
        selections,
        network_policies,
        compatibility,
        findings,
    );
    let of_networks = &policies.multi_network_policies;
    multi_network::lint(inventory, selections, of_networks, compatibility, findings);
    tiers::lint(inventory, selections, &policies.tiers, names, findings);
}
