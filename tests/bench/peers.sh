# The peers: HAProxy and nginx stream, with one thread each as the library has. Sourced by run.sh, and by egress.sh for
# alive and stop.
#
# They accept on 127.0.0.1 of the host's namespace and connect to the sandbox from its gateway namespace, as the
# library does: client/into.c hands them the listeners and moves them there.

sandbox_address=192.0.0.2

# Ports below those that the kernel gives to connecting sockets, different for each run of the script.
next_port=$((15000 + $$ % 8000))

haproxy_config() {
    cat <<END
global
    nbthread 1
    maxconn $((most_idle + 200))
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
END
    descriptor=3
    for kind in $1; do
        echo "listen $kind"
        echo "    bind fd@$descriptor"
        echo "    server sandbox $sandbox_address:$(plain_port "$kind")"
        descriptor=$((descriptor + 1))
        if [ -n "${2-}" ]; then
            echo "listen tls-$kind"
            echo "    bind fd@$descriptor ssl crt $2"
            echo "    server sandbox $sandbox_address:$(encrypted_port "$kind")"
            descriptor=$((descriptor + 1))
        fi
    done
}

# start_haproxy PID "KINDS" [CERTIFICATE]: with a certificate, each kind over TLS too.
start_haproxy() {
    haproxy_config "$2" "${3-}" >"$work/haproxy.cfg"
    peer_ports haproxy "$2" "${3-}"
    "$bin/into" "$1" $ports -- haproxy -db -f "$work/haproxy.cfg" </dev/null >"$work/haproxy.log" 2>&1 9>&- &
    haproxy=$!
    started="$started $haproxy"
    await_peer haproxy "$haproxy"
}

nginx_config() {
    cat <<END
# An ordinary user is root in the sandbox's user namespace, and the only one there.
user root;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid $work/nginx.pid;
error_log $work/nginx.log warn;
events { worker_connections 4096; }
stream {
    proxy_timeout 1h;
END
    for kind in $1; do
        echo "    server { listen 127.0.0.1:$(port_of nginx "$kind"); proxy_pass $sandbox_address:$(plain_port "$kind"); }"
    done
    echo "}"
}

start_nginx() {
    peer_ports nginx "$2"
    nginx_config "$2" >"$work/nginx.cfg"
    descriptors=
    descriptor=3
    for _ in $ports; do
        descriptors="$descriptors$descriptor;"
        descriptor=$((descriptor + 1))
    done
    # NGINX is how nginx hands its listeners to its successor: the one way to give it some.
    NGINX=$descriptors "$bin/into" "$1" $ports -- nginx -e "$work/nginx.log" -c "$work/nginx.cfg" \
        </dev/null >"$work/nginx.out" 2>&1 9>&- &
    nginx=$!
    started="$started $nginx"
    await_peer nginx "$nginx"
}

# peer_ports PEER "KINDS" [CERTIFICATE]: picks a port for each listener, in the order of the configuration.
peer_ports() {
    ports=
    : >"$work/ports.$1"
    for kind in $2; do
        for name in $kind ${3:+tls-$kind}; do
            echo "$name $next_port" >>"$work/ports.$1"
            ports="$ports $next_port"
            next_port=$((next_port + 1))
        done
    done
}

# port_of PEER NAME: where a peer's listener for that kind ("hold", "tls-hold") is.
port_of() {
    awk -v name="$2" '$1 == name { print $2 }' "$work/ports.$1"
}

# A peer is there when a byte goes through it and comes back.
await_peer() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        alive "$2" || break
        timeout 2 "$bin/load" connects "127.0.0.1:$(port_of "$1" hold)" 1 1 >/dev/null 2>&1 && return
        sleep 0.2
    done
    cat "$work/$1".log "$work/$1".out >&2 2>/dev/null
    give_up "$1 doesn't carry anything"
}

# A process that has ended but wasn't waited for counts as ended.
alive() {
    case $(sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null) in
    '' | Z*) return 1 ;;
    esac
}

# tell_to_end PID: unshare --fork ignores the signal, so its child gets it too.
tell_to_end() {
    # shellcheck disable=SC2046 # words
    kill "$1" $(cat "/proc/$1/task/$1/children" 2>/dev/null) 2>/dev/null || true
}

# stop PID: ends a process of ours and waits until it is gone.
stop() {
    tell_to_end "$1"
    wait "$1" 2>/dev/null || true
    remaining=
    for pid in $started; do
        [ "$pid" = "$1" ] || remaining="$remaining $pid"
    done
    started=$remaining
}
