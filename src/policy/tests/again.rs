//! A set loaded again, of which little has changed, is the set loaded from the beginning.

use proptest::prelude::*;

use super::*;

const WORLD: &str = "
{kind: Namespace, apiVersion: v1, metadata: {name: a}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: a, name: one, labels: {app: one},
 annotations: {ovn.kubernetes.io/security_groups: x}}, status: {podIP: 198.18.0.1}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: b, name: two, labels: {app: two}},
 status: {podIPs: [{ip: 198.18.0.2}, {ip: '2001:db8::2'}]}}
---
{kind: NetNamespace, apiVersion: network.openshift.io/v1, metadata: {name: a},
 netname: a, netid: 17}
---
{kind: NetNamespace, apiVersion: network.openshift.io/v1, metadata: {name: b},
 netname: b, netid: 18}
";

/// Documents of policies, some of them wrong, and other objects.
const DOCUMENTS: [&str; 13] = [
    "{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {namespace: a, name: p},\n \
      spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}}\n",
    "{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {namespace: a, name: q},\n \
      spec: {podSelector: {matchLabels: {app: one}}, policyTypes: [Egress]}}\n",
    "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {namespace: b, name: p}\n\
     spec:\n  podSelector: {}\n  ingress:\n  - from: [{namespaceSelector: {}}]\n",
    "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {namespace: c, name: alone}\n\
     spec: {podSelector: {}}\n",
    "{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {namespace: a, name: wrong},\n \
      spec: {podSelector: {}, ingress: [{ports: [{port: 80000}]}]}}\n",
    "{kind: SecurityGroup, apiVersion: kubeovn.io/v1, metadata: {name: x}, spec: {ingressRules: [\
      {ipVersion: ipv4, policy: allow, priority: 1, protocol: tcp, remoteType: address,\n \
      remoteAddress: 198.18.0.0/24, portRangeMin: 1, portRangeMax: 90}]}}\n",
    "{kind: EgressNetworkPolicy, apiVersion: network.openshift.io/v1, metadata: {namespace: b, name: e},\n \
      spec: {egress: [{type: Deny, to: {cidrSelector: 203.0.113.0/24}}]}}\n",
    "{kind: Unheard, apiVersion: v9, metadata: {name: of}}\n",
    "# nothing\n\n",
    "{kind: Pod, apiVersion: v1, metadata: {namespace: a, name: new}, status: {podIP: 198.18.0.3}}\n",
    "{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {namespace: a, name: r, \
      name: r}, spec: {podSelector: {}}}\n",
    "a: [\n",
    "{kind: ClusterNetwork, apiVersion: v1, metadata: {name: default}, network: 198.18.0.0/16,\n \
      hostsubnetlength: 8, serviceNetwork: 198.19.0.0/16, \
      pluginName: redhat/openshift-ovs-multitenant,\n \
      clusterNetworks: [{CIDR: 198.18.0.0/16, hostSubnetLength: 8}]}\n",
];

/// A file: which of the documents, in which order.
type Files = Vec<Vec<usize>>;

fn files() -> impl Strategy<Value = Files> {
    // The first ones oftener: they are policies without faults.
    let document = prop_oneof![8 => 0..8_usize, 1 => 0..DOCUMENTS.len()];
    proptest::collection::vec(proptest::collection::vec(document, 0..5), 0..4)
}

fn texts(files: &Files) -> Vec<SourceFile> {
    let world = SourceFile {
        name: "world.yaml".into(),
        text: WORLD.into(),
    };
    let policies = files
        .iter()
        .enumerate()
        .map(|(number, documents)| SourceFile {
            name: format!("{number}.yaml"),
            text: documents
                .iter()
                .map(|document| format!("---\n{}", DOCUMENTS[*document]))
                .collect::<String>()
                .into(),
        });
    std::iter::once(world).chain(policies).collect()
}

/// All that is to be the same.
fn described(loading: &Loading) -> String {
    let mut text: String = loading
        .findings
        .iter()
        .map(|one| format!("{one}\n"))
        .collect();
    let Some(set) = &loading.policy else {
        return text;
    };
    let namespaces = set.inventory.namespaces().map(|one| &one.name);
    write!(text, "{:?}", namespaces.collect::<Vec<_>>()).unwrap();
    for stage in &set.stages {
        let numbers = (0..).map(crate::classifier::RuleIndex);
        for (number, rule) in numbers.zip(stage.rules()) {
            let (shard, _) = stage.shard_of(number);
            let addresses = |end| match end {
                crate::classifier::AddressMatch::Any => None,
                crate::classifier::AddressMatch::Set(id) => Some(shard.rules.address_set(id)),
            };
            let ends = (addresses(rule.source), addresses(rule.destination));
            let origin = stage.origin(number);
            writeln!(
                text,
                "{:?} {:?} {rule:?} {ends:?} {} {:?} {}",
                stage.kind,
                shard.group,
                origin.label,
                origin.place(),
                origin.path
            )
            .unwrap();
        }
    }
    text
}

proptest! {
    #[test]
    fn what_has_changed_gives_what_all_gives(steps in proptest::collection::vec(files(), 1..6)) {
        let mut loader = Loader::new(Compatibility::default(), Names::default());
        for files in &steps {
            let texts = texts(files);
            let again = loader.load(&texts);
            let mut anew = Loader::new(Compatibility::default(), Names::default());
            let anew = anew.load(&texts);
            prop_assert_eq!(described(&again), described(&anew), "{:?}", steps);
        }
    }
}

#[test]
fn only_what_changed_is_put_together_again() {
    let load = |loader: &mut Loader, documents: &[usize]| {
        let loading = loader.load(&texts(&vec![documents.to_vec()]));
        loading.policy.expect("no errors")
    };
    let mut loader = Loader::new(Compatibility::default(), Names::default());
    let first = load(&mut loader, &[0, 2]);
    let second = load(&mut loader, &[1, 0, 2]);
    assert!(Arc::ptr_eq(&first.inventory, &second.inventory));
    let stage = |set: &PolicySet, kind| {
        let mut stages = set.stages.iter();
        stages
            .find(|stage| stage.kind == kind)
            .unwrap()
            .shards()
            .to_vec()
    };
    let of = |set| stage(set, StageKind::NetworkPolicyIngress);
    let (before, after) = (of(&first), of(&second));
    // Namespace a has one more policy, b has what it had, two lines further down.
    assert!(!Arc::ptr_eq(&before[0], &after[0]));
    assert!(Arc::ptr_eq(&before[1], &after[1]));
    let place = after[1].origins[0].place().unwrap().to_string();
    assert_eq!(place, "0.yaml:14:5");
    let third = load(&mut loader, &[1, 0, 2, 9]);
    assert!(
        !Arc::ptr_eq(&first.inventory, &third.inventory),
        "a pod more"
    );
}
