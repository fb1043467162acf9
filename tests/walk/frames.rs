//! Building and reading captures.

use std::path::Path;

use etherparse::{PacketBuilder, PacketBuilderStep, VlanId};
use portcullis::dataplane::backend::pcap::{CaptureReader, CaptureWriter};

/// One frame of a capture.
#[derive(Debug, Clone)]
pub struct Frame {
    pub port: String,
    pub timestamp_ns: u64,
    pub bytes: Vec<u8>,
}

/// A capture in the making: frames at growing times, on the ports `inside` and `outside`.
#[derive(Default)]
pub struct Capture {
    frames: Vec<Frame>,
    now_ns: u64,
}

/// 2026-01-01 00:00:00 UTC.
const START_NS: u64 = 1_767_225_600_000_000_000;

pub const CLIENT: [u8; 4] = [198, 18, 0, 2];
pub const SERVER: [u8; 4] = [198, 18, 1, 2];
pub const CLIENT6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const SERVER6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// Addresses of both ends, of one family.
#[derive(Debug, Clone, Copy)]
pub enum Ends {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

/// From the client to the server, in each family.
pub const TO_SERVER: [Ends; 2] = [Ends::V4(CLIENT, SERVER), Ends::V6(CLIENT6, SERVER6)];
/// And back.
pub const TO_CLIENT: [Ends; 2] = [Ends::V4(SERVER, CLIENT), Ends::V6(SERVER6, CLIENT6)];

/// TCP flags of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    Syn,
    SynAck,
    Ack,
    Fin,
    Rst,
}

impl Capture {
    /// Adds a frame a millisecond after the last one.
    pub fn add(&mut self, port: &str, bytes: Vec<u8>) -> &mut Self {
        self.frames.push(Frame {
            port: port.to_owned(),
            timestamp_ns: START_NS + self.now_ns,
            bytes,
        });
        self.wait_ms(1)
    }

    /// Lets time pass.
    pub fn wait_ms(&mut self, ms: u64) -> &mut Self {
        self.now_ns += ms * 1_000_000;
        self
    }

    /// The capture as pcapng.
    pub fn pcapng(&self) -> Vec<u8> {
        let ports = ["inside", "outside"];
        let mut writer = CaptureWriter::new(Vec::new(), ports).expect("memory can be written");
        for frame in &self.frames {
            let number = ports.iter().position(|port| *port == frame.port);
            let number = number.expect("one of the two") as u32;
            let written = writer.write(number, frame.timestamp_ns, &frame.bytes, "");
            written.expect("memory can be written");
        }
        writer.into_inner()
    }
}

/// Frames as a pcap of microseconds, without names.
pub fn pcap(frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for frame in frames {
        let (us, len) = (frame.timestamp_ns / 1000, frame.bytes.len() as u32);
        let (seconds, fraction) = ((us / 1_000_000) as u32, (us % 1_000_000) as u32);
        for word in [seconds, fraction, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&frame.bytes);
    }
    bytes
}

/// All frames of a file, and what ended it early.
pub fn read(path: &Path) -> (Vec<Frame>, Option<String>) {
    let mut reader = CaptureReader::open(path).expect("it is a capture");
    let mut frames = Vec::new();
    loop {
        let (interface, timestamp_ns, bytes) = match reader.next_frame() {
            Ok(Some(frame)) => (frame.interface, frame.timestamp_ns, frame.bytes.to_vec()),
            Ok(None) => return (frames, None),
            Err(damage) => return (frames, Some(damage.to_string())),
        };
        frames.push(Frame {
            port: reader
                .interface_name(interface)
                .unwrap_or_default()
                .to_owned(),
            timestamp_ns,
            bytes,
        });
    }
}

/// The gateway's Ethernet address on each side, and the hosts'.
pub const GATEWAY_INSIDE: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const GATEWAY_OUTSIDE: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];

/// Ethernet and IP headers from the side the source is on, with this time to live.
fn ip(ends: Ends, ttl: u8) -> PacketBuilderStep<etherparse::IpHeaders> {
    let from_client = matches!(ends, Ends::V4([198, 18, 0, _], _))
        || matches!(ends, Ends::V6([0x20, 1, 0xd, 0xb8, 0, 0, ..], _));
    let ethernet = match from_client {
        true => PacketBuilder::ethernet2(CLIENT_MAC, GATEWAY_INSIDE),
        false => PacketBuilder::ethernet2(SERVER_MAC, GATEWAY_OUTSIDE),
    };
    match ends {
        Ends::V4(source, destination) => ethernet.ipv4(source, destination, ttl),
        Ends::V6(source, destination) => ethernet.ipv6(source, destination, ttl),
    }
}

pub fn tcp(ends: Ends, ports: (u16, u16), segment: Segment, sequence: (u32, u32)) -> Vec<u8> {
    let (number, acknowledged) = sequence;
    let builder = ip(ends, 64).tcp(ports.0, ports.1, number, 64_000);
    let builder = match segment {
        Segment::Syn => builder.syn(),
        Segment::SynAck => builder.syn().ack(acknowledged),
        Segment::Ack => builder.ack(acknowledged),
        Segment::Fin => builder.fin().ack(acknowledged),
        Segment::Rst => builder.rst(),
    };
    let payload: &[u8] = if segment == Segment::Ack {
        b"data"
    } else {
        b""
    };
    let mut bytes = Vec::new();
    builder
        .write(&mut bytes, payload)
        .expect("memory can be written");
    bytes
}

pub fn udp(ends: Ends, ports: (u16, u16), length: usize) -> Vec<u8> {
    udp_with_ttl(ends, ports, length, 64)
}

pub fn udp_with_ttl(ends: Ends, ports: (u16, u16), length: usize, ttl: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = ip(ends, ttl).udp(ports.0, ports.1);
    builder
        .write(&mut bytes, &vec![b'u'; length])
        .expect("memory can be written");
    bytes
}

/// An echo request, or its reply.
pub fn echo(ends: Ends, reply: bool, sequence: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = ip(ends, 64);
    let written = match (ends, reply) {
        (Ends::V4(..), false) => builder
            .icmpv4_echo_request(7, sequence)
            .write(&mut bytes, b"p"),
        (Ends::V4(..), true) => builder
            .icmpv4_echo_reply(7, sequence)
            .write(&mut bytes, b"p"),
        (Ends::V6(..), false) => builder
            .icmpv6_echo_request(7, sequence)
            .write(&mut bytes, b"p"),
        (Ends::V6(..), true) => builder
            .icmpv6_echo_reply(7, sequence)
            .write(&mut bytes, b"p"),
    };
    written.expect("memory can be written");
    bytes
}

/// Puts an IEEE 802.1Q tag into a frame.
pub fn tagged(frame: &[u8], vlan: VlanId) -> Vec<u8> {
    let tag = [0x81, 0, (vlan.value() >> 8) as u8, vlan.value() as u8];
    [&frame[..12], &tag, &frame[12..]].concat()
}
