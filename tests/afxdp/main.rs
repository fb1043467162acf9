//! Steering program and AF_XDP rings on real interfaces, between network namespaces.

mod death;
mod faults;
mod forwarder;
mod local;
mod world;

use forwarder::{Forwarder, port};
use portcullis::dataplane::backend::afxdp::{AfXdpError, open_ports};
use portcullis::dataplane::xdp::{AttachMode, AttachedMode};
use world::{RIGHT, RIGHT_V6, World, mac, may_run};

#[test]
fn native_mode_forwards_both_families() {
    forwards_in(AttachMode::Native, AttachedMode::Native);
}

#[test]
fn generic_mode_forwards_both_families() {
    forwards_in(AttachMode::Generic, AttachedMode::Generic);
}

fn forwards_in(mode: AttachMode, attached: AttachedMode) {
    if !may_run("forwarding") {
        return;
    }
    let world = World::new();
    world.enter("box");
    let forwarder = Forwarder::start(&[port(0, "l0", mode), port(1, "r0", mode)]);
    assert!(world.pings_soon("left", &RIGHT.to_string()));
    assert!(world.pings_soon("left", RIGHT_V6));
    assert!(forwarder.counter("steered") >= 4);
    assert_eq!(world.kernel_packets("box"), 0);
    for queue in forwarder.control.statistics() {
        assert_eq!((queue.rx_dropped, queue.rx_ring_full), (0, 0), "{queue:?}");
    }
    for steering in forwarder.stop() {
        assert_eq!(steering.mode(), attached);
        steering.detach().expect("detaching");
    }
    assert!(world.pins("box").is_empty());
}

/// A macvlan has no native XDP; its parent is in another namespace, as in a container.
#[test]
fn a_macvlan_forwards_in_generic_mode() {
    if !may_run("a_macvlan_forwards_in_generic_mode") {
        return;
    }
    let world = World::with_parts(&["left", "box", "right", "host"]);
    world.join_from("host", "p0", "left");
    world.join("r0", "right");
    let target = world.name("box");
    // With the Ethernet address frames are sent to: the forwarder does not change it.
    let address = mac("right");
    let macvlan = format!("link add link p0 name m0 netns {target} address {address}");
    world.ip("host", &format!("{macvlan} type macvlan mode bridge"));
    world.ip("box", "link set m0 up");
    world.enter("box");
    let ports = [
        port(0, "m0", AttachMode::Auto),
        port(1, "r0", AttachMode::Auto),
    ];
    let forwarder = Forwarder::start(&ports);
    assert_eq!(forwarder.steering[0].mode(), AttachedMode::Generic);
    assert_eq!(forwarder.steering[1].mode(), AttachedMode::Native);
    assert!(world.pings_soon("left", &RIGHT.to_string()));
    assert_eq!(world.kernel_packets("box"), 0);
}

/// Frames of the largest size pass; a byte more is refused before anything is attached.
#[test]
fn the_mtu_must_fit_into_a_frame() {
    if !may_run("the_mtu_must_fit_into_a_frame") {
        return;
    }
    let world = World::new();
    for (part, interface) in [
        ("box", "l0"),
        ("box", "r0"),
        ("left", "eth0"),
        ("right", "eth0"),
    ] {
        world.ip(part, &format!("link set {interface} mtu 1770"));
    }
    world.enter("box");
    let mut ports = [
        port(0, "l0", AttachMode::Native),
        port(1, "r0", AttachMode::Native),
    ];
    ports[0].frame_size_bytes = Some(2048);
    let forwarder = Forwarder::start(&ports);
    let ping = |bytes: &str| {
        let arguments = [
            "-n",
            "-c",
            "1",
            "-W",
            "1",
            "-M",
            "do",
            "-s",
            bytes,
            "198.18.1.3",
        ];
        let output = world.command("left", "ping").args(arguments).output();
        output.expect("ping").status.success()
    };
    // 1770 bytes with the headers of IPv4 and ICMP.
    assert!(ping("1742") || ping("1742"));
    drop(forwarder);

    world.ip("box", "link set l0 mtu 1771");
    let error = open_ports(&ports, &forwarder::options()).expect_err("too large");
    assert!(matches!(error, AfXdpError::MtuTooLarge { .. }), "{error}");
}

/// What cannot be opened leaves nothing behind.
#[test]
fn a_failed_start_leaves_the_ports_as_they_were() {
    if !may_run("a_failed_start_leaves_the_ports_as_they_were") {
        return;
    }
    let world = World::new();
    world.enter("box");
    let mut ports = [
        port(0, "l0", AttachMode::Native),
        port(1, "none", AttachMode::Native),
    ];
    let error = open_ports(&ports, &forwarder::options()).expect_err("no such interface");
    assert!(error.to_string().contains("none"), "{error}");
    assert!(world.pins("box").is_empty());

    // One that only shows once the other port is attached.
    ports[1] = port(1, "r0", AttachMode::Native);
    world.ip(
        "box",
        "link set r0 xdpgeneric object tests/afxdp/pass.o section xdp",
    );
    let error = open_ports(&ports, &forwarder::options()).expect_err("a foreign program");
    assert!(error.to_string().contains("stranger"), "{error}");
    assert!(world.pins("box").is_empty());
    assert!(
        world.pings_soon("left", "198.18.1.1"),
        "the box answers as before"
    );
}
