//! Vip and Subnet of Kube-OVN: the fields asked about here, and no others.

use std::net::IpAddr;

use super::super::document::Field;
use super::super::finding::id;
use super::super::kube_ovn::{Subnet, Vip};
use super::meta::Metadata;
use super::{Path, Reader, core};

/// Decodes a Vip.
pub fn vip(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> Vip {
    let mut vip = Vip {
        name: metadata.name,
        namespace: String::new(),
        subnet: String::new(),
        addresses: Vec::new(),
        source: reader.source(metadata.position),
    };
    let mut wanted = Vec::new();
    for (part, owner) in [("spec", "VipSpec"), ("status", "VipStatus")] {
        for field in of_part(reader, fields, part, "Vip") {
            let parent = Path::ROOT.field(part);
            let path = parent.field(&field.key);
            match (part, &*field.key) {
                ("spec", "namespace") => vip.namespace = text(reader, field, &path, owner),
                ("spec", "subnet") => vip.subnet = text(reader, field, &path, owner),
                ("spec", "v4ip" | "v6ip") => {
                    wanted.extend(core::address(reader, &field.node, &path, owner));
                }
                ("status", "v4ip" | "v6ip") => {
                    let address = core::address(reader, &field.node, &path, owner);
                    vip.addresses.extend(address);
                }
                _ => {}
            }
        }
    }
    if vip.addresses.is_empty() {
        vip.addresses = wanted;
    }
    vip
}

/// Decodes a Subnet.
pub fn subnet(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> Subnet {
    let mut subnet = Subnet {
        name: metadata.name,
        gateways: Vec::new(),
        source: reader.source(metadata.position),
    };
    let parent = Path::ROOT.field("spec");
    for field in of_part(reader, fields, "spec", "Subnet") {
        let path = parent.field(&field.key);
        match &*field.key {
            "gateway" => {
                let text = text(reader, field, &path, "SubnetSpec");
                let gateways = text.split(',').map(str::trim);
                let gateways = gateways.filter(|gateway| !gateway.is_empty());
                for gateway in gateways {
                    match gateway.parse::<IpAddr>() {
                        Ok(gateway) => subnet.gateways.push(gateway),
                        Err(_) => {
                            let detail = "must be an IP address, or two with a comma between";
                            reader.invalid_text(field.node.position, &path, gateway, detail);
                        }
                    }
                }
            }
            "acls"
                if field
                    .node
                    .as_sequence()
                    .is_some_and(|acls| !acls.is_empty()) =>
            {
                let message = "no effect: access lists of subnets are not read".to_owned();
                reader.warn(id::UNREAD_FIELD, field.key_position, &path, message);
            }
            _ => {}
        }
    }
    subnet
}

/// The fields of `spec` or `status`.
fn of_part<'n>(reader: &mut Reader, fields: &'n [Field], part: &str, owner: &str) -> &'n [Field] {
    let Some(field) = fields.iter().find(|field| &*field.key == part) else {
        return &[];
    };
    let wanted = match part {
        "spec" => format!("v1.{owner}Spec"),
        _ => format!("v1.{owner}Status"),
    };
    let found = reader.mapping(&field.node, &Path::ROOT.field(part), owner, &wanted);
    found.unwrap_or_default()
}

fn text(reader: &mut Reader, field: &Field, path: &Path, owner: &str) -> String {
    let text = reader.string(&field.node, path, owner, "string");
    text.unwrap_or_default().to_owned()
}
