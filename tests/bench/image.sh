# Images: how fast one is pulled, how fast sandboxes on it start, what ten of them take, how long a snapshot pauses one.
# Sourced by run.sh.

microseconds() { echo $(($(date +%s%N) / 1000)); }

# A layer with files of this machine's, of all sizes, in a registry on loopback.
make_image() {
    rootfs=$work/image-rootfs
    mkdir -p "$rootfs/proc" "$rootfs/dev" "$rootfs/sys" "$rootfs/tmp" "$rootfs/etc" "$rootfs/usr"
    cp "$bin/server" "$rootfs/server"
    # Whole directories until it is large enough; every file once.
    for directory in /usr/lib/python3* /usr/share/perl* /usr/lib/gcc /usr/share/doc /usr/bin /usr/share /usr/lib; do
        [ "$(du -sm "$rootfs" | cut -f 1)" -lt "${BENCH_IMAGE_MB:-200}" ] || break
        mkdir -p "$rootfs${directory%/*}"
        { find "$directory" -xdev -type f -size -4096k -readable | head -n 8000 |
            tar -c --ignore-failed-read -T - 2>/dev/null | tar -x -C "$rootfs"; } 2>/dev/null || true
    done
    image_bytes=$(du -sb "$rootfs" | cut -f 1)
    tar -C "$rootfs" --owner=0 --group=0 -cf "$work/image.tar" .
    umoci init --layout "$work/layout" >/dev/null
    umoci new --image "$work/layout:bench" >/dev/null
    umoci raw add-layer --image "$work/layout:bench" "$work/image.tar" >/dev/null ||
        give_up "umoci made no image"
}

start_registry() {
    registry=127.0.0.1:$(free_port)
    cat >"$work/registry.yml" <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: '$registry'}
END
    docker-registry serve "$work/registry.yml" >/dev/null 2>"$work/registry.log" &
    registry_process=$!
    started="$started $registry_process"
    tries=100
    until skopeo copy --quiet --dest-tls-verify=false "oci:$work/layout:bench" "docker://$registry/bench:latest" 2>"$work/skopeo.log"; do
        tries=$((tries - 1))
        [ "$tries" != 0 ] || { cat "$work/skopeo.log" >&2; give_up "the registry doesn't take an image"; }
        sleep 0.1
    done
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# in_store NAME COMMAND...: as the ordinary user, with a store of that name.
in_store() {
    store=$stores/$1
    shift
    mkdir -p "$store"
    [ "$(id -u)" != 0 ] || chown "$user" "$stores" "$store"
    (XDG_CACHE_HOME=$store && export XDG_CACHE_HOME && as_user "$@")
}

# A dockerd of our own, beside the machine's own /etc/docker, /run and network.
start_docker() {
    docker=
    docker_process=
    if [ "$(id -u)" != 0 ]; then
        echo "docker is left out: dockerd needs root"
        return
    fi
    docker_programs=$(cd "$top" && . tests/setup/say.sh && . tests/setup/packages.sh && . tests/setup/docker.sh &&
        need_docker >&2 && printf '%s' "$docker_programs") || {
        echo "docker is left out: it can't be had"
        return
    }
    rm -rf "$work/docker"
    mkdir "$work/docker"
    # The flags of plain runsc.
    printf '{"runtimes":{"runsc":{"path":"%s","runtimeArgs":["--ignore-cgroups","--overlay2=root:memory"]}}}\n' "$bin/runsc" \
        >"$work/docker/settings"
    PATH=$docker_programs:$PATH unshare --mount --pid --fork --kill-child --mount-proc sh -eu -c '
        mount -t tmpfs tmpfs /run
        mkdir /run/etc /run/etc.work
        mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc.work overlay /etc
        exec dockerd --config-file "$1/settings" --host "unix://$1/socket" --pidfile "$1/pid" --data-root "$1/data" \
            --exec-root /run/exec --storage-driver overlay2 --iptables=false --bridge=none' \
        dockerd "$work/docker" >/dev/null 2>"$work/docker/log" &
    docker_process=$!
    started="$started $docker_process"
    DOCKER_HOST=unix://$work/docker/socket
    export DOCKER_HOST
    tries=600
    until PATH=$docker_programs:$PATH docker version >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ] || ! alive "$docker_process"; then
            cat "$work/docker/log" >&2
            give_up "dockerd does not answer"
        fi
        sleep 0.1
    done
    docker=docker
    record_version docker "$(PATH=$docker_programs:$PATH docker version --format '{{.Server.Version}}')"
}

stop_docker() {
    [ -n "$docker_process" ] || return 0
    stop "$docker_process"
    docker_process=
    unset DOCKER_HOST
}

measure_pull() {
    for run in $(seq "$runs"); do
        record image-pull ours "$(in_store "pull-$run" "$bin/image" pull "$registry/bench:latest")"
        rm -rf "$stores/pull-$run"

        before=$(microseconds)
        skopeo copy --quiet --src-tls-verify=false "docker://$registry/bench:latest" "oci:$work/pulled:bench" &&
            umoci unpack --image "$work/pulled:bench" "$work/unpacked" >/dev/null || give_up "skopeo and umoci failed"
        record image-pull umoci "$(($(microseconds) - before))"
        rm -rf "$work/pulled" "$work/unpacked"

        [ -n "$docker" ] || continue
        before=$(microseconds)
        PATH=$docker_programs:$PATH docker pull --quiet "$registry/bench:latest" >/dev/null || give_up "docker pull failed"
        record image-pull docker "$(($(microseconds) - before))"
        PATH=$docker_programs:$PATH docker rmi -f "$registry/bench:latest" >/dev/null
    done
    for peer in umoci $docker; do
        figure image-pull "$peer" us
    done
    awk -v bytes="$image_bytes" -v microseconds="$(median "$work/runs.image-pull.ours")" 'BEGIN {
        printf "%-22s %10.4g MB/s of the files in it, %.0f MB\n", "  image-pull", bytes / microseconds, bytes / 1e6 }'
}

measure_image_start() {
    mkdir -p "$work/image-bundle"
    sed "s|@ROOT@|$rootfs|" "$here/bundle.json" >"$work/image-bundle/config.json"
    mkdir "$work/state/image"
    [ "$(id -u)" != 0 ] || chown "$user" "$work/state/image"
    in_store runs "$bin/image" lifecycle "$starts" "$rootfs" "$work/image.tar" "$bin/raw" "$bin/runsc" \
        "$work/image-bundle" "$work/state/image" >"$work/lifecycle" || give_up "start of an image failed"
    while read -r side microseconds; do
        case $side in
        image) record image-start ours "$microseconds" ;;
        directory) record image-start directory "$microseconds" ;;
        raw) record image-start runsc "$microseconds" ;;
        spare) record image-spare ours "$microseconds" ;;
        beside-spare) record image-spare runsc "$microseconds" ;;
        esac
    done <"$work/lifecycle"
    figure image-start runsc us "<=1"
    figure image-start directory us "<=1"
    figure image-spare runsc us "<=1"
}

# pss_below PID: kilobytes of all processes below it, what several share divided among them.
pss_below() {
    ps -eo pid=,ppid= | awk -v top="$1" '
        { parent[$1] = $2 }
        END { for (pid in parent) { for (at = pid; at in parent && at != top; at = parent[at]); if (at == top && pid != top) print pid } }' |
        while read -r pid; do
            awk '$1 == "Pss:" { print $2 }' "/proc/$pid/smaps_rollup" 2>/dev/null || true
        done | awk '{ sum += $1 } END { print sum + 0 }'
}

measure_image_memory() {
    if [ "$(id -u)" != 0 ]; then
        echo "image: memory is left out, only root can see a keeper's"
        return
    fi
    for _ in 1 2 3; do
        for kind in image directory; do
            path=$rootfs
            [ "$kind" = directory ] || path=$work/image.tar
            rm -f "$work/hold.in"
            mkfifo "$work/hold.in"
            : >"$work/hold.out"
            in_store runs "$bin/image" hold 10 "$kind" "$path" <"$work/hold.in" >"$work/hold.out" &
            holder=$!
            started="$started $holder"
            exec 6>"$work/hold.in"
            until grep -q ready "$work/hold.out"; do
                alive "$holder" || give_up "ten sandboxes ended early"
                sleep 0.1
            done
            side=ours
            [ "$kind" = image ] || side=directory
            record image-memory-10 "$side" "$(pss_below "$holder")"
            exec 6>&-
            wait "$holder" || give_up "ten sandboxes failed"
        done
    done
    figure image-memory-10 directory KiB "<=1"
}

measure_snapshots() {
    in_store runs "$bin/image" snapshot 3 "$work/image.tar" 1 100 1024 >"$work/snapshots" || give_up "snapshots failed"
    for mib in 1 100 1024; do
        for what in pause snapshot; do
            awk -v what="$what" -v mib="$mib" '$1 == what && $2 == mib { print $3 }' "$work/snapshots" >"$work/runs.$what-$mib.ours"
            awk -v what="$what" -v mib="$mib" -v ours="$(median "$work/runs.$what-$mib.ours")" -v results="$results" \
                -v spread="$(spread_of "$work/runs.$what-$mib.ours" | tr ' ' ,)" 'BEGIN {
                printf "%-22s %10.4g ms\n", "image-" what "-" mib "-mib", ours / 1000
                printf "{\"what\":\"image-%s-%s-mib\",\"peer\":\"none\",\"unit\":\"us\",\"ours\":%d,\"theirs\":0,\"ratio\":0,\"ours_spread\":[%s]}\n",
                    what, mib, ours, spread >>results }'
        done
    done
}

measure_image() {
    # Below a directory that everybody may write to, a store is believed only if nobody else may look into it.
    stores=$(mktemp -d "${TMPDIR:-/tmp}/sbx-bench-stores.XXXXXX")
    make_image
    start_registry
    start_docker
    measure_pull
    stop_docker
    stop "$registry_process"
    measure_image_start
    measure_image_memory
    measure_snapshots
}
