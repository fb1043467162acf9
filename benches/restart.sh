#!/usr/bin/env bash
# How long a gateway that was killed with SIGKILL is closed after it is started again.
#
#   sudo benches/restart.sh [ROUNDS] [BUSY]
#
# Three ports, a client that pings a server every 10 ms. In each round the gateway is killed and
# started; the time is from the start of the process to the first answer the client gets. BUSY
# processes that do nothing but use a core run meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=${1:-7}
BUSY=${2:-0}
PREFIX=pc-bench-$$
WORK=$(mktemp -d)
PORTCULLIS=${PORTCULLIS:-$PWD/target/release/portcullis}
PING_MS=10
WAIT_S=10
pid=''
started=()

main() {
    trap clean EXIT
    build
    for ((i = 0; i < BUSY; i++)); do
        (while :; do :; done) &
        started+=($!)
    done
    start
    await_answer 0 >/dev/null
    for ((round = 1; round <= ROUNDS; round++)); do
        kill -9 "$pid"
        wait "$pid" 2>/dev/null || true
        sleep 0.5
        local before
        before=$(now_ms)
        start
        await_answer "$before" | tee -a "$WORK/rows"
    done
    printf 'median of %s rounds, %s busy processes: %s ms\n' "$ROUNDS" "$BUSY" \
        "$(sort -n "$WORK/rows" | awk '{ row[NR] = $1 } END { print row[int((NR + 1) / 2)] }')"
}

clean() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    [ ${#started[@]} -eq 0 ] || kill "${started[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    "$PORTCULLIS" detach --pin-directory "$WORK/bpf" --all >/dev/null 2>&1 || true
    umount -l "$WORK/bpf" 2>/dev/null || true
    for host in client gateway server; do
        ip netns del "$PREFIX-$host" 2>/dev/null || true
    done
    rm -rf "$WORK"
}

inside() {
    local host=$1
    shift
    ip netns exec "$PREFIX-$host" "$@"
}

build() {
    for host in client gateway server; do
        ip netns add "$PREFIX-$host"
        inside "$host" ip link set lo up
    done
    inside gateway sysctl -qw net.ipv4.ip_forward=0
    ip link add eth0 netns "$PREFIX-client" type veth peer name inside netns "$PREFIX-gateway"
    ip link add eth0 netns "$PREFIX-server" type veth peer name outside netns "$PREFIX-gateway"
    ip link add third netns "$PREFIX-gateway" type veth peer name spare netns "$PREFIX-server"
    address client eth0 198.18.0.2 198.18.0.1
    address server eth0 198.18.1.2 198.18.1.1
    address server spare 198.18.2.2
    address gateway inside 198.18.0.1
    address gateway outside 198.18.1.1
    address gateway third 198.18.2.1
    mkdir "$WORK/policies" "$WORK/bpf"
    mount -t bpf bpf "$WORK/bpf"
    for port in inside outside third; do
        printf '[[port]]\nname = "%s"\ninterface = "%s"\n' "$port" "$port"
    done >"$WORK/settings.toml"
    cat >>"$WORK/settings.toml" <<TOML
[policy]
directory = "policies"
[admin]
socket = "$WORK/admin.sock"
[steering]
pin_directory = "$WORK/bpf"
TOML
    printf 'apiVersion: v1\nkind: Namespace\nmetadata: {name: empty}\n' >"$WORK/policies/a.yaml"
    # Answers with their times, as they come.
    ip netns exec "$PREFIX-client" stdbuf -oL ping -D -i "0.0$PING_MS" 198.18.1.2 >"$WORK/answers" 2>&1 &
    started+=($!)
}

address() {
    inside "$1" ip address add "$3/24" dev "$2"
    inside "$1" ip link set "$2" up
    if [ $# -gt 3 ]; then
        inside "$1" ip route add default via "$4"
    fi
}

start() {
    # Not by `inside`: a function in the background is a shell of its own, which would be killed.
    ip netns exec "$PREFIX-gateway" "$PORTCULLIS" run --config "$WORK/settings.toml" 2>>"$WORK/log" &
    pid=$!
}

now_ms() {
    echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

# Prints the milliseconds from a moment to the first answer after it.
await_answer() {
    local after=$1 end=$(($(now_ms) + WAIT_S * 1000)) first
    while [ "$(now_ms)" -lt "$end" ]; do
        # [1764000000.123456] 64 bytes from …
        first=$(awk -v after="$after" '/bytes from/ {
            at = substr($1, 2, 17) * 1000
            if (at > after) { printf "%d", at - after; exit }
        }' "$WORK/answers")
        [ -z "$first" ] || { echo "$first" && return; }
        sleep 0.1
    done
    printf 'no answer within %s s\n' "$WAIT_S" >&2
    cat "$WORK/log" >&2
    exit 1
}

main
