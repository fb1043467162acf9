//! The table against the slow twin, a switch that knows one port: few addresses, so that stations
//! share them, claim each other's and meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::control::layer2::drop_reason;
use crate::dataplane::station::{Says, Sent};
use crate::dataplane::verdict::{DropReason, PortId};
use crate::policy::Direction;
use crate::policy::port_security::{Frame, Icmpv6, Payload, Refusal, from_port, to_port};
use crate::wire::MacAddress;
use crate::wire::parse::{Discovery, LinkLayer};

/// A station as manifests describe it.
#[derive(Debug, Clone)]
struct Pod {
    network: u16,
    mac: Option<MacAddress>,
    addresses: Vec<IpAddr>,
    port_security: bool,
    anti_spoofing: bool,
}

fn mac(last: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, last])
}

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, last)
}

fn v6(last: u8) -> Ipv6Addr {
    match last {
        // Addresses some stations give themselves.
        5 | 6 => link_local(mac(last - 4)),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()),
    }
}

impl Pod {
    fn entry(&self) -> Option<Entry> {
        let known = self.port_security && !self.addresses.is_empty();
        known.then(|| Entry::new(self.mac, self.addresses.iter().map(|&one| one.into())))
    }

    fn sends(&self) -> Option<Entry> {
        let spoofs = self.anti_spoofing && !self.addresses.is_empty();
        let own = || Entry::new(None, self.addresses.iter().map(|&one| one.into()));
        self.entry().or_else(|| spoofs.then(own))
    }

    fn station(&self) -> Station {
        let own = (self.entry(), self.sends());
        station_of(self.network, self.mac, self.addresses.iter().copied(), own)
    }

    /// Is the address one by which a frame shows that it is this station's?
    fn is_known_by(&self, address: IpAddr) -> bool {
        let entry = self.entry().filter(|entry| !entry.v6.is_empty());
        let own = entry.and_then(|entry| entry.mac).map(link_local);
        self.addresses.contains(&address) || own.is_some_and(|own| address == IpAddr::V6(own))
    }
}

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let address = prop_oneof![
        (1..5u8).prop_map(|last| IpAddr::V4(v4(last))),
        (1..5u8).prop_map(|last| IpAddr::V6(v6(last))),
    ];
    let pod = (
        0..2u16,
        prop::option::of((1..4u8).prop_map(mac)),
        prop::collection::vec(address, 0..4),
        any::<bool>(),
        any::<bool>(),
    );
    let pod = pod.prop_map(
        |(network, mac, addresses, port_security, anti_spoofing)| Pod {
            network,
            mac,
            addresses,
            port_security,
            anti_spoofing,
        },
    );
    prop::collection::vec(pod, 1..5)
}

fn frames() -> impl Strategy<Value = Frame> {
    let any_v4 = || {
        prop_oneof![
            8 => (1..6u8).prop_map(v4),
            1 => Just(Ipv4Addr::UNSPECIFIED),
            1 => Just(Ipv4Addr::BROADCAST),
            1 => Just(Ipv4Addr::new(239, 1, 1, 1)),
        ]
    };
    let any_v6 = || {
        prop_oneof![
            8 => (1..7u8).prop_map(v6),
            1 => Just(Ipv6Addr::UNSPECIFIED),
            2 => Just(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
            1 => Just(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 1)),
        ]
    };
    let any_mac = || {
        (0..5u8).prop_map(|last| {
            if last == 0 {
                MacAddress([0; 6])
            } else {
                mac(last)
            }
        })
    };
    let arp = (any_mac(), any_v4());
    let arp = arp.prop_map(|(sender_mac, sender)| Payload::Arp { sender_mac, sender });
    let ports = prop_oneof![Just((68, 67)), Just((67, 68)), Just((1000, 53))];
    let ipv4 = (any_v4(), any_v4(), prop::option::of(ports));
    let ipv4 = ipv4.prop_map(|(source, destination, udp)| Payload::V4 {
        source,
        destination,
        udp,
    });
    let icmp = (
        prop::sample::select(vec![128u8, 131, 134, 135, 136, 143]),
        0..2u8,
        prop::sample::select(vec![64u8, 255]),
        any_v6(),
        prop::option::of(any_mac()),
    );
    let icmp = icmp.prop_map(|(icmp_type, code, hop_limit, target, link_layer)| Icmpv6 {
        icmp_type,
        code,
        hop_limit,
        target: Some(target),
        link_layer,
    });
    let ipv6 = (any_v6(), any_v6(), prop::option::of(icmp));
    let ipv6 = ipv6.prop_map(|(source, destination, icmp)| Payload::V6 {
        source,
        destination,
        icmp,
    });
    let payload = prop_oneof![arp, ipv4, ipv6];
    (1..5u8, 0..5u8, payload).prop_map(|(source, destination, payload)| Frame {
        tagged: false,
        source: mac(source),
        destination: match destination {
            0 => MacAddress::BROADCAST,
            last => mac(last),
        },
        payload,
    })
}

/// The frame as bytes, so that what reads them is tested too.
fn sent(frame: &Frame) -> Sent {
    let mut bytes = [&frame.destination.0[..], &frame.source.0].concat();
    match frame.payload {
        Payload::Arp { sender_mac, sender } => {
            bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            bytes.extend(sender_mac.0);
            bytes.extend(sender.octets());
            bytes.extend([0; 10]);
        }
        Payload::V4 {
            source,
            destination,
            udp,
        } => {
            let mut header = etherparse::Ipv4Header::new(
                8,
                64,
                udp.map_or(etherparse::IpNumber::GRE, |_| etherparse::IpNumber::UDP),
                source.octets(),
                destination.octets(),
            )
            .unwrap();
            header.header_checksum = header.calc_header_checksum();
            bytes.extend([8, 0]);
            header.write(&mut bytes).unwrap();
            let (from, to) = udp.unwrap_or_default();
            bytes.extend(from.to_be_bytes());
            bytes.extend(to.to_be_bytes());
            bytes.extend([0, 8, 0, 0]);
        }
        Payload::V6 {
            source,
            destination,
            icmp,
        } => {
            let mut message = Vec::new();
            if let Some(icmp) = icmp {
                message.extend([icmp.icmp_type, icmp.code, 0, 0, 0, 0, 0, 0]);
                message.extend(icmp.target.unwrap().octets());
                if let Some(mac) = icmp.link_layer {
                    message.extend([if icmp.icmp_type == 136 { 2 } else { 1 }, 1]);
                    message.extend(mac.0);
                }
            }
            let (next, hop_limit) = icmp.map_or((59, 64), |icmp| (58, icmp.hop_limit));
            bytes.extend([
                0x86,
                0xdd,
                0x60,
                0,
                0,
                0,
                0,
                message.len() as u8,
                next,
                hop_limit,
            ]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend(message);
        }
        Payload::Other(_) => unreachable!("not generated"),
    }
    match crate::wire::parse(&bytes, &Default::default()).unwrap() {
        crate::wire::Parsed::Arp(arp) => Sent::arp(&bytes, &arp),
        crate::wire::Parsed::Ip(view) => Sent::ip(&bytes, &view),
    }
}

/// The reasons why none of these stations takes the frame; empty when one does.
fn reasons<'p>(
    stations: impl Iterator<Item = &'p Pod>,
    direction: Direction,
    takes: impl Fn(&Pod) -> Result<(), Refusal>,
) -> Vec<DropReason> {
    let mut reasons = Vec::new();
    for pod in stations {
        match takes(pod) {
            Ok(()) => return Vec::new(),
            Err(refusal) => reasons.push(drop_reason(direction, &refusal)),
        }
    }
    reasons
}

/// Where the frame comes from, and what each port it may have come from says of it.
fn twin_sends(pods: &[Pod], network: u16, frame: &Frame, routed: bool) -> Vec<DropReason> {
    let here = || pods.iter().filter(|pod| pod.network == network);
    let of_mac: Vec<_> = here().filter(|pod| pod.mac == Some(frame.source)).collect();
    let told = |pod: &Pod| from_port(pod.sends().as_ref(), frame);
    if !of_mac.is_empty() {
        return reasons(of_mac.into_iter(), Direction::Egress, told);
    }
    let claimed: IpAddr = match frame.payload {
        Payload::Arp { sender, .. } => sender.into(),
        Payload::V4 { source, .. } => source.into(),
        Payload::V6 { source, .. } => source.into(),
        Payload::Other(_) => return Vec::new(),
    };
    let of_address = here().filter(|pod| pod.is_known_by(claimed));
    reasons(of_address, Direction::Egress, |pod| match told(pod) {
        // A router's own address is in the frames it sends on.
        Err(Refusal::SourceMac { .. }) if routed => Ok(()),
        told => told,
    })
}

fn twin_receives(pods: &[Pod], network: u16, frame: &Frame, routed: bool) -> Vec<DropReason> {
    let here = || pods.iter().filter(|pod| pod.network == network);
    let of_mac: Vec<_> = here()
        .filter(|pod| pod.mac == Some(frame.destination))
        .collect();
    let told = |pod: &Pod| to_port(pod.entry().as_ref(), frame);
    if !of_mac.is_empty() {
        return reasons(of_mac.into_iter(), Direction::Ingress, told);
    }
    let destination: IpAddr = match frame.payload {
        Payload::V4 { destination, .. } => destination.into(),
        Payload::V6 { destination, .. } => destination.into(),
        Payload::Arp { .. } | Payload::Other(_) => return Vec::new(),
    };
    let of_address = here().filter(|pod| pod.is_known_by(destination));
    reasons(of_address, Direction::Ingress, |pod| match told(pod) {
        Err(Refusal::DestinationMac { .. }) if routed => Ok(()),
        told => told,
    })
}

fn destination(frame: &Frame) -> Option<(Family, Address)> {
    match frame.payload {
        Payload::V4 { destination, .. } => Some(Address::from_ip(destination.into())),
        Payload::V6 { destination, .. } => Some(Address::from_ip(destination.into())),
        Payload::Arp { .. } | Payload::Other(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_frame_passes_when_some_port_it_may_be_of_lets_it_pass(
        pods in pods(),
        frame in frames(),
        port in 0..2u8,
        on_link in any::<bool>(),
        router in prop::option::of(1..5u8),
    ) {
        let routers: Vec<_> = router.map(mac).into_iter().collect();
        let segment = |network| Segment { network, routers: routers.clone() };
        let stations = pods.iter().map(Pod::station).collect();
        let network = u16::from(port);
        let passes = |found: Result<(), DropReason>, reasons: Vec<DropReason>| match found {
            Ok(()) => reasons.is_empty(),
            Err(reason) => reasons.contains(&reason),
        };
        let Some(stations) = Stations::new(stations, vec![segment(0), segment(1)]) else {
            let held = |pod: &Pod| pod.sends().is_some();
            prop_assert!(!pods.iter().any(held));
            return Ok(());
        };
        let sent = sent(&frame);
        let found = stations.may_send(PortId(port), &sent, || on_link);
        let routed = !on_link || routers.contains(&frame.source);
        let expected = twin_sends(&pods, network, &frame, routed);
        prop_assert!(passes(found, expected.clone()), "{found:?}, not {expected:?}");
        if let Some(address) = destination(&frame) {
            let found = stations.may_receive(PortId(port), frame.destination, address, || on_link);
            let routed = !on_link || routers.contains(&frame.destination);
            let expected = match frame.destination.is_group() {
                true => Vec::new(),
                false => twin_receives(&pods, network, &frame, routed),
            };
            prop_assert!(passes(found, expected.clone()), "{found:?}, not {expected:?}");
        }
    }
}

#[test]
fn what_cannot_be_read_of_a_held_station_is_refused() {
    let pod = Pod {
        network: 0,
        mac: Some(mac(1)),
        addresses: vec![v6(1).into()],
        port_security: true,
        anti_spoofing: false,
    };
    let segments = vec![Segment::default()];
    let stations = Stations::new(vec![pod.station()], segments).unwrap();
    let (family, source) = Address::from_ip(v6(1).into());
    let unclear = Sent {
        mac: mac(1),
        says: Says::Ip {
            family,
            source,
            without_address: false,
            discovery: Some(Discovery {
                advertises: false,
                target: source,
                link_layer: LinkLayer::Unclear,
            }),
        },
    };
    let told = stations.may_send(PortId(0), &unclear, || true);
    assert_eq!(told, Err(DropReason::PortSecurityDiscovery));
}
