#!/bin/sh
# All tests: sh tests/run.sh [--long] [filter]
#
# Installs what is missing, builds, and runs every test, as an ordinary user, as root, and as uid 0 without
# capabilities: tests/harness/cases says which as whom. Cases run side by side, two that compute and one that waits, each in
# namespaces where nothing outside can be reached. The first begin as soon as Rust's tests are built; what else is to be built
# and checked, is beside them. Without root all of them run once, one at a time. --long also runs what takes hours: storms,
# 1,000 kills and 10,000 programs as an ordinary user, whole cases where else a part of them runs under an identity, other
# kernels, other toolchains (tests/long), and fuzzing. A filter is a part of a test's name.
#
# The last line is "N passed, N failed". The exit status is 0 if nothing failed. Logs: target/test-logs. How long each
# case took is in the file times there; sh tests/run.sh --times prints the slowest of the last time.
set -eu
cd "$(dirname "$0")/.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. tests/setup/quic.sh
. tests/setup/docker.sh
. tests/harness/report.sh
. tests/harness/table.sh
. tests/harness/lanes.sh

logs=$(pwd)/target/test-logs
filter=
for argument in "$@"; do
    case $argument in
        --long)
            SBX_LONG=1
            export SBX_LONG
            ;;
        --times)
            [ -r "$logs/times" ] || give_up "no tests have run here yet"
            slowest "$logs/times"
            exit 0
            ;;
        -*) give_up "unknown option $argument" "usage: sh tests/run.sh [--long] [filter], or sh tests/run.sh --times" ;;
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
results=$logs/results
times=$logs/times
table=$(pwd)/tests/harness/cases
rm -rf "$logs"
mkdir -p "$logs"
: >"$results"

# Not below /tmp, where every run sees an empty directory of its own.
work=$(mktemp -d /var/tmp/sbx-tests.XXXXXX)
clock=$work/clock
release=
lanes=
clean_up() {
    for process in $release $lanes; do
        kill "$process" 2>/dev/null || :
        wait "$process" || :
    done
    for groups in "$work"/groups.*; do
        [ ! -e "$groups" ] || remove_groups "$groups"
    done
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
        begin_clock
        "$@" </dev/null >"$check_log" 2>&1 || check_status=$?
        end_clock "$check_name"
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
check "bench/report" python3 -B tests/bench/report_test.py
check "cargo fmt" cargo fmt --all -- --check
check "cargo fmt, fuzz targets" cargo fmt --manifest-path fuzz/Cargo.toml -- --check

built=0
begin_clock
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
end_clock build
took=0
python3 tests/harness/executables.py <"$logs/cargo.json" >"$logs/executables"

# What every identity can read, laid out as cargo lays it out: tests look for the library beside themselves.
say "== once, in place =="
mkdir -p "$work/target/debug/deps" "$work/checkout" "$work/c"
rows | awk -F '\t' '$2 == "once" { print $1 }' >"$work/once"
while IFS='	' read -r name path <&4; do
    once=
    if grep -qx "$name" "$work/once"; then
        once=once
        if [ -n "$filter" ] && ! wanted "$name"; then
            set -- "$filter"
        else
            set --
        fi
        status=0
        begin_clock
        offline env CARGO_MANIFEST_DIR="$(pwd)" timeout -k 10 900 "$path" "$@" </dev/null >"$logs/$name.log" 2>&1 || status=$?
        end_clock "$name"
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
mkdir "$work/checkout/fuzz"
cp -R fuzz/seeds "$work/checkout/fuzz/"
cp "$SBX_RUNSC" "$work/runsc"
# compile_c SOURCE: a C program that uses the library, into $work/c.
compile_c() {
    compile_name=${1##*/}
    cc -std=c99 -Wall -Wextra -Wpedantic -Werror -Iinclude "$1" \
        "-L$work/target/debug/deps" -lsbx -o "$work/c/${compile_name%.c}"
}
for program in $c_programs; do
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
# in_lane NAME RUNS [PART]: tests/harness/run.sh, and what came of it.
in_lane() {
    set -- "$1" "$2" "${3:-}" "$logs/lane-$(printf '%s' "$1-$2-${3:-}" | tr ' ' '-').log"
    in_lane_status=0
    (
        [ "$counts" = alone ] || enter_groups "sbx-tests-$1.$$"
        # A shell's children in the background ignore what Ctrl-C sends; tests must not.
        set -- env --default-signal=INT,QUIT CI="${CI:-}" filter="$filter" counts="$counts" lane="$1" \
            sh "$work/checkout/tests/harness/run.sh" "$2" "$contained" "$work" ${3:+"$3"}
        if [ "$contained" = true ]; then
            # What it holds goes with this shell.
            set -- setpriv --pdeathsig KILL unshare --net --pid --fork --mount --mount-proc --kill-child "$@"
        fi
        exec "$@"
    ) || in_lane_status=$?
    if [ "$in_lane_status" != 0 ]; then
        printf 'it ended with %s\n' "$in_lane_status" >"$4"
        record_status "lane $1: $2" "$in_lane_status" "$4"
    fi
}

# until_built MARK: waits until build_the_rest has come so far.
until_built() {
    until [ -e "$work/$1" ]; do
        sleep 0.1
    done
}

# lane NAME PART RUN...: takes from the cases of these runs what no other lane has taken: first that part of those that are built
# before the others, then those of the languages, those with an Internet of our own, a run's all in one place, and what is to be
# alone. The lane for what waits has only the first and those with an Internet.
lane() {
    results=$work/results
    lane=$1
    lane_part=$2
    shift 2
    in_lane "$lane" "$*" "$lane_part"
    if [ "$lane_part" != waits ]; then
        until_built languages-built
        in_lane "$lane" "$*" languages
    fi
    until_built all-built
    for lane_run in "$@"; do
        if take "$lane_run" "all with an Internet"; then
            in_lane "$lane" "$lane_run" internet
        fi
    done
    if [ "$lane_part" != waits ]; then
        in_lane "$lane" "$*" cases
    fi
}

# A row that names nothing may be a test that was lost.
table_is_whole() {
    {
        available
        cut -f 1 "$work/executables"
        # Built with --long only.
        echo c/installed
        echo go/cgocheck2
    } >"$work/available"
    odd_rows "$work/available" >"$work/odd-rows"
    cat "$work/odd-rows"
    ! [ -s "$work/odd-rows" ]
}
# What is built and checked while the first cases run. Those come before it. First what other cases wait for.
build_the_rest() {
    # What an optimised library takes is built beside the rest.
    if wanted "quickstart"; then
        cargo build --release --locked --quiet >"$logs/release.log" 2>&1 &
        release=$!
    fi
    . tests/bindings/common.sh
    for language in tests/bindings/[a-z]*/build.sh; do
        . "$language"
    done
    # What lanes have of their own comes and goes.
    find "$work" -mindepth 1 -maxdepth 1 ! -name 'lane.*' ! -name logs -exec chmod -R a+rX {} +
    : >"$work/languages-built"
    check "cargo clippy" cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
    check "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features
    check "cargo test --doc" cargo test --locked --doc --all-features
    if [ -z "$filter" ]; then
        check "tests/harness/cases" table_is_whole
    fi
    # What is to be alone comes after all of it.
    [ -z "$release" ] || wait "$release" || :
    release=
    : >"$work/all-built"
}

mkdir "$work/taken"
: >"$work/results"
: >"$work/times"
# Other languages add theirs.
: >"$work/cases"
chmod -R a+rX "$work"
lanes=
counts=alone
if [ "$contained" = true ]; then
    if make_groups "sbx-tests-1.$$" && make_groups "sbx-tests-2.$$" && make_groups "sbx-tests-3.$$"; then
        counts=beside
    fi
    say "== side by side: user, root, nocap; and what else is built and checked =="
    for number in 1 2; do
        lane "$number" early user root nocap &
        lanes="$lanes $!"
    done
    lane 3 waits user root nocap &
    lanes="$lanes $!"
    # It takes what the lanes leave of the processors.
    renice -n 10 -p $$ >/dev/null
    build_the_rest
    renice -n 0 -p $$ >/dev/null || :
    for number in $lanes; do
        wait "$number" || :
    done
    lanes=
else
    say "== what else is built and checked =="
    build_the_rest
    say "== self =="
    (lane self early self)
fi
if wanted "quickstart"; then
    # Crates have been fetched; the quickstart itself is shown to need nothing from outside.
    check "quickstart" offline env CARGO_NET_OFFLINE=true sh examples/quickstart.sh
fi
if [ -n "${SBX_LONG:-}" ]; then
    say "== long =="
    # Each installs what it takes below target/, and says so if that can't be had.
    for name in deny msrv arm64 minimal miri tsan images packages places integrations integrations_agents ray docs; do
        check "long/$name" sh "tests/long/$name.sh"
    done
    for name in client_hello dns wire tar layer registry dockerfile cidr events config; do
        check "long/fuzz/$name" sh fuzz/run.sh "$name" 180
    done
    counts=alone
    in_lane long long
    if [ "$contained" = true ]; then
        check "cgroup v2 in a virtual machine" sh tests/long/cgroups.sh
        if wanted "cgroup v2 in a virtual machine" && [ -e target/vm/logs/counts ]; then
            cat target/vm/logs/counts
        fi
    fi
fi
cat "$work/results" >>"$results"
cat "$work/times" >>"$times"
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
