//! Removing steering programs that an earlier process left pinned.

use std::path::Path;

use serde::Serialize;

use crate::dataplane::xdp::{self, XdpError};

pub use crate::dataplane::xdp::DEFAULT_PIN_DIRECTORY;

/// Which pins to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Of these interfaces of this network namespace.
    Interfaces(Vec<String>),
    /// All of this network namespace.
    ThisNamespace,
    /// All there are, also of network namespaces that are gone.
    EveryNamespace,
}

/// What became of one pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detached {
    /// Interface the pin was made for.
    pub interface: String,
    /// Inode number of its network namespace.
    pub network_namespace: u64,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of one pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "message")]
pub enum Outcome {
    /// Program and pin are gone: frames reach the kernel.
    Detached,
    /// No program of ours is pinned for the interface.
    NothingPinned,
    /// Still there, and why.
    Failed(String),
}

/// Removes the selected pins, going on when one cannot be removed.
pub fn detach(directory: &Path, selection: &Selection) -> Result<Vec<Detached>, XdpError> {
    let pins = xdp::pins(directory)?;
    let here = xdp::network_namespace().unwrap_or(0);
    let selected = |pin: &&xdp::Pin| match selection {
        Selection::Interfaces(names) => {
            pin.network_namespace == here && names.contains(&pin.interface)
        }
        Selection::ThisNamespace => pin.network_namespace == here,
        Selection::EveryNamespace => true,
    };
    let remove = |pin: &xdp::Pin| Detached {
        interface: pin.interface.clone(),
        network_namespace: pin.network_namespace,
        outcome: match xdp::detach_pin(directory, pin) {
            Ok(()) => Outcome::Detached,
            Err(error) => Outcome::Failed(error.to_string()),
        },
    };
    let mut results: Vec<_> = pins.iter().filter(selected).map(remove).collect();
    if let Selection::Interfaces(names) = selection {
        for name in names {
            if !results.iter().any(|result| result.interface == *name) {
                results.push(Detached {
                    interface: name.clone(),
                    network_namespace: here,
                    outcome: Outcome::NothingPinned,
                });
            }
        }
    }
    Ok(results)
}
