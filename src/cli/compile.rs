//! `portcullis compile`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Exit;
use crate::control::compilation::{self, Step, Strategy};

/// Arguments of `portcullis compile`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Manifest files, directories of them, or ClassBench rule files (`*.rules`).
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Print what a step of the compiler made.
    #[arg(long, value_name = "STEP", value_parser = compilation::step)]
    dump: Option<Step>,

    /// Say which strategy was taken for each set of rules, and by which costs (the default).
    #[arg(long, conflicts_with = "dump")]
    explain_plan: bool,

    /// Compile by this strategy where it can be had: classes or bits.
    #[arg(long, value_name = "STRATEGY", value_parser = compilation::strategy)]
    strategy: Option<Strategy>,
}

/// Runs the verb.
///
/// # Errors
/// Rules that cannot be read, or that exceed a limit.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let mut output = std::io::stdout().lock();
    for unit in compilation::units(&arguments.paths)? {
        let text = match arguments.dump {
            Some(step) => compilation::dump(&unit, step)?,
            None => compilation::explain(&unit, arguments.strategy)?,
        };
        output.write_all(text.as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Fine)
}
