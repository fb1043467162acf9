//! Captures: pcap and pcapng read record by record, several merged by time stamp, pcapng written.
//!
//! Reading is written by hand and writing is not: the `pcap-file` crate takes the units of a pcapng
//! time stamp for nanoseconds whatever the interface says, refuses every frame that a snap length
//! cut short, and a whole file for one option it cannot read. Captures come from anywhere, so the
//! reader here believes only the lengths it has checked, and memory is bounded by
//! [`RECORD_BYTES_MAX`] whatever a file claims.

mod error;
mod interface;
mod merge;
mod read;
mod write;

pub use error::{CaptureError, Fault};
pub use merge::{Merge, MergedFrame};
pub use read::{CaptureFrame, CaptureReader};
pub use write::CaptureWriter;

/// Largest record (pcap) or block (pcapng) read, in bytes. Frames are at most 256 KiB in practice;
/// more is a damaged file.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Link type of Ethernet frames, the only one the data plane reads.
const ETHERNET: u16 = 1;

#[cfg(test)]
mod tests;
