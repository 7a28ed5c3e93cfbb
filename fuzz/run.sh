#!/bin/sh
# Fuzzing: sh fuzz/run.sh [TARGET [SECONDS]]. Without a TARGET all of them, a minute each.
#
# A target is a function of src/fuzz.rs, or fuzz/config. libFuzzer drives it by what of the code each input
# reaches, and the address sanitizer watches, for which a nightly Rust is installed below target/. Inputs begin with
# fuzz/seeds/TARGET. One that fails is kept in target/fuzz/failures: mend what it shows, and add it to the seeds, which
# the library's own tests try again.
set -eu
cd "$(dirname "$0")/.."
. tests/setup/say.sh
. tests/setup/toolchains.sh

targets=${1:-client_hello dns wire tar layer registry dockerfile cidr events config}
seconds=${2:-60}

need_rust
need_toolchain "$nightly"
host=$(rustc "+$nightly" -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Zsanitizer=address -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# With --target, programs that run while building are built without the flags.
for target in $targets; do
    RUSTFLAGS=$(echo $flags) cargo "+$nightly" build --quiet --release --locked --manifest-path fuzz/Cargo.toml \
        --target "$host" --target-dir target/fuzz --bin "$target"
    mkdir -p "target/fuzz/corpus/$target" target/fuzz/failures
    say "== $target, $seconds s =="
    "target/fuzz/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="target/fuzz/failures/$target-" "target/fuzz/corpus/$target" "fuzz/seeds/$target"
done
