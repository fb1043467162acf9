//! Links, addresses, routes, rules and next-hop objects.

use std::time::Duration;

use portcullis::control::netlink::{KernelView, LocalKind, MirrorWarning};
use portcullis::dataplane::route::RouteTarget;

use crate::world::{run, world};
use crate::{INSIDE, LIMIT, OUTSIDE, SOON, lookup, mirror, port, until};

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
        check_routes(&view);
        check_links(&view);
        check_local_addresses(&view);
        check_warnings(&view);
    });
}

fn check_routes(view: &KernelView) {
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
        assert_eq!(lookup(view, destination), expected, "{destination}");
    }
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
