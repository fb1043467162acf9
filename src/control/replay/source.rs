//! The captures' frames in order of time, each with the port it came in on.

use std::fs::File;
use std::io::BufReader;

use super::{CaptureInput, ReplayError, port_names};
use crate::dataplane::backend::pcap::{CaptureError, CaptureReader, Merge, MergedFrame};
use crate::dataplane::verdict::PortId;
use crate::settings::Settings;

/// A frame and its place among all.
pub(super) struct SourceFrame<'a> {
    /// From 1.
    pub(super) number: u64,
    pub(super) port: PortId,
    pub(super) timestamp_ns: u64,
    pub(super) bytes: &'a [u8],
}

/// What reading one frame more has come to.
pub(super) enum Next<'a> {
    Frame(SourceFrame<'a>),
    End,
    /// A capture is damaged behind its first frame.
    Damage(CaptureError),
}

/// All captures of a replay.
pub(super) struct Source<'settings> {
    merge: Merge<BufReader<File>>,
    ports: PortMap<'settings>,
    frames: u64,
    frames_cut: u64,
}

/// Which port the frames of an interface came in on.
struct PortMap<'settings> {
    settings: &'settings Settings,
    /// By capture: the port of frames whose interface is none.
    defaults: Vec<Option<PortId>>,
    /// By capture and interface, as far as asked for.
    known: Vec<Vec<Option<PortId>>>,
}

impl<'settings> Source<'settings> {
    pub(super) fn open(
        captures: &[CaptureInput],
        settings: &'settings Settings,
    ) -> Result<Self, ReplayError> {
        let mut readers = Vec::with_capacity(captures.len());
        let mut defaults = Vec::with_capacity(captures.len());
        for CaptureInput { path, port } in captures {
            let port = port.as_deref().map(|name| named(settings, name));
            defaults.push(port.transpose()?);
            readers.push(CaptureReader::open(path)?);
        }
        let known = vec![Vec::new(); readers.len()];
        Ok(Source {
            merge: Merge::new(readers)?,
            ports: PortMap {
                settings,
                defaults,
                known,
            },
            frames: 0,
            frames_cut: 0,
        })
    }

    pub(super) fn next_frame(&mut self) -> Result<Next<'_>, ReplayError> {
        let frame = match self.merge.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(Next::End),
            Err(damage) => return Ok(Next::Damage(damage)),
        };
        self.frames += 1;
        self.frames_cut += u64::from(frame.original_bytes as usize > frame.bytes.len());
        Ok(Next::Frame(SourceFrame {
            number: self.frames,
            port: self.ports.of(&frame, self.frames)?,
            timestamp_ns: frame.timestamp_ns,
            bytes: frame.bytes,
        }))
    }

    /// Frames that a snap length has cut short; they are judged as captured.
    pub(super) fn frames_cut(&self) -> u64 {
        self.frames_cut
    }
}

impl PortMap<'_> {
    /// The port that bears the interface's name in the capture; or else the port whose interface
    /// does; or else the port given for the whole capture.
    fn of(&mut self, frame: &MergedFrame<'_>, number: u64) -> Result<PortId, ReplayError> {
        let known = &mut self.known[frame.capture];
        let interface = frame.interface as usize;
        if let Some(Some(port)) = known.get(interface) {
            return Ok(*port);
        }
        let ports = &self.settings.ports;
        let by_name = frame.interface_name.and_then(|name| {
            let named = ports.iter().position(|port| port.name == name);
            named.or_else(|| ports.iter().position(|port| port.interface == name))
        });
        let by_name = by_name.map(|number| PortId(number as u8));
        let port = by_name.or(self.defaults[frame.capture]);
        let port = port.ok_or_else(|| ReplayError::NoPort {
            file: frame.file.to_owned(),
            frame: number,
            interface: frame.interface_name.unwrap_or("unnamed").to_owned(),
            ports: port_names(self.settings),
        })?;
        // Bounded by the interfaces a capture may describe.
        known.resize(known.len().max(interface + 1), None);
        known[interface] = Some(port);
        Ok(port)
    }
}

fn named(settings: &Settings, name: &str) -> Result<PortId, ReplayError> {
    let number = settings.port(name);
    let number = number.ok_or_else(|| ReplayError::NoSuchPort {
        name: name.to_owned(),
        ports: port_names(settings),
    })?;
    Ok(PortId(number as u8))
}
