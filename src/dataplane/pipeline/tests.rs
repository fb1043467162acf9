//! The stages over frames in memory: two ports, a handful of hosts, rules asked linearly.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use etherparse::{
    IpHeaders, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader, TransportSlice,
};

mod translation;
mod workers;

use super::*;
use crate::classifier::linear::Linear;
use crate::classifier::{
    AddressMatch, AddressSet, OriginId, PortRange, ProtocolMatch, Rule, RuleId, RuleSet,
    RuleVerdict,
};
use crate::dataplane::backend::memory::MemoryIo;
use crate::dataplane::frame::{FrameIo, Received};
use crate::dataplane::route::{Neighbour, PortLink, Route, RouteTable, RouteTarget};
use crate::dataplane::snapshot::{
    End, Forwarding, PolicySnapshot, RuleSlot, Skips, SourceCheck, Stage, StageRule,
    TransparentPort,
};
use crate::dataplane::worker::transmit;
use crate::wire::{Address, Family, MacAddress, ParseOptions, Parsed, checksum, parse, protocol};

const INSIDE: PortId = PortId(0);
const OUTSIDE: PortId = PortId(1);
const CLIENT: &str = "198.18.0.2";
const SERVER: &str = "198.18.1.2";
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
const INSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

struct Bench {
    io: MemoryIo,
    pipeline: Pipeline<<MemoryIo as FrameIo>::Frame>,
    counters: Arc<WorkerCounters>,
    requests: NeighbourRequests,
    snapshot: Snapshot,
    now_us: u64,
}

/// What became of one frame.
#[derive(Debug)]
struct Outcome {
    verdict: Verdict,
    state: PacketState,
    sent: Vec<(PortId, Vec<u8>)>,
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn neighbour(port: PortId, address: &str, mac: [u8; 6]) -> Neighbour {
    Neighbour {
        port,
        address: address.parse().unwrap(),
        mac: Some(MacAddress(mac)),
    }
}

fn neighbours() -> Vec<Neighbour> {
    vec![
        neighbour(INSIDE, CLIENT, CLIENT_MAC),
        neighbour(OUTSIDE, SERVER, SERVER_MAC),
        neighbour(INSIDE, "2001:db8::2", CLIENT_MAC),
        neighbour(OUTSIDE, "2001:db8:1::2", SERVER_MAC),
    ]
}

fn table(neighbours: Vec<Neighbour>) -> Arc<RouteTable> {
    let link = |mac, addresses: [&str; 2], mtu_bytes| {
        Some(PortLink {
            mac: MacAddress(mac),
            mtu_bytes,
            up: true,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        })
    };
    let to = |port| RouteTarget::Port {
        port,
        gateway: None,
    };
    let routes = [
        ("198.18.0.0/24", to(INSIDE)),
        ("198.18.1.0/24", to(OUTSIDE)),
        ("198.18.0.1/32", RouteTarget::Local),
        ("198.18.1.1/32", RouteTarget::Local),
        ("198.18.9.0/24", RouteTarget::Prohibit),
        ("198.18.8.0/24", RouteTarget::Blackhole),
        ("2001:db8::/64", to(INSIDE)),
        ("2001:db8:1::/64", to(OUTSIDE)),
    ];
    let routes = routes.map(|(prefix, target)| Route {
        prefix: prefix.parse().unwrap(),
        metric: 0,
        target,
    });
    Arc::new(RouteTable::new(
        vec![
            link(INSIDE_MAC, ["198.18.0.1/24", "2001:db8::1/64"], 1500),
            link(OUTSIDE_MAC, ["198.18.1.1/24", "2001:db8:1::1/64"], 1400),
        ],
        routes,
        neighbours,
    ))
}

/// One stage that denies these destination ports and, for all else, has no opinion.
fn policy(generation: u32, denied_ports: &[u16]) -> Arc<PolicySnapshot> {
    let mut rules = RuleSet::new();
    let server = rules.intern(AddressSet::from_ranges([(
        Family::V4,
        Address::from_v4_bytes(v4(SERVER).octets()),
        Address::from_v4_bytes(v4(SERVER).octets()),
    )]));
    for (number, &port) in denied_ports.iter().enumerate() {
        rules.push(Rule {
            id: RuleId(number as u64),
            priority: 0,
            source: AddressMatch::Any,
            destination: AddressMatch::Set(server),
            protocol: ProtocolMatch::Any,
            source_ports: PortRange::ANY,
            destination_ports: PortRange::single(port),
            zone: None,
            verdict: RuleVerdict::Deny,
            origin: OriginId(0),
        });
    }
    let stage_rules = rules
        .rules()
        .iter()
        .enumerate()
        .map(|(number, rule)| StageRule {
            verdict: rule.verdict,
            slot: RuleSlot(number as u32),
        });
    Arc::new(PolicySnapshot {
        generation,
        stages: vec![Stage {
            family: "NP",
            protects: End::Destination,
            rules: stage_rules.collect(),
            skips: Skips::default(),
            effects: None,
            classifier: Arc::new(Linear::new(&rules)),
        }],
        networks: Vec::new(),
        stations: None,
    })
}

fn options() -> PipelineOptions {
    PipelineOptions {
        ports: 2,
        flows_max: 1000,
        half_open_max: 500,
        fragments: FragmentLimits::default(),
        held_frames_max: 16,
        timeouts: Timeouts::default(),
        tcp_rules: TcpRules::default(),
        verify_checksums: true,
        nat_addresses_max: 2,
        restart_grace_us: 1_000_000,
        replies_per_second: 100,
        replies_burst: 50,
        rate_limit_sources_max: 16,
        workers: 1,
        hash_key: (1, 2),
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        policy: Some(policy(1, &[])),
        reevaluate_established: true,
        evaluate_invalid: false,
        forwarding: Forwarding::Routed,
        source_check: SourceCheck::Strict,
        nat: Arc::default(),
        routing_generation: 1,
        routes: table(neighbours()),
    }
}

impl Bench {
    fn new() -> Self {
        let counters = Arc::new(WorkerCounters::new(2, 16));
        let requests = NeighbourRequests::new(16, || {});
        let options = options();
        Bench {
            io: MemoryIo::new(2, 256, 2048),
            pipeline: Pipeline::new(
                &options,
                counters.clone(),
                requests.clone(),
                Events::new(64),
                Handoff::single(),
            ),
            counters,
            requests,
            snapshot: snapshot(),
            // Beyond the restart grace of a pipeline that starts at 0.
            now_us: 0,
        }
    }

    /// Fragments that may go on.
    fn released(&mut self) -> Vec<Outcome> {
        let mut packets = Vec::new();
        self.pipeline
            .take_released(&mut self.io, &self.counters, &mut packets);
        self.pipeline
            .process(self.now_us, &self.snapshot, &mut packets);
        self.finish(packets)
    }

    /// Opens the connection between client and server, each frame in a batch of its own.
    fn handshake(&mut self) {
        for frame in [Out.tcp(SYN), Back.tcp(SYN | ACK), Out.tcp(ACK)] {
            self.batch(&[frame]);
        }
    }

    /// Puts frames through as one batch.
    fn batch(&mut self, frames: &[(PortId, Vec<u8>)]) -> Vec<Outcome> {
        for (port, bytes) in frames {
            self.io.inject(*port, 0, bytes).unwrap();
        }
        let mut received: Vec<Received<_>> = Vec::new();
        self.io.receive(&mut received);
        let mut packets: Vec<_> = received
            .into_iter()
            .map(|r| Packet::new(r.port, r.frame))
            .collect();
        self.now_us += 1;
        self.pipeline
            .process(self.now_us, &self.snapshot, &mut packets);
        self.finish(packets)
    }

    fn finish(&mut self, packets: Vec<Packet<<MemoryIo as FrameIo>::Frame>>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for packet in packets {
            let (verdict, state) = (packet.verdict.unwrap(), packet.trace.state);
            transmit(
                &mut self.io,
                &self.counters,
                &Handoff::single(),
                &mut vec![packet],
            );
            self.io.flush();
            outcomes.push(Outcome {
                verdict,
                state,
                sent: self.io.drain_sent(),
            });
        }
        outcomes
    }

    fn one(&mut self, port: PortId, frame: Vec<u8>) -> Outcome {
        self.batch(&[(port, frame)]).pop().unwrap()
    }

    fn wait(&mut self, seconds: u64) {
        self.now_us += seconds * 1_000_000;
    }
}

/// Which way a test frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    Back,
}
use Way::{Back, Out};

impl Way {
    fn port(self) -> PortId {
        if self == Out { INSIDE } else { OUTSIDE }
    }

    fn ports(self, server_port: u16) -> (u16, u16) {
        if self == Out {
            (40000, server_port)
        } else {
            (server_port, 40000)
        }
    }

    fn v4(self, ttl: u8) -> PacketBuilderStep<IpHeaders> {
        let (client, server) = (v4(CLIENT).octets(), v4(SERVER).octets());
        match self {
            Out => PacketBuilder::ethernet2(CLIENT_MAC, INSIDE_MAC).ipv4(client, server, ttl),
            Back => PacketBuilder::ethernet2(SERVER_MAC, OUTSIDE_MAC).ipv4(server, client, ttl),
        }
    }

    fn v6(self, hops: u8) -> PacketBuilderStep<IpHeaders> {
        let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let (client, server) = (address("2001:db8::2"), address("2001:db8:1::2"));
        match self {
            Out => PacketBuilder::ethernet2(CLIENT_MAC, INSIDE_MAC).ipv6(client, server, hops),
            Back => PacketBuilder::ethernet2(SERVER_MAC, OUTSIDE_MAC).ipv6(server, client, hops),
        }
    }

    fn tcp(self, flags: u8) -> (PortId, Vec<u8>) {
        self.tcp_to(80, flags)
    }

    fn tcp_to(self, server_port: u16, flags: u8) -> (PortId, Vec<u8>) {
        let (source, destination) = self.ports(server_port);
        // Each end's SYN has number 1, and everything behind it nothing but its number.
        let sequence = if flags & SYN != 0 { 1 } else { 2 };
        let mut header = TcpHeader::new(source, destination, sequence, 1000);
        header.acknowledgment_number = if flags & ACK != 0 { 2 } else { 0 };
        header.fin = flags & FIN != 0;
        header.syn = flags & SYN != 0;
        header.rst = flags & RST != 0;
        header.ack = flags & ACK != 0;
        let builder = self.v4(64).tcp_header(header);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"").unwrap();
        (self.port(), bytes)
    }

    fn udp(self, server_port: u16, payload: &[u8]) -> (PortId, Vec<u8>) {
        self.udp_ttl(server_port, payload, 64)
    }

    fn udp_ttl(self, server_port: u16, payload: &[u8], ttl: u8) -> (PortId, Vec<u8>) {
        let (source, destination) = self.ports(server_port);
        let mut bytes = Vec::new();
        self.v4(ttl)
            .udp(source, destination)
            .write(&mut bytes, payload)
            .unwrap();
        (self.port(), bytes)
    }

    fn udp6(self, server_port: u16, payload: &[u8], hops: u8) -> (PortId, Vec<u8>) {
        let (source, destination) = self.ports(server_port);
        let mut bytes = Vec::new();
        self.v6(hops)
            .udp(source, destination)
            .write(&mut bytes, payload)
            .unwrap();
        (self.port(), bytes)
    }

    fn ping(self, reply: bool, id: u16) -> (PortId, Vec<u8>) {
        let mut bytes = Vec::new();
        let builder = match reply {
            false => self.v4(64).icmpv4_echo_request(id, 1),
            true => self.v4(64).icmpv4_echo_reply(id, 1),
        };
        builder.write(&mut bytes, b"abc").unwrap();
        (self.port(), bytes)
    }
}

fn sent_ip(outcome: &Outcome) -> SlicedPacket<'_> {
    SlicedPacket::from_ethernet(&outcome.sent[0].1).unwrap()
}

#[test]
fn a_forwarded_packet_has_new_ethernet_addresses_one_hop_less_and_the_same_payload() {
    let mut bench = Bench::new();
    let outcome = bench.one(INSIDE, Out.udp(53, b"question").1);
    assert_eq!(
        (outcome.verdict, outcome.state),
        (Verdict::Forward(OUTSIDE), PacketState::New)
    );
    let (port, bytes) = &outcome.sent[0];
    assert_eq!(*port, OUTSIDE);
    assert_eq!(
        (&bytes[..6], &bytes[6..12]),
        (&SERVER_MAC[..], &OUTSIDE_MAC[..])
    );
    let before = Out.udp_ttl(53, b"question", 63).1;
    assert_eq!(
        bytes[12..],
        before[12..],
        "as a packet sent with one hop less"
    );
}

#[test]
fn replies_pass_by_state_and_strangers_are_asked() {
    let mut bench = Bench::new();
    bench.snapshot.policy = Some(policy(1, &[53]));
    // Port 53 of the server is denied, also towards a client that uses it as its source port.
    assert_eq!(
        bench.one(INSIDE, Out.udp(53, b"").1).verdict,
        Verdict::Drop(DropReason::Policy)
    );
    // From the server's port 53 it is the server that opens the flow: no rule about the client.
    let outcome = bench.one(OUTSIDE, Back.udp(53, b"").1);
    assert_eq!(
        (outcome.verdict, outcome.state),
        (Verdict::Forward(INSIDE), PacketState::New)
    );
    let outcome = bench.one(INSIDE, Out.udp(53, b"").1);
    let passed = (Verdict::Forward(OUTSIDE), PacketState::Established);
    assert_eq!((outcome.verdict, outcome.state), passed, "now a reply");
}

#[test]
fn rules_are_about_the_network_behind_the_port_and_not_about_the_tag() {
    let mut bench = Bench::new();
    let mut about_other = policy(2, &[80]);
    let inner = Arc::get_mut(&mut about_other).unwrap();
    let mut rules = RuleSet::new();
    rules.push(Rule {
        id: RuleId(1),
        priority: 0,
        source: AddressMatch::Any,
        destination: AddressMatch::Any,
        protocol: ProtocolMatch::Any,
        source_ports: PortRange::ANY,
        destination_ports: PortRange::ANY,
        zone: Some(3),
        verdict: RuleVerdict::Deny,
        origin: OriginId(0),
    });
    inner.stages[0].classifier = Arc::new(Linear::new(&rules));
    inner.stages[0].protects = End::Source;
    inner.networks = vec![3, 0];
    bench.snapshot.policy = Some(about_other);
    let outcome = bench.one(INSIDE, Out.tcp_to(80, SYN).1);
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::Policy));
    let outcome = bench.one(OUTSIDE, Back.tcp_to(80, SYN).1);
    assert_eq!(outcome.verdict, Verdict::Forward(INSIDE), "another network");
}

/// A stage that denies everything between the ends it protects, on network 3, and others.
fn denies_on_network_3(generation: u32, protects: End, keeps: bool) -> Arc<PolicySnapshot> {
    let mut policy = policy(generation, &[80]);
    let inner = Arc::get_mut(&mut policy).unwrap();
    let mut rules = RuleSet::new();
    rules.push(Rule {
        id: RuleId(1),
        priority: 0,
        source: AddressMatch::Any,
        destination: AddressMatch::Any,
        protocol: ProtocolMatch::Any,
        source_ports: PortRange::ANY,
        destination_ports: PortRange::ANY,
        zone: Some(3),
        verdict: RuleVerdict::Deny,
        origin: OriginId(0),
    });
    inner.stages[0].classifier = Arc::new(Linear::new(&rules));
    inner.stages[0].protects = protects;
    inner.stages[0].skips.keeps = keeps;
    inner.networks = vec![3, 0];
    policy
}

#[test]
fn a_stage_is_about_the_network_of_the_end_it_protects_whichever_way_a_packet_goes() {
    for transparent in [false, true] {
        let mut bench = Bench::new();
        if transparent {
            let peer = |peer| TransparentPort {
                peer: Some(peer),
                vlans: Vec::new(),
            };
            bench.snapshot.forwarding = Forwarding::Transparent(vec![peer(OUTSIDE), peer(INSIDE)]);
        }
        let opens = |bench: &mut Bench, way: Way, port| {
            let (arrives, frame) = way.tcp_to(port, SYN);
            matches!(bench.one(arrives, frame).verdict, Verdict::Forward(_))
        };
        // The inside is network 3: the source of what goes out, the destination of what comes in.
        bench.snapshot.policy = Some(denies_on_network_3(2, End::Source, false));
        assert!(!opens(&mut bench, Out, 81) && opens(&mut bench, Back, 82));
        bench.snapshot.policy = Some(denies_on_network_3(3, End::Destination, false));
        assert!(opens(&mut bench, Out, 83) && !opens(&mut bench, Back, 84));

        // An answer is asked about as the packet it answers: its source is the answer's receiver.
        for (protects, passes) in [(End::Source, false), (End::Destination, true)] {
            let mut bench_again = Bench::new();
            bench_again.snapshot.forwarding = bench.snapshot.forwarding.clone();
            bench_again.handshake();
            bench_again.snapshot.policy = Some(denies_on_network_3(2, protects, false));
            let outcome = bench_again.one(OUTSIDE, Back.tcp(ACK).1);
            let forwarded = matches!(outcome.verdict, Verdict::Forward(_));
            assert_eq!(forwarded, passes, "{protects:?} {transparent}");
        }
    }
}

#[test]
fn what_a_stage_keeps_goes_on_though_other_stages_are_asked_again() {
    let mut bench = Bench::new();
    bench.handshake();
    let goes_on = |bench: &mut Bench| {
        let outcomes = bench.batch(&[Back.tcp(ACK), Out.tcp(ACK)]);
        let verdicts = outcomes.iter().map(|outcome| outcome.verdict);
        let passed: Vec<_> = verdicts
            .map(|verdict| matches!(verdict, Verdict::Forward(_)))
            .collect();
        assert_eq!(passed[0], passed[1]);
        passed[0]
    };
    // One stage keeps what is established and would deny it; one behind it says nothing.
    let two = |generation, denied: &[u16], spared: bool| {
        let keeping = denies_on_network_3(generation, End::Source, true);
        let keeping = Arc::into_inner(keeping).unwrap();
        let mut behind = Arc::into_inner(policy(generation, denied)).unwrap();
        behind.networks = keeping.networks.clone();
        behind.stages.splice(0..0, keeping.stages);
        behind.stages[1].skips.own = 1;
        behind.stages[0].skips.deny = u32::from(spared);
        Some(Arc::new(behind))
    };
    bench.snapshot.policy = two(2, &[], false);
    assert!(goes_on(&mut bench));
    let new = bench.one(INSIDE, Out.tcp_to(81, SYN).1);
    assert_eq!(new.verdict, Verdict::Drop(DropReason::Policy), "a new one");
    // What another stage denies ends, unless the one that keeps has spared it the question.
    bench.snapshot.policy = two(3, &[80], true);
    assert!(goes_on(&mut bench));
    bench.snapshot.policy = two(4, &[80], false);
    assert!(!goes_on(&mut bench));
    bench.snapshot.policy = two(5, &[], false);
    assert!(goes_on(&mut bench), "it resumes");
}

#[test]
fn without_any_policy_everything_is_dropped() {
    let mut bench = Bench::new();
    bench.snapshot.policy = None;
    assert_eq!(
        bench.one(INSIDE, Out.udp(53, b"").1).verdict,
        Verdict::Drop(DropReason::NoPolicy)
    );
}

#[test]
fn a_policy_change_cuts_an_established_flow_both_ways_and_a_later_one_resumes_it() {
    let mut bench = Bench::new();
    bench.handshake();
    let passes = |bench: &mut Bench| {
        let outcomes = bench.batch(&[Back.tcp(ACK), Out.tcp(ACK)]);
        outcomes
            .iter()
            .map(|o| matches!(o.verdict, Verdict::Forward(_)))
            .collect::<Vec<_>>()
    };
    assert_eq!(passes(&mut bench), [true, true]);
    bench.snapshot.policy = Some(policy(2, &[80]));
    assert_eq!(passes(&mut bench), [false, false]);
    bench.snapshot.policy = Some(policy(3, &[]));
    assert_eq!(passes(&mut bench), [true, true]);
    let keeping = |generation, ports: &[u16]| {
        let mut policy = policy(generation, ports);
        let found = Arc::get_mut(&mut policy).unwrap();
        found.stages[0].skips.keeps = true;
        Some(policy)
    };
    bench.snapshot.policy = keeping(4, &[80]);
    bench.snapshot.reevaluate_established = false;
    assert_eq!(passes(&mut bench), [true, true], "established = keep");
    bench.snapshot.policy = Some(policy(5, &[80]));
    let lists = "lists without state are asked again";
    assert_eq!(passes(&mut bench), [false, false], "{lists}");
    bench.snapshot.policy = keeping(6, &[]);
    assert_eq!(
        passes(&mut bench),
        [true, true],
        "what was blocked is asked again"
    );
    bench.snapshot.policy = Some(policy(7, &[]));
    assert_eq!(passes(&mut bench), [true, true], "{lists}");
    let other = bench.one(INSIDE, Out.tcp_to(443, SYN).1);
    assert_eq!(other.verdict, Verdict::Forward(OUTSIDE));
}

#[test]
fn a_whole_handshake_in_one_batch_is_one_flow() {
    let mut bench = Bench::new();
    let outcomes = bench.batch(&[
        Out.tcp(SYN),
        Out.tcp(SYN),
        Back.tcp(SYN | ACK),
        Out.tcp(ACK),
    ]);
    // The server's answer stands in the batch that opens the flow, which no network can do; it is
    // judged before the flow exists, and what acknowledges it afterwards.
    let forwarded = [0, 1].map(|i: usize| outcomes[i].verdict);
    assert_eq!(forwarded, [Verdict::Forward(OUTSIDE); 2]);
    let invalid = [2, 3].map(|i: usize| outcomes[i].verdict);
    assert_eq!(invalid, [Verdict::Drop(DropReason::InvalidState); 2]);
    assert_eq!(bench.pipeline.flows().statistics().flows, 1);
}

#[test]
fn answers_and_resets_without_a_flow_are_invalid() {
    let mut bench = Bench::new();
    for flags in [SYN | ACK, RST, RST | ACK, 0, SYN | FIN] {
        let outcome = bench.one(INSIDE, Out.tcp(flags).1);
        let invalid = (
            Verdict::Drop(DropReason::InvalidState),
            PacketState::Invalid,
        );
        assert_eq!((outcome.verdict, outcome.state), invalid, "{flags:#x}");
    }
    let reply = bench.one(INSIDE, Out.ping(true, 7).1);
    assert_eq!(reply.verdict, Verdict::Drop(DropReason::InvalidState));
    bench.snapshot.evaluate_invalid = true;
    assert_eq!(
        bench.one(INSIDE, Out.tcp(RST).1).verdict,
        Verdict::Forward(OUTSIDE)
    );
}

#[test]
fn pings_are_told_apart_by_identifier() {
    let mut bench = Bench::new();
    bench.one(INSIDE, Out.ping(false, 7).1);
    assert_eq!(
        bench.one(OUTSIDE, Back.ping(true, 7).1).verdict,
        Verdict::Forward(INSIDE)
    );
    let other = bench.one(OUTSIDE, Back.ping(true, 8).1);
    assert_eq!(other.verdict, Verdict::Drop(DropReason::InvalidState));
}

#[test]
fn shortly_after_start_an_answer_in_mid_stream_passes_if_its_flow_would() {
    let mut bench = Bench::new();
    // Nothing may be opened towards the server's port 40000, which is the client's port here.
    bench.snapshot.policy = Some(policy(1, &[40000]));
    let segment = || {
        let mut frame = Back.tcp(ACK).1;
        // The client asks, the server answers: swap the ends so that the answer is what is denied.
        frame.clear();
        let header = TcpHeader {
            ack: true,
            ..TcpHeader::new(80, 40000, 1, 1000)
        };
        Out.v4(64)
            .tcp_header(header)
            .write(&mut frame, b"")
            .unwrap();
        frame
    };
    assert_eq!(
        bench.one(INSIDE, segment()).verdict,
        Verdict::Forward(OUTSIDE),
        "in grace"
    );
    let mut bench = Bench::new();
    bench.snapshot.policy = Some(policy(1, &[40000]));
    bench.one(INSIDE, Out.udp(53, b"").1);
    bench.wait(2);
    assert_eq!(
        bench.one(INSIDE, segment()).verdict,
        Verdict::Drop(DropReason::Policy),
        "after it"
    );
}

#[test]
fn hop_limit_one_is_answered_with_time_exceeded() {
    let mut bench = Bench::new();
    let outcome = bench.one(INSIDE, Out.udp_ttl(53, b"x", 1).1);
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::TtlExceeded));
    let (port, bytes) = &outcome.sent[0];
    assert_eq!(*port, INSIDE);
    assert_eq!(
        bytes[26..30],
        v4("198.18.0.1").octets(),
        "from the port's own address"
    );
    assert_eq!(&bytes[34..36], [protocol::ICMP_TIME_EXCEEDED, 0]);
    let outcome = bench.one(INSIDE, Out.udp6(53, b"x", 1).1);
    assert_eq!(outcome.sent[0].1[54], protocol::ICMPV6_TIME_EXCEEDED);
}

#[test]
fn too_big_is_answered_with_the_mtu() {
    let mut bench = Bench::new();
    let outcome = bench.one(INSIDE, Out.udp(53, &[0; 1450]).1);
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::PacketTooBig));
    let icmp = &outcome.sent[0].1[34..];
    assert_eq!(
        (icmp[0], icmp[1], &icmp[6..8]),
        (3, 4, &1400u16.to_be_bytes()[..])
    );
    let outcome = bench.one(INSIDE, Out.udp6(53, &[0; 1450], 64).1);
    let icmp = &outcome.sent[0].1[54..];
    assert_eq!((icmp[0], &icmp[4..8]), (2, &1400u32.to_be_bytes()[..]));
}

/// The same frame as its sender would send it without path MTU discovery.
fn may_be_fragmented(mut frame: Vec<u8>) -> Vec<u8> {
    frame[20] &= !0x40;
    crate::wire::sample::repair_ipv4_checksum(&mut frame);
    frame
}

#[test]
fn a_packet_that_may_be_fragmented_leaves_in_fragments() {
    let mut bench = Bench::new();
    let payload: Vec<u8> = (0..1450).map(|byte| byte as u8).collect();
    let outcome = bench.one(INSIDE, may_be_fragmented(Out.udp(53, &payload).1));
    assert_eq!(outcome.verdict, Verdict::Forward(OUTSIDE));
    let mut datagram = Vec::new();
    for (port, frame) in &outcome.sent {
        assert_eq!((*port, &frame[..6]), (OUTSIDE, &SERVER_MAC[..]));
        assert!(frame.len() <= 1414 && frame[22] == 63, "one hop less");
        datagram.extend_from_slice(&frame[34..]);
    }
    assert_eq!((outcome.sent.len(), &datagram[8..]), (2, &payload[..]));
    assert_eq!(bench.counters.forwarded.packets.get(), 1);
    assert_eq!(bench.counters.fragmented.get(), 1);
    bench.io.assert_conserved(0);
}

#[test]
fn a_packet_waits_for_its_neighbour_whole_and_leaves_in_fragments() {
    let mut bench = Bench::new();
    bench.snapshot.routes = table(vec![neighbour(INSIDE, CLIENT, CLIENT_MAC)]);
    let outcome = bench.one(INSIDE, may_be_fragmented(Out.udp(53, &[1; 1450]).1));
    assert_eq!(outcome.verdict, Verdict::Hold);
    bench.snapshot.routes = table(neighbours());
    bench.snapshot.routing_generation += 1;
    let outcome = bench.batch(&[]).pop().unwrap();
    assert_eq!(
        (outcome.verdict, outcome.sent.len()),
        (Verdict::Forward(OUTSIDE), 2)
    );
}

#[test]
fn without_frames_for_its_fragments_a_packet_is_a_counted_drop() {
    let mut bench = Bench::new();
    let frame = may_be_fragmented(Out.udp(53, &[1; 1450]).1);
    let mut taken: Vec<_> = std::iter::from_fn(|| bench.io.allocate()).collect();
    // One for the packet itself, one for its first fragment.
    for _ in 0..2 {
        bench.io.recycle(taken.pop().unwrap());
    }
    bench.one(INSIDE, frame);
    let drops = &bench.counters.drops[DropReason::TransmitFull as usize];
    assert_eq!(
        (drops.packets.get(), bench.counters.forwarded.packets.get()),
        (1, 0)
    );
    bench.io.assert_conserved(taken.len());
}

#[test]
fn routes_reject_as_they_say() {
    let mut bench = Bench::new();
    let mut to = |address: &str| {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2(CLIENT_MAC, INSIDE_MAC);
        let builder = builder.ipv4(v4(CLIENT).octets(), v4(address).octets(), 64);
        builder.udp(1, 2).write(&mut bytes, b"").unwrap();
        let outcome = bench.one(INSIDE, bytes);
        let icmp = outcome
            .sent
            .first()
            .map(|(_, bytes)| (bytes[34], bytes[35]));
        (outcome.verdict, icmp)
    };
    let drop = Verdict::Drop;
    assert_eq!(to("203.0.113.9"), (drop(DropReason::NoRoute), Some((3, 0))));
    assert_eq!(
        to("198.18.9.9"),
        (drop(DropReason::RouteRejects), Some((3, 13)))
    );
    assert_eq!(to("198.18.8.9"), (drop(DropReason::RouteRejects), None));
    assert_eq!(to("198.18.1.1"), (Verdict::Kernel, None));
    assert_eq!(
        to("224.0.0.9"),
        (drop(DropReason::MulticastDestination), None)
    );
    assert_eq!(to("127.0.0.1"), (drop(DropReason::MartianAddress), None));
}

#[test]
fn a_source_must_route_back_to_its_port_also_within_a_flow() {
    let mut bench = Bench::new();
    let spoofed = Out.udp(53, b"").1;
    let mut on_outside = spoofed.clone();
    on_outside[..6].copy_from_slice(&OUTSIDE_MAC);
    let outcome = bench.one(OUTSIDE, on_outside.clone());
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::SpoofedSource));
    bench.one(INSIDE, spoofed);
    let outcome = bench.one(OUTSIDE, on_outside);
    assert_eq!(
        outcome.verdict,
        Verdict::Drop(DropReason::SpoofedSource),
        "of a live flow"
    );
}

#[test]
fn frames_for_others_are_not_forwarded() {
    let mut bench = Bench::new();
    let mut frame = Out.udp(53, b"").1;
    frame[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    let outcome = bench.one(INSIDE, frame.clone());
    assert_eq!(
        outcome.verdict,
        Verdict::Drop(DropReason::NotForThisStation)
    );
    frame[..6].copy_from_slice(&[0xff; 6]);
    let outcome = bench.one(INSIDE, frame.clone());
    assert_eq!(
        outcome.verdict,
        Verdict::Drop(DropReason::MulticastDestination)
    );
    frame[6] |= 1;
    assert_eq!(
        bench.one(INSIDE, frame).verdict,
        Verdict::Drop(DropReason::BadSourceMac)
    );
}

#[test]
fn frames_wait_for_a_neighbour_and_leave_when_it_is_known() {
    let mut bench = Bench::new();
    bench.snapshot.routes = table(Vec::new());
    let outcomes = bench.batch(&[Out.udp(53, b"1"), Out.udp(53, b"2")]);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.verdict == Verdict::Hold)
    );
    bench.io.assert_conserved(2);
    let request = bench.requests.pop().unwrap();
    assert_eq!(
        (request.port, request.ip()),
        (OUTSIDE, SERVER.parse::<IpAddr>().unwrap())
    );
    assert!(bench.requests.pop().is_none(), "asked once");
    bench.snapshot.routes = table(neighbours());
    bench.snapshot.routing_generation = 2;
    let outcomes = bench.batch(&[]);
    assert_eq!(outcomes.len(), 2);
    for (outcome, payload) in outcomes.iter().zip([b"1", b"2"]) {
        assert_eq!(outcome.verdict, Verdict::Forward(OUTSIDE));
        assert_eq!(outcome.sent[0].1[..6], SERVER_MAC);
        let Some(TransportSlice::Udp(udp)) = sent_ip(outcome).transport else {
            panic!("no UDP")
        };
        assert_eq!(udp.payload(), payload);
    }
    bench.io.assert_conserved(0);
}

#[test]
fn a_neighbour_that_never_answers_ends_in_host_unreachable() {
    let mut bench = Bench::new();
    bench.snapshot.routes = table(Vec::new());
    bench.one(INSIDE, Out.udp(53, b"").1);
    bench.wait(4);
    let outcome = bench.batch(&[]).pop().unwrap();
    assert_eq!(
        outcome.verdict,
        Verdict::Drop(DropReason::NeighbourUnresolved)
    );
    assert_eq!(outcome.sent[0].1[34..36], [3, 1]);
    bench.io.assert_conserved(0);
}

#[test]
fn one_dead_neighbour_cannot_fill_the_queue() {
    let mut bench = Bench::new();
    bench.snapshot.routes = table(Vec::new());
    let verdicts: Vec<_> = (0..4)
        .map(|_| bench.one(INSIDE, Out.udp(53, b"").1).verdict)
        .collect();
    let full = Verdict::Drop(DropReason::NeighbourQueueFull);
    assert_eq!(
        verdicts,
        [Verdict::Hold, Verdict::Hold, full, full],
        "an eighth of sixteen"
    );
}

#[test]
fn a_partial_checksum_leaves_completed() {
    let mut bench = Bench::new();
    let mut frame = Out.udp(53, b"payload").1;
    let right = frame[40..42].to_vec();
    let Ok(Parsed::Ip(view)) = parse(&frame, &ParseOptions::default()) else {
        panic!("parses")
    };
    let partial = checksum::pseudo_header_sum(&view, 15);
    frame[40..42].copy_from_slice(&partial.to_be_bytes());
    let outcome = bench.one(INSIDE, frame);
    assert_eq!(outcome.sent[0].1[40..42], right);
    assert_eq!(bench.counters.checksums_completed.get(), 1);
}

#[test]
fn an_icmp_error_passes_only_to_the_sender_of_a_live_flows_packet() {
    let mut bench = Bench::new();
    let error = |inner: &[u8]| {
        let mut bytes = Vec::new();
        let unreachable = etherparse::icmpv4::DestUnreachableHeader::Port;
        let kind = etherparse::Icmpv4Type::DestinationUnreachable(unreachable);
        Back.v4(64)
            .icmpv4(kind)
            .write(&mut bytes, &inner[14..])
            .unwrap();
        bytes
    };
    let packet = Out.udp(53, b"12345678").1;
    let unrelated = Verdict::Drop(DropReason::UnrelatedIcmpError);
    assert_eq!(
        bench.one(OUTSIDE, error(&packet)).verdict,
        unrelated,
        "no flow yet"
    );
    bench.one(INSIDE, packet.clone());
    let outcome = bench.one(OUTSIDE, error(&packet));
    assert_eq!(
        (outcome.verdict, outcome.state),
        (Verdict::Forward(INSIDE), PacketState::Related)
    );
    let reply = Back.udp(53, b"12345678").1;
    assert_eq!(
        bench.one(OUTSIDE, error(&reply)).verdict,
        unrelated,
        "quotes the wrong end"
    );
    bench.snapshot.policy = Some(policy(2, &[53]));
    assert_eq!(
        bench.one(OUTSIDE, error(&packet)).verdict,
        Verdict::Drop(DropReason::Policy)
    );
}

#[test]
fn transparent_ports_pass_frames_unchanged_under_policy() {
    let mut bench = Bench::new();
    let port = |peer| TransparentPort {
        peer: Some(peer),
        vlans: vec![100],
    };
    bench.snapshot.forwarding = Forwarding::Transparent(vec![port(OUTSIDE), port(INSIDE)]);
    bench.snapshot.policy = Some(policy(1, &[53]));
    let frame = Out.udp_ttl(80, b"x", 1).1;
    let outcome = bench.one(INSIDE, frame.clone());
    assert_eq!(
        (outcome.verdict, &outcome.sent[0].1),
        (Verdict::Forward(OUTSIDE), &frame)
    );
    assert_eq!(
        bench.one(INSIDE, Out.udp(53, b"").1).verdict,
        Verdict::Drop(DropReason::Policy)
    );
    let mut arp = [0u8; 42].to_vec();
    arp[..6].copy_from_slice(&[0xff; 6]);
    arp[6..12].copy_from_slice(&CLIENT_MAC);
    arp[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    let outcome = bench.one(INSIDE, arp.clone());
    assert_eq!(
        (outcome.verdict, &outcome.sent[0].1),
        (Verdict::Forward(OUTSIDE), &arp)
    );
}

#[test]
fn transparent_ports_pass_their_vlans_alone() {
    let mut bench = Bench::new();
    let port = |peer| TransparentPort {
        peer: Some(peer),
        vlans: vec![100],
    };
    bench.snapshot.forwarding = Forwarding::Transparent(vec![port(OUTSIDE), port(INSIDE)]);
    let tagged = |vlan: u8, ether_type: [u8; 2]| {
        let mut frame = Out.udp(80, b"x").1;
        frame.splice(12..12, [ether_type[0], ether_type[1], 0, vlan]);
        frame
    };
    let outcome = bench.one(INSIDE, tagged(100, [0x81, 0]));
    assert_eq!(
        (outcome.verdict, &outcome.sent[0].1),
        (Verdict::Forward(OUTSIDE), &tagged(100, [0x81, 0]))
    );
    let unexpected = Verdict::Drop(DropReason::UnexpectedVlan);
    assert_eq!(
        bench.one(INSIDE, tagged(101, [0x81, 0])).verdict,
        unexpected
    );
    let mut twice = tagged(100, [0x81, 0]);
    twice.splice(12..12, [0x88, 0xa8, 0, 100]);
    assert_eq!(bench.one(INSIDE, twice).verdict, unexpected);
}

#[test]
fn a_full_transmit_ring_is_a_counted_drop_and_loses_no_frame() {
    let mut bench = Bench::new();
    bench.io.set_transmit_room(OUTSIDE, None);
    bench.one(INSIDE, Out.udp(53, b"").1);
    let counters = &bench.counters;
    assert_eq!(
        counters.drops[DropReason::TransmitFull as usize]
            .packets
            .get(),
        1
    );
    assert_eq!(counters.forwarded.packets.get(), 0);
    bench.io.assert_conserved(0);
}

#[test]
fn later_fragments_follow_the_first_and_never_go_before_it() {
    let mut bench = Bench::new();
    bench.snapshot.policy = Some(policy(1, &[53]));
    let fragments = |server_port: u16, id: u8| {
        let whole = Out.udp(server_port, &[7; 64]).1;
        let (ip, data) = whole[14..].split_at(20);
        let part = |range: std::ops::Range<usize>, more: bool| {
            let mut bytes = whole[..14].to_vec();
            let mut header = ip.to_vec();
            let length = 20 + range.len() as u16;
            header[2..4].copy_from_slice(&length.to_be_bytes());
            header[5] = id;
            let field = (range.start / 8) as u16 | if more { 0x2000 } else { 0 };
            header[6..8].copy_from_slice(&field.to_be_bytes());
            header[10..12].fill(0);
            let sum = !checksum::sum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes.extend(header);
            bytes.extend(&data[range]);
            (INSIDE, bytes)
        };
        [part(0..40, true), part(40..72, false)]
    };
    let [first, later] = fragments(80, 1);
    let orphan = bench.one(INSIDE, later.1.clone());
    assert_eq!(orphan.verdict, Verdict::Hold);
    assert!(bench.released().is_empty(), "its first has not come");
    let passes = |outcomes: &[Outcome]| {
        let mut verdicts = outcomes.iter().map(|outcome| outcome.verdict);
        verdicts.all(|verdict| verdict == Verdict::Forward(OUTSIDE))
    };
    let first = bench.batch(&[first]);
    let released = bench.released();
    assert!(passes(&first) && passes(&released) && released.len() == 1);
    let [first, later] = fragments(80, 3);
    assert!(passes(&bench.batch(&[first, later])));
    let [_, orphan] = fragments(80, 4);
    assert_eq!(bench.one(INSIDE, orphan.1).verdict, Verdict::Hold);
    bench.wait(11);
    bench.pipeline.tick(bench.now_us);
    let late = DropReason::FragmentWithoutFirst as usize;
    assert_eq!(bench.counters.drops[late].packets.get(), 1);
    let outcomes = bench.batch(&fragments(53, 2));
    assert!(
        outcomes
            .iter()
            .all(|o| o.verdict == Verdict::Drop(DropReason::Policy)),
        "denied"
    );
}

#[test]
fn every_packet_is_counted_once() {
    let mut bench = Bench::new();
    bench.snapshot.policy = Some(policy(1, &[53]));
    bench.batch(&[
        Out.udp(53, b""),
        Out.udp(80, b""),
        (INSIDE, vec![0; 9]),
        Out.tcp(RST),
    ]);
    let counters = &bench.counters;
    let drops: u64 = counters
        .drops
        .iter()
        .map(|volume| volume.packets.get())
        .sum();
    let received = counters.ports[0].received.packets.get();
    assert_eq!(
        (received, counters.forwarded.packets.get(), drops),
        (4, 1, 3)
    );
    assert_eq!(counters.rules[0].decisions.get(), 1);
    assert_eq!(counters.rules[0].volume.packets.get(), 1);
}
