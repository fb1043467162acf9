//! The process itself: `on_exit`, `[workers]`, `[admin]`, `[log]`, `[steering]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::choice::choice;
use super::kind::{Kind, ListOf, Parsed, Whole, WordOr, Wrong, integer};
use super::reader::Section;

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

const ABSOLUTE_PATH: Parsed<PathBuf> = Parsed {
    allowed: "an absolute path of at most 100 bytes",
    parse: |text| {
        let path = PathBuf::from(text);
        // The kernel's sun_path holds 108 bytes; some room for suffixes of our own.
        (path.is_absolute() && text.len() <= 100)
            .then_some(path)
            .ok_or_else(String::new)
    },
};

const SOCKET_ADDRESS: Parsed<SocketAddr> = Parsed {
    allowed: "an address with a port, like \"127.0.0.1:9100\" or \"[::1]:9100\"",
    parse: |text| text.parse().map_err(|_| String::new()),
};

impl Workers {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Workers {
        let cores = WordOr {
            word: "last",
            kind: ListOf {
                kind: Whole(0..=1_023),
                length: 1..=64,
            },
        };
        Workers {
            cores: match section.optional("cores", None, cores) {
                None => Cores::Last,
                Some(cores) => Cores::List(cores),
            },
            wait: section.choice("wait"),
            busy_poll_us: section.optional("busy_poll_us", 20, Whole(0..=1_000)),
        }
    }
}

impl Admin {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Admin {
        let socket = PathBuf::from("/run/portcullis/admin.sock");
        let metrics_address = WordOr {
            word: "off",
            kind: SOCKET_ADDRESS,
        };
        Admin {
            socket: section.optional("socket", socket, ABSOLUTE_PATH),
            socket_mode: section.optional("socket_mode", 0o660, PermissionBits),
            metrics_address: section.optional("metrics_address", None, metrics_address),
        }
    }
}

/// An octal number. A decimal one is refused: 660 means something else than 0o660.
struct PermissionBits;

impl Kind for PermissionBits {
    type Value = u32;

    fn allowed(&self) -> String {
        "an octal number from 0o000 to 0o777".to_owned()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<u32, Vec<Wrong>> {
        match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 8 => integer(number)
                .and_then(|bits| u32::try_from(bits).ok())
                .filter(|&bits| bits <= 0o777)
                .ok_or_else(|| self.refuse(value)),
            _ => Err(self.refuse(value)),
        }
    }
}

impl Log {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Log {
        Log {
            level: section.choice("level"),
            format: section.choice("format"),
        }
    }
}

impl Steering {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Steering {
        let pin_directory = PathBuf::from("/sys/fs/bpf/portcullis");
        Steering {
            pin_directory: section.optional("pin_directory", pin_directory, ABSOLUTE_PATH),
        }
    }
}
