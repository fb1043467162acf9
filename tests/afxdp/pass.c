// Somebody else's XDP program. Built by: clang -O2 -g0 -target bpf -c pass.c -o pass.o
__attribute__((section("xdp"), used)) int stranger(void *context) { return 2; }
char license_text[] __attribute__((section("license"), used)) = "MIT";
