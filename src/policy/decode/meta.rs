//! What every object has (`apiVersion`, `kind`, `metadata`), and lists of objects.

use super::super::Policies;
use super::super::document::{Field, Node, Position};
use super::super::finding::id;
use super::super::inventory::Labels;
use super::kind::{Kind, NETWORKING_KINDS, is_misspelt_kind, may_own_same_kind};
use super::{
    Objects, Path, Reader, Severity, admin_output, cluster_network, core, egress_firewall, known,
    kube_ovn, multi_network, openshift, security_group, service, tiers, words,
};

/// Namespace of a namespaced object that does not name one.
const DEFAULT_NAMESPACE: &str = "default";

/// Deepest nesting of lists in lists.
const LIST_DEPTH_MAX: usize = 16;

/// Largest sum of annotation keys and values (`TotalAnnotationSizeLimitB`).
const ANNOTATION_BYTES_MAX: usize = 256 * 1024;

const METADATA_FIELDS: &[&str] = &[
    "annotations",
    "clusterName",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "initializers",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// An object's `metadata`, decoded.
pub struct Metadata {
    pub name: String,
    pub namespace: String,
    pub labels: Labels,
    pub annotations: Labels,
    /// Where the object starts.
    pub position: Position,
}

/// What an object says it is.
enum Identity<'n> {
    Object(Kind),
    /// With version and kind of items that do not name their own.
    List(Option<(&'n str, &'n str)>),
}

/// Decodes the objects of one document.
pub fn document(reader: &mut Reader, root: &Node, objects: &mut Objects) {
    object(reader, root, None, 0, objects);
}

fn object(
    reader: &mut Reader,
    node: &Node,
    list: Option<(&str, &str)>,
    depth: usize,
    objects: &mut Objects,
) {
    reader.object.clear();
    let Some(fields) = node.as_mapping() else {
        let message = format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            node.type_name()
        );
        return reader.error(id::WRONG_TYPE, node.position, &Path::ROOT, message);
    };
    match identify(reader, node, list) {
        Some(Identity::Object(kind)) => decode_kind(reader, kind, node, fields, objects),
        Some(Identity::List(list)) => decode_list(reader, list, fields, depth, objects),
        None => {}
    }
}

fn decode_kind(
    reader: &mut Reader,
    kind: Kind,
    node: &Node,
    fields: &[Field],
    objects: &mut Objects,
) {
    let mark = reader.mark();
    let metadata = metadata(reader, kind, node);
    // A policy's unknown fields are all reported, by its own decoder.
    if !kind.is_policy() {
        known::report_misspelt(reader, fields, &Path::ROOT, &known::OBJECT);
    }
    match kind {
        Kind::Pod => {
            let pod = core::pod(reader, fields, metadata);
            keep(reader, mark, &mut objects.pods, pod);
        }
        Kind::Namespace => {
            let namespace = core::namespace(reader, fields, metadata);
            keep(reader, mark, &mut objects.namespaces, namespace);
        }
        Kind::Node => {
            let node = core::node(reader, fields, metadata);
            keep(reader, mark, &mut objects.nodes, node);
        }
        Kind::Service => {
            let service = service::decode(reader, fields, metadata);
            keep(reader, mark, &mut objects.services, service);
        }
        Kind::NetworkPolicy => {
            multi_network::network_policy(reader, mark, fields, metadata, &mut objects.policies);
        }
        Kind::MultiNetworkPolicy => {
            let policy = multi_network::policy(reader, fields, metadata);
            let policies = &mut objects.policies.multi_network_policies;
            keep(reader, mark, policies, policy);
        }
        Kind::NetworkAttachmentDefinition => {
            let network = multi_network::definition(reader, fields, metadata);
            keep(reader, mark, &mut objects.networks, network);
        }
        Kind::Tier(kind) => {
            let policy = tiers::decode(reader, kind, fields, metadata);
            keep(reader, mark, &mut objects.policies.tiers, policy);
        }
        Kind::SecurityGroup => {
            let group = security_group::decode(reader, fields, metadata);
            keep(reader, mark, &mut objects.policies.security_groups, group);
        }
        Kind::Vip => {
            let vip = kube_ovn::vip(reader, fields, metadata);
            keep(reader, mark, &mut objects.vips, vip);
        }
        Kind::Subnet => {
            let subnet = kube_ovn::subnet(reader, fields, metadata);
            keep(reader, mark, &mut objects.subnets, subnet);
        }
        _ => decode_egress(reader, kind, mark, fields, metadata, &mut objects.policies),
    }
}

/// The kinds that are about what leaves the cluster, and about OpenShift's network.
fn decode_egress(
    reader: &mut Reader,
    kind: Kind,
    mark: usize,
    fields: &[Field],
    metadata: Metadata,
    policies: &mut Policies,
) {
    let openshift = &mut policies.openshift;
    match kind {
        Kind::EgressNetworkPolicy => {
            let policy = openshift::egress_network_policy(reader, fields, metadata);
            keep(reader, mark, &mut openshift.egress_network_policies, policy);
        }
        Kind::NetNamespace => {
            let net_namespace = openshift::net_namespace(reader, fields, metadata);
            keep(reader, mark, &mut openshift.net_namespaces, net_namespace);
        }
        Kind::HostSubnet => {
            let host_subnet = openshift::host_subnet(reader, fields, metadata);
            keep(reader, mark, &mut openshift.host_subnets, host_subnet);
        }
        Kind::ClusterNetwork => {
            let network = cluster_network::decode(reader, fields, metadata);
            keep(reader, mark, &mut openshift.cluster_networks, network);
        }
        Kind::EgressFirewall => {
            let firewall = egress_firewall::decode(reader, fields, metadata);
            keep(reader, mark, &mut policies.egress_firewalls, firewall);
        }
        Kind::AdminOutputRules => {
            let list = admin_output::decode(reader, fields, metadata);
            keep(reader, mark, &mut policies.admin_output_rules, list);
        }
        _ => {}
    }
}

pub(super) fn keep<T>(reader: &Reader, mark: usize, list: &mut Vec<T>, object: T) {
    if !reader.failed_since(mark) {
        list.push(object);
    }
}

/// Finds out what an object is from `apiVersion` and `kind`; items of a typed list may leave both
/// out.
fn identify<'n>(
    reader: &mut Reader,
    node: &'n Node,
    list: Option<(&'n str, &'n str)>,
) -> Option<Identity<'n>> {
    let kind = type_text(reader, node, "kind", list.map(|(_, kind)| kind));
    if let Some(kind) = kind {
        reader.object = describe(kind, node);
    }
    let version = type_text(reader, node, "apiVersion", list.map(|(version, _)| version));
    let (kind, version) = (kind?, version?);
    let listed = kind.strip_suffix("List").unwrap_or(kind);
    let known = Kind::ALL.into_iter().find(|known| known.name() == listed);
    match known {
        Some(known) if known.versions().contains(&version) => {
            return Some(if listed == kind {
                Identity::Object(known)
            } else {
                Identity::List(Some((version, listed)))
            });
        }
        None if (kind, version) == ("List", "v1") => return Some(Identity::List(None)),
        _ => {}
    }
    let own_group = known.is_some_and(|known| known.is_of_group(version));
    let foreign = !own_group && may_own_same_kind(version);
    let wrong = if kind == "List" || known.is_some() && !foreign {
        Some("apiVersion")
    } else if version == "networking.k8s.io/v1" && !NETWORKING_KINDS.contains(&listed)
        || is_misspelt_kind(kind, version)
    {
        Some("kind")
    } else {
        None
    };
    let position = |field| node.get(field).map_or(node.position, |node| node.position);
    if let Some(field) = wrong {
        let path = Path::ROOT.field(field);
        let message = format!("no matches for kind \"{kind}\" in version \"{version}\"");
        reader.error(id::NO_MATCH, position(field), &path, message);
        return None;
    }
    let path = Path::ROOT.field("kind");
    let message = format!("kind \"{kind}\" in version \"{version}\" is not read: no effect");
    reader.warn(id::UNKNOWN_KIND, position("kind"), &path, message);
    None
}

fn type_text<'n>(
    reader: &mut Reader,
    node: &'n Node,
    field: &'static str,
    default: Option<&'n str>,
) -> Option<&'n str> {
    let path = Path::ROOT.field(field);
    if let Some(value) = node.get(field) {
        let mark = reader.mark();
        let text = reader.string(value, &path, "TypeMeta", "string");
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            return Some(text);
        }
        if reader.failed_since(mark) {
            return None;
        }
    }
    if default.is_none() {
        let detail = match field {
            "kind" => "Object 'Kind' is missing",
            _ => "Object 'apiVersion' is missing",
        };
        reader.required(node.position, &path, detail);
    }
    default
}

/// `kind/namespace/name`, `kind/name` without namespace, as far as they can be read.
fn describe(kind: &str, node: &Node) -> String {
    let metadata = node.get("metadata");
    let text = |field| metadata.and_then(|metadata| metadata.get(field)?.as_str());
    let name = text("name").unwrap_or("?");
    let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
    let namespace = match known {
        Some(kind) if !kind.is_namespaced() => None,
        Some(_) => Some(
            text("namespace")
                .filter(|text| !text.is_empty())
                .unwrap_or(DEFAULT_NAMESPACE),
        ),
        None => text("namespace"),
    };
    match (namespace, metadata) {
        (_, None) => kind.to_owned(),
        (Some(namespace), _) => format!("{kind}/{namespace}/{name}"),
        (None, _) => format!("{kind}/{name}"),
    }
}

fn decode_list(
    reader: &mut Reader,
    list: Option<(&str, &str)>,
    fields: &[Field],
    depth: usize,
    objects: &mut Objects,
) {
    let known = ["apiVersion", "items", "kind", "metadata"];
    let path = Path::ROOT.field("items");
    for field in fields {
        if !known.contains(&&*field.key) {
            reader.unknown_field(Severity::Error, field, &Path::ROOT, &known);
        }
    }
    for field in fields.iter().filter(|field| &*field.key == "items") {
        if depth == LIST_DEPTH_MAX {
            let message = format!("lists nested more than {LIST_DEPTH_MAX} deep");
            return reader.error(id::WRONG_TYPE, field.key_position, &path, message);
        }
        for item in reader.sequence(&field.node, &path, "List", "[]runtime.RawExtension") {
            object(reader, item, list, depth + 1, objects);
        }
    }
}

fn metadata(reader: &mut Reader, kind: Kind, object: &Node) -> Metadata {
    let mut metadata = Metadata {
        name: String::new(),
        namespace: String::new(),
        labels: Labels::new(),
        annotations: Labels::new(),
        position: object.position,
    };
    let path = Path::ROOT.field("metadata");
    let node = object.get("metadata");
    let owner = kind.name();
    let mut fields = &[][..];
    if let Some(node) = node {
        match reader.mapping(node, &path, owner, "v1.ObjectMeta") {
            Some(found) => fields = found,
            // Name and namespace are unknown, not missing.
            None => return metadata,
        }
    }
    let mut names = Names::default();
    for field in fields {
        metadata_field(reader, kind, field, &path, &mut metadata, &mut names);
    }
    let position = node.map_or(object.position, |node| node.position);
    check_names(reader, kind, &path, position, &metadata, &names);
    if kind.is_namespaced() && metadata.namespace.is_empty() {
        metadata.namespace = DEFAULT_NAMESPACE.to_owned();
    }
    metadata
}

/// Nodes of the fields that name the object, if they are strings.
#[derive(Default)]
struct Names<'n> {
    name: Option<&'n Node>,
    generate_name: Option<&'n Node>,
    namespace: Option<&'n Node>,
    /// One of them has the wrong type, which is reported already.
    broken: bool,
}

fn metadata_field<'n>(
    reader: &mut Reader,
    kind: Kind,
    field: &'n Field,
    parent: &Path,
    metadata: &mut Metadata,
    names: &mut Names<'n>,
) {
    let path = parent.field(&field.key);
    let (node, owner) = (&field.node, "ObjectMeta");
    match &*field.key {
        "name" | "generateName" | "namespace" => {
            let mark = reader.mark();
            let text = reader
                .string(node, &path, owner, "string")
                .unwrap_or_default();
            names.broken |= reader.failed_since(mark);
            let (slot, copy) = match &*field.key {
                "name" => (&mut names.name, Some(&mut metadata.name)),
                "namespace" => (&mut names.namespace, Some(&mut metadata.namespace)),
                _ => (&mut names.generate_name, None),
            };
            if !text.is_empty() {
                *slot = Some(node);
                copy.into_iter().for_each(|copy| text.clone_into(copy));
            }
        }
        "labels" => {
            metadata.labels = reader.labels(node, &path, owner);
            reader.check_labels(node, &path);
        }
        "annotations" => {
            metadata.annotations = reader.labels(node, &path, owner);
            check_annotations(reader, node, &path);
        }
        "uid" | "resourceVersion" | "selfLink" | "clusterName" | "creationTimestamp"
        | "deletionTimestamp" => {
            let wanted = match &*field.key {
                "uid" => "types.UID",
                "creationTimestamp" | "deletionTimestamp" => "v1.Time",
                _ => "string",
            };
            reader.string(node, &path, owner, wanted);
        }
        "generation" | "deletionGracePeriodSeconds" => {
            let value = reader.integer(node, &path, owner);
            if let Some(value) = value.filter(|value| *value < 0) {
                let detail = "must be greater than or equal to 0";
                reader.invalid(node.position, &path, value, detail);
            }
        }
        "finalizers" | "ownerReferences" | "managedFields" => {
            let wanted = match &*field.key {
                "finalizers" => "[]string",
                "ownerReferences" => "[]v1.OwnerReference",
                _ => "[]v1.ManagedFieldsEntry",
            };
            reader.sequence(node, &path, owner, wanted);
        }
        "initializers" => {}
        _ => {
            let severity = kind.severity_of_unknown_metadata(&field.key);
            reader.unknown_field(severity, field, parent, METADATA_FIELDS);
        }
    }
}

fn check_names(
    reader: &mut Reader,
    kind: Kind,
    path: &Path,
    position: Position,
    metadata: &Metadata,
    names: &Names,
) {
    let name_problems = match kind {
        Kind::Namespace | Kind::Service => words::dns_label_problems,
        _ => words::dns_subdomain_problems,
    };
    match (names.name, names.generate_name) {
        (Some(node), _) => {
            for problem in name_problems(&metadata.name) {
                reader.invalid_text(node.position, &path.field("name"), &metadata.name, &problem);
            }
        }
        (None, Some(node)) => {
            // No server generates a name here, and counters and messages need one that stays.
            let detail = "a name is required in a file; generateName is not supported";
            reader.required(node.position, &path.field("name"), detail);
        }
        (None, None) if !names.broken => {
            reader.required(
                position,
                &path.field("name"),
                "name or generateName is required",
            );
        }
        (None, None) => {}
    }
    let namespace_path = path.field("namespace");
    match names.namespace {
        Some(node) if kind.is_namespaced() => {
            for problem in words::dns_label_problems(&metadata.namespace) {
                let (position, path) = (node.position, &namespace_path);
                reader.invalid_text(position, path, &metadata.namespace, &problem);
            }
        }
        Some(node) => reader.forbidden(node.position, &namespace_path, "not allowed on this type"),
        None => {}
    }
}

/// `ValidateAnnotations`: keys as label keys but for case, and not too much in all.
fn check_annotations(reader: &mut Reader, node: &Node, path: &Path) {
    let fields = node.as_mapping().unwrap_or_default();
    let mut bytes = 0;
    for field in fields {
        for problem in words::label_key_problems(&field.key.to_lowercase()) {
            reader.invalid_text(field.key_position, path, &field.key, &problem);
        }
        bytes += field.key.len() + field.node.as_str().unwrap_or_default().len();
    }
    if bytes > ANNOTATION_BYTES_MAX {
        let message = format!("Too long: may not be more than {ANNOTATION_BYTES_MAX} bytes");
        reader.error(id::TOO_LONG, node.position, path, message);
    }
}
