//! The steering program against a model of it: frames through the kernel's test run, which reaches
//! no interface.
//!
//! Root may load programs; without it these tests do not run, and say so.

#![allow(unsafe_code)]

mod model;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;

use ipnet::IpNet;
use proptest::prelude::*;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::bpf::{self, LoadedObject};
use super::maps::{COUNTERS, MAP_NAMES, Maps};
use super::*;
use model::{Build, Layer, expected};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

const BOX: [u8; 4] = [198, 18, 1, 1];
const PEER: [u8; 4] = [198, 18, 2, 2];
const OTHER: [u8; 4] = [198, 18, 3, 3];

/// The program, loaded but attached nowhere.
struct Program {
    program: OwnedFd,
    maps: Maps,
    /// The counters as last read.
    before: RefCell<Vec<(&'static str, u64)>>,
}

impl Program {
    fn new(program: OwnedFd, maps: Maps) -> Self {
        let before = RefCell::new(maps.counters().expect("counters"));
        Program {
            program,
            maps,
            before,
        }
    }

    fn load(request: &AttachRequest) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            let required = std::env::var_os("PORTCULLIS_REQUIRE_ROOT").is_some();
            assert!(!required, "tests of the steering program need root");
            eprintln!("tests of the steering program did not run: they need root");
            return None;
        }
        let object = include_bytes!("steer.o");
        let LoadedObject { program, maps } =
            bpf::load_object(object, c"portcullis", &MAP_NAMES).expect("the program loads");
        let mut maps = Maps::new(maps);
        maps.configure(request).expect("its maps are filled");
        Some(Program::new(program, maps))
    }

    /// The one counter that the frame moved; its verdict must fit.
    fn judge(&self, frame: &[u8]) -> &'static str {
        let verdict = bpf::test_run(self.program.as_fd(), frame).expect("a test run");
        let after = self.maps.counters().expect("counters");
        let before = self.before.replace(after.clone());
        let moved = |((name, before), (_, after)): (&(&'static str, u64), &(_, u64))| {
            assert!(after - before <= 1, "{name} counted {}", after - before);
            (after != before).then_some(*name)
        };
        let moved: Vec<_> = before.iter().zip(&after).filter_map(moved).collect();
        let [name] = moved[..] else {
            panic!("counters moved: {moved:?}");
        };
        // Nothing is bound to the socket map: what is for the data plane is dropped there.
        let fits = if name.starts_with("passed-") {
            XDP_PASS
        } else {
            XDP_DROP
        };
        assert_eq!(verdict, fits, "{name}");
        name
    }
}

fn prefix(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn rule(source: &str, protocol: Option<u8>, ports: RangeInclusive<u16>) -> ManagementRule {
    ManagementRule {
        source: prefix(source),
        protocol,
        ports,
    }
}

fn request() -> AttachRequest {
    AttachRequest {
        dhcp_client: true,
        data_plane_ports: Some(40000..=40999),
        local_addresses: [
            "198.18.1.1/32",
            "198.18.1.255/32",
            "2001:db8:1::1/128",
            "fe80::1/128",
        ]
        .map(prefix)
        .to_vec(),
        management: vec![
            rule("198.18.0.0/24", Some(6), 22..=22),
            rule("198.18.1.128/25", Some(17), 53..=100),
            rule("0.0.0.0/0", Some(1), 8..=8),
            rule("198.18.9.9/32", None, 0..=u16::MAX),
            rule("2001:db8:2::/48", Some(6), 443..=444),
            rule("::/0", Some(58), 128..=128),
            rule("0.0.0.0/0", Some(89), 0..=u16::MAX),
        ],
        ..AttachRequest::new("none")
    }
}

/// One of these, or now and then anything.
fn mostly<T: Arbitrary + Clone + 'static>(often: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop_oneof![7 => prop::sample::select(often.to_vec()), 1 => any::<T>()]
}

fn v4_address() -> impl Strategy<Value = [u8; 4]> {
    mostly(&[
        BOX,
        BOX,
        BOX,
        [198, 18, 1, 255],
        [198, 18, 0, 255],
        [198, 18, 1, 128],
        [198, 18, 1, 127],
        [198, 18, 9, 9],
        [224, 0, 0, 5],
        [239, 255, 255, 250],
        [255, 255, 255, 255],
        [240, 0, 0, 1],
        [223, 255, 255, 255],
    ])
}

fn v6_address() -> impl Strategy<Value = [u8; 16]> {
    let texts = [
        "2001:db8:1::1",
        "2001:db8:1::1",
        "fe80::1",
        "ff02::1",
        "ff02::1:ff00:1",
        "2001:db8:2::5",
        "2001:db8:2:ffff::5",
        "2001:db8:3::5",
        "fe00::",
    ];
    mostly(&texts.map(|text| text.parse::<Ipv6Addr>().expect("an address").octets()))
}

fn upper() -> impl Strategy<Value = Build> {
    let port = || {
        mostly(&[
            0u16, 21, 22, 23, 52, 53, 67, 68, 100, 101, 443, 444, 445, 546, 547, 39999, 40000,
            40999, 41000,
        ])
    };
    let ports = prop_oneof![9 => (port(), port()), 1 => Just((67, 68)), 1 => Just((547, 546))];
    let protocol = mostly(&[1, 6, 6, 6, 17, 17, 17, 58, 58, 58, 89, 132, 50, 59]);
    // Neighbour discovery on its own: in the range around it, it now and then never came up.
    let icmp = prop_oneof![0u8..=15, 127u8..=145, 133u8..=137, any::<u8>()];
    let hop_limit = mostly(&[255u8, 255, 1, 64]);
    let parts = (protocol, ports, icmp, hop_limit);
    parts.prop_map(
        |(protocol, (source_port, destination_port), icmp_type, hop_limit)| Build {
            protocol,
            source_port,
            destination_port,
            icmp_type,
            hop_limit,
        },
    )
}

fn ip_frames() -> impl Strategy<Value = Vec<u8>> {
    let fragment = mostly(&[0u16, 0, 0, 1, 0x2000, 0x2001]);
    let v4 = (upper(), v4_address(), v4_address(), fragment, 5u8..=8);
    let v4 =
        v4.prop_map(|(upper, from, to, fragment, words)| upper.ipv4(from, to, fragment, words));
    let layer = prop_oneof![
        Just(Layer::HopByHop),
        Just(Layer::Destination),
        Just(Layer::Destination),
        Just(Layer::Fragment(0)),
        any::<u16>().prop_map(Layer::Fragment),
        any::<u8>().prop_map(Layer::Long),
    ];
    let chains = prop_oneof![
        3 => Just(Vec::new()),
        1 => Just(vec![Layer::HopByHop, Layer::Routing]),
        2 => prop::collection::vec(layer, 0..4),
        1 => (7usize..=9).prop_map(|length| vec![Layer::Destination; length]),
    ];
    let v6 = (upper(), v6_address(), v6_address(), chains);
    let v6 = v6.prop_map(|(upper, from, to, chain)| upper.ipv6(from, to, &chain));
    prop_oneof![v4, v6]
}

/// Frames that are nearly right: addresses, protocols and ports from where the rules have edges;
/// now and then of another type, with a wrong byte, or cut off.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let ether = prop::option::weighted(0.1, mostly(&[0x0806u16, 0x8100, 0x88a8, 0x88cc, 38]));
    let odd = prop::option::weighted(0.1, any::<(u8, u8)>());
    let cut = prop::option::weighted(0.1, 14usize..120);
    (ip_frames(), ether, odd, cut).prop_map(|(mut frame, ether, odd, cut)| {
        if let Some(ether) = ether {
            frame[12..14].copy_from_slice(&ether.to_be_bytes());
        }
        if let Some((at, value)) = odd {
            let at = 14 + usize::from(at) % (frame.len() - 14);
            frame[at] = value;
        }
        frame.truncate(cut.unwrap_or(usize::MAX));
        frame
    })
}

#[test]
fn the_program_judges_as_the_model_does() {
    let request = request();
    let Some(program) = Program::load(&request) else {
        return;
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let seen = RefCell::new(BTreeMap::<_, u32>::new());
    let result = runner.run(&frames(), |frame| {
        let judged = program.judge(&frame);
        *seen.borrow_mut().entry(judged).or_default() += 1;
        prop_assert_eq!(judged, expected(&request, &frame), "{:02x?}", frame);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    // What the frames never bring about has not been tested.
    let impossible = ["steered", "passed-answer", "dropped-unconfigured"];
    let never = COUNTERS
        .iter()
        .filter(|name| !seen.borrow().contains_key(*name));
    assert_eq!(
        never.collect::<Vec<_>>(),
        impossible.iter().collect::<Vec<_>>()
    );
}

/// A restart waits for the verifier. It once walked through 80 thousand instructions here.
#[test]
fn the_verifier_is_soon_done() {
    let Some(program) = Program::load(&request()) else {
        return;
    };
    let walked = bpf::verified_instructions(program.program.as_fd()).expect("its description");
    if let Some(walked) = walked {
        assert!((1_000..10_000).contains(&walked), "{walked} instructions");
    }
}

/// Runs `work` in a network namespace of its own, whose loopback interface is up.
fn in_new_namespace(work: impl FnOnce() + Send) {
    let inside = || {
        // SAFETY: descriptors are not unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a new network namespace");
        let up = std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.expect("ip").success());
        work();
    };
    thread::scope(|scope| match scope.spawn(inside).join() {
        Ok(()) => {}
        Err(panic) => std::panic::resume_unwind(panic),
    });
}

#[test]
fn answers_to_the_box_pass_and_nothing_else_does() {
    let mut closed = request();
    closed.management.clear();
    closed.data_plane_ports = None;
    closed.local_addresses.push(prefix("127.0.0.0/30"));
    closed.local_addresses.push(prefix("::1/128"));
    if Program::load(&closed).is_none() {
        return;
    }
    in_new_namespace(|| {
        let program = Program::load(&closed).expect("loaded before");
        for (host, six) in [("127.0.0.1", false), ("::1", true)] {
            let here = |port| SocketAddr::new(host.parse().expect("an address"), port);
            let from_to = |protocol, from: SocketAddr, to: SocketAddr| {
                let build = Build::tcp_or_udp(protocol, from.port(), to.port());
                let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
                match six {
                    true => build.ipv6(loopback, loopback, &[]),
                    false => build.ipv4([127, 0, 0, 1], [127, 0, 0, 1], 0, 5),
                }
            };
            let listener = TcpListener::bind(here(0)).expect("a listener");
            let server = listener.local_addr().expect("its address");
            let stranger = here(9);
            assert_eq!(
                program.judge(&from_to(6, stranger, server)),
                "dropped-management"
            );
            let stream = TcpStream::connect(server).expect("a connection");
            let client = stream.local_addr().expect("its address");
            assert_eq!(program.judge(&from_to(6, server, client)), "passed-answer");
            assert_eq!(
                program.judge(&from_to(6, stranger, client)),
                "dropped-management"
            );

            let peer = UdpSocket::bind(here(0))
                .expect("a socket")
                .local_addr()
                .expect("bound");
            let socket = UdpSocket::bind(here(0)).expect("a socket");
            let own = socket.local_addr().expect("bound");
            assert_eq!(program.judge(&from_to(17, peer, own)), "dropped-management");
            socket.connect(peer).expect("connected");
            assert_eq!(program.judge(&from_to(17, peer, own)), "passed-answer");
            assert_eq!(
                program.judge(&from_to(17, stranger, own)),
                "dropped-management"
            );
        }
    });
}

#[test]
fn a_transparent_port_gives_everything_to_the_data_plane() {
    let mut transparent = request();
    transparent.transparent = true;
    let Some(program) = Program::load(&transparent) else {
        return;
    };
    let ssh = Build::tcp_or_udp(6, 1, 22).ipv4([198, 18, 0, 7], BOX, 0, 5);
    let mut arp = ssh.clone();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(program.judge(&ssh), "dropped-no-socket");
    assert_eq!(program.judge(&arp), "dropped-no-socket");
}

#[test]
fn an_unfilled_program_drops_everything() {
    if Program::load(&request()).is_none() {
        return;
    }
    let object = bpf::load_object(include_bytes!("steer.o"), c"portcullis", &MAP_NAMES);
    let LoadedObject { program, maps } = object.expect("the program loads");
    let maps = Maps::new(maps);
    let program = Program::new(program, maps);
    let mut arp = Build::icmp(1, 8, 64).ipv4(PEER, BOX, 0, 5);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(program.judge(&arp), "dropped-unconfigured");
}

#[test]
fn lists_are_replaced_while_the_program_runs() {
    let mut request = request();
    request.management.clear();
    let Some(mut program) = Program::load(&request) else {
        return;
    };
    let ping = Build::icmp(1, 8, 64).ipv4(PEER, BOX, 0, 5);
    let to_other = Build::icmp(1, 8, 64).ipv4(PEER, OTHER, 0, 5);
    assert_eq!(program.judge(&ping), "dropped-management");
    for round in 0..3 {
        program
            .maps
            .set_management(&[rule("198.18.2.0/24", Some(1), 8..=8)])
            .expect("set");
        assert_eq!(program.judge(&ping), "passed-management", "round {round}");
        program
            .maps
            .set_management(&[rule("198.18.3.0/24", Some(1), 8..=8)])
            .expect("set");
        assert_eq!(program.judge(&ping), "dropped-management", "round {round}");
    }
    let all = vec![rule("198.18.2.0/24", Some(1), 8..=8); MANAGEMENT_RULES_MAX];
    program
        .maps
        .set_management(&all)
        .expect("as many as there is room for");
    let one_more = [all, vec![rule("::/0", None, 0..=0)]].concat();
    assert!(program.maps.set_management(&one_more).is_err());
    assert_eq!(
        program.judge(&ping),
        "passed-management",
        "the old list stays"
    );

    assert_eq!(program.judge(&to_other), "dropped-no-socket");
    program
        .maps
        .set_local_addresses(&[prefix("198.18.3.3/32")])
        .expect("set");
    assert_eq!(program.judge(&to_other), "passed-management");
    assert_eq!(program.judge(&ping), "dropped-no-socket");
}
