//! Frames, batches of them, and where they come from.

use std::os::fd::BorrowedFd;

use super::verdict::PortId;

/// A frame's memory: the bytes that hold the packet, inside a buffer with room to grow.
pub trait FrameBuffer {
    /// The packet's bytes.
    fn bytes(&self) -> &[u8];
    /// The packet's bytes, to rewrite.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Bytes the packet may grow to.
    fn capacity(&self) -> usize;
    /// Changes the length of the packet; bytes beyond the old length have any value.
    ///
    /// # Panics
    /// When `len` exceeds [`FrameBuffer::capacity`].
    fn set_len(&mut self, len: usize);
}

/// A frame as it came in.
#[derive(Debug)]
pub struct Received<F> {
    /// Port it came in on.
    pub port: PortId,
    /// Its memory.
    pub frame: F,
}

/// Frames of one batch at the most. Big enough to amortise ring and clock reads, small enough for
/// the L1 cache.
pub const BATCH_FRAMES_MAX: usize = 64;

/// Where a worker's frames come from and go to: AF_XDP rings, captures, memory.
///
/// Every frame handed out by [`FrameIo::receive`] comes back by [`FrameIo::transmit`] or
/// [`FrameIo::recycle`]; implementations assert that none is lost.
pub trait FrameIo {
    /// The backend's kind of frame memory.
    type Frame: FrameBuffer;

    /// Appends frames that have arrived to `batch`, up to [`BATCH_FRAMES_MAX`] in all. Never
    /// blocks.
    fn receive(&mut self, batch: &mut Vec<Received<Self::Frame>>);

    /// Queues a frame to leave by `port`. Gives it back when the port's ring is full or the port is
    /// gone.
    fn transmit(&mut self, port: PortId, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// A free frame, for a packet that comes from elsewhere; `None` when the pool is empty.
    fn allocate(&mut self) -> Option<Self::Frame>;

    /// Returns a frame's memory to the pool.
    fn recycle(&mut self, frame: Self::Frame);

    /// Gives queued frames to the device, takes back sent ones, refills the receive rings: once a
    /// batch.
    fn flush(&mut self);

    /// Sleeps until a frame has arrived, `bell` is readable or `timeout_ms` has passed, where the
    /// backend can.
    fn wait(&mut self, timeout_ms: u32, bell: Option<BorrowedFd<'_>>) {
        let _ = (timeout_ms, bell);
    }
}
