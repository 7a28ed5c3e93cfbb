# A real docker beside the sandboxes: dockerd in the namespace that plays the host, with one container. Sourced, by
# process 1 of a run.
#
# All that it keeps is below one directory. It has mounts of its own, in which /run is empty and /etc a layer over the
# machine's: nothing of it is seen outside, and what it mounts goes with it. It asks no registry for anything.

# lay_docker DIRECTORY PROGRAMS SERVER: returns when a container runs SERVER, a static program, and the host reaches it;
# container is its address then. PROGRAMS is a list of directories, like PATH.
lay_docker() {
    docker_directory=$1
    docker_path=$2:$PATH
    docker_group=${work##*/}
    mkdir "$1"
    mount -t tmpfs tmpfs "$1"
    mkdir "$1/etc" "$1/etc.work"
    printf '{}\n' >"$1/settings"
    # shellcheck disable=SC2016 # for the shell in there
    PATH=$docker_path unshare --mount sh -ec '
        mount -t tmpfs tmpfs /run
        mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/etc.work" overlay /etc
        exec dockerd --config-file "$1/settings" --host "unix://$1/socket" --pidfile "$1/pid" \
            --data-root "$1/data" --exec-root "$1/exec" --storage-driver vfs --iptables=true \
            --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$2"
    ' - "$1" "$docker_group" >"$1/log" 2>&1 &
    docker_process=$!
    docker_tries=300
    until docker_says version >/dev/null; do
        docker_tries=$((docker_tries - 1))
        if [ "$docker_tries" = 0 ] || ! kill -0 "$docker_process" 2>/dev/null; then
            return 1
        fi
        sleep 0.1
    done
    tar -C "${3%/*}" -c "${3##*/}" | docker_says import - image >/dev/null &&
        docker_says run --detach --name server image "/${3##*/}" >/dev/null &&
        container=$(docker_says inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' server) &&
        nft list ruleset 2>/dev/null | grep -q DOCKER || return 1
    # What comes by itself is there before anybody compares.
    until [ -z "$(ip -6 address show tentative)" ]; do
        sleep 0.1
    done
}

# What is said of dockerd not being there yet goes to the log, too.
docker_says() {
    PATH=$docker_path docker --host "unix://$docker_directory/socket" "$@" 2>>"$docker_directory/log"
}

# lift_docker: as if it had never been there.
lift_docker() {
    docker_says rm --force server >/dev/null || :
    kill "$docker_process" 2>/dev/null || :
    wait "$docker_process" || :
    umount "$docker_directory"
    rmdir "$docker_directory"
    find /sys/fs/cgroup -depth -type d -path "*/$docker_group*" -exec rmdir {} +
    nft flush ruleset
    ip link delete docker0 2>/dev/null || :
}
