//! From a directory of manifests to the compiled policy in force: read, load, compile, activate.
//!
//! Reading and compiling take long and happen beside the control loop ([`prepare`]); what touches
//! the counters is short and happens in it ([`activate`]). All or nothing: whatever fails leaves
//! the policy in force as it is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::decide::{Decider, DeciderError};
use super::effects::{self, CompiledEffects};
use super::rule_slots::{RuleSlots, RuleTotals, SlotsExhausted};
use super::stations;
use crate::classifier::tree::Limits;
use crate::classifier::{Classify, RuleVerdict};
use crate::dataplane::rate_limit::RateLimit;
use crate::dataplane::snapshot::{
    Effect, End, PolicySnapshot, RuleSlot, Skips, Stage, StageEffects, StageRule,
};
use crate::policy::source::{Manifests, ReadError, Reading, SourceReader};
use crate::policy::stage::ActingRules;
use crate::policy::{
    Compatibility, Direction, Finding, LaterFindings, Loader, Names, PRIMARY_NETWORK, PolicySet,
    Severity, Shard, SourceFile, StageKind, StageMask, UNKNOWN_NETWORK,
};
use crate::wire::MacAddress;

/// Yields the complete set of manifests.
pub trait PolicySource: Send + Sync {
    /// Reads them.
    ///
    /// # Errors
    /// The set cannot be read completely.
    fn read(&self, reading: Reading) -> Result<Manifests, ReadError>;

    /// What it is, for messages.
    fn describe(&self) -> String;
}

/// A directory of manifest files, or a single one.
#[derive(Debug)]
pub struct PolicyDirectory {
    path: PathBuf,
    reader: Mutex<SourceReader>,
}

impl PolicyDirectory {
    /// Reads from this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        PolicyDirectory {
            path: path.into(),
            reader: Mutex::default(),
        }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl PolicySource for PolicyDirectory {
    fn read(&self, reading: Reading) -> Result<Manifests, ReadError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.read(&self.path, reading)
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
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

/// What is behind a port, as the settings say it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortSegment {
    /// The secondary network, `namespace/name`; `None` for the cluster's own.
    pub network: Option<String>,
    /// MAC addresses of routers, which send what others have sent.
    pub routers: Vec<MacAddress>,
}

/// A policy compiled and ready to come into force.
pub struct Prepared {
    /// The objects and rules it was compiled from, and the trees that forward.
    pub decider: Decider,
    /// What rules do beside deciding, by stage.
    pub effects: Vec<Option<CompiledEffects>>,
    /// Warnings.
    pub findings: Vec<Finding>,
    /// Warnings that are yet to be worked out.
    pub later: Option<LaterFindings>,
}

/// Loads and compiles one set of manifests after another: what two of them have in common, once.
pub struct Preparer {
    loader: Loader,
    limits: Limits,
    /// The last that could be compiled.
    before: Option<Arc<Prepared>>,
}

impl Preparer {
    /// Nothing prepared yet.
    pub fn new(compatibility: Compatibility, limits: Limits) -> Self {
        Preparer {
            loader: Loader::new(compatibility, Names::default()),
            limits,
            before: None,
        }
    }

    /// Loads and compiles manifests.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn prepare(&mut self, files: &[SourceFile]) -> Result<Arc<Prepared>, PolicyRefused> {
        let loading = self.loader.load(files);
        let Some(set) = loading.policy else {
            return Err(PolicyRefused::Findings(loading.findings));
        };
        let effects = effects::compile(&set, &self.limits)?;
        let decider = match &self.before {
            Some(before) => Decider::after(&before.decider, set, &self.limits)?,
            None => Decider::new(set, &self.limits)?,
        };
        let prepared = Arc::new(Prepared {
            decider,
            effects,
            findings: loading.findings,
            later: loading.later,
        });
        self.before = Some(prepared.clone());
        Ok(prepared)
    }
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
    let prepared = Preparer::new(*compatibility, limits.clone()).prepare(files)?;
    Ok(Arc::into_inner(prepared).expect("shared with the preparer alone, which is gone"))
}

/// Gives every rule its counter slot, and makes the snapshot the data plane asks.
///
/// `before` is what is in force on the same ports: what stays the same is taken from there.
///
/// # Errors
/// There are more rules than slots.
pub fn activate<'p>(
    prepared: &'p Prepared,
    generation: u32,
    slots: &mut RuleSlots,
    totals: impl Fn(RuleSlot) -> RuleTotals,
    segments: &[PortSegment],
    before: Option<(&Prepared, &PolicySnapshot)>,
) -> Result<PolicySnapshot, SlotsExhausted> {
    let set = prepared.decider.policy();
    let mut stages = Vec::with_capacity(set.stages.len());
    let stages_of = set.stages.iter().zip(prepared.decider.trees());
    for ((rules, tree), effects) in stages_of.zip(&prepared.effects) {
        let of_shard = |shard: &'p Arc<Shard>| {
            // Where rules do more than decide the step is one shard.
            let rules = match &shard.acting {
                Some(acting) => acting.rules.rules(),
                None => shard.rules.rules(),
            };
            let rules = rules.iter();
            rules.map(move |rule| (rule, &shard.origins[rule.origin.0 as usize].label))
        };
        let acting = rules.acting().zip(effects.as_ref());
        let classifier: Arc<dyn Classify> = match &acting {
            Some((_, compiled)) => compiled.tree.clone(),
            None => tree.clone(),
        };
        let stage_rules = rules.shards().iter().flat_map(of_shard);
        let stage_rules = stage_rules.map(|(rule, label)| {
            let slot = slots.assign(rule.id, label, generation, &totals)?;
            Ok(StageRule {
                verdict: rule.verdict,
                slot,
            })
        });
        let stage_rules = stage_rules.collect::<Result<Vec<_>, _>>()?;
        let effects = acting.map(|(acting, compiled)| acts(acting, compiled, &stage_rules));
        stages.push(Stage {
            family: rules.family(),
            protects: match rules.direction() {
                Direction::Egress => End::Source,
                Direction::Ingress => End::Destination,
            },
            classifier,
            rules: stage_rules,
            effects: effects.map(Box::new),
            skips: skips(rules.kind, &set.compatibility),
        });
    }
    let networks = networks(set, segments);
    let same_ports = |(before, _): &(&Prepared, &PolicySnapshot)| {
        Arc::ptr_eq(&before.decider.policy().ports, &set.ports)
    };
    let stations = match before.filter(same_ports) {
        Some((_, snapshot)) => snapshot.stations.clone(),
        None => stations::compile(set, segments, &networks).map(Arc::new),
    };
    Ok(PolicySnapshot {
        generation,
        stages,
        stations,
        networks,
    })
}

/// What the answers of a step spare.
fn skips(kind: StageKind, compatibility: &Compatibility) -> Skips {
    let skips = |verdict| kind.skips(verdict, compatibility).0;
    Skips {
        keeps: kind.keeps_established(compatibility),
        own: StageMask::of(&[kind]).0,
        allow: skips(Some(RuleVerdict::Allow)),
        pass: skips(Some(RuleVerdict::Pass)),
        none: skips(None),
        deny: skips(Some(RuleVerdict::Deny)),
    }
}

/// What a stage's rules do beside deciding.
fn acts(acting: &ActingRules, compiled: &CompiledEffects, rules: &[StageRule]) -> StageEffects {
    let mut effects = Vec::with_capacity(acting.effects.len());
    for (number, ((does, continues), rest)) in
        acting.effects.iter().zip(&compiled.rests).enumerate()
    {
        let first = acting.by_rule.iter().position(|one| *one == Some(number));
        effects.push(Effect {
            log: does.log,
            limit: does.rate_limit.map(|limit| RateLimit {
                connections_per_second: limit.connections_per_second,
                burst: limit.burst,
            }),
            continues: *continues,
            slot: first.map_or(RuleSlot::NONE, |first| rules[first].slot),
            rest: rest.0.clone(),
            rest_first: rest.1,
        });
    }
    let number = |one: &Option<usize>| one.map(|one| one as u32);
    StageEffects {
        by_rule: acting.by_rule.iter().map(number).collect(),
        effects,
    }
}

/// The number of the network behind each port. A network the manifests do not know has no pods, and
/// so no policies: its number is none of theirs.
fn networks(set: &PolicySet, segments: &[PortSegment]) -> Vec<u16> {
    let number = |segment: &PortSegment| match &segment.network {
        None => PRIMARY_NETWORK,
        Some(name) => set.inventory.network_number(name).unwrap_or_else(|| {
            tracing::warn!(network = name, "no pod is on the network of this port");
            UNKNOWN_NETWORK
        }),
    };
    segments.iter().map(number).collect()
}

/// `egress` or `ingress`.
pub fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}
