//! Stages 2 to 7: pure functions over a batch. `now` is passed in; nothing here does I/O, takes a
//! lock, or allocates once it has been built.
//!
//! ```text
//!              ┌── known flow of the current generation ──────────────┐
//! parse ─▶ track ─▶ classify ─▶ admit ─▶ rewrite ─▶ steer ─▶ verdict  │
//!                                          ▲                          │
//!                                          └──────────────────────────┘
//! ```
//!
//! | stage | file | question |
//! |---|---|---|
//! | parse | [`parse`] | is it a packet we may look at at all? |
//! | track | [`track`] | which flow does it belong to? |
//! | classify, admit | [`decide`] | what does policy say of a first packet? |
//! | rewrite, steer | [`forward`] | which way out, and with which headers? |
//!
//! A packet that has a verdict is skipped by the stages behind.

mod decide;
mod effects;
mod forward;
mod hold;
mod network;
mod parse;
mod track;
mod translate;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::conntrack::tcp::TcpRules;
use super::conntrack::{FlowDirection, FlowRef, FlowTable, HopCache, Place, Timeouts, Trails};
use super::event::{Event, Events};
use super::flow_job::{FlowJob, FlowJobs, SLOTS_PER_STEP};
use super::fragment::{FragmentLimits, FragmentTracker};
use super::fragment_pool::FragmentPool;
use super::frame::{BATCH_FRAMES_MAX, FrameBuffer, FrameIo};
use super::handoff::Handoff;
use super::nat::ports::PortPool;
use super::neighbour::NeighbourRequests;
use super::rate_limit::RateLimiter;
use super::reply::ReplyLimiter;
use super::snapshot::{Decision, Networks, RuleSlot, Snapshot};
use super::statistics::WorkerCounters;
use super::verdict::{DropReason, PortId, Verdict};
use crate::classifier::RuleIndex;
use crate::wire::checksum::ChecksumState;
use crate::wire::fragment::Fragments;
use crate::wire::{FlowKey, PacketView};
use hold::HoldQueue;

/// Limits and constants of one pipeline.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Ports of the configuration.
    pub ports: usize,
    /// Flows tracked at once.
    pub flows_max: u32,
    /// Of these, flows still unanswered.
    pub half_open_max: u32,
    /// Bounds of fragment tracking.
    pub fragments: FragmentLimits,
    /// Frames that may wait for neighbours at once.
    pub held_frames_max: usize,
    /// Flow timeouts.
    pub timeouts: Timeouts,
    /// What TCP may do that its rules forbid.
    pub tcp_rules: TcpRules,
    /// Packets with a wrong transport checksum belong to no flow.
    pub verify_checksums: bool,
    /// Time after start during which a TCP segment of an unknown flow also passes when the opposite
    /// direction would be allowed: flows of before the restart go on.
    pub restart_grace_us: u64,
    /// ICMP errors per second and port.
    pub replies_per_second: u32,
    /// ICMP errors that may be sent in one burst.
    pub replies_burst: u32,
    /// Pairs of rule and source whose connections are counted at once, for rules that match only so
    /// often.
    pub rate_limit_sources_max: usize,
    /// Workers that share every rate.
    pub workers: u32,
    /// External addresses whose ports can be given out at once.
    pub nat_addresses_max: usize,
    /// Random key of the hashes.
    pub hash_key: (u64, u64),
}

/// What is told about a packet besides its verdict: for `replay`, logs and tests.
#[derive(Debug, Clone, Copy)]
pub struct Trace {
    /// The packet's key, once parsed.
    pub key: Option<FlowKey>,
    /// The last of the deciding rules, of this packet or of its flow: the one that denied, where
    /// one did.
    pub rule: RuleSlot,
    /// Stage that denied it.
    pub denied_by: Option<u8>,
    /// Its state as seen by connection tracking.
    pub state: PacketState,
}

/// Relation of a packet to the tracked flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketState {
    /// Not looked up.
    Untracked,
    /// Opens a flow.
    New,
    /// Belongs to one.
    Established,
    /// ICMP error about one.
    Related,
    /// Cannot belong to any.
    Invalid,
}

impl PacketState {
    /// Name in `replay` and logs.
    pub const fn name(self) -> &'static str {
        match self {
            PacketState::Untracked => "untracked",
            PacketState::New => "new",
            PacketState::Established => "established",
            PacketState::Related => "related",
            PacketState::Invalid => "invalid",
        }
    }
}

/// What the next stage has to do for an undecided packet.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Parsed; not tracked yet.
    Track,
    /// Ask policy about a first packet; the key is the packet's own.
    Admit,
    /// Ask policy again about a flow of an older generation.
    Again(FlowRef, FlowDirection),
    /// Forward as part of this flow.
    Forward(FlowRef, FlowDirection),
    /// Forward an ICMP error beside the flow it is about.
    ForwardRelated(FlowRef, FlowDirection),
    /// Forward without a flow: link control in transparent mode.
    ForwardAlone,
}

/// A frame on its way through the stages.
#[derive(Debug)]
pub struct Packet<F> {
    /// Port it came in on.
    pub port: PortId,
    /// Its memory; `None` once the pipeline holds it back.
    pub frame: Option<F>,
    /// `None` until decided.
    pub verdict: Option<Verdict>,
    /// The dropped frame has been turned into an ICMP error that leaves by this port.
    pub reply_to: Option<PortId>,
    /// For people.
    pub trace: Trace,
    /// Bytes of the frame as it came in.
    received_bytes: usize,
    view: Option<PacketView>,
    /// As far as it has been looked at.
    checksum: ChecksumState,
    /// Leaves in fragments no larger than this.
    fragment_bytes_max: Option<u32>,
    next: Next,
    /// A first packet's key before its destination was translated.
    redirected_from: Option<FlowKey>,
    /// The frame was held before and is now released, or was handed over by another worker.
    counted: bool,
}

impl<F: FrameBuffer> Packet<F> {
    /// A frame that has just come in.
    pub fn new(port: PortId, frame: F) -> Self {
        Packet {
            port,
            received_bytes: frame.bytes().len(),
            frame: Some(frame),
            verdict: None,
            reply_to: None,
            trace: Trace {
                key: None,
                rule: RuleSlot::NONE,
                denied_by: None,
                state: PacketState::Untracked,
            },
            view: None,
            checksum: ChecksumState::Unknown,
            fragment_bytes_max: None,
            next: Next::Track,
            redirected_from: None,
            counted: false,
        }
    }

    /// The fragments a forwarded packet is to leave as; `None` when it leaves whole.
    pub fn fragments(&self) -> Option<Fragments<'_>> {
        let mtu_bytes = self.fragment_bytes_max? as usize;
        Fragments::new(self.frame.as_ref()?.bytes(), self.view.as_ref()?, mtu_bytes)
    }

    /// Bytes of the frame as it came in.
    pub fn received_bytes(&self) -> usize {
        self.received_bytes
    }

    /// A frame that another worker has received and handed over.
    pub fn handed_over(port: PortId, frame: F) -> Self {
        Packet {
            counted: true,
            ..Packet::new(port, frame)
        }
    }

    /// Was the frame held back in an earlier batch, or handed over? Then it has been counted as
    /// received before.
    pub fn was_counted(&self) -> bool {
        self.counted
    }

    #[inline]
    fn drop_for(&mut self, reason: DropReason) {
        self.verdict = Some(Verdict::Drop(reason));
    }
}

/// Places of a batch's packets in the flow table; keys and decisions of its first packets. Side by
/// side.
struct Scratch {
    places: Vec<Option<Place>>,
    packets: Vec<usize>,
    /// Each with the network of the end it is asked on behalf of as its zone.
    keys: Vec<FlowKey>,
    networks: Vec<Networks>,
    matches: Vec<Option<RuleIndex>>,
    decisions: Vec<Decision>,
}

/// The stages of one worker, and the state they keep between batches.
pub struct Pipeline<F> {
    flows: FlowTable,
    trails: Trails,
    fragments: FragmentTracker,
    waiting: FragmentPool,
    held: HoldQueue<F>,
    replies: Vec<ReplyLimiter>,
    limiter: RateLimiter,
    timeouts: Timeouts,
    tcp_rules: TcpRules,
    verify_checksums: bool,
    /// Epoch of cached ways out, the routes it began with, and when it ends.
    hop_epoch: u32,
    hop_routes: u32,
    hop_epoch_ends_us: u64,
    restart_grace_us: u64,
    started_us: Option<u64>,
    counters: Arc<WorkerCounters>,
    requests: NeighbourRequests,
    events: Events,
    handoff: Handoff,
    jobs: FlowJobs,
    /// The job under way, and the slot of the table it has come to.
    job: Option<(Arc<FlowJob>, u32)>,
    scratch: Scratch,
}

impl<F: FrameBuffer> Pipeline<F> {
    /// Allocates everything the stages will ever need.
    pub fn new(
        options: &PipelineOptions,
        counters: Arc<WorkerCounters>,
        requests: NeighbourRequests,
        events: Events,
        handoff: Handoff,
    ) -> Self {
        let limiter = ReplyLimiter::new(options.replies_per_second, options.replies_burst);
        Pipeline {
            flows: FlowTable::new(options.flows_max, options.half_open_max, options.hash_key)
                .with_ports(PortPool::new(
                    options.nat_addresses_max,
                    handoff.share(),
                    options.hash_key,
                )),
            trails: Trails::new(),
            fragments: FragmentTracker::new(options.fragments, options.hash_key.into()),
            waiting: FragmentPool::new(
                options.fragments.waiting_bytes_max,
                [
                    options.fragments.lifetime_us,
                    options.fragments.lifetime_v6_us,
                ],
                options.hash_key.into(),
            ),
            held: HoldQueue::new(options.held_frames_max),
            replies: vec![limiter; options.ports],
            limiter: RateLimiter::new(
                options.rate_limit_sources_max,
                options.workers,
                options.hash_key,
            ),
            timeouts: options.timeouts,
            tcp_rules: options.tcp_rules,
            verify_checksums: options.verify_checksums,
            hop_epoch: 0,
            hop_routes: 0,
            hop_epoch_ends_us: 0,
            restart_grace_us: options.restart_grace_us,
            started_us: None,
            counters,
            requests,
            events,
            handoff,
            jobs: FlowJobs::default(),
            job: None,
            scratch: Scratch {
                places: Vec::with_capacity(BATCH_FRAMES_MAX),
                packets: Vec::with_capacity(BATCH_FRAMES_MAX),
                keys: Vec::with_capacity(BATCH_FRAMES_MAX),
                networks: Vec::with_capacity(BATCH_FRAMES_MAX),
                matches: Vec::with_capacity(BATCH_FRAMES_MAX),
                decisions: Vec::with_capacity(BATCH_FRAMES_MAX),
            },
        }
    }

    /// Packets [`Pipeline::process`] may add to a batch: frames it has held back before.
    pub fn released_max(&self) -> usize {
        self.held.capacity()
    }

    /// The same, with jobs for its flow table.
    pub fn with_jobs(self, jobs: FlowJobs) -> Self {
        Pipeline { jobs, ..self }
    }

    /// A step of what control asks of the flow table.
    fn work_on_job(&mut self, now_us: u64) {
        let Some((job, at)) = self.job.take().or_else(|| Some((self.jobs.take()?, 0))) else {
            return;
        };
        if !job.has_room() {
            self.job = Some((job, at));
            return;
        }
        let end = self.flows.slots().min(at + SLOTS_PER_STEP);
        for slot in at..end {
            let Some((found, flow)) = self.flows.at(slot) else {
                continue;
            };
            let rule = self.trails.get(flow.trail).last();
            let fits = flow.deadline_us > now_us && job.consider(flow, rule, now_us);
            if fits && job.deletes() {
                self.flows.remove(found);
            }
        }
        match end < self.flows.slots() {
            true => self.job = Some((job, end)),
            false => job.finish(),
        }
    }

    /// The rings to the other workers.
    pub fn handoff(&self) -> &Handoff {
        &self.handoff
    }

    /// Gives every packet of the batch its verdict, and appends the frames held back earlier whose
    /// verdict is now known. At most [`BATCH_FRAMES_MAX`] packets at a time.
    pub fn process(&mut self, now_us: u64, snapshot: &Snapshot, batch: &mut Vec<Packet<F>>) {
        debug_assert!(batch.len() <= BATCH_FRAMES_MAX);
        self.started_us.get_or_insert(now_us);
        self.begin_epoch(now_us, snapshot);
        for packet in batch.iter_mut() {
            self.parse(now_us, snapshot, packet);
        }
        self.look_ahead(batch);
        for (position, packet) in batch.iter_mut().enumerate() {
            if packet.verdict.is_none() {
                let place = self.scratch.places[position];
                self.track(now_us, snapshot, packet, place);
            }
        }
        self.classify(now_us, snapshot, batch);
        self.admit(now_us, snapshot, batch);
        for packet in batch.iter_mut().filter(|packet| packet.verdict.is_none()) {
            self.forward(now_us, snapshot, packet);
        }
        self.release_held(now_us, snapshot, batch);
    }

    /// Makes cached ways out stale when routes have changed, and now and then when not.
    #[inline]
    fn begin_epoch(&mut self, now_us: u64, snapshot: &Snapshot) {
        let stale = self.hop_routes != snapshot.routing_generation;
        if stale || now_us >= self.hop_epoch_ends_us {
            self.hop_epoch = self.hop_epoch.checked_add(1).unwrap_or(1);
            self.hop_routes = snapshot.routing_generation;
            self.hop_epoch_ends_us = now_us + HopCache::FRESH_US;
        }
    }

    /// Housekeeping between batches: expiry in small bounded steps, gauges.
    pub fn tick(&mut self, now_us: u64) {
        self.flows.sweep(&self.timeouts, now_us);
        let counters = &self.counters;
        self.waiting.expire(now_us, |bytes| {
            counters.dropped(DropReason::FragmentWithoutFirst, bytes);
        });
        self.work_on_job(now_us);
        let statistics = self.flows.statistics();
        self.counters.flows.set(statistics.flows.into());
        self.counters
            .flows_unreplied
            .set(statistics.unreplied.into());
        self.counters.flows_created.set(statistics.created);
        self.counters.flows_expired.set(statistics.expired);
        self.counters.flows_evicted.set(statistics.evicted);
        self.counters.flows_hurried.set(statistics.hurried);
        self.counters
            .flows_source_limited
            .set(statistics.source_limited);
        self.tell_pressure(statistics.flows);
        self.counters.frames_waiting.set(self.held.len() as u64);
    }

    /// Tells control when the flow table comes under pressure, and when that is over.
    fn tell_pressure(&mut self, flows: u32) {
        let begins = self.flows.is_under_pressure();
        if begins == (self.counters.flow_pressure.get() != 0) {
            return;
        }
        self.counters.flow_pressure.set(begins.into());
        self.counters.flow_pressures.add(begins.into());
        let flows_max = self.flows.flows_max();
        let event = Event::Pressure {
            begins,
            flows,
            flows_max,
        };
        if !self.events.push(event) {
            self.counters.events_lost.add(1);
        }
    }

    /// Appends fragments that may go on, since the first of their datagram has come, to a batch;
    /// false when there is none.
    pub fn take_released<I: FrameIo<Frame = F>>(
        &mut self,
        io: &mut I,
        counters: &WorkerCounters,
        batch: &mut Vec<Packet<F>>,
    ) -> bool {
        let mut any = false;
        while batch.len() < BATCH_FRAMES_MAX {
            let taken = self.waiting.take(|port, bytes| match io.allocate() {
                Some(mut frame) if bytes.len() <= frame.capacity() => {
                    frame.set_len(bytes.len());
                    frame.bytes_mut().copy_from_slice(bytes);
                    batch.push(Packet::handed_over(port, frame));
                }
                frame => {
                    counters.dropped(DropReason::FragmentPoolFull, bytes.len());
                    frame.into_iter().for_each(|frame| io.recycle(frame));
                }
            });
            if taken.is_none() {
                break;
            }
            any = true;
        }
        any
    }

    /// Do frames wait for a neighbour? Then [`Pipeline::process`] must be called soon, with an
    /// empty batch if need be.
    pub fn has_held_frames(&self) -> bool {
        !self.held.is_empty()
    }

    /// The flows, for listing.
    pub fn flows(&self) -> &FlowTable {
        &self.flows
    }
}
