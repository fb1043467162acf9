//! Several captures as one, by time stamp.

use std::io::Read;

use super::{CaptureError, CaptureReader};

/// One frame of the merged captures; valid until the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergedFrame<'a> {
    /// Which capture it is from, in the order given.
    pub capture: usize,
    /// That capture's file, as the caller named it.
    pub file: &'a str,
    /// Its interface in that capture.
    pub interface: u32,
    /// Name of that interface; `None` where the capture does not tell.
    pub interface_name: Option<&'a str>,
    /// Nanoseconds since 1970-01-01 UTC, as the capture says: may go backwards within one capture.
    pub timestamp_ns: u64,
    /// Length the frame had on the wire.
    pub original_bytes: u32,
    /// What was captured of it.
    pub bytes: &'a [u8],
}

/// Merges captures by time stamp; frames of equal time in the order of the captures, frames of one
/// capture in its own order.
pub struct Merge<R> {
    captures: Vec<CaptureReader<R>>,
    /// The next frame of each capture, `None` behind its end.
    heads: Vec<Option<Head>>,
    current: Head,
    /// Damage met while reading ahead, told once the frames before it have been given.
    damage: Option<CaptureError>,
}

#[derive(Default)]
struct Head {
    interface: u32,
    timestamp_ns: u64,
    original_bytes: u32,
    bytes: Vec<u8>,
}

impl<R: Read> Merge<R> {
    /// Starts with the first frame of each capture.
    ///
    /// # Errors
    /// When one of them is damaged before its first frame.
    pub fn new(captures: Vec<CaptureReader<R>>) -> Result<Self, CaptureError> {
        let heads = captures.iter().map(|_| Some(Head::default())).collect();
        let mut merge = Merge {
            captures,
            heads,
            current: Head::default(),
            damage: None,
        };
        for capture in 0..merge.captures.len() {
            merge.advance(capture);
        }
        match merge.damage.take() {
            Some(damage) => Err(damage),
            None => Ok(merge),
        }
    }

    /// The next frame of all; `None` behind the last.
    ///
    /// # Errors
    /// When a capture is damaged; every frame before the damage has been given.
    pub fn next_frame(&mut self) -> Result<Option<MergedFrame<'_>>, CaptureError> {
        if let Some(damage) = self.damage.take() {
            self.heads.fill_with(|| None);
            return Err(damage);
        }
        let heads = self.heads.iter().enumerate();
        let earliest = heads
            .filter_map(|(capture, head)| Some((head.as_ref()?.timestamp_ns, capture)))
            .min();
        let Some((_, capture)) = earliest else {
            return Ok(None);
        };
        if let Some(head) = &mut self.heads[capture] {
            std::mem::swap(head, &mut self.current);
        }
        self.advance(capture);
        let current = &self.current;
        let reader = &self.captures[capture];
        Ok(Some(MergedFrame {
            capture,
            file: reader.file(),
            interface: current.interface,
            interface_name: reader.interface_name(current.interface),
            timestamp_ns: current.timestamp_ns,
            original_bytes: current.original_bytes,
            bytes: &current.bytes,
        }))
    }

    /// Reads the next head of a capture into the memory of the old one.
    fn advance(&mut self, capture: usize) {
        let slot = &mut self.heads[capture];
        match (self.captures[capture].next_frame(), slot.as_mut()) {
            (Ok(Some(frame)), Some(head)) => {
                head.interface = frame.interface;
                head.timestamp_ns = frame.timestamp_ns;
                head.original_bytes = frame.original_bytes;
                head.bytes.clear();
                head.bytes.extend_from_slice(frame.bytes);
            }
            (Err(damage), _) => {
                *slot = None;
                self.damage = Some(damage);
            }
            _ => *slot = None,
        }
    }
}
