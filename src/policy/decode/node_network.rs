//! What a node says of the pod network, and whether it is there.

use ipnet::IpNet;

use super::super::document::{Field, Node};
use super::{Path, Reader, words};
use crate::policy::inventory::Labels;

/// Annotation in which OVN-Kubernetes writes a node's part of its networks, as JSON.
const SUBNETS_ANNOTATION: &str = "k8s.ovn.org/node-subnets";

/// The blocks of a node's pods: `spec.podCIDR`, `spec.podCIDRs`, and the annotation of
/// OVN-Kubernetes for the network `default`.
pub fn pod_blocks(reader: &mut Reader, spec: &[Field], annotations: &Labels) -> Vec<IpNet> {
    let path = Path::ROOT.field("spec");
    let mut blocks = Vec::new();
    for field in spec {
        let path = path.field(&field.key);
        match &*field.key {
            "podCIDR" => blocks.extend(block(reader, &field.node, &path)),
            "podCIDRs" => {
                let items = reader.sequence(&field.node, &path, "NodeSpec", "[]string");
                for (index, item) in items.iter().enumerate() {
                    blocks.extend(block(reader, item, &path.index(index)));
                }
            }
            _ => {}
        }
    }
    let annotation = annotations.get(SUBNETS_ANNOTATION);
    let subnets = annotation.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    if let Some(default) = subnets.as_ref().and_then(|subnets| subnets.get("default")) {
        let texts = match default {
            serde_json::Value::Array(items) => items.iter().collect(),
            one => vec![one],
        };
        let parsed = texts
            .into_iter()
            .map(|text| text.as_str()?.parse::<IpNet>().ok());
        blocks.extend(parsed.flatten());
    }
    blocks.dedup();
    blocks
}

fn block(reader: &mut Reader, node: &Node, path: &Path) -> Option<IpNet> {
    let text = reader.string(node, path, "NodeSpec", "string")?;
    if text.is_empty() {
        return None;
    }
    match words::cidr(text) {
        Ok(block) => Some(block.trunc()),
        Err(problem) => {
            reader.invalid_text(node.position, path, text, problem);
            None
        }
    }
}

/// Does `status.conditions` say that the node is not ready, or that nobody knows?
pub fn is_offline(status: &[Field]) -> bool {
    let conditions = status.iter().find(|field| &*field.key == "conditions");
    let conditions = conditions.and_then(|field| field.node.as_sequence());
    conditions.unwrap_or_default().iter().any(|condition| {
        let text = |field| condition.get(field).and_then(Node::as_str);
        text("type") == Some("Ready") && matches!(text("status"), Some("False" | "Unknown"))
    })
}
