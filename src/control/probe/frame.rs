//! What a probe says of its frame rather than of its packet.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::wire::{MacAddress, MacAddressError};

/// A MAC address as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub MacAddress);

/// What an ARP message says; what is left out is what the sender's own data give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arp {
    /// Request or reply.
    #[serde(default)]
    pub op: ArpOperation,
    /// Sender's hardware address.
    pub sha: Option<Mac>,
    /// Sender's protocol address.
    pub spa: Option<Ipv4Addr>,
    /// Target's protocol address.
    pub tpa: Option<Ipv4Addr>,
}

/// What an ARP message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArpOperation {
    /// Who has it?
    #[default]
    Request,
    /// I have it.
    Reply,
}

/// What a message of neighbour discovery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// Target address; the source address of an advertisement that leaves it out.
    pub target: Option<Ipv6Addr>,
    /// Link-layer address in the message's option; none where it is left out.
    pub lladdr: Option<Mac>,
}

/// No ARP operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no ARP operation: request (1) or reply (2)")]
pub struct ArpOperationError(String);

impl FromStr for Mac {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        text.parse().map(Mac)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = MacAddressError;

    fn try_from(text: String) -> Result<Self, MacAddressError> {
        text.parse()
    }
}

impl FromStr for ArpOperation {
    type Err = ArpOperationError;

    fn from_str(text: &str) -> Result<Self, ArpOperationError> {
        match text {
            "request" | "1" => Ok(ArpOperation::Request),
            "reply" | "2" => Ok(ArpOperation::Reply),
            _ => Err(ArpOperationError(text.to_owned())),
        }
    }
}

impl fmt::Display for ArpOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ArpOperation::Request => "request",
            ArpOperation::Reply => "reply",
        })
    }
}

impl fmt::Display for Arp {
    /// `arp reply sha 00:00:00:fa:17:97 spa 10.16.0.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arp {}", self.op)?;
        if let Some(sha) = self.sha {
            write!(f, " sha {sha}")?;
        }
        if let Some(spa) = self.spa {
            write!(f, " spa {spa}")?;
        }
        match self.tpa {
            Some(tpa) => write!(f, " tpa {tpa}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Discovery {
    /// `nd target fd00::16 lladdr 00:00:00:fa:17:97`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nd")?;
        if let Some(target) = self.target {
            write!(f, " target {target}")?;
        }
        match self.lladdr {
            Some(lladdr) => write!(f, " lladdr {lladdr}"),
            None => Ok(()),
        }
    }
}
