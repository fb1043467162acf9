//! Neighbours: resolved, failed, kept fresh, left alone.

use std::process::Command;
use std::time::{Duration, Instant};

use portcullis::control::netlink::{KernelView, MirrorConfig, MirrorWarning};
use portcullis::dataplane::route::NeighbourState;

use crate::world::world;
use crate::{INSIDE, LIMIT, OUTSIDE, mirror, mirror_of, neighbour, reachable, request, until};

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
