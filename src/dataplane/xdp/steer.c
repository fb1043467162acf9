// What becomes of a frame before the kernel's own stack sees it: docs/adr/0001-steering-program.md.
//
// The default is DROP. Only what this program names reaches the kernel; what is not for the box
// itself goes to the data plane's socket, and is dropped where no socket is.
//
// Built by build.sh; the object is checked in. Struct layouts and numbers are mirrored in maps.rs.

#include <linux/bpf.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline)) inline

// The helpers used, by their numbers in the kernel's interface (linux/bpf.h, enum bpf_func_id).
typedef void *map_lookup_function(void *map, const void *key);
typedef long redirect_map_function(void *map, __u32 key, __u64 flags);
typedef struct bpf_sock *socket_lookup_function(void *context, struct bpf_sock_tuple *tuple,
                                                __u32 size, __u64 netns, __u64 flags);
typedef long release_function(struct bpf_sock *socket);

static map_lookup_function *const map_lookup = (void *)BPF_FUNC_map_lookup_elem;
static redirect_map_function *const redirect_map = (void *)BPF_FUNC_redirect_map;
static socket_lookup_function *const lookup_tcp = (void *)BPF_FUNC_skc_lookup_tcp;
static socket_lookup_function *const lookup_udp = (void *)BPF_FUNC_sk_lookup_udp;
static release_function *const release = (void *)BPF_FUNC_sk_release;

// What is read from memory after this is read anew, and no result of a comparison is carried over
// it: however a packet got there, it looks the same to the verifier, which walks on from here once
// instead of once for each way. A restart waits for the verifier.
#define WAYS_MEET() __asm__ volatile("" ::: "memory")

#define to_network16(value) __builtin_bswap16(value)
#define to_host16(value) __builtin_bswap16(value)

// ---- Maps ---------------------------------------------------------------------------------------

enum {
    QUEUES_MAX = 256,
    LOCAL_ADDRESSES_MAX = 4096,
    MANAGEMENT_RULES_MAX = 64,
    EXTENSION_HEADERS_MAX = 8,
    // Beyond this offset nothing is looked for: longer header chains are dropped.
    OFFSET_MAX = 1024,
};

enum flag {
    CONFIGURED = 1 << 0,
    TRANSPARENT = 1 << 1,
    DHCP_CLIENT = 1 << 2,
    // Which of the two management lists is in force.
    SECOND_LIST = 1 << 3,
    // data_plane_ports_* is in force.
    DATA_PLANE_PORTS = 1 << 4,
    // The box shares its addresses with connections of the data plane.
    SHARED = 1 << 5,
};

// Eight bytes, so that the kernel replaces it in one store.
struct port_config {
    __u32 flags;
    __u16 data_plane_ports_first;
    __u16 data_plane_ports_last;
};

struct management_rule {
    __u8 family; // 4 or 6
    __u8 protocol_mask; // 0 for any protocol, else all ones
    __u8 protocol;
    __u8 unused;
    __u16 port_first;
    __u16 port_last;
    __be32 address[4]; // IPv4 in the first word
    __be32 mask[4];
};

struct management_list {
    __u32 rules;
    __u32 unused;
    struct management_rule rule[MANAGEMENT_RULES_MAX];
};

// In the order of COUNTERS in maps.rs.
enum counter {
    STEERED,
    PASSED_ARP,
    PASSED_NEIGHBOUR_DISCOVERY,
    PASSED_MULTICAST_LISTENER,
    PASSED_MANAGEMENT,
    PASSED_ANSWER,
    PASSED_ICMP,
    PASSED_DHCP,
    DROPPED_NO_SOCKET,
    DROPPED_MANAGEMENT,
    DROPPED_MULTICAST,
    DROPPED_ETHER_TYPE,
    DROPPED_MALFORMED,
    DROPPED_HOP_LIMIT,
    DROPPED_EXTENSION_HEADERS,
    DROPPED_UNCONFIGURED,
    COUNTERS,
};

// The form of map definitions that libbpf 0.3 reads without BTF.
struct map_definition {
    __u32 type;
    __u32 key_size;
    __u32 value_size;
    __u32 max_entries;
    __u32 map_flags;
};

// The name is fixed: libbpf's socket set-up finds the map of an attached program by it.
struct map_definition SECTION("maps") xsks_map = {
    BPF_MAP_TYPE_XSKMAP, sizeof(__u32), sizeof(__u32), QUEUES_MAX, 0};
struct map_definition SECTION("maps") port_config = {
    BPF_MAP_TYPE_ARRAY, sizeof(__u32), sizeof(struct port_config), 1, 0};
struct map_definition SECTION("maps") local_v4 = {
    BPF_MAP_TYPE_HASH, 4, sizeof(__u32), LOCAL_ADDRESSES_MAX, 0};
struct map_definition SECTION("maps") local_v6 = {
    BPF_MAP_TYPE_HASH, 16, sizeof(__u32), LOCAL_ADDRESSES_MAX, 0};
struct map_definition SECTION("maps") management = {
    BPF_MAP_TYPE_ARRAY, sizeof(__u32), sizeof(struct management_list), 2, 0};
struct map_definition SECTION("maps") counters = {
    BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(__u32), sizeof(__u64), COUNTERS, 0};

// ---- Headers ------------------------------------------------------------------------------------

struct ethernet {
    __u8 destination[6];
    __u8 source[6];
    __be16 type;
};

struct ipv4 {
    __u8 version_and_length;
    __u8 traffic_class;
    __be16 total_length;
    __be16 identification;
    __be16 fragment;
    __u8 time_to_live;
    __u8 protocol;
    __be16 checksum;
    __be32 source;
    __be32 destination;
};

struct ipv6 {
    __be32 version_and_flow;
    __be16 payload_length;
    __u8 next_header;
    __u8 hop_limit;
    __be32 source[4];
    __be32 destination[4];
};

struct ipv6_extension {
    __u8 next_header;
    __u8 length; // in 8 bytes, the first 8 not counted
    __be16 fragment; // of a fragment header
    __be32 rest;
};

enum {
    TYPE_IPV4 = 0x0800,
    TYPE_ARP = 0x0806,
    TYPE_VLAN = 0x8100,
    TYPE_QINQ = 0x88a8,
    TYPE_IPV6 = 0x86dd,

    HOP_BY_HOP = 0,
    ICMP = 1,
    TCP = 6,
    UDP = 17,
    DCCP = 33,
    ROUTING = 43,
    FRAGMENT = 44,
    ICMPV6 = 58,
    DESTINATION_OPTIONS = 60,
    SCTP = 132,
    UDP_LITE = 136,

    IPV4_FRAGMENT_OFFSET = 0x1fff,
    IPV6_FRAGMENT_OFFSET = 0xfff8,

    DHCP_SERVER = 67,
    DHCP_CLIENT_PORT = 68,
    DHCPV6_CLIENT_PORT = 546,
    DHCPV6_SERVER = 547,
};

// enum values of linux/tcp_states.h, in struct bpf_sock's `state`.
enum { STATE_ESTABLISHED = 1, STATE_CLOSE = 7, STATE_LISTEN = 10, STATE_NEW_SYN_RECV = 12 };

// A packet for the box itself.
//
// It lives in a per-CPU map instead of on the stack: the verifier does not follow values through a
// map, so that all ways through the parsers look the same to it from there on. On the stack it has
// to walk through the judgement once for each of them, which exceeds what it is willing to do.
struct packet {
    __u8 family;
    __u8 protocol;
    __u8 hop_limit;
    __u8 multicast;
    __u8 fragmented;
    __u8 later_fragment;
    __be16 source_port_wire;
    __be16 destination_port_wire;
    __u16 port; // destination port, or type of ICMP
    __u32 port_mask; // OUT_OF_RANGE, or 0 where rules' ports do not count
    __u32 upper_offset; // of the transport header, from the start of the frame
    __be32 source[4];
    __be32 destination[4];
};

struct map_definition SECTION("maps") scratch = {
    BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(__u32), sizeof(struct packet), 1, 0};

// ---- Verdicts -----------------------------------------------------------------------------------

INLINE int counted(enum counter which, int verdict)
{
    __u32 key = which;
    __u64 *value = map_lookup(&counters, &key);
    if (value)
        *value += 1;
    return verdict;
}

INLINE int to_data_plane(struct xdp_md *context)
{
    int verdict = redirect_map(&xsks_map, context->rx_queue_index, XDP_DROP);
    return counted(verdict == XDP_REDIRECT ? STEERED : DROPPED_NO_SOCKET, verdict);
}

INLINE int has_ports(__u8 protocol)
{
    return protocol == TCP || protocol == UDP || protocol == UDP_LITE || protocol == SCTP ||
           protocol == DCCP;
}

// Set in the difference of two ports when it is negative.
#define OUT_OF_RANGE 0x10000u

// 0 when the rule matches. All conditions at once, by arithmetic: a comparison is a branch, and with
// one for each condition the verifier walked through 80,000 instructions instead of 6,500.
INLINE __u32 rule_differs(const struct management_rule *rule, const struct packet *packet)
{
    __u32 port = packet->port;
    __u32 differs = rule->family ^ packet->family;

    differs |= rule->protocol_mask & (rule->protocol ^ packet->protocol);
    for (int word = 0; word < 4; word++)
        differs |= (packet->source[word] & rule->mask[word]) ^ rule->address[word];
    differs |= packet->port_mask & ((port - rule->port_first) | (rule->port_last - port));
    return differs;
}

INLINE int on_management_list(struct packet *packet, __u32 flags)
{
    __u32 key = flags & SECOND_LIST ? 1 : 0;
    const struct management_list *list = map_lookup(&management, &key);
    // A later fragment has no ports. Without its first fragment, which has, the kernel delivers
    // nothing.
    int any_port = packet->later_fragment || (!has_ports(packet->protocol) &&
                   packet->protocol != ICMP && packet->protocol != ICMPV6);

    packet->port_mask = any_port ? 0 : OUT_OF_RANGE;
    WAYS_MEET();
    if (!list)
        return 0;
    for (__u32 i = 0; i < MANAGEMENT_RULES_MAX; i++) {
        if (i >= list->rules)
            return 0;
        if (!rule_differs(&list->rule[i], packet))
            return 1;
    }
    return 0;
}

// Does a socket of the box talk to the sender already?
INLINE int answers_the_box(struct xdp_md *context, const struct packet *packet)
{
    struct bpf_sock_tuple tuple = {};
    __u32 size;
    __u32 state;
    struct bpf_sock *socket;

    if (packet->family == 4) {
        tuple.ipv4.saddr = packet->source[0];
        tuple.ipv4.daddr = packet->destination[0];
        tuple.ipv4.sport = packet->source_port_wire;
        tuple.ipv4.dport = packet->destination_port_wire;
        size = sizeof(tuple.ipv4);
    } else {
        __builtin_memcpy(tuple.ipv6.saddr, packet->source, 16);
        __builtin_memcpy(tuple.ipv6.daddr, packet->destination, 16);
        tuple.ipv6.sport = packet->source_port_wire;
        tuple.ipv6.dport = packet->destination_port_wire;
        size = sizeof(tuple.ipv6);
    }
    if (packet->protocol == TCP) {
        socket = lookup_tcp(context, &tuple, size, BPF_F_CURRENT_NETNS, 0);
        if (!socket)
            return 0;
        state = socket->state;
        release(socket);
        return state != STATE_LISTEN && state != STATE_CLOSE && state != STATE_NEW_SYN_RECV;
    }
    socket = lookup_udp(context, &tuple, size, BPF_F_CURRENT_NETNS, 0);
    if (!socket)
        return 0;
    state = socket->state;
    release(socket);
    // A connected socket; an unconnected one takes datagrams from anybody.
    return state == STATE_ESTABLISHED;
}

// Answers to echo requests, and errors: the kernel checks that they quote a packet of its own.
INLINE int icmp_answer(const struct packet *packet)
{
    if (packet->later_fragment)
        return 0;
    if (packet->family == 4 && packet->protocol == ICMP)
        return packet->port == 0 || packet->port == 3 || packet->port == 11 || packet->port == 12;
    if (packet->family == 6 && packet->protocol == ICMPV6)
        return packet->port == 129 || (packet->port >= 1 && packet->port <= 4);
    return 0;
}

INLINE int quotes_tcp_or_udp(const struct packet *packet)
{
    return packet->family == 4 && packet->protocol == ICMP && !packet->later_fragment &&
           (packet->port == 3 || packet->port == 11 || packet->port == 12);
}

// Is the packet that an ICMP error quotes, of the usual form, one of a connected socket of the box?
// Puts the quoted packet's ends in place of the error's own, as its answer would have them.
INLINE int quotes_the_box(struct xdp_md *context, struct packet *packet)
{
    void *data = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;
    __u32 offset = packet->upper_offset;
    struct ipv4 *quoted;
    __be16 *ports;

    if (offset > OFFSET_MAX)
        return 0;
    quoted = data + offset + 8;
    ports = (void *)(quoted + 1);
    if ((void *)(ports + 2) > end || quoted->version_and_length != 0x45 ||
        (quoted->protocol != TCP && quoted->protocol != UDP))
        return 0;
    packet->protocol = quoted->protocol;
    packet->source[0] = quoted->destination;
    packet->destination[0] = quoted->source;
    packet->source_port_wire = ports[1];
    packet->destination_port_wire = ports[0];
    return answers_the_box(context, packet);
}

INLINE int neighbour_discovery(const struct packet *packet)
{
    return packet->family == 6 && packet->protocol == ICMPV6 && !packet->later_fragment &&
           packet->port >= 133 && packet->port <= 137;
}

INLINE int multicast_listener(const struct packet *packet)
{
    return packet->family == 6 && packet->protocol == ICMPV6 && !packet->later_fragment &&
           ((packet->port >= 130 && packet->port <= 132) || packet->port == 143);
}

INLINE int dhcpv6_answer(const struct packet *packet)
{
    return packet->family == 6 && packet->protocol == UDP && !packet->later_fragment &&
           packet->source_port_wire == to_network16(DHCPV6_SERVER) &&
           packet->port == DHCPV6_CLIENT_PORT;
}

INLINE int first_of_tcp_or_udp(const struct packet *packet)
{
    return (packet->protocol == TCP || packet->protocol == UDP) && !packet->later_fragment;
}

// Judges a packet for the box itself.
INLINE int judge(struct xdp_md *context, struct packet *packet, const struct port_config *config)
{
    __u32 flags = config->flags;

    if (neighbour_discovery(packet)) {
        // RFC 4861 sections 6.1 and 7.1: hop limit 255 proves the sender is on the link;
        // RFC 6980: never fragmented.
        if (packet->hop_limit != 255 || packet->fragmented)
            return counted(DROPPED_HOP_LIMIT, XDP_DROP);
        return counted(PASSED_NEIGHBOUR_DISCOVERY, XDP_PASS);
    }
    if (multicast_listener(packet))
        return counted(PASSED_MULTICAST_LISTENER, XDP_PASS);
    if (flags & DATA_PLANE_PORTS && first_of_tcp_or_udp(packet) && !packet->multicast &&
        config->data_plane_ports_first <= packet->port &&
        packet->port <= config->data_plane_ports_last)
        return to_data_plane(context);
    if (flags & DHCP_CLIENT && dhcpv6_answer(packet))
        return counted(PASSED_DHCP, XDP_PASS);
    WAYS_MEET();
    if (on_management_list(packet, flags))
        return counted(PASSED_MANAGEMENT, XDP_PASS);
    WAYS_MEET();
    if (packet->multicast)
        return counted(DROPPED_MULTICAST, XDP_DROP);
    if (flags & SHARED && quotes_tcp_or_udp(packet))
        return quotes_the_box(context, packet) ? counted(PASSED_ICMP, XDP_PASS)
                                               : to_data_plane(context);
    WAYS_MEET();
    if (!(flags & SHARED) && icmp_answer(packet))
        return counted(PASSED_ICMP, XDP_PASS);
    WAYS_MEET();
    if (first_of_tcp_or_udp(packet) && answers_the_box(context, packet))
        return counted(PASSED_ANSWER, XDP_PASS);
    if (flags & SHARED)
        return to_data_plane(context);
    return counted(DROPPED_MANAGEMENT, XDP_DROP);
}

// ---- Parsing ------------------------------------------------------------------------------------

// What a parser answers: the packet is for the box and filled in, or the frame has its verdict.
#define FOR_THE_BOX (-1)

// Reads ports or ICMP type.
INLINE int read_ports(struct xdp_md *context, struct packet *packet)
{
    void *data = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;
    __u32 offset = packet->upper_offset;
    __u8 protocol = packet->protocol;
    __be16 *ports;

    if (packet->later_fragment)
        return FOR_THE_BOX;
    if (offset > OFFSET_MAX)
        return counted(DROPPED_EXTENSION_HEADERS, XDP_DROP);
    ports = data + offset;
    if (has_ports(protocol) || protocol == ICMP || protocol == ICMPV6) {
        if ((void *)(ports + 2) > end)
            return counted(DROPPED_MALFORMED, XDP_DROP);
        packet->source_port_wire = ports[0];
        packet->destination_port_wire = ports[1];
        packet->port = has_ports(protocol) ? to_host16(ports[1]) : *(__u8 *)ports;
    }
    return FOR_THE_BOX;
}

// The server may answer to the address it offers, which is not the box's yet.
INLINE int dhcp_answer(const struct ipv4 *ip, void *end)
{
    const __be16 *ports = (const void *)(ip + 1);

    return ip->protocol == UDP && ip->version_and_length == 0x45 &&
           !(ip->fragment & to_network16(IPV4_FRAGMENT_OFFSET)) &&
           (const void *)(ports + 2) <= end && ports[0] == to_network16(DHCP_SERVER) &&
           ports[1] == to_network16(DHCP_CLIENT_PORT);
}

INLINE int parse_ipv4(struct xdp_md *context, __u32 flags, struct packet *packet)
{
    void *data = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;
    struct ipv4 *ip = data + sizeof(struct ethernet);
    __u32 header_length;
    __be32 destination;

    // What cannot be read is for the data plane to name: the kernel does not see it.
    if ((void *)(ip + 1) > end)
        return to_data_plane(context);
    if (flags & DHCP_CLIENT && dhcp_answer(ip, end))
        return counted(PASSED_DHCP, XDP_PASS);
    destination = ip->destination;
    packet->multicast = ((__u8 *)&destination)[0] >> 4 == 0xe || destination == 0xffffffff;
    if (!packet->multicast && !map_lookup(&local_v4, &destination))
        return to_data_plane(context);

    header_length = (ip->version_and_length & 0xf) * 4;
    if (ip->version_and_length >> 4 != 4 || header_length < sizeof(*ip))
        return counted(DROPPED_MALFORMED, XDP_DROP);
    packet->family = 4;
    packet->protocol = ip->protocol;
    packet->hop_limit = ip->time_to_live;
    packet->later_fragment = (ip->fragment & to_network16(IPV4_FRAGMENT_OFFSET)) != 0;
    packet->source[0] = ip->source;
    packet->source[1] = packet->source[2] = packet->source[3] = 0;
    packet->destination[0] = destination;
    packet->upper_offset = sizeof(struct ethernet) + header_length;
    return FOR_THE_BOX;
}

// Walks the extension headers to the upper protocol; 0 when there are too many or too long ones.
INLINE int walk_extension_headers(struct xdp_md *context, struct packet *packet)
{
    void *data = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;

    packet->upper_offset = sizeof(struct ethernet) + sizeof(struct ipv6);
    for (int i = 0; i <= EXTENSION_HEADERS_MAX; i++) {
        __u32 offset = packet->upper_offset;
        __u8 protocol = packet->protocol;
        struct ipv6_extension *header;

        // Routing headers towards the box itself are of no use but to go round a filter (RFC 5095).
        if (protocol == ROUTING)
            return 0;
        if (protocol != HOP_BY_HOP && protocol != DESTINATION_OPTIONS && protocol != FRAGMENT)
            return 1;
        if (i == EXTENSION_HEADERS_MAX || offset > OFFSET_MAX)
            return 0;
        header = data + offset;
        if ((void *)(header + 1) > end)
            return 0;
        packet->protocol = header->next_header;
        if (protocol == FRAGMENT) {
            packet->fragmented = 1;
            packet->upper_offset = offset + sizeof(*header);
            packet->later_fragment =
                (header->fragment & to_network16(IPV6_FRAGMENT_OFFSET)) != 0;
            if (packet->later_fragment)
                return 1;
        } else {
            packet->upper_offset = offset + (header->length + 1) * 8;
        }
    }
    return 0;
}

INLINE int parse_ipv6(struct xdp_md *context, struct packet *packet)
{
    void *data = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;
    struct ipv6 *ip = data + sizeof(struct ethernet);

    if ((void *)(ip + 1) > end)
        return to_data_plane(context);
    __builtin_memcpy(packet->destination, ip->destination, 16);
    packet->multicast = *(__u8 *)ip->destination == 0xff;
    if (!packet->multicast && !map_lookup(&local_v6, packet->destination))
        return to_data_plane(context);

    if (*(__u8 *)ip >> 4 != 6)
        return counted(DROPPED_MALFORMED, XDP_DROP);
    packet->family = 6;
    packet->protocol = ip->next_header;
    packet->hop_limit = ip->hop_limit;
    __builtin_memcpy(packet->source, ip->source, 16);
    packet->fragmented = 0;
    packet->later_fragment = 0;
    if (!walk_extension_headers(context, packet))
        return counted(DROPPED_EXTENSION_HEADERS, XDP_DROP);
    return FOR_THE_BOX;
}

SECTION("xdp") int portcullis(struct xdp_md *context)
{
    void *data = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;
    struct ethernet *ethernet = data;
    __u32 zero = 0;
    int verdict;

    struct port_config *config = map_lookup(&port_config, &zero);
    struct packet *packet = map_lookup(&scratch, &zero);
    if (!packet || !config || !(config->flags & CONFIGURED))
        return counted(DROPPED_UNCONFIGURED, XDP_DROP);
    if (config->flags & TRANSPARENT)
        return to_data_plane(context);
    if ((void *)(ethernet + 1) > end)
        return counted(DROPPED_MALFORMED, XDP_DROP);

    switch (to_host16(ethernet->type)) {
    case TYPE_IPV4:
        verdict = parse_ipv4(context, config->flags, packet);
        break;
    case TYPE_IPV6:
        verdict = parse_ipv6(context, packet);
        break;
    case TYPE_ARP:
        return counted(PASSED_ARP, XDP_PASS);
    case TYPE_VLAN:
    case TYPE_QINQ:
        return to_data_plane(context);
    default:
        return counted(DROPPED_ETHER_TYPE, XDP_DROP);
    }
    if (verdict == FOR_THE_BOX)
        verdict = read_ports(context, packet);
    if (verdict == FOR_THE_BOX)
        verdict = judge(context, packet, config);
    return verdict;
}

// No helper used here asks for a licence compatible with the kernel's.
char license_text[] SECTION("license") = "Apache-2.0 OR MIT";
