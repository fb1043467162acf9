//! The whole appliance, end to end: hosts in network namespaces, frames through AF_XDP, decided by
//! NetworkPolicy manifests. Needs root.

mod crash;
mod forwarding;
mod policy;
mod ports;
mod reports;
mod routing;
#[path = "../support/mod.rs"]
mod support;
mod verbs;
mod workers;
