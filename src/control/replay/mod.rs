//! Captures through the pipeline: what would become of every frame, and how fast.
//!
//! ```text
//! captures ─▶ source ─▶ batch ─▶ pipeline ─┬▶ verdict lines, digest
//!            (merge,   (clock of           ├▶ frames that leave
//!             ports)    the capture)       └▶ report
//! ```
//!
//! One pass over the captures gives the verdicts. It starts with an empty flow table and takes its
//! time from the captures alone, so that two runs give the same bytes. Further passes, with the
//! flows of the passes before, measure.

mod compare;
mod engine;
mod network;
mod record;
mod report;
mod source;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use compare::{CompareRequest, Comparison, FlowChanges, FlowVerdict, compare};
pub use report::{BatchTimes, Report, Speed};

use self::engine::Engine;
use self::record::{Names, Recorder};
use self::source::Source;
use super::policy::{PolicyDirectory, PolicyRefused, PolicySource, activate, prepare};
use super::publisher::Publisher;
use super::rule_slots::{RuleSlots, RuleTotals};
use super::{compatibility, plan};
use crate::dataplane::backend::pcap::CaptureError;
use crate::dataplane::snapshot::Snapshot;
use crate::policy::CompatibilityError;
use crate::policy::source::Reading;
use crate::settings::Settings;

/// What to replay.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// Ports and the network around them, limits, switches.
    pub settings: Settings,
    /// Manifests; `None` means those the settings name.
    pub policies: Option<PathBuf>,
    /// Captures, merged by time stamp.
    pub captures: Vec<CaptureInput>,
    /// Frames dropped are written to the capture as well.
    pub write_drops: bool,
    /// Measured passes after the one that gives the verdicts.
    pub measured_passes: u32,
    /// Passes between that one and the measured ones.
    pub warm_up_passes: u32,
}

/// One capture file.
#[derive(Debug, Clone)]
pub struct CaptureInput {
    /// The file.
    pub path: PathBuf,
    /// Name of the port its frames came in on, where the file itself does not name one.
    pub port: Option<String>,
}

/// Where results go besides the report.
#[derive(Default)]
pub struct Outputs {
    /// Verdict lines: one JSON object a frame.
    pub verdicts: Option<Box<dyn Write>>,
    /// A pcapng of the frames that leave.
    pub frames: Option<Box<dyn Write>>,
}

/// Why nothing can be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A switch of the settings.
    #[error(transparent)]
    Compatibility(#[from] CompatibilityError),
    /// The manifests; every line names a place.
    #[error("{}", .0.lines().join("\n"))]
    Policy(#[from] PolicyRefused),
    /// A capture, before its first frame.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A port name that no port has.
    #[error("no port is called {name}; there are: {ports}")]
    NoSuchPort {
        /// The name.
        name: String,
        /// All names, comma-separated.
        ports: String,
    },
    /// Frames of an interface that is no port.
    #[error(
        "{file}: frame {frame}: its interface ({interface}) is no port; name the port with --port, \
         one of: {ports}"
    )]
    NoPort {
        /// The capture.
        file: String,
        /// Number of the frame among all captures, from 1.
        frame: u64,
        /// Name in the capture; `unnamed` where there is none.
        interface: String,
        /// All ports, comma-separated.
        ports: String,
    },
    /// Routed mode needs to know the network.
    #[error(
        "the settings have no [[replay.link]]: exactly two ports can then be replayed, as a wire; \
         there are {ports}"
    )]
    NoNetwork {
        /// Number of ports.
        ports: usize,
    },
    /// A result cannot be written.
    #[error("cannot write results: {0}")]
    Write(#[from] std::io::Error),
}

/// Replays.
///
/// A capture that turns out to be damaged behind its first frame ends the replay there:
/// [`Report::damage`] tells.
///
/// # Errors
/// The settings, manifests or captures cannot be used, or a result cannot be written.
pub fn run(request: &ReplayRequest, outputs: Outputs) -> Result<Report, ReplayError> {
    let settings = &request.settings;
    let (snapshot, names) = snapshot(settings, request.policies.as_deref())?;
    let open = || Source::open(&request.captures, settings);
    let mut engine = Engine::new(settings, snapshot, names.rules());
    let mut recorder = Recorder::new(names, outputs, request.write_drops)?;
    let mut source = open()?;
    let damage = engine.record(&mut source, &mut recorder)?;
    let (mut report, _) = recorder.finish()?;
    report.flows_created = engine.flows_created();
    report.frames_cut = source.frames_cut();
    report.damage = damage.map(|damage| damage.to_string());
    for _ in 0..request.warm_up_passes {
        engine.measure(&mut open()?)?;
    }
    engine.forget_times();
    for _ in 0..request.measured_passes {
        engine.measure(&mut open()?)?;
    }
    report.speed = engine.speed(request.measured_passes);
    report.memory_peak_bytes = report::memory_peak_bytes();
    Ok(report)
}

/// The policy and network to replay against, and the names of what is in them.
fn snapshot(
    settings: &Settings,
    policies: Option<&Path>,
) -> Result<(Arc<Snapshot>, Names), ReplayError> {
    let source = PolicyDirectory::new(policies.unwrap_or(&settings.policy.directory));
    let read = source.read(Reading::Everything);
    let files = read.map_err(PolicyRefused::from)?.files;
    let switches = compatibility::compatibility(&settings.policy.compat)?;
    let prepared = prepare(&files, &switches, &plan::classifier_limits(settings))?;
    let mut slots = RuleSlots::new(settings.limits.rules);
    let unused = |_| RuleTotals::default();
    let policy = activate(
        &prepared,
        1,
        &mut slots,
        unused,
        &plan::port_segments(settings),
        None,
    )
    .map_err(PolicyRefused::from)?;

    let network = network::of(settings)?;
    let mut fixed = plan::fixed_parts(settings);
    fixed.forwarding = network.forwarding;
    let mut publisher = Publisher::new(fixed);
    publisher.set_policy(Arc::new(policy));
    publisher.set_routes(Arc::new(network.routes));
    let snapshot = publisher.shared().load_full();
    let names = Names::new(settings, &snapshot, &slots);
    Ok((snapshot, names))
}

/// All port names, for messages.
fn port_names(settings: &Settings) -> String {
    let names: Vec<_> = settings
        .ports
        .iter()
        .map(|port| port.name.as_str())
        .collect();
    names.join(", ")
}
