#!/usr/bin/env bash
# Forwarding between two veths: the kernel's own against portcullis, in one topology, in turn.
#
#   sudo benches/peers/forwarding.sh [ROUNDS] [SECONDS]
#
#   client veth0 ──veth── inside │ gateway │ outside ──veth── veth0 server
#
# Packets come from an XDP program (generate.c) on core 0, to a neighbour nobody is: the server
# counts the frames and drops them as not its own. The kernel forwards on the generator's core;
# portcullis's worker runs on core 1. Generator and worker have real-time priority: other work
# disturbs them less, and stands still meanwhile.
#
# Prints a line for each figure and, at the end, medians and ratios. Ratios of one run are what
# counts; absolute numbers are this machine's.
set -euo pipefail
cd "$(dirname "$0")/../.."

ROUNDS=${1:-5}
SECONDS_EACH=${2:-2}
PREFIX=${PREFIX:-portcullis-bench}
WORK=$(mktemp -d)
PORTCULLIS=${PORTCULLIS:-$PWD/target/release/portcullis}
# frame bytes:flows
CASES=(64:1 64:1000 64:100000 1418:1000)

inside() {
    local host=$1
    shift
    ip netns exec "$PREFIX-$host" "$@"
}

# Starts a command in a namespace in the background; its own process id is in `$!`. (Of a function
# in the background it would be that of a shell around the command, which killing does not end.)
start_inside() {
    local host=$1
    shift
    exec ip netns exec "$PREFIX-$host" "$@"
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
    cc -O2 benches/peers/generate.c -o "$WORK/generate"
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
    # Without it, and without a program, a veth does not take frames from an XDP program.
    inside gateway ethtool -K inside gro on
    inside gateway ip neighbour add 198.18.1.3 lladdr 02:00:00:00:00:03 dev outside
    mkdir "$WORK/policies"
    cat >"$WORK/settings.toml" <<TOML
[[port]]
name = "inside"
interface = "inside"
[[port]]
name = "outside"
interface = "outside"
[workers]
cores = [1]
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

mac() {
    inside "$1" cat "/sys/class/net/$2/address"
}

received() {
    inside "$1" cat "/sys/class/net/$2/statistics/rx_packets"
}

# use kernel | portcullis
use() {
    if [ "$1" != portcullis ]; then
        inside gateway sysctl -qw net.ipv4.ip_forward=1
        return
    fi
    inside gateway sysctl -qw net.ipv4.ip_forward=0
    start_inside gateway chrt -f 1 "$PORTCULLIS" run --config "$WORK/settings.toml" \
        2>"$WORK/log" &
    pid=$!
    for _ in $(seq 50); do
        "$PORTCULLIS" status --socket "$WORK/admin.sock" >/dev/null 2>&1 && break
        sleep 0.1
    done
    inside client ping -qc1 -W3 198.18.1.2 >/dev/null || { cat "$WORK/log" >&2 && exit 1; }
}

stop_portcullis() {
    if [ -n "${pid:-}" ]; then
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        pid=''
        inside gateway "$PORTCULLIS" detach --all >/dev/null
    fi
}

# measure_packets BYTES FLOWS: packets a second that reach the server.
measure_packets() {
    local before after seconds
    # Flows become known before the time counts.
    send 0.3 "$@" >/dev/null
    before=$(received server veth0)
    seconds=$(send "$SECONDS_EACH" "$@")
    after=$(received server veth0)
    awk -v packets=$((after - before)) -v seconds="$seconds" \
        'BEGIN { printf "%.0f\n", packets / seconds }'
}

send() {
    inside client taskset 1 chrt -f 1 "$WORK/generate" veth0 "$@" \
        "$(mac client veth0)" "$(mac gateway inside)" 198.18.0.2 198.18.1.3
}

# measure_tcp: Gbit/s of one iperf3 connection.
measure_tcp() {
    start_inside server iperf3 -s -1 >/dev/null &
    local server=$!
    sleep 0.3
    inside client iperf3 -J -t "$SECONDS_EACH" -c 198.18.1.2 |
        jq '.end.sum_received.bits_per_second / 1e9'
    wait "$server"
}

# note WHO WHAT FIGURE
note() {
    printf '%-12s %-12s %s\n' "$@" | tee -a "$WORK/rows"
}

measure() {
    use "$1"
    note "$1" tcp-gbit/s "$(measure_tcp)"
    for case in "${CASES[@]}"; do
        note "$1" "$case" "$(measure_packets "${case%:*}" "${case#*:}")"
    done
    stop_portcullis
}

median() {
    awk -v who="$1" -v what="$2" '$1 == who && $2 == what { print $3 }' "$WORK/rows" |
        sort -g | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'
}

pid=''
build
for round in $(seq "$ROUNDS"); do
    echo "round $round, load $(cut -d' ' -f1 /proc/loadavg)"
    for who in kernel portcullis; do
        measure "$who"
    done
done
printf '\n%-12s %12s %12s %8s\n' medians kernel portcullis ratio
for what in tcp-gbit/s "${CASES[@]}"; do
    printf '%s %s %s\n' "$what" "$(median kernel "$what")" "$(median portcullis "$what")" |
        awk '{ printf "%-12s %12.5g %12.5g %8.2f\n", $1, $2, $3, $3 / $2 }'
done
