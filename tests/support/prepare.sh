# shellcheck shell=bash disable=SC2034
# What `demo` and `test` need before they start: Debian packages, and a Rust new enough.
# Sourced, with the repository's root as the working directory. Nothing is installed that is there.

# command (or file, or pkg-config module) that proves a package is there, and the package.
BUILD_TOOLS=(
    "/etc/ssl/certs/ca-certificates.crt ca-certificates"
    "curl curl"
    "cc build-essential"
    "make build-essential"
    "pkg-config pkg-config"
    "pc:libelf libelf-dev"
    "pc:zlib zlib1g-dev"
)
NETWORK_TOOLS=(
    "ip iproute2"
    "ping iputils-ping"
    "ethtool ethtool"
    "curl curl"
    "iperf3 iperf3"
    "socat socat"
    "sysctl procps"
    "tcpdump tcpdump"
)

fail() {
    printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# has PROOF: is the thing there? `sbin` is where Debian keeps ip, ethtool and tcpdump, and is not on
# the path of ordinary users.
has() {
    case $1 in
        pc:*) command -v pkg-config >/dev/null && pkg-config --exists "${1#pc:}" ;;
        /*) [ -e "$1" ] ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

# missing_packages "PROOF PACKAGE"...: prints the packages to install.
missing_packages() {
    local entry
    for entry in "$@"; do
        has "${entry% *}" || printf '%s\n' "${entry#* }"
    done | sort -u
}

# as_root COMMAND...: runs it as root, by sudo when we are somebody else.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# need_packages "PROOF PACKAGE"...: installs what is missing, or says what to install.
need_packages() {
    local packages
    mapfile -t packages < <(missing_packages "$@")
    [ "${#packages[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        fail "missing, and no apt-get to install it with: ${packages[*]}"
    echo "installing ${packages[*]}"
    # None of these packages is wanted for its service: noninteractive answers "no daemon".
    as_root env DEBIAN_FRONTEND=noninteractive sh -c '
        apt-get -qq update && apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
    ' sh "${packages[@]}" ||
        fail "cannot install them; do it by hand: apt-get install ${packages[*]}"
}

# The user who owns the build: whoever called sudo, so that no file of theirs ends up root's.
build_user() {
    if [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] &&
        [ "$(stat -c %U .)" = "$SUDO_USER" ]; then
        printf '%s\n' "$SUDO_USER"
    else
        id -un
    fi
}

# as_builder COMMAND...: runs it as that user, with their Rust on the path.
as_builder() {
    local user home
    user=$(build_user)
    home=$(getent passwd "$user" | cut -d: -f6)
    if [ "$user" = "$(id -un)" ]; then
        PATH=${CARGO_HOME:-$home/.cargo}/bin:$PATH "$@"
    else
        sudo --user "$user" --set-home env PATH="$home/.cargo/bin:$PATH" "$@"
    fi
}

# newer_or_equal HAVE WANT
newer_or_equal() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# need_rust: installs the Rust the crate asks for when there is none, or only an older one.
need_rust() {
    local want have
    want=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    have=$(as_builder cargo --version 2>/dev/null | cut -d' ' -f2) || true
    if [ -n "$have" ] && newer_or_equal "$have" "$want"; then
        return 0
    fi
    echo "installing Rust $want (found: ${have:-none})"
    if as_builder sh -c 'command -v rustup' >/dev/null; then
        as_builder rustup toolchain install "$want" --profile minimal \
            --component clippy --component rustfmt && as_builder rustup default "$want"
    else
        curl --proto '=https' --tlsv1.2 --silent --show-error --fail https://sh.rustup.rs |
            as_builder sh -s -- -y --no-modify-path --profile minimal \
                --default-toolchain "$want" --component clippy --component rustfmt
    fi || fail "Rust $want or newer is needed and could not be fetched from https://sh.rustup.rs;
install it by hand (https://www.rust-lang.org/tools/install) and run this again"
}
