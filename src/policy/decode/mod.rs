//! Trees into typed objects: types checked, fields known, values valid, everything reported.
//!
//! Findings speak as the apiserver does: a value of the wrong type as Go's JSON decoder, an unknown
//! field as its strict decoder, an invalid value as its field errors. Unlike the apiserver, which
//! stops at the first object it cannot decode, every problem of every object is reported.

mod admin_output;
mod cluster_network;
mod core;
mod egress_firewall;
mod ip_block;
mod kind;
mod known;
mod kube_ovn;
mod meta;
mod multi_network;
mod network_policy;
mod node_network;
mod openshift;
mod schema;
mod security_group;
mod selector;
mod service;
mod tier_ports;
mod tiers;
pub mod words;

use std::fmt::Display;
use std::sync::Arc;

use super::compatibility::MultiNetworkDialect;
use super::document::{Field, Node, Position, Stand, Value};
use super::finding::id;
use super::inventory::{Labels, Namespace, Network, Pod, Service, Source};
use super::kube_ovn::{Subnet, Vip};
use super::{Compatibility, Document, Finding, Policies, Severity};

/// Everything decoded from a set of documents.
#[derive(Debug, Default)]
pub struct Objects {
    /// Pods in file order.
    pub pods: Vec<Pod>,
    /// Namespaces in file order.
    pub namespaces: Vec<Namespace>,
    /// Nodes in file order.
    pub nodes: Vec<super::inventory::Node>,
    /// Services in file order.
    pub services: Vec<Service>,
    /// NetworkAttachmentDefinitions in file order.
    pub networks: Vec<Network>,
    /// Addresses pods may have beside their own, in file order.
    pub vips: Vec<Vip>,
    /// Subnets of Kube-OVN in file order.
    pub subnets: Vec<Subnet>,
    /// Policies in file order.
    pub policies: Policies,
}

impl Objects {
    /// Adds other objects behind these.
    pub fn append(&mut self, mut other: Objects) {
        // The first are not copied: there may be very many, of a single file.
        match self.pods.is_empty() {
            true => self.pods = other.pods,
            false => self.pods.append(&mut other.pods),
        }
        self.namespaces.append(&mut other.namespaces);
        self.nodes.append(&mut other.nodes);
        self.services.append(&mut other.services);
        self.networks.append(&mut other.networks);
        self.vips.append(&mut other.vips);
        self.subnets.append(&mut other.subnets);
        self.policies.append(other.policies);
    }

    /// Are there others than policies?
    pub fn has_world(&self) -> bool {
        let openshift = &self.policies.openshift;
        !(self.pods.is_empty()
            && self.namespaces.is_empty()
            && self.nodes.is_empty()
            && self.services.is_empty()
            && self.networks.is_empty()
            && self.vips.is_empty()
            && self.subnets.is_empty()
            && openshift.net_namespaces.is_empty()
            && openshift.host_subnets.is_empty()
            && openshift.cluster_networks.is_empty())
    }
}

/// Decodes every object of the documents, those in lists too.
///
/// Objects with errors are left out of the result; the findings tell why.
pub fn decode(
    documents: &[Document],
    compatibility: &Compatibility,
    findings: &mut Vec<Finding>,
) -> Objects {
    let mut objects = Objects::default();
    for document in documents {
        let mut reader = Reader {
            stand: &document.stand,
            object: String::new(),
            wrong_types: 0,
            compatibility,
            findings,
        };
        meta::document(&mut reader, &document.root, &mut objects);
    }
    objects
}

/// The way to a field, kept on the stack while descending and rendered only when needed.
#[derive(Clone, Copy)]
struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    segment: Segment<'p>,
}

#[derive(Clone, Copy)]
enum Segment<'p> {
    Root,
    Field(&'p str),
    Index(usize),
    Key(&'p str),
}

impl<'p> Path<'p> {
    const ROOT: Path<'static> = Path {
        parent: None,
        segment: Segment::Root,
    };

    fn field(&'p self, name: &'p str) -> Path<'p> {
        self.child(Segment::Field(name))
    }

    fn index(&'p self, index: usize) -> Path<'p> {
        self.child(Segment::Index(index))
    }

    fn key(&'p self, key: &'p str) -> Path<'p> {
        self.child(Segment::Key(key))
    }

    fn child(&'p self, segment: Segment<'p>) -> Path<'p> {
        Path {
            parent: Some(self),
            segment,
        }
    }

    /// `spec.ingress.from`, as Go's JSON decoder names a field: without indices and keys.
    fn without_indices(&self) -> String {
        let parent = self.parent.map(Path::without_indices).unwrap_or_default();
        match self.segment {
            Segment::Field(name) if parent.is_empty() => name.to_owned(),
            Segment::Field(name) => format!("{parent}.{name}"),
            _ => parent,
        }
    }
}

impl Display for Path<'_> {
    /// `spec.ingress[0].from[1]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let first = self
            .parent
            .is_none_or(|parent| matches!(parent.segment, Segment::Root));
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Field(name) if first => f.write_str(name),
            Segment::Field(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// Reads one object and reports what is wrong with it.
struct Reader<'r> {
    stand: &'r Arc<Stand>,
    /// `kind/namespace/name`, as far as known.
    object: String,
    /// Values of the wrong type met so far: their fields are neither there nor missing.
    wrong_types: usize,
    /// What is allowed depends on some of its switches.
    compatibility: &'r Compatibility,
    findings: &'r mut Vec<Finding>,
}

impl Reader<'_> {
    fn source(&self, position: Position) -> Source {
        Source {
            stand: self.stand.clone(),
            position,
        }
    }

    /// Whose reading of MultiNetworkPolicy counts, while one is read.
    fn multi_network(&self) -> Option<MultiNetworkDialect> {
        let is_one = self.object.starts_with("MultiNetworkPolicy");
        is_one.then_some(self.compatibility.mnp_compat)
    }

    /// To be compared with [`Reader::failed_since`].
    fn mark(&self) -> usize {
        self.findings.len()
    }

    fn failed_since(&self, mark: usize) -> bool {
        let error = |finding: &Finding| finding.severity == Severity::Error;
        self.findings[mark..].iter().any(error)
    }

    fn report(
        &mut self,
        severity: Severity,
        id: &'static str,
        position: Position,
        path: &Path,
        message: String,
    ) {
        self.findings.push(Finding {
            severity,
            id,
            place: self.stand.place(position),
            document: self.stand.number(),
            object: self.object.clone(),
            path: path.to_string(),
            message,
        });
    }

    fn error(&mut self, id: &'static str, position: Position, path: &Path, message: String) {
        self.report(Severity::Error, id, position, path, message);
    }

    fn warn(&mut self, id: &'static str, position: Position, path: &Path, message: String) {
        self.report(Severity::Warning, id, position, path, message);
    }

    fn invalid(&mut self, position: Position, path: &Path, value: impl Display, detail: &str) {
        let message = format!("Invalid value: {value}: {detail}");
        self.error(id::INVALID_VALUE, position, path, message);
    }

    fn invalid_text(&mut self, position: Position, path: &Path, value: &str, detail: &str) {
        self.invalid(position, path, words::quote(value), detail);
    }

    fn required(&mut self, position: Position, path: &Path, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        let message = format!("Required value{colon}{detail}");
        self.error(id::REQUIRED_VALUE, position, path, message);
    }

    fn forbidden(&mut self, position: Position, path: &Path, detail: &str) {
        self.error(
            id::FORBIDDEN_VALUE,
            position,
            path,
            format!("Forbidden: {detail}"),
        );
    }

    fn unsupported(&mut self, position: Position, path: &Path, value: &str, supported: &[&str]) {
        let supported: Vec<_> = supported.iter().map(|value| words::quote(value)).collect();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            words::quote(value),
            supported.join(", ")
        );
        self.error(id::UNSUPPORTED_VALUE, position, path, message);
    }

    /// A field nobody reads: an error in a policy, where a misspelt field opens or closes
    /// something.
    fn unknown_field(&mut self, severity: Severity, field: &Field, parent: &Path, known: &[&str]) {
        let path = parent.field(&field.key);
        let mut message = format!("unknown field {}", words::quote(&path.to_string()));
        if let Some(near) = nearest(&field.key, known) {
            message.push_str(&format!("; did you mean \"{near}\"?"));
        }
        self.report(
            severity,
            id::UNKNOWN_FIELD,
            field.key_position,
            &path,
            message,
        );
    }

    /// A value of the wrong type, in the words of Go's JSON decoder.
    fn wrong_type(&mut self, node: &Node, path: &Path, owner: &str, wanted: &str) {
        let found = match &node.value {
            Value::Number(text) => format!("number {text}"),
            _ => node.type_name().to_owned(),
        };
        let message = format!(
            "json: cannot unmarshal {found} into Go struct field {owner}.{} of type {wanted}",
            path.without_indices()
        );
        self.wrong_types += 1;
        self.error(id::WRONG_TYPE, node.position, path, message);
    }

    /// The fields of an object; none if it is null. `None` if it is no object at all.
    fn mapping<'n>(
        &mut self,
        node: &'n Node,
        path: &Path,
        owner: &str,
        wanted: &str,
    ) -> Option<&'n [Field]> {
        match &node.value {
            Value::Mapping(fields) => Some(fields),
            Value::Null => Some(&[]),
            _ => {
                self.wrong_type(node, path, owner, wanted);
                None
            }
        }
    }

    /// The items of a list; none if it is null or no list.
    fn sequence<'n>(
        &mut self,
        node: &'n Node,
        path: &Path,
        owner: &str,
        wanted: &str,
    ) -> &'n [Node] {
        match &node.value {
            Value::Sequence(items) => items,
            Value::Null => &[],
            _ => {
                self.wrong_type(node, path, owner, wanted);
                &[]
            }
        }
    }

    /// A string; `None` if it is null or no string.
    fn string<'n>(
        &mut self,
        node: &'n Node,
        path: &Path,
        owner: &str,
        wanted: &str,
    ) -> Option<&'n str> {
        match &node.value {
            Value::String(text) => Some(text),
            Value::Null => None,
            _ => {
                self.wrong_type(node, path, owner, wanted);
                None
            }
        }
    }

    fn boolean(&mut self, node: &Node, path: &Path, owner: &str) -> Option<bool> {
        match &node.value {
            Value::Boolean(value) => Some(*value),
            Value::Null => None,
            _ => {
                self.wrong_type(node, path, owner, "bool");
                None
            }
        }
    }

    fn integer(&mut self, node: &Node, path: &Path, owner: &str) -> Option<i32> {
        match &node.value {
            Value::Null => None,
            Value::Number(text) if is_octal_looking(text) => {
                self.octal_looking(node.position, path, text);
                None
            }
            Value::Number(text) if parse_integer(text).is_some() => parse_integer(text),
            _ => {
                self.wrong_type(node, path, owner, "int32");
                None
            }
        }
    }

    fn octal_looking(&mut self, position: Position, path: &Path, text: &str) {
        let detail = "a number with leading zeros is octal to YAML 1.1 and decimal to YAML 1.2; \
                      write it without";
        self.wrong_types += 1;
        self.invalid(position, path, text, detail);
    }

    /// A `map[string]string`.
    fn labels(&mut self, node: &Node, path: &Path, owner: &str) -> Labels {
        let fields = self.mapping(node, path, owner, "map[string]string");
        let mut labels = Labels::new();
        for field in fields.unwrap_or_default() {
            let path = path.key(&field.key);
            let value = self.string(&field.node, &path, owner, "string");
            labels.insert(field.key.to_string(), value.unwrap_or_default().to_owned());
        }
        labels
    }

    /// `ValidateLabels` of a `map[string]string` already decoded: findings at key and value.
    fn check_labels(&mut self, node: &Node, path: &Path) {
        for field in node.as_mapping().unwrap_or_default() {
            for problem in words::label_key_problems(&field.key) {
                self.invalid_text(field.key_position, path, &field.key, &problem);
            }
            let value = field.node.as_str().unwrap_or_default();
            for problem in words::label_value_problems(value) {
                self.invalid_text(field.node.position, path, value, &problem);
            }
        }
    }
}

/// A number without fraction, however it is written, that fits 32 bits.
fn parse_integer(text: &str) -> Option<i32> {
    let text = text.replace('_', "");
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (-1, unsigned),
        None => (1, text.strip_prefix('+').unwrap_or(&text)),
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if unsigned
            .get(..2)
            .is_some_and(|found| found.eq_ignore_ascii_case(prefix))
        {
            let magnitude = i64::from_str_radix(&unsigned[2..], radix).ok()?;
            return i32::try_from(sign * magnitude).ok();
        }
    }
    if let Ok(magnitude) = unsigned.parse::<i64>() {
        return i32::try_from(sign * magnitude).ok();
    }
    // `80.0` and `8e1` become 80 on their way through JSON.
    let number: f64 = text.parse().ok()?;
    let fits =
        number.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number);
    fits.then_some(number as i32)
}

fn is_octal_looking(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digit = |byte: u8| byte.is_ascii_digit() || byte == b'_';
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(digit)
}

/// The known name a misspelt one most likely means: at most two edits away, or equal but for case.
fn nearest<'k>(wrong: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|name| {
        let same = name.eq_ignore_ascii_case(wrong);
        (if same { 0 } else { edit_distance(wrong, name) }, *name)
    });
    let (distance, name) = near.min()?;
    (distance <= 2 && distance < wrong.len()).then_some(name)
}

/// Levenshtein's distance, in bytes; field names are ASCII.
fn edit_distance(one: &str, other: &str) -> usize {
    if one.len().abs_diff(other.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_rendered_in_both_styles() {
        let spec = Path::ROOT.field("spec");
        let ingress = spec.field("ingress");
        let rule = ingress.index(0);
        let from = rule.field("from");
        let peer = from.index(12);
        let labels = peer.field("labels");
        let label = labels.key("a/b");
        assert_eq!(label.to_string(), "spec.ingress[0].from[12].labels[a/b]");
        assert_eq!(label.without_indices(), "spec.ingress.from.labels");
    }

    #[test]
    fn misspelt_fields_are_recognised() {
        let known = ["ingress", "egress", "podSelector", "policyTypes"];
        for (wrong, expected) in [
            ("ingres", Some("ingress")),
            ("podselector", Some("podSelector")),
            ("policyType", Some("policyTypes")),
            ("to", None),
            ("rules", None),
        ] {
            assert_eq!(nearest(wrong, &known), expected, "{wrong}");
        }
    }

    #[test]
    fn integers_are_those_of_kubectl() {
        for (text, expected) in [
            ("80", Some(80)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("0x50", Some(80)),
            ("0o17", Some(15)),
            ("0", Some(0)),
            ("2147483647", Some(i32::MAX)),
            ("2147483648", None),
            ("-2147483648", Some(i32::MIN)),
            ("99999999999999999999", None),
            ("80.0", Some(80)),
            ("80.5", None),
            ("8e1", Some(80)),
            ("8e-1", None),
            ("1e10", None),
            ("0b11", Some(3)),
            ("-0x10", Some(-16)),
            ("0xffffffffffffffffffff", None),
            ("1_000", Some(1000)),
            (".inf", None),
        ] {
            assert_eq!(parse_integer(text), expected, "{text}");
        }
        assert!(is_octal_looking("080") && is_octal_looking("-01") && is_octal_looking("0_1"));
        assert!(!is_octal_looking("0") && !is_octal_looking("0x1"));
    }
}
