//! Stages 1 and 8, and the loop around all eight: one thread, its rings, its pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, Cache};

use super::frame::{BATCH_FRAMES_MAX, FrameBuffer, FrameIo, Received};
use super::handoff::Handoff;
use super::pipeline::{Packet, Pipeline};
use super::snapshot::Snapshot;
use super::statistics::WorkerCounters;
use super::verdict::{DropReason, PortId, Verdict};

/// What a worker without frames does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStrategy {
    /// Sleeps in the kernel until a frame comes.
    Sleep,
    /// Asks again at once.
    BusyPoll,
}

/// Rounds without a frame before a worker goes to sleep: a sleep and a wake-up cost more than
/// these.
const IDLE_ROUNDS: u32 = 64;
/// Rounds between two calls of `maintain` while there is always something to do.
const MAINTAIN_ROUNDS: u32 = 1024;
/// Longest sleep: bounds how late a stop request, a new snapshot or an expiry is noticed.
const SLEEP_MS: u32 = 20;
/// Sleep while frames wait for a neighbour, whose resolution arrives as a snapshot.
const SLEEP_HELD_MS: u32 = 1;

/// A worker: the frames of its rings through its pipeline.
pub struct Worker<I: FrameIo> {
    io: I,
    pipeline: Pipeline<I::Frame>,
    snapshot: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    counters: Arc<WorkerCounters>,
    wait: WaitStrategy,
    received: Vec<Received<I::Frame>>,
    batch: Vec<Packet<I::Frame>>,
}

impl<I: FrameIo> Worker<I> {
    /// Puts a worker together; nothing is allocated after this.
    pub fn new(
        io: I,
        pipeline: Pipeline<I::Frame>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        counters: Arc<WorkerCounters>,
        wait: WaitStrategy,
    ) -> Self {
        let batch = Vec::with_capacity(BATCH_FRAMES_MAX + pipeline.released_max());
        Worker {
            io,
            pipeline,
            snapshot: Cache::new(snapshot),
            counters,
            wait,
            received: Vec::with_capacity(BATCH_FRAMES_MAX),
            batch,
        }
    }

    /// Forwards until `stop` is set. The clock counts microseconds from `start`, which all workers
    /// and control share. `maintain` is called now and then, between two batches, for what only the
    /// backend knows (a port that came back).
    pub fn run(&mut self, start: Instant, stop: &AtomicBool, mut maintain: impl FnMut(&mut I)) {
        let mut idle_rounds = 0;
        let mut rounds: u32 = 0;
        while !stop.load(Ordering::Relaxed) {
            let now_us = start.elapsed().as_micros() as u64;
            self.counters.pulse_us.set(now_us);
            rounds = rounds.wrapping_add(1);
            if idle_rounds > 0 || rounds.is_multiple_of(MAINTAIN_ROUNDS) {
                maintain(&mut self.io);
            }
            if self.round(now_us) {
                idle_rounds = 0;
                continue;
            }
            idle_rounds += 1;
            if idle_rounds > IDLE_ROUNDS && self.wait == WaitStrategy::Sleep {
                self.sleep();
            }
        }
        self.io.flush();
    }

    /// One batch through all stages. False when there was nothing to do.
    pub fn round(&mut self, now_us: u64) -> bool {
        self.io.receive(&mut self.received);
        let mut busy = !self.received.is_empty();
        self.batch.extend(
            self.received
                .drain(..)
                .map(|r| Packet::new(r.port, r.frame)),
        );
        // Frames of other workers get a batch of their own when this worker's leave them little
        // room: under load they would starve behind them.
        if self.batch.len() > BATCH_FRAMES_MAX / 2 && !self.pipeline.handoff().is_empty() {
            self.process(now_us);
            self.io.flush();
        }
        busy |= self.receive_handed_over();
        if busy || self.pipeline.has_held_frames() {
            self.process(now_us);
        }
        while self.receive_released() {
            self.process(now_us);
        }
        self.io.flush();
        self.pipeline.tick(now_us);
        busy
    }

    /// The batch through all stages.
    fn process(&mut self, now_us: u64) {
        if !self.batch.is_empty() {
            self.counters.batches.add(1);
        }
        let snapshot = self.snapshot.load();
        self.pipeline.process(now_us, snapshot, &mut self.batch);
        let handoff = self.pipeline.handoff();
        transmit(&mut self.io, &self.counters, handoff, &mut self.batch);
    }

    /// Sleeps until a frame comes, from a ring or from another worker.
    fn sleep(&mut self) {
        let held = self.pipeline.has_held_frames();
        let timeout_ms = if held { SLEEP_HELD_MS } else { SLEEP_MS };
        let handoff = self.pipeline.handoff();
        if handoff.may_sleep() {
            self.io.wait(timeout_ms, handoff.bell());
        }
        handoff.awake();
    }

    /// Takes fragments whose first one has come.
    fn receive_released(&mut self) -> bool {
        let Worker {
            io,
            pipeline,
            batch,
            counters,
            ..
        } = self;
        pipeline.take_released(io, counters, batch)
    }

    /// Takes frames that other workers have received for this one, as far as the batch has room.
    fn receive_handed_over(&mut self) -> bool {
        let mut any = false;
        while self.batch.len() < BATCH_FRAMES_MAX {
            let Worker {
                io,
                pipeline,
                batch,
                counters,
                ..
            } = self;
            let taken = pipeline.handoff().take(|port, bytes| match io.allocate() {
                Some(mut frame) if bytes.len() <= frame.capacity() => {
                    frame.set_len(bytes.len());
                    frame.bytes_mut().copy_from_slice(bytes);
                    batch.push(Packet::handed_over(port, frame));
                }
                Some(frame) => {
                    counters.dropped(DropReason::HandoffFull, bytes.len());
                    io.recycle(frame);
                }
                None => counters.dropped(DropReason::HandoffFull, bytes.len()),
            });
            if taken.is_none() {
                break;
            }
            counters.handed_in.add(1);
            any = true;
        }
        any
    }

    /// The frames' source and sink.
    pub fn io_mut(&mut self) -> &mut I {
        &mut self.io
    }

    /// The stages.
    pub fn pipeline(&self) -> &Pipeline<I::Frame> {
        &self.pipeline
    }
}

/// Stage 8: sends or recycles every frame of the batch, and counts every packet once.
pub fn transmit<I: FrameIo>(
    io: &mut I,
    counters: &WorkerCounters,
    handoff: &Handoff,
    batch: &mut Vec<Packet<I::Frame>>,
) {
    for mut packet in batch.drain(..) {
        let bytes = packet.received_bytes();
        if !packet.was_counted()
            && let Some(port) = counters.port(packet.port)
        {
            port.received.count(bytes);
        }
        if let Some(Verdict::Forward(port)) = packet.verdict
            && packet.fragments().is_some()
        {
            send_fragments(io, counters, port, packet);
            continue;
        }
        let frame = packet.frame.take();
        match packet.verdict {
            Some(Verdict::Forward(port)) => match send(io, counters, port, frame) {
                true => counters.forwarded.count(bytes),
                false => counters.dropped(DropReason::TransmitFull, bytes),
            },
            Some(Verdict::Drop(reason)) => {
                counters.dropped(reason, bytes);
                match (packet.reply_to, frame) {
                    // The sender does without the ICMP error when the ring is full.
                    (Some(port), frame) => _ = send(io, counters, port, frame),
                    (None, Some(frame)) => io.recycle(frame),
                    (None, None) => {}
                }
            }
            Some(Verdict::Hold) => {
                counters.held.count(bytes);
                // Fragments wait as copies.
                frame.into_iter().for_each(|frame| io.recycle(frame));
            }
            Some(Verdict::Handoff(worker)) => {
                let given = frame
                    .as_ref()
                    .is_some_and(|frame| handoff.give(worker, packet.port, frame.bytes()));
                match given {
                    true => counters.handed_off.count(bytes),
                    false => counters.dropped(DropReason::HandoffFull, bytes),
                }
                frame.into_iter().for_each(|frame| io.recycle(frame));
            }
            Some(other) => {
                let kernel = other == Verdict::Kernel;
                let volume = if kernel {
                    &counters.kernel
                } else {
                    &counters.local
                };
                volume.count(bytes);
                frame.into_iter().for_each(|frame| io.recycle(frame));
            }
            None => {
                debug_assert!(false, "a packet left the pipeline without a verdict");
                frame.into_iter().for_each(|frame| io.recycle(frame));
            }
        }
    }
}

/// Sends a packet in fragments, each in a frame of its own. Where there is no frame or no room for
/// one of them, the packet counts as dropped and those behind are not sent: the receiver can do
/// nothing with the others either.
fn send_fragments<I: FrameIo>(
    io: &mut I,
    counters: &WorkerCounters,
    port: PortId,
    mut packet: Packet<I::Frame>,
) {
    let bytes = packet.received_bytes();
    let mut complete = true;
    let mut fragments = packet.fragments();
    while let Some(fragments) = fragments.as_mut().filter(|f| complete && !f.is_done()) {
        complete = io.allocate().is_some_and(|mut frame| {
            frame.set_len(frame.capacity());
            let written = fragments.write_next(frame.bytes_mut());
            frame.set_len(written.unwrap_or(0));
            send(io, counters, port, Some(frame))
        });
    }
    match complete {
        true => {
            counters.fragmented.add(1);
            counters.forwarded.count(bytes);
        }
        false => counters.dropped(DropReason::TransmitFull, bytes),
    }
    packet
        .frame
        .take()
        .into_iter()
        .for_each(|frame| io.recycle(frame));
}

/// Queues a frame; one the port cannot take goes back to the pool.
fn send<I: FrameIo>(
    io: &mut I,
    counters: &WorkerCounters,
    port: PortId,
    frame: Option<I::Frame>,
) -> bool {
    let Some(frame) = frame else { return false };
    let bytes = frame.bytes().len();
    match io.transmit(port, frame) {
        Ok(()) => {
            if let Some(port) = counters.port(port) {
                port.sent.count(bytes);
            }
            true
        }
        Err(frame) => {
            io.recycle(frame);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::backend::memory::MemoryIo;
    use crate::dataplane::conntrack::Timeouts;
    use crate::dataplane::conntrack::tcp::TcpRules;
    use crate::dataplane::event::Events;
    use crate::dataplane::fragment::FragmentLimits;
    use crate::dataplane::neighbour::NeighbourRequests;
    use crate::dataplane::pipeline::PipelineOptions;
    use crate::dataplane::route::RouteTable;
    use crate::dataplane::snapshot::{Forwarding, SourceCheck};

    /// One of several workers, without a policy: it drops everything, which is a fate too.
    fn worker(handoff: Handoff) -> Worker<MemoryIo> {
        let options = PipelineOptions {
            ports: 1,
            flows_max: 16,
            half_open_max: 16,
            fragments: FragmentLimits::default(),
            held_frames_max: 1,
            timeouts: Timeouts::default(),
            tcp_rules: TcpRules::default(),
            verify_checksums: true,
            nat_addresses_max: 0,
            restart_grace_us: 0,
            replies_per_second: 1,
            replies_burst: 1,
            rate_limit_sources_max: 16,
            workers: 1,
            hash_key: (1, 2),
        };
        let snapshot = Snapshot {
            policy: None,
            reevaluate_established: true,
            evaluate_invalid: false,
            forwarding: Forwarding::Routed,
            source_check: SourceCheck::Off,
            nat: Arc::default(),
            routing_generation: 1,
            routes: Arc::new(RouteTable::new(vec![None], [], [])),
        };
        let counters = Arc::new(WorkerCounters::new(1, 1));
        let requests = NeighbourRequests::new(1, || {});
        let events = Events::new(1);
        let pipeline = Pipeline::new(&options, counters.clone(), requests, events, handoff);
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let io = MemoryIo::new(1, 4 * BATCH_FRAMES_MAX, 2048);
        Worker::new(io, pipeline, snapshot, counters, WaitStrategy::Sleep)
    }

    #[test]
    fn frames_of_other_workers_do_not_starve_behind_full_batches() {
        const ROUNDS: u64 = 3;
        let handoffs = Handoff::for_workers(2, BATCH_FRAMES_MAX, 64).unwrap();
        let mut worker = worker(handoffs[0].clone());
        for now_us in 1..=ROUNDS {
            for _ in 0..BATCH_FRAMES_MAX {
                worker.io_mut().inject(PortId(0), 0, &[0; 14]).unwrap();
                assert!(handoffs[1].give(0, PortId(0), &[0; 14]));
            }
            assert!(worker.round(now_us));
            assert!(handoffs[0].is_empty(), "round {now_us}");
        }
        let frames = BATCH_FRAMES_MAX as u64 * ROUNDS;
        let dropped: u64 = worker.counters.drops.iter().map(|d| d.packets.get()).sum();
        assert_eq!(worker.counters.handed_in.get(), frames);
        assert_eq!(worker.counters.ports[0].received.packets.get(), frames);
        assert_eq!(dropped, 2 * frames);
        worker.io_mut().assert_conserved(0);
    }
}
