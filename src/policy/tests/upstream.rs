//! What the apiserver and kubectl refuse, and what they take, beyond the policies themselves.

use super::*;

/// Findings without file name and id, each with its line and column.
fn said(text: &str) -> Vec<String> {
    let strip = |line: &String| {
        let line = line.strip_prefix("f.yaml:").unwrap_or(line);
        line.rsplit_once(" [")
            .map_or(line, |(line, _)| line)
            .to_owned()
    };
    findings(text).iter().map(strip).collect()
}

#[track_caller]
fn says(text: &str, words: &str) {
    let said = said(text);
    assert!(
        said.iter().any(|line| line.contains(words)),
        "{text}\n{said:#?}"
    );
}

#[test]
fn misspelt_fields_are_errors_where_fields_are_read() {
    for (kind, field, path) in [
        ("Pod", "spec: {hostnetwork: true}", "spec.hostnetwork"),
        ("Pod", "spec: {nodename: n}", "spec.nodename"),
        ("Pod", "spec: {container: []}", "spec.container"),
        (
            "Pod",
            "spec: {containers: [{port: []}]}",
            "spec.containers[0].port",
        ),
        (
            "Pod",
            "spec: {initContainers: [{restartpolicy: Always}]}",
            "spec.initContainers[0].restartpolicy",
        ),
        (
            "Pod",
            "spec: {containers: [{ports: [{containerPort: 53, Protocol: UDP}]}]}",
            "spec.containers[0].ports[0].Protocol",
        ),
        ("Pod", "status: {podips: []}", "status.podips"),
        (
            "Pod",
            "status: {podIPs: [{ipp: 10.0.0.1}]}",
            "status.podIPs[0].ipp",
        ),
        ("Pod", "status: {Phase: Failed}", "status.Phase"),
        ("Pod", "Spec: {}", "Spec"),
        ("Namespace", "Status: {}", "Status"),
        ("Node", "status: {adresses: []}", "status.adresses"),
        (
            "Node",
            "status: {addresses: [{type: InternalIP, adress: 10.0.0.1}]}",
            "status.addresses[0].adress",
        ),
        ("Service", "spec: {selectors: {a: b}}", "spec.selectors"),
        (
            "Service",
            "spec: {ports: [{port: 80, targetport: 81}]}",
            "spec.ports[0].targetport",
        ),
    ] {
        let text = format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n{field}\n");
        says(&text, &format!("error: {kind}/"));
        says(
            &text,
            &format!(": {path}: unknown field \"{path}\"; did you mean"),
        );
    }
    says(
        "{apiVersion: v1, kind: Pod, metadata: {name: a, label: {}}}",
        "error: Pod/default/a: metadata.label: unknown field \"metadata.label\"",
    );
}

#[test]
fn a_dump_of_a_cluster_passes() {
    let text = "\
apiVersion: v1
kind: List
metadata: {resourceVersion: ''}
items:
- apiVersion: v1
  kind: Pod
  metadata:
    name: a
    namespace: x
    uid: 3c1
    resourceVersion: '7'
    creationTimestamp: null
    generateName: a-
    labels: {app: a}
    annotations: {k: v}
    ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: a}]
    managedFields: [{manager: kubectl}]
  spec:
    affinity: {}
    hostname: a
    hostPID: false
    hostIPC: false
    hostUsers: true
    hostAliases: []
    nodeName: n1
    nodeSelector: {}
    restartPolicy: Always
    serviceAccount: default
    initContainers: [{name: i, image: i, ports: [{containerPort: 1}]}]
    ephemeralContainers: [{name: e, image: e, ports: []}]
    containers:
    - name: c
      image: c
      restartPolicyRules: []
      ports: [{name: http, containerPort: 80, hostPort: 8080, hostIP: 10.0.0.1, protocol: TCP}]
  status:
    phase: Running
    hostIP: 10.1.0.1
    hostIPs: [{ip: 10.1.0.1}]
    podIP: 10.0.0.1
    podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]
    qosClass: BestEffort
    conditions: [{type: Ready, status: 'True'}]
    containerStatuses: [{name: c, ready: true}]
- apiVersion: v1
  kind: Namespace
  metadata: {name: x, finalizers: []}
  spec: {finalizers: [kubernetes]}
  status: {phase: Active}
- apiVersion: v1
  kind: Node
  metadata: {name: n1}
  spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24]}
  status:
    addresses: [{type: InternalIP, address: 10.1.0.1}, {type: Hostname, address: n1}]
    allocatable: {}
    nodeInfo: {}
- apiVersion: v1
  kind: Service
  metadata: {name: s, namespace: x}
  spec:
    type: LoadBalancer
    clusterIP: 10.2.0.1
    clusterIPs: [10.2.0.1, 'fd02::1']
    ipFamilies: [IPv4, IPv6]
    ipFamilyPolicy: PreferDualStack
    externalIPs: []
    loadBalancerIP: ''
    ports:
    - {name: http, port: 80, targetPort: http, nodePort: 30080, appProtocol: http}
    - {name: http-udp, port: 80, protocol: UDP, targetPort: 0}
    selector: {app: a}
  status: {loadBalancer: {}}
";
    assert_eq!(said(text), [""; 0]);
}

#[test]
fn every_entry_of_pod_ips_is_an_address() {
    let pod = |status: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nstatus: {{{status}}}\n")
    };
    let empty = "status.podIPs[0]: Invalid value: \"\": must be a valid IP address";
    for status in ["podIPs: [{}]", "podIPs: [null]", "podIPs: [{ip: ''}]"] {
        says(&pod(status), empty);
    }
    says(
        &pod("hostIPs: [{}]"),
        "status.hostIPs[0]: Invalid value: \"\": must be a valid IP",
    );
    says(
        &pod("podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.1}]"),
        "4:40: error: Pod/default/a: status.podIPs[1]: Duplicate value: \"10.0.0.1\"",
    );
    says(
        &pod("podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]"),
        "status.podIPs: Invalid value: [\"10.0.0.1\", \"10.0.0.2\"]: may specify no more than one",
    );
    assert_eq!(said(&pod("podIP: '', podIPs: [], hostIPs: null")), [""; 0]);
}

#[test]
fn pods_nodes_and_namespaces_are_validated_where_they_are_read() {
    let object = |kind: &str, rest: &str| {
        format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n{rest}\n")
    };
    says(
        &object("Namespace", "spec: 5"),
        "4:7: error: Namespace/a: spec: json: cannot unmarshal number 5 into Go struct field \
         Namespace.spec of type v1.NamespaceSpec",
    );
    says(
        &object("Pod", "spec: {nodeName: A_}"),
        "spec.nodeName: Invalid value: \"A_\": a lowercase RFC 1123 subdomain",
    );
    let port = |rest| {
        object(
            "Pod",
            &format!("spec: {{containers: [{{ports: [{rest}]}}]}}"),
        )
    };
    says(
        &port("{containerPort: 80, hostPort: 70000}"),
        "spec.containers[0].ports[0].hostPort: Invalid value: 70000: must be between 1 and 65535",
    );
    says(
        &port("{containerPort: 80, hostIP: 5}"),
        "field ContainerPort.",
    );
    says(
        &object(
            "Node",
            "status: {addresses: [{type: A, address: b}, {type: A, address: b}]}",
        ),
        "4:45: error: Node/a: status.addresses[1]: Duplicate value: \
         {\"type\":\"A\",\"address\":\"b\"}",
    );
}

#[test]
fn services_are_validated() {
    let service = |spec: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{{spec}}}\n")
    };
    for (spec, words) in [
        (
            "ports: [{port: 80, targetPort: '80'}]",
            "spec.ports[0].targetPort: Invalid value: \"80\": must contain at least one letter",
        ),
        (
            "ports: [{port: 80, targetPort: HTTP}]",
            "spec.ports[0].targetPort: Invalid value: \"HTTP\": must contain only",
        ),
        (
            "ports: [{port: 80}, {port: 81, name: b}]",
            "4:16: error: Service/default/a: spec.ports[0].name: Required value",
        ),
        (
            "ports: [{port: 80, name: a}, {port: 81, name: a}]",
            "spec.ports[1].name: Duplicate value: \"a\"",
        ),
        (
            "ports: [{port: 80, name: a}, {port: 80, name: b}]",
            "spec.ports[1]: Duplicate value: {\"protocol\":\"TCP\",\"port\":80}",
        ),
        (
            "ports: [{port: 80, name: A}]",
            "spec.ports[0].name: Invalid value: \"A\": a lowercase RFC 1123 label",
        ),
        (
            "type: clusterip",
            "spec.type: Unsupported value: \"clusterip\": supported values: \"ClusterIP\"",
        ),
        (
            "selector: {'a b': c}",
            "spec.selector: Invalid value: \"a b\": name part must",
        ),
        (
            "clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2]",
            "spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`",
        ),
        (
            "clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 10.0.0.2]",
            "spec.clusterIPs: Invalid value: [\"10.0.0.1\", \"10.0.0.2\"]: may specify no more",
        ),
        (
            "clusterIPs: [10.0.0.1, 10.0.0.1]",
            "spec.clusterIPs[1]: Duplicate value: \"10.0.0.1\"",
        ),
    ] {
        says(&service(spec), words);
    }
    assert_eq!(
        said(&service(
            "clusterIP: None, clusterIPs: [None], ports: [{port: 1, targetPort: ''}]"
        )),
        [""; 0]
    );
    let two = format!(
        "{}---\n{}",
        service("clusterIP: 10.0.0.1"),
        service("clusterIP: 10.0.0.1").replace("name: a", "name: b")
    );
    says(
        &two,
        "6:1: error: document 2: Service/default/b: spec.clusterIPs: Duplicate value: \
         \"10.0.0.1\": also the address of service default/a at f.yaml:1:1",
    );
}

#[test]
fn misspelt_kinds_are_errors_and_foreign_ones_warnings() {
    for (version, kind) in [
        ("v1", "pod"),
        ("v1", "Pods"),
        ("v1", "list"),
        ("v1", "podlist"),
        ("v1", "Sevice"),
        ("V1", "pod"),
        ("networking.k8s.io/v1", "NetworkPolicys"),
        ("networking.k8s.io/V1", "networkpolicy"),
        ("extensions/v1beta1", "NetworkPolicys"),
    ] {
        let text = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: a}}}}");
        says(
            &text,
            &format!("no matches for kind \"{kind}\" in version \"{version}\""),
        );
    }
    for (version, kind) in [
        ("v1", "Secret"),
        ("v1", "Endpoints"),
        ("v1", "ServiceAccount"),
        ("v1", "PodTemplate"),
        ("v1", "SecretList"),
        ("batch/v1", "Job"),
        ("apps/v1", "Deployment"),
        ("networking.k8s.io/v1", "Ingress"),
        ("extensions/v1beta1", "Deployment"),
    ] {
        let text = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: a}}}}");
        says(&text, "warning: ");
    }
}

#[test]
fn scalars_are_what_kubectl_makes_of_them() {
    let pod = |rest: &str| {
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a, labels: {{k: {rest}}}}}}}")
    };
    for word in ["yes", "on", "no", "Off"] {
        says(
            &pod(word),
            "json: cannot unmarshal bool into Go struct field",
        );
    }
    says(
        &pod("0b11"),
        "json: cannot unmarshal number 0b11 into Go struct field",
    );
    assert_eq!(said(&pod("'yes'")), [""; 0]);
    let set = policy(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostNetwork: yes}}\n---\n\
         {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: \
         {podSelector: {}, ingress: [{ports: [{port: 80.0}, {port: 8e1}, {port: 1_000}, \
         {port: 0b11, endPort: 9.0}]}]}}",
    );
    assert!(set.inventory.pod("default", "a").unwrap().host_network);
    let ports: Vec<_> = set.policies.network_policies[0].ingress[0]
        .ports
        .iter()
        .map(|port| &port.ports)
        .collect();
    let range = |first, last| network_policy::PortMatch::Range { first, last };
    assert_eq!(
        ports,
        [
            &range(80, 80),
            &range(80, 80),
            &range(1000, 1000),
            &range(3, 9)
        ]
    );
    says(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: \
         {podSelector: {}, ingress: [{ports: [{port: 0120}]}]}}",
        "a number with leading zeros is octal",
    );
}

#[test]
fn a_selector_left_out_is_reported_at_the_spec() {
    says(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  \
         policyTypes: [Ingress]\n",
        "4:1: warning: NetworkPolicy/default/p: spec.podSelector: no effect",
    );
}

/// A pod on a node, isolated.
fn on_node(node: &str) -> PolicySet {
    policy(&format!(
        "{node}{{apiVersion: v1, kind: Pod, metadata: {{namespace: x, name: a}}, spec: \
         {{nodeName: n1}}, status: {{hostIP: 10.9.0.9, podIPs: [{{ip: 10.0.0.1}}]}}}}\n---\n\
         {{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{namespace: x, name: \
         p}}, spec: {{podSelector: {{}}}}}}\n"
    ))
}

#[test]
fn a_node_that_is_written_speaks_for_itself() {
    let alone = on_node("");
    assert!(passes(&alone, "10.9.0.9", "x/a", "tcp/80"));
    let written = on_node(
        "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: \
         InternalIP, address: 10.9.0.1}, {type: Hostname, address: 10.9.0.2}, {type: Foo, \
         address: 10.9.0.3}, {type: Hostname, address: n1}]}}\n---\n",
    );
    assert!(!passes(&written, "10.9.0.9", "x/a", "tcp/80"));
    for own in ["10.9.0.1", "10.9.0.2", "10.9.0.3"] {
        assert!(passes(&written, own, "x/a", "tcp/80"), "{own}");
    }
}

#[test]
fn discovery_with_a_wrong_hop_limit_is_ordinary_icmpv6() {
    let set = on_node("");
    for (icmp_type, expected) in [
        (130, 1),
        (131, 1),
        (132, 1),
        (133, 255),
        (134, 255),
        (135, 255),
        (136, 255),
        (143, 1),
    ] {
        let mut key = key(&set, "fd00::1", "fd00::2", "icmp", Family::V6);
        key.destination_port = FlowKey::icmp_port(icmp_type, 0);
        for hop_limit in [None, Some(0), Some(1), Some(64), Some(254), Some(255)] {
            let genuine = hop_limit.is_none_or(|hop_limit| hop_limit == expected);
            let key = PolicyKey {
                hop_limit,
                ..PolicyKey::from(key)
            };
            let exempt = key.exemption().is_some();
            assert_eq!(exempt, genuine, "{icmp_type} {hop_limit:?}");
        }
    }
}

#[test]
fn a_port_name_of_two_containers_stands_for_both_numbers() {
    let set = policy(
        "{apiVersion: v1, kind: Pod, metadata: {namespace: x, name: a}, spec: {containers: \
         [{ports: [{name: web, containerPort: 80}]}, {ports: [{name: web, containerPort: 81}, \
         {name: w, containerPort: 82}]}]}, status: {podIPs: [{ip: 10.0.0.1}]}}\n---\n\
         {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: x, name: \
         p}, spec: {podSelector: {}, ingress: [{ports: [{port: web}]}]}}",
    );
    for (port, expected) in [(80, true), (81, true), (82, false)] {
        let probe = format!("tcp/{port}");
        assert_eq!(passes(&set, "10.9.0.9", "x/a", &probe), expected, "{port}");
    }
}
