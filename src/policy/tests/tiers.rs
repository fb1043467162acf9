//! AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy: the scenarios of the
//! conformance tests, the worked verdicts, and what the API refuses.

use super::*;

/// Namespaces with two pods each, in the shape of the conformance tests, and a node.
fn houses() -> String {
    let mut text = String::new();
    let houses = [
        ("gryffindor", "harry"),
        ("slytherin", "draco"),
        ("hufflepuff", "cedric"),
        ("ravenclaw", "luna"),
    ];
    for (number, (house, student)) in houses.into_iter().enumerate() {
        writeln!(
            text,
            "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {house}, labels: \
             {{house: {house}}}}}}}"
        )
        .unwrap();
        for pod in 0..2 {
            writeln!(
                text,
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: {house}, name: \
                 {student}-{pod}, labels: {{student: {student}, pod: '{pod}'}}}}, spec: \
                 {{nodeName: hogwarts, containers: [{{ports: [\
                 {{name: web, containerPort: 80}}, \
                 {{name: dns, containerPort: 53, protocol: UDP}}, \
                 {{name: owl, containerPort: 9003, protocol: SCTP}}]}}]}}, status: {{podIPs: [\
                 {{ip: 10.0.{number}.{pod}}}, {{ip: 'fd00::{number}:{pod}'}}]}}}}"
            )
            .unwrap();
        }
    }
    text.push_str(
        "---\n{apiVersion: v1, kind: Node, metadata: {name: hogwarts, labels: {castle: old}}, \
         status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}\n",
    );
    text
}

const HARRY: &str = "gryffindor/harry-0";
const DRACO: &str = "slytherin/draco-0";
const CEDRIC: &str = "hufflepuff/cedric-0";
const LUNA: &str = "ravenclaw/luna-0";

/// One object in flow style.
fn object(kind: &str, name: &str, spec: &str) -> String {
    let version = match kind {
        "ClusterNetworkPolicy" => "policy.networking.k8s.io/v1alpha2",
        "NetworkPolicy" => "networking.k8s.io/v1",
        _ => "policy.networking.k8s.io/v1alpha1",
    };
    let metadata = match kind {
        "NetworkPolicy" => format!("{{namespace: gryffindor, name: {name}}}"),
        _ => format!("{{name: {name}}}"),
    };
    format!("---\n{{apiVersion: {version}, kind: {kind}, metadata: {metadata}, spec: {spec}}}\n")
}

fn cluster_policy(name: &str, tier: &str, priority: u16, rest: &str) -> String {
    let spec = format!("{{tier: {tier}, priority: {priority}, {rest}}}");
    object("ClusterNetworkPolicy", name, &spec)
}

fn set(objects: &[String]) -> PolicySet {
    policy(&(houses() + &objects.concat()))
}

/// `namespaces` of a house.
fn house(name: &str) -> String {
    format!("namespaces: {{matchLabels: {{house: {name}}}}}")
}

fn subject(name: &str) -> String {
    format!("subject: {{{}}}", house(name))
}

fn both_ways(action: &str, peer: &str, rest: &str) -> String {
    let peer = house(peer);
    format!(
        "ingress: [{{action: {action}, from: [{{{peer}}}]{rest}}}], \
         egress: [{{action: {action}, to: [{{{peer}}}]{rest}}}]"
    )
}

const ALLOW_ALL: &str = "{podSelector: {}, ingress: [{}], egress: [{}], \
                         policyTypes: [Ingress, Egress]}";

/// The verdict with the step that denies, which must be the same over IPv4 and IPv6.
fn asked(set: &PolicySet, from: &str, to: &str, probe: &str) -> &'static str {
    let verdict = |family| {
        let passes = passes_in(set, from, to, probe, family);
        let decision = set.evaluate(key(set, from, to, probe, family));
        match passes {
            true => "allow",
            false => decision.denial().unwrap().family(),
        }
    };
    let address = [from, to]
        .into_iter()
        .find_map(|end| end.parse::<IpAddr>().ok());
    let v4 = verdict(address.map_or(Family::V4, Family::of));
    if address.is_none() {
        assert_eq!(v4, verdict(Family::V6), "{from} {to} {probe}");
    }
    v4
}

#[test]
fn an_admin_denial_goes_before_what_network_policies_allow() {
    let rest = format!(
        "{}, {}",
        subject("gryffindor"),
        both_ways("Deny", "slytherin", "")
    );
    let allow = object("NetworkPolicy", "all", ALLOW_ALL);
    let denied = set(&[cluster_policy("p", "Admin", 5, &rest), allow.clone()]);
    for (from, to) in [(HARRY, DRACO), (DRACO, HARRY)] {
        assert_eq!(asked(&denied, from, to, "tcp/80"), "Admin");
        assert_eq!(asked(&denied, from, to, "icmp"), "Admin");
    }
    assert_eq!(asked(&denied, HARRY, LUNA, "tcp/80"), "allow");
    let passed = cluster_policy("p", "Admin", 5, &rest.replace("Deny", "Pass"));
    let set_passed = set(&[passed.clone(), allow]);
    assert_eq!(asked(&set_passed, DRACO, HARRY, "tcp/80"), "allow");
    let baseline = cluster_policy("q", "Baseline", 5, &rest);
    let set_baseline = set(&[passed, baseline]);
    assert_eq!(asked(&set_baseline, DRACO, HARRY, "tcp/80"), "Baseline");
    assert_eq!(asked(&set_baseline, HARRY, DRACO, "tcp/80"), "Baseline");
}

#[test]
fn the_smaller_number_is_asked_first() {
    let rest = |action| {
        format!(
            "{}, {}",
            subject("gryffindor"),
            both_ways(action, "slytherin", "")
        )
    };
    let baseline = cluster_policy("z", "Baseline", 0, &rest("Accept"));
    for (pass, expected) in [(60, "Admin"), (40, "allow")] {
        let set = set(&[
            cluster_policy("a", "Admin", 50, &rest("Deny")),
            cluster_policy("b", "Admin", pass, &rest("Pass")),
            baseline.clone(),
        ]);
        assert_eq!(asked(&set, DRACO, HARRY, "tcp/80"), expected);
    }
}

#[test]
fn in_one_policy_the_first_rule_that_matches_decides() {
    let peer = house("slytherin");
    let rule = |action| format!("{{action: {action}, from: [{{{peer}}}]}}");
    for tier in ["Admin", "Baseline"] {
        for (order, expected) in [
            (["Accept", "Deny", "Pass"], "allow"),
            (["Deny", "Accept", "Pass"], tier),
            (["Pass", "Deny", "Accept"], "allow"),
        ] {
            let rules = order.map(rule).join(", ");
            let rest = format!("{}, ingress: [{rules}]", subject("gryffindor"));
            let set = set(&[cluster_policy("p", tier, 1, &rest)]);
            assert_eq!(asked(&set, DRACO, HARRY, "udp/53"), expected);
        }
    }
}

#[test]
fn rules_are_about_their_ports_alone() {
    let ports = "protocols: [{tcp: {destinationPort: {number: 80}}}, \
                 {udp: {destinationPort: {number: 53}}}, \
                 {sctp: {destinationPort: {range: {start: 9003, end: 9005}}}}]";
    let peer = house("slytherin");
    for tier in ["Admin", "Baseline"] {
        let policy = |first: &str, second: &str| {
            let rest = format!(
                "{}, ingress: [{{action: {first}, from: [{{{peer}}}], {ports}}}, \
                 {{action: {second}, from: [{{{peer}}}]}}]",
                subject("gryffindor")
            );
            set(&[cluster_policy("p", tier, 1, &rest)])
        };
        let denied = policy("Deny", "Pass");
        let accepted = policy("Accept", "Deny");
        for (probe, listed) in [
            ("tcp/80", true),
            ("udp/53", true),
            ("sctp/9003", true),
            ("sctp/9005", true),
            ("sctp/9006", false),
            ("tcp/53", false),
            ("icmp", false),
        ] {
            let expected = if listed { tier } else { "allow" };
            assert_eq!(asked(&denied, DRACO, HARRY, probe), expected, "{probe}");
            let expected = if listed { "allow" } else { tier };
            assert_eq!(asked(&accepted, DRACO, HARRY, probe), expected, "{probe}");
        }
    }
}

#[test]
fn networks_mean_pods_too() {
    for tier in ["Admin", "Baseline"] {
        let rest = format!(
            "{}, egress: [{{action: Accept, to: [{{{}}}]}}, \
             {{action: Deny, to: [{{networks: [0.0.0.0/0, '::/0']}}]}}]",
            subject("gryffindor"),
            house("ravenclaw")
        );
        let set = set(&[cluster_policy("p", tier, 1, &rest)]);
        assert_eq!(asked(&set, HARRY, LUNA, "tcp/80"), "allow");
        assert_eq!(asked(&set, HARRY, DRACO, "tcp/80"), tier);
        assert_eq!(asked(&set, HARRY, "gryffindor/harry-1", "udp/53"), tier);
        assert_eq!(asked(&set, HARRY, "8.8.8.8", "icmp"), tier);
        assert_eq!(asked(&set, HARRY, HARRY, "tcp/80"), "allow");
        assert_eq!(asked(&set, DRACO, HARRY, "tcp/80"), "allow");
    }
}

#[test]
fn objects_of_version_one_alpha_one_are_the_same_tiers() {
    let ports = "ports: [{portNumber: {protocol: UDP, port: 53}}, {portNumber: {port: 80}}, \
                 {portRange: {protocol: SCTP, start: 9000, end: 9003}}]";
    let spec = |priority: &str, deny: &str| {
        format!(
            "{{{priority} {}, ingress: [{{name: dns, action: Allow, from: [{{{}}}], {ports}}}, \
             {{action: {deny}, from: [{{namespaces: {{}}}}]}}]}}",
            subject("gryffindor"),
            house("slytherin")
        )
    };
    let admin = set(&[object(
        "AdminNetworkPolicy",
        "a",
        &spec("priority: 7,", "Deny"),
    )]);
    let baseline = object("BaselineAdminNetworkPolicy", "default", &spec("", "Deny"));
    let baseline = set(&[baseline]);
    for (set, tier) in [(admin, "Admin"), (baseline, "Baseline")] {
        assert_eq!(asked(&set, DRACO, HARRY, "udp/53"), "allow");
        assert_eq!(asked(&set, DRACO, HARRY, "tcp/80"), "allow");
        assert_eq!(asked(&set, DRACO, HARRY, "sctp/9001"), "allow");
        assert_eq!(asked(&set, DRACO, HARRY, "tcp/53"), tier);
        assert_eq!(asked(&set, LUNA, HARRY, "udp/53"), tier);
        assert_eq!(asked(&set, "203.0.113.5", HARRY, "udp/53"), "allow");
    }
}

#[test]
fn equal_numbers_are_asked_cluster_policies_first_then_by_name() {
    let rule = |action: &str| {
        format!(
            "{}, ingress: [{{action: {action}, from: [{{{}}}]}}]",
            subject("gryffindor"),
            house("slytherin")
        )
    };
    let old = object(
        "AdminNetworkPolicy",
        "a",
        &format!("{{priority: 5, {}}}", rule("Allow")),
    );
    let deny = cluster_policy("z", "Admin", 5, &rule("Deny"));
    let accept = cluster_policy("y", "Admin", 5, &rule("Accept"));
    assert_eq!(
        asked(&set(&[old.clone(), deny.clone()]), DRACO, HARRY, "tcp/80"),
        "Admin"
    );
    assert_eq!(
        asked(&set(&[deny, accept, old]), DRACO, HARRY, "tcp/80"),
        "allow"
    );
    // BaselineAdminNetworkPolicy comes behind whatever has a number.
    let last = object(
        "BaselineAdminNetworkPolicy",
        "default",
        &format!("{{{}}}", rule("Deny")),
    );
    let first = cluster_policy("b", "Baseline", 1000, &rule("Accept"));
    assert_eq!(asked(&set(&[last, first]), DRACO, HARRY, "tcp/80"), "allow");
}

#[test]
fn worked_verdicts() {
    let all = "namespaces: {}";
    let to = |direction: &str, action: &str, peers: &str| {
        let field = if direction == "ingress" { "from" } else { "to" };
        format!(
            "{}, {direction}: [{{action: {action}, {field}: [{peers}]}}]",
            subject("gryffindor")
        )
    };
    let from = |action, peers: &str| to("ingress", action, &format!("{{{peers}}}"));
    let admin =
        |priority, rest: String| cluster_policy(&format!("p{priority}"), "Admin", priority, &rest);
    let baseline = |rest: String| cluster_policy("b", "Baseline", 1, &rest);
    let policy = |spec: &str| object("NetworkPolicy", "n", spec);
    let closed = "{podSelector: {}, policyTypes: [Ingress]}";
    let bad = house("slytherin");
    // 1, 2: an Admin verdict is final.
    let set_1 = set(&[
        admin(10, from("Accept", &house("ravenclaw"))),
        policy(closed),
    ]);
    assert_eq!(asked(&set_1, LUNA, HARRY, "tcp/80"), "allow");
    assert_eq!(asked(&set_1, DRACO, HARRY, "tcp/80"), "NP");
    let set_2 = set(&[
        admin(10, from("Deny", &bad)),
        policy("{podSelector: {}, ingress: [{}]}"),
    ]);
    assert_eq!(asked(&set_2, DRACO, HARRY, "tcp/80"), "Admin");
    // 3: a Pass leaves the tier.
    let set_3 = set(&[admin(10, from("Pass", &bad)), admin(20, from("Deny", all))]);
    assert_eq!(asked(&set_3, DRACO, HARRY, "tcp/80"), "allow");
    assert_eq!(asked(&set_3, LUNA, HARRY, "tcp/80"), "Admin");
    // 4: NetworkPolicy decides for whom it isolates.
    let web = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {house: \
               ravenclaw}}}], ports: [{port: 80}]}]}";
    let set_4 = set(&[baseline(from("Deny", all)), policy(web)]);
    assert_eq!(asked(&set_4, LUNA, HARRY, "tcp/80"), "allow");
    assert_eq!(asked(&set_4, LUNA, HARRY, "tcp/81"), "NP");
    assert_eq!(asked(&set_4, DRACO, HARRY, "tcp/80"), "NP");
    // 5: and in no other direction.
    let egress = "{podSelector: {}, policyTypes: [Egress], egress: [{}]}";
    let set_5 = set(&[baseline(from("Deny", all)), policy(egress)]);
    assert_eq!(asked(&set_5, LUNA, HARRY, "tcp/80"), "Baseline");
    // 6: the way out says nothing of the way in.
    let out = format!(
        "{}, egress: [{{action: Accept, to: [{{{}}}]}}]",
        subject("slytherin"),
        house("gryffindor")
    );
    let set_6 = set(&[admin(10, out), policy(closed)]);
    assert_eq!(asked(&set_6, DRACO, HARRY, "tcp/80"), "NP");
    // 7: there is no way to mean a sender outside.
    let set_7 = set(&[baseline(from("Deny", all))]);
    assert_eq!(asked(&set_7, "203.0.113.5", HARRY, "tcp/80"), "allow");
    // 8.
    let everywhere = "{networks: ['0.0.0.0/0']}";
    let set_8 = set(&[admin(10, to("egress", "Deny", everywhere))]);
    assert!(!passes_in(&set_8, HARRY, DRACO, "tcp/80", Family::V4));
    assert!(passes_in(&set_8, HARRY, DRACO, "tcp/80", Family::V6));
    assert_eq!(asked(&set_8, HARRY, "8.8.8.8", "icmp"), "Admin");
    // 10: who is meant by a newer version is not known.
    let unknown = format!(
        "{}, egress: [{{action: Accept, to: [{{galaxies: {{}}}}]}}, \
         {{action: Deny, to: [{{networks: ['0.0.0.0/0', '::/0']}}]}}]",
        subject("gryffindor")
    );
    let set_10 = set(&[admin(10, unknown)]);
    assert_eq!(asked(&set_10, HARRY, DRACO, "tcp/80"), "Admin");
    for action in ["Deny", "Pass"] {
        let set = set(&[admin(10, to("egress", action, "{galaxies: {}}"))]);
        assert_eq!(asked(&set, HARRY, DRACO, "icmp"), "Admin");
        assert_eq!(asked(&set, DRACO, HARRY, "icmp"), "allow");
    }
}

#[test]
fn names_are_accepted_by_the_addresses_they_are_known_to_have() {
    // Worked verdict 9.
    let rest = format!(
        "{}, egress: [{{action: Accept, to: [{{domainNames: ['*.kubernetes.io']}}], \
         protocols: [{{tcp: {{destinationPort: {{number: 443}}}}}}]}}, \
         {{action: Deny, to: [{{networks: ['0.0.0.0/0']}}]}}]",
        subject("gryffindor")
    );
    let file = SourceFile {
        name: "f.yaml".to_owned(),
        text: (houses() + &cluster_policy("p", "Admin", 1, &rest)).into(),
    };
    let (documents, findings) = document::parse(&file);
    let mut names = Names::default();
    for (name, address) in [
        ("blog.kubernetes.io.", "203.0.113.1"),
        ("Latest.blog.kubernetes.io", "203.0.113.2"),
        ("kubernetes.io", "203.0.113.3"),
    ] {
        let address = [address.parse().unwrap()];
        names.insert(NameUser::Tiers, name, address.into());
    }
    let loaded = load_documents(&documents, findings, &Compatibility::default(), &names);
    let set = loaded.policy.unwrap();
    assert_eq!(asked(&set, HARRY, "203.0.113.1", "tcp/443"), "allow");
    assert_eq!(asked(&set, HARRY, "203.0.113.2", "tcp/443"), "allow");
    assert_eq!(asked(&set, HARRY, "203.0.113.3", "tcp/443"), "Admin");
    assert_eq!(asked(&set, HARRY, "203.0.113.1", "tcp/80"), "Admin");
}

#[test]
fn nodes_are_meant_by_their_addresses_and_named_ports_by_the_receiver() {
    let rest = format!(
        "{}, egress: [{{action: Deny, to: [{{nodes: {{matchLabels: {{castle: old}}}}}}]}}], \
         ingress: [{{action: Deny, from: [{{namespaces: {{}}}}], \
         protocols: [{{destinationNamedPort: dns}}, {{destinationNamedPort: owl}}]}}]",
        subject("gryffindor")
    );
    let set = set(&[cluster_policy("p", "Admin", 1, &rest)]);
    assert_eq!(asked(&set, HARRY, "192.168.0.1", "tcp/22"), "Admin");
    assert_eq!(asked(&set, HARRY, "192.168.0.2", "tcp/22"), "allow");
    assert_eq!(asked(&set, CEDRIC, HARRY, "udp/53"), "Admin");
    assert_eq!(asked(&set, CEDRIC, HARRY, "sctp/9003"), "Admin");
    assert_eq!(asked(&set, CEDRIC, HARRY, "tcp/53"), "allow");
    assert_eq!(asked(&set, HARRY, CEDRIC, "udp/53"), "allow");
}

#[test]
fn pods_on_the_hosts_network_are_neither_subjects_nor_peers() {
    let host = "---\n{apiVersion: v1, kind: Pod, metadata: {namespace: gryffindor, name: ghost}, \
                spec: {hostNetwork: true, nodeName: hogwarts}, status: {podIP: 192.168.0.1}}\n";
    let rest = "subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]";
    let set = set(&[host.to_owned(), cluster_policy("p", "Admin", 1, rest)]);
    assert_eq!(asked(&set, "192.168.0.1", HARRY, "tcp/80"), "allow");
    assert_eq!(asked(&set, HARRY, "192.168.0.1", "tcp/80"), "allow");
    assert_eq!(asked(&set, DRACO, HARRY, "tcp/80"), "Admin");
}

#[test]
fn a_pod_that_reaches_itself_through_a_service_is_asked() {
    let rest = "subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}}]}]";
    for tier in ["Admin", "Baseline"] {
        let set = set(&[cluster_policy("p", tier, 1, rest)]);
        let own = key(&set, HARRY, HARRY, "tcp/80", Family::V4);
        let service = FlowKey {
            destination: Address::from_ip("172.30.0.9".parse().unwrap()).1,
            ..own
        };
        let hairpin = PolicyKey {
            original: service,
            ..PolicyKey::from(own)
        };
        for (packet, allow) in [(PolicyKey::from(own), true), (hairpin, false)] {
            assert_eq!(set.evaluate(packet).allow, allow);
            let naive = naive::evaluate(&set, packet);
            assert_eq!(naive.verdict == RuleVerdict::Allow, allow);
        }
    }
}
