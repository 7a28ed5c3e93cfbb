# The harness's own test: what it must find, it finds. sh check.sh CONTAINED
set -eu
cd "$(dirname "$0")"
. ./report.sh
. ./leftovers.sh
. ./contain.sh
contained=$1
if [ "$contained" = true ]; then
    contain
fi
scratch=$(mktemp -d /var/tmp/sbx-harness.XXXXXX)
watched=$scratch/watched
results=$scratch/results
mkdir "$watched"
trap 'rm -rf "$scratch"' EXIT

expect() {
    [ "$2" = "$3" ] || { printf '%s: expected "%s", got "%s"\n' "$1" "$2" "$3"; exit 1; }
}

# The counts come from what the programs said, and a crash after all tests had passed is a failure.
said='test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s'
count() {
    printf '%s\n' "$1" >"$scratch/log"
    : >"$results"
    record_rust name "$2" "$scratch/log" >/dev/null
    cut -f 1-3 "$results" | tr '\t' ' '
}
expect "a good program" "3 0 1" "$(count "$said" 0)"
expect "a crash after the result" "3 1 1" "$(count "$said" 139)"
expect "a program that says nothing" "0 1 0" "$(count "" 0)"
expect "a failed test" "2 1 0" "$(count 'test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured' 101)"

: >"$results"
if conclude >/dev/null; then
    printf 'no case at all counts as success\n'
    exit 1
fi
record 1 0 0 one "$scratch/log" >/dev/null
expect "the last line" "1 passed, 0 failed" "$(conclude | tail -n 1)"
record 0 1 0 two "$scratch/no-such-log" >/dev/null
expect "the last line, where a log is missing" "1 passed, 1 failed" "$(conclude 2>&1 | tail -n 1)"

# left WHAT: whether it is found.
tries_before_giving_up=2
left() {
    : >"$scratch/left"
    if nothing_left "$scratch/before" "$scratch/left"; then
        printf '%s left over is not found\n' "$1"
        exit 1
    fi
    grep -q "^left over: $1 " "$scratch/left" || { printf '%s:\n' "$1"; cat "$scratch/left"; exit 1; }
}
snapshot "$scratch/before"
nothing_left "$scratch/before" "$scratch/left" || { cat "$scratch/left"; exit 1; }

touch "$watched/file"
left file
rm -f "$watched/file"
if [ "$contained" = true ]; then
    sleep 1000 &
    left process
    kill $!
    wait $! || :
    mount -t tmpfs tmpfs /mnt
    left mount
    umount /mnt
    unshare --net sleep 1000 &
    sleeper=$!
    until [ "$(readlink /proc/$sleeper/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do :; done
    left 'network namespace'
    kill $sleeper
    wait $sleeper || :
fi
nothing_left "$scratch/before" "$scratch/left" || { cat "$scratch/left"; exit 1; }
