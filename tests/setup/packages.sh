# Programs of the distribution that are needed. Sourced, after say.sh.
#
# Where apt-get exists and we are root, what is missing is installed; else it is named.

# provides ITEM: whether what stands before the colon is here. A name with a slash is a file, else a program.
provides() {
    case $1 in
        */*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# need_packages PROGRAM:PACKAGE...: installs the packages of those programs that are missing.
need_packages() {
    missing_packages=
    for item in "$@"; do
        if ! provides "${item%%:*}"; then
            missing_packages="$missing_packages ${item##*:}"
        fi
    done
    if [ -z "$missing_packages" ]; then
        return 0
    fi
    missing_packages=$(printf '%s\n' $missing_packages | sort -u | tr '\n' ' ')
    if ! command -v apt-get >/dev/null 2>&1; then
        give_up "these packages are missing (Debian's names): $missing_packages" \
            "install them with this system's package manager and start again"
    fi
    if [ "$(id -u)" != 0 ]; then
        give_up "these packages are missing: $missing_packages" \
            "install them and start again: sudo apt-get install $missing_packages"
    fi
    say "installing $missing_packages"
    export DEBIAN_FRONTEND=noninteractive
    # Package lists age: they are fetched only when the installation fails with the ones that are here.
    if ! apt-get install -qq -y --no-install-recommends $missing_packages >/dev/null 2>&1; then
        apt-get update -qq
        apt-get install -qq -y --no-install-recommends $missing_packages >/dev/null
    fi
    for item in "$@"; do
        provides "${item%%:*}" || give_up "${item%%:*} is still missing after ${item##*:} was installed"
    done
}

# What building and running the examples takes.
need_build_packages() {
    # Inside a sandbox /usr is the host's: the server of the examples is the system's own Python, wherever
    # the one in PATH may be.
    need_packages cc:gcc ar:binutils curl:curl /etc/ssl/certs/ca-certificates.crt:ca-certificates \
        /usr/bin/python3:python3
    # The keeper is linked statically: libc.a, which comes with the C library's headers.
    static_libc=$(cc -print-file-name=libc.a)
    if [ "$static_libc" = libc.a ]; then
        need_packages "/usr/lib/$(cc -dumpmachine)/libc.a:libc6-dev"
    fi
}

# What the tests take beyond that.
need_test_packages() {
    need_packages c++:g++ nm:binutils readelf:binutils ip:iproute2 setpriv:util-linux unshare:util-linux \
        /usr/bin/busybox:busybox-static docker-registry:docker-registry gzip:gzip \
        skopeo:skopeo umoci:umoci \
        lsns:util-linux timeout:coreutils openssl:openssl nft:nftables \
        "/usr/lib/$(cc -dumpmachine)/faketime/libfaketimeMT.so.1:libfaketime" fsck.erofs:erofs-utils zstd:zstd
}
