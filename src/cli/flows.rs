//! `portcullis flows`.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ipnet::IpNet;

use super::{AdminSocket, Exit, OutputFormat};
use crate::control::flows::{FLOWS_DEFAULT, FlowRow, FlowTuple, FlowsAnswer, FlowsQuery};

/// Arguments of `portcullis flows`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    socket: AdminSocket,
    /// How flows are printed: a line each, or one JSON object each.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    /// Only of this protocol: tcp, udp, icmp, icmpv6, sctp, gre or a number.
    #[arg(long, value_parser = protocol)]
    protocol: Option<u8>,
    /// Only with an end in this prefix, before or after translation.
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    address: Option<IpNet>,
    /// Only with this port at an end, before or after translation.
    #[arg(long)]
    port: Option<u16>,
    /// Flows printed at the most.
    #[arg(long, default_value_t = FLOWS_DEFAULT)]
    limit: u32,
    /// Forget the flows. Their next packets are judged as new ones.
    #[arg(long, conflicts_with = "watch")]
    delete: bool,
    /// Forget all of them, where nothing else says which.
    #[arg(long, requires = "delete")]
    all: bool,
    /// Print them anew every second.
    #[arg(long)]
    watch: bool,
}

fn protocol(text: &str) -> Result<u8, String> {
    Ok(match text {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "gre" => 47,
        "icmpv6" => 58,
        "sctp" => 132,
        number => number
            .parse()
            .map_err(|_| "allowed: tcp, udp, icmp, icmpv6, sctp, gre or a number".to_owned())?,
    })
}

fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<std::net::IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse())
        .map_err(|_| "allowed: an address or a prefix, like 198.18.0.0/24".to_owned())
}

/// Lists the flows of the running instance, or makes it forget some.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let query = FlowsQuery {
        protocol: arguments.protocol,
        address: arguments.address.map(|net| (net.addr(), net.prefix_len())),
        port: arguments.port,
        limit: Some(arguments.limit),
        delete: arguments.delete,
    };
    let everything = query.protocol.is_none() && query.address.is_none() && query.port.is_none();
    if arguments.delete && everything && !arguments.all {
        anyhow::bail!("--delete without --protocol, --address or --port forgets all; say --all");
    }
    let body = serde_json::to_string(&query)?;
    loop {
        let asked = arguments
            .socket
            .ask(hyper::Method::POST, "/v1/flows", body.clone())?;
        let Some(answer) = asked else {
            return Ok(Exit::NotRunning);
        };
        let flows: FlowsAnswer = serde_json::from_str(&answer.body)
            .with_context(|| format!("the instance answered {}: {}", answer.status, answer.body))?;
        if arguments.watch && arguments.output == OutputFormat::Text {
            // Clears the screen.
            print!("\x1b[2J\x1b[H");
        }
        match arguments.output {
            OutputFormat::Json => {
                for flow in &flows.flows {
                    println!("{}", serde_json::to_string(flow)?);
                }
            }
            OutputFormat::Text => print!("{}", render(&flows, arguments.delete)),
        }
        if !arguments.watch {
            return Ok(Exit::Fine);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn render(answer: &FlowsAnswer, deleted: bool) -> String {
    let mut text = String::new();
    for flow in &answer.flows {
        // Writing to a String cannot fail.
        let _ = write_flow(&mut text, flow);
    }
    let told = answer.flows.len() as u64;
    let what = if deleted { "flows forgotten" } else { "flows" };
    let _ = match told == answer.matched {
        true => writeln!(text, "{} {what}", answer.matched),
        false => writeln!(text, "{} {what}, {told} shown", answer.matched),
    };
    text
}

fn write_flow(text: &mut String, flow: &FlowRow) -> std::fmt::Result {
    write!(text, "{} {} ", flow.protocol, flow.state)?;
    write_tuple(text, &flow.original)?;
    if flow.translated {
        write!(text, " answered by ")?;
        write_tuple(text, &flow.reply)?;
    }
    let ([sent, answered], [sent_bytes, answered_bytes]) = (flow.packets, flow.bytes);
    write!(
        text,
        "  packets {sent}/{answered} bytes {sent_bytes}/{answered_bytes} age {} s timeout {} s",
        flow.age_s, flow.timeout_s
    )?;
    write!(text, " rule {} generation {}", flow.rule, flow.generation)?;
    if flow.blocked {
        write!(text, " blocked")?;
    }
    writeln!(text)
}

fn write_tuple(text: &mut String, tuple: &FlowTuple) -> std::fmt::Result {
    let bracket = |address: std::net::IpAddr| match address.is_ipv6() {
        true => format!("[{address}]"),
        false => address.to_string(),
    };
    write!(
        text,
        "{}:{} > {}:{}",
        bracket(tuple.source),
        tuple.source_port,
        bracket(tuple.destination),
        tuple.destination_port
    )
}
