//! Connections whose addresses are translated: masquerade outside, one port forwarded in.

use super::*;
use crate::dataplane::nat::{
    AddressRange, DestinationRule, NatPlan, PortChoice, Selector, SourceRule,
};
use crate::wire::parse_icmp_error;

/// The box's own address outside.
const EXTERNAL: &str = "198.18.1.1";

fn address(text: &str) -> Address {
    Address::from_v4_bytes(v4(text).octets())
}

pub(super) fn plan(ports: std::ops::RangeInclusive<u16>) -> Arc<NatPlan> {
    let external = AddressRange {
        family: Family::V4,
        first: address(EXTERNAL),
        last: address(EXTERNAL),
    };
    Arc::new(NatPlan {
        destinations: vec![DestinationRule {
            selector: Selector {
                arrives: Some(OUTSIDE),
                protocol: Some(protocol::TCP),
                to: vec![external],
                ports: Some((8443, 8443)),
                ..Selector::default()
            },
            target: address(CLIENT),
            family: Family::V4,
            target_port: Some(443),
            exclusive: true,
        }],
        sources: vec![SourceRule {
            selector: Selector::default(),
            leaves: Some(OUTSIDE),
            redirected: false,
            addresses: Vec::new(),
            ports,
            choice: PortChoice::Random,
            reuse_delay_us: 120_000_000,
        }],
    })
}

fn translating(ports: std::ops::RangeInclusive<u16>) -> Bench {
    let mut bench = Bench::new();
    bench.snapshot.nat = plan(ports);
    bench
}

/// The frame that left, which must have right checksums, and what is in it.
fn sent(outcome: &Outcome) -> (PortId, Vec<u8>, FlowKey) {
    let (port, bytes) = outcome.sent.first().expect("a frame left").clone();
    let Ok(Parsed::Ip(view)) = parse(&bytes, &ParseOptions::default()) else {
        panic!("{bytes:02x?}");
    };
    let state = checksum::verify(&bytes, &view);
    assert_eq!(state, checksum::ChecksumState::Valid, "{view:?}");
    (port, bytes, view.key)
}

/// A frame from the server to the external address.
fn answer(build: impl FnOnce(PacketBuilderStep<IpHeaders>, &mut Vec<u8>)) -> Vec<u8> {
    let (server, external) = (v4(SERVER).octets(), v4(EXTERNAL).octets());
    let mut bytes = Vec::new();
    let ip = PacketBuilder::ethernet2(SERVER_MAC, OUTSIDE_MAC).ipv4(server, external, 64);
    build(ip, &mut bytes);
    bytes
}

fn udp_answer(port: u16) -> Vec<u8> {
    answer(|ip, bytes| ip.udp(53, port).write(bytes, b"answer").unwrap())
}

#[test]
fn a_question_goes_out_under_the_external_address_and_its_answer_comes_back() {
    let mut bench = translating(2000..=2999);
    let (port, _, key) = sent(&bench.one(INSIDE, Out.udp(53, b"question").1));
    assert_eq!((port, key.source), (OUTSIDE, address(EXTERNAL)));
    assert!((2000..=2999).contains(&key.source_port));
    let (port, _, back) = sent(&bench.one(OUTSIDE, udp_answer(key.source_port)));
    assert_eq!((port, back.destination), (INSIDE, address(CLIENT)));
    assert_eq!(
        (back.source, back.destination_port),
        (address(SERVER), 40000)
    );
    // RFC 4787 REQ-8 (filtering): nobody else, and no other port.
    let stranger = bench.one(OUTSIDE, udp_answer(key.source_port ^ 1));
    assert_eq!(stranger.verdict, Verdict::Drop(DropReason::Management));
}

#[test]
fn an_error_about_a_translated_packet_reaches_its_sender_and_quotes_what_it_sent() {
    // RFC 5508 REQ-4.
    let mut bench = translating(2000..=2999);
    let (_, left, key) = sent(&bench.one(INSIDE, Out.udp(53, b"question").1));
    let error = answer(|ip, bytes| {
        let unreachable = etherparse::icmpv4::DestUnreachableHeader::Port;
        ip.icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(unreachable))
            .write(bytes, &left[14..])
            .unwrap();
    });
    let (port, bytes, outer) = sent(&bench.one(OUTSIDE, error));
    assert_eq!((port, outer.destination), (INSIDE, address(CLIENT)));
    let Ok(Parsed::Ip(view)) = parse(&bytes, &ParseOptions::default()) else {
        panic!("it was parsed before");
    };
    let inner = parse_icmp_error(&bytes, &view).unwrap();
    assert!(inner.header_checksum_valid);
    assert_eq!(
        (inner.key.source, inner.key.source_port),
        (address(CLIENT), 40000)
    );
    // The same about a port nobody has.
    let mut other = left[14..].to_vec();
    other[20..22].copy_from_slice(&(key.source_port ^ 1).to_be_bytes());
    let error = answer(|ip, bytes| {
        let unreachable = etherparse::icmpv4::DestUnreachableHeader::Port;
        ip.icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(unreachable))
            .write(bytes, &other)
            .unwrap();
    });
    let outcome = bench.one(OUTSIDE, error);
    assert_eq!(
        outcome.verdict,
        Verdict::Drop(DropReason::UnrelatedIcmpError)
    );
}

#[test]
fn without_a_port_left_a_connection_is_answered_as_prohibited() {
    let mut bench = translating(2000..=2000);
    sent(&bench.one(INSIDE, Out.tcp_to(80, SYN).1));
    // Another connection of the same host and port: the same external port, another destination.
    sent(&bench.one(INSIDE, Out.tcp_to(81, SYN).1));
    let mut other = Out.tcp_to(80, SYN).1;
    // From 198.18.0.3, whose address is one more, so that a checksum is one less.
    other[29] += 1;
    for at in [24, 50] {
        let field = u16::from_be_bytes([other[at], other[at + 1]]);
        other[at..at + 2].copy_from_slice(&checksum::update(field, 2, 3).to_be_bytes());
    }
    let outcome = bench.one(INSIDE, other);
    assert_eq!(
        outcome.verdict,
        Verdict::Drop(DropReason::NatPortsExhausted)
    );
    // RFC 5508 REQ-8.
    assert_eq!(outcome.sent[0].1[34..36], [protocol::ICMP_UNREACHABLE, 13]);
}

#[test]
fn a_forwarded_port_is_the_only_way_in_and_policy_sees_where_it_leads() {
    let mut bench = translating(2000..=2999);
    let syn = |port: u16, flags: u8, to: &str| {
        let mut bytes = Vec::new();
        let mut header = TcpHeader::new(5000, port, 1, 1000);
        header.syn = flags & SYN != 0;
        PacketBuilder::ethernet2(SERVER_MAC, OUTSIDE_MAC)
            .ipv4(v4(SERVER).octets(), v4(to).octets(), 64)
            .tcp_header(header)
            .write(&mut bytes, b"")
            .unwrap();
        bytes
    };
    let (port, _, key) = sent(&bench.one(OUTSIDE, syn(8443, SYN, EXTERNAL)));
    assert_eq!((port, key.destination), (INSIDE, address(CLIENT)));
    assert_eq!((key.source, key.destination_port), (address(SERVER), 443));
    let flow = bench.pipeline.flows().iter().next().expect("it was opened");
    assert_eq!(flow.policy_key().destination, address(CLIENT));
    assert_eq!(flow.policy_key().destination_port, 443);
    let direct = bench.one(OUTSIDE, syn(443, SYN, CLIENT));
    assert_eq!(direct.verdict, Verdict::Drop(DropReason::RedirectOnly));
    let closed = bench.one(OUTSIDE, syn(8444, SYN, EXTERNAL));
    assert_eq!(closed.verdict, Verdict::Drop(DropReason::Management));
}

#[test]
fn a_port_is_given_back_when_its_flow_is_over() {
    let mut bench = translating(2000..=2000);
    let (_, _, first) = sent(&bench.one(INSIDE, Out.udp(53, b"question").1));
    assert_eq!(first.source_port, 2000);
    // The flow is over after two minutes (RFC 4787 REQ-5), and the port is the same host's again.
    bench.wait(121);
    let (_, _, again) = sent(&bench.one(INSIDE, Out.udp(53, b"question").1));
    assert_eq!(again.source_port, 2000);
    assert_eq!(bench.pipeline.flows().statistics().flows, 1);
}
