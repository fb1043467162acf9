//! Counters a worker writes and control reads: one writer each, relaxed, never reset.

use std::sync::atomic::{AtomicU64, Ordering};

use super::snapshot::RuleSlot;
use super::verdict::{DropReason, PortId};

/// A counter with one writing thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; must be called by the owning worker alone, which makes load and store enough.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }

    /// Overwrites (for gauges).
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads, from any thread.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Packets and their bytes.
#[derive(Debug, Default)]
pub struct Volume {
    /// Number of packets.
    pub packets: Counter,
    /// Bytes of their frames.
    pub bytes: Counter,
}

impl Volume {
    /// Counts one packet.
    #[inline]
    pub fn count(&self, bytes: usize) {
        self.packets.add(1);
        self.bytes.add(bytes as u64);
    }
}

/// What a port has seen.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Frames that came in.
    pub received: Volume,
    /// Frames that left: forwarded ones and answers made here.
    pub sent: Volume,
}

/// What a rule has decided.
#[derive(Debug, Default)]
pub struct RuleCounters {
    /// First packets, and packets of flows asked again, that the rule decided.
    pub decisions: Counter,
    /// Packets of flows the rule has admitted, both ways, and packets it has denied.
    pub volume: Volume,
}

/// All counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    /// By port number.
    pub ports: Box<[PortCounters]>,
    /// By [`DropReason`] number.
    pub drops: Box<[Volume]>,
    /// By [`RuleSlot`].
    pub rules: Box<[RuleCounters]>,
    /// Frames forwarded.
    pub forwarded: Volume,
    /// Frames for the kernel's own stack.
    pub kernel: Volume,
    /// Frames for services of this process.
    pub local: Volume,
    /// Frames given to another worker.
    pub handed_off: Volume,
    /// Frames taken over from other workers.
    pub handed_in: Counter,
    /// Frames that had to wait; each is counted again with its final verdict.
    pub held: Volume,
    /// ICMP errors sent.
    pub replies_sent: Counter,
    /// ICMP errors not sent because of the rate limit.
    pub replies_limited: Counter,
    /// Decisions whose flows' packets are not counted by rule: too many combinations of rules.
    pub trails_full: Counter,
    /// Packets that left in fragments.
    pub fragmented: Counter,
    /// Checksums completed for senders that left them to their device.
    pub checksums_completed: Counter,
    /// Events control was too slow to take.
    pub events_lost: Counter,
    /// Matches of rules that log.
    pub rules_logged: Counter,
    /// Connections beyond the rate of a rule, which then did not match.
    pub connections_over_rate: Counter,
    /// The same where there was no room to count the source's connections.
    pub rate_limits_full: Counter,
    /// Batches that had at least one frame.
    pub batches: Counter,
    /// Live flows (gauge).
    pub flows: Counter,
    /// Live flows without an answer (gauge).
    pub flows_unreplied: Counter,
    /// Flows created.
    pub flows_created: Counter,
    /// Flows that timed out.
    pub flows_expired: Counter,
    /// Flows removed to make room.
    pub flows_evicted: Counter,
    /// Flows that ended early, under pressure.
    pub flows_hurried: Counter,
    /// Flows refused because their source had too many half-open ones.
    pub flows_source_limited: Counter,
    /// Times the table has come under pressure.
    pub flow_pressures: Counter,
    /// Is it under pressure? (gauge, 0 or 1)
    pub flow_pressure: Counter,
    /// Frames waiting for neighbours (gauge).
    pub frames_waiting: Counter,
    /// Last time the worker's loop came round, microseconds on its clock: a watchdog's pulse.
    pub pulse_us: Counter,
}

impl WorkerCounters {
    /// Allocates for this many ports and rule slots.
    pub fn new(ports: usize, rule_slots: usize) -> Self {
        fn many<T: Default>(count: usize) -> Box<[T]> {
            (0..count).map(|_| T::default()).collect()
        }
        WorkerCounters {
            ports: many(ports),
            drops: many(DropReason::COUNT),
            rules: many(rule_slots),
            forwarded: Volume::default(),
            kernel: Volume::default(),
            local: Volume::default(),
            handed_off: Volume::default(),
            handed_in: Counter::default(),
            held: Volume::default(),
            replies_sent: Counter::default(),
            replies_limited: Counter::default(),
            trails_full: Counter::default(),
            fragmented: Counter::default(),
            checksums_completed: Counter::default(),
            events_lost: Counter::default(),
            rules_logged: Counter::default(),
            connections_over_rate: Counter::default(),
            rate_limits_full: Counter::default(),
            batches: Counter::default(),
            flows: Counter::default(),
            flows_unreplied: Counter::default(),
            flows_created: Counter::default(),
            flows_expired: Counter::default(),
            flows_evicted: Counter::default(),
            flows_hurried: Counter::default(),
            flows_source_limited: Counter::default(),
            flow_pressures: Counter::default(),
            flow_pressure: Counter::default(),
            frames_waiting: Counter::default(),
            pulse_us: Counter::default(),
        }
    }

    /// Counts a drop.
    #[inline]
    pub fn dropped(&self, reason: DropReason, bytes: usize) {
        self.drops[reason as usize].count(bytes);
    }

    /// Counters of a port; `None` for a number that is no port.
    #[inline]
    pub fn port(&self, port: PortId) -> Option<&PortCounters> {
        self.ports.get(port.0 as usize)
    }

    /// Counters of a rule; `None` for [`RuleSlot::NONE`] and for slots beyond the limit.
    #[inline]
    pub fn rule(&self, slot: RuleSlot) -> Option<&RuleCounters> {
        self.rules.get(slot.0 as usize)
    }
}
