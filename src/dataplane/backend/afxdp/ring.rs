//! The four rings of a socket: memory shared with the kernel, one side writes, the other reads.
//!
//! ```text
//!   consumer ──▶ ┌─┬─┬─┬─┬─┬─┬─┬─┐ ◀── producer      both only ever grow; an index is taken
//!                │ │▒│▒│▒│▒│ │ │ │                   modulo the size, a power of two
//!                └─┴─┴─┴─┴─┴─┴─┴─┘
//! ```
//!
//! fill and transmit: we produce, the kernel consumes. receive and completion: the other way round.
//! An entry belongs to the side that may touch it next; the index that hands it over is stored with
//! release and loaded with acquire ordering (Documentation/networking/af_xdp.rst, "Rings").
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::sockopt;
use rustix::net::xdp::{XdpDesc, XdpRingOffset};

/// One ring's memory.
#[derive(Debug)]
struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
    /// Mapping to undo; `None` in tests.
    mapping: Option<(NonNull<libc::c_void>, usize)>,
    _entries: PhantomData<T>,
}

// SAFETY: the pointers lead to memory that stays mapped as long as the ring exists and that is
// shared with the kernel alone; a ring has one user at a time, whichever thread it is on.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    /// Maps a ring of `size` entries of the socket.
    fn map(
        socket: BorrowedFd<'_>,
        offset: &XdpRingOffset,
        page_offset: u64,
        size: u32,
    ) -> io::Result<Self> {
        let Some(flags) = offset.flags else {
            // Kernels before 5.4.
            return Err(io::ErrorKind::Unsupported.into());
        };
        let bytes = offset.desc as usize + size as usize * size_of::<T>();
        // SAFETY: a new mapping, wherever the kernel wants it; nothing existing is touched.
        let memory = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_SHARED | libc::MAP_POPULATE;
            let page_offset = page_offset as libc::off_t;
            libc::mmap(
                ptr::null_mut(),
                bytes,
                protection,
                kind,
                socket.as_raw_fd(),
                page_offset,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(memory) = NonNull::new(memory) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        // SAFETY: the kernel states where in the mapping its structure's fields are: inside, and
        // aligned for their types.
        unsafe {
            Ok(Ring {
                producer: memory.byte_add(offset.producer as usize).cast(),
                consumer: memory.byte_add(offset.consumer as usize).cast(),
                flags: memory.byte_add(flags as usize).cast(),
                entries: memory.byte_add(offset.desc as usize).cast(),
                size,
                mapping: Some((memory, bytes)),
                _entries: PhantomData,
            })
        }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: valid as long as the mapping, which `self` keeps; only accessed atomically.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: masked to less than `size` entries, which the mapping holds.
        unsafe { self.entries.add((index & (self.size - 1)) as usize) }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        if let Some((memory, bytes)) = self.mapping {
            // SAFETY: the mapping made in `map`, unmapped once; no reference into it is left.
            unsafe { libc::munmap(memory.as_ptr(), bytes) };
        }
    }
}

/// A ring we put entries into: fill, transmit.
#[derive(Debug)]
pub struct ProducerRing<T> {
    ring: Ring<T>,
    /// Next entry to write; entries from the shared index up to here are not published yet.
    next: u32,
    /// The shared consumer index as last seen.
    consumed: u32,
}

impl<T: Copy> ProducerRing<T> {
    fn new(ring: Ring<T>) -> Self {
        let next = ring.producer().load(Ordering::Relaxed);
        let consumed = ring.consumer().load(Ordering::Acquire);
        ProducerRing {
            ring,
            next,
            consumed,
        }
    }

    /// Writes an entry, unless the ring is full.
    #[inline]
    pub fn push(&mut self, entry: T) -> bool {
        if self.next.wrapping_sub(self.consumed) == self.ring.size {
            self.consumed = self.ring.consumer().load(Ordering::Acquire);
            if self.next.wrapping_sub(self.consumed) >= self.ring.size {
                return false;
            }
        }
        // SAFETY: inside the ring; the consumer is past this entry and does not look at it before
        // `publish`.
        unsafe { self.ring.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Hands the entries written to the consumer.
    #[inline]
    pub fn publish(&mut self) {
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// Entries published that the consumer has not taken yet.
    #[inline]
    pub fn unconsumed(&mut self) -> u32 {
        self.consumed = self.ring.consumer().load(Ordering::Acquire);
        let published = self.ring.producer().load(Ordering::Relaxed);
        published.wrapping_sub(self.consumed)
    }

    /// Whether the kernel sleeps and wants a system call to go on (`XDP_RING_NEED_WAKEUP`).
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        // SAFETY: valid as long as the mapping; only accessed atomically.
        let flags = unsafe { self.ring.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// A ring we take entries out of: receive, completion.
#[derive(Debug)]
pub struct ConsumerRing<T> {
    ring: Ring<T>,
    /// Next entry to read; entries from the shared index up to here are not released yet.
    next: u32,
    /// The shared producer index as last seen.
    produced: u32,
}

impl<T: Copy> ConsumerRing<T> {
    fn new(ring: Ring<T>) -> Self {
        let next = ring.consumer().load(Ordering::Relaxed);
        ConsumerRing {
            ring,
            next,
            produced: next,
        }
    }

    /// Takes an entry, if there is one.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.next == self.produced {
            self.produced = self.ring.producer().load(Ordering::Acquire);
            if self.next == self.produced {
                return None;
            }
        }
        // SAFETY: inside the ring; the producer has published this entry and does not write it
        // again before `release`. The kernel writes whole entries of plain numbers.
        let entry = unsafe { self.ring.entry(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Gives the entries taken back to the producer.
    #[inline]
    pub fn release(&mut self) {
        self.ring.consumer().store(self.next, Ordering::Release);
    }
}

/// The rings of one socket.
#[derive(Debug)]
pub struct Rings {
    /// Frames for the kernel to receive into.
    pub fill: ProducerRing<u64>,
    /// Frames that have arrived.
    pub receive: ConsumerRing<XdpDesc>,
    /// Frames to send.
    pub transmit: ProducerRing<XdpDesc>,
    /// Frames that were sent.
    pub completion: ConsumerRing<u64>,
}

impl Rings {
    /// Maps the rings of a socket for which all four were made with `size` entries.
    pub fn map(socket: BorrowedFd<'_>, size: u32) -> io::Result<Self> {
        let offsets = sockopt::xdp_mmap_offsets(socket)?;
        let (fill, completion) = (
            libc::XDP_UMEM_PGOFF_FILL_RING,
            libc::XDP_UMEM_PGOFF_COMPLETION_RING,
        );
        let (receive, transmit) = (
            libc::XDP_PGOFF_RX_RING as u64,
            libc::XDP_PGOFF_TX_RING as u64,
        );
        Ok(Rings {
            fill: ProducerRing::new(Ring::map(socket, &offsets.fr, fill, size)?),
            receive: ConsumerRing::new(Ring::map(socket, &offsets.rx, receive, size)?),
            transmit: ProducerRing::new(Ring::map(socket, &offsets.tx, transmit, size)?),
            completion: ConsumerRing::new(Ring::map(socket, &offsets.cr, completion, size)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Memory of a ring, and both of its ends; indices start where they are about to wrap around.
    struct Pair {
        memory: Box<(AtomicU32, AtomicU32, AtomicU32, [u64; 8])>,
    }

    impl Pair {
        fn new() -> Self {
            let start = || AtomicU32::new(u32::MAX - 5);
            Pair {
                memory: Box::new((start(), start(), AtomicU32::new(0), [0; 8])),
            }
        }

        fn ends(&mut self) -> (ProducerRing<u64>, ConsumerRing<u64>) {
            let (producer, consumer, flags, entries) = &mut *self.memory;
            let ring = |entries| Ring {
                producer: NonNull::from(&*producer),
                consumer: NonNull::from(&*consumer),
                flags: NonNull::from(&*flags),
                entries,
                size: 8,
                mapping: None,
                _entries: PhantomData,
            };
            let entries = NonNull::from(entries).cast();
            (
                ProducerRing::new(ring(entries)),
                ConsumerRing::new(ring(entries)),
            )
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Push,
        Publish,
        Pop,
        Release,
    }

    proptest! {
        /// Against two queues: entries written, and entries published.
        #[test]
        fn behaves_like_a_bounded_queue(steps in prop::collection::vec(
            prop::sample::select(vec![Step::Push, Step::Publish, Step::Pop, Step::Release]),
            0..200,
        )) {
            let mut pair = Pair::new();
            let (mut producer, mut consumer) = pair.ends();
            let (mut written, mut published) = (VecDeque::new(), VecDeque::new());
            let (mut taken, mut count) = (0, 0u64);
            for step in steps {
                match step {
                    Step::Push => {
                        let room = written.len() + published.len() + taken < 8;
                        prop_assert_eq!(producer.push(count), room);
                        if room {
                            written.push_back(count);
                        }
                        count += 1;
                    }
                    Step::Publish => {
                        producer.publish();
                        published.append(&mut written);
                    }
                    Step::Pop => {
                        let entry = consumer.pop();
                        prop_assert_eq!(entry, published.pop_front());
                        taken += usize::from(entry.is_some());
                    }
                    Step::Release => {
                        consumer.release();
                        taken = 0;
                    }
                }
                let unconsumed = producer.unconsumed() as usize;
                prop_assert_eq!(unconsumed, published.len() + taken);
            }
        }
    }
}
