//! Everything around the packet path: supervision, policy sources, reload, kernel mirror, admin API.

pub mod cases;
pub mod compatibility;
pub mod decide;
pub mod explain;
pub mod judge;
pub mod netlink;
pub mod probe;
pub mod resolve;
