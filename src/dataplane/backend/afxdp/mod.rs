//! Frames of real interfaces: AF_XDP rings, one set for each receive queue a worker owns.

mod area;
mod control;
mod error;
mod open;
mod queue;
mod ring;
mod socket;
mod waiting;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::dataplane::frame::{BATCH_FRAMES_MAX, FrameIo, Received};
use crate::dataplane::verdict::PortId;
use crate::dataplane::xdp::{AttachRequest, Steering};
use area::{Area, Frames};
use queue::Queue;
use waiting::Waiting;

pub use area::AfXdpFrame;
pub use control::{AfXdpControl, ReopenedPort};
pub use error::{AfXdpError, mtu_max};
pub use open::{FRAME_SIZES, open_ports};

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

/// Longest sleep while frames wait in a transmit ring.
const UNSENT_RETRY: Duration = Duration::from_millis(1);

/// The rings of one worker.
#[derive(Debug)]
pub struct AfXdpIo {
    frames: Frames,
    /// By slot, the ledger's number for a queue.
    queues: Vec<Queue>,
    /// The slot each port's frames leave by.
    transmit_slots: Vec<Option<u8>>,
    /// Where the next batch starts, so that a busy queue does not starve the others.
    next_slot: usize,
    waiting: Waiting,
    control: AfXdpControl,
}

impl AfXdpIo {
    fn new(area: Area, queues: Vec<Queue>, busy_poll_us: u32) -> Self {
        let mut transmit_slots = vec![None; usize::from(u8::MAX) + 1];
        for queue in queues.iter().rev() {
            transmit_slots[usize::from(queue.port().0)] = Some(queue.slot());
        }
        let views = queues.iter().map(|queue| queue.view().clone()).collect();
        let mut io = AfXdpIo {
            frames: Frames::new(area.clone()),
            waiting: Waiting::new(&queues),
            queues,
            transmit_slots,
            next_slot: 0,
            control: AfXdpControl {
                area,
                busy_poll_us,
                views: Arc::new(ArcSwap::from_pointee(views)),
            },
        };
        io.flush();
        io
    }

    /// Sleeps until a frame arrives, `bell` is readable or the time is up.
    pub fn wait_for(&mut self, timeout: Duration, bell: Option<BorrowedFd<'_>>) {
        // What the kernel would not take at once is offered again soon.
        let unsent = self.queues.iter().any(Queue::has_unsent);
        let timeout = if unsent {
            timeout.min(UNSENT_RETRY)
        } else {
            timeout
        };
        for slot in self.waiting.wait(timeout, bell) {
            // An error on the socket itself: its interface was deleted.
            self.queues[slot].set_gone();
        }
    }

    /// For the control thread: statistics, and ports that come back.
    pub fn control(&self) -> AfXdpControl {
        self.control.clone()
    }

    /// Puts the reopened queues of a port in the place of the dead ones, and takes back the frames
    /// these had.
    pub fn install(&mut self, port: ReopenedPort) {
        for queue in port.queues {
            let slot = queue.slot();
            let old = &mut self.queues[usize::from(slot)];
            self.waiting.replace(usize::from(slot), &queue);
            let mut views = self.control.views.load().as_ref().clone();
            views[usize::from(slot)] = queue.view().clone();
            self.control.views.store(Arc::new(views));
            // The old socket is closed before its frames are used again. libbpf empties its entry
            // in the steering program's map, where the new socket is already.
            drop(std::mem::replace(old, queue));
            self.frames.reclaim(slot);
            if port
                .sockets
                .register(old.queue(), old.descriptor())
                .is_err()
            {
                old.set_gone();
            }
        }
        self.flush();
    }

    /// Where all frames are; the sum is always the same.
    pub fn balance(&self) -> FrameBalance {
        FrameBalance {
            total: self.frames.area().frames(),
            free: self.frames.free() as u32,
            handed_out: self.frames.handed_out(),
            in_queues: self.queues.iter().map(Queue::frames).sum(),
        }
    }
}

impl FrameIo for AfXdpIo {
    type Frame = AfXdpFrame;

    #[inline]
    fn receive(&mut self, batch: &mut Vec<Received<AfXdpFrame>>) {
        for _ in 0..self.queues.len() {
            let slot = self.next_slot;
            self.next_slot = (slot + 1) % self.queues.len();
            self.queues[slot].receive(&mut self.frames, batch);
            if batch.len() >= BATCH_FRAMES_MAX {
                break;
            }
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortId, frame: AfXdpFrame) -> Result<(), AfXdpFrame> {
        match self.transmit_slots[usize::from(port.0)] {
            Some(slot) => self.queues[usize::from(slot)].transmit(&mut self.frames, frame),
            None => Err(frame),
        }
    }

    #[inline]
    fn allocate(&mut self) -> Option<AfXdpFrame> {
        self.frames.take()
    }

    #[inline]
    fn recycle(&mut self, frame: AfXdpFrame) {
        self.frames.recycle(frame);
    }

    #[inline]
    fn flush(&mut self) {
        for queue in &mut self.queues {
            queue.flush_transmit(&mut self.frames);
        }
        for queue in &mut self.queues {
            queue.refill(&mut self.frames);
        }
        debug_assert!(self.balance().is_even(), "{:?}", self.balance());
    }

    fn wait(&mut self, timeout_ms: u32, bell: Option<BorrowedFd<'_>>) {
        self.wait_for(Duration::from_millis(timeout_ms.into()), bell);
    }
}

impl Drop for AfXdpIo {
    fn drop(&mut self) {
        self.queues.clear();
        self.frames.area().discard();
    }
}

/// Where all frames of a worker are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameBalance {
    /// Frames in all.
    pub total: u32,
    /// In the pool.
    pub free: u32,
    /// Received or allocated, neither transmitted nor recycled yet.
    pub handed_out: u32,
    /// In rings, or with the kernel.
    pub in_queues: u32,
}

impl FrameBalance {
    /// None is lost, none is in two places.
    pub fn is_even(&self) -> bool {
        self.free + self.handed_out + self.in_queues == self.total
    }
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
