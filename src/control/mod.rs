//! Everything around the packet path: supervision, policy sources, reload, kernel mirror, admin
//! API.

pub mod admin;
pub mod cases;
pub mod client;
pub mod compatibility;
pub mod compilation;
pub mod decide;
pub mod detach;
pub mod difference;
pub mod doctor;
mod effects;
pub mod explain;
pub mod flows;
pub mod judge;
pub mod layer2;
pub mod logging;
pub mod metrics;
pub mod netlink;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod publisher;
pub mod reload;
pub mod replay;
pub mod report;
pub mod resolve;
pub mod rule_slots;
mod stations;
pub mod status;
pub mod supervisor;
#[cfg(test)]
mod wire_tests;
pub mod workers;
