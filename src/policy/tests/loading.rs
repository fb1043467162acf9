//! Files, documents, lists, and what of them takes part.

use super::*;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {namespace: b, name: web}\n\
                   status: {podIP: 10.0.0.1}\n";
const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                      metadata: {namespace: b, name: deny}\nspec: {podSelector: {}}\n";

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile {
        name: name.to_owned(),
        text: text.into(),
    }
}

fn load_files(files: &[SourceFile]) -> Loaded {
    load(files, &Compatibility::default(), &Names::default())
}

#[test]
fn nothing_is_a_policy_set_too() {
    for text in ["", "# only a comment\n", "---\n---\n"] {
        let set = policy(text);
        assert!(set.policies.is_empty() && set.inventory.pods().is_empty());
        assert!(set.stages.iter().all(|stage| stage.is_empty()));
        assert!(passes(&set, "10.0.0.1", "10.0.0.2", "tcp/80"));
    }
    assert!(load_files(&[]).policy.is_some());
}

#[test]
fn lists_of_every_kind_are_opened() {
    let items = |kind: &str, version: &str, item: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{resourceVersion: ''}}\n\
             items:\n- {item}\n"
        )
    };
    let pod = "metadata: {namespace: b, name: web}\n  status: {podIP: 10.0.0.1}";
    let with_type = format!("apiVersion: v1\n  kind: Pod\n  {pod}");
    let list = items("List", "v1", &with_type);
    let nested = items("List", "v1", &list.trim_end().replace('\n', "\n  "));
    for text in [
        items("PodList", "v1", pod),
        items("PodList", "v1", &with_type),
        list,
        nested,
    ] {
        let set = policy(&text);
        assert!(set.inventory.pod("b", "web").is_some(), "{text}");
    }
    let spec = "metadata: {namespace: b, name: deny}\n  spec: {podSelector: {}}";
    for version in ["networking.k8s.io/v1", "extensions/v1beta1"] {
        let set = policy(&items("NetworkPolicyList", version, spec));
        assert_eq!(set.policies.network_policies[0].full_name(), "b/deny");
    }
    assert_eq!(
        findings("apiVersion: v1\nkind: List\nitem: []\n"),
        [
            "f.yaml:3:1: error: List: item: unknown field \"item\"; did you mean \"items\"? \
          [unknown-field]"
        ]
    );
    assert_eq!(
        findings("apiVersion: v1\nkind: List\nitems: [5, {kind: Pod}]\n"),
        [
            "f.yaml:3:9: error: json: cannot unmarshal number into Go value of type \
             map[string]interface {} [wrong-type]",
            "f.yaml:3:12: error: Pod: apiVersion: Required value: Object 'apiVersion' is missing \
             [required-value]",
        ]
    );
    let mut deep = "{apiVersion: v1, kind: List, items: []}".to_owned();
    for _ in 0..20 {
        deep = format!("{{apiVersion: v1, kind: List, items: [{deep}]}}");
    }
    assert!(findings(&deep)[0].contains("lists nested more than 16 deep"));
}

#[test]
fn json_is_read_as_kubectl_writes_it() {
    let text = r#"{
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "namespace": "b", "labels": {"app": "web"}},
            "status": {"podIPs": [{"ip": "10.0.0.1"}]}
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "deny", "namespace": "b"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "web"}},
                "ingress": [{"ports": [{"port": 0, "protocol": "TCP"}]}]
            }
        }
    ]
}
"#;
    assert_eq!(
        findings(text),
        [
            "f.yaml:17:49: error: NetworkPolicy/b/deny: spec.ingress[0].ports[0].port: Invalid \
             value: 0: must be between 1 and 65535, inclusive [invalid-value]"
        ]
    );
    let set = policy(&text.replace("\"port\": 0", "\"port\": 80"));
    assert!(passes(&set, "10.9.9.9", "b/web", "tcp/80"));
    assert!(!passes(&set, "10.9.9.9", "b/web", "tcp/81"));
    let one_line = text
        .replace("\"port\": 0", "\"port\": 80")
        .replace('\n', "");
    assert_eq!(findings(&one_line), [""; 0]);
}

#[test]
fn one_error_refuses_everything_and_all_errors_are_told() {
    let files = [
        file(
            "b.yaml",
            &format!("{POD}---\n{}", POLICY.replace("deny", "Deny")),
        ),
        file("a.yaml", "kind: Pod\n---\na: [\n"),
        file("c.yaml", POLICY),
    ];
    let loaded = load_files(&files);
    assert!(loaded.policy.is_none());
    let places: Vec<_> = loaded
        .findings
        .iter()
        .map(|finding| (finding.place.to_string(), finding.id, finding.document))
        .collect();
    let expected = [
        ("a.yaml:1:1", "required-value", 1),
        ("a.yaml:3:4", "syntax", 2),
        ("b.yaml:8:32", "invalid-value", 2),
    ];
    assert_eq!(
        places,
        expected.map(|(place, id, document)| (place.to_owned(), id, document))
    );
    assert!(load_files(&files[2..]).policy.is_some());
}

#[test]
fn the_same_object_twice_is_refused_with_both_places() {
    let files = [
        file("a.yaml", POLICY),
        file("b.yaml", &format!("{POD}---\n{POLICY}")),
    ];
    let loaded = load_files(&files);
    let lines: Vec<_> = loaded.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "b.yaml:6:1: error: document 2: NetworkPolicy/b/deny: metadata.name: Duplicate value: \
          \"deny\": already defined at a.yaml:1:1 [duplicate-object]"
        ]
    );
    // The same object of the older group is the same object.
    let older = POLICY.replace("networking.k8s.io/v1", "extensions/v1beta1");
    assert_eq!(findings(&format!("{POLICY}---\n{older}")).len(), 1);
    let other = POLICY.replace("namespace: b", "namespace: c");
    assert!(load_text(&format!("{POLICY}---\n{other}")).policy.is_some());
    assert_eq!(
        findings(&format!("{POD}---\n{POD}")).len(),
        2,
        "name and address"
    );
}

#[test]
fn unknown_kinds_are_told_and_change_nothing() {
    let other = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: b}\n\
                 spec: {anything: [goes]}\n---\napiVersion: cilium.io/v2\n\
                 kind: CiliumNetworkPolicy\nmetadata: {name: m, namespace: b}\n";
    let loaded = load_text(&format!("{POD}---\n{POLICY}{other}"));
    let lines: Vec<_> = loaded.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "f.yaml:12:7: warning: document 3: Deployment/b/d: kind: kind \"Deployment\" in \
             version \"apps/v1\" is not read: no effect [unknown-kind]",
            "f.yaml:17:7: warning: document 4: CiliumNetworkPolicy/b/m: kind: kind \
             \"CiliumNetworkPolicy\" in version \"cilium.io/v2\" is not read: no effect \
             [unknown-kind]",
        ]
    );
    assert!(loaded.policy.is_some());
}

#[test]
fn namespaces_are_implied_and_always_have_their_name() {
    let set = policy(&format!(
        "{POD}---\n{POLICY}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: c}}\n"
    ));
    let name_of = |name: &str| {
        let namespace = set.inventory.namespace(name).unwrap();
        (namespace.labels.clone(), namespace.source.is_some())
    };
    let label = |name: &str| {
        inventory::Labels::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())])
    };
    assert_eq!(name_of("b"), (label("b"), false));
    assert_eq!(name_of("c"), (label("c"), true));
    let set = policy("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n");
    assert!(set.inventory.pod("default", "web").is_some());
    assert!(set.inventory.namespace("default").is_some());
}

#[test]
fn services_lead_to_their_pods() {
    let set = policy(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: b, name: svc}\nspec:\n  \
         clusterIPs: [172.30.0.9]\n  selector: {app: web}\n  \
         ports: [{name: h, port: 80, targetPort: http}, {name: d, port: 53, protocol: UDP}]\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {namespace: b, name: web, labels: {app: web}}\n\
         status: {podIP: 10.0.0.1}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {namespace: c, name: web, labels: {app: web}}\n\
         status: {podIP: 10.0.0.2}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {namespace: b, name: old, labels: {app: web}}\n\
         status: {podIP: 10.0.0.3, phase: Failed}\n",
    );
    let service = set.inventory.service("b", "svc").unwrap();
    let backends: Vec<_> = set
        .inventory
        .backends(service)
        .map(Pod::full_name)
        .collect();
    assert_eq!(backends, ["b/web"]);
    assert_eq!(
        service.cluster_addresses,
        ["172.30.0.9".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(
        service.ports[0].target,
        inventory::TargetPort::Name("http".to_owned())
    );
    assert_eq!(service.ports[1].target, inventory::TargetPort::Number(53));
    assert_eq!(service.ports[1].protocol, protocol::UDP);
}

#[test]
fn the_first_port_of_a_name_counts_and_sidecars_come_last() {
    let set = policy(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  initContainers:\n  \
         - {restartPolicy: Always, ports: [{name: http, containerPort: 1}, \
         {name: side, containerPort: 2}]}\n  \
         - {ports: [{name: setup, containerPort: 3}]}\n  containers:\n  \
         - {ports: [{name: http, containerPort: 4, protocol: UDP}]}\n  \
         - {ports: [{name: http, containerPort: 5}]}\n  \
         - {ports: [{name: http, containerPort: 6}, {containerPort: 7}]}\n",
    );
    let pod = set.inventory.pod("default", "p").unwrap();
    assert_eq!(pod.named_port(protocol::TCP, "http"), Some(5));
    assert_eq!(pod.named_port(protocol::UDP, "http"), Some(4));
    assert_eq!(pod.named_port(protocol::TCP, "side"), Some(2));
    assert_eq!(pod.named_port(protocol::TCP, "setup"), None);
}

#[test]
fn rules_are_labelled_by_where_they_are_written() {
    let set = policy(&format!(
        "{POD}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{namespace: b, name: web-in}}\nspec:\n  podSelector: {{}}\n  ingress:\n  \
         - ports: [{{port: 80}}]\n  - ports: [{{port: 81}}]\n"
    ));
    let evaluate = |probe| {
        let key = key(&set, "10.9.9.9", "b/web", probe, Family::V4);
        let evaluation = set.evaluate(key);
        let step = evaluation.opinions.last().unwrap();
        let origin = set.stages[step.stage].origin(step.rule.unwrap());
        let place = origin
            .place()
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        (origin.label.clone(), place, origin.path.clone())
    };
    let label = |label: &str, place: &str, path: &str| {
        (label.to_owned(), place.to_owned(), path.to_owned())
    };
    assert_eq!(
        evaluate("tcp/81"),
        label("NetworkPolicy/b/web-in#1", "f.yaml:13:5", "spec.ingress[1]")
    );
    assert_eq!(
        evaluate("tcp/82"),
        label("NetworkPolicy/b/*#isolation", "", "")
    );
}

/// Ids by label of the ingress rules.
fn ids(text: &str) -> Vec<(String, u64)> {
    let set = policy(text);
    let stage = &set.stages[1];
    let rules = (0..).map(crate::classifier::RuleIndex).zip(stage.rules());
    rules
        .map(|(number, rule)| (stage.origin(number).label.clone(), rule.id.0))
        .collect()
}

#[test]
fn rule_ids_follow_the_content_and_not_the_position() {
    let with = |rules: &str| {
        format!(
            "{POD}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{namespace: b, name: p}}\nspec: {{podSelector: {{}}, ingress: [{rules}]}}\n"
        )
    };
    let one = "{ports: [{port: 80}], from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}]}";
    let other = "{ports: [{port: 81}]}";
    let before = ids(&with(&format!("{one}, {other}")));
    let after = ids(&with(&format!("{other}, {one}")));
    assert_eq!((before[0].1, before[1].1), (after[1].1, after[0].1));
    assert_eq!(before[2], after[2]);
    // Other order of peers, other spelling, another pod: the same rule.
    let respelt = "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: []}}, \
                   {podSelector: {matchLabels: {}}}], \
                   ports: [{protocol: TCP, port: 80, endPort: 80}]}";
    let grown = with(&format!("{respelt}, {other}"))
        + "---\n"
        + &POD.replace("web", "web2").replace("10.0.0.1", "10.0.0.2");
    assert_eq!(ids(&grown)[0].1, before[0].1);
    // Twice the same: two rules, told apart.
    let twice = ids(&with(&format!("{other}, {other}")));
    assert_eq!(twice[0].1, before[1].1);
    assert_ne!(twice[0].1, twice[1].1);
    // Another namespace, name, direction or content is another rule.
    let elsewhere = ids(&with(other).replace("namespace: b", "namespace: c"));
    assert_ne!(elsewhere[0].1, before[1].1);
}

#[test]
fn what_has_no_effect_is_told() {
    let warnings = |text: &str, switches: &[(&str, &str)]| -> Vec<(&'static str, String)> {
        let mut compatibility = Compatibility::default();
        for (switch, value) in switches {
            compatibility.set(switch, value).unwrap();
        }
        let loaded = load_with(text, &compatibility);
        assert!(loaded.policy.is_some(), "{:?}", loaded.findings);
        let told = |finding: &Finding| (finding.id, finding.message.clone());
        loaded.findings.iter().map(told).collect()
    };
    let both = format!("{POD}---\n{POLICY}");
    assert_eq!(warnings(&both, &[]), []);
    let inert = warnings(&both, &[("plugin", "multitenant")]);
    assert_eq!(inert[0].0, "inert-policy");
    let inert = warnings(&both, &[("np_profile", "v1beta1-isolation")]);
    assert_eq!(inert[0].0, "inert-policy");
    let host = both.replace("status: {podIP: 10.0.0.1}", "spec: {hostNetwork: true}");
    assert_eq!(
        warnings(&host, &[]),
        [(
            "selects-nothing",
            "no effect: podSelector (everything) selects no pod of namespace b: those it matches \
             are on the host's network or have finished"
                .to_owned()
        )]
    );
    let pending = both.replace("status: {podIP: 10.0.0.1}\n", "");
    assert_eq!(warnings(&pending, &[])[0].0, "no-address");
    let named = both.replace(
        "spec: {podSelector: {}}",
        "spec: {podSelector: {}, egress: [{ports: [{port: dns, protocol: UDP}]}]}",
    );
    let ids: Vec<_> = warnings(&named, &[])
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids, ["egress-without-dns", "unknown-named-port"]);
    // Closing egress altogether is meant.
    let closed = both.replace("podSelector: {}", "podSelector: {}, policyTypes: [Egress]");
    assert_eq!(warnings(&closed, &[]), []);
    let resolved = both.replace(
        "spec: {podSelector: {}}",
        "spec: {podSelector: {}, egress: [{ports: [{port: 443}]}, {ports: [{protocol: UDP}]}]}",
    );
    assert_eq!(warnings(&resolved, &[]), []);
    let annotated = format!(
        "{both}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: b, annotations: \
         {{net.beta.kubernetes.io/network-policy: '{{'}}}}\n"
    );
    let told = warnings(&annotated, &[("np_profile", "v1beta1-isolation")]);
    assert!(
        told.iter().any(|(id, _)| *id == "isolation-annotation"),
        "{told:?}"
    );
}

#[test]
fn dumps_of_a_live_cluster_are_read() {
    let set = policy(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    \
         cni.projectcalico.org/podIP: 10.0.0.1/32\n    \
         kubectl.kubernetes.io/last-applied-configuration: |\n      {\"apiVersion\":\"v1\"}\n  \
         creationTimestamp: \"2026-01-01T00:00:00Z\"\n  generateName: web-\n  labels:\n    \
         app: web\n    pod-template-hash: \"1234\"\n  name: web-x\n  namespace: b\n  \
         ownerReferences:\n  - {apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: u, \
         controller: true}\n  resourceVersion: \"1\"\n  uid: u\n  managedFields:\n  \
         - {manager: kubelet, fieldsV1: {\"f:status\": {}}}\nspec:\n  nodeName: n1\n  \
         volumes: [{name: v, emptyDir: {}}]\n  containers:\n  - image: nginx\n    \
         livenessProbe: {httpGet: {path: /, port: 80}}\n    resources: {limits: {cpu: 1}}\n    \
         ports:\n    - {containerPort: 80, name: http, protocol: TCP, hostPort: 8080}\n  \
         tolerations: [{key: a, operator: Exists, tolerationSeconds: 300}]\nstatus:\n  \
         conditions: [{type: Ready, status: \"True\"}]\n  \
         containerStatuses: [{restartCount: 0}]\n  \
         hostIP: 192.168.0.1\n  hostIPs: [{ip: 192.168.0.1}]\n  phase: Running\n  \
         podIP: 10.0.0.1\n  podIPs: [{ip: 10.0.0.1}]\n  startTime: \"2026-01-01T00:00:00Z\"\n",
    );
    let pod = set.inventory.pod("b", "web-x").unwrap();
    assert_eq!(pod.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(set.inventory.node("n1").unwrap().addresses.len(), 1);
}

/// Every value of a policy and a pod replaced by every kind of junk: nothing panics, all or nothing
/// holds, and every finding has a place in the file.
#[test]
fn no_manifest_panics() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: p\n  \
                namespace: b\n  labels:\n    a: b\n  generation: 1\nspec:\n  podSelector:\n    \
                matchLabels:\n      a: b\n    matchExpressions:\n    - key: a\n      \
                operator: In\n      values:\n      - b\n  policyTypes:\n  - Egress\n  egress:\n  \
                - to:\n    - ipBlock:\n        cidr: 10.0.0.0/8\n        except:\n        \
                - 10.1.0.0/16\n    - podSelector:\n        matchLabels:\n          a: b\n    \
                ports:\n    - protocol: TCP\n      port: 80\n      endPort: 90\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  namespace: b\nspec:\n  \
                hostNetwork: false\n  nodeName: n\n  containers:\n  - ports:\n    \
                - name: http\n      containerPort: 80\n      protocol: TCP\nstatus:\n  \
                phase: Running\n  podIP: 10.0.0.1\n  podIPs:\n  - ip: 10.0.0.1\n";
    let junk = [
        "",
        "null",
        "5",
        "-1",
        "0",
        "1.5",
        "[]",
        "{}",
        "x",
        "true",
        "''",
        "[[]]",
        "{a: b}",
        "[null]",
        "[{}]",
        "[5]",
        "&x [*x]",
        "*y",
        "!!binary x",
        "{",
        "\"",
        "99999999999",
        "\u{7}",
        "[x, x]",
        "'a b'",
        "{a: {a: {a: a}}}",
    ];
    let lines: Vec<_> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let head = match line.find(": ") {
            Some(colon) => &line[..colon + 2],
            None => line,
        };
        for junk in junk {
            let mut changed = lines.clone();
            let line = format!("{head} {junk}");
            changed[number] = &line;
            // Once with what was below the value, once without.
            let indent = |line: &str| line.len() - line.trim_start().len();
            let below = |other: &&&str| indent(other) > indent(head);
            let depth = changed[number + 1..].iter().take_while(below).count();
            let kept = changed.join("\n");
            changed.drain(number + 1..=number + depth);
            for text in [kept, changed.join("\n")] {
                let loaded = load_text(&text);
                let refused = |finding: &Finding| finding.severity == Severity::Error;
                assert_eq!(
                    loaded.policy.is_none(),
                    loaded.findings.iter().any(refused),
                    "{text}"
                );
                for finding in &loaded.findings {
                    let line = text
                        .lines()
                        .nth(finding.place.line as usize - 1)
                        .unwrap_or("");
                    let columns = line.chars().count() as u32 + 1;
                    assert!(
                        (1..=columns).contains(&finding.place.column),
                        "{finding}\n{text}"
                    );
                }
            }
        }
    }
}
