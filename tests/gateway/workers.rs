//! Two workers and two queues at every port: packets that arrive at one worker and belong to the
//! other.
//!
//! A flow belongs to a worker by its two addresses, and arrives on a queue by the kernel's hash of
//! addresses and ports: with several servers and several ports, each worker receives packets of the
//! other.

use std::net::IpAddr;

use serde_json::Value;

use super::support::appliance::Appliance;
use super::support::lab::{CLIENT4, CLIENT6, Lab, words};
use super::support::policies::{INVENTORY, allow_everything, allow_ports};
use super::support::traffic::{Connection, Echo, ping, tcp, udp};
use super::support::{root, seconds, within};

/// Addresses of the server besides its first one in each family.
const MORE_ADDRESSES: u32 = 4;
/// Ports an echo service listens on: more flows, on more queues.
const PORTS: [u16; 3] = [80, 81, 82];

const TWO_WORKERS: &str = "[workers]\ncores = [0, 1]\n";

fn two_cores() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        eprintln!("not run: needs two cores");
    }
    cores >= 2
}

/// Gives the server its addresses; yields all of them.
fn servers(lab: &Lab) -> Vec<IpAddr> {
    let mut servers = vec![lab.server4, lab.server6];
    for number in 11..11 + MORE_ADDRESSES {
        let address = [
            format!("198.18.1.{number}/24"),
            format!("2001:db8:1::{number}/64"),
        ];
        for address in address {
            let add = format!("address add {address} dev eth0");
            let nodad = if address.contains(':') { " nodad" } else { "" };
            lab.server.ip(&words(&format!("{add}{nodad}")));
            let (address, _) = address.split_once('/').expect("it has a prefix length");
            servers.push(address.parse().expect("an address"));
        }
    }
    servers
}

fn start(lab: &Lab) -> Appliance<'_> {
    let all = allow_everything("all");
    let manifests = [("inventory.yaml", INVENTORY), ("all.yaml", &all)];
    Appliance::start(lab, TWO_WORKERS, &manifests)
}

/// One worker's figure.
fn figure(worker: &Value, name: &str) -> u64 {
    let value = &worker["packets"][name];
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {worker}"))
}

/// What came in is what went out, for every worker and between them.
fn even(status: &Value) -> bool {
    let workers = status["workers"].as_array().expect("a list");
    let sum = |name| workers.iter().map(|worker| figure(worker, name)).sum();
    let handed_in: u64 = sum("handed_in");
    handed_in == sum("handed_off")
        && workers.iter().all(|worker| {
            let of = |names: &[&str]| names.iter().map(|name| figure(worker, name)).sum::<u64>();
            of(&["received", "handed_in"])
                == of(&["forwarded", "dropped", "local", "handed_off", "waiting"])
        })
}

/// Every frame has a fate, at both workers; both have received, forwarded and handed over.
fn check_balance(lab: &Lab, appliance: &Appliance<'_>) {
    let mut status = Value::Null;
    // Hosts talk now and then of their own accord, and counters are read one by one.
    let is_even = within(seconds(5), || {
        status = appliance.status();
        even(&status)
    });
    assert!(is_even, "{:#}", status["workers"]);
    let workers = status["workers"].as_array().expect("a list");
    assert_eq!(workers.len(), 2);
    for worker in workers {
        for name in ["received", "handed_in", "forwarded", "handed_off"] {
            assert!(figure(worker, name) > 0, "{name}: {worker}");
        }
    }
    for port in status["ports"].as_array().expect("a list") {
        for (name, lost) in port["xdp_statistics"].as_object().expect("a table") {
            let loss = ["rx_dropped", "rx_ring_full", "rx_invalid_descriptors"];
            assert!(!loss.contains(&name.as_str()) || lost == 0, "{port:#}");
        }
    }
    // A host without listeners of multicast is no loss; nothing else of this traffic is dropped.
    for (reason, lost) in status["drops"].as_object().expect("a table") {
        assert_eq!(reason, "multicast-destination", "{lost}");
    }
    let metrics = appliance.metrics();
    for number in ["0", "1"] {
        let line = format!("worker_packets_total{{worker=\"{number}\",fate=\"handed-in\"}}");
        assert!(metrics.contains(&line), "{metrics}");
    }
    assert!(ping(&lab.client, lab.server4), "it still forwards");
}

#[test]
fn flows_are_whole_whichever_worker_their_packets_reach() {
    if !root() || !two_cores() {
        return;
    }
    let lab = Lab::routed_with_queues(2);
    let servers = servers(&lab);
    let appliance = start(&lab);
    let echo = |server: &IpAddr| Echo::start_at(&lab.server, *server, &PORTS);
    let _echo: Vec<Echo> = servers.iter().map(echo).collect();
    let _behind = Echo::start(&lab.client, &PORTS);
    for server in &servers {
        let count = words("ping -q -c20 -i0.01 -W3");
        let output = lab
            .client
            .run(&[&count[..], &[&server.to_string()]].concat());
        assert!(output.contains(" 0% packet loss"), "{server}: {output}");
        for port in PORTS {
            // The last one is longer than any frame.
            for length in [10, 1000, 4000] {
                assert!(udp(&lab.client, *server, port, length), "{server} {length}");
            }
        }
    }
    for client in [CLIENT4, CLIENT6] {
        for port in PORTS {
            assert!(udp(&lab.server, client, port, 1000), "{client} from behind");
            assert!(tcp(&lab.server, client, port), "{client} from behind");
        }
    }
    check_balance(&lab, &appliance);
}

#[test]
fn parallel_connections_survive_reloads() {
    if !root() || !two_cores() {
        return;
    }
    const RELOADS: u16 = 10;
    let lab = Lab::routed_with_queues(2);
    let servers = servers(&lab);
    let appliance = start(&lab);
    let _echo = Echo::start(&lab.server, &PORTS);
    let all = servers
        .iter()
        .flat_map(|&server| PORTS.map(|port| (server, port)));
    let mut connections: Vec<Connection> = all
        .map(|(server, port)| {
            let open = Connection::open(&lab.client, server, port);
            open.unwrap_or_else(|| panic!("{server} {port} is open"))
        })
        .collect();
    std::thread::scope(|scope| {
        let loads = connections
            .iter_mut()
            .map(|open| scope.spawn(move || (0..RELOADS).all(|_| open.echoes_bytes(20_000))));
        let loads: Vec<_> = loads.collect();
        for round in 0..RELOADS {
            // Every generation differs, so every reload compiles and publishes anew.
            appliance.write_policy("other.yaml", &allow_ports("other", &[1000 + round]));
            let (code, printed) = appliance.reload();
            assert_eq!(code, Some(0), "{printed}");
        }
        for load in loads {
            assert!(load.join().expect("it ends"), "a connection was lost");
        }
    });
    check_balance(&lab, &appliance);
}

#[test]
fn an_error_reaches_the_flow_it_is_about_at_the_other_worker() {
    if !root() || !two_cores() {
        return;
    }
    let lab = Lab::routed_with_queues(2);
    let servers = servers(&lab);
    // Behind the server are networks it cannot reach, and says so: from its own address, which
    // makes another pair of addresses than that of the flow, of another worker for every second.
    lab.server.sysctl("net.ipv4.ip_forward", "1");
    lab.server.sysctl("net.ipv4.icmp_ratelimit", "0");
    lab.server.ip(&words("route add unreachable 198.19.7.0/24"));
    lab.gateway
        .ip(&words("route add 198.19.7.0/24 via 198.18.1.2"));
    let appliance = start(&lab);
    for host in 1..=16 {
        let hidden = format!("198.19.7.{host}");
        let mut last = String::new();
        let told = within(seconds(5), || {
            let output = lab.client.output(&["ping", "-c1", "-W1", &hidden]);
            last = String::from_utf8_lossy(&output.stdout).into_owned();
            last.contains("From 198.18.1.2 icmp_seq=1 Destination Host Unreachable")
        });
        assert!(told, "{last}\n{:#}", appliance.status());
    }
    for server in servers {
        // Nobody listens: the kernel's port unreachable is about a flow of the same addresses.
        let refused = lab.client.enter(move || {
            let any = if server.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = std::net::UdpSocket::bind(any).expect("a socket");
            socket.connect((server, 9)).expect("a route");
            let _ = socket.set_read_timeout(Some(seconds(1)));
            within(seconds(5), || {
                let _ = socket.send(b"anybody?");
                let answer = socket.recv(&mut [0; 8]);
                answer.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
            })
        });
        assert!(refused, "{server}");
    }
    check_balance(&lab, &appliance);
}

#[test]
fn a_port_with_fewer_queues_than_workers_is_refused() {
    if !root() || !two_cores() {
        return;
    }
    let lab = Lab::routed();
    let mut appliance = Appliance::prepare(&lab, TWO_WORKERS, &[("inventory.yaml", INVENTORY)]);
    appliance.launch();
    assert!(within(seconds(10), || !appliance.runs()));
    let log = appliance.log();
    assert!(
        log.contains("interface inside: 1 receive queues to bind for 2 workers"),
        "{log}"
    );
    assert!(log.contains("ethtool -L inside combined 2"), "{log}");
}
