//! What control asks of the flow tables: a list of flows, or to forget some. A worker does it
//! beside its packets, a few flows at a time, and allocates nothing: copies go into a queue that
//! control has made and empties.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use super::conntrack::Flow;
use super::snapshot::RuleSlot;
use crate::wire::{Address, Family, FlowKey};

/// Slots of the table looked at between two batches.
pub const SLOTS_PER_STEP: u32 = 256;

/// Flows of a job that control has not taken yet.
const RECORDS_MAX: usize = 4096;

/// Jobs a worker may have before it.
const JOBS_MAX: usize = 8;

/// Which flows; what is `None` fits all.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlowFilter {
    /// IP protocol.
    pub protocol: Option<u8>,
    /// An end, before or after translation, is one of these addresses.
    pub address: Option<(Family, Address, Address)>,
    /// An end, before or after translation, has this port.
    pub port: Option<u16>,
}

/// A copy of a flow, and what the worker knows besides.
#[derive(Debug, Clone)]
pub struct FlowRecord {
    /// The flow.
    pub flow: Flow,
    /// The last of the rules that admitted it.
    pub rule: RuleSlot,
    /// The worker's clock when it was copied, microseconds.
    pub now_us: u64,
}

/// One job for one worker.
#[derive(Debug)]
pub struct FlowJob {
    filter: FlowFilter,
    /// Flows that fit are forgotten.
    delete: bool,
    /// No more than this many are told of; all that fit are counted, and deleted.
    records_max: u64,
    records: ArrayQueue<FlowRecord>,
    matched: AtomicU64,
    done: AtomicBool,
}

/// The way jobs go to a worker. Clones share it.
#[derive(Debug, Clone)]
pub struct FlowJobs(Arc<ArrayQueue<Arc<FlowJob>>>);

impl FlowFilter {
    /// Does a flow fit?
    pub fn fits(&self, flow: &Flow) -> bool {
        let keys = [flow.original, flow.reply()];
        let any = |fits: &dyn Fn(&FlowKey) -> bool| keys.iter().any(fits);
        self.protocol
            .is_none_or(|protocol| protocol == flow.original.protocol)
            && self.address.is_none_or(|(family, first, last)| {
                family == flow.original.family
                    && any(&|key| {
                        let range = first..=last;
                        range.contains(&key.source) || range.contains(&key.destination)
                    })
            })
            && self.port.is_none_or(|port| {
                any(&|key| key.source_port == port || key.destination_port == port)
            })
    }
}

impl FlowJob {
    /// A job that tells of at most `records_max` flows.
    pub fn new(filter: FlowFilter, delete: bool, records_max: u64) -> Self {
        FlowJob {
            filter,
            delete,
            records_max,
            records: ArrayQueue::new(RECORDS_MAX),
            matched: AtomicU64::new(0),
            done: AtomicBool::new(false),
        }
    }

    /// The next flow, if one is there.
    pub fn take(&self) -> Option<FlowRecord> {
        self.records.pop()
    }

    /// Flows found so far.
    pub fn matched(&self) -> u64 {
        self.matched.load(Ordering::Relaxed)
    }

    /// Has the worker gone through its table? What it has found may still be in the queue.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Are flows that fit to be forgotten?
    pub fn deletes(&self) -> bool {
        self.delete
    }

    /// Can the worker go on, or must control take something first?
    pub fn has_room(&self) -> bool {
        self.records.capacity() - self.records.len() >= SLOTS_PER_STEP as usize
    }

    /// Tells of a flow if it fits; returns whether it does.
    pub fn consider(&self, flow: &Flow, rule: RuleSlot, now_us: u64) -> bool {
        if !self.filter.fits(flow) {
            return false;
        }
        if self.matched.fetch_add(1, Ordering::Relaxed) < self.records_max {
            let flow = flow.clone();
            let _ = self.records.push(FlowRecord { flow, rule, now_us });
        }
        true
    }

    /// The worker has gone through its table.
    pub fn finish(&self) {
        self.done.store(true, Ordering::Release);
    }
}

impl FlowJobs {
    /// A way with no job on it.
    pub fn new() -> Self {
        FlowJobs(Arc::new(ArrayQueue::new(JOBS_MAX)))
    }

    /// Gives the worker a job; false when it has too many.
    pub fn give(&self, job: Arc<FlowJob>) -> bool {
        self.0.push(job).is_ok()
    }

    /// The worker's next job.
    pub fn take(&self) -> Option<Arc<FlowJob>> {
        self.0.pop()
    }
}

impl Default for FlowJobs {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::conntrack::FlowState;
    use crate::wire::protocol;

    fn flow() -> Flow {
        let original = FlowKey {
            source: Address::from_bits(5),
            destination: Address::from_bits(9),
            source_port: 1000,
            destination_port: 53,
            zone: 0,
            protocol: protocol::UDP,
            family: Family::V4,
        };
        let reply = FlowKey {
            destination: Address::from_bits(77),
            destination_port: 2000,
            ..original.reversed().expect("UDP is answered")
        };
        Flow::new(original, reply, FlowState::Unreplied, 0)
    }

    #[test]
    fn a_filter_knows_both_sides_of_a_translation() {
        let fits = |filter: FlowFilter| filter.fits(&flow());
        let address = |bits| FlowFilter {
            address: Some((
                Family::V4,
                Address::from_bits(bits),
                Address::from_bits(bits),
            )),
            ..FlowFilter::default()
        };
        assert!([5, 9, 77].into_iter().all(|bits| fits(address(bits))));
        assert!(!fits(address(6)));
        for (port, expected) in [(1000, true), (53, true), (2000, true), (54, false)] {
            let port = Some(port);
            assert_eq!(
                fits(FlowFilter {
                    port,
                    ..FlowFilter::default()
                }),
                expected
            );
        }
        let tcp = Some(protocol::TCP);
        assert!(!fits(FlowFilter {
            protocol: tcp,
            ..FlowFilter::default()
        }));
    }

    #[test]
    fn a_job_tells_of_so_many_and_counts_all() {
        let job = FlowJob::new(FlowFilter::default(), false, 2);
        for _ in 0..5 {
            assert!(job.consider(&flow(), RuleSlot::NONE, 1));
        }
        let told = std::iter::from_fn(|| job.take()).count();
        assert_eq!((told, job.matched()), (2, 5));
    }
}
