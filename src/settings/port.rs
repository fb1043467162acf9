//! `[[port]]`: the interfaces the appliance forwards between.

use super::choice::choice;

/// One interface frames are taken from and sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name used in metrics, logs, captures and other settings; unique.
    pub name: String,
    /// The kernel's name of the interface, at most 15 bytes; unique.
    pub interface: String,
    /// Receive queues to bind.
    pub queues: Queues,
    /// How the steering program is attached.
    pub mode: PortMode,
    /// Whether frames are copied between kernel and UMEM.
    pub zero_copy: ZeroCopy,
    /// Which side of the appliance it is on.
    pub role: PortRole,
    /// Bytes of one UMEM frame.
    pub frame_size_bytes: FrameSize,
    /// Descriptors in each of the port's rings; a power of two.
    pub ring_frames: u32,
    /// VLAN ids accepted; none means untagged frames alone.
    pub vlans: Vec<u16>,
}

/// Receive queues of a port to bind. Frames of a queue that is not bound are dropped by the
/// steering program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Queues {
    /// Every queue the interface has when it is bound.
    #[default]
    All,
    /// Queues 0 to n - 1.
    First(u32),
    /// These queues.
    List(Vec<u32>),
}

choice! {
    /// How the steering program is attached to an interface.
    PortMode {
        /// Native where the driver can, generic otherwise.
        Auto = "auto",
        /// In the driver; an error where it cannot.
        Native = "native",
        /// In the kernel's generic receive path.
        Generic = "generic",
    }
}

choice! {
    /// Whether frames are copied between the kernel and the UMEM.
    ZeroCopy {
        /// Zero copy where the driver can, copy otherwise.
        Auto = "auto",
        /// Always copy.
        Never = "never",
        /// Zero copy; an error where the driver cannot.
        Require = "require",
    }
}

choice! {
    /// Which side of the appliance a port is on.
    PortRole {
        /// No assumption.
        Unspecified = "unspecified",
        /// Towards the protected hosts.
        Inside = "inside",
        /// Towards the network they are protected from.
        Outside = "outside",
    }
}

/// Bytes of one UMEM frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FrameSize {
    /// The smallest that holds a frame of the interface's MTU.
    #[default]
    Auto,
    /// 2048 or 4096.
    Bytes(u32),
}
