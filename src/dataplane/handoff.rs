//! Frames that arrive at one worker and belong to another: copied into a bounded ring.
//!
//! Receive queues spread frames by hashes of their own, which send the two directions of a flow,
//! its fragments and the ICMP errors about it to different workers. A packet belongs to the worker
//! that its pair of addresses hashes to, whichever way it goes; every other worker hands it over.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::verdict::PortId;
use crate::wire::FlowKey;

/// A frame on its way to another worker.
struct Parcel {
    port: PortId,
    len: usize,
    bytes: Box<[u8]>,
}

/// One worker's ring and the empty buffers it takes frames in. Clones share both.
#[derive(Clone)]
struct Inbox {
    full: Arc<ArrayQueue<Parcel>>,
    empty: Arc<ArrayQueue<Box<[u8]>>>,
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
    pub fn for_workers(workers: usize, frames_max: usize, frame_bytes: usize) -> Vec<Handoff> {
        let inbox = |_| {
            let frames = if workers > 1 { frames_max.max(1) } else { 0 };
            let empty = ArrayQueue::new(frames.max(1));
            for _ in 0..frames {
                let _ = empty.push(vec![0; frame_bytes].into_boxed_slice());
            }
            Inbox {
                full: Arc::new(ArrayQueue::new(frames.max(1))),
                empty: Arc::new(empty),
            }
        };
        let inboxes: Arc<[Inbox]> = (0..workers).map(inbox).collect();
        (0..workers)
            .map(|number| Handoff {
                number,
                inboxes: inboxes.clone(),
            })
            .collect()
    }

    /// The only worker there is.
    pub fn single() -> Handoff {
        Handoff {
            number: 0,
            inboxes: Arc::new([]),
        }
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
        // There are as many places as buffers.
        inbox
            .full
            .push(Parcel {
                port,
                len: frame.len(),
                bytes,
            })
            .is_ok()
    }

    /// Takes the oldest frame another worker has handed over, by `copy`, which returns the room to
    /// copy it into. Without room the frame stays.
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
        let workers = Handoff::for_workers(2, 2, 64);
        assert!(workers[0].give(1, PortId(3), b"one"));
        assert!(workers[0].give(1, PortId(4), b"two"));
        assert!(!workers[0].give(1, PortId(5), b"three"), "full");
        let taken = workers[1].take(|port, bytes| (port, bytes.to_vec()));
        assert_eq!(taken, Some((PortId(3), b"one".to_vec())));
        assert!(!workers[0].give(1, PortId(5), &[0; 65]), "too long");
        assert!(workers[0].give(1, PortId(5), &[0; 64]));
    }
}
