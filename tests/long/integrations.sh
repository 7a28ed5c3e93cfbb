#!/bin/sh
# Frameworks on examples/integrations: sh tests/long/integrations.sh [NAME...]
#
# inspect_ai is its own conformance checks, unchanged; jupyter is jupyter_kernel_test with ipykernel, and tests of ours; mcp,
# smolagents, bash-tool and computesdk, which bring none, are tests of ours. Each runs as an ordinary user on a release
# build (or on SBX_LIBRARY), in a network namespace of its own, with pinned versions of the framework that are kept in
# target/integrations. What they need comes from the registries of Python, Node and Debian. Prints "NAME: N passed of M", and
# fails if that isn't all.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. tests/long/common.sh

[ "$(id -u)" = 0 ] || give_up "unpacking a Debian root needs root"
[ $# != 0 ] || set -- inspect_ai jupyter mcp smolagents bash-tool computesdk
need_runsc
need_packages mmdebstrap:mmdebstrap setpriv:util-linux ip:iproute2
need_venvs
nobody=54321
kept=$(pwd)/target/integrations
roots=$(pwd)/target/roots
here=$(pwd)/tests/long/integrations

need_library

# venv NAME PACKAGE...: a venv with these and the integration.
venv() {
    name=$1
    shift
    make_venv /usr/bin/python3 "$kept/$name" "$@" 'setuptools>=77'
    install_integration "$kept/$name" "$name"
}

# typescript PACKAGE...: these from npm, and the package of integrations in TypeScript, compiled.
typescript() {
    need_packages node:nodejs npm:npm
    packages=$kept/typescript
    if [ "$(cat "$packages/what" 2>/dev/null)" != "$*" ]; then
        say "installing $*"
        rm -rf "$packages"
        mkdir -p "$packages"
        npm install --silent --no-audit --no-fund --no-save --prefix "$packages" "$@"
        printf '%s\n' "$*" >"$packages/what"
    fi
    rm -rf "$packages/node_modules/libsbx" "$packages/source"
    cp -r examples/node "$packages/node_modules/libsbx"
    cp -r examples/integrations/typescript "$packages/source"
    "$packages/node_modules/.bin/tsc" -p "$packages/source"
}

# Whatever directories lie above the checkout, that user gets to read these. The store of images wants a directory of
# its user's own below one that everybody may write to.
home=$(mktemp -d /var/tmp/sbx-integrations.XXXXXX)
trap 'rm -rf "$home"' EXIT
trap 'exit 130' INT TERM
cp "$SBX_LIBRARY" "$home/libsbx.so"
cp "$SBX_RUNSC" "$home/runsc"
cp -r examples/python/libsbx "$home/libsbx"
cp -r "$here" "$home/tests"
mkdir "$home/home" "$home/roots"
chown "$nobody:$nobody" "$home" "$home/home"
chmod 700 "$home"

# inside VARIABLE=VALUE... PROGRAM ARGUMENT...
inside() {
    # shellcheck disable=SC2016 # the shell inside expands it
    unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
        setpriv --reuid "$nobody" --regid "$nobody" --clear-groups --bounding-set=-all --inh-caps=-all \
        env -i -C "$home/home" PATH=/usr/bin:/bin HOME="$home/home" PYTHONPATH="$home" PYTHONDONTWRITEBYTECODE=1 \
        SBX_LIBRARY="$home/libsbx.so" SBX_RUNSC="$home/runsc" timeout 1200 env "$@"
}

failed=
# suite NAME VARIABLE=VALUE...: runs its tests with pytest, and says how many passed.
suite() {
    name=$1
    shift
    cp -r "$kept/$name" "$home/$name"
    report=$home/home/$name.xml
    inside "$@" "$home/$name/bin/python" -m pytest -q --tb=short -p no:cacheprovider --junit-xml="$report" \
        -c "$home/tests/$name/pytest.ini" "$home/tests/$name" || failed="$failed $name"
    say_passed "$name" "$report"
}

# node_suite NAME VARIABLE=VALUE...: runs its tests with node, and says how many passed.
node_suite() {
    name=$1
    shift
    cp -r "$kept/typescript/node_modules" "$home/tests/typescript/"
    mkdir "$home/tests/typescript/node_modules/libsbx-agents"
    cp -r "$kept/typescript/source/package.json" "$kept/typescript/source/dist" \
        "$home/tests/typescript/node_modules/libsbx-agents/"
    report=$home/home/$name.tap
    inside "$@" "$(command -v node)" --test --test-reporter=tap --test-reporter-destination="$report" \
        --test-reporter=dot --test-reporter-destination=stdout "$home/tests/typescript/$name.test.js" || failed="$failed $name"
    grep -A 30 'not ok' "$report" || :
    rm -rf "$home/tests/typescript/node_modules"
    awk -v name="$name" '/^# tests /{whole = $3} /^# pass /{passed = $3} END{printf "%s: %d passed of %d\n", name, passed, whole}' "$report"
}

for wanted in "$@"; do
    case $wanted in
        inspect_ai)
            make_root tools adduser,procps,python3
            cp "$roots/tools.tar" "$home/roots/tools.tar"
            chmod 644 "$home/roots/tools.tar"
            venv inspect_ai inspect_ai==0.3.285 pytest==9.2.0 pytest-asyncio==1.5.0
            suite inspect_ai SBX_TEST_ROOT="$home/roots/tools.tar"
            ;;
        jupyter)
            venv jupyter jupyter_client==8.10.0 jupyter_kernel_test==0.7.0 ipykernel==7.4.0 pytest==9.2.0 pytest-asyncio==1.5.0
            suite jupyter
            ;;
        mcp)
            venv mcp mcp==2.3.0 pytest==9.2.0 pytest-asyncio==1.5.0
            suite mcp
            ;;
        smolagents)
            venv smolagents smolagents==1.26.0 numpy==2.4.6 pillow==13.0.0 pytest==9.2.0
            suite smolagents
            ;;
        bash-tool | computesdk)
            make_root tools adduser,procps,python3
            cp "$roots/tools.tar" "$home/roots/tools.tar"
            chmod 644 "$home/roots/tools.tar"
            typescript ai@7.0.173 bash-tool@1.3.19 @computesdk/provider@2.1.5 zod@4.6.7 koffi@3.3.4 typescript@5.9.3 \
                @types/node@20.19.0
            node_suite "$wanted" INTEGRATION_ROOT="$home/roots/tools.tar"
            ;;
        *) give_up "there is no integration named $wanted" ;;
    esac
done
[ -z "$failed" ] || give_up "not all of it passed:$failed"
