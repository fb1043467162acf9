//! The kernel's neighbours as last heard, and what is to be asked of the kernel. No I/O: time comes
//! in as an argument, commands go out as values.
//!
//! ```text
//!              ask                    kernel: FAILED
//!   unknown ──────────▶ asked ──────────────────────────▶ failed ──(2 s)──▶ forgotten ──ask──▶ …
//!                         │ kernel: a MAC address           ▲
//!                         ▼                                 │ kernel: FAILED
//!                     reachable ──(kernel: STALE, in use)── probed
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use crate::dataplane::neighbour::NeighbourUse;
use crate::dataplane::route::Neighbour;
use crate::dataplane::verdict::PortId;
use crate::wire::MacAddress;

/// How long a neighbour that did not answer is reported as failed before it may be asked for again.
/// The kernel itself tries for 3 s.
const FAILED_FOR: Duration = Duration::from_secs(2);

/// The kernel is not asked again for one neighbour sooner than this.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A neighbour asked for of which the kernel has never told anything is forgotten.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// Of the neighbours allowed, the part that may be unanswered at once: a scan of empty addresses
/// leaves room for real ones (RFC 6583 §6.2).
const UNANSWERED_SHARE: usize = 4;

/// What identifies a neighbour: index of the interface, address.
pub(super) type Key = (u32, IpAddr);

/// Neighbours of all ports.
#[derive(Debug)]
pub(super) struct Neighbours {
    entries: HashMap<Key, Entry>,
    neighbours_max: usize,
    /// Entries without a MAC address.
    unanswered: usize,
}

#[derive(Debug)]
struct Entry {
    state: NeighbourState,
    mac: Option<MacAddress>,
    in_use: NeighbourUse,
    /// When the kernel was last asked, or last gave up.
    asked: Option<Instant>,
    failed: Option<Instant>,
}

/// What to do about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Ask the kernel. `known`: it has an entry already.
    Ask {
        /// The kernel has an entry already.
        known: bool,
    },
    /// Nothing: it is known, or has been asked for a moment ago.
    Nothing,
    /// There is no room for another neighbour.
    Refused,
}

/// A neighbour as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub key: Key,
    pub state: NeighbourState,
    pub mac: Option<MacAddress>,
}

impl Told {
    /// `None` for what is no neighbour to forward to.
    pub fn from_message(message: &NeighbourMessage) -> Option<Told> {
        let header = &message.header;
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    address = Some(IpAddr::V4(*v4));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    address = Some(IpAddr::V6(*v6));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddress);
                }
                _ => {}
            }
        }
        let address = address.filter(|address| !address.is_multicast())?;
        let ip = matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6);
        let forward_to = ip && !header.flags.contains(NeighbourFlags::Proxy);
        forward_to.then_some(Told {
            key: (header.ifindex, address),
            state: header.state,
            mac: mac.filter(|_| has_mac(header.state)),
        })
    }
}

/// The kernel's `NUD_VALID`: states in which the MAC address may be used.
fn has_mac(state: NeighbourState) -> bool {
    use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
    matches!(state, Permanent | Noarp | Reachable | Probe | Stale | Delay)
}

impl Neighbours {
    pub fn new(neighbours_max: usize) -> Self {
        Neighbours {
            entries: HashMap::new(),
            neighbours_max,
            unanswered: 0,
        }
    }

    /// The kernel told of a neighbour. `true` when the data plane sees a difference; `None` when
    /// there is no room for it.
    pub fn told(&mut self, told: Told, now: Instant) -> Option<bool> {
        if !self.entries.contains_key(&told.key) && self.entries.len() >= self.neighbours_max {
            return None;
        }
        let entry = self.entries.entry(told.key).or_insert_with(|| {
            self.unanswered += 1;
            Entry::default()
        });
        let before = (entry.mac, entry.failed.is_some());
        // One that was there and no longer answers at its old address may have moved: it is worth
        // looking for at once, and only not being found then is a failure.
        let failed = told.state == NeighbourState::Failed && entry.mac.is_none();
        self.unanswered += usize::from(told.mac.is_none());
        self.unanswered -= usize::from(entry.mac.is_none());
        entry.state = told.state;
        entry.mac = told.mac;
        entry.failed = failed.then_some(now);
        if told.state == NeighbourState::Failed {
            entry.asked = None;
        }
        Some(before != (entry.mac, entry.failed.is_some()))
    }

    /// The kernel forgot a neighbour. `true` when the data plane sees a difference.
    pub fn gone(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.remove(key) else {
            return false;
        };
        self.unanswered -= usize::from(entry.mac.is_none());
        entry.visible()
    }

    /// All neighbours the kernel has; the number there was no room for.
    pub fn replace(&mut self, all: impl IntoIterator<Item = Told>, now: Instant) -> usize {
        let mut old = std::mem::take(&mut self.entries);
        self.unanswered = 0;
        let mut refused = 0;
        for told in all {
            let key = told.key;
            let failed = told.state == NeighbourState::Failed;
            if self.told(told, now).is_none() {
                refused += 1;
                continue;
            }
            let entry = self.entries.get_mut(&key);
            let Some(entry) = entry else { continue };
            let old = old.remove(&key);
            // It may have failed long ago: only a failure heard of as it happened counts.
            entry.failed = old.as_ref().and_then(|old| old.failed).filter(|_| failed);
            if let Some(old) = old {
                entry.in_use = old.in_use;
                entry.asked = old.asked;
            }
        }
        refused
    }

    /// A worker wants a neighbour.
    pub fn ask(&mut self, key: Key, now: Instant) -> Answer {
        let unanswered_max = (self.neighbours_max / UNANSWERED_SHARE).max(1);
        let known = self.entries.contains_key(&key);
        let full = self.unanswered >= unanswered_max || self.entries.len() >= self.neighbours_max;
        if !known && full {
            return Answer::Refused;
        }
        let entry = self.entries.entry(key).or_insert_with(|| {
            self.unanswered += 1;
            Entry::default()
        });
        let soon = |since: Option<Instant>, wait| since.is_some_and(|since| now < since + wait);
        if entry.mac.is_some() || entry.failed.is_some() || soon(entry.asked, ASK_AGAIN_AFTER) {
            return Answer::Nothing;
        }
        entry.asked = Some(now);
        Answer::Ask {
            known: entry.state != NeighbourState::None,
        }
    }

    /// The kernel refused to resolve a neighbour, or it is asked for in vain.
    pub fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get(key)
            && entry.state == NeighbourState::None
        {
            self.gone(key);
        }
    }

    /// What time brings: stale neighbours in use, which the kernel must be told to probe, and
    /// whether the data plane sees a difference.
    pub fn sweep(&mut self, now: Instant) -> (Vec<Key>, bool) {
        let (mut probe, mut changed) = (Vec::new(), false);
        for (key, entry) in &mut self.entries {
            if entry.state == NeighbourState::Stale && entry.in_use.take() {
                probe.push(*key);
            }
            if entry.failed.is_some_and(|since| now >= since + FAILED_FOR) {
                entry.failed = None;
                changed = true;
            }
        }
        let unanswered = &mut self.unanswered;
        self.entries.retain(|_, entry| {
            let silent = entry.state == NeighbourState::None
                && entry.asked.is_none_or(|asked| now >= asked + SILENT_FOR);
            *unanswered -= usize::from(silent && entry.mac.is_none());
            !silent
        });
        (probe, changed)
    }

    /// What the data plane is told.
    pub fn visible<'n>(
        &'n self,
        ports: &'n HashMap<u32, PortId>,
    ) -> impl Iterator<Item = (Neighbour, NeighbourUse)> + 'n {
        let visible = self.entries.iter().filter(|(_, entry)| entry.visible());
        visible.filter_map(|(&(ifindex, address), entry)| {
            let port = *ports.get(&ifindex)?;
            let mac = entry.mac;
            Some((Neighbour { port, address, mac }, entry.in_use.clone()))
        })
    }
}

impl Default for Entry {
    fn default() -> Self {
        Entry {
            state: NeighbourState::None,
            mac: None,
            in_use: NeighbourUse::default(),
            asked: None,
            failed: None,
        }
    }
}

impl Entry {
    fn visible(&self) -> bool {
        self.mac.is_some() || self.failed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

    fn key(last: u8) -> Key {
        (7, IpAddr::from([198, 18, 0, last]))
    }

    fn told(last: u8, state: NeighbourState) -> Told {
        let mac = has_mac(state).then_some(MAC);
        let key = key(last);
        Told { key, state, mac }
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn visible(neighbours: &Neighbours) -> Vec<(IpAddr, Option<MacAddress>)> {
        let ports = HashMap::from([(7, PortId(1))]);
        let mut seen: Vec<_> = neighbours
            .visible(&ports)
            .map(|(neighbour, _)| (neighbour.address, neighbour.mac))
            .collect();
        seen.sort_unstable();
        seen
    }

    #[test]
    fn a_neighbour_is_asked_for_once_and_then_known() {
        let (mut neighbours, now) = (Neighbours::new(64), Instant::now());
        assert_eq!(neighbours.ask(key(1), now), Answer::Ask { known: false });
        assert_eq!(
            neighbours.ask(key(1), now + seconds(1) / 2),
            Answer::Nothing
        );
        assert_eq!(visible(&neighbours), []);
        assert_eq!(
            neighbours.told(told(1, NeighbourState::Incomplete), now),
            Some(false)
        );
        assert_eq!(
            neighbours.ask(key(1), now + seconds(1)),
            Answer::Ask { known: true }
        );
        assert_eq!(
            neighbours.told(told(1, NeighbourState::Reachable), now),
            Some(true)
        );
        assert_eq!(visible(&neighbours), [(key(1).1, Some(MAC))]);
        assert_eq!(
            neighbours.told(told(1, NeighbourState::Stale), now),
            Some(false)
        );
        assert_eq!(neighbours.ask(key(1), now + seconds(9)), Answer::Nothing);
        assert!(neighbours.gone(&key(1)));
        assert_eq!(
            neighbours.ask(key(1), now + seconds(9)),
            Answer::Ask { known: false }
        );
    }

    #[test]
    fn a_failed_neighbour_is_failed_for_a_while_and_then_asked_for_again() {
        let (mut neighbours, now) = (Neighbours::new(64), Instant::now());
        neighbours.ask(key(1), now);
        assert_eq!(
            neighbours.told(told(1, NeighbourState::Failed), now + seconds(3)),
            Some(true)
        );
        assert_eq!(visible(&neighbours), [(key(1).1, None)]);
        assert_eq!(neighbours.ask(key(1), now + seconds(4)), Answer::Nothing);
        assert_eq!(neighbours.sweep(now + seconds(4)), (vec![], false));
        assert_eq!(neighbours.sweep(now + seconds(5)), (vec![], true));
        assert_eq!(visible(&neighbours), []);
        // The kernel still has its entry: it must not be asked to create one.
        assert_eq!(
            neighbours.ask(key(1), now + seconds(6)),
            Answer::Ask { known: true }
        );
    }

    #[test]
    fn a_neighbour_that_was_there_is_looked_for_before_it_has_failed() {
        let (mut neighbours, now) = (Neighbours::new(64), Instant::now());
        neighbours.told(told(1, NeighbourState::Probe), now);
        assert_eq!(
            neighbours.told(told(1, NeighbourState::Failed), now),
            Some(true)
        );
        assert_eq!(visible(&neighbours), []);
        assert_eq!(neighbours.ask(key(1), now), Answer::Ask { known: true });
        assert_eq!(
            neighbours.told(told(1, NeighbourState::Failed), now),
            Some(true)
        );
        assert_eq!(visible(&neighbours), [(key(1).1, None)]);
    }

    #[test]
    fn only_stale_neighbours_in_use_are_probed() {
        let (mut neighbours, now) = (Neighbours::new(64), Instant::now());
        for (last, state) in [
            (1, NeighbourState::Stale),
            (2, NeighbourState::Stale),
            (3, NeighbourState::Permanent),
            (4, NeighbourState::Reachable),
        ] {
            neighbours.told(told(last, state), now);
        }
        let ports = HashMap::from([(7, PortId(1))]);
        for (neighbour, in_use) in neighbours.visible(&ports) {
            if neighbour.address != key(2).1 {
                in_use.mark();
            }
        }
        assert_eq!(neighbours.sweep(now), (vec![key(1)], false));
        assert_eq!(neighbours.sweep(now), (vec![], false), "not used since");
    }

    #[test]
    fn unanswered_requests_leave_room_for_answered_ones() {
        let (mut neighbours, now) = (Neighbours::new(16), Instant::now());
        for last in 1..=4 {
            assert_eq!(neighbours.ask(key(last), now), Answer::Ask { known: false });
        }
        assert_eq!(neighbours.ask(key(5), now), Answer::Refused);
        neighbours.told(told(1, NeighbourState::Reachable), now);
        assert_eq!(neighbours.ask(key(5), now), Answer::Ask { known: false });
        for last in 6..=16 {
            assert!(
                neighbours
                    .told(told(last, NeighbourState::Stale), now)
                    .is_some()
            );
        }
        assert_eq!(neighbours.told(told(17, NeighbourState::Stale), now), None);
        // What the kernel never told of makes room.
        neighbours.sweep(now + SILENT_FOR);
        assert_eq!(neighbours.ask(key(18), now), Answer::Ask { known: false });
        assert_eq!(neighbours.unanswered, 1);
    }

    #[test]
    fn a_full_picture_keeps_who_is_in_use_and_who_just_failed() {
        let (mut neighbours, now) = (Neighbours::new(64), Instant::now());
        neighbours.told(told(1, NeighbourState::Stale), now);
        neighbours.told(told(2, NeighbourState::Failed), now);
        neighbours.told(told(3, NeighbourState::Stale), now);
        let ports = HashMap::from([(7, PortId(1))]);
        neighbours
            .visible(&ports)
            .for_each(|(_, in_use)| in_use.mark());
        let all = [
            told(1, NeighbourState::Stale),
            told(2, NeighbourState::Failed),
            told(4, NeighbourState::Failed),
        ];
        assert_eq!(neighbours.replace(all, now), 0);
        assert_eq!(
            visible(&neighbours),
            [(key(1).1, Some(MAC)), (key(2).1, None)]
        );
        assert_eq!(neighbours.sweep(now).0, [key(1)]);
        assert_eq!(neighbours.unanswered, 2);
    }
}
