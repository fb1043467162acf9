# shellcheck shell=bash
# What the demo shows, one function a scene. A scene stops at the first expectation that fails.

# show TEXT...: evidence, indented below the scene's title.
show() {
    printf '%s\n' "$@" | sed 's/^/       /'
}

# expect WHAT COMMAND...: the scene fails unless the command succeeds.
expect() {
    local what=$1
    shift
    "$@" || {
        show "EXPECTED: $what"
        return 1
    }
}

# fetch URL [FROM]: asks for a web page.
fetch() {
    in_ns "${2:-client}" curl --silent --show-error --connect-timeout 1 --max-time 3 "$1"
}

closed() {
    ! fetch "$@" 2>/dev/null
}

ping_once() {
    in_ns "${2:-client}" ping -q -c 1 -W 0.5 "$1" >/dev/null
}

# udp_echo FAMILY ADDRESS: sends a datagram to the echo service, prints the answer.
udp_echo() {
    echo "a datagram" | in_ns client socat -T1 -t1 - "UDP$1:$2:7"
}

# bulk ARGUMENT...: two seconds of iperf3 through the gateway; prints Mbit/s received.
bulk() {
    in_ns client iperf3 --time 2 --format m "$@" |
        awk '/receiver/ { for (i = 2; i <= NF; i++) if ($i == "Mbits/sec") print $(i - 1) }'
}

more_than() {
    awk -v have="${1:-0}" -v want="$2" 'BEGIN { exit !(have > want) }'
}

# dial NAME PORT: keeps a TCP connection to an echo service open. say NAME TEXT sends a line on it,
# echoed NAME TEXT looks for it in what came back.
dial() {
    : >"$WORK/$1.in"
    background client sh -c \
        "tail -f '$WORK/$1.in' | socat -t 30 - TCP:$SERVER:$2,connect-timeout=2 >'$WORK/$1.out'"
    say "$1" hello
    await 3 echoed "$1" hello
}

say() {
    echo "$2" >>"$WORK/$1.in"
}

echoed() {
    grep -qs "^$2\$" "$WORK/$1.out"
}

scene_tcp() {
    local page
    page=$(fetch "http://$SERVER/")
    show "curl http://$SERVER/ → $page"
    expect "the page" grep -q "hello from the server" <<<"$page"
    expect "offloads are on" in_ns client sh -c 'ethtool -k eth0 | grep -q "^tx-checksumming: on"'
    show "checksum and segmentation offloads are on; ip_forward is $(forwarding)"
    expect "ip_forward is 0" test "$(forwarding)" = 0
}

forwarding() {
    in_ns gateway cat /proc/sys/net/ipv4/ip_forward
}

scene_bulk() {
    local rate
    rate=$(bulk --client "$SERVER")
    show "iperf3 to the server: $rate Mbit/s"
    expect "more than 50 Mbit/s" more_than "$rate" 50
    rate=$(bulk --client "$SERVER" --reverse)
    show "iperf3 from the server: $rate Mbit/s"
    expect "more than 50 Mbit/s" more_than "$rate" 50
}

scene_udp() {
    local answer
    answer=$(udp_echo 4 "$SERVER")
    show "udp echo → $answer"
    expect "the datagram comes back" test "$answer" = "a datagram"
    show "iperf3 --udp: $(bulk --client "$SERVER" --udp --bitrate 50M) Mbit/s of 50"
}

scene_ping() {
    local line
    line=$(in_ns client ping -q -c 5 -i 0.2 -W 1 "$SERVER" | tail -n 2)
    expect "an answer" ping_once "$SERVER"
    show "ping $SERVER: ${line##*$'\n'}"
}

scene_ipv6() {
    local page answer rate
    page=$(fetch "http://[$SERVER6]/")
    show "curl http://[$SERVER6]/ → $page"
    expect "the page" grep -q "hello from the server" <<<"$page"
    answer=$(udp_echo 6 "[$SERVER6]")
    expect "the datagram comes back" test "$answer" = "a datagram"
    expect "an answer to ping" ping_once "$SERVER6"
    rate=$(bulk --client "$SERVER6")
    show "udp echo, ping: answered; iperf3: $rate Mbit/s"
    expect "more than 50 Mbit/s" more_than "$rate" 50
}

scene_denied() {
    local story exit=0
    expect "no answer from port 8080" closed "http://$SERVER:8080/"
    expect "no answer over IPv6 either" closed "http://[$SERVER6]:8080/"
    show "curl http://$SERVER:8080/ gets no answer; portcullis explain says why:" ""
    story=$("$PORTCULLIS" explain --policies "$WORK/policies" \
        --from office/client --to shop/server --proto tcp --port 8080 2>&1) || exit=$?
    show "$story" ""
    expect "explain ends with status 1, denied" test "$exit" -eq 1
    expect "explain names the policy" grep -q "NetworkPolicy.shop/server" <<<"$story"
}

scene_live_change() {
    dial steady 7
    show "a connection to port 7, allowed throughout, is open"
    expect "port 8080 closed" closed "http://$SERVER:8080/"
    cp config/demo/changes/administration.yaml "$WORK/policies/"
    expect "port 8080 open within 3 s" await 3 fetch "http://$SERVER:8080/"
    show "administration.yaml copied into the policy directory: port 8080 answers"
    dial doomed 8081
    say doomed "still allowed"
    expect "an echo from port 8081" await 2 echoed doomed "still allowed"
    show "a connection to port 8081 is open and echoes"
    rm "$WORK/policies/administration.yaml"
    expect "port 8080 closed within 3 s" await 3 closed "http://$SERVER:8080/"
    say doomed "denied now"
    say steady "allowed throughout"
    expect "an echo from port 7" await 2 echoed steady "allowed throughout"
    sleep 1
    expect "no echo from port 8081" not echoed doomed "denied now"
    show "removed again: port 8080 is closed, the connection to 8081 is cut, the one to 7 is not"
}

not() {
    ! "$@"
}

scene_broken() {
    local message exit=0 pings
    in_ns client ping -q -c 40 -i 0.05 -W 1 "$SERVER" >"$WORK/ping.out" &
    pings=$!
    cp config/demo/changes/broken.yaml "$WORK/policies/"
    message=$(in_ns gateway "$PORTCULLIS" reload --socket "$WORK/admin.sock" 2>&1) || exit=$?
    show "portcullis reload ends with status $exit:" "${message//$WORK\//}"
    expect "a status that tells of the refusal" test "$exit" -ne 0
    expect "file, line and column" grep -q "broken.yaml:[0-9]*:[0-9]*: error" <<<"$message"
    expect "the web page as before" fetch "http://$SERVER/" >/dev/null
    expect "port 8080 closed as before" closed "http://$SERVER:8080/"
    wait "$pings"
    rm "$WORK/policies/broken.yaml"
    show "meanwhile: $(grep transmitted "$WORK/ping.out")"
    expect "no ping lost" grep -q " 0% packet loss" "$WORK/ping.out"
}

# counter NAME PROTOCOL FIELD: a counter of a namespace's own network stack.
counter() {
    local file=/proc/net/snmp
    case $2 in *6) file=/proc/net/snmp6 ;; esac
    in_ns "$1" cat "$file" | awk -v protocol="$2" -v field="$3" '
        $1 == protocol field { print $2 }
        $1 == protocol ":" && !names { names = split($0, name) ; next }
        $1 == protocol ":" { for (i = 2; i <= names; i++) if (name[i] == field) print $i }
    '
}

# leaks: everything that would have moved had one packet got past the gateway, or into its stack.
leaks() {
    echo "server InEchos $(counter server Icmp InEchos) Icmp6InEchos $(counter server Icmp6 InEchos)"
    echo "gateway InReceives $(counter gateway Ip InReceives)" \
        "ForwDatagrams $(counter gateway Ip ForwDatagrams)" \
        "Ip6OutForwDatagrams $(counter gateway Ip6 OutForwDatagrams)"
}

scene_killed() {
    local before after
    expect "an answer to ping before" ping_once "$SERVER"
    kill_gateway
    before=$(leaks)
    say steady "sent while closed"
    expect "no answer to ping" not ping_once "$SERVER"
    expect "no answer to ping over IPv6" not ping_once "$SERVER6"
    expect "no web page" closed "http://$SERVER/"
    after=$(leaks)
    show "kill -9 of the gateway: ping, ping over IPv6 and curl get no answer" \
        "counters of the server's and the gateway's own stack before and after, the same:" "$after"
    expect "the same counters as before: $before" test "$before" = "$after"
}

scene_restart() {
    local started elapsed_ms
    started=${EPOCHREALTIME/[.,]/}
    start_gateway
    expect "an answer to ping" await 10 in_ns client ping -q -c 1 -W 0.1 "$SERVER"
    elapsed_ms=$(((${EPOCHREALTIME/[.,]/} - started) / 1000))
    show "ping answers $elapsed_ms ms after the start"
    expect "open within a second" test "$elapsed_ms" -le 1000
    expect "the web page" fetch "http://$SERVER/" >/dev/null
    expect "an echo of what was sent while closed" await 10 echoed steady "sent while closed"
    show "the connection opened before the kill goes on: what was sent meanwhile has arrived"
}

scene_macvlan() {
    local page
    page=$(fetch "http://$SERVER/" visitor)
    show "a visitor behind a macvlan port ($(in_ns gateway ip -br link show lab | cut -d' ' -f1)):" \
        "curl http://$SERVER/ → $page"
    expect "the page over IPv6" fetch "http://[$SERVER6]/" visitor >/dev/null
    expect "an answer to ping" ping_once "$SERVER" visitor
    expect "generic XDP" in_ns gateway sh -c 'ip link show lab | grep -q xdpgeneric'
    expect "port 8080 closed" closed "http://$SERVER:8080/" visitor
    show "IPv6 and ping answer, port 8080 does not"
}

scene_status() {
    local text
    text=$(status)
    show "$text"
    expect "all ports" grep -q inside <<<"$text"
}
