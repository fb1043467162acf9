//! The process itself: `on_exit`, `[workers]`, `[admin]`, `[log]`, `[steering]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::choice::choice;

choice! {
    /// What becomes of the ports when the process ends in order. After a crash they are always
    /// closed.
    OnExit {
        /// The steering program stays and drops everything not for the box.
        Closed = "closed",
        /// The steering program is removed: frames go to the kernel.
        Open = "open",
    }
}

/// `[workers]`: the threads that forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// One worker on each of these cores.
    pub cores: Cores,
    /// What a worker without frames does.
    pub wait: Wait,
    /// With `busy-poll`: microseconds the kernel polls the device in one call; 0 leaves that to the
    /// device's interrupts while the worker spins.
    pub busy_poll_us: u32,
    /// Frames taken from a ring at once at most.
    pub batch_frames: u32,
}

/// Cores that workers are pinned to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cores {
    /// The last core this process may run on.
    #[default]
    Last,
    /// These core ids.
    List(Vec<u32>),
}

choice! {
    /// What a worker without frames does.
    Wait {
        /// Sleeps until the kernel wakes it.
        Sleep = "sleep",
        /// Asks again at once: least delay, one core always busy.
        BusyPoll = "busy-poll",
    }
}

/// `[admin]`: how the running instance is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket of the admin interface.
    pub socket: PathBuf,
    /// Its permission bits.
    pub socket_mode: u32,
    /// Also answers metrics over TCP here; `None` when off.
    pub metrics_address: Option<SocketAddr>,
}

/// `[log]`: what is written to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Least severe level written.
    pub level: LogLevel,
    /// Form of a line.
    pub format: LogFormat,
}

choice! {
    /// Least severe level written.
    LogLevel {
        /// Changes of state.
        Info = "info",
        /// Nothing works.
        Error = "error",
        /// Something does not work.
        Warn = "warn",
        /// Also decisions of control.
        Debug = "debug",
        /// Also every message from the kernel.
        Trace = "trace",
    }
}

choice! {
    /// Form of a log line.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// `[steering]`: the program that hands frames to workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    /// Directory on bpffs that holds the pins.
    pub pin_directory: PathBuf,
}
