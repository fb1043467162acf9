//! Pods and their interfaces by name, and the networks they are on.

use std::net::IpAddr;

use super::{ResolveError, addresses};
use crate::control::probe::{Endpoint, Probe};
use crate::policy::inventory::Attachment;
use crate::policy::{Inventory, PRIMARY_NETWORK, Pod, PolicySet, Sender};
use crate::wire::{Address, Family};

/// The pod of a name.
pub fn named_pod<'i>(
    inventory: &'i Inventory,
    namespace: &str,
    name: &str,
) -> Result<&'i Pod, ResolveError> {
    let pods = inventory.pods_in(namespace).iter();
    let pods = pods.map(|&index| &*inventory.pod_at(index).name);
    let pod = inventory.pod(namespace, name);
    pod.ok_or_else(|| ResolveError::NoPod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        known: some_of(pods),
    })
}

/// The interface of a name.
pub fn named_attachment<'p>(pod: &'p Pod, interface: &str) -> Result<&'p Attachment, ResolveError> {
    let mut attachments = pod.attachments.iter();
    let found = attachments.find(|attachment| attachment.interface == interface);
    found.ok_or_else(|| ResolveError::NoInterface {
        pod: pod.full_name(),
        interface: interface.to_owned(),
        known: some_of(pod.attachments.iter().map(|one| &*one.interface)),
    })
}

/// Number of the network an end is on; `None` where it is on the other end's.
fn network(inventory: &Inventory, end: &Endpoint) -> Option<u16> {
    match end {
        Endpoint::Attachment {
            namespace,
            name,
            interface,
        } => {
            let pod = inventory.pod(namespace, name)?;
            let attachment = named_attachment(pod, interface).ok()?;
            inventory.network_number(&attachment.network)
        }
        Endpoint::Ip(_) | Endpoint::Node(_) | Endpoint::Host(_) => None,
        Endpoint::Pod { .. } | Endpoint::Service { .. } => Some(PRIMARY_NETWORK),
    }
}

/// Numbers of the networks the probe's source and destination are on.
pub fn networks(inventory: &Inventory, probe: &Probe) -> (u16, u16) {
    let source = network(inventory, &probe.from);
    let destination = network(inventory, &probe.to);
    let or_primary = |found: Option<u16>| found.unwrap_or(PRIMARY_NETWORK);
    (
        or_primary(source.or(destination)),
        or_primary(destination.or(source)),
    )
}

/// Names, as many as a message bears.
pub fn some_of<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const NAMES_MAX: usize = 8;
    let names: Vec<_> = names.collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count > NAMES_MAX => {
            format!(
                "{} and {} more",
                names[..NAMES_MAX].join(", "),
                count - NAMES_MAX
            )
        }
        _ => names.join(", "),
    }
}

/// Who sends a packet whose source address is not the first of the pod it comes from.
pub fn sender(policy: &PolicySet, probe: &Probe, source: IpAddr) -> Option<Sender> {
    let (Endpoint::Pod { namespace, name }
    | Endpoint::Attachment {
        namespace, name, ..
    }) = &probe.from
    else {
        return None;
    };
    let inventory = &policy.inventory;
    let own = addresses(inventory, &probe.from).ok()?;
    let pod = inventory.pod_index(namespace, name)?;
    if !inventory.pod_at(pod).is_subject() {
        return None;
    }
    if own.contains(&source) {
        return None;
    }
    let family = Family::of(source);
    let known_by = own.iter().find(|one| Family::of(**one) == family)?;
    Some(Sender {
        address: Address::from_ip(*known_by).1,
        owns_source: policy
            .ports
            .of_pod(pod)
            .any(|port| port.virtual_addresses.contains(&source)),
    })
}

/// The address of the pod a multicast packet would be delivered to.
pub fn receiver(inventory: &Inventory, probe: &Probe, destination: IpAddr) -> Option<Address> {
    if !destination.is_multicast() || !matches!(probe.to, Endpoint::Pod { .. }) {
        return None;
    }
    let addresses = addresses(inventory, &probe.to).ok()?;
    let family = Family::of(destination);
    let mut of_family = addresses.iter().filter(|one| Family::of(**one) == family);
    of_family.next().map(|&address| Address::from_ip(address).1)
}
