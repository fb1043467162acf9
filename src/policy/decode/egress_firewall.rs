//! EgressFirewall: decoding, the schema of its CRD, and the checks of its controller
//! (ovn-kubernetes `go-controller/pkg/crd/egressfirewall/v1`, `pkg/ovn/controller/egressfirewall`).

use super::super::document::{Field, Node, Position, Value};
use super::super::egress_firewall::{
    EGRESS_FIREWALL_RULES_MAX, EgressFirewall, FirewallDestination, FirewallPort, FirewallRule,
};
use super::super::finding::id;
use super::super::openshift::RuleType;
use super::meta::Metadata;
use super::openshift::{is_schema_name, spec};
use super::{Path, Reader, Severity, selector, words};
use crate::wire::protocol;

const TYPE_PATTERN: &str = "^Allow|Deny$";
const PROTOCOL_PATTERN: &str = "^TCP|UDP|SCTP$";
const NAME_PATTERN: &str = "^(\\*\\.)?([A-Za-z0-9-]+\\.)*[A-Za-z0-9-]+\\.?$";

/// Decodes an EgressFirewall. When it has errors the result is incomplete.
pub fn decode(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> EgressFirewall {
    let mut firewall = EgressFirewall {
        namespace: metadata.namespace,
        name: metadata.name,
        rules: Vec::new(),
        source: reader.source(metadata.position),
    };
    let path = Path::ROOT.field("spec");
    let mark = reader.mark();
    let spec = spec(reader, fields, "EgressFirewall");
    let mut has_rules = false;
    for field in spec.unwrap_or_default() {
        let child = path.field(&field.key);
        match &*field.key {
            "egress" => {
                has_rules = field.node.value != Value::Null;
                let wanted = "[]v1.EgressFirewallRule";
                let items = reader.sequence(&field.node, &child, "EgressFirewallSpec", wanted);
                for (index, item) in items.iter().enumerate() {
                    let rule = rule(reader, item, &child.index(index));
                    firewall.rules.extend(rule);
                }
                if items.len() > EGRESS_FIREWALL_RULES_MAX {
                    let message = format!(
                        "egressFirewall for namespace {} has too many rules, max allowed number is \
                         {EGRESS_FIREWALL_RULES_MAX}; found {}",
                        firewall.namespace,
                        items.len()
                    );
                    reader.error(id::TOO_LONG, field.key_position, &child, message);
                }
            }
            _ => reader.unknown_field(Severity::Error, field, &path, &["egress"]),
        }
    }
    if !has_rules && !reader.failed_since(mark) {
        reader.required(metadata.position, &path.field("egress"), "");
    }
    firewall
}

/// The text of a field that a pattern of the schema is about; `None` where it does not fit.
fn patterned<'n>(
    reader: &mut Reader,
    node: &'n Node,
    path: &Path,
    pattern: &str,
    fits: impl Fn(&str) -> bool,
) -> Option<&'n str> {
    let mark = reader.mark();
    let text = reader.string(node, path, "EgressFirewallRule", "string");
    let text = text.unwrap_or_default();
    if reader.failed_since(mark) {
        return None;
    }
    if !fits(text) {
        let detail = format!("{path} in body should match '{pattern}'");
        reader.invalid_text(node.position, path, text, &detail);
        return None;
    }
    Some(text)
}

fn rule(reader: &mut Reader, node: &Node, path: &Path) -> Option<FirewallRule> {
    let fields = reader.mapping(node, path, "EgressFirewallSpec", "v1.EgressFirewallRule")?;
    let mut rule_type = None;
    let mut ports = Vec::new();
    let mut to = None;
    for field in fields {
        let child = path.field(&field.key);
        let node = &field.node;
        match &*field.key {
            "type" => {
                // The pattern has no group: `Allowed` would fit it, and mean nothing.
                let exact = |text: &str| matches!(text, "Allow" | "Deny");
                rule_type = patterned(reader, node, &child, TYPE_PATTERN, exact);
            }
            "ports" => {
                let wanted = "[]v1.EgressFirewallPort";
                let items = reader.sequence(node, &child, "EgressFirewallRule", wanted);
                for (index, item) in items.iter().enumerate() {
                    ports.extend(port(reader, item, &child.index(index)));
                }
            }
            "to" => to = destination(reader, node, &child),
            _ => {
                let known = ["ports", "to", "type"];
                reader.unknown_field(Severity::Error, field, path, &known);
            }
        }
    }
    for required in ["type", "to"] {
        if !fields.iter().any(|field| &*field.key == required) {
            reader.required(node.position, &path.field(required), "");
        }
    }
    Some(FirewallRule {
        position: node.position,
        rule_type: match rule_type? {
            "Allow" => RuleType::Allow,
            _ => RuleType::Deny,
        },
        ports,
        to: to?,
    })
}

fn port(reader: &mut Reader, node: &Node, path: &Path) -> Option<FirewallPort> {
    let owner = "EgressFirewallPort";
    let fields = reader.mapping(node, path, "EgressFirewallRule", "v1.EgressFirewallPort")?;
    let mut number = None;
    let mut transport = None;
    for field in fields {
        let child = path.field(&field.key);
        match &*field.key {
            "port" => {
                let found = reader.integer(&field.node, &child, owner);
                number =
                    found.and_then(|found| port_number(reader, found, field.node.position, &child));
            }
            "protocol" => {
                let exact = |text: &str| matches!(text, "TCP" | "UDP" | "SCTP");
                transport = patterned(reader, &field.node, &child, PROTOCOL_PATTERN, exact);
            }
            _ => {
                let known = ["port", "protocol"];
                reader.unknown_field(Severity::Error, field, path, &known);
            }
        }
    }
    for required in ["protocol", "port"] {
        if !fields.iter().any(|field| &*field.key == required) {
            reader.required(node.position, &path.field(required), "");
        }
    }
    Some(FirewallPort {
        protocol: match transport? {
            "TCP" => protocol::TCP,
            "UDP" => protocol::UDP,
            _ => protocol::SCTP,
        },
        port: number?,
    })
}

fn port_number(reader: &mut Reader, found: i32, position: Position, path: &Path) -> Option<u16> {
    let detail = match found {
        ..1 => format!("{path} in body should be greater than or equal to 1"),
        65536.. => format!("{path} in body should be less than or equal to 65535"),
        _ => return u16::try_from(found).ok(),
    };
    reader.invalid(position, path, found, &detail);
    None
}

fn destination(reader: &mut Reader, node: &Node, path: &Path) -> Option<FirewallDestination> {
    let owner = "EgressFirewallDestination";
    let fields = reader.mapping(
        node,
        path,
        "EgressFirewallRule",
        "v1.EgressFirewallDestination",
    )?;
    let mut destination = None;
    let mut properties = 0;
    for field in fields {
        let child = path.field(&field.key);
        let known = ["cidrSelector", "dnsName", "nodeSelector"];
        if !known.contains(&&*field.key) {
            reader.unknown_field(Severity::Error, field, path, &known);
            continue;
        }
        if field.node.value == Value::Null {
            continue;
        }
        properties += 1;
        destination = match &*field.key {
            "cidrSelector" => block(reader, &field.node, &child),
            "dnsName" => {
                let fits = |text: &str| is_schema_name(text.strip_prefix("*.").unwrap_or(text));
                let name = patterned(reader, &field.node, &child, NAME_PATTERN, fits);
                name.map(|name| FirewallDestination::Name(name.to_owned()))
            }
            _ => {
                let selector = selector::decode(reader, &field.node, &child, owner);
                Some(FirewallDestination::Nodes(selector))
            }
        };
    }
    match properties {
        1 => {}
        0 => {
            let detail = format!("{path} in body should have at least 1 properties");
            reader.invalid(node.position, path, 0, &detail);
        }
        _ => {
            let message = format!(
                "Too many: {properties}: must have at most 1 items: one of cidrSelector, dnsName \
                 and nodeSelector"
            );
            reader.error(id::TOO_LONG, node.position, path, message);
            return None;
        }
    }
    destination
}

fn block(reader: &mut Reader, node: &Node, path: &Path) -> Option<FirewallDestination> {
    let mark = reader.mark();
    let text = reader.string(node, path, "EgressFirewallDestination", "string");
    let text = text.unwrap_or_default();
    if reader.failed_since(mark) {
        return None;
    }
    let Ok(block) = words::cidr(text) else {
        let detail = format!("invalid CIDR address: {text}");
        reader.invalid_text(node.position, path, text, &detail);
        return None;
    };
    if block.addr() != block.network() {
        let message = format!("host bits are set: {text} means {}", block.trunc());
        reader.warn(id::CIDR_HOST_BITS, node.position, path, message);
    }
    Some(FirewallDestination::Block(block.trunc()))
}
