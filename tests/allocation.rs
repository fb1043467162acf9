//! After start, the packet path allocates nothing: a counting allocator proves it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use arc_swap::ArcSwap;
use portcullis::classifier::tree::{self, Limits};
use portcullis::classifier::{
    AddressMatch, OriginId, PortRange, ProtocolMatch, Rule, RuleId, RuleSet, RuleVerdict,
};
use portcullis::dataplane::backend::memory::MemoryIo;
use portcullis::dataplane::conntrack::Timeouts;
use portcullis::dataplane::conntrack::tcp::TcpRules;
use portcullis::dataplane::event::Events;
use portcullis::dataplane::fragment::FragmentLimits;
use portcullis::dataplane::frame::FrameIo;
use portcullis::dataplane::handoff::Handoff;
use portcullis::dataplane::nat::{NatPlan, PortChoice, Selector, SourceRule};
use portcullis::dataplane::neighbour::NeighbourRequests;
use portcullis::dataplane::pipeline::{Pipeline, PipelineOptions};
use portcullis::dataplane::rate_limit::RateLimit;
use portcullis::dataplane::route::{Neighbour, PortLink, Route, RouteTable, RouteTarget};
use portcullis::dataplane::snapshot::{
    Effect, End, Forwarding, PolicySnapshot, RuleSlot, Skips, Snapshot, SourceCheck, Stage,
    StageEffects, StageRule,
};
use portcullis::dataplane::station::{Hold, Segment, Station, Stations};
use portcullis::dataplane::statistics::WorkerCounters;
use portcullis::dataplane::verdict::{DropReason, PortId};
use portcullis::dataplane::worker::{WaitStrategy, Worker};
use portcullis::wire::{Address, MacAddress, checksum};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // The thread-local is gone while its thread ends; nothing is measured then.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[allow(unsafe_code)]
// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const INSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Allocations and deallocations of this thread during a call.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn snapshot() -> Snapshot {
    let mut rules = RuleSet::new();
    rules.push(Rule {
        id: RuleId(1),
        priority: 0,
        source: AddressMatch::Any,
        destination: AddressMatch::Any,
        protocol: ProtocolMatch::Number(17),
        source_ports: PortRange::ANY,
        destination_ports: PortRange::single(99),
        zone: None,
        verdict: RuleVerdict::Deny,
        origin: OriginId(0),
    });
    let tree = tree::compile(&rules, &Limits::default()).unwrap();
    let rule = StageRule {
        verdict: RuleVerdict::Deny,
        slot: RuleSlot(0),
    };
    let stage = Stage {
        family: "NP",
        protects: End::Destination,
        classifier: Arc::new(tree),
        rules: vec![rule],
        skips: Skips::default(),
        effects: Some(Box::new(StageEffects {
            by_rule: vec![Some(0)],
            effects: vec![Effect {
                log: true,
                limit: Some(RateLimit {
                    connections_per_second: 10,
                    burst: 5,
                }),
                continues: false,
                slot: RuleSlot(0),
                rest: Arc::new(tree::compile(&RuleSet::new(), &Limits::default()).unwrap()),
                rest_first: 1,
            }],
        })),
    };
    let client = Station {
        network: 0,
        mac: Some(MacAddress(CLIENT_MAC)),
        addresses: vec![Address::from_ip("198.18.0.2".parse().unwrap())],
        sends: Hold::Frames,
        receives: Hold::Frames,
    };
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
            port: PortId(port),
            gateway: None,
        },
    };
    let neighbour = |port, address: &str| Neighbour {
        port: PortId(port),
        address: address.parse().unwrap(),
        mac: Some(MacAddress([2, 0, 0, 0, 1, 2])),
    };
    Snapshot {
        policy: Some(Arc::new(PolicySnapshot {
            generation: 1,
            stages: vec![stage],
            networks: Vec::new(),
            stations: Stations::new(vec![client], vec![Segment::default(); 2]).map(Arc::new),
        })),
        reevaluate_established: true,
        evaluate_invalid: false,
        forwarding: Forwarding::Routed,
        source_check: SourceCheck::Strict,
        nat: Arc::new(NatPlan {
            destinations: Vec::new(),
            sources: vec![SourceRule {
                selector: Selector::default(),
                leaves: Some(PortId(1)),
                redirected: false,
                addresses: Vec::new(),
                ports: 1024..=32767,
                choice: PortChoice::Random,
                reuse_delay_us: 120_000_000,
            }],
        }),
        routing_generation: 1,
        routes: Arc::new(RouteTable::new(
            vec![link(1, "198.18.0.1/16"), link(9, "198.19.0.1/16")],
            [to("198.18.0.0/16", 0), to("198.19.0.0/16", 1)],
            [neighbour(0, "198.18.0.2"), neighbour(1, "198.19.0.2")],
        )),
    }
}

fn udp(host: [u8; 4], source_port: u16, destination_port: u16, ttl: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(CLIENT_MAC, INSIDE_MAC)
        .ipv4([198, 18, 0, 2], host, ttl)
        .udp(source_port, destination_port)
        .write(&mut bytes, &[0; 18])
        .unwrap();
    bytes
}

/// Both fragments of a datagram, the later one first.
fn fragments(host: [u8; 4], source_port: u16) -> [Vec<u8>; 2] {
    let whole = udp(host, source_port, 53, 64);
    let part = |data: &[u8], field: u16| {
        let mut bytes = [&whole[..34], data].concat();
        bytes[16..18].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
        bytes[18..20].copy_from_slice(&source_port.to_be_bytes());
        bytes[20..22].copy_from_slice(&field.to_be_bytes());
        bytes[24..26].fill(0);
        let sum = !checksum::sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    [part(&whole[50..], 2), part(&whole[34..50], 0x2000)]
}

fn syn(host: [u8; 4], source_port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(CLIENT_MAC, INSIDE_MAC)
        .ipv4([198, 18, 0, 2], host, 64)
        .tcp(source_port, 53, 1, 1000)
        .syn()
        .write(&mut bytes, &[])
        .unwrap();
    bytes
}

#[test]
fn no_packet_allocates_after_start() {
    let options = PipelineOptions {
        ports: 2,
        flows_max: 65536,
        half_open_max: 512,
        fragments: FragmentLimits::default(),
        held_frames_max: 16,
        timeouts: Timeouts::default(),
        tcp_rules: TcpRules::default(),
        verify_checksums: true,
        nat_addresses_max: 2,
        restart_grace_us: 0,
        replies_per_second: 1_000_000,
        replies_burst: 1000,
        rate_limit_sources_max: 16,
        workers: 1,
        hash_key: (1, 2),
    };
    let counters = Arc::new(WorkerCounters::new(2, 16));
    let requests = NeighbourRequests::new(64, || {});
    let (events, handoff) = (Events::new(64), Handoff::single());
    let pipeline = Pipeline::new(
        &options,
        counters.clone(),
        requests.clone(),
        events.clone(),
        handoff,
    );
    let shared = Arc::new(ArcSwap::from_pointee(snapshot()));
    let io = MemoryIo::new(2, 512, 2048);
    let mut worker = Worker::new(
        io,
        pipeline,
        shared,
        counters.clone(),
        WaitStrategy::BusyPoll,
    );

    let server = [198, 19, 0, 2];
    let mut now_us = 1;
    let mut frames = Vec::new();
    for number in 0..2000u16 {
        frames.push(udp(server, 1024 + number, 53, 64)); // a new flow
        frames.push(udp(server, 1024, 53, 64)); // an established one
        frames.push(udp(server, 1024 + number, 99, 64)); // denied
        frames.push(udp(server, 7, 53, 1)); // answered with time exceeded
        frames.push(udp([198, 19, 7, 7], 7, 53, 64)); // waits for a neighbour in vain
        frames.push(vec![0; 20]); // malformed
        frames.push(syn(server, 1024 + number / 2)); // opens, and is sent again
        if number % 16 == 0 {
            frames.extend(fragments(server, 1024 + number)); // the later one waits
        }
        let mut spoofed = udp(server, 1024, 53, 64);
        spoofed[11] = 9;
        frames.push(spoofed); // from another MAC address
    }
    let mut round = |frames: &[Vec<u8>]| {
        let spent = allocations(|| {
            for frame in frames {
                worker.io_mut().inject(PortId(0), 0, frame).unwrap();
            }
            worker.round(now_us);
            while let Some((_, frame)) = worker.io_mut().take_sent() {
                worker.io_mut().recycle(frame);
            }
        });
        while requests.pop().is_some() || events.pop().is_some() {}
        now_us += 1_000_000;
        spent
    };
    let total: u64 = frames.chunks(60).map(&mut round).sum();
    assert_eq!(total, 0, "allocations and deallocations in the packet path");
    let forwarded = counters.forwarded.packets.get();
    assert!(forwarded > 3000, "only {forwarded} packets were forwarded");
    let spoofed = &counters.drops[DropReason::PortSecuritySourceMac as usize];
    assert_eq!(spoofed.packets.get(), 2000);
    assert!(counters.rules_logged.get() > 100 && counters.connections_over_rate.get() > 100);
    assert!(counters.replies_sent.get() > 1000 && counters.held.packets.get() > 10);
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))) >= 2);
}
