//! What a packet costs before and after policy: parsing, checksums, header edits.
//!
//! `cargo bench --bench packet`

use divan::{Bencher, black_box, counter::ItemsCount};
use etherparse::{PacketBuilder, PacketHeaders};
use portcullis::wire::{
    Address, PacketView, ParseOptions, Parsed, checksum,
    edit::{self, Rewrite},
    parse,
};

fn main() {
    divan::main();
}

const SOURCE: [u8; 4] = [198, 18, 0, 1];
const DESTINATION: [u8; 4] = [198, 18, 1, 1];

fn udp_v4(payload_bytes: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(SOURCE, DESTINATION, 64)
        .udp(40_000, 53);
    let mut frame = Vec::new();
    builder
        .write(&mut frame, &vec![0x5a; payload_bytes])
        .unwrap();
    frame
}

fn tcp_v4(payload_bytes: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(SOURCE, DESTINATION, 64)
        .tcp(40_000, 443, 1, 65_535)
        .ack(1);
    let mut frame = Vec::new();
    builder
        .write(&mut frame, &vec![0x5a; payload_bytes])
        .unwrap();
    frame
}

fn tcp_v6(payload_bytes: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv6([0x20; 16], [0x21; 16], 64)
        .tcp(40_000, 443, 1, 65_535)
        .ack(1);
    let mut frame = Vec::new();
    builder
        .write(&mut frame, &vec![0x5a; payload_bytes])
        .unwrap();
    frame
}

fn view(frame: &[u8]) -> PacketView {
    match parse(frame, &ParseOptions::default()) {
        Ok(Parsed::Ip(view)) => view,
        other => panic!("{other:?}"),
    }
}

fn bench_parse(bencher: Bencher, frame: Vec<u8>) {
    let options = ParseOptions::default();
    bencher.bench_local(|| parse(black_box(&frame), black_box(&options)));
}

#[divan::bench]
fn parse_udp_v4(bencher: Bencher) {
    bench_parse(bencher, udp_v4(64));
}

#[divan::bench]
fn parse_tcp_v4(bencher: Bencher) {
    bench_parse(bencher, tcp_v4(64));
}

#[divan::bench]
fn parse_tcp_v6(bencher: Bencher) {
    bench_parse(bencher, tcp_v6(64));
}

/// As a worker does it: a batch of frames, the views kept.
#[divan::bench]
fn parse_udp_v4_batch_of_64(bencher: Bencher) {
    let frames: Vec<_> = (0..64).map(|_| udp_v4(64)).collect();
    let options = ParseOptions::default();
    let mut views = Vec::with_capacity(64);
    bencher.counter(ItemsCount::new(64usize)).bench_local(|| {
        views.clear();
        for frame in black_box(&frames) {
            views.push(parse(frame, &options));
        }
        black_box(&mut views);
    });
}

#[divan::bench]
fn parse_udp_v4_etherparse(bencher: Bencher) {
    let frame = udp_v4(64);
    bencher.bench_local(|| PacketHeaders::from_ethernet_slice(black_box(&frame)).is_ok());
}

#[divan::bench]
fn detect_partial_tcp_v4(bencher: Bencher) {
    let frame = tcp_v4(1400);
    let view = view(&frame);
    bencher.bench_local(|| checksum::detect(black_box(&frame), black_box(&view)));
}

#[divan::bench(args = [64, 576, 1500, 9000])]
fn checksum_sum(bencher: Bencher, len: usize) {
    let bytes = vec![0x5a; len];
    bencher.bench_local(|| checksum::sum(black_box(&bytes)));
}

#[divan::bench(args = [64, 1400])]
fn checksum_fill_tcp_v4(bencher: Bencher, payload_bytes: usize) {
    let mut frame = tcp_v4(payload_bytes);
    let view = view(&frame);
    bencher.bench_local(|| checksum::fill(black_box(&mut frame), black_box(&view)));
}

#[divan::bench]
fn decrement_ttl_v4(bencher: Bencher) {
    let mut frame = tcp_v4(64);
    let original = view(&frame);
    bencher.bench_local(|| {
        let mut view = black_box(original);
        edit::decrement_ttl(black_box(&mut frame), &mut view)
    });
}

#[divan::bench]
fn rewrite_source_v4(bencher: Bencher) {
    let mut frame = tcp_v4(64);
    let original = view(&frame);
    let rewrite = Rewrite {
        source: Some(Address::from_v4_bytes([198, 19, 0, 1])),
        source_port: Some(61_000),
        ..Rewrite::default()
    };
    bencher.bench_local(|| {
        let mut view = black_box(original);
        edit::rewrite(black_box(&mut frame), &mut view, black_box(&rewrite));
    });
}
