//! Processes that are killed: the ports stay closed, a restart takes over.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portcullis::dataplane::xdp::{self, AttachMode, ManagementRule};

use crate::forwarder::{Forwarder, port};
use crate::world::{BOX, RIGHT, World, may_run};

/// Set for the child: how it is to attach.
const CHILD: &str = "PORTCULLIS_TEST_CHILD";
const READY: &str = "child is ready, taken over: ";
/// The one TCP port of the box that the child lets everybody reach.
const SERVICE: u16 = 2222;

/// Not a test of its own: what the other tests start as a process to kill.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mut ports = [
        port(0, "l0", AttachMode::Native),
        port(1, "r0", AttachMode::Native),
    ];
    for port in &mut ports {
        port.steering.management = vec![ManagementRule {
            source: "0.0.0.0/0".parse().expect("a prefix"),
            protocol: Some(6),
            ports: SERVICE..=SERVICE,
        }];
    }
    let forwarder = Forwarder::start(&ports);
    let taken_over = forwarder.steering.iter().all(xdp::Steering::taken_over);
    println!("{READY}{taken_over}");
    // Killed before this ends.
    thread::sleep(Duration::from_secs(60));
}

/// How the child gets into the box's network namespace.
#[derive(Clone, Copy)]
enum Entry {
    /// With mounts of its own, that end with it.
    IpNetnsExec,
    /// With the machine's mounts.
    Nsenter,
}

/// A forwarding process.
struct Gateway {
    process: Child,
    taken_over: bool,
}

impl Gateway {
    fn start(world: &World, entry: Entry) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = match entry {
            Entry::IpNetnsExec => world.command("box", &program),
            Entry::Nsenter => {
                let mut command = Command::new("nsenter");
                let namespace = format!("--net=/var/run/netns/{}", world.name("box"));
                command.arg(namespace).arg(&program);
                command
            }
        };
        command
            .args(["death::child", "--exact", "--nocapture"])
            .env(CHILD, "1");
        let process = command.stdout(Stdio::piped()).spawn();
        let mut process = process.expect("the child");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let mut lines = output.lines().map_while(Result::ok);
        let ready = lines.find_map(|line| Some(line.split_once(READY)?.1 == "true"));
        let Some(taken_over) = ready else {
            let _ = process.kill();
            panic!("the child ended: {:?}", process.wait());
        };
        Gateway {
            process,
            taken_over,
        }
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("reaped");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_killed_gateway_is_closed_until_it_restarts() {
    killed_and_restarted(Entry::Nsenter);
}

#[test]
fn a_killed_gateway_is_closed_also_under_ip_netns_exec() {
    killed_and_restarted(Entry::IpNetnsExec);
}

fn killed_and_restarted(entry: Entry) {
    if !may_run("killing a gateway") {
        return;
    }
    let world = World::new();
    let listener = world.within("box", || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, SERVICE)).expect("a listener")
    });
    let gateway = Gateway::start(&world, entry);
    assert!(!gateway.taken_over);
    assert!(world.pings_soon("left", &RIGHT.to_string()));

    gateway.kill();
    for _ in 0..3 {
        assert!(!world.pings("left", &RIGHT.to_string()), "closed");
        assert!(!world.pings("left", &BOX.to_string()), "the box too");
    }
    assert_eq!(world.kernel_packets("box"), 0, "the kernel saw nothing");
    assert_eq!(world.pins("box").len(), 2);
    // What management may do needs no process.
    let service = (BOX, SERVICE).into();
    let patience = Duration::from_secs(1);
    world.within("left", || {
        TcpStream::connect_timeout(&service, patience).expect("management passes");
    });
    drop(listener);

    let since = Instant::now();
    let gateway = Gateway::start(&world, entry);
    assert!(gateway.taken_over);
    assert!(world.pings_soon("left", &RIGHT.to_string()));
    println!("flows again after {:?}", since.elapsed());
}

/// Datagrams to the box and through it, all the time; none may reach the kernel's stack, however
/// often the gateway is killed and started.
#[test]
fn no_moment_of_a_restart_is_open() {
    if !may_run("no_moment_of_a_restart_is_open") {
        return;
    }
    let world = World::new();
    let mut gateway = Gateway::start(&world, Entry::Nsenter);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            world.enter("left");
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) {
                for target in [BOX, RIGHT] {
                    sent += u64::from(socket.send_to(b"anything", (target, 9)).is_ok());
                }
                // About twenty thousand a second: enough to meet any gap.
                thread::sleep(Duration::from_micros(50));
            }
            sent
        });
        for _ in 0..4 {
            gateway.process.kill().expect("killed");
            gateway.process.wait().expect("reaped");
            gateway = Gateway::start(&world, Entry::Nsenter);
            assert!(gateway.taken_over);
        }
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("the sender");
        assert!(sent > 1000, "only {sent} datagrams");
    });
    assert_eq!(world.kernel_packets("box"), 0);
}

#[test]
fn detaching_opens_a_port_only_when_nobody_holds_it() {
    if !may_run("detaching_opens_a_port_only_when_nobody_holds_it") {
        return;
    }
    let world = World::new();
    let gateway = Gateway::start(&world, Entry::IpNetnsExec);
    let directory = std::path::Path::new(xdp::DEFAULT_PIN_DIRECTORY);
    let pins = world.pins("box");
    let names: Vec<_> = pins.iter().map(|pin| pin.interface.as_str()).collect();
    assert_eq!(names, ["l0", "r0"]);
    assert_eq!(pins[0].owner, Some(gateway.process.id()));
    let error = xdp::detach_pin(directory, &pins[0])
        .expect_err("in use")
        .to_string();
    assert!(error.contains(&gateway.process.id().to_string()), "{error}");

    gateway.kill();
    assert!(!world.pings("left", &BOX.to_string()));
    for pin in &pins {
        xdp::detach_pin(directory, pin).expect("detached");
    }
    assert!(world.pins("box").is_empty());
    assert!(
        world.pings_soon("left", &BOX.to_string()),
        "open: the kernel answers"
    );
}
