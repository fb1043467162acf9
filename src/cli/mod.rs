//! One file a verb; this one only lists them.

mod check;
mod compile;
mod detach;
mod diff;
mod doctor;
pub mod excerpt;
mod explain;
mod flows;
mod reload;
mod replay;
mod run;
mod sarif;
mod status;
mod verify;

use std::process::ExitCode;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::control::client::{Answer, ClientError, ask};

/// Userspace packet-processing firewall appliance deciding by Kubernetes-style policy.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, long_about = None)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object, or one a line.
    Json,
}

/// What the process ends with; the same for every verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Fine, allowed, equal.
    Fine = 0,
    /// Denied, findings, differs.
    Differs = 1,
    /// Arguments, settings, manifests or captures that cannot be used.
    BadInput = 2,
    /// No running instance to ask.
    NotRunning = 3,
}

/// Where a running instance is asked.
#[derive(Debug, Args)]
pub struct AdminSocket {
    /// Admin socket of the running instance.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/portcullis/admin.sock"
    )]
    socket: PathBuf,
}

impl AdminSocket {
    /// Asks the instance; `None`, with a message on standard error, when there is none.
    pub fn ask(
        &self,
        method: hyper::Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<Option<Answer>> {
        match ask(&self.socket, method, path, body) {
            Ok(answer) => Ok(Some(answer)),
            Err(error @ ClientError::NotRunning { .. }) => {
                eprintln!("portcullis: {error}");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forward packets between the configured ports, deciding by policy.
    Run(run::Arguments),
    /// Validate manifests and settings.
    Check(check::Arguments),
    /// Compile rules, and show how: which strategy, what each step makes.
    Compile(compile::Arguments),
    /// Tell why a packet is allowed or denied.
    Explain(Box<explain::Arguments>),
    /// Run policy cases: expected verdicts against manifests.
    Verify(verify::Arguments),
    /// Run captures through the pipeline.
    Replay(replay::Arguments),
    /// Show which flows of a capture would fare differently under other policies.
    Diff(diff::Arguments),
    /// Find what would bite on this machine's interfaces.
    Doctor(doctor::Arguments),
    /// Show counters and state of the running instance.
    Status(status::Arguments),
    /// List the connections of the running instance, or make it forget some.
    Flows(flows::Arguments),
    /// Make the running instance read its policies again.
    Reload(reload::Arguments),
    /// Remove the pinned steering program from interfaces.
    Detach(detach::Arguments),
}

impl Arguments {
    /// Runs the verb. An error is bad input unless the verb says otherwise through its [`Exit`].
    pub fn run(self) -> anyhow::Result<Exit> {
        match self.command {
            Command::Run(arguments) => run::run(arguments),
            Command::Check(arguments) => check::run(arguments),
            Command::Compile(arguments) => compile::run(arguments),
            Command::Explain(arguments) => explain::run(*arguments),
            Command::Verify(arguments) => verify::run(arguments),
            Command::Replay(arguments) => replay::run(arguments),
            Command::Diff(arguments) => diff::run(arguments),
            Command::Doctor(arguments) => doctor::run(arguments),
            Command::Status(arguments) => status::run(arguments),
            Command::Flows(arguments) => flows::run(arguments),
            Command::Reload(arguments) => reload::run(arguments),
            Command::Detach(arguments) => detach::run(arguments),
        }
    }
}
