//! The kernel mirror against a real kernel, in network namespaces made for each test.
//!
//! ```text
//!   gateway namespace                        peer namespace
//!   in0  198.18.0.1/24, 2001:db8:1::1/64 ─── peer0 198.18.0.2/24, 2001:db8:1::2/64
//!   out0 198.18.1.1/24, 2001:db8:2::1/64 ─── peer1 198.18.1.2/24, 2001:db8:2::2/64
//!   other0 (no port)
//! ```

use std::future::Future;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portcullis::control::netlink::{
    KernelView, LocalKind, Mirror, MirrorConfig, MirrorHandle, MirrorWarning, kernel_forwards,
};
use portcullis::dataplane::neighbour::NeighbourRequest;
use portcullis::dataplane::route::{NeighbourState, RouteTarget};
use portcullis::dataplane::verdict::PortId;
use portcullis::wire::Address;

const INSIDE: PortId = PortId(0);
const OUTSIDE: PortId = PortId(1);

/// Half of all changes must be seen within this; it is no more than half because others may use the
/// machine's cores meanwhile.
const SOON: Duration = Duration::from_millis(100);

/// Each change must be seen within this.
const LIMIT: Duration = Duration::from_secs(3);

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

struct World {
    gateway: String,
    peer: String,
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
}

/// Sets a sysctl in a namespace.
fn set(namespace: &str, setting: &str) {
    let (name, value) = setting.split_once('=').unwrap();
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let script = format!("echo {value} > {path}");
    run("ip", &["netns", "exec", namespace, "sh", "-c", &script]);
}

impl World {
    fn new() -> World {
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let base = format!("pc-settings-{}-{number}", std::process::id());
        let world = World {
            gateway: format!("{base}-gw"),
            peer: format!("{base}-peer"),
        };
        run("ip", &["netns", "add", &world.gateway]);
        run("ip", &["netns", "add", &world.peer]);
        // No waiting for duplicate addresses, for link-local ones neither.
        for namespace in [&world.gateway, &world.peer] {
            set(namespace, "net.ipv6.conf.default.accept_dad=0");
        }
        for (ours, theirs, network) in [("in0", "peer0", 0), ("out0", "peer1", 1)] {
            world.make_link(ours, theirs, network);
        }
        world.ip("link add other0 type veth peer name other1");
        world.ip("link set other1 up");
        world.ip("addr add 198.18.9.1/24 dev other0");
        world.ip("link set other0 up");
        world.ip("link set lo up");
        world
    }

    fn make_link(&self, ours: &str, theirs: &str, network: u8) {
        let peer = &self.peer;
        self.ip(&format!(
            "link add {ours} type veth peer name {theirs} netns {peer}"
        ));
        let six = network + 1;
        self.ip(&format!("addr add 198.18.{network}.1/24 brd + dev {ours}"));
        self.ip(&format!("addr add 2001:db8:{six}::1/64 dev {ours} nodad"));
        self.ip(&format!("link set {ours} up"));
        self.peer_ip(&format!("addr add 198.18.{network}.2/24 dev {theirs}"));
        self.peer_ip(&format!("addr add 2001:db8:{six}::2/64 dev {theirs} nodad"));
        self.peer_ip(&format!("link set {theirs} up"));
    }

    /// `ip` in the gateway's namespace.
    fn ip(&self, arguments: &str) {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        run("ip", &[&["-n", &self.gateway], &*arguments].concat());
    }

    /// `ip` in the peer's namespace.
    fn peer_ip(&self, arguments: &str) {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        run("ip", &[&["-n", &self.peer], &*arguments].concat());
    }

    fn sysctl(&self, setting: &str) {
        set(&self.gateway, setting);
    }

    /// Runs a test inside the gateway's namespace, on a thread of its own.
    fn inside<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F + Send) {
        let path = format!("/run/netns/{}", self.gateway);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let namespace = std::fs::File::open(path).unwrap();
                let network = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(namespace.as_fd(), network).unwrap();
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                let local = tokio::task::LocalSet::new();
                runtime.block_on(local.run_until(test()));
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.gateway, &self.peer] {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .output();
        }
    }
}

/// The namespaces, or `None` where they cannot be made.
fn world() -> Option<World> {
    if rustix::process::geteuid().is_root() {
        return Some(World::new());
    }
    let required = std::env::var_os("PORTCULLIS_REQUIRE_ROOT").is_some_and(|value| value == "1");
    assert!(!required, "PORTCULLIS_REQUIRE_ROOT=1, but this is not root");
    eprintln!("skipped: network namespaces need root");
    None
}

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

#[test]
fn links_addresses_and_routes_of_every_kind_appear() {
    let Some(world) = world() else { return };
    for route in [
        "default via 198.18.1.2",
        "198.19.1.0/24 via 198.18.0.2 metric 100",
        "198.19.1.0/24 via 198.18.1.2 metric 50",
        "198.19.2.0/24 dev in0",
        "198.19.3.0/24 via 198.18.9.2",
        "blackhole 198.19.4.0/24",
        "unreachable 198.19.5.0/24",
        "prohibit 198.19.6.0/24",
        "throw 198.19.7.0/24",
        "198.19.8.0/24 via inet6 2001:db8:2::2",
        "198.19.9.0/24 via 203.0.113.1 dev out0 onlink",
        "198.19.10.0/24 nexthop via 198.18.9.2 nexthop via 198.18.0.2 nexthop via 198.18.1.2",
        "198.19.11.0/24 encap mpls 100 via 198.18.0.2",
        "198.19.12.0/24 tos 0x10 via 198.18.0.2",
        "local 198.19.13.0/24 dev lo",
        "198.19.13.128/25 via 198.18.0.2",
    ] {
        if route.contains("mpls") && !std::path::Path::new("/proc/sys/net/mpls").exists() {
            continue;
        }
        world.ip(&format!("route add {route}"));
    }
    for route in [
        "default via 2001:db8:2::2",
        "2001:db8:100::/48 via 2001:db8:1::2",
        "blackhole 2001:db8:101::/48",
        "unreachable 2001:db8:102::/48",
        "prohibit 2001:db8:103::/48",
        "2001:db8:104::/48 nexthop via 2001:db8:1::2 nexthop via 2001:db8:2::2",
        "2001:db8:105::/48 via fe80::9 dev in0",
        "2001:db8:106::/48 from 2001:db8:1::/64 via 2001:db8:1::2",
    ] {
        world.ip(&format!("-6 route add {route}"));
    }
    world.ip("rule add from 198.18.0.0/24 lookup 100");
    world.inside(|| async {
        let handle = mirror().await;
        let view = handle.view.borrow().clone();
        let v4_and_v6 = [
            ("198.18.0.1", Some(RouteTarget::Local)),
            ("198.18.9.1", Some(RouteTarget::Local)),
            ("127.0.0.9", Some(RouteTarget::Local)),
            ("198.18.0.255", Some(RouteTarget::Broadcast)),
            ("198.18.0.77", port(INSIDE, None)),
            ("198.18.1.77", port(OUTSIDE, None)),
            ("198.18.9.77", Some(RouteTarget::OtherDevice)),
            ("192.0.2.1", port(OUTSIDE, Some("198.18.1.2"))),
            ("198.19.1.1", port(OUTSIDE, Some("198.18.1.2"))),
            ("198.19.2.1", port(INSIDE, None)),
            ("198.19.3.1", Some(RouteTarget::OtherDevice)),
            ("198.19.4.1", Some(RouteTarget::Blackhole)),
            ("198.19.5.1", Some(RouteTarget::Unreachable)),
            ("198.19.6.1", Some(RouteTarget::Prohibit)),
            ("198.19.7.1", Some(RouteTarget::Unreachable)),
            ("198.19.8.1", port(OUTSIDE, Some("2001:db8:2::2"))),
            ("198.19.9.1", port(OUTSIDE, Some("203.0.113.1"))),
            ("198.19.10.1", port(INSIDE, Some("198.18.0.2"))),
            ("198.19.12.1", port(OUTSIDE, Some("198.18.1.2"))),
            ("198.19.13.1", Some(RouteTarget::Local)),
            ("198.19.13.200", Some(RouteTarget::Local)),
            ("2001:db8:1::1", Some(RouteTarget::Local)),
            ("2001:db8:1::77", port(INSIDE, None)),
            ("2001:db8:ffff::1", port(OUTSIDE, Some("2001:db8:2::2"))),
            ("2001:db8:100::1", port(INSIDE, Some("2001:db8:1::2"))),
            ("2001:db8:101::1", Some(RouteTarget::Blackhole)),
            ("2001:db8:102::1", Some(RouteTarget::Unreachable)),
            ("2001:db8:103::1", Some(RouteTarget::Prohibit)),
            ("2001:db8:104::1", port(INSIDE, Some("2001:db8:1::2"))),
            ("2001:db8:105::1", port(INSIDE, Some("fe80::9"))),
            ("2001:db8:106::1", port(OUTSIDE, Some("2001:db8:2::2"))),
        ];
        for (destination, expected) in v4_and_v6 {
            assert_eq!(lookup(&view, destination), expected, "{destination}");
        }
        check_links(&view);
        check_local_addresses(&view);
        check_warnings(&view);
    });
}

fn check_links(view: &KernelView) {
    let state = view.links[0].as_ref().unwrap();
    assert_eq!(
        (state.interface.as_str(), state.kind.as_deref()),
        ("in0", Some("veth"))
    );
    assert!(state.admin_up && state.carrier && !state.no_arp);
    let link = view.routes.link(INSIDE).unwrap();
    assert_eq!((link.mac, link.mtu_bytes, link.up), (state.mac, 1500, true));
    let addresses: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses[..2], ["198.18.0.1/24", "2001:db8:1::1/64"]);
}

fn check_local_addresses(view: &KernelView) {
    let has = |prefix: &str, kind| {
        let prefix = prefix.parse().unwrap();
        let mut all = view.local_addresses.iter();
        all.any(|local| (local.prefix, local.kind) == (prefix, kind))
    };
    assert!(has("198.18.0.1/32", LocalKind::Unicast));
    assert!(
        has("198.18.9.1/32", LocalKind::Unicast),
        "of no port, but the box's own"
    );
    assert!(has("198.18.0.255/32", LocalKind::Broadcast));
    assert!(has("2001:db8:2::1/128", LocalKind::Unicast));
    assert!(has("198.19.13.0/24", LocalKind::Unicast));
    assert!(!has("127.0.0.0/8", LocalKind::Unicast));
}

fn check_warnings(view: &KernelView) {
    let has = |test: &dyn Fn(&MirrorWarning) -> bool| view.warnings.iter().any(test);
    let warnings = &view.warnings;
    assert!(
        has(&|w| *w == MirrorWarning::PolicyRules { count: 1 }),
        "{warnings:?}"
    );
    assert!(
        has(&|w| matches!(w, MirrorWarning::Multipath { count: 2, .. })),
        "{warnings:?}"
    );
    for unfollowed in ["traffic class", "source prefix"] {
        let named = |w: &MirrorWarning| {
            matches!(w, MirrorWarning::UnfollowedRoutes { count: 1, reason, .. }
                if *reason == unfollowed)
        };
        assert!(has(&named), "{unfollowed}: {warnings:?}");
    }
    assert!(
        !has(&|w| matches!(w, MirrorWarning::Undecodable { .. })),
        "{warnings:?}"
    );
}

#[test]
fn changes_arrive_soon() {
    let Some(world) = world() else { return };
    world.inside(|| async {
        let mut handle = mirror().await;
        assert!(
            handle.view.borrow().warnings.is_empty(),
            "{:?}",
            handle.view.borrow().warnings
        );
        let mut took = Vec::new();
        // Command, destination to look up, what is expected then.
        let changes = [
            (
                "route add 198.19.0.0/16 via 198.18.1.2",
                "198.19.0.1",
                port(OUTSIDE, Some("198.18.1.2")),
            ),
            (
                "route replace 198.19.0.0/16 via 198.18.0.2",
                "198.19.0.1",
                port(INSIDE, Some("198.18.0.2")),
            ),
            ("route del 198.19.0.0/16", "198.19.0.1", None),
            (
                "route add 198.19.0.0/16 via 198.18.0.2",
                "198.19.0.1",
                port(INSIDE, Some("198.18.0.2")),
            ),
            (
                "route add 2001:db8:9::/48 via 2001:db8:1::2",
                "2001:db8:9::1",
                port(INSIDE, Some("2001:db8:1::2")),
            ),
            (
                "addr add 198.18.0.99/24 dev in0",
                "198.18.0.99",
                Some(RouteTarget::Local),
            ),
            (
                "addr del 198.18.0.99/24 dev in0",
                "198.18.0.99",
                port(INSIDE, None),
            ),
            // The kernel tells of the link alone: its IPv4 routes vanish in silence.
            ("link set in0 down", "198.19.0.1", None),
            ("link set in0 up", "198.18.0.77", port(INSIDE, None)),
        ];
        for (command, destination, expected) in changes {
            world.ip(command);
            let seen = |view: &KernelView| lookup(view, destination) == expected;
            took.push(until(&mut handle, LIMIT, command, seen).await);
        }
        world.ip("link set in0 mtu 1400");
        let mtu = |v: &KernelView| v.routes.link(INSIDE).map(|link| link.mtu_bytes);
        took.push(until(&mut handle, LIMIT, "MTU", |v| mtu(v) == Some(1400)).await);
        took.sort_unstable();
        eprintln!("changes seen after {took:?}");
        assert!(took[took.len() / 2] < SOON, "{took:?}");

        // The kernel itself waits up to a second before it tells of a lost carrier.
        let up = |v: &KernelView| v.routes.link(INSIDE).map(|link| link.up);
        world.peer_ip("link set peer0 down");
        until(&mut handle, LIMIT, "carrier lost", |v| up(v) == Some(false)).await;
        world.peer_ip("link set peer0 up");
        until(&mut handle, LIMIT, "carrier back", |v| up(v) == Some(true)).await;
    });
}

#[test]
fn many_changes_at_once_end_in_the_right_picture() {
    let Some(world) = world() else { return };
    let batch = std::env::temp_dir().join(format!("{}.batch", world.gateway));
    let route = |number: u32| format!("{}.{}.{}.0/24", 100, number / 256, number % 256);
    let mut text = String::new();
    for number in 0..5_000 {
        text += &format!("route add {} via 198.18.1.2\n", route(number));
    }
    for number in (0..5_000).step_by(2) {
        text += &format!("route del {}\n", route(number));
    }
    std::fs::write(&batch, text).unwrap();
    world.inside(|| async {
        let mut handle = mirror().await;
        let arguments =
            ["-n", &world.gateway, "-batch", batch.to_str().unwrap()].map(str::to_owned);
        let child = tokio::task::spawn_blocking(move || {
            run("ip", &arguments.each_ref().map(String::as_str));
        });
        child.await.unwrap();
        let gateway = port(OUTSIDE, Some("198.18.1.2"));
        until(&mut handle, Duration::from_secs(5), "all changes", |view| {
            (0..5_000).all(|number| {
                let destination = route(number).replace("0/24", "9");
                let expected = if number % 2 == 0 { None } else { gateway };
                lookup(view, &destination) == expected
            })
        })
        .await;
    });
    let _ = std::fs::remove_file(batch);
}

#[test]
fn next_hop_objects_are_followed_without_the_kernels_help() {
    let Some(world) = world() else { return };
    world.sysctl("net.ipv4.nexthop_compat_mode=0");
    world.ip("nexthop add id 5 via 198.18.0.2 dev in0");
    world.ip("nexthop add id 6 via 2001:db8:2::2 dev out0");
    world.ip("nexthop add id 7 blackhole");
    world.ip("nexthop add id 9 group 5/6");
    world.ip("route add 198.19.5.0/24 nhid 5");
    world.ip("route add 198.19.6.0/24 nhid 6");
    world.ip("route add 198.19.7.0/24 nhid 7");
    world.ip("route add 198.19.9.0/24 nhid 9");
    world.inside(|| async {
        let mut handle = mirror().await;
        let view = handle.view.borrow().clone();
        let inside = port(INSIDE, Some("198.18.0.2"));
        assert_eq!(lookup(&view, "198.19.5.1"), inside);
        assert_eq!(
            lookup(&view, "198.19.6.1"),
            port(OUTSIDE, Some("2001:db8:2::2"))
        );
        assert_eq!(lookup(&view, "198.19.7.1"), Some(RouteTarget::Blackhole));
        assert_eq!(lookup(&view, "198.19.9.1"), inside);

        // Only the object is notified, none of the routes that use it.
        world.ip("nexthop replace id 5 via 198.18.1.2 dev out0");
        let outside = port(OUTSIDE, Some("198.18.1.2"));
        until(&mut handle, LIMIT, "object replaced", |v| {
            lookup(v, "198.19.5.1") == outside
        })
        .await;
    });
}

fn neighbour(view: &KernelView, port: PortId, text: &str) -> NeighbourState {
    view.routes.neighbour(port, address(text))
}

fn reachable(view: &KernelView, port: PortId, text: &str) -> bool {
    matches!(neighbour(view, port, text), NeighbourState::Reachable(_))
}

#[test]
fn neighbours_are_resolved_by_the_kernel() {
    let Some(world) = world() else { return };
    let mac = "02:00:00:00:00:77";
    world.peer_ip(&format!("link set peer1 address {mac}"));
    world.inside(|| async {
        let mut handle = mirror().await;
        for wanted in ["198.18.1.2", "2001:db8:2::2"] {
            assert_eq!(
                neighbour(&handle.view.borrow(), OUTSIDE, wanted),
                NeighbourState::Unknown,
                "{wanted}"
            );
            assert!(handle.requests.ask(request(OUTSIDE, wanted)));
            until(&mut handle, LIMIT, wanted, |v| {
                reachable(v, OUTSIDE, wanted)
            })
            .await;
            let state = neighbour(&handle.view.borrow(), OUTSIDE, wanted);
            let NeighbourState::Reachable(found) = state else {
                panic!("{state:?}");
            };
            assert_eq!(found.to_string(), mac);
        }
        // Somebody changed their mind.
        world.ip("neigh replace 198.18.1.2 lladdr 02:00:00:00:00:88 dev out0 nud permanent");
        until(&mut handle, LIMIT, "permanent entry", |view| {
            let state = neighbour(view, OUTSIDE, "198.18.1.2");
            matches!(state, NeighbourState::Reachable(mac) if mac.0[5] == 0x88)
        })
        .await;
        world.ip("neigh del 198.18.1.2 dev out0");
        until(&mut handle, LIMIT, "entry deleted", |view| {
            neighbour(view, OUTSIDE, "198.18.1.2") == NeighbourState::Unknown
        })
        .await;
        handle.requests.ask(request(OUTSIDE, "198.18.1.2"));
        until(&mut handle, LIMIT, "asked again", |v| {
            reachable(v, OUTSIDE, "198.18.1.2")
        })
        .await;
    });
}

#[test]
fn a_neighbour_that_does_not_answer_is_failed_for_a_while() {
    let Some(world) = world() else { return };
    for family in ["ipv4", "ipv6"] {
        world.sysctl(&format!("net.{family}.neigh.in0.retrans_time_ms=50"));
    }
    world.inside(|| async {
        let mut handle = mirror().await;
        for wanted in ["198.18.0.200", "2001:db8:1::200"] {
            handle.requests.ask(request(INSIDE, wanted));
            let failed = |v: &KernelView| neighbour(v, INSIDE, wanted) == NeighbourState::Failed;
            let limit = Duration::from_secs(2);
            until(&mut handle, limit, wanted, failed).await;
            handle.requests.ask(request(INSIDE, wanted));
            let limit = Duration::from_secs(4);
            let took = until(&mut handle, limit, "forgotten", |v| !failed(v)).await;
            assert!(took > Duration::from_secs(1), "{took:?}");
            handle.requests.ask(request(INSIDE, wanted));
            let limit = Duration::from_secs(2);
            until(&mut handle, limit, "failed again", failed).await;
        }
        assert!(
            handle.view.borrow().warnings.is_empty(),
            "{:?}",
            handle.view.borrow().warnings
        );
    });
}

#[test]
fn neighbours_in_use_are_kept_fresh_and_others_are_not() {
    let Some(world) = world() else { return };
    for setting in ["base_reachable_time_ms=400", "delay_first_probe_time=0"] {
        world.sysctl(&format!("net.ipv4.neigh.out0.{setting}"));
    }
    world.inside(|| async {
        let mut handle = mirror().await;
        world.peer_ip("addr add 198.18.1.3/24 dev peer1");
        for wanted in ["198.18.1.2", "198.18.1.3"] {
            handle.requests.ask(request(OUTSIDE, wanted));
            until(&mut handle, LIMIT, wanted, |v| {
                reachable(v, OUTSIDE, wanted)
            })
            .await;
        }
        // The last look at it above counts as use; let it be probed for that.
        tokio::time::sleep(Duration::from_secs(2)).await;
        // One moves to another station without a word, and the other falls silent. Only the first
        // is used: that it moved must be found out, and the other's old address stays.
        world.peer_ip("link set peer1 address 02:00:00:00:00:99");
        world.peer_ip("neigh flush all");
        world.peer_ip("addr del 198.18.1.3/24 dev peer1");
        let limit = Duration::from_secs(10);
        let begun = Instant::now();
        loop {
            let view = handle.view.borrow_and_update().clone();
            let wanted = "198.18.1.2";
            let state = neighbour(&view, OUTSIDE, wanted);
            match state {
                NeighbourState::Reachable(mac) if mac.0[5] == 0x99 => break,
                NeighbourState::Reachable(_) => {}
                // As a worker does with the next frame.
                NeighbourState::Unknown => drop(handle.requests.ask(request(OUTSIDE, wanted))),
                NeighbourState::Failed => panic!("it only moved"),
            }
            assert!(begun.elapsed() < limit, "still {state:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let unused = |v: &KernelView| reachable(v, OUTSIDE, "198.18.1.3");
        assert!(
            unused(&handle.view.borrow()),
            "nobody asked whether it is still there"
        );
    });
}

#[test]
fn permanent_neighbours_stay_permanent() {
    let Some(world) = world() else { return };
    world.ip("neigh add 198.18.1.50 lladdr 02:00:00:00:00:50 dev out0 nud permanent");
    world.inside(|| async {
        let handle = mirror().await;
        assert!(reachable(&handle.view.borrow(), OUTSIDE, "198.18.1.50"));
        // Added behind the mirror's back, asked for in the same instant.
        world.ip("neigh add 198.18.1.51 lladdr 02:00:00:00:00:51 dev out0 nud permanent");
        for wanted in ["198.18.1.50", "198.18.1.51"] {
            handle.requests.ask(request(OUTSIDE, wanted));
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        let view = handle.view.borrow().clone();
        assert!(reachable(&view, OUTSIDE, "198.18.1.51"));
        let shown = ["-n", &world.gateway, "neigh", "show", "nud", "permanent"];
        let output = Command::new("ip").args(shown).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("198.18.1.50 ") && text.contains("198.18.1.51 "),
            "{text}"
        );
    });
}

#[test]
fn neighbours_beyond_the_limit_are_refused_and_told() {
    let Some(world) = world() else { return };
    world.inside(|| async {
        let config = MirrorConfig {
            neighbours_max: 16,
            ..MirrorConfig::new(["in0", "out0"])
        };
        let mut handle = mirror_of(config).await;
        for last in 100..110 {
            handle
                .requests
                .ask(request(INSIDE, &format!("198.18.0.{last}")));
        }
        let told = |view: &KernelView| {
            let mut warnings = view.warnings.iter();
            warnings.any(|w| matches!(w, MirrorWarning::NeighbourRefused { count: 6, .. }))
        };
        until(&mut handle, LIMIT, "refusal", told).await;
    });
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
