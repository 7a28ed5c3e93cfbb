# What is measured. Sourced by run.sh.

kinds="sink source echo hold"

# The ports inside that host.c has the server listen on.
plain_port() {
    case $1 in sink) echo 7001 ;; source) echo 7002 ;; echo) echo 7003 ;; hold) echo 7004 ;; esac
}

encrypted_port() {
    echo $(($(plain_port "$1") + 10))
}

# --- start and terminate -----------------------------------------------------------------------------------

# The program writes one byte and stays. Ours and plain runsc's have the same root file system, and the mounts of
# their configurations are the same; "default" is with the library's own view of the host instead.
measure_lifecycle() {
    rootfs=$work/rootfs
    mkdir -p "$rootfs/proc" "$rootfs/dev" "$rootfs/sys" "$rootfs/tmp" "$rootfs/etc" "$work/bundle"
    cp "$bin/server" "$rootfs/server"
    sed "s|@ROOT@|$rootfs|" "$here/bundle.json" >"$work/bundle/config.json"
    for root in "$rootfs" -; do
        mkdir "$work/state/${root##*/}"
        [ "$(id -u)" != 0 ] || chown "$user" "$work/state/${root##*/}"
        : >"$work/lifecycle"
        with_peers "$root" lifecycle_of "$bin/host" lifecycle "$starts" "$root" "$bin/server" \
            runsc "$bin/raw" "$bin/runsc" "$work/bundle" "$work/state/${root##*/}"
        suffix=
        [ "$root" != - ] || suffix=-default-root
        measure_first "$root" >>"$work/lifecycle"
        while read -r name side microseconds; do
            record "$name$suffix" "$side" "$microseconds"
        done <"$work/lifecycle"
    done
}

# measure_first ROOT: what the first sandbox of a process takes, which looks for runsc and at what the host can do. A
# process for each.
measure_first() {
    turn=0
    while [ "$turn" -lt "$starts" ]; do
        (as_user "$bin/host" first "$turn" "$1" "$bin/server" \
            runsc "$bin/raw" "$bin/runsc" "$work/bundle" "$work/state/${1##*/}/first-$turn") ||
            give_up "the first sandbox of a process failed"
        turn=$((turn + 1))
    done
}

# lifecycle_of COMMAND...: the host program with all its peers.
lifecycle_of() {
    (as_user "$@") >"$work/lifecycle" || give_up "start and terminate failed"
}

# --- where the time of a start goes ------------------------------------------------------------------------

measure_cold() {
    if [ "$(id -u)" != 0 ] || ! command -v perf >/dev/null; then
        echo "cold: left out, it needs root, and perf (Debian's linux-perf)"
        return 0
    fi
    rootfs=$work/cold-rootfs
    mkdir -p "$rootfs/proc" "$rootfs/dev" "$rootfs/sys" "$rootfs/tmp" "$rootfs/etc"
    cp "$bin/server" "$rootfs/server"
    for root in - "@$rootfs"; do
        what="the default root"
        [ "$root" = - ] || what="an image"
        echo "cold start on $what, milliseconds after sbx_create's call: median (tenth to ninetieth of a hundred)"
        python3 "$here/cold.py" "$starts" setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups \
            --inh-caps=-all env -u XDG_RUNTIME_DIR XDG_CACHE_HOME="$work/state" \
            "$bin/host" times "$starts" "$root" "$bin/server" || give_up "cold failed"
    done
}

report_start() {
    for suffix in "" -default-root; do
        figure "start$suffix" runsc us "<=1.15"
        printf '%-22s %10s us         of it\n' "  sbx_create" "$(median "$work/runs.create$suffix.ours")"
        figure "spare$suffix" runsc us "<=1"
        printf '%-22s %10s us         of it\n' "  sbx_create" "$(median "$work/runs.create-spare$suffix.ours")"
        figure "whole$suffix" runsc us
        figure "first$suffix" runsc us
        printf '%-22s %10s us         of it\n' "  sbx_create" "$(median "$work/runs.create-first$suffix.ours")"
        figure "warm$suffix" runsc us "<=0.12"
        printf '%-22s %10s us         of it\n' "  sbx_create" "$(median "$work/runs.create-warm$suffix.ours")"
        report_peers "$suffix"
    done
    measure_docker_start
}

report_terminate() {
    figure terminate runsc us
    awk -v ours="$(median "$work/runs.terminate.ours")" -v theirs="$(median "$work/runs.terminate.runsc")" 'BEGIN {
        beyond = (ours - theirs) / 1000
        printf "%-22s %10.3g %-10s beyond the death of runsc itself  (budget <=20: %s)\n", "terminate", beyond, "ms",
            beyond <= 20 ? "met" : "MISSED" }'
    figure terminate-default-root runsc us
}

# --- exec in a running sandbox -----------------------------------------------------------------------------

# The root file system of start, with two programs that do nothing: a static one, and the system's own with the
# libraries that it names.
exec_rootfs() {
    rootfs=$work/exec-rootfs
    mkdir -p "$rootfs/proc" "$rootfs/dev" "$rootfs/sys" "$rootfs/tmp" "$rootfs/etc" "$rootfs/bin" "$work/exec-bundle"
    cp "$bin/server" "$rootfs/server"
    echo 'int main(void) { return 0; }' >"$work/nothing.c"
    cc -O2 -static "$work/nothing.c" -o "$rootfs/bin/static-true"
    cp "$(command -v /usr/bin/true || command -v /bin/true)" "$rootfs/bin/true"
    ldd "$rootfs/bin/true" | awk '{ for (i = 1; i <= NF; i++) if (substr($i, 1, 1) == "/") print $i }' |
        while read -r library; do
            mkdir -p "$rootfs${library%/*}"
            cp -L "$library" "$rootfs$library"
        done
    sed "s|@ROOT@|$rootfs|" "$here/bundle.json" >"$work/exec-bundle/config.json"
}

# exec_in_turns NAME PROGRAM PEER COMMAND...: the library's side and a peer's, run by run.
exec_in_turns() {
    name=$1 program=$2 peer=$3
    shift 3
    (as_user "$bin/host" exec "$((starts * 4))" "$rootfs" "$program" "$@") >"$work/exec" ||
        give_up "exec against $peer failed"
    while read -r what side microseconds; do
        case $what/$side in
        exec/ours) record "$name" ours "$microseconds" ;;
        exec/theirs) record "$name" "$peer" "$microseconds" ;;
        started/ours) record "$name-started" ours "$microseconds" ;;
        esac
    done <"$work/exec"
}

measure_exec() {
    exec_rootfs
    for program in /bin/true /bin/static-true; do
        name=exec
        [ "$program" = /bin/true ] || name=exec-static
        state=$work/state/$name
        mkdir "$state"
        [ "$(id -u)" != 0 ] || chown "$user" "$state"
        exec_in_turns "$name" "$program" runsc "$bin/raw" "$bin/runsc" "$work/exec-bundle" "$state" exec
    done
    figure exec runsc us "<=0.45"
    printf '%-22s %10s us         of it\n' "  sbx_exec" "$(median "$work/runs.exec-started.ours")"
    figure exec-static runsc us "<=0.25"
    printf '%-22s %10s us         of it\n' "  sbx_exec" "$(median "$work/runs.exec-static-started.ours")"
    measure_sdk_exec
    measure_docker_exec
}

# Only as who may use docker, which is as good as root; with an image made here, so that nothing is fetched.
measure_docker_exec() {
    if ! timeout 10 docker info >/dev/null 2>&1; then
        echo "exec: docker is left out, no daemon answers here"
        return 0
    fi
    image=$(tar -C "$rootfs" -c . | docker import - 2>/dev/null) || give_up "docker import failed"
    container=$(docker run -d --rm --network none "$image" /server byte) || give_up "docker run failed"
    user=$(id -un)
    exec_in_turns exec-docker /bin/true docker "$bin/raw" time docker exec "$container"
    docker kill "$container" >/dev/null
    docker rmi -f "$image" >/dev/null
    figure exec-docker docker us "<=0.45"
}

# --- a sandbox that serves ---------------------------------------------------------------------------------

# start_host [CHAIN KEY]: sets host and keeper, and tunnel_to works.
start_host() {
    rm -f "$work/host.in" "$work/host.out"
    : >"$work/host.out"
    mkfifo "$work/host.in"
    # The line below would wait for a reader, and the host for a writer; 8 is both for a moment.
    exec 8<>"$work/host.in"
    as_user "$bin/host" serve "$bin/server" "$@" <"$work/host.in" 8>&- >"$work/host.out" 2>"$work/host.log" &
    host=$!
    started="$started $host"
    exec 9>"$work/host.in" 8>&-
    for _ in $(seq 300); do
        ! grep -q '^ready' "$work/host.out" || break
        alive "$host" || break
        sleep 0.1
    done
    grep -q '^ready' "$work/host.out" || { cat "$work/host.log" >&2; give_up "the library's sandbox doesn't serve"; }
    keeper=$(awk '$1 == "keeper" { print $2 }' "$work/host.out")
}

tunnel_to() {
    awk -v port="$1" '$1 == "tunnel" && $2 == port { print $3 }' "$work/host.out"
}

# The host ends its sandbox when its standard input ends.
stop_host() {
    exec 9>&-
    wait "$host" || { cat "$work/host.log" >&2; give_up "the library's sandbox didn't end well"; }
    stop "$host"
}

# load_of SIDE NAME KIND MODE COUNT AMOUNT: one run of the load client against one side.
load_of() {
    options=
    address=127.0.0.1
    case $1/$2 in
    straight/*) options="--in $keeper" address=$sandbox_address port=$(plain_port "$3") ;;
    ours/tls-*) options=--tls port=$(tunnel_to "$(encrypted_port "$3")") ;;
    ours/*) port=$(tunnel_to "$(plain_port "$3")") ;;
    */tls-*) options=--tls port=$(port_of "$1" "tls-$3") ;;
    *) port=$(port_of "$1" "$3") ;;
    esac
    value=$("$bin/load" $options "$4" "$address:$port" "$5" "$6") || give_up "$2 of $1: load $4 failed"
    record "$2" "$1" "$value"
}

# in_turns "SIDES" NAME KIND MODE COUNT AMOUNT: the sides right after each other, so that they meet the same machine.
in_turns() {
    sides=$1
    shift
    for side in $sides; do
        load_of "$side" "$@"
    done
}

# loads PREFIX "SIDES": one run of everything there is to measure of a tunnel.
loads() {
    in_turns "$2" "$1-up" sink up 1 "$duration"
    in_turns "$2" "$1-up-4" sink up 4 "$duration"
    in_turns "$2" "$1-down" source down 1 "$duration"
    in_turns "$2" "$1-down-4" source down 4 "$duration"
    in_turns "$2" "$1-rtt" echo rtt 1 4000
    in_turns "$2" "$1-connects" hold connects 1 600
    in_turns "$2" "$1-connects-8" hold connects 8 600
}

# Every other round goes the other way about: no side always comes after the same one.
rounds() {
    round=1
    while [ "$round" -le "$runs" ]; do
        if [ $((round % 2)) = 1 ]; then loads "$1" "$2"; else loads "$1" "$3"; fi
        round=$((round + 1))
    done
}

measure_tunnel() {
    start_host
    start_haproxy "$keeper" "$kinds"
    start_nginx "$keeper" "$kinds"
    rounds tunnel "straight ours haproxy nginx" "nginx haproxy ours straight"
    stop "$nginx"
    stop "$haproxy"
    stop_host
    for name in up up-4 down down-4; do
        figure "tunnel-$name" straight Gbit/s ">=0.85"
        figure "tunnel-$name" haproxy Gbit/s ">=1.3"
        figure "tunnel-$name" nginx Gbit/s
    done
    for peer in straight haproxy nginx; do
        figure tunnel-rtt $peer us
    done
    for name in connects connects-8; do
        for peer in straight haproxy nginx; do
            figure "tunnel-$name" $peer conn/s
        done
    done
}

# --- TLS ---------------------------------------------------------------------------------------------------

# One certificate for both: ECDSA P-256, as the library makes by itself.
make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$work/key.pem" -out "$work/chain.pem" 2>/dev/null ||
        give_up "openssl made no certificate"
    cat "$work/chain.pem" "$work/key.pem" >"$work/both.pem"
    # The key is of this run only, and the ordinary user has to read it.
    chmod 644 "$work/key.pem" "$work/chain.pem"
}

measure_tls() {
    make_certificate
    start_host "$work/chain.pem" "$work/key.pem"
    start_haproxy "$keeper" "$kinds" "$work/both.pem"
    rounds tls "ours haproxy" "haproxy ours"
    stop "$haproxy"
    stop_host
    for name in up up-4 down down-4; do
        figure "tls-$name" haproxy Gbit/s ">=1.2"
    done
    figure tls-rtt haproxy us
    # Each of these connections begins with a whole handshake.
    figure tls-connects haproxy conn/s ">=1.2"
    figure tls-connects-8 haproxy conn/s ">=1.2"
}

# --- memory ------------------------------------------------------------------------------------------------

# memory_of PID FIELD: kilobytes.
memory_of() {
    awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/smaps_rollup"
}

# hold_idle SIDE PID PORT COUNT: bytes by which the process has grown for each idle connection, and all it has.
hold_idle() {
    before=$(memory_of "$2" Rss)
    rm -f "$work/idle.in" "$work/idle.out"
    : >"$work/idle.out"
    mkfifo "$work/idle.in"
    exec 7<>"$work/idle.in"
    "$bin/load" idle "127.0.0.1:$3" "$4" 0 <"$work/idle.in" 7>&- 9>&- >"$work/idle.out" 2>"$work/idle.log" &
    idle=$!
    started="$started $idle"
    exec 6>"$work/idle.in" 7>&-
    while ! grep -q ready "$work/idle.out"; do
        alive "$idle" || { cat "$work/idle.log" >&2; give_up "$4 idle connections to $1 ended early"; }
        sleep 0.2
    done
    after=$(memory_of "$2" Rss)
    exec 6>&-
    wait "$idle" || { cat "$work/idle.log" >&2; give_up "$4 idle connections to $1 failed"; }
    stop "$idle"
    record "memory-idle-$4" "$1" "$(((after > before ? after - before : 0) * 1024 / $4))"
    record "memory-total-$4" "$1" "$after"
}

# Fresh processes for every run, since neither gives back what it once had.
measure_memory() {
    counts="1000 $most_idle"
    [ "$most_idle" = 10000 ] ||
        echo "memory: $most_idle connections instead of 10,000, since $(ulimit -n) descriptors are the limit here"
    for _ in $(seq "$runs"); do
        for count in $counts; do
            start_host
            start_haproxy "$keeper" hold
            # The keeper isn't dumpable: only root may look.
            if [ "$(id -u)" = 0 ]; then
                record keeper-anonymous ours "$(memory_of "$keeper" Anonymous)"
                record keeper-anonymous budget 200
            fi
            hold_idle ours "$host" "$(tunnel_to "$(plain_port hold)")" "$count"
            hold_idle haproxy "$haproxy" "$(port_of haproxy hold)" "$count"
            stop "$haproxy"
            stop_host
        done
    done
    for count in $counts; do
        figure "memory-idle-$count" haproxy B/conn "<=1"
        # The whole of the host program too, lest what was set aside beforehand look like nothing.
        figure "memory-total-$count" haproxy KiB
    done
    if [ "$(id -u)" = 0 ]; then
        figure keeper-anonymous budget KiB "<=1"
    else
        echo "memory: the keeper's is left out, only root can see it"
    fi
}

# --- egress ------------------------------------------------------------------------------------------------

measure_egress() {
    if [ "$(id -u)" != 0 ]; then
        echo "egress: left out, the kernel's NAT needs root"
        return
    fi
    command -v pasta >/dev/null || echo "egress: pasta is left out, it isn't installed"
    unshare --net --mount sh "$here/egress.sh" "$here" "$work" "$bin" "$user" "$runs" "$duration" ||
        give_up "egress failed"
    report_egress
}

report_egress() {
    for name in up up-4 down down-4; do
        figure "egress-$name" nat Gbit/s ">=0.8"
        figure "egress-$name" slirp Gbit/s ">=1"
        ! measured "egress-$name" pasta || figure "egress-$name" pasta Gbit/s ">=1"
    done
    figure egress-rtt nat us
    figure egress-rtt slirp us "<=1"
    ! measured egress-rtt pasta || figure egress-rtt pasta us "<=1"
    for name in connects connects-8; do
        figure "egress-$name" nat conn/s
        figure "egress-$name" slirp conn/s ">=1"
        ! measured "egress-$name" pasta || figure "egress-$name" pasta conn/s ">=1"
    done
    for name in denied-by-sets denied-by-verdict rtt99-quiet rtt99-loading create-1 create-10000 create-100000 \
        change-1 change-10000 change-100000; do
        printf '%-26s %10s us\n' "egress-$name" "$(median "$work/runs.egress-$name.ours")"
    done
    awk -v none="$(median "$work/runs.egress-create-1.ours")" -v ten="$(median "$work/runs.egress-create-10000.ours")" \
        -v hundred="$(median "$work/runs.egress-create-100000.ours")" 'BEGIN {
        ten = (ten - none) / 1000; hundred = (hundred - none) / 1000
        printf "%-26s %10.3g ms  (budget <=50: %s)\n", "10,000 ranges", ten, ten <= 50 ? "met" : "MISSED"
        printf "%-26s %10.3g ms  (budget <=1000: %s)\n", "100,000 ranges", hundred, hundred <= 1000 ? "met" : "MISSED" }'
}

# --- files -------------------------------------------------------------------------------------------------

# A large file in and out, and a small one, against cat in the same sandbox.
measure_files() {
    (as_user "$bin/files" "$runs" "${BENCH_FILE_MB:-1024}") >"$work/files" || give_up "files failed"
    while read -r name side value; do
        record "$name" "$side" "$value"
    done <"$work/files"
    figure files-in cat MB/s ">=0.5"
    figure files-out cat MB/s ">=0.5"
    figure files-read-4k cat us
}
