//! The pipeline alone, over frames in memory: established flows, and every packet a new flow.
//!
//! `cargo bench --bench pipeline`. Each figure is the median of five runs; frames are put back into
//! their original state between runs, outside the measured time. What the numbers mean is in
//! docs/performance.md.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::classifier::tree::{self, Limits};
use portcullis::classifier::{
    AddressMatch, AddressSet, OriginId, PortRange, ProtocolMatch, Rule, RuleId, RuleSet,
    RuleVerdict,
};
use portcullis::dataplane::conntrack::Timeouts;
use portcullis::dataplane::conntrack::tcp::TcpRules;
use portcullis::dataplane::event::Events;
use portcullis::dataplane::fragment::FragmentLimits;
use portcullis::dataplane::frame::{BATCH_FRAMES_MAX, FrameBuffer};
use portcullis::dataplane::handoff::Handoff;
use portcullis::dataplane::neighbour::NeighbourRequests;
use portcullis::dataplane::pipeline::{Packet, Pipeline, PipelineOptions};
use portcullis::dataplane::route::{Neighbour, PortLink, Route, RouteTable, RouteTarget};
use portcullis::dataplane::snapshot::{
    End, Forwarding, PolicySnapshot, RuleSlot, Skips, Snapshot, SourceCheck, Stage, StageRule,
};
use portcullis::dataplane::statistics::WorkerCounters;
use portcullis::dataplane::verdict::{PortId, Verdict};
use portcullis::wire::{Address, Family, MacAddress};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 5;
const PACKETS: usize = 1 << 20;
const RULES: u32 = 1000;
const INSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// 64 bytes with the frame check sequence that no buffer holds.
struct Small {
    bytes: [u8; 128],
    len: usize,
}

impl FrameBuffer for Small {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
    fn capacity(&self) -> usize {
        self.bytes.len()
    }
    fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity());
        self.len = len;
    }
}

/// 64-byte UDP packet of flow `number`.
fn frame(number: u32) -> Small {
    let [a, b, c, _] = number.to_be_bytes();
    let source = [198, 18 | a & 1, b, c];
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], INSIDE_MAC)
        .ipv4(source, [198, 19, 0, 2], 64)
        .udp(1024 + number as u16 % 256, 53)
        .write(&mut bytes, &[0; 18])
        .unwrap();
    let mut small = Small {
        bytes: [0; 128],
        len: bytes.len(),
    };
    small.bytes[..bytes.len()].copy_from_slice(&bytes);
    small
}

fn snapshot() -> Snapshot {
    let (inside, outside) = (PortId(0), PortId(1));
    let link = |last, address: &str| {
        Some(PortLink {
            mac: MacAddress([2, 0, 0, 0, 0, last]),
            mtu_bytes: 1500,
            up: true,
            addresses: vec![address.parse().unwrap()],
        })
    };
    let to = |prefix: &str, port| Route {
        prefix: prefix.parse().unwrap(),
        metric: 0,
        target: RouteTarget::Port {
            port,
            gateway: None,
        },
    };
    let server = Neighbour {
        port: outside,
        address: "198.19.0.2".parse().unwrap(),
        mac: Some(MacAddress([2, 0, 0, 0, 1, 2])),
    };
    Snapshot {
        policy: Some(Arc::new(policy())),
        reevaluate_established: true,
        evaluate_invalid: false,
        forwarding: Forwarding::Routed,
        source_check: SourceCheck::Off,
        nat: Arc::default(),
        routing_generation: 1,
        routes: Arc::new(RouteTable::new(
            vec![link(1, "198.18.0.1/15"), link(9, "198.19.0.1/24")],
            [to("198.18.0.0/16", inside), to("198.19.0.0/16", outside)],
            [server],
        )),
    }
}

/// Rules about other destinations, and behind them the one that allows.
fn policy() -> PolicySnapshot {
    let mut rules = RuleSet::new();
    for number in 0..RULES {
        let [_, _, c, d] = number.to_be_bytes();
        let address = Address::from_v4_bytes([203, 0, c, d]);
        let last = [198, 19, 0, 2];
        let address = if number + 1 == RULES {
            Address::from_v4_bytes(last)
        } else {
            address
        };
        let set = rules.intern(AddressSet::from_ranges([(Family::V4, address, address)]));
        rules.push(Rule {
            id: RuleId(number.into()),
            priority: 0,
            source: AddressMatch::Any,
            destination: AddressMatch::Set(set),
            protocol: ProtocolMatch::Number(17),
            source_ports: PortRange::ANY,
            destination_ports: PortRange::single(53),
            zone: None,
            verdict: RuleVerdict::Allow,
            origin: OriginId(0),
        });
    }
    let tree = tree::compile(&rules, &Limits::default()).unwrap();
    let slots = (0..RULES).map(|number| StageRule {
        verdict: RuleVerdict::Allow,
        slot: RuleSlot(number),
    });
    let stage = Stage {
        family: "NP",
        protects: End::Destination,
        classifier: Arc::new(tree),
        rules: slots.collect(),
        skips: Skips::default(),
        effects: None,
    };
    PolicySnapshot {
        generation: 1,
        stages: vec![stage],
        networks: Vec::new(),
        stations: None,
    }
}

fn pipeline() -> Pipeline<Small> {
    let options = PipelineOptions {
        ports: 2,
        flows_max: 1 << 20,
        half_open_max: 1 << 20,
        fragments: FragmentLimits::default(),
        held_frames_max: 16,
        timeouts: Timeouts::default(),
        tcp_rules: TcpRules::default(),
        verify_checksums: true,
        nat_addresses_max: 0,
        restart_grace_us: 0,
        replies_per_second: 100,
        replies_burst: 50,
        rate_limit_sources_max: 16,
        workers: 1,
        hash_key: (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210),
    };
    let counters = Arc::new(WorkerCounters::new(2, RULES as usize));
    Pipeline::new(
        &options,
        counters,
        NeighbourRequests::new(16, || {}),
        Events::new(16),
        Handoff::single(),
    )
}

/// Time the pipeline takes for one pass over packets of these flows, in this order.
fn pass(pipeline: &mut Pipeline<Small>, snapshot: &Snapshot, order: &[u32]) -> Duration {
    let mut spent = Duration::ZERO;
    let mut batch: Vec<Packet<Small>> = Vec::with_capacity(BATCH_FRAMES_MAX + 16);
    for (round, numbers) in order.chunks(BATCH_FRAMES_MAX).enumerate() {
        batch.clear();
        batch.extend(
            numbers
                .iter()
                .map(|&number| Packet::new(PortId(0), frame(number))),
        );
        let start = Instant::now();
        pipeline.process(1 + round as u64, snapshot, &mut batch);
        spent += start.elapsed();
        assert!(
            batch
                .iter()
                .all(|packet| packet.verdict == Some(Verdict::Forward(PortId(1))))
        );
        black_box(&batch);
    }
    spent
}

/// Flow numbers in an order no prefetcher follows.
fn order(flows: u32) -> Vec<u32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..PACKETS)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as u32 % flows
        })
        .collect()
}

fn report(name: &str, mut runs: Vec<Duration>, packets: usize) {
    runs.sort_unstable();
    let median = runs[runs.len() / 2];
    let ns = median.as_nanos() as f64 / packets as f64;
    let (least, most) = (
        runs[0].as_nanos() as f64,
        runs[runs.len() - 1].as_nanos() as f64,
    );
    let per = |total: f64| total / packets as f64;
    println!(
        "{name:32} {:8.2} Mpps  {ns:7.1} ns/packet  (runs {:.1} to {:.1})",
        1000.0 / ns,
        per(least),
        per(most)
    );
}

fn main() {
    let snapshot = snapshot();
    println!("64-byte UDP, {RULES} rules, batches of {BATCH_FRAMES_MAX}, median of {RUNS} runs");
    for flows in [1, 1000, 100_000, 1_000_000] {
        let mut pipeline = pipeline();
        let every: Vec<u32> = (0..flows).collect();
        pass(&mut pipeline, &snapshot, &every);
        let order = order(flows);
        let runs = (0..RUNS)
            .map(|_| pass(&mut pipeline, &snapshot, &order))
            .collect();
        report(&format!("established, {flows} flows"), runs, order.len());
    }
    let every: Vec<u32> = (0..1_000_000).collect();
    let runs = (0..RUNS)
        .map(|_| pass(&mut pipeline(), &snapshot, &every))
        .collect();
    report("every packet a new flow", runs, every.len());
    baseline();
}

/// What the same number of look-ups costs in a plain map of the same keys.
fn baseline() {
    for flows in [1000, 1_000_000] {
        let map: HashMap<[u64; 5], u32> = (0..flows).map(|n| ([n.into(), 1, 2, 3, 4], n)).collect();
        let order = order(flows);
        let runs = (0..RUNS).map(|_| {
            let start = Instant::now();
            for &number in &order {
                black_box(map.get(&[number.into(), 1, 2, 3, 4]));
            }
            start.elapsed()
        });
        report(
            &format!("std HashMap get, {flows} keys"),
            runs.collect(),
            order.len(),
        );
    }
}
