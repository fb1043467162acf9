//! `portcullis replay`.

use clap::Args;

use super::Exit;

/// Arguments of `portcullis replay`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the verb.
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!("replay is not built yet")
}
