//! The gateway as a router: what it answers itself, and what it changes in a frame.

use super::support::appliance::Appliance;
use super::support::lab::{Lab, words};
use super::support::policies::{INVENTORY, allow_everything};
use super::support::traffic::{Capture, Connection, Echo, ping, tcp, tcp_denied};
use super::support::{root, seconds, within};

fn open_gateway(lab: &Lab) -> Appliance<'_> {
    let policy = allow_everything("all");
    Appliance::start(
        lab,
        "",
        &[("inventory.yaml", INVENTORY), ("all.yaml", &policy)],
    )
}

/// Does one of a few pings get this answer? Errors are rate-limited and may be lost.
fn ping_says(lab: &Lab, arguments: &str, expected: &str) -> bool {
    let mut last = String::new();
    let command = format!("ping -c1 -W1 {arguments}");
    let said = within(seconds(8), || {
        let output = lab.client.output(&words(&command));
        last = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        last.contains(expected)
    });
    if !said {
        eprintln!("{command}: expected {expected}, got {last}");
    }
    said
}

#[test]
fn a_time_to_live_that_ends_here_is_answered() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let _appliance = open_gateway(&lab);
    assert!(ping(&lab.client, lab.server4) && ping(&lab.client, lab.server6));
    let (server4, server6) = (lab.server4, lab.server6);
    let answer = "From 198.18.0.1 icmp_seq=1 Time to live exceeded";
    assert!(ping_says(&lab, &format!("-t1 {server4}"), answer));
    let answer = "From 2001:db8::1 icmp_seq=1 Time exceeded: Hop limit";
    assert!(ping_says(&lab, &format!("-t1 {server6}"), answer));
    // Two hops are enough.
    assert!(ping_says(&lab, &format!("-t2 {server4}"), "ttl="));
    assert!(ping_says(&lab, &format!("-t2 {server6}"), "ttl="));
}

#[test]
fn destinations_without_a_route_are_answered() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let _appliance = open_gateway(&lab);
    assert!(ping_says(
        &lab,
        "198.19.0.9",
        "From 198.18.0.1 icmp_seq=1 Destination Net Unreachable"
    ));
    let answer = "From 2001:db8::1 icmp_seq=1 Destination unreachable: No route";
    assert!(ping_says(&lab, "2001:db8:99::9", answer));
}

#[test]
fn neighbours_that_do_not_answer_are_reported() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let _appliance = open_gateway(&lab);
    // The kernel gives up after three seconds.
    let patience = "-W5";
    let answer = "From 198.18.0.1 icmp_seq=1 Destination Host Unreachable";
    assert!(ping_says(&lab, &format!("{patience} 198.18.1.99"), answer));
    let answer = "From 2001:db8::1 icmp_seq=1 Destination unreachable: Address unreachable";
    assert!(ping_says(
        &lab,
        &format!("{patience} 2001:db8:1::99"),
        answer
    ));
}

#[test]
fn the_first_packet_to_an_unknown_neighbour_is_not_lost() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let _appliance = open_gateway(&lab);
    for v6 in [false, true] {
        let server = lab.server(v6).to_string();
        lab.gateway.ip(&["neighbour", "flush", "dev", "outside"]);
        let output = lab.client.run(&["ping", "-c1", "-W3", &server]);
        assert!(output.contains(" 0% packet loss"), "{output}");
    }
}

#[test]
fn packets_larger_than_the_next_link_are_answered_and_tcp_adapts() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    lab.gateway.ip(&words("link set outside mtu 1400"));
    lab.server.ip(&words("link set eth0 mtu 1400"));
    let _appliance = open_gateway(&lab);
    let _echo = Echo::start(&lab.server, &[80]);
    let (server4, server6) = (lab.server4, lab.server6);
    assert!(ping(&lab.client, server4) && ping(&lab.client, server6));
    let answer = "From 198.18.0.1 icmp_seq=1 Frag needed and DF set (mtu = 1400)";
    assert!(ping_says(&lab, &format!("-Mdo -s1472 {server4}"), answer));
    let answer = "From 2001:db8::1 icmp_seq=1 Packet too big: mtu=1400";
    assert!(ping_says(&lab, &format!("-Mdo -s1452 {server6}"), answer));
    // RFC 1812 §5.2.6: what may be fragmented is.
    assert!(ping_says(&lab, &format!("-Mdont -s1472 {server4}"), "ttl="));
    for server in [server4, server6] {
        let mut open = Connection::open(&lab.client, server, 80).expect("port 80 is open");
        assert!(open.echoes_bytes(500_000), "{server}");
    }
}

#[test]
fn routes_and_addresses_may_change_while_it_runs() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let _appliance = open_gateway(&lab);
    let _echo = Echo::start(&lab.server, &[80]);
    for (address, via) in [
        ("198.19.7.7", "198.18.1.2"),
        ("2001:db8:77::7", "2001:db8:1::2"),
    ] {
        lab.server.ip(&["address", "add", address, "dev", "lo"]);
        let to = address.parse().expect("an address");
        assert!(tcp_denied(&lab.client, to, 80), "no route yet: {address}");
        lab.gateway.ip(&["route", "add", address, "via", via]);
        assert!(within(seconds(3), || tcp(&lab.client, to, 80)), "{address}");
        lab.gateway.ip(&["route", "delete", address]);
        assert!(
            within(seconds(3), || tcp_denied(&lab.client, to, 80)),
            "{address}"
        );
    }
}

#[test]
fn forwarded_frames_have_new_addresses_and_one_hop_less() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let _appliance = open_gateway(&lab);
    let mac = |text: String| {
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "link/ether");
        let mac = words.nth(1).expect("it has one").to_owned();
        mac.split(':')
            .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"))
            .collect::<Vec<u8>>()
    };
    let outside = mac(lab.gateway.ip(&words("link show outside")));
    let server = mac(lab.server.ip(&words("link show eth0")));
    assert!(ping(&lab.client, lab.server4) && ping(&lab.client, lab.server6));
    let filter = "icmp[0] == 8 or icmp6[0] == 128";
    let capture = Capture::start(&lab.server, "eth0", filter);
    let (server4, server6) = (lab.server4.to_string(), lab.server6.to_string());
    lab.client.run(&["ping", "-c1", "-t9", &server4]);
    lab.client.run(&["ping", "-c1", "-t9", &server6]);
    let frames = capture.stop();
    assert_eq!(frames.len(), 2);
    for frame in &frames {
        assert_eq!((&frame[..6], &frame[6..12]), (&server[..], &outside[..]));
    }
    assert_eq!(frames[0][22], 8, "time to live");
    assert_eq!(frames[1][21], 8, "hop limit");
    let header = etherparse::Ipv4Header::from_slice(&frames[0][14..])
        .expect("IPv4")
        .0;
    assert_eq!(header.header_checksum, header.calc_header_checksum());
}
