//! Findings about one interface.

use super::{Finding, InterfaceFacts, Severity};
use crate::dataplane::backend::afxdp::{FRAME_SIZES, mtu_max};
use crate::dataplane::xdp::QUEUES_MAX;

/// Offloads that make one frame of several: they exceed a UMEM frame.
pub const MERGING_OFFLOADS: &[&str] = &["rx-gro", "rx-lro", "rx-gro-hw", "rx-gro-list"];
/// Offloads of a macvlan's parent by which its own machine sends such frames to the macvlan.
pub const SEGMENTING_OFFLOADS: &[&str] = &["tx-tcp-segmentation", "tx-udp-segmentation"];
/// Offloads that take the VLAN tag out of a frame before a program sees it.
pub const VLAN_OFFLOADS: &[&str] = &["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

/// Largest MTU with which veth runs programs natively: a page, less its headroom and the rest of
/// its buffer (drivers/net/veth.c, `veth_xdp_set`).
const VETH_NATIVE_MTU_MAX: u32 = 3506;

/// What bites of these facts.
pub fn findings(facts: &InterfaceFacts) -> Vec<Finding> {
    let checks = [
        link_state(facts),
        mtu(facts),
        native_mtu(facts),
        queues(facts),
        foreign_program(facts),
        children_with_programs(facts),
        controller(facts),
        children_cut_off(facts),
        merging(facts),
        parent_merging(facts),
        parent_answers(facts),
        vlan_tags(facts),
        promiscuous(facts),
        router_advertisements(facts),
    ];
    checks.into_iter().flatten().collect()
}

fn finding(
    facts: &InterfaceFacts,
    severity: Severity,
    id: &'static str,
    found: String,
    consequence: &str,
    command: String,
) -> Option<Finding> {
    Some(Finding {
        id,
        severity,
        interface: Some(facts.interface.clone()),
        found,
        consequence: consequence.to_owned(),
        command,
    })
}

fn link_state(facts: &InterfaceFacts) -> Option<Finding> {
    let name = &facts.interface;
    let consequence = "it neither receives nor sends";
    if !facts.up {
        let (found, command) = (
            "it is down".to_owned(),
            format!("ip link set dev {name} up"),
        );
        return finding(
            facts,
            Severity::Problem,
            "link-down",
            found,
            consequence,
            command,
        );
    }
    if facts.carrier {
        return None;
    }
    let (found, command) = ("it has no carrier".to_owned(), format!("ethtool {name}"));
    finding(
        facts,
        Severity::Warning,
        "no-carrier",
        found,
        consequence,
        command,
    )
}

fn mtu(facts: &InterfaceFacts) -> Option<Finding> {
    if facts.frame_size_bytes.is_some() {
        return None;
    }
    let most = FRAME_SIZES.iter().map(|size| mtu_max(*size)).max()?;
    finding(
        facts,
        Severity::Problem,
        "mtu",
        format!("its MTU is {} bytes", facts.mtu_bytes),
        &format!("a frame in memory holds an MTU of {most} bytes: the gateway does not start"),
        format!("ip link set dev {} mtu {most}", facts.interface),
    )
}

fn native_mtu(facts: &InterfaceFacts) -> Option<Finding> {
    let veth = facts.kind.as_deref() == Some("veth");
    if !veth || facts.mtu_bytes <= VETH_NATIVE_MTU_MAX || facts.frame_size_bytes.is_none() {
        return None;
    }
    finding(
        facts,
        Severity::Warning,
        "native-mtu",
        format!("its MTU is {} bytes", facts.mtu_bytes),
        "native mode needs a smaller one on both ends of a veth; generic mode is slower, and \
         loses frames that were merged",
        format!(
            "ip link set dev {} mtu {VETH_NATIVE_MTU_MAX}",
            facts.interface
        ),
    )
}

fn queues(facts: &InterfaceFacts) -> Option<Finding> {
    (facts.receive_queues > QUEUES_MAX).then_some(())?;
    finding(
        facts,
        Severity::Problem,
        "queues",
        format!("it has {} receive queues", facts.receive_queues),
        &format!("{QUEUES_MAX} at the most can be steered to the data plane"),
        format!("ethtool -L {} combined {QUEUES_MAX}", facts.interface),
    )
}

fn foreign_program(facts: &InterfaceFacts) -> Option<Finding> {
    let program = facts.program.as_ref().filter(|program| !program.ours)?;
    finding(
        facts,
        Severity::Problem,
        "foreign-program",
        format!(
            "another XDP program is attached: \"{}\", id {}",
            program.name, program.id
        ),
        "the gateway does not start: it does not replace programs of others",
        format!("ip link set dev {} xdp off", facts.interface),
    )
}

fn children_with_programs(facts: &InterfaceFacts) -> Option<Finding> {
    let child = facts.children.iter().find(|child| child.has_program)?;
    finding(
        facts,
        Severity::Problem,
        "child-program",
        format!("{} on top of it has an XDP program", child.interface),
        "the kernel does not attach a second one below",
        format!("ip link set dev {} xdp off", child.interface),
    )
}

fn controller(facts: &InterfaceFacts) -> Option<Finding> {
    let controller = facts.controller.as_ref()?;
    finding(
        facts,
        Severity::Warning,
        "controller",
        format!("it belongs to {controller}"),
        "frames go to the data plane before the bridge, bond or VRF sees them",
        format!("ip link set dev {} nomaster", facts.interface),
    )
}

fn children_cut_off(facts: &InterfaceFacts) -> Option<Finding> {
    if facts.children.is_empty() || facts.children.iter().any(|child| child.has_program) {
        return None;
    }
    let names: Vec<_> = facts
        .children
        .iter()
        .map(|child| child.interface.as_str())
        .collect();
    finding(
        facts,
        Severity::Warning,
        "children",
        format!("{} on top of it", names.join(", ")),
        "they receive nothing while it is a port: frames go to the data plane first",
        format!("ip link del dev {}", names.first()?),
    )
}

/// Only generic mode is reached by merged frames; drivers that run programs do not merge before.
fn merging(facts: &InterfaceFacts) -> Option<Finding> {
    if facts.native_xdp == Some(true) || facts.parent.is_some() {
        return None;
    }
    merged(
        facts,
        &facts.interface,
        &facts.offloads,
        MERGING_OFFLOADS,
        "offloads",
    )
}

fn parent_merging(facts: &InterfaceFacts) -> Option<Finding> {
    let parent = facts.parent.as_ref()?;
    let Some(name) = &parent.interface else {
        return finding(
            facts,
            Severity::Warning,
            "parent-elsewhere",
            "its parent is in another network namespace".to_owned(),
            "whether that one merges frames, which are lost then, does not show here",
            "ethtool -K <parent> gro off lro off tso off gso off  # where the parent is".to_owned(),
        );
    };
    let both = [MERGING_OFFLOADS, SEGMENTING_OFFLOADS].concat();
    merged(facts, name, &parent.offloads, &both, "parent-offloads")
}

/// A macvlan shares its parent's link, and the kernel answers ARP for any of its addresses on any
/// interface, unless `arp_ignore` says 1, 2 or 8 (networking/ip-sysctl). Neighbour discovery
/// answers for the interface's own addresses alone.
fn parent_answers(facts: &InterfaceFacts) -> Option<Finding> {
    let parent = facts.parent.as_ref()?;
    let (name, ignore) = (parent.interface.as_ref()?, parent.arp_ignore?);
    if facts.kind.as_deref() != Some("macvlan") || matches!(ignore, 1 | 2 | 8) {
        return None;
    }
    let own = format!("net.ipv4.conf.{}.arp_ignore=1", name.replace('.', "/"));
    finding(
        facts,
        Severity::Problem,
        "parent-answers",
        format!("its parent {name} answers ARP for its addresses: arp_ignore is {ignore}"),
        "frames for the port go to the parent instead: past policy and management list, to the \
         kernel",
        match ignore {
            0 => format!("sysctl -w {own}"),
            // The larger one counts, and the setting for all may be the one.
            _ => format!("sysctl -w net.ipv4.conf.all.arp_ignore=1 {own}"),
        },
    )
}

fn merged(
    facts: &InterfaceFacts,
    on: &str,
    active: &[String],
    bad: &[&str],
    id: &'static str,
) -> Option<Finding> {
    let bad: Vec<&str> = active
        .iter()
        .map(String::as_str)
        .filter(|name| bad.contains(name))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let off: Vec<String> = bad.iter().map(|name| format!("{name} off")).collect();
    finding(
        facts,
        Severity::Warning,
        id,
        format!("{on} merges frames: {}", bad.join(", ")),
        "merged frames exceed a frame in memory and are lost (rx_dropped of the socket): TCP \
         through the gateway crawls",
        format!("ethtool -K {on} {}", off.join(" ")),
    )
}

fn vlan_tags(facts: &InterfaceFacts) -> Option<Finding> {
    let active = facts.offloads.iter().map(String::as_str);
    let bad: Vec<&str> = active.filter(|name| VLAN_OFFLOADS.contains(name)).collect();
    // The ends of a veth do not take tags out; its peer may leave them out, which shows only there.
    if bad.is_empty() || facts.kind.as_deref() == Some("veth") {
        return None;
    }
    let off: Vec<String> = bad.iter().map(|name| format!("{name} off")).collect();
    finding(
        facts,
        Severity::Warning,
        "vlan-offload",
        format!("it takes VLAN tags out of frames: {}", bad.join(", ")),
        "tagged frames look untagged to the data plane",
        format!("ethtool -K {} {}", facts.interface, off.join(" ")),
    )
}

fn promiscuous(facts: &InterfaceFacts) -> Option<Finding> {
    facts.promiscuous.then_some(())?;
    finding(
        facts,
        Severity::Warning,
        "promiscuous",
        "it takes frames for every station".to_owned(),
        "a routed port drops them one by one; only a transparent one needs them",
        format!("ip link set dev {} promisc off", facts.interface),
    )
}

fn router_advertisements(facts: &InterfaceFacts) -> Option<Finding> {
    facts.accepts_router_advertisements.then_some(())?;
    finding(
        facts,
        Severity::Warning,
        "router-advertisements",
        "the kernel accepts router advertisements on it".to_owned(),
        "any host on the link can change the routes the gateway forwards by",
        format!(
            "sysctl -w net.ipv6.conf.{}.accept_ra=0",
            facts.interface.replace('.', "/")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::{ChildFacts, ParentFacts, ProgramFacts};
    use super::*;

    fn veth() -> InterfaceFacts {
        InterfaceFacts {
            interface: "eth0.5".to_owned(),
            kind: Some("veth".to_owned()),
            up: true,
            carrier: true,
            mtu_bytes: 1500,
            frame_size_bytes: Some(2048),
            receive_queues: 1,
            native_xdp: Some(true),
            offloads: ["rx-gro", "rx-vlan-hw-parse"].map(str::to_owned).to_vec(),
            ..InterfaceFacts::default()
        }
    }

    fn macvlan(parent: Option<&str>, offloads: &[&str]) -> InterfaceFacts {
        InterfaceFacts {
            kind: Some("macvlan".to_owned()),
            native_xdp: Some(false),
            offloads: vec!["rx-gro".to_owned()],
            parent: Some(ParentFacts {
                interface: parent.map(str::to_owned),
                offloads: offloads.iter().map(|name| (*name).to_owned()).collect(),
                arp_ignore: parent.map(|_| 1),
            }),
            ..veth()
        }
    }

    /// The one finding there is.
    fn only(facts: &InterfaceFacts) -> Finding {
        let mut found = findings(facts);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn an_ordinary_veth_has_no_findings() {
        assert_eq!(findings(&veth()), []);
    }

    #[test]
    fn merging_matters_in_generic_mode_alone() {
        let mut physical = veth();
        physical.kind = None;
        physical.offloads = ["rx-gro", "rx-lro", "rx-checksum"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(findings(&physical), []);
        for native in [Some(false), None] {
            physical.native_xdp = native;
            let found = only(&physical);
            assert_eq!(found.command, "ethtool -K eth0.5 rx-gro off rx-lro off");
        }
    }

    #[test]
    fn a_macvlan_is_asked_about_its_parent() {
        let found = only(&macvlan(Some("eth1"), &["rx-gro", "tx-tcp-segmentation"]));
        assert_eq!(found.id, "parent-offloads");
        let command = "ethtool -K eth1 rx-gro off tx-tcp-segmentation off";
        assert_eq!(found.command, command);
        assert_eq!(findings(&macvlan(Some("eth1"), &[])), []);
        assert_eq!(only(&macvlan(None, &[])).id, "parent-elsewhere");
    }

    #[test]
    fn a_parent_that_answers_for_its_macvlan_is_a_problem() {
        for (ignore, fine) in [
            (0, false),
            (1, true),
            (2, true),
            (3, false),
            (4, false),
            (8, true),
        ] {
            let mut facts = macvlan(Some("eth1.7"), &[]);
            facts.parent.as_mut().unwrap().arp_ignore = Some(ignore);
            if fine {
                assert_eq!(findings(&facts), [], "{ignore}");
                continue;
            }
            let found = only(&facts);
            let kind = (found.id, found.severity);
            assert_eq!(kind, ("parent-answers", Severity::Problem), "{ignore}");
            let own = "net.ipv4.conf.eth1/7.arp_ignore=1";
            let both = format!("sysctl -w net.ipv4.conf.all.arp_ignore=1 {own}");
            let one = format!("sysctl -w {own}");
            assert_eq!(found.command, if ignore == 0 { one } else { both });
            // A VLAN has a link of its own.
            facts.kind = Some("vlan".to_owned());
            assert_eq!(findings(&facts), []);
        }
    }

    #[test]
    fn sizes_name_what_fits() {
        let mut facts = veth();
        facts.mtu_bytes = 9000;
        facts.frame_size_bytes = None;
        let found = only(&facts);
        assert_eq!((found.id, found.severity), ("mtu", Severity::Problem));
        assert_eq!(found.command, "ip link set dev eth0.5 mtu 3818");
        facts.mtu_bytes = 3600;
        facts.frame_size_bytes = Some(4096);
        assert_eq!(only(&facts).id, "native-mtu");
        facts.kind = None;
        facts.offloads.clear();
        assert_eq!(findings(&facts), []);
    }

    #[test]
    fn each_fault_has_its_finding() {
        type Change = fn(&mut InterfaceFacts);
        let changes: [(&str, Change); 8] = [
            ("link-down", |facts| facts.up = false),
            ("no-carrier", |facts| facts.carrier = false),
            ("queues", |facts| facts.receive_queues = 257),
            ("controller", |facts| {
                facts.controller = Some("br0".to_owned())
            }),
            ("promiscuous", |facts| facts.promiscuous = true),
            ("vlan-offload", |facts| facts.kind = None),
            ("router-advertisements", |facts| {
                facts.accepts_router_advertisements = true
            }),
            ("children", |facts| facts.children = vec![child(false)]),
        ];
        for (id, change) in changes {
            let mut facts = veth();
            change(&mut facts);
            assert_eq!(only(&facts).id, id);
        }
        let mut facts = veth();
        facts.accepts_router_advertisements = true;
        // sysctl writes the dot of an interface as a slash.
        assert_eq!(
            only(&facts).command,
            "sysctl -w net.ipv6.conf.eth0/5.accept_ra=0"
        );
    }

    #[test]
    fn programs_of_others_are_problems_and_ours_is_not() {
        let mut facts = veth();
        facts.children = vec![child(true)];
        assert_eq!(only(&facts).id, "child-program");
        facts.children.clear();
        for (ours, count) in [(true, 0), (false, 1)] {
            facts.program = Some(ProgramFacts {
                name: "p".to_owned(),
                id: 7,
                ours,
                mode: Some("native"),
            });
            assert_eq!(findings(&facts).len(), count);
        }
    }

    fn child(has_program: bool) -> ChildFacts {
        ChildFacts {
            interface: "mv0".to_owned(),
            has_program,
        }
    }
}
