//! Which kinds are read, which others there are, and which are misspelt.

use super::super::tiers::TierKind;
use super::{Severity, nearest};

/// Every kind of `networking.k8s.io/v1`: any other is misspelt, and a misspelt policy must not be
/// left out with a warning.
pub const NETWORKING_KINDS: &[&str] = &[
    "IPAddress",
    "Ingress",
    "IngressClass",
    "NetworkPolicy",
    "ServiceCIDR",
];

/// Every kind of the core group: others that are almost one read here are misspelt.
const CORE_KINDS: &[&str] = &[
    "Binding",
    "ComponentStatus",
    "ConfigMap",
    "Endpoints",
    "Event",
    "LimitRange",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
    "ServiceAccount",
    "Status",
];

/// Group of Kube-OVN.
const KUBE_OVN_GROUP: &str = "kubeovn.io/";

/// The other kinds of `kubeovn.io/v1`.
const KUBE_OVN_KINDS: &[&str] = &[
    "BgpConf",
    "DNSNameResolver",
    "EvpnConf",
    "IP",
    "IPPool",
    "IptablesDnatRule",
    "IptablesEIP",
    "IptablesFIPRule",
    "IptablesSnatRule",
    "OvnDnatRule",
    "OvnEip",
    "OvnFip",
    "OvnSnatRule",
    "ProviderNetwork",
    "QoSPolicy",
    "SwitchLBRule",
    "Vlan",
    "Vpc",
    "VpcDns",
    "VpcEgressGateway",
    "VpcNatGateway",
];

/// The kinds read here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pod,
    Namespace,
    Node,
    Service,
    NetworkPolicy,
    SecurityGroup,
    Vip,
    Subnet,
    Tier(TierKind),
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::Pod,
        Kind::Namespace,
        Kind::Node,
        Kind::Service,
        Kind::NetworkPolicy,
        Kind::SecurityGroup,
        Kind::Vip,
        Kind::Subnet,
        Kind::Tier(TierKind::Admin),
        Kind::Tier(TierKind::Baseline),
        Kind::Tier(TierKind::Cluster),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Pod => "Pod",
            Kind::Namespace => "Namespace",
            Kind::Node => "Node",
            Kind::Service => "Service",
            Kind::NetworkPolicy => "NetworkPolicy",
            Kind::SecurityGroup => "SecurityGroup",
            Kind::Vip => "Vip",
            Kind::Subnet => "Subnet",
            Kind::Tier(kind) => kind.name(),
        }
    }

    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Kind::NetworkPolicy => &["networking.k8s.io/v1", "extensions/v1beta1"],
            Kind::SecurityGroup | Kind::Vip | Kind::Subnet => &["kubeovn.io/v1"],
            Kind::Tier(TierKind::Cluster) => &["policy.networking.k8s.io/v1alpha2"],
            Kind::Tier(_) => &["policy.networking.k8s.io/v1alpha1"],
            _ => &["v1"],
        }
    }

    pub fn is_namespaced(self) -> bool {
        !matches!(
            self,
            Kind::Namespace
                | Kind::Node
                | Kind::Tier(_)
                | Kind::SecurityGroup
                | Kind::Vip
                | Kind::Subnet
        )
    }

    /// Is it a policy, of which every field matters and every unknown one is reported by its own
    /// decoder?
    pub fn is_policy(self) -> bool {
        matches!(
            self,
            Kind::NetworkPolicy | Kind::SecurityGroup | Kind::Tier(_)
        )
    }

    /// An unknown field of a policy opens or closes something, and so does a misspelt one that
    /// policies ask for; of a dump of the cluster any other is one of the many nobody asks for.
    pub fn severity_of_unknown_metadata(self, name: &str) -> Severity {
        let read = ["annotations", "labels", "name", "namespace"];
        match self {
            _ if self.is_policy() => Severity::Error,
            _ if nearest(name, &read).is_some() => Severity::Error,
            _ => Severity::Warning,
        }
    }
}

/// Is this kind almost one that the version has and that is read here?
pub fn is_misspelt_kind(kind: &str, version: &str) -> bool {
    let of_version = |known: &Kind| {
        let mut versions = known.versions().iter();
        versions.any(|known| known.eq_ignore_ascii_case(version))
    };
    let read: Vec<_> = Kind::ALL.into_iter().filter(of_version).collect();
    let lists: Vec<_> = read
        .iter()
        .map(|kind| format!("{}List", kind.name()))
        .collect();
    let mut names: Vec<_> = read.iter().map(|kind| kind.name()).collect();
    names.extend(lists.iter().map(String::as_str));
    if version.eq_ignore_ascii_case("v1") {
        names.push("List");
    }
    let listed = kind.strip_suffix("List").unwrap_or(kind);
    let others = match version.starts_with(KUBE_OVN_GROUP) {
        true => KUBE_OVN_KINDS,
        false => CORE_KINDS,
    };
    !others.contains(&listed) && nearest(kind, &names).is_some()
}

/// May a group that is not Kubernetes' own have a kind of the same name, as Calico has a
/// NetworkPolicy?
pub fn may_own_same_kind(version: &str) -> bool {
    version.split_once('/').is_some_and(|(group, _)| {
        let own = group.eq_ignore_ascii_case(KUBE_OVN_GROUP.trim_end_matches('/'));
        group.contains('.')
            && !own
            && !group.ends_with(".k8s.io")
            && !group.starts_with("networking")
    })
}
