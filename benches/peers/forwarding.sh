#!/usr/bin/env bash
# Forwarding between two veths: the kernel's own against portcullis, in one topology, in turn.
#
#   sudo benches/peers/forwarding.sh [ROUNDS] [SECONDS]
#
# Prints one line for each round and the medians: TCP bulk in Gbit/s, 64-byte UDP in packets a
# second delivered. Ratios of one run are what counts; absolute numbers are this machine's.
set -euo pipefail
cd "$(dirname "$0")/../.."

ROUNDS=${1:-5}
SECONDS_EACH=${2:-2}
PREFIX=portcullis-bench
WORK=$(mktemp -d)
PORTCULLIS=$PWD/target/release/portcullis

inside() {
    local host=$1
    shift
    ip netns exec "$PREFIX-$host" "$@"
}

clean() {
    stop_portcullis
    for host in client gateway server; do
        ip netns pids "$PREFIX-$host" 2>/dev/null | xargs -r kill 2>/dev/null || true
        ip netns del "$PREFIX-$host" 2>/dev/null || true
    done
    rm -rf "$WORK"
}
trap clean EXIT

build() {
    for host in client gateway server; do
        ip netns add "$PREFIX-$host"
        inside "$host" ip link set lo up
    done
    ip link add veth0 netns "$PREFIX-client" type veth peer name inside netns "$PREFIX-gateway"
    ip link add veth0 netns "$PREFIX-server" type veth peer name outside netns "$PREFIX-gateway"
    address client veth0 198.18.0.2 198.18.0.1
    address server veth0 198.18.1.2 198.18.1.1
    address gateway inside 198.18.0.1
    address gateway outside 198.18.1.1
    mkdir "$WORK/policies"
    cat >"$WORK/settings.toml" <<TOML
[[port]]
name = "inside"
interface = "inside"
[[port]]
name = "outside"
interface = "outside"
[policy]
directory = "policies"
[admin]
socket = "$WORK/admin.sock"
TOML
    printf 'apiVersion: v1\nkind: Namespace\nmetadata: {name: empty}\n' >"$WORK/policies/a.yaml"
}

address() {
    inside "$1" ip address add "$3/24" dev "$2"
    inside "$1" ip link set "$2" up
    if [ $# -gt 3 ]; then
        inside "$1" ip route add default via "$4"
    fi
}

start_portcullis() {
    inside gateway sysctl -qw net.ipv4.ip_forward=0
    inside gateway "$PORTCULLIS" run --config "$WORK/settings.toml" 2>"$WORK/log" &
    pid=$!
    for _ in $(seq 50); do
        "$PORTCULLIS" status --socket "$WORK/admin.sock" >/dev/null 2>&1 && break
        sleep 0.1
    done
    inside client ping -qc1 -W3 198.18.1.2 >/dev/null
}

stop_portcullis() {
    if [ -n "${pid:-}" ]; then
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        pid=''
        inside gateway "$PORTCULLIS" detach --all >/dev/null 2>&1 || true
    fi
}

# Prints "Gbit/s packets/s".
measure() {
    inside server iperf3 -s -1 >/dev/null &
    sleep 0.3
    local tcp udp
    tcp=$(inside client iperf3 -J -t "$SECONDS_EACH" -c 198.18.1.2 |
        jq '.end.sum_received.bits_per_second / 1e9')
    wait $!
    inside server iperf3 -s -1 >/dev/null &
    sleep 0.3
    # 18 bytes of data make 64 bytes on the wire with the frame check sequence.
    udp=$(inside client iperf3 -J -u -b 0 -l 18 -t "$SECONDS_EACH" -c 198.18.1.2 |
        jq '(.end.sum.packets - .end.sum.lost_packets) / .end.sum.seconds')
    wait $!
    printf '%.2f %.0f\n' "$tcp" "$udp"
}

median() {
    sort -n | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'
}

build
pid=''
for round in $(seq "$ROUNDS"); do
    inside gateway sysctl -qw net.ipv4.ip_forward=1
    kernel=$(measure)
    start_portcullis
    ours=$(measure)
    stop_portcullis
    printf 'round %s: kernel %s, portcullis %s\n' "$round" "$kernel" "$ours"
    printf '%s %s\n' "$kernel" "$ours" >>"$WORK/rows"
done
for column in 1:'kernel TCP Gbit/s' 2:'kernel UDP packets/s' 3:'portcullis TCP Gbit/s' \
    4:'portcullis UDP packets/s'; do
    printf '%-28s %s\n' "${column#*:}" "$(cut -d' ' -f"${column%%:*}" "$WORK/rows" | median)"
done
