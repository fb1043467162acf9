//! From the kernel's links and addresses to ports.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};

use super::{LinkState, MirrorWarning};
use crate::dataplane::route::PortLink;
use crate::wire::MacAddress;

/// The link with this name; `None` when there is none.
pub(super) fn find(
    interface: &str,
    links: &[LinkMessage],
) -> Result<Option<LinkState>, MirrorWarning> {
    let named = |link: &&LinkMessage| {
        let mut attributes = link.attributes.iter();
        attributes.any(|a| matches!(a, LinkAttribute::IfName(name) if name == interface))
    };
    let Some(link) = links.iter().find(named) else {
        return Ok(None);
    };
    if link.header.link_layer_type != LinkLayerType::Ether {
        let interface = interface.to_owned();
        return Err(MirrorWarning::NotEthernet { interface });
    }
    Ok(Some(state(interface, link)))
}

fn state(interface: &str, link: &LinkMessage) -> LinkState {
    let flags = link.header.flags;
    let mut state = LinkState {
        ifindex: link.header.index,
        interface: interface.to_owned(),
        mac: MacAddress([0; 6]),
        mtu_bytes: 1_500,
        admin_up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        no_arp: flags.contains(LinkFlags::Noarp),
        kind: None,
        lower_ifindex: None,
        controller_ifindex: None,
        receive_queues: 1,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => {
                if let Ok(mac) = <[u8; 6]>::try_from(bytes.as_slice()) {
                    state.mac = MacAddress(mac);
                }
            }
            LinkAttribute::Mtu(mtu) => state.mtu_bytes = *mtu,
            LinkAttribute::Link(index) => state.lower_ifindex = Some(*index),
            LinkAttribute::Controller(index) => state.controller_ifindex = Some(*index),
            LinkAttribute::NumRxQueues(number) => state.receive_queues = *number,
            LinkAttribute::LinkInfo(infos) => {
                state.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    state
}

/// What the data plane needs of a link.
pub(super) fn port_link(state: &LinkState, addresses: &[AddressMessage]) -> PortLink {
    let own = addresses.iter().filter(|a| a.header.index == state.ifindex);
    let mut own: Vec<(bool, IpNet)> = own.filter_map(usable).collect();
    // Sources are taken from the front: secondary and link-local addresses are second choice.
    own.sort_by_key(|&(second_choice, _)| second_choice);
    PortLink {
        mac: state.mac,
        mtu_bytes: state.mtu_bytes,
        up: state.admin_up && state.carrier,
        addresses: own.into_iter().map(|(_, address)| address).collect(),
    }
}

/// An address that may be sent from, and whether it is second choice.
fn usable(message: &AddressMessage) -> Option<(bool, IpNet)> {
    let flags = message.header.flags;
    if flags.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed) {
        return None;
    }
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link the other one is the peer's.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    let ip = local.or(address)?;
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let second_choice = link_local || flags.contains(AddressHeaderFlags::Secondary);
    let network = IpNet::new(ip, message.header.prefix_len).ok()?;
    Some((second_choice, network))
}
