#!/bin/sh
# The packages as they are released, on machines that have nothing else: sh tests/long/packages.sh
#
# Builds the library for an old glibc, the wheels, Node's packages and Debian's. Each is installed on a bare Debian below
# target/packages, without a compiler and without a network, and runs the example of the README there, as an ordinary user.
# A source distribution is built, too. Where this isn't root, or namespaces can't be made, only building is shown.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. examples/packages/build.sh

need_build_packages
need_rust
need_go
need_runsc
need_packages debootstrap:debootstrap lintian:lintian dpkg-shlibdeps:dpkg-dev setpriv:util-linux ip:iproute2
kept=$(pwd)/target/packages
mkdir -p "$kept"
out=$(mktemp -d /var/tmp/sbx-packages.XXXXXX)
chmod 755 "$out"
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# debian RELEASE: a bare system with Python, from the mirror that this machine uses, made once.
debian() {
    [ ! -e "$kept/debian-$1.tar" ] || return 0
    say "fetching Debian $1"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    rm -rf "$kept/debian-$1"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$1" "$kept/debian-$1" "$mirror" \
        >"$kept/debian-$1.log" 2>&1 || return 1
    rm -rf "$kept/debian-$1"/var/cache/apt/archives/*.deb
    tar -c --numeric-owner -f "$kept/debian-$1.tar.new" -C "$kept/debian-$1" .
    mv "$kept/debian-$1.tar.new" "$kept/debian-$1.tar"
    rm -rf "$kept/debian-$1"
}

# inside ROOT COMMAND...: in that system, as its root, without a network. A chroot has no user namespaces: it is made
# the root of a mount namespace.
inside() {
    unshare --mount --pid --net --fork --kill-child sh -ec '
        ip link set lo up
        mount --bind "$1" "$1"
        mount -t proc proc "$1/proc"
        mount --rbind /sys "$1/sys"
        mount --rbind /dev "$1/dev"
        mount -t tmpfs tmpfs "$1/tmp"
        mkdir -p "$1/old"
        cd "$1"
        pivot_root . old
        umount -l /old
        shift
        exec env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/home/somebody LANG=C.UTF-8 "$@"' sh "$@"
}
as_somebody() {
    as_root=$1
    shift
    inside "$as_root" setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all --bounding-set=-all "$@"
}

# lay RELEASE ROOT: a fresh copy of it.
lay() {
    mkdir -p "$2"
    tar -x -f "$kept/debian-$1.tar" -C "$2"
    mkdir -p "$2/home/somebody" "$2/packages"
    chown 1000:1000 "$2/home/somebody"
    chmod 777 "$2/tmp"
    cp "$out"/wheels/* "$out"/debs/* examples/python/http_server.py "$2/packages/"
    ! inside "$2" sh -c 'command -v cc || command -v gcc'
}

portable=$kept/portable
say "== the library for glibc $portable_glibc"
portable_library "$portable" || give_up "the library could not be built for glibc $portable_glibc"
say "== wheels"
sh examples/packages/wheel.sh "$out/wheels" "$portable"
ls "$out/wheels" | grep -q "libsbx-.*-manylinux_2_28_"
say "== Debian's packages"
# Of the same library: without it, deb.sh builds one for this machine's glibc.
sh examples/packages/deb.sh "$out/debs" "$portable"
lintian --fail-on error,warning --tag-display-limit 0 "$out"/debs/*.deb
say "== Node's packages"
sh examples/packages/npm.sh "$out/npm" "$portable"

if ! able 21 || ! unshare --mount --pid --net --fork true 2>/dev/null; then
    say "NOT SHOWN: the packages on a bare Debian, which takes CAP_SYS_ADMIN"
    exit 0
fi

say "== wheels on the oldest Debian that can be had"
oldest=
for release in buster bullseye bookworm; do
    if debian "$release"; then
        oldest=$release
        break
    fi
done
[ -n "$oldest" ] || give_up "no Debian could be fetched; $kept/debian-bookworm.log says why"
lay "$oldest" "$out/oldest"
as_somebody "$out/oldest" sh -exc '
    cd
    ldd --version | head -n 1
    date +%s.%N
    python3 -m venv venv
    venv/bin/pip install --quiet --no-index --find-links /packages "libsbx[runsc]"
    venv/bin/python -m libsbx doctor
    venv/bin/python /packages/http_server.py | grep "Directory listing for /"
    date +%s.%N
    venv/bin/python -m libsbx run -- sh -c "echo in a sandbox" | grep "in a sandbox"'

say "== Debian's packages"
debian bookworm || give_up "no Debian could be fetched; $kept/debian-bookworm.log says why"
lay bookworm "$out/bookworm"
install -m 755 "$SBX_RUNSC" "$out/bookworm/usr/local/bin/runsc"
inside "$out/bookworm" sh -exc 'dpkg --install /packages/*.deb && ldconfig -p | grep libsbx.so.0'
as_somebody "$out/bookworm" sh -exc '
    cd
    python3 -c "import libsbx; print(libsbx.__file__)" | grep ^/usr/lib/python3/dist-packages/
    python3 /packages/http_server.py | grep "Directory listing for /"'
inside "$out/bookworm" sh -exc 'dpkg --purge libsbx-dev python3-libsbx libsbx0 && ! find /usr -name "*sbx*" | grep .'

say "== the source distribution builds"
# That it has all that it takes: not optimised, which takes longest.
mkdir "$out/sdist"
tar -x --strip-components 1 -C "$out/sdist" -f "$out"/wheels/libsbx-*.tar.gz
CARGO_TARGET_DIR=$kept/sdist-target CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
    PYTHONPATH=$out/sdist python3 -B -c "import build_backend; print(build_backend.build_wheel('$out/sdist'))"
