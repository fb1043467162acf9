//! One packet, eight stages: receive, parse, track, classify, admit, rewrite, steer, transmit.

pub mod backend;
pub mod conntrack;
pub mod frame;
pub mod neighbour;
pub mod route;
pub mod snapshot;
pub mod statistics;
pub mod verdict;
