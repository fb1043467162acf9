//! AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy: decoding, and what the
//! schemas of `policy.networking.k8s.io` demand.

use ipnet::IpNet;

use super::super::Direction;
use super::super::document::{Field, Node, Position, Value};
use super::super::finding::id;
use super::super::selector::LabelSelector;
use super::super::tiers::{
    Action, PodScope, Tier, TierKind, TierPeer, TierPeerKind, TierPolicy, TierRule,
};
use super::meta::Metadata;
use super::schema::given;
use super::{Path, Reader, Severity, ip_block, nearest, selector, tier_ports, words};

/// Most items of `networks` and of `domainNames`.
const VALUES_MAX: usize = 25;
/// Longest text of one of `networks`.
const NETWORK_CHARACTERS_MAX: usize = 43;
/// Longest `name` of a rule.
const NAME_CHARACTERS_MAX: usize = 100;
/// Largest `priority`.
const PRIORITY_MAX: u16 = 1000;
/// Every peer field of any kind and direction.
const PEER_FIELDS: [&str; 5] = ["domainNames", "namespaces", "networks", "nodes", "pods"];

const DOMAIN_PATTERN: &str = "^(\\*\\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\\.)+\
                              [a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\\.?$";

impl TierKind {
    fn rules_max(self) -> usize {
        match self {
            TierKind::Cluster => 25,
            TierKind::Admin | TierKind::Baseline => 100,
        }
    }

    /// Most peers of a rule, and most of its ports.
    pub(super) fn items_max(self) -> usize {
        self.rules_max()
    }

    /// As written, in the order of [`ACTIONS`].
    fn actions(self) -> &'static [&'static str] {
        match self {
            TierKind::Cluster => &["Accept", "Deny", "Pass"],
            TierKind::Admin => &["Allow", "Deny", "Pass"],
            TierKind::Baseline => &["Allow", "Deny"],
        }
    }

    pub(super) fn ports_field(self) -> &'static str {
        match self {
            TierKind::Cluster => "protocols",
            TierKind::Admin | TierKind::Baseline => "ports",
        }
    }

    fn peers(self, direction: Direction) -> &'static [&'static str] {
        match (direction, self) {
            (Direction::Ingress, _) => &["namespaces", "pods"],
            (_, TierKind::Baseline) => &["namespaces", "networks", "nodes", "pods"],
            (_, TierKind::Admin | TierKind::Cluster) => &PEER_FIELDS,
        }
    }

    /// The peers that have no port names.
    fn nameless_peers(self) -> &'static str {
        match self {
            TierKind::Baseline => "networks/nodes",
            TierKind::Admin | TierKind::Cluster => "networks/nodes/domainNames",
        }
    }
}

const ACTIONS: [Action; 3] = [Action::Accept, Action::Deny, Action::Pass];

/// Decodes a policy. When it has errors the result is incomplete.
pub fn decode(
    reader: &mut Reader,
    kind: TierKind,
    fields: &[Field],
    metadata: Metadata,
) -> TierPolicy {
    let tier = match kind {
        TierKind::Baseline => Tier::Baseline,
        TierKind::Admin | TierKind::Cluster => Tier::Admin,
    };
    let mut policy = TierPolicy {
        kind,
        name: metadata.name,
        tier,
        priority: 0,
        subject: PodScope::default(),
        ingress: Vec::new(),
        egress: Vec::new(),
        source: reader.source(metadata.position),
    };
    if kind == TierKind::Baseline && !policy.name.is_empty() && policy.name != "default" {
        let detail = "Only one baseline admin network policy with metadata.name=\"default\" can be \
                      created in the cluster";
        let path = Path::ROOT.field("metadata");
        reader.invalid_text(metadata.position, &path.field("name"), &policy.name, detail);
    }
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let mut has_spec = false;
    for field in fields {
        match &*field.key {
            "spec" if field.node.value != Value::Null => {
                has_spec = true;
                spec(reader, &field.node, &mut policy);
            }
            key if known.contains(&key) => {}
            _ => reader.unknown_field(Severity::Error, field, &Path::ROOT, &known),
        }
    }
    if !has_spec {
        reader.required(metadata.position, &Path::ROOT.field("spec"), "");
    }
    policy
}

fn spec(reader: &mut Reader, node: &Node, policy: &mut TierPolicy) {
    let path = Path::ROOT.field("spec");
    let kind = policy.kind;
    let owner = format!("{}Spec", kind.name());
    let wanted = format!("v1.{owner}");
    let Some(fields) = reader.mapping(node, &path, kind.name(), &wanted) else {
        return;
    };
    let known: &[&str] = match kind {
        TierKind::Cluster => &["egress", "ingress", "priority", "subject", "tier"],
        TierKind::Admin => &["egress", "ingress", "priority", "subject"],
        TierKind::Baseline => &["egress", "ingress", "subject"],
    };
    let mut found: Vec<&str> = Vec::new();
    for field in given(fields) {
        let child = path.field(&field.key);
        let node = &field.node;
        found.push(&field.key);
        match &*field.key {
            key if !known.contains(&key) => {
                reader.unknown_field(Severity::Error, field, &path, known);
            }
            "subject" => {
                policy.subject = subject(reader, node, &child).unwrap_or_default();
            }
            "ingress" => policy.ingress = rules(reader, kind, node, &child, Direction::Ingress),
            "egress" => policy.egress = rules(reader, kind, node, &child, Direction::Egress),
            "tier" => {
                let tier = reader.one_of(node, &child, &owner, &["Admin", "Baseline"]);
                policy.tier = match tier {
                    Some(1) => Tier::Baseline,
                    _ => Tier::Admin,
                };
            }
            _ => {
                let priority = reader.bounded(node, &child, &owner, (0, PRIORITY_MAX));
                policy.priority = priority.unwrap_or_default();
            }
        }
    }
    for required in ["priority", "subject", "tier"] {
        if known.contains(&required) && !found.contains(&required) {
            reader.required(node.position, &path.field(required), "");
        }
    }
}

fn subject(reader: &mut Reader, node: &Node, path: &Path) -> Option<PodScope> {
    let owner = "Subject";
    let fields = reader.mapping(node, path, owner, "v1.Subject")?;
    let fields: Vec<_> = given(fields).collect();
    let known = ["namespaces", "pods"];
    for field in &fields {
        if !known.contains(&&*field.key) {
            reader.unknown_field(Severity::Error, field, path, &known);
            return None;
        }
    }
    if !reader.check_one_property(node, path, fields.len()) {
        return None;
    }
    pod_scope(reader, fields[0], &path.field(&fields[0].key))
}

/// `namespaces` or `pods`.
fn pod_scope(reader: &mut Reader, field: &Field, path: &Path) -> Option<PodScope> {
    let mut scope = PodScope::default();
    if &*field.key == "namespaces" {
        scope.namespaces = selector::decode(reader, &field.node, path, "Namespaces");
        return Some(scope);
    }
    let owner = "NamespacedPod";
    let fields = reader.mapping(&field.node, path, "Pods", "v1.NamespacedPod")?;
    let known = ["namespaceSelector", "podSelector"];
    let mut found: Vec<&str> = Vec::new();
    for field in given(fields) {
        let child = path.field(&field.key);
        let slot = match &*field.key {
            "namespaceSelector" => &mut scope.namespaces,
            "podSelector" => &mut scope.pods,
            _ => {
                reader.unknown_field(Severity::Error, field, path, &known);
                continue;
            }
        };
        found.push(&field.key);
        *slot = selector::decode(reader, &field.node, &child, owner);
    }
    let of_newer_kind = reader.object.starts_with(TierKind::Cluster.name());
    for required in known {
        // ClusterNetworkPolicy alone may leave the namespaces out, which means all of them.
        let optional = of_newer_kind && required == "namespaceSelector";
        if !optional && !found.contains(&required) {
            reader.required(field.node.position, &path.field(required), "");
        }
    }
    Some(scope)
}

fn rules(
    reader: &mut Reader,
    kind: TierKind,
    node: &Node,
    path: &Path,
    direction: Direction,
) -> Vec<TierRule> {
    let rule_type = match direction {
        Direction::Ingress => "IngressRule",
        Direction::Egress => "EgressRule",
    };
    let wanted = format!("[]v1.{}{rule_type}", kind.name());
    let items = reader.sequence(node, path, &format!("{}Spec", kind.name()), &wanted);
    reader.check_items_max(node, path, items.len(), kind.rules_max());
    let rule = |(index, item)| rule(reader, kind, item, &path.index(index), direction);
    items.iter().enumerate().filter_map(rule).collect()
}

fn rule(
    reader: &mut Reader,
    kind: TierKind,
    node: &Node,
    path: &Path,
    direction: Direction,
) -> Option<TierRule> {
    let peers_field = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let known = ["action", peers_field, "name", kind.ports_field()];
    let owner = format!("{}Rule", kind.name());
    let fields = reader.mapping(node, path, &owner, &format!("v1.{owner}"))?;
    let mut rule = TierRule {
        position: node.position,
        name: String::new(),
        action: Action::Deny,
        peers: Vec::new(),
        ports: Vec::new(),
    };
    let mut found: Vec<&str> = Vec::new();
    for field in fields {
        let child = path.field(&field.key);
        let node = &field.node;
        if node.value == Value::Null && *field.key == *kind.ports_field() {
            let message = "nothing here means every protocol and port".to_owned();
            reader.warn(id::NULL_VALUE, node.position, &child, message);
        }
        if !known.contains(&&*field.key) {
            reader.unknown_field(Severity::Error, field, path, &known);
        }
        if node.value == Value::Null {
            continue;
        }
        found.push(&field.key);
        match &*field.key {
            "action" => {
                let action = reader.one_of(node, &child, &owner, kind.actions());
                rule.action = action.map_or(Action::Deny, |action| ACTIONS[action]);
            }
            "name" => {
                let name = reader.string(node, &child, &owner, "string");
                rule.name = name.unwrap_or_default().to_owned();
                reader.check_length(node.position, &child, &rule.name, NAME_CHARACTERS_MAX);
            }
            key if key == peers_field => {
                rule.peers = peers(reader, kind, node, &child, direction);
            }
            key if key == kind.ports_field() => {
                rule.ports = tier_ports::decode(reader, kind, node, &child);
            }
            _ => {}
        }
    }
    for required in ["action", peers_field] {
        if !found.contains(&required) {
            reader.required(node.position, &path.field(required), "");
        }
    }
    check_rule(reader, kind, &rule, path);
    Some(rule)
}

/// What fields of a rule demand of each other.
fn check_rule(reader: &mut Reader, kind: TierKind, rule: &TierRule, path: &Path) {
    if let Some(field) = rule.unknown_peer() {
        let meaning = match rule.action {
            Action::Accept => "so the rule matches nothing",
            Action::Deny | Action::Pass => "so the rule denies everything",
        };
        let message = format!("peer \"{field}\" is of a version not known here, {meaning}");
        reader.warn(id::UNKNOWN_PEER, rule.position, path, message);
    }
    let nameless =
        |peer: &TierPeer| !matches!(peer.kind, TierPeerKind::Pods(_) | TierPeerKind::Unknown(_));
    if rule.peers.iter().any(nameless) && rule.ports.iter().any(tier_ports::is_named) {
        let peers = kind.nameless_peers();
        let detail = format!(
            "{peers} peer cannot be set with namedPorts since there are no namedPorts for {peers}"
        );
        reader.invalid_text(rule.position, path, "object", &detail);
    }
    if rule.action == Action::Accept {
        return;
    }
    for (index, peer) in rule.peers.iter().enumerate() {
        if let TierPeerKind::DomainNames(_) = peer.kind {
            let to = path.field("to");
            let detail = format!(
                "domainNames is only supported for {} rules",
                kind.actions()[0]
            );
            let item = to.index(index);
            reader.forbidden(peer.position, &item.field("domainNames"), &detail);
        }
    }
}

fn peers(
    reader: &mut Reader,
    kind: TierKind,
    node: &Node,
    path: &Path,
    direction: Direction,
) -> Vec<TierPeer> {
    let owner = format!("{}Rule", kind.name());
    let wanted = format!("[]v1.{}Peer", kind.name());
    let wrong_types = reader.wrong_types;
    let items = reader.sequence(node, path, &owner, &wanted);
    if reader.wrong_types == wrong_types {
        reader.check_item_count(node, path, items.len(), kind.items_max());
    }
    let mut peers = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        if let Some(kind) = peer(reader, item, &path, kind.peers(direction)) {
            let position = item.position;
            peers.push(TierPeer { position, kind });
        }
    }
    peers
}

fn peer(reader: &mut Reader, node: &Node, path: &Path, known: &[&str]) -> Option<TierPeerKind> {
    let fields = reader.mapping(node, path, "Peer", "v1.Peer")?;
    let fields: Vec<_> = given(fields).collect();
    let mut newer = None;
    for field in &fields {
        // A field that other peers have, or nearly one, is a mistake; any other is of a newer
        // version, and upstream says what to make of a rule that has one.
        let mistaken = nearest(&field.key, &PEER_FIELDS).is_some();
        if known.contains(&&*field.key) {
            continue;
        }
        if mistaken {
            reader.unknown_field(Severity::Error, field, path, known);
            return None;
        }
        newer = Some(TierPeerKind::Unknown(field.key.to_string()));
    }
    if !reader.check_one_property(node, path, fields.len()) {
        return None;
    }
    if newer.is_some() {
        return newer;
    }
    let field = fields[0];
    let (path, node) = (path.field(&field.key), &field.node);
    match &*field.key {
        "networks" => Some(TierPeerKind::Networks(networks(reader, node, &path))),
        "nodes" => Some(TierPeerKind::Nodes(nodes(reader, node, &path))),
        "domainNames" => Some(TierPeerKind::DomainNames(domain_names(reader, node, &path))),
        _ => pod_scope(reader, field, &path).map(TierPeerKind::Pods),
    }
}

fn nodes(reader: &mut Reader, node: &Node, path: &Path) -> LabelSelector {
    selector::decode(reader, node, path, "Peer")
}

/// A set of strings: 1 to 25, none of them twice, each read by `read`.
fn texts<T>(
    reader: &mut Reader,
    node: &Node,
    path: &Path,
    mut read: impl FnMut(&mut Reader, Position, &Path, &str) -> Option<T>,
) -> Vec<T> {
    let wrong_types = reader.wrong_types;
    let items = reader.sequence(node, path, "Peer", "[]string");
    if reader.wrong_types == wrong_types {
        reader.check_item_count(node, path, items.len(), VALUES_MAX);
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut values = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let wrong_types = reader.wrong_types;
        let text = reader.string(item, &path, "Peer", "string");
        if reader.wrong_types > wrong_types {
            continue;
        }
        let text = text.unwrap_or_default();
        if seen.contains(&text) {
            let message = format!("Duplicate value: {}", words::quote(text));
            reader.error(id::DUPLICATE_VALUE, item.position, &path, message);
        }
        seen.push(text);
        values.extend(read(reader, item.position, &path, text));
    }
    values
}

fn networks(reader: &mut Reader, node: &Node, path: &Path) -> Vec<IpNet> {
    texts(reader, node, path, |reader, position, path, text| {
        reader.check_length(position, path, text, NETWORK_CHARACTERS_MAX);
        match words::cidr(text) {
            Ok(written) => Some(ip_block::masked(reader, position, path, text, written)),
            Err(_) => {
                reader.invalid_text(position, path, text, "Invalid CIDR format provided");
                None
            }
        }
    })
}

fn domain_names(reader: &mut Reader, node: &Node, path: &Path) -> Vec<String> {
    texts(reader, node, path, |reader, position, path, text| {
        if !is_domain_name(text) {
            let detail = format!("{path} in body should match '{DOMAIN_PATTERN}'");
            reader.invalid_text(position, path, text, &detail);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        Some(name.to_ascii_lowercase())
    })
}

/// [`DOMAIN_PATTERN`].
fn is_domain_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let mut bytes = label.bytes();
        end(bytes.next()) && end(label.bytes().next_back()) && label.bytes().all(inner)
    };
    name.contains('.') && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_names_are_those_of_the_pattern() {
        for (text, expected) in [
            ("kubernetes.io", true),
            ("*.kubernetes.io", true),
            ("Blog.Kubernetes.io.", true),
            ("a_b.example.com", true),
            ("io", false),
            ("*.io", false),
            ("*", false),
            ("a.*.io", false),
            ("*kubernetes.io", false),
            ("-a.io", false),
            ("a..io", false),
            ("", false),
        ] {
            assert_eq!(is_domain_name(text), expected, "{text}");
        }
    }
}
