//! `portcullis diff`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Exit, OutputFormat};
use crate::control::compatibility::compatibility;
use crate::control::decide::Limits;
use crate::control::difference::{Change, ServiceChange, differences, services};
use crate::control::policy::prepare;
use crate::control::replay::{CaptureInput, CompareRequest, compare};
use crate::policy::{Compatibility, read_directory};
use crate::settings::Settings;

/// Arguments of `portcullis diff`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Manifests as they are.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// Manifests as they would be.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// A capture, pcap or pcapng, whose flows are judged by both [default: all packets there could
    /// be].
    #[arg(long, value_name = "CAPTURE")]
    pcap: Option<PathBuf>,
    /// Port the frames of the capture came in on, where it does not name one.
    #[arg(long, value_name = "NAME", default_value = "inside")]
    port: String,
    /// Settings file: its compatibility switches, and with a capture its ports [default: a wire
    /// between two ports, inside and outside].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// What is compared through when no settings say otherwise.
const WIRE: &str = "
[[port]]
name = 'inside'
interface = 'inside'
[[port]]
name = 'outside'
interface = 'outside'
";

/// Runs the verb.
///
/// # Errors
/// Settings, manifests or captures that cannot be used.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let settings = match &arguments.config {
        Some(path) => Settings::load(path)?,
        None => Settings::parse("built-in settings", WIRE)?,
    };
    match &arguments.pcap {
        Some(capture) => flows(&arguments, settings, capture.clone()),
        None => everything(&arguments, &compatibility(&settings.policy.compat)?),
    }
}

fn flows(arguments: &Arguments, settings: Settings, capture: PathBuf) -> anyhow::Result<Exit> {
    let comparison = compare(&CompareRequest {
        settings,
        policies: [arguments.old.clone(), arguments.new.clone()],
        captures: vec![CaptureInput {
            path: capture,
            port: Some(arguments.port.clone()),
        }],
    })?;
    match arguments.output {
        OutputFormat::Text => print!("{comparison}"),
        OutputFormat::Json => println!("{}", serde_json::to_string(&comparison)?),
    }
    match comparison.damage {
        Some(damage) => anyhow::bail!(damage),
        None if comparison.changed > 0 => Ok(Exit::Differs),
        None => Ok(Exit::Fine),
    }
}

/// The closing line of the JSON form.
#[derive(Serialize)]
struct Summary {
    changes: usize,
    services: usize,
}

fn everything(arguments: &Arguments, switches: &Compatibility) -> anyhow::Result<Exit> {
    let load = |path: &PathBuf| -> anyhow::Result<_> {
        let files = read_directory(path)?;
        prepare(&files, switches, &Limits::default())
            .map(|prepared| prepared.decider)
            .map_err(|refused| anyhow::anyhow!("{}", refused.lines().join("\n")))
    };
    let (old, new) = (load(&arguments.old)?, load(&arguments.new)?);
    let changes = differences(&old, &new)?;
    let services = services(&old.policy().inventory, &new.policy().inventory);
    match arguments.output {
        OutputFormat::Text => print!("{}{}", services_text(&services), text(&changes)),
        OutputFormat::Json => {
            for change in &services {
                println!("{}", serde_json::to_string(change)?);
            }
            for change in &changes {
                println!("{}", serde_json::to_string(change)?);
            }
            let summary = Summary {
                changes: changes.len(),
                services: services.len(),
            };
            println!("{}", serde_json::to_string(&summary)?);
        }
    }
    Ok(match changes.is_empty() && services.is_empty() {
        true => Exit::Fine,
        false => Exit::Differs,
    })
}

fn services_text(services: &[ServiceChange]) -> String {
    let ways = |ways: &[String]| match ways.is_empty() {
        true => "nowhere".to_owned(),
        false => ways.join(", "),
    };
    let told = services.iter().map(|change| {
        let (before, after) = (ways(&change.before), ways(&change.after));
        format!(
            "service {} leads elsewhere\n  before: {before}\n  after:  {after}\n",
            change.service
        )
    });
    told.collect()
}

fn text(changes: &[Change]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for change in changes {
        let line = |words: &[String]| words.join(", ");
        let by = |rule: &Option<String>| match rule {
            Some(rule) => format!("by {rule}"),
            None => "for want of a rule".to_owned(),
        };
        let (before, after) = (&change.before, &change.after);
        _ = writeln!(
            text,
            "{} -> {}: {} > {}: {}\n  before: {} {}\n  after:  {} {}",
            before.verdict,
            after.verdict,
            line(&change.from),
            line(&change.to),
            line(&change.services),
            before.verdict,
            by(&before.rule),
            after.verdict,
            by(&after.rule),
        );
        for witness in &change.witnesses {
            _ = writeln!(text, "  such as {witness}");
        }
    }
    _ = match changes.len() {
        0 => writeln!(text, "no packet fares differently"),
        1 => writeln!(text, "1 change"),
        many => writeln!(text, "{many} changes"),
    };
    text
}
