//! `ports` of AdminNetworkPolicy and `protocols` of ClusterNetworkPolicy.

use super::super::document::{Field, Node};
use super::super::tiers::{TierKind, TierPort};
use super::schema::given;
use super::{Path, Reader, Severity};
use crate::wire::protocol;

/// Decodes the list.
pub fn decode(reader: &mut Reader, kind: TierKind, node: &Node, path: &Path) -> Vec<TierPort> {
    let wrong_types = reader.wrong_types;
    let items = reader.sequence(node, path, kind.name(), "[]v1.Port");
    if reader.wrong_types == wrong_types {
        reader.check_item_count(node, path, items.len(), kind.items_max());
    }
    let port = |(index, item)| match kind {
        TierKind::Cluster => protocol_entry(reader, item, &path.index(index)),
        TierKind::Admin | TierKind::Baseline => port_entry(reader, item, &path.index(index)),
    };
    items.iter().enumerate().filter_map(port).collect()
}

/// Is it a port by name?
pub fn is_named(port: &TierPort) -> bool {
    matches!(port, TierPort::Named(_))
}

/// The one field of an object that must have exactly one of the known.
fn only<'n>(
    reader: &mut Reader,
    node: &'n Node,
    path: &Path,
    owner: &str,
    known: &[&str],
) -> Option<&'n Field> {
    let fields = reader.mapping(node, path, owner, &format!("v1.{owner}"))?;
    let fields: Vec<_> = given(fields).collect();
    for field in &fields {
        if !known.contains(&&*field.key) {
            reader.unknown_field(Severity::Error, field, path, known);
            return None;
        }
    }
    let one = reader.check_one_property(node, path, fields.len());
    one.then(|| fields[0])
}

/// `portNumber`, `portRange` or `namedPort`.
fn port_entry(reader: &mut Reader, node: &Node, path: &Path) -> Option<TierPort> {
    let known = ["namedPort", "portNumber", "portRange"];
    let field = only(reader, node, path, "AdminNetworkPolicyPort", &known)?;
    let path = path.field(&field.key);
    match &*field.key {
        "namedPort" => {
            let name = reader.string(&field.node, &path, "AdminNetworkPolicyPort", "string")?;
            Some(TierPort::Named(name.to_owned()))
        }
        "portNumber" => {
            let (protocol, [port]) = numbers(reader, &field.node, &path, "Port", ["port"])?;
            Some(TierPort::Range {
                protocol,
                first: port,
                last: port,
            })
        }
        _ => {
            let names = ["start", "end"];
            let (protocol, [start, end]) = numbers(reader, &field.node, &path, "PortRange", names)?;
            range(reader, &field.node, &path, protocol, start, end)
        }
    }
}

/// `tcp`, `udp`, `sctp` or `destinationNamedPort`.
fn protocol_entry(reader: &mut Reader, node: &Node, path: &Path) -> Option<TierPort> {
    let owner = "ClusterNetworkPolicyProtocol";
    let known = ["destinationNamedPort", "sctp", "tcp", "udp"];
    let field = only(reader, node, path, owner, &known)?;
    let path = path.field(&field.key);
    let number = match &*field.key {
        "tcp" => protocol::TCP,
        "udp" => protocol::UDP,
        "sctp" => protocol::SCTP,
        _ => {
            let name = reader.string(&field.node, &path, owner, "string")?;
            return Some(TierPort::Named(name.to_owned()));
        }
    };
    let field = only(reader, &field.node, &path, owner, &["destinationPort"])?;
    let path = path.field(&field.key);
    let field = only(reader, &field.node, &path, "Port", &["number", "range"])?;
    let path = path.field(&field.key);
    if &*field.key == "number" {
        let port = reader.bounded(&field.node, &path, "Port", (1, u16::MAX))?;
        return Some(TierPort::Range {
            protocol: number,
            first: port,
            last: port,
        });
    }
    let names = ["start", "end"];
    let (_, [start, end]) = numbers_of(reader, &field.node, &path, "PortRange", names, false)?;
    range(reader, &field.node, &path, number, start, end)
}

fn range(
    reader: &mut Reader,
    node: &Node,
    path: &Path,
    protocol: u8,
    first: u16,
    last: u16,
) -> Option<TierPort> {
    if first >= last {
        let detail = "Start port must be less than End port";
        reader.invalid_text(node.position, path, "object", detail);
        return None;
    }
    Some(TierPort::Range {
        protocol,
        first,
        last,
    })
}

fn numbers<const N: usize>(
    reader: &mut Reader,
    node: &Node,
    path: &Path,
    owner: &str,
    names: [&str; N],
) -> Option<(u8, [u16; N])> {
    numbers_of(reader, node, path, owner, names, true)
}

/// Ports that must be there, and the protocol, where the object has one; TCP unless given.
fn numbers_of<const N: usize>(
    reader: &mut Reader,
    node: &Node,
    path: &Path,
    owner: &str,
    names: [&str; N],
    with_protocol: bool,
) -> Option<(u8, [u16; N])> {
    let fields = reader.mapping(node, path, owner, &format!("v1.{owner}"))?;
    let mark = reader.mark();
    let mut known = names.to_vec();
    known.extend(with_protocol.then_some("protocol"));
    let mut ports = [None; N];
    let mut transport = protocol::TCP;
    let mut found: Vec<&str> = Vec::new();
    for field in given(fields) {
        let child = path.field(&field.key);
        found.push(&field.key);
        if let Some(index) = names.iter().position(|name| *name == &*field.key) {
            ports[index] = reader.bounded(&field.node, &child, owner, (1, u16::MAX));
        } else if with_protocol && &*field.key == "protocol" {
            let numbers = [protocol::TCP, protocol::UDP, protocol::SCTP];
            let index = reader.one_of(&field.node, &child, owner, &["TCP", "UDP", "SCTP"]);
            transport = index.map_or(transport, |index| numbers[index]);
        } else {
            reader.unknown_field(Severity::Error, field, path, &known);
        }
    }
    for name in names {
        if !found.contains(&name) {
            reader.required(node.position, &path.field(name), "");
        }
    }
    if reader.failed_since(mark) {
        return None;
    }
    let mut all = [0; N];
    for (number, port) in all.iter_mut().zip(ports) {
        *number = port?;
    }
    Some((transport, all))
}
