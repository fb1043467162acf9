//! What the lists for destinations outside the cluster have in common: whom they are not about.

use std::collections::BTreeMap;

use super::{Compiler, Draft, StageDraft, intern, push, rule_id, singles};
use crate::classifier::{AddressMatch, PortRange, ProtocolMatch, RuleVerdict};
use crate::policy::inventory::PodIndex;
use crate::policy::openshift::cluster_ranges;
use crate::wire::{Address, protocol};

/// Priority of the rules that take packets out of a list before it is asked.
pub const EXEMPT: u32 = 0;

/// Priority of the rules of the list itself.
pub const LIST: u32 = 1;

impl Compiler<'_> {
    /// Destinations that are in the cluster are none of the list's business.
    pub(super) fn pass_inside(&mut self, stage: &mut StageDraft, system: &str, pods: &[PodIndex]) {
        let subject = self.pods(stage, pods);
        let ranges = cluster_ranges(self.inventory, &self.policies.openshift);
        let peer = intern(stage, ranges);
        let draft = Draft {
            id: rule_id(system, &["*", "*", "in-cluster"]),
            priority: EXEMPT,
            origin: self.implicit(format!("{system}/*/*#in-cluster")),
            ..self.here(subject, peer, RuleVerdict::Pass)
        };
        push(stage, draft);
    }

    /// A pod reaches port 53 of the node it runs on, whatever the list says.
    pub(super) fn pass_own_node_dns(
        &mut self,
        stage: &mut StageDraft,
        system: &str,
        pods: &[PodIndex],
    ) {
        for (node, pods) in self.by_node(pods) {
            for number in [protocol::TCP, protocol::UDP] {
                let id = [node.as_str(), "dns", &number.to_string()];
                let draft = self.own_node(stage, &node, &pods);
                let draft = Draft {
                    id: rule_id(system, &id),
                    protocol: ProtocolMatch::Number(number),
                    ports: PortRange::single(53),
                    origin: self.implicit(format!("{system}/*/*#own-node-dns")),
                    ..draft
                };
                push(stage, draft);
            }
        }
    }

    /// A pod and the node it runs on are none of the list's business.
    pub(super) fn pass_own_node(
        &mut self,
        stage: &mut StageDraft,
        system: &str,
        pods: &[PodIndex],
    ) {
        for (node, pods) in self.by_node(pods) {
            let draft = self.own_node(stage, &node, &pods);
            let draft = Draft {
                id: rule_id(system, &[&node, "own-node"]),
                origin: self.implicit(format!("{system}/*/*#own-node")),
                ..draft
            };
            push(stage, draft);
        }
    }

    fn own_node(&self, stage: &mut StageDraft, node: &str, pods: &[PodIndex]) -> Draft {
        let node = self.inventory.node(node);
        let addresses = node.map_or(&[][..], |node| &node.addresses);
        let addresses = addresses.iter().map(|&one| Address::from_ip(one)).collect();
        let subject = self.pods(stage, pods);
        let peer = intern(stage, singles(&addresses));
        Draft {
            priority: EXEMPT,
            ..self.here(subject, peer, RuleVerdict::Pass)
        }
    }

    fn by_node(&self, pods: &[PodIndex]) -> BTreeMap<String, Vec<PodIndex>> {
        let mut by_node: BTreeMap<String, Vec<PodIndex>> = BTreeMap::new();
        for &index in pods {
            if let Some(node) = &self.inventory.pod_at(index).node_name {
                by_node.entry(node.clone()).or_default().push(index);
            }
        }
        by_node
    }

    /// A rule about the cluster's own network: secondary ones have no part in these lists.
    pub(super) fn here(
        &self,
        subject: AddressMatch,
        peer: AddressMatch,
        verdict: RuleVerdict,
    ) -> Draft {
        Draft {
            zone: self.primary_zone(),
            ..Draft::any(subject, peer, verdict)
        }
    }

    /// The pods of a namespace that policies are about.
    pub(super) fn pods_of(&self, namespace: &str) -> Vec<PodIndex> {
        self.selections.pods_in(namespace, &Default::default())
    }

    /// The pods of these namespaces, sorted.
    pub(super) fn pods_of_all<'n>(
        &self,
        namespaces: impl Iterator<Item = &'n str>,
    ) -> Vec<PodIndex> {
        let mut pods: Vec<_> = namespaces.flat_map(|name| self.pods_of(name)).collect();
        pods.sort_unstable();
        pods
    }
}
