//! `portcullis run`.

use clap::Args;

use super::Exit;

/// Arguments of `portcullis run`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the verb.
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!("run is not built yet")
}
