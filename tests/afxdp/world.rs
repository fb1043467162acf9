//! Network namespaces with interfaces between them, made for one test and removed after it.
//!
//! ```text
//!   left               box                 right
//!   198.18.1.2 eth0 ── l0 198.18.1.1
//!                      r0 ──────────── eth0 198.18.1.3
//! ```
//!
//! Left and right are on one network, with each other's Ethernet addresses given by hand, so that a
//! box that only swaps ports connects them.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use portcullis::dataplane::xdp;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub const BOX: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
pub const LEFT: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
pub const RIGHT: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 3);
pub const BOX_V6: &str = "2001:db8:1::1";
pub const LEFT_V6: &str = "2001:db8:1::2";
pub const RIGHT_V6: &str = "2001:db8:1::3";
const MACS: [(&str, &str); 5] = [
    ("left", "02:00:5e:00:01:02"),
    ("right", "02:00:5e:00:01:03"),
    ("l0", "02:00:5e:00:01:01"),
    ("r0", "02:00:5e:00:01:04"),
    ("p0", "02:00:5e:00:01:05"),
];

/// Whether tests that need root can run; where they must, not being root is a failure.
pub fn may_run(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let required = std::env::var_os("PORTCULLIS_REQUIRE_ROOT").is_some();
    assert!(!required, "{test} needs root");
    eprintln!("{test} did not run: it needs root");
    false
}

/// The namespaces of one test.
pub struct World {
    prefix: String,
    parts: &'static [&'static str],
}

impl World {
    /// Left, box and right, joined by veth.
    pub fn new() -> Self {
        let world = World::with_parts(&["left", "box", "right"]);
        world.join("l0", "left");
        world.join("r0", "right");
        world.ip("box", &format!("addr add {BOX}/24 dev l0"));
        world.ip("box", &format!("addr add {BOX_V6}/64 dev l0 nodad"));
        world
    }

    /// Namespaces with nothing but loopback.
    pub fn with_parts(parts: &'static [&'static str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("pc-xdp-{}-{number}", std::process::id());
        let world = World { prefix, parts };
        for part in parts {
            run("ip", &["netns", "add", &world.name(part)]);
            world.ip(part, "link set lo up");
        }
        world
    }

    /// A veth from the box's interface to the part's eth0, both up, the part's end with addresses.
    pub fn join(&self, interface: &str, part: &str) {
        self.join_from("box", interface, part);
    }

    /// The same from another part than the box.
    pub fn join_from(&self, from: &str, interface: &str, part: &str) {
        let (near, far, name) = (mac(interface), mac(part), self.name(part));
        let ends = format!("address {near} type veth peer name eth0 address {far} netns {name}");
        self.ip(from, &format!("link add {interface} {ends}"));
        self.ip(from, &format!("link set {interface} up"));
        self.ip(part, "link set eth0 up");
        let (own, other, others) = match part {
            "left" => (
                [LEFT.to_string(), LEFT_V6.into()],
                "right",
                [RIGHT.to_string(), RIGHT_V6.into()],
            ),
            _ => (
                [RIGHT.to_string(), RIGHT_V6.into()],
                "left",
                [LEFT.to_string(), LEFT_V6.into()],
            ),
        };
        self.ip(part, &format!("addr add {}/24 dev eth0", own[0]));
        self.ip(part, &format!("addr add {}/64 dev eth0 nodad", own[1]));
        let mac = mac(other);
        for address in others {
            self.ip(
                part,
                &format!("neigh replace {address} lladdr {mac} dev eth0"),
            );
        }
    }

    /// The namespace of a part.
    pub fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.prefix)
    }

    /// Runs `ip` in a part.
    pub fn ip(&self, part: &str, arguments: &str) {
        let name = self.name(part);
        let mut all = vec!["-n", &name];
        all.extend(arguments.split_whitespace());
        run("ip", &all);
    }

    /// A command in a part, by `ip netns exec`.
    pub fn command(&self, part: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name(part)])
            .arg(program);
        command
    }

    /// Moves the calling thread into a part.
    pub fn enter(&self, part: &str) {
        let file = File::open(self.path(part)).expect("the namespace");
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(file.as_fd(), kind).expect("entering it");
    }

    /// Runs work on a thread in a part.
    pub fn within<T: Send>(&self, part: &str, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter(part);
                work()
            });
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Whether a ping from a part is answered within half a second.
    pub fn pings(&self, part: &str, address: &str) -> bool {
        let arguments = ["-n", "-c", "1", "-W", "0.5", address];
        let output = self.command(part, "ping").args(arguments).output();
        output.expect("ping").status.success()
    }

    /// Whether a ping is answered within two seconds, tried again and again.
    pub fn pings_soon(&self, part: &str, address: &str) -> bool {
        (0..4).any(|_| self.pings(part, address))
    }

    /// IPv4 packets and IPv6 echo requests that the kernel's own stack in a part has seen.
    pub fn kernel_packets(&self, part: &str) -> u64 {
        self.within(part, || {
            let v4 = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("snmp");
            // The second line of two that start with `Ip:` has the values; InReceives is the third.
            let values = v4.lines().filter(|line| line.starts_with("Ip:")).nth(1);
            let v4 = values
                .and_then(|line| line.split(' ').nth(3))
                .expect("InReceives");
            let v6 = std::fs::read_to_string("/proc/thread-self/net/snmp6").expect("snmp6");
            let v6 = v6
                .lines()
                .find_map(|line| line.strip_prefix("Icmp6InEchos"));
            let number = |text: &str| text.trim().parse::<u64>().expect("a number");
            number(v4) + number(v6.expect("Icmp6InEchos"))
        })
    }

    fn path(&self, part: &str) -> PathBuf {
        Path::new("/var/run/netns").join(self.name(part))
    }

    /// Pins of a part's interfaces.
    pub fn pins(&self, part: &str) -> Vec<xdp::Pin> {
        let inode = std::fs::metadata(self.path(part))
            .expect("the namespace")
            .ino();
        let pins = xdp::pins(Path::new(xdp::DEFAULT_PIN_DIRECTORY)).expect("the pins");
        let ours = pins
            .into_iter()
            .filter(|pin| pin.network_namespace == inode);
        ours.collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for part in self.parts {
            if self.path(part).exists() {
                for pin in self.pins(part) {
                    let _ = xdp::detach_pin(Path::new(xdp::DEFAULT_PIN_DIRECTORY), &pin);
                }
                run("ip", &["netns", "del", &self.name(part)]);
            }
        }
    }
}

pub fn mac(name: &str) -> &'static str {
    let found = MACS.iter().find(|(of, _)| *of == name);
    found.map_or("02:00:5e:00:01:ff", |(_, mac)| mac)
}

/// Runs a command that must succeed.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
