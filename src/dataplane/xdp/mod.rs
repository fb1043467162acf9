//! The steering program: what becomes of a frame before the kernel's own stack sees it.
//!
//! ```text
//!                    ┌── for the data plane ──▶ AF_XDP socket of the queue; none there: DROP
//! frame ▶ steer.c ───┼── ARP, ND, answers, management list ──▶ kernel
//!                    └── everything else ──▶ DROP, counted by reason
//! ```
//!
//! One instance of the object serves one port. Its link is pinned in bpffs, so that the program
//! stays when the process is killed: the sockets are gone then, and what they forwarded is dropped.
//! A restart takes the pin over and replaces the program atomically once its maps are filled.

mod attach;
mod bpf;
mod error;
pub mod ethtool;
pub mod features;
mod maps;
mod pin;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use bpf::LinkMode;
pub use error::XdpError;
use maps::Maps;
pub use maps::SocketMap;
use pin::{PinDirectory, PortPins};

/// Where the pins are kept unless settings say otherwise.
pub const DEFAULT_PIN_DIRECTORY: &str = "/sys/fs/bpf/portcullis";

/// Receive queues of one interface that can be steered: entries of the socket map.
pub const QUEUES_MAX: u32 = 256;

/// Management rules one port can hold.
pub const MANAGEMENT_RULES_MAX: usize = 64;

/// How the program is to be attached to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttachMode {
    /// Native where the driver can, generic otherwise.
    #[default]
    Auto,
    /// In the driver; an error where it cannot.
    Native,
    /// In the kernel's generic receive path.
    Generic,
}

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the kernel's generic receive path.
    Generic,
}

impl From<LinkMode> for AttachedMode {
    fn from(mode: LinkMode) -> Self {
        match mode {
            LinkMode::Driver => AttachedMode::Native,
            LinkMode::Generic => AttachedMode::Generic,
        }
    }
}

/// One entry of the management list: what may reach the box itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagementRule {
    /// Sources.
    pub source: IpNet,
    /// IP protocol number; `None` means every protocol.
    pub protocol: Option<u8>,
    /// Destination ports of TCP, UDP, UDP-Lite, SCTP and DCCP; types of ICMP and ICMPv6; ignored
    /// for other protocols and for fragments after the first.
    pub ports: RangeInclusive<u16>,
}

/// What a port's steering program is to do, and where it is to be attached.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// Name of the interface.
    pub interface: String,
    /// How to attach.
    pub mode: AttachMode,
    /// Directory on bpffs for the pin.
    pub pin_directory: PathBuf,
    /// Every frame goes to the data plane and none to the kernel, ARP included.
    pub transparent: bool,
    /// DHCP and DHCPv6 answers reach the kernel.
    pub dhcp_client: bool,
    /// TCP and UDP destination ports that belong to the data plane even on the box's own addresses
    /// (for an address shared with source NAT).
    pub data_plane_ports: Option<RangeInclusive<u16>>,
    /// The box shares its addresses with translated connections: packets to them that are neither
    /// allowed by `management` nor for a connected socket go to the data plane.
    pub shared: bool,
    /// The box's own addresses, broadcast addresses of its networks included.
    pub local_addresses: Vec<IpNet>,
    /// What may reach the box itself.
    pub management: Vec<ManagementRule>,
}

impl AttachRequest {
    /// Attaches in any mode and closes the box itself entirely.
    pub fn new(interface: impl Into<String>) -> Self {
        AttachRequest {
            interface: interface.into(),
            mode: AttachMode::Auto,
            pin_directory: DEFAULT_PIN_DIRECTORY.into(),
            transparent: false,
            dhcp_client: false,
            data_plane_ports: None,
            shared: false,
            local_addresses: Vec::new(),
            management: Vec::new(),
        }
    }
}

/// Whether the program is still where it was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachState {
    /// It is.
    Attached,
    /// No program is attached: frames reach the kernel unfiltered.
    Detached,
    /// Another program is attached.
    Replaced {
        /// The kernel's id of that program.
        program_id: u32,
    },
    /// No interface has the name any more.
    InterfaceGone,
    /// Another interface has the name: deleted and created again.
    InterfaceReplaced {
        /// Index of the new one.
        ifindex: u32,
    },
}

/// A pin that was found or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Interface it was made for.
    pub interface: String,
    /// Inode number of the network namespace the interface is in.
    pub network_namespace: u64,
    /// Its place in bpffs.
    pub path: PathBuf,
    /// Process that holds it at present.
    pub owner: Option<u32>,
}

/// The steering program attached to one interface. Dropping it leaves the program in place, closed.
#[derive(Debug)]
pub struct Steering {
    request: AttachRequest,
    ifindex: u32,
    mode: LinkMode,
    taken_over: bool,
    program: OwnedFd,
    program_id: u32,
    maps: Maps,
    link: OwnedFd,
    pins: PortPins,
}

impl Steering {
    /// Loads the program, fills its maps and attaches it; takes over the pin of an earlier process.
    pub fn attach(request: &AttachRequest) -> Result<Steering, XdpError> {
        attach::attach(request)
    }

    /// Attaches the same program, with its maps as they are, to the interface that has the name
    /// now: after it was deleted and created again.
    pub fn reattach(&mut self) -> Result<(), XdpError> {
        let ifindex = attach::interface_index(&self.request.interface)?;
        let attached = attach::place(&self.request, ifindex, &self.program, &self.pins)?;
        self.link = attached.link;
        self.mode = attached.mode;
        self.taken_over = attached.taken_over;
        self.ifindex = ifindex;
        Ok(())
    }

    /// Name of the interface.
    pub fn interface(&self) -> &str {
        &self.request.interface
    }

    /// Index of the interface.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// How the program is attached.
    pub fn mode(&self) -> AttachedMode {
        self.mode.into()
    }

    /// Whether the link was there already, from an earlier process.
    pub fn taken_over(&self) -> bool {
        self.taken_over
    }

    /// Replaces the box's own addresses. One that stays is never missing meanwhile.
    pub fn set_local_addresses(&mut self, addresses: &[IpNet]) -> Result<(), XdpError> {
        self.maps.set_local_addresses(addresses)
    }

    /// Replaces the management list, atomically for frames.
    pub fn set_management(&mut self, rules: &[ManagementRule]) -> Result<(), XdpError> {
        self.maps.set_management(rules)
    }

    /// Which socket gets the frames of which receive queue.
    pub fn sockets(&self) -> &SocketMap {
        self.maps.sockets()
    }

    /// Frames by what became of them, counted from when this process attached the program.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, XdpError> {
        self.maps.counters()
    }

    /// Asks the kernel whether the program is still there: for a watchdog.
    pub fn state(&self) -> Result<AttachState, XdpError> {
        let name = &self.request.interface;
        let ifindex = match attach::interface_index(name) {
            Err(XdpError::InterfaceMissing { .. }) => return Ok(AttachState::InterfaceGone),
            other => other?,
        };
        if ifindex != self.ifindex {
            return Ok(AttachState::InterfaceReplaced { ifindex });
        }
        Ok(match attach::attached_program(name, ifindex)? {
            None => AttachState::Detached,
            Some(program) if program.id == self.program_id => AttachState::Attached,
            Some(program) => AttachState::Replaced {
                program_id: program.id,
            },
        })
    }

    /// Removes program and pin: frames reach the kernel from now on.
    pub fn detach(self) -> Result<(), XdpError> {
        attach::detach(self.link.as_fd(), self.pins)
    }
}

/// Pins of the directory, of every network namespace.
pub fn pins(pin_directory: &Path) -> Result<Vec<Pin>, XdpError> {
    PinDirectory::open(pin_directory)?.pins()
}

/// What XDP program an interface of this network namespace has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The kernel's id of the program.
    pub program_id: u32,
    /// Its name.
    pub program: String,
    /// How it is attached; `None` when in hardware, or in several ways.
    pub mode: Option<AttachedMode>,
    /// It is the steering program.
    pub ours: bool,
}

/// The XDP program of an interface.
pub fn attachment(interface: &str) -> Result<Option<Attachment>, XdpError> {
    attach::attachment(interface)
}

/// Loads the steering program and lets it go again: whether this kernel takes it from us.
pub fn check_program() -> Result<(), XdpError> {
    attach::load().map(drop)
}

/// Whether a pin in the directory would outlive this process; changes nothing.
pub fn check_pin_directory(pin_directory: &Path) -> Result<(), XdpError> {
    PinDirectory::check(pin_directory)
}

/// Inode number of the calling thread's network namespace, as in [`Pin::network_namespace`].
pub fn network_namespace() -> std::io::Result<u64> {
    pin::network_namespace()
}

/// Removes a pin and its program, whichever namespace its interface is in: frames reach the kernel
/// from now on. An error while a process holds the port.
pub fn detach_pin(pin_directory: &Path, pin: &Pin) -> Result<(), XdpError> {
    let pins = PinDirectory::open(pin_directory)?.lock_pin(pin)?;
    match pins.link()? {
        Some(link) => attach::detach(link.as_fd(), pins),
        None => pins.remove(),
    }
}

impl ManagementRule {
    /// Everything from these sources.
    pub fn everything_from(source: IpNet) -> Self {
        ManagementRule {
            source,
            protocol: None,
            ports: 0..=u16::MAX,
        }
    }
}
