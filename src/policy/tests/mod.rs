//! Tests of the room as a whole: manifests in, verdicts and findings out.

mod again;
mod documents;
mod egress_firewall;
mod kubernetes;
mod loading;
mod multi_network;
mod openshift;
mod property;
mod scale;
mod security_group;
mod shadows;
mod tier_schema;
mod tiers;
mod upstream;
mod validation;
mod worked;

use std::fmt::Write;
use std::net::IpAddr;

use super::*;
use crate::classifier::RuleVerdict;
use crate::wire::{Address, Family, FlowKey, protocol};

/// Loads one text.
pub fn load_text(text: &str) -> Loaded {
    load_with(text, &Compatibility::default())
}

pub fn load_with(text: &str, compatibility: &Compatibility) -> Loaded {
    let file = SourceFile {
        name: "f.yaml".to_owned(),
        text: text.into(),
    };
    load(&[file], compatibility, &Names::default())
}

/// Loads a text that must have no errors.
pub fn policy(text: &str) -> PolicySet {
    policy_with(text, &Compatibility::default())
}

pub fn policy_with(text: &str, compatibility: &Compatibility) -> PolicySet {
    let loaded = load_with(text, compatibility);
    let findings: Vec<_> = loaded.findings.iter().map(ToString::to_string).collect();
    loaded
        .policy
        .unwrap_or_else(|| panic!("refused: {findings:#?}\n{text}"))
}

/// Findings as lines.
pub fn findings(text: &str) -> Vec<String> {
    load_text(text)
        .findings
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Pods of the Kubernetes tests: `x/a` has label `pod=a`, addresses 10.<namespace>.0.<pod> and
/// fd00:<namespace>::<pod>, and ports 80 and 81 named `serve-80-tcp` and so on for TCP, UDP, SCTP.
/// Namespaces have a label `ns=x`.
pub fn cluster(pods: &str) -> String {
    let mut text = String::new();
    let mut namespaces: Vec<&str> = Vec::new();
    for full_name in pods.split_whitespace() {
        let (namespace, name) = full_name.split_once('/').unwrap();
        if !namespaces.contains(&namespace) {
            namespaces.push(namespace);
            let metadata = format!("{{name: '{namespace}', labels: {{ns: '{namespace}'}}}}");
            writeln!(
                text,
                "---\n{{apiVersion: v1, kind: Namespace, metadata: {metadata}}}"
            )
            .unwrap();
        }
        let mut ports = Vec::new();
        for protocol in ["TCP", "UDP", "SCTP"] {
            for number in [80, 81] {
                let port = format!("serve-{number}-{}", protocol.to_lowercase());
                ports.push(format!(
                    "{{name: {port}, containerPort: {number}, protocol: {protocol}}}"
                ));
            }
        }
        writeln!(
            text,
            "---\napiVersion: v1\nkind: Pod\n\
             metadata: {{namespace: '{namespace}', name: {name}, labels: {{pod: {name}}}}}\n\
             spec:\n  nodeName: node-{namespace}\n  containers:\n  - ports: [{}]\n\
             status: {{phase: Running, podIPs: [{{ip: {}}}, {{ip: {}}}]}}",
            ports.join(", "),
            pod_address(full_name, Family::V4),
            pod_address(full_name, Family::V6),
        )
        .unwrap();
    }
    for (number, namespace) in namespaces.iter().enumerate() {
        writeln!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-{namespace}}}\n\
             status: {{addresses: [{{type: InternalIP, address: 192.168.0.{}}}, \
             {{type: Hostname, address: node-{namespace}}}]}}",
            number + 1
        )
        .unwrap();
    }
    text
}

fn pod_address(full_name: &str, family: Family) -> IpAddr {
    let bytes = full_name.as_bytes();
    let (namespace, pod) = (bytes[0] - b'a' + 1, bytes[2] - b'a' + 1);
    match family {
        Family::V4 => format!("10.{namespace}.0.{pod}").parse().unwrap(),
        Family::V6 => format!("fd00:{namespace:x}::{pod:x}").parse().unwrap(),
    }
}

/// The key of a probe: ends as `x/a` or an address, `tcp/80` and so on, `icmp` for a ping.
pub fn key(set: &PolicySet, from: &str, to: &str, probe: &str, family: Family) -> FlowKey {
    let end = |text: &str| -> IpAddr {
        if let Ok(address) = text.parse() {
            return address;
        }
        let (namespace, name) = text.split_once('/').unwrap();
        let pod = set
            .inventory
            .pod(namespace, name)
            .unwrap_or_else(|| panic!("no pod {text}"));
        let of_family = |address: &&IpAddr| Family::of(**address) == family;
        *pod.addresses.iter().find(of_family).unwrap()
    };
    let (source, destination) = (Address::from_ip(end(from)), Address::from_ip(end(to)));
    assert_eq!(source.0, destination.0, "{from} {to}");
    let family = source.0;
    let (name, port) = probe.split_once('/').unwrap_or((probe, "0"));
    let mut destination_port = port.parse().unwrap();
    let protocol = match (name, family) {
        ("tcp", _) => protocol::TCP,
        ("udp", _) => protocol::UDP,
        ("sctp", _) => protocol::SCTP,
        ("icmp", Family::V4) => {
            destination_port = FlowKey::icmp_port(protocol::ICMP_ECHO, 0);
            protocol::ICMP
        }
        ("icmp", Family::V6) => {
            destination_port = FlowKey::icmp_port(protocol::ICMPV6_ECHO, 0);
            protocol::ICMPV6
        }
        (number, _) => number.strip_prefix("ip").unwrap().parse().unwrap(),
    };
    FlowKey {
        source: source.1,
        destination: destination.1,
        source_port: 40000,
        destination_port,
        zone: 0,
        protocol,
        family,
    }
}

/// Whether a probe passes, decided by the compiled rules and by the naive twin, which must agree.
pub fn passes_in(set: &PolicySet, from: &str, to: &str, probe: &str, family: Family) -> bool {
    let key = key(set, from, to, probe, family);
    let evaluation = set.evaluate(key);
    let naive = naive::evaluate(set, key);
    let denied_by = evaluation
        .denial()
        .map(|step| (step.family(), step.direction()));
    assert_eq!(
        (evaluation.verdict(), denied_by),
        (naive.verdict, naive.denied_by),
        "{key}"
    );
    evaluation.verdict() == RuleVerdict::Allow
}

/// As [`passes_in`], for both families when the ends are pods.
pub fn passes(set: &PolicySet, from: &str, to: &str, probe: &str) -> bool {
    let address = [from, to]
        .into_iter()
        .find_map(|end| end.parse::<IpAddr>().ok());
    if let Some(address) = address {
        return passes_in(set, from, to, probe, Family::of(address));
    }
    let v4 = passes_in(set, from, to, probe, Family::V4);
    assert_eq!(
        v4,
        passes_in(set, from, to, probe, Family::V6),
        "{from} {to} {probe}"
    );
    v4
}
