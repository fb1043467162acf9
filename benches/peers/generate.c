// A sender of small packets that is not the bottleneck.
//
//   generate INTERFACE SECONDS FRAME_BYTES FLOWS SOURCE_MAC TARGET_MAC SOURCE TARGET
//
// Sends UDP out of a veth, at most for 60 s. An XDP program writes each frame anew and redirects it
// (BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES, linux 5.18): no socket, no system call a
// frame. The other end of the veth needs GRO or an XDP program to take such frames. Prints the
// seconds it took. FRAME_BYTES counts the frame check sequence that no veth has; flows differ by
// source port and, beyond 1024, by the last two bytes of the source address.
//
// Built by forwarding.sh: cc -O2 -Wall -Wextra generate.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    HEADER_BYTES = 14 + 20 + 8,
    FRAME_CHECK_BYTES = 4,
    FLOWS_OF_AN_ADDRESS = 1024,
    BATCH_FRAMES = 64,
};

struct program {
    struct bpf_insn instructions[64];
    unsigned count;
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long bpf(int command, union bpf_attr *attributes) {
    return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

static void add(struct program *program, int code, int to, int from, int offset, int value) {
    program->instructions[program->count++] = (struct bpf_insn){
        .code = code, .dst_reg = to, .src_reg = from, .off = offset, .imm = value};
}

static int load(const struct program *program) {
    static char log[1 << 16];
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_XDP;
    attributes.insns = (unsigned long)program->instructions;
    attributes.insn_cnt = program->count;
    attributes.license = (unsigned long)"GPL";
    attributes.log_buf = (unsigned long)log;
    attributes.log_size = sizeof log;
    attributes.log_level = 1;
    long descriptor = bpf(BPF_PROG_LOAD, &attributes);
    if (descriptor < 0) {
        fputs(log, stderr);
        fail("load the program");
    }
    return (int)descriptor;
}

static unsigned interface_index(const char *name) {
    unsigned index = if_nametoindex(name);
    if (index == 0)
        fail(name);
    return index;
}

static void read_mac(const char *text, unsigned char *mac) {
    if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4,
               mac + 5) != 6) {
        fprintf(stderr, "not a MAC address: %s\n", text);
        exit(2);
    }
}

static void read_address(const char *text, unsigned char *address) {
    if (inet_pton(AF_INET, text, address) != 1) {
        fprintf(stderr, "not an IPv4 address: %s\n", text);
        exit(2);
    }
}

static void put_16(unsigned char *at, unsigned value) {
    at[0] = value >> 8;
    at[1] = value & 0xff;
}

// Sum of the IPv4 header's words, its checksum field being zero.
static unsigned header_sum(const unsigned char *header) {
    unsigned sum = 0;
    for (int at = 0; at < 20; at += 2)
        sum += header[at] << 8 | header[at + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static void write_frame(unsigned char *frame, unsigned bytes, char **addresses) {
    read_mac(addresses[0], frame + 6);
    read_mac(addresses[1], frame);
    put_16(frame + 12, 0x0800);
    frame[14] = 0x45;
    put_16(frame + 16, bytes - 14);
    frame[22] = 64;
    frame[23] = IPPROTO_UDP;
    read_address(addresses[2], frame + 26);
    read_address(addresses[3], frame + 30);
    put_16(frame + 36, 9);
    put_16(frame + 38, bytes - 34);
}

// Writes the headers of one of the flows, by chance, and sends the frame out of the interface. All
// of it for every frame: the memory comes back as the last receiver left it.
static void write_program(struct program *program, const unsigned char *frame, unsigned flows,
                          unsigned interface) {
    const int context = 6, data = 7, flow = 8, host = 9;
    const int alu = BPF_ALU64;
    add(program, alu | BPF_MOV | BPF_X, context, 1, 0, 0);
    add(program, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_prandom_u32);
    add(program, alu | BPF_MOD | BPF_K, 0, 0, 0, (int)flows);
    add(program, alu | BPF_MOV | BPF_X, flow, 0, 0, 0);
    add(program, alu | BPF_MOV | BPF_X, host, 0, 0, 0);
    add(program, alu | BPF_AND | BPF_K, flow, 0, 0, FLOWS_OF_AN_ADDRESS - 1);
    add(program, alu | BPF_ADD | BPF_K, flow, 0, 0, 10000);
    add(program, alu | BPF_RSH | BPF_K, host, 0, 0, __builtin_ctz(FLOWS_OF_AN_ADDRESS));
    add(program, BPF_LDX | BPF_MEM | BPF_W, data, context, offsetof(struct xdp_md, data), 0);
    add(program, BPF_LDX | BPF_MEM | BPF_W, 2, context, offsetof(struct xdp_md, data_end), 0);
    add(program, alu | BPF_MOV | BPF_X, 3, data, 0, 0);
    add(program, alu | BPF_ADD | BPF_K, 3, 0, 0, HEADER_BYTES);
    unsigned bounds = program->count;
    add(program, BPF_JMP | BPF_JGT | BPF_X, 3, 2, 0, 0);
    for (int at = 0; at < 40; at += 4) {
        int word;
        memcpy(&word, frame + at, 4);
        add(program, BPF_ST | BPF_MEM | BPF_W, data, 0, at, word);
    }
    add(program, BPF_ST | BPF_MEM | BPF_H, data, 0, 40, 0);
    // The checksum follows the source address.
    add(program, alu | BPF_MOV | BPF_X, 3, host, 0, 0);
    add(program, alu | BPF_ADD | BPF_K, 3, 0, 0, (int)header_sum(frame + 14));
    add(program, alu | BPF_MOV | BPF_X, 4, 3, 0, 0);
    add(program, alu | BPF_RSH | BPF_K, 4, 0, 0, 16);
    add(program, alu | BPF_ADD | BPF_X, 3, 4, 0, 0);
    add(program, alu | BPF_XOR | BPF_K, 3, 0, 0, 0xffff);
    add(program, BPF_ALU | BPF_END | BPF_TO_BE, 3, 0, 0, 16);
    add(program, BPF_STX | BPF_MEM | BPF_H, data, 3, 24, 0);
    add(program, alu | BPF_ADD | BPF_K, host, 0, 0, frame[28] << 8 | frame[29]);
    add(program, BPF_ALU | BPF_END | BPF_TO_BE, host, 0, 0, 16);
    add(program, BPF_STX | BPF_MEM | BPF_H, data, host, 28, 0);
    add(program, BPF_ALU | BPF_END | BPF_TO_BE, flow, 0, 0, 16);
    add(program, BPF_STX | BPF_MEM | BPF_H, data, flow, 34, 0);
    add(program, alu | BPF_MOV | BPF_K, 1, 0, 0, (int)interface);
    add(program, alu | BPF_MOV | BPF_K, 2, 0, 0, 0);
    add(program, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect);
    add(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    program->instructions[bounds].off = (short)(program->count - bounds - 1);
    add(program, alu | BPF_MOV | BPF_K, 0, 0, 0, XDP_DROP);
    add(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void interrupt(int signal) {
    (void)signal;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void send_frames(char **arguments) {
    unsigned interface = interface_index(arguments[0]);
    double seconds = atof(arguments[1]);
    unsigned bytes = (unsigned)atoi(arguments[2]) - FRAME_CHECK_BYTES;
    unsigned flows = (unsigned)atoi(arguments[3]);
    if (!(seconds > 0 && seconds <= 60) || bytes < 60 || bytes > 1514 || flows == 0 ||
        flows > 1 << 20) {
        fputs("SECONDS: up to 60, FRAME_BYTES: 64 to 1518, FLOWS: 1 to 1048576\n", stderr);
        exit(2);
    }
    unsigned char frame[1514] = {0};
    write_frame(frame, bytes, arguments + 4);
    struct program program = {.count = 0};
    write_program(&program, frame, flows, interface);

    // The kernel runs the program until a signal comes.
    signal(SIGALRM, interrupt);
    struct itimerval timer = {.it_value = {.tv_sec = (long)seconds,
                                           .tv_usec = (long)(seconds * 1e6) % 1000000}};
    struct xdp_md context = {.data_end = bytes};
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.test.prog_fd = load(&program);
    attributes.test.data_in = (unsigned long)frame;
    attributes.test.data_size_in = bytes;
    attributes.test.ctx_in = (unsigned long)&context;
    attributes.test.ctx_size_in = sizeof context;
    attributes.test.repeat = 1 << 30;
    attributes.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    attributes.test.batch_size = BATCH_FRAMES;
    double start = now();
    setitimer(ITIMER_REAL, &timer, NULL);
    if (bpf(BPF_PROG_TEST_RUN, &attributes) < 0 && errno != EINTR)
        fail("run the program");
    printf("%.3f\n", now() - start);
}

int main(int count, char **arguments) {
    if (count != 9) {
        fputs("usage: generate INTERFACE SECONDS FRAME_BYTES FLOWS SOURCE_MAC TARGET_MAC SOURCE "
              "TARGET\n",
              stderr);
        return 2;
    }
    send_frames(arguments + 1);
    return 0;
}
