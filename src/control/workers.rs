//! The worker threads: started pinned, watched, stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;

use super::report;
use crate::dataplane::backend::afxdp::{AfXdpControl, AfXdpIo, PortRequest, ReopenedPort};
use crate::dataplane::event::{Event, Events};
use crate::dataplane::flow_job::{FlowJob, FlowJobs};
use crate::dataplane::handoff::Handoff;
use crate::dataplane::neighbour::NeighbourRequests;
use crate::dataplane::pipeline::{Pipeline, PipelineOptions};
use crate::dataplane::snapshot::Snapshot;
use crate::dataplane::statistics::WorkerCounters;
use crate::dataplane::worker::{WaitStrategy, Worker};
use crate::dataplane::xdp::Steering;
use crate::settings::Cores;

/// Reopened ports a worker may not have taken yet.
const MAILBOX_PORTS: usize = 64;

/// Frames on their way from one worker to another at once.
const HANDOFF_FRAMES: usize = 1024;
/// Longest frame handed over: the largest UMEM frame.
const HANDOFF_FRAME_BYTES: usize = 4096;

/// Why the workers cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// A configured core is not there, or not for this process.
    #[error(
        "workers.cores: core {core} is not available; this process may use cores {available:?}"
    )]
    NoSuchCore {
        /// The configured core.
        core: u32,
        /// What there is.
        available: Vec<usize>,
    },
    /// The cores cannot be read.
    #[error("workers.cores: the system does not tell which cores this process may use")]
    CoresUnknown,
    /// A thread could not be started.
    #[error("a worker could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// What every worker is built from.
pub struct WorkerPlan {
    /// Limits of one pipeline.
    pub options: PipelineOptions,
    /// Rules with counters.
    pub rules_max: usize,
    /// Events a worker may be ahead of control.
    pub events_max: usize,
    /// Without frames.
    pub wait: WaitStrategy,
    /// What workers read once a batch.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where they ask for neighbours.
    pub requests: NeighbourRequests,
}

/// The running workers, as control sees them.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    handles: Vec<Handle>,
    /// Their counters.
    pub report: report::Workers,
}

struct Handle {
    io: AfXdpControl,
    jobs: FlowJobs,
    events: Events,
    mailbox: Arc<ArrayQueue<ReopenedPort>>,
}

/// The cores workers are pinned to.
///
/// # Errors
/// A configured core is not available.
pub fn choose_cores(cores: &Cores) -> Result<Vec<core_affinity::CoreId>, WorkersError> {
    // Reads the calling thread's mask: before anything is pinned.
    let available = core_affinity::get_core_ids().ok_or(WorkersError::CoresUnknown)?;
    match cores {
        Cores::Last => available
            .last()
            .map(|&core| vec![core])
            .ok_or(WorkersError::CoresUnknown),
        Cores::List(list) => {
            let find = |&core: &u32| {
                let found = available.iter().find(|id| id.id == core as usize);
                found.copied().ok_or_else(|| WorkersError::NoSuchCore {
                    core,
                    available: available.iter().map(|id| id.id).collect(),
                })
            };
            list.iter().map(find).collect()
        }
    }
}

impl Workers {
    /// Starts one thread for each of the opened rings.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        plan: &WorkerPlan,
        rings: Vec<AfXdpIo>,
        cores: &[core_affinity::CoreId],
        start: Instant,
    ) -> Result<Workers, WorkersError> {
        let mut workers = Workers {
            threads: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            handles: Vec::new(),
            report: report::Workers {
                counters: Vec::new(),
                cores: cores.iter().map(|core| core.id).collect(),
            },
        };
        let mut handoffs =
            Handoff::for_workers(rings.len(), HANDOFF_FRAMES, HANDOFF_FRAME_BYTES)?.into_iter();
        for (number, (io, &core)) in rings.into_iter().zip(cores).enumerate() {
            let counters = Arc::new(WorkerCounters::new(plan.options.ports, plan.rules_max));
            let handle = Handle {
                io: io.control(),
                jobs: FlowJobs::new(),
                events: Events::new(plan.events_max),
                mailbox: Arc::new(ArrayQueue::new(MAILBOX_PORTS)),
            };
            let pipeline = Pipeline::new(
                &plan.options,
                counters.clone(),
                plan.requests.clone(),
                handle.events.clone(),
                handoffs.next().unwrap_or_else(Handoff::single),
            )
            .with_jobs(handle.jobs.clone());
            let worker = Worker::new(
                io,
                pipeline,
                plan.snapshot.clone(),
                counters.clone(),
                plan.wait,
            );
            // A thread that has just begun is not late, however long the process took to get here.
            counters.pulse_us.set(start.elapsed().as_micros() as u64);
            let (stop, mailbox) = (workers.stop.clone(), handle.mailbox.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            let thread = thread.spawn(move || run(worker, core, start, &stop, &mailbox))?;
            workers.threads.push(thread);
            workers.handles.push(handle);
            workers.report.counters.push(counters);
        }
        Ok(workers)
    }

    /// Rings' handles, one a worker.
    pub fn rings(&self) -> impl Iterator<Item = &AfXdpControl> {
        self.handles.iter().map(|handle| &handle.io)
    }

    /// Gives every worker a job; those that took one. The others have too many.
    pub fn give_jobs(&self, job: impl Fn() -> FlowJob) -> Vec<Arc<FlowJob>> {
        let give = |handle: &Handle| {
            let job = Arc::new(job());
            handle.jobs.give(job.clone()).then_some(job)
        };
        self.handles.iter().filter_map(give).collect()
    }

    /// The next event of any worker.
    pub fn next_event(&self) -> Option<Event> {
        self.handles.iter().find_map(|handle| handle.events.pop())
    }

    /// Opens a port's sockets again after its interface came back; returns what failed.
    pub fn reopen(&self, request: &PortRequest, steering: &Steering) -> Result<(), String> {
        for handle in &self.handles {
            let reopened = handle
                .io
                .reopen(request, steering)
                .map_err(|error| error.to_string())?;
            if handle.mailbox.push(reopened).is_err() {
                return Err("the worker does not take reopened ports".to_owned());
            }
        }
        Ok(())
    }

    /// Ends all workers between two batches.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // A worker that panicked has ended the process already.
            let _ = thread.join();
        }
    }
}

fn run(
    mut worker: Worker<AfXdpIo>,
    core: core_affinity::CoreId,
    start: Instant,
    stop: &AtomicBool,
    mailbox: &ArrayQueue<ReopenedPort>,
) {
    let _guard = AbortOnPanic;
    if !core_affinity::set_for_current(core) {
        tracing::warn!(core = core.id, "the worker could not be pinned to its core");
    }
    worker.run(start, stop, |io| {
        while let Some(port) = mailbox.pop() {
            io.install(port);
        }
    });
}

/// A process with a dead worker would look alive and forward nothing, or worse, half of it. The
/// steering program stays, so that ending is closed.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
