//! A client and a server with a gateway between them.
//!
//! ```text
//! client eth0 ──veth── inside │ gateway │ outside ──veth── eth0 server
//!      .0.2                .0.1         .1.1              .1.2          198.18.0.0/16
//!      0::2                0::1         1::1              1::2          2001:db8::/32
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::namespace::{Namespace, ip};

/// Three hosts; offloads as the kernel sets them, on.
pub struct Lab {
    /// 198.18.0.2, pod `office/client`.
    pub client: Namespace,
    /// Where the appliance runs; `ip_forward` is 0.
    pub gateway: Namespace,
    /// 198.18.1.2, pod `shop/server`.
    pub server: Namespace,
    /// Address of the server in each family, as the client reaches it.
    pub server4: IpAddr,
    /// The same, IPv6.
    pub server6: IpAddr,
}

/// Address of the client.
pub const CLIENT4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2));
/// Address of the client.
pub const CLIENT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
/// The gateway's address on the client's side.
pub const GATEWAY4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
/// The gateway's address on the client's side.
pub const GATEWAY6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

impl Lab {
    /// The gateway routes between two networks.
    pub fn routed() -> Self {
        Self::routed_with_queues(1)
    }

    /// The same, with this many queues at every interface. The kernel spreads what a host sends
    /// over them by its hash of the flow.
    pub fn routed_with_queues(queues: u32) -> Self {
        let lab = Self::unaddressed("inside", queues);
        lab.address_gateway();
        lab
    }

    /// The gateway's inside port is a macvlan of the interface the client is on.
    pub fn with_macvlan() -> Self {
        let lab = Self::unaddressed("uplink", 1);
        // Else the parent answers ARP for the macvlan's address, and frames go past the port.
        lab.gateway.sysctl("net.ipv4.conf.all.arp_ignore", "1");
        let add = "link add inside link uplink type macvlan mode bridge";
        lab.gateway.ip(&words(add));
        lab.address_gateway();
        lab
    }

    /// Client and server share one network; the gateway's ports have no address.
    pub fn bridged() -> Self {
        let lab = Self::unaddressed("inside", 1);
        for address in ["198.18.0.3/24", "2001:db8::3/64"] {
            lab.server.ip(&["address", "add", address, "dev", "eth0"]);
        }
        for port in ["inside", "outside"] {
            lab.gateway
                .sysctl(&format!("net.ipv6.conf.{port}.disable_ipv6"), "1");
            lab.gateway.ip(&["link", "set", port, "up"]);
        }
        Lab {
            server4: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 3)),
            server6: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3)),
            ..lab
        }
    }

    /// Address of the server.
    pub fn server(&self, v6: bool) -> IpAddr {
        if v6 { self.server6 } else { self.server4 }
    }

    fn unaddressed(client_side: &str, queues: u32) -> Self {
        let lab = Lab {
            client: Namespace::new("client"),
            gateway: Namespace::new("gateway"),
            server: Namespace::new("server"),
            server4: IpAddr::V4(Ipv4Addr::new(198, 18, 1, 2)),
            server6: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2)),
        };
        lab.gateway.sysctl("net.ipv4.ip_forward", "0");
        lab.cable(&lab.client, 0, client_side, queues);
        lab.cable(&lab.server, 1, "outside", queues);
        lab
    }

    /// Joins a host to an interface of the gateway, and gives it addresses and default routes.
    fn cable(&self, host: &Namespace, network: u8, interface: &str, queues: u32) {
        let queues = format!("numtxqueues {queues} numrxqueues {queues}");
        ip(&words(&format!(
            "link add {interface} netns {} {queues} type veth peer name eth0 netns {} {queues}",
            self.gateway.name(),
            host.name()
        )));
        self.gateway.ip(&["link", "set", interface, "up"]);
        for command in [
            "link set eth0 up".to_owned(),
            format!("address add 198.18.{network}.2/24 dev eth0"),
            format!("address add 2001:db8:{network}::2/64 dev eth0 nodad"),
            format!("route add default via 198.18.{network}.1"),
            format!("-6 route add default via 2001:db8:{network}::1"),
        ] {
            host.ip(&words(&command));
        }
    }

    fn address_gateway(&self) {
        for (network, port) in [(0, "inside"), (1, "outside")] {
            for command in [
                format!("link set {port} up"),
                format!("address add 198.18.{network}.1/24 dev {port}"),
                format!("address add 2001:db8:{network}::1/64 dev {port} nodad"),
            ] {
                self.gateway.ip(&words(&command));
            }
        }
    }
}

/// Splits a command at blanks.
pub fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}
