//! The tracked flows, as `portcullis flows` and the admin interface tell of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dataplane::conntrack::{FlowDirection, Marks};
use crate::dataplane::flow_job::{FlowFilter, FlowJob, FlowRecord};
use crate::wire::{Address, FlowKey, protocol};

/// What is asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowsQuery {
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// An end is in this prefix (its address and length), before or after translation.
    pub address: Option<(IpAddr, u8)>,
    /// An end has this port, before or after translation.
    pub port: Option<u16>,
    /// Flows to tell of at the most; [`FLOWS_DEFAULT`] when not said.
    pub limit: Option<u32>,
    /// Forget them.
    pub delete: bool,
}

/// Flows told of when no limit is given.
pub const FLOWS_DEFAULT: u32 = 1000;

/// The answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FlowsAnswer {
    /// Flows that fit.
    pub matched: u64,
    /// As many of them as were asked for.
    pub flows: Vec<FlowRow>,
}

/// The ends of one direction's packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port, or identifier of an ICMP query.
    pub source_port: u16,
    /// Destination port, or type × 256 + code of ICMP.
    pub destination_port: u16,
}

/// One flow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlowRow {
    /// `tcp`, `udp`, … or a number.
    pub protocol: String,
    /// Packets that go as the first one, as they arrive.
    pub original: FlowTuple,
    /// Packets that answer, as they arrive.
    pub reply: FlowTuple,
    /// Addresses or ports are changed.
    pub translated: bool,
    /// State of the connection.
    pub state: String,
    /// It has been open, or a stream.
    pub assured: bool,
    /// Denied by the policy in force.
    pub blocked: bool,
    /// Seconds since its first packet.
    pub age_s: u64,
    /// Seconds until it is forgotten unless a packet comes.
    pub timeout_s: u64,
    /// Packets, original and reply.
    pub packets: [u64; 2],
    /// Bytes of IP packets, original and reply.
    pub bytes: [u64; 2],
    /// The rule that admitted it.
    pub rule: String,
    /// The policy's generation that judged it last.
    pub generation: u32,
}

impl FlowsQuery {
    /// For the workers.
    pub fn job(&self) -> FlowJob {
        let prefix = self
            .address
            .and_then(|(address, bits)| IpNet::new(address, bits).ok());
        let address = prefix.map(|prefix| {
            let (family, first) = Address::from_ip(prefix.network());
            let (_, last) = Address::from_ip(prefix.broadcast());
            (family, first, last)
        });
        let filter = FlowFilter {
            protocol: self.protocol,
            address,
            port: self.port,
        };
        FlowJob::new(filter, self.delete, u64::from(self.limit()))
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(FLOWS_DEFAULT)
    }

    /// Waits for the workers; the flows found, and how many fit.
    pub async fn collect(&self, jobs: Vec<Arc<FlowJob>>) -> (Vec<FlowRecord>, u64) {
        let mut records = Vec::new();
        loop {
            // Asked first: what is done by now has put everything into its queue.
            let done = jobs.iter().all(|job| job.is_done());
            for record in jobs
                .iter()
                .flat_map(|job| std::iter::from_fn(|| job.take()))
            {
                if records.len() < self.limit() as usize {
                    records.push(record);
                }
            }
            if done {
                let matched = jobs.iter().map(|job| job.matched()).sum();
                return (records, matched);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl FlowTuple {
    fn of(key: &FlowKey) -> FlowTuple {
        FlowTuple {
            source: key.source.to_ip(key.family),
            destination: key.destination.to_ip(key.family),
            source_port: key.source_port,
            destination_port: key.destination_port,
        }
    }
}

impl FlowRow {
    /// A record, with its rule's name.
    pub fn new(record: &FlowRecord, rule: &str) -> FlowRow {
        let flow = &record.flow;
        FlowRow {
            protocol: protocol::name(flow.original.protocol).to_string(),
            original: FlowTuple::of(&flow.key(FlowDirection::Original)),
            reply: FlowTuple::of(&flow.key(FlowDirection::Reply)),
            translated: flow.marks.has(Marks::TRANSLATED),
            state: flow.state_name().to_owned(),
            assured: flow.marks.has(Marks::ASSURED),
            blocked: flow.marks.has(Marks::BLOCKED),
            age_s: flow.created.age_us(record.now_us) / 1_000_000,
            timeout_s: flow.deadline_us.saturating_sub(record.now_us) / 1_000_000,
            packets: flow.packets,
            bytes: flow.bytes,
            rule: rule.to_owned(),
            generation: flow.generation,
        }
    }
}
