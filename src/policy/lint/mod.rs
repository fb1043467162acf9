//! What loads but does nothing, or not what its writer will have meant: one file a system.
//!
//! Every id is explained in `docs/lint.md`.

mod egress;
mod group_shadows;
mod kube_ovn;
mod multi_network;
mod network_policy;
mod openshift;
mod security_group;
mod tiers;

use super::load::Input;
use super::{Finding, PolicySet, Subnet};

/// Warnings about policies that load.
pub fn lint(input: &Input, findings: &mut Vec<Finding>) {
    let network_policies = &input.policies.network_policies;
    network_policy::lint(
        input.inventory,
        input.selections,
        network_policies,
        input.compatibility,
        findings,
    );
    let of_networks = &input.policies.multi_network_policies;
    multi_network::lint(
        input.inventory,
        input.selections,
        of_networks,
        input.compatibility,
        findings,
    );
    tiers::lint(
        input.inventory,
        input.selections,
        &input.policies.tiers,
        input.names,
        findings,
    );
    openshift::lint(input, findings);
    egress::lint(input, findings);
}

/// Warnings about a set that is complete: those for which its compiled rules are asked.
pub fn lint_compiled(set: &PolicySet, subnets: &[Subnet], findings: &mut Vec<Finding>) {
    kube_ovn::lint(set, findings);
    security_group::lint(set, subnets, findings);
}
