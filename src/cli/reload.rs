//! `portcullis reload`.

use anyhow::Context;
use clap::Args;

use super::{AdminSocket, Exit, OutputFormat};
use crate::control::admin::ReloadOutcome;

/// Arguments of `portcullis reload`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    socket: AdminSocket,
    /// How the outcome is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Makes the running instance read its policies again, and waits for the outcome.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let asked = arguments
        .socket
        .ask(hyper::Method::POST, "/v1/reload", String::new())?;
    let Some(answer) = asked else {
        return Ok(Exit::NotRunning);
    };
    let outcome: ReloadOutcome = serde_json::from_str(&answer.body)
        .with_context(|| format!("the instance answered {}: {}", answer.status, answer.body))?;
    match arguments.output {
        OutputFormat::Json => println!("{}", answer.body),
        OutputFormat::Text if outcome.in_force => {
            println!("generation {} in force", outcome.generation);
        }
        OutputFormat::Text => match outcome.generation {
            0 => println!("refused; no policy in force, everything is dropped"),
            generation => println!("refused; generation {generation} stays in force"),
        },
    }
    if arguments.output == OutputFormat::Text {
        outcome.findings.iter().for_each(|line| println!("{line}"));
    }
    Ok(if outcome.in_force {
        Exit::Fine
    } else {
        Exit::BadInput
    })
}
