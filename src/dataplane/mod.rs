//! One packet, eight stages: receive, parse, track, classify, admit, rewrite, steer, transmit.

pub mod conntrack;
pub mod fragment;
pub mod frame;
pub mod pipeline;
pub mod reply;
pub mod route;
pub mod snapshot;
pub mod statistics;
pub mod verdict;
pub mod worker;
