//! EgressNetworkPolicy, NetNamespace and HostSubnet: decoding and validation
//! (openshift/origin `pkg/network/apis/network/validation`, openshift/api `network/v1`).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::super::compatibility::EgressGeneration;
use super::super::document::{Field, Node, Position};
use super::super::finding::id;
use super::super::openshift::{
    Destination, EgressNetworkPolicy, EgressRule, GLOBAL, HostSubnet, NetNamespace, RuleType,
    VNID_MAX, VNID_MIN,
};
use super::meta::Metadata;
use super::{Path, Reader, Severity, words};

/// Most rules an EgressNetworkPolicy of OpenShift 3.x has.
const POLICY_RULES_MAX: usize = 50;

/// What the schema of OpenShift 4.x demands of `cidrSelector`.
const BLOCK_PATTERN: &str = "^(([0-9]|[0-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])\\.){3}\
                             ([0-9]|[0-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])/\
                             ([0-9]|[12][0-9]|3[0-2])$";

/// What the schema of OpenShift 4.x demands of `dnsName`.
const NAME_PATTERN: &str = "^([A-Za-z0-9-]+\\.)*[A-Za-z0-9-]+\\.?$";

/// Annotation of a HostSubnet whose `subnet` a master still has to choose.
const ASSIGN_SUBNET_ANNOTATION: &str = "pod.network.openshift.io/assign-subnet";

/// Decodes an EgressNetworkPolicy. When it has errors the result is incomplete.
pub fn egress_network_policy(
    reader: &mut Reader,
    fields: &[Field],
    metadata: Metadata,
) -> EgressNetworkPolicy {
    let mut policy = EgressNetworkPolicy {
        namespace: metadata.namespace,
        name: metadata.name,
        rules: Vec::new(),
        source: reader.source(metadata.position),
    };
    let path = Path::ROOT.field("spec");
    let Some(spec) = spec(reader, fields, "EgressNetworkPolicy") else {
        return policy;
    };
    for field in spec {
        let child = path.field(&field.key);
        match &*field.key {
            "egress" => {
                let wanted = "[]v1.EgressNetworkPolicyRule";
                let items = reader.sequence(&field.node, &child, SPEC, wanted);
                for (index, item) in items.iter().enumerate() {
                    policy.rules.extend(rule(reader, item, &child.index(index)));
                }
                let third = reader.compatibility.enp_generation == EgressGeneration::Three;
                if third && items.len() > POLICY_RULES_MAX {
                    let detail = format!("too many egress rules (max {POLICY_RULES_MAX})");
                    reader.invalid_text(field.node.position, &child, "", &detail);
                }
            }
            _ => reader.unknown_field(Severity::Error, field, &path, &["egress"]),
        }
    }
    policy
}

const SPEC: &str = "EgressNetworkPolicySpec";

/// The fields of `spec`; `None` where it is missing or no object.
pub fn spec<'n>(reader: &mut Reader, fields: &'n [Field], kind: &str) -> Option<&'n [Field]> {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let mut spec = None;
    for field in fields {
        match &*field.key {
            "spec" => {
                let path = Path::ROOT.field("spec");
                let wanted = format!("v1.{kind}Spec");
                spec = reader.mapping(&field.node, &path, kind, &wanted);
            }
            key if known.contains(&key) => {}
            _ => reader.unknown_field(Severity::Error, field, &Path::ROOT, &known),
        }
    }
    spec
}

/// `Allow` or `Deny`, and nothing that an unanchored pattern would also let pass.
pub fn rule_type(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Option<RuleType> {
    let mark = reader.mark();
    let wanted = format!("v1.{owner}Type");
    match reader
        .string(node, path, owner, &wanted)
        .unwrap_or_default()
    {
        "Allow" => Some(RuleType::Allow),
        "Deny" => Some(RuleType::Deny),
        other if !reader.failed_since(mark) => {
            reader.invalid_text(node.position, path, other, "invalid policy type");
            None
        }
        _ => None,
    }
}

fn rule(reader: &mut Reader, node: &Node, path: &Path) -> Option<EgressRule> {
    let owner = "EgressNetworkPolicyRule";
    let fields = reader.mapping(node, path, SPEC, "v1.EgressNetworkPolicyRule")?;
    let mut found_type = None;
    let mut has_type = false;
    let mut to = None;
    for field in fields {
        let child = path.field(&field.key);
        match &*field.key {
            "type" => {
                has_type = true;
                found_type = rule_type(reader, &field.node, &child, owner);
            }
            "to" => to = Some(&field.node),
            _ => reader.unknown_field(Severity::Error, field, path, &["to", "type"]),
        }
    }
    if !has_type {
        let detail = "invalid policy type";
        reader.invalid_text(node.position, &path.field("type"), "", detail);
    }
    let to = destination(reader, to, node.position, &path.field("to"));
    Some(EgressRule {
        position: node.position,
        rule_type: found_type?,
        to: to?,
    })
}

fn destination(
    reader: &mut Reader,
    node: Option<&Node>,
    position: Position,
    path: &Path,
) -> Option<Destination> {
    let owner = "EgressNetworkPolicyPeer";
    let mark = reader.mark();
    let mut block = ("", position);
    let mut name = ("", position);
    if let Some(node) = node {
        let fields = reader.mapping(
            node,
            path,
            "EgressNetworkPolicyRule",
            "v1.EgressNetworkPolicyPeer",
        );
        for field in fields.unwrap_or_default() {
            let child = path.field(&field.key);
            let slot = match &*field.key {
                "cidrSelector" => &mut block,
                "dnsName" => &mut name,
                _ => {
                    let known = ["cidrSelector", "dnsName"];
                    reader.unknown_field(Severity::Error, field, path, &known);
                    continue;
                }
            };
            let text = reader.string(&field.node, &child, owner, "string");
            *slot = (text.unwrap_or_default(), field.node.position);
        }
    }
    if reader.failed_since(mark) {
        return None;
    }
    let detail = match (block.0.is_empty(), name.0.is_empty()) {
        (true, true) => Some("must specify cidrSelector or dnsName"),
        (false, false) => Some("either specify cidrSelector or dnsName but not both"),
        _ => None,
    };
    if let Some(detail) = detail {
        let value = format!(
            "network.EgressNetworkPolicyPeer{{CIDRSelector:{}, DNSName:{}}}",
            words::quote(block.0),
            words::quote(name.0)
        );
        let position = node.map_or(position, |node| node.position);
        reader.invalid(position, path, value, detail);
    }
    let mut destination = None;
    if !block.0.is_empty() {
        let child = path.field("cidrSelector");
        destination = selector_block(reader, block, &child).map(Destination::Block);
    }
    if !name.0.is_empty() {
        dns_name(reader, name, &path.field("dnsName"));
        destination = destination.or(Some(Destination::Name(name.0.to_owned())));
    }
    destination
}

fn selector_block(
    reader: &mut Reader,
    (text, position): (&str, Position),
    path: &Path,
) -> Option<IpNet> {
    if reader.compatibility.enp_generation == EgressGeneration::Three {
        return match canonical_block(text) {
            Ok(block) => Some(block),
            Err(problem) => {
                reader.invalid_text(position, path, text, &problem);
                None
            }
        };
    }
    match words::cidr(text) {
        Ok(block @ IpNet::V4(_)) => {
            if block.addr() != block.network() {
                let message = format!("host bits are set: {text} means {}", block.trunc());
                reader.warn(id::CIDR_HOST_BITS, position, path, message);
            }
            Some(block.trunc())
        }
        _ => {
            let detail = format!("{path} in body should match '{BLOCK_PATTERN}'");
            reader.invalid_text(position, path, text, &detail);
            None
        }
    }
}

fn dns_name(reader: &mut Reader, (text, position): (&str, Position), path: &Path) {
    if reader.compatibility.enp_generation == EgressGeneration::Three {
        if !words::dns_subdomain_problems(text).is_empty() {
            let detail = "must conform to DNS 952 subdomain conventions";
            reader.invalid_text(position, path, text, detail);
        }
    } else if !is_schema_name(text) {
        let detail = format!("{path} in body should match '{NAME_PATTERN}'");
        reader.invalid_text(position, path, text, &detail);
    }
}

/// Labels of letters, digits and hyphens, of either case, perhaps with a dot at the end.
pub fn is_schema_name(text: &str) -> bool {
    let label = |label: &str| {
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(byte)
    };
    text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// `ParseCIDRMask`: a block without host bits, or what is wrong with it.
pub fn canonical_block(text: &str) -> Result<IpNet, String> {
    let block = words::cidr(text).map_err(|_| format!("invalid CIDR address: {text}"))?;
    if block.addr() == block.network() {
        return Ok(block);
    }
    Err(format!(
        "CIDR network specification \"{text}\" is not in canonical form (should be {} or {}/{}?)",
        block.trunc(),
        block.addr(),
        block.max_prefix_len()
    ))
}

pub fn canonical_v4_block(text: &str) -> Result<IpNet, String> {
    match canonical_block(text)? {
        block @ IpNet::V4(_) => Ok(block),
        IpNet::V6(_) => Err("must be an IPv4 network".into()),
    }
}

fn v4_address(text: &str) -> Result<Ipv4Addr, &'static str> {
    match text.parse() {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err("must be an IPv4 address"),
        Err(_) => Err("invalid IP address"),
    }
}

/// The text of a field; empty where it is null.
pub fn text<'n>(reader: &mut Reader, field: &'n Field, owner: &str) -> &'n str {
    let path = Path::ROOT.field(&field.key);
    let text = reader.string(&field.node, &path, owner, "string");
    text.unwrap_or_default()
}

/// A `uint32`; `None` where it is none.
pub fn unsigned(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> Option<u32> {
    match reader.integer(node, path, owner)? {
        negative if negative < 0 => {
            reader.wrong_type(node, path, owner, "uint32");
            None
        }
        number => Some(number as u32),
    }
}

/// A field that must say the same as `metadata.name`.
fn same_as_name(reader: &mut Reader, key: &str, found: (&str, Position), name: &str) {
    let (text, position) = found;
    if text != name {
        let detail = format!("must be the same as metadata.name: {}", words::quote(name));
        reader.invalid_text(position, &Path::ROOT.field(key), text, &detail);
    }
}

fn v4_addresses(reader: &mut Reader, field: &Field, owner: &str) -> Vec<Ipv4Addr> {
    let path = Path::ROOT.field(&field.key);
    let mut addresses = Vec::new();
    let items = reader.sequence(&field.node, &path, owner, "[]string");
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let mark = reader.mark();
        let text = reader
            .string(item, &path, owner, "string")
            .unwrap_or_default();
        if reader.failed_since(mark) {
            continue;
        }
        match v4_address(text) {
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) => addresses.push(address),
            Err(problem) => reader.invalid_text(item.position, &path, text, problem),
        }
    }
    addresses
}

/// Decodes a NetNamespace. When it has errors the result is incomplete.
pub fn net_namespace(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> NetNamespace {
    let owner = "NetNamespace";
    let known = [
        "apiVersion",
        "egressIPs",
        "kind",
        "metadata",
        "netid",
        "netname",
    ];
    let mut net_name = ("", metadata.position);
    let mut vnid = GLOBAL;
    let mut egress_addresses = Vec::new();
    for field in fields {
        let path = Path::ROOT.field(&field.key);
        match &*field.key {
            "netname" => net_name = (text(reader, field, owner), field.node.position),
            "netid" => vnid = net_id(reader, &field.node, &path, owner),
            "egressIPs" => egress_addresses = v4_addresses(reader, field, owner),
            key if known.contains(&key) => {}
            _ => reader.unknown_field(Severity::Error, field, &Path::ROOT, &known),
        }
    }
    same_as_name(reader, "netname", net_name, &metadata.name);
    NetNamespace {
        name: metadata.name,
        vnid,
        egress_addresses,
        annotations: metadata.annotations,
        source: reader.source(metadata.position),
    }
}

fn net_id(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> u32 {
    let vnid = unsigned(reader, node, path, owner).unwrap_or(GLOBAL);
    let detail = match vnid {
        GLOBAL | VNID_MIN..=VNID_MAX => return vnid,
        ..VNID_MIN => format!("VNID must be greater than or equal to {VNID_MIN}"),
        _ => format!("VNID must be less than or equal to {VNID_MAX}"),
    };
    reader.invalid(node.position, path, vnid, &detail);
    GLOBAL
}

/// Decodes a HostSubnet. When it has errors the result is incomplete.
pub fn host_subnet(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> HostSubnet {
    let owner = "HostSubnet";
    let known = [
        "apiVersion",
        "egressCIDRs",
        "egressIPs",
        "host",
        "hostIP",
        "kind",
        "metadata",
        "subnet",
    ];
    let at = metadata.position;
    let (mut host, mut host_ip, mut subnet) = (("", at), ("", at), ("", at));
    let mut egress_addresses = Vec::new();
    let mut egress_blocks = Vec::new();
    for field in fields {
        let position = field.node.position;
        match &*field.key {
            "host" => host = (text(reader, field, owner), position),
            "hostIP" => host_ip = (text(reader, field, owner), position),
            "subnet" => subnet = (text(reader, field, owner), position),
            "egressIPs" => egress_addresses = v4_addresses(reader, field, owner),
            "egressCIDRs" => egress_blocks = v4_blocks(reader, field, owner),
            key if known.contains(&key) => {}
            _ => reader.unknown_field(Severity::Error, field, &Path::ROOT, &known),
        }
    }
    same_as_name(reader, "host", host, &metadata.name);
    let path = Path::ROOT.field("subnet");
    let to_be_chosen = metadata.annotations.contains_key(ASSIGN_SUBNET_ANNOTATION);
    let subnet = match subnet {
        ("", _) if to_be_chosen => None,
        ("", position) => {
            reader.invalid_text(position, &path, "", "field cannot be empty");
            None
        }
        (text, position) => checked_v4_block(reader, text, position, &path),
    };
    let host_address = host_ip.0.parse().unwrap_or_else(|_| {
        let path = Path::ROOT.field("hostIP");
        reader.invalid_text(host_ip.1, &path, host_ip.0, "invalid IP address");
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    });
    HostSubnet {
        name: metadata.name,
        host_address,
        subnet,
        egress_addresses,
        egress_blocks,
        source: reader.source(metadata.position),
    }
}

fn checked_v4_block(
    reader: &mut Reader,
    text: &str,
    position: Position,
    path: &Path,
) -> Option<IpNet> {
    let block = canonical_v4_block(text);
    if let Err(problem) = &block {
        reader.invalid_text(position, path, text, problem);
    }
    block.ok()
}

fn v4_blocks(reader: &mut Reader, field: &Field, owner: &str) -> Vec<IpNet> {
    let path = Path::ROOT.field(&field.key);
    let mut blocks = Vec::new();
    let items = reader.sequence(&field.node, &path, owner, "[]string");
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        if let Some(text) = reader.string(item, &path, owner, "string") {
            blocks.extend(checked_v4_block(reader, text, item.position, &path));
        }
    }
    blocks
}
