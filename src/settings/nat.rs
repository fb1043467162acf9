//! `[nat]`: which connections get other addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::choice::choice;
use super::forwarding::port_names;
use super::kind::{Flag, ListOf, Parsed, Whole};
use super::management::{ManagementProtocol, PREFIX, PortRange, Ports, Protocol, WITH_PORTS};
use super::port::Port;
use super::reader::Section;
use super::replay::ADDRESS;

/// Address translation; rules in order, the first that fits decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nat {
    /// `[[nat.destination]]`
    pub destinations: Vec<NatDestination>,
    /// `[[nat.source]]`
    pub sources: Vec<NatSource>,
}

/// Which connections a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatSelector {
    /// Number of the port they come in on.
    pub arrives: Option<usize>,
    /// IP version.
    pub family: NatFamily,
    /// IP protocol.
    pub protocol: ManagementProtocol,
    /// Sources; empty means all.
    pub from: Vec<IpNet>,
    /// Destinations; empty means all.
    pub to: Vec<IpNet>,
}

choice! {
    /// Connections of which IP version.
    NatFamily {
        /// Both.
        Any = "any",
        /// IPv4.
        V4 = "ipv4",
        /// IPv6.
        V6 = "ipv6",
    }
}

/// `[[nat.destination]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatDestination {
    /// Which connections.
    pub selector: NatSelector,
    /// Their destination ports.
    pub ports: Option<PortRange>,
    /// Where they go instead.
    pub target: IpAddr,
    /// The port there; their own where `None`.
    pub target_port: Option<u16>,
    /// Nobody reaches that port but by this rule.
    pub exclusive: bool,
}

/// `[[nat.source]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatSource {
    /// Which connections.
    pub selector: NatSelector,
    /// Number of the port they leave by.
    pub leaves: Option<usize>,
    /// Only those that a destination rule has sent elsewhere.
    pub redirected: bool,
    /// External addresses; the outgoing port's own where empty.
    pub addresses: Vec<IpAddr>,
    /// External ports.
    pub ports: PortRange,
    /// How one is chosen.
    pub choice: NatChoice,
    /// Seconds a port is kept from others.
    pub reuse_delay_s: u32,
}

choice! {
    /// How an external port is chosen.
    NatChoice {
        /// At random.
        Random = "random",
        /// The connection's own where it is free.
        Preserve = "preserve",
    }
}

/// Rules of each kind; they are asked one by one.
const RULES_MAX: usize = 256;

/// External ports unless a rule says otherwise: outside the range the kernel takes its own from
/// (`ip_local_port_range`, 32768 to 60999), so that both can share an address.
const PORTS: PortRange = 1024..=32767;

impl Nat {
    pub(super) fn read(section: &mut Section<'_, '_>, ports: &[Port], routed: bool) -> Nat {
        let mut destinations = rules(section, "destination");
        let mut sources = rules(section, "source");
        let translates = !destinations.is_empty() || !sources.is_empty();
        if translates && !routed {
            let key = match destinations.is_empty() {
                true => "source",
                false => "destination",
            };
            section.reject(key, "set", "absent unless forwarding.mode is \"routed\"");
        }
        Nat {
            destinations: destinations
                .iter_mut()
                .filter_map(|table| NatDestination::read(table, ports))
                .collect(),
            sources: sources
                .iter_mut()
                .map(|table| NatSource::read(table, ports))
                .collect(),
        }
    }
}

fn rules<'d, 't>(section: &mut Section<'d, 't>, key: &'static str) -> Vec<Section<'d, 't>> {
    let tables = section.tables(key);
    if tables.len() > RULES_MAX {
        let found = format!("{} tables", tables.len());
        section.reject(key, found, format!("{RULES_MAX} tables at most"));
    }
    tables
}

fn port(section: &mut Section<'_, '_>, key: &'static str, ports: &[Port]) -> Option<usize> {
    let kind = Parsed {
        allowed: "the name of a port",
        parse: |text| Ok(text.to_owned()),
    };
    let name = section.maybe(key, kind)?;
    let number = ports.iter().position(|port| port.name == name);
    if number.is_none() {
        section.reject(key, format!("{name:?}"), port_names(ports));
    }
    number
}

fn prefixes(section: &mut Section<'_, '_>, key: &'static str) -> Vec<IpNet> {
    let prefixes = ListOf {
        kind: PREFIX,
        length: 0..=256,
    };
    section.optional(key, Vec::new(), prefixes)
}

impl NatSelector {
    fn read(section: &mut Section<'_, '_>, ports: &[Port]) -> NatSelector {
        NatSelector {
            arrives: port(section, "in", ports),
            family: section.choice("family"),
            protocol: section.optional("protocol", ManagementProtocol::Any, Protocol),
            from: prefixes(section, "from"),
            to: prefixes(section, "to"),
        }
    }
}

impl NatDestination {
    fn read(section: &mut Section<'_, '_>, ports: &[Port]) -> Option<NatDestination> {
        let selector = NatSelector::read(section, ports);
        let target = section.required("target", ADDRESS);
        let rule = NatDestination {
            ports: section.maybe("ports", Ports),
            target: target.unwrap_or(IpAddr::from([0; 4])),
            target_port: section
                .maybe("target_port", Whole(1..=65_535))
                .map(|port| port as u16),
            exclusive: section.optional("exclusive", false, Flag),
            selector,
        };
        let has_ports = matches!(rule.selector.protocol, ManagementProtocol::Number(number)
            if WITH_PORTS.contains(&number));
        for (key, set) in [
            ("ports", rule.ports.is_some()),
            ("target_port", rule.target_port.is_some()),
        ] {
            if set && !has_ports {
                let allowed = "absent unless protocol is \"tcp\", \"udp\" or \"sctp\"";
                section.reject(key, "set", allowed);
            }
        }
        if rule.selector.to.is_empty() {
            section.reject("to", "no destination at all", "a list with one at least");
        }
        let of_target = |prefix: &&IpNet| prefix.addr().is_ipv4() != rule.target.is_ipv4();
        if let (Some(_), Some(other)) = (target, rule.selector.to.iter().find(of_target)) {
            let allowed = format!("an address of the family of {other}");
            section.reject("target", rule.target.to_string(), allowed);
        }
        target.map(|_| rule)
    }
}

impl NatSource {
    fn read(section: &mut Section<'_, '_>, ports: &[Port]) -> NatSource {
        let addresses = ListOf {
            kind: ADDRESS,
            length: 0..=64,
        };
        NatSource {
            selector: NatSelector::read(section, ports),
            leaves: port(section, "out", ports),
            redirected: section.optional("redirected", false, Flag),
            addresses: section.optional("addresses", Vec::new(), addresses),
            ports: section.optional("ports", PORTS, Ports),
            choice: section.choice("choice"),
            reuse_delay_s: section.optional("reuse_delay_s", 120, Whole(0..=3_600)),
        }
    }
}
