//! Everything around the packet path: supervision, policy sources, reload, kernel mirror, admin
//! API.

pub mod netlink;
pub mod rule_slots;
