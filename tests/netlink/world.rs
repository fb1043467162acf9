//! Namespaces for one test, and programs run in them.

use std::future::Future;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

pub struct World {
    /// Name of the gateway's namespace.
    pub gateway: String,
    peer: String,
}

pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
}

/// Sets a sysctl in a namespace.
pub fn set(namespace: &str, setting: &str) {
    let (name, value) = setting.split_once('=').unwrap();
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let script = format!("echo {value} > {path}");
    run("ip", &["netns", "exec", namespace, "sh", "-c", &script]);
}

impl World {
    pub fn new() -> World {
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let base = format!("pc-settings-{}-{number}", std::process::id());
        let world = World {
            gateway: format!("{base}-gw"),
            peer: format!("{base}-peer"),
        };
        run("ip", &["netns", "add", &world.gateway]);
        run("ip", &["netns", "add", &world.peer]);
        // No waiting for duplicate addresses, for link-local ones neither.
        for namespace in [&world.gateway, &world.peer] {
            set(namespace, "net.ipv6.conf.default.accept_dad=0");
        }
        for (ours, theirs, network) in [("in0", "peer0", 0), ("out0", "peer1", 1)] {
            world.make_link(ours, theirs, network);
        }
        world.ip("link add other0 type veth peer name other1");
        world.ip("link set other1 up");
        world.ip("addr add 198.18.9.1/24 dev other0");
        world.ip("link set other0 up");
        world.ip("link set lo up");
        world
    }

    pub fn make_link(&self, ours: &str, theirs: &str, network: u8) {
        let peer = &self.peer;
        self.ip(&format!(
            "link add {ours} type veth peer name {theirs} netns {peer}"
        ));
        let six = network + 1;
        self.ip(&format!("addr add 198.18.{network}.1/24 brd + dev {ours}"));
        self.ip(&format!("addr add 2001:db8:{six}::1/64 dev {ours} nodad"));
        self.ip(&format!("link set {ours} up"));
        self.peer_ip(&format!("addr add 198.18.{network}.2/24 dev {theirs}"));
        self.peer_ip(&format!("addr add 2001:db8:{six}::2/64 dev {theirs} nodad"));
        self.peer_ip(&format!("link set {theirs} up"));
    }

    /// `ip` in the gateway's namespace.
    pub fn ip(&self, arguments: &str) {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        run("ip", &[&["-n", &self.gateway], &*arguments].concat());
    }

    /// `ip` in the peer's namespace.
    pub fn peer_ip(&self, arguments: &str) {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        run("ip", &[&["-n", &self.peer], &*arguments].concat());
    }

    pub fn sysctl(&self, setting: &str) {
        set(&self.gateway, setting);
    }

    /// Runs a test inside the gateway's namespace, on a thread of its own.
    pub fn inside<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F + Send) {
        let path = format!("/run/netns/{}", self.gateway);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let namespace = std::fs::File::open(path).unwrap();
                let network = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(namespace.as_fd(), network).unwrap();
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                let local = tokio::task::LocalSet::new();
                runtime.block_on(local.run_until(test()));
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.gateway, &self.peer] {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .output();
        }
    }
}

/// The namespaces, or `None` where they cannot be made.
pub fn world() -> Option<World> {
    if rustix::process::geteuid().is_root() {
        return Some(World::new());
    }
    let required = std::env::var_os("PORTCULLIS_REQUIRE_ROOT").is_some_and(|value| value == "1");
    assert!(!required, "PORTCULLIS_REQUIRE_ROOT=1, but this is not root");
    eprintln!("skipped: network namespaces need root");
    None
}
