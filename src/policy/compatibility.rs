//! Switches that choose between upstream behaviours where implementations differ.

/// What an established flow does when the policy that admitted it is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Established {
    /// Its original direction is asked again (OVN).
    #[default]
    Reevaluate,
    /// It keeps flowing (Calico).
    Keep,
}

/// What happens to a packet in state INVALID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Invalid {
    /// Dropped and counted apart (Calico, OVN-Kubernetes).
    #[default]
    Drop,
    /// Judged as a new packet.
    Evaluate,
}

/// What lets ICMP into or out of a pod that NetworkPolicy isolates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Icmp {
    /// A rule without a ports list, as for any other protocol without ports.
    #[default]
    AsAnyProtocol,
    /// ICMP always passes.
    Always,
}

/// How NetworkPolicy isolates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkPolicyProfile {
    /// `networking.k8s.io/v1`: a pod is isolated when a policy selects it.
    #[default]
    V1,
    /// `extensions/v1beta1` before Kubernetes 1.7: a namespace is isolated by its annotation
    /// `net.beta.kubernetes.io/network-policy`; elsewhere policies have no effect.
    V1Beta1Isolation,
}

/// Which plugin of OpenShift's network is live, and with it which objects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// NetworkPolicy objects are enforced.
    NetworkPolicy,
    /// Projects are isolated by number; NetworkPolicy objects have no effect.
    MultiTenant,
    /// Nothing is isolated; NetworkPolicy objects have no effect.
    Subnet,
}

/// How the security groups of a destination and NetworkPolicy combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Combination {
    /// Both must allow.
    #[default]
    And,
    /// Where a security group is bound it decides alone (Kube-OVN).
    KubeOvn,
}

/// What becomes of a pod whose security groups are all unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownGroups {
    /// It is closed both ways.
    #[default]
    Closed,
    /// It is open (Kube-OVN).
    Open,
}

/// What words of a security group mean that nobody defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownStrings {
    /// They are refused.
    #[default]
    Reject,
    /// An unknown protocol is any, an unknown policy drops (Kube-OVN).
    Upstream,
}

/// What the security groups of a source see of a packet to a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EgressView {
    /// The ClusterIP (Kube-OVN).
    #[default]
    Original,
    /// The pod behind it.
    Translated,
}

/// Whose MultiNetworkPolicy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MultiNetworkDialect {
    /// As the API says: NetworkPolicy on other networks.
    #[default]
    Api,
    /// As multi-networkpolicy-iptables does.
    Iptables,
    /// As OVN-Kubernetes does.
    OvnKubernetes,
}

/// Which attachments the administrator's tiers are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdminScope {
    /// Those of the cluster's own network (OVN-Kubernetes).
    #[default]
    Primary,
    /// Secondary ones too.
    All,
}

/// Which generation of EgressNetworkPolicy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EgressGeneration {
    /// OpenShift 3.x.
    #[default]
    Three,
    /// OpenShift 4.x.
    Four,
}

/// All switches. An unknown value is a load error, never a fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compatibility {
    /// `sg_np_combine`: `and` or `kube-ovn`.
    pub sg_np_combine: Combination,
    /// `sg_unknown_groups`: `closed` or `open`.
    pub sg_unknown_groups: UnknownGroups,
    /// `sg_unknown_strings`: `reject` or `upstream`.
    pub sg_unknown_strings: UnknownStrings,
    /// `sg_egress_view`: `original` or `translated`.
    pub sg_egress_view: EgressView,
    /// `sg_priority_max`: 16384 or 200.
    pub sg_priority_max: u32,
    /// `mnp_compat`: `api`, `iptables` or `ovn-kubernetes`.
    pub mnp_compat: MultiNetworkDialect,
    /// `cnp_secondary`: `ignore` or `apply`.
    pub cnp_secondary: AdminScope,
    /// `enp_generation`: `3.x` or `4.x`.
    pub enp_generation: EgressGeneration,
    /// `established`: `reevaluate` or `keep`.
    pub established: Established,
    /// `invalid`: `drop` or `evaluate`.
    pub invalid: Invalid,
    /// `icmp`: `as-any-protocol` or `always`.
    pub icmp: Icmp,
    /// `np_profile`: `v1` or `v1beta1-isolation`.
    pub np_profile: NetworkPolicyProfile,
    /// `plugin`: `networkpolicy`, `multitenant` or `subnet`; `None`: everything present is
    /// enforced.
    pub plugin: Option<Plugin>,
}

/// Why a switch was not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompatibilityError {
    /// There is no such switch.
    #[error("unknown compatibility switch \"{switch}\"; there are: {allowed}")]
    UnknownSwitch {
        /// What was asked for.
        switch: String,
        /// All names, comma-separated.
        allowed: String,
    },
    /// The switch has no such value.
    #[error("unknown value \"{value}\" of compatibility switch {switch}; allowed: {allowed}")]
    UnknownValue {
        /// The switch.
        switch: &'static str,
        /// What was asked for.
        value: String,
        /// All values, comma-separated, the default first.
        allowed: String,
    },
}

/// Every switch with its values, the default first.
const SWITCHES: &[(&str, &[&str])] = &[
    ("sg_np_combine", &["and", "kube-ovn"]),
    ("sg_unknown_groups", &["closed", "open"]),
    ("sg_unknown_strings", &["reject", "upstream"]),
    ("sg_egress_view", &["original", "translated"]),
    ("sg_priority_max", &["16384", "200"]),
    ("mnp_compat", &["api", "iptables", "ovn-kubernetes"]),
    ("cnp_secondary", &["ignore", "apply"]),
    ("np_profile", &["v1", "v1beta1-isolation"]),
    ("established", &["reevaluate", "keep"]),
    ("invalid", &["drop", "evaluate"]),
    ("icmp", &["as-any-protocol", "always"]),
    ("enp_generation", &["3.x", "4.x"]),
    ("plugin", &["networkpolicy", "multitenant", "subnet"]),
];

impl Default for Compatibility {
    fn default() -> Self {
        Compatibility {
            sg_np_combine: Combination::default(),
            sg_unknown_groups: UnknownGroups::default(),
            sg_unknown_strings: UnknownStrings::default(),
            sg_egress_view: EgressView::default(),
            sg_priority_max: 16384,
            mnp_compat: MultiNetworkDialect::default(),
            cnp_secondary: AdminScope::default(),
            enp_generation: EgressGeneration::default(),
            established: Established::default(),
            invalid: Invalid::default(),
            icmp: Icmp::default(),
            np_profile: NetworkPolicyProfile::default(),
            plugin: None,
        }
    }
}

impl Compatibility {
    /// Sets one switch from its written form.
    ///
    /// # Errors
    /// An unknown switch or value; it names what is allowed.
    pub fn set(&mut self, switch: &str, value: &str) -> Result<(), CompatibilityError> {
        let Some(&(switch, values)) = SWITCHES.iter().find(|(name, _)| *name == switch) else {
            let names: Vec<_> = SWITCHES.iter().map(|(name, _)| *name).collect();
            return Err(CompatibilityError::UnknownSwitch {
                switch: switch.to_owned(),
                allowed: names.join(", "),
            });
        };
        if !values.contains(&value) {
            return Err(CompatibilityError::UnknownValue {
                switch,
                value: value.to_owned(),
                allowed: values.join(", "),
            });
        }
        match (switch, value) {
            ("np_profile", "v1") => self.np_profile = NetworkPolicyProfile::V1,
            ("np_profile", _) => self.np_profile = NetworkPolicyProfile::V1Beta1Isolation,
            ("established", "reevaluate") => self.established = Established::Reevaluate,
            ("established", _) => self.established = Established::Keep,
            ("invalid", "drop") => self.invalid = Invalid::Drop,
            ("invalid", _) => self.invalid = Invalid::Evaluate,
            ("icmp", "as-any-protocol") => self.icmp = Icmp::AsAnyProtocol,
            ("icmp", _) => self.icmp = Icmp::Always,
            ("plugin", "networkpolicy") => self.plugin = Some(Plugin::NetworkPolicy),
            ("plugin", "multitenant") => self.plugin = Some(Plugin::MultiTenant),
            ("plugin", _) => self.plugin = Some(Plugin::Subnet),
            ("sg_np_combine", "and") => self.sg_np_combine = Combination::And,
            ("sg_np_combine", _) => self.sg_np_combine = Combination::KubeOvn,
            ("sg_unknown_groups", "closed") => self.sg_unknown_groups = UnknownGroups::Closed,
            ("sg_unknown_groups", _) => self.sg_unknown_groups = UnknownGroups::Open,
            ("sg_unknown_strings", "reject") => self.sg_unknown_strings = UnknownStrings::Reject,
            ("sg_unknown_strings", _) => self.sg_unknown_strings = UnknownStrings::Upstream,
            ("sg_egress_view", "original") => self.sg_egress_view = EgressView::Original,
            ("sg_egress_view", _) => self.sg_egress_view = EgressView::Translated,
            ("sg_priority_max", "16384") => self.sg_priority_max = 16384,
            ("sg_priority_max", _) => self.sg_priority_max = 200,
            ("mnp_compat", "api") => self.mnp_compat = MultiNetworkDialect::Api,
            ("mnp_compat", "iptables") => self.mnp_compat = MultiNetworkDialect::Iptables,
            ("mnp_compat", _) => self.mnp_compat = MultiNetworkDialect::OvnKubernetes,
            ("cnp_secondary", "ignore") => self.cnp_secondary = AdminScope::Primary,
            ("cnp_secondary", _) => self.cnp_secondary = AdminScope::All,
            ("enp_generation", "3.x") => self.enp_generation = EgressGeneration::Three,
            ("enp_generation", _) => self.enp_generation = EgressGeneration::Four,
            _ => unreachable!("every switch of the table is set above"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_takes_its_default_and_every_other_value_changes_something() {
        let mut compatibility = Compatibility::default();
        for (switch, values) in SWITCHES.iter().filter(|(switch, _)| *switch != "plugin") {
            compatibility.set(switch, values[0]).unwrap();
        }
        assert_eq!(compatibility, Compatibility::default());
        for (switch, values) in SWITCHES {
            for value in &values[1..] {
                let mut changed = Compatibility::default();
                changed.set(switch, value).unwrap();
                assert_ne!(changed, Compatibility::default(), "{switch}={value}");
            }
        }
    }

    #[test]
    fn switches_are_set_or_the_error_says_what_is_allowed() {
        let mut compatibility = Compatibility::default();
        compatibility.set("established", "keep").unwrap();
        compatibility.set("invalid", "evaluate").unwrap();
        compatibility.set("icmp", "always").unwrap();
        compatibility
            .set("np_profile", "v1beta1-isolation")
            .unwrap();
        compatibility.set("plugin", "subnet").unwrap();
        let expected = Compatibility {
            established: Established::Keep,
            invalid: Invalid::Evaluate,
            icmp: Icmp::Always,
            np_profile: NetworkPolicyProfile::V1Beta1Isolation,
            plugin: Some(Plugin::Subnet),
            ..Compatibility::default()
        };
        assert_eq!(compatibility, expected);
        let mut error = |switch, value| compatibility.set(switch, value).unwrap_err().to_string();
        assert_eq!(
            error("established", "Keep"),
            "unknown value \"Keep\" of compatibility switch established; allowed: reevaluate, keep"
        );
        assert_eq!(
            error("mnp_compat", "nftables"),
            "unknown value \"nftables\" of compatibility switch mnp_compat; allowed: api, iptables, \
             ovn-kubernetes"
        );
        assert!(
            error("icpm", "always").starts_with("unknown compatibility switch \"icpm\"; there")
        );
        assert!(error("icpm", "always").contains("sg_np_combine, "));
        assert_eq!(compatibility, expected);
    }
}
