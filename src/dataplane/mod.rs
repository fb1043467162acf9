//! One packet, eight stages: receive, parse, track, classify, admit, rewrite, steer, transmit.

pub mod backend;
pub mod frame;
pub mod route;
pub mod verdict;
pub mod xdp;
