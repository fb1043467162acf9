//! The slow obvious twin of the compiled rules: reads the objects, for one packet at a time.
//!
//! Written along the texts of the systems' own documentation, and on purpose sharing nothing with
//! the compiler but the decoded objects: not the selectors, not look-ups, not the table of which
//! step spares which.

mod multi_network;
mod network_policy;
mod tiers;

use super::compatibility::AdminScope;
use super::tiers::Tier;
use super::{Direction, PRIMARY_NETWORK, PolicyKey, PolicySet};
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
            let egress = np_stack(set, &packet, Direction::Egress);
            egress.or_else(|| np_stack(set, &packet, Direction::Ingress))
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

/// The tiers of one end, from strongest to weakest; which of them denies.
fn np_stack(
    set: &PolicySet,
    packet: &PolicyKey,
    direction: Direction,
) -> Option<(&'static str, Direction)> {
    let key = &packet.key;
    let own_address =
        key.source == key.destination && packet.source_network == packet.destination_network;
    let network = match direction {
        Direction::Egress => packet.source_network,
        Direction::Ingress => packet.destination_network,
    };
    // On the way round by a Service the administrator's tiers are asked all the same.
    let own_directly = own_address && *key == packet.original;
    let administered =
        network == PRIMARY_NETWORK || set.compatibility.cnp_secondary == AdminScope::All;
    let administered = administered && !own_directly;
    if administered {
        match tiers::opinion(set, key, direction, network, Tier::Admin) {
            tiers::Opinion::Accept => return None,
            tiers::Opinion::Deny => return Some(("Admin", direction)),
            tiers::Opinion::None => {}
        }
    }
    let (family, verdict) = match network {
        _ if own_address => ("", None),
        PRIMARY_NETWORK => ("NP", network_policy::opinion(set, key, direction)),
        _ => ("MNP", multi_network::opinion(set, packet, direction)),
    };
    if let Some(verdict) = verdict {
        return (verdict == RuleVerdict::Deny).then_some((family, direction));
    }
    if administered
        && let tiers::Opinion::Deny = tiers::opinion(set, key, direction, network, Tier::Baseline)
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
