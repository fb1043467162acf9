//! The appliance's settings: TOML in, validated [`Settings`] out.
//!
//! ```text
//! text ─▶ document (spans) ─▶ section readers, one a table ─▶ cross checks ─▶ Settings
//!                                  └── every problem found, with file:line:column
//! ```
//!
//! Every setting has a default, bounds and a documented effect at its limit; the prose is in
//! `config/appliance.toml`, which a test holds against this code. This room imports nothing of the
//! project: its types are plain, and control translates them.

mod choice;
mod error;
mod forwarding;
mod fragments;
mod kind;
mod limits;
mod management;
mod nat;
mod nearest;
mod policy;
mod port;
mod reader;
mod replay;
mod service;
mod timeouts;
mod tracking;

pub use error::{Problem, ProblemKind, SettingsError};
pub use forwarding::{Forwarding, ForwardingMode, ReversePathFilter};
pub use fragments::Fragments;
pub use limits::Limits;
pub use management::{Management, ManagementProtocol, ManagementRule, PortRange};
pub use nat::{Nat, NatChoice, NatDestination, NatFamily, NatSelector, NatSource};
pub use policy::{
    Compat, CompatClusterNetworkPolicySecondary, CompatEgressNetworkPolicyGeneration,
    CompatEstablished, CompatIcmp, CompatInvalid, CompatMultiNetworkPolicy,
    CompatNetworkPolicyProfile, CompatPlugin, CompatSecurityGroupCombine,
    CompatSecurityGroupEgressView, CompatSecurityGroupPriorityMax,
    CompatSecurityGroupUnknownGroups, CompatSecurityGroupUnknownStrings, Policy,
};
pub use port::{FrameSize, Port, PortMode, PortRole, Queues, ZeroCopy};
pub use replay::{Replay, ReplayLink, ReplayNeighbour, ReplayRoute};
pub use service::{Admin, Cores, Log, LogFormat, LogLevel, OnExit, Steering, Wait, Workers};
pub use timeouts::Timeouts;
pub use tracking::{Checksums, Tracking};

use std::path::Path;

/// Everything the appliance is told by its settings file, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `on_exit`: what becomes of the ports when the process ends in order.
    pub on_exit: OnExit,
    /// `[[port]]`, at least one. The position in this list is the port's number everywhere else.
    pub ports: Vec<Port>,
    /// `[forwarding]`
    pub forwarding: Forwarding,
    /// `[workers]`
    pub workers: Workers,
    /// `[policy]`
    pub policy: Policy,
    /// `[limits]`
    pub limits: Limits,
    /// `[management]`
    pub management: Management,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[tracking]`
    pub tracking: Tracking,
    /// `[nat]`
    pub nat: Nat,
    /// `[fragments]`
    pub fragments: Fragments,
    /// `[admin]`
    pub admin: Admin,
    /// `[log]`
    pub log: Log,
    /// `[steering]`
    pub steering: Steering,
    /// `[replay]`
    pub replay: Replay,
}

impl Settings {
    /// Reads and validates a settings file.
    ///
    /// # Errors
    /// The file cannot be read, or has problems: all of them are listed.
    pub fn load(path: &Path) -> Result<Settings, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Validates the text of a settings file. `name` is its path: messages name it, and relative
    /// paths in the text start from its folder.
    ///
    /// # Errors
    /// The text has problems: all of them are listed.
    pub fn parse(name: impl AsRef<Path>, text: &str) -> Result<Settings, SettingsError> {
        let name = name.as_ref();
        let folder = name.parent().unwrap_or(Path::new(""));
        let read = reader::read_document(name, text, |root| Self::read(root, folder));
        read.map(|(settings, _)| settings)
            .map_err(SettingsError::Invalid)
    }

    fn read(root: &mut reader::Section<'_, '_>, folder: &Path) -> Settings {
        let ports = Port::read_all(root);
        let forwarding = Forwarding::read(&mut root.table("forwarding"), &ports);
        let routed = forwarding.mode == ForwardingMode::Routed;
        Settings {
            on_exit: root.choice("on_exit"),
            nat: Nat::read(&mut root.table("nat"), &ports, routed),
            forwarding,
            fragments: Fragments::read(&mut root.table("fragments")),
            workers: Workers::read(&mut root.table("workers")),
            policy: Policy::read(&mut root.table("policy"), folder),
            limits: Limits::read(&mut root.table("limits")),
            management: Management::read(&mut root.table("management")),
            timeouts: Timeouts::read(&mut root.table("timeouts")),
            tracking: Tracking::read(&mut root.table("tracking")),
            admin: Admin::read(&mut root.table("admin")),
            log: Log::read(&mut root.table("log")),
            steering: Steering::read(&mut root.table("steering")),
            replay: Replay::read(&mut root.table("replay"), &ports),
            ports,
        }
    }

    /// Number of the port with this name.
    pub fn port(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }
}

#[cfg(test)]
mod tests;
