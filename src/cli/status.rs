//! `portcullis status`.

use std::fmt::Write;

use anyhow::Context;
use clap::Args;

use super::{AdminSocket, Exit, OutputFormat};
use crate::control::status::{Status, VolumeStatus};

/// Rules shown without `--all`.
const RULES_SHOWN: usize = 20;

/// Arguments of `portcullis status`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    socket: AdminSocket,
    /// How the status is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    /// All rules, also those that have decided nothing.
    #[arg(long)]
    all: bool,
    /// The metrics text instead, as the metrics endpoint serves it.
    #[arg(long, conflicts_with = "output")]
    metrics: bool,
}

/// Shows state and counters of the running instance.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let path = if arguments.metrics {
        "/metrics"
    } else {
        "/v1/status"
    };
    let asked = arguments
        .socket
        .ask(hyper::Method::GET, path, String::new())?;
    let Some(answer) = asked else {
        return Ok(Exit::NotRunning);
    };
    if arguments.metrics || arguments.output == OutputFormat::Json {
        println!("{}", answer.body.trim_end());
        return Ok(Exit::Fine);
    }
    let status: Status = serde_json::from_str(&answer.body)
        .with_context(|| format!("the instance answered {}: {}", answer.status, answer.body))?;
    print!("{}", render(&status, arguments.all));
    Ok(Exit::Fine)
}

/// The status for people: what is wrong first, then what flows, then details.
fn render(status: &Status, all_rules: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_head(&mut text, status);
    let _ = write_ports(&mut text, status);
    let _ = write_packets(&mut text, status);
    let _ = write_rules(&mut text, status, all_rules);
    text
}

fn write_head(text: &mut String, status: &Status) -> std::fmt::Result {
    let Status {
        version,
        pid,
        uptime_s,
        forwarding,
        policy,
        flows,
        ..
    } = status;
    writeln!(
        text,
        "portcullis {version}, pid {pid}, up {}, {forwarding}",
        duration(*uptime_s)
    )?;
    match policy.generation {
        0 => writeln!(
            text,
            "policy   NONE IN FORCE, everything is dropped ({})",
            policy.directory
        )?,
        generation => writeln!(
            text,
            "policy   generation {generation} for {} ({})",
            duration(policy.age_s),
            policy.directory
        )?,
    }
    for line in &policy.refused {
        writeln!(text, "         REFUSED: {line}")?;
    }
    for line in &policy.warnings {
        writeln!(text, "         {line}")?;
    }
    for stage in &policy.stages {
        let (family, direction) = (&stage.family, &stage.direction);
        writeln!(
            text,
            "         {family} {direction}: {} rules, {} bytes",
            stage.rules, stage.bytes
        )?;
    }
    writeln!(
        text,
        "flows    {} live ({} unreplied) of {}; {} created, {} expired, {} evicted",
        flows.live, flows.unreplied, flows.limit, flows.created, flows.expired, flows.evicted
    )?;
    for (number, worker) in status.workers.iter().enumerate() {
        let late = if worker.pulse_age_ms > 1000 {
            "  DOES NOT COME ROUND"
        } else {
            ""
        };
        let (core, batches) = (worker.core, worker.batches);
        writeln!(
            text,
            "worker   {number} on core {core}, {batches} batches{late}"
        )?;
        let figures = worker.packets.named();
        // With one worker the packets below say the same.
        for (fate, count) in figures.iter().filter(|_| status.workers.len() > 1) {
            writeln!(text, "         {fate:<28} {count:>14}")?;
        }
    }
    Ok(())
}

fn write_ports(text: &mut String, status: &Status) -> std::fmt::Result {
    for port in &status.ports {
        let attached = if port.attached {
            ""
        } else {
            "  STEERING PROGRAM LOST"
        };
        writeln!(
            text,
            "port     {} ({}) {}, {}{attached}: received {}, sent {}",
            port.name,
            port.interface,
            port.state,
            port.mode,
            volume(port.received),
            volume(port.sent)
        )?;
        let counters = port.steering.iter().chain(&port.xdp_statistics);
        for (name, count) in counters.filter(|(_, count)| **count > 0) {
            writeln!(text, "         {name:<28} {count:>14}")?;
        }
    }
    Ok(())
}

fn write_packets(text: &mut String, status: &Status) -> std::fmt::Result {
    writeln!(text, "packets")?;
    for (verdict, sum) in status.verdicts.iter().filter(|(_, sum)| sum.packets > 0) {
        writeln!(text, "         {verdict:<28} {}", volume(*sum))?;
    }
    for (reason, sum) in &status.drops {
        writeln!(text, "         drop {reason:<23} {}", volume(*sum))?;
    }
    for (name, count) in status.counters.iter().filter(|(_, count)| **count > 0) {
        writeln!(text, "         {name:<28} {count:>14}")?;
    }
    Ok(())
}

fn write_rules(text: &mut String, status: &Status, all: bool) -> std::fmt::Result {
    let mut rules: Vec<_> = status
        .rules
        .iter()
        .filter(|rule| all || rule.decisions > 0)
        .collect();
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.packets));
    let hidden = if all {
        0
    } else {
        rules.len().saturating_sub(RULES_SHOWN)
    };
    rules.truncate(rules.len() - hidden);
    if !rules.is_empty() {
        writeln!(
            text,
            "rules    {:>12} {:>12} {:>14}",
            "decisions", "packets", "bytes"
        )?;
    }
    for rule in rules {
        let old = if rule.in_force {
            ""
        } else {
            "  (no longer in force)"
        };
        writeln!(
            text,
            "         {:>12} {:>12} {:>14}  {}{old}",
            rule.decisions, rule.packets, rule.bytes, rule.rule
        )?;
    }
    if hidden > 0 {
        writeln!(text, "         and {hidden} more (--all)")?;
    }
    Ok(())
}

fn volume(volume: VolumeStatus) -> String {
    format!("{:>14} packets {:>16} bytes", volume.packets, volume.bytes)
}

fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
