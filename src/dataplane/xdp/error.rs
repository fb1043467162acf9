//! What can go wrong with the steering program, and what to do about it.

use std::path::PathBuf;

/// Why the steering program could not be attached, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// No interface has the name.
    #[error("interface {interface} does not exist in this network namespace")]
    InterfaceMissing {
        /// The name.
        interface: String,
    },
    /// The pin directory is not on bpffs and cannot be put there.
    #[error(
        "{directory} is not on a BPF file system that outlives this process ({reason}); run: {command}"
    )]
    PinDirectory {
        /// The directory.
        directory: PathBuf,
        /// What was tried.
        reason: String,
        /// What mends it.
        command: String,
    },
}
