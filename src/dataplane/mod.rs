//! One packet, eight stages: receive, parse, track, classify, admit, rewrite, steer, transmit.
//!
//! | stage | where |
//! |---|---|
//! | receive, transmit | [`worker`], over a [`frame::FrameIo`] |
//! | parse to steer | [`pipeline`] |
//!
//! State: [`conntrack`], [`fragment`], [`nat`]. Told from outside: [`snapshot`], [`route`],
//! [`station`]. Told to the
//! outside: [`verdict`], [`statistics`], [`event`], [`reply`].

pub mod backend;
pub mod conntrack;
pub mod event;
pub mod flow_job;
pub mod fragment;
pub mod fragment_pool;
pub mod frame;
pub mod handoff;
mod hash;
pub mod nat;
pub mod neighbour;
pub mod pipeline;
mod prefetch;
pub mod random;
pub mod rate_limit;
pub mod reply;
pub mod route;
pub mod snapshot;
pub mod station;
pub mod statistics;
pub mod verdict;
pub mod worker;
pub mod xdp;
