//! Other kinds of ports, the box itself, and the transparent mode.

use super::support::appliance::Appliance;
use super::support::lab::{GATEWAY4, GATEWAY6, Lab};
use super::support::policies::{INVENTORY, allow_everything, allow_ports};
use super::support::root;
use super::support::traffic::{Echo, ping, ping_denied, tcp, tcp_denied, udp, udp_denied};

#[test]
fn a_macvlan_port_forwards_in_generic_mode() {
    if !root() {
        return;
    }
    let lab = Lab::with_macvlan();
    let policy = allow_ports("web", &[80]);
    let manifests = [("inventory.yaml", INVENTORY), ("web.yaml", &policy)];
    let _appliance = Appliance::start(&lab, "", &manifests);
    let _echo = Echo::start(&lab.server, &[80, 81]);
    for v6 in [false, true] {
        assert!(tcp(&lab.client, lab.server(v6), 80));
        assert!(udp(&lab.client, lab.server(v6), 80, 1000));
        assert!(tcp_denied(&lab.client, lab.server(v6), 81));
    }
    let link = lab.gateway.ip(&["link", "show", "inside"]);
    assert!(link.contains("xdpgeneric"), "{link}");
}

#[test]
fn the_box_itself_answers_only_what_management_allows() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let settings = "
        [management]
        ping = true
        [[management.allow]]
        from = [\"198.18.0.2/32\", \"2001:db8::2/128\"]
        protocol = \"tcp\"
        ports = [22]
    ";
    let policy = allow_everything("all");
    let manifests = [("inventory.yaml", INVENTORY), ("all.yaml", &policy)];
    let _appliance = Appliance::start(&lab, settings, &manifests);
    let _echo = Echo::start(&lab.gateway, &[22, 23]);
    for gateway in [GATEWAY4, GATEWAY6] {
        assert!(ping(&lab.client, gateway), "{gateway}");
        assert!(tcp(&lab.client, gateway, 22), "{gateway}");
        assert!(
            tcp_denied(&lab.client, gateway, 23),
            "another port: {gateway}"
        );
        assert!(
            udp_denied(&lab.client, gateway, 22),
            "another protocol: {gateway}"
        );
        assert!(
            tcp_denied(&lab.server, gateway, 22),
            "another source: {gateway}"
        );
    }
    // What the box asks itself is answered.
    let _services = Echo::start(&lab.server, &[80]);
    assert!(tcp(&lab.gateway, lab.server4, 80) && udp(&lab.gateway, lab.server6, 80, 9));
}

#[test]
fn the_box_itself_is_closed_when_management_allows_nothing() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = allow_everything("all");
    let manifests = [("inventory.yaml", INVENTORY), ("all.yaml", &policy)];
    let _appliance = Appliance::start(&lab, "[management]\nping = false\n", &manifests);
    let _echo = Echo::start(&lab.gateway, &[22]);
    for gateway in [GATEWAY4, GATEWAY6] {
        assert!(ping_denied(&lab.client, gateway), "{gateway}");
        assert!(tcp_denied(&lab.client, gateway, 22), "{gateway}");
    }
    assert!(
        ping(&lab.client, lab.server4),
        "forwarding is another matter"
    );
}

#[test]
fn two_ports_without_addresses_are_a_filtering_wire() {
    if !root() {
        return;
    }
    let lab = Lab::bridged();
    let settings = "
        [forwarding]
        mode = \"transparent\"
        pairs = [[\"inside\", \"outside\"]]
    ";
    let policy = allow_ports("web", &[80]);
    let manifests = [("inventory.yaml", INVENTORY), ("web.yaml", &policy)];
    let _appliance = Appliance::start(&lab, settings, &manifests);
    let _echo = Echo::start(&lab.server, &[80, 81]);
    for v6 in [false, true] {
        let server = lab.server(v6);
        assert!(tcp(&lab.client, server, 80), "tcp {server}");
        assert!(udp(&lab.client, server, 80, 1000), "udp {server}");
        assert!(tcp_denied(&lab.client, server, 81), "tcp {server}");
        assert!(ping_denied(&lab.client, server), "ping {server}");
    }
}
