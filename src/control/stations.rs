//! From the pods' ports to what the data plane holds their frames to.

use std::net::IpAddr;

use super::layer2::anti_spoofing;
use super::policy::PortSegment;
use crate::dataplane::station::{Hold, Segment, Station, Stations};
use crate::policy::port_security::{Entry, link_local};
use crate::policy::{PolicySet, Port};
use crate::wire::{Address, Family, MacAddress};

/// The table of all attachments; `networks` are the numbers of those behind the ports. `None` when
/// no frame is held to anything.
pub fn compile(set: &PolicySet, segments: &[PortSegment], networks: &[u16]) -> Option<Stations> {
    let stations = set.ports.iter().map(|port| station(set, port)).collect();
    let behind = segments.iter().zip(networks);
    let behind = behind.map(|(segment, &network)| Segment {
        network,
        routers: segment.routers.clone(),
    });
    Stations::new(stations, behind.collect())
}

fn station(set: &PolicySet, port: &Port) -> Station {
    let secured = port.entry();
    let sends = secured.clone().or_else(|| anti_spoofing(set, port));
    station_of(
        port.network,
        port.mac,
        port.every_address(),
        (secured, sends),
    )
}

/// `secured` is what port security holds it to, `sends` what it may send is held to.
fn station_of(
    network: u16,
    mac: Option<MacAddress>,
    addresses: impl Iterator<Item = IpAddr>,
    (secured, sends): (Option<Entry>, Option<Entry>),
) -> Station {
    let hold = |entry: &Option<Entry>| match entry {
        None => Hold::Free,
        Some(Entry { mac: None, .. }) => Hold::Addresses,
        Some(Entry { mac: Some(_), .. }) => Hold::Frames,
    };
    let mut addresses: Vec<_> = addresses.map(Address::from_ip).collect();
    // The address it gives itself is its own where it has others of the family.
    let of_v6 = secured.as_ref().filter(|entry| !entry.v6.is_empty());
    if let Some(mac) = of_v6.and_then(|entry| entry.mac) {
        let own = link_local(mac).octets();
        addresses.push((Family::V6, Address::from_v6_bytes(own)));
    }
    Station {
        network,
        mac,
        addresses,
        sends: hold(&sends),
        receives: hold(&secured),
    }
}

#[cfg(test)]
mod tests;
