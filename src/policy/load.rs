//! Files to policies in force, or to the reasons why not: all or nothing.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::compatibility::MultiNetworkDialect;
use super::decode::{Objects, decode};
use super::finding::id;
use super::inventory::{Inventory, Network, Pod, Source};
use super::multi_network::acts_on;
use super::network_policy::PeerKind;
use super::security_group::{Remote, rules_field};
use super::selection::Selections;
use super::{
    Compatibility, Direction, Document, Finding, Loaded, MultiNetworkPolicy, Names, NetworkPolicy,
    Policies, PolicySet, Ports, SecurityGroup, Severity, SourceFile, compile, document, lint,
};

/// Parses, validates and compiles manifests. Names in rules have the addresses of `names`.
pub fn load(files: &[SourceFile], compatibility: &Compatibility, names: &Names) -> Loaded {
    let mut documents = Vec::new();
    let mut findings = Vec::new();
    for file in files {
        let (of_file, of_parsing) = document::parse(file);
        documents.extend(of_file);
        findings.extend(of_parsing);
    }
    load_documents(&documents, findings, compatibility, names)
}

/// As [`load`], of documents already parsed (manifests written inside another document), with what
/// parsing them had to say.
pub fn load_documents(
    documents: &[Document],
    mut findings: Vec<Finding>,
    compatibility: &Compatibility,
    names: &Names,
) -> Loaded {
    let mut objects = decode(documents, compatibility, &mut findings);
    report_same_names(&objects, &mut findings);
    report_same_addresses(&objects, &mut findings);
    report_same_cluster_addresses(&objects, &mut findings);
    report_same_attachments(&objects, &mut findings);
    report_peers_without_addresses(&objects, compatibility, &mut findings);
    report_groups(&objects.policies.security_groups, &mut findings);
    objects.policies.network_policies.sort_by(|one, other| {
        let name = |policy: &NetworkPolicy| (policy.namespace.clone(), policy.name.clone());
        name(one).cmp(&name(other))
    });
    let of_networks = &mut objects.policies.multi_network_policies;
    of_networks.sort_by_key(|one| (one.policy.namespace.clone(), one.policy.name.clone()));
    let tiers = &mut objects.policies.tiers;
    tiers.sort_by(|one, other| one.precedence().cmp(&other.precedence()));
    sort_egress(&mut objects.policies);
    let groups = &mut objects.policies.security_groups;
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    objects.vips.sort_by(|one, other| one.name.cmp(&other.name));
    let refused = findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    let policy = (!refused).then(|| assemble(objects, compatibility, names, &mut findings));
    findings.sort_by(|one, other| one.place.cmp(&other.place));
    Loaded { findings, policy }
}

pub(super) fn assemble(
    objects: Objects,
    compatibility: &Compatibility,
    names: &Names,
    findings: &mut Vec<Finding>,
) -> PolicySet {
    let policies = objects.policies;
    let compatibility = &policies.openshift.effective(compatibility);
    let mut objects = Objects {
        policies: Policies::default(),
        ..objects
    };
    policies.openshift.complete(&mut objects.nodes);
    let inventory = Inventory::new(
        objects.pods,
        objects.namespaces,
        objects.nodes,
        objects.services,
        policies.namespaces(),
    )
    .with_networks(objects.networks);
    let ports = Ports::new(&inventory, &objects.vips);
    let selections = Selections::new(&inventory);
    let input = Input {
        inventory: &inventory,
        ports: &ports,
        selections: &selections,
        policies: &policies,
        names,
        compatibility,
    };
    lint::lint(&input, findings);
    let (stages, origins) = compile::compile(&input);
    drop(selections);
    let set = PolicySet {
        inventory,
        ports,
        vips: objects.vips,
        policies,
        stages,
        origins,
        names: names.clone(),
        compatibility: *compatibility,
    };
    lint::lint_compiled(&set, &objects.subnets, findings);
    set
}

/// What rules are compiled from, and what is warned about.
pub(super) struct Input<'i> {
    pub inventory: &'i Inventory,
    pub ports: &'i Ports,
    pub selections: &'i Selections<'i>,
    pub policies: &'i Policies,
    pub names: &'i Names,
    pub compatibility: &'i Compatibility,
}

fn sort_egress(policies: &mut Policies) {
    policies.openshift.sort();
    let firewalls = &mut policies.egress_firewalls;
    firewalls
        .sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    let lists = &mut policies.admin_output_rules;
    lists.sort_by(|one, other| one.name.cmp(&other.name));
}

/// Two objects of one kind, namespace and name: which of them would count?
fn report_same_names(objects: &Objects, findings: &mut Vec<Finding>) {
    let mut first: HashMap<(&str, &str, &str), &Source> = HashMap::new();
    let mut check = |kind, namespace, name, source| {
        let Some(other) = first.insert((kind, namespace, name), source) else {
            return;
        };
        first.insert((kind, namespace, name), other);
        let slash = if namespace.is_empty() { "" } else { "/" };
        findings.push(error(
            id::DUPLICATE_OBJECT,
            source,
            format!("{kind}/{namespace}{slash}{name}"),
            "metadata.name",
            format!(
                "Duplicate value: \"{name}\": already defined at {}",
                other.place()
            ),
        ));
    };
    for pod in &objects.pods {
        check("Pod", &pod.namespace, &pod.name, &pod.source);
    }
    for service in &objects.services {
        check(
            "Service",
            &service.namespace,
            &service.name,
            &service.source,
        );
    }
    for policy in &objects.policies.network_policies {
        check(
            "NetworkPolicy",
            &policy.namespace,
            &policy.name,
            &policy.source,
        );
    }
    for network in &objects.networks {
        let source = network.source.iter();
        let (namespace, name) = (&network.namespace, &network.name);
        source.for_each(|source| check("NetworkAttachmentDefinition", namespace, name, source));
    }
    for policy in &objects.policies.multi_network_policies {
        let MultiNetworkPolicy { policy, .. } = policy;
        check(
            "MultiNetworkPolicy",
            &policy.namespace,
            &policy.name,
            &policy.source,
        );
    }
    for policy in &objects.policies.tiers {
        check(policy.kind.name(), "", &policy.name, &policy.source);
    }
    each_egress(&objects.policies, &mut check);
    for group in &objects.policies.security_groups {
        check("SecurityGroup", "", &group.name, &group.source);
    }
    for vip in &objects.vips {
        check("Vip", "", &vip.name, &vip.source);
    }
    for subnet in &objects.subnets {
        check("Subnet", "", &subnet.name, &subnet.source);
    }
    for namespace in &objects.namespaces {
        let source = namespace.source.iter();
        source.for_each(|source| check("Namespace", "", &namespace.name, source));
    }
    for node in &objects.nodes {
        let source = node.source.iter();
        source.for_each(|source| check("Node", "", &node.name, source));
    }
}

/// The objects about what leaves the cluster: kind, namespace, name, and where they are written.
fn each_egress<'o>(
    policies: &'o Policies,
    check: &mut impl FnMut(&'o str, &'o str, &'o str, &'o Source),
) {
    let openshift = &policies.openshift;
    for policy in &openshift.egress_network_policies {
        let (namespace, source) = (&policy.namespace, &policy.source);
        check("EgressNetworkPolicy", namespace, &policy.name, source);
    }
    for one in &openshift.net_namespaces {
        check("NetNamespace", "", &one.name, &one.source);
    }
    for one in &openshift.host_subnets {
        check("HostSubnet", "", &one.name, &one.source);
    }
    for one in &openshift.cluster_networks {
        check("ClusterNetwork", "", &one.name, &one.source);
    }
    for one in &policies.egress_firewalls {
        check("EgressFirewall", &one.namespace, &one.name, &one.source);
    }
    for one in &policies.admin_output_rules {
        check("AdminOutputRules", "", &one.name, &one.source);
    }
}

/// Two pods of one address: whose policies would apply to it?
fn report_same_addresses(objects: &Objects, findings: &mut Vec<Finding>) {
    let mut first: HashMap<IpAddr, usize> = HashMap::new();
    for (index, pod) in objects.pods.iter().enumerate() {
        for &address in pod.addresses.iter().filter(|_| pod.is_subject()) {
            let other = *first.entry(address).or_insert(index);
            if other == index {
                continue;
            }
            let other = &objects.pods[other];
            findings.push(error(
                id::DUPLICATE_ADDRESS,
                &pod.source,
                format!("Pod/{}", pod.full_name()),
                "status.podIPs",
                format!(
                    "Duplicate value: \"{address}\": also the address of pod {} at {}",
                    other.full_name(),
                    other.source.place()
                ),
            ));
        }
    }
}

/// Two pods of one address on one secondary network.
fn report_same_attachments(objects: &Objects, findings: &mut Vec<Finding>) {
    let mut first: HashMap<(&str, IpAddr), &Pod> = HashMap::new();
    for pod in objects.pods.iter().filter(|pod| pod.is_subject()) {
        for attachment in &pod.attachments {
            for &address in &attachment.addresses {
                let other = *first.entry((&attachment.network, address)).or_insert(pod);
                if std::ptr::eq(other, pod) {
                    continue;
                }
                findings.push(error(
                    id::DUPLICATE_ADDRESS,
                    &pod.source,
                    format!("Pod/{}", pod.full_name()),
                    "metadata.annotations[k8s.v1.cni.cncf.io/network-status]",
                    format!(
                        "Duplicate value: \"{address}\": also the address of pod {} on network {} \
                         at {}",
                        other.full_name(),
                        attachment.network,
                        other.source.place()
                    ),
                ));
            }
        }
    }
}

/// OVN-Kubernetes knows no addresses of pods on a network it assigns none on.
fn report_peers_without_addresses(
    objects: &Objects,
    compatibility: &Compatibility,
    findings: &mut Vec<Finding>,
) {
    let dialect = MultiNetworkDialect::OvnKubernetes;
    if compatibility.mnp_compat != dialect {
        return;
    }
    for MultiNetworkPolicy {
        policy, networks, ..
    } in &objects.policies.multi_network_policies
    {
        let is_listed = |network: &&Network| {
            let mut listed = networks.iter().flatten();
            listed.any(|name| *name == network.full_name())
        };
        let mut listed = objects.networks.iter().filter(is_listed);
        let flat = listed.find(|network| acts_on(network, dialect) && !network.has_subnets);
        let Some(network) = flat else {
            continue;
        };
        for (direction, field) in [
            (Direction::Ingress, ["ingress", "from"]),
            (Direction::Egress, ["egress", "to"]),
        ] {
            for (index, rule) in policy.rules(direction).iter().enumerate() {
                for (number, peer) in rule.peers.iter().enumerate() {
                    let PeerKind::Pods { .. } = peer.kind else {
                        continue;
                    };
                    let source = Source {
                        position: peer.position,
                        ..policy.source.clone()
                    };
                    findings.push(error(
                        id::FORBIDDEN_VALUE,
                        &source,
                        format!("MultiNetworkPolicy/{}", policy.full_name()),
                        &format!("spec.{}[{index}].{}[{number}]", field[0], field[1]),
                        format!(
                            "Forbidden: IPAM-less networks can only have ipBlock peers, and {} has \
                             no subnets",
                            network.full_name()
                        ),
                    ));
                }
            }
        }
    }
}

/// Two services of one address: which of them would a packet to it be translated by?
fn report_same_cluster_addresses(objects: &Objects, findings: &mut Vec<Finding>) {
    let mut first: HashMap<IpAddr, usize> = HashMap::new();
    for (index, service) in objects.services.iter().enumerate() {
        for &address in &service.cluster_addresses {
            let other = *first.entry(address).or_insert(index);
            if other == index {
                continue;
            }
            let other = &objects.services[other];
            findings.push(error(
                id::DUPLICATE_ADDRESS,
                &service.source,
                format!("Service/{}/{}", service.namespace, service.name),
                "spec.clusterIPs",
                format!(
                    "Duplicate value: \"{address}\": also the address of service {}/{} at {}",
                    other.namespace,
                    other.name,
                    other.source.place()
                ),
            ));
        }
    }
}

/// Groups named as the other end must exist, and no two may be kept under one name.
fn report_groups(groups: &[SecurityGroup], findings: &mut Vec<Finding>) {
    let mut kept: HashMap<String, &SecurityGroup> = HashMap::new();
    let known: HashSet<&str> = groups.iter().map(|group| &*group.name).collect();
    for group in groups {
        let object = || format!("SecurityGroup/{}", group.name);
        let other = *kept.entry(group.folded_name()).or_insert(group);
        if other.name != group.name {
            let message = format!(
                "Duplicate value: \"{}\": Kube-OVN keeps it and {} at {} under one name, {}",
                group.name,
                other.name,
                other.source.place(),
                group.folded_name()
            );
            let (id, path) = (id::DUPLICATE_OBJECT, "metadata.name");
            findings.push(error(id, &group.source, object(), path, message));
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            for (index, rule) in group.rules(direction).iter().enumerate() {
                let Remote::Group { name, position } = &rule.remote else {
                    continue;
                };
                if known.contains(&**name) {
                    continue;
                }
                let field = rules_field(direction);
                let path = format!("spec.{field}[{index}].remoteSecurityGroup");
                let message = format!("failed to get remote sg '{name}': no such SecurityGroup");
                let source = Source {
                    position: *position,
                    ..group.source.clone()
                };
                findings.push(error(id::INVALID_VALUE, &source, object(), &path, message));
            }
        }
    }
}

fn error(
    id: &'static str,
    source: &Source,
    object: String,
    path: &str,
    message: String,
) -> Finding {
    Finding {
        severity: Severity::Error,
        id,
        place: source.place(),
        document: source.document,
        object,
        path: path.to_owned(),
        message,
    }
}
