use super::*;

const MAC: MacAddress = MacAddress([0, 0, 0, 0xfa, 0x17, 0x97]);
const OTHER: MacAddress = MacAddress([0, 0, 0, 0xfa, 0x17, 0x98]);
const GROUP: MacAddress = MacAddress([1, 0, 0x5e, 0, 0, 1]);

fn entry(addresses: &[&str]) -> Entry {
    let addresses = addresses.iter().map(|text| match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => text.parse::<IpAddr>().unwrap().into(),
    });
    Entry::new(Some(MAC), addresses)
}

fn frame(payload: Payload) -> Frame {
    Frame {
        tagged: false,
        source: MAC,
        destination: OTHER,
        payload,
    }
}

fn ip(source: &str, destination: &str) -> Payload {
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Payload::V4 {
            source,
            destination,
            udp: None,
        },
        (IpAddr::V6(source), IpAddr::V6(destination)) => Payload::V6 {
            source,
            destination,
            icmp: None,
        },
        _ => panic!("two families"),
    }
}

fn arp(sender_mac: MacAddress, sender: &str) -> Payload {
    Payload::Arp {
        sender_mac,
        sender: sender.parse().unwrap(),
    }
}

fn icmpv6(source: &str, destination: &str, icmp_type: u8) -> Payload {
    Payload::V6 {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        icmp: Some(Icmpv6 {
            icmp_type,
            code: 0,
            hop_limit: 255,
            target: None,
            link_layer: None,
        }),
    }
}

fn with(payload: Payload, change: impl Fn(&mut Icmpv6)) -> Payload {
    let mut payload = payload;
    if let Payload::V6 {
        icmp: Some(icmp), ..
    } = &mut payload
    {
        change(icmp);
    }
    payload
}

fn leaves(entry: &Entry, payload: Payload) -> bool {
    from_port(Some(entry), &frame(payload)).is_ok()
}

fn reaches(entry: &Entry, payload: Payload) -> bool {
    let towards = Frame {
        source: OTHER,
        destination: MAC,
        ..frame(payload)
    };
    to_port(Some(entry), &towards).is_ok()
}

const LINK_LOCAL: &str = "fe80::200:ff:fefa:1797";

#[test]
fn a_station_names_its_link_local_address_after_its_mac() {
    assert_eq!(link_local(MAC).to_string(), LINK_LOCAL);
}

#[test]
fn tags_and_group_sources_never_pass() {
    let secured = entry(&["10.16.0.15"]);
    let good = frame(ip("10.16.0.15", "10.16.0.1"));
    for entry in [None, Some(&secured)] {
        assert_eq!(from_port(entry, &good), Ok(()));
        let tagged = Frame {
            tagged: true,
            ..good
        };
        assert_eq!(from_port(entry, &tagged), Err(Refusal::Tagged));
        for source in [GROUP, MacAddress::BROADCAST] {
            let group = Frame { source, ..good };
            assert_eq!(from_port(entry, &group), Err(Refusal::GroupSource(source)));
        }
    }
    let foreign = Frame {
        source: OTHER,
        ..good
    };
    assert_eq!(from_port(None, &foreign), Ok(()));
    let refusal = from_port(Some(&secured), &foreign).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "source MAC 00:00:00:fa:17:98 is not the port's, 00:00:00:fa:17:97"
    );
}

#[test]
fn arp_speaks_for_the_own_addresses() {
    let own = entry(&["10.16.0.15", "10.16.0.200"]);
    assert!(leaves(&own, arp(MAC, "10.16.0.15")) && leaves(&own, arp(MAC, "10.16.0.200")));
    assert!(!leaves(&own, arp(MAC, "10.16.0.1")));
    assert!(!leaves(&own, arp(OTHER, "10.16.0.15")));
    assert!(!leaves(&own, arp(MAC, "0.0.0.0")));
    let v6_alone = entry(&["fd00::15"]);
    assert!(!leaves(&v6_alone, arp(MAC, "10.16.0.15")));
    let mac_alone = entry(&[]);
    assert!(leaves(&mac_alone, arp(MAC, "10.16.0.1")));
    assert!(!leaves(&mac_alone, arp(OTHER, "10.16.0.1")));
    assert!(leaves(&mac_alone, ip("10.16.0.99", "10.16.0.1")));
    // To the pod: whoever asks.
    assert!(reaches(&own, arp(OTHER, "10.16.0.1")));
}

#[test]
fn ipv4_comes_from_the_own_addresses_or_asks_for_one() {
    let own = entry(&["10.16.0.15"]);
    assert!(leaves(&own, ip("10.16.0.15", "10.16.0.99")));
    assert!(!leaves(&own, ip("10.16.0.99", "10.16.0.1")));
    let discover = |source: &str, destination: &str, udp| Payload::V4 {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        udp,
    };
    let everybody = "255.255.255.255";
    assert!(leaves(&own, discover("0.0.0.0", everybody, Some((68, 67)))));
    for (source, destination, udp) in [
        ("0.0.0.0", everybody, Some((68, 68))),
        ("0.0.0.0", everybody, Some((67, 67))),
        ("0.0.0.0", everybody, None),
        ("0.0.0.0", "10.16.0.2", Some((68, 67))),
        ("10.16.0.99", everybody, Some((68, 67))),
    ] {
        assert!(
            !leaves(&own, discover(source, destination, udp)),
            "{source} {udp:?}"
        );
    }
    // A family without an address.
    assert!(!leaves(&own, ip("fd00::15", "fd00::1")));
    assert!(!leaves(&own, ip(LINK_LOCAL, "ff02::1")));
    let v6_alone = entry(&["fd00::15"]);
    let asks = discover("0.0.0.0", everybody, Some((68, 67)));
    assert!(!leaves(&v6_alone, asks));
    assert!(!leaves(&v6_alone, ip("10.16.0.15", "10.16.0.1")));
}

#[test]
fn ipv6_comes_from_the_own_addresses_or_announces_itself() {
    let own = entry(&["10.16.0.15", "fd00::15"]);
    assert!(leaves(&own, ip("fd00::15", "fd00::1")) && leaves(&own, ip(LINK_LOCAL, "fd00::1")));
    assert!(!leaves(&own, ip("fd00::16", "fd00::1")));
    assert!(!leaves(&own, ip("fe80::1", "fd00::1")));
    for (icmp_type, destination, passes) in [
        (131, "ff02::16", true),
        (143, "ff02::16", true),
        (135, "ff02::1:ff00:15", true),
        (133, "ff02::2", false),
        (136, "ff02::1", false),
        (128, "ff02::1", false),
        (135, "ff05::1", false),
        (135, "fd00::1", false),
    ] {
        let payload = icmpv6("::", destination, icmp_type);
        assert_eq!(leaves(&own, payload), passes, "{icmp_type} {destination}");
        assert!(
            !leaves(&own, with(payload, |icmp| icmp.code = 1)),
            "{icmp_type}"
        );
    }
}

#[test]
fn neighbour_discovery_tells_the_truth() {
    let own = entry(&["fd00::15", "fd00::200"]);
    let solicits = icmpv6("fd00::15", "ff02::1:ff00:1", 135);
    let advertises = with(icmpv6("fd00::15", "fd00::1", 136), |icmp| {
        icmp.target = Some("fd00::15".parse().unwrap());
    });
    for payload in [solicits, advertises] {
        for (link_layer, passes) in [
            (None, true),
            (Some(MAC), true),
            (Some(MacAddress([0; 6])), true),
            (Some(OTHER), false),
        ] {
            let told = with(payload, |icmp| icmp.link_layer = link_layer);
            assert_eq!(leaves(&own, told), passes, "{told:?}");
        }
        // Nobody believes a message that crossed a router.
        let routed = with(payload, |icmp| {
            icmp.hop_limit = 64;
            icmp.link_layer = Some(OTHER);
        });
        assert!(leaves(&own, routed));
    }
    for (target, passes) in [
        ("fd00::15", true),
        ("fd00::200", true),
        (LINK_LOCAL, true),
        ("fd00::16", false),
    ] {
        let told = with(advertises, |icmp| {
            icmp.target = Some(target.parse().unwrap())
        });
        assert_eq!(leaves(&own, told), passes, "{target}");
        // A solicitation asks for whom it likes.
        let asked = with(solicits, |icmp| icmp.target = Some(target.parse().unwrap()));
        assert!(leaves(&own, asked), "{target}");
    }
    // Routers' messages have no payload check.
    let router = with(icmpv6("fd00::15", "ff02::1", 134), |icmp| {
        icmp.link_layer = Some(OTHER)
    });
    assert!(leaves(&own, router));
}

#[test]
fn other_protocols_pass_a_port_without_addresses_alone() {
    assert!(!leaves(&entry(&["10.16.0.15"]), Payload::Other(0x8035)));
    assert!(leaves(&entry(&[]), Payload::Other(0x8035)));
}

#[test]
fn frames_to_a_port_are_for_it_or_for_everybody() {
    let own = entry(&["10.16.0.15", "fd00::15"]);
    for (source, destination, passes) in [
        ("10.16.0.1", "10.16.0.15", true),
        ("10.16.0.1", "10.16.0.16", false),
        ("10.16.0.1", "255.255.255.255", true),
        ("10.16.0.1", "239.1.1.1", true),
        ("10.16.0.1", "10.16.255.255", false),
        ("fd00::1", "fd00::15", true),
        ("fd00::1", "fd00::16", false),
        ("fd00::1", LINK_LOCAL, true),
        ("fd00::1", "ff02::1", true),
    ] {
        assert_eq!(
            reaches(&own, ip(source, destination)),
            passes,
            "{destination}"
        );
    }
    let elsewhere = frame(ip("10.16.0.1", "10.16.0.15"));
    assert!(matches!(
        to_port(Some(&own), &elsewhere),
        Err(Refusal::DestinationMac { .. })
    ));
    assert_eq!(to_port(None, &elsewhere), Ok(()));
    // Multicast and broadcast frames are delivered, whatever they carry.
    let group = Frame {
        destination: GROUP,
        ..frame(ip("10.16.0.1", "10.16.0.99"))
    };
    assert_eq!(to_port(Some(&own), &group), Ok(()));
    assert!(!reaches(&entry(&["10.16.0.15"]), ip("fd00::1", "fd00::15")));
    assert!(!reaches(
        &entry(&["fd00::15"]),
        ip("10.16.0.1", "10.16.0.15")
    ));
}

#[test]
fn an_address_with_bits_behind_its_prefix_is_one_address() {
    let subnet = entry(&["10.16.0.0/16"]);
    assert!(leaves(&subnet, ip("10.16.200.1", "10.16.0.1")));
    let host = entry(&["10.16.0.15/16"]);
    assert!(leaves(&host, ip("10.16.0.15", "10.16.0.1")));
    assert!(!leaves(&host, ip("10.16.200.1", "10.16.0.1")));
    // Its subnet's broadcasts are for it.
    assert!(reaches(&host, ip("10.16.0.1", "10.16.255.255")));
    assert!(!reaches(&subnet, ip("10.17.0.1", "10.17.255.255")));
    let v6 = entry(&["fd00::/64"]);
    assert!(leaves(&v6, ip("fd00::99", "fd00::1")) && !leaves(&v6, ip("fd00:1::99", "fd00::1")));
}

#[test]
fn without_a_known_mac_only_addresses_are_checked() {
    let own = Entry::new(None, ["10.16.0.15".parse::<IpAddr>().unwrap().into()]);
    let foreign = Frame {
        source: OTHER,
        ..frame(ip("10.16.0.15", "10.16.0.1"))
    };
    assert_eq!(from_port(Some(&own), &foreign), Ok(()));
    let spoofed = frame(ip("10.16.0.99", "10.16.0.1"));
    let refusal = from_port(Some(&own), &spoofed).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "source address 10.16.0.99 is none of the port's: 10.16.0.15"
    );
}
