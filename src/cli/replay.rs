//! `portcullis replay`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Exit, OutputFormat};
use crate::control::replay::{self, CaptureInput, Outputs, ReplayRequest};
use crate::settings::Settings;

/// Arguments of `portcullis replay`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A capture, pcap or pcapng. The interface names of a pcapng say which port frames came in on.
    #[arg(value_name = "CAPTURE", required_unless_present_any = ["inside", "outside"])]
    capture: Option<PathBuf>,
    /// Port the frames of the capture came in on, where it does not name one.
    #[arg(long, value_name = "NAME", requires = "capture")]
    port: Option<String>,
    /// A capture of frames that came in on the port called inside.
    #[arg(long, value_name = "CAPTURE", conflicts_with = "capture")]
    inside: Option<PathBuf>,
    /// A capture of frames that came in on the port called outside, merged by time stamp.
    #[arg(long, value_name = "CAPTURE", conflicts_with = "capture")]
    outside: Option<PathBuf>,
    /// Settings file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Manifests [default: the directory the settings name].
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Writes every frame's verdict here, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    verdicts: Option<PathBuf>,
    /// Writes every frame that leaves here, as pcapng.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// With --write: the frames that were dropped as well.
    #[arg(long, requires = "write")]
    drops: bool,
    /// Measured passes, after the one that gives the verdicts.
    #[arg(long = "loop", value_name = "N", default_value_t = 1)]
    passes: u32,
    /// Passes before the measured ones that are not measured.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u32,
    /// Form of the report.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the verb.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let request = request(&arguments)?;
    let create = |path: Option<&Path>| path.map(|path| create(path, &request)).transpose();
    let outputs = Outputs {
        verdicts: create(arguments.verdicts.as_deref())?,
        frames: create(arguments.write.as_deref())?,
    };
    let report = replay::run(&request, outputs)?;
    match arguments.output {
        OutputFormat::Text => print!("{report}"),
        OutputFormat::Json => println!("{}", serde_json::to_string(&report)?),
    }
    match report.damage {
        Some(damage) => anyhow::bail!(damage),
        None => Ok(Exit::Fine),
    }
}

fn request(arguments: &Arguments) -> anyhow::Result<ReplayRequest> {
    let whole = (&arguments.capture, arguments.port.as_deref());
    let sides = [
        (&arguments.inside, Some("inside")),
        (&arguments.outside, Some("outside")),
    ];
    let captures = [whole].into_iter().chain(sides).filter_map(|(path, port)| {
        let (path, port) = (path.clone()?, port.map(str::to_owned));
        Some(CaptureInput { path, port })
    });
    Ok(ReplayRequest {
        settings: Settings::load(&arguments.config)?,
        policies: arguments.policies.clone(),
        captures: captures.collect(),
        write_drops: arguments.drops,
        measured_passes: arguments.passes,
        warm_up_passes: arguments.warmup,
    })
}

/// Creates a file for results, which must not be a capture that is about to be read.
fn create(path: &Path, request: &ReplayRequest) -> anyhow::Result<Box<dyn Write>> {
    let same = |capture: &CaptureInput| {
        let (one, other) = (capture.path.canonicalize(), path.canonicalize());
        one.is_ok() && one.ok() == other.ok()
    };
    if request.captures.iter().any(same) {
        anyhow::bail!(
            "{}: is to be read, and cannot be written at once",
            path.display()
        );
    }
    let file = File::create(path).with_context(|| path.display().to_string())?;
    Ok(Box::new(BufWriter::new(file)))
}
