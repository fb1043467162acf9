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
    Tier(TierKind),
    EgressNetworkPolicy,
    NetNamespace,
    HostSubnet,
    ClusterNetwork,
    EgressFirewall,
    AdminOutputRules,
    MultiNetworkPolicy,
    NetworkAttachmentDefinition,
    SecurityGroup,
    Vip,
    Subnet,
}

impl Kind {
    pub const ALL: [Kind; 19] = [
        Kind::Pod,
        Kind::Namespace,
        Kind::Node,
        Kind::Service,
        Kind::NetworkPolicy,
        Kind::Tier(TierKind::Admin),
        Kind::Tier(TierKind::Baseline),
        Kind::Tier(TierKind::Cluster),
        Kind::EgressNetworkPolicy,
        Kind::NetNamespace,
        Kind::HostSubnet,
        Kind::ClusterNetwork,
        Kind::EgressFirewall,
        Kind::AdminOutputRules,
        Kind::MultiNetworkPolicy,
        Kind::NetworkAttachmentDefinition,
        Kind::SecurityGroup,
        Kind::Vip,
        Kind::Subnet,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Pod => "Pod",
            Kind::Namespace => "Namespace",
            Kind::Node => "Node",
            Kind::Service => "Service",
            Kind::NetworkPolicy => "NetworkPolicy",
            Kind::Tier(kind) => kind.name(),
            Kind::EgressNetworkPolicy => "EgressNetworkPolicy",
            Kind::NetNamespace => "NetNamespace",
            Kind::HostSubnet => "HostSubnet",
            Kind::ClusterNetwork => "ClusterNetwork",
            Kind::EgressFirewall => "EgressFirewall",
            Kind::AdminOutputRules => "AdminOutputRules",
            Kind::MultiNetworkPolicy => "MultiNetworkPolicy",
            Kind::NetworkAttachmentDefinition => "NetworkAttachmentDefinition",
            Kind::SecurityGroup => "SecurityGroup",
            Kind::Vip => "Vip",
            Kind::Subnet => "Subnet",
        }
    }

    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Kind::NetworkPolicy => &["networking.k8s.io/v1", "extensions/v1beta1"],
            Kind::Tier(TierKind::Cluster) => &["policy.networking.k8s.io/v1alpha2"],
            Kind::Tier(_) => &["policy.networking.k8s.io/v1alpha1"],
            Kind::EgressNetworkPolicy
            | Kind::NetNamespace
            | Kind::HostSubnet
            | Kind::ClusterNetwork => &["network.openshift.io/v1", "v1"],
            Kind::EgressFirewall => &["k8s.ovn.org/v1"],
            Kind::AdminOutputRules => &["portcullis.io/v1alpha1"],
            Kind::MultiNetworkPolicy => &["k8s.cni.cncf.io/v1beta1", "k8s.cni.cncf.io/v1beta2"],
            Kind::NetworkAttachmentDefinition => &["k8s.cni.cncf.io/v1"],
            Kind::SecurityGroup | Kind::Vip | Kind::Subnet => &["kubeovn.io/v1"],
            _ => &["v1"],
        }
    }

    /// Has the group of this version the kind, in whatever version?
    pub fn is_of_group(self, version: &str) -> bool {
        let group = |version: &str| version.split_once('/').map(|(group, _)| group.to_owned());
        let mut versions = self.versions().iter();
        versions.any(|one| group(one).is_some() && group(one) == group(version))
    }

    pub fn is_namespaced(self) -> bool {
        !matches!(
            self,
            Kind::Namespace
                | Kind::Node
                | Kind::Tier(_)
                | Kind::NetNamespace
                | Kind::HostSubnet
                | Kind::ClusterNetwork
                | Kind::AdminOutputRules
                | Kind::SecurityGroup
                | Kind::Vip
                | Kind::Subnet
        )
    }

    /// Does its decoder report every field it does not read, as it does for policies?
    pub fn is_policy(self) -> bool {
        !matches!(
            self,
            Kind::Pod
                | Kind::Namespace
                | Kind::Node
                | Kind::Service
                | Kind::NetworkAttachmentDefinition
                | Kind::Vip
                | Kind::Subnet
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
    let group_of = |version: &str| version.split_once('/').map(|(group, _)| group.to_owned());
    let read_here = |group: &str| {
        let versions = Kind::ALL.into_iter().flat_map(Kind::versions);
        let mut groups = versions.filter_map(|version| group_of(version));
        groups.any(|read| read == group)
    };
    version.split_once('/').is_some_and(|(group, _)| {
        !read_here(group)
            && group.contains('.')
            && !group.ends_with(".k8s.io")
            && !group.starts_with("networking")
    })
}
