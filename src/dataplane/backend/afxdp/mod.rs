//! Frames of real interfaces: AF_XDP rings, one set for each receive queue a worker owns.

mod error;

use std::time::Duration;

use crate::dataplane::frame::{FrameBuffer, FrameIo, Received};
use crate::dataplane::verdict::PortId;
use crate::dataplane::xdp::{AttachRequest, Steering};

pub use error::AfXdpError;

/// Receive queues of an interface to bind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum QueueSelection {
    /// Every queue the interface has at present.
    #[default]
    All,
    /// Queues 0 to n - 1.
    First(u32),
    /// These queues.
    List(Vec<u32>),
}

/// Whether frames are copied between the kernel and the UMEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroCopy {
    /// Zero copy where the driver can, copy otherwise.
    #[default]
    Auto,
    /// Always copy.
    Never,
    /// Zero copy; an error where the driver cannot.
    Require,
}

/// One port to open.
#[derive(Debug, Clone)]
pub struct PortRequest {
    /// Its number in the data plane.
    pub port: PortId,
    /// Interface and steering.
    pub steering: AttachRequest,
    /// Queues to bind; each gets a socket.
    pub queues: QueueSelection,
    /// Copy or not.
    pub zero_copy: ZeroCopy,
    /// Bytes of a UMEM frame, 2048 or 4096; `None` means the smallest that holds the MTU.
    pub frame_size_bytes: Option<u32>,
    /// Descriptors in each ring; a power of two.
    pub ring_frames: u32,
}

/// What all ports share.
#[derive(Debug, Clone)]
pub struct IoOptions {
    /// Workers to spread the queues over: queue `i` of each port's list goes to worker
    /// `i % workers`.
    pub workers: usize,
    /// Frames that the data plane may hold (waiting for neighbours, fragments) without starving a
    /// ring.
    pub spare_frames: usize,
    /// Microseconds the kernel polls the device in one call of [`AfXdpIo::wait`]; 0 leaves it to
    /// interrupts.
    pub busy_poll_us: u32,
}

/// What [`open_ports`] opened.
#[derive(Debug)]
pub struct OpenPorts {
    /// In the order of the requests.
    pub steering: Vec<Steering>,
    /// One for each worker.
    pub workers: Vec<AfXdpIo>,
}

/// Attaches every port's steering program and opens every queue's socket, in the order that leaves
/// no moment open.
pub fn open_ports(_ports: &[PortRequest], _options: &IoOptions) -> Result<OpenPorts, AfXdpError> {
    Err(AfXdpError::NoPorts)
}

/// A frame in the UMEM.
#[derive(Debug)]
pub struct AfXdpFrame {}

impl FrameBuffer for AfXdpFrame {
    fn bytes(&self) -> &[u8] {
        &[]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }
    fn capacity(&self) -> usize {
        0
    }
    fn set_len(&mut self, _len: usize) {}
}

/// The rings of one worker.
#[derive(Debug)]
pub struct AfXdpIo {}

impl AfXdpIo {
    /// Sleeps until a frame arrives or the time is up.
    pub fn wait(&mut self, _timeout: Duration) {}

    /// For the control thread: statistics, and ports that come back.
    pub fn control(&self) -> AfXdpControl {
        AfXdpControl {}
    }

    /// Puts the reopened queues of a port in the place of the dead ones.
    pub fn install(&mut self, _port: ReopenedPort) {}
}

impl FrameIo for AfXdpIo {
    type Frame = AfXdpFrame;
    fn receive(&mut self, _batch: &mut Vec<Received<AfXdpFrame>>) {}
    fn transmit(&mut self, _port: PortId, frame: AfXdpFrame) -> Result<(), AfXdpFrame> {
        Err(frame)
    }
    fn recycle(&mut self, _frame: AfXdpFrame) {}
    fn flush(&mut self) {}
}

/// State of a queue's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueState {
    /// Usable.
    Up,
    /// The link is administratively down; frames are refused until it is up again.
    Down,
    /// The interface is gone; the port must be reopened.
    Gone,
}

/// One queue's figures; all count from the opening of its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatistics {
    /// Port.
    pub port: PortId,
    /// Receive queue.
    pub queue: u32,
    /// State.
    pub state: QueueState,
    /// Frames are not copied.
    pub zero_copy: bool,
    /// Frames dropped because they exceed a UMEM frame or memory ran out
    /// (`XDP_STATISTICS.rx_dropped`): super-frames, when GRO or GSO is on.
    pub rx_dropped: u64,
    /// Frames dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times the kernel found no frame to receive into.
    pub rx_fill_ring_empty: u64,
    /// Descriptors the kernel refused in the fill ring.
    pub rx_invalid_descriptors: u64,
    /// Descriptors the kernel refused in the transmit ring.
    pub tx_invalid_descriptors: u64,
    /// Times the kernel found the transmit ring empty.
    pub tx_ring_empty: u64,
}

/// The control thread's handle on a worker's rings.
#[derive(Debug, Clone)]
pub struct AfXdpControl {}

impl AfXdpControl {
    /// Figures of every queue.
    pub fn statistics(&self) -> Vec<QueueStatistics> {
        Vec::new()
    }

    /// Opens the sockets of a port whose interface was deleted and created again, for
    /// [`AfXdpIo::install`]. [`Steering::reattach`] comes first.
    pub fn reopen(&self, _port: &PortRequest) -> Result<ReopenedPort, AfXdpError> {
        Err(AfXdpError::NoPorts)
    }
}

/// Sockets of a port that came back, on their way to the worker.
#[derive(Debug)]
pub struct ReopenedPort {}
