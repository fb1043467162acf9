//! Interfaces on secondary networks, and what isolates them.

use super::{Written, protected};
use crate::policy::compatibility::MultiNetworkDialect;
use crate::policy::inventory::Attachment;
use crate::policy::multi_network::{acts_on, iptables_reads};
use crate::policy::{Direction, MultiNetworkPolicy, PRIMARY_NETWORK, Pod, PolicySet};
use crate::wire::{Address, FlowKey};

/// The interface an address belongs to, on the key's network first; none where the address is of
/// the cluster's own network.
pub(super) fn attachment<'p>(
    policy: &'p PolicySet,
    key: &FlowKey,
    address: Address,
) -> Option<(&'p Pod, &'p Attachment)> {
    let inventory = &policy.inventory;
    let ip = address.to_ip(key.family);
    let subjects = || inventory.pods().iter().filter(|pod| pod.is_subject());
    let interfaces = || {
        let of_pod = |pod: &'p Pod| pod.attachments.iter().map(move |one| (pod, one));
        subjects().flat_map(of_pod)
    };
    let has = |one: &&(&Pod, &Attachment)| one.1.addresses.contains(&ip);
    let on_network =
        |one: &&(&Pod, &Attachment)| inventory.network_number(&one.1.network) == Some(key.zone);
    let all: Vec<_> = interfaces().filter(|one| has(&one)).collect();
    let here = all.iter().find(on_network);
    if key.zone == PRIMARY_NETWORK && inventory.pod_by_address(key.family, address).is_some() {
        return None;
    }
    here.or(all.first()).copied()
}

/// The policies that isolate the interface a stage of this direction protects.
pub(super) fn isolation(policy: &PolicySet, key: &FlowKey, direction: Direction) -> Vec<Written> {
    let dialect = policy.compatibility.mnp_compat;
    let Some(pod) = protected(policy, key, direction) else {
        return Vec::new();
    };
    let inventory = &policy.inventory;
    let number = |one: &Attachment| inventory.network_number(&one.network);
    let isolates = |one: &&MultiNetworkPolicy| {
        let numbers = one.network_numbers(inventory, dialect);
        let listed = numbers.contains(&key.zone);
        let attached = pod.attachments.iter().filter_map(number);
        let iptables = dialect == MultiNetworkDialect::Iptables;
        let mut networks = inventory.networks();
        let acts = networks.any(|(found, one)| found == key.zone && acts_on(one, dialect));
        let elsewhere = iptables && acts && attached.into_iter().any(|one| numbers.contains(&one));
        let selector = &one.policy.pod_selector;
        one.policy.namespace == pod.namespace
            && selector.matches(&pod.labels)
            && (!iptables || iptables_reads(selector))
            && one.isolates(direction, dialect)
            && (listed || elsewhere)
    };
    let policies = policy.policies.multi_network_policies.iter();
    let written = |one: &MultiNetworkPolicy| Written {
        name: format!("MultiNetworkPolicy {}", one.policy.full_name()),
        place: Some(one.policy.source.place()),
        path: String::new(),
    };
    policies.filter(isolates).map(written).collect()
}
