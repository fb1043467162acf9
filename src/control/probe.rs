//! One packet a person asks about, in the words of a case file or of `explain`'s flags.

mod frame;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use frame::{Arp, ArpOperation, Discovery, Mac};

pub use crate::wire::Family;
use crate::wire::protocol;

/// Type of a probe that says something of neighbour discovery and names none.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = protocol::ICMPV6_NEIGHBOUR_ADVERTISEMENT;

/// Source port of a probe that names none.
pub const SOURCE_PORT_DEFAULT: u16 = 40_000;

/// A packet, its ends named rather than addressed. Serialised under the names a case file has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Who sends the packet.
    pub from: Endpoint,
    /// Whom it is addressed to.
    pub to: Endpoint,
    /// What it carries.
    #[serde(rename = "proto")]
    pub protocol: ProbeProtocol,
    /// Destination port; TCP, UDP and SCTP need one, others ignore it.
    pub port: Option<u16>,
    /// Source port; [`SOURCE_PORT_DEFAULT`] unless given.
    #[serde(rename = "src_port")]
    pub source_port: Option<u16>,
    /// ICMP type; an echo request, or the echo reply where `state` says so, unless given.
    pub icmp_type: Option<u8>,
    /// Hop limit; the one such a packet is sent with unless given.
    #[serde(default)]
    pub hop_limit: Option<u8>,
    /// Which of the ends' addresses; their first common family unless given.
    #[serde(with = "family_as_number")]
    #[serde(default)]
    pub family: Option<Family>,
    /// Source address instead of the sender's own; identity follows it.
    #[serde(rename = "src_ip")]
    pub source: Option<IpAddr>,
    /// Destination address instead of the receiver's own; identity follows it.
    #[serde(rename = "dst_ip")]
    pub destination: Option<IpAddr>,
    /// What connection tracking says of the packet.
    #[serde(default)]
    pub state: State,
    /// Source MAC address instead of the sender's own.
    #[serde(rename = "src_mac")]
    pub source_mac: Option<Mac>,
    /// Destination MAC address instead of the receiver's own.
    #[serde(rename = "dst_mac")]
    pub destination_mac: Option<Mac>,
    /// VLAN id of the frame's tag; `None` without a tag.
    pub vlan: Option<u16>,
    /// What an ARP message says.
    pub arp: Option<Arp>,
    /// What a message of neighbour discovery says.
    pub nd: Option<Discovery>,
}

/// One end of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Endpoint {
    /// `ns/pod`: a pod's primary attachment.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// `ns/pod@ifname`: a secondary attachment.
    Attachment {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
        /// The interface in the pod.
        interface: String,
    },
    /// `ip:ADDR`: a host outside, or one nothing is known of.
    Ip(IpAddr),
    /// `node:NAME`.
    Node(String),
    /// `svc:ns/name`: a Service's ClusterIP, translated to its single backend.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// `host:NAME`: a host name asked of a proxy.
    Host(String),
}

/// What a probe carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ProbeProtocol {
    /// Address resolution, which is no IP packet.
    Arp,
    /// `icmp`: ICMP, or ICMPv6 between IPv6 addresses. `ip1` is protocol 1 whatever the family.
    Icmp,
    /// `icmpv6`: wants IPv6 addresses.
    Icmpv6,
    /// Any IP protocol by number, TCP, UDP and SCTP among them.
    Number(u8),
}

/// What connection tracking says of a probe's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The first packet of a flow.
    #[default]
    New,
    /// The answer to a flow opened in the other direction.
    Reply,
    /// An ICMP error about, or a helper's connection of, a flow opened in the other direction.
    Related,
    /// The next request of a flow opened under the manifests before.
    Established,
    /// The next answer of a flow opened under the manifests before.
    EstablishedReply,
}

/// A word of a probe that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// No known form of endpoint.
    #[error(
        "{0:?} is no endpoint: ns/pod, ns/pod@interface, ip:ADDRESS, node:NAME, svc:ns/name or \
         host:NAME"
    )]
    Endpoint(String),
    /// `ip:` without an address behind it.
    #[error("{0:?} is no endpoint: an IPv4 or IPv6 address must follow \"ip:\"")]
    Address(String),
    /// No known protocol.
    #[error(
        "{0:?} is no protocol: tcp, udp, sctp, icmp, icmpv6, arp, or ip and a number from 0 to 255"
    )]
    Protocol(String),
    /// No known state.
    #[error("{0:?} is no state: new, reply, related, established or established-reply")]
    State(String),
    /// No family.
    #[error("{0:?} is no family: 4 or 6")]
    Family(String),
}

impl ProbeProtocol {
    /// TCP.
    pub const TCP: ProbeProtocol = ProbeProtocol::Number(protocol::TCP);

    /// Do rules tell this protocol's packets apart by port?
    pub const fn has_ports(self) -> bool {
        matches!(
            self,
            ProbeProtocol::Number(protocol::TCP | protocol::UDP | protocol::SCTP)
        )
    }
}

impl FromStr for Endpoint {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Self, ProbeError> {
        let error = || ProbeError::Endpoint(text.to_owned());
        if let Some(address) = text.strip_prefix("ip:") {
            let address = address.parse();
            return Ok(Endpoint::Ip(
                address.map_err(|_| ProbeError::Address(text.to_owned()))?,
            ));
        }
        if let Some(name) = text.strip_prefix("node:") {
            return Ok(Endpoint::Node(name_of(name).ok_or_else(error)?));
        }
        if let Some(name) = text.strip_prefix("host:") {
            return Ok(Endpoint::Host(name_of(name).ok_or_else(error)?));
        }
        if let Some(both) = text.strip_prefix("svc:") {
            let (namespace, name) = both.split_once('/').ok_or_else(error)?;
            return Ok(Endpoint::Service {
                namespace: name_of(namespace).ok_or_else(error)?,
                name: name_of(name).ok_or_else(error)?,
            });
        }
        let (namespace, rest) = text.split_once('/').ok_or_else(error)?;
        let namespace = name_of(namespace).ok_or_else(error)?;
        match rest.split_once('@') {
            Some((name, interface)) if !interface.is_empty() => Ok(Endpoint::Attachment {
                namespace,
                name: name_of(name).ok_or_else(error)?,
                interface: interface.to_owned(),
            }),
            Some(_) => Err(error()),
            None => Ok(Endpoint::Pod {
                namespace,
                name: name_of(rest).ok_or_else(error)?,
            }),
        }
    }
}

/// A Kubernetes object name (RFC 1123, with dots), so that a slip of the pen is no missing object.
fn name_of(text: &str) -> Option<String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!text.is_empty() && text.bytes().all(good)).then(|| text.to_owned())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Endpoint::Attachment {
                namespace,
                name,
                interface,
            } => write!(f, "{namespace}/{name}@{interface}"),
            Endpoint::Ip(address) => write!(f, "ip:{address}"),
            Endpoint::Node(name) => write!(f, "node:{name}"),
            Endpoint::Service { namespace, name } => write!(f, "svc:{namespace}/{name}"),
            Endpoint::Host(name) => write!(f, "host:{name}"),
        }
    }
}

impl FromStr for ProbeProtocol {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Self, ProbeError> {
        Ok(match text {
            "tcp" => ProbeProtocol::TCP,
            "udp" => ProbeProtocol::Number(protocol::UDP),
            "sctp" => ProbeProtocol::Number(protocol::SCTP),
            "icmp" => ProbeProtocol::Icmp,
            "icmpv6" => ProbeProtocol::Icmpv6,
            "arp" => ProbeProtocol::Arp,
            other => {
                let digits = other.strip_prefix("ip").unwrap_or_default();
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
                let number = digits.parse().ok().filter(|_| plain);
                ProbeProtocol::Number(number.ok_or_else(|| ProbeError::Protocol(text.into()))?)
            }
        })
    }
}

impl fmt::Display for ProbeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeProtocol::Arp => f.write_str("arp"),
            ProbeProtocol::Icmp => f.write_str("icmp"),
            ProbeProtocol::Icmpv6 => f.write_str("icmpv6"),
            // By its number, so that it is not read as what the family calls ICMP.
            ProbeProtocol::Number(number @ (protocol::ICMP | protocol::ICMPV6)) => {
                write!(f, "ip{number}")
            }
            ProbeProtocol::Number(number) => f.write_str(&protocol::name(*number)),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = ProbeError;

    fn try_from(text: String) -> Result<Self, ProbeError> {
        text.parse()
    }
}

impl From<ProbeProtocol> for String {
    fn from(protocol: ProbeProtocol) -> String {
        protocol.to_string()
    }
}

impl TryFrom<String> for ProbeProtocol {
    type Error = ProbeError;

    fn try_from(text: String) -> Result<Self, ProbeError> {
        text.parse()
    }
}

/// A family is the number people call it by: 4 or 6.
mod family_as_number {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use crate::wire::Family;

    pub fn serialize<S: Serializer>(family: &Option<Family>, to: S) -> Result<S::Ok, S::Error> {
        family.map(|family| family as u8).serialize(to)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Option<Family>, D::Error> {
        let number: Option<u8> = Option::deserialize(from)?;
        let family = |number: u8| super::family(&number.to_string());
        number.map(family).transpose().map_err(de::Error::custom)
    }
}

impl FromStr for State {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Self, ProbeError> {
        Ok(match text {
            "new" => State::New,
            "reply" => State::Reply,
            "related" => State::Related,
            "established" => State::Established,
            "established-reply" => State::EstablishedReply,
            _ => return Err(ProbeError::State(text.to_owned())),
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::New => "new",
            State::Reply => "reply",
            State::Related => "related",
            State::Established => "established",
            State::EstablishedReply => "established-reply",
        })
    }
}

/// `4` or `6`.
///
/// # Errors
/// [`ProbeError::Family`] for anything else.
pub fn family(text: &str) -> Result<Family, ProbeError> {
    match text {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        _ => Err(ProbeError::Family(text.to_owned())),
    }
}

impl fmt::Display for Probe {
    /// `a/cli > b/web tcp/80`, `a/cli > b/web icmp type 8`, `a/cli > b/web ip47, state reply`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} {}", self.from, self.to, self.protocol)?;
        if let Some(port) = self.port.filter(|_| self.protocol.has_ports()) {
            write!(f, "/{port}")?;
        }
        if let Some(icmp_type) = self.icmp_type {
            write!(f, " type {icmp_type}")?;
        }
        if let Some(hop_limit) = self.hop_limit {
            write!(f, ", hop_limit {hop_limit}")?;
        }
        if let Some(family) = self.family {
            write!(f, ", family {}", family as u8)?;
        }
        if let Some(source) = self.source {
            write!(f, ", src_ip {source}")?;
        }
        if let Some(destination) = self.destination {
            write!(f, ", dst_ip {destination}")?;
        }
        if let Some(source_port) = self.source_port {
            write!(f, ", src_port {source_port}")?;
        }
        if self.state != State::New {
            write!(f, ", state {}", self.state)?;
        }
        if let Some(mac) = self.source_mac {
            write!(f, ", src_mac {mac}")?;
        }
        if let Some(mac) = self.destination_mac {
            write!(f, ", dst_mac {mac}")?;
        }
        if let Some(vlan) = self.vlan {
            write!(f, ", vlan {vlan}")?;
        }
        if let Some(arp) = &self.arp {
            write!(f, ", {arp}")?;
        }
        if let Some(nd) = &self.nd {
            write!(f, ", {nd}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_endpoint_reads_back_as_written() {
        for text in [
            "x/a",
            "x/a@net1",
            "ip:203.0.113.9",
            "ip:2001:db8::1",
            "node:n1",
            "svc:b/web",
            "host:example.com",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_endpoints_are_refused_with_the_forms_there_are() {
        for text in [
            "",
            "a",
            "x/",
            "/a",
            "x/a/b",
            "x/a@",
            "ip:",
            "ip:10.0.0.0/8",
            "node:",
            "svc:web",
            "pod:x/a",
            "x/a b",
            "svc:b/",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("{text:?} is no endpoint: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn protocols_are_names_or_numbers() {
        for text in [
            "tcp", "udp", "sctp", "icmp", "icmpv6", "arp", "ip47", "ip1", "ip58",
        ] {
            assert_eq!(text.parse::<ProbeProtocol>().unwrap().to_string(), text);
        }
        for text in ["TCP", "ip", "ip256", "ip-1", "ip+6", "6", "any"] {
            assert!(text.parse::<ProbeProtocol>().is_err(), "{text}");
        }
        assert_eq!("ip6".parse(), Ok(ProbeProtocol::TCP));
    }

    #[test]
    fn a_probe_survives_json() {
        let probe = Probe {
            from: "x/a".parse().unwrap(),
            to: "ip:2001:db8::1".parse().unwrap(),
            protocol: ProbeProtocol::Icmpv6,
            port: None,
            source_port: Some(7),
            icmp_type: Some(129),
            hop_limit: Some(64),
            family: Some(Family::V6),
            source: Some("2001:db8::2".parse().unwrap()),
            destination: None,
            state: State::EstablishedReply,
            source_mac: Some("02:00:00:00:00:01".parse().unwrap()),
            destination_mac: None,
            vlan: Some(7),
            arp: Some(Arp {
                op: ArpOperation::Reply,
                spa: Some([10, 16, 0, 1].into()),
                ..Arp::default()
            }),
            nd: Some(Discovery::default()),
        };
        let json = serde_json::to_string(&probe).unwrap();
        assert!(json.contains(r#""proto":"icmpv6""#), "{json}");
        assert!(json.contains(r#""state":"established-reply""#), "{json}");
        assert_eq!(serde_json::from_str::<Probe>(&json).unwrap(), probe);
        let short = r#"{"from": "x/a", "to": "x/b", "proto": "tcp", "port": 80}"#;
        let probe: Probe = serde_json::from_str(short).unwrap();
        assert_eq!((probe.state, probe.family), (State::New, None));
        for wrong in [
            r#"{"from": "x", "to": "x/b", "proto": "tcp"}"#,
            r#"{"from": "x/a", "to": "x/b", "proto": "tcp", "family": 5}"#,
            r#"{"from": "x/a", "to": "x/b", "proto": "tcp", "prot": 5}"#,
        ] {
            assert!(serde_json::from_str::<Probe>(wrong).is_err(), "{wrong}");
        }
    }
}
