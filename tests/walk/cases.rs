//! The captures of `pcap-tests/walk/`, as they are made.

use etherparse::VlanId;

use super::frames::{
    CLIENT, CLIENT_MAC, CLIENT6, Capture, Ends, SERVER, SERVER6, Segment, TO_CLIENT, TO_SERVER,
    echo, tagged, tcp, udp, udp_with_ttl,
};

/// A folder of `pcap-tests/walk/`, and what makes its capture.
pub type Case = (&'static str, fn() -> Vec<u8>);

/// All of them.
pub const CASES: &[Case] = &[
    ("fragments", fragments),
    ("malformed", malformed),
    ("output", output),
    ("port-security", port_security),
    ("port-security-wire", port_security_wire),
    ("routed", routed),
    ("states", states),
    ("translation", translation),
    ("wire", wire),
];

/// Allowed and denied traffic of both families through a router, and what a router answers.
fn routed() -> Vec<u8> {
    let mut capture = Capture::default();
    for (there, back) in TO_SERVER.into_iter().zip(TO_CLIENT) {
        let (ports, reversed) = ((40_000, 80), (80, 40_000));
        capture
            .add("inside", tcp(there, ports, Segment::Syn, (100, 0)))
            .add("outside", tcp(back, reversed, Segment::SynAck, (500, 101)))
            .add("inside", tcp(there, ports, Segment::Ack, (101, 501)))
            .add("outside", tcp(back, reversed, Segment::Ack, (501, 105)))
            .add("inside", tcp(there, (40_001, 81), Segment::Syn, (100, 0)))
            .add("inside", udp(there, (40_000, 53), 30))
            .add("outside", udp(back, (53, 40_000), 60))
            .add("inside", udp(there, (40_000, 54), 30))
            .add("inside", echo(there, false, 1))
            .add("outside", echo(back, true, 1));
        // The server itself may ask whom it likes.
        capture
            .add("outside", udp(back, (9, 9), 1))
            .add("inside", udp(there, (9, 9), 1));
        capture
            .add("inside", udp_with_ttl(there, (40_002, 53), 30, 1))
            .add("inside", udp(there, (40_003, 53), 1_390));
    }
    for destination in [
        [198, 19, 0, 9],
        [198, 18, 1, 77],
        [198, 18, 0, 1],
        [127, 0, 0, 1],
    ] {
        capture.add(
            "inside",
            udp(Ends::V4(CLIENT, destination), (40_004, 53), 9),
        );
    }
    // The address of a host behind the other port.
    capture.add("outside", udp(Ends::V4(CLIENT, SERVER), (40_005, 53), 9));
    // Gives up on the neighbour that does not exist.
    capture.wait_ms(5_000);
    capture.add("inside", udp(TO_SERVER[0], (40_006, 53), 9));
    capture.pcapng()
}

/// The same rules on a wire between two ports: nothing is rewritten or answered.
fn wire() -> Vec<u8> {
    let mut capture = Capture::default();
    for (there, back) in TO_SERVER.into_iter().zip(TO_CLIENT) {
        capture
            .add("inside", tcp(there, (40_000, 80), Segment::Syn, (100, 0)))
            .add(
                "outside",
                tcp(back, (80, 40_000), Segment::SynAck, (500, 101)),
            )
            .add("inside", tcp(there, (40_001, 81), Segment::Syn, (100, 0)))
            .add("inside", udp_with_ttl(there, (40_000, 53), 30, 1))
            .add("inside", echo(there, false, 1));
    }
    capture.pcapng()
}

/// Flows by their states: what opens one, what belongs to one, what cannot, and when one is over.
fn states() -> Vec<u8> {
    let mut capture = Capture::default();
    let (there, back) = (TO_SERVER[0], TO_CLIENT[0]);
    let (ports, reversed) = ((40_000, 80), (80, 40_000));
    // Answers to nothing.
    capture
        .add("outside", tcp(back, reversed, Segment::SynAck, (500, 101)))
        .add("outside", tcp(back, reversed, Segment::Rst, (500, 0)))
        .add("outside", echo(back, true, 1));
    // A connection from its first to its last segment, and one segment too many.
    capture
        .add("inside", tcp(there, ports, Segment::Syn, (100, 0)))
        .add("outside", tcp(back, reversed, Segment::SynAck, (500, 101)))
        .add("inside", tcp(there, ports, Segment::Ack, (101, 501)))
        .add("inside", tcp(there, ports, Segment::Fin, (105, 501)))
        .add("outside", tcp(back, reversed, Segment::Fin, (501, 106)))
        .add("inside", tcp(there, ports, Segment::Ack, (106, 502)));
    // The server's own flow, so that only the flow lets the client's answers in: within the time
    // of an unanswered datagram, within that of an answered one, and after both.
    capture
        .add("outside", udp(back, (9, 9), 1))
        .wait_ms(29_000)
        .add("inside", udp(there, (9, 9), 1))
        .add("inside", udp(there, (9, 9), 1))
        .wait_ms(119_000)
        .add("inside", udp(there, (9, 9), 1))
        .wait_ms(121_000)
        .add("inside", udp(there, (9, 9), 1));
    capture
        .add("outside", udp(back, (10, 10), 1))
        .wait_ms(31_000)
        .add("inside", udp(there, (10, 10), 1));
    // Windows of 64,000: what is far beyond, what is a little, what is old, and resets and a SYN
    // by somebody who cannot see the connection (RFC 5961).
    let (ports, reversed) = ((40_001, 80), (80, 40_001));
    capture
        .add("inside", tcp(there, ports, Segment::Syn, (100, 0)))
        .add("outside", tcp(back, reversed, Segment::SynAck, (500, 101)))
        .add("inside", tcp(there, ports, Segment::Ack, (101, 501)))
        .add("outside", tcp(back, reversed, Segment::Ack, (200_000, 105)))
        .add("outside", tcp(back, reversed, Segment::Ack, (64_510, 105)))
        .add(
            "outside",
            tcp(back, reversed, Segment::Ack, (4_294_900_000, 105)),
        )
        .add("outside", tcp(back, reversed, Segment::Ack, (501, 999_999)))
        .add("outside", tcp(back, reversed, Segment::Rst, (200_000, 0)))
        .add("outside", tcp(back, reversed, Segment::Rst, (1_000, 0)))
        .add("outside", tcp(back, reversed, Segment::Syn, (7, 0)))
        .add("inside", tcp(there, ports, Segment::Syn, (7, 0)))
        .add("inside", tcp(there, ports, Segment::Ack, (105, 501)))
        .add("outside", tcp(back, reversed, Segment::Rst, (501, 0)))
        .add("outside", tcp(back, reversed, Segment::Ack, (501, 109)));
    capture.pcapng()
}

/// Behind one address: connections out, their answers, a port forwarded in, and who is left out.
fn translation() -> Vec<u8> {
    const OUTSIDE: [u8; 4] = [198, 18, 1, 1];
    let there = TO_SERVER[0];
    let back = Ends::V4(SERVER, OUTSIDE);
    let other = Ends::V4([198, 18, 0, 3], SERVER);
    let (ports, reversed) = ((40_000, 80), (80, 40_000));
    let mut capture = Capture::default();
    // Nobody has asked yet.
    capture
        .add("outside", tcp(back, reversed, Segment::SynAck, (500, 101)))
        .add("outside", udp(back, (53, 40_000), 60));
    capture
        .add("inside", tcp(there, ports, Segment::Syn, (100, 0)))
        .add("outside", tcp(back, reversed, Segment::SynAck, (500, 101)))
        .add("inside", tcp(there, ports, Segment::Ack, (101, 501)))
        .add("inside", udp(there, (40_000, 53), 30))
        .add("outside", udp(back, (53, 40_000), 60))
        .add("inside", echo(there, false, 1))
        .add("outside", echo(back, true, 1));
    // Another host, by a port of its own.
    capture
        .add("inside", udp(other, (40_001, 53), 30))
        .add("outside", udp(back, (53, 40_001), 60));
    // In: by the forwarded port alone.
    let forwarded = Ends::V4(CLIENT, SERVER);
    capture
        .add("outside", tcp(back, (5_000, 8_443), Segment::Syn, (9, 0)))
        .add(
            "inside",
            tcp(forwarded, (443, 5_000), Segment::SynAck, (90, 10)),
        )
        .add("outside", tcp(back, (5_000, 8_443), Segment::Ack, (10, 91)))
        .add(
            "outside",
            tcp(TO_CLIENT[0], (5_001, 443), Segment::Syn, (9, 0)),
        )
        .add("outside", tcp(back, (5_002, 8_444), Segment::Syn, (9, 0)));
    capture.pcapng()
}

/// Frames that lie about themselves; every one must end with its own reason.
fn malformed() -> Vec<u8> {
    let good = udp(TO_SERVER[0], (40_000, 53), 30);
    let good6 = udp(TO_SERVER[1], (40_000, 53), 30);
    let with = |frame: &[u8], at: usize, bytes: &[u8]| {
        let mut changed = frame.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let mut capture = Capture::default();
    capture
        .add("inside", good.clone())
        .add("inside", Vec::new())
        .add("inside", good[..13].to_vec())
        .add("inside", good[..14].to_vec())
        .add("inside", good[..30].to_vec())
        .add("inside", good[..60].to_vec());
    // IPv4: version, header length, total length (short and long), checksum, source address.
    capture
        .add("inside", with(&good, 14, &[0x55]))
        .add("inside", with(&good, 14, &[0x44]))
        .add("inside", with(&good, 16, &[0, 19]))
        .add("inside", with(&good, 16, &[0xff, 0xff]))
        .add("inside", with(&good, 24, &[0xde, 0xad]))
        .add("inside", udp(Ends::V4([127, 0, 0, 1], SERVER), (1, 53), 1))
        .add("inside", udp(Ends::V4(CLIENT, [224, 0, 0, 5]), (1, 53), 1));
    // IPv6: version, payload length, a header chain that runs off the end.
    capture
        .add("inside", with(&good6, 14, &[0x45]))
        .add("inside", with(&good6, 18, &[0xff, 0xff]))
        .add("inside", with(&good6, 20, &[0]));
    // Ethernet: a group as source, another station, an unknown type, unexpected tags.
    capture
        .add("inside", with(&good, 6, &[0x01]))
        .add("inside", with(&good, 0, &[2, 9, 9, 9, 9, 9]))
        .add("inside", with(&good, 12, &[0x88, 0xb5]))
        .add("inside", tagged(&good, VlanId::ZERO))
        .add(
            "inside",
            tagged(&good, VlanId::try_new(5).expect("a number below 4096")),
        );
    // Longer than the data plane's frames.
    capture.add("inside", udp(TO_SERVER[0], (40_000, 53), 4_000));
    capture.pcapng()
}

/// Datagrams in pieces: in order, without their first piece, overlapping, tiny.
fn fragments() -> Vec<u8> {
    let whole = udp(TO_SERVER[0], (40_000, 53), 48);
    let denied = udp(TO_SERVER[0], (40_000, 54), 48);
    let mut capture = Capture::default();
    capture
        .add("inside", piece(&whole, 1, 0, 24, true))
        .add("inside", piece(&whole, 1, 24, 56, false));
    capture
        .add("inside", piece(&denied, 2, 0, 24, true))
        .add("inside", piece(&denied, 2, 24, 56, false));
    capture.add("inside", piece(&whole, 3, 24, 56, false));
    capture
        .add("inside", piece(&whole, 4, 0, 32, true))
        .add("inside", piece(&whole, 4, 24, 56, false));
    let (ports, sequence) = ((40_000, 80), (100, 0));
    let syn = tcp(TO_SERVER[0], ports, Segment::Syn, sequence);
    capture.add("inside", piece(&syn, 5, 0, 8, true));
    capture.pcapng()
}

/// Bytes `from..to` of an IPv4 frame's payload as a fragment of datagram `id`.
fn piece(frame: &[u8], id: u16, from: usize, to: usize, more: bool) -> Vec<u8> {
    let (ethernet, rest) = frame.split_at(14);
    let (header, payload) = rest.split_at(20);
    let mut header = etherparse::Ipv4Header::from_slice(header)
        .expect("it is one")
        .0;
    header.identification = id;
    header.dont_fragment = false;
    header.more_fragments = more;
    header.fragment_offset = (from as u16 / 8).try_into().expect("a small offset");
    header.total_len = (20 + to - from) as u16;
    header.header_checksum = header.calc_header_checksum();
    [ethernet, &header.to_bytes(), &payload[from..to]].concat()
}

/// Connections beyond the rate of a rule, and what the rules behind it say of them.
fn output() -> Vec<u8> {
    let mut capture = Capture::default();
    let open = |capture: &mut Capture, ends, from: u16, count: u16, port| {
        for number in from..from + count {
            let segment = tcp(ends, (number, port), Segment::Syn, (100, 0));
            capture.add("inside", segment.clone());
            // The same connection again is no other.
            capture.add("inside", segment);
        }
    };
    for ends in TO_SERVER {
        open(&mut capture, ends, 40_000, 5, 80);
        capture.wait_ms(450);
        open(&mut capture, ends, 41_000, 2, 80);
        capture.wait_ms(1_000);
        open(&mut capture, ends, 42_000, 3, 80);
        // Told of and dropped, told of and let through, and not meant at all.
        open(&mut capture, ends, 43_000, 1, 25);
        open(&mut capture, ends, 43_000, 2, 443);
        open(&mut capture, ends, 43_000, 1, 8080);
    }
    capture.pcapng()
}

/// Somebody's frames, and the same with what is not theirs.
fn port_security() -> Vec<u8> {
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];
    let mut capture = Capture::default();
    let spoofed = [
        Ends::V4([198, 18, 0, 9], SERVER),
        Ends::V6(with_last(CLIENT6, 9), SERVER6),
    ];
    for ((there, back), spoofed) in TO_SERVER.into_iter().zip(TO_CLIENT).zip(spoofed) {
        let (ports, reversed) = ((40_000, 53), (53, 40_000));
        capture
            .add("inside", udp(there, ports, 30))
            .add("outside", udp(back, reversed, 30))
            .add("inside", from_mac(udp(there, ports, 30), OTHER))
            .add("inside", from_mac(udp(there, (40_001, 53), 30), OTHER))
            .add("inside", udp(spoofed, (40_002, 53), 30))
            .add("inside", udp_with_ttl(spoofed, (40_002, 53), 30, 1));
        // From a MAC address and an address that are nobody's.
        let stranger = from_mac(udp(spoofed, (40_003, 53), 30), OTHER);
        capture.add("inside", stranger);
    }
    // The kernel believes that this address is at the pod's MAC address, and the pod's other one
    // elsewhere.
    for last in [8, 7] {
        let to = [198, 18, 0, last];
        capture.add("outside", udp(Ends::V4(SERVER, to), (40_004, 53), 30));
    }
    capture.pcapng()
}

/// On a wire there are ARP and neighbour discovery too, and MAC addresses go from end to end.
fn port_security_wire() -> Vec<u8> {
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];
    let mut capture = Capture::default();
    for (there, back) in TO_SERVER.into_iter().zip(TO_CLIENT) {
        let to_client = |frame| to_mac(frame, CLIENT_MAC);
        capture
            .add("inside", udp(there, (40_000, 53), 30))
            .add("outside", to_client(udp(back, (53, 40_000), 30)))
            .add("outside", to_mac(udp(back, (53, 40_000), 30), OTHER))
            .add("inside", from_mac(udp(there, (40_000, 53), 30), OTHER));
    }
    let elsewhere = Ends::V4(SERVER, [198, 18, 0, 9]);
    capture.add("outside", to_mac(udp(elsewhere, (1, 2), 30), CLIENT_MAC));
    let gateway = [198, 18, 0, 1];
    for (source, sender_mac, sender) in [
        (CLIENT_MAC, CLIENT_MAC, CLIENT),
        (CLIENT_MAC, CLIENT_MAC, gateway),
        (CLIENT_MAC, OTHER, CLIENT),
        (OTHER, OTHER, CLIENT),
        (OTHER, OTHER, gateway),
    ] {
        capture.add("inside", arp(source, sender_mac, sender));
    }
    let router = with_last(CLIENT6, 1);
    for (icmp_type, source, target, link_layer) in [
        (135, CLIENT6, router, CLIENT_MAC),
        (135, CLIENT6, router, OTHER),
        (136, CLIENT6, CLIENT6, CLIENT_MAC),
        (136, CLIENT6, router, CLIENT_MAC),
        (135, router, CLIENT6, CLIENT_MAC),
        (135, [0; 16], CLIENT6, CLIENT_MAC),
    ] {
        let message = discovery(icmp_type, source, target, link_layer);
        capture.add("inside", message);
    }
    capture.pcapng()
}

fn with_last(mut address: [u8; 16], last: u8) -> [u8; 16] {
    address[15] = last;
    address
}

fn to_mac(mut frame: Vec<u8>, mac: [u8; 6]) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac);
    frame
}

fn from_mac(mut frame: Vec<u8>, mac: [u8; 6]) -> Vec<u8> {
    frame[6..12].copy_from_slice(&mac);
    frame
}

fn arp(source: [u8; 6], sender_mac: [u8; 6], sender: [u8; 4]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &source, &[8, 6]].concat();
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(sender_mac);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend([198, 18, 0, 254]);
    frame.extend([0; 18]);
    frame
}

/// A solicitation (135) or advertisement (136) that says where somebody is.
fn discovery(icmp_type: u8, source: [u8; 16], target: [u8; 16], link_layer: [u8; 6]) -> Vec<u8> {
    const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut frame = [&[0x33, 0x33, 0, 0, 0, 1][..], &CLIENT_MAC, &[0x86, 0xdd]].concat();
    frame.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame.extend(source);
    frame.extend(ALL_NODES);
    frame.extend([icmp_type, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(target);
    frame.extend([icmp_type - 134, 1]);
    frame.extend(link_layer);
    frame
}
