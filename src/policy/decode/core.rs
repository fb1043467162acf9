//! Pods, namespaces and nodes: the fields policies ask about, and no others.
//!
//! Dumps of a live cluster hold hundreds of fields more; those are not looked at, see [`known`].

use std::net::IpAddr;

use super::super::document::{Field, Node};
use super::super::finding::id;
use super::super::inventory::{self, ContainerPort, Namespace, Pod};
use super::meta::Metadata;
use super::{Path, Reader, known, multi_network, node_network, words};
use crate::wire::protocol;

/// Decodes a pod.
pub fn pod(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> Pod {
    let mut pod = Pod {
        namespace: metadata.namespace,
        name: metadata.name,
        labels: metadata.labels,
        annotations: metadata.annotations,
        node_name: None,
        host_network: false,
        terminated: false,
        pending: false,
        ports: Vec::new(),
        addresses: Vec::new(),
        host_addresses: Vec::new(),
        attachments: Vec::new(),
        source: reader.source(metadata.position),
    };
    for field in fields {
        let path = Path::ROOT.field(&field.key);
        match &*field.key {
            "spec" => {
                let fields = reader.mapping(&field.node, &path, "Pod", "v1.PodSpec");
                pod_spec(reader, fields.unwrap_or_default(), &path, &mut pod);
            }
            "status" => {
                let fields = reader.mapping(&field.node, &path, "Pod", "v1.PodStatus");
                pod_status(reader, fields.unwrap_or_default(), &path, &mut pod);
            }
            _ => {}
        }
    }
    pod.attachments = multi_network::attachments(
        reader,
        fields,
        &pod.annotations,
        &pod.namespace,
        &pod.addresses,
    );
    pod
}

fn pod_spec(reader: &mut Reader, fields: &[Field], path: &Path, pod: &mut Pod) {
    let owner = "PodSpec";
    known::report_misspelt(reader, fields, path, &known::POD_SPEC);
    let mut sidecar_ports = Vec::new();
    for field in fields {
        let path = path.field(&field.key);
        let node = &field.node;
        match &*field.key {
            "nodeName" => {
                let name = reader
                    .string(node, &path, owner, "string")
                    .unwrap_or_default();
                if !name.is_empty() {
                    for problem in words::dns_subdomain_problems(name) {
                        reader.invalid_text(node.position, &path, name, &problem);
                    }
                    pod.node_name = Some(name.to_owned());
                }
            }
            "hostNetwork" => {
                pod.host_network = reader.boolean(node, &path, owner).unwrap_or_default();
            }
            "containers" => pod.ports.extend(containers(reader, node, &path, false)),
            "initContainers" => sidecar_ports = containers(reader, node, &path, true),
            _ => {}
        }
    }
    pod.ports.extend(sidecar_ports);
}

/// The ports of containers; of init containers only those that keep running beside the others.
fn containers(
    reader: &mut Reader,
    node: &Node,
    path: &Path,
    sidecars_only: bool,
) -> Vec<ContainerPort> {
    let mut ports = Vec::new();
    for (index, item) in reader
        .sequence(node, path, "PodSpec", "[]v1.Container")
        .iter()
        .enumerate()
    {
        let path = path.index(index);
        let fields = reader.mapping(item, &path, "PodSpec", "v1.Container");
        let fields = fields.unwrap_or_default();
        known::report_misspelt(reader, fields, &path, &known::CONTAINER);
        let policy = item.get("restartPolicy").and_then(Node::as_str);
        if sidecars_only && policy != Some("Always") {
            continue;
        }
        for field in fields.iter().filter(|field| &*field.key == "ports") {
            container_ports(reader, &field.node, &path.field("ports"), &mut ports);
        }
    }
    ports
}

fn container_ports(reader: &mut Reader, node: &Node, path: &Path, ports: &mut Vec<ContainerPort>) {
    let first = ports.len();
    for (index, item) in reader
        .sequence(node, path, "Container", "[]v1.ContainerPort")
        .iter()
        .enumerate()
    {
        let path = path.index(index);
        let fields = reader.mapping(item, &path, "Container", "v1.ContainerPort");
        let fields = fields.unwrap_or_default();
        known::report_misspelt(reader, fields, &path, &known::CONTAINER_PORT);
        let wrong_types = reader.wrong_types;
        let mut name = None;
        let mut name_position = item.position;
        let mut number = (0, item.position);
        let mut transport = Some(protocol::TCP);
        for field in fields {
            let child = path.field(&field.key);
            let (node, owner) = (&field.node, "ContainerPort");
            match &*field.key {
                "name" => {
                    name = reader
                        .string(node, &child, owner, "string")
                        .filter(|name| !name.is_empty());
                    name_position = node.position;
                }
                "containerPort" => {
                    let found = reader.integer(node, &child, owner).unwrap_or_default();
                    number = (found, node.position);
                }
                "protocol" => transport = pod_protocol(reader, node, &child, owner),
                "hostPort" => host_port(reader, node, &child),
                "hostIP" => {
                    reader.string(node, &child, owner, "string");
                }
                _ => {}
            }
        }
        if reader.wrong_types > wrong_types {
            continue;
        }
        let number = container_port_number(reader, number, &path.field("containerPort"));
        if let Some(name) = name {
            let path = path.field("name");
            for problem in words::port_name_problems(name) {
                reader.invalid_text(name_position, &path, name, &problem);
            }
            if ports[first..]
                .iter()
                .any(|port| port.name.as_deref() == Some(name))
            {
                let message = format!("Duplicate value: {}", words::quote(name));
                reader.error(id::DUPLICATE_VALUE, name_position, &path, message);
            }
        }
        if let (Some(number), Some(protocol)) = (number, transport) {
            let name = name.map(str::to_owned);
            ports.push(ContainerPort {
                name,
                number,
                protocol,
            });
        }
    }
}

/// Checked and not kept: no policy asks for it.
fn host_port(reader: &mut Reader, node: &Node, path: &Path) {
    let number = reader.integer(node, path, "ContainerPort");
    if let Some(number) = number.filter(|number| *number != 0)
        && let Err(problem) = words::port_number(number)
    {
        reader.invalid(node.position, path, number, problem);
    }
}

fn container_port_number(
    reader: &mut Reader,
    (number, position): (i32, super::Position),
    path: &Path,
) -> Option<u16> {
    if number == 0 {
        reader.required(position, path, "");
        return None;
    }
    match words::port_number(number) {
        Ok(number) => Some(number),
        Err(problem) => {
            reader.invalid(position, path, number, problem);
            None
        }
    }
}

/// The protocol number; TCP for null and for the empty string.
pub fn pod_protocol(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Option<u8> {
    match reader
        .string(node, path, owner, "v1.Protocol")
        .unwrap_or_default()
    {
        "" | "TCP" => Some(protocol::TCP),
        "UDP" => Some(protocol::UDP),
        "SCTP" => Some(protocol::SCTP),
        other => {
            reader.unsupported(node.position, path, other, &["SCTP", "TCP", "UDP"]);
            None
        }
    }
}

fn pod_status(reader: &mut Reader, fields: &[Field], path: &Path, pod: &mut Pod) {
    let owner = "PodStatus";
    known::report_misspelt(reader, fields, path, &known::POD_STATUS);
    for field in fields {
        let path = path.field(&field.key);
        let node = &field.node;
        match &*field.key {
            "phase" => {
                let phase = reader.string(node, &path, owner, "v1.PodPhase");
                pod.terminated = matches!(phase, Some("Succeeded" | "Failed"));
                pod.pending = !pod.terminated && !matches!(phase, None | Some("" | "Running"));
            }
            "podIP" => {
                if let Some(address) = address(reader, node, &path, owner)
                    && !pod.addresses.contains(&address)
                {
                    pod.addresses.insert(0, address);
                }
            }
            "podIPs" => address_list(reader, node, &path, "v1.PodIP", &mut pod.addresses),
            "hostIP" => {
                if let Some(address) = address(reader, node, &path, owner)
                    && !pod.host_addresses.contains(&address)
                {
                    pod.host_addresses.insert(0, address);
                }
            }
            "hostIPs" => address_list(reader, node, &path, "v1.HostIP", &mut pod.host_addresses),
            _ => {}
        }
    }
    let lists = [("podIPs", &pod.addresses), ("hostIPs", &pod.host_addresses)];
    for (name, addresses) in lists {
        if has_two_of_a_family(addresses) {
            let field = fields.iter().find(|field| &*field.key == name);
            let position = field.map_or(pod.source.position, |field| field.node.position);
            reader.invalid(
                position,
                &path.field(name),
                listed(addresses),
                "may specify no more than one IP for each IP family",
            );
        }
    }
}

/// Addresses as a list in a message.
pub fn listed(addresses: &[IpAddr]) -> String {
    let quoted: Vec<_> = addresses.iter().map(|ip| format!("\"{ip}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// Are two of these addresses IPv4, or two IPv6?
pub fn has_two_of_a_family(addresses: &[IpAddr]) -> bool {
    let v4 = addresses.iter().filter(|ip| ip.is_ipv4()).count();
    v4 > 1 || addresses.len() - v4 > 1
}

/// `[{ip: …}, …]`.
fn address_list(
    reader: &mut Reader,
    node: &Node,
    path: &Path,
    item_type: &str,
    addresses: &mut Vec<IpAddr>,
) {
    let list_type = format!("[]{item_type}");
    let items = reader.sequence(node, path, "PodStatus", &list_type);
    let mut listed: Vec<IpAddr> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let Some(fields) = reader.mapping(item, &path, "PodStatus", item_type) else {
            continue;
        };
        let mark = reader.mark();
        known::report_misspelt(reader, fields, &path, &known::POD_ADDRESS);
        let owner = item_type.trim_start_matches("v1.");
        let field = fields.iter().find(|field| &*field.key == "ip");
        let position = field.map_or(item.position, |field| field.node.position);
        let text = field.and_then(|field| {
            let path = path.field("ip");
            reader.string(&field.node, &path, owner, "string")
        });
        if reader.failed_since(mark) {
            continue;
        }
        // An entry without an address is none of the pod's: its policies would not apply.
        let text = text.unwrap_or_default();
        match words::address(text) {
            Ok(address) if listed.contains(&address) => {
                let message = format!("Duplicate value: {}", words::quote(text));
                reader.error(id::DUPLICATE_VALUE, position, &path, message);
            }
            Ok(address) => listed.push(address),
            Err(problem) => reader.invalid_text(position, &path, text, problem),
        }
    }
    for address in listed {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
}

/// An address; `None` for null, the empty string, and what is no address.
pub fn address(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Option<IpAddr> {
    let text = reader.string(node, path, owner, "string")?;
    if text.is_empty() {
        return None;
    }
    match words::address(text) {
        Ok(address) => Some(address),
        Err(problem) => {
            reader.invalid_text(node.position, path, text, problem);
            None
        }
    }
}

/// Decodes a namespace.
pub fn namespace(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> Namespace {
    for field in fields {
        let wanted = match &*field.key {
            "spec" => "v1.NamespaceSpec",
            "status" => "v1.NamespaceStatus",
            _ => continue,
        };
        let path = Path::ROOT.field(&field.key);
        reader.mapping(&field.node, &path, "Namespace", wanted);
    }
    let label = metadata.labels.get(inventory::NAMESPACE_NAME_LABEL);
    if label.is_some_and(|label| *label != metadata.name) {
        let metadata_path = Path::ROOT.field("metadata");
        let labels = metadata_path.field("labels");
        let path = labels.key(inventory::NAMESPACE_NAME_LABEL);
        let message = format!(
            "no effect: this label is always the name, {}",
            metadata.name
        );
        reader.warn(id::NAMESPACE_NAME_LABEL, metadata.position, &path, message);
    }
    Namespace {
        name: metadata.name,
        labels: metadata.labels,
        annotations: metadata.annotations,
        source: Some(reader.source(metadata.position)),
    }
}

/// Decodes a node.
pub fn node(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> inventory::Node {
    let mut addresses: Vec<NodeAddress> = Vec::new();
    let mut spec = &[][..];
    let mut is_offline = false;
    for field in fields {
        let path = Path::ROOT.field(&field.key);
        match &*field.key {
            "spec" => {
                let found = reader.mapping(&field.node, &path, "Node", "v1.NodeSpec");
                spec = found.unwrap_or_default();
            }
            "status" => {
                let status = reader.mapping(&field.node, &path, "Node", "v1.NodeStatus");
                is_offline = node_network::is_offline(status.unwrap_or_default());
                node_status(reader, status.unwrap_or_default(), &path, &mut addresses);
            }
            _ => {}
        }
    }
    // Internal ones first, each kind in the order written.
    addresses.sort_by_key(|address| match address.kind {
        "InternalIP" => 0,
        "ExternalIP" => 1,
        _ => 2,
    });
    let mut in_order: Vec<IpAddr> = Vec::new();
    for address in addresses.iter().filter_map(|address| address.address) {
        if !in_order.contains(&address) {
            in_order.push(address);
        }
    }
    inventory::Node {
        pod_blocks: node_network::pod_blocks(reader, spec, &metadata.annotations),
        name: metadata.name,
        labels: metadata.labels,
        addresses: in_order,
        is_offline,
        source: Some(reader.source(metadata.position)),
    }
}

/// One of a node's `status.addresses`.
struct NodeAddress<'n> {
    kind: &'n str,
    text: &'n str,
    /// `None` for a name.
    address: Option<IpAddr>,
}

fn node_status<'n>(
    reader: &mut Reader,
    status: &'n [Field],
    path: &Path,
    addresses: &mut Vec<NodeAddress<'n>>,
) {
    known::report_misspelt(reader, status, path, &known::NODE_STATUS);
    for field in status.iter().filter(|field| &*field.key == "addresses") {
        let path = path.field("addresses");
        let items = reader.sequence(&field.node, &path, "NodeStatus", "[]v1.NodeAddress");
        for (index, item) in items.iter().enumerate() {
            let path = path.index(index);
            let Some(found) = node_address(reader, item, &path) else {
                continue;
            };
            let same = |other: &NodeAddress| (other.kind, other.text) == (found.kind, found.text);
            if addresses.iter().any(same) {
                let message = format!(
                    "Duplicate value: {{\"type\":{},\"address\":{}}}",
                    words::quote(found.kind),
                    words::quote(found.text)
                );
                reader.error(id::DUPLICATE_VALUE, item.position, &path, message);
            } else {
                addresses.push(found);
            }
        }
    }
}

/// The address. Of the types that are addresses by definition it must be one; a value of any other
/// (`Hostname`, `InternalDNS`, …) is one when it reads as one.
fn node_address<'n>(reader: &mut Reader, item: &'n Node, path: &Path) -> Option<NodeAddress<'n>> {
    let fields = reader.mapping(item, path, "NodeStatus", "v1.NodeAddress")?;
    known::report_misspelt(reader, fields, path, &known::NODE_ADDRESS);
    let owner = "NodeAddress";
    let mut found = NodeAddress {
        kind: "",
        text: "",
        address: None,
    };
    let mut node = None;
    for field in fields {
        let path = path.field(&field.key);
        match &*field.key {
            "type" => {
                let kind = reader.string(&field.node, &path, owner, "v1.NodeAddressType");
                found.kind = kind.unwrap_or_default();
            }
            "address" => {
                let text = reader.string(&field.node, &path, owner, "string");
                found.text = text.unwrap_or_default();
                node = Some(&field.node);
            }
            _ => {}
        }
    }
    found.address = match (found.kind, node) {
        ("InternalIP" | "ExternalIP", Some(node)) if !found.text.is_empty() => {
            address(reader, node, &path.field("address"), owner)
        }
        _ => words::address(found.text).ok(),
    };
    Some(found)
}
