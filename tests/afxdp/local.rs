//! What reaches the box itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use portcullis::dataplane::xdp::{AttachMode, ManagementRule};

use crate::forwarder::{Forwarder, port};
use crate::world::{BOX, BOX_V6, LEFT, LEFT_V6, World, may_run};

const PATIENCE: Duration = Duration::from_millis(700);

fn rule(source: &str, protocol: u8, first: u16, last: u16) -> ManagementRule {
    ManagementRule {
        source: source.parse().expect("a prefix"),
        protocol: Some(protocol),
        ports: first..=last,
    }
}

fn connects(from: &World, part: &str, to: SocketAddr) -> bool {
    from.within(part, || TcpStream::connect_timeout(&to, PATIENCE).is_ok())
}

#[test]
fn the_box_is_closed_but_for_the_management_list() {
    if !may_run("the_box_is_closed_but_for_the_management_list") {
        return;
    }
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let world = World::new();
        world.enter("box");
        let mut forwarder = Forwarder::start(&[port(0, "l0", mode), port(1, "r0", mode)]);
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a listener");
        let number = listener.local_addr().expect("its address").port();
        let service = SocketAddr::from((BOX, number));
        let left = &mut forwarder.steering[0];

        assert!(!world.pings("left", &BOX.to_string()));
        assert!(!world.pings("left", BOX_V6));
        assert!(!connects(&world, "left", service));
        assert_eq!(world.kernel_packets("box"), 0);

        let open = [
            rule("0.0.0.0/0", 1, 8, 8),
            rule("::/0", 58, 128, 128),
            rule("198.18.1.2/32", 6, number, number),
        ];
        left.set_management(&open).expect("rules");
        assert!(world.pings_soon("left", &BOX.to_string()));
        assert!(world.pings_soon("left", BOX_V6));
        assert!(connects(&world, "left", service));

        // The same port for others only, and a port beside it.
        let others = [
            rule("198.18.1.3/32", 6, number, number),
            rule(
                "198.18.1.2/32",
                6,
                number.wrapping_add(1),
                number.wrapping_add(1),
            ),
        ];
        left.set_management(&others).expect("rules");
        assert!(!connects(&world, "left", service));
        assert!(!world.pings("left", &BOX.to_string()));
    }
}

#[test]
fn answers_to_the_box_come_through() {
    if !may_run("answers_to_the_box_come_through") {
        return;
    }
    let world = World::new();
    world.enter("box");
    let mut forwarder = Forwarder::start(&[
        port(0, "l0", AttachMode::Native),
        port(1, "r0", AttachMode::Native),
    ]);
    assert!(world.pings_soon("box", &LEFT.to_string()), "echo replies");
    assert!(world.pings_soon("box", LEFT_V6), "echo replies");

    let (listener, echo) = world.within("left", || {
        let listener = TcpListener::bind((LEFT, 0)).expect("a listener");
        (listener, UdpSocket::bind((LEFT, 0)).expect("a socket"))
    });
    let server = listener.local_addr().expect("its address");
    let mut client = TcpStream::connect_timeout(&server, PATIENCE).expect("an answered SYN");
    let (mut accepted, _) = listener.accept().expect("the connection");
    accepted.write_all(b"hello").expect("sent");
    let mut text = [0; 5];
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.read_exact(&mut text).expect("data from the server");

    let ask = |connected: bool| {
        let asking = UdpSocket::bind((BOX, 0)).expect("a socket");
        asking.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let server = echo.local_addr().expect("its address");
        if connected {
            asking.connect(server).expect("connected");
        }
        asking
            .send_to(b"ask", server)
            .or_else(|_| asking.send(b"ask"))
            .expect("sent");
        let (_, from) = echo.recv_from(&mut [0; 8]).expect("the question");
        echo.send_to(b"yes", from).expect("the answer");
        asking.recv(&mut [0; 8]).is_ok()
    };
    assert!(ask(true), "a connected socket gets its answer");
    assert!(!ask(false), "one that would take anybody's does not");
    let server = rule("198.18.1.2/32", 17, 32768, 60999);
    let left = &mut forwarder.steering[0];
    left.set_management(&[server]).expect("rules");
    assert!(ask(false), "but where management allows its server");
}

/// A large ping comes in fragments: later ones have no type to judge by.
#[test]
fn fragments_follow_the_rule_of_their_first() {
    if !may_run("fragments_follow_the_rule_of_their_first") {
        return;
    }
    let world = World::new();
    world.enter("box");
    let mut port = port(0, "l0", AttachMode::Native);
    port.steering.management = vec![rule("0.0.0.0/0", 1, 8, 8), rule("::/0", 58, 128, 128)];
    let forwarder = Forwarder::start(&[port]);
    for address in [BOX.to_string(), BOX_V6.to_owned()] {
        let arguments = ["-n", "-c", "2", "-W", "1", "-s", "3000", &address];
        let output = world.command("left", "ping").args(arguments).output();
        assert!(output.expect("ping").status.success(), "{address}");
    }
    assert!(forwarder.counter("passed-management") >= 6);
    assert_eq!(forwarder.counter("dropped-management"), 0);
}
