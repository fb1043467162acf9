# shellcheck shell=bash disable=SC2034
# The demo's network, its servers and the gateway process.
#
#   client 198.18.0.2 ───veth─── inside ┐
#                                       ├ gateway ─ outside ───veth─── 198.18.1.2 server
#   visitor 198.18.2.2 ─veth─ uplink ─ lab ┘        (lab: a macvlan of uplink)
#
# IPv6 likewise: 2001:db8:0::2, 2001:db8:1::2, 2001:db8:2::2. The gateway is .1 and ::1 everywhere.
# Offloads stay as the kernel sets them, on; ip_forward stays 0.

PREFIX=portcullis-demo-
SERVER=198.18.1.2
SERVER6=2001:db8:1::2

# in_ns NAME COMMAND...: runs it in one of the demo's namespaces.
in_ns() {
    local name=$1
    shift
    ip netns exec "$PREFIX$name" "$@"
}

# background NAME COMMAND...: the same without waiting; ends with the namespace.
background() {
    local name=$1
    shift
    ip netns exec "$PREFIX$name" "$@" >>"$WORK/servers.log" 2>&1 </dev/null &
    disown
}

make_network() {
    local name
    for name in client gateway server visitor; do
        ip netns add "$PREFIX$name"
        in_ns "$name" ip link set lo up
        # No duplicate address detection: it would delay every address by a second or two.
        in_ns "$name" sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
    done
    in_ns gateway sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
    # The macvlan's parent must not answer ARP for the macvlan's address, as it would by default:
    # frames would then go to the parent, past the port.
    in_ns gateway sysctl -qw net.ipv4.conf.all.arp_ignore=1
    cable client 0 inside
    cable server 1 outside
    cable visitor 2 uplink
    in_ns gateway ip link add lab link uplink type macvlan mode bridge
    gateway_address lab 2
    gateway_address inside 0
    gateway_address outside 1
}

# cable NAME NETWORK INTERFACE: joins a host to an interface of the gateway.
cable() {
    local name=$1 network=$2 interface=$3
    ip link add "$interface" netns "${PREFIX}gateway" type veth \
        peer name eth0 netns "$PREFIX$name"
    in_ns gateway ip link set "$interface" up
    in_ns "$name" ip link set eth0 up
    in_ns "$name" ip address add "198.18.$network.2/24" dev eth0
    in_ns "$name" ip address add "2001:db8:$network::2/64" dev eth0 nodad
    in_ns "$name" ip route add default via "198.18.$network.1"
    in_ns "$name" ip -6 route add default via "2001:db8:$network::1"
}

gateway_address() {
    in_ns gateway ip link set "$1" up
    in_ns gateway ip address add "198.18.$2.1/24" dev "$1"
    in_ns gateway ip address add "2001:db8:$2::1/64" dev "$1" nodad
}

start_servers() {
    local port
    for port in 80 8080; do
        background server socat "TCP6-LISTEN:$port,ipv6only=0,reuseaddr,fork" EXEC:tests/demo/web.sh
    done
    background server socat TCP6-LISTEN:7,ipv6only=0,reuseaddr,fork EXEC:cat
    background server socat TCP6-LISTEN:8081,ipv6only=0,reuseaddr,fork EXEC:cat
    background server socat -T2 UDP6-RECVFROM:7,ipv6only=0,fork EXEC:cat
    background server iperf3 --server
    await 5 listening 80 8080 7 8081 5201
}

# listening PORT...: does the server listen on all of them?
listening() {
    local port
    for port in "$@"; do
        in_ns server ss -Hltn "sport = :$port" | grep -q . || return 1
    done
}

# await SECONDS COMMAND...: repeats it until it succeeds; fails when the time is up.
await() {
    local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "${EPOCHREALTIME/[.,]/}" -lt "$end" ] || return 1
        sleep 0.05
    done
}

start_gateway() {
    # Not by in_ns: $! is to be the gateway itself, which `ip netns exec` becomes.
    ip netns exec "${PREFIX}gateway" "$PORTCULLIS" run --config "$WORK/portcullis.toml" \
        >>"$WORK/gateway.log" 2>&1 </dev/null &
    echo $! >"$WORK/gateway.pid"
    disown
}

# The status of the running gateway; also tells that it is ready.
status() {
    in_ns gateway "$PORTCULLIS" status --socket "$WORK/admin.sock" "$@"
}

kill_gateway() {
    kill -KILL "$(cat "$WORK/gateway.pid")"
}

remove_network() {
    local name pids
    for name in client gateway server visitor; do
        [ -e "/run/netns/$PREFIX$name" ] || continue
        pids=$(ip netns pids "$PREFIX$name")
        # shellcheck disable=SC2086 # one word a process
        [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
        ip netns delete "$PREFIX$name"
    done
}
