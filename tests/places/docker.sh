#!/bin/sh
# Sandboxes in containers of docker: sh tests/places/docker.sh PLACE SECCOMP PROGRAMS, as process 1 of namespaces of its own
#
# PLACE is a root file system with `place`, `doctor`, libsbx and runsc (places.sh makes it), SECCOMP the directory with the
# filters, PROGRAMS a list of directories with dockerd, like PATH. No registry is asked for anything.
set -eu
place=$1
seccomp=$2
export PATH="$3:$PATH"
. "${0%/*}/../setup/say.sh"

ip link set lo up
kept=$(mktemp -d)
mount -t tmpfs tmpfs "$kept"
mkdir "$kept/etc" "$kept/etc.work"
printf '{}\n' >"$kept/settings"
mount -t tmpfs tmpfs /run
mount -t overlay -o "lowerdir=/etc,upperdir=$kept/etc,workdir=$kept/etc.work" overlay /etc
group=sbx-places-$$
dockerd --config-file "$kept/settings" --host "unix://$kept/socket" --pidfile "$kept/pid" --data-root "$kept/data" \
    --exec-root "$kept/exec" --storage-driver vfs --iptables=false --bridge=none \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$group" >"$kept/log" 2>&1 &
daemon=$!
lift() {
    kill "$daemon" 2>/dev/null || :
    wait "$daemon" || :
    find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null || :
}
trap lift EXIT
export DOCKER_HOST="unix://$kept/socket"
tries=600
until docker version >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ "$tries" = 0 ] || ! kill -0 "$daemon" 2>/dev/null; then
        cat "$kept/log"
        give_up "dockerd does not answer" "see above"
    fi
    sleep 0.1
done
tar -C "$place" -c . | docker import - place >/dev/null
container() {
    docker run --rm --network none --env HOME=/tmp "$@"
}
filter=seccomp.json
uncovered="--security-opt systempaths=unconfined"
refused='missing  *seccomp'
remedy='docker run --security-opt seccomp=seccomp.json'
failure='user namespaces are disabled or restricted here'
. "${0%/*}/containers.sh"
