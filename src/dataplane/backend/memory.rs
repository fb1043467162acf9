//! Frames in ordinary memory: what tests, benches, fuzzing and `replay` forward with.
//!
//! ```text
//!            inject              receive                transmit            take_sent
//!  free ─────────────▶ waiting ───────────▶ handed out ───────────▶ queued ──flush──▶ sent
//!    ▲                                          │                                      │
//!    └──────────────── recycle ─────────────────┴──────────────── recycle ─────────────┘
//! ```
//!
//! Every frame is in exactly one of these places, and [`MemoryIo::assert_conserved`] says so.

use std::collections::VecDeque;

use crate::dataplane::frame::{BATCH_FRAMES_MAX, FrameBuffer, FrameIo, Received};
use crate::dataplane::verdict::PortId;

/// One frame: a buffer of fixed capacity and the length in use.
#[derive(Debug)]
pub struct MemoryFrame {
    buffer: Box<[u8]>,
    len: usize,
    /// Given by whoever injected the frame, to know it again; 0 for a frame the data plane made.
    pub tag: u64,
}

impl FrameBuffer for MemoryFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }

    #[inline]
    fn capacity(&self) -> usize {
        self.buffer.len()
    }

    #[inline]
    fn set_len(&mut self, len: usize) {
        assert!(len <= self.buffer.len(), "{len} exceeds the frame");
        self.len = len;
    }
}

/// Why a frame cannot be injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// It does not fit.
    #[error("frame of {bytes} bytes; a frame holds {capacity_bytes} at the most")]
    TooLarge {
        /// Length of the frame.
        bytes: usize,
        /// Length of the pool's frames.
        capacity_bytes: usize,
    },
    /// The pool is empty.
    #[error("all {frames} frames are in use")]
    NoFreeFrame {
        /// Frames in the pool.
        frames: usize,
    },
}

/// Where all frames of a [`MemoryIo`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameBalance {
    /// In the pool.
    pub free: usize,
    /// Injected, not received yet.
    pub waiting: usize,
    /// Received, neither transmitted nor recycled yet.
    pub handed_out: usize,
    /// Transmitted, not taken by [`MemoryIo::take_sent`] yet.
    pub sent: usize,
}

/// A pool of frames with one receive queue for all ports and a transmit queue for each.
#[derive(Debug)]
pub struct MemoryIo {
    frames: usize,
    frame_bytes: usize,
    free: Vec<MemoryFrame>,
    waiting: VecDeque<Received<MemoryFrame>>,
    handed_out: usize,
    queued: Vec<TransmitQueue>,
    sent: VecDeque<(PortId, MemoryFrame)>,
}

#[derive(Debug)]
struct TransmitQueue {
    frames: Vec<MemoryFrame>,
    /// Frames it takes between two flushes; `None` while the port is gone.
    room: Option<usize>,
}

impl MemoryIo {
    /// A pool of `frames` frames of `frame_bytes` bytes each and `ports` ports, numbered from 0.
    /// Nothing is allocated afterwards.
    pub fn new(ports: u8, frames: usize, frame_bytes: usize) -> Self {
        let frame = |_| MemoryFrame {
            buffer: vec![0; frame_bytes].into_boxed_slice(),
            len: 0,
            tag: 0,
        };
        let queue = |_| TransmitQueue {
            frames: Vec::with_capacity(frames),
            room: Some(frames),
        };
        MemoryIo {
            frames,
            frame_bytes,
            free: (0..frames).map(frame).collect(),
            waiting: VecDeque::with_capacity(frames),
            handed_out: 0,
            queued: (0..ports).map(queue).collect(),
            sent: VecDeque::with_capacity(frames),
        }
    }

    /// Puts a frame into the receive queue of a port.
    ///
    /// # Errors
    /// When it does not fit a frame, or no frame is free.
    pub fn inject(&mut self, port: PortId, tag: u64, bytes: &[u8]) -> Result<(), InjectError> {
        if bytes.len() > self.frame_bytes {
            return Err(InjectError::TooLarge {
                bytes: bytes.len(),
                capacity_bytes: self.frame_bytes,
            });
        }
        let frames = self.frames;
        let none_free = InjectError::NoFreeFrame { frames };
        let mut frame = self.free.pop().ok_or(none_free)?;
        frame.buffer[..bytes.len()].copy_from_slice(bytes);
        frame.len = bytes.len();
        frame.tag = tag;
        self.waiting.push_back(Received { port, frame });
        Ok(())
    }

    /// The oldest frame that has left, with the port it left by. Its memory goes back by
    /// [`FrameIo::recycle`].
    pub fn take_sent(&mut self) -> Option<(PortId, MemoryFrame)> {
        let taken = self.sent.pop_front()?;
        self.handed_out += 1;
        Some(taken)
    }

    /// Copies out and recycles everything that has left, in order.
    pub fn drain_sent(&mut self) -> Vec<(PortId, Vec<u8>)> {
        let mut drained = Vec::with_capacity(self.sent.len());
        while let Some((port, frame)) = self.take_sent() {
            drained.push((port, frame.bytes().to_vec()));
            self.recycle(frame);
        }
        drained
    }

    /// Limits how many frames a port takes until the next flush (a full transmit ring), or with
    /// `None` takes the port away. Frames queued before stay queued.
    pub fn set_transmit_room(&mut self, port: PortId, room: Option<usize>) {
        self.queued[port.0 as usize].room = room;
    }

    /// Where all frames are.
    pub fn balance(&self) -> FrameBalance {
        let queued: usize = self.queued.iter().map(|queue| queue.frames.len()).sum();
        FrameBalance {
            free: self.free.len(),
            waiting: self.waiting.len(),
            handed_out: self.handed_out,
            sent: self.sent.len() + queued,
        }
    }

    /// Proves that no frame was lost, while `held` of them are kept by whoever received them.
    ///
    /// # Panics
    /// When frames are missing or there are too many.
    pub fn assert_conserved(&self, held: usize) {
        let balance = self.balance();
        let FrameBalance {
            free,
            waiting,
            handed_out,
            sent,
        } = balance;
        assert_eq!(
            free + waiting + handed_out + sent,
            self.frames,
            "{balance:?}"
        );
        assert_eq!(
            handed_out, held,
            "frames handed out and not given back: {balance:?}"
        );
    }
}

impl FrameIo for MemoryIo {
    type Frame = MemoryFrame;

    fn receive(&mut self, batch: &mut Vec<Received<MemoryFrame>>) {
        while batch.len() < BATCH_FRAMES_MAX {
            let Some(received) = self.waiting.pop_front() else {
                break;
            };
            self.handed_out += 1;
            batch.push(received);
        }
    }

    fn transmit(&mut self, port: PortId, frame: MemoryFrame) -> Result<(), MemoryFrame> {
        let queue = self.queued.get_mut(port.0 as usize);
        match queue {
            Some(TransmitQueue {
                frames,
                room: Some(room),
            }) if frames.len() < *room => {
                frames.push(frame);
                self.handed_out -= 1;
                Ok(())
            }
            _ => Err(frame),
        }
    }

    fn allocate(&mut self) -> Option<MemoryFrame> {
        let frame = self.free.pop()?;
        self.handed_out += 1;
        Some(frame)
    }

    fn recycle(&mut self, frame: MemoryFrame) {
        self.handed_out -= 1;
        self.free.push(frame);
    }

    fn flush(&mut self) {
        for (port, queue) in self.queued.iter_mut().enumerate() {
            let port = PortId(port as u8);
            let leaving = queue.frames.drain(..).map(|frame| (port, frame));
            self.sent.extend(leaving);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PortId = PortId(0);
    const B: PortId = PortId(1);

    fn received(io: &mut MemoryIo) -> Vec<Received<MemoryFrame>> {
        let mut batch = Vec::new();
        io.receive(&mut batch);
        batch
    }

    #[test]
    fn frames_go_round_in_order_and_none_is_lost() {
        let mut io = MemoryIo::new(2, 4, 64);
        for tag in 1..=4 {
            io.inject(A, tag, &[tag as u8; 20]).unwrap();
        }
        assert_eq!(
            io.inject(A, 5, &[0]),
            Err(InjectError::NoFreeFrame { frames: 4 })
        );
        for (at, Received { port, mut frame }) in received(&mut io).into_iter().enumerate() {
            assert_eq!((port, frame.tag), (A, at as u64 + 1));
            if at % 2 == 0 {
                frame.set_len(21);
                io.transmit(B, frame).unwrap();
            } else {
                io.recycle(frame);
            }
        }
        assert!(
            io.drain_sent().is_empty(),
            "nothing leaves before the flush"
        );
        io.assert_conserved(0);
        io.flush();
        let sent = io.drain_sent();
        assert_eq!(sent.len(), 2);
        assert_eq!((sent[0].0, sent[0].1.len(), sent[0].1[0]), (B, 21, 1));
        assert_eq!(io.balance().free, 4);
    }

    #[test]
    fn a_batch_is_no_larger_than_the_constant() {
        let mut io = MemoryIo::new(1, 100, 64);
        for tag in 0..100 {
            io.inject(A, tag, &[0; 14]).unwrap();
        }
        let mut batch = received(&mut io);
        assert_eq!(batch.len(), BATCH_FRAMES_MAX);
        io.receive(&mut batch);
        assert_eq!(batch.len(), BATCH_FRAMES_MAX);
    }

    #[test]
    fn a_full_ring_and_a_missing_port_give_the_frame_back() {
        let mut io = MemoryIo::new(2, 4, 64);
        io.set_transmit_room(B, Some(1));
        for tag in 0..4 {
            io.inject(A, tag, &[0; 14]).unwrap();
        }
        let mut batch = received(&mut io);
        let mut send = |io: &mut MemoryIo, port| {
            let frame = batch.pop().unwrap().frame;
            io.transmit(port, frame).map_err(|frame| io.recycle(frame))
        };
        assert!(send(&mut io, B).is_ok());
        assert!(send(&mut io, B).is_err());
        assert!(send(&mut io, PortId(9)).is_err());
        io.set_transmit_room(A, None);
        assert!(send(&mut io, A).is_err());
        io.flush();
        assert_eq!(io.drain_sent().len(), 1);
        io.assert_conserved(0);
    }

    #[test]
    fn an_oversized_frame_is_refused_by_name() {
        let mut io = MemoryIo::new(1, 1, 64);
        let error = io.inject(A, 0, &[0; 65]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "frame of 65 bytes; a frame holds 64 at the most"
        );
        assert!(io.inject(A, 0, &[0; 64]).is_ok());
    }

    #[test]
    #[should_panic(expected = "frames handed out and not given back")]
    fn a_lost_frame_is_noticed() {
        let mut io = MemoryIo::new(1, 1, 64);
        io.inject(A, 0, &[0; 14]).unwrap();
        drop(received(&mut io));
        io.assert_conserved(0);
    }
}
