//! Frames out to pcapng, with interface names and a comment on each frame.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

/// Writes one pcapng section; the same frames give the same bytes on every machine.
pub struct CaptureWriter<W: Write> {
    writer: PcapNgWriter<W>,
}

impl<W: Write> CaptureWriter<W> {
    /// Writes the head: one interface for each name, numbered in this order, with nanosecond time
    /// stamps.
    ///
    /// # Errors
    /// When the destination cannot be written to.
    pub fn new<'a>(
        destination: W,
        interfaces: impl IntoIterator<Item = &'a str>,
    ) -> std::io::Result<Self> {
        let little = Endianness::Little;
        let mut writer = PcapNgWriter::with_endianness(destination, little).map_err(into_io)?;
        for name in interfaces {
            let block = InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: 0,
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                    InterfaceDescriptionOption::IfTsResol(9),
                ],
            };
            writer.write_block(&block.into_block()).map_err(into_io)?;
        }
        Ok(CaptureWriter { writer })
    }

    /// Writes one frame; an empty comment is left out.
    ///
    /// # Errors
    /// When the destination cannot be written to.
    pub fn write(
        &mut self,
        interface: u32,
        timestamp_ns: u64,
        bytes: &[u8],
        comment: &str,
    ) -> std::io::Result<()> {
        let comments =
            (!comment.is_empty()).then_some(EnhancedPacketOption::Comment(Cow::Borrowed(comment)));
        let block = EnhancedPacketBlock {
            interface_id: interface,
            timestamp: Duration::from_nanos(timestamp_ns),
            original_len: bytes.len() as u32,
            data: Cow::Borrowed(bytes),
            options: comments.into_iter().collect(),
        };
        let written = self.writer.write_block(&block.into_block());
        written.map(drop).map_err(into_io)
    }

    /// Gives the destination back, for flushing or reading.
    pub fn into_inner(self) -> W {
        self.writer.into_inner()
    }
}

fn into_io(error: PcapError) -> std::io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => std::io::Error::other(other),
    }
}
