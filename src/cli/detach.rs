//! `portcullis detach`.

use clap::Args;

use super::Exit;

/// Arguments of `portcullis detach`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the verb.
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!("detach is not built yet")
}
