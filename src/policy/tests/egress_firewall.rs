//! EgressFirewall: every row of its tables.

use super::*;
use crate::policy::names::NameUser;

const CLUSTER: &str = "
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {role: worker}}, spec: {podCIDR:
 10.244.0.0/24}, status: {addresses: [{type: InternalIP, address: 192.168.1.5}, {type: ExternalIP,
 address: '2001:db8:1::5'}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2, labels: {role: master}, annotations:
 {k8s.ovn.org/node-subnets: '{\"default\": [\"10.244.1.0/24\"]}'}}, status: {addresses: [{type:
 InternalIP, address: 192.168.1.6}]}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: a, name: cli}, spec: {nodeName: n1}, status:
 {podIPs: [{ip: 10.244.0.4}, {ip: 'fd01::4'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: b, name: cli}, spec: {nodeName: n1}, status:
 {podIPs: [{ip: 10.244.0.5}]}}
";

fn firewall(name: &str, rules: &str) -> String {
    format!(
        "---\n{{apiVersion: k8s.ovn.org/v1, kind: EgressFirewall, metadata: {{namespace: a, name: \
         {name}}}, spec: {{egress: [{rules}]}}}}\n"
    )
}

fn set_of(rules: &str, names: &Names) -> PolicySet {
    let file = SourceFile {
        name: "f.yaml".into(),
        text: format!("{CLUSTER}{}", firewall("default", rules)).into(),
    };
    let loaded = load(&[file], &Compatibility::default(), names);
    loaded
        .policy
        .unwrap_or_else(|| panic!("{:?}", loaded.findings))
}

fn verdict(set: &PolicySet, from: &str, to: &str, probe: &str) -> &'static str {
    let family = to.parse().map_or(Family::V4, Family::of);
    passes_in(set, from, to, probe, family);
    let decision = set.evaluate(key(set, from, to, probe, family));
    decision.denial().map_or("allow", |denial| denial.family())
}

#[test]
fn the_documented_example_decides_as_documented() {
    let rules = "{type: Allow, to: {dnsName: www.openvswitch.org}}, \
                 {type: Allow, to: {cidrSelector: 1.2.3.0/24}}, \
                 {type: Allow, to: {cidrSelector: 4.5.6.0/24}, \
                 ports: [{protocol: UDP, port: 55}]}, \
                 {type: Deny, to: {cidrSelector: 0.0.0.0/0}}";
    let mut names = Names::default();
    let address = "198.51.100.7".parse().unwrap();
    names.insert(
        NameUser::EgressFirewall,
        "www.openvswitch.org",
        [address].into(),
    );
    let set = set_of(rules, &names);
    for (to, probe, expected) in [
        ("198.51.100.7", "tcp/443", "allow"),
        ("198.51.100.8", "tcp/443", "EgressFirewall"),
        ("1.2.3.4", "icmp", "allow"),
        ("4.5.6.7", "udp/55", "allow"),
        ("4.5.6.7", "udp/56", "EgressFirewall"),
        ("4.5.6.7", "tcp/55", "EgressFirewall"),
        ("4.5.6.7", "icmp", "EgressFirewall"),
        ("10.244.1.4", "tcp/80", "allow"),
        ("10.244.0.200", "tcp/80", "allow"),
        ("10.244.2.4", "tcp/80", "EgressFirewall"),
        ("192.168.1.5", "tcp/22", "EgressFirewall"),
        ("192.168.1.5", "udp/53", "EgressFirewall"),
        ("2001:db8::1", "tcp/443", "allow"),
    ] {
        assert_eq!(verdict(&set, "a/cli", to, probe), expected, "{to} {probe}");
    }
    assert_eq!(verdict(&set, "b/cli", "4.5.6.7", "tcp/55"), "allow");
    let set = set_of(
        "{type: Deny, to: {cidrSelector: '::/0'}}",
        &Names::default(),
    );
    assert_eq!(
        verdict(&set, "a/cli", "2001:db8::1", "tcp/443"),
        "EgressFirewall"
    );
    assert_eq!(verdict(&set, "a/cli", "203.0.113.1", "tcp/443"), "allow");
}

#[test]
fn a_wildcard_is_one_label_and_nodes_are_chosen_by_label() {
    let mut names = Names::default();
    for (name, address) in [
        ("example.com", "203.0.113.1"),
        ("a.example.com", "203.0.113.2"),
        ("b.a.example.com", "203.0.113.3"),
    ] {
        let address = address.parse().unwrap();
        names.insert(NameUser::EgressFirewall, name, [address].into());
    }
    let deny = "{type: Deny, to: {cidrSelector: 0.0.0.0/0}}";
    let rules = format!("{{type: Allow, to: {{dnsName: '*.Example.com.'}}}}, {deny}");
    let set = set_of(&rules, &names);
    for (to, expected) in [
        ("203.0.113.1", "EgressFirewall"),
        ("203.0.113.2", "allow"),
        ("203.0.113.3", "EgressFirewall"),
    ] {
        assert_eq!(verdict(&set, "a/cli", to, "tcp/443"), expected, "{to}");
    }
    for (selector, n1, n2) in [
        ("{}", "allow", "allow"),
        ("{matchLabels: {role: worker}}", "allow", "EgressFirewall"),
        (
            "{matchLabels: {role: none}}",
            "EgressFirewall",
            "EgressFirewall",
        ),
    ] {
        let rules = format!("{{type: Allow, to: {{nodeSelector: {selector}}}}}, {deny}");
        let set = set_of(&rules, &names);
        assert_eq!(
            verdict(&set, "a/cli", "192.168.1.5", "udp/53"),
            n1,
            "{selector}"
        );
        assert_eq!(
            verdict(&set, "a/cli", "192.168.1.6", "udp/53"),
            n2,
            "{selector}"
        );
    }
    // Selecting no node is no denial of everything.
    let rules = "{type: Deny, to: {nodeSelector: {matchLabels: {role: none}}}}";
    let set = set_of(rules, &names);
    assert_eq!(verdict(&set, "a/cli", "192.168.1.5", "tcp/22"), "allow");
    let rules = "{type: Deny, to: {nodeSelector: {}}}";
    let set = set_of(rules, &names);
    assert_eq!(
        verdict(&set, "a/cli", "2001:db8:1::5", "tcp/22"),
        "EgressFirewall"
    );
}

#[test]
fn only_default_counts_and_the_rest_is_told() {
    let deny = "{type: Deny, to: {cidrSelector: 0.0.0.0/0}}";
    let text = format!("{CLUSTER}{}", firewall("other", deny));
    let set = policy(&text);
    assert_eq!(verdict(&set, "a/cli", "203.0.113.1", "tcp/443"), "allow");
    let found = findings(&text);
    assert!(found[0].contains("metadata.name: no effect: only the one named default"));
    let rules = "{type: Deny, to: {dnsName: n.example}}, {type: Allow, to: {nodeSelector: \
                 {matchLabels: {role: none}}}}, {type: Deny, to: {cidrSelector: 10.1.2.3/8}}";
    let found = findings(&format!("{CLUSTER}{}", firewall("default", rules)));
    let ids = ["unresolved-name", "peer-selects-nothing", "cidr-host-bits"];
    assert_eq!(found.len(), 3, "{found:?}");
    for id in ids {
        assert!(
            found.iter().any(|one| one.ends_with(&format!("[{id}]"))),
            "{found:?}"
        );
    }
}

#[test]
fn objects_are_validated_as_upstream_does() {
    let errors = |text: &str| -> Vec<String> {
        let loaded = load_text(text);
        let errors = loaded.findings.iter();
        let errors = errors.filter(|finding| finding.severity == Severity::Error);
        errors
            .map(|finding| format!("{}: {}", finding.path, finding.message))
            .collect()
    };
    let to = "spec.egress[0].to";
    let port = "spec.egress[0].ports[0]";
    for (rule, expected) in [
        (
            "{type: Allow, to: {}}",
            format!("{to}: Invalid value: 0: {to} in body should have at least 1 properties"),
        ),
        (
            "{type: Allow, to: {cidrSelector: 1.2.3.0/24, dnsName: a.b}}",
            format!(
                "{to}: Too many: 2: must have at most 1 items: one of cidrSelector, dnsName and \
                 nodeSelector"
            ),
        ),
        (
            "{type: Bob, to: {cidrSelector: 1.2.3.0/24}}",
            "spec.egress[0].type: Invalid value: \"Bob\": spec.egress[0].type in body should match \
             '^Allow|Deny$'"
                .into(),
        ),
        (
            "{type: Allow, to: {cidrSelector: 1.2.3.4}}",
            format!("{to}.cidrSelector: Invalid value: \"1.2.3.4\": invalid CIDR address: 1.2.3.4"),
        ),
        (
            "{type: Allow, to: {cidrSelector: 1.2.3.0/24}, ports: [{protocol: TCP, port: 0}]}",
            format!(
                "{port}.port: Invalid value: 0: {port}.port in body should be greater than or equal to 1"
            ),
        ),
        (
            "{type: Allow, to: {cidrSelector: 1.2.3.0/24}, ports: [{protocol: TCP, port: 65536}]}",
            format!(
                "{port}.port: Invalid value: 65536: {port}.port in body should be less than or equal \
                 to 65535"
            ),
        ),
        (
            "{type: Allow, to: {cidrSelector: 1.2.3.0/24}, ports: [{protocol: TCPx, port: 1}]}",
            format!(
                "{port}.protocol: Invalid value: \"TCPx\": {port}.protocol in body should match \
                 '^TCP|UDP|SCTP$'"
            ),
        ),
        (
            "{type: Allow, to: {cidrSelector: 1.2.3.0/24}, ports: [{protocol: TCP}]}",
            format!("{port}.port: Required value"),
        ),
        ("{type: Allow}", format!("{to}: Required value")),
    ] {
        assert_eq!(errors(&firewall("default", rule)), [expected], "{rule}");
    }
    for name in ["a_b", "*", "a.*.b", "**.a", "a..b", ""] {
        let found = errors(&firewall(
            "default",
            &format!("{{type: Allow, to: {{dnsName: '{name}'}}}}"),
        ));
        assert!(
            found[0].contains("in body should match '^(\\*\\.)?("),
            "{name}: {found:?}"
        );
    }
    let rule = "{type: Allow, to: {cidrSelector: 1.2.3.0/24}}, ";
    assert_eq!(errors(&firewall("default", &rule.repeat(8001))), [""; 0]);
    let found = errors(&firewall("default", &rule.repeat(8002)));
    assert_eq!(
        found,
        [
            "spec.egress: egressFirewall for namespace a has too many rules, max allowed number is 8001; \
          found 8002"
        ]
    );
    let found = errors(&firewall("default", "").replace("egress: []", ""));
    assert_eq!(found, ["spec.egress: Required value"]);
}
