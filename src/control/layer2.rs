//! A probe's frame, held against port security at both ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::probe::{ArpOperation, Endpoint, Probe, ProbeProtocol};
use super::resolve::{self, Packet};
use crate::dataplane::verdict::DropReason;
use crate::policy::compatibility::EgressGeneration;
use crate::policy::inventory::PodIndex;
use crate::policy::kube_ovn::annotation;
use crate::policy::port_security::{
    Entry, Frame, Icmpv6, Payload, Refusal, from_port, is_neighbour_discovery, to_port,
};
use crate::policy::{Direction, PRIMARY_NETWORK, Place, PolicySet, Port};
use crate::wire::{Address, Family, MacAddress, protocol};

/// Short name of the family in reports and in `deny_stage`.
pub const FAMILY: &str = "L2";

/// UDP port of VXLAN (RFC 7348 §8).
const VXLAN_PORT: u16 = 4789;

/// The MAC address of an end nothing is known of.
const SOMEBODY: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// What one end says of a frame.
#[derive(Debug, Clone)]
pub struct Check {
    /// `Egress`: may the frame leave its sender? `Ingress`: may it reach its receiver?
    pub direction: Direction,
    /// `namespace/name` of the pod, or the endpoint as the probe names it.
    pub end: String,
    /// Which annotation turns port security on, and of what: `ovn.kubernetes.io/port_security of
    /// Pod a/p`; `None` where nothing does.
    pub secured_by: Option<SecuredBy>,
    /// Why the frame is dropped, if it is.
    pub refusal: Option<Refusal>,
}

/// What turns port security on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecuredBy {
    /// `Pod a/p` or `Namespace a`.
    pub object: String,
    /// Where that is written.
    pub place: Option<Place>,
    /// `metadata.annotations[ovn.kubernetes.io/port_security]`.
    pub path: String,
}

/// Holds a probe's frame against both ends. `packet` is the packet policy is asked about, which is
/// in the other direction where the probe `answers`; `None` for ARP.
pub fn checks(
    policy: &PolicySet,
    probe: &Probe,
    packet: Option<&Packet>,
    answers: bool,
) -> Vec<Check> {
    let sender = port_of(policy, &probe.from, None);
    let receiver = port_of(policy, &probe.to, packet.filter(|_| !answers));
    let addresses = packet.map(|packet| Addresses::new(probe, packet, answers));
    let sent = frame(
        policy,
        probe,
        [sender, receiver],
        addresses.as_ref(),
        Direction::Egress,
    );
    let got = frame(
        policy,
        probe,
        [sender, receiver],
        addresses.as_ref(),
        Direction::Ingress,
    );
    let entry = |port: Option<&Port>| port.and_then(Port::entry);
    let held = entry(sender).or_else(|| anti_spoofing(policy, sender?));
    let leaves = from_port(held.as_ref(), &sent).and_then(|()| match sender {
        Some(sender) => into_tunnel(policy, sender, &sent),
        None => Ok(()),
    });
    let reaches = to_port(entry(receiver).as_ref(), &got);
    [
        (Direction::Egress, sender, &probe.from, leaves),
        (Direction::Ingress, receiver, &probe.to, reaches),
    ]
    .into_iter()
    .map(|(direction, port, endpoint, result)| Check {
        direction,
        end: match port {
            Some(port) => policy.inventory.pod_at(port.pod).full_name(),
            None => endpoint.to_string(),
        },
        secured_by: port.and_then(|port| secured_by(policy, port)),
        refusal: result.err(),
    })
    .collect()
}

/// The reason under which the data plane drops and counts such a frame at this end.
pub fn drop_reason(direction: Direction, refusal: &Refusal) -> DropReason {
    match (refusal, direction) {
        (Refusal::Tagged, _) => DropReason::UnexpectedVlan,
        (Refusal::GroupSource(_), _) => DropReason::BadSourceMac,
        (Refusal::SourceMac { .. }, _) => DropReason::PortSecuritySourceMac,
        (Refusal::ArpMac { .. } | Refusal::ArpAddress { .. }, _) => DropReason::PortSecurityArp,
        (Refusal::LinkLayer { .. } | Refusal::Target { .. }, _) => {
            DropReason::PortSecurityDiscovery
        }
        (Refusal::DestinationMac { .. }, _) => DropReason::PortSecurityDestinationMac,
        // No station speaks ARP of a family it has no address of, and nobody forwards the rest.
        (Refusal::NoAddressFor(what, _), _) if what == "ARP" => DropReason::PortSecurityArp,
        (Refusal::NoAddressFor(what, _), _) if what.starts_with("EtherType") => {
            DropReason::UnknownEtherType
        }
        (Refusal::Destination { .. } | Refusal::Tunnel(_), _)
        | (Refusal::NoAddressFor(..), Direction::Ingress) => DropReason::PortSecurityDestination,
        (Refusal::Source { .. }, _) | (Refusal::NoAddressFor(..), Direction::Egress) => {
            DropReason::PortSecuritySource
        }
    }
}

/// openshift-sdn holds every pod to its own addresses, whatever any policy says.
pub(super) fn anti_spoofing(policy: &PolicySet, port: &Port) -> Option<Entry> {
    is_openshift_sdn(policy, port)
        .then(|| port.own_addresses())
        .flatten()
}

/// Is the port one of openshift-sdn, as a ClusterNetwork or the switch `plugin` tells?
fn is_openshift_sdn(policy: &PolicySet, port: &Port) -> bool {
    policy.compatibility.plugin.is_some() && port.network == PRIMARY_NETWORK
}

/// OpenShift 4's network lets no pod send what its nodes would take for packets of their tunnels.
fn into_tunnel(policy: &PolicySet, port: &Port, frame: &Frame) -> Result<(), Refusal> {
    let drops = policy.compatibility.enp_generation == EgressGeneration::Four
        && is_openshift_sdn(policy, port);
    match frame.payload {
        Payload::V4 {
            udp: Some((_, VXLAN_PORT)),
            ..
        } if drops => Err(Refusal::Tunnel(VXLAN_PORT)),
        _ => Ok(()),
    }
}

/// The port of an end, where it is a pod's; behind a Service that of its backend.
fn port_of<'p>(
    policy: &'p PolicySet,
    endpoint: &Endpoint,
    packet: Option<&Packet>,
) -> Option<&'p Port> {
    let inventory = &policy.inventory;
    let of_pod = |index: PodIndex| policy.ports.of_pod(index).next();
    match endpoint {
        Endpoint::Pod { namespace, name } => of_pod(inventory.pod_index(namespace, name)?),
        Endpoint::Attachment {
            namespace,
            name,
            interface,
        } => {
            let mut ports = policy.ports.of_pod(inventory.pod_index(namespace, name)?);
            ports.find(|port| port.interface == *interface)
        }
        Endpoint::Service { .. } => {
            let translation = packet?.translation.as_ref()?;
            let (namespace, name) = translation.backend.split_once('/')?;
            of_pod(inventory.pod_index(namespace, name)?)
        }
        _ => None,
    }
}

fn secured_by(policy: &PolicySet, port: &Port) -> Option<SecuredBy> {
    port.entry()?;
    let name = annotation(&port.provider, "port_security");
    let pod = policy.inventory.pod_at(port.pod);
    let namespace = policy.inventory.namespace(&pod.namespace);
    let path = format!("metadata.annotations[{name}]");
    Some(match pod.annotations.contains_key(&name) {
        true => SecuredBy {
            object: format!("Pod {}", pod.full_name()),
            place: Some(pod.source.place()),
            path,
        },
        false => SecuredBy {
            object: format!("Namespace {}", pod.namespace),
            place: namespace
                .and_then(|namespace| namespace.source.as_ref())
                .map(|source| source.place()),
            path,
        },
    })
}

/// The addresses and ports of a probe's packet as it is on the wire.
struct Addresses {
    source: IpAddr,
    /// As sent, and as delivered behind a Service.
    destinations: [IpAddr; 2],
    protocol: u8,
    ports: (u16, u16),
    icmp_type: u8,
}

impl Addresses {
    fn new(probe: &Probe, packet: &Packet, answers: bool) -> Self {
        let (key, original) = (&packet.packet.key, &packet.packet.original);
        let ip = |address: Address| address.to_ip(key.family);
        let (source, destinations, ports) = match answers {
            false => (
                ip(key.source),
                [ip(original.destination), ip(key.destination)],
                (key.source_port, key.destination_port),
            ),
            true => {
                let destination = probe.destination.unwrap_or(ip(key.source));
                let source = probe.source.unwrap_or(ip(key.destination));
                let ports = (key.destination_port, key.source_port);
                (source, [destination; 2], ports)
            }
        };
        let own_type = (key.destination_port >> 8) as u8;
        let echo_reply = match key.family {
            Family::V4 => protocol::ICMP_ECHO_REPLY,
            Family::V6 => protocol::ICMPV6_ECHO_REPLY,
        };
        Addresses {
            source,
            destinations,
            protocol: key.protocol,
            ports,
            icmp_type: match answers {
                false => own_type,
                true => probe.icmp_type.unwrap_or(echo_reply),
            },
        }
    }
}

/// The frame as it leaves its sender (`Egress`), or as it reaches its receiver.
fn frame(
    policy: &PolicySet,
    probe: &Probe,
    [sender, receiver]: [Option<&Port>; 2],
    addresses: Option<&Addresses>,
    at: Direction,
) -> Frame {
    let own = |port: Option<&Port>| port.and_then(|port| port.mac);
    let source = probe.source_mac.map(|mac| mac.0).or(own(sender));
    let source = source.unwrap_or(SOMEBODY);
    let payload = match addresses {
        Some(addresses) => ip_payload(probe, addresses, at),
        None => arp_payload(policy, probe, source),
    };
    let everybody = match payload {
        Payload::Arp { .. } => {
            let operation = probe.arp.map_or(ArpOperation::Request, |arp| arp.op);
            operation == ArpOperation::Request
        }
        Payload::V4 { destination, .. } => destination.is_broadcast() || destination.is_multicast(),
        Payload::V6 { destination, .. } => destination.is_multicast(),
        Payload::Other(_) => false,
    };
    let destination = match (probe.destination_mac, everybody) {
        (Some(mac), _) => mac.0,
        (None, true) => MacAddress::BROADCAST,
        (None, false) => own(receiver).unwrap_or(SOMEBODY),
    };
    Frame {
        tagged: probe.vlan.is_some(),
        source,
        destination,
        payload,
    }
}

fn arp_payload(policy: &PolicySet, probe: &Probe, source: MacAddress) -> Payload {
    debug_assert_eq!(probe.protocol, ProbeProtocol::Arp);
    let arp = probe.arp.unwrap_or_default();
    let addresses = resolve::addresses(&policy.inventory, &probe.from).unwrap_or_default();
    let given = probe.source.into_iter().chain(addresses);
    let mut v4 = given.filter_map(|address| match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    });
    Payload::Arp {
        sender_mac: arp.sha.map_or(source, |mac| mac.0),
        sender: arp.spa.or(v4.next()).unwrap_or(Ipv4Addr::UNSPECIFIED),
    }
}

fn ip_payload(probe: &Probe, addresses: &Addresses, at: Direction) -> Payload {
    let destination = match at {
        Direction::Egress => addresses.destinations[0],
        Direction::Ingress => addresses.destinations[1],
    };
    match (addresses.source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Payload::V4 {
            source,
            destination,
            udp: (addresses.protocol == protocol::UDP).then_some(addresses.ports),
        },
        (IpAddr::V6(source), IpAddr::V6(destination)) => Payload::V6 {
            source,
            destination,
            icmp: (addresses.protocol == protocol::ICMPV6)
                .then(|| icmpv6(probe, addresses.icmp_type, source)),
        },
        // No packet has both; what is no address of the frame's family is none of the port's.
        (source, _) => Payload::Other(match Family::of(source) {
            Family::V4 => protocol::ETHER_IPV4,
            Family::V6 => protocol::ETHER_IPV6,
        }),
    }
}

fn icmpv6(probe: &Probe, icmp_type: u8, source: Ipv6Addr) -> Icmpv6 {
    let nd = probe.nd.unwrap_or_default();
    let discovery = is_neighbour_discovery(protocol::ICMPV6, icmp_type);
    Icmpv6 {
        icmp_type,
        code: 0,
        hop_limit: probe.hop_limit.unwrap_or(if discovery { 255 } else { 64 }),
        // Who advertises without saying what advertises the address it sends from.
        target: nd.target.or(discovery.then_some(source)),
        link_layer: nd.lladdr.map(|mac| mac.0),
    }
}
