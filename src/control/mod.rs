//! Everything around the packet path: supervision, policy sources, reload, kernel mirror, admin
//! API.

pub mod admin;
pub mod client;
pub mod metrics;
pub mod netlink;
pub mod policy;
pub mod publisher;
pub mod reload;
pub mod rule_slots;
pub mod status;
