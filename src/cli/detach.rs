//! `portcullis detach`.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, OutputFormat};
use crate::control::detach::{DEFAULT_PIN_DIRECTORY, Detached, Outcome, Selection, detach};

/// Arguments of `portcullis detach`.
///
/// After a crash, or with `on_exit = "closed"`, the steering program stays on its interfaces and
/// drops what is not for the box itself. This removes it: frames reach the kernel again.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Interfaces of this network namespace.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    interface: Vec<String>,
    /// All interfaces of this network namespace.
    #[arg(long)]
    all: bool,
    /// With --all: of every network namespace, also of those that are gone.
    #[arg(long, requires = "all", conflicts_with = "interface")]
    every_namespace: bool,
    /// Where the pins are: `steering.pin_directory` of the settings.
    #[arg(long, value_name = "DIRECTORY", default_value = DEFAULT_PIN_DIRECTORY)]
    pin_directory: PathBuf,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Removes programs and pins; exit 1 when one could not be removed.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let selection = match (arguments.all, arguments.every_namespace) {
        (true, true) => Selection::EveryNamespace,
        (true, false) => Selection::ThisNamespace,
        (false, _) => Selection::Interfaces(arguments.interface),
    };
    let results = detach(&arguments.pin_directory, &selection)?;
    match arguments.output {
        OutputFormat::Json => println!("{}", serde_json::json!({ "pins": results })),
        OutputFormat::Text if results.is_empty() => println!("nothing is pinned"),
        OutputFormat::Text => results
            .iter()
            .for_each(|result| println!("{}", line(result))),
    }
    let failed = |result: &Detached| matches!(result.outcome, Outcome::Failed(_));
    Ok(match results.iter().any(failed) {
        true => Exit::Differs,
        false => Exit::Fine,
    })
}

fn line(result: &Detached) -> String {
    let Detached {
        interface,
        network_namespace,
        outcome,
    } = result;
    match outcome {
        Outcome::Detached => {
            format!("{interface}: detached (network namespace {network_namespace})")
        }
        Outcome::NothingPinned => format!("{interface}: nothing is pinned"),
        Outcome::Failed(reason) => format!("{interface}: not detached: {reason}"),
    }
}
