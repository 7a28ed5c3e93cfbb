#!/bin/sh
# Where people run services: sh tests/long/places.sh [PART]
#
# In containers of docker and podman, under the filter of examples/deploy and under docker's own, as an ordinary user without
# capabilities and with a read-only root; in a unit of systemd. PART is docker, podman or unit; without it all
# are run. Where this isn't root or namespaces can't be made, nothing is run.
set -eu
cd "$(dirname "$0")/../.."
part=${1:-}
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. tests/setup/docker.sh

if [ "$(id -u)" != 0 ] || ! unshare --net --mount --pid --fork true 2>/dev/null; then
    say "places: left out: this isn't root, or there are no namespaces"
    exit 0
fi
need_rust
need_go
need_runsc
need_packages busybox:busybox-static

(cd tests/places/seccomp && go run . -check ../../../examples/deploy)

cargo build --locked --all-features --quiet
work=$(mktemp -d /var/tmp/sbx-places.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$work"
kept=$(pwd)/target
library=${CARGO_TARGET_DIR:-target}/debug/libsbx.so
mkdir "$work/library" "$work/programs"
strip -o "$work/library/libsbx.so.0" "$library"
ln -s libsbx.so.0 "$work/library/libsbx.so"
for program in tests/places/place examples/c/doctor; do
    cc -std=c99 -D_DEFAULT_SOURCE -Wall -Wextra -Werror -Iinclude -Itests/c "$program.c" "-L$work/library" -lsbx \
        -o "$work/programs/${program##*/}"
done

# A root file system that has nothing else.
place=$work/place
mkdir -p "$place/usr/bin" "$place/usr/lib" "$place/usr/lib64" "$place/usr/local/bin" "$place/usr/local/lib" "$place/etc" \
    "$place/proc" "$place/sys" "$place/dev" "$place/run" "$place/tmp" "$place/image/bin"
for directory in bin lib lib64; do
    ln -s "usr/$directory" "$place/$directory"
done
chmod 1777 "$place/tmp"
cp "$(command -v busybox)" "$place/bin/busybox"
for applet in sh cat echo grep; do
    ln -s busybox "$place/bin/$applet"
    ln -s busybox "$place/image/bin/$applet"
done
cp "$place/bin/busybox" "$place/image/bin/busybox"
cp "$work/programs/"* "$SBX_RUNSC" "$place/usr/local/bin/"
cp "$work/library/libsbx.so.0" "$place/usr/lib/"
for file in "$work/programs/place" "$work/library/libsbx.so.0"; do
    LD_LIBRARY_PATH=$work/library ldd "$file" | grep -o '/[^ ]*' | grep -v libsbx | while read -r needed; do
        mkdir -p "$place$(dirname "$needed")"
        cp -L "$needed" "$place$needed"
    done
done
printf 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n' >"$place/etc/passwd"

contained() {
    unshare --net --pid --fork --mount --mount-proc --kill-child "$@"
}
# in_group COMMAND...: contained, in a control group that is the root of what it sees of version 2.
in_group() {
    group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -n "$group" ] || give_up "control groups of version 2 are not mounted"
    group=$group/sbx-places-$$
    mkdir "$group"
    group_status=0
    sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" unshare --net --pid --fork --mount --mount-proc --ipc --uts \
        --cgroup --kill-child "$@" || group_status=$?
    find "$group" -depth -type d -exec rmdir {} +
    return "$group_status"
}
# need_podman: Debian's, unpacked into target/podman and not installed.
need_podman() {
    [ ! -x "$kept/podman/usr/bin/podman" ] || return 0
    say "fetching podman"
    rm -rf "$kept/podman.new"
    mkdir -p "$kept/podman.new"
    (
        cd "$kept/podman.new"
        apt-get -qq -o APT::Sandbox::User=root download podman conmon crun golang-github-containers-common libgpgme11 \
            libassuan0 libyajl2 libsubid4 libdevmapper1.02.1 libseccomp2 >/dev/null
        for package in ./*.deb; do
            dpkg-deb --extract "$package" .
        done
        rm -f ./*.deb
    ) || give_up "Debian's packages of podman could not be fetched; apt-get said why above"
    mv "$kept/podman.new" "$kept/podman"
}
# need_systemd: a Debian with systemd, in target/systemd.
need_systemd() {
    [ ! -d "$kept/systemd" ] || return 0
    need_packages debootstrap:debootstrap
    say "fetching Debian with systemd"
    rm -rf "$kept/systemd.new"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    debootstrap --variant=minbase --include=systemd,systemd-sysv bookworm "$kept/systemd.new" "$mirror" \
        >"$kept/systemd.log" 2>&1 || give_up "debootstrap failed" "see $kept/systemd.log"
    mv "$kept/systemd.new" "$kept/systemd"
}
wanted() {
    case ${part:-$1} in
        "$1") say "places: $1" ;;
        *) return 1 ;;
    esac
}
if wanted docker; then
    need_docker
    contained sh tests/places/docker.sh "$place" "$(pwd)/examples/deploy" "$docker_programs"
fi
if wanted podman; then
    need_podman
    contained sh tests/places/podman.sh "$place" "$(pwd)/examples/deploy" "$kept/podman"
fi
if wanted unit; then
    need_systemd
    under_systemd() {
        : >"$work/said"
        chmod 666 "$work/said"
        in_group sh tests/places/unit.sh "$kept/systemd" "$place" "$1" "$work/said" || :
        cat "$work/said"
    }
    under_systemd examples/deploy/sbx-app.service
    { grep -q '^works$' "$work/said" && grep -q '^unit: success$' "$work/said"; } ||
        give_up "the unit failed under systemd" "see above"
    # What its comments say doesn't work, and the doctor says so.
    sed 's/^User=.*/DynamicUser=yes/' examples/deploy/sbx-app.service >"$work/dynamic.service"
    under_systemd "$work/dynamic.service"
    { grep -q '^missing  *mounts .*openat2' "$work/said" && grep -q 'User= instead of DynamicUser=' "$work/said"; } ||
        give_up "the doctor does not name what DynamicUser= implies" "see above"
fi
