//! Kubernetes-style objects in, ordered rule sets out.
//!
//! ```text
//! SourceFile ─▶ document ─▶ objects ─▶ validate ─▶ Inventory + policies ─▶ compile ─▶ StageRules
//!   (text)      (spans)     (typed)    (findings)                    └──▶ naive (the slow twin)
//! ```
//!
//! This room never sees a frame. Of the classifier it knows the intermediate representation alone.

pub mod admin_output;
pub mod compatibility;
mod compile;
mod decode;
pub mod document;
pub mod egress_firewall;
pub mod evaluate;
pub mod finding;
pub mod inventory;
mod key;
pub mod kube_ovn;
mod lint;
mod load;
mod loader;
pub mod multi_network;
pub mod naive;
pub mod names;
pub mod network_policy;
pub mod openshift;
pub mod origin;
pub mod port_security;
pub mod security_group;
mod selection;
pub mod selector;
pub mod source;
pub mod stage;
pub mod tiers;

pub use admin_output::AdminOutputRules;
pub use compatibility::{Compatibility, CompatibilityError};
pub use compile::{ISOLATION_ANNOTATION, isolation_annotation};
pub use document::Document;
pub use egress_firewall::EgressFirewall;
pub use evaluate::{Decision, Opinion};
pub use finding::{Finding, Place, Severity};
pub use inventory::{Inventory, Pod};
pub use key::{Exemption, PRIMARY_NETWORK, PolicyKey, Sender, UNKNOWN_NETWORK};
pub use kube_ovn::{Port, Ports, Subnet, Vip};
pub use load::{load, load_documents};
pub use loader::{LaterFindings, Loader, Loading};
pub use multi_network::MultiNetworkPolicy;
pub use names::{NameUser, Names};
pub use network_policy::NetworkPolicy;
pub use openshift::OpenShift;
pub use origin::Origin;
pub use security_group::SecurityGroup;
pub use selector::LabelSelector;
pub use source::{ReadError, SourceFile, read_directory};
pub use stage::{Shard, StageKind, StageMask, StageRules};
pub use tiers::TierPolicy;

use std::sync::Arc;

/// Which end of a connection a stage protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Asked on behalf of the destination.
    Ingress,
    /// Asked on behalf of the source.
    Egress,
}

/// What loading gives.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Everything there is to say, sorted by place.
    pub findings: Vec<Finding>,
    /// The policies in force; `None` exactly when a finding is an error: all or nothing.
    pub policy: Option<PolicySet>,
}

/// The policy objects, by system; each list sorted by namespace and name.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// NetworkPolicy.
    pub network_policies: Vec<Arc<NetworkPolicy>>,
    /// MultiNetworkPolicy.
    pub multi_network_policies: Vec<MultiNetworkPolicy>,
    /// AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy, in the order in
    /// which they are asked.
    pub tiers: Vec<TierPolicy>,
    /// EgressNetworkPolicy, and what it needs to know of OpenShift's network.
    pub openshift: OpenShift,
    /// EgressFirewall.
    pub egress_firewalls: Vec<EgressFirewall>,
    /// AdminOutputRules.
    pub admin_output_rules: Vec<AdminOutputRules>,
    /// SecurityGroup.
    pub security_groups: Vec<SecurityGroup>,
}

impl Policies {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.network_policies.len()
            + self.multi_network_policies.len()
            + self.security_groups.len()
            + self.tiers.len()
            + self.openshift.egress_network_policies.len()
            + self.egress_firewalls.len()
            + self.admin_output_rules.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Is there a policy, or anything of OpenShift's network, which is no policy itself?
    fn holds_any(&self) -> bool {
        !self.is_empty() || self.openshift != OpenShift::default()
    }

    /// Adds other policies behind these.
    fn append(&mut self, mut other: Policies) {
        let (own, openshift) = (&mut self.openshift, &mut other.openshift);
        self.network_policies.append(&mut other.network_policies);
        self.multi_network_policies
            .append(&mut other.multi_network_policies);
        self.tiers.append(&mut other.tiers);
        own.egress_network_policies
            .append(&mut openshift.egress_network_policies);
        own.net_namespaces.append(&mut openshift.net_namespaces);
        own.host_subnets.append(&mut openshift.host_subnets);
        own.cluster_networks.append(&mut openshift.cluster_networks);
        self.egress_firewalls.append(&mut other.egress_firewalls);
        self.admin_output_rules
            .append(&mut other.admin_output_rules);
        self.security_groups.append(&mut other.security_groups);
    }

    /// The namespaces they are in.
    fn namespaces(&self) -> impl Iterator<Item = String> + '_ {
        let of_networks = self.multi_network_policies.iter().map(|one| &one.policy);
        let of_network_policies = self.network_policies.iter().map(|one| &**one);
        let of_network_policies = of_network_policies.chain(of_networks);
        let of_network_policies = of_network_policies.map(|policy| &policy.namespace);
        let of_egress = self.openshift.egress_network_policies.iter();
        let of_egress = of_egress.map(|policy| &policy.namespace);
        let of_firewalls = self.egress_firewalls.iter();
        let of_firewalls = of_firewalls.map(|firewall| &firewall.namespace);
        let of_projects = self.openshift.net_namespaces.iter();
        let of_projects = of_projects.map(|net_namespace| &net_namespace.name);
        of_network_policies
            .chain(of_egress)
            .chain(of_firewalls)
            .chain(of_projects)
            .cloned()
    }
}

/// A complete set of objects, and the rules compiled from it.
#[derive(Debug, Clone)]
pub struct PolicySet {
    /// Pods, namespaces, nodes, services.
    pub inventory: Arc<Inventory>,
    /// The attachments of its pods, as Kube-OVN sees them.
    pub ports: Arc<Ports>,
    /// Addresses pods may have beside their own.
    pub vips: Arc<[Vip]>,
    /// Every policy object.
    pub policies: Policies,
    /// The evaluation steps in order: a packet passes when no step denies it.
    pub stages: Vec<StageRules>,
    /// The addresses of names when it was loaded.
    pub names: Names,
    /// The switches it was loaded with, with the plugin that a ClusterNetwork names.
    pub compatibility: Compatibility,
}

#[cfg(test)]
mod tests;
