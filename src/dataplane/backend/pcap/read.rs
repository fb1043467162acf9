//! One capture, record by record.
//!
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

use std::io::Read;

use super::error::link_type_name;
use super::interface::{ByteOrder, Interface, TimeUnits};
use super::{CaptureError, ETHERNET, Fault, RECORD_BYTES_MAX};

/// One frame of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureFrame<'a> {
    /// Nanoseconds since 1970-01-01 UTC.
    pub timestamp_ns: u64,
    /// Its interface's number in [`CaptureReader::interface_name`].
    pub interface: u32,
    /// Length the frame had on the wire; more than `bytes` when a snap length cut it short.
    pub original_bytes: u32,
    /// What was captured of it.
    pub bytes: &'a [u8],
}

/// Reads one pcap or pcapng file.
pub struct CaptureReader<R> {
    source: R,
    file: String,
    /// Bytes read so far, and where the current record starts.
    offset: u64,
    record_offset: u64,
    frames: u64,
    format: Format,
    order: ByteOrder,
    /// Of the whole file; `interfaces[section_start..]` are the current section's.
    interfaces: Vec<Interface>,
    section_start: usize,
    last_timestamp_ns: u64,
    record: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Pcap,
    Pcapng,
}

/// What a pcapng packet block says of its frame.
struct Packet {
    interface: u32,
    timestamp: Option<u64>,
    captured: u32,
    original_bytes: u32,
    /// Where the frame starts in the block's body.
    start: usize,
}

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

impl CaptureReader<std::io::BufReader<std::fs::File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be opened or is no capture of Ethernet frames.
    pub fn open(path: &std::path::Path) -> Result<Self, CaptureError> {
        let file = path.display().to_string();
        match std::fs::File::open(path) {
            Ok(source) => Self::new(file, std::io::BufReader::with_capacity(1 << 18, source)),
            Err(error) => Err(CaptureError {
                file,
                offset: 0,
                frame: 1,
                fault: error.into(),
            }),
        }
    }
}

impl<R: Read> CaptureReader<R> {
    /// Reads the head of a capture; `file` is its name in messages.
    ///
    /// # Errors
    /// When it is no capture, or a pcap of anything but Ethernet frames.
    pub fn new(file: impl Into<String>, source: R) -> Result<Self, CaptureError> {
        let mut reader = CaptureReader {
            source,
            file: file.into(),
            offset: 0,
            record_offset: 0,
            frames: 0,
            format: Format::Pcapng,
            order: ByteOrder::Little,
            interfaces: Vec::new(),
            section_start: 0,
            last_timestamp_ns: 0,
            record: Vec::new(),
        };
        match reader.read_head() {
            Ok(()) => Ok(reader),
            Err(fault) => Err(reader.error(fault)),
        }
    }

    /// The next frame; `None` at the end of the file.
    ///
    /// # Errors
    /// When the file is damaged here. It cannot be read further then.
    pub fn next_frame(&mut self) -> Result<Option<CaptureFrame<'_>>, CaptureError> {
        let packet = match self.format {
            Format::Pcap => self.next_pcap(),
            Format::Pcapng => self.next_pcapng(),
        };
        match packet.and_then(|packet| self.locate(packet)) {
            Ok(None) => Ok(None),
            Ok(Some((interface, timestamp_ns, packet))) => Ok(Some(CaptureFrame {
                timestamp_ns,
                interface,
                original_bytes: packet.original_bytes,
                bytes: &self.record[packet.start..packet.start + packet.captured as usize],
            })),
            Err(fault) => Err(self.error(fault)),
        }
    }

    /// Name of an interface (pcapng `if_name`); `None` where the file does not tell.
    pub fn interface_name(&self, interface: u32) -> Option<&str> {
        self.interfaces.get(interface as usize)?.name.as_deref()
    }

    /// The file as the caller named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    fn error(&self, fault: Fault) -> CaptureError {
        CaptureError {
            file: self.file.clone(),
            offset: self.record_offset,
            frame: self.frames + 1,
            fault,
        }
    }

    fn read_head(&mut self) -> Result<(), Fault> {
        if !self.read_record(4)? {
            return Err(Fault::Empty);
        }
        let magic = self.u32_at(0);
        let (order, units) = match magic.swap_bytes() {
            0xa1b2_c3d4 => (ByteOrder::Big, TimeUnits::Decimal(6)),
            0xa1b2_3c4d => (ByteOrder::Big, TimeUnits::Decimal(9)),
            0xd4c3_b2a1 => (ByteOrder::Little, TimeUnits::Decimal(6)),
            0x4d3c_b2a1 => (ByteOrder::Little, TimeUnits::Decimal(9)),
            SECTION_HEADER => return self.read_section_header(),
            found => return Err(Fault::NotACapture { found }),
        };
        self.format = Format::Pcap;
        self.order = order;
        self.read_rest(20)?;
        // The upper half of the field tells of frame check sequences.
        let link_type = self.u32_at(16) as u16;
        if link_type != ETHERNET {
            return Err(not_ethernet(link_type));
        }
        self.interfaces.push(Interface::unnamed(link_type, units));
        Ok(())
    }

    fn next_pcap(&mut self) -> Result<Option<Packet>, Fault> {
        if !self.read_record(16)? {
            return Ok(None);
        }
        let (seconds, fraction) = (self.u32_at(0) as u64, self.u32_at(4) as u64);
        let (captured, original_bytes) = (self.u32_at(8), self.u32_at(12));
        let units_per_s = match self.interfaces[0].units {
            TimeUnits::Decimal(9) => 1_000_000_000,
            _ => 1_000_000,
        };
        self.read_rest(captured as u64)?;
        Ok(Some(Packet {
            interface: 0,
            timestamp: Some(seconds * units_per_s + fraction),
            captured,
            original_bytes,
            start: 0,
        }))
    }

    fn next_pcapng(&mut self) -> Result<Option<Packet>, Fault> {
        loop {
            if !self.read_record(4)? {
                return Ok(None);
            }
            // The same in both byte orders.
            if self.u32_at(0) == SECTION_HEADER {
                self.read_section_header()?;
                continue;
            }
            let block = self.u32_at(0);
            self.read_block_body()?;
            match block {
                INTERFACE_DESCRIPTION => self.read_interface()?,
                ENHANCED_PACKET | OBSOLETE_PACKET => return self.packet(block).map(Some),
                SIMPLE_PACKET => return self.simple_packet().map(Some),
                // Names, statistics, secrets, custom blocks: nothing to replay.
                _ => {}
            }
        }
    }

    /// Reads a section header block behind its type, which tells the byte order of what follows.
    fn read_section_header(&mut self) -> Result<(), Fault> {
        self.read_rest(8)?;
        self.order = match ByteOrder::Little.u32_at(&self.record, 4) {
            0x1a2b_3c4d => ByteOrder::Little,
            0x4d3c_2b1a => ByteOrder::Big,
            found => {
                return Err(block_fault(
                    "section header",
                    "byte-order magic",
                    found,
                    MAGIC,
                ));
            }
        };
        let total = self.u32_at(0);
        if total < 28 || !total.is_multiple_of(4) {
            let allowed = "a multiple of 4, at least 28";
            return Err(block_fault(
                "section header",
                "total length",
                total,
                allowed,
            ));
        }
        self.read_rest(total as u64 - 12)?;
        let repeated = self.u32_at(total as usize - 16);
        if repeated != total {
            return Err(block_fault(
                "section header",
                "trailing total length",
                repeated,
                SAME,
            ));
        }
        self.section_start = self.interfaces.len();
        Ok(())
    }

    /// Reads the length and then the body of a block behind its type into `record`.
    fn read_block_body(&mut self) -> Result<(), Fault> {
        self.read_rest(4)?;
        let total = self.u32_at(0);
        if total < 12 || !total.is_multiple_of(4) {
            let allowed = "a multiple of 4, at least 12";
            return Err(block_fault("pcapng", "total length", total, allowed));
        }
        self.read_rest(total as u64 - 8)?;
        let repeated = self.u32_at(total as usize - 12);
        if repeated != total {
            return Err(block_fault(
                "pcapng",
                "trailing total length",
                repeated,
                SAME,
            ));
        }
        self.record.truncate(total as usize - 12);
        Ok(())
    }

    fn read_interface(&mut self) -> Result<(), Fault> {
        self.need("interface description", 8)?;
        if self.interfaces.len() == INTERFACES_MAX {
            return Err(Fault::TooManyInterfaces {
                interfaces_max: INTERFACES_MAX,
            });
        }
        let interface = Interface::described(&self.record, self.order);
        self.interfaces.push(interface);
        Ok(())
    }

    fn packet(&self, block: u32) -> Result<Packet, Fault> {
        self.need("packet", 20)?;
        let interface = match block {
            OBSOLETE_PACKET => self.order.u16_at(&self.record, 0) as u32,
            _ => self.u32_at(0),
        };
        let captured = self.u32_at(12);
        if captured as usize > self.record.len() - 20 {
            let allowed = "no more than the block holds";
            return Err(block_fault("packet", "captured length", captured, allowed));
        }
        Ok(Packet {
            interface,
            timestamp: Some((self.u32_at(4) as u64) << 32 | self.u32_at(8) as u64),
            captured,
            original_bytes: self.u32_at(16),
            start: 20,
        })
    }

    /// A simple packet block has neither interface (it is the first) nor time (the last one known).
    fn simple_packet(&self) -> Result<Packet, Fault> {
        self.need("simple packet", 4)?;
        let original_bytes = self.u32_at(0);
        let snap_bytes = match self.interfaces.get(self.section_start) {
            Some(first) if first.snap_bytes != 0 => first.snap_bytes,
            _ => u32::MAX,
        };
        let held = (self.record.len() - 4) as u32;
        Ok(Packet {
            interface: 0,
            timestamp: None,
            captured: original_bytes.min(snap_bytes).min(held),
            original_bytes,
            start: 4,
        })
    }

    /// Finds the interface of a packet in the whole file and its time stamp in nanoseconds.
    fn locate(&mut self, packet: Option<Packet>) -> Result<Option<(u32, u64, Packet)>, Fault> {
        let Some(packet) = packet else {
            return Ok(None);
        };
        let described = self.interfaces.len() - self.section_start;
        if packet.interface as usize >= described {
            return Err(Fault::UnknownInterface {
                interface: packet.interface,
                described,
            });
        }
        let index = self.section_start + packet.interface as usize;
        let interface = &self.interfaces[index];
        if interface.link_type != ETHERNET {
            return Err(not_ethernet(interface.link_type));
        }
        if let Some(timestamp) = packet.timestamp {
            self.last_timestamp_ns = interface.nanoseconds(timestamp);
        }
        self.frames += 1;
        Ok(Some((index as u32, self.last_timestamp_ns, packet)))
    }

    /// Starts a record of `wanted` bytes; `false` at the end of the file.
    fn read_record(&mut self, wanted: u64) -> Result<bool, Fault> {
        self.record_offset = self.offset;
        match self.read_rest(wanted) {
            Err(Fault::CutShort { found: 0, .. }) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Replaces `record` by the next `wanted` bytes, all of them. Memory grows with what is there,
    /// not with what is claimed.
    fn read_rest(&mut self, wanted: u64) -> Result<(), Fault> {
        if wanted > RECORD_BYTES_MAX as u64 {
            return Err(Fault::RecordTooLarge { bytes: wanted });
        }
        self.record.clear();
        let found = (&mut self.source)
            .take(wanted)
            .read_to_end(&mut self.record)?;
        self.offset += found as u64;
        if (found as u64) < wanted {
            let wanted = wanted as usize;
            return Err(Fault::CutShort { found, wanted });
        }
        Ok(())
    }

    fn need(&self, block: &'static str, bytes: usize) -> Result<(), Fault> {
        if self.record.len() < bytes {
            let found = self.record.len() as u32 + 12;
            let allowed = "long enough for the block's fixed fields";
            return Err(block_fault(block, "total length", found, allowed));
        }
        Ok(())
    }

    fn u32_at(&self, at: usize) -> u32 {
        self.order.u32_at(&self.record, at)
    }
}

const MAGIC: &str = "1a2b3c4d in either byte order";
const SAME: &str = "the same as at the block's start";

/// Interfaces of one file, all sections together.
const INTERFACES_MAX: usize = 4096;

fn not_ethernet(number: u16) -> Fault {
    let name = link_type_name(number);
    Fault::LinkType { number, name }
}

fn block_fault(
    block: &'static str,
    field: &'static str,
    found: u32,
    allowed: &'static str,
) -> Fault {
    Fault::Block {
        block,
        field,
        found: found as u64,
        allowed,
    }
}
