//! A box that does nothing but swap ports: what comes in on one leaves by the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use portcullis::dataplane::backend::afxdp::{
    AfXdpControl, AfXdpIo, FrameBalance, IoOptions, OpenPorts, PortRequest, QueueSelection,
    ReopenedPort, ZeroCopy, open_ports,
};
use portcullis::dataplane::frame::{BATCH_FRAMES_MAX, FrameIo};
use portcullis::dataplane::verdict::PortId;
use portcullis::dataplane::xdp::{AttachMode, AttachRequest, Steering};

use crate::world::{BOX, BOX_V6};

/// A port of the box, with its addresses and an empty management list.
pub fn port(number: u8, interface: &str, mode: AttachMode) -> PortRequest {
    let mut steering = AttachRequest::new(interface);
    steering.mode = mode;
    steering.local_addresses = vec![
        format!("{BOX}/32").parse().expect("an address"),
        format!("{BOX_V6}/128").parse().expect("an address"),
    ];
    PortRequest {
        port: PortId(number),
        steering,
        queues: QueueSelection::All,
        zero_copy: ZeroCopy::Auto,
        frame_size_bytes: None,
        ring_frames: 1024,
    }
}

pub fn options() -> IoOptions {
    IoOptions {
        workers: 1,
        spare_frames: 0,
        busy_poll_us: 0,
    }
}

/// One turn of a worker.
pub fn forward_once(io: &mut AfXdpIo, batch: &mut Vec<Received>) {
    io.receive(batch);
    for received in batch.drain(..) {
        let out = PortId(received.port.0 ^ 1);
        if let Err(frame) = io.transmit(out, received.frame) {
            io.recycle(frame);
        }
    }
    io.flush();
}

pub type Received =
    portcullis::dataplane::frame::Received<portcullis::dataplane::backend::afxdp::AfXdpFrame>;

/// A forwarder on a thread of its own.
pub struct Forwarder {
    pub steering: Vec<Steering>,
    pub control: AfXdpControl,
    reopened: Sender<ReopenedPort>,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<FrameBalance>>,
}

impl Forwarder {
    /// Opens the ports in the calling thread's network namespace.
    pub fn start(ports: &[PortRequest]) -> Self {
        let OpenPorts {
            steering,
            mut workers,
        } = open_ports(ports, &options()).unwrap_or_else(|error| panic!("{error}"));
        let mut io = workers.pop().expect("one worker");
        let control = io.control();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (reopened, inbox): (_, Receiver<ReopenedPort>) = mpsc::channel();
        let worker = thread::spawn(move || {
            let mut batch = Vec::with_capacity(BATCH_FRAMES_MAX);
            while !stopped.load(Ordering::Relaxed) {
                inbox.try_iter().for_each(|port| io.install(port));
                forward_once(&mut io, &mut batch);
                io.wait_for(Duration::from_millis(20), None);
            }
            io.balance()
        });
        Forwarder {
            steering,
            control,
            reopened,
            stop,
            worker: Some(worker),
        }
    }

    /// Hands a port that came back to the worker.
    pub fn install(&self, port: ReopenedPort) {
        self.reopened.send(port).expect("the worker runs");
    }

    /// The sum of a counter over all ports.
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self
            .steering
            .iter()
            .map(|port| port.counters().expect("counters"));
        let values = counters.flatten().filter(|(counter, _)| *counter == name);
        values.map(|(_, value)| value).sum()
    }

    /// Ends the worker and looks whether every frame is somewhere.
    pub fn stop(mut self) -> Vec<Steering> {
        self.end();
        std::mem::take(&mut self.steering)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            match worker.join() {
                Ok(balance) => assert!(balance.is_even(), "{balance:?}"),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}
