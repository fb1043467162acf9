//! portcullis: a userspace packet-processing firewall appliance.

pub mod classifier;
pub mod cli;
pub mod control;
pub mod dataplane;
pub mod policy;
pub mod settings;
pub mod wire;
