//! Files to policies in force, or to the reasons why not: all or nothing.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::decode::{Objects, decode};
use super::finding::id;
use super::inventory::{Inventory, Source};
use super::security_group::{Remote, rules_field};
use super::selection::Selections;
use super::{
    Compatibility, Direction, Document, Finding, Loaded, Names, NetworkPolicy, PolicySet, Ports,
    SecurityGroup, Severity, SourceFile, compile, document, lint,
};

/// Parses, validates and compiles manifests.
pub fn load(files: &[SourceFile], compatibility: &Compatibility) -> Loaded {
    let mut documents = Vec::new();
    let mut findings = Vec::new();
    for file in files {
        let (of_file, of_parsing) = document::parse(file);
        documents.extend(of_file);
        findings.extend(of_parsing);
    }
    load_documents(&documents, findings, compatibility)
}

/// As [`load`], of documents already parsed (manifests written inside another document), with what
/// parsing them had to say.
pub fn load_documents(
    documents: &[Document],
    findings: Vec<Finding>,
    compatibility: &Compatibility,
) -> Loaded {
    load_named(documents, findings, compatibility, Names::default())
}

/// As [`load_documents`], knowing what names stand for.
pub fn load_named(
    documents: &[Document],
    mut findings: Vec<Finding>,
    compatibility: &Compatibility,
    names: Names,
) -> Loaded {
    let mut objects = decode(documents, compatibility, &mut findings);
    report_same_names(&objects, &mut findings);
    report_same_addresses(&objects, &mut findings);
    report_same_cluster_addresses(&objects, &mut findings);
    report_groups(&objects.policies.security_groups, &mut findings);
    objects.policies.network_policies.sort_by(|one, other| {
        let name = |policy: &NetworkPolicy| (policy.namespace.clone(), policy.name.clone());
        name(one).cmp(&name(other))
    });
    let groups = &mut objects.policies.security_groups;
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    objects.vips.sort_by(|one, other| one.name.cmp(&other.name));
    let tiers = &mut objects.policies.tiers;
    tiers.sort_by(|one, other| one.precedence().cmp(&other.precedence()));
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
    names: Names,
    findings: &mut Vec<Finding>,
) -> PolicySet {
    let policies = objects.policies;
    let inventory = Inventory::new(
        objects.pods,
        objects.namespaces,
        objects.nodes,
        objects.services,
        policies.namespaces(),
    );
    let ports = Ports::new(&inventory, &objects.vips);
    let selections = Selections::new(&inventory);
    lint::lint(
        &inventory,
        &selections,
        &policies,
        &names,
        compatibility,
        findings,
    );
    let (stages, origins) = compile::compile(
        &inventory,
        &ports,
        &selections,
        &policies,
        &names,
        compatibility,
    );
    drop(selections);
    let set = PolicySet {
        inventory,
        ports,
        vips: objects.vips,
        policies,
        stages,
        origins,
        compatibility: *compatibility,
        names,
    };
    lint::lint_compiled(&set, &objects.subnets, findings);
    set
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
    for group in &objects.policies.security_groups {
        check("SecurityGroup", "", &group.name, &group.source);
    }
    for vip in &objects.vips {
        check("Vip", "", &vip.name, &vip.source);
    }
    for subnet in &objects.subnets {
        check("Subnet", "", &subnet.name, &subnet.source);
    }
    for policy in &objects.policies.tiers {
        check(policy.kind.name(), "", &policy.name, &policy.source);
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
