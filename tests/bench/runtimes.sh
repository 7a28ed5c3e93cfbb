# Other ways to start a program, as peers of start and exec: crun, bubblewrap, gVisor's Python SDK, docker with runsc. Sourced
# by run.sh.

sdk_release=2026.10.22.0

# peer_runs PEER COMMAND...: whether one request is answered as the ordinary user; else says why the peer is left out.
peer_runs() {
    tried=$1
    shift
    if printf '\n' | (as_user timeout 60 "$@") >"$work/tried.out" 2>"$work/tried.log"; then
        return 0
    fi
    echo "start: $tried is left out: $(tail -n 1 "$work/tried.log")"
    return 1
}

# The SDK, in a directory that everybody can read: sets sdk, empty where it can't be had.
fetch_sdk() {
    [ -z "${sdk_asked-}" ] || return 0
    sdk_asked=yes
    sdk=
    venv=$out/sdk
    if (cd "$top" && . tests/setup/say.sh && . tests/setup/packages.sh && . tests/long/common.sh && need_venvs &&
        make_venv /usr/bin/python3 "$venv" "gvisor==$sdk_release") >"$work/sdk.log" 2>&1; then
        sdk=$work/sdk
        mkdir -p "$sdk" "$work/state/sdk"
        cp -R "$venv"/lib/python3*/site-packages/gvisor "$sdk/"
        cp "$here/client/sdk.py" "$bin/"
        [ "$(id -u)" != 0 ] || chown "$user" "$work/state/sdk"
    else
        echo "start: gVisor's Python SDK is left out: $(tail -n 1 "$work/sdk.log")"
    fi
}

# crun refuses what it takes for a hybrid of cgroup v1 and v2 even where it is to leave control groups alone.
# shellcheck disable=SC2016 # the shell inside expands it
without_groups='mount -t tmpfs tmpfs /sys/fs/cgroup; exec "$@"'

# with_peers ROOT COMMAND...: the command, with the peers of that root behind its words, as host.c lifecycle wants them. Those
# that share the host's kernel have a root of their own; the SDK has the host's programs.
with_peers() {
    root=$1
    shift
    if [ "$root" = - ]; then
        with_sdk "$@"
    else
        with_crun "$@"
    fi
}

with_crun() {
    mkdir -p "$work/crun-bundle" "$work/state/crun"
    [ "$(id -u)" != 0 ] || chown "$user" "$work/state/crun"
    # The limit of descriptors is this user's, who may not raise it.
    sed 's/"noNewPrivileges": false,/"noNewPrivileges": false/; /"rlimits"/d' "$work/bundle/config.json" >"$work/crun-bundle/config.json"
    if peer_runs crun unshare --user --map-root-user --mount sh -c "$without_groups" sh "$bin/raw" run crun --cgroup-manager=disabled \
        "--root=$work/state/crun/try-{}" run --bundle "$work/crun-bundle" "bench-try-{}"; then
        set -- "$@" , crun unshare --user --map-root-user --mount sh -c "$without_groups" sh "$bin/raw" run crun \
            --cgroup-manager=disabled "--root=$work/state/crun/{}" run --bundle "$work/crun-bundle" "bench-{}"
    fi
    with_bwrap "$@"
}

with_bwrap() {
    if peer_runs bubblewrap "$bin/raw" run bwrap --unshare-all --die-with-parent --bind "$rootfs" / --proc /proc --dev /dev \
        --tmpfs /tmp /server byte; then
        set -- "$@" , bwrap "$bin/raw" run bwrap --unshare-all --die-with-parent --bind "$rootfs" / --proc /proc --dev /dev \
            --tmpfs /tmp /server byte
    fi
    "$@"
}

with_sdk() {
    fetch_sdk
    if [ -n "$sdk" ] && peer_runs "gVisor's Python SDK" env "RUNSC_PATH=$bin/runsc" "TMPDIR=$work/state/sdk" "PYTHONPATH=$sdk" \
        /usr/bin/python3 -B "$bin/sdk.py" start "$bin/server"; then
        set -- "$@" , sdk env "RUNSC_PATH=$bin/runsc" "TMPDIR=$work/state/sdk" "PYTHONPATH=$sdk" \
            /usr/bin/python3 -B "$bin/sdk.py" start "$bin/server"
    else
        sdk=
    fi
    "$@"
}

# measured NAME PEER: whether that peer has runs.
measured() { [ -s "$work/runs.$1.$2" ]; }

# report_peers SUFFIX: start and warm beside what else was there.
report_peers() {
    for peer in crun bwrap sdk; do
        measured "start$1" "$peer" || continue
        figure "start$1" "$peer" us
        if [ "$peer" = sdk ]; then figure "warm$1" sdk us "<=0.08"; else figure "warm$1" "$peer" us; fi
    done
}

# As who may use docker, with an image made here: by the machine's daemon where that has runsc among its runtimes, else by one
# of our own.
measure_docker_start() {
    path=$PATH
    docker_process=
    case " $(timeout 10 docker info --format '{{range $name, $each := .Runtimes}}{{$name}} {{end}}' 2>/dev/null) " in
    *" runsc "*) docker=docker ;;
    *)
        start_docker
        PATH=${docker_programs-}:$PATH
        ;;
    esac
    if [ -n "$docker" ]; then
        ordinary=$user
        user=$(id -un)
        docker_in_turns
        user=$ordinary
    fi
    stop_docker
    PATH=$path
}

docker_in_turns() {
    rootfs=$work/rootfs
    image=$(tar -C "$rootfs" -c . | docker import - 2>/dev/null) || give_up "docker import failed"
    container=sbx-bench-$$
    lifecycle_of "$bin/host" lifecycle "$starts" "$rootfs" "$bin/server" docker-runsc "$bin/raw" run \
        --after "docker rm --force $container-{} >/dev/null" docker run --name "$container-{}" --runtime runsc --network none \
        "$image" /server byte
    docker rmi -f "$image" >/dev/null
    while read -r name side microseconds; do
        record "$name-docker" "$side" "$microseconds"
    done <"$work/lifecycle"
    figure start-docker docker-runsc us
    figure warm-docker docker-runsc us
}

measure_sdk_exec() {
    fetch_sdk
    [ -n "$sdk" ] || return 0
    exec_in_turns exec-sdk /bin/true sdk /usr/bin/env "RUNSC_PATH=$bin/runsc" "TMPDIR=$work/state/sdk" "PYTHONPATH=$sdk" \
        /usr/bin/python3 -B "$bin/sdk.py" exec
    figure exec-sdk sdk us
}
