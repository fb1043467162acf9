//! Manifests of any size, the same every time.

use std::fmt::Write;

use portcullis::policy::SourceFile;
use portcullis::wire::{Address, Family, FlowKey, protocol};

const PODS_PER_NAMESPACE: usize = 500;
const POLICIES_PER_NAMESPACE: usize = 50;
const APPLICATIONS: usize = 10;

/// Files of manifests for so many pods: one of pods a namespace, one of policies a namespace, one
/// of security groups.
pub fn files(pods: usize) -> Vec<SourceFile> {
    let namespaces = pods.div_ceil(PODS_PER_NAMESPACE);
    let groups = (pods / 100).max(10);
    let mut files = Vec::new();
    let mut nodes = String::new();
    for node in 0..(pods / 100).max(1) {
        writeln!(
            nodes,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-{node}}}\n\
             status: {{addresses: [{{type: InternalIP, address: 172.16.{}.{}}}]}}",
            node / 250,
            node % 250 + 1
        )
        .unwrap();
    }
    files.push(SourceFile {
        name: "nodes.yaml".into(),
        text: nodes.into(),
    });
    for namespace in 0..namespaces {
        let mut text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: team-{namespace}\n  labels: {{tier: tier-{}}}\n",
            namespace % 5
        );
        let first = namespace * PODS_PER_NAMESPACE;
        for pod in first..pods.min(first + PODS_PER_NAMESPACE) {
            self::pod(&mut text, namespace, pod, groups);
        }
        files.push(SourceFile {
            name: format!("team-{namespace}/pods.yaml"),
            text: text.into(),
        });
        let mut text = String::new();
        for number in 0..POLICIES_PER_NAMESPACE {
            self::policy(&mut text, namespace, number);
        }
        files.push(SourceFile {
            name: format!("team-{namespace}/policies.yaml"),
            text: text.into(),
        });
    }
    let mut text = String::new();
    for group in 0..groups {
        self::group(&mut text, group, groups);
    }
    files.push(SourceFile {
        name: "groups.yaml".into(),
        text: text.into(),
    });
    files
}

fn pod(text: &mut String, namespace: usize, pod: usize, groups: usize) {
    writeln!(
        text,
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  namespace: team-{namespace}\n  name: pod-{pod}\n  \
         labels: {{app: app-{}, role: role-{}, pod-template-hash: h{}}}\n  \
         annotations: {{ovn.kubernetes.io/security_groups: group-{}, ovn.kubernetes.io/port_security: \"true\", \
         ovn.kubernetes.io/mac_address: \"02:00:00:{:02x}:{:02x}:{:02x}\"}}\n\
         spec:\n  nodeName: node-{}\n  containers:\n  - name: main\n    ports:\n    \
         - {{name: web, containerPort: {}}}\n    - {{name: metrics, containerPort: 9090}}\n\
         status:\n  phase: Running\n  podIP: {address}\n  podIPs: [{{ip: {address}}}, {{ip: \"2001:db8::{:x}:{:x}\"}}]",
        pod % APPLICATIONS,
        pod % 3,
        pod % 7,
        (pod / 10) % groups,
        pod >> 16,
        pod >> 8 & 255,
        pod & 255,
        pod / 100,
        8080 + pod % 2,
        (pod + 1) >> 16,
        (pod + 1) & 0xffff,
        address = format_args!("10.{}.{}.{}", pod >> 16, pod >> 8 & 255, pod & 255),
    )
    .unwrap();
}

fn policy(text: &mut String, namespace: usize, number: usize) {
    let application = number % APPLICATIONS;
    let other = (number + 3) % APPLICATIONS;
    writeln!(
        text,
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  \
         namespace: team-{namespace}\n  name: policy-{number}\nspec:\n  \
         podSelector: {{matchLabels: {{app: app-{application}}}}}\n  \
         policyTypes: [Ingress, Egress]\n  \
         ingress:\n  - from:\n    - podSelector: {{matchLabels: {{app: app-{other}}}}}\n    \
         - ipBlock: {{cidr: 10.{}.0.0/16, except: [10.{}.7.0/24]}}\n    \
         ports: [{{port: {}}}, {{port: web}}]\n  egress:\n  - to:\n    \
         - namespaceSelector: {{matchLabels: {{tier: tier-{}}}}}\n      \
         podSelector: {{matchLabels: {{app: app-{application}}}}}\n    \
         ports: [{{protocol: TCP, port: 8000, endPort: {}}}, {{protocol: UDP, port: 53}}]",
        number % 2,
        number % 2,
        8000 + number,
        number % 5,
        8000 + number,
    )
    .unwrap();
}

fn group(text: &mut String, group: usize, groups: usize) {
    writeln!(
        text,
        "---\napiVersion: kubeovn.io/v1\nkind: SecurityGroup\n\
         metadata: {{name: group-{group}}}\nspec:\n  \
         allowSameGroupTraffic: true\n  ingressRules:\n  \
         - {{ipVersion: ipv4, policy: allow, priority: 10, protocol: tcp, remoteType: address, \
         remoteAddress: 10.{}.0.0/16, portRangeMin: 80, portRangeMax: 9000}}\n  \
         - {{ipVersion: ipv4, policy: allow, priority: 11, protocol: udp, \
         remoteType: securityGroup, \
         remoteSecurityGroup: group-{}, portRangeMin: 53, portRangeMax: 53}}\n  egressRules:\n  \
         - {{ipVersion: ipv4, policy: allow, priority: 1, protocol: all, remoteType: address, \
         remoteAddress: 0.0.0.0/0}}\n  \
         - {{ipVersion: ipv6, policy: allow, priority: 1, protocol: all, remoteType: address, \
         remoteAddress: \"::/0\"}}",
        group % 250,
        (group + 1) % groups,
    )
    .unwrap();
}

/// First packets between pods chosen at random, IPv4 and IPv6, the same every time.
pub fn keys(pods: usize, count: usize) -> Vec<FlowKey> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let address = |family, pod: usize| match family {
        Family::V4 => Address::from_bits(0x0a00_0000 + pod as u128),
        Family::V6 => Address::from_bits((0x2001_0db8 << 96) + pod as u128 + 1),
    };
    let keys = (0..count).map(|number| {
        let family = if number % 2 == 0 {
            Family::V4
        } else {
            Family::V6
        };
        FlowKey {
            source: address(family, next(pods)),
            destination: address(family, next(pods)),
            source_port: 32_768 + next(28_000) as u16,
            destination_port: [53, 80, 443, 8000, 8010, 8080, 9090][next(7)],
            zone: 0,
            protocol: if next(4) == 0 {
                protocol::UDP
            } else {
                protocol::TCP
            },
            family,
        }
    });
    keys.collect()
}

/// Another port in one policy, `number` times another.
pub fn change_policy(files: &mut [SourceFile], number: usize) {
    edit(
        files,
        "team-0/policies.yaml",
        "endPort: 80",
        &format!("endPort: 8{number}"),
    );
}

/// One policy with a line more, so that those behind it move.
pub fn lengthen_policy(files: &mut [SourceFile], number: usize) {
    let from = "  podSelector: {matchLabels: {app: app-0}}\n";
    edit(
        files,
        "team-1/policies.yaml",
        from,
        &format!("  # change {number}\n{from}"),
    );
}

/// Another port in one security group.
pub fn change_group(files: &mut [SourceFile], number: usize) {
    edit(
        files,
        "groups.yaml",
        "portRangeMin: 80",
        &format!("portRangeMin: {}", 90 + number),
    );
}

/// Another label of one pod.
pub fn change_pod(files: &mut [SourceFile], number: usize) {
    edit(
        files,
        "team-0/pods.yaml",
        "role: role-0",
        &format!("role: other-{number}"),
    );
}

fn edit(files: &mut [SourceFile], name: &str, from: &str, to: &str) {
    let file = files.iter_mut().find(|file| file.name == name);
    let file = file.expect("a file of this name");
    assert!(file.text.contains(from), "{name} has no {from}");
    file.text = file.text.replacen(from, to, 1).into();
}
