//! `[policy]`: where manifests are, and which upstream's behaviour where they differ.

use std::path::{Path, PathBuf};

use super::choice::choice;
use super::kind::{Flag, Parsed};
use super::reader::{Section, defaults};

/// Where policy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Directory of manifests; already resolved against the settings file's folder.
    pub directory: PathBuf,
    /// Read again by itself when the directory changes.
    pub watch: bool,
    /// `[policy.compat]`
    pub compat: Compat,
}

/// `[policy.compat]`: switches between upstream behaviours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compat {
    /// `sg_np_combine`
    pub sg_np_combine: CompatSecurityGroupCombine,
    /// `sg_unknown_groups`
    pub sg_unknown_groups: CompatSecurityGroupUnknownGroups,
    /// `sg_unknown_strings`
    pub sg_unknown_strings: CompatSecurityGroupUnknownStrings,
    /// `sg_egress_view`
    pub sg_egress_view: CompatSecurityGroupEgressView,
    /// `sg_priority_max`
    pub sg_priority_max: CompatSecurityGroupPriorityMax,
    /// `mnp_compat`
    pub mnp_compat: CompatMultiNetworkPolicy,
    /// `cnp_secondary`
    pub cnp_secondary: CompatClusterNetworkPolicySecondary,
    /// `np_profile`
    pub np_profile: CompatNetworkPolicyProfile,
    /// `established`
    pub established: CompatEstablished,
    /// `invalid`
    pub invalid: CompatInvalid,
    /// `icmp`
    pub icmp: CompatIcmp,
    /// `enp_generation`
    pub enp_generation: CompatEgressNetworkPolicyGeneration,
    /// `plugin`
    pub plugin: CompatPlugin,
}

choice! {
    /// How SecurityGroup and NetworkPolicy verdicts combine.
    CompatSecurityGroupCombine {
        /// Both must allow.
        And = "and",
        /// Ingress: a bound group decides alone.
        KubeOvn = "kube-ovn",
    }
}

choice! {
    /// A pod lists only groups that do not exist.
    CompatSecurityGroupUnknownGroups {
        /// Deny all.
        Closed = "closed",
        /// As if it listed none.
        Open = "open",
    }
}

choice! {
    /// A SecurityGroup rule has an unknown protocol or policy word.
    CompatSecurityGroupUnknownStrings {
        /// The object is rejected.
        Reject = "reject",
        /// Unknown protocol is any, unknown policy is drop.
        Upstream = "upstream",
    }
}

choice! {
    /// Which destination SecurityGroup egress rules compare with.
    CompatSecurityGroupEgressView {
        /// The one the pod sent to (a Service's address).
        Original = "original",
        /// The one behind it (the backend's address).
        Translated = "translated",
    }
}

choice! {
    /// Largest priority number accepted in a SecurityGroup.
    CompatSecurityGroupPriorityMax {
        /// 1 to 16384.
        Upto16384 = "16384",
        /// 1 to 200.
        Upto200 = "200",
    }
}

choice! {
    /// Which implementation MultiNetworkPolicy follows.
    CompatMultiNetworkPolicy {
        /// The written API.
        Api = "api",
        /// multi-networkpolicy-iptables.
        Iptables = "iptables",
        /// OVN-Kubernetes.
        OvnKubernetes = "ovn-kubernetes",
    }
}

choice! {
    /// Whether cluster-scoped policies see secondary networks.
    CompatClusterNetworkPolicySecondary {
        /// They do not.
        Ignore = "ignore",
        /// They do.
        Apply = "apply",
    }
}

choice! {
    /// How NetworkPolicy isolates.
    CompatNetworkPolicyProfile {
        /// A pod is isolated when a policy selects it.
        V1 = "v1",
        /// A namespace is isolated by its annotation.
        V1Beta1Isolation = "v1beta1-isolation",
    }
}

choice! {
    /// What an established flow does when policy changes.
    CompatEstablished {
        /// It is asked again.
        Reevaluate = "reevaluate",
        /// It keeps flowing.
        Keep = "keep",
    }
}

choice! {
    /// What happens to a packet that fits no flow's state.
    CompatInvalid {
        /// Dropped, counted apart.
        Drop = "drop",
        /// Judged as a new packet.
        Evaluate = "evaluate",
    }
}

choice! {
    /// What lets ICMP into or out of an isolated pod.
    CompatIcmp {
        /// A rule without ports.
        AsAnyProtocol = "as-any-protocol",
        /// It always passes.
        Always = "always",
    }
}

choice! {
    /// Which OpenShift generation EgressNetworkPolicy follows.
    CompatEgressNetworkPolicyGeneration {
        /// OpenShift 3.
        Three = "3.x",
        /// OpenShift 4.
        Four = "4.x",
    }
}

choice! {
    /// Which OpenShift SDN plugin decides what objects are live.
    CompatPlugin {
        /// Everything present is enforced.
        Unset = "unset",
        /// NetworkPolicy and EgressNetworkPolicy.
        NetworkPolicy = "networkpolicy",
        /// Project isolation and EgressNetworkPolicy.
        Multitenant = "multitenant",
        /// Neither.
        Subnet = "subnet",
    }
}

const DIRECTORY: Parsed<PathBuf> = Parsed {
    allowed: "the path of a directory",
    parse: |text| {
        (!text.is_empty())
            .then(|| PathBuf::from(text))
            .ok_or_else(String::new)
    },
};

impl Policy {
    /// `folder` is where a relative directory starts from.
    pub(super) fn read(section: &mut Section<'_, '_>, folder: &Path) -> Policy {
        let directory = section.optional("directory", PathBuf::from("policies"), DIRECTORY);
        Policy {
            directory: folder.join(directory),
            watch: section.optional("watch", true, Flag),
            compat: Compat::read(&mut section.table("compat")),
        }
    }
}

impl Compat {
    fn read(section: &mut Section<'_, '_>) -> Compat {
        Compat {
            sg_np_combine: section.choice("sg_np_combine"),
            sg_unknown_groups: section.choice("sg_unknown_groups"),
            sg_unknown_strings: section.choice("sg_unknown_strings"),
            sg_egress_view: section.choice("sg_egress_view"),
            sg_priority_max: section.choice("sg_priority_max"),
            mnp_compat: section.choice("mnp_compat"),
            cnp_secondary: section.choice("cnp_secondary"),
            np_profile: section.choice("np_profile"),
            established: section.choice("established"),
            invalid: section.choice("invalid"),
            icmp: section.choice("icmp"),
            enp_generation: section.choice("enp_generation"),
            plugin: section.choice("plugin"),
        }
    }
}

impl Default for Compat {
    fn default() -> Self {
        defaults(Self::read)
    }
}
