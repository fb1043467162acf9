//! `[replay]`: what `replay` uses instead of the kernel's links, routes and neighbours.

use super::forwarding::port_names;
use super::kind::{ListOf, Parsed, Whole};
use super::management::PREFIX;
use super::port::Port;
use super::reader::Section;
use std::net::IpAddr;

use ipnet::IpNet;

/// The network around a capture. All empty: `replay` forwards between the two ports transparently.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replay {
    /// `[[replay.link]]`, at most one a port.
    pub links: Vec<ReplayLink>,
    /// `[[replay.route]]`; networks of link addresses need none.
    pub routes: Vec<ReplayRoute>,
    /// `[[replay.neighbour]]`
    pub neighbours: Vec<ReplayNeighbour>,
}

/// `[[replay.link]]`: a port's own side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayLink {
    /// Number of the port.
    pub port: usize,
    /// Its addresses, with the prefix length of their network.
    pub addresses: Vec<IpNet>,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu_bytes: u32,
}

/// `[[replay.route]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayRoute {
    /// Destinations.
    pub prefix: IpNet,
    /// Number of the port they leave by.
    pub port: usize,
    /// Next hop; `None` when destinations are on the link.
    pub gateway: Option<IpAddr>,
}

/// `[[replay.neighbour]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayNeighbour {
    /// Number of the port it lives behind.
    pub port: usize,
    /// Its IP address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}

pub(super) const ADDRESS: Parsed<IpAddr> = Parsed {
    allowed: "an IPv4 or IPv6 address",
    parse: |text| text.parse().map_err(|_| String::new()),
};

const LINK_ADDRESS: Parsed<IpNet> = Parsed {
    allowed: "an address with the prefix length of its network, like \"198.18.0.1/24\"",
    parse: |text| text.parse().map_err(|_| String::new()),
};

pub(super) const MAC: Parsed<[u8; 6]> = Parsed {
    allowed: "the Ethernet address of one station, like \"02:00:00:00:00:01\"",
    parse: |text| {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|part| part.len() == 2).unwrap_or("");
            *byte = u8::from_str_radix(part, 16).map_err(|_| String::new())?;
        }
        // Neither a group's nor nobody's.
        let fine = parts.next().is_none() && mac[0] & 1 == 0 && mac != [0; 6];
        fine.then_some(mac).ok_or_else(String::new)
    },
};

/// Tables of one kind; captures need few.
const TABLES_MAX: usize = 65_536;

impl Replay {
    pub(super) fn read(section: &mut Section<'_, '_>, ports: &[Port]) -> Replay {
        let mut links: Vec<ReplayLink> = Vec::new();
        for mut table in tables(section, "link") {
            let Some(link) = ReplayLink::read(&mut table, ports) else {
                continue;
            };
            if links.iter().any(|other| other.port == link.port) {
                table.reject("port", "a port that has a link already", "unique");
            }
            links.push(link);
        }
        let mut routes = tables(section, "route");
        let mut neighbours = tables(section, "neighbour");
        Replay {
            links,
            routes: routes
                .iter_mut()
                .filter_map(|table| ReplayRoute::read(table, ports))
                .collect(),
            neighbours: neighbours
                .iter_mut()
                .filter_map(|table| ReplayNeighbour::read(table, ports))
                .collect(),
        }
    }
}

fn tables<'d, 't>(section: &mut Section<'d, 't>, key: &'static str) -> Vec<Section<'d, 't>> {
    let tables = section.tables(key);
    if tables.len() > TABLES_MAX {
        let found = format!("{} tables", tables.len());
        section.reject(key, found, format!("{TABLES_MAX} tables at most"));
    }
    tables
}

/// The number of the port that `port` names.
fn port(section: &mut Section<'_, '_>, ports: &[Port]) -> Option<usize> {
    let kind = Parsed {
        allowed: "the name of a port",
        parse: |text| Ok(text.to_owned()),
    };
    let name = section.required("port", kind)?;
    let number = ports.iter().position(|port| port.name == name);
    if number.is_none() {
        section.reject("port", format!("{name:?}"), port_names(ports));
    }
    number
}

impl ReplayLink {
    fn read(section: &mut Section<'_, '_>, ports: &[Port]) -> Option<ReplayLink> {
        let addresses = ListOf {
            kind: LINK_ADDRESS,
            length: 0..=256,
        };
        let port = port(section, ports);
        let addresses = section.optional("addresses", Vec::new(), addresses);
        let mac = section.required("mac", MAC);
        let mtu_bytes = section.optional("mtu_bytes", 1_500, Whole(68..=65_535));
        Some(ReplayLink {
            port: port?,
            addresses,
            mac: mac?,
            mtu_bytes,
        })
    }
}

impl ReplayRoute {
    fn read(section: &mut Section<'_, '_>, ports: &[Port]) -> Option<ReplayRoute> {
        let prefix = section.required("prefix", PREFIX);
        let port = port(section, ports);
        let gateway = section.maybe("gateway", ADDRESS);
        Some(ReplayRoute {
            prefix: prefix?,
            port: port?,
            gateway,
        })
    }
}

impl ReplayNeighbour {
    fn read(section: &mut Section<'_, '_>, ports: &[Port]) -> Option<ReplayNeighbour> {
        let port = port(section, ports);
        let address = section.required("address", ADDRESS);
        let mac = section.required("mac", MAC);
        Some(ReplayNeighbour {
            port: port?,
            address: address?,
            mac: mac?,
        })
    }
}
