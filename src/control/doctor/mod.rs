//! What on this machine would bite a gateway, and the command that mends it.
//!
//! ```text
//! gather: kernel, drivers ──▶ facts ──▶ machine, interface: findings ──▶ report
//! ```
//!
//! Facts are gathered once; findings are made from them alone, so that tests can make their own.
//! Nothing on the machine is changed.

mod gather;
mod interface;
mod machine;

use std::path::PathBuf;

use serde::Serialize;

pub use crate::dataplane::xdp::DEFAULT_PIN_DIRECTORY;
pub use gather::DoctorError;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Interfaces of this network namespace; none means all that carry Ethernet frames.
    pub interfaces: Vec<String>,
    /// Where pins will be.
    pub pin_directory: PathBuf,
}

/// Everything found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What bites, the worst first.
    pub findings: Vec<Finding>,
    /// What there is.
    pub machine: MachineFacts,
    /// What there is, by interface.
    pub interfaces: Vec<InterfaceFacts>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The gateway does not start, or does not protect.
    Problem,
    /// It works, but loses packets, speed or certainty.
    Warning,
}

/// One thing that bites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name of the kind of finding.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The interface it is about; `None` for the machine.
    pub interface: Option<String>,
    /// What was found.
    pub found: String,
    /// What follows from it.
    pub consequence: String,
    /// What mends it, to be run as it stands.
    pub command: String,
}

/// What of the machine matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineFacts {
    /// Release of the running kernel: `6.1.0-25-amd64`.
    pub kernel_release: String,
    /// Effective capabilities that are missing, as `CAP_…`.
    pub missing_capabilities: Vec<&'static str>,
    /// `RLIMIT_MEMLOCK`; `None` when unlimited.
    pub memlock_bytes: Option<u64>,
    /// Why no AF_XDP socket can be opened; `None` when one can.
    pub af_xdp_error: Option<String>,
    /// Why the kernel does not take the steering program; `None` when it does.
    pub program_error: Option<String>,
    /// Why no lasting pin can be made; `None` when one can.
    pub pin_error: Option<PinError>,
    /// Names of the kernel's forwarding switches that are on.
    pub kernel_forwards: Vec<String>,
}

/// Why no lasting pin can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinError {
    /// The reason.
    pub reason: String,
    /// What mends it.
    pub command: String,
}

/// What of an interface matters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct InterfaceFacts {
    /// Name.
    pub interface: String,
    /// Kind of a virtual interface: `veth`, `macvlan`, `vlan`, `bridge`.
    pub kind: Option<String>,
    /// The driver's name.
    pub driver: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// The lower layer is up.
    pub carrier: bool,
    /// Largest IP packet, in bytes.
    pub mtu_bytes: u32,
    /// Bytes of a UMEM frame for that MTU; `None` when none is large enough.
    pub frame_size_bytes: Option<u32>,
    /// Receive queues in use: each gets a socket.
    pub receive_queues: u32,
    /// The driver runs XDP programs; `None` when the kernel does not tell.
    pub native_xdp: Option<bool>,
    /// The driver can do without copying; `None` when the kernel does not tell.
    pub zero_copy: Option<bool>,
    /// Offloads in force that matter here, by the names `ethtool -k` uses.
    pub offloads: Vec<String>,
    /// The XDP program attached.
    pub program: Option<ProgramFacts>,
    /// What it is stacked on.
    pub parent: Option<ParentFacts>,
    /// Interfaces stacked on it, here.
    pub children: Vec<ChildFacts>,
    /// Bridge, bond or VRF it belongs to.
    pub controller: Option<String>,
    /// Takes frames for every station.
    pub promiscuous: bool,
    /// The kernel takes routes from router advertisements received on it.
    pub accepts_router_advertisements: bool,
}

/// An XDP program on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramFacts {
    /// Its name.
    pub name: String,
    /// The kernel's id of it.
    pub id: u32,
    /// It is the steering program.
    pub ours: bool,
    /// `native`, `generic`; `None` in hardware.
    pub mode: Option<&'static str>,
}

/// The interface another one is stacked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentFacts {
    /// Its name; `None` when it is in another network namespace.
    pub interface: Option<String>,
    /// Offloads of it in force that matter here.
    pub offloads: Vec<String>,
    /// `arp_ignore` in force on it: the larger of its own and that of `all`; `None` when it is in
    /// another network namespace, or the kernel does not tell.
    pub arp_ignore: Option<u32>,
}

/// An interface stacked on another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChildFacts {
    /// Its name.
    pub interface: String,
    /// It has an XDP program.
    pub has_program: bool,
}

/// Looks at everything.
pub fn examine(request: &Request) -> Result<Report, DoctorError> {
    let (machine, interfaces) = gather::gather(request)?;
    let mut findings = machine::findings(&machine);
    findings.extend(interfaces.iter().flat_map(interface::findings));
    // Stable: the order of the checks within a severity.
    findings.sort_by_key(|finding| finding.severity);
    Ok(Report {
        findings,
        machine,
        interfaces,
    })
}
