//! How many connections a source may open under a rule that matches only so often: a token bucket
//! for each rule and source, in a table of fixed size.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::snapshot::RuleSlot;
use crate::wire::{Address, Family};

/// A rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Connections per second, of every source.
    pub connections_per_second: u32,
    /// Connections at once after a quiet time.
    pub burst: u32,
}

/// What came of asking for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is within the limit, and counted.
    Within,
    /// It is beyond.
    Beyond,
    /// There is no room to count this source's: taken to be beyond.
    NoRoom,
}

/// Buckets of one worker. Allocates at creation alone.
///
/// A bucket whose source has been quiet for long enough is as good as none, and makes room for
/// another; one that counts for something is never given up.
pub struct RateLimiter {
    buckets: Box<[Bucket]>,
    hash_key: (u64, u64),
    workers: u32,
}

/// What a source owes: every connection adds [`RateLimiter::cost`], time pays it back.
#[derive(Clone, Copy)]
struct Bucket {
    rule: RuleSlot,
    family: Family,
    source: Address,
    debt: u64,
    at_us: u64,
    per_second: u32,
}

impl Bucket {
    const NONE: Bucket = Bucket {
        rule: RuleSlot::NONE,
        family: Family::V4,
        source: Address::ZERO,
        debt: 0,
        at_us: 0,
        per_second: 0,
    };

    #[inline]
    fn debt_at(&self, now_us: u64) -> u64 {
        let elapsed_us = now_us.saturating_sub(self.at_us);
        let paid = elapsed_us.saturating_mul(self.per_second.into());
        self.debt.saturating_sub(paid)
    }
}

/// Buckets among which one is looked for. With half of all in use, that all of these are is rare.
const WAYS: usize = 32;

/// A connection is paid back at a millionth of the rate a microsecond.
const US_PER_SECOND: u64 = 1_000_000;

impl RateLimiter {
    /// Room for this many pairs of rule and source. A worker among several sees its share of a
    /// source's connections, and grants its share of the rate.
    pub fn new(sources_max: usize, workers: u32, hash_key: (u64, u64)) -> Self {
        let groups = (2 * sources_max).div_ceil(WAYS).max(1);
        RateLimiter {
            buckets: vec![Bucket::NONE; groups * WAYS].into(),
            hash_key,
            workers: workers.max(1),
        }
    }

    /// A source wants to open a connection under a rule.
    pub fn take(
        &mut self,
        now_us: u64,
        rule: RuleSlot,
        (family, source): (Family, Address),
        limit: RateLimit,
    ) -> Taken {
        let cost = self.cost();
        let burst = limit.burst.div_ceil(self.workers).max(1);
        let debt_max = u64::from(burst).saturating_mul(cost);
        let Some(bucket) = self.bucket(now_us, rule, (family, source)) else {
            return Taken::NoRoom;
        };
        let debt = bucket.debt_at(now_us);
        let within = debt.saturating_add(cost) <= debt_max;
        *bucket = Bucket {
            rule,
            family,
            source,
            debt: if within { debt + cost } else { debt },
            at_us: now_us,
            per_second: limit.connections_per_second,
        };
        match within {
            true => Taken::Within,
            false => Taken::Beyond,
        }
    }

    /// What one connection costs.
    fn cost(&self) -> u64 {
        US_PER_SECOND * u64::from(self.workers)
    }

    /// The bucket of a rule and source, or one that is free.
    fn bucket(
        &mut self,
        now_us: u64,
        rule: RuleSlot,
        (family, source): (Family, Address),
    ) -> Option<&mut Bucket> {
        let mut hasher = SipHasher13::new_with_keys(self.hash_key.0, self.hash_key.1);
        hasher.write_u64(u64::from(rule.0) << 8 | family as u64);
        source
            .halves()
            .iter()
            .for_each(|&half| hasher.write_u64(half));
        let group = hasher.finish() as usize % (self.buckets.len() / WAYS);
        let group = &mut self.buckets[group * WAYS..][..WAYS];
        let own = |one: &Bucket| one.rule == rule && one.family == family && one.source == source;
        let place = group.iter().position(own);
        let place = place.or_else(|| group.iter().position(|one| one.debt_at(now_us) == 0));
        place.map(|place| &mut group[place])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: RateLimit = RateLimit {
        connections_per_second: 10,
        burst: 3,
    };

    fn source(last: u32) -> (Family, Address) {
        (Family::V4, Address::from_bits(last.into()))
    }

    /// A bucket of tokens as a textbook has it, in millionths of a token.
    struct Tokens {
        left: u64,
        at_us: u64,
    }

    impl Tokens {
        fn take(&mut self, now_us: u64, limit: RateLimit) -> bool {
            let full = u64::from(limit.burst) * 1_000_000;
            let come = (now_us - self.at_us) * u64::from(limit.connections_per_second);
            (self.left, self.at_us) = (full.min(self.left + come), now_us);
            let taken = self.left >= 1_000_000;
            self.left -= if taken { 1_000_000 } else { 0 };
            taken
        }
    }

    proptest! {
        #[test]
        fn each_source_has_a_bucket_of_tokens(
            steps in prop::collection::vec((0..400_000u64, 0..3u32, 0..2u32), 1..200),
            per_second in 1..20u32,
            burst in 1..6u32,
        ) {
            let limit = RateLimit { connections_per_second: per_second, burst };
            let mut limiter = RateLimiter::new(16, 1, (1, 2));
            let full = u64::from(burst) * 1_000_000;
            let mut twins: Vec<_> = (0..6).map(|_| Tokens { left: full, at_us: 0 }).collect();
            let mut now_us = 0;
            for (wait_us, last, rule) in steps {
                now_us += wait_us;
                let taken = limiter.take(now_us, RuleSlot(rule), source(last), limit);
                let expected = twins[(rule * 3 + last) as usize].take(now_us, limit);
                prop_assert_eq!(taken == Taken::Within, expected, "{} {}", now_us, last);
                prop_assert_ne!(taken, Taken::NoRoom);
            }
        }
    }

    #[test]
    fn a_full_table_refuses_newcomers_until_somebody_has_been_quiet() {
        let mut limiter = RateLimiter::new(1, 1, (1, 2));
        let taken = |limiter: &mut RateLimiter, now_us, last| {
            limiter.take(now_us, RuleSlot(1), source(last), LIMIT)
        };
        for last in 0..WAYS as u32 {
            assert_eq!(taken(&mut limiter, 0, last), Taken::Within);
        }
        assert_eq!(taken(&mut limiter, 99_999, 99), Taken::NoRoom);
        assert_eq!(taken(&mut limiter, 99_999, 0), Taken::Within);
        // A tenth of a second pays for a connection.
        assert_eq!(taken(&mut limiter, 100_000, 99), Taken::Within);
        assert_eq!(taken(&mut limiter, 100_000, 0), Taken::Within);
    }

    #[test]
    fn workers_share_rate_and_burst() {
        let limit = RateLimit {
            connections_per_second: 10,
            burst: 4,
        };
        let mut limiter = RateLimiter::new(16, 2, (1, 2));
        let mut granted = |now_us| {
            let take = |_: &u32| {
                let taken = limiter.take(now_us, RuleSlot(1), source(1), limit);
                taken == Taken::Within
            };
            (0..20).filter(take).count()
        };
        assert_eq!(granted(0), 2);
        assert_eq!(granted(199_999), 0);
        assert_eq!(granted(200_000), 1);
        assert_eq!(granted(u64::MAX), 2);
    }
}
