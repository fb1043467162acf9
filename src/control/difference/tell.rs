//! Combinations of classes as sentences: pods by name, the rest as ranges.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::classes::Classes;
use super::partition::Partition;
use super::{Change, Fates, Point, address};
use crate::control::decide::Decider;
use crate::wire::{Address, Family, protocol};

/// Ranges of addresses a change names; what is more is counted.
const RANGES_MAX: usize = 4;

/// Protocol, class of source ports, class of destination ports.
type Service = (u8, u32, u32);

/// Joins combinations that fare alike: first the services of two classes, then the sources, then
/// the destinations.
pub fn changes(
    classes: &Classes,
    points: BTreeMap<Point, Fates>,
    before: &Decider,
    after: &Decider,
) -> Vec<Change> {
    let mut services: BTreeMap<(Fates, u32, u32), BTreeSet<Service>> = BTreeMap::new();
    let mut witnesses: BTreeMap<(Fates, u32, u32), Point> = BTreeMap::new();
    for (point, fates) in points {
        let service = (point.protocol, point.source_port, point.destination_port);
        let ends = (fates, point.source, point.destination);
        services.entry(ends.clone()).or_default().insert(service);
        witnesses.entry(ends).or_insert(point);
    }
    let mut sources: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
    for ((fates, source, destination), services) in services {
        let alike = sources.entry((fates, destination, services)).or_default();
        alike.insert(source);
    }
    let mut destinations: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
    for ((fates, destination, services), sources) in sources {
        let alike = destinations.entry((fates, sources, services)).or_default();
        alike.insert(destination);
    }
    let tell =
        |((fates, from, to_services), to): ((Fates, BTreeSet<u32>, BTreeSet<Service>), _)| {
            let to: BTreeSet<u32> = to;
            let witness =
                from.iter()
                    .next()
                    .zip(to.iter().next())
                    .and_then(|(source, destination)| {
                        let point = witnesses.get(&(fates.clone(), *source, *destination))?;
                        classes.witness(point)
                    });
            let mut from = ends(classes.family, &classes.sources, &from, [before, after]);
            let mut to = ends(classes.family, &classes.destinations, &to, [before, after]);
            // Nobody is cut off from himself.
            match (&from[..], &to[..]) {
                (_, [one]) if from.len() > 1 => from.retain(|name| name != one),
                ([one], _) if to.len() > 1 => to.retain(|name| name != one),
                _ => {}
            }
            Change {
                before: fates.0,
                after: fates.1,
                from,
                to,
                services: services_text(classes, &to_services),
                witnesses: witness.iter().map(ToString::to_string).collect(),
            }
        };
    destinations.into_iter().map(tell).collect()
}

/// The pods that have an address of these classes, then the ranges of addresses that are nobody's.
fn ends(
    family: Family,
    partition: &Partition,
    classes: &BTreeSet<u32>,
    deciders: [&Decider; 2],
) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for pod in deciders
        .iter()
        .flat_map(|decider| decider.policy().inventory.pods())
    {
        let own = pod.addresses.iter().map(|one| Address::from_ip(*one));
        for (_, own) in own.filter(|(of, _)| *of == family && pod.is_subject()) {
            if classes.contains(&partition.class_of(own.to_bits())) {
                taken.insert(own.to_bits());
                names.insert(pod.full_name());
            }
        }
    }
    let mut told: Vec<String> = names.into_iter().collect();
    let ranges = partition.ranges_of(classes);
    let is_foreign = |(first, last): &&(u128, u128)| {
        let pods = taken.range(first..=last).count() as u128;
        last - first >= pods
    };
    let foreign: Vec<_> = ranges.iter().filter(is_foreign).collect();
    if foreign.len() > RANGES_MAX {
        told.push(format!("{} ranges of addresses of no pod", foreign.len()));
    } else {
        told.extend(foreign.into_iter().map(|range| range_text(family, *range)));
    }
    told
}

/// `198.18.0.0/16` where that is all, else `198.18.0.3-198.18.0.9`.
fn range_text(family: Family, (first, last): (u128, u128)) -> String {
    use std::net::IpAddr::{V4, V6};
    let (first, last) = (address(first).to_ip(family), address(last).to_ip(family));
    let nets: Vec<IpNet> = match (first, last) {
        (V4(first), V4(last)) => {
            let nets = Ipv4Subnets::new(first, last, 0);
            nets.take(2).map(IpNet::V4).collect()
        }
        (V6(first), V6(last)) => {
            let nets = Ipv6Subnets::new(first, last, 0);
            nets.take(2).map(IpNet::V6).collect()
        }
        _ => Vec::new(),
    };
    match nets[..] {
        [net] if net.prefix_len() == net.max_prefix_len() => first.to_string(),
        [net] => net.to_string(),
        _ => format!("{first}-{last}"),
    }
}

/// `tcp/80`, `tcp/1-79 and 81-65535`, `icmp`, `ip47 and 250 other protocols`.
fn services_text(classes: &Classes, services: &BTreeSet<Service>) -> Vec<String> {
    let mut by_protocol: BTreeMap<u8, (BTreeSet<u32>, BTreeSet<u32>)> = BTreeMap::new();
    for &(number, source_port, destination_port) in services {
        let (source_ports, destination_ports) = by_protocol.entry(number).or_default();
        source_ports.insert(source_port);
        destination_ports.insert(destination_port);
    }
    let all_ports = |number: u8| {
        let (from, to) = by_protocol.get(&number)?;
        let all = to.len() == classes.destination_ports.classes() as usize;
        let all_from = from.len() == classes.source_ports.classes() as usize;
        Some(!classes.has_ports(number) || all && all_from)
    };
    let mut every = classes.protocols().iter();
    if every.all(|number| all_ports(*number) == Some(true)) {
        return vec!["every protocol".to_owned()];
    }
    let mut texts = Vec::new();
    for (number, (source_ports, destination_ports)) in by_protocol {
        let mut text = protocol::name(number).into_owned();
        let others = classes.protocols_like(number) - 1;
        let known = [protocol::TCP, protocol::UDP, protocol::SCTP];
        let ports = classes.has_ports(number);
        let icmp = matches!(number, protocol::ICMP | protocol::ICMPV6);
        if others > 0 && !known.contains(&number) && !icmp {
            let plural = if others == 1 { "" } else { "s" };
            text = format!("{text} and {others} other protocol{plural}");
        }
        if ports || icmp {
            text += &ports_text(&classes.destination_ports, &destination_ports, icmp);
        }
        if ports && source_ports.len() < classes.source_ports.classes() as usize {
            let from = ports_text(&classes.source_ports, &source_ports, false);
            text += &format!(" from port {}", from.trim_start_matches('/'));
        }
        texts.push(text);
    }
    texts
}

/// `/80`, `/1-79 and 81-65535`; nothing for all ports. Of ICMP, types.
fn ports_text(partition: &Partition, classes: &BTreeSet<u32>, icmp: bool) -> String {
    if classes.len() == partition.classes() as usize {
        return String::new();
    }
    let shown = |port: u128| if icmp { port >> 8 } else { port };
    let mut texts: Vec<String> = partition
        .ranges_of(classes)
        .into_iter()
        .map(|(first, last)| match (shown(first), shown(last)) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        })
        .collect();
    texts.dedup();
    let joined = texts.join(" and ");
    if icmp {
        format!(" type {joined}")
    } else {
        format!("/{joined}")
    }
}
