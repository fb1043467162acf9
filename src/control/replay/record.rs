//! What became of every frame: verdict lines, their digest, counts, and the frames that leave.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use super::compare::{FlowVerdict, FlowVerdicts};
use super::report::Report;
use super::source::SourceFrame;
use super::{Outputs, ReplayError};
use crate::control::rule_slots::{RuleSlots, RuleTotals};
use crate::control::status::VolumeStatus;
use crate::dataplane::backend::memory::MemoryFrame;
use crate::dataplane::backend::pcap::CaptureWriter;
use crate::dataplane::frame::FrameBuffer;
use crate::dataplane::pipeline::{Packet, PacketState, Trace};
use crate::dataplane::snapshot::{RuleSlot, Snapshot};
use crate::dataplane::verdict::{DropReason, PortId, Verdict};
use crate::settings::Settings;

/// Names of ports, rules and policy families, as the lines bear them.
pub(super) struct Names {
    ports: Vec<String>,
    /// By counter slot: label and id.
    rules: Vec<(String, String)>,
    families: Vec<&'static str>,
    generation: u32,
}

/// Takes every frame's verdict.
pub(super) struct Recorder {
    names: Names,
    verdicts: Option<Box<dyn Write>>,
    frames: Option<CaptureWriter<Box<dyn Write>>>,
    write_drops: bool,
    hasher: blake3::Hasher,
    report: Report,
    /// Frames of the present batch, in order, the ones too large for it among them.
    arrivals: Vec<Arrival>,
    /// Time stamp of the latest frame: when what leaves now leaves.
    now_ns: u64,
    /// Frames held back, by number.
    held: BTreeMap<u64, Held>,
    line: Vec<u8>,
    /// What the first frame of every flow has come to, when asked for.
    flows: Option<FlowVerdicts>,
}

/// A frame as it came in.
struct Arrival {
    number: u64,
    port: PortId,
    len: usize,
    too_large: bool,
    /// Its bytes, kept when drops are written.
    bytes: Vec<u8>,
}

/// A frame held back, and all that is known of it.
struct Held {
    arrival: Arrival,
    trace: Trace,
}

/// All that is known of a frame the pipeline has not seen.
const NOT_SEEN: Trace = Trace {
    key: None,
    rule: RuleSlot::NONE,
    denied_by: None,
    state: PacketState::Untracked,
};

/// One line of the verdicts.
#[derive(Serialize)]
struct Line<'a> {
    frame: u64,
    port: &'a str,
    verdict: &'static str,
    reason: &'static str,
    stage: &'static str,
    rule: Option<&'a str>,
    rule_id: Option<&'a str>,
    out_port: Option<&'a str>,
    generation: u32,
    flow: Option<String>,
}

impl Names {
    pub(super) fn new(settings: &Settings, snapshot: &Snapshot, slots: &RuleSlots) -> Self {
        let generation = snapshot
            .policy
            .as_ref()
            .map_or(0, |policy| policy.generation);
        let rows = slots.totals(generation, |_| RuleTotals::default());
        let stages = snapshot.policy.iter().flat_map(|policy| &policy.stages);
        Names {
            ports: settings
                .ports
                .iter()
                .map(|port| port.name.clone())
                .collect(),
            rules: rows
                .map(|(label, id, ..)| (label.to_owned(), format!("{:016x}", id.0)))
                .collect(),
            families: stages.map(|stage| stage.family).collect(),
            generation,
        }
    }

    /// Number of rules.
    pub(super) fn rules(&self) -> usize {
        self.rules.len()
    }

    fn port(&self, port: PortId) -> &str {
        &self.ports[port.0 as usize]
    }

    /// The rule that denied, or the last that allowed.
    fn rule(&self, trace: &Trace) -> Option<&(String, String)> {
        let slot = trace.rule;
        self.rules
            .get(slot.0 as usize)
            .filter(|_| slot != RuleSlot::NONE)
    }
}

impl Recorder {
    pub(super) fn new(
        names: Names,
        outputs: Outputs,
        write_drops: bool,
    ) -> Result<Self, ReplayError> {
        let frames = outputs.frames.map(|destination| {
            CaptureWriter::new(destination, names.ports.iter().map(String::as_str))
        });
        Ok(Recorder {
            frames: frames.transpose()?,
            names,
            verdicts: outputs.verdicts,
            write_drops,
            hasher: blake3::Hasher::new(),
            report: Report::default(),
            arrivals: Vec::new(),
            now_ns: 0,
            held: BTreeMap::new(),
            line: Vec::new(),
            flows: None,
        })
    }

    /// Remembers what becomes of every flow.
    pub(super) fn remember_flows(&mut self) {
        self.flows = Some(FlowVerdicts::default());
    }

    /// A frame goes into the present batch.
    pub(super) fn received(&mut self, frame: &SourceFrame<'_>) {
        self.arrive(frame, false);
    }

    /// A frame does not fit the data plane's frames.
    pub(super) fn too_large(&mut self, frame: &SourceFrame<'_>) {
        self.arrive(frame, true);
    }

    fn arrive(&mut self, frame: &SourceFrame<'_>, too_large: bool) {
        self.report.received.packets += 1;
        self.report.received.bytes += frame.bytes.len() as u64;
        self.now_ns = self.now_ns.max(frame.timestamp_ns);
        let keep = self.write_drops && self.frames.is_some();
        self.arrivals.push(Arrival {
            number: frame.number,
            port: frame.port,
            len: frame.bytes.len(),
            too_large,
            bytes: if keep {
                frame.bytes.to_vec()
            } else {
                Vec::new()
            },
        });
    }

    /// The batch has its verdicts: `packets` are the frames received, in order, `released` the ones
    /// held back earlier whose verdict is now known.
    pub(super) fn batch(
        &mut self,
        packets: &[Packet<MemoryFrame>],
        released: &[Packet<MemoryFrame>],
    ) -> Result<(), ReplayError> {
        let mut packets = packets.iter();
        for arrival in std::mem::take(&mut self.arrivals) {
            if arrival.too_large {
                self.dropped_outside(&arrival)?;
                continue;
            }
            let Some(packet) = packets.next() else {
                unreachable!("every frame received is in the batch");
            };
            if packet.verdict == Some(Verdict::Hold) {
                let held = Held {
                    arrival,
                    trace: packet.trace,
                };
                self.held.insert(held.arrival.number, held);
            } else {
                self.judged(&arrival, packet)?;
            }
        }
        for packet in released {
            let number = packet.frame.as_ref().map_or(0, |frame| frame.tag);
            if let Some(held) = self.held.remove(&number) {
                self.judged(&held.arrival, packet)?;
            }
        }
        Ok(())
    }

    /// Ends the lines with the frames still held, and gives the counts, and the flows when they
    /// were to be remembered.
    pub(super) fn finish(mut self) -> Result<(Report, FlowVerdicts), ReplayError> {
        for held in std::mem::take(&mut self.held).into_values() {
            self.line(&held.arrival, Verdict::Hold, &held.trace)?;
        }
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.flush()?;
        }
        if let Some(frames) = self.frames {
            frames.into_inner().flush()?;
        }
        self.report.digest = self.hasher.finalize().to_hex().to_string();
        Ok((self.report, self.flows.unwrap_or_default()))
    }

    fn dropped_outside(&mut self, arrival: &Arrival) -> Result<(), ReplayError> {
        let verdict = Verdict::Drop(DropReason::FrameTooLarge);
        self.line(arrival, verdict, &NOT_SEEN)?;
        self.write_dropped(arrival, DropReason::FrameTooLarge, &NOT_SEEN)
    }

    fn judged(
        &mut self,
        arrival: &Arrival,
        packet: &Packet<MemoryFrame>,
    ) -> Result<(), ReplayError> {
        let verdict = packet
            .verdict
            .unwrap_or(Verdict::Drop(DropReason::MalformedHeader));
        self.line(arrival, verdict, &packet.trace)?;
        let bytes = packet.frame.as_ref().map_or(&[][..], FrameBuffer::bytes);
        match verdict {
            Verdict::Forward(out) => {
                let comment = self.comment(arrival.number, "forward", &packet.trace);
                let Some(mut fragments) = packet.fragments() else {
                    return self.write(out, bytes, &comment);
                };
                let mut fragment = vec![0; bytes.len()];
                while let Some(bytes) = fragments.write_next(&mut fragment) {
                    self.write(out, &fragment[..bytes], &comment)?;
                }
                Ok(())
            }
            Verdict::Drop(reason) => {
                if let Some(out) = packet.reply_to {
                    let comment = format!("answer to frame {}: {}", arrival.number, reason.name());
                    self.write(out, bytes, &comment)?;
                }
                self.write_dropped(arrival, reason, &packet.trace)
            }
            _ => Ok(()),
        }
    }

    fn write_dropped(
        &mut self,
        arrival: &Arrival,
        reason: DropReason,
        trace: &Trace,
    ) -> Result<(), ReplayError> {
        if !self.write_drops {
            return Ok(());
        }
        let what = format!("drop {}", reason.name());
        let comment = self.comment(arrival.number, &what, trace);
        self.write(arrival.port, &arrival.bytes, &comment)
    }

    fn comment(&self, number: u64, what: &str, trace: &Trace) -> String {
        match self.names.rule(trace) {
            Some((label, _)) => format!("frame {number}: {what}, {label}"),
            None => format!("frame {number}: {what}"),
        }
    }

    fn write(&mut self, port: PortId, bytes: &[u8], comment: &str) -> Result<(), ReplayError> {
        if let Some(frames) = &mut self.frames {
            frames.write(u32::from(port.0), self.now_ns, bytes, comment)?;
        }
        Ok(())
    }

    /// Writes, hashes and counts one verdict.
    fn line(
        &mut self,
        arrival: &Arrival,
        verdict: Verdict,
        trace: &Trace,
    ) -> Result<(), ReplayError> {
        self.report.count(verdict, arrival.len);
        let rule = self.names.rule(trace);
        let (reason, stage) = match verdict {
            Verdict::Drop(DropReason::Policy) => {
                let family = trace
                    .denied_by
                    .map(|stage| self.names.families[stage as usize]);
                (DropReason::Policy.name(), family.unwrap_or("classify"))
            }
            Verdict::Drop(reason) => (reason.name(), stage(reason)),
            _ => (trace.state.name(), "steer"),
        };
        let line = Line {
            frame: arrival.number,
            port: self.names.port(arrival.port),
            verdict: verdict_name(verdict),
            reason,
            stage,
            rule: rule.map(|(label, _)| label.as_str()),
            rule_id: rule.map(|(_, id)| id.as_str()),
            out_port: match verdict {
                Verdict::Forward(port) => Some(self.names.port(port)),
                _ => None,
            },
            generation: self.names.generation,
            flow: trace.key.map(|key| key.to_string()),
        };
        if let (Some(flows), Some(key)) = (&mut self.flows, trace.key) {
            flows.judged(key, || FlowVerdict {
                verdict: line.verdict,
                reason: line.reason,
                rule: line.rule.map(str::to_owned),
            });
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, &line).map_err(std::io::Error::from)?;
        self.line.push(b'\n');
        self.hasher.update(&self.line);
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.write_all(&self.line)?;
        }
        Ok(())
    }
}

impl Report {
    fn count(&mut self, verdict: Verdict, len: usize) {
        let volume = self.verdicts.entry(verdict_name(verdict)).or_default();
        count(volume, len);
        if let Verdict::Drop(reason) = verdict {
            count(self.drops.entry(reason.name()).or_default(), len);
        }
    }
}

fn count(volume: &mut VolumeStatus, len: usize) {
    volume.packets += 1;
    volume.bytes += len as u64;
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forward(_) => "forward",
        Verdict::Drop(_) => "drop",
        Verdict::Kernel => "kernel",
        Verdict::Local => "local",
        Verdict::Hold => "hold",
        Verdict::Handoff(_) => "handoff",
    }
}

/// The pipeline's stage that drops for a reason other than policy.
fn stage(reason: DropReason) -> &'static str {
    use DropReason as R;
    match reason {
        R::FrameTooLarge | R::PortDown => "receive",
        R::Truncated
        | R::MalformedHeader
        | R::BadHeaderChecksum
        | R::ExtensionHeaders
        | R::IpOptions
        | R::UnknownEtherType
        | R::UnexpectedVlan
        | R::BadSourceMac
        | R::NotForThisStation
        | R::MartianAddress
        | R::SpoofedSource
        | R::PortSecuritySourceMac
        | R::PortSecuritySource
        | R::PortSecurityArp
        | R::PortSecurityDiscovery
        | R::MulticastDestination
        | R::FragmentWithoutFirst
        | R::TinyFragment
        | R::FragmentOverlap
        | R::FragmentTableFull
        | R::FragmentPoolFull => "parse",
        R::InvalidState | R::UnrelatedIcmpError => "track",
        R::Policy | R::NoPolicy | R::RedirectOnly => "classify",
        R::FlowTableFull | R::HalfOpenSource | R::NatPortsExhausted => "admit",
        R::TtlExceeded | R::PacketTooBig => "rewrite",
        R::PortSecurityDestinationMac
        | R::PortSecurityDestination
        | R::NoRoute
        | R::RouteRejects
        | R::NeighbourUnresolved
        | R::NeighbourQueueFull
        | R::SamePort
        | R::NoPeerPort
        | R::Management
        | R::KernelUnreachable => "steer",
        R::TransmitFull | R::HandoffFull => "transmit",
    }
}
