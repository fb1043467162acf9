//! Policy changes while traffic runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::support::appliance::Appliance;
use super::support::lab::Lab;
use super::support::policies::{BROKEN, INVENTORY, allow_everything, allow_ports};
use super::support::traffic::{Connection, Echo, ping, tcp, tcp_denied, udp};
use super::support::{root, seconds, within};

/// Two policies: port 80 always, and the one that opens port 81.
fn two_ports() -> (String, String) {
    (
        allow_ports("always", &[80]),
        allow_ports("sometimes", &[81]),
    )
}

/// Waits for port 81 to be open or closed.
fn becomes(lab: &Lab, open: bool) -> bool {
    within(seconds(5), || {
        tcp_denied(&lab.client, lab.server4, 81) != open
            && tcp_denied(&lab.client, lab.server6, 81) != open
    })
}

#[test]
fn a_changed_directory_is_noticed_and_cuts_what_is_no_longer_allowed() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let (always, sometimes) = two_ports();
    let manifests = [("inventory.yaml", INVENTORY), ("always.yaml", &always)];
    let appliance = Appliance::start(&lab, "", &manifests);
    let _echo = Echo::start(&lab.server, &[80, 81]);
    assert!(becomes(&lab, false));
    for v6 in [false, true] {
        let server = lab.server(v6);
        let mut steady = Connection::open(&lab.client, server, 80).expect("port 80 is open");
        appliance.write_policy("sometimes.yaml", &sometimes);
        assert!(becomes(&lab, true), "{}", appliance.log());
        let mut doomed = Connection::open(&lab.client, server, 81).expect("port 81 is open");
        assert!(doomed.echoes(seconds(2)));
        appliance.remove_policy("sometimes.yaml");
        assert!(becomes(&lab, false), "{}", appliance.log());
        assert!(
            !doomed.echoes(seconds(1)),
            "an established flow is cut: {server}"
        );
        assert!(steady.echoes(seconds(2)), "an allowed one is not: {server}");
    }
}

#[test]
fn established_flows_are_kept_when_settings_say_so() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let (always, sometimes) = two_ports();
    let manifests = [
        ("inventory.yaml", INVENTORY),
        ("always.yaml", &always),
        ("sometimes.yaml", &sometimes),
    ];
    let settings = "[policy]\ndirectory = \"policies\"\n[policy.compat]\nestablished = \"keep\"\n";
    let appliance = Appliance::start(&lab, settings, &manifests);
    let _echo = Echo::start(&lab.server, &[80, 81]);
    let mut kept = Connection::open(&lab.client, lab.server4, 81).expect("port 81 is open");
    assert!(kept.echoes(seconds(2)));
    appliance.remove_policy("sometimes.yaml");
    assert!(becomes(&lab, false), "{}", appliance.log());
    assert!(kept.echoes(seconds(2)));
}

#[test]
fn a_signal_and_the_verb_reload_as_well() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let (always, sometimes) = two_ports();
    let manifests = [("inventory.yaml", INVENTORY), ("always.yaml", &always)];
    let settings = "[policy]\ndirectory = \"policies\"\nwatch = false\n";
    let appliance = Appliance::start(&lab, settings, &manifests);
    let _echo = Echo::start(&lab.server, &[80, 81]);
    appliance.write_policy("sometimes.yaml", &sometimes);
    std::thread::sleep(seconds(2));
    assert!(becomes(&lab, false), "nothing watches the directory");
    appliance.signal("HUP");
    assert!(becomes(&lab, true), "{}", appliance.log());
    appliance.remove_policy("sometimes.yaml");
    let (code, printed) = appliance.reload();
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        tcp_denied(&lab.client, lab.server4, 81),
        "in force when reload has answered"
    );
}

/// The kubelet publishes a ConfigMap as a folder of links through `..data`, and replaces that one
/// link.
#[test]
fn a_swapped_config_map_is_noticed() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let (always, sometimes) = two_ports();
    let mut appliance = Appliance::prepare(&lab, "", &[]);
    let folder = appliance.path("policies");
    let publish = |version: &str, files: &[(&str, &str)]| {
        fs::create_dir(folder.join(version)).expect("the folder is ours");
        for (name, text) in files {
            fs::write(folder.join(version).join(name), text).expect("the folder is ours");
            let link = folder.join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).expect("the folder is ours");
            }
        }
        symlink(version, folder.join("..data_tmp")).expect("the folder is ours");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("the folder is ours");
    };
    publish(
        "..1",
        &[("inventory.yaml", INVENTORY), ("policy.yaml", &always)],
    );
    appliance.restart();
    let _echo = Echo::start(&lab.server, &[80, 81]);
    assert!(tcp(&lab.client, lab.server4, 80));
    assert!(becomes(&lab, false));
    publish(
        "..2",
        &[("inventory.yaml", INVENTORY), ("policy.yaml", &sometimes)],
    );
    assert!(becomes(&lab, true), "{}", appliance.log());
    assert!(tcp_denied(&lab.client, lab.server4, 80));
}

#[test]
fn a_broken_manifest_is_refused_with_its_place_and_changes_nothing() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let (always, sometimes) = two_ports();
    let manifests = [("inventory.yaml", INVENTORY), ("always.yaml", &always)];
    let appliance = Appliance::start(&lab, "", &manifests);
    let _echo = Echo::start(&lab.server, &[80, 81]);
    let mut open = Connection::open(&lab.client, lab.server6, 80).expect("port 80 is open");
    appliance.write_policy("broken.yaml", BROKEN);
    // All or nothing: a good file beside it has no effect either.
    appliance.write_policy("sometimes.yaml", &sometimes);
    let (code, printed) = appliance.reload();
    assert!(matches!(code, Some(1 | 2)), "{code:?}: {printed}");
    assert!(printed.contains("broken.yaml:9:15: error: "), "{printed}");
    assert!(
        printed.contains("spec.ingress[0].from[0].ipBlock.cidr"),
        "{printed}"
    );
    assert!(becomes(&lab, false));
    assert!(open.echoes(seconds(2)));
    assert!(tcp(&lab.client, lab.server4, 80));
    appliance.remove_policy("broken.yaml");
    assert!(becomes(&lab, true), "{}", appliance.log());
    assert!(open.echoes(seconds(2)));
}

#[test]
fn a_refusal_is_logged_once_and_told_to_everybody_who_asks() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = allow_everything("all");
    let manifests = [("inventory.yaml", INVENTORY), ("all.yaml", &policy)];
    let appliance = Appliance::start(&lab, "", &manifests);
    let blocks = || appliance.log().matches("policy refused").count();
    let places = || appliance.log().matches("broken.yaml:9:15").count();
    appliance.write_policy("broken.yaml", BROKEN);
    assert!(within(seconds(10), || places() == 1), "the watch tells it");
    for _ in 0..2 {
        let (code, printed) = appliance.reload();
        assert_ne!(code, Some(0), "{printed}");
        assert!(printed.contains("broken.yaml:9:15"), "{printed}");
    }
    assert_eq!((blocks(), places()), (1, 1), "{}", appliance.log());
    // Another fault is another change.
    appliance.write_policy("broken.yaml", &format!("# moved\n{BROKEN}"));
    let (_, printed) = appliance.reload();
    assert!(printed.contains("broken.yaml:10:15"), "{printed}");
    assert!(within(seconds(10), || blocks() == 2));
    assert_eq!(places(), 1, "{}", appliance.log());
}

#[test]
fn reloads_under_load_lose_no_connection() {
    if !root() {
        return;
    }
    const RELOADS: usize = 50;
    let lab = Lab::routed();
    let all = allow_everything("all");
    let manifests = [("inventory.yaml", INVENTORY), ("all.yaml", &all)];
    let appliance = Appliance::start(&lab, "", &manifests);
    let _echo = Echo::start(&lab.server, &[80]);
    let stop = AtomicBool::new(false);
    let (loads, pings) = std::thread::scope(|scope| {
        let load = |v6| {
            let (lab, stop) = (&lab, &stop);
            move || {
                let mut open = Connection::open(&lab.client, lab.server(v6), 80)?;
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    open.echoes_bytes(100_000).then_some(())?;
                    rounds += 1;
                }
                Some(rounds)
            }
        };
        let loads = [scope.spawn(load(false)), scope.spawn(load(true))];
        let server = lab.server4.to_string();
        let count = (RELOADS * 4).to_string();
        let client = &lab.client;
        let pings = scope.spawn(move || {
            let ping = ["ping", "-q", "-i0.02", "-W2", "-c", &count, &server];
            String::from_utf8_lossy(&client.output(&ping).stdout).into_owned()
        });
        for round in 0..RELOADS {
            // Every generation differs, so every reload compiles and publishes anew.
            let other = allow_ports(&format!("round-{round}"), &[1000 + round as u16]);
            appliance.write_policy("other.yaml", &other);
            let (code, printed) = appliance.reload();
            assert_eq!(code, Some(0), "{printed}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let pings = pings.join().expect("ping ends");
        stop.store(true, Ordering::Relaxed);
        (loads.map(|load| load.join().expect("it ends")), pings)
    });
    for load in loads {
        assert!(
            load.is_some_and(|rounds| rounds > 0),
            "a connection was lost: {load:?}"
        );
    }
    assert!(pings.contains(" 0% packet loss"), "{pings}");
    assert!(ping(&lab.client, lab.server6) && udp(&lab.client, lab.server4, 80, 10));
}
