//! `portcullis run`.

use std::path::PathBuf;

use clap::Args;

use super::Exit;
use crate::control::{logging, supervisor};
use crate::settings::Settings;

/// Arguments of `portcullis run`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings file; config/appliance.toml explains every setting.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the appliance until SIGTERM or SIGINT.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let settings = Settings::load(&arguments.config)?;
    logging::start(&settings.log);
    supervisor::run(settings)?;
    Ok(Exit::Fine)
}
