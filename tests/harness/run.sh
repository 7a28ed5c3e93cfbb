# A lane: cases one after another, in namespaces of the lane's own. sh run.sh RUNS CONTAINED WORK [PART]
#
# RUNS are the identities whose cases it takes, words of user, root and nocap; or self where no other can be had;
# or long: what is left out of the others because of the time that it takes, once, as the least of them. Lanes side by
# side take from the same cases, each case once; tests/harness/cases says which there are and who waits for whom.
# CONTAINED is true where this shell is process 1 of process, mount and network namespaces of the lane's own. WORK is
# the copy that every identity can read. PART is "cases", or "internet" for those that need an Internet of our own;
# without it both are run. "early" are those of the cases that are built before the others, "waits" those of them that
# wait most of their time, and "languages" all that need not be alone.
set -eu
runs=$1
contained=$2
work=$3
parts=${4:-cases internet}
. "$work/checkout/tests/harness/report.sh"
. "$work/checkout/tests/harness/table.sh"
. "$work/checkout/tests/harness/lanes.sh"
. "$work/checkout/tests/harness/leftovers.sh"
. "$work/checkout/tests/harness/identity.sh"
. "$work/checkout/tests/harness/internet/lay.sh"
. "$work/checkout/tests/harness/internet/neighbours.sh"
. "$work/checkout/tests/harness/internet/docker.sh"
. "$work/checkout/tests/harness/contain.sh"
results=$work/results
times=$work/times
table=$work/checkout/tests/harness/cases
mkdir -p "$work/taken"
# Process ids of two lanes can be the same.
own=$(mktemp -d "$work/lane.XXXXXX")
chmod 755 "$own"
clock=$own/clock
lane=${lane:-$runs}

if [ "$contained" = true ]; then
    contain
    TMPDIR=/tmp
    small_disk=/tmp/small-disk
    watched='/tmp /run /dev/shm'
    foreground=
else
    TMPDIR=$work/tmp
    small_disk=
    mkdir -p "$TMPDIR"
    watched=$TMPDIR
    # Ctrl-C must reach the test: there is no process 1 here whose death takes it along.
    foreground=--foreground
fi

# become RUN: what follows is that run's.
become() {
    run=$1
    logs=$work/logs/$run
    mkdir -p "$logs"
    # The identity to become.
    identity=$run
    limit=900
    long=
    if [ "$run" = long ]; then
        identity=self
        if [ "$contained" = true ]; then
            identity=user
        fi
        limit=14400
        long=1
    fi
    if [ -n "$small_disk" ]; then
        owner=0
        if [ "$identity" = user ]; then
            owner=$ordinary_uid
        fi
        chown "$owner" "$small_disk"
    fi
    # What tests are told which run it is.
    told=$identity
    if [ "$identity" = self ]; then
        told=user
        if [ "$(id -u)" = 0 ]; then
            told=root
        fi
    fi
    # An ordinary user has no control groups there, so that this run has the tests of what is done without any.
    limits=
    if [ "$contained:$identity" = true:user ]; then
        limits=refused
    fi
}

# execute LOG COMMAND...: as the run's identity, with an environment made from scratch.
execute() (
    log=$1
    shift
    # The turn is this shell's, and no test inherits it.
    exec 9>&-
    cd "$work/checkout"
    exec </dev/null >"$log" 2>&1
    as "$identity" env -i PATH="$PATH" HOME=/ LANG=C.UTF-8 TMPDIR="$TMPDIR" RUST_BACKTRACE=1 \
        CI="${CI:-}" ${internet:+"SBX_TEST_INTERNET=$internet"} SBX_TEST_RUN="$told" SBX_RUNSC="$work/runsc" ${long:+"SBX_LONG=$long"} \
        ${small_disk:+"SBX_TEST_SMALL_DISK=$small_disk"} ${limits:+"SBX_TEST_LIMITS=$limits"} ${test_part:+"SBX_TEST_PART=$test_part"} \
        CARGO_MANIFEST_DIR="$work/checkout" LD_LIBRARY_PATH="$work/target/debug/deps" \
        timeout $foreground -k 10 "$limit" "$@"
)

# run_case NAME KIND COMMAND...: KIND says how results are read (report.sh).
leaks=0
internet=
test_part=
run_case() {
    case_name=$1
    case_kind=$2
    shift 2
    case_log=$logs/$(printf '%s' "$case_name" | tr ' /' '--').log
    take_turn "$turn"
    snapshot "$own/snapshot"
    case_status=0
    begin_clock
    execute "$case_log" "$@" || case_status=$?
    end_clock "$run: $case_name"
    "record_$case_kind" "$run: $case_name" "$case_status" "$case_log"
    if ! nothing_left "$own/snapshot" "$case_log.left"; then
        leaks=$((leaks + 1))
        {
            printf '%s\n' "$run: $case_name:"
            head -n 20 "$case_log.left"
        } >>"$own/leaks.log"
    fi
    give_turn
}

: >"$own/leaks.log"

# fail_case NAME MESSAGE: a case that can't be run.
fail_case() {
    fail_log=$logs/$(printf '%s' "$1" | tr ' /' '--').log
    printf '%s\n' "$2" >"$fail_log"
    record_status "$run: $1" 1 "$fail_log"
}

# all_there PROGRAM WORD...: whether each is a part of a test's name.
all_there() {
    list_of=$1
    shift
    "$list_of" --list >"$own/list" 2>/dev/null || return 1
    for word in "$@"; do
        grep -q "^[^ ]*$word.*: test$" "$own/list" || return 1
    done
}

# run_rust NAME PROGRAM PART: what the filter names of it, else that part of it, else all.
run_rust() {
    rust_name=$1
    rust_program=$2
    case $rust_name in
        *"$filter"*) set -- $3 ;;
        *) set -- "$filter" ;;
    esac
    case $long:$rust_name in
        # These do more of the same when they are told to.
        1:crowd | 1:lifetime | 1:mixed | 1:storm) set -- "$@" --include-ignored ;;
        1:*) set -- "$@" --ignored ;;
    esac
    run_case "$rust_name" rust "$rust_program" "$@"
}

# run_job NAME TURN PART KIND COMMAND
run_job() {
    turn=$2
    part=$3
    if [ "$turn" = counts ]; then
        # It counts all control groups: only its own if its lane has some of its own.
        turn=${counts:-beside}
    fi
    # A filter asks for all of a case.
    if [ "$part" = - ] || [ -n "$filter" ]; then
        part=
    fi
    case $4 in
        program)
            if [ -n "$part" ] && ! all_there "$5" $part; then
                fail_case "$1" "the part of it in tests/harness/cases has a word that is in no test's name: $part"
                return 0
            fi
            run_rust "$1" "$5" "$part"
            ;;
        *)
            test_part=
            case $part:$4 in
                :*) ;;
                *:go) test_part="-test.run=^($(printf '%s' "$part" | tr ' ' '|'))\$" ;;
                *:python) test_part=$(printf -- ' -k %s' $part) ;;
                *:node) test_part=$(printf -- ' --test-name-pattern=^%s$' $part) ;;
                *) test_part=$part ;;
            esac
            run_case "$1" "$4" sh -c "$5"
            test_part=
            set -- "$1" $part
            if [ "$((recorded_passed + recorded_ignored))" -lt "$(($# - 1))" ]; then
                fail_case "$1: its part" "fewer tests than tests/harness/cases names: $part"
            fi
            ;;
    esac
}

run_early() {
    run_cases early
}

run_waits() {
    run_cases waits
}

run_languages() {
    run_cases languages
}

run_cases() {
    jobs "$run" "$own/available" >"$own/jobs"
    while IFS='	' read -r name turn part kind command <&4; do
        case $name in
            internet/*) continue ;;
            *"$filter"*) ;;
            # Its tests may have it in their names.
            *) [ "$kind" = program ] || continue ;;
        esac
        if [ -n "$long" ] && [ "$kind" != program ]; then
            continue
        fi
        comes_now "${1:-}" "$kind" "$turn" || continue
        take "$run" "$name" || continue
        if [ "$turn" = missing ]; then
            fail_case "$name" "it isn't in tests/harness/cases: add it, with who runs it and why"
            continue
        fi
        run_job "$name" "$turn" "$part" "$kind" "$command"
    done 4<"$own/jobs"
}

# same_host_network NAME: a case that compares it with what it was.
same_host_network() {
    network_log=$logs/$(printf '%s' "$1" | tr ' /' '--').log
    host_network "$own/host-network.after" 2>"$network_log"
    network_status=0
    diff "$own/host-network.before" "$own/host-network.after" >>"$network_log" || network_status=$?
    record_status "$1" "$network_status" "$network_log"
}

# The case with a docker of its own: everything of that docker's stays as it is, byte for byte.
run_docker() {
    docker_capture=$own/docker-capture
    mkdir "$docker_capture"
    if lay_docker "$own/docker" "$(cat "$work/docker-programs")" "$work/container" &&
        lay_capture docker0 "$docker_capture"; then
        # nft warns of tables that iptables has made.
        host_network "$own/host-network.before" 2>/dev/null
        run_case "internet/docker" status \
            /usr/bin/python3 tests/harness/internet/docker.py "$internet" "$docker_capture" "$container"
        same_host_network "$run: internet: docker's network is as it was"
        lift_capture
    else
        cp "$own/docker/log" "$logs/docker.log"
        record_status "$run: internet/docker" 1 "$logs/docker.log"
    fi
    lift_docker
}

# Where nothing may go, beyond the machine. The oracle is the same for every run: one shows that it works.
# The one with a docker of its own comes before what looks like docker's.
run_internet() {
    # Where there are no namespaces, tests/run.sh says that this is left out.
    [ "$contained" = true ] || return 0
    internet=
    neighbours=
    jobs "$run" "$own/available" | awk -F '\t' '$1 ~ "^internet/"' >"$own/jobs"
    while IFS='	' read -r name turn part kind command <&4; do
        case $name in
            *"$filter"*) ;;
            *) continue ;;
        esac
        if [ -n "$long" ] && [ "$name" != internet/live ]; then
            continue
        fi
        if [ -z "$internet" ]; then
            internet=$own/internet
            quic=
            [ ! -x "$work/quic" ] || quic=$work/quic
            if ! lay_internet "$internet" ${quic:+"$quic"}; then
                cp "$internet/log" "$logs/internet.log"
                record_status "$run: internet" 1 "$logs/internet.log"
                internet=
                break
            fi
        fi
        if [ -z "$neighbours" ] && [ "$name" != internet/docker ]; then
            lay_neighbours
            host_network "$own/host-network.before"
            neighbours=laid
        fi
        internet_tests=tests/harness/internet
        case ${name#internet/} in
            docker)
                run_docker
                ;;
            egress)
                if [ "$part" = - ] || [ "$filter" != "" ]; then
                    part=
                fi
                if [ -n "$part" ] && ! all_there "$command" $part; then
                    fail_case "$name" "the part of it in tests/harness/cases has a word that is in no test's name: $part"
                    continue
                fi
                # Most of their time they wait for time-outs, side by side.
                run_case "$name" rust "$command" --ignored --test-threads 8 $part
                ;;
            live | flood)
                run_case "$name" status /usr/bin/python3 "$internet_tests/${name#internet/}.py" "$internet"
                ;;
            quic)
                run_case "$name" status /usr/bin/python3 "$internet_tests/quic.py" "$internet" "$work/quic"
                ;;
            example)
                # Where the public address answers, the change of policy has a connection to cut.
                run_case "$name" status sh -c \
                    'status=0; said=$("$1" 1.1.1.1 7) || status=$?; printf "%s\n" "$said"
                    [ "$status" = 0 ] && expr "$said" : ".*the same connection: Connection reset"' \
                    - "$work/c/egress"
                ;;
            oracle)
                run_case "$name" status sh "$internet_tests/oracle.sh" "$work/c/sandbox" "$internet"
                ;;
            allowlist | default)
                run_case "$name" status \
                    sh "$internet_tests/nothing_leaves.sh" "$work/c/sandbox" "$internet" "${name#internet/}"
                ;;
        esac
    done 4<"$own/jobs"
    if [ -n "$neighbours" ]; then
        same_host_network "$run: internet: the host's network is as it was"
    fi
    if [ -n "$internet" ]; then
        lift_internet
    fi
    internet=
}

available >"$own/available"
recorded=0
for part_of_run in $parts; do
    for run in $runs; do
        become "$run"
        "run_$part_of_run"
    done
done

# A filter that names nothing must not look like a test that passed.
if [ "$recorded" != 0 ]; then
    logs=$work/logs
    leaks_log=$logs/leaks.${own##*.}.log
    cp "$own/leaks.log" "$leaks_log"
    record_status "$runs, in lane $lane: nothing left by any of them" "$leaks" "$leaks_log"
fi
