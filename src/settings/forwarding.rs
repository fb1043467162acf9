//! `[forwarding]`: routed or transparent.

use super::choice::choice;
use super::kind::{ListOf, Parsed, Whole};
use super::port::Port;
use super::reader::Section;

/// How frames find their way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// By the kernel's routes, or straight to the other port of a pair.
    pub mode: ForwardingMode,
    /// Transparent mode: pairs of port numbers. Empty in routed mode.
    pub pairs: Vec<(usize, usize)>,
    /// Routed mode: whether the source must route back (RFC 3704).
    pub reverse_path_filter: ReversePathFilter,
    /// ICMP errors sent per port and second at most (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
    pub icmp_errors_per_second: u32,
    /// ICMP errors that may be sent at once after a quiet time.
    pub icmp_errors_burst: u32,
}

choice! {
    /// How frames find their way out.
    ForwardingMode {
        /// As a router: by destination address, TTL counted down.
        Routed = "routed",
        /// As a wire: from one port of a pair to the other, frames unchanged.
        Transparent = "transparent",
    }
}

choice! {
    /// What the route back to a packet's source must be (RFC 3704).
    ReversePathFilter {
        /// It leaves by the port the packet came in on (§2.2).
        Strict = "strict",
        /// There is one (§2.4).
        Loose = "loose",
        /// Not asked.
        Off = "off",
    }
}

const PORT_NAME: Parsed<String> = Parsed {
    allowed: "the name of a port",
    parse: |text| Ok(text.to_owned()),
};

impl Forwarding {
    pub(super) fn read(section: &mut Section<'_, '_>, ports: &[Port]) -> Forwarding {
        let mode = section.choice("mode");
        let pairs = ListOf {
            kind: ListOf {
                kind: PORT_NAME,
                length: 2..=2,
            },
            length: 0..=32,
        };
        let named: Vec<Vec<String>> = section.optional("pairs", Vec::new(), pairs);
        Forwarding {
            mode,
            pairs: match mode {
                ForwardingMode::Transparent => transparent_pairs(section, &named, ports),
                ForwardingMode::Routed => {
                    if let Some(tagged) = ports.iter().find(|port| !port.vlans.is_empty()) {
                        let found = format!("\"routed\" while port {:?} has vlans", tagged.name);
                        section.reject("mode", found, "\"transparent\", or no port may have vlans");
                    }
                    if !named.is_empty() {
                        section.reject("pairs", "set", "empty unless mode is \"transparent\"");
                    }
                    Vec::new()
                }
            },
            reverse_path_filter: section.choice("reverse_path_filter"),
            icmp_errors_per_second: section.optional(
                "icmp_errors_per_second",
                100,
                Whole(0..=100_000),
            ),
            icmp_errors_burst: section.optional("icmp_errors_burst", 50, Whole(1..=100_000)),
        }
    }
}

/// The pairs by number; the only two ports when none are named.
fn transparent_pairs(
    section: &Section<'_, '_>,
    named: &[Vec<String>],
    ports: &[Port],
) -> Vec<(usize, usize)> {
    if named.is_empty() {
        if ports.len() != 2 {
            let found = format!("\"transparent\" with {} ports and no pairs", ports.len());
            section.reject(
                "mode",
                found,
                "\"routed\", or have exactly two ports, or set pairs",
            );
        }
        return vec![(0, 1)];
    }
    let mut paired = vec![false; ports.len()];
    let mut numbers = Vec::new();
    for name in named.iter().flatten() {
        let Some(number) = ports.iter().position(|port| port.name == *name) else {
            section.reject(
                "pairs",
                format!("{name:?}, no port's name"),
                port_names(ports),
            );
            return Vec::new();
        };
        if std::mem::replace(&mut paired[number], true) {
            let found = format!("{name:?} a second time");
            section.reject("pairs", found, "pairs without a port in common");
        }
        numbers.push(number);
    }
    if let Some(alone) = paired.iter().position(|paired| !paired) {
        let found = format!("without port {:?}", ports[alone].name);
        section.reject("pairs", found, "a list of pairs that holds every port");
    }
    numbers
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect()
}

/// The names of the ports, to complete "it must be …".
pub(super) fn port_names(ports: &[Port]) -> String {
    super::kind::or(ports.iter().map(|port| format!("{:?}", port.name)))
}
