//! The appliance's life: start in the order that never leaves a moment open, then one loop that
//! reacts to signals, the kernel, the manifests and the admin socket, then an orderly end.

mod answers;
mod kernel;
mod policy;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::admin::{self, AdminError, ReloadOutcome, Request};
use super::compatibility::compatibility;
use super::flows::FlowsAnswer;
use super::netlink::{KernelView, Mirror, MirrorError, MirrorHandle, kernel_forwards};
use super::plan;
use super::policy::{PolicyDirectory, Prepared};
use super::publisher::Publisher;
use super::reload::{Attempt, ReloadCause, Reloader, watch as watch_directory};
use super::rule_slots::RuleSlots;
use super::status::PolicyStatus;
use super::workers::{WorkerPlan, Workers, WorkersError, choose_cores};
use crate::dataplane::backend::afxdp::{AfXdpError, PortRequest, open_ports};
use crate::dataplane::flow_job::FlowRecord;
use crate::dataplane::neighbour::NeighbourRequests;
use crate::dataplane::random::random_key;
use crate::dataplane::xdp::{AttachState, AttachedMode, Steering};
use crate::policy::{CompatibilityError, Finding};
use crate::settings::{OnExit, Settings};

/// Time between two looks at the manifests, the steering programs and the workers' pulses.
const TICK: Duration = Duration::from_secs(1);
/// Time between two looks at the workers' events.
const EVENTS_TICK: Duration = Duration::from_millis(100);

/// Why the appliance did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A switch is not supported yet.
    #[error("policy.compat: {0}")]
    Compatibility(#[from] CompatibilityError),
    /// The kernel forwards packets itself, past every policy, whenever a port is not attached.
    #[error(
        "the kernel forwards packets itself; turn that off: sysctl -w {}",
        .0.iter().map(|switch| format!("{switch}=0")).collect::<Vec<_>>().join(" ")
    )]
    KernelForwards(Vec<String>),
    /// The kernel mirror.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The kernel mirror's task is gone.
    #[error("the kernel mirror has ended")]
    MirrorEnded,
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Ports and steering programs.
    #[error(transparent)]
    Ports(#[from] AfXdpError),
    /// Worker threads.
    #[error(transparent)]
    Workers(#[from] WorkersError),
    /// Signals or the runtime.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Runs the appliance until it is told to stop.
///
/// # Errors
/// It could not start. Nothing is left behind but pins of ports already closed.
pub fn run(settings: Settings) -> Result<(), RunError> {
    // Reads the thread's mask, so before any thread is pinned.
    let cores = choose_cores(&settings.workers.cores)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut supervisor = Supervisor::start(settings, &cores).await?;
        let outcome = supervisor.serve().await;
        supervisor.end();
        outcome
    })
}

/// Copies of flows, how many fit, and who wants to know of them.
type FoundFlows = (Vec<FlowRecord>, u64, oneshot::Sender<FlowsAnswer>);

/// Everything control owns.
struct Supervisor {
    settings: Settings,
    start: Instant,
    publisher: Publisher,
    slots: RuleSlots,
    reloader: Reloader,
    prepared: Option<Arc<Prepared>>,
    policy: PolicyStatus,
    in_force_since: Instant,
    requests: Vec<PortRequest>,
    steering: Vec<Steering>,
    workers: Option<Workers>,
    neighbours: NeighbourRequests,
    kernel: tokio::sync::watch::Receiver<KernelView>,
    admin: mpsc::Receiver<Request>,
    attempts: mpsc::Receiver<(Attempt, Vec<oneshot::Sender<ReloadOutcome>>)>,
    attempt_done: mpsc::Sender<(Attempt, Vec<oneshot::Sender<ReloadOutcome>>)>,
    /// Warnings a large set came into force without, and its generation.
    later: mpsc::Receiver<(u32, Vec<Finding>)>,
    later_found: mpsc::Sender<(u32, Vec<Finding>)>,
    /// Flows the workers have found, and who wants to know of them.
    flows: (mpsc::Sender<FoundFlows>, mpsc::Receiver<FoundFlows>),
    attempt_running: bool,
    /// Asked for while an attempt was running: another one follows.
    waiting: Option<(ReloadCause, Vec<oneshot::Sender<ReloadOutcome>>)>,
    log_budget: watch::LogBudget,
    logged_budget: watch::LogBudget,
    late_workers: Vec<bool>,
    steering_alarms: Vec<Option<AttachState>>,
}

impl Supervisor {
    /// Brings everything up, ports last: until they are open, nothing is attached; from then on
    /// nothing passes without policy.
    async fn start(
        settings: Settings,
        cores: &[core_affinity::CoreId],
    ) -> Result<Supervisor, RunError> {
        let start = Instant::now();
        let compatibility = compatibility(&settings.policy.compat)?;
        refuse_kernel_forwarding(&settings)?;
        // Before anything is attached: a second instance must not take the pins of the first.
        let listener = admin::bind(&settings.admin.socket, settings.admin.socket_mode)?;
        let (admin_requests, admin_inbox) = mpsc::channel(16);
        tokio::spawn(admin::serve(listener, admin_requests.clone()));
        if let Some(address) = settings.admin.metrics_address {
            let listener = admin::bind_metrics(address).await?;
            tokio::spawn(admin::serve_metrics(listener, admin_requests));
        }
        let (
            mirror,
            MirrorHandle {
                view: mut kernel,
                requests: neighbours,
            },
        ) = Mirror::start(plan::mirror_config(&settings)).await?;
        tokio::spawn(mirror.run());
        let view = kernel.borrow_and_update().clone();
        let mut requests = plan::port_requests(&settings);
        for request in &mut requests {
            request.steering.local_addresses = view
                .local_addresses
                .iter()
                .map(|local| local.prefix)
                .collect();
        }
        let source = Arc::new(PolicyDirectory::new(plan::policy_directory(&settings)));
        let limits = plan::classifier_limits(&settings);
        let (attempt_done, attempts) = mpsc::channel(1);
        let (later_found, later) = mpsc::channel(1);
        let mut supervisor = Supervisor {
            start,
            publisher: Publisher::new(plan::fixed_parts(&settings)),
            slots: RuleSlots::new(settings.limits.rules),
            reloader: Reloader::new(source, compatibility, limits),
            prepared: None,
            policy: PolicyStatus::default(),
            in_force_since: start,
            steering_alarms: vec![None; requests.len()],
            requests,
            steering: Vec::new(),
            workers: None,
            neighbours,
            kernel,
            admin: admin_inbox,
            attempts,
            attempt_done,
            later,
            later_found,
            flows: mpsc::channel(8),
            attempt_running: false,
            waiting: None,
            log_budget: watch::LogBudget::new(settings.limits.log_lines_per_second),
            logged_budget: watch::LogBudget::new(settings.limits.log_lines_per_second),
            late_workers: vec![false; cores.len()],
            settings,
        };
        supervisor.policy.directory = supervisor.reloader.describe();
        let attempt = supervisor.reloader.attempt(ReloadCause::Start);
        supervisor.conclude(attempt);
        supervisor.follow_kernel(&view, None);
        supervisor.open(cores)?;
        Ok(supervisor)
    }

    /// Attaches, binds and starts to forward.
    fn open(&mut self, cores: &[core_affinity::CoreId]) -> Result<(), RunError> {
        let plan = WorkerPlan {
            options: plan::pipeline_options(&self.settings, cores.len(), random_key()?),
            rules_max: self.settings.limits.rules as usize,
            events_max: self.settings.limits.events as usize,
            wait: plan::wait_strategy(&self.settings),
            snapshot: self.publisher.shared(),
            requests: self.neighbours.clone(),
        };
        let opened = open_ports(
            &self.requests,
            &plan::io_options(&self.settings, cores.len()),
        )?;
        self.steering = opened.steering;
        self.workers = Some(Workers::start(&plan, opened.workers, cores, self.start)?);
        for (port, steering) in self.settings.ports.iter().zip(&self.steering) {
            let mode = mode_name(steering.mode());
            tracing::info!(
                port = port.name,
                interface = port.interface,
                mode,
                "port open"
            );
        }
        tracing::info!(generation = self.policy.generation, "forwarding");
        Ok(())
    }

    /// The control loop.
    async fn serve(&mut self) -> Result<(), RunError> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut tick = tokio::time::interval(TICK);
        let mut events_tick = tokio::time::interval(EVENTS_TICK);
        // Keeps the watcher alive; without one the tick notices changes a little later.
        let (_watcher, mut changes) = match watch_directory(&self.settings.policy.directory) {
            Ok((watcher, changes)) => (Some(watcher), changes),
            Err(error) => {
                tracing::warn!(%error, "no file notification; manifests are read every second");
                (None, mpsc::channel(1).1)
            }
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.reload(ReloadCause::Request, Vec::new()),
                Some(()) = changes.recv(), if self.settings.policy.watch => {
                    self.reload(ReloadCause::Watch, Vec::new());
                }
                Some((attempt, answers)) = self.attempts.recv() => {
                    self.attempt_ended(attempt, answers);
                }
                Some((generation, findings)) = self.later.recv() => {
                    self.found_later(generation, findings);
                }
                Some(found) = self.flows.1.recv() => self.tell_flows(found),
                Some(request) = self.admin.recv() => self.answer(request),
                changed = self.kernel.changed() => {
                    if changed.is_err() {
                        return Err(RunError::MirrorEnded);
                    }
                    self.kernel_changed();
                }
                _ = tick.tick() => self.tick(),
                _ = events_tick.tick() => self.log_events(),
            }
        }
        Ok(())
    }

    /// Stops the workers; leaves the steering programs as the settings say.
    fn end(&mut self) {
        if let Some(workers) = self.workers.take() {
            workers.stop();
        }
        for steering in self.steering.drain(..) {
            let interface = steering.interface().to_owned();
            match self.settings.on_exit {
                OnExit::Closed => tracing::info!(interface, "left closed"),
                OnExit::Open => match steering.detach() {
                    Ok(()) => tracing::info!(interface, "left open"),
                    Err(error) => tracing::error!(interface, %error, "could not be detached"),
                },
            }
        }
        let _ = std::fs::remove_file(&self.settings.admin.socket);
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

fn mode_name(mode: AttachedMode) -> &'static str {
    match mode {
        AttachedMode::Native => "native",
        AttachedMode::Generic => "generic",
    }
}

fn refuse_kernel_forwarding(settings: &Settings) -> Result<(), RunError> {
    let interfaces: Vec<_> = settings
        .ports
        .iter()
        .map(|port| port.interface.clone())
        .collect();
    match kernel_forwards(&interfaces)? {
        on if on.is_empty() => Ok(()),
        on => Err(RunError::KernelForwards(on)),
    }
}
