#!/bin/sh
# The unit tests of what is plain Rust, interpreted by Miri, which sees undefined behaviour that a processor doesn't show:
# sh tests/long/miri.sh
#
# Policies, the wire format, the reactor's tables, DNS messages, and rates. Left out are those that take very long, and
# property tests have a few cases each: Miri is some thousand times slower.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/toolchains.sh

need_rust
need_toolchain "$nightly" miri rust-src
# The environment is the tests' own, and proptest looks for files.
export MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=2
cargo "+$nightly" miri test --locked --lib --target-dir target/miri -- \
    policy:: keeper::tests::wire_bytes reactor::key reactor::slab reactor::turns::tests::a_ \
    egress::bucket egress::dns::form_tests egress::dns::name egress::dns::record \
    --skip policy::model_tests --skip sets_and_verdict_agree --skip a_huge_text --skip as_many_records_as_fit
