//! Closed when it is gone, open when it is back.

use super::support::appliance::Appliance;
use super::support::lab::Lab;
use super::support::policies::{BROKEN, INVENTORY, allow_everything};
use super::support::traffic::{
    Capture, Connection, Echo, ping, ping_denied, tcp, tcp_denied, udp_denied,
};
use super::support::{root, seconds, within};

/// Everything that would move had one frame got past the gateway, or into its stack.
fn leaks(lab: &Lab) -> Vec<u64> {
    let server = ["IcmpInEchos", "Icmp6InEchos", "TcpPassiveOpens"].map(|n| lab.server.counter(n));
    let gateway = [
        "IpInReceives",
        "IpForwDatagrams",
        "Ip6OutForwDatagrams",
        "Icmp6InEchos",
    ];
    [&server[..], &gateway.map(|n| lab.gateway.counter(n))].concat()
}

#[test]
fn kill_9_closes_and_a_restart_opens() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = allow_everything("all");
    let manifests = [("inventory.yaml", INVENTORY), ("all.yaml", &policy)];
    let mut appliance = Appliance::start(&lab, "", &manifests);
    let _echo = Echo::start(&lab.server, &[80]);
    for v6 in [false, true] {
        assert!(ping(&lab.client, lab.server(v6)));
    }
    let mut open = Connection::open(&lab.client, lab.server4, 80).expect("port 80 is open");
    assert!(open.echoes(seconds(2)));

    appliance.kill_9();
    let before = leaks(&lab);
    // Inbound: the server itself repeats what the client had no time to acknowledge.
    let arrives = "inbound and (tcp or udp or icmp or icmp6[0] == 128)";
    let capture = Capture::start(&lab.server, "eth0", arrives);
    open.send("sent while closed\n");
    for v6 in [false, true] {
        assert!(ping_denied(&lab.client, lab.server(v6)));
        assert!(tcp_denied(&lab.client, lab.server(v6), 80));
        assert!(udp_denied(&lab.client, lab.server(v6), 80));
    }
    assert_eq!(
        capture.stop(),
        Vec::<Vec<u8>>::new(),
        "nothing reaches the server"
    );
    assert_eq!(leaks(&lab), before, "nothing reaches any stack");

    let started = appliance.launch();
    // How long it may take is measured (docs/performance.md); here, that it happens at all.
    let server = lab.server4.to_string();
    let once = ["ping", "-q", "-c", "1", "-W", "0.1", &server];
    let opened = within(seconds(30), || lab.client.output(&once).status.success());
    assert!(opened, "open again:\n{}", appliance.log());
    println!("open again after {:?}", started.elapsed());
    // TCP repeats what was lost, at growing intervals.
    assert!(
        open.receives("sent while closed\n", seconds(30)),
        "the connection goes on"
    );
    assert!(open.echoes(seconds(2)));
}

#[test]
fn without_a_valid_policy_it_starts_closed_and_opens_with_one() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let manifests = [("inventory.yaml", INVENTORY), ("broken.yaml", BROKEN)];
    let appliance = Appliance::start(&lab, "", &manifests);
    let _echo = Echo::start(&lab.server, &[80]);
    assert!(
        appliance.log().contains("broken.yaml:9:15"),
        "{}",
        appliance.log()
    );
    assert!(ping_denied(&lab.client, lab.server4));
    assert!(tcp_denied(&lab.client, lab.server6, 80));
    appliance.remove_policy("broken.yaml");
    assert!(ping(&lab.client, lab.server4));
    assert!(tcp(&lab.client, lab.server6, 80));
}

#[test]
fn an_orderly_end_stays_closed_until_detached() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = allow_everything("all");
    let manifests = [("inventory.yaml", INVENTORY), ("all.yaml", &policy)];
    let mut appliance = Appliance::start(&lab, "", &manifests);
    assert!(ping(&lab.client, lab.server4));
    assert_eq!(appliance.terminate(), Some(0), "{}", appliance.log());
    let has_program = || lab.gateway.ip(&["link", "show", "inside"]).contains("xdp");
    assert!(has_program(), "the steering program stays");
    assert!(ping_denied(&lab.client, lab.server4));

    let mut detach = lab.gateway.command(env!("CARGO_BIN_EXE_portcullis"));
    detach
        .args(["detach", "--pin-directory"])
        .arg(appliance.path("bpf"));
    let output = detach
        .args(["inside", "outside"])
        .output()
        .expect("it was built");
    assert!(output.status.success(), "{output:?}");
    assert!(
        within(seconds(2), || !has_program()),
        "the steering program is gone"
    );
}

#[test]
fn an_orderly_end_opens_when_settings_say_so() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = allow_everything("all");
    let manifests = [("inventory.yaml", INVENTORY), ("all.yaml", &policy)];
    let mut appliance = Appliance::prepare(&lab, "", &manifests);
    appliance.prepend_settings("on_exit = \"open\"\n");
    appliance.restart();
    assert!(ping(&lab.client, lab.server4));
    assert_eq!(appliance.terminate(), Some(0), "{}", appliance.log());
    let link = lab.gateway.ip(&["link", "show", "inside"]);
    assert!(!link.contains("xdp"), "{link}");
}
