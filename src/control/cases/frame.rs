//! The keys of a probe that are about its frame.

use std::fmt::Display;
use std::str::FromStr;

use super::fields::{Fields, Reader, described};
use crate::control::probe::{Arp, ArpOperation, Discovery, Mac, ProbeProtocol};
use crate::policy::document::Node;
use crate::wire::protocol;

const ARP_KEYS: &[&str] = &["op", "sha", "spa", "tpa"];
const DISCOVERY_KEYS: &[&str] = &["target", "lladdr"];

/// What a probe says of its frame.
#[derive(Default)]
pub(super) struct FrameFields {
    pub source_mac: Option<Mac>,
    pub destination_mac: Option<Mac>,
    pub vlan: Option<u16>,
    pub arp: Option<Arp>,
    pub nd: Option<Discovery>,
}

/// Takes the keys.
pub(super) fn frame<'d>(
    reader: &mut Reader<'d>,
    fields: &mut Fields<'d>,
    protocol: Option<ProbeProtocol>,
) -> FrameFields {
    let mut frame = FrameFields::default();
    frame.source_mac = fields.take("src_mac").and_then(|mac| reader.parsed(mac));
    frame.destination_mac = fields.take("dst_mac").and_then(|mac| reader.parsed(mac));
    let vlan = fields.take("vlan");
    frame.vlan = vlan.and_then(|vlan| reader.number(vlan, VLAN_MAX));
    if let Some((node, path)) = fields.take("arp") {
        if protocol.is_some_and(|protocol| protocol != ProbeProtocol::Arp) {
            reader.bad_value(node, &path, "only proto arp has one");
        }
        frame.arp = arp(reader, node, &path);
    }
    if let Some((node, path)) = fields.take("nd") {
        let icmpv6 = [
            ProbeProtocol::Icmp,
            ProbeProtocol::Icmpv6,
            ProbeProtocol::Number(protocol::ICMPV6),
        ];
        if protocol.is_some_and(|protocol| !icmpv6.contains(&protocol)) {
            reader.bad_value(node, &path, "only proto icmpv6 has one");
        }
        frame.nd = discovery(reader, node, &path);
    }
    frame
}

/// Largest VLAN id a tag has room for.
const VLAN_MAX: u16 = 4095;

fn arp<'d>(reader: &mut Reader<'d>, node: &'d Node, path: &str) -> Option<Arp> {
    let mut fields = reader.fields(node, path)?;
    let op: Option<ArpOperation> = fields.take("op").and_then(|op| reader.parsed(op));
    let arp = Arp {
        op: op.unwrap_or_default(),
        sha: fields.take("sha").and_then(|sha| reader.parsed(sha)),
        spa: address(reader, &mut fields, "spa"),
        tpa: address(reader, &mut fields, "tpa"),
    };
    reader.finish(fields, ARP_KEYS);
    Some(arp)
}

fn discovery<'d>(reader: &mut Reader<'d>, node: &'d Node, path: &str) -> Option<Discovery> {
    let mut fields = reader.fields(node, path)?;
    let discovery = Discovery {
        target: address(reader, &mut fields, "target"),
        lladdr: fields.take("lladdr").and_then(|mac| reader.parsed(mac)),
    };
    reader.finish(fields, DISCOVERY_KEYS);
    Some(discovery)
}

fn address<'d, T>(reader: &mut Reader<'d>, fields: &mut Fields<'d>, key: &str) -> Option<T>
where
    T: FromStr<Err: Display>,
{
    let (node, path) = fields.take(key)?;
    let parsed = node.as_str().and_then(|text| text.parse().ok());
    if parsed.is_none() {
        let wanted = match key {
            "target" => "IPv6",
            _ => "IPv4",
        };
        let message = format!("must be an {wanted} address, found {}", described(node));
        reader.bad_value(node, &path, message);
    }
    parsed
}
