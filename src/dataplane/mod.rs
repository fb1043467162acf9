//! One packet, eight stages: receive, parse, track, classify, admit, rewrite, steer, transmit.

pub mod fragment;
pub mod frame;
pub mod reply;
pub mod route;
pub mod verdict;
