//! What policy allows passes, what it does not is dropped; both families, offloads on.

use super::support::appliance::Appliance;
use super::support::lab::Lab;
use super::support::policies::{INVENTORY, allow_everything, allow_ports, deny_everything};
use super::support::root;
use super::support::traffic::{
    Connection, Echo, ping, ping_denied, tcp, tcp_denied, udp, udp_denied,
};

#[test]
fn allowed_ports_pass_and_all_others_are_dropped() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = allow_ports("web", &[80]);
    let manifests = [("inventory.yaml", INVENTORY), ("web.yaml", &policy)];
    let _appliance = Appliance::start(&lab, "", &manifests);
    let _echo = Echo::start(&lab.server, &[80, 81]);
    for v6 in [false, true] {
        let server = lab.server(v6);
        assert!(tcp(&lab.client, server, 80), "tcp {server}");
        assert!(udp(&lab.client, server, 80, 100), "udp {server}");
        assert!(tcp_denied(&lab.client, server, 81), "tcp {server}");
        assert!(udp_denied(&lab.client, server, 81), "udp {server}");
        assert!(
            ping_denied(&lab.client, server),
            "a list of ports has no ICMP: {server}"
        );
    }
}

#[test]
fn a_rule_without_ports_allows_every_protocol() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = allow_everything("all");
    let manifests = [("inventory.yaml", INVENTORY), ("all.yaml", &policy)];
    let _appliance = Appliance::start(&lab, "", &manifests);
    let _echo = Echo::start(&lab.server, &[80]);
    for v6 in [false, true] {
        let server = lab.server(v6);
        assert!(ping(&lab.client, server), "ping {server}");
        assert!(tcp(&lab.client, server, 80), "tcp {server}");
    }
}

#[test]
fn a_policy_that_allows_nothing_lets_nothing_in_but_replies() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = deny_everything("none");
    let manifests = [("inventory.yaml", INVENTORY), ("none.yaml", &policy)];
    let _appliance = Appliance::start(&lab, "", &manifests);
    let _servers = Echo::start(&lab.server, &[80]);
    let _clients = Echo::start(&lab.client, &[90]);
    for (v6, client) in [
        (false, super::support::lab::CLIENT4),
        (true, super::support::lab::CLIENT6),
    ] {
        let server = lab.server(v6);
        assert!(tcp_denied(&lab.client, server, 80), "tcp {server}");
        assert!(ping_denied(&lab.client, server), "ping {server}");
        // The server is isolated for what comes in, not for what it asks itself.
        assert!(tcp(&lab.server, client, 90), "tcp {client}");
        assert!(udp(&lab.server, client, 90, 100), "udp {client}");
        assert!(ping(&lab.server, client), "ping {client}");
    }
}

/// Local senders leave checksums to the hardware: what arrives must be whole all the same.
#[test]
fn bulk_data_arrives_unchanged_with_offloads_on() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = allow_ports("web", &[80]);
    let manifests = [("inventory.yaml", INVENTORY), ("web.yaml", &policy)];
    let _appliance = Appliance::start(&lab, "", &manifests);
    let _echo = Echo::start(&lab.server, &[80]);
    let features = lab.client.run(&["ethtool", "-k", "eth0"]);
    assert!(features.contains("tx-checksumming: on"), "{features}");
    for v6 in [false, true] {
        let server = lab.server(v6);
        let mut open = Connection::open(&lab.client, server, 80).expect("port 80 is open");
        assert!(open.echoes_bytes(3_000_000), "tcp {server}");
        // The largest datagram that is not fragmented; UDP checksums are partial too.
        assert!(udp(&lab.client, server, 80, 1400), "udp {server}");
    }
}
