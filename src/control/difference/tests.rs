//! Differences against asking both sets about every packet of a small world.

use proptest::prelude::*;

use super::*;
use crate::classifier::tree::Limits;
use crate::policy::{Compatibility, Names, SourceFile, load};
use crate::wire::protocol;

const PODS: &str = "
{kind: Pod, apiVersion: v1, metadata: {namespace: x, name: a, labels: {app: a}},
 status: {podIPs: [{ip: 198.18.0.1}, {ip: '2001:db8::1'}]}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: x, name: b, labels: {app: b}},
 status: {podIPs: [{ip: 198.18.0.2}, {ip: '2001:db8::2'}]}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: y, name: c, labels: {app: c}},
 spec: {containers: [{ports: [{name: web, containerPort: 80}]}]},
 status: {podIPs: [{ip: 198.18.0.3}, {ip: '2001:db8::3'}]}}
";

fn decider(policies: &[String]) -> Decider {
    let text = [&[PODS.to_owned()], policies].concat().join("\n---\n");
    let file = SourceFile {
        name: "m.yaml".into(),
        text: text.into(),
    };
    let loaded = load(&[file], &Compatibility::default(), &Names::default());
    let set = loaded
        .policy
        .unwrap_or_else(|| panic!("{:?}", loaded.findings));
    Decider::new(set, &Limits::default()).unwrap()
}

fn policy(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "{{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, \
         metadata: {{namespace: {namespace}, name: {name}}}, spec: {{{spec}}}}}"
    )
}

const SPECS: [&str; 8] = [
    "podSelector: {}, policyTypes: [Ingress]",
    "podSelector: {}, policyTypes: [Egress]",
    "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80}]}]",
    "podSelector: {matchLabels: {app: b}}, ingress: [{from: [{podSelector: {}}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {}}], ports: [{port: web}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 198.18.0.0/30, except: [198.18.0.2/32]}}]}]",
    "podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 79, endPort: 81}]}]",
    "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '2001:db8::/127'}}]}]",
];

fn policies() -> impl Strategy<Value = Vec<String>> {
    let one = (0..SPECS.len(), prop::sample::select(vec!["x", "y"]));
    prop::collection::vec(one, 0..5).prop_map(|chosen| {
        let named = chosen.into_iter().enumerate();
        named
            .map(|(number, (spec, namespace))| {
                policy(&format!("p{number}"), namespace, SPECS[spec])
            })
            .collect()
    })
}

/// Every packet between pods and two strangers, of the ports that the policies speak of.
fn world(family: Family) -> Vec<FlowKey> {
    let addresses: Vec<Address> = match family {
        Family::V4 => [
            "198.18.0.1",
            "198.18.0.2",
            "198.18.0.3",
            "198.18.0.4",
            "203.0.113.9",
        ],
        Family::V6 => [
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8::3",
            "2001:db8::",
            "2001:db9::",
        ],
    }
    .iter()
    .map(|text| Address::from_ip(text.parse().unwrap()).1)
    .collect();
    let icmp = match family {
        Family::V4 => (protocol::ICMP, FlowKey::icmp_port(protocol::ICMP_ECHO, 0)),
        Family::V6 => (
            protocol::ICMPV6,
            FlowKey::icmp_port(protocol::ICMPV6_ECHO, 0),
        ),
    };
    let mut services = vec![icmp, (47, 0)];
    for number in [protocol::TCP, protocol::UDP] {
        services.extend([78, 79, 80, 81, 82].map(|port| (number, port)));
    }
    let mut keys = Vec::new();
    for &source in &addresses {
        for &destination in addresses.iter().filter(|address| **address != source) {
            for &(number, destination_port) in &services {
                keys.push(FlowKey {
                    source,
                    destination,
                    source_port: if number == 47 || number == icmp.0 {
                        0
                    } else {
                        40_000
                    },
                    destination_port,
                    zone: 0,
                    protocol: number,
                    family,
                });
            }
        }
    }
    keys
}

/// The number looked at for a protocol: its own, or another of its class.
fn point_of(classes: &Classes, key: &FlowKey, points: &BTreeMap<Point, Fates>) -> bool {
    points.keys().any(|point| {
        point.source == classes.sources.class_of(key.source.to_bits())
            && point.destination == classes.destinations.class_of(key.destination.to_bits())
            && point.source_port == classes.source_ports.class_of(key.source_port.into())
            && point.destination_port
                == classes
                    .destination_ports
                    .class_of(key.destination_port.into())
            && classes.same_protocol(point.protocol, key.protocol)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn exactly_what_differs_is_told(before in policies(), after in policies()) {
        let (before, after) = (decider(&before), decider(&after));
        let changed = changed_rules(&before, &after);
        for family in [Family::V4, Family::V6] {
            let classes = Classes::new(family, [&before, &after]);
            let points = points(&classes, &changed, &before, &after).unwrap();
            for key in world(family) {
                let differs = before.decide(key).allow != after.decide(key).allow;
                prop_assert_eq!(point_of(&classes, &key, &points), differs, "{}", key);
            }
        }
    }
}

#[test]
fn a_change_names_both_ends_the_ports_and_the_deciding_rules() {
    let closed = policy("closed", "y", SPECS[0]);
    let web = policy("web", "y", SPECS[4]);
    let (before, after) = (
        decider(std::slice::from_ref(&closed)),
        decider(&[closed, web]),
    );
    let changes = differences(&before, &after).unwrap();
    let [change] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(
        (change.before.verdict, change.after.verdict),
        ("deny", "allow")
    );
    assert_eq!(
        change.before.rule.as_deref(),
        Some("NetworkPolicy/y/*#isolation")
    );
    assert_eq!(change.after.rule.as_deref(), Some("NetworkPolicy/y/web#0"));
    assert_eq!(change.from, ["x/a", "x/b"]);
    assert_eq!(
        (&change.to[..], &change.services[..]),
        (&["y/c".to_owned()][..], &["tcp/80".to_owned()][..])
    );
    assert_eq!(
        change.witnesses,
        [
            "tcp 198.18.0.1:40000 > 198.18.0.3:80",
            "tcp [2001:db8::1]:40000 > [2001:db8::3]:80"
        ]
    );
    assert_eq!(differences(&after, &after).unwrap(), []);
}

#[test]
fn addresses_of_no_pod_are_told_as_ranges() {
    let spec = "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]";
    let closed = policy("closed", "y", SPECS[0]);
    let (before, after) = (decider(&[closed]), decider(&[policy("partner", "y", spec)]));
    let changes = differences(&before, &after).unwrap();
    let [change] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(change.from, ["203.0.113.0/24"]);
    assert_eq!(
        (change.to.join(" "), change.services.join(" ")),
        ("y/c".into(), "every protocol".into())
    );
}
