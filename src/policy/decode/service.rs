//! Service: decoding and the parts of `ValidateService` that its translation depends on
//! (`pkg/apis/core/validation`).

use super::super::document::{Field, Node, Position};
use super::super::finding::id;
use super::super::inventory::{Service, ServicePort, TargetPort};
use super::core::{address, has_two_of_a_family, listed, pod_protocol};
use super::meta::Metadata;
use super::{Path, Reader, known, words};
use crate::wire::protocol;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// Decodes a service.
pub fn decode(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> Service {
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
    for field in fields {
        let path = Path::ROOT.field(&field.key);
        match &*field.key {
            "spec" => {
                let fields = reader.mapping(&field.node, &path, "Service", "v1.ServiceSpec");
                let fields = fields.unwrap_or_default();
                known::report_misspelt(reader, fields, &path, &known::SERVICE_SPEC);
                for field in fields {
                    spec_field(reader, field, &path, &mut service);
                }
                cluster_addresses(reader, fields, &path, &mut service);
            }
            "status" => {
                reader.mapping(&field.node, &path, "Service", "v1.ServiceStatus");
            }
            _ => {}
        }
    }
    service
}

fn spec_field(reader: &mut Reader, field: &Field, parent: &Path, service: &mut Service) {
    let path = parent.field(&field.key);
    let (node, owner) = (&field.node, "ServiceSpec");
    match &*field.key {
        "type" => {
            let text = reader.string(node, &path, owner, "v1.ServiceType");
            let text = text.unwrap_or_default();
            if !text.is_empty() {
                if !TYPES.contains(&text) {
                    reader.unsupported(node.position, &path, text, TYPES);
                }
                text.clone_into(&mut service.service_type);
            }
        }
        "selector" => {
            service.selector = reader.labels(node, &path, owner);
            reader.check_labels(node, &path);
        }
        "ports" => {
            let items = reader.sequence(node, &path, owner, "[]v1.ServicePort");
            for (index, item) in items.iter().enumerate() {
                let path = path.index(index);
                let port = port(reader, item, &path, items.len() > 1, &service.ports);
                service.ports.extend(port);
            }
        }
        _ => {}
    }
}

/// `spec.clusterIP` and `spec.clusterIPs`, which must agree.
fn cluster_addresses(reader: &mut Reader, fields: &[Field], path: &Path, service: &mut Service) {
    let owner = "ServiceSpec";
    let node = |name: &str| {
        fields
            .iter()
            .find(|field| &*field.key == name)
            .map(|field| &field.node)
    };
    let mut single = "";
    if let Some(node) = node("clusterIP") {
        let path = path.field("clusterIP");
        single = node.as_str().unwrap_or_default();
        cluster_address(reader, node, &path, service);
    }
    let Some(list) = node("clusterIPs") else {
        return;
    };
    let path = path.field("clusterIPs");
    let items = reader.sequence(list, &path, owner, "[]string");
    let texts: Vec<_> = items
        .iter()
        .map(|item| item.as_str().unwrap_or_default())
        .collect();
    let mark = reader.mark();
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        if texts[..index].contains(&texts[index]) && item.as_str().is_some() {
            let message = format!("Duplicate value: {}", words::quote(texts[index]));
            reader.error(id::DUPLICATE_VALUE, item.position, &path, message);
        }
        cluster_address(reader, item, &path, service);
    }
    if reader.failed_since(mark) {
        return;
    }
    let quoted = || {
        let quoted: Vec<_> = texts.iter().map(|text| words::quote(text)).collect();
        format!("[{}]", quoted.join(", "))
    };
    if texts
        .first()
        .is_some_and(|first| !single.is_empty() && *first != single)
    {
        let detail = "first value must match `clusterIP`";
        reader.invalid(list.position, &path, quoted(), detail);
    } else if texts.len() > 1 && texts.contains(&"None") {
        let detail = "'None' must be the first and only value";
        reader.invalid(list.position, &path, quoted(), detail);
    } else if has_two_of_a_family(&service.cluster_addresses) {
        let detail = "may specify no more than one IP for each IP family";
        reader.invalid(
            list.position,
            &path,
            listed(&service.cluster_addresses),
            detail,
        );
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

/// What one of `spec.ports` says, before it is checked.
struct Draft<'n> {
    name: &'n str,
    name_position: Position,
    number: i32,
    number_position: Position,
    target: Option<TargetPort>,
    protocol: Option<u8>,
}

fn port(
    reader: &mut Reader,
    item: &Node,
    path: &Path,
    name_required: bool,
    others: &[ServicePort],
) -> Option<ServicePort> {
    let fields = reader.mapping(item, path, "ServiceSpec", "v1.ServicePort")?;
    known::report_misspelt(reader, fields, path, &known::SERVICE_PORT);
    let wrong_types = reader.wrong_types;
    let mut draft = Draft {
        name: "",
        name_position: item.position,
        number: 0,
        number_position: item.position,
        target: None,
        protocol: Some(protocol::TCP),
    };
    for field in fields {
        let child = path.field(&field.key);
        let (node, owner) = (&field.node, "ServicePort");
        match &*field.key {
            "name" => {
                let name = reader.string(node, &child, owner, "string");
                draft.name = name.unwrap_or_default();
                draft.name_position = node.position;
            }
            "port" => {
                draft.number = reader.integer(node, &child, owner).unwrap_or_default();
                draft.number_position = node.position;
            }
            "targetPort" => draft.target = target_port(reader, node, &child),
            "protocol" => draft.protocol = pod_protocol(reader, node, &child, owner),
            _ => {}
        }
    }
    if reader.wrong_types > wrong_types {
        return None;
    }
    port_name(reader, &draft, path, name_required, others);
    let number = match words::port_number(draft.number) {
        Ok(number) => number,
        Err(problem) => {
            let path = path.field("port");
            reader.invalid(draft.number_position, &path, draft.number, problem);
            return None;
        }
    };
    let protocol = draft.protocol?;
    let same = |other: &ServicePort| (other.protocol, other.number) == (protocol, number);
    if others.iter().any(same) {
        let name = protocol::name(protocol).to_string().to_uppercase();
        let message = format!("Duplicate value: {{\"protocol\":\"{name}\",\"port\":{number}}}");
        reader.error(id::DUPLICATE_VALUE, item.position, path, message);
    }
    Some(ServicePort {
        name: (!draft.name.is_empty()).then(|| draft.name.to_owned()),
        protocol,
        number,
        target: draft.target.unwrap_or(TargetPort::Number(number)),
    })
}

fn port_name(
    reader: &mut Reader,
    draft: &Draft,
    path: &Path,
    required: bool,
    others: &[ServicePort],
) {
    let path = path.field("name");
    let (name, position) = (draft.name, draft.name_position);
    if name.is_empty() {
        if required {
            reader.required(position, &path, "");
        }
        return;
    }
    for problem in words::dns_label_problems(name) {
        reader.invalid_text(position, &path, name, &problem);
    }
    if others
        .iter()
        .any(|other| other.name.as_deref() == Some(name))
    {
        let message = format!("Duplicate value: {}", words::quote(name));
        reader.error(id::DUPLICATE_VALUE, position, &path, message);
    }
}

/// An `intstr.IntOrString`; `None` where it is 0 or empty, which mean the port itself.
fn target_port(reader: &mut Reader, node: &Node, path: &Path) -> Option<TargetPort> {
    if let Some(name) = node.as_str() {
        if name.is_empty() {
            return None;
        }
        for problem in words::port_name_problems(name) {
            reader.invalid_text(node.position, path, name, &problem);
        }
        return Some(TargetPort::Name(name.to_owned()));
    }
    let number = reader.integer(node, path, "ServicePort")?;
    if number == 0 {
        return None;
    }
    match words::port_number(number) {
        Ok(number) => Some(TargetPort::Number(number)),
        Err(problem) => {
            reader.invalid(node.position, path, number, problem);
            None
        }
    }
}
