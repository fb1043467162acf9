//! From a probe's names to the packet on the wire: addresses, family, service translation.

mod ends;

use std::net::IpAddr;

use self::ends::{named_attachment, named_pod, networks, receiver, sender, some_of};
use super::probe::{Endpoint, Probe, ProbeProtocol, SOURCE_PORT_DEFAULT};
use crate::policy::inventory::{Service, ServicePort, TargetPort};
use crate::policy::{Inventory, Pod, PolicyKey, PolicySet};
use crate::wire::{Address, Family, FlowKey, protocol};

/// A probe with addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What policy is asked about.
    pub packet: PolicyKey,
    /// The translation, if there was one.
    pub translation: Option<Translation>,
}

/// A Service's ClusterIP and port, replaced by its backend's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// `namespace/name` of the Service.
    pub service: String,
    /// `namespace/name` of its backend.
    pub backend: String,
    /// The ClusterIP the packet was addressed to; `None` where the manifest gives none.
    pub cluster_address: Option<IpAddr>,
    /// The port the packet was addressed to.
    pub port: u16,
}

/// Why a probe has no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No such pod.
    #[error("no pod {namespace}/{name} in the manifests; namespace {namespace} has {known}")]
    NoPod {
        /// Where it was looked for.
        namespace: String,
        /// What was looked for.
        name: String,
        /// Names of the pods there; `none`.
        known: String,
    },
    /// The pod has no address.
    #[error("pod {0} has no status.podIPs")]
    PodWithoutAddress(String),
    /// The pod has no such interface.
    #[error("pod {pod} has no interface {interface} in its network-status; it has {known}")]
    NoInterface {
        /// `namespace/name`.
        pod: String,
        /// What was looked for.
        interface: String,
        /// Names of the interfaces it has; `none`.
        known: String,
    },
    /// The interface has no address.
    #[error("{0} has no ips in its pod's network-status")]
    AttachmentWithoutAddress(String),
    /// No such node.
    #[error("no node {name} in the manifests; they have {known}")]
    NoNode {
        /// What was looked for.
        name: String,
        /// Names of the nodes there are; `none`.
        known: String,
    },
    /// The node has no address.
    #[error("node {0} has no InternalIP in status.addresses")]
    NodeWithoutAddress(String),
    /// No such service.
    #[error("no service {0} in the manifests")]
    NoService(String),
    /// A service is asked for a protocol without ports.
    #[error("service {service} translates tcp, udp and sctp, not {protocol}")]
    ServiceProtocol {
        /// `namespace/name`.
        service: String,
        /// What was asked.
        protocol: ProbeProtocol,
    },
    /// The service has no such port.
    #[error("service {service} has no port {protocol}/{port}; it has {ports}")]
    NoServicePort {
        /// `namespace/name`.
        service: String,
        /// Protocol asked for.
        protocol: ProbeProtocol,
        /// Port asked for.
        port: u16,
        /// What it has.
        ports: String,
    },
    /// The service's selector selects no pod with an address, or more than one.
    #[error("service {service} must select exactly one pod with an address, found {found}")]
    Backends {
        /// `namespace/name`.
        service: String,
        /// `none`, or their names.
        found: String,
    },
    /// The service's target port is a name its backend has not.
    #[error("service {service}: its backend {backend} has no container port named {name:?}")]
    NoTargetPort {
        /// `namespace/name`.
        service: String,
        /// `namespace/name`.
        backend: String,
        /// The name.
        name: String,
    },
    /// A packet is not sent from a service.
    #[error("{0} sends no packets of its own; name the pod behind it")]
    FromService(String),
    /// The end has no address of the family wanted.
    #[error("{end} has no {} address; it has {addresses}", family_name(*family))]
    NoAddressOfFamily {
        /// The endpoint.
        end: String,
        /// What is wanted.
        family: Family,
        /// What it has.
        addresses: String,
    },
    /// Both ends have addresses, but of different families.
    #[error("{from} ({from_addresses}) and {to} ({to_addresses}) have no address family in common")]
    NoCommonFamily {
        /// The sender.
        from: String,
        /// Its addresses.
        from_addresses: String,
        /// The receiver.
        to: String,
        /// Its addresses.
        to_addresses: String,
    },
    /// A kind of endpoint this version cannot resolve.
    #[error("endpoint {0} is not supported yet")]
    NotSupported(String),
    /// The protocol needs a port.
    #[error("{0} needs a destination port")]
    PortMissing(ProbeProtocol),
}

const fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The addresses an endpoint can be asked at, preferred first.
///
/// # Errors
/// The object is missing or has no address.
pub fn addresses(inventory: &Inventory, end: &Endpoint) -> Result<Vec<IpAddr>, ResolveError> {
    match end {
        Endpoint::Ip(address) => Ok(vec![*address]),
        Endpoint::Pod { namespace, name } => {
            let pod = named_pod(inventory, namespace, name)?;
            let addresses = pod_addresses(inventory, pod);
            match addresses.is_empty() {
                true => Err(ResolveError::PodWithoutAddress(pod.full_name())),
                false => Ok(addresses),
            }
        }
        Endpoint::Node(name) => {
            let node = inventory.node(name);
            let node = node.ok_or_else(|| ResolveError::NoNode {
                name: name.clone(),
                known: some_of(inventory.nodes().map(|node| &*node.name)),
            })?;
            match node.addresses.is_empty() {
                true => Err(ResolveError::NodeWithoutAddress(name.clone())),
                false => Ok(node.addresses.clone()),
            }
        }
        Endpoint::Service { .. } => {
            let service = named_service(inventory, end)?;
            let backend = backend(inventory, service)?;
            let mut addresses = pod_addresses(inventory, backend);
            // A Service of one family is not reached by the other, whatever its backend has.
            let families = &service.cluster_addresses;
            if !families.is_empty() {
                let has = |family| families.iter().any(|one| Family::of(*one) == family);
                addresses.retain(|address| has(Family::of(*address)));
                let first = Family::of(families[0]);
                addresses.sort_by_key(|address| Family::of(*address) != first);
            }
            Ok(addresses)
        }
        Endpoint::Attachment {
            namespace,
            name,
            interface,
        } => {
            let pod = named_pod(inventory, namespace, name)?;
            let attachment = named_attachment(pod, interface)?;
            match attachment.addresses.is_empty() {
                true => Err(ResolveError::AttachmentWithoutAddress(end.to_string())),
                false => Ok(attachment.addresses.clone()),
            }
        }
        Endpoint::Host(_) => Err(ResolveError::NotSupported(end.to_string())),
    }
}

/// A pod on the host's network is asked at its node, whichever of the two the manifests describe.
fn pod_addresses(inventory: &Inventory, pod: &Pod) -> Vec<IpAddr> {
    if !pod.addresses.is_empty() || !pod.host_network {
        return pod.addresses.clone();
    }
    if !pod.host_addresses.is_empty() {
        return pod.host_addresses.clone();
    }
    let node = inventory.node_of(pod);
    node.map(|node| node.addresses.clone()).unwrap_or_default()
}

fn named_service<'i>(
    inventory: &'i Inventory,
    end: &Endpoint,
) -> Result<&'i Service, ResolveError> {
    let found = match end {
        Endpoint::Service { namespace, name } => inventory.service(namespace, name),
        _ => None,
    };
    let name = || end.to_string().trim_start_matches("svc:").to_owned();
    found.ok_or_else(|| ResolveError::NoService(name()))
}

fn backend<'i>(inventory: &'i Inventory, service: &'i Service) -> Result<&'i Pod, ResolveError> {
    let backends: Vec<_> = inventory.backends(service).collect();
    match backends[..] {
        [backend] => Ok(backend),
        _ => {
            let names: Vec<_> = backends.iter().map(|pod| pod.full_name()).collect();
            Err(ResolveError::Backends {
                service: service_name(service),
                found: match names.is_empty() {
                    true => "none".into(),
                    false => names.join(", "),
                },
            })
        }
    }
}

fn service_name(service: &Service) -> String {
    format!("{}/{}", service.namespace, service.name)
}

/// Gives a probe its addresses and ports. `state` is not looked at: the packet is the probe's own,
/// from its sender to its receiver. `None` for ARP, which is no IP packet.
///
/// # Errors
/// An end that has no address, or none of the family.
pub fn packet(policy: &PolicySet, probe: &Probe) -> Result<Option<Packet>, ResolveError> {
    let inventory = &policy.inventory;
    if let Endpoint::Service { .. } = probe.from {
        return Err(ResolveError::FromService(probe.from.to_string()));
    }
    let sources = addresses_or(inventory, &probe.from, probe.source)?;
    let destinations = addresses_or(inventory, &probe.to, probe.destination)?;
    if probe.protocol == ProbeProtocol::Arp {
        return Ok(None);
    }
    let family = family(probe, &sources, &destinations)?;
    let of_family = |end: &Endpoint, addresses: &[IpAddr]| {
        let found = addresses
            .iter()
            .find(|address| Family::of(**address) == family);
        found
            .copied()
            .ok_or_else(|| ResolveError::NoAddressOfFamily {
                end: end.to_string(),
                family,
                addresses: list(addresses),
            })
    };
    let source = of_family(&probe.from, &sources)?;
    let destination = of_family(&probe.to, &destinations)?;
    let Some(protocol_number) = protocol_number(probe.protocol, family) else {
        return Ok(None);
    };
    let (source_network, destination_network) = networks(inventory, probe);
    let mut key = FlowKey {
        source: Address::from_ip(source).1,
        destination: Address::from_ip(destination).1,
        source_port: 0,
        destination_port: 0,
        zone: destination_network.max(source_network),
        protocol: protocol_number,
        family,
    };
    if key.is_icmp() {
        let echo = match family {
            Family::V4 => protocol::ICMP_ECHO,
            Family::V6 => protocol::ICMPV6_ECHO,
        };
        key.destination_port = FlowKey::icmp_port(probe.icmp_type.unwrap_or(echo), 0);
    } else if probe.protocol.has_ports() {
        let port = probe
            .port
            .ok_or(ResolveError::PortMissing(probe.protocol))?;
        key.source_port = probe.source_port.unwrap_or(SOURCE_PORT_DEFAULT);
        key.destination_port = port;
    }
    let mut original = key;
    let translation = translate(inventory, probe, &mut key)?;
    // A Service asked for by its name has its backend's address so far.
    if let Some(address) = translation.as_ref().and_then(|found| found.cluster_address) {
        original.destination = Address::from_ip(address).1;
    }
    Ok(Some(Packet {
        packet: PolicyKey {
            key,
            original,
            source_network,
            destination_network,
            hop_limit: probe.hop_limit,
            receiver: receiver(inventory, probe, destination),
            sender: sender(policy, probe, source),
        },
        translation,
    }))
}

/// `None` for ARP, which is none.
fn protocol_number(protocol: ProbeProtocol, family: Family) -> Option<u8> {
    match (protocol, family) {
        (ProbeProtocol::Icmp, Family::V4) => Some(protocol::ICMP),
        (ProbeProtocol::Icmp, Family::V6) | (ProbeProtocol::Icmpv6, _) => Some(protocol::ICMPV6),
        (ProbeProtocol::Number(number), _) => Some(number),
        (ProbeProtocol::Arp, _) => None,
    }
}

/// The addresses of an end, or the one given instead; the end must exist all the same.
fn addresses_or(
    inventory: &Inventory,
    end: &Endpoint,
    instead: Option<IpAddr>,
) -> Result<Vec<IpAddr>, ResolveError> {
    match (addresses(inventory, end), instead) {
        (
            Ok(_)
            | Err(ResolveError::PodWithoutAddress(_) | ResolveError::AttachmentWithoutAddress(_)),
            Some(address),
        ) => Ok(vec![address]),
        (found, _) => found,
    }
}

/// The family of a probe: what it says, else what its protocol or an end of one family demands,
/// else that of the first address both ends have.
fn family(
    probe: &Probe,
    sources: &[IpAddr],
    destinations: &[IpAddr],
) -> Result<Family, ResolveError> {
    if let Some(family) = probe.family {
        return Ok(family);
    }
    if probe.protocol == ProbeProtocol::Icmpv6 {
        return Ok(Family::V6);
    }
    let has = |family| move |address: &&IpAddr| Family::of(**address) == family;
    let common = sources
        .iter()
        .map(|address| Family::of(*address))
        .find(|family| destinations.iter().any(|address| has(*family)(&address)));
    common.ok_or_else(|| ResolveError::NoCommonFamily {
        from: probe.from.to_string(),
        from_addresses: list(sources),
        to: probe.to.to_string(),
        to_addresses: list(destinations),
    })
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}

/// Replaces a ClusterIP and its port by the backend's, in the key.
///
/// An address given as such is translated too where a Service claims it: policy sees what is behind
/// it, whatever the probe calls it.
fn translate(
    inventory: &Inventory,
    probe: &Probe,
    key: &mut FlowKey,
) -> Result<Option<Translation>, ResolveError> {
    let destination = key.destination.to_ip(key.family);
    let by_name = probe.destination.is_none() && matches!(probe.to, Endpoint::Service { .. });
    let service = if by_name {
        named_service(inventory, &probe.to)?
    } else {
        let claims = |service: &&Service| service.cluster_addresses.contains(&destination);
        match inventory.services().iter().find(claims) {
            Some(service) => service,
            None => return Ok(None),
        }
    };
    if !probe.protocol.has_ports() {
        return Err(ResolveError::ServiceProtocol {
            service: service_name(service),
            protocol: probe.protocol,
        });
    }
    let port = key.destination_port;
    let fits = |one: &&ServicePort| one.number == port && one.protocol == key.protocol;
    let Some(service_port) = service.ports.iter().find(fits) else {
        let ports = service.ports.iter();
        let ports: Vec<_> = ports
            .map(|one| format!("{}/{}", protocol::name(one.protocol), one.number))
            .collect();
        return Err(ResolveError::NoServicePort {
            service: service_name(service),
            protocol: probe.protocol,
            port,
            ports: if ports.is_empty() {
                "none".into()
            } else {
                ports.join(", ")
            },
        });
    };
    let backend = backend(inventory, service)?;
    let addresses = pod_addresses(inventory, backend);
    let of_family = addresses.iter().find(|one| Family::of(**one) == key.family);
    let address = of_family.ok_or_else(|| ResolveError::NoAddressOfFamily {
        end: backend.full_name(),
        family: key.family,
        addresses: list(&addresses),
    })?;
    key.destination = Address::from_ip(*address).1;
    key.destination_port = target_port(service, service_port, backend)?;
    let mut cluster_addresses = service.cluster_addresses.iter();
    Ok(Some(Translation {
        service: service_name(service),
        backend: backend.full_name(),
        cluster_address: cluster_addresses
            .find(|one| Family::of(**one) == key.family)
            .copied(),
        port,
    }))
}

/// The number a service port leads to in its backend.
fn target_port(service: &Service, port: &ServicePort, backend: &Pod) -> Result<u16, ResolveError> {
    match &port.target {
        TargetPort::Number(number) => Ok(*number),
        TargetPort::Name(name) => {
            let number = backend.named_port(port.protocol, name);
            number.ok_or_else(|| ResolveError::NoTargetPort {
                service: service_name(service),
                backend: backend.full_name(),
                name: name.clone(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::probe::State;
    use crate::policy::{Compatibility, Names, SourceFile, load};

    fn set() -> PolicySet {
        let text = "
{kind: Node, apiVersion: v1, metadata: {name: n1},
 status: {addresses: [{type: ExternalIP, address: 203.0.113.1}, {type: Hostname, address: n1},
                      {type: InternalIP, address: 198.18.0.1}]}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: x, name: host}, spec: {nodeName: n1,
 hostNetwork: true}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: x, name: dual, labels: {app: dual}},
 status: {podIPs: [{ip: '2001:db8::1'}, {ip: 198.18.1.1}]}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: x, name: four},
 status: {podIPs: [{ip: 198.18.1.2}]}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: x, name: none}}
---
{kind: Service, apiVersion: v1, metadata: {namespace: x, name: four-only}, spec: {
 clusterIP: 198.19.0.1, selector: {app: dual}, ports: [{port: 53, protocol: UDP, targetPort: dns}]}}
---
{kind: Service, apiVersion: v1, metadata: {namespace: x, name: nobody}, spec: {
 selector: {app: nobody}, ports: [{port: 80}]}}
";
        let file = SourceFile {
            name: "m.yaml".into(),
            text: text.into(),
        };
        let loaded = load(&[file], &Compatibility::default(), &Names::default());
        loaded
            .policy
            .unwrap_or_else(|| panic!("{:?}", loaded.findings))
    }

    fn probe(from: &str, to: &str, protocol: &str) -> Probe {
        Probe {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            protocol: protocol.parse().unwrap(),
            port: Some(80),
            source_port: None,
            icmp_type: None,
            hop_limit: None,
            family: None,
            source: None,
            destination: None,
            state: State::New,
            source_mac: None,
            destination_mac: None,
            vlan: None,
            arp: None,
            nd: None,
        }
    }

    fn key(probe: &Probe) -> String {
        match packet(&set(), probe) {
            Ok(Some(packet)) => packet.packet.key.to_string(),
            Ok(None) => "no packet".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_family_is_the_first_both_ends_have() {
        for (from, to, protocol, expected) in [
            (
                "x/dual",
                "x/dual",
                "tcp",
                "tcp [2001:db8::1]:40000 > [2001:db8::1]:80",
            ),
            (
                "x/dual",
                "x/four",
                "tcp",
                "tcp 198.18.1.1:40000 > 198.18.1.2:80",
            ),
            (
                "x/four",
                "x/dual",
                "sctp",
                "sctp 198.18.1.2:40000 > 198.18.1.1:80",
            ),
            (
                "ip:2001:db8::9",
                "x/dual",
                "ip47",
                "ip47 [2001:db8::9]:0 > [2001:db8::1]:0",
            ),
            (
                "x/dual",
                "x/dual",
                "icmp",
                "icmpv6 2001:db8::1 > 2001:db8::1 type 128 code 0 id 0",
            ),
            (
                "x/four",
                "x/four",
                "icmp",
                "icmp 198.18.1.2 > 198.18.1.2 type 8 code 0 id 0",
            ),
            (
                "x/four",
                "x/dual",
                "icmpv6",
                "x/four has no IPv6 address; it has 198.18.1.2",
            ),
        ] {
            assert_eq!(key(&probe(from, to, protocol)), expected);
        }
        let four = Probe {
            family: Some(Family::V4),
            ..probe("x/dual", "x/dual", "udp")
        };
        assert_eq!(key(&four), "udp 198.18.1.1:40000 > 198.18.1.1:80");
    }

    #[test]
    fn nodes_are_asked_at_their_internal_address_and_so_are_pods_on_their_network() {
        for from in ["node:n1", "x/host"] {
            assert_eq!(
                key(&probe(from, "x/four", "tcp")),
                "tcp 198.18.0.1:40000 > 198.18.1.2:80",
                "{from}"
            );
        }
    }

    #[test]
    fn an_address_given_replaces_the_ends_own_but_the_end_must_exist() {
        let mut spoofed = Probe {
            source: Some("198.18.9.9".parse().unwrap()),
            ..probe("x/none", "x/four", "tcp")
        };
        assert_eq!(key(&spoofed), "tcp 198.18.9.9:40000 > 198.18.1.2:80");
        spoofed.source = None;
        assert_eq!(key(&spoofed), "pod x/none has no status.podIPs");
        spoofed.source = Some("198.18.9.9".parse().unwrap());
        spoofed.from = "x/nobody".parse().unwrap();
        assert!(key(&spoofed).starts_with("no pod x/nobody in the manifests; namespace x has "));
    }

    #[test]
    fn interfaces_are_asked_at_their_address_on_their_network() {
        let text = "
{kind: Pod, apiVersion: v1, metadata: {namespace: x, name: a, annotations: {
 k8s.v1.cni.cncf.io/network-status: '[{\"name\": \"x/blue\", \"interface\": \"net1\",
 \"ips\": [\"198.19.1.1\"]}, {\"name\": \"x/red\", \"interface\": \"net2\"}]'}},
 status: {podIP: 198.18.1.1}}
---
{kind: NetworkAttachmentDefinition, apiVersion: k8s.cni.cncf.io/v1,
 metadata: {namespace: x, name: amber}}
";
        let file = SourceFile {
            name: "m.yaml".into(),
            text: text.into(),
        };
        let loaded = load(&[file], &Compatibility::default(), &Names::default());
        let set = loaded.policy.unwrap();
        let asked = |from, to| {
            let packet = packet(&set, &probe(from, to, "tcp"));
            let packet = packet.map(|packet| packet.unwrap().packet);
            packet
                .map(|packet| {
                    let networks = (packet.source_network, packet.destination_network);
                    (packet.key.to_string(), networks)
                })
                .map_err(|error| error.to_string())
        };
        // By name: amber, blue, red.
        let to_pod = ("tcp 198.19.9.9:40000 > 198.19.1.1:80".to_owned(), (2, 2));
        assert_eq!(asked("ip:198.19.9.9", "x/a@net1"), Ok(to_pod));
        let across = ("tcp 198.19.1.1:40000 > 198.18.1.1:80".to_owned(), (2, 0));
        assert_eq!(asked("x/a@net1", "x/a"), Ok(across));
        for (from, expected) in [
            (
                "x/a@net2",
                "x/a@net2 has no ips in its pod's network-status",
            ),
            (
                "x/a@net3",
                "pod x/a has no interface net3 in its network-status; it has net1, net2",
            ),
        ] {
            assert_eq!(asked(from, "x/a"), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_service_that_cannot_be_translated_says_why() {
        for (to, protocol, port, expected) in [
            (
                "svc:x/gone",
                "tcp",
                80,
                "no service x/gone in the manifests",
            ),
            (
                "svc:x/nobody",
                "tcp",
                80,
                "service x/nobody must select exactly one pod with an address, found none",
            ),
            (
                "svc:x/four-only",
                "tcp",
                53,
                "service x/four-only has no port tcp/53; it has udp/53",
            ),
            (
                "svc:x/four-only",
                "udp",
                53,
                "service x/four-only: its backend x/dual has no container port named \"dns\"",
            ),
            (
                "svc:x/four-only",
                "icmp",
                0,
                "service x/four-only translates tcp, udp and sctp, not icmp",
            ),
        ] {
            let probe = Probe {
                port: Some(port),
                ..probe("x/dual", to, protocol)
            };
            assert_eq!(key(&probe), expected);
        }
    }
}
