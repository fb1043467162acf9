//! `portcullis reload`.

use clap::Args;

use super::Exit;

/// Arguments of `portcullis reload`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the verb.
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!("reload is not built yet")
}
