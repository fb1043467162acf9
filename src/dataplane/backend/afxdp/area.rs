//! A worker's frames: one memory area that all its sockets share, and where each frame is.
//!
//! ```text
//!            take              receive            transmit
//!   pool ───────────▶ queue i ─────────▶ handed ───────────▶ queue j
//!    ▲ ▲   (fill ring)         out         │                   │ (completion ring)
//!    │ └──────────────── recycle ──────────┘                   │
//!    └─────────────────────────────────────────────────────────┘
//! ```
//!
//! The same area is registered with every socket, so a frame received on one port is sent by
//! another without a copy. Each frame is in exactly one place, and the ledger knows which: it finds
//! a frame that is lost or used twice, and it gives back the frames of an interface that was
//! deleted.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use afxdp::mmap_area::{MmapArea, MmapAreaOptions};

use super::error::AfXdpError;
use crate::dataplane::frame::FrameBuffer;

/// Bytes the kernel keeps free before a packet (`XDP_PACKET_HEADROOM`).
pub const HEADROOM_BYTES: u32 = 256;

/// The mapped memory, registered with the kernel as UMEM. It is never unmapped: frames point into
/// it without borrowing it.
#[derive(Debug, Clone)]
pub struct Area {
    memory: Arc<MmapArea<'static, ()>>,
    frame_size_bytes: u32,
    frames: u32,
}

impl Area {
    /// Maps memory for `frames` frames of `frame_size_bytes`, a power of two.
    pub fn map(frames: u32, frame_size_bytes: u32) -> Result<Self, AfXdpError> {
        assert!(frame_size_bytes.is_power_of_two());
        let options = MmapAreaOptions { huge_tlb: false };
        let mapped = MmapArea::<()>::new(frames as usize, frame_size_bytes as usize, options);
        // The crate's own buffers are not used: dropping them does nothing.
        let (memory, _buffers) = mapped.map_err(|_| AfXdpError::Memory {
            bytes: u64::from(frames) * u64::from(frame_size_bytes),
        })?;
        // One owner that never goes: see above.
        std::mem::forget(memory.clone());
        Ok(Area {
            memory,
            frame_size_bytes,
            frames,
        })
    }

    /// For the registration with a socket.
    pub fn memory(&self) -> Arc<MmapArea<'static, ()>> {
        self.memory.clone()
    }

    /// Bytes of one frame, headroom included.
    pub fn frame_size_bytes(&self) -> u32 {
        self.frame_size_bytes
    }

    /// Number of frames.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    fn base(&self) -> *mut u8 {
        self.memory.get_ptr().cast()
    }

    /// Has the kernel put every page in place, which the registration with a socket would do later.
    /// A refusal (before Linux 5.14) leaves it to that.
    pub fn populate(&self) {
        // SAFETY: the whole mapping made by `map`; its contents stay as they are.
        unsafe { libc::madvise(self.base().cast(), self.bytes(), libc::MADV_POPULATE_WRITE) };
    }

    /// Gives the memory back to the system, though not the addresses: for the end of a worker.
    pub fn discard(&self) {
        // SAFETY: the whole mapping made by `map`. Its contents become zeros; what frames may still
        // point to stays mapped.
        unsafe { libc::madvise(self.base().cast(), self.bytes(), libc::MADV_DONTNEED) };
    }

    fn bytes(&self) -> usize {
        self.frames as usize * self.frame_size_bytes as usize
    }
}

/// A frame in the area. Whoever has it owns its bytes.
#[derive(Debug)]
pub struct AfXdpFrame {
    /// The packet's first byte.
    data: NonNull<u8>,
    index: u32,
    len: u16,
    capacity: u16,
}

// SAFETY: the frame is the only owner of its part of the area, which no thread unmaps.
unsafe impl Send for AfXdpFrame {}

impl FrameBuffer for AfXdpFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes from `data` on are inside the frame's part of the area (checked where
        // the frame is made and in `set_len`), always mapped, and owned by `self`.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), usize::from(self.len)) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), usize::from(self.len)) }
    }

    #[inline]
    fn capacity(&self) -> usize {
        usize::from(self.capacity)
    }

    #[inline]
    fn set_len(&mut self, len: usize) {
        assert!(len <= usize::from(self.capacity), "{len} exceeds the frame");
        self.len = len as u16;
    }
}

/// Where a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the pool.
    Pool,
    /// With the data plane.
    HandedOut,
    /// In the rings of this queue, or with the kernel.
    Queue(u8),
}

const POOL: u8 = 0;
const HANDED_OUT: u8 = 1;
const FIRST_QUEUE: u8 = 2;

/// Queues one worker can have.
pub const WORKER_QUEUES_MAX: usize = 254;

impl Place {
    #[inline]
    const fn code(self) -> u8 {
        match self {
            Place::Pool => POOL,
            Place::HandedOut => HANDED_OUT,
            Place::Queue(queue) => FIRST_QUEUE + queue,
        }
    }
}

/// The frames that are free, and the place of every frame.
#[derive(Debug)]
pub struct Frames {
    area: Area,
    free: Vec<u32>,
    places: Vec<u8>,
    handed_out: u32,
}

impl Frames {
    /// All frames free.
    pub fn new(area: Area) -> Self {
        let frames = area.frames();
        Frames {
            area,
            // The last pushed is the first taken: low indices first.
            free: (0..frames).rev().collect(),
            places: vec![POOL; frames as usize],
            handed_out: 0,
        }
    }

    /// The area.
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// Frames in the pool.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Frames with the data plane.
    pub fn handed_out(&self) -> u32 {
        self.handed_out
    }

    /// Takes a free frame for a queue's fill ring: its address there.
    #[inline]
    pub fn take_for(&mut self, queue: u8) -> Option<u64> {
        let index = self.free.pop()?;
        self.move_frame(index, Place::Pool, Place::Queue(queue));
        Some(u64::from(index) * u64::from(self.area.frame_size_bytes))
    }

    /// Takes a free frame for a packet the data plane makes itself; its length is 0.
    #[inline]
    pub fn take(&mut self) -> Option<AfXdpFrame> {
        let index = self.free.pop()?;
        self.move_frame(index, Place::Pool, Place::HandedOut);
        self.handed_out += 1;
        let address = u64::from(index) * u64::from(self.area.frame_size_bytes);
        self.frame(index, address + u64::from(HEADROOM_BYTES), 0)
    }

    /// A frame the kernel has received into, from a queue's descriptor. `None` when the descriptor
    /// makes no sense; the frame is back in the pool then.
    #[inline]
    pub fn received(&mut self, queue: u8, address: u64, len: u32) -> Option<AfXdpFrame> {
        let index = self.index_of(address)?;
        if self.places[index as usize] != Place::Queue(queue).code() {
            return None;
        }
        let Some(frame) = self.frame(index, address, len) else {
            self.completed(queue, address);
            return None;
        };
        self.move_frame(index, Place::Queue(queue), Place::HandedOut);
        self.handed_out += 1;
        Some(frame)
    }

    /// The descriptor to send a frame of ours with; the frame then belongs to the queue.
    #[inline]
    pub fn transmitted(&mut self, queue: u8, frame: AfXdpFrame) {
        self.move_frame(frame.index, Place::HandedOut, Place::Queue(queue));
        self.handed_out -= 1;
    }

    /// Address and length of a frame, for a transmit ring; `None` for a frame of another worker.
    #[inline]
    pub fn descriptor(&self, frame: &AfXdpFrame) -> Option<(u64, u32)> {
        let address = (frame.data.as_ptr() as usize).checked_sub(self.area.base() as usize)?;
        let index = self.index_of(address as u64)?;
        (index == frame.index).then_some((address as u64, u32::from(frame.len)))
    }

    /// Takes a frame back from a queue: it was sent. Whether the address made sense.
    #[inline]
    pub fn completed(&mut self, queue: u8, address: u64) -> bool {
        let Some(index) = self.index_of(address) else {
            return false;
        };
        if self.places[index as usize] != Place::Queue(queue).code() {
            return false;
        }
        self.move_frame(index, Place::Queue(queue), Place::Pool);
        self.free.push(index);
        true
    }

    /// Takes a frame back from the data plane. One of another worker is lost to that worker.
    #[inline]
    pub fn recycle(&mut self, frame: AfXdpFrame) {
        if self.descriptor(&frame).is_none() {
            debug_assert!(false, "a frame of another worker was recycled here");
            return;
        }
        self.move_frame(frame.index, Place::HandedOut, Place::Pool);
        self.handed_out -= 1;
        self.free.push(frame.index);
    }

    /// Takes back everything a queue had, whose socket is closed. Returns the number of frames.
    pub fn reclaim(&mut self, queue: u8) -> usize {
        let before = self.free.len();
        let code = Place::Queue(queue).code();
        for (index, place) in self.places.iter_mut().enumerate() {
            if *place == code {
                *place = POOL;
                self.free.push(index as u32);
            }
        }
        self.free.len() - before
    }

    /// Number of frames in a place, counted one by one.
    #[cfg(test)]
    fn count(&self, place: Place) -> usize {
        let code = place.code();
        self.places.iter().filter(|place| **place == code).count()
    }

    #[inline]
    fn move_frame(&mut self, index: u32, from: Place, to: Place) {
        let place = &mut self.places[index as usize];
        debug_assert_eq!(
            *place,
            from.code(),
            "frame {index} is not where it should be"
        );
        *place = to.code();
    }

    #[inline]
    fn index_of(&self, address: u64) -> Option<u32> {
        let index = address >> self.area.frame_size_bytes.trailing_zeros();
        (index < u64::from(self.area.frames)).then_some(index as u32)
    }

    /// `None` when the packet is not inside the frame.
    #[inline]
    fn frame(&self, index: u32, address: u64, len: u32) -> Option<AfXdpFrame> {
        let offset = address & u64::from(self.area.frame_size_bytes - 1);
        let capacity = self.area.frame_size_bytes - offset as u32;
        if len > capacity {
            return None;
        }
        // SAFETY: `address` lies in frame `index` of the area, which is mapped.
        let data = unsafe { NonNull::new_unchecked(self.area.base().add(address as usize)) };
        Some(AfXdpFrame {
            data,
            index,
            len: len as u16,
            capacity: capacity as u16,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Frames {
        Frames::new(Area::map(8, 2048).unwrap())
    }

    #[test]
    fn a_frame_goes_round_and_is_always_somewhere() {
        let mut frames = frames();
        let address = frames.take_for(0).unwrap();
        assert_eq!((frames.free(), frames.count(Place::Queue(0))), (7, 1));
        let mut frame = frames.received(0, address + 256, 60).unwrap();
        assert_eq!((frame.bytes().len(), frame.capacity()), (60, 1792));
        frame.bytes_mut()[59] = 7;
        frame.set_len(1792);
        assert_eq!(frame.bytes()[59], 7);
        assert_eq!(frames.handed_out(), 1);
        assert_eq!(frames.descriptor(&frame), Some((address + 256, 1792)));
        frames.transmitted(1, frame);
        assert_eq!(frames.count(Place::Queue(1)), 1);
        assert!(frames.completed(1, address + 256));
        assert_eq!((frames.free(), frames.count(Place::Pool)), (8, 8));
        assert!(!frames.completed(1, address + 256), "not twice");
    }

    #[test]
    fn what_the_kernel_cannot_have_meant_is_refused() {
        let mut frames = frames();
        let address = frames.take_for(3).unwrap();
        assert!(
            frames.received(2, address + 256, 60).is_none(),
            "another queue's"
        );
        assert!(frames.received(3, 8 * 2048, 60).is_none(), "outside");
        assert!(
            frames.received(3, address + 256, 1793).is_none(),
            "too long"
        );
        assert_eq!(frames.free(), 8, "the frame is free again");
    }

    #[test]
    fn a_closed_queue_gives_its_frames_back() {
        let mut frames = frames();
        for _ in 0..5 {
            frames.take_for(1).unwrap();
        }
        frames.take_for(0).unwrap();
        assert_eq!(frames.reclaim(1), 5);
        assert_eq!((frames.free(), frames.count(Place::Queue(0))), (7, 1));
    }

    #[test]
    fn frames_of_another_worker_are_recognised() {
        let (mut ours, mut theirs) = (frames(), frames());
        let frame = theirs.take().unwrap();
        assert!(ours.descriptor(&frame).is_none());
        assert!(theirs.descriptor(&frame).is_some());
        theirs.recycle(frame);
        assert!(ours.take().is_some());
    }

    #[test]
    #[should_panic(expected = "exceeds the frame")]
    fn a_frame_does_not_grow_beyond_its_memory() {
        frames().take().unwrap().set_len(1793);
    }
}
