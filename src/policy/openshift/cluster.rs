//! What is in the cluster: whatever leaves for elsewhere is outside.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::OpenShift;
use crate::policy::inventory::Inventory;
use crate::wire::{Address, Family};

/// The addresses that are not outside, as inclusive ranges: those of the ClusterNetwork `default`
/// (pods and services), of nodes' parts of the pod network (HostSubnet, `spec.podCIDRs`), and of
/// every pod and service there is. Multicast groups are no place outside either.
///
/// A node is outside, at its address in the network it stands in: upstream too asks about it as
/// about any other host.
pub fn cluster_ranges(
    inventory: &Inventory,
    openshift: &OpenShift,
) -> Vec<(Family, Address, Address)> {
    let mut blocks: Vec<IpNet> = Vec::new();
    if let Some(network) = openshift.cluster_network() {
        blocks.extend(&network.pod_blocks);
        blocks.extend(network.service_block);
    }
    blocks.extend(openshift.host_subnets.iter().filter_map(|one| one.subnet));
    blocks.extend(inventory.nodes().flat_map(|node| &node.pod_blocks));
    let mut ranges: Vec<_> = blocks
        .iter()
        .map(|block| range(block.network(), block.broadcast()))
        .collect();
    ranges.extend(multicast_ranges());
    let pods = inventory.pods().iter().filter(|pod| pod.is_subject());
    let of_pods = pods.flat_map(|pod| &pod.addresses);
    let services = inventory.services().iter();
    let of_services = services.flat_map(|service| &service.cluster_addresses);
    ranges.extend(of_pods.chain(of_services).map(|&one| range(one, one)));
    ranges
}

/// The addresses of multicast groups (RFC 5771 §3, RFC 4291 §2.7).
pub fn multicast_ranges() -> [(Family, Address, Address); 2] {
    let v4 = (
        Ipv4Addr::new(224, 0, 0, 0),
        Ipv4Addr::new(239, 255, 255, 255),
    );
    let v6 = (
        Ipv6Addr::from_bits(0xff << 120),
        Ipv6Addr::from_bits(u128::MAX),
    );
    [
        range(v4.0.into(), v4.1.into()),
        range(v6.0.into(), v6.1.into()),
    ]
}

/// Does a block of an EgressNetworkPolicy mean all of IPv4: `0.0.0.0/0`, or the `0.0.0.0/32` that
/// older versions took for it?
pub fn is_everything(cidr: &IpNet) -> bool {
    cidr.addr() == Ipv4Addr::UNSPECIFIED && matches!(cidr.prefix_len(), 0 | 32)
}

fn range(first: std::net::IpAddr, last: std::net::IpAddr) -> (Family, Address, Address) {
    let (family, first) = Address::from_ip(first);
    (family, first, Address::from_ip(last).1)
}
