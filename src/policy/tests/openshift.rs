//! OpenShift's network: every row of its tables, as manifests and packets.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::policy::names::{Answer, Change, NameUser, StaticTable};
use crate::policy::openshift::{SourceAfter, source_after};

/// Two nodes; projects a, b, c and default with pods `cli` (and a second in a) on n1.
const CLUSTER: &str = "
{apiVersion: v1, kind: ClusterNetwork, metadata: {name: default},
 network: 10.128.0.0/14, hostsubnetlength: 9, serviceNetwork: 172.30.0.0/16,
 clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}]}
---
{apiVersion: v1, kind: Node, metadata: {name: n1},
 status: {addresses: [{type: InternalIP, address: 192.168.1.5}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2},
 status: {addresses: [{type: InternalIP, address: 192.168.1.6}]}}
---
{apiVersion: v1, kind: HostSubnet, metadata: {name: n1}, host: n1, hostIP: 192.168.1.5,
 subnet: 10.128.0.0/23}
";

fn cluster_of(pods: &[(&str, &str)], more: &str) -> String {
    let mut text = CLUSTER.to_owned();
    for (name, address) in pods {
        let (namespace, name) = name.split_once('/').unwrap();
        write!(
            text,
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: {namespace}, name: {name}}}, \
             spec: {{nodeName: n1}}, status: {{podIPs: [{{ip: {address}}}, {{ip: 'fd01::{}'}}]}}}}\n",
            address.rsplit('.').next().unwrap()
        )
        .unwrap();
    }
    text.push_str(more);
    text
}

const PODS: [(&str, &str); 6] = [
    ("a/cli", "10.128.0.10"),
    ("a/other", "10.128.0.11"),
    ("b/web", "10.128.0.20"),
    ("c/web", "10.128.0.30"),
    ("d/web", "10.128.0.40"),
    ("default/infra", "10.128.0.50"),
];

fn net_namespace(name: &str, vnid: u32, more: &str) -> String {
    format!(
        "---\n{{apiVersion: network.openshift.io/v1, kind: NetNamespace, metadata: {{name: {name}\
         {}}}, netname: {name}, netid: {vnid}{}}}\n",
        if more.starts_with("annotations") {
            format!(", {more}")
        } else {
            String::new()
        },
        if more.starts_with("egressIPs") {
            format!(", {more}")
        } else {
            String::new()
        },
    )
}

fn egress_policy(namespace: &str, name: &str, rules: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: EgressNetworkPolicy, metadata: {{namespace: {namespace}, \
         name: {name}}}, spec: {{egress: [{rules}]}}}}\n"
    )
}

fn host_subnet(name: &str, number: u8, egress: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: HostSubnet, metadata: {{name: {name}}}, host: {name}, \
         hostIP: 192.168.1.{number}, subnet: 10.129.{}.0/23, egressIPs: [{egress}]}}\n",
        number * 2
    )
}

const ALLOW_THEN_DENY: &str = "{type: Allow, to: {cidrSelector: 1.2.3.0/24}}, \
     {type: Allow, to: {dnsName: www.foo.com}}, {type: Deny, to: {cidrSelector: 0.0.0.0/0}}";

const DENY_ALL: &str = "{type: Deny, to: {cidrSelector: 0.0.0.0/0}}";

fn named(address: &str) -> Names {
    let mut names = Names::default();
    let addresses: BTreeSet<IpAddr> = [address.parse().unwrap()].into();
    names.insert(NameUser::EgressNetworkPolicy, "www.foo.com", addresses);
    names
}

fn set_of(text: &str, compatibility: &Compatibility, names: &Names) -> PolicySet {
    let file = SourceFile {
        name: "f.yaml".into(),
        text: text.into(),
    };
    let loaded = load(&[file], compatibility, names);
    let findings: Vec<_> = loaded.findings.iter().map(ToString::to_string).collect();
    loaded
        .policy
        .unwrap_or_else(|| panic!("refused: {findings:#?}\n{text}"))
}

/// The denying family, `allow` where there is none; all twins must agree.
fn verdict(set: &PolicySet, from: &str, to: &str, probe: &str) -> &'static str {
    let family = match to.parse::<IpAddr>() {
        Ok(address) => Family::of(address),
        Err(_) => Family::V4,
    };
    passes_in(set, from, to, probe, family);
    let decision = set.evaluate(key(set, from, to, probe, family));
    decision.denial().map_or("allow", |denial| denial.family())
}

fn switched(switch: &str, value: &str) -> Compatibility {
    let mut compatibility = Compatibility::default();
    compatibility.set(switch, value).unwrap();
    compatibility
}

fn policy_of(more: &str) -> PolicySet {
    policy(&cluster_of(&PODS, more))
}

#[test]
fn the_first_matching_rule_decides_and_only_for_what_leaves_the_cluster() {
    let text = cluster_of(&PODS, &egress_policy("a", "default", ALLOW_THEN_DENY));
    let set = set_of(&text, &Compatibility::default(), &named("10.11.12.13"));
    for (to, probe, expected) in [
        ("1.2.3.77", "tcp/443", "allow"),
        ("1.2.3.77", "icmp", "allow"),
        ("1.2.3.77", "ip47", "allow"),
        ("1.2.4.1", "tcp/443", "ENP"),
        ("1.2.4.1", "icmp", "ENP"),
        ("10.11.12.13", "udp/9", "allow"),
        ("192.168.1.5", "udp/53", "allow"),
        ("192.168.1.5", "tcp/53", "allow"),
        ("192.168.1.5", "sctp/53", "ENP"),
        ("192.168.1.5", "udp/123", "ENP"),
        ("192.168.1.6", "udp/53", "ENP"),
        ("8.8.8.8", "udp/53", "ENP"),
        ("10.128.0.9", "tcp/80", "allow"),
        ("10.131.255.255", "tcp/80", "allow"),
        ("10.132.0.0", "tcp/80", "ENP"),
        ("10.128.0.1", "tcp/80", "allow"),
        ("172.30.0.1", "tcp/443", "allow"),
        ("b/web", "tcp/80", "allow"),
        ("2001:db8::1", "tcp/443", "allow"),
    ] {
        assert_eq!(verdict(&set, "a/cli", to, probe), expected, "{to} {probe}");
    }
    assert_eq!(verdict(&set, "b/web", "1.2.4.1", "tcp/443"), "allow");
    assert_eq!(verdict(&set, "1.2.4.1", "a/cli", "tcp/443"), "allow");
    // The same rules the other way round.
    let reversed = "{type: Deny, to: {cidrSelector: 0.0.0.0/0}}, \
         {type: Allow, to: {dnsName: www.foo.com}}, {type: Allow, to: {cidrSelector: 1.2.3.0/24}}";
    let text = cluster_of(&PODS, &egress_policy("a", "default", reversed));
    let set = set_of(&text, &Compatibility::default(), &named("10.11.12.13"));
    for to in ["1.2.3.77", "10.11.12.13", "1.2.4.1"] {
        assert_eq!(verdict(&set, "a/cli", to, "tcp/443"), "ENP", "{to}");
    }
    // Nothing matches: allowed.
    let set = policy_of(&egress_policy(
        "a",
        "p",
        "{type: Deny, to: {cidrSelector: 1.2.3.0/24}}",
    ));
    assert_eq!(verdict(&set, "a/cli", "1.2.4.1", "tcp/443"), "allow");
    let set = policy_of(&egress_policy(
        "a",
        "p",
        "{type: Deny, to: {cidrSelector: 0.0.0.0/32}}",
    ));
    assert_eq!(verdict(&set, "a/cli", "1.2.4.1", "tcp/443"), "ENP");
}

#[test]
fn a_name_without_address_matches_nothing_and_a_moved_one_moves_the_rule() {
    let deny = "{type: Deny, to: {dnsName: www.foo.com}}";
    let set = policy_of(&egress_policy("a", "p", deny));
    assert_eq!(verdict(&set, "a/cli", "10.11.12.13", "tcp/443"), "allow");
    let set = policy_of(&egress_policy("a", "p", ALLOW_THEN_DENY));
    assert_eq!(verdict(&set, "a/cli", "10.11.12.13", "tcp/443"), "ENP");
    let answer = |address: &str| {
        let answer = Answer {
            a: vec![address.parse().unwrap()],
            ttl_s: Some(60),
            ..Answer::default()
        };
        Change::Records(BTreeMap::from([("www.foo.com".to_owned(), answer)]))
    };
    let mut table = StaticTable::default();
    table.change(0, answer("10.11.12.13"));
    table.change(30, answer("20.21.22.23"));
    let text = cluster_of(&PODS, &egress_policy("a", "p", ALLOW_THEN_DENY));
    for (at_s, old, new) in [
        (0, "allow", "ENP"),
        (59, "allow", "ENP"),
        (60, "ENP", "allow"),
    ] {
        let names = Names::at(&table, Default::default(), at_s);
        let set = set_of(&text, &Compatibility::default(), &names);
        assert_eq!(
            verdict(&set, "a/cli", "10.11.12.13", "tcp/443"),
            old,
            "{at_s}"
        );
        assert_eq!(
            verdict(&set, "a/cli", "20.21.22.23", "tcp/443"),
            new,
            "{at_s}"
        );
    }
}

#[test]
fn the_state_of_the_project_decides_before_its_rules() {
    let allow = "{type: Allow, to: {cidrSelector: 0.0.0.0/0}}";
    let a = net_namespace("a", 10, "");
    let b = net_namespace("b", 11, "");
    let shared = net_namespace("b", 10, "");
    let global = net_namespace("a", 0, "");
    let one = egress_policy("a", "p", DENY_ALL);
    for (objects, from, expected) in [
        (format!("{a}{b}"), "a/cli", "allow"),
        (format!("{a}{b}{one}"), "a/cli", "ENP"),
        (format!("{a}{b}{one}"), "b/web", "allow"),
        (format!("{global}{b}{one}"), "a/cli", "allow"),
        (
            egress_policy("default", "p", DENY_ALL),
            "default/infra",
            "allow",
        ),
        (format!("{a}{shared}"), "a/cli", "allow"),
        (
            format!("{a}{shared}{}", egress_policy("a", "p", allow)),
            "a/cli",
            "ENP",
        ),
        (
            format!("{a}{shared}{}", egress_policy("a", "p", allow)),
            "b/web",
            "ENP",
        ),
        (
            format!(
                "{a}{}{}",
                egress_policy("a", "p", allow),
                egress_policy("a", "q", allow)
            ),
            "a/cli",
            "ENP",
        ),
        (
            egress_policy("a", "p", "") + &egress_policy("a", "q", allow),
            "a/cli",
            "allow",
        ),
        (egress_policy("a", "p", ""), "a/cli", "allow"),
    ] {
        let set = policy_of(&objects);
        assert_eq!(
            verdict(&set, from, "203.0.113.9", "tcp/443"),
            expected,
            "{objects}"
        );
        assert_eq!(
            verdict(&set, from, "192.168.1.5", "udp/53"),
            "allow",
            "{objects}"
        );
    }
    let warnings = |objects: &str| -> Vec<String> {
        let found = findings(&cluster_of(&PODS, objects));
        found
            .into_iter()
            .filter(|one| !one.contains("unresolved"))
            .collect()
    };
    let found = warnings(&format!("{a}{shared}{}", egress_policy("a", "p", allow)));
    assert!(
        found[0].contains(
            "EgressNetworkPolicy not allowed in shared NetNamespace (a, b); dropping all"
        )
    );
    assert!(found[0].ends_with("[egress-dropped]"), "{found:?}");
    let found = warnings(&format!("{}{one}", egress_policy("a", "q", allow)));
    assert!(
        found.len() == 2 && found[0].contains("in same network namespace (a:p, a:q) is not"),
        "{found:?}"
    );
    let found = warnings(&format!("{global}{one}"));
    assert!(
        found[0].contains("in global network namespace is not allowed (a:p); ignoring"),
        "{found:?}"
    );
    assert!(found[0].ends_with("[inert-policy]"), "{found:?}");
}

/// Errors of an object, without place and object.
fn errors(text: &str, compatibility: &Compatibility) -> Vec<String> {
    let loaded = load_with(text, compatibility);
    let errors = loaded.findings.iter();
    let errors = errors.filter(|finding| finding.severity == Severity::Error);
    errors
        .map(|finding| format!("{}: {}", finding.path, finding.message))
        .collect()
}

#[test]
fn egress_network_policies_are_validated_as_upstream_does() {
    let peer = |block: &str, name: &str| {
        format!("network.EgressNetworkPolicyPeer{{CIDRSelector:\"{block}\", DNSName:\"{name}\"}}")
    };
    let neither = "must specify cidrSelector or dnsName";
    let mixed = "{type: Allow, to: {cidrSelector: 1.2.3.0/24}}, {type: Allow, to: {dnsName: a.b}}, \
                 {type: Deny, to: {dnsName: www.example.com}}, {type: Deny, to: {cidrSelector: 'fe80::/64'}}";
    let third: &[(&str, Vec<String>)] = &[
        ("", vec![]),
        (mixed, vec![]),
        (
            "{type: Bob, to: {cidrSelector: 1.2.3.0/24}}",
            vec!["spec.egress[0].type: Invalid value: \"Bob\": invalid policy type".into()],
        ),
        (
            "{type: Allow, to: {cidrSelector: 1.2.3.4}}, {type: Deny, to: {}}",
            vec![
                "spec.egress[0].to.cidrSelector: Invalid value: \"1.2.3.4\": invalid CIDR address: \
                 1.2.3.4"
                    .into(),
                format!("spec.egress[1].to: Invalid value: {}: {neither}", peer("", "")),
            ],
        ),
        (
            "{type: Allow, to: {cidrSelector: 1.2.3.4, dnsName: a.b}}",
            vec![
                format!(
                    "spec.egress[0].to: Invalid value: {}: either specify cidrSelector or dnsName but \
                     not both",
                    peer("1.2.3.4", "a.b")
                ),
                "spec.egress[0].to.cidrSelector: Invalid value: \"1.2.3.4\": invalid CIDR address: \
                 1.2.3.4"
                    .into(),
            ],
        ),
        (
            "{type: Allow, to: {}}",
            vec![format!("spec.egress[0].to: Invalid value: {}: {neither}", peer("", ""))],
        ),
        (
            "{type: Allow, to: {dnsName: www.Example$.com}}",
            vec![
                "spec.egress[0].to.dnsName: Invalid value: \"www.Example$.com\": must conform to DNS \
                 952 subdomain conventions"
                    .into(),
            ],
        ),
        (
            "{type: Allow, to: {dnsName: '*.example.com'}}",
            vec![
                "spec.egress[0].to.dnsName: Invalid value: \"*.example.com\": must conform to DNS 952 \
                 subdomain conventions"
                    .into(),
            ],
        ),
        (
            "{type: Allow, to: {cidrSelector: 1.2.3.4/24}}",
            vec![
                "spec.egress[0].to.cidrSelector: Invalid value: \"1.2.3.4/24\": CIDR network \
                 specification \"1.2.3.4/24\" is not in canonical form (should be 1.2.3.0/24 or \
                 1.2.3.4/32?)"
                    .into(),
            ],
        ),
    ];
    for (rules, expected) in third {
        let text = egress_policy("a", "p", rules);
        assert_eq!(
            errors(&text, &Compatibility::default()),
            *expected,
            "{rules}"
        );
    }
    let one = "{type: Allow, to: {cidrSelector: 1.2.3.0/24}}, ";
    let fourth = switched("enp_generation", "4.x");
    for (count, expected) in [(50, 0), (51, 1)] {
        let text = egress_policy("a", "p", &one.repeat(count));
        let found = errors(&text, &Compatibility::default());
        assert_eq!(found.len(), expected);
        if let Some(found) = found.first() {
            let message = "spec.egress: Invalid value: \"\": too many egress rules (max 50)";
            assert_eq!(found, message);
        }
        assert_eq!(errors(&text, &fourth).len(), 0);
    }
    for (to, expected) in [
        ("cidrSelector: 1.2.3.4/24", 0),
        ("cidrSelector: 1.2.3.4", 1),
        ("cidrSelector: 'fe80::/64'", 1),
        ("dnsName: WWW.Example.com.", 0),
        ("dnsName: '*.example.com'", 1),
        ("dnsName: www.Example$.com", 1),
    ] {
        let text = egress_policy("a", "p", &format!("{{type: Allow, to: {{{to}}}}}"));
        assert_eq!(errors(&text, &fourth).len(), expected, "{to}");
        let third = errors(&text, &Compatibility::default()).len();
        assert_eq!(third, usize::from(!to.contains("fe80")), "{to}");
    }
}

#[test]
fn network_objects_are_validated_as_upstream_does() {
    for (object, expected) in [
        (
            "{apiVersion: v1, kind: NetNamespace, metadata: {name: a}, netname: b, netid: 10}",
            "netname: Invalid value: \"b\": must be the same as metadata.name: \"a\"",
        ),
        (
            "{apiVersion: v1, kind: NetNamespace, metadata: {name: a}, netname: a, netid: 9}",
            "netid: Invalid value: 9: VNID must be greater than or equal to 10",
        ),
        (
            "{apiVersion: v1, kind: NetNamespace, metadata: {name: a}, netname: a, netid: 16777216}",
            "netid: Invalid value: 16777216: VNID must be less than or equal to 16777215",
        ),
        (
            "{apiVersion: v1, kind: NetNamespace, metadata: {name: a}, netname: a, netid: -1}",
            "netid: json: cannot unmarshal number -1 into Go struct field NetNamespace.netid of type \
             uint32",
        ),
        (
            "{apiVersion: v1, kind: NetNamespace, metadata: {name: a}, netname: a, netid: 10, \
             egressIPs: [1.2.3.4, 'fe80::1']}",
            "egressIPs[1]: Invalid value: \"fe80::1\": must be an IPv4 address",
        ),
        (
            "{apiVersion: v1, kind: NetNamespace, metadata: {name: a}, netname: a, netid: 10, \
             egressIPs: [1.2.3]}",
            "egressIPs[0]: Invalid value: \"1.2.3\": invalid IP address",
        ),
        (
            "{apiVersion: v1, kind: HostSubnet, metadata: {name: n}, host: m, hostIP: 1.2.3.4, \
             subnet: 10.1.0.0/24}",
            "host: Invalid value: \"m\": must be the same as metadata.name: \"n\"",
        ),
        (
            "{apiVersion: v1, kind: HostSubnet, metadata: {name: n}, host: n, hostIP: 1.2.3.4.5, \
             subnet: 10.1.0.0/24}",
            "hostIP: Invalid value: \"1.2.3.4.5\": invalid IP address",
        ),
        (
            "{apiVersion: v1, kind: HostSubnet, metadata: {name: n}, host: n, hostIP: 1.2.3.4, \
             subnet: 10.1.0.9/24}",
            "subnet: Invalid value: \"10.1.0.9/24\": CIDR network specification \"10.1.0.9/24\" is not \
             in canonical form (should be 10.1.0.0/24 or 10.1.0.9/32?)",
        ),
        (
            "{apiVersion: v1, kind: HostSubnet, metadata: {name: n}, host: n, hostIP: 1.2.3.4}",
            "subnet: Invalid value: \"\": field cannot be empty",
        ),
        (
            "{apiVersion: v1, kind: HostSubnet, metadata: {name: n}, host: n, hostIP: 1.2.3.4, \
             subnet: 10.1.0.0/24, egressCIDRs: [192.168.1.1/24]}",
            "egressCIDRs[0]: Invalid value: \"192.168.1.1/24\": CIDR network specification \
             \"192.168.1.1/24\" is not in canonical form (should be 192.168.1.0/24 or 192.168.1.1/32?)",
        ),
        (
            "{apiVersion: v1, kind: ClusterNetwork, metadata: {name: default}, network: 10.128.0.0/14, \
             hostsubnetlength: 9, serviceNetwork: 10.128.0.0/16}",
            "serviceNetwork: Invalid value: \"10.128.0.0/16\": service network overlaps with cluster \
             network",
        ),
        (
            "{apiVersion: v1, kind: ClusterNetwork, metadata: {name: default}, network: 10.128.0.0/14, \
             hostsubnetlength: 19, serviceNetwork: 172.30.0.0/16}",
            "hostsubnetlength: Invalid value: 19: subnet length is too large for cidr",
        ),
        (
            "{apiVersion: v1, kind: ClusterNetwork, metadata: {name: default}, network: 10.4.0.0/14, \
             serviceNetwork: 172.30.0.0/16, clusterNetworks: [{CIDR: 10.128.0.0/14, \
             hostSubnetLength: 9}]}",
            "network: Invalid value: \"10.4.0.0/14\": network must be identical to \
             clusterNetworks[0].cidr",
        ),
        (
            "{apiVersion: v1, kind: ClusterNetwork, metadata: {name: default}, serviceNetwork: \
             172.30.0.0/16, clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}, {CIDR: \
             10.129.0.0/16, hostSubnetLength: 9}]}",
            "clusterNetworks[1].cidr: Invalid value: \"10.129.0.0/16\": cidr range overlaps with \
             another cidr \"10.128.0.0/14\"",
        ),
        (
            "{apiVersion: network.openshift.io/v1, kind: NetNamespace, metadata: {name: a}, netname: \
             a, netid: 10, egressIP: [1.2.3.4]}",
            "egressIP: unknown field \"egressIP\"; did you mean \"egressIPs\"?",
        ),
        (
            "{apiVersion: network.openshift.io/v2, kind: NetNamespace, metadata: {name: a}}",
            "apiVersion: no matches for kind \"NetNamespace\" in version \"network.openshift.io/v2\"",
        ),
    ] {
        assert_eq!(
            errors(object, &Compatibility::default()),
            [expected],
            "{object}"
        );
    }
    for object in [
        "{apiVersion: v1, kind: HostSubnet, metadata: {name: n, annotations: \
         {pod.network.openshift.io/assign-subnet: 'true'}}, host: n, hostIP: 1.2.3.4}",
        "{apiVersion: v1, kind: ClusterNetwork, metadata: {name: default}, pluginName: x}",
        "{apiVersion: v1, kind: NetNamespace, metadata: {name: a}, netname: a, netid: 16777215}",
    ] {
        assert_eq!(
            errors(object, &Compatibility::default()),
            [""; 0],
            "{object}"
        );
    }
}

#[test]
fn projects_reach_their_own_network_and_global_ones() {
    let networks = net_namespace("a", 10, "")
        + &net_namespace("b", 11, "")
        + &net_namespace("c", 10, "")
        + &net_namespace("d", 0, "");
    let set = policy_of(&networks);
    for (from, to, expected) in [
        ("a/cli", "a/other", "allow"),
        ("a/cli", "b/web", "VNID"),
        ("b/web", "a/cli", "VNID"),
        ("a/cli", "c/web", "allow"),
        ("c/web", "b/web", "VNID"),
        ("a/cli", "d/web", "allow"),
        ("d/web", "b/web", "allow"),
        ("b/web", "default/infra", "allow"),
        ("default/infra", "a/cli", "allow"),
        ("192.168.1.5", "a/cli", "allow"),
        ("10.128.0.1", "a/cli", "allow"),
        ("203.0.113.9", "a/cli", "allow"),
        ("a/cli", "203.0.113.9", "allow"),
        ("a/cli", "192.168.1.5", "allow"),
    ] {
        assert_eq!(verdict(&set, from, to, "tcp/80"), expected, "{from} {to}");
    }
    // Services belong to their project; an address that is translated never gets here.
    let service = "---\n{apiVersion: v1, kind: Service, metadata: {namespace: b, name: s}, spec: \
                   {clusterIP: 172.30.0.9, ports: [{port: 80}]}}\n";
    let set = policy_of(&format!("{networks}{service}"));
    assert_eq!(verdict(&set, "a/cli", "172.30.0.9", "tcp/80"), "VNID");
    assert_eq!(verdict(&set, "d/web", "172.30.0.9", "tcp/80"), "allow");
    let stage = &set
        .stages
        .iter()
        .find(|one| one.kind == StageKind::ProjectIsolation);
    // One rule a private network, two for the global one, one for the rest, two for multicast.
    assert_eq!(stage.unwrap().len(), 2 + 2 + 1 + 2);
}

#[test]
fn the_plugin_decides_what_is_live() {
    let networks = net_namespace("a", 10, "") + &net_namespace("b", 11, "");
    let isolated = "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: \
                    {namespace: b, name: p}, spec: {podSelector: {}}}\n";
    let text = format!("{networks}{isolated}{}", egress_policy("a", "p", DENY_ALL));
    for (plugin, same, other, outside) in [
        ("", "allow", "VNID", "ENP"),
        ("multitenant", "allow", "VNID", "ENP"),
        ("networkpolicy", "allow", "NP", "ENP"),
        ("subnet", "allow", "allow", "allow"),
    ] {
        let named = match plugin {
            "" => String::new(),
            _ => format!(", pluginName: redhat/openshift-ovs-{plugin}"),
        };
        let text = cluster_of(&PODS, &text);
        let by_network = text.replacen(
            "metadata: {name: default}",
            &format!("metadata: {{name: default}}{named}"),
            1,
        );
        let mut sets = vec![policy(&by_network)];
        if !plugin.is_empty() {
            sets.push(policy_with(&text, &switched("plugin", plugin)));
        }
        for set in sets {
            assert_eq!(
                verdict(&set, "a/cli", "a/other", "tcp/80"),
                same,
                "{plugin}"
            );
            assert_eq!(verdict(&set, "a/cli", "b/web", "tcp/80"), other, "{plugin}");
            assert_eq!(
                verdict(&set, "a/cli", "203.0.113.9", "tcp/80"),
                outside,
                "{plugin}"
            );
        }
    }
    // A switch overrules the ClusterNetwork; unnumbered projects are apart under multitenant.
    let named = CLUSTER.replacen(
        "metadata: {name: default}",
        "metadata: {name: default}, pluginName: redhat/openshift-ovs-subnet",
        1,
    );
    let text = cluster_of(&PODS, "").replacen(CLUSTER, &named, 1);
    let multitenant = switched("plugin", "multitenant");
    let set = policy_with(&text, &multitenant);
    assert_eq!(verdict(&set, "a/cli", "b/web", "tcp/80"), "allow");
    let one = format!("{text}{}", net_namespace("a", 10, ""));
    let set = policy_with(&one, &multitenant);
    assert_eq!(verdict(&set, "a/cli", "b/web", "tcp/80"), "VNID");
    assert_eq!(verdict(&set, "c/web", "b/web", "tcp/80"), "VNID");
    assert_eq!(verdict(&set, "default/infra", "b/web", "tcp/80"), "allow");
    assert_eq!(verdict(&policy(&one), "a/cli", "b/web", "tcp/80"), "allow");
    let warnings = findings(&text.replace("ovs-subnet", "ovs-other"));
    assert!(
        warnings[0].contains("\"redhat/openshift-ovs-other\" is no plugin"),
        "{warnings:?}"
    );
}

#[test]
fn changes_of_networks_are_made_in_order_or_refused() {
    let change = |name: &str, vnid, text: &str| {
        let key = "pod.network.openshift.io/multitenant.change-network";
        net_namespace(name, vnid, &format!("annotations: {{{key}: '{text}'}}"))
    };
    let (a, b, c) = (
        net_namespace("a", 10, ""),
        net_namespace("b", 11, ""),
        net_namespace("c", 10, ""),
    );
    for (objects, reach_b, reach_c) in [
        (format!("{a}{b}{c}"), "VNID", "allow"),
        (
            format!("{a}{}{c}", change("b", 11, "join:a")),
            "allow",
            "allow",
        ),
        (
            format!("{a}{}{c}", change("b", 11, "global")),
            "allow",
            "allow",
        ),
        (
            format!("{a}{b}{}", change("c", 10, "isolate")),
            "VNID",
            "VNID",
        ),
        (
            format!("{a}{}{c}", change("b", 11, "isolate")),
            "VNID",
            "allow",
        ),
        // b joins what a has been made before; then a alone goes on.
        (
            format!(
                "{}{}{c}",
                change("a", 10, "isolate"),
                change("b", 11, "join:a")
            ),
            "allow",
            "VNID",
        ),
        (
            format!(
                "{}{}{c}",
                change("b", 11, "join:a"),
                change("a", 10, "isolate")
            ),
            "VNID",
            "VNID",
        ),
    ] {
        let set = policy_of(&objects);
        assert_eq!(
            verdict(&set, "a/cli", "b/web", "tcp/80"),
            reach_b,
            "{objects}"
        );
        assert_eq!(
            verdict(&set, "a/cli", "c/web", "tcp/80"),
            reach_c,
            "{objects}"
        );
    }
    for (object, reason) in [
        (
            change("b", 11, "join"),
            "invalid namespace for join pod network: join",
        ),
        (
            change("b", 11, "join:nobody"),
            "netid not found for namespace \"nobody\"",
        ),
        (
            change("b", 11, "merge"),
            "invalid ChangePodNetworkAnnotation: merge",
        ),
        (
            change("default", 0, "isolate"),
            "network isolation for namespace \"default\" is not allowed",
        ),
        (
            change("default", 0, "join:a"),
            "the project default always has netid 0",
        ),
    ] {
        let loaded = load_text(&cluster_of(&PODS, &format!("{a}{object}")));
        assert!(loaded.policy.is_none(), "{object}");
        let found: Vec<_> = loaded.findings.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        let wanted = format!("{reason} [network-change-refused]");
        assert!(found[0].contains(": error: "), "{found:?}");
        assert!(found[0].ends_with(&wanted), "{found:?}");
    }
    let default = net_namespace("default", 12, "");
    let found = findings(&cluster_of(&PODS, &format!("{a}{default}")));
    let message = "no effect: the project default always has 0, not 12";
    assert!(found[0].contains(": warning: ") && found[0].contains(message));
    let text = cluster_of(&PODS, &format!("{a}{}", change("b", 11, "join:a")));
    for plugin in ["networkpolicy", "subnet"] {
        let loaded = load_with(&text, &switched("plugin", plugin));
        let message = "network plugin does not allow NetNamespace renumbering";
        let mut findings = loaded.findings.iter();
        assert!(findings.any(|finding| finding.message == message));
        assert!(loaded.policy.is_none());
    }
}

#[test]
fn multicast_stays_within_a_network_all_of_whose_projects_want_it() {
    let wants = |name: &str, vnid, text: &str| {
        let key = "netnamespace.network.openshift.io/multicast-enabled";
        net_namespace(name, vnid, &format!("annotations: {{{key}: '{text}'}}"))
    };
    let delivered = |set: &PolicySet, from: &str, to: &str| {
        let receiver = key(set, "203.0.113.9", to, "udp/5353", Family::V4).destination;
        let packet = PolicyKey {
            receiver: Some(receiver),
            ..PolicyKey::from(key(set, from, "239.1.2.3", "udp/5353", Family::V4))
        };
        let decision = set.evaluate(packet);
        let naive = naive::evaluate(set, packet);
        let denied_by = decision.denial().map(|one| (one.family(), one.direction()));
        assert_eq!(
            (decision.verdict(), denied_by),
            (naive.verdict, naive.denied_by)
        );
        assert!(
            denied_by.is_none_or(|(family, _)| family == "VNID"),
            "{denied_by:?}"
        );
        decision.allow
    };
    let own = wants("a", 10, "true");
    let set = policy_of(&format!(
        "{own}{}{}",
        wants("b", 11, "true"),
        wants("c", 12, "True")
    ));
    assert!(delivered(&set, "a/cli", "a/other"));
    assert!(!delivered(&set, "a/cli", "b/web"));
    assert!(!delivered(&set, "c/web", "c/web"));
    assert!(!delivered(&set, "203.0.113.9", "a/cli"));
    assert!(!delivered(&set, "192.168.1.5", "a/cli"));
    // Every project of a joined network must want it.
    let set = policy_of(&format!("{own}{}", net_namespace("b", 10, "")));
    assert!(!delivered(&set, "a/cli", "a/other"));
    let set = policy_of(&format!("{own}{}", wants("b", 10, "true")));
    assert!(delivered(&set, "a/cli", "b/web"));
    // Global projects reach global ones alone, and `default` is one of them.
    let global = wants("a", 0, "true") + &wants("d", 0, "true");
    let set = policy_of(&format!("{global}{}", wants("b", 11, "true")));
    assert!(!delivered(&set, "a/cli", "d/web"));
    let set = policy_of(&format!("{global}{}", wants("default", 0, "true")));
    assert!(delivered(&set, "a/cli", "d/web"));
    assert!(!delivered(&set, "a/cli", "b/web"));
    // A list for what leaves the cluster does not see it; neither does isolation by policy.
    let closed = "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: \
                  {namespace: a, name: p}, spec: {podSelector: {}}}\n";
    let set = policy_of(&format!(
        "{own}{closed}{}",
        egress_policy("a", "p", DENY_ALL)
    ));
    assert!(delivered(&set, "a/cli", "a/other"));
    let text = cluster_of(&PODS, &own);
    let set = policy_with(&text, &switched("plugin", "subnet"));
    assert!(!delivered(&set, "a/cli", "a/other"));
    let set = policy_with(&text, &switched("plugin", "networkpolicy"));
    assert!(delivered(&set, "a/cli", "a/other"));
    // To a group, nobody known behind it.
    let set = policy(&text);
    assert_eq!(verdict(&set, "a/cli", "239.1.2.3", "udp/5353"), "allow");
    assert_eq!(verdict(&set, "b/web", "239.1.2.3", "udp/5353"), "VNID");
    let found = findings(&cluster_of(&PODS, &wants("a", 10, "True")));
    assert!(
        found[0].contains("only \"true\" lets multicast in"),
        "{found:?}"
    );
}

#[test]
fn egress_addresses_are_hosted_by_exactly_one_node_or_traffic_is_dropped() {
    let wants = |name: &str, vnid, addresses: &str| {
        net_namespace(name, vnid, &format!("egressIPs: [{addresses}]"))
    };
    let (x, y) = ("192.168.1.100", "192.168.1.101");
    let both = format!("{x}, {y}");
    let off = "---\n{apiVersion: v1, kind: Node, metadata: {name: n3}, status: {addresses: [{type: \
               InternalIP, address: 192.168.1.7}], conditions: [{type: Ready, status: Unknown}]}}\n";
    for (objects, expected, source) in [
        (net_namespace("a", 10, ""), "allow", "192.168.1.5"),
        (wants("a", 10, ""), "allow", "192.168.1.5"),
        (wants("a", 10, x) + &host_subnet("n2", 6, x), "allow", x),
        (wants("a", 10, x), "egressIP", "dropped"),
        (
            wants("a", 10, x) + &host_subnet("n2", 6, y),
            "egressIP",
            "dropped",
        ),
        (wants("a", 10, &both) + &host_subnet("n2", 6, y), "allow", y),
        (
            wants("a", 10, x) + &host_subnet("n2", 6, x) + &host_subnet("n4", 8, x),
            "egressIP",
            "dropped",
        ),
        (
            wants("a", 10, &both)
                + &wants("b", 11, x)
                + &host_subnet("n2", 6, x)
                + &host_subnet("n4", 8, y),
            "egressIP",
            "dropped",
        ),
        (
            wants("a", 10, &both) + &host_subnet("n2", 6, &both),
            "egressIP",
            "dropped",
        ),
        (
            wants("a", 10, x) + off + &host_subnet("n3", 7, x),
            "egressIP",
            "dropped",
        ),
        (
            wants("a", 10, &both) + off + &host_subnet("n3", 7, x) + &host_subnet("n2", 6, y),
            "allow",
            y,
        ),
        (
            wants("a", 10, &both) + &host_subnet("n4", 8, x) + &host_subnet("n2", 6, y),
            "allow",
            x,
        ),
    ] {
        let set = policy_of(&objects);
        let to = "203.0.113.9";
        assert_eq!(verdict(&set, "a/cli", to, "tcp/443"), expected, "{objects}");
        let after = source_after(&set, &key(&set, "a/cli", to, "tcp/443", Family::V4));
        let after = match after {
            SourceAfter::Node(address) => address.to_string(),
            SourceAfter::Egress(all) => all[0].to_string(),
            SourceAfter::Dropped => "dropped".into(),
            SourceAfter::Own => "own".into(),
        };
        assert_eq!(after, source, "{objects}");
        for (to, probe) in [
            ("192.168.1.5", "udp/53"),
            ("a/other", "tcp/80"),
            ("172.30.0.1", "tcp/80"),
        ] {
            assert_eq!(verdict(&set, "a/cli", to, probe), "allow", "{objects} {to}");
            let after = source_after(&set, &key(&set, "a/cli", to, probe, Family::V4));
            assert_eq!(after, SourceAfter::Own, "{objects} {to}");
        }
    }
    let both_drop = wants("a", 10, x)
        + &wants("b", 11, &both)
        + &host_subnet("n2", 6, x)
        + &host_subnet("n4", 8, y);
    let set = policy_of(&both_drop);
    assert_eq!(verdict(&set, "b/web", "203.0.113.9", "tcp/443"), "egressIP");
    // The list is asked first, and is reported.
    let text = wants("a", 10, x) + &egress_policy("a", "p", DENY_ALL);
    assert_eq!(
        verdict(&policy_of(&text), "a/cli", "203.0.113.9", "tcp/443"),
        "ENP"
    );
    let set = policy_of(&wants("a", 10, x));
    assert_eq!(verdict(&set, "a/cli", "192.168.1.5", "udp/123"), "egressIP");
    let found = findings(&cluster_of(&PODS, &wants("a", 10, x)));
    assert!(
        found[0].contains("are dropped: no node has 192.168.1.100"),
        "{found:?}"
    );
}

#[test]
fn families_are_combined_and_the_first_denial_is_reported() {
    let networks = net_namespace("a", 10, "") + &net_namespace("b", 11, "");
    let egress = "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: \
                  {namespace: a, name: p}, spec: {podSelector: {}, policyTypes: [Egress], egress: \
                  [{ports: [{port: 53}]}]}}\n";
    let allow = "{type: Allow, to: {cidrSelector: 203.0.113.0/24}}";
    let set = policy_of(&format!(
        "{networks}{egress}{}",
        egress_policy("a", "p", allow)
    ));
    assert_eq!(verdict(&set, "a/cli", "203.0.113.9", "tcp/443"), "NP");
    assert_eq!(verdict(&set, "a/cli", "b/web", "tcp/80"), "NP");
    let set = policy_of(&networks);
    assert_eq!(verdict(&set, "a/cli", "b/web", "tcp/80"), "VNID");
    // What the cluster's administrator accepts is still kept apart, and still on the list.
    let accept = "---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, \
                  metadata: {name: p}, spec: {priority: 5, subject: {namespaces: {}}, egress: \
                  [{action: Allow, to: [{networks: [203.0.113.0/24]}]}], ingress: [{action: Allow, \
                  from: [{namespaces: {}}]}]}}\n";
    let set = policy_of(&format!(
        "{networks}{accept}{}",
        egress_policy("a", "p", DENY_ALL)
    ));
    assert_eq!(verdict(&set, "a/cli", "203.0.113.9", "tcp/443"), "ENP");
    assert_eq!(verdict(&set, "a/cli", "b/web", "tcp/80"), "VNID");
    let deny = accept.replace("action: Allow", "action: Deny");
    let set = policy_of(&format!("{deny}{}", egress_policy("a", "p", DENY_ALL)));
    assert_eq!(verdict(&set, "a/cli", "203.0.113.9", "tcp/443"), "Admin");
}

#[test]
fn the_administrators_list_is_asked_of_what_leaves_the_cluster_last() {
    let rules = "{name: log-all, action: continue, log: true}, \
                 {name: mail, to: [203.0.113.0/24], protocol: TCP, ports: [{port: 25}, \
                 {port: 465, endPort: 587}], action: drop, \
                 rate_limit: {connections_per_second: 5, burst: 10}}, \
                 {name: friends, from: [10.128.0.11/32], action: accept}, \
                 {name: rest, to: [203.0.113.9/32], action: drop}";
    let list = |rules: &str| {
        format!(
            "---\n{{apiVersion: portcullis.io/v1alpha1, kind: AdminOutputRules, metadata: {{name: \
             all}}, spec: {{rules: [{rules}]}}}}\n"
        )
    };
    let set = policy_of(&list(rules));
    for (from, to, probe, expected) in [
        ("a/cli", "203.0.113.8", "tcp/25", "AdminOutput"),
        ("a/cli", "203.0.113.8", "tcp/500", "AdminOutput"),
        ("a/cli", "203.0.113.8", "tcp/26", "allow"),
        ("a/cli", "203.0.113.8", "udp/25", "allow"),
        ("b/web", "203.0.113.9", "udp/25", "AdminOutput"),
        ("a/other", "203.0.113.9", "udp/25", "allow"),
        ("a/other", "203.0.113.9", "tcp/25", "AdminOutput"),
        ("203.0.113.9", "a/cli", "tcp/25", "allow"),
        ("a/cli", "b/web", "tcp/25", "allow"),
    ] {
        assert_eq!(
            verdict(&set, from, to, probe),
            expected,
            "{from} {to} {probe}"
        );
    }
    let set = policy_of(&list("{name: all, action: drop}"));
    assert_eq!(verdict(&set, "a/cli", "192.168.1.5", "tcp/22"), "allow");
    assert_eq!(
        verdict(&set, "a/cli", "192.168.1.6", "tcp/22"),
        "AdminOutput"
    );
    let set = policy_of(&list(rules));
    let stage = set
        .stages
        .iter()
        .find(|one| one.kind == StageKind::AdminOutput);
    let effects = &stage.unwrap().shards()[0].effects;
    assert_eq!(effects.len(), 2);
    assert_eq!(effects[0].1.rate_limit.unwrap().burst, 10);
    let found = findings(&cluster_of(&PODS, &list(rules)));
    assert!(found.is_empty(), "{found:?}");
    let found = findings(&cluster_of(&PODS, &list("{name: a, action: continue}")));
    let nothing = "spec.rules[0].action: no effect: a rule that continues and does not log";
    assert!(found[0].contains(nothing), "{found:?}");
    let acting = stage.unwrap().acting().unwrap();
    // The first tells and decides nothing; the second is one rule for each range of ports.
    assert_eq!(acting.effects.len(), 2);
    assert!(acting.effects[0].1 && acting.effects[0].0.log && !acting.effects[1].1);
    let by_rule = acting.by_rule.iter().flatten();
    assert_eq!(by_rule.copied().collect::<Vec<_>>(), [0, 1, 1]);
    let denied = policy_of(&format!(
        "{}{}",
        list(rules),
        egress_policy("a", "p", DENY_ALL)
    ));
    assert_eq!(verdict(&denied, "a/cli", "203.0.113.9", "tcp/25"), "ENP");
    for (rule, expected) in [
        ("{action: drop}", "spec.rules[0].name: Required value"),
        ("{name: a}", "spec.rules[0].action: Required value"),
        (
            "{name: a, action: deny}",
            "spec.rules[0].action: Unsupported value: \"deny\": supported values: \"drop\", \"accept\", \
             \"continue\"",
        ),
        (
            "{name: a, action: drop, ports: [{port: 80}]}",
            "spec.rules[0].ports: Forbidden: may be given only where protocol is TCP, UDP or SCTP",
        ),
        (
            "{name: a, action: drop, to: []}",
            "spec.rules[0].to: Required value: an empty list is neither all nor none",
        ),
        (
            "{name: a, action: drop, rate_limit: {connections_per_second: 0}}",
            "spec.rules[0].rate_limit.connections_per_second: Invalid value: 0: must be greater than \
             or equal to 1",
        ),
        (
            "{name: a, action: drop}, {name: a, action: accept}",
            "spec.rules[1].name: Duplicate value: \"a\"",
        ),
        (
            "{name: a, action: drop, protocol: TCP, ports: [{port: 80, endPort: 79}]}",
            "spec.rules[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to \
             `port`",
        ),
    ] {
        assert_eq!(
            errors(&list(rule), &Compatibility::default()),
            [expected],
            "{rule}"
        );
    }
}
