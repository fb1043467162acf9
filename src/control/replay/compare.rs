//! Two sets of policies, one capture: which flows would fare differently.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::engine::Engine;
use super::record::Recorder;
use super::source::Source;
use super::{CaptureInput, Outputs, ReplayError, snapshot};
use crate::settings::Settings;
use crate::wire::FlowKey;

/// What to compare.
#[derive(Debug, Clone)]
pub struct CompareRequest {
    /// Ports and the network around them, limits, switches.
    pub settings: Settings,
    /// Manifests before and after.
    pub policies: [PathBuf; 2],
    /// Captures, merged by time stamp.
    pub captures: Vec<CaptureInput>,
}

/// What became of a flow: of its first frame.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FlowVerdict {
    /// As in the verdict lines.
    pub verdict: &'static str,
    /// As in the verdict lines.
    pub reason: &'static str,
    /// Label of the deciding rule.
    pub rule: Option<String>,
}

/// Flows that change in the same way.
#[derive(Debug, Clone, Serialize)]
pub struct FlowChanges {
    /// With the first set of policies.
    pub before: FlowVerdict,
    /// With the second.
    pub after: FlowVerdict,
    /// The flows, in order of their first frames.
    pub flows: Vec<String>,
}

/// What a comparison has come to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Comparison {
    /// Flows in the captures.
    pub flows: usize,
    /// Flows whose verdict changes.
    pub changed: usize,
    /// These, grouped by what they were and are decided by.
    pub changes: Vec<FlowChanges>,
    /// What ended the captures early.
    pub damage: Option<String>,
}

/// Verdicts of all flows, in order of their first frames.
#[derive(Debug, Default)]
pub(super) struct FlowVerdicts {
    known: HashMap<FlowKey, usize>,
    flows: Vec<(FlowKey, FlowVerdict)>,
}

impl FlowVerdicts {
    /// A frame of this flow has been judged; the first one counts, in either direction.
    pub(super) fn judged(&mut self, key: FlowKey, verdict: impl FnOnce() -> FlowVerdict) {
        let reply = key.reversed();
        if self.known.contains_key(&key) || reply.is_some_and(|key| self.known.contains_key(&key)) {
            return;
        }
        self.known.insert(key, self.flows.len());
        self.flows.push((key, verdict()));
    }
}

/// Replays the captures against both sets of policies.
///
/// # Errors
/// The settings, manifests or captures cannot be used.
pub fn compare(request: &CompareRequest) -> Result<Comparison, ReplayError> {
    let settings = &request.settings;
    let mut damage = None;
    let mut judge = |policies: &PathBuf| {
        let (snapshot, names) = snapshot(settings, Some(policies))?;
        let mut engine = Engine::new(settings, snapshot, names.rules());
        let mut recorder = Recorder::new(names, Outputs::default(), false)?;
        recorder.remember_flows();
        let mut source = Source::open(&request.captures, settings)?;
        let ended = engine.record(&mut source, &mut recorder)?;
        damage = ended.map(|damage| damage.to_string());
        let (_, flows) = recorder.finish()?;
        Ok::<_, ReplayError>(flows)
    };
    let [before, after] = &request.policies;
    let (before, after) = (judge(before)?, judge(after)?);
    let mut groups: BTreeMap<(FlowVerdict, FlowVerdict), Vec<String>> = BTreeMap::new();
    for (key, was) in &before.flows {
        let Some(&number) = after.known.get(key) else {
            continue;
        };
        let (_, is) = &after.flows[number];
        if was.verdict != is.verdict {
            let group = groups.entry((was.clone(), is.clone())).or_default();
            group.push(key.to_string());
        }
    }
    Ok(Comparison {
        flows: before.flows.len(),
        changed: groups.values().map(Vec::len).sum(),
        changes: groups
            .into_iter()
            .map(|((before, after), flows)| FlowChanges {
                before,
                after,
                flows,
            })
            .collect(),
        damage,
    })
}

impl fmt::Display for FlowVerdict {
    /// `drop policy by NetworkPolicy/shop/*#isolation`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FlowVerdict {
            verdict,
            reason,
            rule,
        } = self;
        write!(f, "{verdict}")?;
        if *verdict == "drop" {
            write!(f, " ({reason})")?;
        }
        match rule {
            Some(rule) => write!(f, " by {rule}"),
            None => write!(f, " by no rule"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{}", change.after)?;
            writeln!(f, "  before: {}", change.before)?;
            for flow in &change.flows {
                writeln!(f, "    {flow}")?;
            }
        }
        writeln!(
            f,
            "{} of {} flows change their verdict",
            self.changed, self.flows
        )?;
        if let Some(damage) = &self.damage {
            writeln!(f, "ended early: {damage}")?;
        }
        Ok(())
    }
}
