//! Where frames come from and go to: each backend is a [`FrameIo`](super::frame::FrameIo).

pub mod afxdp;
pub mod memory;
pub mod pcap;
