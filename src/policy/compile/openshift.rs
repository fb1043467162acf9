//! OpenShift's network to rules: isolation of projects, EgressNetworkPolicies, egress addresses.
//!
//! ```text
//! isolation         multicast of a network allow, of any deny
//!                   to global, from global, within a network allow; between projects deny
//! egress policies   :53 of the own node, destinations in the cluster: pass; then the list, or deny
//! egress addresses  the same two: pass; then deny where no node has an address
//! ```
//!
//! One rule a network, never one a pair of networks.

use std::collections::HashMap;

use super::scope::{EXEMPT, LIST};
use super::{Compiler, Draft, Ranges, StageDraft, block, intern, push, rule_id, singles};
use crate::classifier::{AddressMatch, RuleVerdict};
use crate::policy::inventory::PodIndex;
use crate::policy::key::MULTICAST_NETWORK;
use crate::policy::names::NameUser;
use crate::policy::openshift::{
    Destination, EgressAddresses, EgressRule, GLOBAL, OpenShift, PolicyState, Projects, RuleType,
    is_everything, multicast_ranges, policy_states,
};
use crate::wire::{Address, Family};

/// Order of rules of project isolation.
mod priority {
    pub const MULTICAST: u32 = 0;
    pub const NO_MULTICAST: u32 = 1;
    pub const TO_GLOBAL: u32 = 2;
    pub const FROM_GLOBAL: u32 = 3;
    pub const OWN_NETWORK: u32 = 4;
    pub const ISOLATION: u32 = 5;
}

const PROJECTS: &str = "NetNamespace";
const POLICY: &str = "EgressNetworkPolicy";
const ADDRESSES: &str = "egressIPs";

/// The rules between projects.
pub fn isolation(compiler: &mut Compiler, stage: &mut StageDraft) {
    let plugin = compiler.compatibility.plugin;
    let projects = Projects::new(compiler.inventory, &compiler.policies.openshift, plugin);
    if plugin.is_some() || !compiler.policies.openshift.net_namespaces.is_empty() {
        compiler.multicast(stage, &projects);
    }
    if projects.is_live() {
        compiler.unicast(stage, &projects);
    }
}

impl Compiler<'_> {
    /// Multicast stays within a network all of whose projects want it.
    fn multicast(&mut self, stage: &mut StageDraft, projects: &Projects) {
        let groups = intern(stage, multicast_ranges().into());
        for (vnid, members) in projects.by_vnid() {
            let known = members.iter().copied();
            let known: Vec<_> = known
                .filter(|name| self.inventory.namespace(name).is_some())
                .collect();
            let wants = |name: &&str| {
                let mut all = self.policies.openshift.net_namespaces.iter();
                all.any(|one| one.name == **name && one.has_multicast())
            };
            if known.is_empty() || !known.iter().all(wants) {
                continue;
            }
            let pods = self.pods_of_all(known.iter().copied());
            let pods = self.pods(stage, &pods);
            let (vnid, origin) = (vnid.to_string(), self.network_origin(&known, "multicast"));
            for (part, zone, peer) in [
                ("delivered", Some(MULTICAST_NETWORK), pods),
                ("sent", self.primary_zone(), groups),
            ] {
                let draft = Draft {
                    id: rule_id(PROJECTS, &["multicast", part, &vnid]),
                    priority: priority::MULTICAST,
                    zone,
                    origin,
                    ..self.here(pods, peer, RuleVerdict::Allow)
                };
                push(stage, draft);
            }
        }
        let everyone = self.everyone();
        let everyone = self.pods(stage, &everyone);
        let origin = self.implicit(format!("{PROJECTS}/*#no-multicast"));
        for (part, zone, subject, peer) in [
            (
                "delivered",
                Some(MULTICAST_NETWORK),
                AddressMatch::Any,
                AddressMatch::Any,
            ),
            ("sent", self.primary_zone(), everyone, groups),
        ] {
            let draft = Draft {
                id: rule_id(PROJECTS, &["no-multicast", part]),
                priority: priority::NO_MULTICAST,
                zone,
                origin,
                ..self.here(subject, peer, RuleVerdict::Deny)
            };
            push(stage, draft);
        }
    }

    fn unicast(&mut self, stage: &mut StageDraft, projects: &Projects) {
        let by_vnid = projects.by_vnid();
        let mut numbered = Vec::new();
        let mut destinations = Ranges::new();
        for (vnid, members) in &by_vnid {
            let pods = self.pods_of_all(members.iter().copied());
            let ranges = self.destinations(members, &pods);
            numbered.extend(&pods);
            destinations.extend(&ranges);
            let own = self.pods(stage, &pods);
            let ranges = intern(stage, ranges);
            let origin = self.network_origin(members, "network");
            let number = vnid.to_string();
            let mut allow = |part, priority, subject, peer| {
                let draft = Draft {
                    id: rule_id(PROJECTS, &[part, &number]),
                    priority,
                    origin,
                    ..self.here(subject, peer, RuleVerdict::Allow)
                };
                push(stage, draft);
            };
            if *vnid == GLOBAL {
                allow("to-global", priority::TO_GLOBAL, AddressMatch::Any, ranges);
                allow("from-global", priority::FROM_GLOBAL, own, AddressMatch::Any);
            } else {
                allow("network", priority::OWN_NETWORK, own, ranges);
            }
        }
        let subject = self.pods(stage, &numbered);
        let peer = intern(stage, destinations);
        let draft = Draft {
            id: rule_id(PROJECTS, &["isolation"]),
            priority: priority::ISOLATION,
            origin: self.implicit(format!("{PROJECTS}/*#isolation")),
            ..self.here(subject, peer, RuleVerdict::Deny)
        };
        push(stage, draft);
    }

    /// Addresses of these pods, and of the services of these projects.
    fn destinations(&self, projects: &[&str], pods: &[PodIndex]) -> Ranges {
        let mut ranges = singles(&self.selections.addresses(pods));
        for service in self.inventory.services() {
            if projects.contains(&&*service.namespace) {
                let addresses = service.cluster_addresses.iter();
                let single = |address| {
                    let (family, address) = Address::from_ip(address);
                    (family, address, address)
                };
                ranges.extend(addresses.map(|&address| single(address)));
            }
        }
        ranges
    }

    fn everyone(&self) -> Vec<PodIndex> {
        self.pods_of_all(self.inventory.namespaces().map(|one| one.name.as_str()))
    }

    /// Origin of a rule about a network: its first project that is written.
    fn network_origin(&mut self, members: &[&str], part: &str) -> crate::classifier::OriginId {
        let all = &self.policies.openshift.net_namespaces;
        let written = all.iter().find(|one| members.contains(&&*one.name));
        match written {
            Some(one) => {
                let source = one.source.clone();
                self.written(
                    format!("{PROJECTS}/{}#{part}", one.name),
                    source,
                    "netid".into(),
                )
            }
            None => {
                let first = members.first().copied().unwrap_or("*");
                self.implicit(format!("{PROJECTS}/{first}#{part}"))
            }
        }
    }
}

/// The rules of EgressNetworkPolicies.
pub fn egress_network_policies(compiler: &mut Compiler, stage: &mut StageDraft) {
    let plugin = compiler.compatibility.plugin;
    let openshift = &compiler.policies.openshift;
    let projects = Projects::new(compiler.inventory, openshift, plugin);
    let mut states = policy_states(openshift, &projects, plugin);
    states.retain(|_, state| *state != PolicyState::Ignored);
    let pods = compiler.pods_of_all(states.keys().map(String::as_str));
    if pods.is_empty() {
        return;
    }
    compiler.pass_own_node_dns(stage, POLICY, &pods);
    compiler.pass_inside(stage, POLICY, &pods);
    for (namespace, state) in &states {
        let pods = compiler.pods_of(namespace);
        let cause = match state {
            PolicyState::Ignored => continue,
            PolicyState::Enforced(position) => {
                compiler.egress_rules(stage, *position, &pods);
                continue;
            }
            PolicyState::Joined(_) => "joined",
            PolicyState::Several => "several",
        };
        let mut policies = openshift.egress_network_policies.iter();
        let policy = policies.find(|policy| policy.namespace == *namespace);
        let label = format!("{POLICY}/{namespace}/*#{cause}");
        let origin = match policy {
            Some(policy) => compiler.written(label, policy.source.clone(), String::new()),
            None => compiler.implicit(label),
        };
        let subject = compiler.pods(stage, &pods);
        let draft = Draft {
            id: rule_id(POLICY, &[namespace, "*", cause]),
            priority: LIST,
            origin,
            ..compiler.here(subject, AddressMatch::Any, RuleVerdict::Deny)
        };
        push(stage, draft);
    }
}

impl Compiler<'_> {
    fn egress_rules(&mut self, stage: &mut StageDraft, position: usize, pods: &[PodIndex]) {
        let policy = &self.policies.openshift.egress_network_policies[position];
        let subject = self.pods(stage, pods);
        let mut written: HashMap<String, u32> = HashMap::new();
        for (index, rule) in policy.rules.iter().enumerate() {
            let origin = self.written(
                format!("{POLICY}/{}/{}#{index}", policy.namespace, policy.name),
                policy.source.at(rule.position),
                format!("spec.egress[{index}]"),
            );
            let content = format!("{:?} {:?}", rule.rule_type, rule.to);
            let number = written.entry(content.clone()).or_default();
            *number += 1;
            let parts = [&policy.namespace, &policy.name, "rule", &content];
            let [namespace, name, part, content] = parts;
            let ranges = self.destination_ranges(rule);
            let peer = intern(stage, ranges);
            let draft = Draft {
                id: rule_id(
                    POLICY,
                    &[namespace, name, part, content, &number.to_string()],
                ),
                priority: LIST,
                origin,
                ..self.here(subject, peer, verdict(rule.rule_type))
            };
            push(stage, draft);
        }
    }

    /// IPv6 blocks are valid and match nothing: the network is IPv4's.
    fn destination_ranges(&self, rule: &EgressRule) -> Ranges {
        match &rule.to {
            Destination::Block(cidr) if is_everything(cidr) => {
                vec![(Family::V4, Address::ZERO, Family::V4.last_address())]
            }
            Destination::Block(cidr) if cidr.addr().is_ipv4() => block(*cidr, &[]),
            Destination::Block(_) => Ranges::new(),
            Destination::Name(name) => {
                let addresses = self.names.addresses(NameUser::EgressNetworkPolicy, name);
                let addresses = addresses.into_iter().flatten();
                let addresses = addresses.map(|&one| Address::from_ip(one)).collect();
                singles(&addresses)
            }
        }
    }
}

/// What a rule of this type says of what it matches.
pub fn verdict(rule_type: RuleType) -> RuleVerdict {
    match rule_type {
        RuleType::Allow => RuleVerdict::Allow,
        RuleType::Deny => RuleVerdict::Deny,
    }
}

/// The rules of egress addresses.
pub fn egress_addresses(compiler: &mut Compiler, stage: &mut StageDraft) {
    let plugin = compiler.compatibility.plugin;
    if !OpenShift::has_networks(plugin) {
        return;
    }
    let openshift = &compiler.policies.openshift;
    let projects = Projects::new(compiler.inventory, openshift, plugin);
    let states = EgressAddresses::by_project(compiler.inventory, openshift, &projects);
    let pods = compiler.pods_of_all(states.keys().map(String::as_str));
    if pods.is_empty() {
        return;
    }
    compiler.pass_own_node_dns(stage, ADDRESSES, &pods);
    compiler.pass_inside(stage, ADDRESSES, &pods);
    for net_namespace in &openshift.net_namespaces {
        let name = &net_namespace.name;
        let verdict = match states.get(name) {
            Some(EgressAddresses::Hosted(_)) => RuleVerdict::Allow,
            Some(EgressAddresses::Dropped(_)) => RuleVerdict::Deny,
            None => continue,
        };
        let label = format!("{PROJECTS}/{name}#egressIPs");
        let origin = compiler.written(label, net_namespace.source.clone(), "egressIPs".into());
        let pods = compiler.pods_of(name);
        let subject = compiler.pods(stage, &pods);
        let draft = Draft {
            id: rule_id(ADDRESSES, &[name]),
            priority: EXEMPT + 1,
            origin,
            ..compiler.here(subject, AddressMatch::Any, verdict)
        };
        push(stage, draft);
    }
}
