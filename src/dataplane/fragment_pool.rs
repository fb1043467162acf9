//! Fragments that came before the first of their datagram: they wait for its verdict.
//!
//! Copies in memory of the pool's own, so that waiting fragments take no frame from the rings.
//! Bounds: bytes in all, of which a source may hold an eighth; fragments a datagram; time. What
//! exceeds them is dropped, and whoever fills his share leaves the others theirs.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::fragment::{DatagramKey, FRAGMENTS_PER_DATAGRAM_MAX};
use super::verdict::{DropReason, PortId};
use crate::wire::{Family, PacketView};

/// Bytes of one place. Longer frames do not wait.
pub const FRAGMENT_BYTES_MAX: usize = 2048;

/// A source may hold this share of the places.
const SOURCE_SHARE: usize = 8;

/// No place.
const NONE: u32 = u32::MAX;

/// A waiting fragment, and its place in one of the lists.
#[derive(Debug, Clone)]
struct Place {
    key: DatagramKey,
    port: PortId,
    bytes: u16,
    source: u32,
    expires_us: u64,
    /// In the chain of its bucket, the list of released ones, or that of free ones.
    next: u32,
    /// By age.
    older: u32,
    newer: u32,
}

/// The waiting fragments of one worker.
#[derive(Debug)]
pub struct FragmentPool {
    places: Vec<Place>,
    memory: Box<[u8]>,
    /// Heads of chains through [`Place::next`], newest first; a power of two.
    buckets: Vec<u32>,
    /// Places by hash of their source; a power of two.
    sources: Vec<u32>,
    hash_key: [u64; 2],
    /// By family.
    lifetimes_us: [u64; 2],
    free: u32,
    oldest: u32,
    newest: u32,
    /// Fragments whose first one has come, in the order they are given back in.
    released: u32,
    last_released: u32,
    used: usize,
}

impl FragmentPool {
    /// A pool of this many bytes, 2,048 for each fragment; lifetimes of IPv4 and IPv6 fragments.
    pub fn new(bytes_max: usize, lifetimes_us: [u64; 2], hash_key: [u64; 2]) -> Self {
        let count = (bytes_max / FRAGMENT_BYTES_MAX).max(1);
        let slots = count.next_power_of_two();
        let mut pool = FragmentPool {
            places: vec![Place::UNUSED; count],
            memory: vec![0; count * FRAGMENT_BYTES_MAX].into_boxed_slice(),
            buckets: vec![NONE; slots],
            sources: vec![0; slots * 4],
            hash_key,
            lifetimes_us,
            free: NONE,
            oldest: NONE,
            newest: NONE,
            released: NONE,
            last_released: NONE,
            used: 0,
        };
        for place in (0..count as u32).rev() {
            pool.places[place as usize].next = pool.free;
            pool.free = place;
        }
        pool
    }

    /// Keeps a copy of a later fragment whose first one has not come.
    ///
    /// # Errors
    /// `FragmentPoolFull` when the pool, the source's share or the datagram's is used up, or the
    /// frame too long; `FragmentWithoutFirst` when the view is of no later fragment.
    pub fn hold(
        &mut self,
        now_us: u64,
        view: &PacketView,
        port: PortId,
        frame: &[u8],
    ) -> Result<(), DropReason> {
        let fragment = view.fragment.filter(|fragment| fragment.is_later());
        let fragment = fragment.ok_or(DropReason::FragmentWithoutFirst)?;
        let frame = frame.get(..view.packet_end as usize).unwrap_or(frame);
        let key = DatagramKey::of(view, fragment);
        let bucket = self.bucket(&key);
        let source = self.source(&key);
        let share = (self.places.len() / SOURCE_SHARE).max(1) as u32;
        let full = self.free == NONE
            || frame.len() > FRAGMENT_BYTES_MAX
            || self.sources[source as usize] >= share
            || self.of_datagram(bucket, &key) >= FRAGMENTS_PER_DATAGRAM_MAX;
        if full {
            return Err(DropReason::FragmentPoolFull);
        }
        let [v4_us, v6_us] = self.lifetimes_us;
        let lifetime_us = match key.family {
            Family::V4 => v4_us,
            Family::V6 => v6_us,
        };
        let place = self.free;
        self.free = self.places[place as usize].next;
        self.places[place as usize] = Place {
            key,
            port,
            bytes: frame.len() as u16,
            source,
            expires_us: now_us.saturating_add(lifetime_us),
            next: self.buckets[bucket as usize],
            older: self.newest,
            newer: NONE,
        };
        self.buckets[bucket as usize] = place;
        match self.newest {
            NONE => self.oldest = place,
            newest => self.places[newest as usize].newer = place,
        }
        self.newest = place;
        self.sources[source as usize] += 1;
        self.used += 1;
        let at = place as usize * FRAGMENT_BYTES_MAX;
        self.memory[at..at + frame.len()].copy_from_slice(frame);
        Ok(())
    }

    /// The first fragment of a datagram has come: those that wait for it may go on.
    #[inline]
    pub fn release(&mut self, view: &PacketView) {
        if let Some(fragment) = view.fragment.filter(|_| self.used > 0) {
            self.release_all(&DatagramKey::of(view, fragment));
        }
    }

    fn release_all(&mut self, key: &DatagramKey) {
        let bucket = self.bucket(key) as usize;
        let (mut place, mut previous) = (self.buckets[bucket], NONE);
        let (mut first, mut last) = (NONE, NONE);
        while place != NONE {
            let next = self.places[place as usize].next;
            if self.places[place as usize].key == *key {
                match previous {
                    NONE => self.buckets[bucket] = next,
                    previous => self.places[previous as usize].next = next,
                }
                self.forget_age(place);
                // The chain has the newest first: this turns it round.
                self.places[place as usize].next = first;
                first = place;
                if last == NONE {
                    last = place;
                }
            } else {
                previous = place;
            }
            place = next;
        }
        if first == NONE {
            return;
        }
        match self.last_released {
            NONE => self.released = first,
            tail => self.places[tail as usize].next = first,
        }
        self.last_released = last;
    }

    /// Are there fragments to go on?
    #[inline]
    pub fn has_released(&self) -> bool {
        self.released != NONE
    }

    /// Gives back the next fragment that may go on.
    pub fn take<R>(&mut self, take: impl FnOnce(PortId, &[u8]) -> R) -> Option<R> {
        let place = self.released;
        if place == NONE {
            return None;
        }
        self.released = self.places[place as usize].next;
        if self.released == NONE {
            self.last_released = NONE;
        }
        let entry = &self.places[place as usize];
        let at = place as usize * FRAGMENT_BYTES_MAX;
        let taken = take(entry.port, &self.memory[at..at + usize::from(entry.bytes)]);
        self.give_back(place);
        Some(taken)
    }

    /// Drops what has waited too long, a few at a time; `dropped` is told of each its bytes.
    pub fn expire(&mut self, now_us: u64, mut dropped: impl FnMut(usize)) {
        for _ in 0..FRAGMENTS_PER_DATAGRAM_MAX {
            let place = self.oldest;
            // Lifetimes differ by family: one that lives longer holds up the others, and no more.
            if place == NONE || self.places[place as usize].expires_us > now_us {
                return;
            }
            dropped(usize::from(self.places[place as usize].bytes));
            self.unchain(place);
            self.forget_age(place);
            self.give_back(place);
        }
    }

    /// Fragments that wait or are to go on.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Does nothing wait?
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn of_datagram(&self, bucket: u32, key: &DatagramKey) -> usize {
        let mut place = self.buckets[bucket as usize];
        let mut count = 0;
        while place != NONE {
            count += usize::from(self.places[place as usize].key == *key);
            place = self.places[place as usize].next;
        }
        count
    }

    fn unchain(&mut self, place: u32) {
        let bucket = self.bucket(&self.places[place as usize].key) as usize;
        let next = self.places[place as usize].next;
        let mut at = self.buckets[bucket];
        if at == place {
            self.buckets[bucket] = next;
            return;
        }
        while at != NONE {
            if self.places[at as usize].next == place {
                self.places[at as usize].next = next;
                return;
            }
            at = self.places[at as usize].next;
        }
        debug_assert!(false, "a waiting fragment is in the chain of its bucket");
    }

    fn forget_age(&mut self, place: u32) {
        let (older, newer) = {
            let entry = &self.places[place as usize];
            (entry.older, entry.newer)
        };
        match older {
            NONE => self.oldest = newer,
            older => self.places[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.places[newer as usize].older = older,
        }
    }

    fn give_back(&mut self, place: u32) {
        let source = self.places[place as usize].source;
        self.sources[source as usize] -= 1;
        self.used -= 1;
        self.places[place as usize].next = self.free;
        self.free = place;
    }

    fn bucket(&self, key: &DatagramKey) -> u32 {
        key.hash(self.hash_key) as u32 & (self.buckets.len() as u32 - 1)
    }

    /// Which counter a source uses. All of an IPv6 /64 is one source.
    fn source(&self, key: &DatagramKey) -> u32 {
        let [k0, k1] = self.hash_key;
        let mut hasher = SipHasher13::new_with_keys(k1, k0);
        let [high, low] = key.source.halves();
        hasher.write_u64(match key.family {
            Family::V4 => low,
            Family::V6 => high,
        });
        hasher.finish() as u32 & (self.sources.len() as u32 - 1)
    }
}

impl Place {
    const UNUSED: Place = Place {
        key: DatagramKey::UNUSED,
        port: PortId(0),
        bytes: 0,
        source: 0,
        expires_us: 0,
        next: NONE,
        older: NONE,
        newer: NONE,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protocol;
    use crate::wire::sample::{self, Ipv4};

    const PORT: PortId = PortId(3);

    /// A fragment of datagram `id` from 198.18.0.`host`; offset in 8 bytes.
    fn fragment(host: u8, id: u16, offset: u16, more: bool) -> Vec<u8> {
        let mut frame = Ipv4 {
            flags_and_offset: offset | if more { 0x2000 } else { 0 },
            ..Ipv4::new(protocol::UDP)
        }
        .frame(&sample::udp(&[offset as u8; 24]));
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frame[26..30].copy_from_slice(&[198, 18, 0, host]);
        sample::repair_ipv4_checksum(&mut frame);
        frame
    }

    fn pool(places: usize) -> FragmentPool {
        let lifetimes = [10_000_000, 60_000_000];
        FragmentPool::new(places * FRAGMENT_BYTES_MAX, lifetimes, [1, 2])
    }

    fn hold(pool: &mut FragmentPool, now_us: u64, frame: &[u8]) -> Result<(), DropReason> {
        pool.hold(now_us, &sample::view(frame), PORT, frame)
    }

    fn taken(pool: &mut FragmentPool) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| {
            pool.take(|port, bytes| {
                assert_eq!(port, PORT);
                bytes.to_vec()
            })
        })
        .collect()
    }

    #[test]
    fn fragments_come_back_in_order_once_the_first_is_there() {
        let mut pool = pool(64);
        let (one, two) = (fragment(1, 7, 4, true), fragment(1, 7, 8, false));
        let other = fragment(1, 8, 4, false);
        for frame in [&one, &other, &two] {
            hold(&mut pool, 0, frame).unwrap();
        }
        assert!(taken(&mut pool).is_empty());
        pool.release(&sample::view(&fragment(1, 7, 0, true)));
        assert_eq!(taken(&mut pool), [one, two]);
        assert_eq!(pool.len(), 1);
    }

    #[test]
    fn a_source_fills_its_eighth_and_leaves_the_rest_to_others() {
        let mut pool = pool(64);
        for id in 0..8 {
            hold(&mut pool, 0, &fragment(1, id, 4, true)).unwrap();
        }
        let ninth = hold(&mut pool, 0, &fragment(1, 9, 4, true));
        assert_eq!(ninth, Err(DropReason::FragmentPoolFull));
        hold(&mut pool, 0, &fragment(2, 9, 4, true)).unwrap();
    }

    #[test]
    fn what_waits_too_long_is_dropped_and_its_place_is_free_again() {
        let mut pool = pool(16);
        for round in 0..100_u64 {
            let now_us = round * 10_000_000;
            let mut dropped = 0;
            pool.expire(now_us, |_| dropped += 1);
            assert_eq!(dropped, if round == 0 { 0 } else { 2 });
            hold(&mut pool, now_us, &fragment(1, round as u16, 4, true)).unwrap();
            hold(&mut pool, now_us, &fragment(1, round as u16, 8, true)).unwrap();
        }
        pool.release(&sample::view(&fragment(1, 99, 0, true)));
        assert_eq!(taken(&mut pool).len(), 2);
        assert!(pool.is_empty());
    }

    #[test]
    fn a_datagram_has_no_more_than_its_fragments() {
        let mut pool = pool(1024);
        for offset in 1..=64 {
            hold(&mut pool, 0, &fragment(1, 7, offset * 4, true)).unwrap();
        }
        let one_more = hold(&mut pool, 0, &fragment(1, 7, 400, true));
        assert_eq!(one_more, Err(DropReason::FragmentPoolFull));
    }
}
