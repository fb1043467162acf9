//! What can be wrong with a capture, and where in it.

use super::RECORD_BYTES_MAX;

/// A capture that cannot be read, or not further.
#[derive(Debug, thiserror::Error)]
#[error("{file}: at byte {offset}, frame {frame}: {fault}")]
pub struct CaptureError {
    /// The file as the caller named it.
    pub file: String,
    /// Where the record or block starts that could not be read.
    pub offset: u64,
    /// Number the frame would have had, from 1.
    pub frame: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The system could not read it.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It has no byte.
    #[error("the file is empty")]
    Empty,
    /// It starts with none of the formats' magic numbers.
    #[error("starts with {found:#010x}: neither pcap (a1b2c3d4, a1b23c4d) nor pcapng (0a0d0d0a)")]
    NotACapture {
        /// The first four bytes.
        found: u32,
    },
    /// Its frames are not Ethernet frames.
    #[error("link type {number} ({name}); only Ethernet (1) can be replayed")]
    LinkType {
        /// As the registry of link-layer header types numbers it.
        number: u16,
        /// As that registry names it.
        name: &'static str,
    },
    /// The file ends inside a record: whatever wrote it was stopped.
    #[error("the file ends inside a record: {found} of {wanted} bytes")]
    CutShort {
        /// Bytes there.
        found: usize,
        /// Bytes the record says it has.
        wanted: usize,
    },
    /// A record larger than any frame.
    #[error("a record of {bytes} bytes; {RECORD_BYTES_MAX} at the most")]
    RecordTooLarge {
        /// Length it states.
        bytes: u64,
    },
    /// A pcapng block whose lengths contradict each other.
    #[error("{block} block: {field} is {found}; allowed: {allowed}")]
    Block {
        /// Kind of block.
        block: &'static str,
        /// The field at fault.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// More interfaces than any machine has: a damaged or hostile file.
    #[error("describes more than {interfaces_max} interfaces")]
    TooManyInterfaces {
        /// How many are read.
        interfaces_max: usize,
    },
    /// A frame names an interface its section has not described.
    #[error("names interface {interface}; the section describes {described}")]
    UnknownInterface {
        /// The number it names.
        interface: u32,
        /// Interfaces described so far.
        described: usize,
    },
}

/// Name of a link type in the registry of link-layer header types.
pub(super) fn link_type_name(number: u16) -> &'static str {
    match number {
        0 => "BSD loopback",
        1 => "Ethernet",
        6 => "token ring",
        9 => "PPP",
        10 => "FDDI",
        12 | 14 | 101 => "raw IP",
        50 => "PPP in HDLC-like framing",
        105 => "IEEE 802.11",
        107 => "frame relay",
        108 => "OpenBSD loopback",
        113 => "Linux cooked v1",
        117 => "OpenBSD pflog",
        127 => "IEEE 802.11 radiotap",
        187 => "Bluetooth HCI",
        189 | 220 => "USB",
        195 | 230 => "IEEE 802.15.4",
        228 => "raw IPv4",
        229 => "raw IPv6",
        239 => "Linux nflog",
        253 => "Linux netlink",
        276 => "Linux cooked v2",
        _ => "not Ethernet",
    }
}
