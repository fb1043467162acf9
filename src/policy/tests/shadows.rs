//! Rules that nothing is left for, and selectors nobody answers to: told, and not cried.

use super::{findings, load_with};
use crate::policy::Compatibility;

const PODS: &str = "\
{apiVersion: v1, kind: Namespace, metadata: {name: a}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: a, name: p, labels: {app: p}, annotations: {
 ovn.kubernetes.io/security_groups: 'g,h', k8s.v1.cni.cncf.io/network-status:
 '[{\"name\": \"a/net1\", \"interface\": \"net1\", \"ips\": [\"198.19.1.1\"]}]'}},
 status: {phase: Running, podIP: 198.18.1.1}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: a, name: q, labels: {app: q}},
 status: {phase: Running, podIP: 198.18.1.2}}
---
{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, metadata: {namespace: a,
 name: net1}, spec: {config: '{\"name\": \"net1\", \"type\": \"macvlan\"}'}}
";

/// The warnings of some id about these objects.
#[track_caller]
fn told(objects: &[String], id: &str) -> Vec<String> {
    let text = format!("{PODS}---\n{}", objects.join("\n---\n"));
    let id = format!("[{id}]");
    let all = findings(&text).into_iter();
    let told: Vec<_> = all
        .inspect(|one| assert!(!one.contains(": error: "), "{one}"))
        .collect();
    told.into_iter().filter(|one| one.ends_with(&id)).collect()
}

fn list(kind: &str, rules: &str) -> String {
    let version = match kind {
        "EgressFirewall" => "k8s.ovn.org/v1",
        _ => "network.openshift.io/v1",
    };
    format!(
        "{{apiVersion: {version}, kind: {kind}, metadata: {{namespace: a, name: default}}, spec: \
         {{egress: [{rules}]}}}}"
    )
}

fn entry(verb: &str, block: &str, ports: &str) -> String {
    format!("{{type: {verb}, to: {{cidrSelector: {block}}}{ports}}}")
}

#[test]
fn a_block_behind_a_wider_one_is_told_with_its_shadow() {
    for kind in ["EgressFirewall", "EgressNetworkPolicy"] {
        let wide = entry("Deny", "10.0.0.0/8", "");
        let narrow = entry("Allow", "10.1.0.0/16", "");
        let shadowed = told(&[list(kind, &format!("{wide}, {narrow}"))], "shadowed-rule");
        assert_eq!(shadowed.len(), 1, "{shadowed:?}");
        assert!(shadowed[0].contains("spec.egress[1]: no effect: rule 0 before it"));
        for fine in [
            format!("{narrow}, {wide}"),
            format!("{wide}, {}", entry("Allow", "11.0.0.0/8", "")),
        ] {
            assert_eq!(told(&[list(kind, &fine)], "shadowed-rule"), [""; 0]);
        }
    }
    let web = ", ports: [{protocol: TCP, port: 80}]";
    let both = ", ports: [{protocol: TCP, port: 80}, {protocol: UDP, port: 80}]";
    for (first, second, count) in [("", web, 1), (both, web, 1), (web, both, 0), (web, "", 0)] {
        let rules = [
            entry("Deny", "10.0.0.0/8", first),
            entry("Allow", "10.1.0.0/16", second),
        ];
        let object = list("EgressFirewall", &rules.join(", "));
        assert_eq!(
            told(&[object], "shadowed-rule").len(),
            count,
            "{first} {second}"
        );
    }
}

#[test]
fn a_rule_behind_another_policys_is_told() {
    let policy = |name: &str, tier: &str, priority: u32, namespaces: &str, action: &str| {
        format!(
            "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: \
             {{name: {name}}}, spec: {{tier: {tier}, priority: {priority}, subject: {{namespaces: \
             {namespaces}}}, ingress: [{{action: {action}, from: [{{namespaces: {{}}}}]}}]}}}}"
        )
    };
    let own = "{matchLabels: {kubernetes.io/metadata.name: a}}";
    let wide = policy("x", "Admin", 10, "{}", "Deny");
    let shadowed = told(
        &[wide.clone(), policy("y", "Admin", 20, own, "Accept")],
        "shadowed-rule",
    );
    assert_eq!(shadowed.len(), 1, "{shadowed:?}");
    assert!(shadowed[0].contains("ClusterNetworkPolicy/y: spec.ingress[0]: no effect: rule 0 of"));
    assert!(shadowed[0].contains("ClusterNetworkPolicy/x is asked before"));
    for other in [
        policy("y", "Admin", 5, own, "Accept"),
        policy("y", "Baseline", 20, own, "Accept"),
    ] {
        assert_eq!(told(&[wide.clone(), other], "shadowed-rule"), [""; 0]);
    }
    let narrow = policy("x", "Admin", 10, own, "Deny");
    let wide = policy("y", "Admin", 20, "{}", "Accept");
    assert_eq!(told(&[narrow, wide], "shadowed-rule"), [""; 0]);
}

fn group(name: &str, ingress: &str, egress: &str) -> String {
    format!(
        "{{apiVersion: kubeovn.io/v1, kind: SecurityGroup, metadata: {{name: {name}}}, spec: \
         {{ingressRules: [{ingress}], egressRules: [{egress}]}}}}"
    )
}

fn rule(policy: &str, priority: u32, protocol: &str, ports: (u16, u16), remote: &str) -> String {
    format!(
        "{{ipVersion: ipv4, policy: {policy}, priority: {priority}, protocol: {protocol}, \
         remoteType: address, remoteAddress: {remote}, portRangeMin: {}, portRangeMax: {}}}",
        ports.0, ports.1
    )
}

#[test]
fn a_rule_behind_one_of_a_group_all_its_pods_have_is_told() {
    let web = rule("allow", 20, "tcp", (80, 80), "10.0.0.0/8");
    let none = rule("drop", 10, "tcp", (1, 1000), "0.0.0.0/0");
    let (g, h) = (group("g", &web, ""), group("h", &none, ""));
    let shadowed = told(&[g.clone(), h.clone()], "shadowed-rule");
    assert_eq!(shadowed.len(), 1, "{shadowed:?}");
    assert!(shadowed[0].contains("SecurityGroup/g: spec.ingressRules[0]: no effect: "));
    assert!(shadowed[0].contains("ingressRules[0] of SecurityGroup h (priority 10, drop)"));
    let alone = "{apiVersion: v1, kind: Pod, metadata: {namespace: a, name: alone, annotations: {\
                 ovn.kubernetes.io/security_groups: g}}, status: {podIP: 198.18.1.9}}";
    assert_eq!(told(&[g, h, alone.to_owned()], "shadowed-rule"), [""; 0]);
    let weaker = group("h", &rule("drop", 30, "tcp", (1, 1000), "0.0.0.0/0"), "");
    assert_eq!(
        told(&[group("g", &web, ""), weaker], "shadowed-rule"),
        [""; 0]
    );
}

#[test]
fn groups_that_forget_the_name_service_are_told() {
    let any = (1, 65535);
    let web = rule("allow", 1, "tcp", (443, 443), "0.0.0.0/0");
    let names = rule("allow", 1, "udp", (53, 53), "192.0.2.53");
    let pods = rule("allow", 1, "all", any, "198.18.0.0/16");
    let closed = String::new();
    let dns = "{apiVersion: v1, kind: Service, metadata: {namespace: kube-system, name: kube-dns}, \
               spec: {clusterIP: 198.19.0.10, selector: {app: dns}, ports: [{port: 53, protocol: \
               UDP}]}}";
    for (egress, service, count) in [
        (web.clone(), false, 1),
        (format!("{web}, {names}"), false, 0),
        (pods.clone(), false, 0),
        (pods.clone(), true, 1),
        (format!("{pods}, {names}"), true, 0),
        (closed, true, 0),
    ] {
        let mut objects = vec![group("g", "", &egress), group("h", "", "")];
        objects.extend(service.then(|| dns.to_owned()));
        let told = told(&objects, "no-basics");
        assert_eq!(told.len(), count, "{egress} {service}: {told:?}");
    }
}

#[test]
fn who_is_not_on_a_policys_networks_is_told() {
    let policy = |selector: &str, rule: &str| {
        format!(
            "{{apiVersion: k8s.cni.cncf.io/v1beta1, kind: MultiNetworkPolicy, metadata: {{namespace: \
             a, name: p, annotations: {{k8s.v1.cni.cncf.io/policy-for: net1}}}}, \
             spec: \
             {{podSelector: {{matchLabels: {{app: {selector}}}}}, policyTypes: [Ingress], ingress: \
             [{rule}]}}}}"
        )
    };
    let from = |app: &str| {
        format!(
            "{{from: [{{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: {app}}}}}}}]}}"
        )
    };
    assert_eq!(told(&[policy("q", "")], "selects-nothing").len(), 1);
    assert_eq!(told(&[policy("p", "")], "selects-nothing"), [""; 0]);
    assert_eq!(
        told(&[policy("p", &from("q"))], "peer-selects-nothing").len(),
        1
    );
    assert_eq!(
        told(&[policy("p", &from("p"))], "peer-selects-nothing"),
        [""; 0]
    );
    let named = policy("p", "{ports: [{port: nobody}]}");
    assert_eq!(told(&[named], "unknown-named-port").len(), 1);
    let named = format!("{PODS}---\n{}", policy("p", "{ports: [{port: http}]}"));
    let mut iptables = Compatibility::default();
    iptables.set("mnp_compat", "iptables").unwrap();
    let has = |switches: &Compatibility| {
        let loaded = load_with(&named, switches);
        let mut findings = loaded.findings.iter();
        findings.any(|finding| finding.id == "unknown-named-port")
    };
    assert!(has(&Compatibility::default()) && !has(&iptables));
}
