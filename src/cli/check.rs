//! `portcullis check`.

use clap::Args;

use super::Exit;

/// Arguments of `portcullis check`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the verb.
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!("check is not built yet")
}
