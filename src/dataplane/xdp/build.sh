#!/usr/bin/env bash
# Builds the checked-in object of the steering program, or checks that it is what the source gives.
#
#   build.sh           compiles steer.c into steer.o
#   build.sh --check   compiles into a temporary file and compares
#
# Needs clang and the kernel's user-space headers (linux-libc-dev), nothing of libbpf. Compilers
# differ in the code they choose, so the object is made by the clang of Debian 12.
set -euo pipefail
cd "$(dirname "$0")"

CLANG_MAJOR=14

main() {
    local compiler
    case ${1:-} in
        '')
            compiler=$(find_clang) || fail "clang $CLANG_MAJOR is not installed (Debian: clang-14)"
            compile "$compiler" steer.o
            ;;
        --check)
            if compiler=$(find_clang); then
                check "$compiler"
            else
                printf 'steer.o not compared: clang %s is not installed\n' "$CLANG_MAJOR"
            fi
            ;;
        *) fail "unknown argument $1; allowed: --check" ;;
    esac
}

fail() {
    printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

find_clang() {
    local candidate
    for candidate in "clang-$CLANG_MAJOR" clang; do
        command -v "$candidate" >/dev/null || continue
        if [ "$("$candidate" -dumpversion | cut -d. -f1)" = "$CLANG_MAJOR" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

compile() {
    "$1" -O2 -g0 -Wall -Wextra -Werror -target bpf -mcpu=v3 \
        -I "/usr/include/$(uname -m)-linux-gnu" -c steer.c -o "$2"
}

check() {
    local fresh
    fresh=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -f '$fresh'" EXIT
    compile "$1" "$fresh"
    cmp -s "$fresh" steer.o && return
    printf 'steer.o is not what steer.c compiles to; run %s/build.sh\n' "$PWD" >&2
    # For people: what changed, where a disassembler is at hand.
    local disassemble=llvm-objdump-$CLANG_MAJOR
    if command -v "$disassemble" >/dev/null; then
        diff <("$disassemble" -d -r steer.o) <("$disassemble" -d -r "$fresh") | head -n 40 >&2
    fi
    exit 1
}

main "$@"
