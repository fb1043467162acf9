//! The maps of the steering program, in the layouts of `steer.c`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use ipnet::IpNet;

use super::bpf::Map;
use super::{AttachRequest, MANAGEMENT_RULES_MAX, ManagementRule, QUEUES_MAX, XdpError};

/// Entries of each of the two maps of local addresses.
pub const LOCAL_ADDRESSES_MAX: usize = 4096;

/// Names of the program's counters, in the order of `enum counter`.
pub const COUNTERS: [&str; 16] = [
    "steered",
    "passed-arp",
    "passed-neighbour-discovery",
    "passed-multicast-listener",
    "passed-management",
    "passed-answer",
    "passed-icmp",
    "passed-dhcp",
    "dropped-no-socket",
    "dropped-management",
    "dropped-multicast",
    "dropped-ether-type",
    "dropped-malformed",
    "dropped-hop-limit",
    "dropped-extension-headers",
    "dropped-unconfigured",
];

/// Names of the maps in the object, in the order of [`Maps`]' fields.
pub const MAP_NAMES: [&std::ffi::CStr; 6] = [
    c"xsks_map",
    c"port_config",
    c"local_v4",
    c"local_v6",
    c"management",
    c"counters",
];

mod flag {
    pub const CONFIGURED: u32 = 1 << 0;
    pub const TRANSPARENT: u32 = 1 << 1;
    pub const DHCP_CLIENT: u32 = 1 << 2;
    pub const SECOND_LIST: u32 = 1 << 3;
    pub const DATA_PLANE_PORTS: u32 = 1 << 4;
    pub const SHARED: u32 = 1 << 5;
}

/// Bytes of `struct management_rule` and of what stands before the rules of a list.
const RULE_BYTES: usize = 40;
const LIST_HEADER_BYTES: usize = 8;

/// The program's maps, and what was last written to them.
#[derive(Debug)]
pub struct Maps {
    sockets: SocketMap,
    port_config: Map,
    local_v4: Map,
    local_v6: Map,
    management: Map,
    counters: Map,
    flags: u32,
    data_plane_ports: (u16, u16),
    local_addresses: HashSet<IpAddr>,
}

/// Which socket gets the frames of which receive queue.
#[derive(Debug, Clone)]
pub struct SocketMap(Arc<Map>);

impl SocketMap {
    /// Gives a queue's frames to a socket.
    pub fn register(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), XdpError> {
        if queue >= QUEUES_MAX {
            return Err(XdpError::QueueOutOfRange { queue });
        }
        let (key, value) = (queue.to_ne_bytes(), socket.as_raw_fd().to_ne_bytes());
        update("xsks_map", &self.0, &key, &value)
    }
}

impl Maps {
    /// From the loaded object's maps, in the order of [`MAP_NAMES`].
    ///
    /// # Panics
    /// When there are fewer.
    pub fn new(maps: Vec<Map>) -> Self {
        let mut maps = maps.into_iter();
        let mut next = || maps.next().expect("one map for each name");
        Maps {
            sockets: SocketMap(Arc::new(next())),
            port_config: next(),
            local_v4: next(),
            local_v6: next(),
            management: next(),
            counters: next(),
            flags: 0,
            data_plane_ports: (0, 0),
            local_addresses: HashSet::new(),
        }
    }

    /// Writes everything the request says. The program drops every frame before this.
    pub fn configure(&mut self, request: &AttachRequest) -> Result<(), XdpError> {
        self.set_local_addresses(&request.local_addresses)?;
        self.flags = flag::CONFIGURED;
        if request.transparent {
            self.flags |= flag::TRANSPARENT;
        }
        if request.dhcp_client {
            self.flags |= flag::DHCP_CLIENT;
        }
        if request.shared {
            self.flags |= flag::SHARED;
        }
        if let Some(ports) = &request.data_plane_ports {
            self.flags |= flag::DATA_PLANE_PORTS;
            self.data_plane_ports = (*ports.start(), *ports.end());
        }
        self.set_management(&request.management)
    }

    /// Writes the list that is not in force, then puts it in force by one store.
    pub fn set_management(&mut self, rules: &[ManagementRule]) -> Result<(), XdpError> {
        if rules.len() > MANAGEMENT_RULES_MAX {
            return Err(XdpError::TooManyManagementRules { found: rules.len() });
        }
        self.flags ^= flag::SECOND_LIST;
        let slot = u32::from(self.flags & flag::SECOND_LIST != 0);
        let list = encode_list(rules);
        update("management", &self.management, &slot.to_ne_bytes(), &list)?;
        let mut config = [0; 8];
        config[..4].copy_from_slice(&self.flags.to_ne_bytes());
        config[4..6].copy_from_slice(&self.data_plane_ports.0.to_ne_bytes());
        config[6..].copy_from_slice(&self.data_plane_ports.1.to_ne_bytes());
        update("port_config", &self.port_config, &[0; 4], &config)
    }

    /// Adds what is new, then removes what is gone: an address that stays is never missing.
    pub fn set_local_addresses(&mut self, addresses: &[IpNet]) -> Result<(), XdpError> {
        let wanted = expand(addresses)?;
        for address in wanted.difference(&self.local_addresses) {
            let (name, map, key) = self.local_entry(*address);
            update(name, map, &key, &1u32.to_ne_bytes())?;
        }
        for address in self.local_addresses.difference(&wanted) {
            let (map_name, map, key) = self.local_entry(*address);
            map.delete(&key)
                .map_err(|source| XdpError::Map { map_name, source })?;
        }
        self.local_addresses = wanted;
        Ok(())
    }

    fn local_entry(&self, address: IpAddr) -> (&'static str, &Map, Vec<u8>) {
        match address {
            IpAddr::V4(v4) => ("local_v4", &self.local_v4, v4.octets().to_vec()),
            IpAddr::V6(v6) => ("local_v6", &self.local_v6, v6.octets().to_vec()),
        }
    }

    /// The map of sockets.
    pub fn sockets(&self) -> &SocketMap {
        &self.sockets
    }

    /// Every counter, summed over the CPUs.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, XdpError> {
        let map_name = "counters";
        let read = |(slot, name): (usize, &&'static str)| {
            let values = self.counters.lookup(&(slot as u32).to_ne_bytes());
            let values = values.map_err(|source| XdpError::Map { map_name, source })?;
            let number = |value: &Vec<u8>| value.as_array().map_or(0, |v| u64::from_ne_bytes(*v));
            Ok((*name, values.iter().map(number).sum()))
        };
        COUNTERS.iter().enumerate().map(read).collect()
    }
}

fn update(map_name: &'static str, map: &Map, key: &[u8], value: &[u8]) -> Result<(), XdpError> {
    map.update(key, value)
        .map_err(|source| XdpError::Map { map_name, source })
}

/// Every single address of the prefixes: the program looks addresses up one by one.
fn expand(prefixes: &[IpNet]) -> Result<HashSet<IpAddr>, XdpError> {
    let mut addresses = HashSet::new();
    let mut room = [LOCAL_ADDRESSES_MAX; 2];
    for prefix in prefixes {
        let host_bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
        if host_bits > LOCAL_ADDRESSES_MAX.ilog2() {
            return Err(XdpError::TooManyLocalAddresses { prefix: *prefix });
        }
        // Not `hosts()`, which leaves network and broadcast addresses out.
        let all = match prefix.trunc().addr() {
            IpAddr::V4(first) => (0..1 << host_bits)
                .map(|i| IpAddr::from((u32::from(first) + i).to_be_bytes()))
                .collect::<Vec<_>>(),
            IpAddr::V6(first) => (0..1 << host_bits)
                .map(|i| IpAddr::from((u128::from(first) + i).to_be_bytes()))
                .collect(),
        };
        for address in all {
            let room = &mut room[usize::from(address.is_ipv6())];
            if addresses.insert(address) {
                let too_many = XdpError::TooManyLocalAddresses { prefix: *prefix };
                *room = room.checked_sub(1).ok_or(too_many)?;
            }
        }
    }
    Ok(addresses)
}

fn encode_list(rules: &[ManagementRule]) -> Vec<u8> {
    let mut list = vec![0; LIST_HEADER_BYTES + MANAGEMENT_RULES_MAX * RULE_BYTES];
    list[..4].copy_from_slice(&(rules.len() as u32).to_ne_bytes());
    for (rule, place) in rules
        .iter()
        .zip(list[LIST_HEADER_BYTES..].chunks_mut(RULE_BYTES))
    {
        place.copy_from_slice(&encode_rule(rule));
    }
    list
}

/// `struct management_rule`.
fn encode_rule(rule: &ManagementRule) -> [u8; RULE_BYTES] {
    let mut bytes = [0; RULE_BYTES];
    let source = rule.source.trunc();
    bytes[0] = if source.addr().is_ipv4() { 4 } else { 6 };
    bytes[1] = if rule.protocol.is_none() { 0 } else { 0xff };
    bytes[2] = rule.protocol.unwrap_or(0);
    bytes[4..6].copy_from_slice(&rule.ports.start().to_ne_bytes());
    bytes[6..8].copy_from_slice(&rule.ports.end().to_ne_bytes());
    let mut put = |at: usize, address: IpAddr| match address {
        IpAddr::V4(v4) => bytes[at..at + 4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes[at..at + 16].copy_from_slice(&v6.octets()),
    };
    put(8, source.addr());
    put(24, source.netmask());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of `NAME` or the initial of an enum in the C source.
    fn source_value(name: &str) -> usize {
        let source = include_str!("steer.c");
        let place = source.find(&format!("{name} = ")).expect(name) + name.len() + 3;
        let digits: String = source[place..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().expect(name)
    }

    #[test]
    fn limits_equal_those_of_the_program() {
        assert_eq!(source_value("QUEUES_MAX"), QUEUES_MAX as usize);
        assert_eq!(source_value("LOCAL_ADDRESSES_MAX"), LOCAL_ADDRESSES_MAX);
        assert_eq!(source_value("MANAGEMENT_RULES_MAX"), MANAGEMENT_RULES_MAX);
    }

    #[test]
    fn counter_names_follow_the_program() {
        let source = include_str!("steer.c");
        let start = source.find("enum counter {").expect("the enum") + "enum counter {".len();
        let body = &source[start..start + source[start..].find('}').expect("its end")];
        let mut names: Vec<_> = body
            .split(',')
            .map(|name| name.trim().to_lowercase().replace('_', "-"))
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(names.pop().as_deref(), Some("counters"));
        assert_eq!(names, COUNTERS);
    }

    #[test]
    fn a_rule_is_laid_out_as_the_program_reads_it() {
        let rule = ManagementRule {
            source: "198.18.7.9/20".parse().unwrap(),
            protocol: Some(6),
            ports: 22..=23,
        };
        let bytes = encode_rule(&rule);
        assert_eq!(bytes[..4], [4, 0xff, 6, 0]);
        assert_eq!(
            bytes[4..8],
            [22u16.to_ne_bytes(), 23u16.to_ne_bytes()].concat()
        );
        assert_eq!(bytes[8..12], [198, 18, 0, 0], "host bits are cleared");
        assert_eq!(bytes[24..28], [255, 255, 240, 0]);
        assert_eq!(bytes[28..], [0; 12]);
        let any = ManagementRule::everything_from("2001:db8::/32".parse().unwrap());
        let bytes = encode_rule(&any);
        assert_eq!((bytes[0], bytes[1]), (6, 0));
        assert_eq!(bytes[24..28], [255; 4]);
    }

    #[test]
    fn prefixes_are_expanded_within_bounds() {
        let list = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let all = expand(&list(&[
            "198.18.0.0/30",
            "198.18.0.1/32",
            "2001:db8::1/128",
        ]))
        .unwrap();
        assert_eq!(all.len(), 5);
        assert!(all.contains(&"198.18.0.3".parse().unwrap()));
        assert!(expand(&list(&["198.18.0.0/20"])).is_ok());
        assert!(expand(&list(&["198.18.0.0/19"])).is_err());
        assert!(expand(&list(&["2001:db8::/64"])).is_err());
        assert!(expand(&list(&["198.18.0.0/20", "198.19.0.1/32"])).is_err());
    }
}
