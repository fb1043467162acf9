//! Policy cases: what people expect of their policies, to be held against the manifests.
//!
//! `docs/verify.md` describes the file format. One YAML document is one [`Case`].

mod fields;
mod frame;
mod names;
mod parse;
mod run;

use std::path::PathBuf;

pub use parse::parse;
pub use run::{Outcome, Run, run};

use super::probe::Probe;
use crate::policy::document::Document;
use crate::policy::names::StaticTable;
use crate::policy::{Compatibility, Finding, Place};

/// One document of a case file, as far as it could be read.
#[derive(Debug)]
pub struct Case {
    /// Its `id`; its `title`, or `document N`, where it has none.
    pub name: String,
    /// Where the document starts.
    pub place: Place,
    /// Switches that differ from their default.
    pub compatibility: Compatibility,
    /// The complete object set.
    pub manifests: Manifests,
    /// The object set under which `established` flows were opened, where it differs.
    pub manifests_before: Option<Manifests>,
    /// The answers to questions for names, over time.
    pub names: StaticTable,
    /// Packets and what is expected of them.
    pub probes: Vec<ProbeCase>,
    /// Objects and whether they are expected to load.
    pub reject_cases: Vec<RejectCase>,
}

/// Where a case's objects are.
#[derive(Debug)]
pub enum Manifests {
    /// In the case itself, one document an object.
    Inline(Vec<Document>),
    /// In a directory.
    Directory {
        /// The directory, relative paths already joined to the case file's.
        path: PathBuf,
        /// Where the case names it.
        place: Place,
    },
}

/// A packet and what is expected of it.
#[derive(Debug)]
pub struct ProbeCase {
    /// `probes[3]`, counting from 0.
    pub path: String,
    /// Where it is written.
    pub place: Place,
    /// The packet.
    pub probe: Probe,
    /// `at`: seconds after load.
    pub at_s: u32,
    /// What is expected.
    pub expectation: Expectation,
    /// The author's reason.
    pub why: Option<String>,
}

/// What is expected of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// `expect: allow`.
    pub allow: bool,
    /// `expect_dst`: destination after translation.
    pub destination: Option<Socket>,
    /// `expect_src`: source after translation.
    pub source: Option<Socket>,
    /// `deny_stage`: the family that denies first.
    pub deny_stage: Option<String>,
    /// `reject`: an answer instead of silence.
    pub reject: Option<String>,
}

/// An address and perhaps a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// The address.
    pub address: std::net::IpAddr,
    /// The port, where it matters.
    pub port: Option<u16>,
}

/// An object and whether it is expected to load.
#[derive(Debug)]
pub struct RejectCase {
    /// `reject_cases[2]`, counting from 0.
    pub path: String,
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub place: Place,
    /// The object loaded beside the case's manifests; `None` for those alone.
    pub manifest: Option<Document>,
    /// What is expected.
    pub expect: Reception,
    /// Field path a finding must name.
    pub finding_path: Option<String>,
    /// Words a finding must contain.
    pub reason_contains: Option<String>,
    /// The case's switches and this one's own.
    pub compatibility: Compatibility,
    /// Why its own switches are refused, where that may be expected.
    pub refused_switches: Vec<Finding>,
}

/// How an object is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// It loads.
    Accept,
    /// The set it is part of is refused.
    Reject,
    /// It loads, with a warning: it has no effect, or a surprising one.
    Warn,
}

impl Reception {
    /// The word a case file has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Reception::Accept => "accept",
            Reception::Reject => "reject",
            Reception::Warn => "warn",
        }
    }
}

impl std::fmt::Display for Socket {
    /// `10.0.0.1`, `10.0.0.1:80`, `[2001:db8::1]:80`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => std::net::SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

impl std::str::FromStr for Socket {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Socket {
                address,
                port: None,
            });
        }
        let socket: std::net::SocketAddr = text.parse()?;
        Ok(Socket {
            address: socket.ip(),
            port: Some(socket.port()),
        })
    }
}
