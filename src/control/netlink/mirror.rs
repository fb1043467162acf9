//! The task that follows the kernel.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::net::UnixDatagram;
use tokio::sync::watch;

use super::dump::{dump_neighbours, dump_topology};
use super::message::KernelMessage;
use super::neighbours::{Answer, Key, Neighbours, Told};
use super::socket::{Listener, Notice, Requester};
use super::topology::Topology;
use super::{KernelView, MirrorConfig, MirrorWarning};
use crate::dataplane::neighbour::{NeighbourRequest, NeighbourRequests};
use crate::dataplane::route::RouteTable;

/// How long changes of neighbours are gathered before they are published.
const NEIGHBOURS_SETTLE: Duration = Duration::from_millis(1);

/// How often neighbours are looked through for stale ones in use and for failures to forget.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// Everything is read again this often, in case a change went unnoticed.
const READ_AGAIN_EVERY: Duration = Duration::from_secs(60);

/// Work that is triggered by notifications takes at most one part in this many of the thread's
/// time, however fast they come.
const DUTY: u32 = 10;

/// Commands whose answers are waited for.
const ASKED_MAX: usize = 65_536;

/// Requests handled before anything else gets its turn.
const REQUESTS_AT_ONCE: usize = 256;

/// Follows the kernel. [`Mirror::run`] it on the control thread.
pub struct Mirror {
    config: MirrorConfig,
    listener: Listener,
    requester: Requester,
    commands: Requester,
    /// Neighbours asked for, by the number of the command.
    asked: HashMap<u32, Key>,
    requests: NeighbourRequests,
    wake: UnixDatagram,
    topology: Topology,
    neighbours: Neighbours,
    refused: u64,
    last_refusal: Option<(IpAddr, String)>,
    read_again: Due,
    publish: Due,
    neighbours_lost: bool,
    next_sweep: Instant,
    next_full_read: Instant,
    routes: Arc<RouteTable>,
    view: watch::Sender<KernelView>,
}

/// Where the mirror's results appear.
#[derive(Debug, Clone)]
pub struct MirrorHandle {
    /// The newest picture; the first is complete.
    pub view: watch::Receiver<KernelView>,
    /// Where workers ask for neighbours.
    pub requests: NeighbourRequests,
}

/// Why the kernel cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("cannot follow the kernel's network state: {step}: {source}")]
pub struct MirrorError {
    /// What failed.
    pub step: &'static str,
    /// The system's reason.
    pub source: io::Error,
}

/// Adds what was being done to the system's errors.
pub(super) fn at(step: &'static str) -> impl Fn(io::Error) -> MirrorError {
    move |source| MirrorError { step, source }
}

/// Work that waits until changes have settled, and for longer when it is costly.
#[derive(Debug)]
struct Due {
    at: Option<Instant>,
    not_before: Instant,
}

impl Due {
    fn new(now: Instant) -> Self {
        let (at, not_before) = (None, now);
        Due { at, not_before }
    }

    /// To be done when this has settled; a date already set stays.
    fn set(&mut self, settle: Duration) {
        let at = (Instant::now() + settle).max(self.not_before);
        self.at.get_or_insert(at);
    }

    fn take(&mut self, now: Instant) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }

    /// It was done, begun at this time.
    fn done(&mut self, begun: Instant) {
        let now = Instant::now();
        self.not_before = now + (now - begun) * (DUTY - 1);
    }
}

enum Step {
    Notices(io::Result<Vec<Notice>>),
    Answers(io::Result<Vec<(u32, Option<io::Error>)>>),
    Woken(io::Result<()>),
    Due,
}

impl Mirror {
    /// Subscribes to notifications and reads the first complete picture of the network namespace
    /// of the calling thread.
    ///
    /// # Errors
    /// The kernel refuses a socket or a dump.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(config: MirrorConfig) -> Result<(Mirror, MirrorHandle), MirrorError> {
        // Subscribed before anything is read: what changes meanwhile is notified.
        let listener = Listener::subscribe().map_err(at("subscribe"))?;
        let (waker, wake) = wake_pair().map_err(at("open a socket pair"))?;
        let requests = NeighbourRequests::new(config.requests_max, move || {
            // It fails when it is full alone, and then the mirror is awake.
            let _ = waker.send(&[0]);
        });
        let now = Instant::now();
        let mut mirror = Mirror {
            neighbours: Neighbours::new(config.neighbours_max),
            config,
            listener,
            requester: Requester::open().map_err(at("open a socket"))?,
            commands: Requester::open().map_err(at("open a socket"))?,
            asked: HashMap::new(),
            requests: requests.clone(),
            wake,
            topology: Topology::default(),
            refused: 0,
            last_refusal: None,
            read_again: Due::new(now),
            publish: Due::new(now),
            neighbours_lost: false,
            next_sweep: now + SWEEP_EVERY,
            next_full_read: now + READ_AGAIN_EVERY,
            routes: Arc::default(),
            view: watch::Sender::new(KernelView {
                generation: 0,
                routes: Arc::default(),
                links: Arc::default(),
                local_addresses: Arc::default(),
                warnings: Arc::default(),
            }),
        };
        mirror.read_topology().await?;
        mirror.read_neighbours().await?;
        mirror.publish();
        let view = mirror.view.subscribe();
        Ok((mirror, MirrorHandle { view, requests }))
    }

    /// Follows the kernel for as long as somebody holds a [`MirrorHandle`].
    pub async fn run(mut self) {
        while !self.view.is_closed() {
            let Err(error) = self.step().await else {
                continue;
            };
            tracing::error!(%error, "kernel mirror: trying again in a second");
            tokio::time::sleep(Duration::from_secs(1)).await;
            match Listener::subscribe() {
                Ok(listener) => self.listener = listener,
                Err(error) => tracing::error!(%error, "kernel mirror: cannot subscribe"),
            }
            self.everything_is_stale();
        }
    }

    /// Waits for something to happen and deals with it.
    async fn step(&mut self) -> Result<(), MirrorError> {
        let more = self.take_requests().await?;
        // A request between the last look and this one does not wake: look again at once.
        let awake = more || !self.requests.sleep();
        let deadline = if awake {
            Instant::now()
        } else {
            self.next_due()
        };
        let step = tokio::select! {
            biased;
            notices = self.listener.receive() => Step::Notices(notices),
            answers = self.commands.acknowledged() => Step::Answers(answers),
            woken = woken(&self.wake) => Step::Woken(woken),
            () = tokio::time::sleep_until(deadline.into()) => Step::Due,
        };
        match step {
            Step::Notices(notices) => self.take_notices(notices.map_err(at("listen"))?),
            Step::Answers(answers) => self.take_answers(answers.map_err(at("resolve"))?),
            Step::Woken(woken) => woken.map_err(at("wake"))?,
            Step::Due => {}
        }
        self.work().await
    }

    fn next_due(&self) -> Instant {
        let dues = [self.read_again.at, self.publish.at].into_iter().flatten();
        dues.fold(self.next_sweep.min(self.next_full_read), Instant::min)
    }

    async fn work(&mut self) -> Result<(), MirrorError> {
        let now = Instant::now();
        if now >= self.next_full_read {
            self.next_full_read = now + READ_AGAIN_EVERY;
            self.everything_is_stale();
        }
        if self.read_again.take(now) {
            self.read_topology().await?;
            if self.neighbours_lost {
                self.read_neighbours().await?;
            }
            self.read_again.done(now);
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            let (probe, changed) = self.neighbours.sweep(now);
            for key in probe {
                self.resolve(key, true).await?;
            }
            if changed {
                self.publish.set(NEIGHBOURS_SETTLE);
            }
        }
        if self.publish.take(now) {
            let begun = Instant::now();
            self.publish();
            self.publish.done(begun);
        }
        Ok(())
    }

    fn everything_is_stale(&mut self) {
        self.neighbours_lost = true;
        self.read_again.set(Duration::ZERO);
    }

    async fn read_topology(&mut self) -> Result<(), MirrorError> {
        let raw = dump_topology(&mut self.requester).await?;
        if raw.interrupted {
            self.read_again.set(self.config.settle);
        }
        let topology = Topology::build(&self.config.interfaces, &raw);
        if topology == self.topology {
            return Ok(());
        }
        self.tell_changed_links(&topology);
        if topology.routes != self.topology.routes {
            let routes = topology.routes.iter().copied();
            self.routes = Arc::new(RouteTable::new(Vec::new(), routes, []));
        }
        if topology.ports != self.topology.ports {
            // Neighbours of a port that is new were not kept before.
            self.neighbours_lost = true;
        }
        self.topology = topology;
        self.publish.set(Duration::ZERO);
        Ok(())
    }

    fn tell_changed_links(&self, new: &Topology) {
        for (number, link) in new.links.iter().enumerate() {
            let old = self.topology.links.get(number).and_then(Option::as_ref);
            let interface = &self.config.interfaces[number];
            match (old, link) {
                (Some(_), None) => tracing::warn!(interface, "the port's interface is gone"),
                (old, Some(link)) if old.map(|old| old.ifindex) != Some(link.ifindex) => {
                    tracing::info!(interface, link.ifindex, "the port's interface is there");
                }
                (Some(old), Some(link)) if old.carrier != link.carrier => {
                    tracing::info!(interface, link.carrier, "the port's carrier has changed");
                }
                _ => {}
            }
        }
    }

    async fn read_neighbours(&mut self) -> Result<(), MirrorError> {
        let (all, undecodable) = dump_neighbours(&mut self.requester).await?;
        if undecodable > 0 {
            tracing::warn!(undecodable, "kernel mirror: neighbours not understood");
        }
        let ports = &self.topology.ports;
        let ours = all
            .into_iter()
            .filter(|told| ports.contains_key(&told.key.0));
        let refused = self.neighbours.replace(ours, Instant::now());
        self.refused += refused as u64;
        self.neighbours_lost = false;
        self.publish.set(NEIGHBOURS_SETTLE);
        Ok(())
    }

    fn take_notices(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::NewNeighbour(message) => self.neighbour_told(&message),
                Notice::DelNeighbour(message) => {
                    let told = Told::from_message(&message);
                    if told.is_some_and(|told| self.neighbours.gone(&told.key)) {
                        self.publish.set(NEIGHBOURS_SETTLE);
                    }
                }
                Notice::Changed => self.read_again.set(self.config.settle),
                Notice::Overrun => {
                    tracing::warn!("kernel mirror: notifications were lost, reading again");
                    self.everything_is_stale();
                }
            }
        }
    }

    fn neighbour_told(&mut self, message: &NeighbourMessage) {
        let Some(told) = Told::from_message(message) else {
            return;
        };
        if !self.topology.ports.contains_key(&told.key.0) {
            return;
        }
        let address = told.key.1;
        match self.neighbours.told(told, Instant::now()) {
            Some(true) => self.publish.set(NEIGHBOURS_SETTLE),
            Some(false) => {}
            None => self.refuse(
                address,
                "as many neighbours as allowed are known".to_owned(),
            ),
        }
    }

    fn refuse(&mut self, address: IpAddr, reason: String) {
        self.refused += 1;
        self.last_refusal = Some((address, reason));
        self.publish.set(self.config.settle);
    }

    /// Deals with what workers ask for; `true` when there may be more.
    async fn take_requests(&mut self) -> Result<bool, MirrorError> {
        for _ in 0..REQUESTS_AT_ONCE {
            let Some(request) = self.requests.pop() else {
                return Ok(false);
            };
            self.take_request(request).await?;
        }
        Ok(true)
    }

    async fn take_request(&mut self, request: NeighbourRequest) -> Result<(), MirrorError> {
        let (port, address) = (usize::from(request.port.0), request.ip());
        let Some(Some(link)) = self.topology.links.get(port) else {
            return Ok(());
        };
        let key = (link.ifindex, address);
        if link.no_arp {
            // As the kernel fills in (net/ipv4/arp.c, arp_constructor).
            let (state, mac) = (NeighbourState::Noarp, Some(link.mac));
            if self
                .neighbours
                .told(Told { key, state, mac }, Instant::now())
                == Some(true)
            {
                self.publish.set(NEIGHBOURS_SETTLE);
            }
            return Ok(());
        }
        match self.neighbours.ask(key, Instant::now()) {
            Answer::Ask { known } => self.resolve(key, known).await?,
            Answer::Nothing => {}
            Answer::Refused => {
                self.refuse(
                    address,
                    "too many neighbours are known or unanswered".to_owned(),
                );
            }
        }
        Ok(())
    }

    /// Has the kernel resolve or probe a neighbour, as if it had a packet for it.
    async fn resolve(&mut self, (ifindex, address): Key, known: bool) -> Result<(), MirrorError> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = ifindex;
        message.header.flags = NeighbourFlags::Use;
        let (family, destination) = match address {
            IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
            IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
        };
        message.header.family = family;
        message
            .attributes
            .push(NeighbourAttribute::Destination(destination));
        // On an entry that exists NTF_USE takes away its permanence: an entry not known of, which
        // may be somebody's permanent one a moment old, must not be touched.
        let exclusive = if known { 0 } else { NLM_F_EXCL };
        let message = KernelMessage::Route(RouteNetlinkMessage::NewNeighbour(message));
        if self.asked.len() >= ASKED_MAX {
            // Answers were lost; these serve for reports alone.
            self.asked.clear();
        }
        let sent = self
            .commands
            .command(message, NLM_F_CREATE | exclusive)
            .await;
        self.asked
            .insert(sent.map_err(at("resolve"))?, (ifindex, address));
        Ok(())
    }

    fn take_answers(&mut self, answers: Vec<(u32, Option<io::Error>)>) {
        for (number, refused) in answers {
            let Some(key) = self.asked.remove(&number) else {
                continue;
            };
            let Some(error) = refused else { continue };
            self.neighbours.forget(&key);
            if error.kind() == io::ErrorKind::AlreadyExists {
                self.everything_is_stale();
            } else {
                self.refuse(key.1, error.to_string());
            }
        }
    }

    fn publish(&mut self) {
        let links = self.topology.port_links.clone();
        let neighbours = self.neighbours.visible(&self.topology.ports);
        self.routes = Arc::new(self.routes.with_neighbours(links, neighbours));
        let mut warnings = self.topology.warnings.clone();
        if let Some((address, reason)) = &self.last_refusal {
            let (address, reason) = (*address, reason.clone());
            let count = self.refused;
            warnings.push(MirrorWarning::NeighbourRefused {
                address,
                reason,
                count,
            });
        }
        self.view.send_modify(|view| {
            renew(&mut view.links, &self.topology.links);
            renew(&mut view.local_addresses, &self.topology.local);
            renew(&mut view.warnings, &warnings);
            view.generation += 1;
            view.routes = Arc::clone(&self.routes);
        });
    }
}

/// Shares what has not changed.
fn renew<T: PartialEq + Clone>(old: &mut Arc<[T]>, new: &[T]) {
    if **old != *new {
        *old = new.into();
    }
}

/// A socket pair: what workers write to without blocking, and what the mirror sleeps on.
fn wake_pair() -> io::Result<(std::os::unix::net::UnixDatagram, UnixDatagram)> {
    let (waker, wake) = std::os::unix::net::UnixDatagram::pair()?;
    waker.set_nonblocking(true)?;
    wake.set_nonblocking(true)?;
    Ok((waker, UnixDatagram::from_std(wake)?))
}

async fn woken(wake: &UnixDatagram) -> io::Result<()> {
    wake.recv(&mut [0; 1]).await.map(drop)
}
