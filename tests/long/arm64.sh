#!/bin/sh
# The library is checked for arm64, and the keeper's program is built and linked for it: sh tests/long/arm64.sh
#
# The C compiler for the other machine comes out of Debian's packages into target/arm64, not installed. Nothing is run: a
# machine of that kind, or a whole one emulated, isn't had here.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh

need_rust
need_packages dpkg-deb:dpkg readelf:binutils
tools=$(pwd)/target/arm64
if [ ! -e "$tools/usr/bin/aarch64-linux-gnu-gcc-12" ]; then
    say "fetching a C compiler for arm64"
    rm -rf "$tools" "$tools.new"
    mkdir -p "$tools.new"
    (
        cd "$tools.new"
        apt-get -qq download gcc-12-aarch64-linux-gnu cpp-12-aarch64-linux-gnu binutils-aarch64-linux-gnu \
            libc6-dev-arm64-cross libc6-arm64-cross linux-libc-dev-arm64-cross libgcc-12-dev-arm64-cross \
            libgcc-s1-arm64-cross >/dev/null
        for package in ./*.deb; do
            dpkg-deb --extract "$package" .
        done
        rm -f ./*.deb
        for tool in gcc gcc-ar; do
            ln -s "aarch64-linux-gnu-$tool-12" "usr/bin/aarch64-linux-gnu-$tool"
        done
    ) || give_up "Debian 12's packages of a C compiler for arm64 could not be fetched; apt-get said why above"
    mv "$tools.new" "$tools"
fi
host=$(rustc -vV | sed -n 's/^host: //p')
need_toolchain 1.95.0
rustup --quiet target add --toolchain 1.95.0 aarch64-unknown-linux-gnu

export LD_LIBRARY_PATH="$tools/usr/lib/$(cc -dumpmachine)"
export PATH="$tools/usr/bin:$PATH"
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
cargo +1.95.0 check --locked --all-features --target aarch64-unknown-linux-gnu --target-dir target/arm64-build
program=$(find target/arm64-build -path '*keeper-target/aarch64-unknown-linux-gnu/release/sbx-keeper' | head -n 1)
readelf -h "$program" | grep 'Machine: *AArch64'
! readelf -l "$program" | grep INTERP
