//! Worked verdicts: one line of the semantics each.

use super::*;

const PODS: &str = "x/a x/b x/c y/a y/b y/c z/a";

/// Policies of namespace x, each `spec` in flow style, after the cluster.
fn with(specs: &[&str]) -> PolicySet {
    policy(&manifests(specs))
}

fn manifests(specs: &[&str]) -> String {
    let mut text = cluster(PODS);
    for (number, spec) in specs.iter().enumerate() {
        writeln!(
            text,
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{namespace: x, name: p{number}}}\nspec: {spec}"
        )
        .unwrap();
    }
    text
}

const A: &str = "podSelector: {matchLabels: {pod: a}}";

#[test]
fn default_deny_ingress_closes_ingress_alone() {
    let set = with(&["{podSelector: {}, policyTypes: [Ingress]}"]);
    assert!(!passes(&set, "y/a", "x/a", "tcp/80"));
    assert!(passes(&set, "x/a", "y/a", "tcp/80"));
    assert!(passes(&set, "x/a", "x/a", "tcp/80"));
    assert!(!passes(&set, "y/a", "x/a", "icmp"));
}

#[test]
fn list_elements_are_alternatives() {
    let set = with(&[&format!(
        "{{{A}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: 'y'}}}}}}, \
         {{podSelector: {{matchLabels: {{pod: b}}}}}}]}}]}}"
    )]);
    assert!(passes(&set, "y/c", "x/a", "tcp/80"));
    assert!(passes(&set, "x/b", "x/a", "tcp/80"));
    assert!(!passes(&set, "x/c", "x/a", "tcp/80"));
}

#[test]
fn selectors_of_one_element_must_both_hold() {
    let set = with(&[&format!(
        "{{{A}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: 'y'}}}}, \
         podSelector: {{matchLabels: {{pod: b}}}}}}]}}]}}"
    )]);
    assert!(passes(&set, "y/b", "x/a", "tcp/80"));
    assert!(!passes(&set, "y/a", "x/a", "tcp/80"));
    assert!(!passes(&set, "x/b", "x/a", "tcp/80"));
}

#[test]
fn empty_selectors_select_pods_but_nothing_outside() {
    let set = with(&[&format!(
        "{{{A}, ingress: [{{from: [{{podSelector: {{}}}}]}}]}}"
    )]);
    assert!(!passes(&set, "y/a", "x/a", "tcp/80"));
    assert!(passes(&set, "x/c", "x/a", "tcp/80"));
    let set = with(&[&format!(
        "{{{A}, ingress: [{{from: [{{namespaceSelector: {{}}}}]}}]}}"
    )]);
    assert!(!passes(&set, "203.0.113.9", "x/a", "tcp/80"));
    assert!(passes(&set, "z/a", "x/a", "tcp/80"));
    assert!(passes(&set, "x/c", "x/a", "tcp/80"));
    let set = with(&[&format!("{{{A}, ingress: [{{}}]}}")]);
    assert!(passes(&set, "203.0.113.9", "x/a", "tcp/80"));
    assert!(passes(&set, "y/a", "x/a", "icmp"));
}

#[test]
fn ports_name_protocol_and_number() {
    let ingress = |ports: &str| with(&[&format!("{{{A}, ingress: [{{ports: [{ports}]}}]}}")]);
    let set = ingress("{protocol: UDP}");
    assert!(!passes(&set, "y/a", "x/a", "tcp/81"));
    assert!(passes(&set, "y/a", "x/a", "udp/5353"));
    assert!(!passes(&set, "y/a", "x/a", "icmp"));
    let set = ingress("{port: 80}");
    assert!(!passes(&set, "y/a", "x/a", "udp/80"));
    assert!(passes(&set, "y/a", "x/a", "tcp/80"));
    let set = ingress("{}");
    assert!(passes(&set, "y/a", "x/a", "tcp/65535"));
    assert!(!passes(&set, "y/a", "x/a", "udp/80"));
    let set = ingress("{port: serve-80-tcp, protocol: UDP}");
    assert!(!passes(&set, "y/a", "x/a", "udp/80"));
    assert!(!passes(&set, "y/a", "x/a", "tcp/80"));
    let set = ingress("{port: 80, endPort: 443}");
    assert!(passes(&set, "y/a", "x/a", "tcp/443"));
    assert!(passes(&set, "y/a", "x/a", "tcp/80"));
    assert!(!passes(&set, "y/a", "x/a", "tcp/444"));
    assert!(!passes(&set, "y/a", "x/a", "tcp/79"));
    let set = ingress("{port: 81, protocol: SCTP}");
    assert!(!passes(&set, "y/a", "x/a", "tcp/81"));
    assert!(passes(&set, "y/a", "x/a", "sctp/81"));
}

#[test]
fn an_exception_of_one_block_may_be_allowed_by_another_policy() {
    let to = |block: &str| {
        format!("{{{A}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{{block}}}}}]}}]}}")
    };
    let set = with(&[
        &to("cidr: 10.0.0.0/8, except: [10.1.0.0/16]"),
        &to("cidr: 10.1.2.3/32"),
    ]);
    assert!(passes(&set, "x/a", "10.1.2.3", "tcp/80"));
    assert!(!passes(&set, "x/a", "10.1.2.4", "tcp/80"));
    assert!(!passes(&set, "x/a", "10.1.255.255", "tcp/80"));
    assert!(passes(&set, "x/a", "10.2.0.0", "tcp/80"));
    assert!(!passes(&set, "x/a", "11.0.0.0", "tcp/80"));
    assert!(!passes_in(&set, "x/a", "y/a", "tcp/80", Family::V6));
}

#[test]
fn policy_types_are_defaulted_from_the_rules() {
    let set = with(&["{podSelector: {}, egress: []}"]);
    assert!(passes(&set, "x/a", "y/a", "tcp/80"));
    assert!(!passes(&set, "y/a", "x/a", "tcp/80"));
    let set = with(&["{podSelector: {}, policyTypes: [], egress: []}"]);
    assert!(passes(&set, "x/a", "y/a", "tcp/80"));
    let set = with(&["{podSelector: {}, egress: [{ports: [{port: 1}]}]}"]);
    assert!(!passes(&set, "x/a", "y/a", "tcp/80"));
    assert!(!passes(&set, "y/a", "x/a", "tcp/80"));
    let set = with(&["{podSelector: {}, policyTypes: [Egress]}"]);
    assert!(passes(&set, "y/a", "x/a", "tcp/80"));
    assert!(!passes(&set, "x/a", "y/a", "tcp/80"));
    // Rules of a type that is not listed are inert.
    let set = with(&["{podSelector: {}, policyTypes: [Egress], ingress: [], egress: [{}]}"]);
    assert!(passes(&set, "y/a", "x/a", "tcp/80"));
}

#[test]
fn an_absent_label_is_not_in_any_set() {
    let set = with(&[&format!(
        "{{{A}, ingress: [{{from: [{{namespaceSelector: {{matchExpressions: \
         [{{key: env, operator: NotIn, values: [prod]}}]}}}}]}}]}}"
    )]);
    assert!(passes(&set, "y/a", "x/a", "tcp/80"));
    let set = with(&[&format!(
        "{{{A}, ingress: [{{from: [{{namespaceSelector: {{matchExpressions: \
         [{{key: ns, operator: Exists}}, {{key: ns, operator: NotIn, values: ['y']}}]}}}}]}}]}}"
    )]);
    assert!(!passes(&set, "y/a", "x/a", "tcp/80"));
    assert!(passes(&set, "z/a", "x/a", "tcp/80"));
}

#[test]
fn the_own_node_always_reaches_its_pods() {
    let set = with(&["{podSelector: {}, policyTypes: [Ingress, Egress]}"]);
    assert!(passes(&set, "192.168.0.1", "x/a", "tcp/8080"));
    assert!(passes(&set, "x/a", "192.168.0.1", "tcp/8080"));
    assert!(!passes(&set, "192.168.0.2", "x/a", "tcp/8080"));
    assert!(!passes(&set, "x/a", "192.168.0.2", "tcp/8080"));
}

#[test]
fn a_pod_on_the_hosts_network_is_its_node() {
    let host = |node: &str, ip: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: 'y', name: h, \
             labels: {{pod: h}}}}\nspec: {{hostNetwork: true, nodeName: {node}}}\n\
             status: {{podIP: {ip}}}\n"
        )
    };
    let spec = format!("{{{A}, ingress: [{{from: [{{namespaceSelector: {{}}}}]}}]}}");
    let text = manifests(&[&spec]);
    let set = policy(&format!("{text}{}", host("node-y", "192.168.0.2")));
    assert!(!passes_in(&set, "y/h", "x/a", "tcp/80", Family::V4));
    let set = policy(&format!("{text}{}", host("node-x", "192.168.0.1")));
    assert!(passes_in(&set, "y/h", "x/a", "tcp/80", Family::V4));
    // It names its node's address, whatever the node object says.
    let set = policy(&format!("{text}{}", host("node-x", "192.168.9.9")));
    assert!(passes_in(&set, "y/h", "x/a", "tcp/80", Family::V4));
    // It is no subject: a policy that selects it does not isolate it.
    let deny = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                metadata: {namespace: 'y', name: d}\nspec: {podSelector: {}}\n";
    let set = policy(&format!("{text}{}{deny}", host("node-y", "192.168.0.2")));
    assert!(passes_in(&set, "z/a", "y/h", "tcp/80", Family::V4));
    assert!(!passes(&set, "z/a", "y/a", "tcp/80"));
    // An address block finds it by its node's address.
    let spec = format!("{{{A}, ingress: [{{from: [{{ipBlock: {{cidr: 192.168.0.2/32}}}}]}}]}}");
    let set = policy(&format!(
        "{}{}",
        manifests(&[&spec]),
        host("node-y", "192.168.0.2")
    ));
    assert!(passes_in(&set, "y/h", "x/a", "tcp/80", Family::V4));
}

#[test]
fn policies_are_a_union() {
    let set = with(&[&format!("{{{A}, ingress: [{{}}]}}"), "{podSelector: {}}"]);
    assert!(passes(&set, "y/a", "x/a", "tcp/80"));
    assert!(passes(&set, "203.0.113.9", "x/a", "icmp"));
    assert!(!passes(&set, "y/a", "x/b", "tcp/80"));
}

#[test]
fn icmp_passes_always_if_asked_to() {
    let text = manifests(&["{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"]);
    let set = policy(&text);
    assert!(!passes(&set, "y/a", "x/a", "icmp"));
    let mut compatibility = Compatibility::default();
    compatibility.set("icmp", "always").unwrap();
    let set = policy_with(&text, &compatibility);
    assert!(passes(&set, "y/a", "x/a", "icmp"));
    assert!(!passes(&set, "y/a", "x/a", "tcp/81"));
    // ICMP of the other family is a protocol like any other.
    assert!(!passes_in(&set, "y/a", "x/a", "ip58", Family::V4));
    assert!(!passes_in(&set, "y/a", "x/a", "ip1", Family::V6));
}

#[test]
fn other_protocols_need_a_rule_without_ports() {
    let set = with(&[&format!(
        "{{{A}, ingress: [{{ports: [{{}}, {{protocol: UDP}}]}}]}}"
    )]);
    assert!(!passes(&set, "y/a", "x/a", "ip47"));
    let set = with(&[&format!(
        "{{{A}, ingress: [{{from: [{{podSelector: {{}}}}]}}]}}"
    )]);
    assert!(passes(&set, "x/b", "x/a", "ip47"));
    assert!(!passes(&set, "y/b", "x/a", "ip47"));
}

#[test]
fn named_ports_are_resolved_at_each_destination() {
    let other = "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: 'y', name: 'n'}\n\
                 spec: {containers: [{ports: [{name: serve-80-tcp, containerPort: 8080}]}]}\n\
                 status: {podIP: 10.99.0.1}\n";
    let egress = |to: &str| {
        let spec = format!(
            "{{{A}, policyTypes: [Egress], egress: [{{to: [{to}], ports: [{{port: serve-80-tcp}}]}}]}}"
        );
        policy(&format!("{}{other}", manifests(&[&spec])))
    };
    let set = egress("{namespaceSelector: {}}");
    assert!(passes(&set, "x/a", "y/a", "tcp/80"));
    assert!(!passes_in(&set, "x/a", "y/a", "tcp/8080", Family::V4));
    assert!(passes_in(&set, "x/a", "y/n", "tcp/8080", Family::V4));
    assert!(!passes_in(&set, "x/a", "y/n", "tcp/80", Family::V4));
    assert!(!passes(&set, "x/a", "203.0.113.1", "tcp/80"));
    // Without peers, and through an address block: still only pods have port names.
    for set in [egress(""), egress("{ipBlock: {cidr: 0.0.0.0/0}}")] {
        assert!(passes_in(&set, "x/a", "y/n", "tcp/8080", Family::V4));
        assert!(passes_in(&set, "x/a", "y/a", "tcp/80", Family::V4));
        assert!(!passes(&set, "x/a", "203.0.113.1", "tcp/80"));
        assert!(!passes(&set, "x/a", "203.0.113.1", "tcp/8080"));
    }
    // For ingress the selected pods are the destinations.
    let spec = "{podSelector: {}, ingress: [{ports: [{port: serve-80-tcp}]}]}";
    let text = manifests(&[])
        + other
        + &format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{namespace: 'y', name: i}}\nspec: {spec}\n"
        );
    let set = policy(&text);
    assert!(passes_in(&set, "x/a", "y/n", "tcp/8080", Family::V4));
    assert!(!passes_in(&set, "x/a", "y/a", "tcp/8080", Family::V4));
    assert!(passes(&set, "x/a", "y/a", "tcp/80"));
}

#[test]
fn finished_pods_have_given_their_address_back() {
    let finished = "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: job, \
                    labels: {pod: b}}\nstatus: {phase: Succeeded, podIP: 10.24.0.1}\n";
    // 10.24.0.1 is x/a's by now: one owner, no ambiguity.
    let spec =
        format!("{{{A}, ingress: [{{from: [{{podSelector: {{matchLabels: {{pod: b}}}}}}]}}]}}");
    let set = policy(&(manifests(&[&spec]) + finished));
    assert!(passes(&set, "x/b", "x/a", "tcp/80"));
    let job = finished.replace("10.24.0.1", "10.24.0.77");
    let set = policy(&(manifests(&[&spec]) + &job));
    assert!(!passes_in(&set, "10.24.0.77", "x/a", "tcp/80", Family::V4));
}

#[test]
fn multicast_is_no_pod() {
    let set = with(&[&format!(
        "{{{A}, policyTypes: [Egress], egress: [{{to: [{{namespaceSelector: {{}}}}]}}]}}"
    )]);
    assert!(!passes(&set, "x/a", "224.0.0.251", "udp/5353"));
    let set = with(&[&format!("{{{A}, policyTypes: [Egress], egress: [{{}}]}}")]);
    assert!(passes(&set, "x/a", "224.0.0.251", "udp/5353"));
}

#[test]
fn neighbour_discovery_is_not_subject_to_policy() {
    let set = with(&["{podSelector: {}, policyTypes: [Ingress, Egress]}"]);
    let ping = key(&set, "y/a", "x/a", "icmp", Family::V6);
    for icmp_type in 0..=255u8 {
        let key = FlowKey {
            destination_port: FlowKey::icmp_port(icmp_type, 0),
            ..ping
        };
        let exempt = matches!(icmp_type, 130..=136 | 143);
        assert_eq!(
            PolicyKey::from(key).exemption().is_some(),
            exempt,
            "{icmp_type}"
        );
        let naive = naive::evaluate(&set, key).verdict == RuleVerdict::Allow;
        assert_eq!(naive, exempt, "{icmp_type}");
    }
    // The same numbers mean nothing in ICMP, nor in TCP.
    let ping = key(&set, "y/a", "x/a", "icmp", Family::V4);
    let key = FlowKey {
        destination_port: FlowKey::icmp_port(135, 0),
        ..ping
    };
    assert_eq!(PolicyKey::from(key).exemption(), None);
}

#[test]
fn namespaces_are_isolated_by_annotation_under_the_old_profile() {
    let text = format!(
        "{}---\napiVersion: extensions/v1beta1\nkind: NetworkPolicy\n\
         metadata: {{namespace: x, name: web}}\n\
         spec: {{{A}, ingress: [{{from: [{{podSelector: {{matchLabels: {{pod: b}}}}}}]}}]}}\n",
        cluster(PODS)
    );
    let annotated = text.replace(
        "metadata: {name: 'x', labels: {ns: 'x'}}",
        "metadata: {name: 'x', labels: {ns: 'x'}, annotations: \
         {net.beta.kubernetes.io/network-policy: '{\"ingress\": {\"isolation\": \"DefaultDeny\"}}'}}",
    );
    assert_ne!(text, annotated);
    let mut compatibility = Compatibility::default();
    compatibility
        .set("np_profile", "v1beta1-isolation")
        .unwrap();
    // Not isolated: policies have no effect.
    let set = policy_with(&text, &compatibility);
    assert!(passes(&set, "y/a", "x/a", "tcp/80"));
    // Isolated: every pod of the namespace, selected or not.
    let set = policy_with(&annotated, &compatibility);
    assert!(!passes(&set, "y/a", "x/a", "tcp/80"));
    assert!(passes(&set, "x/b", "x/a", "tcp/80"));
    assert!(!passes(&set, "x/a", "x/b", "tcp/80"));
    assert!(passes(&set, "x/a", "y/a", "tcp/80"));
    // The profile of today: pod by pod, the annotation is ignored.
    let set = policy(&annotated);
    assert!(!passes(&set, "y/a", "x/a", "tcp/80"));
    assert!(passes(&set, "y/a", "x/b", "tcp/80"));
    // No JSON counts as no annotation.
    let broken = annotated.replace("DefaultDeny\"}}'", "DefaultDeny\"'");
    let set = policy_with(&broken, &compatibility);
    assert!(passes(&set, "y/a", "x/a", "tcp/80"));
}

#[test]
fn other_plugins_do_not_enforce_policies() {
    let text = manifests(&["{podSelector: {}}"]);
    for (plugin, open) in [
        ("networkpolicy", false),
        ("multitenant", true),
        ("subnet", true),
    ] {
        let mut compatibility = Compatibility::default();
        compatibility.set("plugin", plugin).unwrap();
        let set = policy_with(&text, &compatibility);
        assert_eq!(passes(&set, "y/a", "x/a", "tcp/80"), open, "{plugin}");
    }
}
