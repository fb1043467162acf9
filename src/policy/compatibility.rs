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

/// All switches. An unknown value is a load error, never a fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compatibility {
    /// `established`: `reevaluate` or `keep`.
    pub established: Established,
    /// `invalid`: `drop` or `evaluate`.
    pub invalid: Invalid,
    /// `icmp`: `as-any-protocol` or `always`.
    pub icmp: Icmp,
    /// `np_profile`: `v1` or `v1beta1-isolation`.
    pub np_profile: NetworkPolicyProfile,
}
