//! Files to policies in force, or to the reasons why not: all or nothing.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::compatibility::MultiNetworkDialect;
use super::compile::Before;
use super::decode::{Objects, decode};
use super::finding::id;
use super::inventory::{Inventory, Network, Pod, Source};
use super::multi_network::acts_on;
use super::network_policy::PeerKind;
use super::security_group::{Remote, rules_field};
use super::selection::Selections;
use super::{
    Compatibility, Direction, Document, Finding, Loaded, Loader, MultiNetworkPolicy, Names,
    Policies, PolicySet, Ports, SecurityGroup, Severity, SourceFile, Subnet, compile, lint,
};

/// Parses, validates and compiles manifests. Names in rules have the addresses of `names`.
pub fn load(files: &[SourceFile], compatibility: &Compatibility, names: &Names) -> Loaded {
    let loading = Loader::new(*compatibility, names.clone()).load(files);
    Loaded {
        findings: loading.findings,
        // The loader, who shared it, is gone.
        policy: loading.policy.and_then(Arc::into_inner),
    }
}

/// As [`load`], of documents already parsed (manifests written inside another document), with what
/// parsing them had to say.
pub fn load_documents(
    documents: &[Document],
    mut findings: Vec<Finding>,
    compatibility: &Compatibility,
    names: &Names,
) -> Loaded {
    let objects = decode(documents, compatibility, &mut findings);
    complete(objects, findings, compatibility, names)
}

/// Puts objects together, with what reading them had to say.
pub(super) fn complete(
    objects: Objects,
    mut findings: Vec<Finding>,
    compatibility: &Compatibility,
    names: &Names,
) -> Loaded {
    report_same_names(&objects, &mut findings);
    report_same_addresses(&objects, &mut findings);
    report_same_cluster_addresses(&objects, &mut findings);
    report_same_attachments(&objects, &mut findings);
    report_peers_without_addresses(&objects, compatibility, &mut findings);
    report_groups(&objects.policies.security_groups, &mut findings);
    let assembled =
        (!is_refused(&findings)).then(|| assemble(objects, compatibility, names, &mut findings));
    // Some errors show only when all is put together.
    let policy = assembled.filter(|_| !is_refused(&findings));
    findings.sort_by(|one, other| one.place.cmp(&other.place));
    Loaded { findings, policy }
}

/// What [`complete`] reports of policies among themselves.
pub(super) fn report_policies(policies: Policies, findings: &mut Vec<Finding>) -> Policies {
    let objects = Objects {
        policies,
        ..Objects::default()
    };
    report_same_names(&objects, findings);
    report_groups(&objects.policies.security_groups, findings);
    objects.policies
}

/// Is one of them an error?
pub(super) fn is_refused(findings: &[Finding]) -> bool {
    let mut severities = findings.iter().map(|finding| finding.severity);
    severities.any(|severity| severity == Severity::Error)
}

pub(super) fn assemble(
    objects: Objects,
    compatibility: &Compatibility,
    names: &Names,
    findings: &mut Vec<Finding>,
) -> PolicySet {
    let mut policies = objects.policies;
    let compatibility = &policies.openshift.effective(compatibility);
    let (mut nodes, mut vips) = (objects.nodes, objects.vips);
    policies.sort();
    policies.openshift.complete(&mut nodes);
    vips.sort_by(|one, other| one.name.cmp(&other.name));
    let inventory = Inventory::new(
        objects.pods,
        objects.namespaces,
        nodes,
        objects.services,
        policies.namespaces(),
    )
    .with_networks(objects.networks);
    let mut set = PolicySet {
        ports: Arc::new(Ports::new(&inventory, &vips)),
        inventory: Arc::new(inventory),
        vips: vips.into(),
        policies,
        stages: Vec::new(),
        names: names.clone(),
        compatibility: *compatibility,
    };
    let selections = Selections::new(&set.inventory);
    let stages = compile::compile(&set.input(&selections), None);
    set.stages = stages;
    lint_all(&set, &objects.subnets, findings);
    set
}

/// A set with the objects of another but for its policies, and with the rules that come of both.
pub(super) fn assemble_after(mut policies: Policies, before: &PolicySet) -> PolicySet {
    policies.sort();
    let mut set = PolicySet {
        inventory: before.inventory.clone(),
        ports: before.ports.clone(),
        vips: before.vips.clone(),
        policies,
        stages: Vec::new(),
        names: before.names.clone(),
        compatibility: before.compatibility,
    };
    let selections = Selections::new(&set.inventory);
    let compiled = Before {
        policies: &before.policies,
        stages: &before.stages,
    };
    let stages = compile::compile(&set.input(&selections), Some(compiled));
    set.stages = stages;
    set
}

/// Warns about a set that is complete.
pub(super) fn lint_all(set: &PolicySet, subnets: &[Subnet], findings: &mut Vec<Finding>) {
    let selections = Selections::new(&set.inventory);
    lint::lint(&set.input(&selections), findings);
    lint::lint_compiled(set, subnets, findings);
}

impl PolicySet {
    fn input<'i>(&'i self, selections: &'i Selections<'i>) -> Input<'i> {
        Input {
            inventory: &self.inventory,
            ports: &self.ports,
            selections,
            policies: &self.policies,
            names: &self.names,
            compatibility: &self.compatibility,
        }
    }
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

impl Policies {
    /// Puts what is found by name, and what is asked in order, into that order.
    fn sort(&mut self) {
        self.network_policies.sort_by(|one, other| {
            (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name))
        });
        self.multi_network_policies.sort_by(|one, other| {
            let (one, other) = (&one.policy, &other.policy);
            (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name))
        });
        self.tiers
            .sort_by(|one, other| one.precedence().cmp(&other.precedence()));
        self.openshift.sort();
        self.egress_firewalls.sort_by(|one, other| {
            (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name))
        });
        self.admin_output_rules
            .sort_by(|one, other| one.name.cmp(&other.name));
        self.security_groups
            .sort_by(|one, other| one.name.cmp(&other.name));
    }
}

/// Kind, namespace (empty for what is of the cluster) and name of an object.
type ObjectName<'o> = (&'static str, &'o str, &'o str);

/// Two objects of one kind, namespace and name: which of them would count?
fn report_same_names(objects: &Objects, findings: &mut Vec<Finding>) {
    let mut first: HashMap<ObjectName, &Source> = HashMap::new();
    let policies = policy_names(&objects.policies).into_iter();
    for (object, source) in inventory_names(objects).into_iter().chain(policies) {
        let other = *first.entry(object).or_insert(source);
        if std::ptr::eq(other, source) {
            continue;
        }
        let (kind, namespace, name) = object;
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
    }
}

fn inventory_names(objects: &Objects) -> Vec<(ObjectName<'_>, &Source)> {
    let mut names: Vec<(ObjectName, &Source)> = Vec::new();
    for one in &objects.pods {
        names.push((("Pod", &one.namespace, &one.name), &one.source));
    }
    for one in &objects.services {
        names.push((("Service", &one.namespace, &one.name), &one.source));
    }
    for one in &objects.networks {
        let object = ("NetworkAttachmentDefinition", &*one.namespace, &*one.name);
        names.extend(one.source.iter().map(|source| (object, source)));
    }
    for one in &objects.vips {
        names.push((("Vip", "", &one.name), &one.source));
    }
    for one in &objects.subnets {
        names.push((("Subnet", "", &one.name), &one.source));
    }
    for one in &objects.namespaces {
        let object = ("Namespace", "", &*one.name);
        names.extend(one.source.iter().map(|source| (object, source)));
    }
    for one in &objects.nodes {
        let object = ("Node", "", &*one.name);
        names.extend(one.source.iter().map(|source| (object, source)));
    }
    names
}

fn policy_names(policies: &Policies) -> Vec<(ObjectName<'_>, &Source)> {
    let mut names: Vec<(ObjectName, &Source)> = Vec::new();
    for one in &policies.network_policies {
        names.push((("NetworkPolicy", &one.namespace, &one.name), &one.source));
    }
    for MultiNetworkPolicy { policy, .. } in &policies.multi_network_policies {
        let object = ("MultiNetworkPolicy", &*policy.namespace, &*policy.name);
        names.push((object, &policy.source));
    }
    for one in &policies.tiers {
        names.push(((one.kind.name(), "", &one.name), &one.source));
    }
    let openshift = &policies.openshift;
    for one in &openshift.egress_network_policies {
        let object = ("EgressNetworkPolicy", &*one.namespace, &*one.name);
        names.push((object, &one.source));
    }
    for one in &openshift.net_namespaces {
        names.push((("NetNamespace", "", &one.name), &one.source));
    }
    for one in &openshift.host_subnets {
        names.push((("HostSubnet", "", &one.name), &one.source));
    }
    for one in &openshift.cluster_networks {
        names.push((("ClusterNetwork", "", &one.name), &one.source));
    }
    for one in &policies.egress_firewalls {
        names.push((("EgressFirewall", &one.namespace, &one.name), &one.source));
    }
    for one in &policies.admin_output_rules {
        names.push((("AdminOutputRules", "", &one.name), &one.source));
    }
    for one in &policies.security_groups {
        names.push((("SecurityGroup", "", &one.name), &one.source));
    }
    names
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
        document: source.document(),
        object,
        path: path.to_owned(),
        message,
    }
}
