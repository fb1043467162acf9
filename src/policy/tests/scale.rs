//! Large sets load in linear time and compile to few rules.

use std::time::Instant;

use super::*;

/// As `kubectl get -o yaml` writes them, with fields nobody reads.
fn large(pods: usize, policies: usize) -> String {
    let mut text = String::new();
    for number in 0..pods {
        let (namespace, app, node) = (number % 100, number % 37, number % 250);
        let address = format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
        write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-{number}\n  \
             namespace: ns-{namespace}\n  uid: 6f1a-{number}\n  labels:\n    \
             app: app-{app}\n    tier: tier-{}\n    pod-template-hash: h{number}\n  \
             managedFields:\n  - manager: kubelet\n    operation: Update\n    \
             fieldsV1: {{\"f:metadata\": {{\"f:labels\": {{\".\": {{}}, \"f:app\": {{}}}}}}}}\n\
             spec:\n  nodeName: node-{node}\n  containers:\n  - name: main\n    image: nginx\n    \
             ports:\n    - name: http\n      containerPort: {}\n      protocol: TCP\n\
             status:\n  phase: Running\n  hostIP: 192.168.{}.{}\n  podIP: {address}\n  \
             podIPs:\n  - ip: {address}\n  - ip: fd00::{number:x}\n",
            number % 3,
            8080 + number % 2,
            node >> 8,
            node & 255,
        )
        .unwrap();
    }
    for number in 0..policies {
        let (namespace, app) = (number % 100, number % 37);
        write!(
            text,
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  \
             name: policy-{number}\n  namespace: ns-{namespace}\nspec:\n  podSelector:\n    \
             matchLabels: {{app: app-{app}}}\n  policyTypes: [Ingress, Egress]\n  ingress:\n  \
             - from:\n    - podSelector: {{matchLabels: {{tier: tier-1}}}}\n    \
             - namespaceSelector: {{}}\n      podSelector: {{matchLabels: {{app: app-{}}}}}\n    \
             ports:\n    - port: http\n    - port: 443\n  egress:\n  - to:\n    \
             - ipBlock: {{cidr: 10.{}.0.0/16, except: [10.{}.1.0/24]}}\n  \
             - to: [{{namespaceSelector: {{}}}}]\n    \
             ports: [{{port: 53, protocol: UDP}}]\n",
            (number + 1) % 37,
            number % 200,
            number % 200,
        )
        .unwrap();
    }
    text
}

/// Ten thousand pods and a thousand policies when `PORTCULLIS_SCALE` is set; a tenth otherwise.
#[test]
fn a_large_cluster_loads() {
    let full = std::env::var_os("PORTCULLIS_SCALE").is_some();
    let (pods, policies) = if full { (10_000, 1_000) } else { (1_000, 100) };
    let text = large(pods, policies);
    let start = Instant::now();
    let set = policy(&text);
    println!(
        "{pods} pods, {policies} policies, {} bytes: {:?}",
        text.len(),
        start.elapsed()
    );
    assert_eq!(set.inventory.pods().len(), pods);
    let [egress, ingress] = &set.stages[..] else {
        panic!("two stages");
    };
    // Per policy: two egress rules; two numbers of a port name and one number of ingress. Per
    // namespace one denial, per node one exception. Nothing per pod.
    assert!(egress.len() <= 2 * policies + 100 + 250);
    assert!(ingress.len() <= 3 * policies + 100 + 250);
    assert!(ingress.len() > policies);
}
