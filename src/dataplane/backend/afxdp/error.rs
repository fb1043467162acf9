//! What can go wrong when rings are opened, and what to do about it.

use std::io;

use super::area::{HEADROOM_BYTES, WORKER_QUEUES_MAX};
use super::open::{FRAME_SIZES, LINK_HEADER_BYTES};
use crate::dataplane::xdp::XdpError;

/// Why a port's rings could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AfXdpError {
    /// Nothing to open.
    #[error("no ports to open, or no workers to open them for")]
    NoPorts,
    /// The steering program.
    #[error(transparent)]
    Steering(#[from] XdpError),
    /// The interface does not answer.
    #[error("interface {interface}: cannot {action}: {source}")]
    Interface {
        /// Its name.
        interface: String,
        /// What was asked.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Frames of the interface do not fit into UMEM frames.
    #[error(
        "interface {interface} has an MTU of {mtu_bytes} bytes; {frame_size_bytes}-byte frames \
         hold {} at the most; run: ip link set dev {interface} mtu {}",
        mtu_max(*frame_size_bytes), mtu_max(*frame_size_bytes)
    )]
    MtuTooLarge {
        /// Its name.
        interface: String,
        /// Its MTU.
        mtu_bytes: u32,
        /// Bytes of a UMEM frame.
        frame_size_bytes: u32,
    },
    /// A frame size that UMEM does not have.
    #[error("interface {interface}: frames of {found} bytes; allowed: {FRAME_SIZES:?}")]
    FrameSize {
        /// Its name.
        interface: String,
        /// What was asked for.
        found: u32,
    },
    /// A ring size that is no power of two, or none at all.
    #[error(
        "interface {interface}: rings of {found} frames; allowed: powers of two from 64 to 65536"
    )]
    RingSize {
        /// Its name.
        interface: String,
        /// What was asked for.
        found: u32,
    },
    /// A receive queue that the interface does not have.
    #[error("interface {interface} has {queues} receive queues, none numbered {queue}")]
    NoSuchQueue {
        /// Its name.
        interface: String,
        /// What was asked for.
        queue: u32,
        /// What there is.
        queues: u32,
    },
    /// Not a queue for every worker.
    #[error(
        "interface {interface}: {queues} receive queues to bind for {workers} workers; every \
         worker needs one of its own at every port to send by: configure fewer cores, or more \
         queues (ethtool -L {interface} combined {workers})"
    )]
    TooFewQueues {
        /// Its name.
        interface: String,
        /// Queues that are to be bound.
        queues: usize,
        /// Workers.
        workers: usize,
    },
    /// More queues than a worker can have.
    #[error("{found} queues for one worker; {WORKER_QUEUES_MAX} at the most")]
    TooManyQueues {
        /// Their number.
        found: usize,
    },
    /// No memory for the frames.
    #[error("no memory for {bytes} bytes of frames")]
    Memory {
        /// Size of the area.
        bytes: u64,
    },
    /// The kernel does not take the frames' memory.
    #[error(
        "interface {interface}: cannot register {bytes} bytes of frames: {source}{}",
        memlock(source)
    )]
    Register {
        /// Its name.
        interface: String,
        /// Size of the area.
        bytes: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not bind the socket.
    #[error("interface {interface}, queue {queue}: cannot open an AF_XDP socket: {source}{hint}")]
    Socket {
        /// The interface.
        interface: String,
        /// Its queue.
        queue: u32,
        /// The kernel's answer.
        source: io::Error,
        /// What it may mean, or nothing.
        hint: &'static str,
    },
}

/// Largest MTU whose frames, two VLAN tags included, fit.
pub fn mtu_max(frame_size_bytes: u32) -> u32 {
    frame_size_bytes - HEADROOM_BYTES - LINK_HEADER_BYTES
}

/// The limit on locked memory, when that is what was in the way.
fn memlock(error: &io::Error) -> String {
    use rustix::process::{Resource, getrlimit};

    let over = matches!(
        error.raw_os_error(),
        Some(libc::ENOBUFS | libc::ENOMEM | libc::EPERM)
    );
    match getrlimit(Resource::Memlock).current {
        Some(bytes) if over => format!(
            "; RLIMIT_MEMLOCK allows {bytes} bytes: raise it (ulimit -l unlimited, LimitMEMLOCK=) \
             or give the capability IPC_LOCK"
        ),
        _ => String::new(),
    }
}
