//! SecurityGroup: worked verdicts, validation, and what is said of groups that do little.

use super::*;

/// The pods all groups of these tests are about; `groups` is what `a/p` is bound to.
fn pods(groups: &str) -> String {
    let pod = |name: &str, address: &str, groups: &str| {
        let v6 = address.rsplit('.').next().unwrap();
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: a, name: {name}, \
             annotations: {{ovn.kubernetes.io/security_groups: '{groups}'}}}}, \
             status: {{podIPs: [{{ip: {address}}}, {{ip: 'fd00::{v6}'}}]}}}}\n"
        )
    };
    [
        pod("p", "10.16.0.15", groups),
        pod("thirteen", "10.16.0.13", ""),
        pod("fourteen", "10.16.0.14", ""),
        pod("member", "10.16.0.20", "sg-example"),
    ]
    .concat()
}

fn group(name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: kubeovn.io/v1, kind: SecurityGroup, metadata: {{name: {name}}}, \
             spec: {spec}}}\n"
    )
}

/// A rule about all of IPv4, `fields` aside.
fn rule(policy: &str, priority: u32, fields: &str) -> String {
    let remote = match fields.contains("remote") {
        true => "",
        false => ", remoteType: address, remoteAddress: 0.0.0.0/0",
    };
    let protocol = match fields.contains("protocol") {
        true => "",
        false => ", protocol: all",
    };
    let fields = match fields {
        "" => String::new(),
        fields => format!(", {fields}"),
    };
    format!("{{ipVersion: ipv4, policy: {policy}, priority: {priority}{remote}{protocol}{fields}}}")
}

fn tcp(first: u16, last: u16) -> String {
    format!("protocol: tcp, portRangeMin: {first}, portRangeMax: {last}")
}

const EXAMPLE: &str = "
---
apiVersion: kubeovn.io/v1
kind: SecurityGroup
metadata:
  name: sg-example
spec:
  allowSameGroupTraffic: true
  egressRules:
  - {ipVersion: ipv4, policy: allow, priority: 1, protocol: all,
     remoteAddress: 10.16.0.13, remoteType: address}
  ingressRules:
  - {ipVersion: ipv4, policy: deny, priority: 1, protocol: icmp,
     remoteAddress: 10.16.0.14, remoteType: address}
";

fn set(groups: &str, objects: &str) -> PolicySet {
    policy(&(pods(groups) + objects))
}

fn compat(switches: &[(&str, &str)]) -> Compatibility {
    let mut compatibility = Compatibility::default();
    for (switch, value) in switches {
        compatibility.set(switch, value).unwrap();
    }
    compatibility
}

/// IPv4, whoever the ends are.
fn v4(set: &PolicySet, from: &str, to: &str, probe: &str) -> bool {
    passes_in(set, from, to, probe, Family::V4)
}

/// As [`v4`], with a source port.
fn with_source_port(set: &PolicySet, from: &str, to: &str, probe: &str, source_port: u16) -> bool {
    let family = if from.contains(':') || to.contains(':') {
        Family::V6
    } else {
        Family::V4
    };
    let key = FlowKey {
        source_port,
        ..key(set, from, to, probe, family)
    };
    let decision = set.evaluate(key);
    assert_eq!(
        decision.verdict(),
        naive::evaluate(set, key).verdict,
        "{key}"
    );
    decision.allow
}

#[test]
fn the_example_of_the_documentation() {
    let set = set("sg-example", EXAMPLE);
    assert!(v4(&set, "a/p", "a/thirteen", "tcp/80"));
    // A group that lets a pod out lets nobody in.
    assert!(!v4(&set, "a/thirteen", "a/p", "tcp/80"));
    assert!(!v4(&set, "a/fourteen", "a/p", "icmp"));
    // To deny some is not to allow the rest.
    assert!(!v4(&set, "a/fourteen", "a/p", "tcp/80"));
    // The gateway's ping, without which the pod never becomes ready.
    assert!(!v4(&set, "a/p", "10.16.0.1", "icmp"));
    // Members, both ways, of both families.
    assert!(passes(&set, "a/member", "a/p", "udp/53"));
    assert!(passes(&set, "a/p", "a/member", "ip47"));
    // The other direction of both pods that are in no group.
    assert!(passes(&set, "a/thirteen", "a/fourteen", "tcp/80"));
    // The first denial is the group's.
    let key = key(&set, "a/thirteen", "a/p", "tcp/80", Family::V4);
    let denied = set.evaluate(key);
    assert_eq!(
        denied.denial().unwrap().kind,
        StageKind::SecurityGroupIngress
    );
}

#[test]
fn a_rule_beats_what_members_may() {
    let pods = pods("sg-example").replace(
        "name: fourteen, annotations: {ovn.kubernetes.io/security_groups: ''}",
        "name: fourteen, annotations: {ovn.kubernetes.io/security_groups: 'sg-example'}",
    );
    let set = policy(&(pods + EXAMPLE));
    assert!(!v4(&set, "a/fourteen", "a/p", "icmp"));
    assert!(v4(&set, "a/fourteen", "a/p", "tcp/80"));
}

#[test]
fn dhcp_and_vrrp_pass_unless_a_rule_denies_them() {
    let bare = set("sg-example", EXAMPLE);
    let deny = group(
        "sg-example",
        &format!("{{egressRules: [{}]}}", rule("drop", 9, "")),
    );
    let denied = set("sg-example", &deny);
    for (from, to, probe, source_port) in [
        ("a/p", "10.16.0.2", "udp/67", 68),
        ("10.16.0.2", "a/p", "udp/68", 67),
        ("a/p", "fd00::2", "udp/547", 546),
        ("fd00::2", "a/p", "udp/546", 547),
        ("a/p", "10.16.0.2", "ip112", 40000),
        ("10.16.0.2", "a/p", "ip112", 40000),
    ] {
        assert!(
            with_source_port(&bare, from, to, probe, source_port),
            "{from} {to} {probe}"
        );
        let egress_v4 = from == "a/p" && !to.contains(':');
        let passes = with_source_port(&denied, from, to, probe, source_port);
        assert_eq!(passes, !egress_v4, "{from} {to} {probe}");
    }
    for (from, to, probe, source_port) in [
        ("a/p", "10.16.0.2", "udp/67", 67),
        ("a/p", "10.16.0.2", "udp/68", 67),
        ("10.16.0.2", "a/p", "udp/67", 68),
        ("a/p", "10.16.0.2", "udp/547", 546),
        ("a/p", "fd00::2", "udp/67", 68),
        ("a/p", "10.16.0.2", "udp/53", 40000),
    ] {
        assert!(
            !with_source_port(&bare, from, to, probe, source_port),
            "{from} {to} {probe}"
        );
    }
}

#[test]
fn discovery_is_beyond_groups_and_other_icmpv6_is_not() {
    let set = set("sg-example", &group("sg-example", "{}"));
    let ping = key(&set, "a/p", "fd00::1", "icmp", Family::V6);
    for (icmp_type, hop_limit, expected) in [
        (135, 255, true),
        (136, 255, true),
        (133, 255, true),
        (134, 255, true),
        (143, 1, true),
        (135, 64, false),
        (136, 1, false),
        (128, 255, false),
    ] {
        let mut packet = PolicyKey::from(FlowKey {
            destination_port: FlowKey::icmp_port(icmp_type, 0),
            ..ping
        });
        packet.hop_limit = Some(hop_limit);
        assert_eq!(
            set.evaluate(packet).allow,
            expected,
            "{icmp_type} {hop_limit}"
        );
        let naive = naive::evaluate(&set, packet).verdict;
        assert_eq!(
            naive == RuleVerdict::Allow,
            expected,
            "{icmp_type} {hop_limit}"
        );
    }
}

#[test]
fn one_group_without_rules_closes_both_ways() {
    let set = set("empty", &group("empty", "{}"));
    assert!(!v4(&set, "a/p", "203.0.113.9", "tcp/80"));
    assert!(!v4(&set, "203.0.113.9", "a/p", "tcp/80"));
    assert!(passes(&set, "a/thirteen", "a/fourteen", "tcp/80"));
}

#[test]
fn groups_that_are_all_unknown_close_or_open() {
    let text = pods("gone, lost") + EXAMPLE;
    for (mode, open) in [("closed", false), ("open", true)] {
        let set = policy_with(&text, &compat(&[("sg_unknown_groups", mode)]));
        assert_eq!(v4(&set, "a/p", "203.0.113.9", "tcp/80"), open, "{mode}");
        assert_eq!(v4(&set, "203.0.113.9", "a/p", "tcp/80"), open, "{mode}");
    }
    // One that exists decides alone, blanks or not.
    let text = pods("gone, sg-example") + EXAMPLE;
    for mode in ["closed", "open"] {
        let set = policy_with(&text, &compat(&[("sg_unknown_groups", mode)]));
        assert!(v4(&set, "a/p", "a/thirteen", "tcp/80"), "{mode}");
        assert!(!v4(&set, "a/p", "a/fourteen", "tcp/80"), "{mode}");
    }
}

#[test]
fn words_nobody_defined_are_refused_or_taken_as_upstream() {
    let odd = |policy: &str, protocol: &str| {
        let fields = format!("protocol: {protocol}, portRangeMin: 80, portRangeMax: 80");
        pods("g")
            + &group(
                "g",
                &format!("{{ingressRules: [{}]}}", rule(policy, 1, &fields)),
            )
    };
    let upstream = compat(&[("sg_unknown_strings", "upstream")]);
    for protocol in ["TCP", "sctp", "icmpv6", "''"] {
        let set = policy_with(&odd("allow", protocol), &upstream);
        assert!(v4(&set, "203.0.113.9", "a/p", "udp/53"), "{protocol}");
        assert!(!v4(&set, "a/p", "203.0.113.9", "udp/53"), "{protocol}");
    }
    for word in ["Allow", "permit", "''", "drop", "deny"] {
        let set = policy_with(&odd(word, "tcp"), &upstream);
        assert!(!v4(&set, "203.0.113.9", "a/p", "tcp/80"), "{word}");
    }
    for (policy, protocol) in [
        ("Allow", "tcp"),
        ("allow", "TCP"),
        ("allow", "sctp"),
        ("''", "tcp"),
    ] {
        assert!(
            load_text(&odd(policy, protocol)).policy.is_none(),
            "{policy} {protocol}"
        );
    }
    for (policy, protocol) in [
        ("deny", "tcp"),
        ("drop", "all"),
        ("allow", "''"),
        ("pass", "icmp"),
    ] {
        assert!(
            load_text(&odd(policy, protocol)).policy.is_some(),
            "{policy} {protocol}"
        );
    }
}

#[test]
fn the_groups_of_a_pod_are_one_list() {
    let allow = group(
        "sg-a",
        &format!("{{ingressRules: [{}]}}", rule("allow", 10, &tcp(80, 80))),
    );
    let deny = group(
        "sg-b",
        &format!("{{ingressRules: [{}]}}", rule("drop", 5, "")),
    );
    let set = set("sg-a,sg-b", &(allow.clone() + &deny));
    assert!(!v4(&set, "203.0.113.9", "a/p", "tcp/80"));
    let weaker = deny.replace("priority: 5", "priority: 11");
    let set = self::set("sg-a,sg-b", &(allow.clone() + &weaker));
    assert!(v4(&set, "203.0.113.9", "a/p", "tcp/80"));
    assert!(!v4(&set, "203.0.113.9", "a/p", "tcp/81"));
    // Equally strong: drop before pass before allow.
    for (policy, open) in [("drop", false), ("pass", false), ("allow", true)] {
        let same = deny.replace(
            "policy: drop, priority: 5",
            &format!("policy: {policy}, priority: 10"),
        );
        let set = self::set("sg-a,sg-b", &(allow.clone() + &same));
        assert_eq!(v4(&set, "203.0.113.9", "a/p", "tcp/80"), open, "{policy}");
    }
}

#[test]
fn same_group_traffic_is_of_the_group_that_allows_it() {
    let open = group("sg-example", "{allowSameGroupTraffic: true}");
    let other = group("sg-b", "{}");
    let text = pods("sg-example,sg-b") + &open + &other;
    let text = text.replace(
        "name: fourteen, annotations: {ovn.kubernetes.io/security_groups: ''}",
        "name: fourteen, annotations: {ovn.kubernetes.io/security_groups: 'sg-b'}",
    );
    let set = policy(&text);
    assert!(passes(&set, "a/p", "a/member", "tcp/80"));
    assert!(!v4(&set, "a/fourteen", "a/p", "tcp/80"));
}

/// The worked example of tiers: tier 0 passes what comes from the pods' network on, tier 1 allows
/// the ports.
fn tiers() -> String {
    let upper = rule(
        "pass",
        1,
        "remoteType: address, remoteAddress: 10.16.0.0/16",
    );
    let lower = rule("allow", 1, &tcp(80, 443));
    group("upper", &format!("{{ingressRules: [{upper}]}}"))
        + &group("lower", &format!("{{tier: 1, ingressRules: [{lower}]}}"))
}

#[test]
fn tier_1_is_reached_by_pass_alone() {
    let set = set("lower", &tiers());
    assert!(!v4(&set, "10.16.0.9", "a/p", "tcp/80"));
    assert!(with_source_port(&set, "10.16.0.2", "a/p", "udp/68", 67));
    let set = self::set("upper,lower", &tiers());
    assert!(!v4(&set, "10.16.0.9", "a/p", "tcp/8080"));
    assert!(v4(&set, "10.16.0.9", "a/p", "tcp/443"));
    assert!(!v4(&set, "203.0.113.9", "a/p", "tcp/443"));
    // Passed on to nothing.
    let set = self::set("upper", &tiers());
    assert!(!v4(&set, "10.16.0.9", "a/p", "tcp/443"));
    // The base list is in tier 1 too, and same-group traffic in the group's own tier.
    let set = self::set(
        "upper,lower",
        &tiers().replace("{tier: 1,", "{tier: 1, allowSameGroupTraffic: true,"),
    );
    assert!(with_source_port(&set, "10.16.0.2", "a/p", "udp/68", 67));
    let set = self::set("upper", &tiers());
    assert!(with_source_port(&set, "10.16.0.2", "a/p", "udp/68", 67));
}

#[test]
fn same_group_traffic_of_tier_1_needs_the_pass_too() {
    let member = |text: &str| text.replace("groups: 'sg-example'", "groups: 'upper,lower'");
    let tiers = tiers().replace("{tier: 1,", "{tier: 1, allowSameGroupTraffic: true,");
    let set = policy(&(member(&pods("upper,lower")) + &tiers + EXAMPLE));
    // The member's own egress is closed: asked from its address as if from outside.
    let key = key(&set, "a/member", "a/p", "udp/53", Family::V4);
    let decision = set.evaluate(key);
    assert_eq!(decision.denial().unwrap().direction(), Direction::Egress);
    let ingress = decision.opinions.iter();
    let ingress = ingress.filter(|opinion| opinion.direction() == Direction::Ingress);
    assert!(
        ingress
            .clone()
            .all(|opinion| opinion.verdict != RuleVerdict::Deny)
    );
    assert_eq!(
        ingress
            .filter(|opinion| opinion.verdict == RuleVerdict::Allow)
            .count(),
        1
    );
}

#[test]
fn icmp_is_of_its_family_and_ports_of_theirs() {
    let v6 = rule(
        "allow",
        1,
        "remoteType: address, remoteAddress: '::/0', protocol: icmp",
    );
    let v6 = v6.replace("ipv4", "ipv6");
    let v4_rule = rule(
        "allow",
        2,
        "protocol: udp, portRangeMin: 53, portRangeMax: 54",
    );
    let set = set(
        "g",
        &group("g", &format!("{{egressRules: [{v6}, {v4_rule}]}}")),
    );
    assert!(passes_in(&set, "a/p", "fd00::1", "icmp", Family::V6));
    assert!(!v4(&set, "a/p", "10.16.0.1", "icmp"));
    assert!(!passes_in(&set, "a/p", "fd00::1", "ip1", Family::V6));
    assert!(v4(&set, "a/p", "10.16.0.1", "udp/53") && v4(&set, "a/p", "10.16.0.1", "udp/54"));
    assert!(!v4(&set, "a/p", "10.16.0.1", "udp/55") && !v4(&set, "a/p", "10.16.0.1", "tcp/53"));
    assert!(!passes_in(&set, "a/p", "fd00::1", "udp/53", Family::V6));
}

#[test]
fn host_bits_do_not_count_and_local_addresses_and_source_ports_do() {
    let host_bits = "remoteType: address, remoteAddress: 10.10.10.12/24";
    let set = set(
        "g",
        &group(
            "g",
            &format!("{{ingressRules: [{}]}}", rule("allow", 1, host_bits)),
        ),
    );
    assert!(v4(&set, "10.10.10.200", "a/p", "tcp/80"));
    assert!(!v4(&set, "10.10.11.1", "a/p", "tcp/80"));
    let local = |address: &str, sources: &str| {
        let fields = format!("{}, localAddress: {address}{sources}", tcp(80, 80));
        self::set(
            "g",
            &group(
                "g",
                &format!("{{ingressRules: [{}]}}", rule("allow", 1, &fields)),
            ),
        )
    };
    let sources = ", sourcePortRangeMin: 1024, sourcePortRangeMax: 2048";
    let set = local("10.16.0.0/28", sources);
    assert!(with_source_port(&set, "203.0.113.9", "a/p", "tcp/80", 2048));
    assert!(!with_source_port(
        &set,
        "203.0.113.9",
        "a/p",
        "tcp/80",
        2049
    ));
    let set = local("10.16.0.0/29", sources);
    assert!(!with_source_port(
        &set,
        "203.0.113.9",
        "a/p",
        "tcp/80",
        2048
    ));
    // Source ports without a local address are ignored.
    let fields = format!("{}{sources}", tcp(80, 80));
    let set = self::set(
        "g",
        &group(
            "g",
            &format!("{{ingressRules: [{}]}}", rule("allow", 1, &fields)),
        ),
    );
    assert!(with_source_port(
        &set,
        "203.0.113.9",
        "a/p",
        "tcp/80",
        40000
    ));
}

#[test]
fn a_group_as_the_other_end_is_its_members() {
    let from = "remoteType: securityGroup, remoteSecurityGroup: sg-example";
    let spec = format!("{{ingressRules: [{}]}}", rule("allow", 1, from));
    let open_out = rule("allow", 1, "");
    let out = format!("{{egressRules: [{open_out}]}}");
    let set = set("g", &(group("g", &spec) + &group("sg-example", &out)));
    assert!(v4(&set, "a/member", "a/p", "tcp/80"));
    assert!(!v4(&set, "a/thirteen", "a/p", "tcp/80"));
    assert!(!passes_in(&set, "a/member", "a/p", "tcp/80", Family::V6));
    // Itself, without the field for it.
    let itself = from.replace("sg-example", "g");
    let spec = format!(
        "{{ingressRules: [{}], egressRules: [{open_out}]}}",
        rule("allow", 1, &itself)
    );
    let text = pods("g").replace("'sg-example'", "'g'") + &group("g", &spec);
    let set = policy(&text);
    assert!(v4(&set, "a/member", "a/p", "tcp/80"));
    // A group without members is nobody.
    let none = group(
        "g",
        &spec.replace("securityGroup: g", "securityGroup: none"),
    );
    let nobody = self::set(
        "g",
        &(none.replace("remoteSecurityGroup: g", "remoteSecurityGroup: none")
            + &group("none", "{}")),
    );
    assert!(!v4(&nobody, "a/member", "a/p", "tcp/80"));
}

#[test]
fn a_rule_stays_one_rule_however_many_pods_it_is_about() {
    let from = "remoteType: securityGroup, remoteSecurityGroup: sg-example";
    let rules = [rule("allow", 1, from), rule("drop", 2, &tcp(80, 443))].join(", ");
    let spec = format!("{{allowSameGroupTraffic: true, ingressRules: [{rules}]}}");
    let text = pods("sg-example") + &group("sg-example", &spec);
    let rules_of = |text: &str| {
        let set = policy(text);
        let stages = set.stages.iter();
        let mut stages = stages.filter(|stage| stage.kind == StageKind::SecurityGroupIngress);
        stages.next().unwrap().len()
    };
    // Two written, DHCP, DHCPv6, VRRP, listener queries, the members, the rest.
    assert_eq!(rules_of(&text), 8);
    assert_eq!(
        rules_of(&text.replace("groups: ''", "groups: 'sg-example'")),
        8
    );
}

#[test]
fn virtual_addresses_are_members_where_port_security_vouches_for_them() {
    let vip = "---\n{apiVersion: kubeovn.io/v1, kind: Vip, metadata: {name: vip-1}, \
               spec: {namespace: a, subnet: ovn-default}, status: {v4ip: 10.16.0.200}}\n";
    let from = "remoteType: securityGroup, remoteSecurityGroup: sg-example";
    let groups = group(
        "g",
        &format!("{{ingressRules: [{}]}}", rule("allow", 1, from)),
    ) + &group(
        "sg-example",
        &format!("{{egressRules: [{}]}}", rule("allow", 1, "")),
    );
    let with = |annotations: &str| {
        let text = pods("g").replace(
            "groups: 'sg-example'}",
            &format!("groups: 'sg-example', {annotations}}}"),
        );
        policy(&(text + vip + &groups))
    };
    let vips = "ovn.kubernetes.io/aaps: vip-1, ovn.kubernetes.io/port_vips: '10.16.0.201, x'";
    let on = "ovn.kubernetes.io/port_security: 'true'";
    let secured = with(&format!("{vips}, {on}"));
    assert!(v4(&secured, "10.16.0.200", "a/p", "tcp/80"));
    assert!(v4(&secured, "10.16.0.201", "a/p", "tcp/80"));
    let unsecured = with(vips);
    assert!(!v4(&unsecured, "10.16.0.200", "a/p", "tcp/80"));
    // To its own groups the pod is its port, whatever the address.
    assert!(!v4(&unsecured, "203.0.113.9", "10.16.0.200", "tcp/80"));
    for elsewhere in [
        "ovn.kubernetes.io/aaps: vip-2",
        "ovn.kubernetes.io/aaps: vip-1, ovn.kubernetes.io/logical_switch: other",
    ] {
        let set = with(&format!("{elsewhere}, {on}"));
        assert!(!v4(&set, "10.16.0.200", "a/p", "tcp/80"), "{elsewhere}");
    }
}

#[test]
fn a_secondary_interface_has_groups_of_its_own() {
    let pod = |name: &str, last: u8, other: u8, annotations: &str| {
        let status =
            format!(r#"[{{"name": "a/nad", "interface": "net1", "ips": ["10.16.0.{other}"]}}]"#);
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: a, name: {name}, \
             annotations: {{k8s.v1.cni.cncf.io/network-status: '{status}', {annotations}}}}}, \
             status: {{podIPs: [{{ip: 10.16.0.{last}}}]}}}}\n"
        )
    };
    let text = pod("p", 15, 16, "nad.a.ovn.kubernetes.io/security_groups: g")
        + &pod("q", 16, 15, "ovn.kubernetes.io/security_groups: g")
        + &group("g", "{}");
    let set = policy(&text);
    let network = set.inventory.network_number("a/nad").unwrap();
    // The same addresses are on both networks; whose groups are asked is not the same.
    for (to, on, allowed) in [
        ("10.16.0.15", PRIMARY_NETWORK, true),
        ("10.16.0.16", network, false),
        ("10.16.0.16", PRIMARY_NETWORK, false),
        ("10.16.0.15", network, true),
    ] {
        let mut packet = PolicyKey::from(key(&set, "10.16.0.99", to, "tcp/80", Family::V4));
        packet.source_network = on;
        packet.destination_network = on;
        assert_eq!(set.evaluate(packet).allow, allowed, "{to} {on}");
        let naive = naive::evaluate(&set, packet).verdict;
        assert_eq!(naive == RuleVerdict::Allow, allowed, "{to} {on}");
    }
}

#[test]
fn egress_sees_the_service_and_not_its_backend() {
    let out = rule(
        "allow",
        1,
        "remoteType: address, remoteAddress: 10.16.0.0/16",
    );
    let text = pods("g") + &group("g", &format!("{{egressRules: [{out}]}}"));
    let set = policy(&text);
    let behind = key(&set, "a/p", "a/thirteen", "udp/53", Family::V4);
    let before = key(&set, "a/p", "10.96.0.10", "udp/53", Family::V4);
    let packet = PolicyKey {
        original: before,
        ..PolicyKey::from(behind)
    };
    let translated = policy_with(&text, &compat(&[("sg_egress_view", "translated")]));
    for (set, allowed) in [(set, false), (translated, true)] {
        assert_eq!(set.evaluate(packet).allow, allowed);
        let naive = naive::evaluate(&set, packet).verdict;
        assert_eq!(naive == RuleVerdict::Allow, allowed);
    }
}

#[test]
fn groups_and_network_policies_must_both_allow_unless_asked_otherwise() {
    let policies = "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, \
                    metadata: {namespace: a, name: from-member}, spec: {podSelector: {matchLabels: \
                    {}}, ingress: [{from: [{ipBlock: {cidr: 10.16.0.20/32}}]}]}}\n";
    let any = format!("{{ingressRules: [{}]}}", rule("allow", 1, &tcp(80, 80)));
    let text = pods("g") + policies + &group("g", &any);
    let and = policy(&text);
    let switch = compat(&[("sg_np_combine", "kube-ovn")]);
    let alone = policy_with(&text, &switch);
    // The group lets it in, the policy does not.
    let key = key(&and, "a/thirteen", "a/p", "tcp/80", Family::V4);
    assert_eq!(and.evaluate(key).denial().unwrap().family(), "NP");
    assert!(!v4(&and, "a/thirteen", "a/p", "tcp/80"));
    assert!(v4(&alone, "a/thirteen", "a/p", "tcp/80"));
    // The policy lets it in, the group does not.
    let text = pods("g") + policies + &group("g", "{}");
    for set in [policy(&text), policy_with(&text, &switch)] {
        let text = set.evaluate(self::key(&set, "10.16.0.20", "a/p", "tcp/80", Family::V4));
        assert_eq!(text.denial().unwrap().family(), "SG");
        assert!(!v4(&set, "10.16.0.20", "a/p", "tcp/80"));
    }
    // Who is in no group is the policy's business in either mode.
    assert!(!v4(&alone, "a/p", "a/thirteen", "tcp/80"));
}

#[test]
fn a_pod_and_its_own_address_need_a_rule() {
    let own = set("g", &group("g", "{}"));
    assert!(!v4(&own, "a/p", "a/p", "tcp/80"));
    let same = set("g", &group("g", "{allowSameGroupTraffic: true}"));
    assert!(passes(&same, "a/p", "a/p", "tcp/80"));
}

/// What is said of a group with one rule, of these fields instead of the usual ones.
fn said(changes: &[(&str, &str)], tier: &str, compatibility: &Compatibility) -> Vec<String> {
    let mut fields = vec![
        ("ipVersion", "ipv4"),
        ("priority", "1"),
        ("policy", "allow"),
        ("protocol", "tcp"),
        ("remoteType", "address"),
        ("remoteAddress", "10.0.0.0/8"),
        ("portRangeMin", "80"),
        ("portRangeMax", "443"),
    ];
    for (field, value) in changes {
        fields.retain(|(name, _)| name != field);
        if !value.is_empty() {
            fields.push((field, value));
        }
    }
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let spec = format!("{{tier: {tier}, egressRules: [{{{}}}]}}", fields.join(", "));
    let loaded = load_with(&(pods("g") + &group("g", &spec)), compatibility);
    let errors = loaded.findings.iter();
    let errors = errors.filter(|finding| finding.severity == Severity::Error);
    errors
        .map(|error| format!("{}: {}", error.path, error.message))
        .collect()
}

#[test]
fn what_the_controller_refuses_is_refused_in_its_words() {
    let rule = "spec.egressRules[0]";
    let default = Compatibility::default();
    for (changes, tier, expected) in [
        (&[][..], "0", ""),
        (&[], "1", ""),
        (
            &[],
            "2",
            "spec.tier: SecurityGroupTier 2 invalid, range [0,1]",
        ),
        (
            &[],
            "-1",
            "spec.tier: SecurityGroupTier -1 invalid, range [0,1]",
        ),
        (
            &[("ipVersion", "IPv4")],
            "0",
            "ipVersion: IPVersion should be 'ipv4' or 'ipv6'",
        ),
        (
            &[("ipVersion", "")],
            "0",
            "ipVersion: IPVersion should be 'ipv4' or 'ipv6'",
        ),
        (
            &[("priority", "0")],
            "0",
            "priority: priority '0' is not in the range of 1 to 16384",
        ),
        (
            &[("priority", "")],
            "0",
            "priority: priority '0' is not in the range of 1 to 16384",
        ),
        (
            &[("priority", "-3")],
            "0",
            "priority: priority '-3' is not in the range of 1 to 16384",
        ),
        (&[("priority", "16384")], "0", ""),
        (
            &[("priority", "16385")],
            "0",
            "priority '16385' is not in the range of 1 to 16384",
        ),
        (&[("policy", "pass")], "0", ""),
        (
            &[("policy", "pass")],
            "1",
            "policy: policy pass not valid when tier is maximum [1]",
        ),
        (
            &[("remoteAddress", "10.0.0.0/33")],
            "0",
            "remoteAddress: invalid CIDR '10.0.0.0/33'",
        ),
        (
            &[("remoteAddress", "'10.0.0.0/8,11.0.0.0/8'")],
            "0",
            "invalid CIDR '10.0.0.0/8,11.0.0.0/8'",
        ),
        (
            &[("remoteAddress", "999.1.1.1")],
            "0",
            "remoteAddress: invalid ip address '999.1.1.1'",
        ),
        (
            &[("remoteAddress", "")],
            "0",
            "remoteAddress: invalid ip address ''",
        ),
        (
            &[("remoteAddress", "'fd00::/8'")],
            "0",
            "remoteAddress: ipVersion is ipv4, but 'fd00::/8' is IPv6",
        ),
        (
            &[("remoteType", "cidr")],
            "0",
            "remoteType: not support sgRemoteType 'cidr'",
        ),
        (
            &[("remoteType", "")],
            "0",
            "remoteType: not support sgRemoteType ''",
        ),
        (
            &[
                ("remoteType", "securityGroup"),
                ("remoteSecurityGroup", "x"),
            ],
            "0",
            "remoteSecurityGroup: failed to get remote sg 'x'",
        ),
        (
            &[
                ("remoteType", "securityGroup"),
                ("remoteSecurityGroup", "g"),
            ],
            "0",
            "",
        ),
        (
            &[("remoteType", "securityGroup")],
            "0",
            "failed to get remote sg ''",
        ),
        (
            &[("localAddress", "999.999.999.0/24")],
            "0",
            "localAddress: invalid CIDR '999.999.999.0/24'",
        ),
        (
            &[("localAddress", "not-an-ip")],
            "0",
            "localAddress: invalid ip address 'not-an-ip'",
        ),
        (
            &[("localAddress", "'fd00::1'"), ("protocol", "all")],
            "0",
            "localAddress: ipVersion is ipv4",
        ),
        (
            &[("localAddress", "10.1.0.0/16"), ("protocol", "all")],
            "0",
            "",
        ),
        (
            &[("localAddress", "10.1.0.1"), ("protocol", "icmp")],
            "0",
            "",
        ),
        (
            &[("portRangeMin", "0")],
            "0",
            "portRangeMin: portRange is out of range",
        ),
        (
            &[("portRangeMax", "65536")],
            "0",
            "portRangeMax: portRange is out of range",
        ),
        (
            &[("portRangeMax", "")],
            "0",
            "portRangeMax: portRange is out of range",
        ),
        (
            &[("portRangeMin", "444")],
            "0",
            "portRangeMin: portRange err, minimum greater than maximum",
        ),
        (&[("portRangeMin", "444"), ("protocol", "all")], "0", ""),
        (
            &[
                ("localAddress", "10.1.0.1"),
                ("sourcePortRangeMin", "1024"),
                ("sourcePortRangeMax", "65535"),
            ],
            "0",
            "",
        ),
        (
            &[
                ("localAddress", "10.1.0.1"),
                ("sourcePortRangeMax", "65535"),
            ],
            "0",
            "sourcePortRangeMin: sourcePortRange is out of range",
        ),
        (
            &[
                ("localAddress", "10.1.0.1"),
                ("sourcePortRangeMin", "9000"),
                ("sourcePortRangeMax", "8000"),
            ],
            "0",
            "sourcePortRangeMin: sourcePortRange err, minimum greater than maximum",
        ),
        (
            &[
                ("sourcePortRangeMin", "9000"),
                ("sourcePortRangeMax", "8000"),
            ],
            "0",
            "",
        ),
        (
            &[("policy", "Allow")],
            "0",
            "Unsupported value: \"Allow\": supported values: \"allow\", ",
        ),
        (
            &[("protocol", "TCP")],
            "0",
            "Unsupported value: \"TCP\": supported values: \"tcp\", \"udp\"",
        ),
        (
            &[("prio", "5")],
            "0",
            "prio: unknown field \"spec.egressRules[0].prio\"",
        ),
    ] {
        let found = said(changes, tier, &default);
        match expected {
            "" => assert_eq!(found, [""; 0], "{changes:?}"),
            expected => {
                assert!(
                    found.iter().any(|line| line.contains(expected)),
                    "{changes:?}: {found:?}"
                );
                let place = if tier == "2" || tier == "-1" {
                    "spec.tier"
                } else {
                    rule
                };
                assert!(
                    found.iter().all(|line| line.starts_with(place)),
                    "{found:?}"
                );
            }
        }
    }
    let older = compat(&[("sg_priority_max", "200")]);
    assert_eq!(said(&[("priority", "200")], "0", &older), [""; 0]);
    let found = said(&[("priority", "201")], "0", &older);
    assert_eq!(
        found,
        ["spec.egressRules[0].priority: priority '201' is not in the range of 1 to 200"]
    );
}

#[test]
fn groups_kept_under_one_name_are_refused() {
    let text = group("a-b", "{}") + &group("a.b", "{}") + &group("a-c", "{}");
    let found = findings(&text);
    let errors: Vec<_> = found.iter().filter(|line| line.contains("error")).collect();
    assert_eq!(errors.len(), 1, "{found:?}");
    assert!(
        errors[0].contains("SecurityGroup/a.b: metadata.name: Duplicate value"),
        "{errors:?}"
    );
}

#[test]
fn groups_are_read_from_lists_and_are_of_no_namespace() {
    let list = "{apiVersion: v1, kind: List, items: [{apiVersion: kubeovn.io/v1, \
                kind: SecurityGroup, metadata: {name: l}, spec: {}}]}";
    assert_eq!(policy(list).policies.security_groups[0].name, "l");
    let list =
        "{apiVersion: kubeovn.io/v1, kind: SecurityGroupList, items: [{metadata: {name: l}}]}";
    assert_eq!(policy(list).policies.security_groups[0].name, "l");
    for (text, said) in [
        (
            "{apiVersion: kubeovn.io/v2, kind: SecurityGroup, metadata: {name: l}}",
            "no matches for kind",
        ),
        (
            "{apiVersion: kubeovn.io/v1, kind: SecurityGruop, metadata: {name: l}}",
            "no matches for kind",
        ),
        (
            "{apiVersion: kubeovn.io/v1, kind: Vpc, metadata: {name: l}}",
            "warning: ",
        ),
        (
            "{apiVersion: kubeovn.io/v1, kind: SecurityGroup, metadata: {name: l, namespace: x}}",
            "metadata.namespace: Forbidden",
        ),
    ] {
        let found = findings(text);
        assert!(found[0].contains(said), "{found:?}");
    }
}

/// The warnings of a set, without their places.
fn warnings(text: &str) -> Vec<String> {
    let loaded = load_text(text);
    assert!(loaded.policy.is_some(), "{:?}", loaded.findings);
    let line = |finding: &Finding| format!("{} {}: {}", finding.id, finding.path, finding.message);
    loaded.findings.iter().map(line).collect()
}

fn assert_warns(text: &str, id: &str, words: &str) {
    let found = warnings(text);
    let fits = |line: &&String| line.starts_with(&format!("{id} ")) && line.contains(words);
    assert_eq!(
        found.iter().filter(fits).count(),
        1,
        "{id} {words}: {found:#?}"
    );
}

#[test]
fn what_does_nothing_is_told() {
    assert_warns(&group("idle", "{}"), "unused-group", "no pod is bound");
    let text = pods("gone") + EXAMPLE;
    assert_warns(
        &text,
        "unknown-group",
        "no SecurityGroup gone: the pod has no other group and is closed",
    );
    let text = pods("gone,sg-example") + EXAMPLE;
    assert_warns(
        &text,
        "unknown-group",
        "no SecurityGroup gone: no effect: the other groups decide",
    );
    let text = pods("lower") + &tiers() + EXAMPLE;
    assert_warns(
        &text,
        "unreachable-tier",
        "ingressRules are never asked for pod a/p",
    );
    let found = warnings(&(pods("upper,lower") + &tiers() + EXAMPLE));
    assert!(
        !found
            .iter()
            .any(|line| line.starts_with("unreachable-tier")),
        "{found:?}"
    );
    for (rules, index) in [
        ([rule("allow", 1, ""), rule("drop", 2, &tcp(80, 80))], 1),
        (
            [
                rule("drop", 7, &tcp(80, 90)),
                rule("allow", 3, &tcp(1, 443)),
            ],
            0,
        ),
        (
            [
                rule("allow", 3, &tcp(80, 90)),
                rule("allow", 3, &tcp(80, 90)),
            ],
            1,
        ),
    ] {
        let text =
            pods("g") + &group("g", &format!("{{ingressRules: [{}]}}", rules.join(", "))) + EXAMPLE;
        assert_warns(
            &text,
            "shadowed-rule",
            &format!("spec.ingressRules[{index}]: no effect"),
        );
    }
    let fine = [rule("drop", 1, &tcp(80, 80)), rule("allow", 2, "")];
    let found = warnings(
        &(pods("g") + &group("g", &format!("{{ingressRules: [{}]}}", fine.join(", "))) + EXAMPLE),
    );
    assert_eq!(found, [""; 0]);
}

#[test]
fn equal_priorities_that_disagree_are_told() {
    let one = rule("allow", 5, &tcp(80, 443));
    for (other, warns) in [
        (rule("drop", 5, &tcp(443, 500)), true),
        (rule("drop", 5, ""), true),
        (rule("allow", 5, ""), false),
        (rule("drop", 6, ""), false),
        (rule("drop", 5, &tcp(444, 500)), false),
        (rule("drop", 5, "protocol: icmp"), false),
    ] {
        let both = group("sg-a", &format!("{{ingressRules: [{one}]}}"))
            + &group("sg-b", &format!("{{ingressRules: [{other}]}}"));
        let same = group("sg-a", &format!("{{ingressRules: [{one}, {other}]}}"));
        for (groups, bound) in [(&both, "sg-a,sg-b"), (&same, "sg-a")] {
            let found = warnings(&(pods(bound) + groups + EXAMPLE));
            let told = found
                .iter()
                .filter(|line| line.starts_with("equal-priority"))
                .count();
            assert_eq!(told, usize::from(warns), "{other} {bound}: {found:#?}");
        }
    }
    // Groups that no pod has both of do not meet.
    let apart = group("sg-a", &format!("{{ingressRules: [{one}]}}"))
        + &group(
            "sg-example",
            &format!("{{ingressRules: [{}]}}", rule("drop", 5, "")),
        );
    let found = warnings(&(pods("sg-a") + &apart));
    assert_eq!(found, [""; 0]);
}

#[test]
fn pods_that_lose_their_gateway_or_what_they_start_with_are_told() {
    let annotated = |text: &str| {
        text.replace(
            "groups: 'g'",
            "groups: 'g', ovn.kubernetes.io/gateway: 10.16.0.1",
        )
    };
    let subnet = "---\n{apiVersion: kubeovn.io/v1, kind: Subnet, metadata: {name: s}, \
                  spec: {cidrBlock: 10.16.0.0/16, gateway: 10.16.0.1}}\n";
    let of_subnet = |text: &str| {
        text.replace(
            "groups: 'g'",
            "groups: 'g', ovn.kubernetes.io/logical_switch: s",
        ) + subnet
    };
    let closed = pods("g") + &group("g", "{}") + EXAMPLE;
    for text in [annotated(&closed), of_subnet(&closed)] {
        assert_warns(&text, "no-gateway", "no ping of its gateway 10.16.0.1");
    }
    let out = rule(
        "allow",
        1,
        "remoteType: address, remoteAddress: 10.16.0.1, protocol: icmp",
    );
    let open = pods("g") + &group("g", &format!("{{egressRules: [{out}]}}")) + EXAMPLE;
    assert_eq!(warnings(&annotated(&open)), [""; 0]);
    let deny =
        pods("g") + &group("g", &format!("{{egressRules: [{}]}}", rule("drop", 1, ""))) + EXAMPLE;
    assert_warns(&deny, "no-basics", "no DHCP: SecurityGroup/g#0 at f.yaml:");
    assert_warns(&deny, "no-basics", "no name service (udp/53)");
}

#[test]
fn annotations_that_do_not_act_are_told() {
    let with = |annotations: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{namespace: a, name: p, annotations: \
             {{{annotations}}}}}, status: {{podIP: 10.16.0.15}}}}\n"
        )
    };
    let mac = "ovn.kubernetes.io/mac_address: '00:00:00:FA:17:97'";
    for (annotations, id, words) in [
        (
            "ovn.kubernetes.io/port_security: 'True'",
            "annotation-value",
            "only \"true\" turns port security on",
        ),
        (
            "ovn.kubernetes.io/layer2_forward: 'false'",
            "annotation-value",
            "as good as nothing; what keeps",
        ),
        (
            "ovn.kubernetes.io/port_security: 'true'",
            "port-security",
            "MAC addresses are not checked",
        ),
        (
            "ovn.kubernetes.io/port_security: 'true', ovn.kubernetes.io/mac_address: x",
            "port-security",
            "\"x\" in ovn.kubernetes.io/mac_address is no MAC",
        ),
        (
            "ovn.kubernetes.io/aaps: v",
            "virtual-address",
            "there is none",
        ),
        (
            "ovn.kubernetes.io/port_vips: '10.0.0.1,x'",
            "virtual-address",
            "\"x\" is no IP address",
        ),
    ] {
        assert_warns(&with(annotations), id, words);
    }
    let both = format!(
        "{mac}, ovn.kubernetes.io/port_security: 'true', ovn.kubernetes.io/layer2_forward: 'true'"
    );
    assert_warns(&with(&both), "layer2-forward", "and no others");
    assert_eq!(
        warnings(&with(&format!(
            "{mac}, ovn.kubernetes.io/port_security: 'true'"
        ))),
        [""; 0]
    );
    assert_eq!(
        warnings(&with("ovn.kubernetes.io/layer2_forward: 'true'")),
        [""; 0]
    );
}
