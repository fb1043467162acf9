//! How workers and the kernel mirror talk about neighbours: requests one way, signs of use.
//!
//! ```text
//! worker ── NeighbourRequests (bounded, lock-free) ──▶ mirror ── RTM_NEWNEIGH, NTF_USE ──▶ kernel
//! worker ── NeighbourUse (one flag a neighbour) ────▶ mirror: is a stale neighbour worth probing?
//! ```
//!
//! The kernel does ARP and neighbour discovery, but sees none of the traffic: it must be told which
//! neighbours are wanted and which are still in use.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use super::verdict::PortId;
use crate::wire::{Address, Family};

/// A next hop whose link-layer address a worker needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NeighbourRequest {
    /// Port it lives behind.
    pub port: PortId,
    /// IP version of its address.
    pub family: Family,
    /// Its address.
    pub address: Address,
}

impl NeighbourRequest {
    /// The address as the standard library's type.
    pub fn ip(&self) -> IpAddr {
        self.address.to_ip(self.family)
    }
}

/// Where workers put neighbours to be resolved. Clones share one queue.
#[derive(Clone)]
pub struct NeighbourRequests(Arc<Shared>);

struct Shared {
    queue: ArrayQueue<NeighbourRequest>,
    refused: AtomicU64,
    /// The mirror sleeps: the next request must wake it.
    asleep: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl NeighbourRequests {
    /// A queue of at most `requests_max`; `wake` is called by the first request after each
    /// [`NeighbourRequests::sleep`], from a worker: it must neither block nor allocate.
    ///
    /// # Panics
    /// When `requests_max` is 0.
    pub fn new(requests_max: usize, wake: impl Fn() + Send + Sync + 'static) -> Self {
        NeighbourRequests(Arc::new(Shared {
            queue: ArrayQueue::new(requests_max),
            refused: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            wake: Box::new(wake),
        }))
    }

    /// Asks for a neighbour. `false` when the queue is full: ask again with a later frame.
    ///
    /// Asking twice for one neighbour is harmless but takes two places.
    #[inline]
    pub fn ask(&self, request: NeighbourRequest) -> bool {
        let accepted = self.0.queue.push(request).is_ok();
        if !accepted {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        // Not Relaxed: the push must be visible before the mirror's look at the queue that follows
        // its own store to `asleep`, or a request could lie unseen until the next one.
        if self.0.asleep.swap(false, Ordering::SeqCst) {
            (self.0.wake)();
        }
        accepted
    }

    /// The oldest request, for the mirror.
    pub fn pop(&self) -> Option<NeighbourRequest> {
        self.0.queue.pop()
    }

    /// The mirror goes to sleep: the next request calls `wake`. `false` when there are requests
    /// already, so that sleeping would miss them.
    pub fn sleep(&self) -> bool {
        self.0.asleep.store(true, Ordering::SeqCst);
        self.0.queue.is_empty()
    }

    /// Requests refused because the queue was full, since the start.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for NeighbourRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "NeighbourRequests({} of {})",
            self.0.queue.len(),
            self.0.queue.capacity()
        )
    }
}

/// A flag that workers raise when they send to a neighbour. Clones share one flag, so that it
/// survives from one published table to the next.
#[derive(Debug, Clone, Default)]
pub struct NeighbourUse(Arc<AtomicBool>);

impl NeighbourUse {
    /// The neighbour is sent to.
    #[inline]
    pub fn mark(&self) {
        // Read first: a store for every frame would make the line bounce between workers.
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Was it sent to since the last call?
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn request(number: u128) -> NeighbourRequest {
        NeighbourRequest {
            port: PortId(0),
            family: Family::V4,
            address: Address::from_bits(number),
        }
    }

    #[test]
    fn only_the_first_request_after_sleep_wakes() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let requests = NeighbourRequests::new(4, move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        assert!(requests.ask(request(1)));
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        assert!(!requests.sleep(), "a request is waiting");
        assert_eq!(requests.pop(), Some(request(1)));
        assert!(requests.sleep());
        assert!(requests.ask(request(2)) && requests.ask(request(3)));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_queue_refuses_and_counts() {
        let requests = NeighbourRequests::new(1, || {});
        assert!(requests.ask(request(1)));
        assert!(!requests.ask(request(2)));
        assert_eq!((requests.refused(), requests.pop()), (1, Some(request(1))));
    }

    #[test]
    fn no_request_is_lost_between_asking_and_sleeping() {
        // One thread asks, the other drains and "sleeps" until woken, many times over.
        let (send, receive) = std::sync::mpsc::channel();
        let requests = NeighbourRequests::new(8, move || send.send(()).unwrap());
        let asking = requests.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..20_000 {
                    while !asking.ask(request(number)) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < 20_000 {
                while let Some(got) = requests.pop() {
                    assert_eq!(got, request(expected));
                    expected += 1;
                }
                if expected < 20_000 && requests.sleep() {
                    receive
                        .recv_timeout(std::time::Duration::from_secs(10))
                        .expect("woken");
                }
            }
        });
    }

    #[test]
    fn use_is_shared_by_clones_and_taken_once() {
        let neighbour = NeighbourUse::default();
        neighbour.clone().mark();
        assert!(neighbour.take());
        assert!(!neighbour.take());
    }
}
