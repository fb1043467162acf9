//! External ports: who holds which, and which is given to the next.
//!
//! An *endpoint* is a host's address, port and protocol. It keeps its external port as long as it
//! has a connection, towards whomever (RFC 4787 REQ-1, 5382 REQ-1: endpoint-independent mapping),
//! and as long as ports last nobody else gets it (REQ-3: no overloading). When they do not, a port
//! is shared, but never towards one destination: the answers could not be told apart.
//!
//! The port an endpoint is given follows from a keyed hash of it: nobody outside can guess it
//! (RFC 6056), nothing has to be searched to find it again, and where it is taken the next of the
//! same row of numbers is. A port that was given up is kept from others for a while, so that late
//! packets do not reach them (RFC 6888 REQ-8).

use std::hash::Hasher;
use std::ops::RangeInclusive;

use siphasher::sip::SipHasher13;

use crate::wire::{Address, Family, FlowKey, protocol};

/// Numbers tried for an endpoint before the range is searched one by one.
const TRIES: u64 = 8;
/// Ports looked at then: what a new connection may cost when nearly all are taken.
const SEARCHED: usize = 1024;
/// Ports tried, when none is free, for one that may be shared.
const SHARED_TRIES: u32 = 64;

/// Kinds of port numbers with a space of their own.
const SPACES: usize = 3;

/// One port of one address.
#[derive(Debug, Clone, Copy, Default)]
struct Port {
    /// Hash of the endpoint; 0 before the first.
    endpoint: u64,
    /// Connections that use it.
    connections: u32,
    /// When the last one ended, milliseconds on the worker's clock (wraps after 49 days).
    released_ms: u32,
}

/// The ports of one external address.
struct AddressPorts {
    family: Family,
    address: Address,
    spaces: [Box<[Port]>; SPACES],
    connections: u64,
}

/// The external ports of one worker. By default there are none.
#[derive(Default)]
pub struct PortPool {
    addresses: Vec<AddressPorts>,
    addresses_used: usize,
    hash_key: (u64, u64),
    /// This worker's share: ports that leave this remainder when divided by the number of workers.
    share: (u16, u16),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// External address.
    pub address: Address,
    /// The range.
    pub ports: RangeInclusive<u16>,
    /// The connection's own port is preferred.
    pub preserve: bool,
    /// How long ports are kept from others.
    pub reuse_delay_us: u64,
}

impl PortPool {
    /// Room for the ports of this many addresses; `share` is this worker's number and how many
    /// there are.
    pub fn new(addresses_max: usize, share: (u16, u16), hash_key: (u64, u64)) -> Self {
        let space = || vec![Port::default(); 1 << 16].into_boxed_slice();
        let address = |_| AddressPorts {
            family: Family::V4,
            address: Address::ZERO,
            spaces: std::array::from_fn(|_| space()),
            connections: 0,
        };
        PortPool {
            addresses: (0..addresses_max).map(address).collect(),
            addresses_used: 0,
            hash_key,
            share,
        }
    }

    /// A hash of a source's address, to choose its external address by.
    pub fn hash_source(&self, key: &FlowKey) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.hash_key.0, self.hash_key.1);
        for half in key.source.halves() {
            hasher.write_u64(half);
        }
        hasher.finish()
    }

    /// A port for a connection, counted as used by it until [`PortPool::release`]; `None` when all
    /// are taken. `is_free` is asked whether the answers to a port could be told from those of
    /// other connections.
    pub fn take(
        &mut self,
        key: &FlowKey,
        wish: &Wish,
        now_us: u64,
        mut is_free: impl FnMut(u16) -> bool,
    ) -> Option<u16> {
        let endpoint = self.hash_endpoint(key);
        let now_ms = (now_us / 1000) as u32;
        let (first, last) = (*wish.ports.start(), *wish.ports.end());
        let row = Row::new(endpoint, (first, last), self.share)?;
        let share = self.share;
        let entry = self.address(key.family, wish.address)?;
        let ports = &mut entry.spaces[space(key)];
        let delay_ms = (wish.reuse_delay_us / 1000) as u32;
        let state = |port: &Port| match port {
            Port { connections: 0, .. } if port.endpoint == endpoint || port.endpoint == 0 => {
                State::Free
            }
            Port { connections: 0, .. } => {
                match now_ms.wrapping_sub(port.released_ms) >= delay_ms {
                    true => State::Free,
                    false => State::Resting,
                }
            }
            _ if port.endpoint == endpoint => State::Own,
            _ => State::Taken,
        };
        let own = (key.source_port % share.1 == share.0).then_some(key.source_port);
        let preferred = own.filter(|port| wish.preserve && *port != 0);
        let candidates = || {
            preferred
                .into_iter()
                .chain((0..TRIES).map(|i| row.number(i)))
        };
        let search = || row.all().take(SEARCHED);
        let mut try_port = |port: u16, wanted: State, ports: &mut [Port]| {
            let taken = state(&ports[usize::from(port)]) == wanted && is_free(port);
            if taken {
                let entry = &mut ports[usize::from(port)];
                entry.endpoint = match wanted {
                    State::Taken => entry.endpoint,
                    _ => endpoint,
                };
                entry.connections += 1;
            }
            taken
        };
        let found = candidates()
            .find(|&port| try_port(port, State::Own, ports))
            .or_else(|| candidates().find(|&port| try_port(port, State::Free, ports)))
            .or_else(|| search().find(|&port| try_port(port, State::Own, ports)))
            .or_else(|| search().find(|&port| try_port(port, State::Free, ports)))
            .or_else(|| {
                let some = row.all().take(SHARED_TRIES as usize);
                { some }.find(|&port| try_port(port, State::Taken, ports))
            })?;
        entry.connections += 1;
        Some(found)
    }

    /// Counts a port as used by a connection that is known already (after a restart).
    pub fn hold(&mut self, original: &FlowKey, external: &FlowKey) {
        let endpoint = self.hash_endpoint(original);
        let Some(entry) = self.address(external.family, external.destination) else {
            return;
        };
        let port = &mut entry.spaces[space(external)][usize::from(external_port(external))];
        if port.connections == 0 {
            port.endpoint = endpoint;
        }
        port.connections += 1;
        entry.connections += 1;
    }

    /// A connection has ended; `reply` is the key of its answers.
    pub fn release(&mut self, reply: &FlowKey, now_us: u64) {
        let place = (reply.family, reply.destination);
        let used = &mut self.addresses[..self.addresses_used];
        let Some(entry) = used
            .iter_mut()
            .find(|entry| (entry.family, entry.address) == place)
        else {
            return;
        };
        let port = &mut entry.spaces[space(reply)][usize::from(external_port(reply))];
        debug_assert!(
            port.connections > 0,
            "a port is released once for each connection"
        );
        port.connections = port.connections.saturating_sub(1);
        port.released_ms = (now_us / 1000) as u32;
        entry.connections = entry.connections.saturating_sub(1);
    }

    /// The ports of an address. An address that was not in use takes the place of one that no
    /// connection uses any more.
    fn address(&mut self, family: Family, address: Address) -> Option<&mut AddressPorts> {
        let used = &self.addresses[..self.addresses_used];
        let found = used
            .iter()
            .position(|entry| (entry.family, entry.address) == (family, address));
        let at = match found {
            Some(at) => at,
            None if self.addresses_used < self.addresses.len() => {
                self.addresses_used += 1;
                self.addresses_used - 1
            }
            None => {
                let idle = used.iter().position(|entry| entry.connections == 0)?;
                for space in &mut self.addresses[idle].spaces {
                    space.fill(Port::default());
                }
                idle
            }
        };
        let entry = &mut self.addresses[at];
        (entry.family, entry.address) = (family, address);
        Some(entry)
    }

    /// Never 0.
    fn hash_endpoint(&self, key: &FlowKey) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.hash_key.1, self.hash_key.0);
        for half in key.source.halves() {
            hasher.write_u64(half);
        }
        hasher.write_u64(
            u64::from(key.source_port)
                | u64::from(key.zone) << 16
                | u64::from(key.protocol) << 32
                | (key.family as u64) << 40,
        );
        hasher.finish().max(1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// This endpoint's already.
    Own,
    Free,
    /// Given up not long ago, by another.
    Resting,
    /// Another's.
    Taken,
}

/// The row of numbers an endpoint is offered: of the range, those of this worker's share.
struct Row {
    endpoint: u64,
    first: u32,
    step: u32,
    count: u32,
}

impl Row {
    fn new(endpoint: u64, (first, last): (u16, u16), share: (u16, u16)) -> Option<Row> {
        let step = u32::from(share.1.max(1));
        let (first, last) = (u32::from(first), u32::from(last));
        let behind = (first + step - u32::from(share.0) % step) % step;
        let first = first + (step - behind) % step;
        let count = (first <= last).then(|| (last - first) / step + 1)?;
        Some(Row {
            endpoint,
            first,
            step,
            count,
        })
    }

    fn at(&self, index: u64) -> u16 {
        (self.first + (index % u64::from(self.count)) as u32 * self.step) as u16
    }

    /// The i-th number to try: every one depends on all bits of the endpoint's hash.
    fn number(&self, i: u64) -> u16 {
        let mixed = (self.endpoint ^ i.wrapping_mul(0xd6e8_feb8_6659_fd93))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.at(mixed >> 24)
    }

    /// Every number once, from a place of the endpoint's own.
    fn all(&self) -> impl Iterator<Item = u16> + '_ {
        (0..u64::from(self.count)).map(|i| self.at((self.endpoint >> 16).wrapping_add(i)))
    }
}

/// TCP, UDP and the rest do not share numbers.
fn space(key: &FlowKey) -> usize {
    match key.protocol {
        protocol::TCP => 0,
        protocol::UDP => 1,
        _ => 2,
    }
}

/// The external port in the key of the answers.
fn external_port(reply: &FlowKey) -> u16 {
    match reply.is_icmp() {
        true => reply.source_port,
        false => reply.destination_port,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const EXTERNAL: Address = Address::from_bits(99);

    fn key(host: u64, port: u16, server: u128) -> FlowKey {
        FlowKey {
            source: Address::from_bits(host.into()),
            destination: Address::from_bits(server),
            source_port: port,
            destination_port: 80,
            zone: 0,
            protocol: protocol::TCP,
            family: Family::V4,
        }
    }

    fn wish(ports: RangeInclusive<u16>) -> Wish {
        Wish {
            address: EXTERNAL,
            ports,
            preserve: false,
            reuse_delay_us: 120_000_000,
        }
    }

    fn answers(port: u16) -> FlowKey {
        FlowKey {
            destination: EXTERNAL,
            destination_port: port,
            ..key(5, 80, 0)
        }
    }

    #[test]
    fn an_endpoint_has_one_port_whomever_it_talks_to() {
        // RFC 4787 REQ-1.
        let mut pool = PortPool::new(1, (0, 1), (1, 2));
        let mut take = |host, server| {
            pool.take(&key(host, 5000, server), &wish(1024..=32767), 0, |_| true)
                .unwrap()
        };
        let port = take(1, 10);
        assert!((1..100).all(|server| take(1, server) == port));
        assert_ne!(take(2, 10), port);
    }

    #[test]
    fn nobody_shares_a_port_while_there_is_another() {
        // RFC 4787 REQ-3.
        let mut pool = PortPool::new(1, (0, 1), (1, 2));
        let mut given = HashSet::new();
        for host in 0..1000 {
            let key = key(host, 5000, u128::from(host));
            let port = pool.take(&key, &wish(2000..=2999), 0, |_| true).unwrap();
            assert!((2000..=2999).contains(&port) && given.insert(port));
        }
        // Now towards different destinations only.
        let (there, elsewhere) = (key(7777, 1, 1), key(7778, 1, 2));
        assert_eq!(pool.take(&there, &wish(2000..=2999), 0, |_| false), None);
        assert!(
            pool.take(&elsewhere, &wish(2000..=2999), 0, |_| true)
                .is_some()
        );
    }

    #[test]
    fn a_port_rests_before_another_endpoint_gets_it() {
        // RFC 6888 REQ-8.
        let mut pool = PortPool::new(1, (0, 1), (1, 2));
        let only = wish(2000..=2000);
        let take = |pool: &mut PortPool, host, now_us| {
            pool.take(&key(host, 1, 1), &only, now_us, |_| true)
        };
        let port = take(&mut pool, 1, 0).unwrap();
        pool.release(&answers(port), 1_000_000);
        assert_eq!(take(&mut pool, 2, 60_000_000), None);
        assert_eq!(
            take(&mut pool, 1, 60_000_000),
            Some(port),
            "its own is another matter"
        );
        pool.release(&answers(port), 61_000_000);
        assert_eq!(take(&mut pool, 2, 180_999_000), None);
        assert_eq!(take(&mut pool, 2, 181_000_000), Some(port));
    }

    #[test]
    fn a_port_of_ones_own_is_kept_where_it_is_free() {
        let mut pool = PortPool::new(1, (0, 1), (1, 2));
        let keeping = Wish {
            preserve: true,
            ..wish(1024..=32767)
        };
        let port = pool.take(&key(1, 51515, 1), &keeping, 0, |_| true);
        assert_eq!(port, Some(51515));
        let other = pool.take(&key(2, 51515, 1), &keeping, 0, |_| true).unwrap();
        assert!((1024..=32767).contains(&other));
    }

    #[test]
    fn workers_share_a_range_without_a_port_in_common() {
        let mut given = HashSet::new();
        for worker in 0..4 {
            let mut pool = PortPool::new(1, (worker, 4), (1, 2));
            while let Some(port) = {
                let host = given.len() as u64;
                pool.take(&key(host, 1, 1), &wish(2001..=2100), 0, |port| {
                    !given.contains(&port)
                })
            } {
                assert_eq!(port % 4, worker);
                given.insert(port);
            }
        }
        assert_eq!(given.len(), 100);
    }

    #[test]
    fn ports_are_spread_over_the_range() {
        // RFC 6888 REQ-15: over 64 parts of the range, none is half or twice as likely as it should
        // be, and which port follows which says nothing.
        let mut pool = PortPool::new(1, (0, 1), (3, 4));
        let mut parts = [0; 64];
        let mut closer = 0;
        let mut before = 0_u16;
        let wish = Wish {
            reuse_delay_us: 0,
            ..wish(0..=65535)
        };
        for host in 0..100_000 {
            let port = pool.take(&key(host, 1, 1), &wish, 0, |_| true).unwrap();
            pool.release(&answers(port), 0);
            parts[usize::from(port >> 10)] += 1;
            closer += u32::from(port.abs_diff(before) < 1024);
            before = port;
        }
        assert!(
            parts.iter().all(|&n| (1_400..1_750).contains(&n)),
            "{parts:?}"
        );
        assert!((2_700..3_500).contains(&closer), "{closer}");
    }
}
