//! `[management]`: what may reach the box itself.

use toml::Spanned;
use toml::de::DeValue;

use super::kind::{Flag, Kind, ListOf, Parsed, Whole, Wrong};
use super::reader::Section;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// What may reach the box's own addresses. ARP, neighbour discovery and answers to the box's own
/// traffic always do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Management {
    /// The box answers echo requests.
    pub ping: bool,
    /// The box may get its own addresses by DHCP or DHCPv6.
    pub dhcp_client: bool,
    /// `[[management.allow]]`: anything that one of these allows may reach the box.
    pub allow: Vec<ManagementRule>,
}

/// One `[[management.allow]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagementRule {
    /// Sources, not empty; no host bits set.
    pub from: Vec<IpNet>,
    /// IP protocol.
    pub protocol: ManagementProtocol,
    /// Destination ports; empty means all. Only with tcp, udp, sctp.
    pub ports: Vec<PortRange>,
    /// For people.
    pub comment: String,
}

/// Ports from the first to the last.
pub type PortRange = RangeInclusive<u16>;

/// Which IP protocol a management rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManagementProtocol {
    /// All of them.
    #[default]
    Any,
    /// The one with this number.
    Number(u8),
}

/// Protocols a management rule may name, with their numbers (IANA "Protocol Numbers").
const PROTOCOLS: [(&str, u8); 7] = [
    ("tcp", 6),
    ("udp", 17),
    ("sctp", 132),
    ("icmp", 1),
    ("icmpv6", 58),
    ("ospf", 89),
    ("vrrp", 112),
];

/// Those of them with ports.
pub(super) const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// Rules the steering program finds room for.
const RULES_MAX: usize = 256;

pub(super) const PREFIX: Parsed<IpNet> = Parsed {
    allowed: "an address or a prefix without host bits, like \"198.18.0.0/24\"",
    parse: |text| {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(IpNet::from(address));
        }
        let prefix: IpNet = text.parse().map_err(|_| String::new())?;
        match prefix.trunc() == prefix {
            true => Ok(prefix),
            false => Err(format!(
                ", which has host bits ({} has none)",
                prefix.trunc()
            )),
        }
    },
};

impl Management {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Management {
        let mut rules = section.tables("allow");
        if rules.len() > RULES_MAX {
            let found = format!("{} tables", rules.len());
            section.reject("allow", found, format!("{RULES_MAX} tables at most"));
        }
        Management {
            ping: section.optional("ping", true, Flag),
            dhcp_client: section.optional("dhcp_client", true, Flag),
            allow: rules.iter_mut().filter_map(ManagementRule::read).collect(),
        }
    }
}

impl ManagementRule {
    fn read(section: &mut Section<'_, '_>) -> Option<ManagementRule> {
        let from = ListOf {
            kind: PREFIX,
            length: 1..=256,
        };
        let ports = ListOf {
            kind: Ports,
            length: 0..=64,
        };
        let comment = Parsed {
            allowed: "a text of at most 200 bytes",
            parse: |text| {
                (text.len() <= 200)
                    .then(|| text.to_owned())
                    .ok_or_else(String::new)
            },
        };
        let from = section.required("from", from);
        let rule = ManagementRule {
            from: from.clone().unwrap_or_default(),
            protocol: section.optional("protocol", ManagementProtocol::Any, Protocol),
            ports: section.optional("ports", Vec::new(), ports),
            comment: section.optional("comment", String::new(), comment),
        };
        let has_ports = matches!(rule.protocol, ManagementProtocol::Number(number)
            if WITH_PORTS.contains(&number));
        if !rule.ports.is_empty() && !has_ports {
            let allowed = "empty unless protocol is \"tcp\", \"udp\" or \"sctp\"";
            section.reject("ports", "set", allowed);
        }
        from.map(|_| rule)
    }
}

pub(super) struct Protocol;

impl Kind for Protocol {
    type Value = ManagementProtocol;

    fn allowed(&self) -> String {
        let names: Vec<String> = PROTOCOLS
            .iter()
            .map(|(name, _)| format!("{name:?}"))
            .collect();
        format!(
            "\"any\", {}, or a protocol number from 0 to 255",
            names.join(", ")
        )
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Self::Value, Vec<Wrong>> {
        match value.get_ref() {
            DeValue::String(word) if word == "any" => Ok(ManagementProtocol::Any),
            DeValue::String(word) => {
                let known = PROTOCOLS.iter().find(|(name, _)| name == word);
                known.map(|&(_, number)| ManagementProtocol::Number(number))
            }
            .ok_or_else(|| self.refuse(value)),
            _ => {
                let number = Whole(0..=255).read(value).map_err(|_| self.refuse(value))?;
                Ok(ManagementProtocol::Number(number as u8))
            }
        }
    }
}

pub(super) struct Ports;

impl Kind for Ports {
    type Value = PortRange;

    fn allowed(&self) -> String {
        "a port number from 0 to 65535, or a range of them like \"8000-8100\"".to_owned()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<PortRange, Vec<Wrong>> {
        let DeValue::String(text) = value.get_ref() else {
            let port = Whole(0..=65_535)
                .read(value)
                .map_err(|_| self.refuse(value))?;
            return Ok(port as u16..=port as u16);
        };
        let range = text.split_once('-').and_then(|(first, last)| {
            let port = |text: &str| text.trim().parse::<u16>().ok();
            Some(port(first)?..=port(last)?)
        });
        let range = range.filter(|range| !range.is_empty());
        range.ok_or_else(|| self.refuse(value))
    }
}
