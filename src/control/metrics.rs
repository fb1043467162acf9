//! The metrics endpoint: a [`Status`] in the OpenMetrics text format, built when asked for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::status::{Status, VolumeStatus};

/// Content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes every counter of a status as a metric named `portcullis_…`.
pub fn render(status: Status) -> String {
    let mut registry = Registry::with_prefix("portcullis");
    registry.register_collector(Box::new(StatusCollector(status)));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct StatusCollector(Status);

type Encoded = Result<(), std::fmt::Error>;

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let encoder = &mut encoder;
        self.encode_packets(encoder)?;
        self.encode_ports(encoder)?;
        self.encode_workers(encoder)?;
        self.encode_rules(encoder)?;
        self.encode_state(encoder)
    }
}

impl StatusCollector {
    fn encode_packets(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let verdicts = || self.0.verdicts.iter();
        counters(
            encoder,
            "packets",
            "Packets by what became of them",
            verdicts().map(|(verdict, volume)| ([("verdict", verdict.as_str())], volume.packets)),
        )?;
        counters(
            encoder,
            "packet_bytes",
            "Bytes of the frames, by what became of them",
            verdicts().map(|(verdict, volume)| ([("verdict", verdict.as_str())], volume.bytes)),
        )?;
        counters(
            encoder,
            "dropped_packets",
            "Dropped packets by reason",
            self.0
                .drops
                .iter()
                .map(|(reason, v)| ([("reason", reason.as_str())], v.packets)),
        )?;
        counters(
            encoder,
            "events",
            "Other things counted",
            self.0
                .counters
                .iter()
                .map(|(name, count)| ([("event", name.as_str())], *count)),
        )
    }

    fn encode_ports(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        type Read = fn(&super::status::PortStatus) -> VolumeStatus;
        let volumes: [(&str, &str, Read); 2] = [
            ("port_received", "from the port's rings", |port| {
                port.received
            }),
            ("port_sent", "to the port's rings", |port| port.sent),
        ];
        for (name, help, read) in volumes {
            let ports = || self.0.ports.iter();
            counters(
                encoder,
                &format!("{name}_packets"),
                &format!("Frames {help}"),
                ports().map(|port| ([("port", port.name.as_str())], read(port).packets)),
            )?;
            counters(
                encoder,
                &format!("{name}_bytes"),
                &format!("Bytes of frames {help}"),
                ports().map(|port| ([("port", port.name.as_str())], read(port).bytes)),
            )?;
        }
        let steering = self.0.ports.iter().flat_map(|port| {
            port.steering.iter().map(|(counter, count)| {
                (
                    [("port", port.name.as_str()), ("counter", counter.as_str())],
                    *count,
                )
            })
        });
        counters(
            encoder,
            "steering_packets",
            "Frames counted by the steering program",
            steering,
        )?;
        let sockets = self.0.ports.iter().flat_map(|port| {
            port.xdp_statistics.iter().map(|(counter, count)| {
                (
                    [("port", port.name.as_str()), ("counter", counter.as_str())],
                    *count,
                )
            })
        });
        counters(
            encoder,
            "xdp_statistics",
            "XDP_STATISTICS of the port's sockets",
            sockets,
        )?;
        let up = self.0.ports.iter().map(|port| {
            (
                [("port", port.name.as_str())],
                u64::from(port.state == "up" && port.attached),
            )
        });
        gauges(
            encoder,
            "port_up",
            "Link up and steering program attached",
            up,
        )
    }

    fn encode_workers(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let workers = self.0.workers.iter().enumerate();
        // What waits is a gauge of its own, for all workers.
        let rows = workers.flat_map(|(number, worker)| {
            let figures = worker.packets.named().into_iter();
            figures
                .filter(|(fate, _)| *fate != "waiting")
                .map(move |(fate, count)| {
                    let worker = ("worker", number.to_string());
                    ([worker, ("fate", fate.to_owned())], count)
                })
        });
        counters(
            encoder,
            "worker_packets",
            "Frames by worker: received or handed in, and what became of them",
            rows,
        )
    }

    fn encode_rules(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let rules = || self.0.rules.iter();
        let labels = |rule: &super::status::RuleStatus| {
            [("rule", rule.rule.clone()), ("id", rule.id.clone())]
        };
        counters(
            encoder,
            "rule_decisions",
            "First packets and packets of flows asked again, by deciding rule",
            rules().map(|rule| (labels(rule), rule.decisions)),
        )?;
        counters(
            encoder,
            "rule_packets",
            "Packets admitted or denied, by rule",
            rules().map(|rule| (labels(rule), rule.packets)),
        )?;
        counters(
            encoder,
            "rule_bytes",
            "Bytes of packets admitted or denied, by rule",
            rules().map(|rule| (labels(rule), rule.bytes)),
        )
    }

    fn encode_state(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let Status {
            policy,
            flows,
            uptime_s,
            neighbours,
            ..
        } = &self.0;
        let none: [(&str, &str); 0] = [];
        let gauge_values = [
            (
                "policy_generation",
                "Generation of the policy in force",
                policy.generation.into(),
            ),
            (
                "policy_warnings",
                "Warnings of the policy in force",
                policy.warnings.len() as u64,
            ),
            ("flows", "Live flows", flows.live),
            (
                "flows_unreplied",
                "Live flows without an answer",
                flows.unreplied,
            ),
            ("flows_limit", "Flows the table holds", flows.limit),
            (
                "flow_pressure",
                "Workers whose flow table is under pressure",
                flows.pressure,
            ),
            (
                "frames_waiting",
                "Frames waiting for a neighbour",
                neighbours.frames_waiting,
            ),
            ("uptime_seconds", "Seconds since start", *uptime_s),
        ];
        for (name, help, value) in gauge_values {
            gauges(encoder, name, help, [(none, value)])?;
        }
        self.encode_totals(encoder)
    }

    /// Counters of the whole appliance.
    fn encode_totals(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let Status { policy, flows, .. } = &self.0;
        let none: [(&str, &str); 0] = [];
        let counter_values = [
            (
                "policy_loads",
                "Policy loads that came into force",
                policy.loads,
            ),
            (
                "policy_loads_refused",
                "Policy loads that were refused",
                policy.loads_refused,
            ),
            ("flows_created", "Flows created", flows.created),
            ("flows_expired", "Flows that timed out", flows.expired),
            ("flows_evicted", "Flows removed to make room", flows.evicted),
            (
                "flows_hurried",
                "Flows that ended early, under pressure",
                flows.hurried,
            ),
            (
                "flows_source_limited",
                "Flows refused because their source had too many half-open ones",
                flows.source_limited,
            ),
            (
                "flow_pressures",
                "Times a flow table has come under pressure",
                flows.pressures,
            ),
        ];
        for (name, help, value) in counter_values {
            counters(encoder, name, help, [(none, value)])?;
        }
        Ok(())
    }
}

fn counters<K: AsRef<str>, V: AsRef<str>, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = ([(K, V); N], u64)>,
) -> Encoded {
    family(encoder, name, help, rows, ConstCounter::new)
}

fn gauges<K: AsRef<str>, V: AsRef<str>, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = ([(K, V); N], u64)>,
) -> Encoded {
    family(encoder, name, help, rows, |value| {
        ConstGauge::new(value as i64)
    })
}

fn family<K: AsRef<str>, V: AsRef<str>, M: EncodeMetric, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = ([(K, V); N], u64)>,
    metric: impl Fn(u64) -> M,
) -> Encoded {
    let no_unit: Option<&Unit> = None;
    let metric_type = metric(0).metric_type();
    let mut family = encoder.encode_descriptor(name, help, no_unit, metric_type)?;
    for (labels, value) in rows {
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_ref()))
            .collect();
        metric(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
