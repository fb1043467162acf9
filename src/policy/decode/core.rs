//! Pods, namespaces, nodes and services: the fields policies ask about, and no others.
//!
//! Dumps of a live cluster hold hundreds of fields more; those are not looked at.

use std::net::IpAddr;

use super::super::document::{Field, Node};
use super::super::finding::id;
use super::super::inventory::{
    self, ContainerPort, Namespace, Pod, Service, ServicePort, TargetPort,
};
use super::meta::Metadata;
use super::{Path, Reader, words};
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
        ports: Vec::new(),
        addresses: Vec::new(),
        host_addresses: Vec::new(),
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
    pod
}

fn pod_spec(reader: &mut Reader, fields: &[Field], path: &Path, pod: &mut Pod) {
    let owner = "PodSpec";
    let mut sidecar_ports = Vec::new();
    for field in fields {
        let path = path.field(&field.key);
        let node = &field.node;
        match &*field.key {
            "nodeName" => {
                let name = reader
                    .string(node, &path, owner, "string")
                    .unwrap_or_default();
                pod.node_name = (!name.is_empty()).then(|| name.to_owned());
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
        let policy = item.get("restartPolicy").and_then(Node::as_str);
        if sidecars_only && policy != Some("Always") {
            continue;
        }
        for field in fields
            .unwrap_or_default()
            .iter()
            .filter(|field| &*field.key == "ports")
        {
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
        let wrong_types = reader.wrong_types;
        let mut name = None;
        let mut name_position = item.position;
        let mut number = (0, item.position);
        let mut transport = Some(protocol::TCP);
        for field in fields.unwrap_or_default() {
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
fn pod_protocol(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Option<u8> {
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
    for field in fields {
        let path = path.field(&field.key);
        let node = &field.node;
        match &*field.key {
            "phase" => {
                let phase = reader.string(node, &path, owner, "v1.PodPhase");
                pod.terminated = matches!(phase, Some("Succeeded" | "Failed"));
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
    for family_is_v4 in [true, false] {
        let of_family = pod
            .addresses
            .iter()
            .filter(|address| address.is_ipv4() == family_is_v4);
        if of_family.count() > 1 {
            let field = fields.iter().find(|field| &*field.key == "podIPs");
            let position = field.map_or(pod.source.position, |field| field.node.position);
            let listed: Vec<_> = pod.addresses.iter().map(|ip| format!("\"{ip}\"")).collect();
            let detail = "may specify no more than one IP for each IP family";
            let value = format!("[{}]", listed.join(", "));
            reader.invalid(position, &path.field("podIPs"), value, detail);
        }
    }
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
    for (index, item) in reader
        .sequence(node, path, "PodStatus", &list_type)
        .iter()
        .enumerate()
    {
        let path = path.index(index);
        let fields = reader.mapping(item, &path, "PodStatus", item_type);
        let owner = item_type.trim_start_matches("v1.");
        for field in fields
            .unwrap_or_default()
            .iter()
            .filter(|field| &*field.key == "ip")
        {
            if let Some(address) = address(reader, &field.node, &path.field("ip"), owner)
                && !addresses.contains(&address)
            {
                addresses.push(address);
            }
        }
    }
}

/// An address; `None` for null, the empty string, and what is no address.
fn address(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Option<IpAddr> {
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
pub fn namespace(reader: &mut Reader, metadata: Metadata) -> Namespace {
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
    let mut addresses = Vec::new();
    for field in fields.iter().filter(|field| &*field.key == "status") {
        let path = Path::ROOT.field("status");
        let status = reader.mapping(&field.node, &path, "Node", "v1.NodeStatus");
        let listed = |field: &&Field| &*field.key == "addresses";
        for field in status.unwrap_or_default().iter().filter(listed) {
            let path = path.field("addresses");
            let items = reader.sequence(&field.node, &path, "NodeStatus", "[]v1.NodeAddress");
            for (index, item) in items.iter().enumerate() {
                let path = path.index(index);
                addresses.extend(node_address(reader, item, &path));
            }
        }
    }
    // Internal ones first, each kind in the order written.
    addresses.sort_by_key(|(is_external, _)| *is_external);
    let mut in_order: Vec<IpAddr> = Vec::new();
    for (_, address) in addresses {
        if !in_order.contains(&address) {
            in_order.push(address);
        }
    }
    inventory::Node {
        name: metadata.name,
        labels: metadata.labels,
        addresses: in_order,
        source: Some(reader.source(metadata.position)),
    }
}

/// The address, if its type is one that packets carry (names are of other types), and whether it is
/// external.
fn node_address(reader: &mut Reader, item: &Node, path: &Path) -> Option<(bool, IpAddr)> {
    reader.mapping(item, path, "NodeStatus", "v1.NodeAddress")?;
    let owner = "NodeAddress";
    let address_type = item.get("type")?;
    let type_path = path.field("type");
    let address_type = reader.string(address_type, &type_path, owner, "v1.NodeAddressType")?;
    if !matches!(address_type, "InternalIP" | "ExternalIP") {
        return None;
    }
    let found = address(reader, item.get("address")?, &path.field("address"), owner)?;
    Some((address_type == "ExternalIP", found))
}

/// Decodes a service.
pub fn service(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> Service {
    let mut service = Service {
        namespace: metadata.namespace,
        name: metadata.name,
        labels: metadata.labels,
        service_type: "ClusterIP".to_owned(),
        cluster_addresses: Vec::new(),
        selector: Default::default(),
        ports: Vec::new(),
        source: reader.source(metadata.position),
    };
    for field in fields.iter().filter(|field| &*field.key == "spec") {
        let path = Path::ROOT.field("spec");
        let spec = reader.mapping(&field.node, &path, "Service", "v1.ServiceSpec");
        for field in spec.unwrap_or_default() {
            service_field(reader, field, &path, &mut service);
        }
    }
    service
}

fn service_field(reader: &mut Reader, field: &Field, parent: &Path, service: &mut Service) {
    let path = parent.field(&field.key);
    let (node, owner) = (&field.node, "ServiceSpec");
    match &*field.key {
        "type" => {
            let text = reader
                .string(node, &path, owner, "v1.ServiceType")
                .unwrap_or_default();
            if !text.is_empty() {
                text.clone_into(&mut service.service_type);
            }
        }
        "clusterIP" => cluster_address(reader, node, &path, service),
        "clusterIPs" => {
            for (index, item) in reader
                .sequence(node, &path, owner, "[]string")
                .iter()
                .enumerate()
            {
                cluster_address(reader, item, &path.index(index), service);
            }
        }
        "selector" => service.selector = reader.labels(node, &path, owner),
        "ports" => {
            let items = reader.sequence(node, &path, owner, "[]v1.ServicePort");
            for (index, item) in items.iter().enumerate() {
                let port = service_port(reader, item, &path.index(index));
                service.ports.extend(port);
            }
        }
        _ => {}
    }
}

fn cluster_address(reader: &mut Reader, node: &Node, path: &Path, service: &mut Service) {
    if node.as_str() != Some("None")
        && let Some(address) = address(reader, node, path, "ServiceSpec")
        && !service.cluster_addresses.contains(&address)
    {
        service.cluster_addresses.push(address);
    }
}

fn service_port(reader: &mut Reader, item: &Node, path: &Path) -> Option<ServicePort> {
    let fields = reader.mapping(item, path, "ServiceSpec", "v1.ServicePort")?;
    let wrong_types = reader.wrong_types;
    let mut name = None;
    let mut number = (0, item.position);
    let mut target = None;
    let mut transport = Some(protocol::TCP);
    for field in fields {
        let child = path.field(&field.key);
        let (node, owner) = (&field.node, "ServicePort");
        match &*field.key {
            "name" => {
                name = reader
                    .string(node, &child, owner, "string")
                    .map(str::to_owned)
            }
            "port" => {
                number = (
                    reader.integer(node, &child, owner).unwrap_or_default(),
                    node.position,
                );
            }
            "targetPort" => match node.as_str() {
                Some(name) => target = Some(TargetPort::Name(name.to_owned())),
                None => {
                    let found = reader
                        .integer(node, &child, owner)
                        .filter(|found| *found != 0);
                    let checked = found.map(|found| (found, words::port_number(found)));
                    match checked {
                        Some((_, Ok(number))) => target = Some(TargetPort::Number(number)),
                        Some((found, Err(problem))) => {
                            reader.invalid(node.position, &child, found, problem);
                        }
                        None => {}
                    }
                }
            },
            "protocol" => transport = pod_protocol(reader, node, &child, owner),
            _ => {}
        }
    }
    if reader.wrong_types > wrong_types {
        return None;
    }
    let (number, position) = number;
    let number = match words::port_number(number) {
        Ok(number) => number,
        Err(problem) => {
            reader.invalid(position, &path.field("port"), number, problem);
            return None;
        }
    };
    Some(ServicePort {
        name,
        protocol: transport?,
        number,
        target: target.unwrap_or(TargetPort::Number(number)),
    })
}
