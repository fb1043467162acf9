//! Batches of captured frames through the pipeline.

use std::sync::Arc;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::ReplayError;
use super::record::Recorder;
use super::report::Speed;
use super::source::{Next, Source};
use crate::control::plan;
use crate::dataplane::backend::memory::{InjectError, MemoryFrame, MemoryIo};
use crate::dataplane::backend::pcap::CaptureError;
use crate::dataplane::event::Events;
use crate::dataplane::frame::{BATCH_FRAMES_MAX, FrameIo, Received};
use crate::dataplane::handoff::Handoff;
use crate::dataplane::neighbour::NeighbourRequests;
use crate::dataplane::pipeline::{Packet, Pipeline};
use crate::dataplane::snapshot::Snapshot;
use crate::dataplane::statistics::WorkerCounters;
use crate::dataplane::worker;
use crate::settings::{FrameSize, Settings};

/// Time between two passes.
const PASS_GAP_US: u64 = 1_000;
/// Room the kernel keeps in front of a packet in a UMEM frame (`XDP_PACKET_HEADROOM`).
const HEADROOM_BYTES: usize = 256;
/// The same in every run, so that two runs give the same bytes.
const HASH_KEY: (u64, u64) = (0x706f_7274_6375_6c6c, 0x6973_2072_6570_6c61);
/// Batches longer than this count as this long.
const BATCH_NS_MAX: u64 = 10_000_000_000;

/// One pipeline and its frames.
pub(super) struct Engine {
    io: MemoryIo,
    pipeline: Pipeline<MemoryFrame>,
    counters: Arc<WorkerCounters>,
    snapshot: Arc<Snapshot>,
    requests: NeighbourRequests,
    events: Events,
    handoff: Handoff,
    received: Vec<Received<MemoryFrame>>,
    batch: Vec<Packet<MemoryFrame>>,
    clock: Clock,
    times: Histogram<u64>,
    frames_measured: u64,
    ns_measured: u64,
}

/// The captures' time as the pipeline counts it: microseconds that never go back.
#[derive(Default)]
struct Clock {
    /// Time stamp of the first frame of a pass.
    origin_ns: Option<u64>,
    /// Where on the clock the pass has started.
    start_us: u64,
    now_us: u64,
}

/// What ended the filling of a batch.
enum Filled {
    /// It is full.
    More,
    End,
    Damage(CaptureError),
}

impl Engine {
    pub(super) fn new(settings: &Settings, snapshot: Arc<Snapshot>, rules: usize) -> Self {
        let mut options = plan::pipeline_options(settings, 1, HASH_KEY);
        // A capture starts in the middle of nothing: what a restart forgives is no part of it.
        options.restart_grace_us = 0;
        let counters = Arc::new(WorkerCounters::new(settings.ports.len(), rules));
        let requests = NeighbourRequests::new(settings.limits.neighbours.max(1) as usize, || {});
        let events = Events::new(1);
        let handoff = Handoff::single();
        let pipeline = Pipeline::new(
            &options,
            counters.clone(),
            requests.clone(),
            events.clone(),
            handoff.clone(),
        );
        let frames = 2 * BATCH_FRAMES_MAX + pipeline.released_max();
        let frame_bytes = frame_size(settings) - HEADROOM_BYTES;
        let histogram = Histogram::new_with_bounds(1, BATCH_NS_MAX, 3);
        Engine {
            io: MemoryIo::new(settings.ports.len() as u8, frames, frame_bytes),
            batch: Vec::with_capacity(BATCH_FRAMES_MAX + pipeline.released_max()),
            received: Vec::with_capacity(BATCH_FRAMES_MAX),
            pipeline,
            counters,
            snapshot,
            requests,
            events,
            handoff,
            clock: Clock::default(),
            times: histogram.expect("constant bounds"),
            frames_measured: 0,
            ns_measured: 0,
        }
    }

    /// The pass that gives the verdicts, frame by frame: a question and its answer, which never
    /// come in one batch in operation, may be close together in a capture. Gives the damage that
    /// ended it early.
    pub(super) fn record(
        &mut self,
        source: &mut Source<'_>,
        recorder: &mut Recorder,
    ) -> Result<Option<CaptureError>, ReplayError> {
        loop {
            let filled = self.fill(source, 1, Some(recorder))?;
            let injected = self.batch.len();
            self.process();
            recorder.batch(&self.batch[..injected], &self.batch[injected..])?;
            self.finish();
            match filled {
                Filled::More => {}
                Filled::End => return Ok(None),
                Filled::Damage(damage) => return Ok(Some(damage)),
            }
        }
    }

    /// A pass that measures: full batches, whatever their frames' times.
    pub(super) fn measure(&mut self, source: &mut Source<'_>) -> Result<(), ReplayError> {
        self.clock.next_pass();
        loop {
            let filled = self.fill(source, BATCH_FRAMES_MAX, None)?;
            let frames = self.batch.len() as u64;
            let started = Instant::now();
            self.process();
            let ns = started.elapsed().as_nanos() as u64;
            if frames > 0 {
                self.times.saturating_record(ns);
                self.frames_measured += frames;
                self.ns_measured += ns;
            }
            self.finish();
            if !matches!(filled, Filled::More) {
                return Ok(());
            }
        }
    }

    /// What was measured so far was warm-up.
    pub(super) fn forget_times(&mut self) {
        self.times.reset();
        (self.frames_measured, self.ns_measured) = (0, 0);
    }

    /// What the measured passes have come to; `None` without any.
    pub(super) fn speed(&self, passes: u32) -> Option<Speed> {
        Speed::of(passes, self.frames_measured, self.ns_measured, &self.times)
    }

    /// Flows created so far.
    pub(super) fn flows_created(&self) -> u64 {
        self.pipeline.flows().statistics().created
    }

    /// Reads the frames of the next batch; its clock is the first one's.
    fn fill(
        &mut self,
        source: &mut Source<'_>,
        frames_max: usize,
        mut recorder: Option<&mut Recorder>,
    ) -> Result<Filled, ReplayError> {
        let mut filled = Filled::More;
        let mut frames = 0;
        while frames < frames_max {
            let frame = match source.next_frame()? {
                Next::Frame(frame) => frame,
                Next::End => {
                    filled = Filled::End;
                    break;
                }
                Next::Damage(damage) => {
                    filled = Filled::Damage(damage);
                    break;
                }
            };
            match self.io.inject(frame.port, frame.number, frame.bytes) {
                Ok(()) => {
                    if frames == 0 {
                        self.clock.advance(frame.timestamp_ns);
                    }
                    frames += 1;
                    if let Some(recorder) = &mut recorder {
                        recorder.received(&frame);
                    }
                }
                Err(InjectError::TooLarge { .. }) => {
                    if let Some(recorder) = &mut recorder {
                        recorder.too_large(&frame);
                    }
                }
                Err(InjectError::NoFreeFrame { .. }) => unreachable!("the pool holds two batches"),
            }
        }
        self.io.receive(&mut self.received);
        let packets = self.received.drain(..);
        self.batch
            .extend(packets.map(|received| Packet::new(received.port, received.frame)));
        Ok(filled)
    }

    /// Stages 2 to 7, and what a worker does between batches.
    fn process(&mut self) {
        let now_us = self.clock.now_us;
        self.pipeline
            .process(now_us, &self.snapshot, &mut self.batch);
        // Fragments that waited for their first one follow it.
        let mut released = Vec::new();
        while self
            .pipeline
            .take_released(&mut self.io, &self.counters, &mut released)
        {
            self.pipeline.process(now_us, &self.snapshot, &mut released);
            self.batch.append(&mut released);
        }
        self.pipeline.tick(now_us);
    }

    /// Stage 8, and proof that no frame was lost.
    fn finish(&mut self) {
        worker::transmit(&mut self.io, &self.counters, &self.handoff, &mut self.batch);
        self.io.flush();
        while let Some((_, frame)) = self.io.take_sent() {
            self.io.recycle(frame);
        }
        self.io
            .assert_conserved(self.counters.frames_waiting.get() as usize);
        // Nobody resolves neighbours here, and nobody reads events.
        while self.requests.pop().is_some() {}
        while self.events.pop().is_some() {}
    }
}

impl Clock {
    fn advance(&mut self, timestamp_ns: u64) {
        let origin_ns = *self.origin_ns.get_or_insert(timestamp_ns);
        let since_us = timestamp_ns.saturating_sub(origin_ns) / 1_000;
        self.now_us = self.now_us.max(self.start_us + since_us);
    }

    fn next_pass(&mut self) {
        self.origin_ns = None;
        self.start_us = self.now_us + PASS_GAP_US;
    }
}

/// Bytes of a frame: as the settings say, the smallest that holds the MTU otherwise.
fn frame_size(settings: &Settings) -> usize {
    let replay = &settings.replay;
    let sizes = settings.ports.iter().enumerate().map(|(number, port)| {
        let link = replay.links.iter().find(|link| link.port == number);
        let mtu_bytes = link.map_or(1500, |link| link.mtu_bytes) as usize;
        match port.frame_size_bytes {
            FrameSize::Bytes(bytes) => bytes as usize,
            // 22: Ethernet header and two VLAN tags.
            FrameSize::Auto if mtu_bytes + 22 + HEADROOM_BYTES <= 2048 => 2048,
            FrameSize::Auto => 4096,
        }
    });
    sizes.max().unwrap_or(2048)
}
