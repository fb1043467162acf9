//! Manifests for the hosts of a [`Lab`](super::lab::Lab).

/// The hosts as pods of two namespaces.
pub const INVENTORY: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: office, labels: {team: office}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: office, labels: {app: client}}
spec: {containers: [{name: client, image: client}]}
status: {podIP: 198.18.0.2, podIPs: [{ip: 198.18.0.2}, {ip: "2001:db8::2"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server}}
spec: {containers: [{name: server, image: server}]}
status: {podIP: 198.18.1.2, podIPs: [{ip: 198.18.1.2}, {ip: "2001:db8:1::2"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server-on-the-wire, namespace: shop, labels: {app: server}}
spec: {containers: [{name: server, image: server}]}
status: {podIP: 198.18.0.3, podIPs: [{ip: 198.18.0.3}, {ip: "2001:db8::3"}]}
"#;

/// A policy that lets the client reach the server on these ports, TCP and UDP, and nothing else
/// reach it.
pub fn allow_ports(name: &str, ports: &[u16]) -> String {
    let entry = |port: &u16| {
        format!("    - {{port: {port}, protocol: TCP}}\n    - {{port: {port}, protocol: UDP}}\n")
    };
    let ports: String = ports.iter().map(entry).collect();
    format!("{}\n{CLIENT}    ports:\n{ports}", head(name))
}

/// A policy that lets the client reach the server with every protocol.
pub fn allow_everything(name: &str) -> String {
    format!("{}\n{CLIENT}", head(name))
}

/// A policy that lets nothing reach the server.
pub fn deny_everything(name: &str) -> String {
    format!("{} []\n", head(name))
}

/// A manifest no version of the API accepts, with the error on line 9, column 15.
pub const BROKEN: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: broken, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:
    - ipBlock:
        cidr: 198.18.0.0/300
";

const CLIENT: &str = "  - from: [{namespaceSelector: {matchLabels: {team: office}}}]\n";

fn head(name: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: server}}}}\n  policyTypes: [Ingress]\n  \
         ingress:"
    )
}
