//! The reachability tables of the Kubernetes end-to-end tests (`test/e2e/network/netpol`).
//!
//! Each scenario states its pods, its policies, and for a probe which pairs of pods may not reach
//! each other; every other pair may. A pod always reaches itself, which upstream leaves open.

use super::*;

/// A pod pattern: `x/a`, `x/*`, `*`.
fn fits(pattern: &str, pod: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => pod.starts_with(prefix),
        None => pod == pattern,
    }
}

/// One policy: namespace and spec in flow style.
type Written<'w> = (&'w str, &'w str);

/// Changes to "everybody reaches everybody", in order: from, to, may it.
type Table<'t> = &'t [(&'t str, &'t str, bool)];

struct Scenario {
    pods: &'static str,
    set: PolicySet,
}

impl Scenario {
    fn new(pods: &'static str, policies: &[Written]) -> Self {
        Self::of(pods, cluster(pods), policies)
    }

    fn of(pods: &'static str, cluster: String, policies: &[Written]) -> Self {
        let mut text = cluster;
        for (number, (namespace, spec)) in policies.iter().enumerate() {
            writeln!(
                text,
                "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                 metadata: {{name: p{number}, namespace: {namespace}}}\nspec: {spec}"
            )
            .unwrap();
        }
        Scenario {
            pods,
            set: policy(&text),
        }
    }

    #[track_caller]
    fn expect(&self, probe: &str, table: Table) -> &Self {
        for from in self.pods.split_whitespace() {
            for to in self.pods.split_whitespace() {
                let change = table
                    .iter()
                    .rev()
                    .find(|(source, target, _)| fits(source, from) && fits(target, to));
                let expected = from == to || change.is_none_or(|(_, _, may)| *may);
                let found = passes(&self.set, from, to, probe);
                assert_eq!(found, expected, "{from} > {to} {probe}");
            }
        }
        self
    }
}

const TO_A: (&str, &str, bool) = ("*", "x/a", false);
const FROM_A: (&str, &str, bool) = ("x/a", "*", false);
const TO_X: (&str, &str, bool) = ("*", "x/*", false);
const FROM_X: (&str, &str, bool) = ("x/*", "*", false);

#[test]
fn default_deny() {
    for probe in ["tcp/80", "udp/80", "sctp/80"] {
        Scenario::new(
            "x/a x/b y/a y/b",
            &[("x", "{podSelector: {}, policyTypes: [Ingress]}")],
        )
        .expect(probe, &[TO_X]);
        Scenario::new(
            "x/a x/b y/a",
            &[("x", "{podSelector: {}, policyTypes: [Ingress, Egress]}")],
        )
        .expect(probe, &[TO_X, FROM_X]);
    }
}

#[test]
fn pods_of_the_own_namespace_by_label() {
    for selector in [
        "{matchLabels: {pod: b}}",
        "{matchExpressions: [{key: pod, operator: In, values: [b]}]}",
    ] {
        let spec = format!(
            "{{podSelector: {{matchLabels: {{pod: a}}}}, \
             ingress: [{{from: [{{podSelector: {selector}}}]}}]}}"
        );
        Scenario::new("x/a x/b x/c y/a y/b", &[("x", &spec)])
            .expect("tcp/80", &[TO_A, ("x/b", "x/a", true)]);
    }
}

#[test]
fn ingress_for_one_target_of_a_closed_namespace() {
    Scenario::new(
        "x/a x/b y/a",
        &[
            ("x", "{podSelector: {}, policyTypes: [Ingress]}"),
            (
                "x",
                "{podSelector: {matchLabels: {pod: a}}, \
                 ingress: [{from: [{podSelector: {}, namespaceSelector: {}}]}]}",
            ),
        ],
    )
    .expect("tcp/80", &[("*", "x/b", false)]);
}

#[test]
fn pods_of_all_namespaces() {
    Scenario::new(
        "x/a x/b y/a z/a",
        &[(
            "x",
            "{podSelector: {matchLabels: {pod: a}}, \
             ingress: [{from: [{namespaceSelector: {matchLabels: {}}}]}]}",
        )],
    )
    .expect("tcp/80", &[]);
}

#[test]
fn namespaces_by_label_and_by_name() {
    for selector in [
        "{matchLabels: {ns: y}}",
        "{matchLabels: {kubernetes.io/metadata.name: y}}",
        "{matchExpressions: [{key: ns, operator: In, values: [y]}]}",
        "{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [y]}]}",
    ] {
        let spec = format!(
            "{{podSelector: {{matchLabels: {{pod: a}}}}, \
             ingress: [{{from: [{{namespaceSelector: {selector}}}]}}]}}"
        );
        Scenario::new("x/a x/b y/a z/a", &[("x", &spec)])
            .expect("tcp/80", &[TO_A, ("y/*", "x/a", true)]);
    }
    Scenario::new(
        "x/a x/b y/a z/a",
        &[(
            "x",
            "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], \
             egress: [{to: [{namespaceSelector: {matchExpressions: \
             [{key: kubernetes.io/metadata.name, operator: NotIn, values: [y]}]}}]}]}",
        )],
    )
    .expect("tcp/80", &[("x/a", "y/*", false)]);
}

#[test]
fn pods_or_namespaces() {
    Scenario::new(
        "x/a x/b x/c y/a",
        &[(
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [\
             {namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}}, \
             {podSelector: {matchLabels: {pod: b}}}]}]}",
        )],
    )
    .expect("tcp/80", &[("x/c", "x/a", false)]);
}

#[test]
fn pods_and_namespaces() {
    let from = |pods: &str, namespaces: &str| {
        format!(
            "{{podSelector: {{matchLabels: {{pod: a}}}}, ingress: [{{from: [\
             {{namespaceSelector: {namespaces}, podSelector: {pods}}}]}}]}}"
        )
    };
    let not_x = "{matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}";
    let spec = from("{matchLabels: {pod: b}}", not_x);
    Scenario::new("x/a x/b y/a y/b z/b", &[("x", &spec)]).expect(
        "tcp/80",
        &[TO_A, ("y/b", "x/a", true), ("z/b", "x/a", true)],
    );
    let spec = from(
        "{matchExpressions: [{key: pod, operator: In, values: [b, c]}]}",
        not_x,
    );
    Scenario::new("x/a x/b y/a y/b y/c", &[("x", &spec)])
        .expect("tcp/80", &[("x/*", "x/a", false), ("y/a", "x/a", false)]);
    let spec = from(
        "{matchLabels: {pod: a}}",
        "{matchLabels: {kubernetes.io/metadata.name: y}}",
    );
    for probe in ["tcp/80", "udp/80", "sctp/80"] {
        Scenario::new("x/a x/b y/a y/b z/a", &[("x", &spec)])
            .expect(probe, &[TO_A, ("y/a", "x/a", true)]);
    }
}

#[test]
fn any_of_several_pod_selectors() {
    Scenario::new(
        "x/a x/b x/c x/d",
        &[(
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [\
             {podSelector: {matchLabels: {pod: b}}}, {podSelector: {matchLabels: {pod: c}}}]}]}",
        )],
    )
    .expect("tcp/80", &[("x/d", "x/a", false)]);
}

fn from_y_on(port: &str) -> String {
    format!(
        "{{podSelector: {{matchLabels: {{pod: a}}}}, ingress: [{{from: [\
         {{namespaceSelector: {{matchLabels: {{ns: y}}}}}}], ports: [{port}]}}]}}"
    )
}

#[test]
fn ports() {
    for (probe, other, protocol) in [
        ("tcp/81", "tcp/80", "TCP"),
        ("udp/81", "udp/80", "UDP"),
        ("sctp/81", "sctp/80", "SCTP"),
    ] {
        let spec = from_y_on(&format!("{{port: 81, protocol: {protocol}}}"));
        Scenario::new("x/a x/b y/a y/b z/a", &[("x", &spec)])
            .expect(probe, &[TO_A, ("y/*", "x/a", true)])
            .expect(other, &[TO_A]);
    }
}

#[test]
fn stacked_policies_with_overlapping_selectors() {
    let (on_81, on_80) = (from_y_on("{port: 81}"), from_y_on("{port: 80}"));
    let table: Table = &[TO_A, ("y/*", "x/a", true)];
    Scenario::new("x/a x/b y/a y/b z/a", &[("x", &on_81)])
        .expect("tcp/81", table)
        .expect("tcp/80", &[TO_A]);
    Scenario::new("x/a x/b y/a y/b z/a", &[("x", &on_81), ("x", &on_80)])
        .expect("tcp/81", table)
        .expect("tcp/80", table);
}

#[test]
fn allow_all() {
    let allow_80 = "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}";
    let allow_all = "{podSelector: {}, ingress: [{}]}";
    Scenario::new("x/a x/b y/a", &[("x", allow_all)])
        .expect("tcp/80", &[])
        .expect("tcp/81", &[]);
    Scenario::new("x/a x/b y/a", &[("x", allow_80)]).expect("tcp/81", &[TO_X]);
    Scenario::new("x/a x/b y/a", &[("x", allow_80), ("x", allow_all)]).expect("tcp/81", &[]);
    let to_80 = "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}";
    let to_all = "{podSelector: {}, policyTypes: [Egress], egress: [{}]}";
    Scenario::new("x/a x/b y/a", &[("x", to_80)]).expect("tcp/81", &[FROM_X]);
    Scenario::new("x/a x/b y/a", &[("x", to_80), ("x", to_all)]).expect("tcp/81", &[]);
}

#[test]
fn named_ports() {
    Scenario::new(
        "x/a x/b y/a",
        &[(
            "x",
            "{podSelector: {}, ingress: [{ports: [{port: serve-81-tcp}]}]}",
        )],
    )
    .expect("tcp/81", &[])
    .expect("tcp/80", &[TO_X])
    .expect("udp/81", &[TO_X]);
    Scenario::new(
        "x/a x/b y/a z/a",
        &[("x", &from_y_on("{port: serve-80-tcp, protocol: TCP}"))],
    )
    .expect("tcp/80", &[TO_A, ("y/*", "x/a", true)])
    .expect("tcp/81", &[TO_A]);
    Scenario::new(
        "x/a y/a",
        &[(
            "x",
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: serve-80-tcp}]}]}",
        )],
    )
    .expect("tcp/80", &[])
    .expect("tcp/81", &[FROM_X]);
}

#[test]
fn changed_labels() {
    let pods = "x/a x/b y/a";
    let spec = "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [\
                {namespaceSelector: {matchLabels: {ns2: updated}}}]}]}";
    Scenario::new(pods, &[("x", spec)]).expect("tcp/80", &[TO_A]);
    let updated = cluster(pods).replace("labels: {ns: y}", "labels: {ns: y, ns2: updated}");
    Scenario::of(pods, updated, &[("x", spec)]).expect("tcp/80", &[TO_A, ("y/*", "x/a", true)]);

    let spec = "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [\
                {podSelector: {matchLabels: {pod: b, pod2: updated}}}]}]}";
    Scenario::new(pods, &[("x", spec)]).expect("tcp/80", &[TO_A]);
    let updated = cluster(pods).replace("labels: {pod: b}", "labels: {pod: b, pod2: updated}");
    Scenario::of(pods, updated, &[("x", spec)]).expect("tcp/80", &[TO_A, ("x/b", "x/a", true)]);

    let spec = "{podSelector: {matchLabels: {target: isolated}}, policyTypes: [Ingress]}";
    Scenario::new(pods, &[("x", spec)]).expect("tcp/80", &[]);
    let isolated =
        cluster(pods).replacen("labels: {pod: a}", "labels: {pod: a, target: isolated}", 1);
    Scenario::of(pods, isolated, &[("x", spec)]).expect("tcp/80", &[TO_A]);
}

#[test]
fn other_namespaces_are_kept_out() {
    Scenario::new(
        "x/a x/b y/a z/a",
        &[(
            "x",
            "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {}}}]}]}",
        )],
    )
    .expect("tcp/80", &[("y/*", "x/*", false), ("z/*", "x/*", false)]);
}

#[test]
fn egress_denied() {
    Scenario::new(
        "x/a x/b y/a",
        &[(
            "x",
            "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress]}",
        )],
    )
    .expect("tcp/80", &[FROM_A]);
    Scenario::new(
        "x/a x/b y/a",
        &[("x", "{podSelector: {}, policyTypes: [Egress]}")],
    )
    .expect("tcp/80", &[FROM_X]);
}

#[test]
fn ingress_and_egress_together() {
    Scenario::new(
        "x/a x/b x/c y/a",
        &[(
            "x",
            "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress, Ingress], \
             ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}], \
             egress: [{ports: [{port: 80}]}]}",
        )],
    )
    .expect("tcp/80", &[TO_A, ("x/b", "x/a", true)])
    .expect("tcp/81", &[TO_A, FROM_A, ("x/b", "x/a", true)]);
}

#[test]
fn the_client_s_egress_counts_whatever_the_server_allows() {
    let from_a = |pod: &str| {
        format!(
            "{{podSelector: {{matchLabels: {{pod: {pod}}}}}, ingress: [{{from: [\
             {{namespaceSelector: {{matchLabels: {{ns: x}}}}, \
             podSelector: {{matchLabels: {{pod: a}}}}}}]}}]}}"
        )
    };
    let to_y_a = "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [\
                  {namespaceSelector: {matchLabels: {ns: y}}, \
                  podSelector: {matchLabels: {pod: a}}}]}]}";
    Scenario::new(
        "x/a y/a y/b",
        &[("x", to_y_a), ("y", &from_a("a")), ("y", &from_a("b"))],
    )
    .expect(
        "tcp/80",
        &[
            FROM_A,
            ("*", "y/a", false),
            ("x/a", "y/a", true),
            ("*", "y/b", false),
        ],
    );
    Scenario::new("x/a y/a y/b", &[("x", to_y_a)])
        .expect("tcp/80", &[FROM_A, ("x/a", "y/a", true)]);
}

#[test]
fn a_protocol_without_port() {
    Scenario::new(
        "x/a y/a",
        &[(
            "x",
            "{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{protocol: TCP}]}]}",
        )],
    )
    .expect("tcp/80", &[])
    .expect("udp/80", &[TO_A]);
}

/// As pods of both families are asked, blocks come in pairs.
fn to_blocks(blocks: &str) -> String {
    format!(
        "{{podSelector: {{matchLabels: {{pod: a}}}}, policyTypes: [Egress], \
         egress: [{{to: [{blocks}]}}]}}"
    )
}

#[test]
fn address_blocks() {
    // y/b is 10.25.0.2 and fd00:19::2; x is 24 and 18.
    let only_y_b =
        to_blocks("{ipBlock: {cidr: 10.25.0.2/32}}, {ipBlock: {cidr: 'fd00:19::2/128'}}");
    Scenario::new("x/a y/a y/b", &[("x", &only_y_b)])
        .expect("tcp/80", &[FROM_A, ("x/a", "y/b", true)]);
    let all_but_x_b = to_blocks(
        "{ipBlock: {cidr: 10.24.0.0/24, except: [10.24.0.2/32]}}, \
         {ipBlock: {cidr: 'fd00:18::/64', except: ['fd00:18::2/128']}}",
    );
    Scenario::new("x/a x/b x/c", &[("x", &all_but_x_b)]).expect("tcp/80", &[("x/a", "x/b", false)]);
    let only_x_b =
        to_blocks("{ipBlock: {cidr: 10.24.0.2/32}}, {ipBlock: {cidr: 'fd00:18::2/128'}}");
    Scenario::new("x/a x/b x/c", &[("x", &all_but_x_b), ("x", &only_x_b)]).expect("tcp/80", &[]);
    Scenario::new("x/a x/b x/c", &[("x", &only_x_b)])
        .expect("tcp/80", &[FROM_A, ("x/a", "x/b", true)]);
}

#[test]
fn directions_are_controlled_independently() {
    let open_egress = "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{}]}";
    let no_ingress = "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress]}";
    Scenario::new("x/a x/b y/a", &[("x", open_egress)]).expect("tcp/80", &[]);
    Scenario::new("x/a x/b y/a", &[("x", open_egress), ("x", no_ingress)])
        .expect("tcp/80", &[TO_A]);
}

#[test]
fn protocols_are_not_mistaken_for_one_another() {
    let only = |protocol: &str, port: u16| {
        format!(
            "{{podSelector: {{matchLabels: {{pod: a}}}}, \
             ingress: [{{ports: [{{protocol: {protocol}, port: {port}}}]}}]}}"
        )
    };
    let deny = "{podSelector: {}, policyTypes: [Ingress]}";
    Scenario::new("x/a x/b y/a", &[("x", deny), ("x", &only("SCTP", 81))])
        .expect("tcp/81", &[TO_X])
        .expect("sctp/81", &[("*", "x/b", false)]);
    Scenario::new("x/a y/a", &[("x", &only("SCTP", 80))]).expect("tcp/81", &[TO_A]);
    Scenario::new("x/a y/a", &[("x", &only("UDP", 81))]).expect("tcp/81", &[TO_A]);
}

/// Peers, ports and rule shapes in every combination, as conformance suites generate them; the twin
/// is asked beside the compiled rules in every probe.
#[test]
fn every_shape_of_rule_agrees_with_the_twin() {
    let peers = [
        "",
        "from: []",
        "from: [{podSelector: {}}]",
        "from: [{podSelector: {matchLabels: {pod: b}}}]",
        "from: [{namespaceSelector: {}}]",
        "from: [{namespaceSelector: {matchLabels: {ns: y}}}]",
        "from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: DoesNotExist}]}}]",
        "from: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: a}}}]",
        "from: [{ipBlock: {cidr: 10.25.0.0/24}}]",
        "from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.24.0.0/16]}}]",
        "from: [{ipBlock: {cidr: '::/0', except: ['fd00:19::/32']}}]",
        "from: [{podSelector: {matchLabels: {pod: b}}}, {ipBlock: {cidr: 10.25.0.1/32}}]",
    ];
    let ports = [
        "",
        "ports: []",
        "ports: [{}]",
        "ports: [{protocol: UDP}]",
        "ports: [{port: 80}]",
        "ports: [{port: 80, endPort: 81, protocol: SCTP}]",
        "ports: [{port: serve-80-tcp}]",
        "ports: [{port: serve-81-udp, protocol: UDP}]",
        "ports: [{port: serve-81-udp}]",
        "ports: [{port: 81}, {port: 80, protocol: UDP}]",
    ];
    let pods = "x/a x/b y/a z/b";
    for peers in peers {
        for ports in ports {
            let parts: Vec<_> = [peers, ports]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect();
            let rule = parts.join(", ");
            let ingress =
                format!("{{podSelector: {{matchLabels: {{pod: a}}}}, ingress: [{{{rule}}}]}}");
            let rule = rule.replace("from:", "to:");
            let egress = format!(
                "{{podSelector: {{matchLabels: {{pod: a}}}}, policyTypes: [Egress], \
                 egress: [{{{rule}}}]}}"
            );
            for spec in [ingress, egress] {
                let scenario = Scenario::new(pods, &[("x", &spec)]);
                for from in pods.split_whitespace() {
                    for to in pods.split_whitespace() {
                        for probe in ["tcp/80", "tcp/81", "udp/80", "udp/81", "sctp/81", "icmp"] {
                            for family in [Family::V4, Family::V6] {
                                passes_in(&scenario.set, from, to, probe, family);
                            }
                        }
                    }
                }
            }
        }
    }
}
