//! From a directory of manifests to the compiled policy in force: read, load, compile, activate.
//!
//! Reading and compiling take long and happen beside the control loop ([`prepare`]); what touches
//! the counters is short and happens in it ([`activate`]). All or nothing: whatever fails leaves
//! the policy in force as it is.

use std::path::{Path, PathBuf};

use super::decide::{Decider, DeciderError};
use super::rule_slots::{RuleSlots, RuleTotals, SlotsExhausted};
use crate::classifier::RuleVerdict;
use crate::classifier::tree::Limits;
use crate::dataplane::snapshot::{End, PolicySnapshot, RuleSlot, Skips, Stage, StageRule};
use crate::policy::source::{ReadError, read_directory};
use crate::policy::{
    self, Compatibility, Direction, Finding, Names, PRIMARY_NETWORK, PolicySet, Severity,
    SourceFile, StageMask, UNKNOWN_NETWORK,
};

/// Yields the complete set of manifests.
pub trait PolicySource: Send + Sync {
    /// Reads all of them.
    ///
    /// # Errors
    /// The set cannot be read completely.
    fn read(&self) -> Result<Vec<SourceFile>, ReadError>;

    /// What it is, for messages.
    fn describe(&self) -> String;
}

/// A directory of manifest files, or a single one.
#[derive(Debug, Clone)]
pub struct PolicyDirectory {
    path: PathBuf,
}

impl PolicyDirectory {
    /// Reads from this path, each time anew.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        PolicyDirectory { path: path.into() }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl PolicySource for PolicyDirectory {
    fn read(&self) -> Result<Vec<SourceFile>, ReadError> {
        read_directory(&self.path)
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

/// Content of a set of manifests: changes exactly when a name or a text does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceDigest(blake3::Hash);

impl SourceDigest {
    /// Digest of the files.
    pub fn of(files: &[SourceFile]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for SourceFile { name, text } in files {
            for part in [name, text] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        SourceDigest(hasher.finalize())
    }
}

/// Why a set of manifests was refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyRefused {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It has errors.
    #[error("{} errors in the manifests", errors(.0).count())]
    Findings(Vec<Finding>),
    /// A stage exceeds a limit of the classifier.
    #[error(transparent)]
    Compile(#[from] DeciderError),
    /// More rules than counters.
    #[error(transparent)]
    Slots(#[from] SlotsExhausted),
}

fn errors(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
}

impl PolicyRefused {
    /// One line for each thing that is wrong.
    pub fn lines(&self) -> Vec<String> {
        match self {
            PolicyRefused::Findings(findings) => errors(findings).map(Finding::to_string).collect(),
            other => vec![other.to_string()],
        }
    }
}

/// A policy compiled and ready to come into force.
pub struct Prepared {
    /// The objects and rules it was compiled from, and the trees that forward.
    pub decider: Decider,
    /// Warnings.
    pub findings: Vec<Finding>,
}

/// Loads and compiles manifests.
///
/// # Errors
/// Everything that is wrong with them.
pub fn prepare(
    files: &[SourceFile],
    compatibility: &Compatibility,
    limits: &Limits,
) -> Result<Prepared, PolicyRefused> {
    let loaded = policy::load(files, compatibility, &Names::default());
    let Some(set) = loaded.policy else {
        return Err(PolicyRefused::Findings(loaded.findings));
    };
    Ok(Prepared {
        decider: Decider::new(set, limits)?,
        findings: loaded.findings,
    })
}

/// Gives every rule its counter slot, and makes the snapshot the data plane asks.
///
/// # Errors
/// There are more rules than slots.
pub fn activate(
    prepared: &Prepared,
    generation: u32,
    slots: &mut RuleSlots,
    totals: impl Fn(RuleSlot) -> RuleTotals,
    port_networks: &[Option<String>],
) -> Result<PolicySnapshot, SlotsExhausted> {
    let set = prepared.decider.policy();
    let mut stages = Vec::with_capacity(set.stages.len());
    for (rules, tree) in set.stages.iter().zip(prepared.decider.trees()) {
        let skips = |verdict| rules.kind.skips(verdict, &set.compatibility).0;
        let stage_rules = rules.rules.rules().iter().map(|rule| {
            let label = &set.origin(rule.origin).label;
            let slot = slots.assign(rule.id, label, generation, &totals)?;
            Ok(StageRule {
                verdict: rule.verdict,
                slot,
            })
        });
        stages.push(Stage {
            family: rules.family(),
            protects: match rules.direction() {
                Direction::Egress => End::Source,
                Direction::Ingress => End::Destination,
            },
            classifier: tree.clone(),
            rules: stage_rules.collect::<Result<_, _>>()?,
            skips: Skips {
                keeps: rules.kind.keeps_established(&set.compatibility),
                own: StageMask::of(&[rules.kind]).0,
                allow: skips(Some(RuleVerdict::Allow)),
                pass: skips(Some(RuleVerdict::Pass)),
                none: skips(None),
                deny: skips(Some(RuleVerdict::Deny)),
            },
        });
    }
    Ok(PolicySnapshot {
        generation,
        stages,
        networks: networks(set, port_networks),
    })
}

/// The number of the network behind each port. A network the manifests do not know has no pods, and
/// so no policies: its number is none of theirs.
fn networks(set: &PolicySet, ports: &[Option<String>]) -> Vec<u16> {
    let number = |name: &Option<String>| match name {
        None => PRIMARY_NETWORK,
        Some(name) => set.inventory.network_number(name).unwrap_or_else(|| {
            tracing::warn!(network = name, "no pod is on the network of this port");
            UNKNOWN_NETWORK
        }),
    };
    ports.iter().map(number).collect()
}

/// `egress` or `ingress`.
pub fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}
