#!/bin/sh
# The oldest dependencies that Cargo.toml allows build the library: sh tests/long/minimal.sh
#
# In a copy: Cargo.lock stays as it is.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/toolchains.sh

need_rust
need_toolchain "$nightly"
copy=$(mktemp -d /var/tmp/sbx-minimal.XXXXXX)
trap 'rm -rf "$copy"' EXIT
trap 'exit 130' INT TERM
git ls-files -z | tar -c --null --files-from=- | tar -x -C "$copy"
target=$(pwd)/target/minimal
cd "$copy"
cargo "+$nightly" update --quiet -Z direct-minimal-versions
cargo "+$nightly" check --locked --all-features --target-dir "$target"
