//! Every field wrong in turn: what is said, with line and column.

use super::*;

/// A policy that uses every field; line 1 is `apiVersion`.
const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web-in
  namespace: b
  labels: {app: web}
spec:
  podSelector:
    matchLabels:
      app: web
    matchExpressions:
    - key: tier
      operator: In
      values: [front, back]
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - ipBlock:
        cidr: 10.0.0.0/8
        except: [10.1.0.0/16]
    - namespaceSelector: {}
      podSelector:
        matchLabels: {app: client}
    ports:
    - protocol: TCP
      port: 8000
      endPort: 9000
    - port: http
  egress:
  - to:
    - ipBlock: {cidr: \"::/0\"}
    ports:
    - {protocol: UDP, port: 53}
";

/// One of each kind that is no policy.
const INVENTORY: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: b
  labels: {app: web}
spec:
  nodeName: n1
  hostNetwork: false
  initContainers:
  - restartPolicy: Always
    ports: [{containerPort: 9090}]
  containers:
  - image: nginx
    ports:
    - {name: http, containerPort: 80, protocol: TCP}
status:
  phase: Running
  podIP: 10.0.0.1
  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]
  hostIP: 192.168.0.1
---
apiVersion: v1
kind: Pod
metadata: {name: cli}
status: {podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: b, labels: {team: blue}}
---
apiVersion: v1
kind: Node
metadata: {name: n1.example.com}
status:
  addresses:
  - {type: InternalIP, address: 192.168.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: svc, namespace: b}
spec:
  type: ClusterIP
  clusterIP: 172.30.0.1
  clusterIPs: [172.30.0.1]
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

const PODS: &str = "\
---
apiVersion: v1
kind: Pod
metadata: {namespace: b, name: web, labels: {app: web, tier: front}}
spec: {containers: [{ports: [{name: http, containerPort: 80}]}]}
status: {podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: c, name: client, labels: {app: client}}
status: {podIPs: [{ip: 10.0.0.2}]}
";

/// A table of changes to a manifest, each with what is said of it: `-` the text replaced, `+` what
/// it is replaced by (both with `\\n` for a line break), `=` the findings, without file name.
struct Table {
    file: &'static str,
    text: &'static str,
    manifest: String,
}

impl Table {
    /// Compares with the file; `PORTCULLIS_BLESS=1` in the environment rewrites it instead.
    fn check(&self) {
        let mut rendered = String::new();
        let mut from = "";
        for line in self.text.lines() {
            match line.split_at_checked(2) {
                Some(("- ", text)) => from = text,
                Some(("+ ", text)) => {
                    writeln!(rendered, "- {from}\n+ {text}").unwrap();
                    for line in self.said(from, text) {
                        writeln!(rendered, "= {line}").unwrap();
                    }
                    rendered.push('\n');
                }
                Some(("# ", _)) => writeln!(rendered, "{line}\n").unwrap(),
                _ => {}
            }
        }
        if std::env::var_os("PORTCULLIS_BLESS").is_some() {
            let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/policy/tests/");
            std::fs::write(format!("{directory}{}", self.file), &rendered).unwrap();
            return;
        }
        for (number, (found, expected)) in rendered.lines().zip(self.text.lines()).enumerate() {
            assert_eq!(found, expected, "{} line {}", self.file, number + 1);
        }
        assert_eq!(rendered, self.text, "{}", self.file);
    }

    fn said(&self, from: &str, to: &str) -> Vec<String> {
        let unescape = |text: &str| text.replace("\\n", "\n");
        let (from, to) = (unescape(from), unescape(to));
        assert!(self.manifest.contains(&from), "{from}");
        let loaded = load_text(&self.manifest.replacen(&from, &to, 1));
        let errors = |finding: &Finding| finding.severity == Severity::Error;
        assert_eq!(loaded.policy.is_none(), loaded.findings.iter().any(errors));
        let line = |finding: &Finding| {
            let line = finding.to_string();
            line.strip_prefix("f.yaml:").unwrap().to_owned()
        };
        loaded.findings.iter().map(line).collect()
    }
}

#[test]
fn every_field_of_a_policy_wrong_in_turn() {
    let table = Table {
        file: "network_policy.table",
        text: include_str!("network_policy.table"),
        manifest: POLICY.to_owned() + PODS,
    };
    table.check();
}

#[test]
fn every_field_of_the_inventory_wrong_in_turn() {
    let table = Table {
        file: "inventory.table",
        text: include_str!("inventory.table"),
        manifest: INVENTORY.to_owned(),
    };
    table.check();
}

#[test]
fn the_manifests_themselves_are_fine() {
    assert_eq!(findings(&(POLICY.to_owned() + PODS)), [""; 0]);
    assert_eq!(findings(INVENTORY), [""; 0]);
}
