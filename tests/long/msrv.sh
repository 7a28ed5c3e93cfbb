#!/bin/sh
# The oldest Rust that Cargo.toml promises builds the library: sh tests/long/msrv.sh
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/toolchains.sh

need_rust
oldest=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
need_toolchain "$oldest.0"
cargo "+$oldest.0" check --locked --all-features --target-dir target/msrv
