//! Whichever worker a frame arrives at: connections, translated ones too, their fragments and the
//! errors about them fare as with one worker.

use arc_swap::ArcSwap;

use super::translation::plan;
use super::*;
use crate::dataplane::worker::{WaitStrategy, Worker};

const EXTERNAL: &str = "198.18.1.1";

/// Several workers in one thread, each with rings of its own.
struct Crew {
    workers: Vec<Worker<MemoryIo>>,
    /// Where the next frame arrives.
    next: usize,
    now_us: u64,
}

impl Crew {
    fn new(count: usize, first: usize) -> Crew {
        let handoffs = Handoff::for_workers(count, 64, 2048).unwrap();
        let snapshot = Snapshot {
            nat: plan(2000..=2999),
            ..snapshot()
        };
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let worker = |handoff| {
            let counters = Arc::new(WorkerCounters::new(2, 16));
            let requests = NeighbourRequests::new(16, || {});
            let events = Events::new(64);
            let pipeline = Pipeline::new(&options(), counters.clone(), requests, events, handoff);
            let io = MemoryIo::new(2, 256, 2048);
            Worker::new(
                io,
                pipeline,
                snapshot.clone(),
                counters,
                WaitStrategy::BusyPoll,
            )
        };
        Crew {
            workers: handoffs.into_iter().map(worker).collect(),
            next: first,
            now_us: 10_000_000,
        }
    }

    /// What leaves after a frame, whoever sends it.
    fn send(&mut self, port: PortId, frame: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        let count = self.workers.len();
        // A different worker each time, and not in turn.
        self.next = (self.next * 5 + 3) % count;
        let at = self.next;
        self.workers[at].io_mut().inject(port, 0, frame).unwrap();
        self.now_us += 1;
        let mut sent = Vec::new();
        // A frame is handed over twice at the most.
        for _ in 0..3 {
            for worker in &mut self.workers {
                worker.round(self.now_us);
                sent.extend(worker.io_mut().drain_sent());
            }
        }
        sent
    }
}

fn view_of(bytes: &[u8]) -> crate::wire::PacketView {
    match parse(bytes, &ParseOptions::default()) {
        Ok(Parsed::Ip(view)) => view,
        other => panic!("{other:?}"),
    }
}

/// A frame's fragments of at most so many bytes each.
fn cut(frame: &[u8], bytes_max: usize) -> Vec<Vec<u8>> {
    // Without the mark that forbids it.
    let mut frame = frame.to_vec();
    frame[20] &= 0xbf;
    frame[24..26].fill(0);
    let sum = !checksum::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let frame = &frame[..];
    let mut fragments =
        crate::wire::fragment::Fragments::new(frame, &view_of(frame), bytes_max).unwrap();
    let mut all = Vec::new();
    let mut room = [0; 2048];
    while let Some(bytes) = fragments.write_next(&mut room) {
        all.push(room[..bytes].to_vec());
    }
    all
}

/// What is told of a run: how many frames left after each that arrived, by which port, to whom.
type Story = Vec<Vec<(PortId, Address, usize)>>;

fn tell(sent: &[(PortId, Vec<u8>)]) -> Vec<(PortId, Address, usize)> {
    let mut told: Vec<_> = sent
        .iter()
        .map(|(port, bytes)| (*port, view_of(bytes).key.destination, bytes.len()))
        .collect();
    told.sort();
    told
}

fn story(crew: &mut Crew, backwards: bool) -> Story {
    let mut story = Vec::new();
    let (server, external) = (v4(SERVER).octets(), v4(EXTERNAL).octets());
    let from_server =
        || PacketBuilder::ethernet2(SERVER_MAC, OUTSIDE_MAC).ipv4(server, external, 64);
    let question = Out.udp(53, b"question").1;
    let left = crew.send(INSIDE, &question);
    story.push(tell(&left));
    let key = view_of(&left[0].1).key;
    // Its answer, and one to a port that is nobody's.
    for port in [key.source_port, key.source_port ^ 512] {
        let mut bytes = Vec::new();
        from_server()
            .udp(53, port)
            .write(&mut bytes, b"answer")
            .unwrap();
        story.push(tell(&crew.send(OUTSIDE, &bytes)));
    }
    // An error about it.
    let mut bytes = Vec::new();
    let unreachable = etherparse::icmpv4::DestUnreachableHeader::Port;
    from_server()
        .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(unreachable))
        .write(&mut bytes, &left[0].1[14..])
        .unwrap();
    story.push(tell(&crew.send(OUTSIDE, &bytes)));
    // An answer in fragments, and a question.
    let mut bytes = Vec::new();
    let answer = from_server().udp(53, key.source_port);
    answer.write(&mut bytes, &[7; 1200]).unwrap();
    for (port, whole) in [(OUTSIDE, bytes), (INSIDE, Out.udp(53, &[8; 1200]).1)] {
        let mut fragments = cut(&whole, 500);
        if backwards {
            fragments.reverse();
        }
        for fragment in fragments {
            story.push(tell(&crew.send(port, &fragment)));
        }
    }
    // A ping, and a connection through the forwarded port.
    let left = crew.send(INSIDE, &Out.ping(false, 7).1);
    story.push(tell(&left));
    let id = view_of(&left[0].1).key.source_port;
    let mut bytes = Vec::new();
    from_server()
        .icmpv4_echo_reply(id, 1)
        .write(&mut bytes, b"abc")
        .unwrap();
    story.push(tell(&crew.send(OUTSIDE, &bytes)));
    let mut bytes = Vec::new();
    from_server()
        .tcp(5000, 8443, 1, 1000)
        .syn()
        .write(&mut bytes, b"")
        .unwrap();
    story.push(tell(&crew.send(OUTSIDE, &bytes)));
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, INSIDE_MAC)
        .ipv4(v4(CLIENT).octets(), server, 64)
        .tcp(443, 5000, 9, 1000)
        .syn()
        .ack(2)
        .write(&mut bytes, b"")
        .unwrap();
    story.push(tell(&crew.send(INSIDE, &bytes)));
    story
}

#[test]
fn any_number_of_workers_gives_the_result_of_one() {
    for backwards in [false, true] {
        let one = story(&mut Crew::new(1, 0), backwards);
        let frames: usize = one.iter().map(Vec::len).sum();
        assert_eq!(frames, 1 + 1 + 1 + 3 + 3 + 2 + 2, "{one:?}");
        for count in [2, 4, 8] {
            for first in 0..count {
                let many = story(&mut Crew::new(count, first), backwards);
                assert_eq!(many, one, "{count} workers, first frame at {first}");
            }
        }
    }
}
