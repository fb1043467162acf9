//! One AF_XDP socket: opened by the `afxdp` crate, its rings read and written by ours.
//!
//! What the crate does: registers the area, makes the rings, binds the socket, puts it into the
//! steering program's `xsks_map` (libbpf finds that map by its name in the program attached). What
//! it does not do here, and why:
//!
//! - Its send call panics on errors it does not expect, such as a deleted interface: the transmit
//!   ring is ours, and so is the system call.
//! - Its sockets with both directions cannot be dropped safely: libbpf looks at both rings'
//!   descriptions when the socket is deleted, but one of them is gone by then. So it opens a
//!   receiving socket, for which we have asked the kernel for a transmit ring before it is bound.
//! - Its buffers lose frames when they are dropped: frames are ours, kept in a ledger.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use afxdp::socket::{Socket as CrateSocket, SocketNewError, SocketOptions, SocketRx};
use afxdp::umem::{Umem, UmemCompletionQueue, UmemFillQueue, UmemNewError};
use rustix::net::sockopt;

use super::ZeroCopy;
use super::area::Area;
use super::error::AfXdpError;
use super::ring::Rings;

/// How long to wait for a process that is about to end to let go of a queue.
const RETRY_FOR: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Frames the kernel sends in one call in copy mode: without it 32 (linux/if_xdp.h, since 6.18).
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
const TX_BUDGET_FRAMES: libc::c_int = 256;
/// In copy mode, frames on their way through the stack count against the socket's send buffer.
const SEND_BUFFER_BYTES: usize = 16 << 20;

/// Options of asm-generic/socket.h that the libraries do not name.
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;

/// What to open a socket with.
#[derive(Debug, Clone)]
pub struct SocketRequest {
    pub interface: String,
    pub queue: u32,
    pub ring_frames: u32,
    pub zero_copy: ZeroCopy,
    pub busy_poll_us: u32,
}

/// One bound socket with its rings.
#[derive(Debug)]
pub struct Socket {
    /// Fill, receive, transmit, completion.
    pub rings: Rings,
    descriptor: OwnedFd,
    zero_copy: bool,
    _crate: CrateObjects,
}

/// The crate's objects, in the order they must go: the last user of the socket deletes it, and
/// libbpf then looks at all three ring descriptions.
#[derive(Debug)]
struct CrateObjects {
    _receive: SocketRx<'static, ()>,
    _fill: UmemFillQueue<'static, ()>,
    _completion: UmemCompletionQueue<'static, ()>,
}

impl Socket {
    /// Opens and binds, waiting for a process that is about to let go of the queue. The steering
    /// program must be attached.
    pub fn open(area: &Area, request: &SocketRequest) -> Result<Self, AfXdpError> {
        let since = Instant::now();
        loop {
            match open_once(area, request) {
                Err(AfXdpError::Socket { source, .. })
                    if source.kind() == ErrorKind::ResourceBusy && since.elapsed() < RETRY_FOR =>
                {
                    thread::sleep(RETRY_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Frames are not copied between kernel and area.
    pub fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Lets the kernel send what is published, and tells it to go on receiving where it has
    /// stopped.
    #[inline]
    pub fn kick(&self) -> io::Result<()> {
        self.wake(|socket, flags| {
            // SAFETY: no buffer, no address.
            unsafe { libc::sendto(socket, std::ptr::null(), 0, flags, std::ptr::null(), 0) }
        })
    }

    /// Lets the kernel poll the device: for busy polling, and where the fill ring needs a wake-up.
    #[inline]
    pub fn poll_device(&self) -> io::Result<()> {
        self.wake(|socket, flags| {
            let (buffer, address) = (std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: no buffer, no address.
            unsafe { libc::recvfrom(socket, buffer, 0, flags, address, std::ptr::null_mut()) }
        })
    }

    #[inline]
    fn wake(&self, call: impl Fn(libc::c_int, libc::c_int) -> isize) -> io::Result<()> {
        match call(self.descriptor.as_raw_fd(), libc::MSG_DONTWAIT) {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn open_once(area: &Area, request: &SocketRequest) -> Result<Socket, AfXdpError> {
    let size = request.ring_frames;
    let interface = &request.interface;
    let (umem, completion, fill) =
        Umem::new(area.memory(), size, size).map_err(|error| AfXdpError::Register {
            interface: interface.clone(),
            bytes: u64::from(area.frames()) * u64::from(area.frame_size_bytes()),
            source: umem_error(error),
        })?;
    // SAFETY: the pointer is the crate's valid UMEM. Its descriptor is that of the first socket.
    let descriptor = unsafe { libbpf_sys::xsk_umem__fd(umem.get_ptr()) };
    // SAFETY: open, owned by `umem`, which outlives this borrow.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let failed = |source: io::Error| socket_error(request, source);

    sockopt::set_xdp_tx_ring_size(borrowed, size).map_err(|error| failed(error.into()))?;
    let options = SocketOptions {
        zero_copy_mode: request.zero_copy == ZeroCopy::Require,
        copy_mode: request.zero_copy == ZeroCopy::Never,
        ..Default::default()
    };
    let queue = request.queue as usize;
    let opened = CrateSocket::new_rx(umem.clone(), interface, queue, size, options);
    let (_, receive) = opened.map_err(|error| failed(socket_new_error(error)))?;

    let rings = Rings::map(borrowed, size).map_err(failed)?;
    let flags = sockopt::xdp_options(borrowed).map_err(|error| failed(error.into()))?;
    let descriptor = borrowed.try_clone_to_owned().map_err(failed)?;
    tune(borrowed, request.busy_poll_us);
    Ok(Socket {
        rings,
        descriptor,
        zero_copy: flags.contains(rustix::net::xdp::XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY),
        _crate: CrateObjects {
            _receive: receive,
            _fill: fill,
            _completion: completion,
        },
    })
}

/// What makes it faster where the kernel has it, and is not missed where not.
fn tune(socket: BorrowedFd<'_>, busy_poll_us: u32) {
    let set = |level, option, value: libc::c_int| {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        let value: *const libc::c_int = &value;
        // SAFETY: an option of type int, only read.
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), size) }
    };
    let _ = sockopt::set_socket_send_buffer_size_force(socket, SEND_BUFFER_BYTES);
    set(libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, TX_BUDGET_FRAMES);
    if busy_poll_us > 0 {
        set(libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1);
        set(
            libc::SOL_SOCKET,
            libc::SO_BUSY_POLL,
            busy_poll_us.min(i32::MAX as u32) as _,
        );
        set(libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, 64);
    }
}

fn umem_error(error: UmemNewError) -> io::Error {
    match error {
        UmemNewError::Create(error) => negated(&error),
        UmemNewError::RingNotPowerOfTwo => ErrorKind::InvalidInput.into(),
    }
}

fn socket_new_error(error: SocketNewError) -> io::Error {
    match error {
        SocketNewError::Create(error) => negated(&error),
        SocketNewError::RingNotPowerOfTwo => ErrorKind::InvalidInput.into(),
    }
}

/// The crate passes libbpf's negated codes on as they are.
fn negated(error: &io::Error) -> io::Error {
    io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO).saturating_abs())
}

fn socket_error(request: &SocketRequest, source: io::Error) -> AfXdpError {
    let hint = match source.raw_os_error() {
        Some(libc::EBUSY) => "; another AF_XDP socket has the queue",
        Some(libc::EOPNOTSUPP) => "; the driver has no zero copy: use zero-copy auto or never",
        Some(libc::EINVAL) => "; the interface has no such queue, or was not up when it was bound",
        Some(libc::ENETDOWN) => "; the interface is down",
        Some(libc::ENODEV) => "; the interface is gone",
        Some(libc::EPERM) => {
            "; the capabilities NET_RAW, NET_ADMIN and SYS_ADMIN or BPF are needed"
        }
        Some(libc::ENOENT) => "; the program attached to it is not the steering program",
        _ => "",
    };
    AfXdpError::Socket {
        interface: request.interface.clone(),
        queue: request.queue,
        source,
        hint,
    }
}
