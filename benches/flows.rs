//! The flow table alone: a translated connection's packets from parsed key to rewritten frame, new
//! flows with a port each, and keys made to collide.
//!
//! `cargo bench --bench flows`. Every time is that of one packet, over batches of 64 as the
//! pipeline has them: the median of all batches, and their 99th percentile. What the numbers
//! mean is in docs/performance.md.

use std::hint::black_box;
use std::time::Instant;

use portcullis::dataplane::conntrack::tcp::{Outcome, Segment, TcpRules, Tracking};
use portcullis::dataplane::conntrack::{
    Flow, FlowDirection, FlowState, FlowTable, Marks, Place, Timeouts, Window,
};
use portcullis::dataplane::nat::ports::{PortPool, Wish};
use portcullis::wire::{
    Address, Family, FlowKey, PacketView, ParseOptions, Parsed, edit, parse, protocol,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 64;
const BATCHES: usize = 1 << 14;
const FLOWS_MAX: u32 = 1 << 20;
const HASH_KEY: (u64, u64) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);

fn key(number: u32) -> FlowKey {
    let [_, a, b, c] = (number >> 4).to_be_bytes();
    FlowKey {
        source: Address::from_v4_bytes([10, a, b, c]),
        destination: Address::from_v4_bytes([198, 19, 0, 2]),
        source_port: 1024 + (number & 15) as u16,
        destination_port: 443,
        zone: 0,
        protocol: protocol::TCP,
        family: Family::V4,
    }
}

/// A 64-byte segment of flow `number`: everything the same but source and source port.
fn frame(number: u32) -> [u8; 60] {
    let key = key(number);
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
        .ipv4(key.source.to_v4_bits().to_be_bytes(), [198, 19, 0, 2], 64)
        .tcp(key.source_port, 443, 2, 1000)
        .ack(2)
        .write(&mut bytes, &[0; 6])
        .expect("a vector takes it");
    bytes.try_into().expect("sixty bytes")
}

fn view(bytes: &[u8]) -> PacketView {
    match parse(bytes, &ParseOptions::default()) {
        Ok(Parsed::Ip(view)) => view,
        other => panic!("{other:?}"),
    }
}

/// 16 addresses: a port for every flow of a full table.
fn wish(number: u32) -> Wish {
    Wish {
        address: Address::from_v4_bytes([198, 19, 1, (number % 32) as u8]),
        ports: 1024..=65535,
        preserve: false,
        reuse_delay_us: 120_000_000,
    }
}

fn new_table() -> FlowTable {
    FlowTable::new(FLOWS_MAX, FLOWS_MAX, HASH_KEY).with_ports(PortPool::new(32, (0, 1), HASH_KEY))
}

/// Opens a translated connection, as the admit stage does.
fn open(table: &mut FlowTable, number: u32, first: &Segment<'_>) {
    let original = key(number);
    let wish = wish(number);
    let reply = original.reversed().expect("TCP is answered");
    let answers = |port| {
        Some(FlowKey {
            destination: wish.address,
            destination_port: port,
            ..reply
        })
    };
    let reply = table
        .take_port(&original, &wish, 1, answers)
        .expect("a port for each");
    let (tracking, state) = Tracking::open(first, &TcpRules::default()).expect("an ACK picks up");
    let mut flow = Flow::new(original, reply, FlowState::Tcp(state), 1);
    flow.window = Window::Tcp(tracking);
    flow.marks.put(Marks::TRANSLATED, true);
    flow.marks.put(Marks::HOLDS_PORT, true);
    flow.marks.put(Marks::REPLIED, true);
    flow.deadline_us = u64::MAX;
    table.insert(flow, 1).expect("room for each");
}

/// Flow numbers in an order no prefetcher follows.
fn numbers(flows: u32) -> impl Iterator<Item = u32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some((state >> 33) as u32 % flows)
    })
}

fn report(name: &str, mut batches_ns: Vec<f64>) -> f64 {
    batches_ns.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| batches_ns[(batches_ns.len() as f64 * share) as usize];
    let (median, p99) = (at(0.5), at(0.99));
    println!(
        "{name:44} {median:7.1} ns  p99 {p99:7.1} ns  {:6.2} M/s",
        1000.0 / median
    );
    p99
}

/// Parsed key to rewritten frame.
fn established(table: &mut FlowTable, flows: u32) {
    let mut random = numbers(flows);
    let (rules, timeouts) = (TcpRules::default(), Timeouts::default());
    let mut times = Vec::with_capacity(BATCHES);
    let mut places: Vec<Place> = Vec::with_capacity(BATCH);
    for round in 0..BATCHES as u64 {
        let mut frames: Vec<_> = random.by_ref().take(BATCH).map(frame).collect();
        let mut views: Vec<_> = frames.iter().map(|frame| view(frame)).collect();
        let now_us = 2 + round;
        let start = Instant::now();
        places.clear();
        places.extend(views.iter().map(|view| table.place(&view.key)));
        places.iter().for_each(|place| table.fetch_index(*place));
        places.iter().for_each(|place| table.fetch_flow(*place));
        for ((bytes, view), place) in frames.iter_mut().zip(&mut views).zip(&places) {
            let found = table.find_at(*place, &view.key, now_us);
            let (found, direction) = found.expect("it was opened");
            let flow = table.get_mut(found);
            let life = flow.life();
            let (FlowState::Tcp(state), Window::Tcp(tracking)) = (flow.state, &mut flow.window)
            else {
                panic!("all are TCP");
            };
            let segment = Segment::of(bytes, view).expect("all are TCP");
            let outcome = tracking.segment(state, direction, &segment, life, &rules);
            let Outcome::Accept { timer, .. } = outcome else {
                panic!("{outcome:?}");
            };
            flow.deadline_us = now_us + timeouts.of_segment(flow, timer, now_us);
            flow.packets[direction as usize] += 1;
            flow.bytes[direction as usize] += view.packet_bytes() as u64;
            let rewrite = flow.rewrite(direction);
            table.settle(found);
            edit::rewrite(bytes, view, &rewrite);
            edit::decrement_ttl(bytes, view);
        }
        times.push(start.elapsed().as_nanos() as f64 / BATCH as f64);
        black_box(&frames);
    }
    report(&format!("established and translated, {flows} flows"), times);
}

fn opening() {
    let bytes = frame(0);
    let first = Segment::of(&bytes, &view(&bytes)).expect("TCP");
    let mut table = new_table();
    let mut times = Vec::new();
    for batch in 0..1_000_000 / BATCH as u32 {
        let start = Instant::now();
        for i in 0..BATCH as u32 {
            open(&mut table, batch * BATCH as u32 + i, &first);
        }
        times.push(start.elapsed().as_nanos() as f64 / BATCH as f64);
    }
    report("new with a port each, 0 to 1 million flows", times);
}

/// Look-ups of keys that share a bucket under a key the attacker knows, and which is not in use.
fn crafted() {
    const KEYS: usize = 100_000;
    let known = FlowTable::new(FLOWS_MAX, FLOWS_MAX, (1, 2));
    let first_bucket = |key: &FlowKey| format!("{:?}", known.place(key));
    let bucket_of = |text: &str| {
        let digits = text.split(['[', ',']).nth(1).map(str::trim);
        digits
            .and_then(|digits| digits.parse::<u32>().ok())
            .expect("a bucket")
    };
    let colliding: Vec<FlowKey> = (0..u32::MAX)
        .map(wide_key)
        .filter(|key| bucket_of(&first_bucket(key)) % 64 == 7)
        .take(KEYS)
        .collect();
    let random: Vec<FlowKey> = (0..KEYS as u32)
        .map(|n| wide_key(n.wrapping_mul(64_007)))
        .collect();
    let time = |keys: &[FlowKey], name: &str| {
        let mut table = FlowTable::new(FLOWS_MAX, FLOWS_MAX, HASH_KEY);
        for key in keys {
            let reply = key.reversed().expect("UDP is answered");
            let mut flow = Flow::new(*key, reply, FlowState::Replied, 1);
            flow.deadline_us = u64::MAX;
            table.insert(flow, 1).expect("room for each");
        }
        let mut times = Vec::new();
        for chunk in keys.chunks(BATCH) {
            let start = Instant::now();
            for key in chunk {
                let found = table.find(key, 2);
                assert_eq!(found.map(|(_, d)| d), Some(FlowDirection::Original));
            }
            times.push(start.elapsed().as_nanos() as f64 / chunk.len() as f64);
        }
        report(name, times)
    };
    let plain = time(&random, "look-up, 100,000 keys, not fetched ahead");
    let crafted = time(&colliding, "the same, crafted to collide");
    println!("p99 crafted to random: {:.2}", crafted / plain);
}

fn wide_key(number: u32) -> FlowKey {
    FlowKey {
        source: Address::from_bits(number.into()),
        protocol: protocol::UDP,
        source_port: 53,
        ..key(0)
    }
}

fn main() {
    println!("64-byte TCP, batches of {BATCH}, a table of {FLOWS_MAX} flows");
    let bytes = frame(0);
    let first = Segment::of(&bytes, &view(&bytes)).expect("TCP");
    for flows in [1000, 100_000, 1_000_000] {
        let mut table = new_table();
        (0..flows).for_each(|number| open(&mut table, number, &first));
        established(&mut table, flows);
    }
    opening();
    crafted();
}
