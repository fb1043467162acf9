//! Bytes only: addresses, flow keys, header parsing, checksums, header edits.
//!
//! This room knows no policy, no state and no time, and it allocates nothing: everything in it may
//! run for every frame.

mod address;
pub mod checksum;
mod crc32c;
pub mod edit;
mod flow_key;
pub mod fragment;
mod martian;
pub mod parse;
pub mod protocol;
#[cfg(test)]
pub(crate) mod sample;

pub use address::{Address, Family, MacAddress, MacAddressError};
pub use flow_key::FlowKey;
pub use martian::{DestinationKind, Martian, destination_kind, martian};
pub use parse::{
    ArpView, Fragment, InnerPacket, PacketView, ParseError, ParseOptions, Parsed, TcpFlags,
    TcpHeader, destination_mac, parse, parse_icmp_error, source_mac,
};
