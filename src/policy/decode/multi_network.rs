//! MultiNetworkPolicy, NetworkAttachmentDefinition, and what the annotations of pods say of their
//! interfaces (Network Plumbing Working Group, multi-network specification).

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value as Json;

use super::super::Policies;
use super::super::compatibility::MultiNetworkDialect;
use super::super::document::{Field, Node, Position};
use super::super::finding::id;
use super::super::inventory::{Attachment, Labels, Network};
use super::super::multi_network::{
    MultiNetworkPolicy, NETWORK_POLICY_FOR, NETWORK_STATUS, NETWORKS, POLICY_FOR,
};
use super::meta::{Metadata, keep};
use super::{Path, Reader, network_policy, words};

/// Decodes a policy. When it has errors the result is incomplete.
pub fn policy(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> MultiNetworkPolicy {
    let networks = policy_for(reader, fields, &metadata);
    let (policy, types) = network_policy::decode_with_types(reader, fields, metadata);
    MultiNetworkPolicy {
        policy,
        types,
        networks,
    }
}

/// An annotation's text and where it is written.
fn annotation<'n>(
    fields: &'n [Field],
    annotations: &'n Labels,
    key: &str,
) -> Option<(&'n str, Position)> {
    let text = annotations.get(key)?;
    let metadata = fields.iter().find(|field| &*field.key == "metadata")?;
    let node = metadata.node.get("annotations")?.get(key);
    let position = node.map_or(metadata.node.position, |node| node.position);
    Some((text, position))
}

/// Reports something at an annotation.
fn at_annotation(key: &str, report: impl FnOnce(&Path)) {
    let metadata = Path::ROOT.field("metadata");
    let annotations = metadata.field("annotations");
    report(&annotations.key(key));
}

fn policy_for(reader: &mut Reader, fields: &[Field], metadata: &Metadata) -> Option<Vec<String>> {
    let Some((text, position)) = annotation(fields, &metadata.annotations, POLICY_FOR) else {
        let message = format!("no effect: without annotation {POLICY_FOR} it is for no network");
        at_annotation(POLICY_FOR, |path| {
            reader.warn(id::INERT_POLICY, metadata.position, path, message);
        });
        return None;
    };
    let bare: String = text.chars().filter(|one| !one.is_whitespace()).collect();
    let mut networks = Vec::new();
    for entry in bare.split(',') {
        let parts: Vec<_> = entry.split('/').collect();
        let problem = match parts[..] {
            _ if parts.iter().any(|part| part.is_empty()) => "a part of it is empty",
            [name] => {
                networks.push(format!("{}/{name}", metadata.namespace));
                continue;
            }
            [_, _] => {
                networks.push(entry.to_owned());
                continue;
            }
            _ => "more than one '/'",
        };
        let detail = format!(
            "{} is no reference to a NetworkAttachmentDefinition, name or namespace/name: {problem}",
            words::quote(entry)
        );
        at_annotation(POLICY_FOR, |path| {
            reader.invalid_text(position, path, text, &detail);
        });
    }
    Some(networks)
}

/// A NetworkPolicy, for the cluster's own network, secondary ones, or both.
pub(super) fn network_policy(
    reader: &mut Reader,
    mark: usize,
    fields: &[Field],
    metadata: Metadata,
    policies: &mut Policies,
) {
    let meant = network_policy_for(reader, fields, &metadata);
    let (policy, types) = network_policy::decode_with_types(reader, fields, metadata);
    if let Some(networks) = meant.secondary {
        let policy = MultiNetworkPolicy {
            policy: policy.clone(),
            types,
            networks: Some(networks),
        };
        keep(reader, mark, &mut policies.multi_network_policies, policy);
    }
    if meant.primary {
        let policies = &mut policies.network_policies;
        keep(reader, mark, policies, Arc::new(policy));
    }
}

/// Which of a pod's networks a NetworkPolicy is about.
struct PolicyNetworks {
    /// The cluster's own.
    primary: bool,
    /// `namespace/name` of others.
    secondary: Option<Vec<String>>,
}

/// Kube-OVN's annotation of a NetworkPolicy: a list of `ovn`, the pod's own network, and
/// `namespace/name` of others. What is neither is passed over; of a list without anything else the
/// policy is about nobody. Without the annotation it is about the cluster's own network alone.
fn network_policy_for(
    reader: &mut Reader,
    fields: &[Field],
    metadata: &Metadata,
) -> PolicyNetworks {
    let annotation = annotation(fields, &metadata.annotations, NETWORK_POLICY_FOR);
    let Some((text, position)) = annotation else {
        return PolicyNetworks {
            primary: true,
            secondary: None,
        };
    };
    let mut warn = |message: String| {
        at_annotation(NETWORK_POLICY_FOR, |path| {
            reader.warn(id::INERT_POLICY, position, path, message);
        });
    };
    let mut primary = false;
    let mut secondary = Vec::new();
    for entry in text.split(',').map(str::trim) {
        let is_reference = matches!(
            entry.split('/').collect::<Vec<_>>()[..],
            [namespace, name] if !namespace.is_empty() && !name.is_empty()
        );
        if entry == "ovn" {
            primary = true;
        } else if is_reference {
            secondary.push(entry.to_owned());
        } else {
            let entry = words::quote(entry);
            warn(format!(
                "no effect: {entry} is neither ovn nor namespace/name of a network"
            ));
        }
    }
    if !primary && secondary.is_empty() {
        warn("no effect: the policy is for no network, and selects nobody".to_owned());
    }
    PolicyNetworks {
        primary,
        secondary: (!secondary.is_empty()).then_some(secondary),
    }
}

/// Decodes a NetworkAttachmentDefinition.
pub fn definition(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> Network {
    let mut network = Network {
        namespace: metadata.namespace,
        name: metadata.name,
        plugin: String::new(),
        network_name: String::new(),
        topology: String::new(),
        has_subnets: false,
        source: Some(reader.source(metadata.position)),
    };
    let owner = "NetworkAttachmentDefinitionSpec";
    for field in fields.iter().filter(|field| &*field.key == "spec") {
        let path = Path::ROOT.field("spec");
        let wanted = "v1.NetworkAttachmentDefinitionSpec";
        let kind = "NetworkAttachmentDefinition";
        let spec = reader.mapping(&field.node, &path, kind, wanted);
        for field in spec.unwrap_or_default() {
            let path = path.field(&field.key);
            match &*field.key {
                "config" => {
                    let text = reader.string(&field.node, &path, owner, "string");
                    let text = text.unwrap_or_default();
                    configuration(reader, &field.node, &path, text, &mut network);
                }
                _ => reader.unknown_field(
                    super::Severity::Warning,
                    field,
                    &Path::ROOT.field("spec"),
                    &["config"],
                ),
            }
        }
    }
    network
}

/// A CNI configuration, or a list of them, of which the first plugin counts.
fn configuration(reader: &mut Reader, node: &Node, path: &Path, text: &str, network: &mut Network) {
    if text.trim().is_empty() {
        return;
    }
    let parsed: Json = match serde_json::from_str(text) {
        Ok(parsed @ Json::Object(_)) => parsed,
        Ok(_) => {
            return reader.invalid_text(node.position, path, text, "must be a JSON object");
        }
        Err(error) => {
            let detail = format!("must be a CNI configuration in JSON: {error}");
            return reader.invalid_text(node.position, path, text, &detail);
        }
    };
    let first = parsed.pointer("/plugins/0").unwrap_or(&parsed);
    let text_of = |json: &Json, key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let either = |key: &str| match text_of(first, key) {
        text if text.is_empty() => text_of(&parsed, key),
        text => text,
    };
    network.plugin = text_of(first, "type");
    network.network_name = text_of(&parsed, "name");
    network.topology = either("topology");
    network.has_subnets = !either("subnets").trim().is_empty();
}

/// The interfaces of a pod on secondary networks.
pub fn attachments(
    reader: &mut Reader,
    fields: &[Field],
    annotations: &Labels,
    namespace: &str,
    primary: &[IpAddr],
) -> Vec<Attachment> {
    if let Some((text, position)) = annotation(fields, annotations, NETWORKS)
        && let Err(problem) = check_networks(text)
    {
        at_annotation(NETWORKS, |path| {
            reader.invalid_text(position, path, text, &problem);
        });
    }
    let Some((text, position)) = annotation(fields, annotations, NETWORK_STATUS) else {
        return Vec::new();
    };
    let exact = reader.compatibility.mnp_compat == MultiNetworkDialect::Iptables;
    match statuses(text, namespace, primary, exact) {
        Ok(attachments) => attachments,
        Err(problem) => {
            at_annotation(NETWORK_STATUS, |path| {
                reader.invalid_text(position, path, text, &problem);
            });
            Vec::new()
        }
    }
}

/// `exact`: a network without a namespace stays so.
fn statuses(
    text: &str,
    namespace: &str,
    primary: &[IpAddr],
    exact: bool,
) -> Result<Vec<Attachment>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let parsed: Json = serde_json::from_str(text)
        .map_err(|error| format!("must be a list of interfaces in JSON: {error}"))?;
    let items = parsed
        .as_array()
        .ok_or("must be a list of interfaces in JSON")?;
    let mut attachments = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let text_of = |key: &str| item[key].as_str().unwrap_or_default();
        let mut addresses = Vec::new();
        for ip in item["ips"].as_array().into_iter().flatten() {
            let ip = ip.as_str().unwrap_or_default();
            // Some plugins write the prefix length too.
            let bare = ip.split('/').next().unwrap_or_default();
            let address = words::address(bare);
            addresses.push(address.map_err(|problem| format!("[{index}].ips: {ip:?} {problem}"))?);
        }
        let own = addresses.iter().any(|address| primary.contains(address));
        if item["default"].as_bool() == Some(true) || own {
            continue;
        }
        let name = text_of("name");
        if name.is_empty() {
            return Err(format!("[{index}].name is missing"));
        }
        let is_qualified = name.contains('/');
        attachments.push(Attachment {
            network: match is_qualified || exact {
                true => name.to_owned(),
                false => format!("{namespace}/{name}"),
            },
            interface: text_of("interface").to_owned(),
            addresses,
            mac: text_of("mac").to_owned(),
        });
    }
    Ok(attachments)
}

/// `parsePodNetworkAnnotation`: what is wrong with the networks a pod asks for.
fn check_networks(text: &str) -> Result<(), String> {
    if text.contains(['[', '{', '"']) {
        let parsed: Vec<Json> = serde_json::from_str(text).map_err(|error| {
            format!("failed to parse pod Network Attachment Selection Annotation JSON: {error}")
        })?;
        let nameless = |item: &Json| item["name"].as_str().is_none_or(str::is_empty);
        return match parsed.iter().position(nameless) {
            Some(index) => Err(format!("[{index}].name is missing")),
            None => Ok(()),
        };
    }
    for item in text.split(',') {
        let item = item.trim();
        if item.matches('/').count() > 1 {
            return Err(format!("Invalid network object {item:?} (failed at '/')"));
        }
        if item.matches('@').count() > 1 {
            return Err(format!("Invalid network object {item:?} (failed at '@')"));
        }
        let mut parts = item.split(['/', '@']);
        if let Some(part) = parts.find(|part| !words::dns_label_problems(part).is_empty()) {
            return Err(format!(
                "one or more items did not match comma-delimited format (must consist of lower \
                 case alphanumeric characters, must start and end with an alphanumeric character), \
                 mismatch @ {part:?}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_networks_a_pod_asks_for_are_a_list_of_references() {
        for right in [
            "net1",
            "ns/net1",
            "net1@eth1",
            "ns/net1@eth1, net2",
            r#"[{"name": "net1", "interface": "eth1"}]"#,
            "[]",
        ] {
            assert_eq!(check_networks(right), Ok(()), "{right}");
        }
        for (wrong, expected) in [
            ("a/b/c", "(failed at '/')"),
            ("a@b@c", "(failed at '@')"),
            ("Net1", "mismatch @ \"Net1\""),
            ("", "mismatch @ \"\""),
            ("a,,b", "mismatch @ \"\""),
            ("a/", "mismatch @ \"\""),
            ("[", "Annotation JSON: "),
            (r#"{"name": "a"}"#, "Annotation JSON: "),
            (r#"[{"interface": "a"}]"#, "[0].name is missing"),
        ] {
            let found = check_networks(wrong).unwrap_err();
            assert!(found.contains(expected), "{wrong}: {found}");
        }
    }

    #[test]
    fn interfaces_are_those_beside_the_primary_one() {
        let primary = ["10.0.0.1".parse().unwrap()];
        let found = statuses(
            r#"[{"name": "cluster", "interface": "eth0", "ips": ["10.0.0.1"], "default": true},
                {"name": "x/net1", "interface": "net1", "ips": ["192.0.2.1/24", "2001:db8::1"],
                 "mac": "02:00:00:00:00:01", "dns": {}},
                {"name": "net2", "interface": "net2"}]"#,
            "y",
            &primary,
            false,
        )
        .unwrap();
        let networks: Vec<_> = found.iter().map(|one| &*one.network).collect();
        assert_eq!(networks, ["x/net1", "y/net2"]);
        assert_eq!(found[0].addresses.len(), 2);
        for wrong in ["{", "{}", "[{}]", r#"[{"name": "a/b", "ips": ["x"]}]"#] {
            assert!(statuses(wrong, "y", &primary, false).is_err(), "{wrong}");
        }
    }
}
