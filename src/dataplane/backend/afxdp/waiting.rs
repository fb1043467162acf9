//! Sleeping until a frame arrives on any of a worker's sockets.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;
use std::time::Duration;

use super::QueueState;
use super::queue::Queue;

/// The sockets to wait for, by slot.
#[derive(Debug)]
pub struct Waiting {
    polled: Vec<libc::pollfd>,
}

impl Waiting {
    /// For these queues.
    pub fn new(queues: &[Queue]) -> Self {
        Waiting {
            polled: queues.iter().map(entry).collect(),
        }
    }

    /// Waits for this queue in the place of another.
    pub fn replace(&mut self, slot: usize, queue: &Queue) {
        self.polled[slot] = entry(queue);
    }

    /// Sleeps; then yields the slots whose socket is dead, and does not wait for these again.
    pub fn wait(&mut self, timeout: Duration) -> impl Iterator<Item = usize> + '_ {
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
        let entries = self.polled.iter_mut().enumerate();
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
    let gone = queue.state() == QueueState::Gone;
    libc::pollfd {
        fd: if gone {
            -1
        } else {
            queue.descriptor().as_raw_fd()
        },
        events: libc::POLLIN,
        revents: 0,
    }
}
