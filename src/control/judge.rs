//! A probe's verdict: its state decides which key is asked, and of which generation of policy.

use std::collections::BTreeSet;

use super::decide::{Decider, Decision, Disagreement, Opinion};
use super::layer2::{self, Check};
use super::probe::{Probe, ProbeProtocol, SOURCE_PORT_DEFAULT, State};
use super::resolve::{self, Packet, ResolveError, Translation};
use crate::policy::PolicyKey;
use crate::policy::compatibility::Established;
use crate::wire::{Address, Family, FlowKey, protocol};

/// What became of a probe.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// The verdict.
    pub allow: bool,
    /// What port security at both ends says of the frame, before all policy.
    pub layer2: Vec<Check>,
    /// Which question was put to policy.
    pub question: Question,
    /// What policy says of it; `None` for ARP.
    pub decision: Option<Decision>,
    /// The packet policy was asked about: for an answer, the one answered. `None` for ARP.
    pub asked: Option<PolicyKey>,
    /// The Service that was translated, if one was.
    pub translation: Option<Translation>,
}

impl Judgement {
    /// The end whose port security drops the frame, the sender's first.
    pub fn dropped(&self) -> Option<&Check> {
        self.layer2.iter().find(|check| check.refusal.is_some())
    }

    /// The key of the packet policy was asked about, behind the translation of Services.
    pub fn key(&self) -> Option<&FlowKey> {
        self.asked.as_ref().map(|packet| &packet.key)
    }
}

/// Which question a probe puts to policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// None: address resolution is not subject to policy.
    Arp,
    /// May the packet open a flow?
    Opens,
    /// May the flow it answers be opened?
    Answers,
    /// May any flow be opened that it could be about?
    AnswersAny,
    /// May the flow that is open already go on?
    GoesOn,
    /// None: the flow is open and keeps flowing (`established: keep`).
    Kept,
}

/// Why a probe has no verdict.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// Bad input.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A defect of this program.
    #[error(transparent)]
    Disagreement(#[from] Box<Disagreement>),
}

/// Judges a probe under the policies `now`; flows already established were opened under `before`.
///
/// # Errors
/// An end that cannot be resolved, or a defect of this program.
pub fn judge(probe: &Probe, now: &Decider, before: &Decider) -> Result<Judgement, JudgeError> {
    let asked = if answers(probe.state) {
        answered(probe)
    } else {
        probe.clone()
    };
    let packet = match probe.state {
        State::Established | State::EstablishedReply => packet_of_either(&asked, before, now)?,
        _ => resolve::packet(now.policy(), &asked)?,
    };
    let layer2 = layer2::checks(now.policy(), probe, packet.as_ref(), answers(probe.state));
    let dropped = layer2.iter().any(|check| check.refusal.is_some());
    let Some(Packet {
        packet,
        translation,
    }) = packet
    else {
        return Ok(Judgement {
            allow: !dropped,
            layer2,
            question: Question::Arp,
            decision: None,
            asked: None,
            translation: None,
        });
    };
    let packet = match answers(probe.state) {
        // Whom an answer goes to is the one who asked, whatever end the probe calls it.
        true => PolicyKey {
            sender: None,
            ..packet
        },
        false => packet,
    };
    let (question, decision, packet) = match probe.state {
        State::New => (Question::Opens, now.decide_checked(packet)?, packet),
        State::Established | State::EstablishedReply => {
            let opened = before.decide_checked(packet)?;
            let mut asked_again = now.decide_checked(packet)?;
            let switches = &now.policy().compatibility;
            let keep = switches.established == Established::Keep;
            let by_some_step = opened.allow && (keep || !asked_again.allow);
            if by_some_step {
                let asked = |one: &Opinion| !one.kind.keeps_established(switches);
                asked_again.opinions.retain(asked);
            }
            match by_some_step && asked_again.denial().is_none() {
                true => (Question::Kept, opened, packet),
                false => (Question::GoesOn, asked_again, packet),
            }
        }
        State::Reply | State::Related if is_open_question(probe) => {
            let (decision, packet) = any_flow(now, packet)?;
            (Question::AnswersAny, decision, packet)
        }
        State::Reply | State::Related => (Question::Answers, now.decide_checked(packet)?, packet),
    };
    Ok(Judgement {
        allow: decision.allow && !dropped,
        layer2,
        question,
        decision: Some(decision),
        asked: Some(packet),
        translation,
    })
}

/// Does the packet travel against the direction its flow was opened in?
pub const fn answers(state: State) -> bool {
    matches!(
        state,
        State::Reply | State::Related | State::EstablishedReply
    )
}

/// A pod may be gone, or have another address, under the new manifests: the flow is older.
fn packet_of_either(
    probe: &Probe,
    before: &Decider,
    now: &Decider,
) -> Result<Option<Packet>, ResolveError> {
    let older = resolve::packet(before.policy(), probe);
    older.or_else(|error| resolve::packet(now.policy(), probe).map_err(|_| error))
}

/// The first packet of the flow an answer belongs to.
///
/// Ports are as on the wire where both are given. With `src_port` left out, `port` is the port of
/// the service that answers.
fn answered(probe: &Probe) -> Probe {
    let (port, source_port) = match probe.source_port {
        Some(source_port) => (Some(source_port), probe.port),
        None => (probe.port, Some(SOURCE_PORT_DEFAULT)),
    };
    let related_error = probe.state == State::Related && !probe.protocol.has_ports();
    Probe {
        from: probe.to.clone(),
        to: probe.from.clone(),
        port,
        source_port,
        icmp_type: answered_icmp_type(probe),
        // The packet answered had one of its own.
        hop_limit: None,
        source: probe.destination,
        // An ICMP error may come from any router on the way; the flow leads to the peer.
        destination: probe.source.filter(|_| !related_error),
        state: State::New,
        ..probe.clone()
    }
}

/// The query that an answer of this type answers; `None`, and with it an echo request, where the
/// probe names no type or one that answers nothing.
fn answered_icmp_type(probe: &Probe) -> Option<u8> {
    // The two families' answers have different types, so that `icmp` need not know its family.
    let icmp = (Family::V4, protocol::ICMP);
    let icmpv6 = (Family::V6, protocol::ICMPV6);
    let candidates = match probe.protocol {
        ProbeProtocol::Icmp => &[icmp, icmpv6][..],
        ProbeProtocol::Number(protocol::ICMP) => &[icmp],
        ProbeProtocol::Icmpv6 | ProbeProtocol::Number(protocol::ICMPV6) => &[icmpv6],
        _ => &[],
    };
    let icmp_type = probe.icmp_type?;
    candidates.iter().find_map(|&(family, protocol)| {
        let answer = FlowKey {
            source: Address::ZERO,
            destination: Address::ZERO,
            source_port: 0,
            destination_port: FlowKey::icmp_port(icmp_type, 0),
            zone: 0,
            protocol,
            family,
        };
        Some((answer.reversed()?.destination_port >> 8) as u8)
    })
}

/// Does the probe leave open which flow it answers? An ICMP error does not say what it is about,
/// and a packet to the client's port alone not where it comes from.
fn is_open_question(probe: &Probe) -> bool {
    if probe.protocol.has_ports() {
        return probe.source_port.is_none() && probe.port == Some(SOURCE_PORT_DEFAULT);
    }
    let is_icmp = matches!(
        probe.protocol,
        ProbeProtocol::Icmp
            | ProbeProtocol::Icmpv6
            | ProbeProtocol::Number(protocol::ICMP | protocol::ICMPV6)
    );
    let is_error = probe.icmp_type.is_some() && answered_icmp_type(probe).is_none();
    is_icmp && (probe.state == State::Related || is_error)
}

/// Looks for a flow between the ends of `key` that may be opened: of the key's protocol, or of any
/// where that is ICMP. Gives the first, or else the denial of the key itself.
fn any_flow(now: &Decider, packet: PolicyKey) -> Result<(Decision, PolicyKey), Box<Disagreement>> {
    let own = now.decide_checked(packet)?;
    if own.allow {
        return Ok((own, packet));
    }
    let key = &packet.key;
    let with_ports = [protocol::TCP, protocol::UDP, protocol::SCTP];
    let protocols = if key.is_icmp() {
        &with_ports[..]
    } else {
        &[key.protocol]
    };
    let mut ports = BTreeSet::from([0]);
    for stage in &now.policy().stages {
        for rule in stage.rules() {
            let range = rule.destination_ports;
            ports.extend([range.first, range.last.saturating_add(1)]);
        }
    }
    for &protocol in protocols {
        for &destination_port in &ports {
            let with_ports = |key: FlowKey| FlowKey {
                protocol,
                source_port: SOURCE_PORT_DEFAULT,
                destination_port,
                ..key
            };
            let candidate = PolicyKey {
                key: with_ports(packet.key),
                original: with_ports(packet.original),
                ..packet
            };
            let decision = now.decide_checked(candidate)?;
            if decision.allow {
                return Ok((decision, candidate));
            }
        }
    }
    Ok((own, packet))
}
