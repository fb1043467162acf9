//! ClusterNetwork: decoding and `ValidateClusterNetwork` (openshift/origin
//! `pkg/network/apis/network/validation`).
//!
//! What no policy needs may be left out here: whoever wants to say which plugin is live need not
//! number the bits of nodes' subnets. What is written must be right.

use ipnet::IpNet;

use super::super::document::{Field, Node, Position};
use super::super::finding::id;
use super::super::openshift::{CLUSTER_NETWORK_NAME, ClusterNetwork};
use super::meta::Metadata;
use super::openshift::{canonical_v4_block, text, unsigned};
use super::{Path, Reader, Severity, words};

/// The fields before they are checked against each other.
struct Fields<'n> {
    network: (&'n str, Position),
    length: (u32, Position),
    service: (&'n str, Position),
    entries: Vec<Entry<'n>>,
}

/// One of `clusterNetworks`.
struct Entry<'n> {
    block: (&'n str, Position),
    length: (u32, Position),
}

/// Decodes a ClusterNetwork. When it has errors the result is incomplete.
pub fn decode(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> ClusterNetwork {
    let owner = "ClusterNetwork";
    let known = [
        "apiVersion",
        "clusterNetworks",
        "hostsubnetlength",
        "kind",
        "metadata",
        "mtu",
        "network",
        "pluginName",
        "serviceNetwork",
        "vxlanPort",
    ];
    let at = metadata.position;
    let mut found = Fields {
        network: ("", at),
        length: (0, at),
        service: ("", at),
        entries: Vec::new(),
    };
    let mut plugin_name = "";
    for field in fields {
        let path = Path::ROOT.field(&field.key);
        let position = field.node.position;
        match &*field.key {
            "network" => found.network = (text(reader, field, owner), position),
            "serviceNetwork" => found.service = (text(reader, field, owner), position),
            "pluginName" => plugin_name = text(reader, field, owner),
            "hostsubnetlength" => {
                let length = unsigned(reader, &field.node, &path, owner);
                found.length = (length.unwrap_or(0), position);
            }
            "clusterNetworks" => found.entries = entries(reader, &field.node, &path),
            "mtu" => {
                unsigned(reader, &field.node, &path, owner);
            }
            "vxlanPort" => vxlan_port(reader, &field.node, &path, owner),
            key if known.contains(&key) => {}
            _ => reader.unknown_field(Severity::Error, field, &Path::ROOT, &known),
        }
    }
    let (pod_blocks, service_block) = check(reader, &metadata.name, &found);
    ClusterNetwork {
        name: metadata.name,
        pod_blocks,
        service_block,
        plugin_name: plugin_name.to_owned(),
        source: reader.source(metadata.position),
    }
}

fn vxlan_port(reader: &mut Reader, node: &Node, path: &Path, owner: &str) {
    let port = reader.integer(node, path, owner);
    if let Some(Err(problem)) = port.map(words::port_number) {
        reader.invalid(node.position, path, port.unwrap_or_default(), problem);
    }
}

fn entries<'n>(reader: &mut Reader, node: &'n Node, path: &Path) -> Vec<Entry<'n>> {
    let wanted = "[]v1.ClusterNetworkEntry";
    let items = reader.sequence(node, path, "ClusterNetwork", wanted);
    let mut entries = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let owner = "ClusterNetworkEntry";
        let fields = reader.mapping(item, &path, "ClusterNetwork", "v1.ClusterNetworkEntry");
        let mut entry = Entry {
            block: ("", item.position),
            length: (0, item.position),
        };
        for field in fields.unwrap_or_default() {
            let child = path.field(&field.key);
            let position = field.node.position;
            match &*field.key {
                // Messages of the server say `cidr`, and its decoder takes either.
                "CIDR" | "cidr" => {
                    let text = reader.string(&field.node, &child, owner, "string");
                    entry.block = (text.unwrap_or_default(), position);
                }
                "hostSubnetLength" => {
                    let length = unsigned(reader, &field.node, &child, owner);
                    entry.length = (length.unwrap_or(0), position);
                }
                _ => {
                    let known = ["CIDR", "hostSubnetLength"];
                    reader.unknown_field(Severity::Error, field, &path, &known);
                }
            }
        }
        entries.push(entry);
    }
    entries
}

/// Blocks of pods, and the block of services.
fn check(reader: &mut Reader, name: &str, found: &Fields) -> (Vec<IpNet>, Option<IpNet>) {
    let service_path = Path::ROOT.field("serviceNetwork");
    let service = match found.service.0 {
        "" => None,
        _ => checked(reader, found.service, &service_path),
    };
    let network_path = Path::ROOT.field("network");
    let length_path = Path::ROOT.field("hostsubnetlength");
    if found.entries.is_empty() {
        let Some(block) = legacy_network(reader, found, &network_path, &length_path) else {
            return (Vec::new(), service);
        };
        if service.is_some_and(|service| overlap(service, block)) {
            let detail = "service network overlaps with cluster network";
            reader.invalid_text(found.service.1, &service_path, found.service.0, detail);
        }
        return (vec![block], service);
    }
    old_fields(reader, name, found, &network_path, &length_path);
    let list_path = Path::ROOT.field("clusterNetworks");
    let mut blocks: Vec<IpNet> = Vec::new();
    for (index, entry) in found.entries.iter().enumerate() {
        let path = list_path.index(index);
        let block_path = path.field("cidr");
        let Some(block) = checked(reader, entry.block, &block_path) else {
            continue;
        };
        let too_large = "subnet length is too large for clusterNetwork ";
        let path = path.field("hostSubnetLength");
        check_length(reader, entry.length, block, &path, too_large);
        for other in blocks.iter().filter(|other| overlap(**other, block)) {
            let detail = format!("cidr range overlaps with another cidr \"{other}\"");
            reader.invalid_text(entry.block.1, &block_path, entry.block.0, &detail);
        }
        if service.is_some_and(|service| overlap(service, block)) {
            let detail = format!("service network overlaps with cluster network cidr: {block}");
            reader.invalid_text(found.service.1, &service_path, found.service.0, &detail);
        }
        blocks.push(block);
    }
    (blocks, service)
}

/// `network` and `hostsubnetlength` where there are no `clusterNetworks`.
fn legacy_network(
    reader: &mut Reader,
    found: &Fields,
    network_path: &Path,
    length_path: &Path,
) -> Option<IpNet> {
    if found.network.0.is_empty() {
        let message = "no clusterNetworks and no network: only the addresses of the pods and \
                       services that are written are known to be in the cluster";
        let position = found.network.1;
        reader.warn(
            id::NO_CLUSTER_NETWORK,
            position,
            network_path,
            message.into(),
        );
        return None;
    }
    let block = checked(reader, found.network, network_path)?;
    let too_large = "subnet length is too large for cidr";
    check_length(reader, found.length, block, length_path, too_large);
    Some(block)
}

/// `network` and `hostsubnetlength` beside `clusterNetworks`: they must say the same.
fn old_fields(
    reader: &mut Reader,
    name: &str,
    found: &Fields,
    network_path: &Path,
    length_path: &Path,
) {
    let first = &found.entries[0];
    let same_network = ["", first.block.0].contains(&found.network.0);
    let same_length = [0, first.length.0].contains(&found.length.0);
    if name == CLUSTER_NETWORK_NAME {
        if !same_network {
            let detail = "network must be identical to clusterNetworks[0].cidr";
            reader.invalid_text(found.network.1, network_path, found.network.0, detail);
        }
        if !same_length {
            let detail =
                "hostsubnetlength must be identical to clusterNetworks[0].hostSubnetLength";
            reader.invalid(found.length.1, length_path, found.length.0, detail);
        }
    } else if !(same_network && same_length) {
        let path = Path::ROOT.field("clusterNetworks");
        let detail =
            "network and hostsubnetlength must be unset or identical to clusterNetworks[0]";
        let value = format!("{}/{}", first.block.0, first.length.0);
        reader.invalid(first.block.1, &path.index(0), value, detail);
    }
}

fn checked(reader: &mut Reader, found: (&str, Position), path: &Path) -> Option<IpNet> {
    let block = canonical_v4_block(found.0);
    if let Err(problem) = &block {
        reader.invalid_text(found.1, path, found.0, problem);
    }
    block.ok()
}

fn check_length(
    reader: &mut Reader,
    (length, position): (u32, Position),
    block: IpNet,
    path: &Path,
    too_large: &str,
) {
    if length > u32::from(block.max_prefix_len() - block.prefix_len()) {
        reader.invalid(position, path, length, too_large);
    } else if length == 1 {
        reader.invalid(position, path, length, "subnet length must be at least 2");
    }
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}
