#!/bin/sh
# A victim beside attackers: sh neighbour.sh HERE WORK BIN USER ROUNDS SAMPLES SLOW ATTACK...
#
# run.sh starts it in network and mount namespaces of its own; they stand for the host and go with it. What is measured
# is left in WORK/neighbour.samples: see neighbour.c.
set -eu
here=$1
work=$2
bin=$3
user=$4
rounds=$5
samples=$6
slow=$7
shift 7
. "$here/far.sh"

# Processor time of a process of ours, in ticks, and the time since the machine's start, in hundredths of a second.
ticks_of() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | awk '{ print $12 + $13 }'; }
hundredths() { awk '{ print int($1 * 100) }' /proc/uptime; }

# What the host program can't start itself: see neighbour.c.
serve_outside() {
    outside=
    while read -r verb words <&4; do
        case $verb in
        start)
            # shellcheck disable=SC2086 # words
            set -- $words
            program=$1
            shift
            # A session of its own, and so the scheduler's group of its own (sched(7), autogroup): a client far away doesn't
            # take the library's part of the processor by the number of its threads.
            setsid "$bin/$program" "$@" </dev/null >/dev/null 2>"$work/outside.log" 3>&- 4<&- &
            outside=$!
            since=$(hundredths)
            echo 0 >&3
            ;;
        stop)
            ticks=$(ticks_of "$outside") passed=$(($(hundredths) - since))
            kill "$outside" 2>/dev/null || { cat "$work/outside.log" >&2; give_up "the attacker outside ended early"; }
            wait "$outside" 2>/dev/null || true
            outside=
            # A tick is a hundredth of a second, on every Linux that people run.
            echo $((${ticks:-0} * 1000 / (passed > 0 ? passed : 1))) >&3
            ;;
        esac
    done
    [ -z "$outside" ] || kill "$outside" 2>/dev/null || true
}

root=$work/neighbour-root
mkdir -p "$root/proc" "$root/dev" "$root/sys" "$root/tmp" "$root/etc"
cp "$bin/server" "$bin/attack" "$root/"
: >"$work/neighbour.samples"
chown "$user" "$work/neighbour.samples"
lay_far
run_far "$bin/attack" deaf 7005
run_far "$bin/attack" names 5353
round=1
while [ "$round" -le "$rounds" ]; do
    rm -f "$work/neighbour.in" "$work/neighbour.out"
    mkfifo "$work/neighbour.in" "$work/neighbour.out"
    (as_user "$bin/neighbour" "$work/neighbour.samples" "$root" "$far_address" "$samples" "$slow" quiet "$@" \
        <"$work/neighbour.in" >"$work/neighbour.out" 2>"$work/neighbour.log") &
    host=$!
    started="$started $host"
    exec 3>"$work/neighbour.in" 4<"$work/neighbour.out"
    serve_outside
    exec 3>&- 4<&-
    wait "$host" || { cat "$work/neighbour.log" >&2; give_up "the host of victim and neighbour failed"; }
    round=$((round + 1))
done
