//! SecurityGroup: decoding, and what Kube-OVN's controller checks before it applies a group
//! (`validateSgRule`), in its words.

use ipnet::IpNet;

use super::super::Direction;
use super::super::compatibility::UnknownStrings;
use super::super::document::{Field, Node, Position};
use super::super::finding::id;
use super::super::security_group::{
    ALL_PORTS, GroupPolicy, GroupProtocol, GroupRule, Remote, SecurityGroup, rules_field,
};
use super::meta::Metadata;
use super::{Path, Reader, Severity, words};
use crate::wire::Family;

/// The strongest and weakest `spec.tier`.
const TIER_MAX: i32 = 1;

const RULE_FIELDS: &[&str] = &[
    "ipVersion",
    "localAddress",
    "policy",
    "portRangeMax",
    "portRangeMin",
    "priority",
    "protocol",
    "remoteAddress",
    "remoteSecurityGroup",
    "remoteType",
    "sourcePortRangeMax",
    "sourcePortRangeMin",
];

/// Decodes a group. When it has errors the result is incomplete.
pub fn decode(reader: &mut Reader, fields: &[Field], metadata: Metadata) -> SecurityGroup {
    let mut group = SecurityGroup {
        name: metadata.name,
        tier: 0,
        allow_same_group_traffic: false,
        ingress: Vec::new(),
        egress: Vec::new(),
        source: reader.source(metadata.position),
    };
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for field in fields {
        match &*field.key {
            "spec" => spec(reader, field, &mut group),
            key if known.contains(&key) => {}
            _ => reader.unknown_field(Severity::Error, field, &Path::ROOT, &known),
        }
    }
    group
}

fn spec(reader: &mut Reader, field: &Field, group: &mut SecurityGroup) {
    let path = Path::ROOT.field("spec");
    let owner = "SecurityGroupSpec";
    let wanted = "v1.SecurityGroupSpec";
    let fields = reader.mapping(&field.node, &path, "SecurityGroup", wanted);
    let fields = fields.unwrap_or_default();
    // The tier decides what its rules may say.
    for field in fields.iter().filter(|field| &*field.key == "tier") {
        let path = path.field("tier");
        let tier = reader.integer(&field.node, &path, owner).unwrap_or(0);
        match tier {
            0..=TIER_MAX => group.tier = tier as u8,
            _ => {
                let message = format!("SecurityGroupTier {tier} invalid, range [0,{TIER_MAX}]");
                reader.error(id::INVALID_VALUE, field.node.position, &path, message);
            }
        }
    }
    let known = [
        "allowSameGroupTraffic",
        "egressRules",
        "ingressRules",
        "tier",
    ];
    for field in fields {
        let child = path.field(&field.key);
        let node = &field.node;
        match &*field.key {
            "allowSameGroupTraffic" => {
                let value = reader.boolean(node, &child, owner);
                group.allow_same_group_traffic = value.unwrap_or_default();
            }
            "ingressRules" => {
                group.ingress = rules(reader, node, &path, Direction::Ingress, group.tier);
            }
            "egressRules" => {
                group.egress = rules(reader, node, &path, Direction::Egress, group.tier);
            }
            "tier" => {}
            _ => reader.unknown_field(Severity::Error, field, &path, &known),
        }
    }
}

fn rules(
    reader: &mut Reader,
    node: &Node,
    spec: &Path,
    direction: Direction,
    tier: u8,
) -> Vec<GroupRule> {
    let path = spec.field(rules_field(direction));
    let items = reader.sequence(node, &path, "SecurityGroupSpec", "[]v1.SecurityGroupRule");
    let mut rules = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let wanted = "v1.SecurityGroupRule";
        let Some(fields) = reader.mapping(item, &path, "SecurityGroupSpec", wanted) else {
            continue;
        };
        for field in fields {
            if !RULE_FIELDS.contains(&&*field.key) {
                reader.unknown_field(Severity::Error, field, &path, RULE_FIELDS);
            }
        }
        let mut rule = RuleReader {
            reader: &mut *reader,
            path: &path,
            position: item.position,
            fields,
        };
        rules.extend(rule.read(tier));
    }
    rules
}

/// Reads one rule, field by field in the order the controller checks them.
struct RuleReader<'r, 'd, 'p> {
    reader: &'r mut Reader<'d>,
    path: &'r Path<'p>,
    position: Position,
    fields: &'r [Field],
}

impl RuleReader<'_, '_, '_> {
    /// `None` when the rule has errors, which are reported.
    fn read(&mut self, tier: u8) -> Option<GroupRule> {
        let mark = self.reader.mark();
        let family = self.family();
        let priority = self.priority();
        let policy = self.policy();
        if tier == TIER_MAX as u8 && policy == Some(GroupPolicy::Pass) {
            let message = format!("policy pass not valid when tier is maximum [{TIER_MAX}]");
            self.error("policy", message);
        }
        let remote = self.remote(family);
        let local = self.local(family);
        let protocol = self.protocol();
        let (ports, source_ports) = self.both_ports(protocol?, local.is_some());
        if self.reader.failed_since(mark) {
            return None;
        }
        Some(GroupRule {
            position: self.position,
            family: family?,
            priority: priority?,
            protocol: protocol?,
            remote: remote?,
            local,
            ports,
            source_ports,
            policy: policy?,
        })
    }

    fn family(&mut self) -> Option<Family> {
        match &*self.text("ipVersion")? {
            "ipv4" => Some(Family::V4),
            "ipv6" => Some(Family::V6),
            other => {
                let message = format!("IPVersion should be 'ipv4' or 'ipv6', found '{other}'");
                self.error("ipVersion", message);
                None
            }
        }
    }

    fn priority(&mut self) -> Option<u32> {
        let most = self.reader.compatibility.sg_priority_max;
        let found = self.number("priority")?;
        match u32::try_from(found) {
            Ok(priority) if (1..=most).contains(&priority) => Some(priority),
            _ => {
                let message = format!("priority '{found}' is not in the range of 1 to {most}");
                self.error("priority", message);
                None
            }
        }
    }

    fn policy(&mut self) -> Option<GroupPolicy> {
        match &*self.text("policy")? {
            "allow" => Some(GroupPolicy::Allow),
            "pass" => Some(GroupPolicy::Pass),
            "drop" | "deny" => Some(GroupPolicy::Drop),
            other => {
                let allowed = ["allow", "drop", "deny", "pass"];
                self.unknown_word("policy", other, &allowed, "drops")
                    .then_some(GroupPolicy::Drop)
            }
        }
    }

    fn protocol(&mut self) -> Option<GroupProtocol> {
        match &*self.text("protocol")? {
            "tcp" => Some(GroupProtocol::Tcp),
            "udp" => Some(GroupProtocol::Udp),
            "icmp" => Some(GroupProtocol::Icmp),
            "all" | "" => Some(GroupProtocol::Any),
            other => {
                let allowed = ["tcp", "udp", "icmp", "all"];
                self.unknown_word("protocol", other, &allowed, "means any protocol")
                    .then_some(GroupProtocol::Any)
            }
        }
    }

    /// A word nobody defined: may it be taken as upstream takes it?
    fn unknown_word(
        &mut self,
        field: &'static str,
        found: &str,
        allowed: &[&str],
        meaning: &str,
    ) -> bool {
        if self.reader.compatibility.sg_unknown_strings == UnknownStrings::Upstream {
            let message = format!("unknown {field} '{found}' {meaning}");
            let position = self.position_of(field);
            let path = self.path.field(field);
            self.reader.warn(id::UNKNOWN_WORD, position, &path, message);
            return true;
        }
        let position = self.position_of(field);
        let path = self.path.field(field);
        self.reader.unsupported(position, &path, found, allowed);
        false
    }

    fn remote(&mut self, family: Option<Family>) -> Option<Remote> {
        match &*self.text("remoteType")? {
            "address" => {
                self.ignored("remoteSecurityGroup", "remoteType is address");
                let net = self.block("remoteAddress", family)?;
                Some(Remote::Address(net))
            }
            "securityGroup" => {
                self.ignored("remoteAddress", "remoteType is securityGroup");
                let name = self.text("remoteSecurityGroup")?;
                let position = self.position_of("remoteSecurityGroup");
                Some(Remote::Group { name, position })
            }
            other => {
                let message = format!(
                    "not support sgRemoteType '{other}'; allowed are 'address' and 'securityGroup'"
                );
                self.error("remoteType", message);
                None
            }
        }
    }

    fn local(&mut self, family: Option<Family>) -> Option<IpNet> {
        match self.text("localAddress")?.is_empty() {
            true => None,
            false => self.block("localAddress", family),
        }
    }

    /// An address or block, without its host bits.
    fn block(&mut self, field: &'static str, family: Option<Family>) -> Option<IpNet> {
        let text = self.text(field)?;
        let net = match text.contains('/') {
            true => {
                words::cidr(&text).map_err(|problem| format!("invalid CIDR '{text}': {problem}"))
            }
            false => match words::address(&text) {
                Ok(address) => Ok(IpNet::from(address)),
                Err(problem) => Err(format!("invalid ip address '{text}': {problem}")),
            },
        };
        let net = match net {
            Ok(net) => net,
            Err(message) => {
                self.error(field, message);
                return None;
            }
        };
        if let Some(family) = family.filter(|family| Family::of(net.addr()) != *family) {
            let (wanted, found) = match family {
                Family::V4 => ("ipv4", "IPv6"),
                Family::V6 => ("ipv6", "IPv4"),
            };
            let message =
                format!("ipVersion is {wanted}, but '{text}' is {found}: matches nothing");
            self.error(field, message);
            return None;
        }
        if net.trunc() != net {
            let message = format!(
                "bits behind the prefix do not count: the same as {}",
                net.trunc()
            );
            let position = self.position_of(field);
            let path = self.path.field(field);
            self.reader
                .warn(id::CIDR_HOST_BITS, position, &path, message);
        }
        Some(net.trunc())
    }

    /// Destination and source ports.
    fn both_ports(
        &mut self,
        protocol: GroupProtocol,
        with_local: bool,
    ) -> ((u16, u16), (u16, u16)) {
        if !protocol.has_ports() {
            for field in ["portRangeMin", "portRangeMax"] {
                self.ignored(field, "only tcp and udp have ports");
            }
        }
        if !protocol.has_ports() || !with_local {
            for field in ["sourcePortRangeMin", "sourcePortRangeMax"] {
                self.ignored(
                    field,
                    "source ports count for tcp and udp with a localAddress alone",
                );
            }
        }
        let ports = match protocol.has_ports() {
            true => self.ports("portRange", "portRangeMin", "portRangeMax"),
            false => ALL_PORTS,
        };
        let source_ports = match protocol.has_ports() && with_local {
            true => self.ports(
                "sourcePortRange",
                "sourcePortRangeMin",
                "sourcePortRangeMax",
            ),
            false => ALL_PORTS,
        };
        (ports, source_ports)
    }

    /// Both bounds of a range, which must be there.
    fn ports(
        &mut self,
        range: &str,
        min_field: &'static str,
        max_field: &'static str,
    ) -> (u16, u16) {
        let mut bound = |field| {
            let found = self.number(field)?;
            let port = words::port_number(found);
            if port.is_err() {
                let message =
                    format!("{range} is out of range: {field} is {found}, not 1 to 65535");
                self.error(field, message);
            }
            port.ok()
        };
        match (bound(min_field), bound(max_field)) {
            (Some(first), Some(last)) if first > last => {
                let message =
                    format!("{range} err, minimum greater than maximum: {first} to {last}");
                self.error(min_field, message);
                ALL_PORTS
            }
            (Some(first), Some(last)) => (first, last),
            _ => ALL_PORTS,
        }
    }

    /// A field that is there and does nothing.
    fn ignored(&mut self, field: &'static str, why: &str) {
        let found = self.fields.iter().find(|found| &*found.key == field);
        let says_something = |node: &Node| match node.as_str() {
            Some(text) => !text.is_empty(),
            None => !matches!(&node.value, super::Value::Null),
        };
        if let Some(found) = found.filter(|found| says_something(&found.node)) {
            let path = self.path.field(field);
            let message = format!("no effect: {why}");
            let position = found.key_position;
            self.reader
                .warn(id::IGNORED_FIELD, position, &path, message);
        }
    }

    /// A string, empty where it is left out; `None` where it is none.
    fn text(&mut self, field: &'static str) -> Option<String> {
        let Some(found) = self.fields.iter().find(|found| &*found.key == field) else {
            return Some(String::new());
        };
        let mark = self.reader.mark();
        let path = self.path.field(field);
        let owner = "SecurityGroupRule";
        let text = self.reader.string(&found.node, &path, owner, "string");
        let text = text.unwrap_or_default().to_owned();
        (!self.reader.failed_since(mark)).then_some(text)
    }

    /// A number, 0 where it is left out; `None` where it is none.
    fn number(&mut self, field: &'static str) -> Option<i32> {
        let Some(found) = self.fields.iter().find(|found| &*found.key == field) else {
            return Some(0);
        };
        let mark = self.reader.mark();
        let path = self.path.field(field);
        let number = self.reader.integer(&found.node, &path, "SecurityGroupRule");
        (!self.reader.failed_since(mark)).then_some(number.unwrap_or(0))
    }

    fn position_of(&self, field: &str) -> Position {
        let found = self.fields.iter().find(|found| &*found.key == field);
        found.map_or(self.position, |found| found.node.position)
    }

    fn error(&mut self, field: &'static str, message: String) {
        let position = self.position_of(field);
        let path = self.path.field(field);
        self.reader
            .error(id::INVALID_VALUE, position, &path, message);
    }
}
