//! `portcullis doctor`.

use clap::Args;

use super::Exit;

/// Arguments of `portcullis doctor`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the verb.
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!("doctor is not built yet")
}
