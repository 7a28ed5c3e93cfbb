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
        (as_user "$bin/host" lifecycle "$starts" "$root" "$bin/server" \
            "$bin/raw" "$bin/runsc" "$work/bundle" "$work/state/${root##*/}") >"$work/lifecycle" ||
            give_up "start and terminate failed"
        suffix=
        [ "$root" != - ] || suffix=-default-root
        while read -r name side microseconds; do
            [ "$side" = ours ] || side=runsc
            record "$name$suffix" "$side" "$microseconds"
        done <"$work/lifecycle"
    done
}

report_start() {
    figure start runsc us "<=1.15"
    figure start-default-root runsc us "<=1.15"
}

report_terminate() {
    figure terminate runsc us
    awk -v ours="$(median "$work/runs.terminate.ours")" -v theirs="$(median "$work/runs.terminate.runsc")" 'BEGIN {
        beyond = (ours - theirs) / 1000
        printf "%-22s %10.3g %-10s beyond the death of runsc itself  (budget <=20: %s)\n", "terminate", beyond, "ms",
            beyond <= 20 ? "met" : "MISSED" }'
    figure terminate-default-root runsc us
}

# --- a sandbox that serves ---------------------------------------------------------------------------------

# start_host [CHAIN KEY]: sets host and keeper, and tunnel_to works.
start_host() {
    rm -f "$work/host.in"
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

# run_load NAME SIDE ARGUMENT...: one run of the load client.
run_load() {
    run_name=$1
    run_side=$2
    shift 2
    value=$("$bin/load" "$@") || give_up "$run_name of $run_side: load $*"
    record "$run_name" "$run_side" "$value"
}

# each_load SIDE ADDRESS: PORTS is a function from a kind to its port; OPTIONS go before the mode.
each_load() {
    side=$1
    at=$2
    sink=$at:$("$port_function" sink)
    run_load tunnel-up "$side" $options up "$sink" 1 "$duration"
    run_load tunnel-up-4 "$side" $options up "$sink" 4 "$duration"
    source=$at:$("$port_function" source)
    run_load tunnel-down "$side" $options down "$source" 1 "$duration"
    run_load tunnel-down-4 "$side" $options down "$source" 4 "$duration"
    run_load tunnel-rtt "$side" $options rtt "$at:$("$port_function" echo)" 1 4000
    hold=$at:$("$port_function" hold)
    run_load tunnel-connects "$side" $options connects "$hold" 1 600
    run_load tunnel-connects-8 "$side" $options connects "$hold" 8 600
}

plain_tunnel() { tunnel_to "$(plain_port "$1")"; }
encrypted_tunnel() { tunnel_to "$(encrypted_port "$1")"; }
haproxy_port() { port_of haproxy "$1"; }
nginx_port() { port_of nginx "$1"; }
haproxy_tls_port() { port_of haproxy "tls-$1"; }

measure_tunnel() {
    start_host
    start_haproxy "$keeper" "$kinds"
    start_nginx "$keeper" "$kinds"
    for _ in $(seq "$runs"); do
        options="--in $keeper" port_function=plain_port
        each_load straight "$sandbox_address"
        options=
        port_function=plain_tunnel
        each_load ours 127.0.0.1
        port_function=haproxy_port
        each_load haproxy 127.0.0.1
        port_function=nginx_port
        each_load nginx 127.0.0.1
    done
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

tls_loads() {
    run_load tls-up "$1" --tls up "127.0.0.1:$("$2" sink)" 1 "$duration"
    run_load tls-up-4 "$1" --tls up "127.0.0.1:$("$2" sink)" 4 "$duration"
    run_load tls-down "$1" --tls down "127.0.0.1:$("$2" source)" 1 "$duration"
    run_load tls-down-4 "$1" --tls down "127.0.0.1:$("$2" source)" 4 "$duration"
    run_load tls-rtt "$1" --tls rtt "127.0.0.1:$("$2" echo)" 1 4000
    run_load tls-handshakes-8 "$1" --tls connects "127.0.0.1:$("$2" hold)" 8 600
}

measure_tls() {
    make_certificate
    start_host "$work/chain.pem" "$work/key.pem"
    start_haproxy "$keeper" "$kinds" "$work/both.pem"
    for _ in $(seq "$runs"); do
        tls_loads ours encrypted_tunnel
        tls_loads haproxy haproxy_tls_port
    done
    stop "$haproxy"
    stop_host
    for name in up up-4 down down-4; do
        figure "tls-$name" haproxy Gbit/s ">=1.2"
    done
    figure tls-rtt haproxy us
    figure tls-handshakes-8 haproxy conn/s ">=1.2"
}

# --- memory ------------------------------------------------------------------------------------------------

# memory_of PID FIELD: kilobytes.
memory_of() {
    awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/smaps_rollup"
}

# hold_idle NAME SIDE PID PORT COUNT: bytes by which the process has grown, for each idle connection.
hold_idle() {
    before=$(memory_of "$3" Rss)
    rm -f "$work/idle.in"
    mkfifo "$work/idle.in"
    exec 7<>"$work/idle.in"
    "$bin/load" idle "127.0.0.1:$4" "$5" 0 <"$work/idle.in" 7>&- 9>&- >"$work/idle.out" 2>"$work/idle.log" &
    idle=$!
    started="$started $idle"
    exec 6>"$work/idle.in" 7>&-
    while ! grep -q ready "$work/idle.out"; do
        alive "$idle" || { cat "$work/idle.log" >&2; give_up "$5 idle connections to $2 ended early"; }
        sleep 0.2
    done
    after=$(memory_of "$3" Rss)
    exec 6>&-
    wait "$idle" || { cat "$work/idle.log" >&2; give_up "$5 idle connections to $2 failed"; }
    stop "$idle"
    record "$1" "$2" "$(((after > before ? after - before : 0) * 1024 / $5))"
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
            record keeper-anonymous ours "$(memory_of "$keeper" Anonymous)"
            record keeper-anonymous budget 200
            hold_idle "memory-idle-$count" ours "$host" "$(plain_tunnel hold)" "$count"
            hold_idle "memory-idle-$count" haproxy "$haproxy" "$(haproxy_port hold)" "$count"
            stop "$haproxy"
            stop_host
        done
    done
    for count in $counts; do
        figure "memory-idle-$count" haproxy B/conn "<=1"
    done
    figure keeper-anonymous budget KiB "<=1"
}
