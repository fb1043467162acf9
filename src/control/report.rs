//! Builds a [`Status`] from the workers' counters and what control knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::policy::{Prepared, direction_name};
use super::rule_slots::{RuleSlots, RuleTotals};
use super::status::{
    FlowsStatus, NeighboursStatus, RuleStatus, StageStatus, VolumeStatus, WorkerPackets,
    WorkerStatus,
};
use crate::dataplane::snapshot::RuleSlot;
use crate::dataplane::statistics::{Counter, Volume, WorkerCounters};
use crate::dataplane::verdict::{DropReason, PortId};

/// The counters of all workers, read together.
#[derive(Debug, Clone)]
pub struct Workers {
    /// One for each worker.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// Core each is pinned to.
    pub cores: Vec<usize>,
}

impl Workers {
    /// Sum of one counter.
    pub fn sum(&self, read: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
        self.counters
            .iter()
            .map(|counters| read(counters).get())
            .sum()
    }

    /// Sum of one volume.
    pub fn volume(&self, read: impl Fn(&WorkerCounters) -> &Volume) -> VolumeStatus {
        VolumeStatus {
            packets: self.sum(|counters| &read(counters).packets),
            bytes: self.sum(|counters| &read(counters).bytes),
        }
    }

    /// What a rule has decided.
    pub fn rule(&self, slot: RuleSlot) -> RuleTotals {
        let mut totals = RuleTotals::default();
        for rule in self
            .counters
            .iter()
            .filter_map(|counters| counters.rule(slot))
        {
            totals.decisions += rule.decisions.get();
            totals.packets += rule.volume.packets.get();
            totals.bytes += rule.volume.bytes.get();
        }
        totals
    }

    /// What a port has received and sent.
    pub fn port(&self, port: PortId) -> (VolumeStatus, VolumeStatus) {
        let number = port.0 as usize;
        let received = self.volume(|counters| &counters.ports[number].received);
        (
            received,
            self.volume(|counters| &counters.ports[number].sent),
        )
    }

    /// Packets by verdict.
    pub fn verdicts(&self) -> BTreeMap<String, VolumeStatus> {
        let mut dropped = VolumeStatus::default();
        for volume in self.drops().values() {
            dropped.packets += volume.packets;
            dropped.bytes += volume.bytes;
        }
        BTreeMap::from([
            (
                "forward".to_owned(),
                self.volume(|counters| &counters.forwarded),
            ),
            ("drop".to_owned(), dropped),
            (
                "kernel".to_owned(),
                self.volume(|counters| &counters.kernel),
            ),
            ("local".to_owned(), self.volume(|counters| &counters.local)),
            ("hold".to_owned(), self.volume(|counters| &counters.held)),
            (
                "handoff".to_owned(),
                self.volume(|counters| &counters.handed_off),
            ),
        ])
    }

    /// Dropped packets by reason, without reasons that never occurred.
    pub fn drops(&self) -> BTreeMap<String, VolumeStatus> {
        let reasons = DropReason::ALL.iter().map(|&reason| {
            let volume = self.volume(|counters| &counters.drops[reason as usize]);
            (reason.name().to_owned(), volume)
        });
        reasons.filter(|(_, volume)| volume.packets > 0).collect()
    }

    /// The flow tables together.
    pub fn flows(&self, limit: u64) -> FlowsStatus {
        FlowsStatus {
            live: self.sum(|counters| &counters.flows),
            unreplied: self.sum(|counters| &counters.flows_unreplied),
            limit,
            created: self.sum(|counters| &counters.flows_created),
            expired: self.sum(|counters| &counters.flows_expired),
            evicted: self.sum(|counters| &counters.flows_evicted),
            hurried: self.sum(|counters| &counters.flows_hurried),
            source_limited: self.sum(|counters| &counters.flows_source_limited),
            pressure: self.sum(|counters| &counters.flow_pressure),
            pressures: self.sum(|counters| &counters.flow_pressures),
        }
    }

    /// One row a worker.
    pub fn rows(&self, now_us: u64) -> Vec<WorkerStatus> {
        let workers = self.counters.iter().zip(&self.cores);
        workers
            .map(|(counters, &core)| WorkerStatus {
                core,
                batches: counters.batches.get(),
                pulse_age_ms: now_us.saturating_sub(counters.pulse_us.get()) / 1000,
                packets: packets_of(counters),
            })
            .collect()
    }

    /// Frames waiting for neighbours.
    pub fn neighbours(&self, requests_lost: u64) -> NeighboursStatus {
        let frames_waiting = self.sum(|counters| &counters.frames_waiting);
        NeighboursStatus {
            frames_waiting,
            requests_lost,
        }
    }

    /// Counters that have no place of their own.
    pub fn others(&self) -> BTreeMap<String, u64> {
        BTreeMap::from([
            ("icmp-errors-sent".to_owned(), self.sum(|c| &c.replies_sent)),
            (
                "icmp-errors-limited".to_owned(),
                self.sum(|c| &c.replies_limited),
            ),
            (
                "flows-without-rule-counters".to_owned(),
                self.sum(|c| &c.trails_full),
            ),
            ("packets-fragmented".to_owned(), self.sum(|c| &c.fragmented)),
            (
                "checksums-completed".to_owned(),
                self.sum(|c| &c.checksums_completed),
            ),
            ("rules-logged".to_owned(), self.sum(|c| &c.rules_logged)),
            (
                "connections-over-rate".to_owned(),
                self.sum(|c| &c.connections_over_rate),
            ),
            (
                "rate-limits-full".to_owned(),
                self.sum(|c| &c.rate_limits_full),
            ),
            ("events-lost".to_owned(), self.sum(|c| &c.events_lost)),
        ])
    }
}

fn packets_of(counters: &WorkerCounters) -> WorkerPackets {
    let packets = |volume: &Volume| volume.packets.get();
    WorkerPackets {
        received: counters.ports.iter().map(|p| packets(&p.received)).sum(),
        handed_in: counters.handed_in.get(),
        forwarded: packets(&counters.forwarded),
        dropped: counters.drops.iter().map(packets).sum(),
        local: packets(&counters.kernel) + packets(&counters.local),
        handed_off: packets(&counters.handed_off),
        waiting: counters.frames_waiting.get(),
    }
}

/// Every rule that is in force or has decided something.
pub fn rules(slots: &RuleSlots, generation: u32, workers: &Workers) -> Vec<RuleStatus> {
    let rows = slots.totals(generation, |slot| workers.rule(slot));
    rows.filter(|(_, _, in_force, totals)| *in_force || totals.decisions > 0)
        .map(|(label, id, in_force, totals)| RuleStatus {
            id: format!("{:016x}", id.0),
            rule: label.to_owned(),
            in_force,
            decisions: totals.decisions,
            packets: totals.packets,
            bytes: totals.bytes,
        })
        .collect()
}

/// Size and shape of the compiled stages.
pub fn stages(prepared: &Prepared) -> Vec<StageStatus> {
    let stages = prepared
        .decider
        .policy()
        .stages
        .iter()
        .zip(prepared.decider.trees());
    stages
        .map(|(rules, trees)| StageStatus {
            family: rules.family().to_owned(),
            direction: direction_name(rules.direction()).to_owned(),
            rules: rules.len(),
            nodes: trees.nodes() as usize,
            bytes: trees.bytes() as usize,
        })
        .collect()
}
