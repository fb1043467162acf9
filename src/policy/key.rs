//! What policy is told of a packet, and which packets it is not asked about.

use super::stage::{StageKind as K, StageMask};
use crate::wire::{Address, FlowKey, protocol};

/// Number of the cluster's own network in [`FlowKey::zone`] as policy sees it; secondary networks
/// follow.
pub const PRIMARY_NETWORK: u16 = 0;

/// What [`FlowKey::zone`] is while the delivery of a multicast packet to one pod is asked about;
/// the destination is then that pod's.
pub const MULTICAST_NETWORK: u16 = u16::MAX;

/// Number of a network that no pod is on.
pub const UNKNOWN_NETWORK: u16 = u16::MAX - 1;

/// A packet as policy is asked about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyKey {
    /// Addresses and ports behind the translation of a Service.
    pub key: FlowKey,
    /// The same before it; equal where nothing is translated.
    pub original: FlowKey,
    /// Network of the source's attachment.
    pub source_network: u16,
    /// Network of the destination's attachment.
    pub destination_network: u16,
    /// Hop limit, where known.
    pub hop_limit: Option<u8>,
    /// Of a packet to a multicast group, the address of the pod it would be delivered to.
    pub receiver: Option<Address>,
    /// Who sends it, where it does not say so itself: policies hold at the attachment a packet
    /// comes from, whatever its source address.
    pub sender: Option<Sender>,
}

/// The end that sends a packet under an address that is not its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Address by which policies know the end.
    pub address: Address,
    /// Has it the source address beside its own (a virtual address)? Its security groups then speak
    /// of that.
    pub owns_source: bool,
}

/// Steps that are not asked about a packet, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemption {
    /// The steps.
    pub skips: StageMask,
    /// Why.
    pub reason: &'static str,
}

impl From<FlowKey> for PolicyKey {
    /// Of the primary network, untranslated.
    fn from(key: FlowKey) -> Self {
        PolicyKey {
            key,
            original: key,
            source_network: PRIMARY_NETWORK,
            destination_network: PRIMARY_NETWORK,
            hop_limit: None,
            receiver: None,
            sender: None,
        }
    }
}

impl PolicyKey {
    /// The same packet as if it bore the address its sender is known by.
    #[must_use]
    pub fn as_from_sender(&self) -> PolicyKey {
        let Some(Sender { address, .. }) = self.sender else {
            return *self;
        };
        let from_sender = |key: FlowKey| FlowKey {
            source: address,
            ..key
        };
        PolicyKey {
            key: from_sender(self.key),
            original: from_sender(self.original),
            ..*self
        }
    }

    /// Which steps are not asked, if any; the steps themselves do not know of it:
    /// - a pod talking to its own address cannot be cut off from itself, except by its security
    ///   groups, and where it takes the way round by a Service except by the tiers of the cluster's
    ///   administrator;
    /// - neighbour discovery, router discovery and multicast listener discovery (ICMPv6 types 130
    ///   to 136 and 143) keep the link alive and are judged elsewhere. They never cross a router:
    ///   neighbour and router discovery arrives with hop limit 255 (RFC 4861 §6.1, §7.1), listener
    ///   discovery with 1 (RFC 2710 §3, RFC 3810 §5). With any other it is ICMPv6 like the rest,
    ///   and so are redirects, as in OVN: nobody needs one to be reached.
    pub fn exemption(&self) -> Option<Exemption> {
        const NETWORK_POLICIES: StageMask = StageMask::of(&[
            K::NetworkPolicyEgress,
            K::MultiNetworkPolicyEgress,
            K::NetworkPolicyIngress,
            K::MultiNetworkPolicyIngress,
            K::ProjectIsolation,
        ]);
        const TIERS: StageMask = StageMask::of(&[
            K::AdminEgress,
            K::BaselineEgress,
            K::AdminIngress,
            K::BaselineIngress,
        ]);
        if self.is_discovery() {
            return Some(Exemption {
                skips: StageMask::ALL,
                reason: "neighbour, router and listener discovery are not subject to policy",
            });
        }
        let known = self.as_from_sender();
        let key = &known.key;
        let own = key.source == key.destination && self.source_network == self.destination_network;
        match (own, *key == known.original) {
            (false, _) => None,
            (true, true) => Some(Exemption {
                skips: NETWORK_POLICIES.union(TIERS),
                reason: "a pod always reaches its own address",
            }),
            (true, false) => Some(Exemption {
                skips: NETWORK_POLICIES,
                reason: "a pod always reaches itself through a Service",
            }),
        }
    }

    fn is_discovery(&self) -> bool {
        let key = &self.key;
        let icmp_type = (key.destination_port >> 8) as u8;
        let discovery = matches!(
            icmp_type,
            protocol::ICMPV6_MLD_QUERY
                ..=protocol::ICMPV6_NEIGHBOUR_ADVERTISEMENT | protocol::ICMPV6_MLD2_REPORT
        );
        let expected = match icmp_type {
            protocol::ICMPV6_ROUTER_SOLICITATION..=protocol::ICMPV6_NEIGHBOUR_ADVERTISEMENT => 255,
            _ => 1,
        };
        let on_link = self.hop_limit.is_none_or(|hop_limit| hop_limit == expected);
        key.protocol == protocol::ICMPV6 && key.is_icmp() && discovery && on_link
    }
}
