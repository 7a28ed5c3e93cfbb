# One run: every test program and every example under one identity. sh run.sh RUN CONTAINED WORK
#
# RUN is user, root, nocap, or self where we can't become anybody; or long: what is left out of the others because of
# the time that it takes, once, as the least of them. CONTAINED is true where this shell is process 1 of process, mount
# and network namespaces of the run's own. WORK is the copy that every identity can read.
set -eu
run=$1
contained=$2
work=$3
. "$work/checkout/tests/harness/report.sh"
. "$work/checkout/tests/harness/leftovers.sh"
. "$work/checkout/tests/harness/identity.sh"
. "$work/checkout/tests/harness/internet/lay.sh"
. "$work/checkout/tests/harness/internet/neighbours.sh"
. "$work/checkout/tests/harness/internet/docker.sh"
. "$work/checkout/tests/harness/contain.sh"
results=$work/results
logs=$work/logs/$run
mkdir -p "$logs" "$work/snapshots"

if [ "$contained" = true ]; then
    contain
    TMPDIR=/tmp
    watched='/tmp /run /dev/shm'
    foreground=
else
    TMPDIR=$work/tmp
    mkdir "$TMPDIR"
    watched=$TMPDIR
    # Ctrl-C must reach the test: there is no process 1 here whose death takes it along.
    foreground=--foreground
fi

# Whom we become.
identity=$run
if [ "$run" = long ]; then
    identity=self
    if [ "$contained" = true ]; then
        identity=user
    fi
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

# execute LOG COMMAND...: as the run's identity, with an environment made from scratch.
execute() (
    log=$1
    shift
    cd "$work/checkout"
    exec </dev/null >"$log" 2>&1
    as "$identity" env -i PATH="$PATH" HOME=/ LANG=C.UTF-8 TMPDIR="$TMPDIR" RUST_BACKTRACE=1 \
        CI="${CI:-}" ${internet:+"SBX_TEST_INTERNET=$internet"} SBX_TEST_RUN="$told" SBX_RUNSC="$work/runsc" ${long:+"SBX_LONG=$long"} \
        ${limits:+"SBX_TEST_LIMITS=$limits"} \
        CARGO_MANIFEST_DIR="$work/checkout" LD_LIBRARY_PATH="$work/target/debug/deps" \
        timeout $foreground -k 10 "$limit" "$@"
)

# run_case NAME KIND COMMAND...: KIND is rust or status.
leaks=0
internet=
run_case() {
    case_name=$1
    case_kind=$2
    shift 2
    case_log=$logs/$(printf '%s' "$case_name" | tr ' /' '--').log
    snapshot "$work/snapshots/$run"
    case_status=0
    execute "$case_log" "$@" || case_status=$?
    "record_$case_kind" "$run: $case_name" "$case_status" "$case_log"
    if ! nothing_left "$work/snapshots/$run" "$case_log.left"; then
        leaks=$((leaks + 1))
        {
            printf '%s\n' "$case_name:"
            head -n 20 "$case_log.left"
        } >>"$logs/leaks.log"
    fi
}

limit=900
long=
if [ "$run" = long ]; then
    limit=14400
    long=1
fi
: >"$logs/leaks.log"

while IFS='	' read -r name path once <&4; do
    if [ "$once" = once ] || [ "$name" = internet ]; then
        continue
    fi
    set --
    case $name in
        *"$filter"*) ;;
        *) set -- "$filter" ;;
    esac
    case $long:$name in
        # These do more of the same when they are told to.
        1:crowd | 1:lifetime | 1:storm) set -- "$@" --include-ignored ;;
        1:*) set -- "$@" --ignored ;;
    esac
    run_case "$name" rust "$work/target/debug/deps/${path##*/}" "$@"
done 4<"$work/executables"

for program in http_server plain_tunnel egress limits files exec doctor; do
    [ -z "$long" ] || continue
    case "c/$program" in
        *"$filter"*) ;;
        *) continue ;;
    esac
    [ -x "$work/c/$program" ] || continue
    if [ "$program" = http_server ]; then
        run_case "c/$program" status sh examples/c/http_server.sh "$work/c/$program"
    else
        run_case "c/$program" status "$work/c/$program"
    fi
done

# Programs in other languages, as tests/bindings has built them.
while IFS='	' read -r name kind command <&5; do
    [ -z "$long" ] || continue
    case $name in
        *"$filter"*) run_case "$name" "$kind" sh -c "$command" ;;
    esac
done 5<"$work/cases"

# same_host_network NAME: a case that compares it with what it was.
same_host_network() {
    network_log=$logs/$(printf '%s' "$1" | tr ' /' '--').log
    host_network "$work/host-network.after" 2>"$network_log"
    network_status=0
    diff "$work/host-network.before" "$work/host-network.after" >>"$network_log" || network_status=$?
    record_status "$1" "$network_status" "$network_log"
}

# The case with a docker of its own: everything of that docker's stays as it is, byte for byte.
run_docker() {
    docker_capture=$work/docker-capture.$run
    mkdir "$docker_capture"
    if lay_docker "$work/docker" "$(cat "$work/docker-programs")" "$work/container" &&
        lay_capture docker0 "$docker_capture"; then
        # nft warns of tables that iptables has made.
        host_network "$work/host-network.before" 2>/dev/null
        run_case "internet/docker" status \
            /usr/bin/python3 tests/harness/internet/docker.py "$internet" "$docker_capture" "$container"
        same_host_network "$run: internet: docker's network is as it was"
        lift_capture
    else
        cp "$work/docker/log" "$logs/docker.log"
        record_status "$run: internet/docker" 1 "$logs/docker.log"
    fi
    lift_docker
}

# Where nothing may go, beyond the machine. The oracle is the same for every run: one shows that it works.
# The one with a docker of its own comes before what looks like docker's.
internet_cases="docker allowlist default egress example live quic flood"
if [ "$run" = user ]; then
    internet_cases="$internet_cases oracle"
elif [ "$run" = long ]; then
    internet_cases=live
fi
internet=
neighbours=
for internet_case in $internet_cases; do
    case "internet/$internet_case" in
        *"$filter"*) ;;
        *) continue ;;
    esac
    # run.sh says what is left out where we can't have namespaces.
    [ "$contained" = true ] || continue
    if [ -z "$internet" ]; then
        internet=$work/internet.$run
        quic=
        [ ! -x "$work/quic" ] || quic=$work/quic
        if ! lay_internet "$internet" ${quic:+"$quic"}; then
            cp "$internet/log" "$logs/internet.log"
            record_status "$run: internet" 1 "$logs/internet.log"
            internet=
            break
        fi
    fi
    if [ -z "$neighbours" ] && [ "$internet_case" != docker ]; then
        lay_neighbours
        host_network "$work/host-network.before"
        neighbours=laid
    fi
    internet_tests=tests/harness/internet
    case $internet_case in
        docker)
            run_docker
            ;;
        egress)
            while IFS='	' read -r name path once <&4; do
                if [ "$name" = internet ]; then
                    run_case "internet/egress" rust "$work/target/debug/deps/${path##*/}" --ignored
                fi
            done 4<"$work/executables"
            ;;
        live | flood)
            run_case "internet/$internet_case" status \
                /usr/bin/python3 "$internet_tests/$internet_case.py" "$internet"
            ;;
        quic)
            run_case "internet/quic" status /usr/bin/python3 "$internet_tests/quic.py" "$internet" "$work/quic"
            ;;
        example)
            # Where the public address answers, the change of policy has a connection to cut.
            run_case "internet/example" status sh -c \
                'said=$("$1" 1.1.1.1 7) && printf "%s\n" "$said" && expr "$said" : ".*the same connection: Connection reset"' \
                - "$work/c/egress"
            ;;
        oracle)
            run_case "internet/oracle" status sh "$internet_tests/oracle.sh" "$work/c/sandbox" "$internet"
            ;;
        *)
            run_case "internet/$internet_case" status \
                sh "$internet_tests/nothing_leaves.sh" "$work/c/sandbox" "$internet" "$internet_case"
            ;;
    esac
done
if [ -n "$neighbours" ]; then
    same_host_network "$run: internet: the host's network is as it was"
fi
if [ -n "$internet" ]; then
    lift_internet
fi

# A filter that names nothing must not look like a test that passed.
if awk -F '\t' '$1 + $2 { found = 1 } END { exit !found }' "$results"; then
    record_status "$run: nothing left by any of them" "$leaks" "$logs/leaks.log"
fi
