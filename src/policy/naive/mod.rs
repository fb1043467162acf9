//! The slow obvious twin of the compiled rules: reads the objects, for one packet at a time.
//!
//! Written along the texts of the systems' own documentation, and on purpose sharing nothing with
//! the compiler but the decoded objects: not the selectors, not the look-ups, not the table of which
//! step spares which.

mod network_policy;
mod security_group;
mod tiers;

use super::compatibility::Combination;
use super::tiers::Tier;
use super::{Direction, PolicyKey, PolicySet};
use crate::classifier::RuleVerdict;
use crate::wire::{Family, FlowKey};

/// What both ends of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Allow or Deny.
    pub verdict: RuleVerdict,
    /// The first step that denies: family and direction; `None` when allowed.
    pub denied_by: Option<(&'static str, Direction)>,
}

/// Decides a packet from inventory and policies alone, exemptions included.
pub fn evaluate(set: &PolicySet, packet: impl Into<PolicyKey>) -> Decision {
    let packet = packet.into();
    let denied_by = match is_discovery(&packet) {
        true => None,
        false => {
            let groups = security_groups(set, &packet, Direction::Egress);
            let egress = groups.or_else(|| np_stack(set, &packet, Direction::Egress));
            egress.or_else(|| ingress(set, &packet))
        }
    };
    Decision {
        verdict: match denied_by {
            Some(_) => RuleVerdict::Deny,
            None => RuleVerdict::Allow,
        },
        denied_by,
    }
}

/// What stands before the destination: the administrator, its security groups, the other tiers.
///
/// Both must allow. Where Kube-OVN decides, what the administrator accepts is not asked of the
/// groups, and what groups have an opinion of is asked of nobody else.
fn ingress(set: &PolicySet, packet: &PolicyKey) -> Option<(&'static str, Direction)> {
    let direction = Direction::Ingress;
    let kube_ovn = set.compatibility.sg_np_combine == Combination::KubeOvn;
    let admin = admin(set, packet, direction);
    match admin {
        tiers::Opinion::Deny => return Some(("Admin", direction)),
        tiers::Opinion::Accept if kube_ovn => return None,
        _ => {}
    }
    match security_group::opinion(set, packet, direction) {
        Some(RuleVerdict::Deny) => return Some(("SG", direction)),
        Some(_) if kube_ovn => return None,
        _ => {}
    }
    match admin {
        tiers::Opinion::Accept => None,
        _ => below_admin(set, packet, direction),
    }
}

fn security_groups(
    set: &PolicySet,
    packet: &PolicyKey,
    direction: Direction,
) -> Option<(&'static str, Direction)> {
    let verdict = security_group::opinion(set, packet, direction);
    (verdict == Some(RuleVerdict::Deny)).then_some(("SG", direction))
}

/// The tiers of one end, from strongest to weakest; which of them denies.
fn np_stack(
    set: &PolicySet,
    packet: &PolicyKey,
    direction: Direction,
) -> Option<(&'static str, Direction)> {
    match admin(set, packet, direction) {
        tiers::Opinion::Accept => None,
        tiers::Opinion::Deny => Some(("Admin", direction)),
        tiers::Opinion::None => below_admin(set, packet, direction),
    }
}

/// Is it a pod talking to its own address, and not on the way round by a Service, where the
/// administrator's tiers are asked all the same?
fn is_own_directly(packet: &PolicyKey) -> bool {
    packet.key.source == packet.key.destination && packet.key == packet.original
}

fn admin(set: &PolicySet, packet: &PolicyKey, direction: Direction) -> tiers::Opinion {
    match is_own_directly(packet) {
        true => tiers::Opinion::None,
        false => tiers::opinion(set, &packet.key, direction, Tier::Admin),
    }
}

fn below_admin(
    set: &PolicySet,
    packet: &PolicyKey,
    direction: Direction,
) -> Option<(&'static str, Direction)> {
    let key = &packet.key;
    let own_address = key.source == key.destination;
    if !own_address && let Some(verdict) = network_policy::opinion(set, key, direction) {
        return (verdict == RuleVerdict::Deny).then_some(("NP", direction));
    }
    if !is_own_directly(packet)
        && let tiers::Opinion::Deny = tiers::opinion(set, key, direction, Tier::Baseline)
    {
        return Some(("Baseline", direction));
    }
    None
}

fn is_discovery(packet: &PolicyKey) -> bool {
    let key: &FlowKey = &packet.key;
    let icmpv6_type =
        (key.family == Family::V6 && key.protocol == 58).then_some(key.destination_port >> 8);
    matches!(
        (icmpv6_type, packet.hop_limit),
        (Some(133..=137), None | Some(255)) | (Some(130 | 131 | 132 | 143), None | Some(1))
    )
}
