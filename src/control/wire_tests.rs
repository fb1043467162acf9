//! The same manifests and the same packets, once as `verify` judges them and once as frames through
//! the pipeline: both must come to one verdict.

mod networks;
mod output;
mod port_security;

use std::net::IpAddr;
use std::sync::Arc;

use etherparse::{PacketBuilder, TcpHeader};

use super::plan;
use super::policy::{PortSegment, Prepared, activate, prepare};
use super::publisher::{FixedParts, Publisher};
use super::rule_slots::{RuleSlots, RuleTotals};
use crate::classifier::tree::Limits;
use crate::dataplane::backend::memory::{MemoryFrame, MemoryIo};
use crate::dataplane::event::{Event, Events};
use crate::dataplane::frame::{FrameIo, Received};
use crate::dataplane::handoff::Handoff;
use crate::dataplane::neighbour::NeighbourRequests;
use crate::dataplane::pipeline::{Packet, Pipeline};
use crate::dataplane::route::{Neighbour, PortLink, Route, RouteTable, RouteTarget};
use crate::dataplane::snapshot::{Forwarding, SourceCheck, TransparentPort};
use crate::dataplane::statistics::WorkerCounters;
use crate::dataplane::verdict::{DropReason, PortId, Verdict};
use crate::dataplane::worker::transmit;
use crate::policy::{Compatibility, SourceFile};
use crate::settings::Settings;
use crate::wire::MacAddress;

const SYN: u8 = 2;
const ACK: u8 = 16;

/// One worker's pipeline between a few ports. Port `n` is `198.18.n.1/24` and `2001:db8:n::1/64`,
/// where host `h` is `.h` and `::h` at [`mac`].
struct Wire {
    publisher: Publisher,
    slots: RuleSlots,
    generation: u32,
    segments: Vec<PortSegment>,
    pipeline: Pipeline<MemoryFrame>,
    io: MemoryIo,
    counters: Arc<WorkerCounters>,
    events: Events,
    now_us: u64,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fate {
    verdict: Verdict,
    /// Family of the stage that denied it.
    family: Option<&'static str>,
}

/// MAC address of a host on port `n`; host 1 is the port itself.
fn mac(n: u8, host: u8) -> [u8; 6] {
    [2, 0, 0, 0, n, host]
}

fn files(text: &str) -> [SourceFile; 1] {
    [SourceFile {
        name: "m.yaml".into(),
        text: text.into(),
    }]
}

fn switches(changed: &[(&str, &str)]) -> Compatibility {
    let mut switches = Compatibility::default();
    for (name, value) in changed {
        switches.set(name, value).unwrap();
    }
    switches
}

fn prepared(text: &str, switches: &Compatibility) -> Prepared {
    prepare(&files(text), switches, &Limits::default())
        .unwrap_or_else(|refused| panic!("{:?}", refused.lines()))
}

/// `more` are neighbours that take the place of those there.
fn routed(ports: u8, more: Vec<Neighbour>) -> RouteTable {
    let prefixes = |n: u8| [format!("198.18.{n}.1/24"), format!("2001:db8:{n}::1/64")];
    let link = |n| {
        Some(PortLink {
            mac: MacAddress(mac(n, 1)),
            mtu_bytes: 1500,
            up: true,
            addresses: prefixes(n).map(|text| text.parse().unwrap()).to_vec(),
        })
    };
    let target = |n| RouteTarget::Port {
        port: PortId(n),
        gateway: None,
    };
    let route = |prefix: &str, target| Route {
        prefix: prefix.parse::<ipnet::IpNet>().unwrap().trunc(),
        metric: 0,
        target,
    };
    let routes = (0..ports).flat_map(|n| {
        let on_link = prefixes(n).map(|prefix| route(&prefix, target(n)));
        let own = prefixes(n).map(|prefix| {
            let address = prefix.split_once('/').unwrap().0;
            let bits = if address.contains(':') { 128 } else { 32 };
            route(&format!("{address}/{bits}"), RouteTarget::Local)
        });
        on_link.into_iter().chain(own)
    });
    // Everything else is behind a router on the last port, host 254.
    let last = ports - 1;
    let gateway = format!("198.18.{last}.254").parse().unwrap();
    let elsewhere = RouteTarget::Port {
        port: PortId(last),
        gateway: Some(gateway),
    };
    let routes = routes.chain([route("0.0.0.0/0", elsewhere)]);
    let hosts = (0..ports).flat_map(|n| (2..=254).map(move |host| (n, host)));
    let neighbours = hosts.flat_map(|(n, host)| {
        let addresses = [
            format!("198.18.{n}.{host}"),
            format!("2001:db8:{n}::{host:x}"),
        ];
        addresses.map(|address| Neighbour {
            port: PortId(n),
            address: address.parse().unwrap(),
            mac: Some(MacAddress(mac(n, host))),
        })
    });
    let links = (0..ports).map(link).collect();
    RouteTable::new(
        links,
        routes.collect::<Vec<_>>(),
        neighbours.chain(more).collect::<Vec<_>>(),
    )
}

impl Wire {
    /// Routed, one port a segment.
    fn routed(segments: Vec<PortSegment>) -> Self {
        Self::new(segments, Forwarding::Routed, true)
    }

    /// A wire between two ports.
    fn transparent(segments: Vec<PortSegment>) -> Self {
        let port = |peer| TransparentPort {
            peer: Some(PortId(peer)),
            vlans: Vec::new(),
        };
        Self::new(
            segments,
            Forwarding::Transparent(vec![port(1), port(0)]),
            true,
        )
    }

    fn new(segments: Vec<PortSegment>, forwarding: Forwarding, reevaluate: bool) -> Self {
        let ports = segments.len();
        let text = (0..ports).map(|n| format!("[[port]]\nname = \"p{n}\"\ninterface = \"i{n}\"\n"));
        let settings = Settings::parse("t.toml", &text.collect::<String>());
        let mut options = plan::pipeline_options(&settings.unwrap(), 1, (1, 2));
        options.restart_grace_us = 0;
        options.flows_max = 4096;
        options.half_open_max = 4096;
        let mut publisher = Publisher::new(FixedParts {
            reevaluate_established: reevaluate,
            evaluate_invalid: false,
            forwarding,
            source_check: SourceCheck::Strict,
            nat: Arc::default(),
        });
        publisher.set_routes(Arc::new(routed(ports as u8, Vec::new())));
        let counters = Arc::new(WorkerCounters::new(ports, 1024));
        let events = Events::new(1024);
        Wire {
            publisher,
            slots: RuleSlots::new(1024),
            generation: 0,
            segments,
            pipeline: Pipeline::new(
                &options,
                counters.clone(),
                NeighbourRequests::new(16, || {}),
                events.clone(),
                Handoff::single(),
            ),
            io: MemoryIo::new(ports as u8, 256, 2048),
            counters,
            events,
            now_us: 1,
        }
    }

    /// Puts manifests in force.
    fn enforce(&mut self, prepared: &Prepared) {
        self.generation += 1;
        let totals = |_| RuleTotals::default();
        let (generation, slots) = (self.generation, &mut self.slots);
        let policy = activate(prepared, generation, slots, totals, &self.segments, None).unwrap();
        self.publisher.set_policy(Arc::new(policy));
    }

    /// Frames as one batch.
    fn batch(&mut self, frames: &[(u8, Vec<u8>)]) -> Vec<Fate> {
        for (port, bytes) in frames {
            self.io.inject(PortId(*port), 0, bytes).unwrap();
        }
        let mut received: Vec<Received<_>> = Vec::new();
        self.io.receive(&mut received);
        let packets = received.into_iter();
        let mut packets: Vec<_> = packets
            .map(|one| Packet::new(one.port, one.frame))
            .collect();
        let snapshot = self.publisher.shared().load_full();
        self.pipeline.process(self.now_us, &snapshot, &mut packets);
        let fates = packets.iter().map(|packet| Fate {
            verdict: packet.verdict.unwrap(),
            family: packet.trace.denied_by.map(|stage| {
                let policy = snapshot.policy.as_ref().unwrap();
                policy.stages[stage as usize].family
            }),
        });
        let fates = fates.collect();
        transmit(
            &mut self.io,
            &self.counters,
            &Handoff::single(),
            &mut packets,
        );
        self.io.flush();
        self.io.drain_sent();
        fates
    }

    fn one(&mut self, port: u8, frame: Vec<u8>) -> Fate {
        self.batch(&[(port, frame)])[0]
    }
}

impl Wire {
    /// Labels of the rules that were to be logged since this was last asked.
    fn logged(&mut self) -> Vec<String> {
        let mut labels = Vec::new();
        while let Some(event) = self.events.pop() {
            if let Event::Logged { rule, .. } = event {
                labels.push(self.slots.label(rule).unwrap().to_owned());
            }
        }
        labels
    }
}

impl Fate {
    fn passes(self) -> bool {
        match self.verdict {
            Verdict::Forward(_) => true,
            Verdict::Drop(_) => false,
            other => panic!("{other:?}"),
        }
    }

    fn dropped_for(self) -> Option<DropReason> {
        match self.verdict {
            Verdict::Drop(reason) => Some(reason),
            _ => None,
        }
    }
}

/// A UDP packet of either family.
fn udp(macs: [[u8; 6]; 2], source: &str, destination: &str, ports: [u16; 2]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs[0], macs[1]);
    let step = match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            builder.ipv4(source.octets(), destination.octets(), 64)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            builder.ipv6(source.octets(), destination.octets(), 64)
        }
        _ => panic!("{source} {destination}"),
    };
    let mut bytes = Vec::new();
    let step = step.udp(ports[0], ports[1]);
    step.write(&mut bytes, b"payload").unwrap();
    bytes
}

/// A TCP segment over IPv4.
fn tcp(
    macs: [[u8; 6]; 2],
    [source, destination]: [[u8; 4]; 2],
    [source_port, destination_port]: [u16; 2],
    flags: u8,
) -> Vec<u8> {
    let mut header = TcpHeader::new(source_port, destination_port, 1, 1000);
    header.syn = flags & SYN != 0;
    header.ack = flags & ACK != 0;
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs[0], macs[1])
        .ipv4(source, destination, 64)
        .tcp_header(header)
        .write(&mut bytes, b"")
        .unwrap();
    bytes
}
