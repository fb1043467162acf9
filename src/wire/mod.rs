//! Bytes only: addresses, flow keys, header parsing, checksums, header edits.
//!
//! This room knows no policy, no state and no time, and it allocates nothing: everything in it may
//! run for every frame.

mod address;
mod flow_key;
pub mod protocol;

pub use address::{Address, Family, MacAddress};
pub use flow_key::FlowKey;
