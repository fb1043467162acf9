//! Port security: whether a frame's addresses are those of the station it comes from or goes to.
//!
//! A switch knows a pod by the port it is plugged into. Behind a port of ours there are many, so
//! that a frame tells itself whose it is: by its MAC address, where that is a station's of the
//! network behind the port, or else by its IP address. Who is known by neither is a stranger (a
//! router, a host outside) and is held to nothing. Where several stations have one address, a frame
//! passes when one of them could have sent it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use super::hash::KeyedHash;
use super::verdict::{DropReason, PortId};
use crate::wire::parse::{ArpView, Discovery, LinkLayer, neighbour_discovery};
use crate::wire::{Address, Family, MacAddress, PacketView, protocol, source_mac};

/// What a station's frames are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    Free,
    /// Its IP addresses.
    Addresses,
    /// Its MAC address and its IP addresses.
    Frames,
}

/// An attachment of a pod, for building [`Stations`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// Number of its network.
    pub network: u16,
    /// Its MAC address, where known.
    pub mac: Option<MacAddress>,
    /// Every address it may have.
    pub addresses: Vec<(Family, Address)>,
    /// What it sends is held to.
    pub sends: Hold,
    /// What is delivered to it is held to.
    pub receives: Hold,
}

/// What is behind a port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segment {
    /// Number of the network.
    pub network: u16,
    /// MAC addresses of routers, which send what others have sent.
    pub routers: Vec<MacAddress>,
}

/// The stations of all networks. Immutable; looking something up does not allocate.
#[derive(Debug)]
pub struct Stations {
    segments: Vec<Segment>,
    stations: Vec<Held>,
    /// Where in `members` the stations of a MAC or IP address are.
    known: HashMap<Key, (u32, u32), KeyedHash>,
    members: Vec<u32>,
}

#[derive(Debug)]
struct Held {
    mac: Option<MacAddress>,
    /// Sorted.
    addresses: Box<[(Family, Address)]>,
    sends: Hold,
    receives: Hold,
}

/// Network, and MAC or IP address in words that hash fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key([u64; 3]);

impl Key {
    #[inline]
    fn of_mac(network: u16, mac: MacAddress) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        let word = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Key([0, word, u64::from(network) << 8])
    }

    #[inline]
    fn of_address(network: u16, family: Family, address: Address) -> Self {
        let [high, low] = address.halves();
        Key([high, low, u64::from(network) << 8 | family as u64])
    }
}

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|&word| state.write_u64(word));
    }
}

/// What a frame says of its sender.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Source MAC address.
    pub mac: MacAddress,
    /// What it carries.
    pub says: Says,
}

/// What a frame carries, as far as that speaks of its sender.
#[derive(Debug, Clone, Copy)]
pub enum Says {
    /// ARP.
    Arp {
        /// Sender's link-layer address.
        mac: MacAddress,
        /// Sender's address.
        address: Address,
    },
    /// IPv4 or IPv6.
    Ip {
        /// IP version.
        family: Family,
        /// Source address.
        source: Address,
        /// What a station that has no address yet may send.
        without_address: bool,
        /// What it says of who is where.
        discovery: Option<Discovery>,
    },
}

impl Sent {
    /// A frame that carries ARP.
    pub fn arp(bytes: &[u8], arp: &ArpView) -> Self {
        Sent {
            mac: source_mac(bytes),
            says: Says::Arp {
                mac: arp.sender_mac,
                address: arp.sender,
            },
        }
    }

    /// A frame that carries an IP packet.
    #[inline]
    pub fn ip(bytes: &[u8], view: &PacketView) -> Self {
        let key = &view.key;
        Sent {
            mac: source_mac(bytes),
            says: Says::Ip {
                family: key.family,
                source: key.source,
                without_address: key.source == Address::ZERO && needs_no_address(view),
                discovery: match key.protocol {
                    protocol::ICMPV6 => neighbour_discovery(bytes, view),
                    _ => None,
                },
            },
        }
    }

    /// The address it claims, with its family.
    fn address(&self) -> (Family, Address) {
        match self.says {
            Says::Arp { address, .. } => (Family::V4, address),
            Says::Ip { family, source, .. } => (family, source),
        }
    }
}

/// DHCP of a client (RFC 2131 §4.1), listener reports, neighbour solicitations (RFC 4862 §5.4.2).
fn needs_no_address(view: &PacketView) -> bool {
    const DHCP_CLIENT: u16 = 68;
    const DHCP_SERVER: u16 = 67;
    let key = &view.key;
    match key.family {
        Family::V4 => {
            key.destination.to_v4_bits() == u32::MAX
                && key.protocol == protocol::UDP
                && !view.is_later_fragment()
                && (key.source_port, key.destination_port) == (DHCP_CLIENT, DHCP_SERVER)
        }
        Family::V6 => {
            let link_local_group = key.destination.to_bits() >> 112 == 0xff02;
            let icmp_type = match key.protocol {
                protocol::ICMPV6 if view.icmp_code() == Some(0) => view.icmp_type(),
                _ => None,
            };
            let announces = matches!(
                icmp_type,
                Some(
                    protocol::ICMPV6_MLD_REPORT
                        | protocol::ICMPV6_MLD2_REPORT
                        | protocol::ICMPV6_NEIGHBOUR_SOLICITATION
                )
            );
            link_local_group && announces
        }
    }
}

impl Stations {
    /// Builds the table; `segments` by port. `None` when no station is held to anything.
    pub fn new(stations: Vec<Station>, segments: Vec<Segment>) -> Option<Self> {
        let free = |one: &Station| (one.sends, one.receives) == (Hold::Free, Hold::Free);
        if stations.iter().all(free) {
            return None;
        }
        let mut by_key: BTreeMap<Key, Vec<u32>> = BTreeMap::new();
        for (number, station) in stations.iter().enumerate() {
            let network = station.network;
            let of_mac = station.mac.map(|mac| Key::of_mac(network, mac));
            let addresses = station.addresses.iter();
            let of_addresses =
                addresses.map(|&(family, one)| Key::of_address(network, family, one));
            for key in of_addresses.chain(of_mac) {
                by_key.entry(key).or_default().push(number as u32);
            }
        }
        let mut known = HashMap::with_capacity_and_hasher(by_key.len(), KeyedHash::default());
        let mut members = Vec::new();
        for (key, of_key) in by_key {
            known.insert(key, (members.len() as u32, of_key.len() as u32));
            members.extend(of_key);
        }
        let held = |station: Station| {
            let mut addresses = station.addresses;
            addresses.sort_unstable();
            Held {
                mac: station.mac,
                addresses: addresses.into(),
                sends: station.sends,
                receives: station.receives,
            }
        };
        Some(Stations {
            segments,
            stations: stations.into_iter().map(held).collect(),
            known,
            members,
        })
    }

    /// May a frame come in by a port? `on_link` tells whether its source address is one on the
    /// port's own link, so that no router has sent it on; asked only where it matters.
    ///
    /// # Errors
    /// What is not the sender's own.
    #[inline]
    pub fn may_send(
        &self,
        port: PortId,
        sent: &Sent,
        on_link: impl Fn() -> bool,
    ) -> Result<(), DropReason> {
        let Some(segment) = self.segments.get(port.0 as usize) else {
            return Ok(());
        };
        let mut of_mac = self.having(Key::of_mac(segment.network, sent.mac));
        if let Some(station) = of_mac.next() {
            return any(station, of_mac, |station| station.may_send(sent));
        }
        let (family, address) = sent.address();
        let mut of_address = self.having(Key::of_address(segment.network, family, address));
        let Some(station) = of_address.next() else {
            return Ok(());
        };
        // None of them has this MAC address.
        let elsewhere = || segment.routers.contains(&sent.mac) || !on_link();
        any(station, of_address, |station| match station.own_mac() {
            Some(_) if elsewhere() => Ok(()),
            Some(_) => Err(DropReason::PortSecuritySourceMac),
            None => station.may_send(sent),
        })
    }

    /// May a frame leave by a port, to a MAC address and, in it, to a destination address?
    /// `on_link` tells whether that is one on the port's own link, so that no router is to take it.
    ///
    /// # Errors
    /// What is not the receiver's own.
    #[inline]
    pub fn may_receive(
        &self,
        port: PortId,
        mac: MacAddress,
        (family, address): (Family, Address),
        on_link: impl Fn() -> bool,
    ) -> Result<(), DropReason> {
        let segment = self.segments.get(port.0 as usize);
        let Some(segment) = segment.filter(|_| !mac.is_group()) else {
            return Ok(());
        };
        let mut of_mac = self.having(Key::of_mac(segment.network, mac));
        if let Some(station) = of_mac.next() {
            return any(station, of_mac, |station| {
                station.may_receive(family, address)
            });
        }
        let mut of_address = self.having(Key::of_address(segment.network, family, address));
        let Some(station) = of_address.next() else {
            return Ok(());
        };
        let elsewhere = || segment.routers.contains(&mac) || !on_link();
        any(station, of_address, |station| {
            let held = station.receives == Hold::Frames && station.mac.is_some();
            match held && !elsewhere() {
                true => Err(DropReason::PortSecurityDestinationMac),
                false => Ok(()),
            }
        })
    }

    /// Stations that have a MAC or IP address.
    #[inline]
    fn having(&self, key: Key) -> impl Iterator<Item = &Held> {
        let (first, count) = self.known.get(&key).copied().unwrap_or_default();
        let members = &self.members[first as usize..(first + count) as usize];
        members
            .iter()
            .map(|&number| &self.stations[number as usize])
    }
}

/// Does one of them take it? If none does, why the first does not.
#[inline]
fn any<'h>(
    first: &'h Held,
    mut others: impl Iterator<Item = &'h Held>,
    takes: impl Fn(&Held) -> Result<(), DropReason>,
) -> Result<(), DropReason> {
    let told = takes(first);
    match told.is_ok() || others.any(|station| takes(station).is_ok()) {
        true => Ok(()),
        false => told,
    }
}

impl Held {
    /// The MAC address its frames must bear.
    #[inline]
    fn own_mac(&self) -> Option<MacAddress> {
        self.mac.filter(|_| self.sends == Hold::Frames)
    }

    #[inline]
    fn has(&self, family: Family, address: Address) -> bool {
        self.addresses.binary_search(&(family, address)).is_ok()
    }

    fn has_any(&self, family: Family) -> bool {
        self.addresses.iter().any(|(one, _)| *one == family)
    }

    /// Does it send this? Its source MAC address has been looked at.
    #[inline]
    fn may_send(&self, sent: &Sent) -> Result<(), DropReason> {
        if self.sends == Hold::Free {
            return Ok(());
        }
        let others = |mac| self.own_mac().is_some_and(|own| own != mac);
        match sent.says {
            Says::Arp { mac, address } => match others(mac) || !self.has(Family::V4, address) {
                true => Err(DropReason::PortSecurityArp),
                false => Ok(()),
            },
            Says::Ip {
                family,
                source,
                without_address,
                discovery,
            } => {
                let without = without_address && self.has_any(family);
                if !self.has(family, source) && !without {
                    return Err(DropReason::PortSecuritySource);
                }
                match discovery {
                    Some(discovery) => self.may_tell(&discovery, others),
                    None => Ok(()),
                }
            }
        }
    }

    fn may_tell(
        &self,
        discovery: &Discovery,
        others: impl Fn(MacAddress) -> bool,
    ) -> Result<(), DropReason> {
        let link_layer = match discovery.link_layer {
            LinkLayer::Unstated => true,
            LinkLayer::Stated(mac) => mac.is_zero() || !others(mac),
            LinkLayer::Unclear => false,
        };
        let target = !discovery.advertises || self.has(Family::V6, discovery.target);
        match link_layer && target {
            true => Ok(()),
            false => Err(DropReason::PortSecurityDiscovery),
        }
    }

    /// Is it the one a frame with its MAC address is for?
    #[inline]
    fn may_receive(&self, family: Family, address: Address) -> Result<(), DropReason> {
        if self.receives == Hold::Free || self.has(family, address) {
            return Ok(());
        }
        let everybody = match family {
            Family::V4 => {
                let bits = address.to_v4_bits();
                bits == u32::MAX || bits >> 28 == 0xe
            }
            Family::V6 => address.to_bits() >> 120 == 0xff,
        };
        match everybody && self.has_any(family) {
            true => Ok(()),
            false => Err(DropReason::PortSecurityDestination),
        }
    }
}
