//! What can go wrong with the steering program, and what to do about it.

use std::io;
use std::path::PathBuf;

use ipnet::IpNet;

use super::maps::LOCAL_ADDRESSES_MAX;
use super::{MANAGEMENT_RULES_MAX, QUEUES_MAX};

/// Why the steering program could not be attached, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// No interface has the name.
    #[error("interface {interface} does not exist in this network namespace")]
    InterfaceMissing {
        /// The name.
        interface: String,
    },
    /// The kernel does not answer about the interface.
    #[error("interface {interface}: cannot {action}: {source}")]
    Interface {
        /// The name.
        interface: String,
        /// What was asked.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not accept the program.
    #[error(
        "the steering program cannot be loaded: {source} \
         (needs Linux 5.15 and the capabilities BPF, NET_ADMIN and PERFMON, or SYS_ADMIN)"
    )]
    Load {
        /// The kernel's answer, with the verifier's words.
        source: io::Error,
    },
    /// The kernel does not attach the program.
    #[error("the steering program cannot be attached to {interface} ({mode}): {source}{hint}")]
    Attach {
        /// The interface.
        interface: String,
        /// `native`, `generic`.
        mode: &'static str,
        /// The kernel's answer.
        source: io::Error,
        /// What it may mean here, or nothing.
        hint: String,
    },
    /// Somebody else's program is there.
    #[error(
        "another XDP program is attached to {interface}: \"{program}\", id {program_id}; \
         if nothing needs it, run: {command}"
    )]
    Foreign {
        /// The interface.
        interface: String,
        /// The kernel's id of the program.
        program_id: u32,
        /// Its name.
        program: String,
        /// What removes it.
        command: String,
    },
    /// The pinned program is attached in another mode than the one asked for.
    #[error(
        "{interface} has its steering program from an earlier run in {found} mode, not in \
         {wanted}; changing that opens the port for a moment, so it is not done by itself: \
         run portcullis detach {interface} first"
    )]
    ModeDiffers {
        /// The interface.
        interface: String,
        /// How it is attached.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Another process holds the port.
    #[error("interface {interface} is in use by {}", holder(*.process))]
    InUse {
        /// The interface.
        interface: String,
        /// That process, when it can be told.
        process: Option<u32>,
    },
    /// The pin directory is not on bpffs and cannot be put there.
    #[error(
        "no pin that outlives this process can be made in {directory}: {reason}; run: {command}"
    )]
    PinDirectory {
        /// The directory.
        directory: PathBuf,
        /// What was tried.
        reason: String,
        /// What mends it.
        command: String,
    },
    /// Work on a pin failed.
    #[error("cannot {action} {path}: {source}")]
    Pin {
        /// The pin, or its directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A map of the program cannot be read or written.
    #[error("the steering program's map {map_name}: {source}")]
    Map {
        /// Its name.
        map_name: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// More management rules than the program holds.
    #[error("{found} management rules; {MANAGEMENT_RULES_MAX} at the most")]
    TooManyManagementRules {
        /// Their number, a rule with n sources and m port ranges counted n × m times.
        found: usize,
    },
    /// More local addresses than the program holds.
    #[error("{prefix} exceeds the {LOCAL_ADDRESSES_MAX} local addresses of a family")]
    TooManyLocalAddresses {
        /// The prefix that did not fit.
        prefix: IpNet,
    },
    /// A receive queue beyond the socket map.
    #[error("receive queue {queue}; {} is the last that can be steered", QUEUES_MAX - 1)]
    QueueOutOfRange {
        /// The queue.
        queue: u32,
    },
}

fn holder(process: Option<u32>) -> String {
    match process {
        Some(process) => format!("process {process}"),
        None => "another process".to_owned(),
    }
}
