#!/bin/sh
# Sandboxes in containers of podman: sh tests/places/podman.sh PLACE SECCOMP PROGRAMS, as process 1 of namespaces of its own
#
# As docker.sh; PROGRAMS is a directory into which Debian's packages are unpacked. It runs as root, without a daemon.
set -eu
place=$1
seccomp=$2
programs=$3

ip link set lo up
kept=$(mktemp -d)
mount -t tmpfs tmpfs "$kept"
mkdir "$kept/etc" "$kept/etc.work" "$kept/tmp"
mount -t tmpfs tmpfs /run
mount -t overlay -o "lowerdir=/etc,upperdir=$kept/etc,workdir=$kept/etc.work" overlay /etc
# Crun takes one version of control groups only, and the containers get none here.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /etc/containers
printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' >/etc/containers/policy.json
libraries=$programs/usr/lib/$(cc -dumpmachine):$programs/lib/$(cc -dumpmachine)
# Conmon starts it without the environment.
printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/usr/bin/crun "$@"\n' "$libraries" "$programs" >"$kept/crun"
chmod 755 "$kept/crun"
cat >/etc/containers/containers.conf <<END
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "none"
conmon_path = ["$programs/usr/bin/conmon"]
helper_binaries_dir = ["$programs/usr/lib/podman"]
[engine.runtimes]
crun = ["$kept/crun"]
[containers]
seccomp_profile = "$programs/usr/share/containers/seccomp.json"
END
export LD_LIBRARY_PATH="$libraries" TMPDIR="$kept/tmp"
podman() {
    "$programs/usr/bin/podman" --root "$kept/data" --runroot "$kept/run" --storage-driver vfs "$@"
}
tar -C "$place" -c . | podman import --quiet - place >/dev/null
container() {
    podman run --rm --network none --cgroups disabled --env HOME=/tmp "$@"
}
filter=seccomp-oci.json
uncovered="--security-opt unmask=ALL"
# It allows namespaces and mounts, but not what gVisor's gofer needs.
refused='missing  *mounts  *chroot'
remedy='podman run --security-opt seccomp=seccomp-oci.json'
failure='runsc could not start the sandbox'
. "${0%/*}/containers.sh"
