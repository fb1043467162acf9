//! Settings, translated into what the rooms below are told. They know no settings.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::classifier::tree;
use crate::dataplane::backend::afxdp::{IoOptions, PortRequest, QueueSelection, ZeroCopy};
use crate::dataplane::conntrack::tcp::TcpRules;
use crate::dataplane::conntrack::{Timeouts, TranslatedTimeouts};
use crate::dataplane::fragment::FragmentLimits;
use crate::dataplane::nat::{
    AddressRange, DestinationRule, NatPlan, PortChoice, Selector, SourceRule,
};
use crate::dataplane::pipeline::PipelineOptions;
use crate::dataplane::snapshot::{Forwarding, SourceCheck, TransparentPort};
use crate::dataplane::verdict::PortId;
use crate::dataplane::worker::WaitStrategy;
use crate::dataplane::xdp::{AttachMode, AttachRequest, ManagementRule};
use crate::settings::{self, ForwardingMode, ManagementProtocol, ReversePathFilter, Settings};
use crate::wire::{Address, Family, MacAddress, protocol};

use super::netlink::MirrorConfig;
use super::policy::PortSegment;
use super::publisher::FixedParts;

/// Shortest time the snapshot's holder may take to notice a change of the kernel's routes.
const SETTLE: Duration = Duration::from_millis(5);

/// Bounds of the classifier.
pub fn classifier_limits(settings: &Settings) -> tree::Limits {
    tree::Limits {
        nodes_max: settings.limits.classifier_nodes,
        ..tree::Limits::default()
    }
}

/// Who gets other addresses.
fn nat(settings: &Settings) -> NatPlan {
    let nat = &settings.nat;
    let selector = |of: &settings::NatSelector, ports: Option<RangeInclusive<u16>>| Selector {
        arrives: of.arrives.map(|port| PortId(port as u8)),
        family: match of.family {
            settings::NatFamily::Any => None,
            settings::NatFamily::V4 => Some(Family::V4),
            settings::NatFamily::V6 => Some(Family::V6),
        },
        protocol: match of.protocol {
            ManagementProtocol::Any => None,
            ManagementProtocol::Number(number) => Some(number),
        },
        from: of.from.iter().map(address_range).collect(),
        to: of.to.iter().map(address_range).collect(),
        ports: ports.map(|ports| (*ports.start(), *ports.end())),
    };
    let destinations = nat.destinations.iter().map(|rule| {
        let (family, target) = Address::from_ip(rule.target);
        DestinationRule {
            selector: selector(&rule.selector, rule.ports.clone()),
            target,
            family,
            target_port: rule.target_port,
            exclusive: rule.exclusive,
        }
    });
    let sources = nat.sources.iter().map(|rule| SourceRule {
        selector: selector(&rule.selector, None),
        leaves: rule.leaves.map(|port| PortId(port as u8)),
        redirected: rule.redirected,
        addresses: rule
            .addresses
            .iter()
            .copied()
            .map(Address::from_ip)
            .collect(),
        ports: rule.ports.clone(),
        choice: match rule.choice {
            settings::NatChoice::Random => PortChoice::Random,
            settings::NatChoice::Preserve => PortChoice::Preserve,
        },
        reuse_delay_us: seconds_us(rule.reuse_delay_s),
    });
    NatPlan {
        destinations: destinations.collect(),
        sources: sources.collect(),
    }
}

fn address_range(prefix: &IpNet) -> AddressRange {
    let (family, first) = Address::from_ip(prefix.network());
    // A prefix's last address is its broadcast address, in IPv6 too.
    let (_, last) = Address::from_ip(prefix.broadcast());
    AddressRange {
        family,
        first,
        last,
    }
}

/// What of every snapshot stays the same.
pub fn fixed_parts(settings: &Settings) -> FixedParts {
    let compat = &settings.policy.compat;
    FixedParts {
        reevaluate_established: compat.established == settings::CompatEstablished::Reevaluate,
        evaluate_invalid: compat.invalid == settings::CompatInvalid::Evaluate,
        forwarding: forwarding(settings),
        source_check: match settings.forwarding.reverse_path_filter {
            ReversePathFilter::Strict => SourceCheck::Strict,
            ReversePathFilter::Loose => SourceCheck::Loose,
            ReversePathFilter::Off => SourceCheck::Off,
        },
        nat: Arc::new(nat(settings)),
    }
}

fn forwarding(settings: &Settings) -> Forwarding {
    match settings.forwarding.mode {
        ForwardingMode::Routed => Forwarding::Routed,
        ForwardingMode::Transparent => {
            let vlans = settings.ports.iter().map(|port| {
                let mut vlans = port.vlans.clone();
                vlans.sort_unstable();
                TransparentPort { peer: None, vlans }
            });
            let mut ports: Vec<_> = vlans.collect();
            for &(one, other) in &settings.forwarding.pairs {
                ports[one].peer = Some(PortId(other as u8));
                ports[other].peer = Some(PortId(one as u8));
            }
            Forwarding::Transparent(ports)
        }
    }
}

/// Limits of one worker's pipeline: an even share of the totals.
pub fn pipeline_options(
    settings: &Settings,
    workers: usize,
    hash_key: (u64, u64),
) -> PipelineOptions {
    let limits = &settings.limits;
    let share = |total: u32| (total / workers as u32).max(1);
    let datagrams_max = share(limits.fragment_datagrams);
    PipelineOptions {
        ports: settings.ports.len(),
        flows_max: share(limits.flows),
        half_open_max: share(limits.half_open_flows),
        fragments: FragmentLimits {
            datagrams_max,
            datagrams_per_source_max: (datagrams_max / 8).max(1),
            lifetime_us: seconds_us(settings.fragments.ipv4_lifetime_s),
            lifetime_v6_us: seconds_us(settings.fragments.ipv6_lifetime_s),
            waiting_bytes_max: share(settings.fragments.waiting_bytes) as usize,
        },
        held_frames_max: share(limits.neighbour_frames) as usize,
        timeouts: timeouts(&settings.timeouts),
        tcp_rules: TcpRules {
            loose: settings.tracking.tcp_loose,
            liberal: settings.tracking.tcp_be_liberal,
            retransmissions_max: settings.tracking.tcp_retransmissions_max as u8,
        },
        verify_checksums: settings.tracking.checksums == settings::Checksums::Verify,
        restart_grace_us: seconds_us(settings.timeouts.restart_grace_s),
        replies_per_second: settings.forwarding.icmp_errors_per_second,
        replies_burst: settings.forwarding.icmp_errors_burst,
        rate_limit_sources_max: share(limits.rate_limit_sources) as usize,
        workers: workers as u32,
        nat_addresses_max: nat(settings).addresses_max(),
        hash_key,
    }
}

fn timeouts(timeouts: &settings::Timeouts) -> Timeouts {
    Timeouts {
        tcp_syn_sent_us: seconds_us(timeouts.tcp_syn_sent_s),
        tcp_syn_received_us: seconds_us(timeouts.tcp_syn_received_s),
        tcp_established_us: seconds_us(timeouts.tcp_established_s),
        tcp_fin_wait_us: seconds_us(timeouts.tcp_fin_wait_s),
        tcp_close_wait_us: seconds_us(timeouts.tcp_close_wait_s),
        tcp_last_ack_us: seconds_us(timeouts.tcp_last_ack_s),
        tcp_time_wait_us: seconds_us(timeouts.tcp_time_wait_s),
        tcp_closed_us: seconds_us(timeouts.tcp_close_s),
        tcp_retransmission_us: seconds_us(timeouts.tcp_retransmission_s),
        tcp_unacknowledged_us: seconds_us(timeouts.tcp_unacknowledged_s),
        udp_unreplied_us: seconds_us(timeouts.udp_first_s),
        udp_stream_us: seconds_us(timeouts.udp_stream_s),
        icmp_us: seconds_us(timeouts.icmp_s),
        sctp_unreplied_us: seconds_us(timeouts.sctp_transitory_s),
        sctp_replied_us: seconds_us(timeouts.sctp_s),
        gre_unreplied_us: seconds_us(timeouts.gre_first_s),
        gre_stream_us: seconds_us(timeouts.gre_stream_s),
        other_us: seconds_us(timeouts.other_s),
        translated: TranslatedTimeouts {
            tcp_transitory_us: seconds_us(timeouts.tcp_translated_s),
            udp_unreplied_us: seconds_us(timeouts.udp_first_translated_s),
            udp_stream_us: seconds_us(timeouts.udp_stream_translated_s),
            icmp_us: seconds_us(timeouts.icmp_translated_s),
        },
    }
}

fn seconds_us(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000_000
}

/// What a worker does without frames.
pub fn wait_strategy(settings: &Settings) -> WaitStrategy {
    match settings.workers.wait {
        settings::Wait::Sleep => WaitStrategy::Sleep,
        settings::Wait::BusyPoll => WaitStrategy::BusyPoll,
    }
}

/// What the kernel mirror follows.
pub fn mirror_config(settings: &Settings) -> MirrorConfig {
    let interfaces = settings.ports.iter().map(|port| port.interface.clone());
    MirrorConfig {
        neighbours_max: settings.limits.neighbours as usize,
        settle: SETTLE,
        ..MirrorConfig::new(interfaces)
    }
}

/// What is opened for each port.
pub fn port_requests(settings: &Settings) -> Vec<PortRequest> {
    let transparent = settings.forwarding.mode == ForwardingMode::Transparent;
    let management = management_rules(&settings.management);
    let ports = settings.ports.iter().enumerate();
    ports
        .map(|(number, port)| PortRequest {
            port: PortId(number as u8),
            steering: AttachRequest {
                mode: match port.mode {
                    settings::PortMode::Auto => AttachMode::Auto,
                    settings::PortMode::Native => AttachMode::Native,
                    settings::PortMode::Generic => AttachMode::Generic,
                },
                pin_directory: settings.steering.pin_directory.clone(),
                transparent,
                dhcp_client: settings.management.dhcp_client,
                shared: !(settings.nat.sources.is_empty() && settings.nat.destinations.is_empty()),
                management: management.clone(),
                ..AttachRequest::new(port.interface.clone())
            },
            queues: match &port.queues {
                settings::Queues::All => QueueSelection::All,
                settings::Queues::First(count) => QueueSelection::First(*count),
                settings::Queues::List(list) => QueueSelection::List(list.clone()),
            },
            zero_copy: match port.zero_copy {
                settings::ZeroCopy::Auto => ZeroCopy::Auto,
                settings::ZeroCopy::Never => ZeroCopy::Never,
                settings::ZeroCopy::Require => ZeroCopy::Require,
            },
            frame_size_bytes: match port.frame_size_bytes {
                settings::FrameSize::Auto => None,
                settings::FrameSize::Bytes(bytes) => Some(bytes),
            },
            ring_frames: port.ring_frames,
        })
        .collect()
}

/// What all ports share.
pub fn io_options(settings: &Settings, workers: usize) -> IoOptions {
    IoOptions {
        workers,
        spare_frames: settings.limits.neighbour_frames as usize,
        busy_poll_us: match settings.workers.wait {
            settings::Wait::Sleep => 0,
            settings::Wait::BusyPoll => settings.workers.busy_poll_us,
        },
    }
}

/// The management list as the steering program takes it: one entry for each source and port range.
fn management_rules(management: &settings::Management) -> Vec<ManagementRule> {
    let mut rules = Vec::new();
    if management.ping {
        let everywhere = ["0.0.0.0/0", "::/0"].map(|text| text.parse().expect("a constant"));
        let pings = [
            (protocol::ICMP, protocol::ICMP_ECHO),
            (protocol::ICMPV6, protocol::ICMPV6_ECHO),
        ];
        for (source, (protocol, echo)) in everywhere.into_iter().zip(pings) {
            let ports = u16::from(echo)..=u16::from(echo);
            rules.push(ManagementRule {
                source,
                protocol: Some(protocol),
                ports,
            });
        }
    }
    for allow in &management.allow {
        let protocol = match allow.protocol {
            ManagementProtocol::Any => None,
            ManagementProtocol::Number(number) => Some(number),
        };
        let ranges = match allow.ports.is_empty() {
            true => vec![0..=u16::MAX],
            false => allow.ports.clone(),
        };
        for &source in &allow.from {
            let rule = |ports| ManagementRule {
                source,
                protocol,
                ports,
            };
            rules.extend(ranges.iter().cloned().map(rule));
        }
    }
    rules
}

/// What is behind each port.
pub fn port_segments(settings: &Settings) -> Vec<PortSegment> {
    let segment = |port: &settings::Port| PortSegment {
        network: port.network.clone(),
        routers: port.routers.iter().copied().map(MacAddress).collect(),
    };
    settings.ports.iter().map(segment).collect()
}

/// Where the manifests are.
pub fn policy_directory(settings: &Settings) -> &Path {
    &settings.policy.directory
}
