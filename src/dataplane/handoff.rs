//! Frames that arrive at one worker and belong to another: copied into a bounded ring.
//!
//! Receive queues spread frames by hashes of their own, which send the two directions of a flow,
//! its fragments and the ICMP errors about it to different workers. A packet belongs to the worker
//! that its pair of addresses hashes to, whichever way it goes; every other worker hands it over.
//!
//! The ring says nothing to a worker that sleeps in the kernel, so each has a bell (an eventfd) in
//! the set it sleeps on. It is rung once a sleep: a busy worker costs its givers no system call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use super::verdict::PortId;
use crate::wire::FlowKey;

/// A frame on its way to another worker.
struct Parcel {
    port: PortId,
    len: usize,
    bytes: Box<[u8]>,
}

/// One worker's ring, the empty buffers it takes frames in, and its bell.
struct Inbox {
    full: ArrayQueue<Parcel>,
    empty: ArrayQueue<Box<[u8]>>,
    asleep: AtomicBool,
    bell: OwnedFd,
}

/// All workers' rings, as one of them sees them.
#[derive(Clone)]
pub struct Handoff {
    number: usize,
    inboxes: Arc<[Inbox]>,
}

impl Handoff {
    /// Rings of `frames_max` frames of `frame_bytes` bytes for each worker; one handle a worker.
    /// With a single worker nothing is allocated.
    ///
    /// # Errors
    /// The system has no descriptor left for a bell.
    pub fn for_workers(
        workers: usize,
        frames_max: usize,
        frame_bytes: usize,
    ) -> io::Result<Vec<Handoff>> {
        if workers <= 1 {
            return Ok((0..workers).map(|_| Handoff::single()).collect());
        }
        let inbox = |_| {
            let empty = ArrayQueue::new(frames_max.max(1));
            for _ in 0..empty.capacity() {
                let _ = empty.push(vec![0; frame_bytes].into_boxed_slice());
            }
            Ok(Inbox {
                full: ArrayQueue::new(empty.capacity()),
                empty,
                asleep: AtomicBool::new(false),
                bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            })
        };
        let inboxes: Arc<[Inbox]> = (0..workers).map(inbox).collect::<io::Result<_>>()?;
        let handle = |number| Handoff {
            number,
            inboxes: inboxes.clone(),
        };
        Ok((0..workers).map(handle).collect())
    }

    /// The only worker there is.
    pub fn single() -> Handoff {
        Handoff {
            number: 0,
            inboxes: Arc::new([]),
        }
    }

    /// This worker's number, and how many there are.
    pub fn share(&self) -> (u16, u16) {
        (self.number as u16, self.inboxes.len().max(1) as u16)
    }

    /// The other worker that answers to an external port belong to; `None` when it is this one.
    /// Each worker gives out those ports that leave its number when divided by the number of
    /// workers, so that they come back to it.
    #[inline]
    pub fn port_owner(&self, port: u16) -> Option<u8> {
        let (number, workers) = self.share();
        let owner = port % workers;
        (owner != number).then_some(owner as u8)
    }

    /// Are there other workers?
    #[inline]
    pub fn is_alone(&self) -> bool {
        self.inboxes.len() <= 1
    }

    /// The other worker a packet belongs to; `None` when it is this one.
    #[inline]
    pub fn owner(&self, key: &FlowKey) -> Option<u8> {
        if self.inboxes.len() <= 1 {
            return None;
        }
        let owner = owner_of(key, self.inboxes.len());
        (owner != self.number).then_some(owner as u8)
    }

    /// Copies a frame into another worker's ring; false when the ring is full or the frame too
    /// long.
    pub fn give(&self, worker: u8, port: PortId, frame: &[u8]) -> bool {
        let Some(inbox) = self.inboxes.get(worker as usize) else {
            return false;
        };
        let Some(mut bytes) = inbox.empty.pop() else {
            return false;
        };
        let Some(room) = bytes.get_mut(..frame.len()) else {
            let _ = inbox.empty.push(bytes);
            return false;
        };
        room.copy_from_slice(frame);
        let parcel = Parcel {
            port,
            len: frame.len(),
            bytes,
        };
        // There are as many places as buffers.
        let given = inbox.full.push(parcel).is_ok();
        // Pairs with the one in `may_sleep`: either this sees it asleep, or it sees the parcel.
        fence(Ordering::SeqCst);
        if inbox.asleep.load(Ordering::Relaxed) && inbox.asleep.swap(false, Ordering::Relaxed) {
            // Fails only when it rings already.
            let _ = rustix::io::write(&inbox.bell, &1_u64.to_ne_bytes());
        }
        given
    }

    /// Announces that this worker goes to sleep, with its [`Handoff::bell`] among what wakes it.
    /// False when a frame is there already: it must not sleep then. [`Handoff::awake`] comes after.
    pub fn may_sleep(&self) -> bool {
        let Some(inbox) = self.inboxes.get(self.number) else {
            return true;
        };
        inbox.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        inbox.full.is_empty()
    }

    /// Silences the bell after a sleep.
    pub fn awake(&self) {
        if let Some(inbox) = self.inboxes.get(self.number) {
            inbox.asleep.store(false, Ordering::Relaxed);
            // Fails when nobody rang. One who rings only now makes the next sleep a short one.
            let _ = rustix::io::read(&inbox.bell, &mut [0; 8]);
        }
    }

    /// Readable when another worker has a frame for this one while it sleeps.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.inboxes
            .get(self.number)
            .map(|inbox| inbox.bell.as_fd())
    }

    /// Are there frames of other workers?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.inboxes
            .get(self.number)
            .is_none_or(|inbox| inbox.full.is_empty())
    }

    /// Takes the oldest frame another worker has handed over: `take` copies it.
    pub fn take<R>(&self, take: impl FnOnce(PortId, &[u8]) -> R) -> Option<R> {
        let inbox = self.inboxes.get(self.number)?;
        let parcel = inbox.full.pop()?;
        let taken = take(parcel.port, &parcel.bytes[..parcel.len]);
        let _ = inbox.empty.push(parcel.bytes);
        Some(taken)
    }
}

/// The same for both directions of every flow between two addresses, for fragments without ports
/// and for ICMP errors by the packet they quote.
fn owner_of(key: &FlowKey, workers: usize) -> usize {
    let [source_high, source_low] = key.source.halves();
    let [destination_high, destination_low] = key.destination.halves();
    let both = (source_high ^ destination_high)
        .rotate_left(32)
        .wrapping_add(source_low ^ destination_low)
        .wrapping_add(u64::from(key.zone));
    // Fibonacci hashing: the high bits depend on all.
    let mixed = both.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 32) as usize * workers) >> 32
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::wire::{Address, Family, protocol};

    fn key(source: u128, destination: u128) -> FlowKey {
        FlowKey {
            source: Address::from_bits(source),
            destination: Address::from_bits(destination),
            source_port: 1,
            destination_port: 2,
            zone: 0,
            protocol: protocol::UDP,
            family: Family::V4,
        }
    }

    #[test]
    fn both_directions_belong_to_one_worker_and_all_workers_have_some() {
        for workers in [2, 3, 4, 8] {
            let mut seen = vec![0; workers];
            for host in 0..1000 {
                let key = key(0xc612_0000 + host, 0xc613_0001);
                let owner = owner_of(&key, workers);
                assert_eq!(owner, owner_of(&key.reversed().unwrap(), workers));
                seen[owner] += 1;
            }
            assert!(seen.iter().all(|&count| count > 500 / workers), "{seen:?}");
        }
    }

    #[test]
    fn a_ring_takes_what_it_has_room_for_and_gives_it_back_in_order() {
        let workers = Handoff::for_workers(2, 2, 64).unwrap();
        assert!(workers[0].give(1, PortId(3), b"one"));
        assert!(workers[0].give(1, PortId(4), b"two"));
        assert!(!workers[0].give(1, PortId(5), b"three"), "full");
        let taken = workers[1].take(|port, bytes| (port, bytes.to_vec()));
        assert_eq!(taken, Some((PortId(3), b"one".to_vec())));
        assert!(!workers[0].give(1, PortId(5), &[0; 65]), "too long");
        assert!(workers[0].give(1, PortId(5), &[0; 64]));
    }

    /// Does the bell ring?
    fn rings(worker: &Handoff) -> bool {
        let bell = worker.bell().unwrap();
        let mut polled = [PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn a_sleeper_is_woken_once_and_a_busy_worker_is_not() {
        let workers = Handoff::for_workers(2, 4, 64).unwrap();
        assert!(workers[0].give(1, PortId(3), b"one"));
        assert!(!rings(&workers[1]), "it does not sleep");
        assert!(!workers[1].may_sleep(), "a frame waits");
        workers[1].awake();
        assert!(workers[1].take(|_, _| ()).is_some() && workers[1].is_empty());
        assert!(workers[1].may_sleep());
        assert!(workers[0].give(1, PortId(3), b"two"));
        assert!(rings(&workers[1]));
        assert!(!rings(&workers[0]), "the other worker's bell");
        workers[1].awake();
        assert!(!rings(&workers[1]), "silenced");
        assert!(workers[0].give(1, PortId(3), b"three"));
        assert!(!rings(&workers[1]), "it is up");
    }

    #[test]
    fn a_single_worker_sleeps_when_it_likes() {
        let single = Handoff::for_workers(1, 8, 64).unwrap().remove(0);
        assert!(single.may_sleep() && single.is_empty() && single.bell().is_none());
    }
}
