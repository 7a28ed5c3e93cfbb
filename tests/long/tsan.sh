#!/bin/sh
# What several threads of the host share, under ThreadSanitizer, which sees races that a run doesn't show: the queue of
# events, operations, the table of handles, the threads of images. sh tests/long/tsan.sh
#
# The standard library is built with it, too: without that, its channels and locks would look like races.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/toolchains.sh

need_rust
need_toolchain "$nightly" rust-src
host=$(rustc "+$nightly" -vV | sed -n 's/^host: //p')
# With --target, programs that run while building are built without the flag.
RUSTFLAGS=-Zsanitizer=thread cargo "+$nightly" test --locked --lib -Zbuild-std --target "$host" \
    --target-dir target/tsan -- event:: ffi::handle sys::handle_page image::workers
