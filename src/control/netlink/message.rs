//! Messages of the kernel's routing family, next-hop objects included.
//!
//! `netlink-packet-route` knows all but the latter (`struct nhmsg`, linux/nexthop.h), which routes
//! refer to by number when `net.ipv4.nexthop_compat_mode` is off.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_core::{
    DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator,
};
use rtnetlink::packet_route::RouteNetlinkMessage;

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;

const NHMSG_BYTES: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP: u16 = 8;
/// Bytes of a `struct nexthop_grp`.
const GROUP_MEMBER_BYTES: usize = 8;

/// `RTNH_F_DEAD` and `RTNH_F_LINKDOWN` (linux/rtnetlink.h).
const FLAG_DEAD: u32 = 1;
const FLAG_LINK_DOWN: u32 = 16;

/// A message from the kernel or to it.
#[derive(Debug)]
pub(super) enum KernelMessage {
    /// All that `netlink-packet-route` knows.
    Route(RouteNetlinkMessage),
    /// A next-hop object exists.
    NewNexthop(Nexthop),
    /// A next-hop object is gone.
    DelNexthop,
    /// Asks for all next-hop objects.
    GetNexthops,
}

/// A next-hop object (`ip nexthop`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Nexthop {
    /// Its number, which routes refer to.
    pub id: u32,
    /// Numbers of the objects it is a group of.
    pub group: Vec<u32>,
    /// Drops in silence.
    pub blackhole: bool,
    /// Index of the interface it leaves by.
    pub ifindex: Option<u32>,
    /// Address it goes to; on the link when `None`.
    pub gateway: Option<IpAddr>,
    /// Adds a tunnel or MPLS header.
    pub encapsulated: bool,
    /// Not to be used.
    pub dead: bool,
    /// Its interface has no carrier.
    pub link_down: bool,
}

impl Nexthop {
    fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let (header, attributes) = payload
            .split_at_checked(NHMSG_BYTES)
            .ok_or_else(|| DecodeError::from("next hop shorter than its header"))?;
        // family, scope, protocol, reserved, flags (host byte order).
        let flags = u32_of(&header[4..])?;
        let mut nexthop = Nexthop {
            dead: flags & FLAG_DEAD != 0,
            link_down: flags & FLAG_LINK_DOWN != 0,
            ..Nexthop::default()
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                NHA_ID => nexthop.id = u32_of(value)?,
                NHA_GROUP => {
                    let members = value.chunks_exact(GROUP_MEMBER_BYTES);
                    nexthop.group = members.map(u32_of).collect::<Result<_, _>>()?;
                }
                NHA_BLACKHOLE => nexthop.blackhole = true,
                NHA_OIF => nexthop.ifindex = Some(u32_of(value)?),
                NHA_GATEWAY => nexthop.gateway = Some(address_of(value)?),
                NHA_ENCAP => nexthop.encapsulated = true,
                _ => {}
            }
        }
        Ok(nexthop)
    }
}

fn u32_of(bytes: &[u8]) -> Result<u32, DecodeError> {
    let bytes = bytes.first_chunk::<4>();
    let bytes = bytes.ok_or_else(|| DecodeError::from("number shorter than 4 bytes"))?;
    Ok(u32::from_ne_bytes(*bytes))
}

fn address_of(bytes: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(Ipv6Addr::from(v6).into()),
        Err(_) => Err(DecodeError::from("gateway of neither family's length")),
    }
}

impl NetlinkDeserializable for KernelMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        match header.message_type {
            RTM_NEWNEXTHOP => Nexthop::parse(payload).map(KernelMessage::NewNexthop),
            RTM_DELNEXTHOP => Ok(KernelMessage::DelNexthop),
            _ => RouteNetlinkMessage::deserialize(header, payload).map(KernelMessage::Route),
        }
    }
}

impl NetlinkSerializable for KernelMessage {
    fn message_type(&self) -> u16 {
        match self {
            KernelMessage::Route(message) => message.message_type(),
            KernelMessage::NewNexthop(_) => RTM_NEWNEXTHOP,
            KernelMessage::DelNexthop => RTM_DELNEXTHOP,
            KernelMessage::GetNexthops => RTM_GETNEXTHOP,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            KernelMessage::Route(message) => message.buffer_len(),
            _ => NHMSG_BYTES,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            KernelMessage::Route(message) => message.serialize(buffer),
            _ => buffer.fill(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn parse(flags: u32, attributes: &[Vec<u8>]) -> Result<Nexthop, DecodeError> {
        let mut payload = vec![2, 0, 0, 0];
        payload.extend(flags.to_ne_bytes());
        payload.extend(attributes.concat());
        Nexthop::parse(&payload)
    }

    #[test]
    fn a_single_next_hop_is_read() {
        let id = attribute(NHA_ID, &7u32.to_ne_bytes());
        let interface = attribute(NHA_OIF, &3u32.to_ne_bytes());
        let gateway = attribute(NHA_GATEWAY, &[198, 18, 0, 1]);
        let expected = Nexthop {
            id: 7,
            ifindex: Some(3),
            gateway: Some(IpAddr::from([198, 18, 0, 1])),
            link_down: true,
            ..Nexthop::default()
        };
        assert_eq!(parse(16, &[id, interface, gateway]).unwrap(), expected);
    }

    #[test]
    fn a_group_lists_its_members() {
        let member = |id: u32| [id.to_ne_bytes(), [1, 0, 0, 0]].concat();
        let group = attribute(NHA_GROUP, &[member(5), member(9)].concat());
        assert_eq!(parse(0, &[group]).unwrap().group, [5, 9]);
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        assert!(Nexthop::parse(&[2, 0, 0]).is_err());
        assert!(parse(0, &[attribute(NHA_ID, &[1])]).is_err());
        assert!(parse(0, &[attribute(NHA_GATEWAY, &[1, 2, 3])]).is_err());
    }
}
