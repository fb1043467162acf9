//! One packet, eight stages: receive, parse, track, classify, admit, rewrite, steer, transmit.

pub mod frame;
pub mod neighbour;
pub mod route;
pub mod verdict;
