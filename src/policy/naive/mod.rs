//! The slow obvious twin of the compiled rules: reads the objects, for one packet at a time.
//!
//! Written along the texts of the systems' own documentation, and on purpose sharing nothing with
//! the compiler but the decoded objects: not the selectors, not look-ups, not the table of which
//! step spares which.

mod egress;
mod multi_network;
mod network_policy;
mod openshift;
mod security_group;
mod tiers;

use super::compatibility::{AdminScope, Combination};
use super::tiers::Tier;
use super::{Direction, PRIMARY_NETWORK, PolicyKey, PolicySet};
use crate::classifier::RuleVerdict;
use crate::wire::{Address, Family, FlowKey};

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
            // Policies of the sending end hold whatever source address it writes.
            let sent = packet.as_from_sender();
            let groups = match packet.sender {
                Some(sender) if sender.owns_source => &packet,
                _ => &sent,
            };
            let groups = security_groups(set, groups, packet.key.source);
            groups
                .or_else(|| egress(set, &sent))
                .or_else(|| between(set, &sent).map(|family| (family, Direction::Egress)))
                .or_else(|| ingress(set, &packet))
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

/// The tiers of the source.
fn egress(set: &PolicySet, packet: &PolicyKey) -> Option<(&'static str, Direction)> {
    match tier(set, packet, Direction::Egress, Tier::Admin) {
        tiers::Opinion::Accept => None,
        tiers::Opinion::Deny => Some(("Admin", Direction::Egress)),
        tiers::Opinion::None => below_admin(set, packet, Direction::Egress),
    }
}

/// What stands before the destination: the strongest tier, its security groups, the other tiers.
/// Where Kube-OVN decides, whoever of the first two has an opinion is the last to be asked.
fn ingress(set: &PolicySet, packet: &PolicyKey) -> Option<(&'static str, Direction)> {
    let alone = set.compatibility.sg_np_combine == Combination::KubeOvn;
    let admin = tier(set, packet, Direction::Ingress, Tier::Admin);
    match admin {
        tiers::Opinion::Deny => return Some(("Admin", Direction::Ingress)),
        tiers::Opinion::Accept if alone => return None,
        _ => {}
    }
    match (
        security_group::opinion(set, packet, packet.key.source, Direction::Ingress),
        admin,
    ) {
        (Some(RuleVerdict::Deny), _) => Some(("SG", Direction::Ingress)),
        (Some(_), _) if alone => None,
        (_, tiers::Opinion::Accept) => None,
        _ => below_admin(set, packet, Direction::Ingress),
    }
}

/// What the groups of the source deny.
fn security_groups(
    set: &PolicySet,
    packet: &PolicyKey,
    written_source: Address,
) -> Option<(&'static str, Direction)> {
    let direction = Direction::Egress;
    let verdict = security_group::opinion(set, packet, written_source, direction);
    (verdict == Some(RuleVerdict::Deny)).then_some(("SG", direction))
}

/// What a tier of the administrator says on behalf of one end.
fn tier(set: &PolicySet, packet: &PolicyKey, direction: Direction, tier: Tier) -> tiers::Opinion {
    let key = &packet.key;
    let network = network_of(packet, direction);
    // On the way round by a Service the administrator's tiers are asked all the same.
    let own_directly = is_own_address(packet) && *key == packet.original;
    let administered =
        network == PRIMARY_NETWORK || set.compatibility.cnp_secondary == AdminScope::All;
    match administered && !own_directly {
        true => tiers::opinion(set, key, direction, network, tier),
        false => tiers::Opinion::None,
    }
}

/// NetworkPolicy, or MultiNetworkPolicy on other networks, and the weakest tier; which of them
/// denies.
fn below_admin(
    set: &PolicySet,
    packet: &PolicyKey,
    direction: Direction,
) -> Option<(&'static str, Direction)> {
    let (family, verdict) = match network_of(packet, direction) {
        _ if is_own_address(packet) => ("", None),
        PRIMARY_NETWORK => ("NP", network_policy::opinion(set, &packet.key, direction)),
        _ => ("MNP", multi_network::opinion(set, packet, direction)),
    };
    if let Some(verdict) = verdict {
        return (verdict == RuleVerdict::Deny).then_some((family, direction));
    }
    match tier(set, packet, direction, Tier::Baseline) {
        tiers::Opinion::Deny => Some(("Baseline", direction)),
        _ => None,
    }
}

fn network_of(packet: &PolicyKey, direction: Direction) -> u16 {
    match direction {
        Direction::Egress => packet.source_network,
        Direction::Ingress => packet.destination_network,
    }
}

fn is_own_address(packet: &PolicyKey) -> bool {
    let packet = packet.as_from_sender();
    packet.key.source == packet.key.destination
        && packet.source_network == packet.destination_network
}

/// What stands between the two ends: projects' networks where the destination is in the cluster,
/// else the lists for what leaves it. Which of them denies.
fn between(set: &PolicySet, packet: &PolicyKey) -> Option<&'static str> {
    let key = &packet.key;
    if packet.source_network != PRIMARY_NETWORK {
        return None;
    }
    let own_address =
        key.source == key.destination && packet.destination_network == PRIMARY_NETWORK;
    if !own_address && openshift::isolation_denies(set, packet) {
        return Some("VNID");
    }
    if openshift::policy_allows(set, key) == Some(false) {
        return Some("ENP");
    }
    if egress::firewall_allows(set, key) == Some(false) {
        return Some("EgressFirewall");
    }
    if openshift::has_no_egress_address(set, key) {
        return Some("egressIP");
    }
    egress::output_drops(set, key).then_some("AdminOutput")
}

fn is_discovery(packet: &PolicyKey) -> bool {
    let key: &FlowKey = &packet.key;
    let icmpv6_type =
        (key.family == Family::V6 && key.protocol == 58).then_some(key.destination_port >> 8);
    matches!(
        (icmpv6_type, packet.hop_limit),
        (Some(133..=136), None | Some(255)) | (Some(130 | 131 | 132 | 143), None | Some(1))
    )
}
