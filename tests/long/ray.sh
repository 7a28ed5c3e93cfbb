#!/bin/sh
# examples/integrations/ray on a cluster of several raylets on this machine: sh tests/long/ray.sh [SANDBOXES [NODES]]
#
# Without arguments 16 sandboxes on 2 nodes, with SBX_LONG=1 200 on 4. Workers, nodes and the pool's coordinator are
# killed meanwhile. It runs as an ordinary user on a release build (or SBX_LIBRARY), in network and process namespaces of
# its own where each node has an address, with a pinned Ray in a virtualenv that is kept in target/integrations. Prints what
# was measured, and "ray: N passed of M" at the end.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. tests/long/common.sh

[ "$(id -u)" = 0 ] || give_up "running as another user, in namespaces, needs root"
need_runsc
need_packages setpriv:util-linux ip:iproute2 busybox:busybox-static
need_venvs
if [ -n "${SBX_LONG:-}" ]; then
    sandboxes=${1:-200} nodes=${2:-4}
else
    sandboxes=${1:-16} nodes=${2:-2}
fi
need_library
nobody=54321
kept=$(pwd)/target/integrations/ray
make_venv /usr/bin/python3 "$kept" ray==2.60.0 pytest==9.2.0 'setuptools>=77'
install_integration "$kept" ray

# Whatever directories lie above the checkout, that user gets to read these. A short path: Ray has sockets below it.
home=$(mktemp -d /var/tmp/sbx-ray.XXXXXX)
trap 'rm -rf "$home"' EXIT
trap 'exit 130' INT TERM
cp "$SBX_LIBRARY" "$home/libsbx.so"
cp "$SBX_RUNSC" "$home/runsc"
cp -r examples/python/libsbx "$home"
cp -r tests/long/integrations/ray "$home/tests"
cp -r "$kept" "$home/venv"
mkdir "$home/home" "$home/t"
chown "$nobody:$nobody" "$home" "$home/home" "$home/t"
chmod 700 "$home"

# The shell inside stays process 1: it alone ends with unshare, whatever that is ended by, since another user's doesn't.
status=0
# shellcheck disable=SC2016 # the shell inside expands it
unshare --net --pid --fork --mount-proc --kill-child sh -c '
    ip link set lo up
    for last in 0.1 9.9 $(seq -f 0.%g 2 250); do ip address add "10.77.$last/32" dev lo; done
    "$@" || exit $?' sh \
    setpriv --reuid "$nobody" --regid "$nobody" --clear-groups --bounding-set=-all --inh-caps=-all \
    env -i -C "$home/home" PATH="$home/venv/bin:/usr/bin:/bin" HOME="$home/home" PYTHONPATH="$home" LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 RAY_TMPDIR="$home/t" RAY_USAGE_STATS_ENABLED=0 RAY_DEDUP_LOGS=0 \
    RAY_agent_register_timeout_ms=300000 RAY_worker_register_timeout_seconds=300 \
    RAY_SANDBOXES="$sandboxes" RAY_NODES="$nodes" ${RAY_SEED:+RAY_SEED="$RAY_SEED"} \
    SBX_LIBRARY="$home/libsbx.so" SBX_RUNSC="$home/runsc" \
    timeout 3600 "$home/venv/bin/python" -m pytest -v --tb=short --junit-xml="$home/home/ray.xml" \
    -c "$home/tests/pytest.ini" ${RAY_TEST:+-k "$RAY_TEST"} "$home/tests" || status=$?
say_passed ray "$home/home/ray.xml"
exit "$status"
