#!/bin/sh
# What people run on images, on real roots of Debian: a database, a compiled Python package, Node. sh tests/long/images.sh
#
# The roots and wheels come from Debian's and Python's package registries and are kept in target/roots. The programs run
# as an ordinary user in a network namespace of their own, on a release build, with a HOME that goes with them.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. tests/long/common.sh

[ "$(id -u)" = 0 ] || give_up "unpacking a Debian root needs root"
need_rust
need_runsc
need_packages mmdebstrap:mmdebstrap psql:postgresql-client setpriv:util-linux pip3:python3-pip
nobody=54321
kept=$(pwd)/target/roots

make_root postgresql postgresql
make_root node nodejs
make_root python python3,python3-pip

if [ ! -e "$kept/wheels" ]; then
    say "fetching wheels"
    rm -rf "$kept/wheels.part"
    # For the Python of that root.
    version=$(tar -tf "$kept/python.tar" | sed -n 's,^\./usr/bin/python\(3\.[0-9]*\)$,\1,p')
    pip3 download --quiet --dest "$kept/wheels.part" --only-binary :all: --python-version "$version" numpy matplotlib
    mv "$kept/wheels.part" "$kept/wheels"
fi
chmod -R a+rX "$kept"

cargo build --quiet --release --locked
home=$(mktemp -d /var/tmp/sbx-images.XXXXXX)
trap 'rm -rf "$home"' EXIT
trap 'exit 130' INT TERM
# Whatever directories lie above the checkout, that user gets to read these.
cp -r target/release/libsbx.so "$SBX_RUNSC" examples/python/libsbx tests/long/images "$home"
for name in postgresql node python; do
    mkdir -p "$home/roots"
    cp "$kept/$name.tar" "$home/roots/"
done
cp -r "$kept/wheels" "$home/wheels"
mkdir "$home/home"
# A store of images below a directory that everybody may write to has to be that user's, who alone may look into it.
chown "$nobody:$nobody" "$home" "$home/home"

# inside PROGRAM ARGUMENT...
inside() {
    set -- "$home/images/$1" "$2" ${3:+"$3"}
    # shellcheck disable=SC2016 # the shell inside expands it
    unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
        setpriv --reuid "$nobody" --regid "$nobody" --clear-groups --bounding-set=-all --inh-caps=-all \
        env -i PATH=/usr/bin:/bin HOME="$home/home" PYTHONPATH="$home" SBX_LIBRARY="$home/libsbx.so" SBX_RUNSC="$home/runsc" \
        timeout 900 /usr/bin/python3 "$@"
}
inside postgresql.py "$home/roots/postgresql.tar"
inside node.py "$home/roots/node.tar"
inside numpy_matplotlib.py "$home/roots/python.tar" "$home/wheels"
