//! The verbs that need no running instance, through the binary.

use std::process::Output;

use super::support::appliance::Appliance;
use super::support::lab::{Lab, words};
use super::support::policies::{INVENTORY, allow_everything};
use super::support::{root, seconds, within};

fn run(lab: &Lab, arguments: &[&str]) -> Output {
    let mut command = lab.gateway.command(env!("CARGO_BIN_EXE_portcullis"));
    command.args(arguments).output().expect("it was built")
}

/// Exit code, and what was printed.
fn detach(appliance: &Appliance, lab: &Lab, what: &[&str]) -> (Option<i32>, String) {
    let directory = appliance.path("bpf");
    let directory = directory.to_str().expect("a temporary folder");
    let arguments = [&["detach", "--pin-directory", directory], what].concat();
    let output = run(lab, &arguments);
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    (output.status.code(), printed)
}

#[test]
fn detach_removes_what_nobody_holds_and_can_be_repeated() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = allow_everything("all");
    let manifests = [("inventory.yaml", INVENTORY), ("all.yaml", &policy)];
    let mut appliance = Appliance::start(&lab, "", &manifests);
    let has_program = |port: &str| lab.gateway.ip(&["link", "show", port]).contains("xdp");
    // The kernel lists the pins' directories, each named after its port.
    let pinned = |appliance: &Appliance| {
        let pins = std::fs::read_dir(appliance.path("bpf")).expect("it is mounted");
        let names = pins.map(|pin| pin.expect("a pin").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| !name.contains(".debug")).count()
    };

    let (code, printed) = detach(&appliance, &lab, &["inside"]);
    assert_eq!(code, Some(1), "a running gateway holds it: {printed}");
    assert!(printed.contains("inside: not detached"), "{printed}");
    assert!(has_program("inside"));

    appliance.kill_9();
    assert_eq!(pinned(&appliance), 2);
    let (code, printed) = detach(&appliance, &lab, &["inside"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("inside: detached"), "{printed}");
    assert!(within(seconds(5), || !has_program("inside")));
    assert!(has_program("outside"), "the other port stays closed");
    assert_eq!(pinned(&appliance), 1);

    let again = detach(&appliance, &lab, &["inside"]);
    assert_eq!(again, (Some(0), "inside: nothing is pinned\n".to_owned()));
    let (code, printed) = detach(&appliance, &lab, &["--all"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("outside: detached"), "{printed}");
    assert!(within(seconds(5), || !has_program("outside")));
    let again = detach(&appliance, &lab, &["--all"]);
    assert_eq!(again, (Some(0), "nothing is pinned\n".to_owned()));
}

#[test]
fn detach_refuses_what_it_cannot_use() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let appliance = Appliance::prepare(&lab, "", &[]);
    for what in [
        &[][..],
        &["--all", "inside"],
        &["--every-namespace", "inside"],
    ] {
        let (code, printed) = detach(&appliance, &lab, what);
        assert_eq!(code, Some(2), "{what:?}: {printed}");
        assert!(!printed.is_empty(), "{what:?}");
    }
    // No bpffs: nothing can be pinned there, and nothing is mounted on the way.
    let elsewhere = appliance.path("policies");
    let elsewhere = elsewhere.to_str().expect("a temporary folder");
    let output = run(&lab, &["detach", "--all", "--pin-directory", elsewhere]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(elsewhere), "{text}");
}

/// Findings of `portcullis doctor` about an interface: id and command.
fn findings(lab: &Lab, interface: &str) -> Vec<(String, String)> {
    let output = run(lab, &["doctor", interface, "-o", "json"]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("a list");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let ours = findings.iter().filter(|f| f["interface"] == interface);
    ours.map(|f| (text(&f["id"]), text(&f["command"])))
        .collect()
}

#[test]
fn doctor_finds_a_parent_that_answers_for_its_macvlan_and_mends_it() {
    if !root() {
        return;
    }
    let lab = Lab::with_macvlan();
    let answers = |lab: &Lab| {
        let mut found = findings(lab, "inside").into_iter();
        found.find(|(id, _)| id == "parent-answers")
    };
    assert_eq!(answers(&lab), None, "the lab has set arp_ignore");
    lab.gateway.sysctl("net.ipv4.conf.all.arp_ignore", "0");
    let (_, command) = answers(&lab).expect("the finding");
    assert_eq!(command, "sysctl -w net.ipv4.conf.uplink.arp_ignore=1");
    lab.gateway.run(&words(&command));
    assert_eq!(answers(&lab), None, "mended by its own command");
    // A larger value that helps nothing hides the smaller one.
    lab.gateway.sysctl("net.ipv4.conf.all.arp_ignore", "3");
    let (_, command) = answers(&lab).expect("the finding");
    lab.gateway.run(&words(&command));
    assert_eq!(answers(&lab), None, "mended by its own command");

    let output = run(&lab, &["doctor", "missing"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
