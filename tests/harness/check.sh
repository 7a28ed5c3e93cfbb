# The harness's own test: what it must find, it finds. sh check.sh CONTAINED
set -eu
cd "$(dirname "$0")"
. ./report.sh
. ./leftovers.sh
. ./contain.sh
. ./table.sh
. ./lanes.sh
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

# How long it takes, and how much it calculates.
clock=$scratch/clock
times=$scratch/times
begin_clock
sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done'
sleep 0.2
end_clock "a case"
awk -F '\t' '{ exit !($1 > $2 + 150 && $2 > 10 && $3 == "a case") }' "$times" || { cat "$times"; exit 1; }

# The table: a whole case, a part of one, one that isn't there, and one that the table doesn't have.
unset SBX_LONG
table=$scratch/table
cat >"$table" <<'END'
# CASE
one     user,root       beside  why
two     user,root*      alone   why
    a_part another
gone    user            beside  why
END
printf '%s\tprogram\t/%s\n' one one two two new new >"$scratch/available"
printf '%s\n' 'one beside - program /one' 'two alone a_part another program /two' \
    'new missing - program /new' >"$scratch/expected"
expect "the jobs of root" "$(cat "$scratch/expected")" "$(jobs root "$scratch/available" | tr '\t' ' ')"
printf '%s\n' 'one beside - program /one' 'two alone - program /two' \
    'new missing - program /new' >"$scratch/expected"
expect "the jobs of root with --long" "$(cat "$scratch/expected")" \
    "$(SBX_LONG=1 && jobs root "$scratch/available" | tr '\t' ' ')"
expect "the jobs of nocap with --long" "new missing - program /new" \
    "$(SBX_LONG=1 && jobs nocap "$scratch/available" | tr '\t' ' ')"
expect "the jobs of nocap" "new missing - program /new" "$(jobs nocap "$scratch/available" | tr '\t' ' ')"
expect "the jobs of a run of one's own" "one two new" "$(jobs self "$scratch/available" | cut -f 1 | tr '\n' ' ' | sed 's/ $//')"
expect "a row without a case" "gone: there is no such case" "$(odd_rows "$scratch/available")"
printf '%s\n' 'one all beside why' 'gone user* soon why' >"$table"
expect "odd rows" "5" "$(odd_rows "$scratch/available" | grep -c .)"

# What comes while the rest is built, and in the lane for what waits.
coming() {
    for came in program:beside program:counts program:waits program:alone program:missing python:beside; do
        ! comes_now "$1" "${came%:*}" "${came#*:}" || printf '%s ' "$came"
    done
}
expect "the early cases" "program:beside program:counts program:waits " "$(coming early)"
expect "the cases that wait" "program:waits " "$(coming waits)"
expect "the cases of languages" "program:beside program:counts program:waits python:beside " "$(coming languages)"
expect "all cases" 6 "$(coming '' | wc -w)"

# One lane takes a case, and who wants to be alone waits for it and is waited for.
work=$scratch
mkdir "$work/taken"
take user "a case" || { printf 'a case can not be taken\n'; exit 1; }
if take user "a case"; then
    printf 'a case is taken twice\n'
    exit 1
fi
: >"$scratch/order"
take_turn beside
(
    take_turn alone
    echo alone >>"$scratch/order"
) &
alone=$!
# It stands at the gate.
until ! flock --nonblock "$work/gate" true; do :; done
(
    take_turn beside
    echo later >>"$scratch/order"
) &
later=$!
echo first >>"$scratch/order"
give_turn
wait "$alone" "$later"
expect "the order of turns" "first alone later" "$(tr '\n' ' ' <"$scratch/order" | sed 's/ $//')"

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
