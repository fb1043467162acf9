#!/usr/bin/env bash
# The appliance as the device of packet scenarios, between two raw interfaces.
#
#   device.sh up NAME       makes namespaces NAMEi (raw ends i0 and o0) and NAMEf (ports in0 and out0)
#   device.sh reset NAME    starts a fresh appliance in NAMEf, with the policy CT_POLICY names
#   device.sh down NAME     ends it and removes everything
#
# Inside is 10.0.1.0/24 and 2001:db8:1::/64, outside 198.51.100.0/24 and 2001:db8:2::/64; the scenario
# format fixes these addresses and who has which Ethernet address. CT_SET_* are its settings,
# CT_MTU_OUTSIDE is out0's MTU, PORTCULLIS the program, CT_WORKERS how many workers it gets.
set -euo pipefail

main() {
    local action=${1:?up, reset or down} name=${2:?a name}
    inner=${name}i
    device=${name}f
    folder=/tmp/pc-conntrack-$name
    "$action"
}

up() {
    local queues=${CT_WORKERS:-1}
    mkdir -p "$folder/policies" "$folder/bpf"
    mount -t bpf bpf "$folder/bpf"
    ip netns add "$inner"
    ip netns add "$device"
    local port raw
    for port in in0:i0 out0:o0; do
        raw=${port#*:}
        port=${port%:*}
        ip -n "$device" link add "$port" numrxqueues "$queues" numtxqueues "$queues" type veth \
            peer name "$raw" numrxqueues "$queues" numtxqueues "$queues" netns "$inner"
        ip netns exec "$inner" sysctl -qw "net.ipv6.conf.$raw.disable_ipv6=1"
        ip netns exec "$device" sysctl -qw "net.ipv6.conf.$port.accept_dad=0" \
            "net.ipv6.conf.$port.router_solicitations=0"
        ip -n "$inner" link set "$raw" arp off promisc on up
    done
    ip netns exec "$device" sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000
    ip -n "$device" link set in0 address 02:00:00:00:01:01
    ip -n "$device" link set out0 address 02:00:00:00:02:01
    ip -n "$device" link set lo up
    ip -n "$device" address add 10.0.1.1/24 dev in0
    ip -n "$device" address add 198.51.100.1/24 dev out0
    ip -n "$device" address add 198.51.100.99/24 dev out0
    ip -n "$device" address add 2001:db8:1::1/64 dev in0 nodad
    ip -n "$device" address add 2001:db8:2::1/64 dev out0 nodad
    ip -n "$device" link set in0 up
    ip -n "$device" link set out0 up
    ip -n "$device" route add default via 198.51.100.254
    ip -n "$device" -6 route add default via 2001:db8:2::fe dev out0
    local address
    for address in 10.0.1 2001:db8:1:; do
        neighbour "$address" 10 02:00:00:00:01:0a in0
        neighbour "$address" 11 02:00:00:00:01:0b in0
    done
    for address in 198.51.100 2001:db8:2:; do
        neighbour "$address" 20 02:00:00:00:02:14 out0
        neighbour "$address" 30 02:00:00:00:02:1e out0
    done
    neighbour 198.51.100 254 02:00:00:00:02:fe out0
    neighbour 2001:db8:2: fe 02:00:00:00:02:fe out0
}

# neighbour PREFIX HOST MAC PORT
neighbour() {
    local separator=.
    case $1 in *:*) separator=: ;; esac
    ip -n "$device" neighbour replace "$1$separator$2" lladdr "$3" dev "$4" nud permanent
}

reset() {
    stop
    ip -n "$device" link set out0 mtu "${CT_MTU_OUTSIDE:-1500}"
    write_policies
    write_settings
    : >"$folder/log"
    ip netns exec "$device" "${PORTCULLIS:?the program}" run --config "$folder/portcullis.toml" \
        </dev/null >"$folder/log" 2>&1 &
    printf '%s\n' $! >"$folder/pid"
    local try
    for try in $(seq 200); do
        # The ports are open and the policy is in force.
        grep -q forwarding "$folder/log" && return
        sleep 0.02
    done
    printf 'the device does not start after %s tries:\n' "$try" >&2
    cat "$folder/log" >&2
    return 1
}

stop() {
    local pid
    [ -f "$folder/pid" ] || return 0
    pid=$(cat "$folder/pid")
    rm -f "$folder/pid"
    kill -KILL "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
}

down() {
    stop
    ip netns delete "$inner" || true
    ip netns delete "$device" || true
    umount "$folder/bpf" || true
    rm -rf "$folder"
}

# set_or NAME DEFAULT: a setting of the scenario.
set_or() {
    local variable=CT_SET_$1
    printf '%s' "${!variable:-$2}"
}

boolean() {
    if [ "$(set_or "$1" 0)" = 1 ]; then printf true; else printf false; fi
}

write_settings() {
    local cores=0 worker
    for worker in $(seq 2 "${CT_WORKERS:-1}"); do cores="$cores, $(((worker - 1) % $(nproc)))"; done
    local first stream
    first=$(set_or UDP_TIMEOUT_S 30)
    stream=$(set_or UDP_STREAM_TIMEOUT_S 120)
    cat >"$folder/portcullis.toml" <<TOML
[[port]]
name = "inside"
interface = "in0"
mode = "${CT_XDP_MODE:-auto}"
[[port]]
name = "outside"
interface = "out0"
mode = "${CT_XDP_MODE:-auto}"
[forwarding]
icmp_errors_per_second = 100000
icmp_errors_burst = 100000
[workers]
cores = [$cores]
[policy]
directory = "policies"
watch = false
[limits]
flows = 65536
half_open_flows = 65536
[tracking]
tcp_loose = $(boolean TCP_LOOSE)
tcp_be_liberal = $(boolean TCP_BE_LIBERAL)
tcp_retransmissions_max = $(set_or TCP_MAX_RETRANS 3)
[timeouts]
restart_grace_s = 0
tcp_syn_sent_s = $(set_or TCP_TIMEOUT_SYN_SENT_S 120)
tcp_syn_received_s = $(set_or TCP_TIMEOUT_SYN_RECV_S 60)
tcp_established_s = $(set_or TCP_TIMEOUT_ESTABLISHED_S 7440)
tcp_fin_wait_s = $(set_or TCP_TIMEOUT_FIN_WAIT_S 120)
tcp_close_wait_s = $(set_or TCP_TIMEOUT_CLOSE_WAIT_S 60)
tcp_last_ack_s = $(set_or TCP_TIMEOUT_LAST_ACK_S 30)
tcp_time_wait_s = $(set_or TCP_TIMEOUT_TIME_WAIT_S 120)
tcp_close_s = $(set_or TCP_TIMEOUT_CLOSE_S 10)
tcp_retransmission_s = $(set_or TCP_TIMEOUT_MAX_RETRANS_S 300)
tcp_unacknowledged_s = $(set_or TCP_TIMEOUT_UNACKNOWLEDGED_S 300)
tcp_translated_s = 1
udp_first_s = $first
udp_stream_s = $stream
udp_first_translated_s = 1
udp_stream_translated_s = 1
icmp_s = $(set_or ICMP_TIMEOUT_S 30)
icmp_translated_s = 1
gre_first_s = $(set_or GRE_TIMEOUT_S 30)
gre_stream_s = $(set_or GRE_TIMEOUT_STREAM_S 180)
other_s = $(set_or GENERIC_TIMEOUT_S 600)
[admin]
socket = "$folder/admin.sock"
[steering]
pin_directory = "$folder/bpf"
[log]
level = "info"
$(fragments)
$(translation)
TOML
}

fragments() {
    printf '[fragments]\nipv4_lifetime_s = %s\nipv6_lifetime_s = %s\n' \
        "$(set_or IP4_FRAG_TIMEOUT_S 10)" "$(set_or IP6_FRAG_TIMEOUT_S 60)"
}

# What CT_POLICY means besides the packet filter.
translation() {
    case ${CT_POLICY:-strict} in
    strict) ;;
    masquerade)
        printf '[[nat.source]]\nout = "outside"\nfamily = "ipv4"\nchoice = "preserve"\n'
        ;;
    masquerade-2ports)
        printf '[[nat.source]]\nout = "outside"\nfamily = "ipv4"\nprotocol = "tcp"\n'
        printf 'ports = "5000-5001"\nreuse_delay_s = 0\n'
        ;;
    port-forward-hairpin)
        printf '[[nat.destination]]\nto = ["198.51.100.1"]\nprotocol = "tcp"\nports = 8443\n'
        printf 'target = "10.0.1.11"\ntarget_port = 443\nexclusive = true\n'
        printf '[[nat.source]]\nout = "outside"\nfamily = "ipv4"\nchoice = "preserve"\n'
        printf '[[nat.source]]\nin = "inside"\nout = "inside"\nfamily = "ipv4"\n'
        printf 'redirected = true\nchoice = "preserve"\n'
        ;;
    egress-redirect)
        printf '[[nat.destination]]\nin = "inside"\nto = ["10.0.1.1"]\nprotocol = "tcp"\n'
        printf 'ports = 80\ntarget = "203.0.113.25"\n'
        printf '[[nat.destination]]\nin = "inside"\nto = ["10.0.1.1"]\nprotocol = "tcp"\n'
        printf 'ports = 8080\ntarget = "203.0.113.26"\ntarget_port = 80\n'
        printf '[[nat.destination]]\nin = "inside"\nto = ["10.0.1.1"]\nprotocol = "udp"\n'
        printf 'ports = 53\ntarget = "203.0.113.27"\n'
        printf '[[nat.source]]\nout = "outside"\naddresses = ["198.51.100.99"]\n'
        printf 'choice = "preserve"\n'
        ;;
    *)
        printf 'unknown policy %s\n' "$CT_POLICY" >&2
        return 1
        ;;
    esac
}

# Inside may open anything, outside nothing: every inside address is a pod, isolated for ingress.
write_policies() {
    if [ ! -f "$folder/policies/pods.yaml" ]; then
        printf 'apiVersion: v1\nkind: Namespace\nmetadata: {name: inside}\n' \
            >"$folder/policies/namespace.yaml"
        local host
        for host in $(seq 2 254); do
            printf -- '---\napiVersion: v1\nkind: Pod\nmetadata: {name: h%d, namespace: inside}\n' "$host"
            printf 'status: {phase: Running, podIP: 10.0.1.%d, podIPs: [{ip: 10.0.1.%d}, ' \
                "$host" "$host"
            printf '{ip: "2001:db8:1::%x"}]}\n' "0x$host"
        done >"$folder/policies/pods.yaml"
    fi
    {
        printf 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n'
        printf 'metadata: {name: strict, namespace: inside}\n'
        printf 'spec:\n  podSelector: {}\n  policyTypes: [Ingress]\n'
        if [ "${CT_POLICY:-strict}" = port-forward-hairpin ]; then
            printf '  ingress: [{ports: [{protocol: TCP, port: 443}]}]\n'
        fi
    } >"$folder/policies/strict.yaml"
}

main "$@"
