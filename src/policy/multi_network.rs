//! MultiNetworkPolicy (`k8s.cni.cncf.io`): NetworkPolicy for the secondary networks of pods.

use super::compatibility::MultiNetworkDialect;
use super::inventory::{Inventory, Network};
use super::network_policy::{Peer, PeerKind};
use super::selector::Operator;
use super::{Direction, LabelSelector, NetworkPolicy};

/// Annotation of a policy: the networks it is about.
pub const POLICY_FOR: &str = "k8s.v1.cni.cncf.io/policy-for";
/// Kube-OVN's annotation of a NetworkPolicy: the networks it is about.
pub const NETWORK_POLICY_FOR: &str = "ovn.kubernetes.io/network_policy_for";
/// Annotation of a pod: the networks it asks for.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// Annotation of a pod: the interfaces it has got.
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// A MultiNetworkPolicy object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiNetworkPolicy {
    /// What it has in common with NetworkPolicy; isolation is defaulted as there.
    pub policy: NetworkPolicy,
    /// `policyTypes` as `[ingress, egress]`; `None` where absent or empty.
    pub types: Option<[bool; 2]>,
    /// `policy-for`: `namespace/name` of each network; `None` without the annotation, which leaves
    /// the policy without effect.
    pub networks: Option<Vec<String>>,
}

impl MultiNetworkPolicy {
    /// Does it isolate in this direction? Implementations disagree about absent `policyTypes`.
    pub fn isolates(&self, direction: Direction, dialect: MultiNetworkDialect) -> bool {
        let written = self.types.map(|[ingress, egress]| match direction {
            Direction::Ingress => ingress,
            Direction::Egress => egress,
        });
        match dialect {
            MultiNetworkDialect::Api => self.policy.isolates(direction),
            MultiNetworkDialect::Iptables => {
                written.unwrap_or(!self.policy.rules(direction).is_empty())
            }
            MultiNetworkDialect::OvnKubernetes => written.unwrap_or(false),
        }
    }

    /// Numbers of the networks it is about, those that are there and that the dialect acts on;
    /// sorted.
    pub fn network_numbers(&self, inventory: &Inventory, dialect: MultiNetworkDialect) -> Vec<u16> {
        let listed = self.networks.iter().flatten();
        let listed: Vec<&Network> = listed.filter_map(|name| inventory.network(name)).collect();
        let is_meant = |network: &Network| {
            listed.iter().any(|one| {
                // To OVN-Kubernetes all definitions of one network are that network.
                let same = dialect == MultiNetworkDialect::OvnKubernetes
                    && !one.network_name.is_empty()
                    && one.network_name == network.network_name;
                same || one.full_name() == network.full_name()
            })
        };
        let networks = inventory.networks();
        networks
            .filter(|(_, network)| is_meant(network) && acts_on(network, dialect))
            .map(|(number, _)| number)
            .collect()
    }
}

/// Does an implementation act on networks of this CNI plugin? What nobody describes it takes for
/// its own.
pub fn acts_on(network: &Network, dialect: MultiNetworkDialect) -> bool {
    let own = match dialect {
        MultiNetworkDialect::Api => return true,
        MultiNetworkDialect::Iptables => "macvlan",
        MultiNetworkDialect::OvnKubernetes => "ovn-k8s-cni-overlay",
    };
    network.plugin.is_empty() || network.plugin == own
}

/// Can multi-networkpolicy-iptables evaluate the selector: no expression but `In` one value?
pub fn iptables_reads(selector: &LabelSelector) -> bool {
    let reads = |operator, values: &[String]| operator == Operator::In && values.len() == 1;
    let mut expressions = selector.match_expressions.iter();
    expressions.all(|one| reads(one.operator, &one.values))
}

/// Can multi-networkpolicy-iptables evaluate the peer?
pub fn iptables_reads_peer(peer: &Peer) -> bool {
    match &peer.kind {
        PeerKind::IpBlock { .. } => true,
        PeerKind::Pods { namespaces, pods } => namespaces.iter().chain(pods).all(iptables_reads),
    }
}

/// The port a name stands for on the node that multi-networkpolicy-iptables runs on: its
/// `/etc/services`, as far as names of ports are common (IANA's registry of service names).
pub fn service_number(name: &str) -> Option<u16> {
    let number = match name {
        "ftp" => 21,
        "ssh" => 22,
        "telnet" => 23,
        "smtp" => 25,
        "domain" => 53,
        "tftp" => 69,
        "http" | "www" => 80,
        "kerberos" => 88,
        "pop3" => 110,
        "sunrpc" => 111,
        "ntp" => 123,
        "imap2" | "imap" => 143,
        "snmp" => 161,
        "bgp" => 179,
        "ldap" => 389,
        "https" => 443,
        "submission" => 587,
        "ldaps" => 636,
        "rsync" => 873,
        "imaps" => 993,
        "pop3s" => 995,
        "mqtt" => 1883,
        "nfs" => 2049,
        "mysql" => 3306,
        "sip" => 5060,
        "postgresql" => 5432,
        "amqp" => 5672,
        "http-alt" => 8080,
        _ => return None,
    };
    Some(number)
}
