#!/bin/sh
# All tests: sh tests/run.sh [--long] [filter]
#
# Installs what is missing, builds, and runs every test as an ordinary user, as root, and as uid 0 without
# capabilities, each run in namespaces of its own where nothing outside can be reached. Who isn't root gets the
# first run only. --long also runs what takes an hour, as an ordinary user: storms, 1,000 kills, 10,000 programs, other
# kernels. A filter is a part of a test's name.
#
# The last line is "N passed, N failed". The exit status is 0 if nothing failed. Logs: target/test-logs.
set -eu
cd "$(dirname "$0")/.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. tests/setup/quic.sh
. tests/setup/docker.sh
. tests/harness/report.sh

filter=
for argument in "$@"; do
    case $argument in
        --long)
            SBX_LONG=1
            export SBX_LONG
            ;;
        -*) give_up "unknown option $argument" "usage: sh tests/run.sh [--long] [filter]" ;;
        *) filter=$argument ;;
    esac
done

need_build_packages
need_test_packages
need_rust
need_rust_components
need_runsc

CARGO_TARGET_DIR=$(pwd)/target
export CARGO_TARGET_DIR
logs=$(pwd)/target/test-logs
results=$logs/results
rm -rf "$logs"
mkdir -p "$logs"
: >"$results"

# Not below /tmp, where every run sees an empty directory of its own.
work=$(mktemp -d /var/tmp/sbx-tests.XXXXXX)
clean_up() {
    if [ -d "$work/logs" ]; then
        cp -R "$work/logs/." "$logs"
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

wanted() {
    case $1 in
        *"$filter"*) return 0 ;;
        *) return 1 ;;
    esac
}

# check NAME COMMAND...: a case that is one command, run once, in place.
check() {
    check_name=$1
    shift
    if wanted "$check_name"; then
        check_log=$logs/$(printf '%s' "$check_name" | tr ' /' '--').log
        check_status=0
        "$@" </dev/null >"$check_log" 2>&1 || check_status=$?
        record_status "$check_name" "$check_status" "$check_log"
    fi
}

# CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_ADMIN, CAP_SYS_ADMIN: other identities, and namespaces.
contained=false
if able 6 && able 7 && able 8 && able 12 && able 21 &&
    unshare --net --pid --fork --mount --mount-proc true 2>/dev/null; then
    contained=true
fi

# in_namespaces COMMAND...: process, mount and network namespaces of its own, gone when the command ends.
in_namespaces() {
    if [ "$contained" = true ]; then
        unshare --net --pid --fork --mount --mount-proc --kill-child "$@"
    else
        "$@"
    fi
}

# offline COMMAND...: without anything outside that could be contacted; leftovers make it fail.
offline() {
    in_namespaces sh "$(pwd)/tests/harness/offline.sh" "$contained" "$work/before" "$@"
}

say "== the harness, style, and the build =="
check "harness" in_namespaces sh "$(pwd)/tests/harness/check.sh" "$contained"
check "cargo fmt" cargo fmt --all -- --check
check "cargo clippy" cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
check "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features
check "cargo test --doc" cargo test --locked --doc --all-features

built=0
cargo test --locked --all-features --no-run --message-format=json-render-diagnostics \
    >"$logs/cargo.json" 2>"$logs/build.log" || built=$?
if [ "$built" = 0 ]; then
    cargo build --locked --all-features --quiet >>"$logs/build.log" 2>&1 || built=$?
fi
if [ "$built" != 0 ]; then
    record_status "build" "$built" "$logs/build.log"
    conclude
    exit 1
fi
python3 tests/harness/executables.py <"$logs/cargo.json" >"$logs/executables"

# What every identity can read, laid out as cargo lays it out: tests look for the library beside themselves.
say "== once, in place =="
mkdir -p "$work/target/debug/deps" "$work/checkout" "$work/c"
while IFS='	' read -r name path <&4; do
    once=
    if grep -qx "$name" tests/harness/once; then
        once=once
        if [ -n "$filter" ] && ! wanted "$name"; then
            set -- "$filter"
        else
            set --
        fi
        status=0
        offline env CARGO_MANIFEST_DIR="$(pwd)" timeout -k 10 900 "$path" "$@" </dev/null >"$logs/$name.log" 2>&1 || status=$?
        record_rust "$name" "$status" "$logs/$name.log"
    else
        cp "$path" "$work/target/debug/deps/"
    fi
    printf '%s\t%s\t%s\n' "$name" "$path" "$once" >>"$work/executables"
done 4<"$logs/executables"
cp target/debug/libsbx.so "$work/target/debug/deps/"
for directory in "$work/target/debug" "$work/target/debug/deps"; do
    [ -e "$directory/libsbx.so" ] || ln -s deps/libsbx.so "$directory/libsbx.so"
    ln -s libsbx.so "$directory/libsbx.so.0"
done
for directory in include tests examples; do
    if [ -d "$directory" ]; then
        cp -R "$directory" "$work/checkout/"
    fi
done
cp "$SBX_RUNSC" "$work/runsc"
# compile_c SOURCE: a C program that uses the library, into $work/c.
compile_c() {
    compile_name=${1##*/}
    cc -std=c99 -Wall -Wextra -Wpedantic -Werror -Iinclude "$1" \
        "-L$work/target/debug/deps" -lsbx -o "$work/c/${compile_name%.c}"
}
for program in http_server plain_tunnel egress limits files exec doctor; do
    check "c/$program compiles" compile_c "examples/c/$program.c"
done
# Whatever the filter: the cases that use them say so if they aren't there.
for source in tests/harness/internet/sandbox.c examples/c/egress.c; do
    compile_c "$source" >"$logs/internet-programs.log" 2>&1 ||
        record_status "${source##*/} compiles" 1 "$logs/internet-programs.log"
done
if wanted "internet/quic"; then
    check "internet/quic builds" build_quic "$work/quic"
fi
if [ "$contained" = true ] && wanted "internet/docker"; then
    need_docker
    place_docker "$work/docker-bin"
    printf '%s\n' "$docker_programs" >"$work/docker-programs"
    check "internet/docker builds" cc -std=c99 -Wall -Wextra -Wpedantic -Werror -static \
        tests/harness/internet/container.c -o "$work/container"
fi
# Other languages: each builds what it needs and adds its cases to what is run under each identity.
: >"$work/cases"
. tests/bindings/common.sh
for language in tests/bindings/[a-z]*/build.sh; do
    . "$language"
done
chmod -R a+rX "$work"

if wanted "quickstart"; then
    # Crates are fetched before; the quickstart itself is shown to need nothing from outside.
    cargo build --release --locked --quiet >"$logs/release.log" 2>&1 || :
    check "quickstart" offline env CARGO_NET_OFFLINE=true sh examples/quickstart.sh
fi

# run_as RUN: a run under that identity; its results are added to ours.
run_as() {
    say "== $1 =="
    : >"$work/results"
    status=0
    in_namespaces env CI="${CI:-}" filter="$filter" \
        sh "$work/checkout/tests/harness/run.sh" "$1" "$contained" "$work" || status=$?
    cat "$work/results" >>"$results"
    recorded=$(date +%s)
    if [ "$status" != 0 ]; then
        printf 'the run ended with %s\n' "$status" >"$logs/$1.log"
        record_status "$1" "$status" "$logs/$1.log"
    fi
}

if [ "$contained" = true ]; then
    run_as user
    run_as root
    run_as nocap
else
    run_as self
fi
if [ -n "${SBX_LONG:-}" ]; then
    run_as long
    if [ "$contained" = true ]; then
        check "cgroup v2 in a virtual machine" sh tests/vm/cgroups.sh \
            "$(awk -F '\t' '$1 == "limits_of_memory" { print $2 }' "$logs/executables")" "$SBX_RUNSC"
    fi
fi
if [ "$contained" != true ]; then
    say "== left out =="
    left_out="this isn't root with CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SETUID, CAP_SETGID and CAP_SETPCAP"
    say "$left_out:" \
        "the runs under other identities, and network namespaces in which nothing outside can be reached"
    if [ "${CI:-}" = true ]; then
        for run in user root nocap; do
            printf '%s\n' "$left_out" >"$logs/left-out.log"
            record_status "$run: left out" 1 "$logs/left-out.log"
        done
    fi
fi

# The logs are named where they stay.
clean_up
sed "s|$work/logs|$logs|" "$results" >"$results.final"
mv "$results.final" "$results"
conclude
