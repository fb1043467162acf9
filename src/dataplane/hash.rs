//! A hash for tables that are built outside the packet path and read in it.

use std::hash::{BuildHasher, Hasher};

use super::random::random_key;

/// Hashes by multiplying and folding, keyed anew for every table: a third of SipHash' time, and
/// hosts on the link, who choose their own addresses, cannot choose which of them collide.
#[derive(Debug, Clone)]
pub(super) struct KeyedHash {
    seed: u64,
    factor: u64,
}

pub(super) struct KeyedHasher {
    state: u64,
    factor: u64,
}

impl Default for KeyedHash {
    fn default() -> Self {
        let (seed, factor) = random_key().expect("the kernel has random numbers");
        KeyedHash {
            seed,
            factor: factor | 1,
        }
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = KeyedHasher;

    #[inline]
    fn build_hasher(&self) -> KeyedHasher {
        let (state, factor) = (self.seed, self.factor);
        KeyedHasher { state, factor }
    }
}

impl Hasher for KeyedHasher {
    #[inline]
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor);
        self.state = (product >> 64) as u64 ^ (product as u64) ^ self.state.rotate_left(29);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }
}
