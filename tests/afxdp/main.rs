//! Steering program and AF_XDP rings on real interfaces, between network namespaces.

mod forwarder;
mod world;

use forwarder::{Forwarder, port};
use portcullis::dataplane::xdp::AttachMode;
use world::{RIGHT, RIGHT_V6, World, may_run};

#[test]
fn forwards_between_two_ports() {
    if !may_run("forwards_between_two_ports") {
        return;
    }
    let world = World::new();
    world.enter("box");
    let forwarder = Forwarder::start(&[
        port(0, "l0", AttachMode::Native),
        port(1, "r0", AttachMode::Native),
    ]);
    assert!(world.pings_soon("left", &RIGHT.to_string()));
    assert!(world.pings_soon("left", RIGHT_V6));
    assert!(forwarder.counter("steered") >= 4);
    println!("{:?}", forwarder.control.statistics());
    for s in &forwarder.steering {
        println!("{:?}", s.counters());
    }
    for steering in forwarder.stop() {
        steering.detach().expect("detaching");
    }
    assert!(world.pins("box").is_empty());
}
