//! `ipBlock`: decoding and its part of `ValidateNetworkPolicyPeer`.

use ipnet::IpNet;

use super::super::document::{Node, Position};
use super::super::finding::id;
use super::super::network_policy::PeerKind;
use super::{Path, Reader, Severity, words};

/// Decodes a block; `None` when it has errors.
pub fn decode(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Option<PeerKind> {
    let fields = reader.mapping(node, path, owner, "v1.IPBlock")?;
    let owner = "IPBlock";
    let wrong_types = reader.wrong_types;
    let mut cidr = ("", node.position);
    let mut cidr_is_text = true;
    let mut except = Vec::new();
    for field in fields {
        let child = path.field(&field.key);
        match &*field.key {
            "cidr" => {
                let text = reader.string(&field.node, &child, owner, "string");
                cidr = (text.unwrap_or_default(), field.node.position);
                cidr_is_text = reader.wrong_types == wrong_types;
            }
            "except" => {
                let items = reader.sequence(&field.node, &child, owner, "[]string");
                except = exceptions(reader, items, &child);
            }
            _ => reader.unknown_field(Severity::Error, field, path, &["cidr", "except"]),
        }
    }
    let (text, position) = cidr;
    if !cidr_is_text {
        return None;
    }
    if text.is_empty() {
        reader.required(position, &path.field("cidr"), "");
        return None;
    }
    let cidr = block(reader, position, &path.field("cidr"), text)?;
    let except_path = path.field("except");
    for exception in &except {
        let within = cidr.contains(&exception.block);
        if !within || cidr.prefix_len() >= exception.block.prefix_len() {
            let path = except_path.index(exception.index);
            let detail = "must be a strict subset of `cidr`";
            reader.invalid_text(exception.node.position, &path, exception.text, detail);
        }
    }
    let except = except.iter().map(|exception| exception.block).collect();
    Some(PeerKind::IpBlock { cidr, except })
}

/// One of `except` that is a CIDR.
struct Exception<'n> {
    block: IpNet,
    text: &'n str,
    node: &'n Node,
    index: usize,
}

fn exceptions<'n>(reader: &mut Reader, items: &'n [Node], path: &Path) -> Vec<Exception<'n>> {
    let mut exceptions = Vec::new();
    for (index, node) in items.iter().enumerate() {
        let path = path.index(index);
        let wrong_types = reader.wrong_types;
        let text = reader
            .string(node, &path, "IPBlock", "string")
            .unwrap_or_default();
        if reader.wrong_types == wrong_types
            && let Some(block) = block(reader, node.position, &path, text)
        {
            exceptions.push(Exception {
                block,
                text,
                node,
                index,
            });
        }
    }
    exceptions
}

/// A CIDR without its host bits, which are warned of.
fn block(reader: &mut Reader, position: Position, path: &Path, text: &str) -> Option<IpNet> {
    match words::cidr(text) {
        Ok(written) => Some(masked(reader, position, path, text, written)),
        Err(problem) => {
            reader.invalid_text(position, path, text, problem);
            None
        }
    }
}

/// A block without its host bits, which are warned of.
pub fn masked(
    reader: &mut Reader,
    position: Position,
    path: &Path,
    text: &str,
    written: IpNet,
) -> IpNet {
    let block = written.trunc();
    if written.addr() != block.addr() {
        let single = IpNet::from(written.addr());
        let message = format!(
            "CIDR value {} is ambiguous in this context (should be \"{block}\" or \
             \"{single}\"?); it is read as \"{block}\"",
            words::quote(text)
        );
        reader.warn(id::CIDR_HOST_BITS, position, path, message);
    }
    block
}
