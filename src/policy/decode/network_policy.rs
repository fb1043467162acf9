//! NetworkPolicy: decoding, defaulting and `ValidateNetworkPolicy`
//! (`pkg/apis/networking/validation`).

use super::super::Direction;
use super::super::compatibility::MultiNetworkDialect;
use super::super::document::{Field, Node, Position, Value};
use super::super::finding::id;
use super::super::network_policy::{
    NetworkPolicy, Peer, PeerKind, PolicyPort, PolicyRule, PortMatch,
};
use super::super::selector::LabelSelector;
use super::meta::Metadata;
use super::{Path, Reader, Severity, ip_block, selector, words};
use crate::wire::protocol;

/// Decodes a policy, and `policyTypes` as `[ingress, egress]`, `None` where absent or empty. When
/// it has errors the result is incomplete.
pub(super) fn decode_with_types(
    reader: &mut Reader,
    fields: &[Field],
    metadata: Metadata,
) -> (NetworkPolicy, Option<[bool; 2]>) {
    let mut types = None;
    let mut policy = NetworkPolicy {
        namespace: metadata.namespace,
        name: metadata.name,
        pod_selector: LabelSelector::default(),
        isolates_ingress: true,
        isolates_egress: false,
        ingress: Vec::new(),
        egress: Vec::new(),
        source: reader.source(metadata.position),
    };
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for field in fields {
        match &*field.key {
            "spec" => types = spec(reader, field, &mut policy),
            key if known.contains(&key) => {}
            _ => reader.unknown_field(Severity::Error, field, &Path::ROOT, &known),
        }
    }
    (policy, types)
}

/// Decodes the rest; what `policyTypes` says.
fn spec(reader: &mut Reader, field: &Field, policy: &mut NetworkPolicy) -> Option<[bool; 2]> {
    let path = Path::ROOT.field("spec");
    let owner = "NetworkPolicySpec";
    let fields = reader.mapping(&field.node, &path, "NetworkPolicy", owner_type(owner));
    let fields = fields.unwrap_or_default();
    let known = ["egress", "ingress", "podSelector", "policyTypes"];
    let mut types = None;
    for field in fields {
        let node = &field.node;
        let child = path.field(&field.key);
        match &*field.key {
            "podSelector" => {
                warn_if_null(reader, node, &child, "{}: every pod of the namespace");
                policy.pod_selector = selector::decode(reader, node, &child, owner);
            }
            "ingress" => policy.ingress = rules(reader, node, &child, Direction::Ingress),
            "egress" => policy.egress = rules(reader, node, &child, Direction::Egress),
            "policyTypes" => types = policy_types(reader, node, &child),
            _ => reader.unknown_field(Severity::Error, field, &path, &known),
        }
    }
    if policy.pod_selector.position.is_none() {
        policy.pod_selector.position = Some(field.key_position);
    }
    // Absent and empty are the same: a policy is about ingress, and about egress when it has rules
    // for it (SetDefaults_NetworkPolicy).
    let defaulted = types.unwrap_or([true, !policy.egress.is_empty()]);
    [policy.isolates_ingress, policy.isolates_egress] = defaulted;
    for direction in [Direction::Ingress, Direction::Egress] {
        let name = field_of(direction);
        let field = fields.iter().find(|field| &*field.key == name);
        if let Some(field) = field.filter(|_| !policy.rules(direction).is_empty())
            && !policy.isolates(direction)
        {
            let message = format!(
                "no effect: policyTypes does not list \"{}\", so these rules are not enforced",
                type_of(direction)
            );
            reader.warn(
                id::INERT_RULES,
                field.key_position,
                &path.field(name),
                message,
            );
        }
    }
    types
}

/// `[ingress, egress]`, or `None` for an absent or empty list.
fn policy_types(reader: &mut Reader, node: &Node, path: &Path) -> Option<[bool; 2]> {
    let owner = "NetworkPolicySpec";
    let items = reader.sequence(node, path, owner, "[]v1.PolicyType");
    let mut types = [false, false];
    let mut texts = Vec::new();
    // What a wrong list means is unknown; then nothing is said of rules it makes inert.
    let unknown = Some([true, true]);
    let mark = reader.mark();
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let text = reader.string(item, &path, owner, "v1.PolicyType");
        texts.push(text.unwrap_or_default());
    }
    if reader.failed_since(mark) {
        return unknown;
    }
    if items.len() > 2 {
        let texts: Vec<_> = texts.iter().map(|text| words::quote(text)).collect();
        let value = format!("[]networking.PolicyType{{{}}}", texts.join(", "));
        let detail = "may not specify more than two policyTypes";
        reader.invalid(node.position, path, value, detail);
        return unknown;
    }
    let any_case = reader.multi_network() == Some(MultiNetworkDialect::Iptables);
    for (index, text) in texts.iter().enumerate() {
        match *text {
            text if any_case && text.eq_ignore_ascii_case("ingress") => types[0] = true,
            text if any_case && text.eq_ignore_ascii_case("egress") => types[1] = true,
            "Ingress" => types[0] = true,
            "Egress" => types[1] = true,
            other => {
                let position = items[index].position;
                reader.unsupported(position, &path.index(index), other, &["Ingress", "Egress"]);
            }
        }
    }
    if reader.failed_since(mark) {
        return unknown;
    }
    (!items.is_empty()).then_some(types)
}

fn rules(reader: &mut Reader, node: &Node, path: &Path, direction: Direction) -> Vec<PolicyRule> {
    let rule_type = match direction {
        Direction::Ingress => "NetworkPolicyIngressRule",
        Direction::Egress => "NetworkPolicyEgressRule",
    };
    let wanted = format!("[]{}", owner_type(rule_type));
    let items = reader.sequence(node, path, "NetworkPolicySpec", &wanted);
    let mut rules = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        warn_if_null(reader, item, &path, "{}: a rule that allows everything");
        rules.push(rule(reader, item, &path, direction, rule_type));
    }
    rules
}

fn rule(
    reader: &mut Reader,
    node: &Node,
    path: &Path,
    direction: Direction,
    owner: &str,
) -> PolicyRule {
    let mut rule = PolicyRule {
        position: node.position,
        peers: Vec::new(),
        ports: Vec::new(),
    };
    let peers = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let fields = reader.mapping(node, path, "NetworkPolicySpec", owner_type(owner));
    for field in fields.unwrap_or_default() {
        let child = path.field(&field.key);
        match &*field.key {
            "ports" => {
                warn_if_null(reader, &field.node, &child, "every protocol and port");
                let wanted = "[]v1.NetworkPolicyPort";
                let items = reader.sequence(&field.node, &child, owner, wanted);
                for (index, item) in items.iter().enumerate() {
                    let child = child.index(index);
                    warn_if_null(reader, item, &child, "{}: every TCP port");
                    rule.ports.extend(port(reader, item, &child, owner));
                }
            }
            key if key == peers => {
                warn_if_null(reader, &field.node, &child, "any peer");
                let wanted = "[]v1.NetworkPolicyPeer";
                let items = reader.sequence(&field.node, &child, owner, wanted);
                for (index, item) in items.iter().enumerate() {
                    rule.peers
                        .extend(peer(reader, item, &child.index(index), owner));
                }
            }
            _ => reader.unknown_field(Severity::Error, field, path, &[peers, "ports"]),
        }
    }
    rule
}

/// A value left out is what remains when everything below it is commented out, and opens more than
/// the little that was there.
fn warn_if_null(reader: &mut Reader, node: &Node, path: &Path, meaning: &str) {
    if node.value == Value::Null {
        let message = format!("nothing here means {meaning}");
        reader.warn(id::NULL_VALUE, node.position, path, message);
    }
}

/// What `port` says.
enum PortValue {
    Absent,
    Number(i32),
    Name(String),
    /// Reported already.
    Broken,
}

fn port(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Option<PolicyPort> {
    let fields = reader.mapping(node, path, owner, "v1.NetworkPolicyPort")?;
    let owner = "NetworkPolicyPort";
    let mut number = Some(protocol::TCP);
    let mut value = PortValue::Absent;
    let mut value_position = node.position;
    let mut end = None;
    for field in fields {
        let child = path.field(&field.key);
        match &*field.key {
            "protocol" => number = transport(reader, &field.node, &child, owner),
            "port" => {
                value = port_value(reader, &field.node, &child);
                value_position = field.node.position;
            }
            "endPort" => {
                let found = reader.integer(&field.node, &child, owner);
                end = found.map(|found| (found, field.node.position));
            }
            _ => {
                let known = ["endPort", "port", "protocol"];
                reader.unknown_field(Severity::Error, field, path, &known);
            }
        }
    }
    let ports = port_match(reader, value, value_position, end, path)?;
    Some(PolicyPort {
        position: node.position,
        protocol: number?,
        ports,
    })
}

/// The protocol number; TCP for null.
fn transport(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Option<u8> {
    let mark = reader.mark();
    match reader.string(node, path, owner, "v1.Protocol") {
        Some("TCP") => Some(protocol::TCP),
        Some("UDP") => Some(protocol::UDP),
        Some("SCTP") => Some(protocol::SCTP),
        Some(other) => {
            reader.unsupported(node.position, path, other, &["TCP", "UDP", "SCTP"]);
            None
        }
        None => (!reader.failed_since(mark)).then_some(protocol::TCP),
    }
}

/// An `intstr.IntOrString`.
fn port_value(reader: &mut Reader, node: &Node, path: &Path) -> PortValue {
    match &node.value {
        Value::Null => PortValue::Absent,
        Value::String(name) => PortValue::Name(name.to_string()),
        Value::Number(text) if super::is_octal_looking(text) => {
            reader.octal_looking(node.position, path, text);
            PortValue::Broken
        }
        Value::Number(text) if super::parse_integer(text).is_some() => {
            super::parse_integer(text).map_or(PortValue::Broken, PortValue::Number)
        }
        _ => {
            let found = match &node.value {
                Value::Number(text) => format!("number {text}"),
                _ => node.type_name().to_owned(),
            };
            let message = format!("json: cannot unmarshal {found} into Go value of type int32");
            reader.wrong_types += 1;
            reader.error(id::WRONG_TYPE, node.position, path, message);
            PortValue::Broken
        }
    }
}

fn port_match(
    reader: &mut Reader,
    value: PortValue,
    value_position: Position,
    end: Option<(i32, Position)>,
    parent: &Path,
) -> Option<PortMatch> {
    let path = parent.field("port");
    let end_path = parent.field("endPort");
    let end_problem = |reader: &mut Reader, detail| {
        if let Some((end, position)) = end {
            reader.invalid(position, &end_path, end, detail);
        }
    };
    match value {
        PortValue::Absent => {
            end_problem(reader, "may not be specified when `port` is not specified");
            Some(PortMatch::Any)
        }
        PortValue::Name(name) => {
            end_problem(reader, "may not be specified when `port` is non-numeric");
            for problem in words::port_name_problems(&name) {
                reader.invalid_text(value_position, &path, &name, &problem);
            }
            Some(PortMatch::Named(name))
        }
        PortValue::Number(number) => {
            let first = words::port_number(number);
            if let Err(problem) = first {
                reader.invalid(value_position, &path, number, problem);
            }
            let mut last = first;
            if let Some((end, position)) = end {
                if end < number {
                    let detail = "must be greater than or equal to `port`";
                    reader.invalid(position, &end_path, end, detail);
                }
                last = words::port_number(end);
                if let Err(problem) = last {
                    reader.invalid(position, &end_path, end, problem);
                }
            }
            let (first, last) = (first.ok()?, last.ok()?);
            Some(PortMatch::Range { first, last })
        }
        PortValue::Broken => None,
    }
}

/// A peer; more than one where a dialect reads it so.
fn peer(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Vec<Peer> {
    let position = node.position;
    let kinds = peer_kinds(reader, node, path, owner).unwrap_or_default();
    let peer = |kind| Peer { position, kind };
    kinds.into_iter().map(peer).collect()
}

fn peer_kinds(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Option<Vec<PeerKind>> {
    let fields = reader.mapping(node, path, owner, "v1.NetworkPolicyPeer")?;
    let owner = "NetworkPolicyPeer";
    let (mut pods, mut namespaces, mut block) = (None, None, None);
    let mut blocks = 0;
    for field in fields {
        let child = path.field(&field.key);
        // A null selector or block is one that is not specified; `{}` is the one that selects all.
        let given = field.node.value != Value::Null;
        match &*field.key {
            "podSelector" if given => {
                pods = Some(selector::decode(reader, &field.node, &child, owner));
            }
            "namespaceSelector" if given => {
                namespaces = Some(selector::decode(reader, &field.node, &child, owner));
            }
            "ipBlock" if given => {
                blocks += 1;
                block = ip_block::decode(reader, &field.node, &child, owner);
            }
            "podSelector" | "namespaceSelector" | "ipBlock" => {}
            _ => {
                let known = ["ipBlock", "namespaceSelector", "podSelector"];
                reader.unknown_field(Severity::Error, field, path, &known);
            }
        }
    }
    let selectors = pods.is_some() || namespaces.is_some();
    let kind = match (blocks, selectors) {
        (0, false) => {
            reader.required(node.position, path, "must specify a peer");
            return None;
        }
        (0, true) => PeerKind::Pods { namespaces, pods },
        (_, false) => block?,
        (_, true) if reader.multi_network() == Some(MultiNetworkDialect::Iptables) => block?,
        (_, true) if reader.multi_network() == Some(MultiNetworkDialect::OvnKubernetes) => {
            return Some(vec![block?, PeerKind::Pods { namespaces, pods }]);
        }
        (_, true) => {
            let detail = "may not specify both ipBlock and another peer";
            reader.forbidden(node.position, path, detail);
            return None;
        }
    };
    Some(vec![kind])
}

fn field_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn type_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    }
}

/// Go's name of a type of `k8s.io/api/networking/v1`.
fn owner_type(name: &str) -> &'static str {
    match name {
        "NetworkPolicySpec" => "v1.NetworkPolicySpec",
        "NetworkPolicyIngressRule" => "v1.NetworkPolicyIngressRule",
        _ => "v1.NetworkPolicyEgressRule",
    }
}
