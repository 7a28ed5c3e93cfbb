#!/bin/sh
# Programs of tests/*.rs under cgroup v2, as root and as an ordinary user: sh tests/long/cgroups.sh [PROGRAM...]
#
# Each in a virtual machine of its own (tests/vm/cgroups.sh), one after another, so that one which hangs or fails hides no other.
# It is emulated: the programs are optimised, or they outlast the tests' patience. SBX_VM_KERNEL and SBX_VM_RELEASE choose another
# kernel. The last lines are how many tests of each passed, failed, and were left out. Logs: target/vm/logs.
#
# Left out are programs that need no sandbox (abi, header, layers, validation), those that measure or are nothing but load, which say
# nothing in an emulator (crowd, crowded, exec_burst, flood, many, mixed, neighbours, storm), and those of the Internet of our own
# (internet), whose servers and captures are too much for it.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh

if [ $# = 0 ]; then
    set -- limits_of_memory life exec config limits stats files files_archives files_operations streams terminal secrets names ready \
        events lifetime tunnels warm spares volumes directories images image_root image_build image_layers image_trees snapshots \
        exit_snapshots full_disk rootfs sidecars runsc_faults silent_init hostile_init contract faults
fi
need_build_packages
need_rust
need_runsc

logs=$(pwd)/target/vm/logs
rm -rf "$logs"
mkdir -p "$logs"
target=$(pwd)/target/vm-programs
tests=
for name; do
    tests="$tests --test $name"
done
# shellcheck disable=SC2086 # words
CARGO_TARGET_DIR=$target CARGO_PROFILE_DEV_OPT_LEVEL=2 SBX_TEST_PATIENCE=180 cargo test --quiet --locked --all-features --no-run \
    --message-format=json-render-diagnostics $tests >"$logs/cargo.json"
python3 tests/harness/executables.py <"$logs/cargo.json" >"$logs/executables"

bad=
for name; do
    path=$(awk -F '\t' -v name="$name" '$1 == name { print $2 }' "$logs/executables")
    say "== $name =="
    # Its own five places, and nothing of what the others have.
    case $name in
        limits_of_memory) set -- "$path" "$SBX_RUNSC" ;;
        *) set -- "" "$SBX_RUNSC" "$path" ;;
    esac
    if ! sh tests/vm/cgroups.sh "$@" </dev/null >"$logs/$name.log" 2>&1; then
        bad="$bad $name"
        tail -n 60 "$logs/$name.log"
    fi
    sed -n '/^[^ ]*  *[0-9]* passed, .* left out/,$p' "$logs/$name.log" >>"$logs/counts"
done
say "== on Linux $(sed -n 's/^kernel: //p' "$logs"/*.log | sort -u | tr '\n' ' ') =="
cat "$logs/counts"
[ -z "$bad" ] || give_up "tests failed under cgroup v2:$bad" "logs: $logs"
