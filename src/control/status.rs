//! What `portcullis status` shows and the metrics endpoint exports, as one serialisable value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// State and counters of a running instance. Counters never go back while the process lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since start.
    pub uptime_s: u64,
    /// `routed` or `transparent`.
    pub forwarding: String,
    /// The policy in force.
    pub policy: PolicyStatus,
    /// Ports in the order of the settings.
    pub ports: Vec<PortStatus>,
    /// Packets by what became of them.
    pub verdicts: BTreeMap<String, VolumeStatus>,
    /// Dropped packets by reason; reasons that never occurred are left out.
    pub drops: BTreeMap<String, VolumeStatus>,
    /// Rules that have decided something or are in force.
    pub rules: Vec<RuleStatus>,
    /// Flow table, summed over the workers.
    pub flows: FlowsStatus,
    /// Workers.
    pub workers: Vec<WorkerStatus>,
    /// Neighbours known, and frames waiting for one.
    pub neighbours: NeighboursStatus,
    /// Other counters by name.
    pub counters: BTreeMap<String, u64>,
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Number of packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// The policy in force.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Generation; 0 while none has been loaded and everything is dropped.
    pub generation: u32,
    /// Directory it comes from.
    pub directory: String,
    /// Seconds since it came into force.
    pub age_s: u64,
    /// Loads that came into force.
    pub loads: u64,
    /// Loads that were refused.
    pub loads_refused: u64,
    /// Why the last load was refused; empty when the last one came into force.
    pub refused: Vec<String>,
    /// Warnings of the policy in force.
    pub warnings: Vec<String>,
    /// Compiled stages.
    pub stages: Vec<StageStatus>,
}

/// One compiled stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageStatus {
    /// Policy family, `NP`.
    pub family: String,
    /// `egress` or `ingress`.
    pub direction: String,
    /// Rules.
    pub rules: usize,
    /// Tree nodes.
    pub nodes: usize,
    /// Bytes of the compiled structure.
    pub bytes: usize,
}

/// One port.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PortStatus {
    /// Name of the settings.
    pub name: String,
    /// Interface.
    pub interface: String,
    /// `up`, `down` or `missing`.
    pub state: String,
    /// `native` or `generic`; empty while not attached.
    pub mode: String,
    /// The steering program is attached and ours.
    pub attached: bool,
    /// Frames from the rings.
    pub received: VolumeStatus,
    /// Frames to the rings.
    pub sent: VolumeStatus,
    /// What the steering program has counted before the rings.
    pub steering: BTreeMap<String, u64>,
    /// `XDP_STATISTICS` of the port's sockets, summed.
    pub xdp_statistics: BTreeMap<String, u64>,
}

/// One rule's counters, under its stable id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Stable id, sixteen hexadecimal digits.
    pub id: String,
    /// `kind/namespace/name#index`.
    pub rule: String,
    /// Part of the policy in force.
    pub in_force: bool,
    /// First packets, and packets of flows asked again.
    pub decisions: u64,
    /// Packets admitted or denied.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Flow table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FlowsStatus {
    /// Live flows.
    pub live: u64,
    /// Of these, not answered yet.
    pub unreplied: u64,
    /// Limit.
    pub limit: u64,
    /// Created since start.
    pub created: u64,
    /// Timed out.
    pub expired: u64,
    /// Removed to make room.
    pub evicted: u64,
    /// Ended early, under pressure.
    #[serde(default)]
    pub hurried: u64,
    /// Refused because their source had too many half-open ones.
    #[serde(default)]
    pub source_limited: u64,
    /// Workers whose table is under pressure.
    #[serde(default)]
    pub pressure: u64,
    /// Times a table has come under pressure.
    #[serde(default)]
    pub pressures: u64,
}

/// One worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Core it is pinned to.
    pub core: usize,
    /// Batches with at least one frame.
    pub batches: u64,
    /// Milliseconds since its loop last came round.
    pub pulse_age_ms: u64,
    /// What became of its frames.
    pub packets: WorkerPackets,
}

/// A worker's frames. `received + handed_in` is the sum of all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerPackets {
    /// From its own rings.
    pub received: u64,
    /// Taken over from other workers.
    pub handed_in: u64,
    /// Forwarded.
    pub forwarded: u64,
    /// Dropped, each for a reason of [`Status::drops`].
    pub dropped: u64,
    /// For the kernel or for services of this process.
    pub local: u64,
    /// Given to other workers, to which their flows belong.
    pub handed_off: u64,
    /// Waiting for a neighbour now.
    pub waiting: u64,
}

impl WorkerPackets {
    /// Every figure by its name.
    pub fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("received", self.received),
            ("handed-in", self.handed_in),
            ("forwarded", self.forwarded),
            ("dropped", self.dropped),
            ("local", self.local),
            ("handed-off", self.handed_off),
            ("waiting", self.waiting),
        ]
    }
}

/// Neighbours.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NeighboursStatus {
    /// Frames waiting for one now.
    pub frames_waiting: u64,
    /// Requests control was too busy to take.
    pub requests_lost: u64,
}
