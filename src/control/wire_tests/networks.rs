//! Pods on the cluster's own network and two secondary ones, each behind a port of its own.

use super::*;
use crate::control::judge::{Question, judge};
use crate::control::probe::{Probe, State};
use crate::wire::protocol;

const NETWORKS: [&str; 3] = ["", "default/net1", "default/net2"];
const PODS: [(&str, u8); 3] = [("p", 2), ("q", 3), ("r", 4)];

/// Pod and network.
type End = (usize, usize);

fn world() -> String {
    let mut text = String::new();
    for (name, host) in PODS {
        let status: Vec<_> = (0..3)
            .map(|n| {
                let network = ["cluster", "default/net1", "default/net2"][n];
                let default = n == 0;
                format!(
                    "{{\"name\": \"{network}\", \"interface\": \"net{n}\", \"default\": {default}, \
                     \"ips\": [\"198.18.{n}.{host}\"]}}"
                )
            })
            .collect();
        let status = status.join(", ");
        text += &format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: a, name: {name}, labels: \
             {{app: {name}}}, annotations: {{k8s.v1.cni.cncf.io/network-status: '[{status}]'}}}}, \
             status: {{podIP: 198.18.0.{host}}}}}\n"
        );
    }
    for name in ["net1", "net2"] {
        text += &format!(
            "---\n{{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, metadata: \
             {{namespace: default, name: {name}}}, spec: {{config: '{{\"type\": \"macvlan\"}}'}}}}\n"
        );
    }
    text
}

fn selects(pod: &str) -> String {
    format!("{{matchLabels: {{app: {pod}}}}}")
}

fn policy(name: &str, networks: &str, pod: &str, rest: &str) -> String {
    let (kind, version, annotation) = match networks {
        "" => ("NetworkPolicy", "networking.k8s.io/v1", String::new()),
        _ => (
            "MultiNetworkPolicy",
            "k8s.cni.cncf.io/v1beta1",
            format!(", annotations: {{k8s.v1.cni.cncf.io/policy-for: '{networks}'}}"),
        ),
    };
    let pod = selects(pod);
    format!(
        "---\n{{apiVersion: {version}, kind: {kind}, metadata: {{namespace: a, name: {name}\
         {annotation}}}, spec: {{podSelector: {pod}, {rest}}}}}\n"
    )
}

/// Policies of each network, for what goes in and for what goes out.
fn policies() -> String {
    let from = |pod: &str, port: u16| {
        let peer = selects(pod);
        format!("ingress: [{{from: [{{podSelector: {peer}}}], ports: [{{port: {port}}}]}}]")
    };
    let to = |pod: &str, port: u16| {
        let peer = selects(pod);
        format!(
            "policyTypes: [Egress], egress: [{{to: [{{podSelector: {peer}}}], \
             ports: [{{port: {port}}}]}}]"
        )
    };
    let everybody = "ingress: [{from: [{ipBlock: {cidr: 198.18.0.0/16}}], ports: [{port: 81}]}]";
    [
        policy("primary-in", "", "p", &from("q", 80)),
        policy("primary-out", "", "r", &to("p", 80)),
        policy("one-in", "default/net1", "p", &from("q", 80)),
        policy("one-open", "default/net1", "q", everybody),
        policy("two-out", "default/net2", "q", &to("p", 80)),
        policy("both-in", "default/net1, default/net2", "r", &from("p", 81)),
    ]
    .concat()
}

fn wire(keep: bool) -> Wire {
    let segment = |name: &str| PortSegment {
        network: (!name.is_empty()).then(|| name.to_owned()),
        routers: Vec::new(),
    };
    Wire::new(NETWORKS.map(segment).to_vec(), Forwarding::Routed, !keep)
}

/// Every pair of ends that are not one.
fn pairs() -> impl Iterator<Item = (End, End)> {
    let ends = || (0..3).flat_map(|pod| (0..3).map(move |network| (pod, network)));
    ends()
        .flat_map(move |from| ends().map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
}

/// A segment from one end to the other: port it comes in by, and frame.
fn segment(from: End, to: End, ports: [u16; 2], flags: u8) -> (u8, Vec<u8>) {
    let address = |(pod, n): End| [198, 18, n as u8, PODS[pod].1];
    let n = from.1 as u8;
    let macs = [mac(n, PODS[from.0].1), mac(n, 1)];
    let frame = tcp(macs, [address(from), address(to)], ports, flags);
    (n, frame)
}

fn probe(from: End, to: End, [source_port, port]: [u16; 2], state: State) -> Probe {
    let end = |(pod, n): End| match n {
        0 => format!("a/{}", PODS[pod].0),
        n => format!("a/{}@net{n}", PODS[pod].0),
    };
    let mut probe: Probe = serde_json::from_value(serde_json::json!({
        "from": end(from), "to": end(to), "proto": "tcp", "port": port, "src_port": source_port,
    }))
    .unwrap();
    probe.state = state;
    assert!(probe.protocol.has_ports() && protocol::TCP == 6);
    probe
}

#[test]
fn a_packet_between_networks_is_judged_as_verify_judges_it() {
    let switches = switches(&[]);
    let prepared = prepared(&(world() + &policies()), &switches);
    let mut wire = wire(false);
    wire.enforce(&prepared);
    let (mut allowed, mut denied) = (0, 0);
    for (from, to) in pairs() {
        for port in [80, 81] {
            let ports = [40_000, port];
            let (arrives, frame) = segment(from, to, ports, SYN);
            let fate = wire.one(arrives, frame);
            let probe = probe(from, to, ports, State::New);
            let decider = &prepared.decider;
            let judgement = judge(&probe, decider, decider).unwrap();
            assert_eq!(fate.passes(), judgement.allow, "{probe:?}");
            let denial = judgement.decision.as_ref().and_then(|one| one.denial());
            assert_eq!(fate.family, denial.map(|one| one.family()), "{probe:?}");
            match judgement.allow {
                true => allowed += 1,
                false => denied += 1,
            }
        }
    }
    assert!(allowed > 20 && denied > 20, "{allowed} {denied}");
}

#[test]
fn a_change_ends_the_connections_between_networks_that_it_ends_in_verify() {
    for changed in [
        &[][..],
        &[("mnp_compat", "iptables")],
        &[("established", "keep")],
        &[("established", "keep"), ("mnp_compat", "iptables")],
    ] {
        let switches = switches(changed);
        let before = prepared(&world(), &switches);
        let now = prepared(&(world() + &policies()), &switches);
        for first in [State::EstablishedReply, State::Established] {
            let mut wire = wire(changed.contains(&("established", "keep")));
            wire.enforce(&before);
            let opened: Vec<_> = pairs().flat_map(|pair| [(pair, 80), (pair, 81)]).collect();
            for &((from, to), port) in &opened {
                let (arrives, frame) = segment(from, to, [40_000, port], SYN);
                assert!(wire.one(arrives, frame).passes());
                let (arrives, frame) = segment(to, from, [port, 40_000], SYN | ACK);
                assert!(wire.one(arrives, frame).passes());
            }
            wire.enforce(&now);
            let mut kept_by_step = 0;
            for &((from, to), port) in &opened {
                let there = (from, to, [40_000, port]);
                let back = (to, from, [port, 40_000]);
                let (from, to, ports) = match first {
                    State::Established => there,
                    _ => back,
                };
                let (arrives, frame) = segment(from, to, ports, ACK);
                let fate = wire.one(arrives, frame);
                let probe = probe(from, to, ports, first);
                let judgement = judge(&probe, &now.decider, &before.decider).unwrap();
                assert_eq!(fate.passes(), judgement.allow, "{changed:?} {probe:?}");
                kept_by_step += usize::from(judgement.question == Question::Kept);
            }
            assert_eq!(kept_by_step > 0, !changed.is_empty(), "{changed:?}");
        }
    }
}
