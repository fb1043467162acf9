//! Which network each project is in, and what that makes of its EgressNetworkPolicies.

use std::collections::{BTreeMap, BTreeSet};

use super::{CHANGE_NETWORK_ANNOTATION, NetNamespace, OpenShift};
use crate::policy::compatibility::Plugin;
use crate::policy::inventory::{Inventory, Source};

/// The network that reaches every other.
pub const GLOBAL: u32 = 0;

/// Smallest number of a private network.
pub const VNID_MIN: u32 = 10;

/// Largest number of a network: the field of VXLAN has 24 bits.
pub const VNID_MAX: u32 = (1 << 24) - 1;

/// The project that is always global.
const DEFAULT_PROJECT: &str = "default";

/// Numbers of projects' networks, after the changes that annotations ask for.
#[derive(Debug, Clone, Default)]
pub struct Projects {
    by_name: BTreeMap<String, u32>,
    refusals: Vec<Refusal>,
    is_live: bool,
}

/// A change of network that is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The NetNamespace.
    pub name: String,
    /// Where it is written.
    pub source: Source,
    /// Field path.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Is it the annotation that asks for it, which is an error? The number of the project
    /// `default` is merely not read.
    pub is_asked_for: bool,
}

/// What becomes of a project's packets to destinations outside the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyState {
    /// The project is global: its policies, if any, have no effect.
    Ignored,
    /// All are dropped: the project shares its network with these, and one of them has a policy.
    Joined(Vec<String>),
    /// All are dropped: it has more than one policy.
    Several,
    /// Its only policy decides; position in [`OpenShift::egress_network_policies`].
    Enforced(usize),
}

impl Projects {
    /// Works out the numbers. A project nobody gave a number gets a private one under the plugin
    /// `multitenant`, as its master would do, once any project has one; elsewhere nothing is known
    /// of it, and whoever nothing is known of is not kept apart.
    pub fn new(inventory: &Inventory, openshift: &OpenShift, plugin: Option<Plugin>) -> Self {
        let mut projects = Projects {
            is_live: match plugin {
                Some(plugin) => plugin == Plugin::MultiTenant,
                None => !openshift.net_namespaces.is_empty(),
            },
            ..Projects::default()
        };
        if !OpenShift::has_networks(plugin) {
            for net_namespace in &openshift.net_namespaces {
                projects.change(net_namespace, plugin);
            }
            return projects;
        }
        projects.by_name.insert(DEFAULT_PROJECT.to_owned(), GLOBAL);
        for net_namespace in &openshift.net_namespaces {
            let NetNamespace { name, vnid, .. } = net_namespace;
            if name != DEFAULT_PROJECT {
                projects.by_name.insert(name.clone(), *vnid);
            } else if *vnid != GLOBAL {
                let reason = format!("the project {DEFAULT_PROJECT} always has 0, not {vnid}");
                projects.refuse(net_namespace, "netid".to_owned(), reason, false);
            }
        }
        if plugin == Some(Plugin::MultiTenant) && !openshift.net_namespaces.is_empty() {
            for namespace in inventory.namespaces() {
                if !projects.by_name.contains_key(&namespace.name) {
                    let vnid = projects.unused();
                    projects.by_name.insert(namespace.name.clone(), vnid);
                }
            }
        }
        let mut in_order: Vec<_> = openshift.net_namespaces.iter().collect();
        in_order.sort_by_key(|one| (one.source.place(), one.source.document()));
        for net_namespace in in_order {
            projects.change(net_namespace, plugin);
        }
        projects
    }

    /// Are projects kept apart by these numbers?
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// The number of a project's network, where it is known.
    pub fn vnid(&self, project: &str) -> Option<u32> {
        self.by_name.get(project).copied()
    }

    /// The projects of each network.
    pub fn by_vnid(&self) -> BTreeMap<u32, Vec<&str>> {
        let mut by_vnid: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (name, &vnid) in &self.by_name {
            by_vnid.entry(vnid).or_default().push(name);
        }
        by_vnid
    }

    /// The changes that were not made.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// Does this one share its network?
    fn is_alone(&self, project: &str) -> bool {
        let vnid = self.vnid(project);
        let others = self.by_name.iter().filter(|(name, _)| *name != project);
        others.into_iter().all(|(_, other)| Some(*other) != vnid)
    }

    fn unused(&self) -> u32 {
        let used: BTreeSet<_> = self.by_name.values().copied().collect();
        let unused = (VNID_MIN..=VNID_MAX).find(|vnid| !used.contains(vnid));
        // There are not so many projects in 64 MiB of manifests.
        unused.unwrap_or(VNID_MAX)
    }

    fn change(&mut self, net_namespace: &NetNamespace, plugin: Option<Plugin>) {
        let Some(change) = net_namespace.annotations.get(CHANGE_NETWORK_ANNOTATION) else {
            return;
        };
        let project = net_namespace.name.as_str();
        let vnid = match change.split(':').collect::<Vec<_>>()[..] {
            _ if matches!(plugin, Some(other) if other != Plugin::MultiTenant) => {
                Err("network plugin does not allow NetNamespace renumbering".to_owned())
            }
            ["global", ..] => Ok(GLOBAL),
            ["join", _] if project == DEFAULT_PROJECT => Err(format!(
                "the project {DEFAULT_PROJECT} always has netid {GLOBAL}"
            )),
            ["join", other] => self
                .vnid(other)
                .ok_or_else(|| format!("netid not found for namespace \"{other}\"")),
            ["join", ..] => Err(format!("invalid namespace for join pod network: {change}")),
            ["isolate", ..] if project == DEFAULT_PROJECT => Err(format!(
                "network isolation for namespace \"{project}\" is not allowed"
            )),
            // Whoever is alone already keeps the number, even the global one.
            ["isolate", ..] if self.is_alone(project) => return,
            ["isolate", ..] => Ok(self.unused()),
            _ => Err(format!("invalid ChangePodNetworkAnnotation: {change}")),
        };
        match vnid {
            Ok(vnid) => {
                self.by_name.insert(project.to_owned(), vnid);
            }
            Err(reason) => {
                let path = format!("metadata.annotations[{CHANGE_NETWORK_ANNOTATION}]");
                self.refuse(net_namespace, path, reason, true);
            }
        }
    }

    fn refuse(
        &mut self,
        net_namespace: &NetNamespace,
        path: String,
        reason: String,
        is_asked_for: bool,
    ) {
        self.refusals.push(Refusal {
            name: net_namespace.name.clone(),
            source: net_namespace.source.clone(),
            path,
            reason,
            is_asked_for,
        });
    }
}

/// The state of every project that has a policy, or shares its network with one that has. A policy
/// without rules does not count.
pub fn policy_states(
    openshift: &OpenShift,
    projects: &Projects,
    plugin: Option<Plugin>,
) -> BTreeMap<String, PolicyState> {
    let mut policies: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (position, policy) in openshift.egress_network_policies.iter().enumerate() {
        if !policy.rules.is_empty() && OpenShift::has_networks(plugin) {
            policies
                .entry(&policy.namespace)
                .or_default()
                .push(position);
        }
    }
    let by_vnid = projects.by_vnid();
    let mut states = BTreeMap::new();
    for (namespace, positions) in policies {
        let vnid = projects.vnid(namespace);
        let members = vnid.and_then(|vnid| by_vnid.get(&vnid));
        let shared = members.filter(|members| members.len() > 1);
        let state = match (vnid, shared, &positions[..]) {
            (Some(GLOBAL), _, _) => PolicyState::Ignored,
            (_, Some(members), _) => {
                let names = members.iter().map(|name| (*name).to_owned());
                let state = PolicyState::Joined(names.collect());
                for member in members {
                    states.insert((*member).to_owned(), state.clone());
                }
                continue;
            }
            (_, None, [position]) => PolicyState::Enforced(*position),
            (_, None, _) => PolicyState::Several,
        };
        states.insert(namespace.to_owned(), state);
    }
    states
}
