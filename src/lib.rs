//! portcullis: a userspace packet-processing firewall appliance.
pub mod classifier;
pub mod dataplane;
pub mod policy;
pub mod wire;
