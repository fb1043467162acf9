//! What can go wrong when rings are opened.

use crate::dataplane::xdp::XdpError;

/// Why a port's rings could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AfXdpError {
    /// Nothing to open.
    #[error("no ports to open")]
    NoPorts,
    /// The steering program.
    #[error(transparent)]
    Steering(#[from] XdpError),
}
