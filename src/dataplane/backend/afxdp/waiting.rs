//! Sleeping until a frame arrives on any of a worker's sockets.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::QueueState;
use super::queue::Queue;

/// The sockets to wait for, by slot, and behind them the place of the bell.
#[derive(Debug)]
pub struct Waiting {
    polled: Vec<libc::pollfd>,
}

impl Waiting {
    /// For these queues.
    pub fn new(queues: &[Queue]) -> Self {
        Waiting {
            polled: queues.iter().map(entry).chain([polled(-1)]).collect(),
        }
    }

    /// Waits for this queue in the place of another.
    pub fn replace(&mut self, slot: usize, queue: &Queue) {
        self.polled[slot] = entry(queue);
    }

    /// Sleeps until a socket or the bell has something; then yields the slots whose socket is dead,
    /// and does not wait for these again.
    pub fn wait(
        &mut self,
        timeout: Duration,
        bell: Option<BorrowedFd<'_>>,
    ) -> impl Iterator<Item = usize> + '_ {
        let queues = self.polled.len() - 1;
        self.polled[queues].fd = bell.map_or(-1, |bell| bell.as_raw_fd());
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().min(3600) as _,
            tv_nsec: timeout.subsec_nanos() as _,
        };
        for polled in &mut self.polled {
            polled.revents = 0;
        }
        let (count, none) = (self.polled.len() as libc::nfds_t, std::ptr::null());
        // SAFETY: the kernel reads and writes `count` entries, which the vector has.
        unsafe { libc::ppoll(self.polled.as_mut_ptr(), count, &timeout, none) };
        let entries = self.polled[..queues].iter_mut().enumerate();
        entries.filter_map(|(slot, polled)| {
            let dead = polled.revents & (libc::POLLERR | libc::POLLNVAL | libc::POLLHUP) != 0;
            if dead {
                // Negative descriptors are skipped by the kernel.
                polled.fd = -1;
            }
            dead.then_some(slot)
        })
    }
}

fn entry(queue: &Queue) -> libc::pollfd {
    match queue.state() {
        QueueState::Gone => polled(-1),
        _ => polled(queue.descriptor().as_raw_fd()),
    }
}

fn polled(fd: libc::c_int) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}
