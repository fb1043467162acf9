//! The kernel mirror against a real kernel, in network namespaces made for each test.
//!
//! ```text
//!   gateway namespace                        peer namespace
//!   in0  198.18.0.1/24, 2001:db8:1::1/64 ─── peer0 198.18.0.2/24, 2001:db8:1::2/64
//!   out0 198.18.1.1/24, 2001:db8:2::1/64 ─── peer1 198.18.1.2/24, 2001:db8:2::2/64
//!   other0 (no port)
//! ```

mod neighbours;
mod topology;
mod world;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use portcullis::control::netlink::{
    KernelView, Mirror, MirrorConfig, MirrorHandle, kernel_forwards,
};
use portcullis::dataplane::neighbour::NeighbourRequest;
use portcullis::dataplane::route::{NeighbourState, RouteTarget};
use portcullis::dataplane::verdict::PortId;
use portcullis::wire::Address;

use world::world;

const INSIDE: PortId = PortId(0);
const OUTSIDE: PortId = PortId(1);

/// Half of all changes must be seen within this; it is no more than half because others may use the
/// machine's cores meanwhile.
const SOON: Duration = Duration::from_millis(100);

/// Each change must be seen within this.
const LIMIT: Duration = Duration::from_secs(3);

async fn mirror() -> MirrorHandle {
    mirror_of(MirrorConfig::new(["in0", "out0"])).await
}

async fn mirror_of(config: MirrorConfig) -> MirrorHandle {
    let (mirror, handle) = Mirror::start(config).await.unwrap();
    tokio::task::spawn_local(mirror.run());
    handle
}

/// Waits until the published picture satisfies a condition; how long that took.
async fn until(
    handle: &mut MirrorHandle,
    limit: Duration,
    what: &str,
    condition: impl Fn(&KernelView) -> bool,
) -> Duration {
    let begun = Instant::now();
    let waiting = handle.view.wait_for(condition);
    match tokio::time::timeout(limit, waiting).await {
        Ok(seen) => drop(seen.unwrap()),
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
    begun.elapsed()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn lookup(view: &KernelView, destination: &str) -> Option<RouteTarget> {
    let (family, bits) = Address::from_ip(address(destination));
    view.routes.lookup(family, bits)
}

fn port(port: PortId, gateway: Option<&str>) -> Option<RouteTarget> {
    let gateway = gateway.map(address);
    Some(RouteTarget::Port { port, gateway })
}

fn request(port: PortId, text: &str) -> NeighbourRequest {
    let (family, address) = Address::from_ip(address(text));
    NeighbourRequest {
        port,
        family,
        address,
    }
}

fn neighbour(view: &KernelView, port: PortId, text: &str) -> NeighbourState {
    view.routes.neighbour(port, address(text))
}

fn reachable(view: &KernelView, port: PortId, text: &str) -> bool {
    matches!(neighbour(view, port, text), NeighbourState::Reachable(_))
}

#[test]
fn an_interface_may_vanish_return_and_be_renamed() {
    let Some(world) = world() else { return };
    world.inside(|| async {
        let mut handle = mirror().await;
        let index = |v: &KernelView| v.links[1].as_ref().map(|link| link.ifindex);
        let first = index(&handle.view.borrow()).unwrap();
        handle.requests.ask(request(OUTSIDE, "198.18.1.2"));
        until(&mut handle, LIMIT, "resolved", |v| {
            reachable(v, OUTSIDE, "198.18.1.2")
        })
        .await;

        world.ip("link del out0");
        until(&mut handle, LIMIT, "interface gone", |v| {
            index(v).is_none()
                && v.routes.link(OUTSIDE).is_none()
                && lookup(v, "198.18.1.77").is_none()
                && !reachable(v, OUTSIDE, "198.18.1.2")
        })
        .await;
        // Nothing can be asked of a port without an interface.
        assert!(handle.requests.ask(request(OUTSIDE, "198.18.1.2")));

        world.make_link("out0", "peer1", 1);
        let there = |v: &KernelView| index(v).is_some_and(|i| i != first);
        until(&mut handle, LIMIT, "interface back", there).await;
        let on_link = port(OUTSIDE, None);
        until(&mut handle, LIMIT, "routes back", |v| {
            lookup(v, "198.18.1.77") == on_link
        })
        .await;
        handle.requests.ask(request(OUTSIDE, "198.18.1.2"));
        until(&mut handle, LIMIT, "resolved again", |v| {
            reachable(v, OUTSIDE, "198.18.1.2")
        })
        .await;

        world.ip("link set out0 down");
        world.ip("link set out0 name away0");
        until(&mut handle, LIMIT, "renamed away", |v| index(v).is_none()).await;
        world.ip("link set away0 name out0");
        until(&mut handle, LIMIT, "renamed back", |v| index(v).is_some()).await;
    });
}

#[test]
fn the_kernels_own_forwarding_is_noticed() {
    let Some(world) = world() else { return };
    world.inside(|| async {
        let interfaces = ["in0".to_owned(), "gone0".to_owned()];
        let on = || kernel_forwards(&interfaces).unwrap();
        world.sysctl("net.ipv4.ip_forward=0");
        assert_eq!(on(), Vec::<String>::new());
        world.sysctl("net.ipv4.conf.in0.forwarding=1");
        assert_eq!(on(), ["net.ipv4.conf.in0.forwarding"]);
        world.sysctl("net.ipv4.ip_forward=1");
        world.sysctl("net.ipv6.conf.all.forwarding=1");
        let all = [
            "net.ipv4.ip_forward",
            "net.ipv6.conf.all.forwarding",
            "net.ipv4.conf.in0.forwarding",
            "net.ipv6.conf.in0.forwarding",
        ];
        assert_eq!(on(), all);
    });
}
