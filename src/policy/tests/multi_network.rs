//! MultiNetworkPolicy: the scenarios of the implementations' tests, worked verdicts in all three
//! dialects, and what is refused or warned of.

use super::*;

const DIALECTS: [&str; 3] = ["api", "iptables", "ovn-kubernetes"];

fn dialect(name: &str) -> Compatibility {
    let mut compatibility = Compatibility::default();
    compatibility.set("mnp_compat", name).unwrap();
    compatibility
}

/// The CNI plugin the dialect acts on.
fn plugin(dialect: &str) -> &'static str {
    match dialect {
        "ovn-kubernetes" => "ovn-k8s-cni-overlay",
        _ => "macvlan",
    }
}

fn network(name: &str, plugin: &str, rest: &str) -> String {
    format!(
        "---\n{{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, metadata: \
         {{namespace: default, name: {name}}}, spec: {{config: \
         '{{\"cniVersion\": \"0.4.0\", \"type\": \"{plugin}\"{rest}}}'}}}}\n"
    )
}

/// A pod with label `pod` and interfaces `net1` on `default/net1` and so on.
fn pod(full_name: &str, label: &str, primary: &str, interfaces: &[(&str, &str)]) -> String {
    let (namespace, name) = full_name.split_once('/').unwrap();
    let mut status = format!(
        "{{\"name\": \"cluster\", \"interface\": \"eth0\", \"ips\": [\"{primary}\"], \
         \"default\": true}}"
    );
    for (network, address) in interfaces {
        write!(
            status,
            ", {{\"name\": \"default/{network}\", \"interface\": \"{network}\", \
             \"ips\": [\"{address}\"]}}"
        )
        .unwrap();
    }
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: {namespace}, name: {name}, \
         labels: {{pod: {label}}}, annotations: {{k8s.v1.cni.cncf.io/network-status: \
         '[{status}]'}}}}, spec: {{nodeName: n1, containers: [{{ports: [{{name: web, \
         containerPort: 5555}}, {{name: http, containerPort: 8080}}]}}]}}, \
         status: {{podIPs: [{{ip: {primary}}}]}}}}\n"
    )
}

fn world(dialect: &str) -> String {
    let subnets = ", \"name\": \"one\", \"subnets\": \"2.2.5.0/24\"";
    let other = ", \"name\": \"two\", \"subnets\": \"3.3.3.0/24\"";
    [
        network("net1", plugin(dialect), subnets),
        network("net2", plugin(dialect), other),
        "---\n{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: \
         [{type: InternalIP, address: 192.168.0.1}]}}\n"
            .to_owned(),
        pod(
            "d/s",
            "s",
            "10.0.0.10",
            &[("net1", "2.2.5.10"), ("net2", "3.3.3.10")],
        ),
        pod(
            "d/a",
            "a",
            "10.0.0.11",
            &[("net1", "2.2.5.11"), ("net2", "3.3.3.11")],
        ),
        pod("d/b", "b", "10.0.0.12", &[("net1", "2.2.5.12")]),
        pod("d/c", "c", "10.0.0.14", &[("net1", "2.2.5.14")]),
        pod("e/a2", "a", "10.0.0.13", &[("net1", "2.2.5.13")]),
    ]
    .concat()
}

fn policy_for(name: &str, networks: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: k8s.cni.cncf.io/v1beta1, kind: MultiNetworkPolicy, metadata: \
         {{namespace: d, name: {name}, annotations: {{k8s.v1.cni.cncf.io/policy-for: \
         '{networks}'}}}}, spec: {spec}}}\n"
    )
}

/// A policy for `default/net1` on pod `s`.
fn on_server(rest: &str) -> String {
    let spec = format!("{{podSelector: {{matchLabels: {{pod: s}}}}{rest}}}");
    policy_for("p", "default/net1", &spec)
}

fn set_in(name: &str, objects: &[String]) -> PolicySet {
    policy_with(&(world(name) + &objects.concat()), &dialect(name))
}

/// The packet between two ends, `d/s@net1` or `d/s` or an address.
fn packet(set: &PolicySet, from: &str, to: &str, probe: &str) -> PolicyKey {
    let end = |text: &str| -> (IpAddr, Option<u16>) {
        if let Ok(address) = text.parse() {
            return (address, None);
        }
        let (pod, interface) = text.split_once('@').unwrap_or((text, ""));
        let (namespace, name) = pod.split_once('/').unwrap();
        let pod = set.inventory.pod(namespace, name).unwrap();
        if interface.is_empty() {
            return (pod.addresses[0], Some(PRIMARY_NETWORK));
        }
        let mut attachments = pod.attachments.iter();
        let attachment = attachments.find(|one| one.interface == interface).unwrap();
        let number = set.inventory.network_number(&attachment.network);
        (attachment.addresses[0], number)
    };
    let (source, destination) = (end(from), end(to));
    let key = key(
        set,
        &source.0.to_string(),
        &destination.0.to_string(),
        probe,
        Family::V4,
    );
    PolicyKey {
        source_network: source.1.or(destination.1).unwrap_or(PRIMARY_NETWORK),
        destination_network: destination.1.or(source.1).unwrap_or(PRIMARY_NETWORK),
        ..PolicyKey::from(key)
    }
}

/// `allow`, or the family that denies, of which compiled rules and the twin must be of one mind.
fn asked(set: &PolicySet, from: &str, to: &str, probe: &str) -> &'static str {
    let packet = packet(set, from, to, probe);
    let decision = set.evaluate(packet);
    let denial = decision.denial();
    let denied_by = denial.map(|step| (step.family(), step.direction()));
    let naive = naive::evaluate(set, packet);
    assert_eq!(denied_by, naive.denied_by, "{from} {to} {probe}");
    denial.map_or("allow", |step| step.family())
}

const FROM_A: &str = "ingress: [{from: [{podSelector: {matchLabels: {pod: a}}}]}]";

#[test]
fn worked_verdicts_in_all_dialects() {
    let (a, b, c, s) = ("d/a@net1", "d/b@net1", "d/c@net1", "d/s@net1");
    let from_a = on_server(&format!(", {FROM_A}, policyTypes: [Ingress]"));
    let without_types = on_server(&format!(", {FROM_A}"));
    let rule_12 = "{from: [{ipBlock: {cidr: 2.2.5.12/32}}]}";
    let except = "{from: [{ipBlock: {cidr: 2.2.5.0/24, except: [2.2.5.12/32]}}]}";
    let ingress = |rules: &str| on_server(&format!(", policyTypes: [Ingress], ingress: [{rules}]"));
    let (allow, deny) = ("allow", "MNP");
    let rows = [
        ("1", from_a.clone(), a, s, [allow, allow, allow]),
        ("2", from_a.clone(), b, s, [deny, deny, deny]),
        ("3", from_a.clone(), "e/a2@net1", s, [deny, allow, deny]),
        ("4", from_a.clone(), "d/b", "d/s", [allow, allow, allow]),
        (
            "5",
            from_a.clone(),
            "d/a@net2",
            "d/s@net2",
            [allow, deny, allow],
        ),
        ("6", without_types, b, s, [deny, deny, allow]),
        ("7", on_server(""), b, s, [deny, allow, allow]),
        (
            "8",
            on_server(", egress: [{to: [{podSelector: {}}]}]"),
            a,
            s,
            [deny, allow, allow],
        ),
        (
            "9",
            ingress(&format!("{except}, {rule_12}")),
            b,
            s,
            [allow, deny, allow],
        ),
        (
            "9 swapped",
            ingress(&format!("{rule_12}, {except}")),
            b,
            s,
            [allow, allow, allow],
        ),
        (
            "9 other",
            ingress(&format!("{except}, {rule_12}")),
            c,
            s,
            [allow, allow, allow],
        ),
        (
            "10",
            ingress("{from: [{podSelector: {matchExpressions: [{key: pod, operator: Exists}]}}]}"),
            a,
            s,
            [allow, deny, allow],
        ),
        (
            "11",
            policy_for(
                "p",
                "net1",
                "{podSelector: {}, policyTypes: [Ingress, Egress]}",
            ),
            a,
            s,
            [allow, allow, allow],
        ),
    ];
    for (row, object, from, to, expected) in rows {
        for (name, expected) in DIALECTS.into_iter().zip(expected) {
            let set = set_in(name, std::slice::from_ref(&object));
            assert_eq!(
                asked(&set, from, to, "tcp/5555"),
                expected,
                "row {row}, {name}"
            );
        }
    }
}

#[test]
fn scenarios_of_the_iptables_implementation() {
    let s = "d/s@net1";
    let peer = |label: &str| format!("{{podSelector: {{matchLabels: {{pod: {label}}}}}}}");
    let ingress = |name: &str, rules: &str| {
        let spec = format!(
            "{{podSelector: {{matchLabels: {{pod: s}}}}, policyTypes: [Ingress], \
             ingress: [{rules}]}}"
        );
        policy_for(name, "default/net1", &spec)
    };
    let block = |number: u8| format!("{{ipBlock: {{cidr: 2.2.5.{number}/32}}}}");
    for name in DIALECTS {
        let tcp = |set: &PolicySet, from: &str, to: &str| asked(set, from, to, "tcp/5555");
        let stacked = [
            vec![
                ingress("p", &format!("{{from: [{}]}}", peer("a"))),
                ingress("q", &format!("{{from: [{}]}}", peer("b"))),
            ],
            vec![ingress(
                "p",
                &format!("{{from: [{}, {}]}}", peer("a"), peer("b")),
            )],
            vec![ingress(
                "p",
                &format!("{{from: [{}]}}, {{from: [{}]}}", peer("a"), peer("b")),
            )],
            vec![ingress(
                "p",
                &format!("{{from: [{}, {}]}}", block(11), block(12)),
            )],
            vec![
                ingress("p", &format!("{{from: [{}]}}", block(11))),
                ingress("q", &format!("{{from: [{}]}}", block(12))),
            ],
        ];
        for objects in stacked {
            let set = set_in(name, &objects);
            assert_eq!(tcp(&set, "d/a@net1", s), "allow");
            assert_eq!(tcp(&set, "d/b@net1", s), "allow");
            assert_eq!(tcp(&set, "d/c@net1", s), "MNP");
            assert_eq!(tcp(&set, s, "d/c@net1"), "allow");
        }
        let egress = format!(
            "{{podSelector: {{matchLabels: {{pod: s}}}}, policyTypes: [Egress], \
             egress: [{{to: [{}]}}]}}",
            peer("a")
        );
        let set = set_in(name, &[policy_for("p", "default/net1", &egress)]);
        assert_eq!(tcp(&set, s, "d/a@net1"), "allow");
        assert_eq!(tcp(&set, s, "d/b@net1"), "MNP");
        assert_eq!(tcp(&set, "d/b@net1", s), "allow");
        let nobody = ingress(
            "p",
            "{from: [{namespaceSelector: {matchLabels: {none: such}}}]}",
        );
        let set = set_in(name, &[nobody]);
        assert_eq!(tcp(&set, "d/a@net1", s), "MNP");
        assert_eq!(tcp(&set, s, "d/a@net1"), "allow");
        let protocols = "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress], \
                         egress: [{ports: [{protocol: TCP}]}], ingress: [{ports: [{protocol: UDP}]}]}";
        let set = set_in(name, &[policy_for("p", "default/net1", protocols)]);
        assert_eq!(tcp(&set, "d/a@net1", "d/b@net1"), "allow");
        assert_eq!(asked(&set, "d/a@net1", "d/b@net1", "udp/5555"), "MNP");
        assert_eq!(tcp(&set, "d/b@net1", "d/a@net1"), "MNP");
        assert_eq!(asked(&set, "d/b@net1", "d/a@net1", "udp/5555"), "allow");
        let ranges = "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress], \
                      egress: [{ports: [{port: 5000, endPort: 5900}]}], \
                      ingress: [{ports: [{port: 6000, endPort: 6900}]}]}";
        let set = set_in(name, &[policy_for("p", "default/net1", ranges)]);
        assert_eq!(tcp(&set, "d/a@net1", "d/b@net1"), "allow");
        assert_eq!(asked(&set, "d/a@net1", "d/b@net1", "tcp/6666"), "MNP");
        assert_eq!(tcp(&set, "d/b@net1", "d/a@net1"), "MNP");
        assert_eq!(asked(&set, "d/b@net1", "d/a@net1", "tcp/6666"), "allow");
    }
    let bond = format!(
        "{{podSelector: {{matchLabels: {{pod: a}}}}, ingress: [{{from: [{}]}}], \
         egress: [{{to: [{}]}}]}}",
        peer("b"),
        peer("c")
    );
    let set = set_in("iptables", &[policy_for("p", "default/net1", &bond)]);
    assert_eq!(asked(&set, "d/b@net1", "d/a@net1", "tcp/5555"), "allow");
    assert_eq!(asked(&set, "d/c@net1", "d/a@net1", "tcp/5555"), "MNP");
    assert_eq!(asked(&set, "d/a@net1", "d/b@net1", "tcp/5555"), "MNP");
    assert_eq!(asked(&set, "d/a@net1", "d/c@net1", "tcp/5555"), "allow");
}

#[test]
fn a_peer_is_who_is_on_one_of_the_listed_networks() {
    let spec = format!("{{podSelector: {{matchLabels: {{pod: s}}}}, {FROM_A}}}");
    let both = set_in(
        "api",
        &[policy_for("p", "default/net1, default/net2", &spec)],
    );
    assert_eq!(asked(&both, "d/a@net2", "d/s@net1", "tcp/1"), "allow");
    assert_eq!(asked(&both, "d/a", "d/s@net1", "tcp/1"), "MNP");
    let one = set_in("api", &[policy_for("p", "default/net1", &spec)]);
    assert_eq!(asked(&one, "d/a@net2", "d/s@net1", "tcp/1"), "MNP");
    // The addresses of its own node always reach it; others of no pod by blocks alone.
    assert_eq!(asked(&one, "192.168.0.1", "d/s@net1", "tcp/1"), "allow");
    assert_eq!(asked(&one, "192.168.0.2", "d/s@net1", "tcp/1"), "MNP");
    // NetworkPolicy says nothing of secondary interfaces.
    let closed = "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: \
                  {namespace: d, name: n}, spec: {podSelector: {}, policyTypes: [Ingress]}}\n";
    let set = set_in("api", &[closed.to_owned()]);
    assert_eq!(asked(&set, "d/a@net1", "d/s@net1", "tcp/1"), "allow");
    assert_eq!(asked(&set, "d/a", "d/s", "tcp/1"), "NP");
}

#[test]
fn what_the_dialects_read_otherwise() {
    let (a, b, s) = ("d/a@net1", "d/b@net1", "d/s@net1");
    // Port names: of the pod, or of the node's list of services.
    let named = on_server(", policyTypes: [Ingress], ingress: [{ports: [{port: http}]}]");
    for (name, number) in [("api", 8080), ("iptables", 80), ("ovn-kubernetes", 8080)] {
        let set = set_in(name, std::slice::from_ref(&named));
        for port in [80, 8080] {
            let expected = if port == number { "allow" } else { "MNP" };
            assert_eq!(
                asked(&set, a, s, &format!("tcp/{port}")),
                expected,
                "{name}"
            );
        }
    }
    let unknown = on_server(", policyTypes: [Ingress], ingress: [{ports: [{port: web}]}]");
    let set = set_in("iptables", std::slice::from_ref(&unknown));
    assert_eq!(asked(&set, a, s, "tcp/5555"), "MNP");
    // An exception drops on every port.
    let except = on_server(
        ", policyTypes: [Ingress], ingress: [{ports: [{port: 1}], from: [{ipBlock: {cidr: \
         2.2.5.0/24, except: [2.2.5.12/32]}}]}, {}]",
    );
    let set = set_in("iptables", std::slice::from_ref(&except));
    assert_eq!(asked(&set, b, s, "tcp/2"), "MNP");
    assert_eq!(asked(&set, a, s, "tcp/2"), "allow");
    assert_eq!(asked(&set_in("api", &[except]), b, s, "tcp/2"), "allow");
    // A block beside a selector.
    let both = on_server(
        ", policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 2.2.5.12/32}, \
         podSelector: {matchLabels: {pod: a}}}]}]",
    );
    let loaded = load_with(&(world("api") + &both), &dialect("api"));
    assert!(loaded.policy.is_none());
    let set = set_in("iptables", std::slice::from_ref(&both));
    assert_eq!(
        (asked(&set, b, s, "tcp/2"), asked(&set, a, s, "tcp/2")),
        ("allow", "MNP")
    );
    let set = set_in("ovn-kubernetes", &[both]);
    assert_eq!(
        (asked(&set, b, s, "tcp/2"), asked(&set, a, s, "tcp/2")),
        ("allow", "allow")
    );
    // Types in another case.
    let types = on_server(", policyTypes: [ingress]");
    assert_eq!(
        asked(
            &set_in("iptables", std::slice::from_ref(&types)),
            a,
            s,
            "tcp/1"
        ),
        "MNP"
    );
    for name in ["api", "ovn-kubernetes"] {
        assert!(
            load_with(&(world(name) + &types), &dialect(name))
                .policy
                .is_none()
        );
    }
    // A policy whose own selector cannot be read is skipped.
    let unread = "{podSelector: {matchExpressions: [{key: pod, operator: Exists}]}, \
                  policyTypes: [Ingress]}";
    let unread = policy_for("p", "default/net1", unread);
    for (name, expected) in DIALECTS.into_iter().zip(["MNP", "allow", "MNP"]) {
        let set = set_in(name, std::slice::from_ref(&unread));
        assert_eq!(asked(&set, a, s, "tcp/1"), expected, "{name}");
    }
}

#[test]
fn dialects_act_on_their_own_networks() {
    let closed = on_server(", policyTypes: [Ingress]");
    let cases = [
        ("macvlan", ["MNP", "MNP", "allow"]),
        ("ovn-k8s-cni-overlay", ["MNP", "allow", "MNP"]),
        ("bridge", ["MNP", "allow", "allow"]),
    ];
    for (plugin, expected) in cases {
        for (name, expected) in DIALECTS.into_iter().zip(expected) {
            let text = network("net1", plugin, "")
                + &pod("d/s", "s", "10.0.0.10", &[("net1", "2.2.5.10")])
                + &closed;
            let set = policy_with(&text, &dialect(name));
            assert_eq!(
                asked(&set, "2.2.5.99", "d/s@net1", "tcp/1"),
                expected,
                "{plugin} {name}"
            );
        }
    }
    // To OVN-Kubernetes all definitions of one network are that network.
    let one = ", \"name\": \"one\", \"subnets\": \"2.2.5.0/24\"";
    for (name, expected) in [("api", "allow"), ("ovn-kubernetes", "MNP")] {
        let text = network("net1", "ovn-k8s-cni-overlay", one)
            + &network("copy", "ovn-k8s-cni-overlay", one)
            + &pod("d/s", "s", "10.0.0.10", &[("copy", "2.2.5.10")])
            + &closed;
        let set = policy_with(&text, &dialect(name));
        assert_eq!(
            asked(&set, "2.2.5.99", "d/s@copy", "tcp/1"),
            expected,
            "{name}"
        );
    }
    // A list of plugins is known by its first.
    let text = network("net1", "", ", \"plugins\": [{\"type\": \"macvlan\"}]")
        + &pod("d/s", "s", "10.0.0.10", &[("net1", "2.2.5.10")])
        + &closed;
    let set = policy_with(&text, &dialect("iptables"));
    assert_eq!(asked(&set, "2.2.5.99", "d/s@net1", "tcp/1"), "MNP");
}

#[test]
fn the_administrators_tiers_are_about_secondary_networks_only_if_asked_to_be() {
    let admin = "---\n{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, \
                 metadata: {name: p}, spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, \
                 ingress: [{action: Deny, from: [{namespaces: {}}]}]}}\n";
    let objects = [admin.to_owned(), on_server(&format!(", {FROM_A}"))];
    let text = world("api") + &objects.concat();
    let mut apply = Compatibility::default();
    apply.set("cnp_secondary", "apply").unwrap();
    for (switches, expected) in [(Compatibility::default(), "allow"), (apply, "Admin")] {
        let set = policy_with(&text, &switches);
        assert_eq!(asked(&set, "d/a@net1", "d/s@net1", "tcp/1"), expected);
        assert_eq!(asked(&set, "d/a", "d/s", "tcp/1"), "Admin");
    }
}

fn said(name: &str, text: &str) -> Vec<String> {
    let loaded = load_with(&(world(name) + text), &dialect(name));
    let line = |finding: &Finding| format!("{}: {}", finding.path, finding.message);
    loaded.findings.iter().map(line).collect()
}

#[test]
fn what_is_refused_or_warned_of() {
    let policy_for_path = "metadata.annotations[k8s.v1.cni.cncf.io/policy-for]";
    for (networks, problem) in [
        ("a/b/c", "more than one '/'"),
        ("a,,b", "a part of it is empty"),
        ("a/", "a part of it is empty"),
        ("", "a part of it is empty"),
    ] {
        let found = said("api", &policy_for("p", networks, "{podSelector: {}}"));
        assert!(
            found
                .iter()
                .any(|line| line.starts_with(policy_for_path) && line.contains(problem)),
            "{networks}: {found:?}"
        );
    }
    let without = "---\n{apiVersion: k8s.cni.cncf.io/v1beta2, kind: MultiNetworkPolicy, metadata: \
                   {namespace: d, name: p}, spec: {podSelector: {}, policyTypes: [Ingress]}}\n";
    let found = said("api", without);
    assert!(found[0].starts_with(&format!("{policy_for_path}: no effect: without annotation")));
    let set = set_in("api", &[without.to_owned()]);
    assert_eq!(asked(&set, "d/a@net1", "d/s@net1", "tcp/1"), "allow");
    let unknown = policy_for(
        "p",
        "nobody/knows",
        "{podSelector: {}, policyTypes: [Ingress]}",
    );
    let found = said("api", &unknown);
    assert!(found[0].starts_with(&format!(
        "{policy_for_path}: no NetworkAttachmentDefinition nobody/knows"
    )));
    // Whoever has no subnets has no addresses that selectors could stand for.
    let text = network("flat", "ovn-k8s-cni-overlay", "")
        + &policy_for(
            "p",
            "default/flat",
            "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: \
             2.2.5.0/24}}, {podSelector: {}}]}]}",
        );
    let found = said("ovn-kubernetes", &text);
    let reason = "IPAM-less networks can only have ipBlock peers";
    let path = "spec.ingress[0].from[1]: Forbidden: ";
    assert!(
        found
            .iter()
            .any(|line| line.starts_with(path) && line.contains(reason)),
        "{found:?}"
    );
    assert!(!said("api", &text).iter().any(|line| line.contains(reason)));
    let broken = "---\n{apiVersion: v1, kind: Pod, metadata: {namespace: d, name: x, annotations: \
                  {k8s.v1.cni.cncf.io/network-status: '[', k8s.v1.cni.cncf.io/networks: a/b/c}}}\n";
    let found = said("api", broken);
    let paths: Vec<_> = found
        .iter()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "metadata.annotations[k8s.v1.cni.cncf.io/network-status]",
            "metadata.annotations[k8s.v1.cni.cncf.io/networks]"
        ]
    );
    let config = "---\n{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, \
                  metadata: {name: x}, spec: {config: '{'}}\n";
    assert!(said("api", config)[0].starts_with("spec.config: Invalid value: "));
    let version = without.replace("v1beta2", "v1");
    assert!(said("api", &version)[0].contains("no matches for kind \"MultiNetworkPolicy\""));
}

#[test]
fn what_implementations_disagree_about_is_warned_of() {
    let disagreement = |rest: &str| {
        let found = said("api", &on_server(rest));
        found
            .into_iter()
            .filter(|line| line.contains("mnp_compat"))
            .collect::<Vec<_>>()
    };
    let plain = ", policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 2.2.5.0/24}}]}]";
    assert_eq!(disagreement(plain), [""; 0]);
    for (rest, path) in [
        ("", "spec.policyTypes"),
        (
            ", policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]",
            "spec.ingress[0].from[0]",
        ),
        (
            ", policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchExpressions: \
             [{key: a, operator: Exists}]}}]}]",
            "spec.ingress[0].from[0]",
        ),
        (
            ", policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 2.2.5.0/24, except: \
             [2.2.5.1/32]}}]}]",
            "spec.ingress[0].from[0]",
        ),
        (
            ", policyTypes: [Ingress], ingress: [{ports: [{port: http}]}]",
            "spec.ingress[0].ports[0]",
        ),
    ] {
        let found = disagreement(rest);
        assert!(
            found[0].starts_with(&format!("{path}: ")),
            "{rest}: {found:?}"
        );
    }
}
