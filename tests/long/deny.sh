#!/bin/sh
# Licences, bans, sources and advisories of all that is depended on, by deny.toml: sh tests/long/deny.sh
#
# Where the database of advisories can't be fetched (https://github.com/RustSec/advisory-db), that is said and the rest
# is checked.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/toolchains.sh

need_rust
PATH=$(pwd)/target/tools/bin:$PATH
if ! cargo deny --version >/dev/null 2>&1; then
    say "installing cargo-deny (some minutes)"
    cargo install --quiet --locked --version 0.20.2 --root target/tools --target-dir target/tools/build cargo-deny
fi
cargo deny --locked check bans licenses sources
if git ls-remote https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then
    cargo deny --locked check advisories
else
    say "advisories: NOT CHECKED, since their database can't be fetched here"
fi
