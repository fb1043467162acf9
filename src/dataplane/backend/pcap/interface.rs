//! What a capture says of the interface a frame came in on, and in which byte order it says so.

/// Order of the bytes of a file's, or a section's, numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

/// Length of one unit of a time stamp: `10^-n` s or `2^-n` s.
#[derive(Debug, Clone, Copy)]
pub(super) enum TimeUnits {
    Decimal(u32),
    Binary(u32),
}

#[derive(Debug)]
pub(super) struct Interface {
    pub(super) name: Option<String>,
    pub(super) link_type: u16,
    /// Bytes captured of a frame at the most; 0 is no limit.
    pub(super) snap_bytes: u32,
    pub(super) units: TimeUnits,
    offset_s: i64,
}

const OPTION_END: u16 = 0;
const OPTION_IF_NAME: u16 = 2;
const OPTION_IF_TSRESOL: u16 = 9;
const OPTION_IF_TSOFFSET: u16 = 14;

impl ByteOrder {
    pub(super) fn u16_at(self, bytes: &[u8], at: usize) -> u16 {
        let bytes = [bytes[at], bytes[at + 1]];
        match self {
            ByteOrder::Little => u16::from_le_bytes(bytes),
            ByteOrder::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(super) fn u32_at(self, bytes: &[u8], at: usize) -> u32 {
        let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match self {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        }
    }

    fn i64(self, bytes: [u8; 8]) -> i64 {
        match self {
            ByteOrder::Little => i64::from_le_bytes(bytes),
            ByteOrder::Big => i64::from_be_bytes(bytes),
        }
    }
}

impl TimeUnits {
    /// From `if_tsresol`.
    fn new(exponent: u8) -> Self {
        match exponent & 0x80 {
            0 => TimeUnits::Decimal(exponent as u32),
            _ => TimeUnits::Binary((exponent & 0x7f) as u32),
        }
    }
}

impl Interface {
    /// The one interface of a pcap file.
    pub(super) fn unnamed(link_type: u16, units: TimeUnits) -> Self {
        Interface {
            name: None,
            link_type,
            snap_bytes: 0,
            units,
            offset_s: 0,
        }
    }

    /// From the body of an interface description block, at least 8 bytes long. Damaged options end
    /// the list: what they say is of less worth than the frames.
    pub(super) fn described(body: &[u8], order: ByteOrder) -> Self {
        let mut interface = Self::unnamed(order.u16_at(body, 0), TimeUnits::Decimal(6));
        interface.snap_bytes = order.u32_at(body, 4);
        let mut at = 8;
        while at + 4 <= body.len() {
            let (code, length) = (order.u16_at(body, at), order.u16_at(body, at + 2) as usize);
            let Some(value) = body.get(at + 4..at + 4 + length) else {
                break;
            };
            match (code, value) {
                (OPTION_END, _) => break,
                (OPTION_IF_NAME, name) => {
                    let name = String::from_utf8_lossy(name);
                    interface.name = Some(name.trim_end_matches('\0').to_owned());
                }
                (OPTION_IF_TSRESOL, [exponent]) => interface.units = TimeUnits::new(*exponent),
                (OPTION_IF_TSOFFSET, &[a, b, c, d, e, f, g, h]) => {
                    interface.offset_s = order.i64([a, b, c, d, e, f, g, h]);
                }
                _ => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        interface
    }

    /// Units of this interface to nanoseconds since 1970; a time out of range is the nearest one in
    /// it.
    pub(super) fn nanoseconds(&self, timestamp: u64) -> u64 {
        let units = timestamp as u128;
        let nanoseconds = match self.units {
            TimeUnits::Decimal(digits @ ..=9) => units * 10_u128.pow(9 - digits),
            TimeUnits::Decimal(digits) => {
                units / 10_u128.checked_pow(digits - 9).unwrap_or(u128::MAX)
            }
            TimeUnits::Binary(bits) => (units * 1_000_000_000) >> bits,
        };
        let offset_ns = self.offset_s as i128 * 1_000_000_000;
        let total = nanoseconds as i128 + offset_ns;
        total.clamp(0, u64::MAX as i128) as u64
    }
}
