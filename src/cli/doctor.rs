//! `portcullis doctor`.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, OutputFormat};
use crate::control::doctor::{
    DEFAULT_PIN_DIRECTORY, Finding, InterfaceFacts, Report, Request, Severity, examine,
};

/// Arguments of `portcullis doctor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Interfaces to look at; without any, all that carry Ethernet frames.
    interface: Vec<String>,
    /// Where the pins will be: `steering.pin_directory` of the settings.
    #[arg(long, value_name = "DIRECTORY", default_value = DEFAULT_PIN_DIRECTORY)]
    pin_directory: PathBuf,
    /// How the findings are printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Looks and tells; exit 1 when there are findings.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let report = examine(&Request {
        interfaces: arguments.interface,
        pin_directory: arguments.pin_directory,
    })?;
    match arguments.output {
        OutputFormat::Json => println!("{}", serde_json::to_string(&report)?),
        OutputFormat::Text => print!("{}", render(&report)),
    }
    Ok(match report.findings.is_empty() {
        true => Exit::Fine,
        false => Exit::Differs,
    })
}

fn render(report: &Report) -> String {
    let interfaces = report.interfaces.iter().map(facts);
    let findings = report.findings.iter().map(finding);
    let summary = match report.findings.len() {
        0 => "nothing found that would bite\n".to_owned(),
        1 => "1 finding\n".to_owned(),
        count => format!("{count} findings\n"),
    };
    let kernel = format!("Linux {}\n", report.machine.kernel_release);
    let parts = std::iter::once(kernel).chain(interfaces).chain(findings);
    parts.chain([summary]).collect()
}

/// One line: what the interface is and can do.
fn facts(facts: &InterfaceFacts) -> String {
    let known = |value: Option<bool>, yes: &str, no: &str| match value {
        Some(true) => yes.to_owned(),
        Some(false) => no.to_owned(),
        None => format!("{yes}: not told"),
    };
    let kind = facts
        .driver
        .as_deref()
        .or(facts.kind.as_deref())
        .unwrap_or("unknown driver");
    let program = facts.program.as_ref().map_or(String::new(), |program| {
        format!(
            ", program \"{}\" ({})",
            program.name,
            program.mode.unwrap_or("offloaded")
        )
    });
    format!(
        "{}: {kind}, mtu {}, {} receive queues, {}, {}{program}\n",
        facts.interface,
        facts.mtu_bytes,
        facts.receive_queues,
        known(facts.native_xdp, "native XDP", "generic XDP only"),
        known(facts.zero_copy, "zero copy", "copies"),
    )
}

fn finding(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Problem => "problem",
        Severity::Warning => "warning",
    };
    let subject = finding
        .interface
        .as_deref()
        .map_or(String::new(), |name| format!("{name}: "));
    let Finding {
        id,
        found,
        consequence,
        command,
        ..
    } = finding;
    format!("{severity}[{id}]: {subject}{found}\n  so: {consequence}\n  run: {command}\n")
}
