//! The appliance's life: start in the order that never leaves a moment open, then one loop that
//! reacts to signals, the kernel, the manifests and the admin socket, then an orderly end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::compatibility::compatibility;
use super::admin::{self, AdminError, ReloadOutcome, Request};
use super::netlink::{KernelView, Mirror, MirrorError, MirrorHandle, kernel_forwards};
use super::plan;
use super::policy::{PolicyDirectory, Prepared, activate};
use super::publisher::Publisher;
use super::reload::{Attempt, ReloadCause, Reloader, watch as watch_directory};
use super::report;
use super::rule_slots::RuleSlots;
use super::status::{PolicyStatus, PortStatus, Status};
use super::workers::{WorkerPlan, Workers, WorkersError, choose_cores};
use crate::dataplane::backend::afxdp::{AfXdpError, PortRequest, open_ports};
use crate::dataplane::event::Event;
use crate::dataplane::neighbour::NeighbourRequests;
use crate::dataplane::verdict::PortId;
use crate::dataplane::xdp::{AttachState, AttachedMode, Steering};
use crate::policy::CompatibilityError;
use crate::settings::{OnExit, Settings};

/// Time between two looks at the manifests, the steering programs and the workers' pulses.
const TICK: Duration = Duration::from_secs(1);
/// Time between two looks at the workers' events.
const EVENTS_TICK: Duration = Duration::from_millis(100);
/// A worker whose loop has not come round for this long is reported.
const PULSE_LATE_MS: u64 = 1000;

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
    kernel: watch::Receiver<KernelView>,
    admin: mpsc::Receiver<Request>,
    attempts: mpsc::Receiver<(Attempt, Vec<oneshot::Sender<ReloadOutcome>>)>,
    attempt_done: mpsc::Sender<(Attempt, Vec<oneshot::Sender<ReloadOutcome>>)>,
    attempt_running: bool,
    /// Asked for while an attempt was running: another one follows.
    waiting: Option<(ReloadCause, Vec<oneshot::Sender<ReloadOutcome>>)>,
    log_budget: LogBudget,
    late_workers: Vec<bool>,
    steering_alarms: Vec<Option<AttachState>>,
}

/// Lines a second for one kind of event; the rest is counted.
struct LogBudget {
    lines_per_second: u32,
    left: u32,
    suppressed: u64,
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
        let (mirror, MirrorHandle { view: mut kernel, requests: neighbours }) =
            Mirror::start(plan::mirror_config(&settings)).await?;
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
            attempt_running: false,
            waiting: None,
            log_budget: LogBudget::new(settings.limits.log_lines_per_second),
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
            options: plan::pipeline_options(&self.settings, cores.len(), random_key()),
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

    // ----- policy

    /// Starts an attempt beside the loop, or notes that one more is wanted.
    fn reload(&mut self, cause: ReloadCause, mut answers: Vec<oneshot::Sender<ReloadOutcome>>) {
        if self.attempt_running {
            let (waiting_cause, waiting) = self.waiting.get_or_insert((cause, Vec::new()));
            if cause == ReloadCause::Request {
                *waiting_cause = cause;
            }
            waiting.append(&mut answers);
            return;
        }
        self.attempt_running = true;
        let (reloader, done) = (self.reloader.clone(), self.attempt_done.clone());
        tokio::task::spawn_blocking(move || {
            let attempt = reloader.attempt(cause);
            // The loop has ended when this fails.
            let _ = done.blocking_send((attempt, answers));
        });
    }

    fn attempt_ended(&mut self, attempt: Attempt, answers: Vec<oneshot::Sender<ReloadOutcome>>) {
        self.attempt_running = false;
        self.conclude(attempt);
        let refused = !self.policy.refused.is_empty();
        let outcome = ReloadOutcome {
            in_force: !refused,
            generation: self.policy.generation,
            findings: match refused {
                true => self.policy.refused.clone(),
                false => self.policy.warnings.clone(),
            },
        };
        for answer in answers {
            let _ = answer.send(outcome.clone());
        }
        if let Some((cause, answers)) = self.waiting.take() {
            self.reload(cause, answers);
        }
    }

    /// Puts a prepared policy in force, or reports why the present one stays.
    fn conclude(&mut self, attempt: Attempt) {
        self.reloader.remember(&attempt);
        let refused = match attempt {
            Attempt::Unchanged => return,
            Attempt::Refused(refused, _) => refused.lines(),
            Attempt::Prepared(prepared, _) => match self.put_in_force(*prepared) {
                Ok(()) => return,
                Err(error) => vec![error.to_string()],
            },
        };
        self.policy.loads_refused += 1;
        let generation = self.policy.generation;
        match generation {
            0 => tracing::error!("no policy in force, everything is dropped: policy refused"),
            _ => tracing::error!(generation, "policy refused, the one in force stays"),
        }
        for line in &refused {
            tracing::error!("{line}");
        }
        self.policy.refused = refused;
    }

    fn put_in_force(
        &mut self,
        prepared: Prepared,
    ) -> Result<(), super::rule_slots::SlotsExhausted> {
        let generation = self.policy.generation + 1;
        let workers = self.workers.as_ref();
        let snapshot = activate(&prepared, generation, &mut self.slots, |slot| {
            workers
                .map(|workers| workers.report.rule(slot))
                .unwrap_or_default()
        })?;
        self.publisher.set_policy(Arc::new(snapshot));
        self.policy.generation = generation;
        self.policy.loads += 1;
        self.policy.refused.clear();
        self.policy.warnings = prepared.findings.iter().map(ToString::to_string).collect();
        self.policy.stages = report::stages(&prepared);
        self.in_force_since = Instant::now();
        let (policies, pods) = (
            prepared.set.policies.len(),
            prepared.set.inventory.pods().len(),
        );
        tracing::info!(generation, policies, pods, "policy in force");
        for warning in &self.policy.warnings {
            tracing::warn!("{warning}");
        }
        self.prepared = Some(Arc::new(prepared));
        Ok(())
    }

    // ----- the kernel

    fn kernel_changed(&mut self) {
        let view = self.kernel.borrow_and_update().clone();
        let before = std::mem::take(&mut self.requests);
        let before_addresses = before.first().map(|r| r.steering.local_addresses.clone());
        self.requests = before;
        self.follow_kernel(&view, before_addresses);
    }

    /// Publishes new routes, and tells the steering programs of new addresses.
    fn follow_kernel(&mut self, view: &KernelView, before: Option<Vec<ipnet::IpNet>>) {
        self.publisher.set_routes(view.routes.clone());
        let addresses: Vec<_> = view
            .local_addresses
            .iter()
            .map(|local| local.prefix)
            .collect();
        if before.as_ref() != Some(&addresses) {
            for (request, steering) in self.requests.iter_mut().zip(&mut self.steering) {
                request.steering.local_addresses.clone_from(&addresses);
                if let Err(error) = steering.set_local_addresses(&addresses) {
                    let interface = steering.interface();
                    tracing::error!(interface, %error, "addresses not given to the steering program");
                }
            }
        }
        for number in 0..self.steering.len() {
            let link = view.links.get(number).and_then(Option::as_ref);
            if link.is_some_and(|link| link.ifindex != self.steering[number].ifindex()) {
                self.reopen(number);
            }
        }
    }

    /// The interface was deleted and created again.
    fn reopen(&mut self, number: usize) {
        let interface = self.steering[number].interface().to_owned();
        if let Err(error) = self.steering[number].reattach() {
            return tracing::error!(interface, %error, "port came back but cannot be attached");
        }
        let Some(workers) = &self.workers else { return };
        match workers.reopen(&self.requests[number]) {
            Ok(()) => tracing::info!(interface, "port reopened"),
            Err(error) => tracing::error!(interface, error, "port came back but cannot be opened"),
        }
    }

    // ----- watching

    fn tick(&mut self) {
        self.publisher.collect();
        self.log_budget.refill();
        if self.settings.policy.watch {
            self.reload(ReloadCause::Watch, Vec::new());
        }
        self.check_steering();
        self.check_workers();
    }

    /// Alarm when a steering program is not where it was put: the port may be open.
    fn check_steering(&mut self) {
        for (number, steering) in self.steering.iter().enumerate() {
            let state = steering.state().unwrap_or(AttachState::Detached);
            let alarm = (state != AttachState::Attached).then_some(state);
            if alarm != self.steering_alarms[number] {
                let interface = steering.interface();
                match &alarm {
                    Some(state) => tracing::error!(interface, ?state, "steering program lost"),
                    None => tracing::info!(interface, "steering program attached again"),
                }
                self.steering_alarms[number] = alarm;
            }
        }
    }

    fn check_workers(&mut self) {
        let Some(workers) = &self.workers else { return };
        for (number, row) in workers.report.rows(self.now_us()).into_iter().enumerate() {
            let late = row.pulse_age_ms > PULSE_LATE_MS;
            if late != self.late_workers[number] {
                let (core, age_ms) = (row.core, row.pulse_age_ms);
                match late {
                    true => tracing::error!(number, core, age_ms, "worker does not come round"),
                    false => tracing::info!(number, core, "worker comes round again"),
                }
                self.late_workers[number] = late;
            }
        }
    }

    fn log_events(&mut self) {
        let Some(workers) = &self.workers else { return };
        while let Some(event) = workers.next_event() {
            let Event::Denied {
                port,
                key,
                rule,
                stage,
                established,
            } = event;
            if !self.log_budget.take() {
                continue;
            }
            let port = &self.settings.ports[port.0 as usize].name;
            let stage = self
                .publisher
                .policy()
                .and_then(|policy| policy.stages.get(stage as usize));
            let stage = stage.map(|stage| format!("{} {}", stage.family, stage.direction));
            let rule = self.slots.label(rule).unwrap_or("-");
            let stage = stage.as_deref().unwrap_or("-");
            tracing::info!(port, flow = %key, stage, rule, established, "denied");
        }
    }

    // ----- the admin socket

    fn answer(&mut self, request: Request) {
        match request {
            Request::Status(answer) => _ = answer.send(self.status()),
            Request::Reload(answer) => self.reload(ReloadCause::Request, vec![answer]),
            Request::Explain(_probe, answer) => {
                _ = answer.send(Err("explain is not served here yet".to_owned()));
            }
        }
    }

    fn status(&self) -> Status {
        let now_us = self.now_us();
        let policy = PolicyStatus {
            age_s: self.in_force_since.elapsed().as_secs(),
            ..self.policy.clone()
        };
        let none = report::Workers {
            counters: Vec::new(),
            cores: Vec::new(),
        };
        let workers = self
            .workers
            .as_ref()
            .map_or(&none, |workers| &workers.report);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.start.elapsed().as_secs(),
            forwarding: self.settings.forwarding.mode.name().to_owned(),
            ports: self.port_rows(workers),
            verdicts: workers.verdicts(),
            drops: workers.drops(),
            rules: report::rules(&self.slots, policy.generation, workers),
            flows: workers.flows(self.settings.limits.flows.into()),
            workers: workers.rows(now_us),
            neighbours: workers.neighbours(self.neighbours.refused()),
            counters: workers.others(),
            policy,
        }
    }

    fn port_rows(&self, workers: &report::Workers) -> Vec<PortStatus> {
        let view = self.kernel.borrow();
        let rows = self.settings.ports.iter().zip(&self.steering).enumerate();
        rows.map(|(number, (port, steering))| {
            let (received, sent) = workers.port(PortId(number as u8));
            let link = view.links.get(number).and_then(Option::as_ref);
            let state = match link {
                None => "missing",
                Some(link) if link.admin_up && link.carrier => "up",
                Some(_) => "down",
            };
            let counters = steering.counters().unwrap_or_default();
            PortStatus {
                name: port.name.clone(),
                interface: port.interface.clone(),
                state: state.to_owned(),
                mode: mode_name(steering.mode()).to_owned(),
                attached: self.steering_alarms[number].is_none(),
                received,
                sent,
                steering: counters
                    .into_iter()
                    .map(|(n, count)| (n.to_owned(), count))
                    .collect(),
                xdp_statistics: self.xdp_statistics(PortId(number as u8)),
            }
        })
        .collect()
    }

    /// The kernel's figures of a port's sockets, summed.
    fn xdp_statistics(&self, port: PortId) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        let Some(workers) = &self.workers else {
            return sums;
        };
        for queue in workers.rings().flat_map(|rings| rings.statistics()) {
            if queue.port != port {
                continue;
            }
            for (name, count) in [
                ("rx-dropped", queue.rx_dropped),
                ("rx-ring-full", queue.rx_ring_full),
                ("rx-fill-ring-empty", queue.rx_fill_ring_empty),
                ("rx-invalid-descriptors", queue.rx_invalid_descriptors),
                ("tx-invalid-descriptors", queue.tx_invalid_descriptors),
                ("tx-ring-empty", queue.tx_ring_empty),
            ] {
                *sums.entry(name.to_owned()).or_default() += count;
            }
        }
        sums
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

impl LogBudget {
    fn new(lines_per_second: u32) -> Self {
        LogBudget {
            lines_per_second,
            left: lines_per_second,
            suppressed: 0,
        }
    }

    fn take(&mut self) -> bool {
        let allowed = self.left > 0;
        match allowed {
            true => self.left -= 1,
            false => self.suppressed += 1,
        }
        allowed
    }

    fn refill(&mut self) {
        if self.suppressed > 0 {
            tracing::warn!(lines = self.suppressed, "log lines suppressed");
        }
        (self.left, self.suppressed) = (self.lines_per_second, 0);
    }
}

fn mode_name(mode: AttachedMode) -> &'static str {
    match mode {
        AttachedMode::Native => "native",
        AttachedMode::Generic => "generic",
    }
}

fn refuse_kernel_forwarding(settings: &Settings) -> Result<(), RunError> {
    let interfaces: Vec<_> = settings.ports.iter().map(|port| port.interface.clone()).collect();
    match kernel_forwards(&interfaces)? {
        on if on.is_empty() => Ok(()),
        on => Err(RunError::KernelForwards(on)),
    }
}

/// A key nobody can guess, another one at each start: std seeds its own hasher with one.
fn random_key() -> (u64, u64) {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let draw = || RandomState::new().build_hasher().finish();
    (draw(), draw())
}

/// Where the settings say that manifests are, for messages.
pub fn directory_of(settings: &Settings) -> &Path {
    plan::policy_directory(settings)
}
