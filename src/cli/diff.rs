//! `portcullis diff`.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, OutputFormat};
use crate::control::replay::{CaptureInput, CompareRequest, compare};
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
    /// A capture, pcap or pcapng, whose flows are judged by both.
    #[arg(long, value_name = "CAPTURE")]
    pcap: PathBuf,
    /// Port the frames of the capture came in on, where it does not name one.
    #[arg(long, value_name = "NAME", default_value = "inside")]
    port: String,
    /// Settings file [default: a wire between two ports, inside and outside].
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
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let settings = match &arguments.config {
        Some(path) => Settings::load(path)?,
        None => Settings::parse("built-in settings", WIRE)?,
    };
    let comparison = compare(&CompareRequest {
        settings,
        policies: [arguments.old, arguments.new],
        captures: vec![CaptureInput {
            path: arguments.pcap,
            port: Some(arguments.port),
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
