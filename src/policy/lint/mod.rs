//! What loads but does nothing, or not what its writer will have meant: one file a system.
//!
//! Every id is explained in `docs/lint.md`.

mod kube_ovn;
mod network_policy;
mod security_group;
mod tiers;

use super::inventory::Inventory;
use super::selection::Selections;
use super::{Compatibility, Finding, Names, Policies, PolicySet, Subnet};

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
    tiers::lint(inventory, selections, &policies.tiers, names, findings);
}

/// Warnings about a set that is complete: those for which its compiled rules are asked.
pub fn lint_compiled(set: &PolicySet, subnets: &[Subnet], findings: &mut Vec<Finding>) {
    kube_ovn::lint(set, findings);
    security_group::lint(set, subnets, findings);
}
