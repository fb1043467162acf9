//! The admin socket's requests, answered from what control owns.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::{FoundFlows, Supervisor, mode_name};
use crate::control::admin::Request;
use crate::control::explain::{Explanation, explain};
use crate::control::flows::{FlowRow, FlowsAnswer, FlowsQuery};
use crate::control::probe::Probe;
use crate::control::reload::ReloadCause;
use crate::control::report;
use crate::control::status::{PolicyStatus, PortStatus, Status};
use crate::dataplane::verdict::PortId;

impl Supervisor {
    pub(super) fn answer(&mut self, request: Request) {
        match request {
            Request::Status(answer) => _ = answer.send(self.status()),
            Request::Reload(answer) => self.reload(ReloadCause::Request, vec![answer]),
            Request::Flows(query, answer) => self.find_flows(query, answer),
            Request::Explain(probe, answer) => _ = answer.send(self.explain(&probe)),
        }
    }

    /// Asks the workers, and waits for them beside everything else.
    fn find_flows(&self, query: FlowsQuery, answer: oneshot::Sender<FlowsAnswer>) {
        let Some(workers) = &self.workers else { return };
        let jobs = workers.give_jobs(|| query.job());
        let found = self.flows.0.clone();
        tokio::spawn(async move {
            let (records, matched) = query.collect(jobs).await;
            // Nobody is left to answer when control has ended.
            let _ = found.send((records, matched, answer)).await;
        });
    }

    /// Answers with the flows the workers have found, their rules by name.
    pub(super) fn tell_flows(&self, (records, matched, answer): FoundFlows) {
        let rows = records.iter().map(|record| {
            let rule = self.slots.label(record.rule).unwrap_or("-");
            FlowRow::new(record, rule)
        });
        let flows = rows.collect();
        let _ = answer.send(FlowsAnswer { matched, flows });
    }

    /// Explains by the very trees that forward.
    fn explain(&self, probe: &Probe) -> Result<Explanation, String> {
        let Some(prepared) = &self.prepared else {
            return Err("no policy is in force: everything is dropped".to_owned());
        };
        let decider = &prepared.decider;
        explain(probe, decider, decider).map_err(|error| error.to_string())
    }

    fn status(&self) -> Status {
        let now_us = self.now_us();
        let policy = PolicyStatus {
            age_s: self.in_force_since.elapsed().as_secs(),
            ..self.policy.clone()
        };
        let none = report::Workers {
            counters: Vec::new(),
            cores: Vec::new(),
        };
        let workers = self
            .workers
            .as_ref()
            .map_or(&none, |workers| &workers.report);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.start.elapsed().as_secs(),
            forwarding: self.settings.forwarding.mode.name().to_owned(),
            ports: self.port_rows(workers),
            verdicts: workers.verdicts(),
            drops: workers.drops(),
            rules: report::rules(&self.slots, policy.generation, workers),
            flows: workers.flows(self.settings.limits.flows.into()),
            workers: workers.rows(now_us),
            neighbours: workers.neighbours(self.neighbours.refused()),
            counters: workers.others(),
            policy,
        }
    }

    fn port_rows(&self, workers: &report::Workers) -> Vec<PortStatus> {
        let view = self.kernel.borrow();
        let rows = self.settings.ports.iter().zip(&self.steering).enumerate();
        rows.map(|(number, (port, steering))| {
            let (received, sent) = workers.port(PortId(number as u8));
            let link = view.links.get(number).and_then(Option::as_ref);
            let state = match link {
                None => "missing",
                Some(link) if link.admin_up && link.carrier => "up",
                Some(_) => "down",
            };
            let counters = steering.counters().unwrap_or_default();
            PortStatus {
                name: port.name.clone(),
                interface: port.interface.clone(),
                state: state.to_owned(),
                mode: mode_name(steering.mode()).to_owned(),
                attached: self.steering_alarms[number].is_none(),
                received,
                sent,
                steering: counters
                    .into_iter()
                    .map(|(n, count)| (n.to_owned(), count))
                    .collect(),
                xdp_statistics: self.xdp_statistics(PortId(number as u8)),
            }
        })
        .collect()
    }

    /// The kernel's figures of a port's sockets, summed.
    fn xdp_statistics(&self, port: PortId) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        let Some(workers) = &self.workers else {
            return sums;
        };
        for queue in workers.rings().flat_map(|rings| rings.statistics()) {
            if queue.port != port {
                continue;
            }
            for (name, count) in [
                ("rx-dropped", queue.rx_dropped),
                ("rx-ring-full", queue.rx_ring_full),
                ("rx-fill-ring-empty", queue.rx_fill_ring_empty),
                ("rx-invalid-descriptors", queue.rx_invalid_descriptors),
                ("tx-invalid-descriptors", queue.tx_invalid_descriptors),
                ("tx-ring-empty", queue.tx_ring_empty),
            ] {
                *sums.entry(name.to_owned()).or_default() += count;
            }
        }
        sums
    }
}
