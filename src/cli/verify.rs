//! `portcullis verify`.

use clap::Args;

use super::Exit;

/// Arguments of `portcullis verify`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the verb.
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!("verify is not built yet")
}
