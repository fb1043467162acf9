//! Rules compiled to be looked at: what each step of the compiler makes of them, and why it takes
//! the strategy it takes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::classifier::bits::{self, Bits};
use crate::classifier::tree::{self, Compilation, Limits};
use crate::classifier::{RuleSet, classbench};
use crate::policy::{self, Compatibility, Names, Severity, read_directory};

pub use crate::classifier::tree::Strategy;

/// A step of either strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Of the class tree.
    Classes(tree::Step),
    /// Of the trees that ask for bits.
    Bits(bits::Step),
}

/// The strategy of a name.
///
/// # Errors
/// What names there are.
pub fn strategy(text: &str) -> Result<Strategy, String> {
    match text {
        "classes" => Ok(Strategy::Classes),
        "bits" => Ok(Strategy::Bits),
        _ => Err("allowed: classes, bits".to_owned()),
    }
}

/// A set of rules that is compiled by itself.
pub struct Unit {
    name: String,
    rules: RuleSet,
}

/// The step of a name.
///
/// # Errors
/// What names there are.
pub fn step(text: &str) -> Result<Step, String> {
    let classes = tree::Step::ALL.map(|step| (step.to_string(), Step::Classes(step)));
    let bits = bits::Step::ALL.map(|step| (step.to_string(), Step::Bits(step)));
    let all = classes.into_iter().chain(bits);
    let found = all.clone().find(|(name, _)| name == text);
    found.map(|(_, step)| step).ok_or_else(|| {
        let names: Vec<String> = all.map(|(name, _)| name).collect();
        format!("allowed: {}", names.join(", "))
    })
}

/// The sets of rules the paths have, manifests taken together.
///
/// # Errors
/// Rules that cannot be read, with their place.
pub fn units(paths: &[PathBuf]) -> anyhow::Result<Vec<Unit>> {
    let mut units = Vec::new();
    let mut files = Vec::new();
    for path in paths {
        if path
            .extension()
            .is_some_and(|extension| extension == "rules")
        {
            units.push(classbench_unit(path)?);
            continue;
        }
        let found = read_directory(path)?;
        let nothing = "no *.yaml, *.yml or *.json in it";
        anyhow::ensure!(!found.is_empty(), "{}: {nothing}", path.display());
        files.extend(found);
    }
    if files.is_empty() {
        return Ok(units);
    }
    let loaded = policy::load(&files, &Compatibility::default(), &Names::default());
    let mut errors = loaded.findings.iter();
    if let Some(error) = errors.find(|finding| finding.severity == Severity::Error) {
        bail!("{}: {} ({})", error.place, error.message, error.id);
    }
    let policy = loaded.policy.context("no policy in these manifests")?;
    for stage in &policy.stages {
        for shard in stage.shards() {
            let group = shard.group.map(|group| format!(", namespace {group}"));
            units.push(Unit {
                name: format!("{:?}{}", stage.kind, group.unwrap_or_default()),
                rules: shard.rules.clone(),
            });
        }
    }
    units.retain(|unit| !unit.rules.rules().is_empty());
    Ok(units)
}

fn classbench_unit(path: &Path) -> anyhow::Result<Unit> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
    match classbench::rules(&text) {
        Ok(rules) => Ok(Unit { name, rules }),
        Err(error) => bail!("{name}:{error}"),
    }
}

/// What a step made of the rules, as text.
///
/// # Errors
/// When the rules exceed a limit.
pub fn dump(unit: &Unit, step: Step) -> anyhow::Result<String> {
    let mut text = format!("# {}\n", unit.name);
    match step {
        Step::Classes(step) => {
            let limits = Limits {
                strategy: Some(Strategy::Classes),
                ..Limits::default()
            };
            let compilation = Compilation::run(&unit.rules, &limits).context(unit.name.clone())?;
            text.push_str(&compilation.dump(step));
        }
        Step::Bits(step) => match bits::compile(&unit.rules, &bits::Budget::default()) {
            Ok(bits) => text.push_str(&bits.dump(&unit.rules, step)),
            Err(reason) => writeln!(text, "not for trees of bits: {reason}")?,
        },
    }
    Ok(text)
}

/// Which strategy was taken for the rules, and by which costs.
///
/// # Errors
/// When the rules exceed a limit.
pub fn explain(unit: &Unit, strategy: Option<Strategy>) -> anyhow::Result<String> {
    let limits = Limits {
        strategy,
        ..Limits::default()
    };
    let mut text = String::new();
    let rules = unit.rules.rules().len();
    let compilation = Compilation::run(&unit.rules, &limits).context(unit.name.clone())?;
    let statistics = compilation.tree().statistics();
    let taken = match statistics.strategy {
        Strategy::Classes => "classes",
        Strategy::Bits => "bits",
    };
    let each = statistics.bytes as f64 / rules as f64;
    writeln!(
        text,
        "{}: {rules} rules by {taken}, {each:.0} bytes a rule",
        unit.name
    )?;
    let cost =
        |picoseconds: u32| format!("{:.1} ns a lookup by the model", picoseconds as f64 / 1e3);
    let [classes_ps, bits_ps] = statistics.lookup_ps;
    let classes = classes_ps.map_or(
        "past a limit, not wanted, or surely slower".to_owned(),
        cost,
    );
    writeln!(text, "  classes: {classes}")?;
    let bits = match (bits_ps, compilation.not_for_bits()) {
        (Some(picoseconds), _) => cost(picoseconds),
        (None, Some(reason)) => reason.to_string(),
        (None, None) => "not wanted".to_owned(),
    };
    writeln!(text, "  bits: {bits}")?;
    if let Some(bits) = compilation.tree().bits() {
        explain_bits(&mut text, bits)?;
    }
    Ok(text)
}

fn explain_bits(text: &mut String, bits: &Bits) -> anyhow::Result<()> {
    let families = ["IPv4", "IPv6"].into_iter();
    for ((family, visits), parameters) in families.zip(bits.visits()).zip(bits.parameters()) {
        let grid = match parameters.grid_bits {
            0 => "no grid".to_owned(),
            bits => format!("a grid of {bits} bits a side"),
        };
        writeln!(
            text,
            "    {family}: {:.2} trees, {:.2} questions and {:.2} groups a lookup; {grid}",
            visits.trees, visits.questions, visits.groups
        )?;
    }
    Ok(())
}
