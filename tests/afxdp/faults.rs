//! Interfaces that flap, vanish and come back; programs of others.

use std::time::{Duration, Instant};

use portcullis::dataplane::backend::afxdp::QueueState;
use portcullis::dataplane::xdp::{AttachMode, AttachState, Steering, XdpError};

use crate::forwarder::{Forwarder, port};
use crate::world::{BOX, LEFT, RIGHT, World, may_run};

const NATIVE: AttachMode = AttachMode::Native;

#[test]
fn a_link_that_flaps_works_again_at_once() {
    if !may_run("a_link_that_flaps_works_again_at_once") {
        return;
    }
    let world = World::new();
    world.enter("box");
    let forwarder = Forwarder::start(&[port(0, "l0", NATIVE), port(1, "r0", NATIVE)]);
    assert!(world.pings_soon("left", &RIGHT.to_string()));
    world.ip("box", "link set l0 down");
    for _ in 0..3 {
        assert!(!world.pings("right", &LEFT.to_string()));
    }
    let state = |queue: usize| forwarder.control.statistics()[queue].state;
    assert_eq!((state(0), state(1)), (QueueState::Down, QueueState::Up));
    world.ip("box", "link set l0 up");
    let since = Instant::now();
    assert!(world.pings_soon("right", &LEFT.to_string()));
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(state(0), QueueState::Up);
}

#[test]
fn an_interface_deleted_and_made_again_is_reopened() {
    if !may_run("an_interface_deleted_and_made_again_is_reopened") {
        return;
    }
    let world = World::new();
    world.enter("box");
    let ports = [port(0, "l0", NATIVE), port(1, "r0", NATIVE)];
    let mut forwarder = Forwarder::start(&ports);
    for round in 0..3 {
        assert!(
            world.pings_soon("right", &LEFT.to_string()),
            "round {round}"
        );
        world.ip("box", "link del l0");
        assert!(!world.pings("right", &LEFT.to_string()));
        let statistics = forwarder.control.statistics();
        let states: Vec<_> = statistics.iter().map(|queue| queue.state).collect();
        assert_eq!(states, [QueueState::Gone, QueueState::Up]);
        let state = |steering: &Steering| steering.state().expect("a state");
        assert_eq!(state(&forwarder.steering[0]), AttachState::InterfaceGone);
        assert_eq!(state(&forwarder.steering[1]), AttachState::Attached);

        world.join("l0", "left");
        let back = state(&forwarder.steering[0]);
        assert!(
            matches!(back, AttachState::InterfaceReplaced { .. }),
            "{back:?}"
        );
        let since = Instant::now();
        forwarder.steering[0].reattach().expect("attached again");
        let reopened = forwarder.control.reopen(&ports[0], &forwarder.steering[0]);
        forwarder.install(reopened.expect("reopened"));
        assert!(
            world.pings_soon("right", &LEFT.to_string()),
            "round {round}"
        );
        assert!(
            since.elapsed() < Duration::from_secs(2),
            "{:?}",
            since.elapsed()
        );
        assert_eq!(state(&forwarder.steering[0]), AttachState::Attached);
        assert_eq!(world.pins("box").len(), 2);
    }
    assert_eq!(world.kernel_packets("box"), 0);
}

#[test]
fn a_pin_whose_interface_was_made_again_is_replaced() {
    if !may_run("a_pin_whose_interface_was_made_again_is_replaced") {
        return;
    }
    let world = World::new();
    world.enter("box");
    let ports = [port(0, "l0", NATIVE), port(1, "r0", NATIVE)];
    drop(Forwarder::start(&ports));
    world.ip("box", "link del l0");
    world.join("l0", "left");
    let forwarder = Forwarder::start(&ports);
    assert!(!forwarder.steering[0].taken_over());
    assert!(forwarder.steering[1].taken_over());
    assert!(world.pings_soon("right", &LEFT.to_string()));
    drop(forwarder);
    // The new pin holds: closed without a process.
    assert!(!world.pings("left", &RIGHT.to_string()));
    assert_eq!(world.kernel_packets("box"), 0);
    let forwarder = Forwarder::start(&ports);
    assert!(forwarder.steering.iter().all(Steering::taken_over));
}

#[test]
fn a_program_of_others_is_not_replaced() {
    if !may_run("a_program_of_others_is_not_replaced") {
        return;
    }
    let world = World::new();
    world.enter("box");
    world.ip(
        "box",
        "link set l0 xdp object tests/afxdp/pass.o section xdp",
    );
    let request = port(0, "l0", NATIVE).steering;
    let error = Steering::attach(&request).expect_err("a foreign program");
    let XdpError::Foreign {
        program, command, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(program, "stranger");
    // The command it names mends it.
    assert_eq!(command, "ip link set dev l0 xdp off");
    world.ip("box", "link set dev l0 xdp off");
    let steering = Steering::attach(&request).expect("attached");
    assert_eq!(steering.state().expect("a state"), AttachState::Attached);
}

#[test]
fn others_cannot_replace_the_program() {
    if !may_run("others_cannot_replace_the_program") {
        return;
    }
    let world = World::new();
    world.enter("box");
    let steering = Steering::attach(&port(0, "l0", NATIVE).steering).expect("attached");
    for arguments in ["xdp object tests/afxdp/pass.o section xdp", "xdp off"] {
        let mut command = world.command("box", "ip");
        command
            .args(["link", "set", "dev", "l0"])
            .args(arguments.split(' '));
        assert!(
            !command.output().expect("ip").status.success(),
            "{arguments}"
        );
    }
    assert_eq!(steering.state().expect("a state"), AttachState::Attached);

    steering.detach().expect("detached");
    let steering = Steering::attach(&port(0, "l0", NATIVE).steering).expect("attached again");
    assert!(!steering.taken_over());
}

#[test]
fn a_port_in_use_is_refused() {
    if !may_run("a_port_in_use_is_refused") {
        return;
    }
    let world = World::new();
    world.enter("box");
    let request = port(0, "l0", NATIVE).steering;
    let first = Steering::attach(&request).expect("attached");
    let error = Steering::attach(&request).expect_err("in use");
    let XdpError::InUse { process, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(process, Some(std::process::id()));
    assert_eq!(first.state().expect("a state"), AttachState::Attached);
}

#[test]
fn the_mode_of_a_pinned_program_is_not_changed_in_passing() {
    if !may_run("the_mode_of_a_pinned_program_is_not_changed_in_passing") {
        return;
    }
    let world = World::new();
    world.enter("box");
    drop(Steering::attach(&port(0, "l0", AttachMode::Generic).steering).expect("attached"));
    let error = Steering::attach(&port(0, "l0", NATIVE).steering).expect_err("another mode");
    assert!(
        error.to_string().contains("portcullis detach l0"),
        "{error}"
    );
    // Closed all the while.
    assert!(!world.pings("left", &BOX.to_string()));
    assert_eq!(world.kernel_packets("box"), 0);
    let steering = Steering::attach(&port(0, "l0", AttachMode::Auto).steering);
    assert!(
        steering
            .expect("taken over in the mode it has")
            .taken_over()
    );
}
