//! Wrong values, one at a time.

use super::problems;

/// Two ports, six lines.
pub(super) const PORTS: &str =
    "[[port]]\nname = 'a'\ninterface = 'eth0'\n[[port]]\nname = 'b'\ninterface = 'eth1'\n";

/// Text after [`PORTS`] (6 lines), place of the problem, message after the place.
const WRONG: &[(&str, (usize, usize), &str)] = &[
    (
        "[[port]]\ninterface = 'c'",
        (7, 1),
        "`port[2].name` is missing; it must be 1 to 31 of a-z, 0-9 and -",
    ),
    (
        "[[port]]\nname = 'c'\n",
        (7, 1),
        "`port[2].interface` is missing; it must be the kernel's name of an interface: 1 to 15 \
        bytes without blanks, / and :",
    ),
    (
        "[[port]]\nname = 'a'\ninterface = 'c'",
        (8, 8),
        "`port[2].name` is \"a\" a second time; it must be unique",
    ),
    (
        "[[port]]\nname = 'c'\ninterface = 'eth1'",
        (9, 13),
        "`port[2].interface` is \"eth1\" a second time; it must be unique",
    ),
    (
        "queues = [0, 1, 0]",
        (7, 17),
        "`port[1].queues[2]` is 0 a second time; it must be a whole number from 0 to 1023",
    ),
    (
        "queues = 0",
        (7, 10),
        "`port[1].queues` is 0; it must be \"all\", a number of queues from 1 to 1024, or a list \
        of queue numbers from 0 to 1023",
    ),
    (
        "mode = 'generic'\nzero_copy = 'require'",
        (8, 13),
        "`port[1].zero_copy` is \"require\"; it must be \"auto\" or \"never\" with mode \
        \"generic\", which always copies",
    ),
    (
        "mode = 'Native'",
        (7, 8),
        "`port[1].mode` is \"Native\"; it must be \"auto\", \"native\" or \"generic\"",
    ),
    (
        "frame_size_bytes = 1024",
        (7, 20),
        "`port[1].frame_size_bytes` is 1024; it must be \"auto\" or 2048 or 4096",
    ),
    (
        "ring_frames = 1000",
        (7, 15),
        "`port[1].ring_frames` is 1000; it must be a power of two from 64 to 65536",
    ),
    (
        "vlans = [1, 4095]",
        (7, 13),
        "`port[1].vlans[1]` is 4095; it must be a whole number from 1 to 4094",
    ),
    (
        "vlans = [7]\n[forwarding]\nmode = 'routed'",
        (9, 8),
        "`forwarding.mode` is \"routed\" while port \"b\" has vlans; it must be \"transparent\", or no \
         port may have vlans",
    ),
    (
        "[forwarding]\nmode = 'transparent'\npairs = [['a', 'c']]",
        (9, 9),
        "`forwarding.pairs` is \"c\", no port's name; it must be \"a\" or \"b\"",
    ),
    (
        "[forwarding]\npairs = [['a', 'b']]",
        (8, 9),
        "`forwarding.pairs` is set; it must be empty unless mode is \"transparent\"",
    ),
    (
        "[[port]]\nname = 'c'\ninterface = 'c'\n[forwarding]\nmode = 'transparent'",
        (11, 8),
        "`forwarding.mode` is \"transparent\" with 3 ports and no pairs; it must be \"routed\", \
        or have exactly two ports, or set pairs",
    ),
    (
        "[[port]]\nname = 'c'\ninterface = 'c'\n[forwarding]\nmode = 'transparent'\npairs = \
        [['a', 'b']]",
        (12, 9),
        "`forwarding.pairs` is without port \"c\"; it must be a list of pairs that holds every \
        port",
    ),
    (
        "[workers]\ncores = [1, 1]",
        (8, 13),
        "`workers.cores[1]` is 1 a second time; it must be a whole number from 0 to 1023",
    ),
    (
        "[workers]\ncores = []",
        (8, 9),
        "`workers.cores` is an array of 0; it must be \"last\" or a list of 1 to 64, each a \
        whole number from 0 to 1023",
    ),
    (
        "[workers]\nwaits = 'sleep'",
        (8, 1),
        "unknown key `workers.waits`; did you mean `wait`?",
    ),
    (
        "[policy]\ndirectory = ''",
        (8, 13),
        "`policy.directory` is \"\"; it must be the path of a directory",
    ),
    (
        "[policy]\ncompat = { established = 'never' }",
        (8, 26),
        "`policy.compat.established` is \"never\"; it must be \"reevaluate\" or \"keep\"",
    ),
    (
        "[limits]\nflows = 1e6",
        (8, 9),
        "`limits.flows` is 1e6; it must be a whole number from 1024 to 16777216",
    ),
    (
        "[limits]\nflows = '1048576'",
        (8, 9),
        "`limits.flows` is \"1048576\"; it must be a whole number from 1024 to 16777216",
    ),
    (
        "limits = 3",
        (7, 1),
        "unknown key `port[1].limits`; known here: name, interface, queues, mode, zero_copy, \
        role, frame_size_bytes, ring_frames, network, routers, vlans",
    ),
    (
        "[[limits]]\nflows = 3",
        (7, 1),
        "`limits` is an array; it must be a table",
    ),
    (
        "[management]\nallow = [1]",
        (8, 10),
        "`management.allow` is 1; it must be a table",
    ),
    (
        "[[management.allow]]",
        (7, 1),
        "`management.allow[0].from` is missing; it must be a list of 1 to 256, each an address \
        or a prefix without host bits, like \"198.18.0.0/24\"",
    ),
    (
        "[[management.allow]]\nfrom = ['198.18.0.1/24']",
        (8, 9),
        "`management.allow[0].from[0]` is \"198.18.0.1/24\", which has host bits (198.18.0.0/24 \
        has none); it must be an address or a prefix without host bits, like \"198.18.0.0/24\"",
    ),
    (
        "[[management.allow]]\nfrom = ['::/0']\nprotocol = 'icmp'\nports = [1]",
        (10, 9),
        "`management.allow[0].ports` is set; it must be empty unless protocol is \"tcp\", \
        \"udp\" or \"sctp\"",
    ),
    (
        "[[management.allow]]\nfrom = ['::/0']\nprotocol = 'tcp'\nports = ['9-8']",
        (10, 10),
        "`management.allow[0].ports[0]` is \"9-8\"; it must be a port number from 0 to 65535, or \
        a range of them like \"8000-8100\"",
    ),
    (
        "[[management.allow]]\nfrom = ['::/0']\nprotocol = 256",
        (9, 12),
        "`management.allow[0].protocol` is 256; it must be \"any\", \"tcp\", \"udp\", \"sctp\", \
        \"icmp\", \"icmpv6\", \"ospf\", \"vrrp\", or a protocol number from 0 to 255",
    ),
    (
        "[timeouts]\nicmp = 30",
        (8, 1),
        "unknown key `timeouts.icmp`; did you mean `icmp_s`?",
    ),
    (
        "[admin]\nsocket = 'admin.sock'",
        (8, 10),
        "`admin.socket` is \"admin.sock\"; it must be an absolute path of at most 100 bytes",
    ),
    (
        "[admin]\nsocket_mode = 660",
        (8, 15),
        "`admin.socket_mode` is 660; it must be an octal number from 0o000 to 0o777",
    ),
    (
        "[admin]\nmetrics_address = '127.0.0.1'",
        (8, 19),
        "`admin.metrics_address` is \"127.0.0.1\"; it must be \"off\" or an address with a port, \
        like \"127.0.0.1:9100\" or \"[::1]:9100\"",
    ),
    (
        "[[replay.link]]\nport = 'c'\nmac = '02:00:00:00:00:01'",
        (8, 8),
        "`replay.link[0].port` is \"c\"; it must be \"a\" or \"b\"",
    ),
    (
        "[[replay.link]]\nport = 'a'\nmac = '01:00:00:00:00:01'",
        (9, 7),
        "`replay.link[0].mac` is \"01:00:00:00:00:01\"; it must be the Ethernet address of one \
        station, like \"02:00:00:00:00:01\"",
    ),
    (
        "[[replay.link]]\nport = 'a'\nmac = '02:00:00:00:00:01'\n[[replay.link]]\nport = \
        'a'\nmac = '02:00:00:00:00:02'",
        (11, 8),
        "`replay.link[1].port` is a port that has a link already; it must be unique",
    ),
    (
        "[[replay.route]]\nport = 'a'",
        (7, 1),
        "`replay.route[0].prefix` is missing; it must be an address or a prefix without host \
        bits, like \"198.18.0.0/24\"",
    ),
    (
        "[[replay.neighbour]]\nport = 'a'\naddress = '198.18.0.0/24'\nmac = '02:00:00:00:00:01'",
        (9, 11),
        "`replay.neighbour[0].address` is \"198.18.0.0/24\"; it must be an IPv4 or IPv6 address",
    ),
];

#[test]
fn wrong_values_are_named_with_place_found_and_allowed() {
    for &(text, (line, column), message) in WRONG {
        let found = problems(&format!("{PORTS}{text}"));
        let expected = format!("test.toml:{line}:{column}: {message}");
        assert_eq!(found[0].to_string(), expected);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
