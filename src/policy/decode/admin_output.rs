//! AdminOutputRules: decoding and validation.

use ipnet::IpNet;

use super::super::admin_output::{AdminOutputRules, Effects, OutputAction, OutputRule, RateLimit};
use super::super::document::{Field, Node, Position};
use super::super::finding::id;
use super::meta::Metadata;
use super::openshift::{canonical_block, spec};
use super::{Path, Reader, Severity, words};
use crate::wire::protocol;

const ACTIONS: [(&str, OutputAction); 3] = [
    ("drop", OutputAction::Drop),
    ("accept", OutputAction::Accept),
    ("continue", OutputAction::Continue),
];

const PROTOCOLS: [(&str, u8); 5] = [
    ("TCP", protocol::TCP),
    ("UDP", protocol::UDP),
    ("SCTP", protocol::SCTP),
    ("ICMP", protocol::ICMP),
    ("ICMPv6", protocol::ICMPV6),
];

const RULE_FIELDS: [&str; 8] = [
    "action",
    "from",
    "log",
    "name",
    "ports",
    "protocol",
    "rate_limit",
    "to",
];

/// Decodes an AdminOutputRules object. When it has errors the result is incomplete.
pub fn decode(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> AdminOutputRules {
    let mut list = AdminOutputRules {
        name: metadata.name,
        rules: Vec::new(),
        source: reader.source(metadata.position),
    };
    let path = Path::ROOT.field("spec");
    for field in spec(reader, fields, "AdminOutputRules").unwrap_or_default() {
        let child = path.field(&field.key);
        match &*field.key {
            "rules" => {
                let wanted = "[]OutputRule";
                let items = reader.sequence(&field.node, &child, "AdminOutputRulesSpec", wanted);
                for (index, item) in items.iter().enumerate() {
                    let path = child.index(index);
                    let Some(rule) = rule(reader, item, &path) else {
                        continue;
                    };
                    if list.rules.iter().any(|other| other.name == rule.name) {
                        let message = format!("Duplicate value: {}", words::quote(&rule.name));
                        let path = path.field("name");
                        reader.error(id::DUPLICATE_VALUE, item.position, &path, message);
                    }
                    list.rules.push(rule);
                }
            }
            _ => reader.unknown_field(Severity::Error, field, &path, &["rules"]),
        }
    }
    list
}

/// One of a few words.
fn word<T: Copy>(reader: &mut Reader, node: &Node, path: &Path, words: &[(&str, T)]) -> Option<T> {
    let mark = reader.mark();
    let text = reader.string(node, path, "OutputRule", "string");
    let text = text.unwrap_or_default();
    let found = words.iter().find(|(word, _)| *word == text);
    if found.is_none() && !reader.failed_since(mark) {
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        reader.unsupported(node.position, path, text, &names);
    }
    found.map(|(_, value)| *value)
}

fn rule(reader: &mut Reader, node: &Node, path: &Path) -> Option<OutputRule> {
    let owner = "OutputRule";
    let fields = reader.mapping(node, path, "AdminOutputRulesSpec", owner)?;
    let mut rule = OutputRule {
        position: node.position,
        name: String::new(),
        from: Vec::new(),
        to: Vec::new(),
        protocol: None,
        ports: Vec::new(),
        action: OutputAction::Continue,
        effects: Effects::default(),
    };
    let mark = reader.mark();
    for field in fields {
        let child = path.field(&field.key);
        let node = &field.node;
        match &*field.key {
            "name" => {
                let name = reader
                    .string(node, &child, owner, "string")
                    .unwrap_or_default();
                for problem in words::dns_label_problems(name) {
                    reader.invalid_text(node.position, &child, name, &problem);
                }
                name.clone_into(&mut rule.name);
            }
            "from" => rule.from = blocks(reader, node, &child),
            "to" => rule.to = blocks(reader, node, &child),
            "protocol" => rule.protocol = word(reader, node, &child, &PROTOCOLS),
            "ports" => rule.ports = ports(reader, node, &child),
            "action" => {
                let action = word(reader, node, &child, &ACTIONS);
                rule.action = action.unwrap_or(rule.action);
            }
            "log" => rule.effects.log = reader.boolean(node, &child, owner).unwrap_or_default(),
            "rate_limit" => rule.effects.rate_limit = rate_limit(reader, node, &child),
            _ => reader.unknown_field(Severity::Error, field, path, &RULE_FIELDS),
        }
    }
    for required in ["name", "action"] {
        if !fields.iter().any(|field| &*field.key == required) {
            reader.required(node.position, &path.field(required), "");
        }
    }
    let with_ports = [protocol::TCP, protocol::UDP, protocol::SCTP];
    let has_ports = rule
        .protocol
        .is_some_and(|found| with_ports.contains(&found));
    if !rule.ports.is_empty() && !has_ports && !reader.failed_since(mark) {
        let detail = "may be given only where protocol is TCP, UDP or SCTP";
        reader.forbidden(node.position, &path.field("ports"), detail);
    }
    Some(rule)
}

fn blocks(reader: &mut Reader, node: &Node, path: &Path) -> Vec<IpNet> {
    let mut blocks = Vec::new();
    let items = reader.sequence(node, path, "OutputRule", "[]string");
    if items.is_empty() {
        // Left out it means everything; an empty list reads as if it meant nothing.
        reader.required(node.position, path, "an empty list is neither all nor none");
    }
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let mark = reader.mark();
        let text = reader.string(item, &path, "OutputRule", "string");
        let text = text.unwrap_or_default();
        if reader.failed_since(mark) {
            continue;
        }
        match canonical_block(text) {
            Ok(block) => blocks.push(block),
            Err(problem) => reader.invalid_text(item.position, &path, text, &problem),
        }
    }
    blocks
}

fn ports(reader: &mut Reader, node: &Node, path: &Path) -> Vec<(u16, u16)> {
    let mut ports = Vec::new();
    let items = reader.sequence(node, path, "OutputRule", "[]OutputPort");
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let Some(fields) = reader.mapping(item, &path, "OutputRule", "OutputPort") else {
            continue;
        };
        let (mut first, mut last) = (None, None);
        for field in fields {
            let child = path.field(&field.key);
            match &*field.key {
                "port" => first = port(reader, &field.node, &child),
                "endPort" => last = port(reader, &field.node, &child),
                _ => {
                    let known = ["endPort", "port"];
                    reader.unknown_field(Severity::Error, field, &path, &known);
                }
            }
        }
        match (first, last) {
            (Some(first), Some(last)) if last < first => {
                let detail = "must be greater than or equal to `port`";
                reader.invalid(item.position, &path.field("endPort"), last, detail);
            }
            (Some(first), last) => ports.push((first, last.unwrap_or(first))),
            (None, _) if item.get("port").is_none() => {
                reader.required(item.position, &path.field("port"), "");
            }
            _ => {}
        }
    }
    ports
}

fn port(reader: &mut Reader, node: &Node, path: &Path) -> Option<u16> {
    let found = reader.integer(node, path, "OutputPort")?;
    match words::port_number(found) {
        Ok(port) => Some(port),
        Err(problem) => {
            reader.invalid(node.position, path, found, problem);
            None
        }
    }
}

fn rate_limit(reader: &mut Reader, node: &Node, path: &Path) -> Option<RateLimit> {
    let fields = reader.mapping(node, path, "OutputRule", "RateLimit")?;
    let known = ["burst", "connections_per_second"];
    let (mut rate, mut burst) = (None, None);
    for field in fields {
        let child = path.field(&field.key);
        let slot = match &*field.key {
            "connections_per_second" => &mut rate,
            "burst" => &mut burst,
            _ => {
                reader.unknown_field(Severity::Error, field, path, &known);
                continue;
            }
        };
        *slot = positive(reader, &field.node, &child);
    }
    if node.get("connections_per_second").is_none() {
        reader.required(node.position, &path.field("connections_per_second"), "");
    }
    let connections_per_second = rate?;
    Some(RateLimit {
        connections_per_second,
        burst: burst.unwrap_or(connections_per_second),
    })
}

fn positive(reader: &mut Reader, node: &Node, path: &Path) -> Option<u32> {
    let found = reader.integer(node, path, "RateLimit")?;
    if found < 1 {
        let position: Position = node.position;
        reader.invalid(position, path, found, "must be greater than or equal to 1");
        return None;
    }
    Some(found as u32)
}
