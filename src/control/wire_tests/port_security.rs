//! Frames that bear what is not their sender's, and frames for somebody else.

use serde_json::json;

use super::*;
use crate::control::judge::judge;
use crate::control::layer2;
use crate::control::probe::Probe;
use crate::dataplane::verdict::DropReason as R;

/// Pods of port 0: `strict` is host 2 and has port security, `free` is host 3 and has not. Behind
/// the router of port 1 is `far`, which has.
const PODS: &str = "
{kind: Pod, apiVersion: v1, metadata: {namespace: a, name: strict, annotations:
 {ovn.kubernetes.io/port_security: 'true', ovn.kubernetes.io/mac_address: '02:00:00:00:00:02',
  ovn.kubernetes.io/port_vips: '198.18.0.200'}},
 status: {podIPs: [{ip: 198.18.0.2}, {ip: '2001:db8:0::2'}]}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: a, name: free, annotations:
 {ovn.kubernetes.io/mac_address: '02:00:00:00:00:03'}},
 status: {podIPs: [{ip: 198.18.0.3}, {ip: '2001:db8:0::3'}]}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: a, name: far, annotations:
 {ovn.kubernetes.io/port_security: 'true', ovn.kubernetes.io/mac_address: '02:00:00:00:00:77'}},
 status: {podIPs: [{ip: 203.0.113.7}]}}
";

const STRICT: [u8; 6] = [2, 0, 0, 0, 0, 2];
const FREE: [u8; 6] = [2, 0, 0, 0, 0, 3];
const SOMEBODY: [u8; 6] = [2, 0, 0, 0, 0, 99];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 1, 254];
const OUTSIDE: &str = "198.18.1.9";
const OUTSIDE_V6: &str = "2001:db8:1::9";

fn segments() -> Vec<PortSegment> {
    vec![PortSegment::default(); 2]
}

fn enforced(mut wire: Wire) -> Wire {
    wire.enforce(&prepared(PODS, &switches(&[])));
    wire
}

/// What `verify` says of the frame of a probe: the reason it is dropped for, if it is.
fn told(manifests: &str, probe: serde_json::Value) -> Option<DropReason> {
    let probe: Probe = serde_json::from_value(probe).unwrap();
    let decider = prepared(manifests, &switches(&[])).decider;
    let judgement = judge(&probe, &decider, &decider).unwrap();
    let check = judgement.dropped()?;
    let refusal = check.refusal.as_ref()?;
    Some(layer2::drop_reason(check.direction, refusal))
}

/// `02:00:00:00:00:02`.
fn text(mac: [u8; 6]) -> String {
    MacAddress(mac).to_string()
}

#[test]
fn a_sender_with_port_security_sends_under_its_own_addresses_alone() {
    let rows = [
        ("strict", STRICT, "198.18.0.2", None),
        ("strict", STRICT, "198.18.0.200", None),
        ("strict", STRICT, "198.18.0.99", Some(R::PortSecuritySource)),
        ("strict", STRICT, "198.18.0.3", Some(R::PortSecuritySource)),
        (
            "strict",
            SOMEBODY,
            "198.18.0.2",
            Some(R::PortSecuritySourceMac),
        ),
        (
            "strict",
            SOMEBODY,
            "198.18.0.200",
            Some(R::PortSecuritySourceMac),
        ),
        ("strict", STRICT, "2001:db8:0::2", None),
        (
            "strict",
            STRICT,
            "2001:db8:0::99",
            Some(R::PortSecuritySource),
        ),
        (
            "strict",
            SOMEBODY,
            "2001:db8:0::2",
            Some(R::PortSecuritySourceMac),
        ),
        ("free", FREE, "198.18.0.3", None),
        ("free", FREE, "198.18.0.99", None),
        ("free", FREE, "198.18.0.2", None),
        ("free", SOMEBODY, "198.18.0.3", None),
        ("free", FREE, "2001:db8:0::2", None),
    ];
    for transparent in [false, true] {
        let mut wire = enforced(match transparent {
            false => Wire::routed(segments()),
            true => Wire::transparent(segments()),
        });
        for (number, (pod, from, source, expected)) in rows.into_iter().enumerate() {
            let destination = match source.contains(':') {
                true => OUTSIDE_V6,
                false => OUTSIDE,
            };
            let to = match transparent {
                true => mac(1, 9),
                false => mac(0, 1),
            };
            let ports = [1000 + number as u16, 53];
            let frame = udp([from, to], source, destination, ports);
            let fate = wire.one(0, frame);
            assert_eq!(fate.dropped_for(), expected, "{transparent} {pod} {source}");
            let probe = json!({"from": format!("a/{pod}"), "to": format!("ip:{destination}"),
                "proto": "udp", "port": 53, "src_ip": source, "src_mac": text(from)});
            assert_eq!(told(PODS, probe), expected, "{pod} {source}");
        }
    }
}

#[test]
fn a_spoofed_frame_neither_rides_on_a_flow_nor_is_answered() {
    let mut wire = enforced(Wire::routed(segments()));
    let own = || udp([STRICT, mac(0, 1)], "198.18.0.2", OUTSIDE, [1000, 53]);
    assert!(wire.one(0, own()).passes());
    let from_elsewhere = udp([SOMEBODY, mac(0, 1)], "198.18.0.2", OUTSIDE, [1000, 53]);
    let fate = wire.one(0, from_elsewhere.clone());
    assert_eq!(fate.dropped_for(), Some(R::PortSecuritySourceMac));
    let mut expiring = from_elsewhere;
    // Time to live 1, and the checksum that goes with it.
    expiring[22] = 1;
    let sum = u16::from_be_bytes([expiring[24], expiring[25]]).wrapping_add(63 << 8);
    expiring[24..26].copy_from_slice(&(sum + u16::from(sum < 63 << 8)).to_be_bytes());
    let fate = wire.one(0, expiring);
    assert_eq!(fate.dropped_for(), Some(R::PortSecuritySourceMac));
    assert_eq!(wire.counters.replies_sent.get(), 0);
    let counted = &wire.counters.drops[R::PortSecuritySourceMac as usize];
    assert_eq!(counted.packets.get(), 2);
    // What is for the box itself does not come here in operation: the steering program passes it.
    let to_box = udp([STRICT, mac(0, 1)], "198.18.0.99", "198.18.0.1", [1000, 53]);
    assert_eq!(wire.one(0, to_box).verdict, Verdict::Kernel);
}

#[test]
fn behind_a_router_only_addresses_that_are_on_the_link_are_tied_to_their_mac() {
    let mut wire = enforced(Wire::routed(segments()));
    let from_far = udp([ROUTER, mac(1, 1)], "203.0.113.7", "198.18.0.3", [1000, 53]);
    assert!(wire.one(1, from_far).passes());
    let to_far = udp([FREE, mac(0, 1)], "198.18.0.3", "203.0.113.7", [1001, 53]);
    assert!(wire.one(0, to_far).passes());
    // A wire does not know who is behind a router, unless it is told which stations are routers.
    for (routers, expected) in [
        (Vec::new(), Some(R::PortSecuritySourceMac)),
        (vec![MacAddress(ROUTER)], None),
    ] {
        let mut segments = segments();
        segments[1].routers = routers;
        let mut wire = enforced(Wire::transparent(segments));
        let from_far = udp([ROUTER, FREE], "203.0.113.7", "198.18.0.3", [1000, 53]);
        assert_eq!(wire.one(1, from_far).dropped_for(), expected);
        let to_far = udp([FREE, ROUTER], "198.18.0.3", "203.0.113.7", [1001, 53]);
        let expected = expected.map(|_| R::PortSecurityDestinationMac);
        assert_eq!(wire.one(0, to_far).dropped_for(), expected);
    }
}

#[test]
fn a_frame_is_delivered_to_the_mac_and_the_addresses_of_a_pod_with_port_security() {
    let mut wire = enforced(Wire::routed(segments()));
    let to = |address: &str, port| udp([mac(1, 9), mac(1, 1)], OUTSIDE, address, [port, 53]);
    assert!(wire.one(1, to("198.18.0.2", 1)).passes());
    // What the kernel has learnt from spoofed ARP: that others have the pod's address, and that the
    // pod has others'.
    let neighbour = |address: &str, mac: [u8; 6]| Neighbour {
        port: PortId(0),
        address: address.parse().unwrap(),
        mac: Some(MacAddress(mac)),
    };
    let learnt = vec![
        neighbour("198.18.0.2", SOMEBODY),
        neighbour("2001:db8:0::2", FREE),
        neighbour("198.18.0.50", STRICT),
        neighbour("198.18.0.200", STRICT),
    ];
    wire.publisher.set_routes(Arc::new(routed(2, learnt)));
    for (address, expected) in [
        ("198.18.0.2", Some(R::PortSecurityDestinationMac)),
        ("198.18.0.50", Some(R::PortSecurityDestination)),
        ("198.18.0.200", None),
        ("198.18.0.3", None),
    ] {
        // Both a new flow and the one that is open.
        for port in [1, 2] {
            let fate = wire.one(1, to(address, port));
            assert_eq!(fate.dropped_for(), expected, "{address} {port}");
        }
    }
    let v6 = udp([mac(1, 9), mac(1, 1)], OUTSIDE_V6, "2001:db8:0::2", [1, 53]);
    // A pod without port security takes what bears its MAC address: as in the switch.
    assert!(wire.one(1, v6).passes());

    let mut wire = enforced(Wire::transparent(segments()));
    for (to, address, expected) in [
        (STRICT, "198.18.0.2", None),
        (STRICT, "198.18.0.99", Some(R::PortSecurityDestination)),
        (SOMEBODY, "198.18.0.2", Some(R::PortSecurityDestinationMac)),
        ([0xff; 6], "198.18.0.2", None),
        (STRICT, "239.1.1.1", None),
    ] {
        let frame = udp([mac(1, 9), to], OUTSIDE, address, [1, 53]);
        assert_eq!(wire.one(1, frame).dropped_for(), expected, "{address}");
        let probe = json!({"from": format!("ip:{OUTSIDE}"), "to": "a/strict", "proto": "udp",
            "port": 53, "dst_ip": address, "dst_mac": text(to)});
        assert_eq!(told(PODS, probe), expected, "{address}");
    }
}

fn arp(source: [u8; 6], sender_mac: [u8; 6], sender: [u8; 4]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &source, &[8, 6]].concat();
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(sender_mac);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend([198, 18, 0, 1]);
    frame.extend([0; 18]);
    frame
}

/// A message of neighbour discovery from `source`, about `target`, with one link-layer address.
fn discovery(icmp_type: u8, source: &str, target: &str, link_layer: [u8; 6]) -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mut frame = [&[0x33, 0x33, 0, 0, 0, 1][..], &STRICT, &[0x86, 0xdd]].concat();
    frame.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame.extend(address(source));
    frame.extend(address("ff02::1"));
    frame.extend([icmp_type, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(address(target));
    frame.extend([icmp_type - 134, 1]);
    frame.extend(link_layer);
    frame
}

#[test]
fn on_a_wire_arp_and_neighbour_discovery_tell_the_truth() {
    const LINK_LOCAL: &str = "fe80::ff:fe00:2";
    let own = [198, 18, 0, 2];
    let other = [198, 18, 0, 1];
    let mut wire = enforced(Wire::transparent(segments()));
    for (what, frame, expected) in [
        ("own ARP", arp(STRICT, STRICT, own), None),
        ("its VIP", arp(STRICT, STRICT, [198, 18, 0, 200]), None),
        (
            "the gateway",
            arp(STRICT, STRICT, other),
            Some(R::PortSecurityArp),
        ),
        (
            "other MAC",
            arp(STRICT, FREE, own),
            Some(R::PortSecurityArp),
        ),
        (
            "from elsewhere",
            arp(SOMEBODY, SOMEBODY, own),
            Some(R::PortSecuritySourceMac),
        ),
        ("a free pod", arp(FREE, SOMEBODY, other), None),
        ("a stranger", arp(SOMEBODY, SOMEBODY, other), None),
        ("a group", arp([3; 6], STRICT, own), Some(R::BadSourceMac)),
        (
            "own NS",
            discovery(135, "2001:db8:0::2", "2001:db8:0::1", STRICT),
            None,
        ),
        (
            "link-local",
            discovery(135, LINK_LOCAL, "2001:db8:0::1", STRICT),
            None,
        ),
        (
            "own NA",
            discovery(136, LINK_LOCAL, "2001:db8:0::2", STRICT),
            None,
        ),
        (
            "NS of another MAC",
            discovery(135, LINK_LOCAL, "2001:db8:0::1", FREE),
            Some(R::PortSecurityDiscovery),
        ),
        (
            "NA of another target",
            discovery(136, LINK_LOCAL, "2001:db8:0::1", STRICT),
            Some(R::PortSecurityDiscovery),
        ),
        (
            "NS from another address",
            discovery(135, "2001:db8:0::3", "2001:db8:0::1", STRICT),
            Some(R::PortSecuritySource),
        ),
        (
            "address detection",
            discovery(135, "::", "2001:db8:0::2", STRICT),
            None,
        ),
        (
            "NA without address",
            discovery(136, "::", LINK_LOCAL, STRICT),
            Some(R::PortSecuritySource),
        ),
        (
            "DHCP",
            udp([STRICT, [0xff; 6]], "0.0.0.0", "255.255.255.255", [68, 67]),
            None,
        ),
        (
            "nearly DHCP",
            udp([STRICT, [0xff; 6]], "0.0.0.0", "255.255.255.255", [67, 68]),
            Some(R::PortSecuritySource),
        ),
    ] {
        assert_eq!(wire.one(0, frame).dropped_for(), expected, "{what}");
    }
}

#[test]
fn openshift_sdn_lets_nobody_send_under_anothers_address() {
    let plugin = "---\n{kind: ClusterNetwork, apiVersion: network.openshift.io/v1, \
                  metadata: {name: default}, network: 198.18.0.0/16, \
                  serviceNetwork: 198.19.0.0/16, hostsubnetlength: 8, \
                  pluginName: redhat/openshift-ovs-networkpolicy}\n";
    let manifests = format!("{PODS}{plugin}");
    let mut wire = Wire::routed(segments());
    wire.enforce(&prepared(&manifests, &switches(&[])));
    for (from, source, expected) in [
        (FREE, "198.18.0.3", None),
        (FREE, "198.18.0.99", Some(R::PortSecuritySource)),
        (FREE, "198.18.0.2", Some(R::PortSecuritySource)),
        // It is about addresses alone.
        (SOMEBODY, "198.18.0.3", None),
    ] {
        let fate = wire.one(0, udp([from, mac(0, 1)], source, OUTSIDE, [1, 53]));
        assert_eq!(fate.dropped_for(), expected, "{source}");
        let probe = json!({"from": "a/free", "to": format!("ip:{OUTSIDE}"), "proto": "udp",
            "port": 53, "src_ip": source, "src_mac": text(from)});
        assert_eq!(told(&manifests, probe), expected, "{source}");
    }
}

#[test]
fn without_port_security_nobody_is_looked_up() {
    let mut wire = Wire::routed(segments());
    let free = PODS.replace("port_security: 'true'", "port_security: 'false'");
    wire.enforce(&prepared(&free, &switches(&[])));
    assert!(wire.publisher.policy().unwrap().stations.is_none());
    let frame = udp([SOMEBODY, mac(0, 1)], "198.18.0.2", OUTSIDE, [1, 53]);
    assert!(wire.one(0, frame).passes());
}
