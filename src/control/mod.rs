//! Everything around the packet path: supervision, policy sources, reload, kernel mirror, admin
//! API.

pub mod admin;
pub mod cases;
pub mod client;
pub mod decide;
pub mod explain;
pub mod judge;
pub mod metrics;
pub mod netlink;
pub mod policy;
pub mod probe;
pub mod publisher;
pub mod reload;
pub mod resolve;
pub mod rule_slots;
pub mod status;
