//! What the schemas of the administrator's tiers refuse, and what is warned of.

use super::*;

const SUBJECT: &str = "subject: {namespaces: {}}";
const PEER: &str = "[{namespaces: {}}]";

fn object(kind: &str, name: &str, spec: &str) -> String {
    let version = match kind {
        "ClusterNetworkPolicy" => "v1alpha2",
        _ => "v1alpha1",
    };
    cluster("x/a y/b")
        + &format!(
            "---\n{{apiVersion: policy.networking.k8s.io/{version}, kind: {kind}, \
             metadata: {{name: {name}}}, spec: {spec}}}\n"
        )
}

/// `path: message` of every error, and of every warning where there is none.
fn said(kind: &str, spec: &str) -> Vec<String> {
    let name = if kind.starts_with('B') {
        "default"
    } else {
        "p"
    };
    let mut findings = load_text(&object(kind, name, spec)).findings;
    if findings
        .iter()
        .any(|finding| finding.severity == Severity::Error)
    {
        findings.retain(|finding| finding.severity == Severity::Error);
    }
    let line = |finding: &Finding| format!("{}: {}", finding.path, finding.message);
    findings.iter().map(line).collect()
}

/// What is said of a ClusterNetworkPolicy with one rule.
fn of_rule(direction: &str, rule: &str) -> Vec<String> {
    let spec = format!("{{tier: Admin, priority: 1, {SUBJECT}, {direction}: [{{{rule}}}]}}");
    said("ClusterNetworkPolicy", &spec)
}

fn of_peer(peer: &str) -> Vec<String> {
    of_rule("egress", &format!("action: Accept, to: [{peer}]"))
}

fn of_protocol(protocol: &str) -> Vec<String> {
    let rule = format!("action: Accept, from: {PEER}, protocols: [{protocol}]");
    of_rule("ingress", &rule)
}

fn of_port(port: &str) -> Vec<String> {
    let rule = format!("{{action: Allow, from: {PEER}, ports: [{port}]}}");
    let spec = format!("{{priority: 1, {SUBJECT}, ingress: [{rule}]}}");
    said("AdminNetworkPolicy", &spec)
}

fn list(count: usize, item: &str) -> String {
    format!("[{}]", vec![item; count].join(", "))
}

#[test]
fn fields_of_the_spec() {
    for (kind, spec, expected) in [
        (
            "ClusterNetworkPolicy",
            "{}",
            vec![
                "spec.priority: Required value",
                "spec.subject: Required value",
                "spec.tier: Required value",
            ],
        ),
        (
            "AdminNetworkPolicy",
            "{}",
            vec![
                "spec.priority: Required value",
                "spec.subject: Required value",
            ],
        ),
        (
            "BaselineAdminNetworkPolicy",
            "null",
            vec!["spec: Required value"],
        ),
        (
            "BaselineAdminNetworkPolicy",
            "{subject: {namespaces: {}}, priority: 1}",
            vec!["spec.priority: unknown field \"spec.priority\""],
        ),
        (
            "ClusterNetworkPolicy",
            "{tier: admin, priority: 1001, subject: {}}",
            vec![
                "spec.tier: Unsupported value: \"admin\": supported values: \"Admin\", \"Baseline\"",
                "spec.priority: Invalid value: 1001: spec.priority in body should be less than or \
             equal to 1000",
                "spec.subject: Invalid value: 0: spec.subject in body should have at least 1 \
             properties",
            ],
        ),
        (
            "AdminNetworkPolicy",
            "{priority: -1, subject: {namespaces: {}, pods: {}}}",
            vec![
                "spec.priority: Invalid value: -1: spec.priority in body should be greater than or \
             equal to 0",
                "spec.subject: Too many: 2: must have at most 1 items",
            ],
        ),
        (
            "AdminNetworkPolicy",
            "{priority: 1, subject: {pods: {podSelector: {}}}}",
            vec!["spec.subject.pods.namespaceSelector: Required value"],
        ),
        (
            "ClusterNetworkPolicy",
            "{tier: Admin, priority: 1, subject: {pods: {}}}",
            vec!["spec.subject.pods.podSelector: Required value"],
        ),
    ] {
        assert_eq!(said(kind, spec), expected, "{kind} {spec}");
    }
    let fine = format!("{{priority: 1000, {SUBJECT}}}");
    let inert = ["spec: no effect: neither ingress nor egress has rules"];
    assert_eq!(said("AdminNetworkPolicy", &fine), inert);
    let baseline = object(
        "BaselineAdminNetworkPolicy",
        "other",
        &format!("{{{SUBJECT}}}"),
    );
    let lines = findings(&baseline);
    let name = "metadata.name: Invalid value: \"other\": Only one baseline admin network policy";
    assert!(lines[0].contains(name), "{lines:?}");
}

#[test]
fn rules() {
    for (rule, expected) in [
        (
            format!("from: {PEER}"),
            "spec.ingress[0].action: Required value",
        ),
        (
            "action: Accept".to_owned(),
            "spec.ingress[0].from: Required value",
        ),
        (
            "action: Accept, from: []".to_owned(),
            "spec.ingress[0].from: Invalid value: 0: spec.ingress[0].from in body should have at \
             least 1 items",
        ),
        (
            format!("action: Allow, from: {PEER}"),
            "spec.ingress[0].action: Unsupported value: \"Allow\": supported values: \"Accept\", \
             \"Deny\", \"Pass\"",
        ),
        (
            format!("action: Deny, from: {}", list(26, "{namespaces: {}}")),
            "spec.ingress[0].from: Too many: 26: must have at most 25 items",
        ),
        (
            format!("action: Deny, name: {}, from: {PEER}", "n".repeat(101)),
            "spec.ingress[0].name: Too long: may not be more than 100 bytes",
        ),
        (
            format!("action: Deny, from: {PEER}, protocols: []"),
            "spec.ingress[0].protocols: Invalid value: 0: spec.ingress[0].protocols in body \
             should have at least 1 items",
        ),
        (
            format!("action: Deny, from: {PEER}, ports: []"),
            "spec.ingress[0].ports: unknown field \"spec.ingress[0].ports\"",
        ),
    ] {
        assert_eq!(of_rule("ingress", &rule), [expected], "{rule}");
    }
    for (kind, action, expected) in [
        (
            "AdminNetworkPolicy",
            "Accept",
            "\"Allow\", \"Deny\", \"Pass\"",
        ),
        ("BaselineAdminNetworkPolicy", "Pass", "\"Allow\", \"Deny\""),
    ] {
        let priority = if kind.starts_with('A') {
            "priority: 1,"
        } else {
            ""
        };
        let spec = format!("{{{priority} {SUBJECT}, egress: [{{action: {action}, to: {PEER}}}]}}");
        let expected = format!(
            "spec.egress[0].action: Unsupported value: \"{action}\": supported values: {expected}"
        );
        assert_eq!(said(kind, &spec), [expected]);
    }
    let rule = format!("{{action: Deny, from: {PEER}}}");
    for (kind, extra, most) in [
        ("ClusterNetworkPolicy", "tier: Admin, priority: 1,", 25),
        ("AdminNetworkPolicy", "priority: 1,", 100),
        ("BaselineAdminNetworkPolicy", "", 100),
    ] {
        let rules = list(most + 1, &rule);
        let spec = format!("{{{extra} {SUBJECT}, ingress: {rules}}}");
        let expected = format!(
            "spec.ingress: Too many: {}: must have at most {most} items",
            most + 1
        );
        assert_eq!(said(kind, &spec), [expected]);
    }
}

#[test]
fn peers() {
    let item = "spec.egress[0].to[0]";
    for (peer, expected) in [
        (
            "{}",
            format!("{item}: Invalid value: 0: {item} in body should have at least 1 properties"),
        ),
        (
            "{namespaces: {}, nodes: {}}",
            format!("{item}: Too many: 2: must have at most 1 items"),
        ),
        (
            "{namespaces: null}",
            format!("{item}: Invalid value: 0: {item} in body should have at least 1 properties"),
        ),
        (
            "{namespace: {}}",
            format!(
                "{item}.namespace: unknown field \"{item}.namespace\"; did you mean \"namespaces\"?"
            ),
        ),
        (
            "{networks: [10.0.0.0]}",
            format!(
                "{item}.networks[0]: Invalid value: \"10.0.0.0\": Invalid CIDR format provided"
            ),
        ),
        (
            "{networks: []}",
            format!(
                "{item}.networks: Invalid value: 0: {item}.networks in body should have at least 1 \
                 items"
            ),
        ),
        (
            "{networks: [10.0.0.0/8, 10.0.0.0/8]}",
            format!("{item}.networks[1]: Duplicate value: \"10.0.0.0/8\""),
        ),
        (
            "{domainNames: [io]}",
            format!(
                "{item}.domainNames[0]: Invalid value: \"io\": {item}.domainNames[0] in body should \
                 match '^(\\*\\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\\.)+\
                 [a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\\.?$'"
            ),
        ),
        (
            "{newer: {}}",
            "spec.egress[0]: peer \"newer\" is of a version not known here, so the rule matches \
             nothing"
                .to_owned(),
        ),
    ] {
        assert_eq!(of_peer(peer), [expected], "{peer}");
    }
    let long = format!("{{networks: ['0:0:0:0:0:0:0:0:{}/64']}}", "0".repeat(40));
    assert_eq!(of_peer(&long).len(), 2);
    let networks: Vec<_> = (0..26)
        .map(|number| format!("10.{number}.0.0/16"))
        .collect();
    let expected = format!("{item}.networks: Too many: 26: must have at most 25 items");
    let many = format!("{{networks: [{}]}}", networks.join(", "));
    assert_eq!(of_peer(&many), [expected]);
    // Who is outside cannot be meant by ingress.
    let ingress = of_rule("ingress", "action: Deny, from: [{networks: [10.0.0.0/8]}]");
    let expected = "unknown field \"spec.ingress[0].from[0].networks\"";
    assert_eq!(
        ingress,
        [format!("spec.ingress[0].from[0].networks: {expected}")]
    );
    let names = of_rule("egress", "action: Deny, to: [{domainNames: [a.example]}]");
    let expected = "spec.egress[0].to[0].domainNames: Forbidden: domainNames is only supported for \
                    Accept rules";
    assert_eq!(names, [expected]);
}

#[test]
fn ports() {
    let item = "spec.ingress[0].protocols[0]";
    let properties = |path: &str| {
        format!("{path}: Invalid value: 0: {path} in body should have at least 1 properties")
    };
    let port = format!("{item}.tcp.destinationPort");
    for (protocol, expected) in [
        ("{}", properties(item)),
        ("{tcp: {}}", properties(&format!("{item}.tcp"))),
        ("{tcp: {destinationPort: {}}}", properties(&port)),
        (
            "{tcp: {destinationPort: {number: 1}}, udp: {destinationPort: {number: 1}}}",
            format!("{item}: Too many: 2: must have at most 1 items"),
        ),
        (
            "{tcp: {destinationPort: {number: 0}}}",
            format!(
                "{port}.number: Invalid value: 0: {port}.number in body should be greater than or \
                 equal to 1"
            ),
        ),
        (
            "{tcp: {destinationPort: {range: {start: 5, end: 5}}}}",
            format!(
                "{port}.range: Invalid value: \"object\": Start port must be less than End port"
            ),
        ),
        (
            "{tcp: {destinationPort: {range: {start: 5}}}}",
            format!("{port}.range.end: Required value"),
        ),
    ] {
        assert_eq!(of_protocol(protocol), [expected], "{protocol}");
    }
    let item = "spec.ingress[0].ports[0]";
    for (port, expected) in [
        (
            "{portRange: {start: 6, end: 5}}",
            format!(
                "{item}.portRange: Invalid value: \"object\": Start port must be less than End port"
            ),
        ),
        (
            "{portNumber: {protocol: tcp, port: 1}}",
            format!(
                "{item}.portNumber.protocol: Unsupported value: \"tcp\": supported values: \
                 \"TCP\", \"UDP\", \"SCTP\""
            ),
        ),
        (
            "{portNumber: {port: 65536}}",
            format!(
                "{item}.portNumber.port: Invalid value: 65536: {item}.portNumber.port in body \
                 should be less than or equal to 65535"
            ),
        ),
        (
            "{namedPort: nobody}",
            format!("{item}: no effect: no selected pod has a port named \"nobody\""),
        ),
    ] {
        assert_eq!(of_port(port), [expected], "{port}");
    }
    for peer in [
        "networks: [10.0.0.0/8]",
        "nodes: {}",
        "domainNames: [a.example]",
    ] {
        let rule =
            format!("action: Accept, to: [{{{peer}}}], protocols: [{{destinationNamedPort: web}}]");
        let expected = "spec.egress[0]: Invalid value: \"object\": networks/nodes/domainNames peer \
                        cannot be set with namedPorts since there are no namedPorts for \
                        networks/nodes/domainNames";
        assert_eq!(of_rule("egress", &rule), [expected]);
    }
}

#[test]
fn what_loads_but_may_surprise() {
    let rule = |rest: &str| format!("{{action: Deny, {rest}}}");
    let first = rule(&format!("from: {PEER}"));
    let second = rule("from: [{namespaces: {matchLabels: {ns: x}}}]");
    let spec = |ingress: &str, egress: &str| {
        format!("{{tier: Admin, priority: 1, {SUBJECT}, ingress: [{ingress}], egress: [{egress}]}}")
    };
    let said_of =
        |ingress: &str, egress: &str| said("ClusterNetworkPolicy", &spec(ingress, egress));
    assert_eq!(
        said_of(&format!("{first}, {second}"), ""),
        ["spec.ingress[1]: no effect: rule 0 before it matches everything this one could"]
    );
    assert_eq!(said_of(&format!("{second}, {first}"), ""), [""; 0]);
    let everything = rule("to: [{networks: [0.0.0.0/0]}]");
    let found = said_of("", &everything);
    assert!(found[0].starts_with("spec.egress[0].to[0].networks: 0.0.0.0/0 means pods too"));
    let pass = format!("{{action: Pass, to: {PEER}}}");
    assert_eq!(said_of("", &format!("{pass}, {everything}")), [""; 0]);
    let nothing = said_of(&rule("from: [{namespaces: {matchLabels: {ns: z}}}]"), "");
    assert_eq!(
        nothing,
        ["spec.ingress[0].from[0]: no effect: this peer selects no pod"]
    );
    let names = said_of("", "{action: Accept, to: [{domainNames: [a.example]}]}");
    assert_eq!(
        names,
        ["spec.egress[0].to[0]: no address is known for a.example"]
    );
    let nobody = "{priority: 1, subject: {namespaces: {matchLabels: {ns: z}}}}";
    assert_eq!(
        said("AdminNetworkPolicy", nobody),
        ["spec.subject: no effect: subject (pods everything of namespaces ns=z) selects no pod"]
    );
    let two = object("ClusterNetworkPolicy", "p", &spec(&first, ""))
        + &object("ClusterNetworkPolicy", "q", &spec(&first, ""))[cluster("x/a y/b").len()..];
    let lines = findings(&two);
    assert!(lines[0].contains("spec.priority: ClusterNetworkPolicy/p has priority 1 too"));
}
