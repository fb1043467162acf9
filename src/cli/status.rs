//! `portcullis status`.

use clap::Args;

use super::Exit;

/// Arguments of `portcullis status`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the verb.
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!("status is not built yet")
}
