//! `portcullis explain`.

use clap::Args;

use super::Exit;

/// Arguments of `portcullis explain`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the verb.
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!("explain is not built yet")
}
