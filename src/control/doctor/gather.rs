//! Facts, from the kernel and the drivers.

use std::io;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::interface::{MERGING_OFFLOADS, SEGMENTING_OFFLOADS, VLAN_OFFLOADS};
use super::{
    ChildFacts, InterfaceFacts, MachineFacts, ParentFacts, PinError, ProgramFacts, Request,
};
use crate::control::netlink::kernel_forwards;
use crate::dataplane::backend::afxdp::{FRAME_SIZES, mtu_max};
use crate::dataplane::xdp::ethtool::Ethtool;
use crate::dataplane::xdp::features::xdp_features;
use crate::dataplane::xdp::{self, AttachedMode, XdpError};

/// Why nothing could be found out.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// An interface asked for is not there.
    #[error(
        "interface {interface} does not exist in this network namespace; there are: {}",
        there.join(", ")
    )]
    NoSuchInterface {
        /// Its name.
        interface: String,
        /// The names there are.
        there: Vec<String>,
    },
    /// The kernel does not list its links.
    #[error("the kernel's links cannot be listed: {source}")]
    Links {
        /// Its answer.
        source: io::Error,
    },
}

/// Everything about the machine and the interfaces asked for.
pub fn gather(request: &Request) -> Result<(MachineFacts, Vec<InterfaceFacts>), DoctorError> {
    let links = links().map_err(|source| DoctorError::Links { source })?;
    let links: Vec<Link> = links.iter().filter_map(Link::new).collect();
    for name in &request.interfaces {
        if !links.iter().any(|link| link.name == *name) {
            return Err(DoctorError::NoSuchInterface {
                interface: name.clone(),
                there: links.iter().map(|link| link.name.clone()).collect(),
            });
        }
    }
    let asked = |link: &&Link| match request.interfaces.is_empty() {
        true => link.ethernet,
        false => request.interfaces.contains(&link.name),
    };
    let ethtool = Ethtool::open().map_err(|source| DoctorError::Links { source })?;
    let interfaces: Vec<_> = links
        .iter()
        .filter(asked)
        .map(|link| interface(link, &links, &ethtool))
        .collect();
    let names: Vec<String> = interfaces
        .iter()
        .map(|facts| facts.interface.clone())
        .collect();
    Ok((machine(request, &names), interfaces))
}

fn machine(request: &Request, interfaces: &[String]) -> MachineFacts {
    let error = |result: Result<(), XdpError>| result.err();
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    MachineFacts {
        kernel_release: release,
        missing_capabilities: missing_capabilities(),
        memlock_bytes: getrlimit(Resource::Memlock).current,
        af_xdp_error: socket(AddressFamily::XDP, SocketType::RAW, None)
            .err()
            .map(|error| error.to_string()),
        program_error: error(xdp::check_program()).map(|error| error.to_string()),
        pin_error: error(xdp::check_pin_directory(&request.pin_directory)).map(pin_error),
        kernel_forwards: kernel_forwards(interfaces).unwrap_or_default(),
    }
}

fn pin_error(error: XdpError) -> PinError {
    match error {
        XdpError::PinDirectory {
            reason, command, ..
        } => PinError { reason, command },
        other => PinError {
            reason: other.to_string(),
            command: "mount -t bpf bpf /sys/fs/bpf".to_owned(),
        },
    }
}

/// What the gateway does with each: interfaces and links; sockets; programs; program ids and PID
/// 1's mounts; memory for frames.
fn missing_capabilities() -> Vec<&'static str> {
    let needed = [
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::IPC_LOCK, "CAP_IPC_LOCK"),
    ];
    let have = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let missing = needed.into_iter().filter(|(one, _)| !have.contains(*one));
    missing.map(|(_, name)| name).collect()
}

/// A link, as far as it matters.
#[derive(Debug, Default)]
struct Link {
    index: u32,
    name: String,
    ethernet: bool,
    up: bool,
    carrier: bool,
    mtu_bytes: u32,
    kind: Option<String>,
    lower: Option<u32>,
    /// The lower link is in another network namespace.
    lower_elsewhere: bool,
    controller: Option<u32>,
    promiscuous: bool,
    has_program: bool,
}

impl Link {
    fn new(message: &LinkMessage) -> Option<Self> {
        let flags = message.header.flags;
        let mut link = Link {
            index: message.header.index,
            ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            ..Link::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name.clone(),
                LinkAttribute::Mtu(mtu) => link.mtu_bytes = *mtu,
                LinkAttribute::Link(index) => link.lower = Some(*index),
                LinkAttribute::LinkNetNsId(_) => link.lower_elsewhere = true,
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::Promiscuity(count) => link.promiscuous = *count > 0,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                LinkAttribute::Xdp(xdp) => {
                    let none = LinkXdp::Attached(XdpAttached::None);
                    let mut attached = xdp.iter().filter(|x| matches!(x, LinkXdp::Attached(_)));
                    link.has_program = attached.any(|attached| *attached != none);
                }
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }

    /// Stacked on a link that takes its frames in, as a veth's peer does not.
    fn has_parent(&self) -> bool {
        self.lower.is_some() && matches!(self.kind.as_deref(), Some("macvlan" | "vlan" | "ipvlan"))
    }
}

/// A runtime of its own: the doctor runs where nothing else does.
fn links() -> io::Result<Vec<LinkMessage>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let links = handle.link().get().execute().try_collect().await;
        connection.abort();
        links.map_err(io::Error::other)
    })
}

fn interface(link: &Link, links: &[Link], ethtool: &Ethtool) -> InterfaceFacts {
    let name = &link.name;
    let features = xdp_features(link.index).unwrap_or(None);
    let fitting = FRAME_SIZES
        .iter()
        .find(|size| link.mtu_bytes <= mtu_max(**size));
    let children = links.iter().filter(|child| {
        child.has_parent() && !child.lower_elsewhere && child.lower == Some(link.index)
    });
    let controller = links
        .iter()
        .find(|other| Some(other.index) == link.controller);
    InterfaceFacts {
        interface: name.clone(),
        kind: link.kind.clone(),
        driver: ethtool.driver(name).ok(),
        up: link.up,
        carrier: link.carrier,
        mtu_bytes: link.mtu_bytes,
        frame_size_bytes: fitting.copied(),
        receive_queues: ethtool.receive_queues(name).unwrap_or(1),
        native_xdp: features.map(|features| features.native),
        zero_copy: features.map(|features| features.zero_copy),
        offloads: offloads(name, ethtool),
        program: program(name),
        parent: link.has_parent().then(|| parent(link, links, ethtool)),
        children: children
            .map(|child| ChildFacts {
                interface: child.name.clone(),
                has_program: child.has_program,
            })
            .collect(),
        controller: controller.map(|controller| controller.name.clone()),
        promiscuous: link.promiscuous,
        accepts_router_advertisements: accepts_router_advertisements(name),
    }
}

fn parent(link: &Link, links: &[Link], ethtool: &Ethtool) -> ParentFacts {
    let mut here = links.iter().filter(|_| !link.lower_elsewhere);
    let found = here.find(|other| Some(other.index) == link.lower);
    ParentFacts {
        interface: found.map(|parent| parent.name.clone()),
        offloads: found.map_or(Vec::new(), |parent| offloads(&parent.name, ethtool)),
        arp_ignore: found.and_then(|parent| arp_ignore(&parent.name)),
    }
}

/// The kernel takes the larger of the two (`IN_DEV_ARP_IGNORE`).
fn arp_ignore(interface: &str) -> Option<u32> {
    let of = |name: &str| -> Option<u32> {
        let setting = format!("/proc/sys/net/ipv4/conf/{name}/arp_ignore");
        std::fs::read_to_string(setting).ok()?.trim().parse().ok()
    };
    Some(of("all")?.max(of(interface)?))
}

fn program(interface: &str) -> Option<ProgramFacts> {
    let attached = xdp::attachment(interface).ok()??;
    Some(ProgramFacts {
        name: attached.program,
        id: attached.program_id,
        ours: attached.ours,
        mode: attached.mode.map(|mode| match mode {
            AttachedMode::Native => "native",
            AttachedMode::Generic => "generic",
        }),
    })
}

fn offloads(interface: &str, ethtool: &Ethtool) -> Vec<String> {
    let features = ethtool.features(interface).unwrap_or_default();
    let matter = |name: &str| {
        [MERGING_OFFLOADS, SEGMENTING_OFFLOADS, VLAN_OFFLOADS]
            .concat()
            .contains(&name)
    };
    let active = features.into_iter().filter(|feature| feature.active);
    active
        .map(|feature| feature.name)
        .filter(|name| matter(name))
        .collect()
}

/// 1: while the kernel does not forward, which is always here; 2: in any case.
fn accepts_router_advertisements(interface: &str) -> bool {
    let setting = format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra");
    let disabled = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    let is = |path: &str, value: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
    };
    !is(&disabled, "1") && (is(&setting, "1") || is(&setting, "2"))
}
