//! `portcullis explain`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::excerpt::Sources;
use super::{AdminSocket, Exit, OutputFormat};
use crate::control::compatibility::compatibility;
use crate::control::decide::{Decider, Limits};
use crate::control::explain::{End, Explanation, Owner, Stage, Written, explain};
use crate::control::probe::{
    self, Arp, ArpOperation, Discovery, Endpoint, Family, Mac, NEIGHBOUR_ADVERTISEMENT, Probe,
    ProbeError, ProbeProtocol, State,
};
use crate::policy::{self, Compatibility, Names, Severity, read_directory};
use crate::settings::Settings;

/// Arguments of `portcullis explain`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Manifests to decide by: a directory or a file. Without them the running instance is asked.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,

    /// Manifests in force when an established flow was opened, where they differ.
    #[arg(long, value_name = "DIR", requires = "policies")]
    policies_before: Option<PathBuf>,

    /// Settings, for their compatibility switches.
    #[arg(long, value_name = "FILE", requires = "policies")]
    config: Option<PathBuf>,

    /// A compatibility switch; may be repeated.
    #[arg(long, value_name = "SWITCH=VALUE", requires = "policies")]
    compat: Vec<String>,

    #[command(flatten)]
    probe: ProbeArguments,

    #[command(flatten)]
    socket: AdminSocket,

    /// How the story is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// A probe as flags.
#[derive(Debug, Args)]
struct ProbeArguments {
    /// Who sends the packet: ns/pod, ip:ADDRESS, node:NAME.
    #[arg(long, value_name = "ENDPOINT")]
    from: Endpoint,

    /// Who receives it: ns/pod, ip:ADDRESS, node:NAME, svc:ns/name.
    #[arg(long, value_name = "ENDPOINT")]
    to: Endpoint,

    /// tcp, udp, sctp, icmp, icmpv6, arp, or ip and a number: ip47.
    #[arg(long)]
    proto: ProbeProtocol,

    /// Destination port; tcp, udp and sctp need one.
    #[arg(long)]
    port: Option<u16>,

    /// Source port; 40000 unless given.
    #[arg(long)]
    src_port: Option<u16>,

    /// ICMP type; an echo request unless given.
    #[arg(long)]
    icmp_type: Option<u8>,

    /// Hop limit; the one such a packet is sent with unless given.
    #[arg(long)]
    hop_limit: Option<u8>,

    /// 4 or 6: which of the ends' addresses; the first they have in common unless given.
    #[arg(long, value_parser = family)]
    family: Option<Family>,

    /// Source address instead of the sender's own.
    #[arg(long, value_name = "ADDRESS")]
    src_ip: Option<IpAddr>,

    /// Destination address instead of the receiver's own.
    #[arg(long, value_name = "ADDRESS")]
    dst_ip: Option<IpAddr>,

    /// new, reply, related, established or established-reply.
    #[arg(long, default_value_t)]
    state: State,

    /// Source MAC address instead of the sender's own.
    #[arg(long, value_name = "MAC")]
    src_mac: Option<Mac>,

    /// Destination MAC address instead of the receiver's own.
    #[arg(long, value_name = "MAC")]
    dst_mac: Option<Mac>,

    /// VLAN id of the frame's tag.
    #[arg(long, value_parser = clap::value_parser!(u16).range(..4096))]
    vlan: Option<u16>,

    /// Of ARP: request or reply.
    #[arg(long)]
    arp_op: Option<ArpOperation>,

    /// Of ARP: sender's hardware address.
    #[arg(long, value_name = "MAC")]
    arp_sha: Option<Mac>,

    /// Of ARP: sender's protocol address.
    #[arg(long, value_name = "ADDRESS")]
    arp_spa: Option<Ipv4Addr>,

    /// Of ARP: target's protocol address.
    #[arg(long, value_name = "ADDRESS")]
    arp_tpa: Option<Ipv4Addr>,

    /// Of neighbour discovery: target address.
    #[arg(long, value_name = "ADDRESS")]
    nd_target: Option<Ipv6Addr>,

    /// Of neighbour discovery: link-layer address in the message's option.
    #[arg(long, value_name = "MAC")]
    nd_lladdr: Option<Mac>,
}

fn family(text: &str) -> Result<Family, ProbeError> {
    probe::family(text)
}

impl ProbeArguments {
    fn into_probe(self) -> Probe {
        let says_arp = self.arp_op.is_some()
            || self.arp_sha.is_some()
            || self.arp_spa.is_some()
            || self.arp_tpa.is_some();
        let arp = says_arp.then(|| Arp {
            op: self.arp_op.unwrap_or_default(),
            sha: self.arp_sha,
            spa: self.arp_spa,
            tpa: self.arp_tpa,
        });
        let says_nd = self.nd_target.is_some() || self.nd_lladdr.is_some();
        let nd = says_nd.then_some(Discovery {
            target: self.nd_target,
            lladdr: self.nd_lladdr,
        });
        let advertisement = says_nd.then_some(NEIGHBOUR_ADVERTISEMENT);
        Probe {
            from: self.from,
            to: self.to,
            protocol: self.proto,
            port: self.port,
            source_port: self.src_port,
            icmp_type: self.icmp_type.or(advertisement),
            hop_limit: self.hop_limit,
            family: self.family,
            source: self.src_ip,
            destination: self.dst_ip,
            state: self.state,
            source_mac: self.src_mac,
            destination_mac: self.dst_mac,
            vlan: self.vlan,
            arp,
            nd,
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// Manifests that are refused, an end that is not in them.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Some(policies) = &arguments.policies else {
        return ask(arguments);
    };
    let mut switches = Compatibility::default();
    if let Some(config) = &arguments.config {
        switches = compatibility(&Settings::load(config)?.policy.compat)?;
    }
    for switch in &arguments.compat {
        let (name, value) = switch
            .split_once('=')
            .context("--compat takes SWITCH=VALUE")?;
        switches.set(name, value)?;
    }
    let mut sources = Sources::default();
    let now = load(policies, &switches, &mut sources)?;
    let before = match &arguments.policies_before {
        Some(policies) => Some(load(policies, &switches, &mut sources)?),
        None => None,
    };
    let probe = arguments.probe.into_probe();
    let explanation = explain(&probe, &now, before.as_ref().unwrap_or(&now))?;
    print(&explanation, arguments.output, &mut sources)
}

/// Asks the running instance, whose own trees explain.
fn ask(arguments: Arguments) -> anyhow::Result<Exit> {
    let probe = serde_json::to_string(&arguments.probe.into_probe())?;
    let Some(answer) = arguments
        .socket
        .ask(hyper::Method::POST, "/v1/explain", probe)?
    else {
        return Ok(Exit::NotRunning);
    };
    anyhow::ensure!(answer.status.is_success(), "{}", answer.body);
    let explanation = serde_json::from_str(&answer.body)?;
    print(&explanation, arguments.output, &mut Sources::default())
}

fn print(
    explanation: &Explanation,
    format: OutputFormat,
    sources: &mut Sources,
) -> anyhow::Result<Exit> {
    let mut output = std::io::stdout().lock();
    match format {
        OutputFormat::Text => output.write_all(render(explanation, sources).as_bytes())?,
        OutputFormat::Json => {
            serde_json::to_writer(&mut output, explanation)?;
            writeln!(output)?;
        }
    }
    output.flush()?;
    Ok(match &*explanation.verdict {
        "allow" => Exit::Fine,
        _ => Exit::Differs,
    })
}

fn load(
    path: &std::path::Path,
    switches: &Compatibility,
    sources: &mut Sources,
) -> anyhow::Result<Decider> {
    let files = read_directory(path)?;
    for file in &files {
        sources.insert(&file.name, &file.text);
    }
    let loaded = policy::load(&files, switches, &Names::default());
    match loaded.policy {
        Some(policy) => Ok(Decider::new(policy, &Limits::default())?),
        None => {
            let errors = loaded.findings.iter();
            for error in errors.filter(|finding| finding.severity == Severity::Error) {
                eprintln!("{error}");
            }
            anyhow::bail!("{}: the manifests are refused", path.display())
        }
    }
}

/// The story as text.
pub fn render(explanation: &Explanation, sources: &mut Sources) -> String {
    let mut text = String::new();
    tell(&mut text, explanation, sources).expect("a String takes every text");
    text
}

fn tell(text: &mut String, told: &Explanation, sources: &mut Sources) -> std::fmt::Result {
    writeln!(text, "{}: {}", told.verdict, told.probe)?;
    if let Some(packet) = &told.packet {
        writeln!(text, "  packet   {packet}")?;
    }
    if let Some(state) = &told.state {
        writeln!(text, "  state    {state}")?;
    }
    for (name, end) in [("from", &told.from), ("to", &told.to)] {
        if let Some(end) = end {
            writeln!(text, "  {name:<8} {}", end_text(end))?;
        }
    }
    if let Some(service) = &told.service {
        let address = service.cluster_address.map(|address| address.to_string());
        let address = address.as_deref().unwrap_or("its ClusterIP");
        writeln!(
            text,
            "  service  {} translates {address} port {} to {} port {}",
            service.service, service.port, service.backend, service.backend_port
        )?;
    }
    if let Some(answers) = &told.answers {
        writeln!(text, "  answers  {answers}")?;
    }
    if let Some(exempt) = &told.exempt {
        writeln!(text, "  exempt   {exempt}")?;
    } else if told.packet.is_none() {
        writeln!(text, "  exempt   {}", told.reason)?;
    }
    for stage in &told.stages {
        tell_stage(text, stage, sources)?;
    }
    for change in &told.change {
        writeln!(text, "to allow it: {change}")?;
    }
    Ok(())
}

fn end_text(end: &End) -> String {
    let End {
        endpoint,
        address,
        owner,
    } = end;
    let text = format!("{endpoint}  {address}");
    match owner {
        Owner::Pod {
            namespace,
            name,
            labels,
            namespace_labels,
            node,
            ..
        } => {
            let pod = format!("{namespace}/{name}");
            let pod = if *endpoint == pod {
                String::new()
            } else {
                format!("  pod {pod}")
            };
            let node = node.as_ref().map(|node| format!("  node {node}"));
            format!(
                "{text}{pod}  labels {}  namespace {}{}",
                labels_text(labels),
                labels_text(namespace_labels),
                node.unwrap_or_default()
            )
        }
        Owner::Node { name } => format!("{text}  address of node {name}, no pod's"),
        Owner::Unknown => format!("{text}  no pod's address"),
    }
}

fn labels_text(labels: &std::collections::BTreeMap<String, String>) -> String {
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if labels.is_empty() {
        "none".into()
    } else {
        labels.join(",")
    }
}

fn tell_stage(text: &mut String, stage: &Stage, sources: &mut Sources) -> std::fmt::Result {
    let Stage {
        family,
        direction,
        protects,
        verdict,
        ..
    } = stage;
    let verdict = if verdict == "none" { "allow" } else { verdict };
    writeln!(text, "{family} {direction} at {protects}: {verdict}")?;
    for by in &stage.isolated_by {
        let how = match &**family {
            "SG" => "bound to",
            "L2" => "held by",
            _ => "isolated by",
        };
        writeln!(text, "  {how} {}", written(by))?;
    }
    match &stage.rule {
        None => writeln!(text, "  {}", stage.reason)?,
        Some(rule) => {
            writeln!(text, "  {}  [{}]", stage.reason, rule.name)?;
            excerpt(text, rule, sources)?;
        }
    }
    for (index, nearest) in stage.nearest.iter().enumerate() {
        let word = if index == 0 { "nearest allow" } else { "or" };
        writeln!(text, "  {word}: {}", nearest.text)?;
        excerpt(text, &nearest.rule, sources)?;
    }
    Ok(())
}

fn written(what: &Written) -> String {
    match &what.place {
        Some(place) => format!("{}  {place}", what.name),
        None => what.name.clone(),
    }
}

fn excerpt(text: &mut String, what: &Written, sources: &mut Sources) -> std::fmt::Result {
    let Some(place) = &what.place else {
        return Ok(());
    };
    for line in sources.block(place, &what.path).lines() {
        writeln!(text, "  {line}")?;
    }
    Ok(())
}
