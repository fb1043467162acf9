//! One receive queue of a port: its socket, and what of the worker's frames it has.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::net::sockopt;
use rustix::net::xdp::{XdpDesc, XdpDescOptions};

use super::area::{AfXdpFrame, Frames};
use super::socket::Socket;
use super::{QueueState, QueueStatistics};
use crate::dataplane::frame::{BATCH_FRAMES_MAX, Received};
use crate::dataplane::verdict::PortId;

/// System calls one flush spends on sending a full transmit ring where the kernel sends few frames
/// a call; what is left then goes with the next flush.
const KICKS_MAX: u32 = 8;

/// What the control thread sees of a queue.
#[derive(Debug)]
pub struct QueueView {
    pub port: PortId,
    pub queue: u32,
    zero_copy: bool,
    state: AtomicU8,
    socket: OwnedFd,
}

impl QueueView {
    pub fn state(&self) -> QueueState {
        match self.state.load(Ordering::Relaxed) {
            0 => QueueState::Up,
            1 => QueueState::Down,
            _ => QueueState::Gone,
        }
    }

    fn set_state(&self, state: QueueState) {
        let code = match state {
            QueueState::Up => 0,
            QueueState::Down => 1,
            QueueState::Gone => 2,
        };
        self.state.store(code, Ordering::Relaxed);
    }

    pub fn statistics(&self) -> io::Result<QueueStatistics> {
        let counted = sockopt::xdp_statistics(&self.socket)?;
        Ok(QueueStatistics {
            port: self.port,
            queue: self.queue,
            state: self.state(),
            zero_copy: self.zero_copy,
            rx_dropped: counted.rx_dropped,
            rx_ring_full: counted.rx_ring_full.unwrap_or(0),
            rx_fill_ring_empty: counted.rx_fill_ring_empty_descs.unwrap_or(0),
            rx_invalid_descriptors: counted.rx_invalid_descs,
            tx_invalid_descriptors: counted.tx_invalid_descs,
            tx_ring_empty: counted.tx_ring_empty_descs.unwrap_or(0),
        })
    }
}

/// A queue as its worker has it.
#[derive(Debug)]
pub struct Queue {
    /// Its number among the worker's queues: the ledger's name for it.
    slot: u8,
    socket: Socket,
    view: Arc<QueueView>,
    /// Frames in the fill ring, the receive ring, or with the kernel for receiving.
    receiving: u32,
    /// Frames in the transmit ring, the completion ring, or with the kernel for sending.
    transmitting: u32,
    /// Frames it is to have for receiving.
    ring_frames: u32,
    /// Frames pushed to the transmit ring since the last flush.
    unpublished: bool,
    /// The last flush left frames in the transmit ring.
    unsent: bool,
    busy_poll: bool,
}

impl Queue {
    pub fn new(
        slot: u8,
        port: PortId,
        queue: u32,
        ring_frames: u32,
        busy_poll: bool,
        socket: Socket,
    ) -> io::Result<Self> {
        let view = QueueView {
            port,
            queue,
            zero_copy: socket.zero_copy(),
            state: AtomicU8::new(0),
            socket: socket.as_fd().try_clone_to_owned()?,
        };
        Ok(Queue {
            slot,
            socket,
            view: Arc::new(view),
            receiving: 0,
            transmitting: 0,
            ring_frames,
            unpublished: false,
            unsent: false,
            busy_poll,
        })
    }

    pub fn slot(&self) -> u8 {
        self.slot
    }

    pub fn port(&self) -> PortId {
        self.view.port
    }

    pub fn queue(&self) -> u32 {
        self.view.queue
    }

    pub fn view(&self) -> &Arc<QueueView> {
        &self.view
    }

    pub fn state(&self) -> QueueState {
        self.view.state()
    }

    /// Whether frames wait in the transmit ring of a usable port.
    pub fn has_unsent(&self) -> bool {
        self.unsent && self.state() != QueueState::Gone
    }

    pub fn set_gone(&self) {
        self.view.set_state(QueueState::Gone);
    }

    /// Frames it has, by its own count.
    pub fn frames(&self) -> u32 {
        self.receiving + self.transmitting
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Appends frames that have arrived.
    #[inline]
    pub fn receive(&mut self, frames: &mut Frames, batch: &mut Vec<Received<AfXdpFrame>>) {
        if self.busy_poll {
            // Errors show when something is sent, or on waiting.
            let _ = self.socket.poll_device();
        }
        let port = self.view.port;
        let receive = &mut self.socket.rings.receive;
        let mut taken = 0;
        while batch.len() < BATCH_FRAMES_MAX {
            let Some(descriptor) = receive.pop() else {
                break;
            };
            taken += 1;
            if let Some(frame) = frames.received(self.slot, descriptor.addr, descriptor.len) {
                batch.push(Received { port, frame });
            }
        }
        if taken > 0 {
            self.receiving -= taken;
            receive.release();
        }
    }

    /// Queues a frame; gives it back when the ring is full or the port unusable.
    #[inline]
    pub fn transmit(&mut self, frames: &mut Frames, frame: AfXdpFrame) -> Result<(), AfXdpFrame> {
        if self.view.state() != QueueState::Up {
            return Err(frame);
        }
        let Some((addr, len)) = frames.descriptor(&frame) else {
            return Err(frame);
        };
        let options = XdpDescOptions::empty();
        if !self
            .socket
            .rings
            .transmit
            .push(XdpDesc { addr, len, options })
        {
            return Err(frame);
        }
        frames.transmitted(self.slot, frame);
        self.transmitting += 1;
        self.unpublished = true;
        Ok(())
    }

    /// Publishes and sends what was queued, takes back what was sent.
    #[inline]
    pub fn flush_transmit(&mut self, frames: &mut Frames) {
        if self.unpublished {
            self.socket.rings.transmit.publish();
            self.unpublished = false;
            self.unsent = true;
        }
        if self.unsent && self.view.state() != QueueState::Gone {
            self.send();
        }
        if self.transmitting > 0 {
            self.complete(frames);
        }
    }

    #[inline]
    fn complete(&mut self, frames: &mut Frames) {
        let mut taken = 0;
        while let Some(address) = self.socket.rings.completion.pop() {
            taken += u32::from(frames.completed(self.slot, address));
        }
        if taken > 0 {
            self.transmitting -= taken;
            self.socket.rings.completion.release();
        }
    }

    /// Kicks the kernel until it has taken everything, for a bounded number of times.
    fn send(&mut self) {
        for _ in 0..KICKS_MAX {
            if self.socket.rings.transmit.needs_wakeup() {
                if let Err(error) = self.socket.kick() {
                    match error.raw_os_error() {
                        // It has sent what one call may send, or is out of something for now.
                        Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => {}
                        Some(libc::ENETDOWN) => {
                            self.view.set_state(QueueState::Down);
                            return;
                        }
                        _ => {
                            self.view.set_state(QueueState::Gone);
                            return;
                        }
                    }
                } else if self.view.state() == QueueState::Down {
                    self.view.set_state(QueueState::Up);
                }
            }
            self.unsent = self.socket.rings.transmit.unconsumed() > 0;
            if !self.unsent {
                return;
            }
        }
    }

    /// Gives the kernel frames to receive into.
    #[inline]
    pub fn refill(&mut self, frames: &mut Frames) {
        if self.receiving == self.ring_frames || self.view.state() == QueueState::Gone {
            return;
        }
        let fill = &mut self.socket.rings.fill;
        while self.receiving < self.ring_frames {
            let Some(address) = frames.take_for(self.slot) else {
                break;
            };
            // It has room for every frame that is not in `receiving`, but the kernel shows received
            // frames before it shows that it took theirs out of this ring (`xsk_flush`): between
            // the two it looks full.
            if !fill.push(address) {
                frames.completed(self.slot, address);
                break;
            }
            self.receiving += 1;
        }
        fill.publish();
        if fill.needs_wakeup() {
            let _ = self.socket.poll_device();
        }
    }
}
