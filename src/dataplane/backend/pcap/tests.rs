use super::*;

type Bytes = std::io::Cursor<Vec<u8>>;
/// Time stamp, interface name, original length and bytes of a frame.
type Frame = (u64, Option<String>, u32, Vec<u8>);

fn open(bytes: &[u8]) -> Result<CaptureReader<Bytes>, CaptureError> {
    CaptureReader::new("in.pcap", Bytes::new(bytes.to_vec()))
}

fn frames(bytes: &[u8]) -> Result<Vec<Frame>, CaptureError> {
    let mut reader = open(bytes)?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        let CaptureFrame {
            timestamp_ns,
            interface,
            original_bytes,
            bytes,
        } = frame;
        let bytes = bytes.to_vec();
        let name = reader.interface_name(interface).map(str::to_owned);
        frames.push((timestamp_ns, name, original_bytes, bytes));
    }
    Ok(frames)
}

fn message(bytes: &[u8]) -> String {
    frames(bytes).expect_err("it is damaged").to_string()
}

/// Builds captures in either byte order.
#[derive(Clone)]
struct Builder {
    big_endian: bool,
    bytes: Vec<u8>,
}

impl Builder {
    fn pcap(big_endian: bool, magic: u32, link_type: u32) -> Self {
        let bytes = Vec::new();
        Builder { big_endian, bytes }.u32s(&[magic, 0x0004_0002, 0, 0, 65535, link_type])
    }

    fn record(self, seconds: u32, fraction: u32, original: u32, bytes: &[u8]) -> Self {
        let captured = bytes.len() as u32;
        self.u32s(&[seconds, fraction, captured, original])
            .raw(bytes)
    }

    fn pcapng(big_endian: bool) -> Self {
        let bytes = Vec::new();
        Builder { big_endian, bytes }.section()
    }

    fn section(self) -> Self {
        let body = self
            .body()
            .u32s(&[0x1a2b_3c4d, 0x0000_0001, u32::MAX, u32::MAX]);
        self.block(0x0a0d_0d0a, body)
    }

    fn interface(self, link_type: u16, options: &[(u16, &[u8])]) -> Self {
        let mut body = self.body().u16s(&[link_type, 0]).u32s(&[0]);
        for (code, value) in options {
            body = body.u16s(&[*code, value.len() as u16]).raw(value).pad();
        }
        let body = body.u16s(&[0, 0]);
        self.block(1, body)
    }

    fn packet(self, interface: u32, timestamp: u64, bytes: &[u8]) -> Self {
        let length = bytes.len() as u32;
        let (high, low) = ((timestamp >> 32) as u32, timestamp as u32);
        let body = self.body().u32s(&[interface, high, low, length, length]);
        self.block(6, body.raw(bytes).pad())
    }

    fn block(self, block: u32, body: Builder) -> Self {
        let total = body.bytes.len() as u32 + 12;
        self.u32s(&[block, total]).raw(&body.bytes).u32s(&[total])
    }

    fn body(&self) -> Self {
        let big_endian = self.big_endian;
        let bytes = Vec::new();
        Builder { big_endian, bytes }
    }

    fn u32s(mut self, values: &[u32]) -> Self {
        for value in values {
            self.bytes.extend(match self.big_endian {
                true => value.to_be_bytes(),
                false => value.to_le_bytes(),
            });
        }
        self
    }

    fn u16s(mut self, values: &[u16]) -> Self {
        for value in values {
            self.bytes.extend(match self.big_endian {
                true => value.to_be_bytes(),
                false => value.to_le_bytes(),
            });
        }
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn pad(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }
}

const FRAME: [u8; 17] = [7; 17];
const S: u64 = 1_000_000_000;

#[test]
fn pcap_in_both_byte_orders_and_both_resolutions() {
    for big_endian in [false, true] {
        for (magic, unit) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1)] {
            let capture = Builder::pcap(big_endian, magic, 1)
                .record(5, 999_999, 17, &FRAME)
                .record(6, 1, 17, &FRAME);
            let frames = frames(&capture.bytes).unwrap();
            assert_eq!(
                frames[0],
                (5 * S + 999_999 * unit, None, 17, FRAME.to_vec())
            );
            assert_eq!(frames[1].0, 6 * S + unit);
            assert_eq!(frames.len(), 2);
        }
    }
}

#[test]
fn a_frame_the_snap_length_cut_short_keeps_its_original_length() {
    let capture = Builder::pcap(false, 0xa1b2_c3d4, 1).record(0, 0, 1_000_000, &FRAME);
    assert_eq!(
        frames(&capture.bytes).unwrap()[0],
        (0, None, 1_000_000, FRAME.to_vec())
    );
}

#[test]
fn pcapng_in_both_byte_orders_with_every_resolution() {
    let cases: &[(Option<u8>, u64, u64)] = &[
        (None, 5_000_001, 5 * S + 1000),
        (Some(0), 5, 5 * S),
        (Some(6), 5_000_001, 5 * S + 1000),
        (Some(9), 5_000_000_001, 5 * S + 1),
        (Some(12), 5_000_000_001_999, 5 * S + 1),
        (Some(0x80 | 20), 5 << 20 | 1 << 19, 5 * S + S / 2),
        (Some(0xff), u64::MAX, 0),
        (Some(0), u64::MAX, u64::MAX),
        (Some(127), u64::MAX, 0),
    ];
    for big_endian in [false, true] {
        for &(resolution, raw, expected) in cases {
            let value = [resolution.unwrap_or(0)];
            let mut options: Vec<(u16, &[u8])> = vec![(2, b"inside"), (99, b"odd")];
            options.extend(resolution.map(|_| (9, &value[..])));
            let capture = Builder::pcapng(big_endian)
                .interface(1, &options)
                .packet(0, raw, &FRAME);
            let frames = frames(&capture.bytes).unwrap();
            assert_eq!(
                frames,
                [(expected, Some("inside".into()), 17, FRAME.to_vec())]
            );
        }
    }
}

#[test]
fn time_offsets_are_added_and_never_pass_the_ends_of_time() {
    for (offset, expected) in [(3_i64, 8 * S), (-4, S), (-9, 0), (i64::MAX, u64::MAX)] {
        for big_endian in [false, true] {
            let value = if big_endian {
                offset.to_be_bytes()
            } else {
                offset.to_le_bytes()
            };
            let capture = Builder::pcapng(big_endian)
                .interface(1, &[(9, &[0]), (14, &value)])
                .packet(0, 5, &FRAME);
            assert_eq!(frames(&capture.bytes).unwrap()[0].0, expected);
        }
    }
}

#[test]
fn sections_number_their_interfaces_anew_and_choose_their_byte_order() {
    let first = Builder::pcapng(false)
        .interface(1, &[(2, b"a")])
        .interface(1, &[(2, b"b")])
        .packet(1, 1_000_000, &FRAME);
    let second = Builder::pcapng(true)
        .interface(1, &[(2, b"c")])
        .packet(0, 2_000_000, &FRAME);
    let bytes = first.raw(&second.bytes).bytes;
    let names: Vec<_> = frames(&bytes)
        .unwrap()
        .into_iter()
        .map(|f| (f.0, f.1))
        .collect();
    assert_eq!(names, [(S, Some("b".into())), (2 * S, Some("c".into()))]);
    let lacking = Builder::pcapng(false)
        .interface(1, &[])
        .section()
        .packet(0, 0, &FRAME);
    assert!(message(&lacking.bytes).contains("names interface 0; the section describes 0"));
}

#[test]
fn simple_and_obsolete_packets_and_unknown_blocks() {
    let capture = Builder::pcapng(false)
        .interface(1, &[(2, b"a")])
        .packet(0, 7_000_000, &FRAME);
    let simple = capture.body().u32s(&[17]).raw(&FRAME).pad();
    let obsolete = capture
        .body()
        .u16s(&[0, 0])
        .u32s(&[0, 9_000_000, 17, 60])
        .raw(&FRAME)
        .pad();
    let unknown = capture.body().raw(b"anything");
    let bytes = capture
        .block(3, simple)
        .block(0x8000_0bad, unknown)
        .block(2, obsolete)
        .bytes;
    let found = frames(&bytes).unwrap();
    assert_eq!(found[1], (7 * S, Some("a".into()), 17, FRAME.to_vec()));
    assert_eq!(found[2], (9 * S, Some("a".into()), 60, FRAME.to_vec()));
    assert_eq!(found.len(), 3);
}

#[test]
fn other_link_types_are_refused_by_name() {
    for (number, name) in [
        (101, "raw IP"),
        (113, "Linux cooked v1"),
        (239, "Linux nflog"),
    ] {
        let capture = Builder::pcap(false, 0xa1b2_c3d4, number).record(0, 0, 17, &FRAME);
        let error = message(&capture.bytes);
        assert!(
            error.contains(&format!("link type {number} ({name})")),
            "{error}"
        );
        let capture = Builder::pcapng(false)
            .interface(number as u16, &[])
            .packet(0, 0, &FRAME);
        let error = message(&capture.bytes);
        assert!(
            error.contains(&format!("link type {number} ({name})")),
            "{error}"
        );
    }
    // An interface that no frame came in on does no harm.
    let capture = Builder::pcapng(false).interface(113, &[]).interface(1, &[]);
    assert!(frames(&capture.packet(1, 0, &FRAME).bytes).is_ok());
}

#[test]
fn damaged_files_are_named_with_their_place() {
    let pcap = Builder::pcap(false, 0xa1b2_c3d4, 1);
    let pcapng = Builder::pcapng(false).interface(1, &[]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "in.pcap: at byte 0, frame 1: the file is empty"),
        (
            b"#!/bin/sh\n".to_vec(),
            "starts with 0x23212f62: neither pcap",
        ),
        (b"\xd4\xc3".to_vec(), "ends inside a record: 2 of 4 bytes"),
        (
            pcap.bytes[..20].to_vec(),
            "ends inside a record: 16 of 20 bytes",
        ),
        (
            pcap.clone()
                .record(0, 0, 17, &FRAME)
                .record(0, 0, 9, &[])
                .u32s(&[0])
                .bytes,
            "at byte 73, frame 3: the file ends inside a record: 4 of 16 bytes",
        ),
        (
            pcap.clone().u32s(&[0, 0, 100, 100]).raw(&FRAME).bytes,
            "ends inside a record: 17 of 100 bytes",
        ),
        (
            pcap.clone()
                .u32s(&[0, 0, u32::MAX, u32::MAX])
                .raw(&FRAME)
                .bytes,
            "a record of 4294967295 bytes; 16777216 at the most",
        ),
        (
            pcapng.clone().u32s(&[6, 0x7fff_fffc]).raw(&FRAME).bytes,
            "a record of 2147483636 bytes; 16777216 at the most",
        ),
        (
            pcapng.clone().u32s(&[6, 13, 0, 0]).bytes,
            "pcapng block: total length is 13; allowed: a multiple of 4",
        ),
        (
            pcapng.clone().u32s(&[6, 12, 16]).bytes,
            "trailing total length is 16; allowed: the same",
        ),
        (
            pcapng.clone().u32s(&[6, 16, 0, 16]).bytes,
            "packet block: total length is 16; allowed: long enough",
        ),
        (
            pcapng
                .clone()
                .block(6, pcapng.body().u32s(&[0, 0, 0, 5, 5]))
                .bytes,
            "packet block: captured length is 5; allowed: no more than the block holds",
        ),
        (
            pcapng.clone().packet(7, 0, &FRAME).bytes,
            "names interface 7; the section describes 1",
        ),
    ];
    for (bytes, expected) in cases {
        let error = message(&bytes);
        assert!(error.contains(expected), "{error}\nlacks {expected}");
    }
}

#[test]
fn interfaces_are_bounded() {
    let mut capture = Builder::pcapng(false);
    for _ in 0..=4096 {
        capture = capture.interface(1, &[]);
    }
    assert!(message(&capture.bytes).contains("more than 4096 interfaces"));
}

#[test]
fn what_is_written_reads_back_and_is_the_same_twice() {
    let write = || {
        let mut writer = CaptureWriter::new(Vec::new(), ["inside", "outside"]).unwrap();
        writer
            .write(1, 5 * S + 1, &FRAME, "drop policy: rule ü")
            .unwrap();
        writer.write(0, 6 * S, &FRAME[..16], "").unwrap();
        writer.into_inner()
    };
    let bytes = write();
    assert_eq!(bytes, write());
    assert!(bytes.windows(12).any(|window| window == b"drop policy:"));
    let read = frames(&bytes).unwrap();
    assert_eq!(
        read[0],
        (5 * S + 1, Some("outside".into()), 17, FRAME.to_vec())
    );
    assert_eq!(
        read[1],
        (6 * S, Some("inside".into()), 16, FRAME[..16].to_vec())
    );
}

fn merged(captures: &[Builder]) -> (Vec<(usize, u64)>, Option<String>) {
    let captures = captures.iter().map(|c| open(&c.bytes).unwrap()).collect();
    let mut merge = Merge::new(captures).unwrap();
    let mut order = Vec::new();
    loop {
        match merge.next_frame() {
            Ok(Some(frame)) => order.push((frame.capture, frame.timestamp_ns / S)),
            Ok(None) => return (order, None),
            Err(error) => {
                assert!(merge.next_frame().unwrap().is_none());
                return (order, Some(error.to_string()));
            }
        }
    }
}

fn at_seconds(seconds: &[u32]) -> Builder {
    let empty = Builder::pcap(false, 0xa1b2_c3d4, 1);
    seconds
        .iter()
        .fold(empty, |c, &s| c.record(s, 0, 17, &FRAME))
}

#[test]
fn captures_merge_by_time_and_keep_their_own_order() {
    let (order, _) = merged(&[
        at_seconds(&[1, 3, 2, 9]),
        at_seconds(&[1, 4]),
        at_seconds(&[]),
    ]);
    assert_eq!(order, [(0, 1), (1, 1), (0, 3), (0, 2), (1, 4), (0, 9)]);
}

#[test]
fn damage_is_told_after_every_frame_before_it() {
    let damaged = at_seconds(&[1, 2]).raw(b"xx");
    let (order, error) = merged(&[damaged]);
    assert_eq!(order, [(0, 1), (0, 2)]);
    assert!(error.unwrap().contains("frame 3"));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn some_capture() -> Vec<u8> {
        Builder::pcapng(false)
            .interface(1, &[(2, b"inside"), (9, &[9])])
            .packet(0, 1, &FRAME)
            .packet(0, 2, &FRAME)
            .bytes
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = frames(&bytes);
        }

        #[test]
        fn no_damage_makes_the_reader_panic(
            at in 0..some_capture().len(), value in any::<u8>(), cut in 0..some_capture().len(),
        ) {
            let mut bytes = some_capture();
            bytes[at] = value;
            bytes.truncate(cut.max(4));
            let _ = frames(&bytes);
        }

        #[test]
        fn written_frames_read_back(
            written in proptest::collection::vec(
                (0_u32..2, 0..u64::MAX / 2, proptest::collection::vec(any::<u8>(), 0..80)), 0..20,
            )
        ) {
            let names = ["a", "b"];
            let mut writer = CaptureWriter::new(Vec::new(), names).unwrap();
            for (interface, timestamp_ns, bytes) in &written {
                writer.write(*interface, *timestamp_ns, bytes, "why").unwrap();
            }
            let expected: Vec<Frame> = written.into_iter().map(|(interface, timestamp_ns, bytes)| {
                let name = names[interface as usize].to_owned();
                (timestamp_ns, Some(name), bytes.len() as u32, bytes)
            }).collect();
            prop_assert_eq!(frames(&writer.into_inner()).unwrap(), expected);
        }
    }
}
