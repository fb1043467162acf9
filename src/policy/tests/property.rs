//! Compiled rules and the naive twin decide alike, whatever the objects and the packets.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::*;
use crate::classifier::Classify;
use crate::classifier::shards::{Shards, Side};
use crate::classifier::tree::Limits;
use crate::policy::admin_output::{OutputAction, OutputRule};
use crate::policy::decode::Objects;
use crate::policy::document::{Position, Stand};
use crate::policy::egress_firewall::{FirewallDestination, FirewallPort, FirewallRule};
use crate::policy::inventory::{
    Attachment, ContainerPort, Labels, Namespace, Network, Node, Source,
};
use crate::policy::network_policy::{Peer, PeerKind, PolicyPort, PolicyRule, PortMatch};
use crate::policy::openshift::{
    CHANGE_NETWORK_ANNOTATION, ClusterNetwork, Destination, EgressNetworkPolicy, EgressRule,
    HostSubnet, MULTICAST_ANNOTATION, NetNamespace, RuleType,
};
use crate::policy::selector::{Operator, Requirement};
use crate::policy::tiers::{
    Action, PodScope, Tier, TierKind, TierPeer, TierPeerKind, TierPort, TierRule,
};

mod groups;

const NAME_USERS: [NameUser; 3] = [
    NameUser::EgressNetworkPolicy,
    NameUser::EgressFirewall,
    NameUser::Tiers,
];

/// Decisions read from bytes that proptest generates and shrinks; zeros when they run out, which
/// every chooser takes as the simplest choice.
struct Choices<'b> {
    bytes: std::slice::Iter<'b, u8>,
}

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.bytes.next().map_or(0, |&byte| byte as usize % bound)
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == odds - 1
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn list<T>(&mut self, most: usize, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| item(self)).collect()
    }
}

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const NODES: [&str; 2] = ["n1", "n2"];
const KEYS: [&str; 3] = ["k", "l", "m"];
const VALUES: [&str; 2] = ["1", "2"];
const PORT_NAMES: [&str; 2] = ["p", "q"];
const PORTS: [u16; 5] = [80, 81, 443, 1, 65535];
const PROTOCOLS: [u8; 3] = [protocol::TCP, protocol::UDP, protocol::SCTP];

fn source() -> Source {
    Source {
        stand: Arc::new(Stand::new(&Arc::from("generated"), 1, 0)),
        position: Position { line: 1, column: 1 },
    }
}

fn labels(choices: &mut Choices) -> Labels {
    let pairs = choices.list(3, |choices| {
        (
            choices.pick(&KEYS).to_owned(),
            choices.pick(&VALUES).to_owned(),
        )
    });
    pairs.into_iter().collect()
}

fn selector(choices: &mut Choices) -> LabelSelector {
    let mut selector = LabelSelector::default();
    if choices.one_in(2) {
        selector.match_labels = labels(choices);
    }
    selector.match_expressions = choices.list(2, |choices| {
        let operators = [
            Operator::Exists,
            Operator::DoesNotExist,
            Operator::In,
            Operator::NotIn,
        ];
        let operator = choices.pick(&operators);
        let values = match operator {
            Operator::In | Operator::NotIn => {
                vec![
                    choices.pick(&VALUES).to_owned(),
                    choices.pick(&VALUES).to_owned(),
                ]
            }
            Operator::Exists | Operator::DoesNotExist => Vec::new(),
        };
        Requirement {
            key: choices.pick(&KEYS).to_owned(),
            operator,
            values,
        }
    });
    selector
}

/// An address of the small world all objects live in.
fn address(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, number).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

const NETWORKS: [&str; 3] = ["a/n1", "a/n2", "b/n3"];

/// Interfaces on secondary networks; on the first with the very numbers of the cluster's own.
fn attachments(choices: &mut Choices, number: u8) -> Vec<Attachment> {
    let mut attachments = Vec::new();
    for (network, first) in NETWORKS.into_iter().zip([0, 40, 50]) {
        let addresses = match choices.below(4) {
            0 => continue,
            1 => vec![],
            2 => vec![address(Family::V4, first + number)],
            _ => [Family::V4, Family::V6]
                .map(|family| address(family, first + number))
                .to_vec(),
        };
        attachments.push(Attachment {
            network: network.to_owned(),
            interface: network.to_owned(),
            addresses,
            mac: String::new(),
        });
    }
    attachments
}

fn network(choices: &mut Choices, full_name: &str) -> Network {
    let (namespace, name) = full_name.split_once('/').unwrap();
    Network {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        plugin: choices
            .pick(&["", "macvlan", "ovn-k8s-cni-overlay", "bridge"])
            .to_owned(),
        network_name: choices.pick(&["", "one", "two"]).to_owned(),
        topology: String::new(),
        has_subnets: true,
        source: Some(source()),
    }
}

fn multi_network_policy(choices: &mut Choices, number: usize) -> MultiNetworkPolicy {
    let mut policy = network_policy(choices, number);
    let types = match choices.below(3) {
        0 => None,
        _ => Some([policy.isolates_ingress, policy.isolates_egress]),
    };
    if types.is_none() {
        policy.isolates_ingress = true;
        policy.isolates_egress = !policy.egress.is_empty();
    }
    let listed = choices.list(2, |choices| choices.pick(&NETWORKS).to_owned());
    MultiNetworkPolicy {
        policy,
        types,
        networks: Some(listed),
    }
}

fn pod(choices: &mut Choices, number: u8) -> Pod {
    let host_network = choices.one_in(6);
    let terminated = choices.one_in(6);
    // Subjects have addresses of their own; the others may share any.
    let own = match host_network || terminated {
        true => choices.below(20) as u8,
        false => number,
    };
    let families = choices.pick(&[
        &[Family::V4][..],
        &[Family::V4, Family::V6],
        &[Family::V6],
        &[],
    ]);
    let node_name = choices.pick(&[Some(NODES[0]), Some(NODES[1]), None]);
    Pod {
        namespace: choices.pick(&NAMESPACES).to_owned(),
        name: format!("pod{number}"),
        labels: labels(choices),
        annotations: Labels::new(),
        node_name: node_name.map(str::to_owned),
        host_network,
        terminated,
        pending: !terminated && choices.one_in(8),
        ports: choices.list(3, |choices| ContainerPort {
            name: Some(choices.pick(&PORT_NAMES).to_owned()),
            number: choices.pick(&PORTS),
            protocol: choices.pick(&PROTOCOLS),
        }),
        addresses: families
            .iter()
            .map(|&family| address(family, own))
            .collect(),
        host_addresses: Vec::new(),
        attachments: attachments(choices, number),
        source: source(),
    }
}

fn block(choices: &mut Choices) -> PeerKind {
    let family = choices.pick(&[Family::V4, Family::V6]);
    let net = |choices: &mut Choices, within: Option<IpNet>| {
        let longest = family.bits();
        let shortest = within.map_or(longest - 6, |within| within.prefix_len() + 1);
        let span = usize::from(longest - shortest) + 1;
        let length = shortest + choices.below(span) as u8;
        let number = choices.below(64) as u8;
        let host = match (
            within.map(|within| within.network()),
            address(family, number),
        ) {
            // Whatever its bits, an exception lies within the block.
            (Some(IpAddr::V4(base)), IpAddr::V4(host)) => {
                let within = within.map_or(0, |within| within.prefix_len());
                let mask = u32::MAX.checked_shr(within.into()).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() | host.to_bits() & mask))
            }
            (Some(IpAddr::V6(base)), IpAddr::V6(host)) => {
                let within = within.map_or(0, |within| within.prefix_len());
                let mask = u128::MAX.checked_shr(within.into()).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() | host.to_bits() & mask))
            }
            (_, host) => host,
        };
        match host {
            IpAddr::V4(host) => IpNet::V4(Ipv4Net::new(host, length).unwrap().trunc()),
            IpAddr::V6(host) => IpNet::V6(Ipv6Net::new(host, length).unwrap().trunc()),
        }
    };
    let everything = IpNet::new(address(family, 0), 0).unwrap().trunc();
    let cidr = match choices.one_in(5) {
        true => everything,
        false => net(choices, None),
    };
    let except = match cidr.prefix_len() {
        0 => choices.list(2, |choices| net(choices, None)),
        length if length < family.bits() => choices.list(2, |choices| net(choices, Some(cidr))),
        _ => Vec::new(),
    };
    PeerKind::IpBlock { cidr, except }
}

fn rule(choices: &mut Choices) -> PolicyRule {
    let position = source().position;
    let peer = |choices: &mut Choices| {
        let kind = match choices.below(4) {
            0 => PeerKind::Pods {
                namespaces: None,
                pods: Some(selector(choices)),
            },
            1 => PeerKind::Pods {
                namespaces: Some(selector(choices)),
                pods: None,
            },
            2 => PeerKind::Pods {
                namespaces: Some(selector(choices)),
                pods: Some(selector(choices)),
            },
            _ => block(choices),
        };
        Peer { position, kind }
    };
    let port = |choices: &mut Choices| {
        let ports = match choices.below(3) {
            0 => PortMatch::Any,
            1 => {
                let (one, other) = (choices.pick(&PORTS), choices.pick(&PORTS));
                PortMatch::Range {
                    first: one.min(other),
                    last: one.max(other),
                }
            }
            _ => PortMatch::Named(choices.pick(&PORT_NAMES).to_owned()),
        };
        PolicyPort {
            position,
            protocol: choices.pick(&PROTOCOLS),
            ports,
        }
    };
    PolicyRule {
        position,
        peers: choices.list(2, peer),
        ports: choices.list(2, port),
    }
}

fn network_policy(choices: &mut Choices, number: usize) -> NetworkPolicy {
    NetworkPolicy {
        namespace: choices.pick(&NAMESPACES).to_owned(),
        name: format!("policy{number}"),
        pod_selector: selector(choices),
        isolates_ingress: !choices.one_in(3),
        isolates_egress: !choices.one_in(3),
        ingress: choices.list(2, rule),
        egress: choices.list(2, rule),
        source: source(),
    }
}

fn scope(choices: &mut Choices) -> PodScope {
    PodScope {
        namespaces: selector(choices),
        pods: selector(choices),
    }
}

fn tier_rule(choices: &mut Choices) -> TierRule {
    let position = source().position;
    let peer = |choices: &mut Choices| {
        let names = ["*.a.example", "b.a.example"].map(str::to_owned);
        let kind = match choices.below(8) {
            0..3 => TierPeerKind::Pods(scope(choices)),
            3..5 => TierPeerKind::Networks(choices.list(2, |choices| match block(choices) {
                PeerKind::IpBlock { cidr, .. } => cidr,
                PeerKind::Pods { .. } => unreachable!("a block is a block"),
            })),
            5 => TierPeerKind::Nodes(selector(choices)),
            6 => TierPeerKind::DomainNames(vec![choices.pick(&names)]),
            _ => match choices.one_in(4) {
                true => TierPeerKind::Unknown("newer".to_owned()),
                false => TierPeerKind::Pods(PodScope::default()),
            },
        };
        TierPeer { position, kind }
    };
    let port = |choices: &mut Choices| match choices.below(3) {
        0 => TierPort::Named(choices.pick(&PORT_NAMES).to_owned()),
        _ => {
            let (one, other) = (choices.pick(&PORTS), choices.pick(&PORTS));
            TierPort::Range {
                protocol: choices.pick(&PROTOCOLS),
                first: one.min(other),
                last: one.max(other),
            }
        }
    };
    TierRule {
        position,
        name: String::new(),
        action: choices.pick(&[Action::Accept, Action::Deny, Action::Pass]),
        peers: choices.list(2, peer),
        ports: choices.list(2, port),
    }
}

fn tier_policy(choices: &mut Choices, number: usize) -> TierPolicy {
    let kind = choices.pick(&[TierKind::Cluster, TierKind::Admin, TierKind::Baseline]);
    TierPolicy {
        kind,
        name: format!("policy{number}"),
        tier: match kind {
            TierKind::Cluster => choices.pick(&[Tier::Admin, Tier::Baseline]),
            TierKind::Admin => Tier::Admin,
            TierKind::Baseline => Tier::Baseline,
        },
        priority: match kind {
            TierKind::Baseline => 0,
            TierKind::Admin | TierKind::Cluster => choices.below(3) as u16,
        },
        subject: scope(choices),
        ingress: choices.list(3, tier_rule),
        egress: choices.list(3, tier_rule),
        source: source(),
    }
}

fn objects(choices: &mut Choices) -> Objects {
    let mut objects = Objects::default();
    for name in NAMESPACES.iter().take(choices.below(4)) {
        let isolated = r#"{"ingress": {"isolation": "DefaultDeny"}}"#;
        let annotation = choices.pick(&[None, Some(isolated), Some("{")]);
        let key = "net.beta.kubernetes.io/network-policy".to_owned();
        objects.namespaces.push(Namespace {
            name: (*name).to_owned(),
            labels: labels(choices),
            annotations: annotation
                .map(|text| (key, text.to_owned()))
                .into_iter()
                .collect(),
            source: None,
        });
    }
    for name in NODES.iter().take(choices.below(3)) {
        objects.nodes.push(Node {
            name: (*name).to_owned(),
            labels: labels(choices),
            addresses: choices.list(2, |choices| {
                let family = choices.pick(&[Family::V4, Family::V6]);
                address(family, 20 + choices.below(4) as u8)
            }),
            pod_blocks: Vec::new(),
            is_offline: false,
            source: None,
        });
    }
    objects.pods = (0..choices.below(9) as u8)
        .map(|number| pod(choices, number))
        .collect();
    objects.policies.network_policies = (0..choices.below(5))
        .map(|number| Arc::new(network_policy(choices, number)))
        .collect();
    objects.policies.multi_network_policies = (0..choices.below(4))
        .map(|number| multi_network_policy(choices, number))
        .collect();
    let policies = &mut objects.policies.multi_network_policies;
    policies.sort_by_key(|one| one.policy.full_name());
    let described = choices.below(NETWORKS.len() + 1);
    objects.networks = NETWORKS[..described]
        .iter()
        .map(|name| network(choices, name))
        .collect();
    let mut tiers: Vec<_> = (0..choices.below(4))
        .map(|number| tier_policy(choices, number))
        .collect();
    tiers.sort_by(|one, other| one.precedence().cmp(&other.precedence()));
    objects.policies.tiers = tiers;
    openshift(choices, &mut objects.policies.openshift);
    for name in NAMESPACES.iter().take(choices.below(3)) {
        objects.policies.egress_firewalls.push(EgressFirewall {
            namespace: (*name).to_owned(),
            name: choices.pick(&["default", "default", "other"]).to_owned(),
            rules: choices.list(4, firewall_rule),
            source: source(),
        });
    }
    objects.policies.admin_output_rules = (0..choices.below(3))
        .map(|number| {
            let mut rules = choices.list(3, output_rule);
            for (number, rule) in rules.iter_mut().enumerate() {
                rule.name = format!("rule{number}");
            }
            AdminOutputRules {
                name: format!("list{number}"),
                rules,
                source: source(),
            }
        })
        .collect();
    groups::add(choices, &mut objects);
    objects
}

const DNS_NAMES: [&str; 3] = ["a.example", "b.a.example", "example"];

fn any_block(choices: &mut Choices) -> IpNet {
    match block(choices) {
        PeerKind::IpBlock { cidr, .. } => cidr,
        PeerKind::Pods { .. } => unreachable!("a block is a block"),
    }
}

fn rule_type(choices: &mut Choices) -> RuleType {
    choices.pick(&[RuleType::Deny, RuleType::Allow])
}

fn v4(choices: &mut Choices) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 100 + choices.below(3) as u8)
}

fn openshift(choices: &mut Choices, openshift: &mut OpenShift) {
    for number in 0..choices.below(4) {
        openshift.egress_network_policies.push(EgressNetworkPolicy {
            namespace: choices.pick(&NAMESPACES).to_owned(),
            name: format!("egress{number}"),
            rules: choices.list(3, |choices| EgressRule {
                position: source().position,
                rule_type: rule_type(choices),
                to: match choices.below(4) {
                    0 => Destination::Name(choices.pick(&DNS_NAMES).to_owned()),
                    1 => Destination::Block("0.0.0.0/32".parse().unwrap()),
                    _ => Destination::Block(any_block(choices)),
                },
            }),
            source: source(),
        });
    }
    for name in ["default", "a", "b", "c"].iter().take(choices.below(5)) {
        let mut annotations = Labels::new();
        let changes = ["join:a", "join:b", "join:x", "isolate", "global", "join"];
        if choices.one_in(3) {
            let change = choices.pick(&changes).to_owned();
            annotations.insert(CHANGE_NETWORK_ANNOTATION.to_owned(), change);
        }
        if choices.one_in(2) {
            let text = choices.pick(&["true", "true", "True"]).to_owned();
            annotations.insert(MULTICAST_ANNOTATION.to_owned(), text);
        }
        openshift.net_namespaces.push(NetNamespace {
            name: (*name).to_owned(),
            vnid: choices.pick(&[10, 11, 12, 10, 0]),
            egress_addresses: distinct(choices.list(2, v4)),
            annotations,
            source: source(),
        });
    }
    for name in NODES.iter().take(choices.below(3)) {
        openshift.host_subnets.push(HostSubnet {
            name: (*name).to_owned(),
            host_address: address(Family::V4, 20 + choices.below(4) as u8),
            subnet: choices.one_in(2).then(|| "10.0.0.0/29".parse().unwrap()),
            egress_addresses: distinct(choices.list(2, v4)),
            egress_blocks: Vec::new(),
            source: source(),
        });
    }
    if choices.one_in(4) {
        openshift.cluster_networks.push(ClusterNetwork {
            name: choices.pick(&["default", "other"]).to_owned(),
            pod_blocks: vec![any_block(choices)],
            service_block: None,
            plugin_name: choices
                .pick(&[
                    "",
                    "redhat/openshift-ovs-multitenant",
                    "redhat/openshift-ovs-subnet",
                ])
                .to_owned(),
            source: source(),
        });
    }
}

fn distinct(mut addresses: Vec<Ipv4Addr>) -> Vec<Ipv4Addr> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn firewall_rule(choices: &mut Choices) -> FirewallRule {
    FirewallRule {
        position: source().position,
        rule_type: rule_type(choices),
        ports: choices.list(2, |choices| FirewallPort {
            protocol: choices.pick(&PROTOCOLS),
            port: choices.pick(&PORTS),
        }),
        to: match choices.below(4) {
            0 => FirewallDestination::Name(choices.pick(&DNS_NAMES).to_owned()),
            1 => FirewallDestination::Name("*.example".to_owned()),
            2 => FirewallDestination::Nodes(LabelSelector::default()),
            _ => FirewallDestination::Block(any_block(choices)),
        },
    }
}

fn output_rule(choices: &mut Choices) -> OutputRule {
    let actions = [
        OutputAction::Drop,
        OutputAction::Accept,
        OutputAction::Continue,
    ];
    let protocol = choices.one_in(2).then(|| choices.pick(&PROTOCOLS));
    OutputRule {
        position: source().position,
        name: String::new(),
        from: choices.list(1, any_block),
        to: choices.list(2, any_block),
        protocol,
        ports: match protocol {
            Some(_) => choices.list(2, |choices| {
                let (one, other) = (choices.pick(&PORTS), choices.pick(&PORTS));
                (one.min(other), one.max(other))
            }),
            None => Vec::new(),
        },
        action: choices.pick(&actions),
        effects: Default::default(),
    }
}

fn names(choices: &mut Choices) -> Names {
    let mut names = Names::default();
    let of_tiers = ["a.example", "b.a.example", "c.b.a.example"];
    for name in DNS_NAMES.into_iter().chain(of_tiers) {
        for user in NAME_USERS {
            if choices.one_in(2) {
                let family = choices.pick(&[Family::V4, Family::V6]);
                let addresses = choices.list(2, |choices| address(family, choices.below(64) as u8));
                names.insert(user, name, addresses.into_iter().collect());
            }
        }
    }
    names
}

/// Addresses at which a decision may change: of pods and nodes, at the edges of blocks, outside.
fn edges(set: &PolicySet, family: Family) -> Vec<Address> {
    let last = family.last_address().to_bits();
    let mut edges = BTreeSet::from([0, last]);
    for number in [0, 3, 7, 8, 20, 21, 63, 64, 77, 255] {
        edges.insert(Address::from_ip(address(family, number)).1.to_bits());
    }
    for pod in set.inventory.pods() {
        let own = pod
            .addresses
            .iter()
            .filter(|address| Family::of(**address) == family);
        edges.extend(own.map(|&address| Address::from_ip(address).1.to_bits()));
        let attached = pod.attachments.iter().flat_map(|one| &one.addresses);
        let attached = attached.filter(|address| Family::of(**address) == family);
        edges.extend(attached.map(|&address| Address::from_ip(address).1.to_bits()));
    }
    let rules = set
        .policies
        .network_policies
        .iter()
        .map(|one| &**one)
        .chain(
            set.policies
                .multi_network_policies
                .iter()
                .map(|one| &one.policy),
        )
        .flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
    for peer in rules.flat_map(|rule| &rule.peers) {
        let PeerKind::IpBlock { cidr, except } = &peer.kind else {
            continue;
        };
        for net in except.iter().chain([cidr]) {
            if Family::of(net.addr()) == family {
                let first = Address::from_ip(net.network()).1.to_bits();
                let end = Address::from_ip(net.broadcast()).1.to_bits();
                edges.extend([
                    first,
                    end,
                    first.saturating_sub(1),
                    end.saturating_add(1).min(last),
                ]);
            }
        }
    }
    for user in NAME_USERS {
        let named = set.names.iter(user).flat_map(|(_, addresses)| addresses);
        let of_family = named.filter(|address| Family::of(**address) == family);
        edges.extend(of_family.map(|&address| Address::from_ip(address).1.to_bits()));
    }
    edges.insert(match family {
        Family::V4 => 0xef01_0203,
        Family::V6 => 0xff05 << 112 | 1,
    });
    let of_groups = groups::edges(set).into_iter();
    let of_groups = of_groups.filter(|address| Family::of(*address) == family);
    edges.extend(of_groups.map(|address| Address::from_ip(address).1.to_bits()));
    edges.into_iter().map(Address::from_bits).collect()
}

fn packet(choices: &mut Choices, family: Family, edges: &[Address]) -> PolicyKey {
    let protocols = [protocol::TCP, protocol::UDP, protocol::SCTP, 1, 58, 47];
    let ports = [80, 81, 443, 1, 65535, 0, 79, 82, 53, 0x0800, 0x8700];
    let mut key = FlowKey {
        source: choices.pick(edges),
        destination: choices.pick(edges),
        source_port: choices.pick(&ports),
        destination_port: choices.pick(&ports),
        zone: 0,
        protocol: choices.pick(&protocols),
        family,
    };
    groups::basic_ports(choices, &mut key);
    let mut packet = PolicyKey::from(key);
    // A Service's address instead of the backend's.
    if choices.one_in(5) {
        packet.original.destination = choices.pick(edges);
        packet.original.destination_port = choices.pick(&ports);
    }
    packet
}

fn switches(choices: &mut Choices) -> Compatibility {
    let mut switches = Compatibility::default();
    let sometimes = [
        ("icmp", "always"),
        ("np_profile", "v1beta1-isolation"),
        ("plugin", "subnet"),
        ("plugin", "multitenant"),
        ("plugin", "networkpolicy"),
        ("cnp_secondary", "apply"),
        ("mnp_compat", "iptables"),
        ("mnp_compat", "ovn-kubernetes"),
        ("sg_np_combine", "kube-ovn"),
        ("sg_unknown_groups", "open"),
        ("sg_egress_view", "translated"),
    ];
    let odds = [3, 5, 20, 5, 8, 2, 3, 3, 3, 3, 3];
    for (odds, (switch, value)) in odds.into_iter().zip(sometimes) {
        if choices.one_in(odds) {
            switches.set(switch, value).unwrap();
        }
    }
    switches
}

/// The trees of a step, each shard on its own however few its rules are.
fn shards(set: &PolicySet, stage: &StageRules) -> Shards {
    let shards: Vec<_> = stage.shards().iter().map(|shard| shard.rules()).collect();
    let side = match stage.direction() {
        Direction::Ingress => Side::Destination,
        Direction::Egress => Side::Source,
    };
    let limits = Limits {
        joined_rules_max: 0,
        shared_ranges_min: 0,
        ..Limits::default()
    };
    let groups = set.inventory.address_groups();
    Shards::compile(&shards, side, groups, &limits, |_| None, None).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn compiled_rules_decide_as_the_naive_twin(
        world in prop::collection::vec(any::<u8>(), 0..1500),
        packets in prop::collection::vec(any::<u8>(), 2000..3000),
    ) {
        let mut choices = Choices { bytes: world.iter() };
        let switches = switches(&mut choices);
        let objects = objects(&mut choices);
        let mut findings = Vec::new();
        let names = names(&mut choices);
        let set = crate::policy::load::assemble(objects, &switches, &names, &mut findings);
        let mut choices = Choices { bytes: packets.iter() };
        let edges = [Family::V4, Family::V6].map(|family| (family, edges(&set, family)));
        let shards: Vec<_> = set.stages.iter().map(|stage| shards(&set, stage)).collect();
        while choices.bytes.len() > 0 {
            let (family, edges) = &edges[choices.below(2)];
            let mut key = packet(&mut choices, *family, edges);
            let networks = set.inventory.networks().count() + 1;
            key.source_network = choices.below(networks) as u16;
            key.destination_network = match choices.one_in(3) {
                true => choices.below(networks) as u16,
                false => key.source_network,
            };
            if choices.one_in(8) {
                key.original.destination = Address::from_ip(address(*family, 99)).1;
            }
            let receiver = choices.one_in(8).then(|| choices.pick(edges));
            // A group is no receiver.
            let is_group = |one: &Address| one.to_ip(*family).is_multicast();
            let receiver = receiver.filter(|one| !is_group(one));
            key.receiver = receiver;
            key.sender = choices.one_in(8).then(|| Sender {
                address: choices.pick(edges),
                owns_source: choices.one_in(2),
            });
            let evaluation = set.evaluate(key);
            let by_shards = set.evaluate_by(&key, |stage, key| shards[stage].classify(key));
            prop_assert_eq!(&by_shards, &evaluation, "{:?} in {:#?}", key, set);
            let denied_by = evaluation.denial().map(|step| (step.family(), step.direction()));
            let naive = naive::evaluate(&set, key);
            prop_assert_eq!(
                (evaluation.verdict(), denied_by),
                (naive.verdict, naive.denied_by),
                "{:?} in {:#?}", key, set
            );
        }
        for stage in &set.stages {
            let ids: BTreeSet<_> = stage.rules().map(|rule| rule.id).collect();
            prop_assert_eq!(ids.len(), stage.len(), "rule ids are unique");
        }
    }
}
