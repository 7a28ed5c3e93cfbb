#!/bin/sh
# Frameworks of agents on their own tests, over examples/integrations: sh tests/long/integrations_agents.sh NAME...
#
# deepagents: langchain-tests' SandboxIntegrationTests. swe-rex: the tests of its runtime, from its source distribution.
# openai-agents and harbor, which publish none: tests of ours, by their own calls. Harbor takes Python 3.12 or later.
# Their versions are pinned below and installed below target/integrations. The tests run as an ordinary user in a network
# namespace of their own, on a release build (or SBX_LIBRARY). The last line of each is "NAME: N passed of M".
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. tests/long/common.sh

[ "$#" -gt 0 ] || set -- deepagents swe-rex openai-agents harbor
[ "$(id -u)" = 0 ] || give_up "running as another user needs root"
need_runsc
need_packages mmdebstrap:mmdebstrap setpriv:util-linux ip:iproute2
need_venvs
need_library
nobody=54321
kept=$(pwd)/target/integrations
home=$(mktemp -d /var/tmp/sbx-integrations.XXXXXX)
# That user's own, with mode 0700, as the store of images insists on below /var/tmp.
users_home=$(mktemp -d /var/tmp/sbx-integrations-home.XXXXXX)
trap 'rm -rf "$home" "$users_home"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$home"
chown "$nobody:$nobody" "$users_home"
# Whatever directories lie above the checkout, that user gets to read these.
cp "$SBX_LIBRARY" "$home/libsbx.so"
cp "$SBX_RUNSC" "$home/runsc"

python=/usr/bin/python3
# newer_python: sets python to one of 3.12 or later, of this system or of pyenv; what it returns says whether there is one.
newer_python() {
    for name in python3 python3.12 python3.13 python3.14 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
        prefix=$("$name" -c 'import sys; print(sys.base_prefix if sys.version_info >= (3, 12) else "")' 2>/dev/null) || continue
        [ -n "$prefix" ] || continue
        python=$prefix/bin/python3
        return 0
    done
    return 1
}

# installed NAME REQUIREMENT...: a venv with these and no others.
installed() {
    name=$1
    shift
    make_venv "$python" "$kept/$name" "$@"
}

# images.sh has the same one.
python_root() {
    make_root python python3,python3-pip
}

# tested NAME PYTEST-ARGUMENT...: in $home/NAME, which is laid out as that user's; says how many passed.
tested() {
    name=$1
    shift
    cp -r examples/python/libsbx "$kept/$name"/lib/python3*/site-packages/. "$home/$name/"
    runs=$python libraries=
    if [ "$python" != /usr/bin/python3 ]; then
        cp -r "${python%/bin/*}" "$home/$name-python"
        runs=$home/$name-python/bin/python3 libraries=$home/$name-python/lib
        chmod -R a+rX "$home/$name-python"
    fi
    chmod -R a+rX "$home/$name"
    status=0
    # shellcheck disable=SC2016 # the shell inside expands it
    (cd "$users_home" && unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
        setpriv --reuid "$nobody" --regid "$nobody" --clear-groups --bounding-set=-all --inh-caps=-all \
        env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$users_home" LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
        PYTHONPATH="$home/$name" LD_LIBRARY_PATH="$libraries" SBX_LIBRARY="$home/libsbx.so" SBX_RUNSC="$home/runsc" INTEGRATION_ROOT="$home/python.tar" \
        timeout 900 "$runs" -m pytest -q --tb=short -p no:cacheprovider --junit-xml="$users_home/$name.xml" \
        "$@") || status=$?
    say_passed "$name" "$users_home/$name.xml"
}

failed=0
for wanted in "$@"; do
    mkdir "$home/$wanted"
    case $wanted in
        deepagents)
            installed deepagents deepagents==0.7.32 langchain-tests==1.1.9 pytest==9.2.0 pytest-asyncio==1.5.0
            python_root
            cp target/roots/python.tar "$home/python.tar"
            chmod 644 "$home/python.tar"
            cp examples/integrations/deepagents/*.py tests/long/integrations/deepagents/*.py "$home/deepagents"
            tested deepagents -o asyncio_mode=auto "$home/deepagents/test_deepagents.py"
            ;;
        swe-rex)
            installed swe-rex swe-rex==1.4.0 aiohttp==3.14.5 pytest==9.2.0 pytest-asyncio==1.5.0
            if [ ! -d "$kept/swe-rex/tests" ]; then
                "$kept/swe-rex/bin/pip" download --quiet --no-deps --no-binary :all: --dest "$kept/swe-rex" swe-rex==1.4.0
                tar -x --strip-components 1 -C "$kept/swe-rex" -f "$kept"/swe-rex/swe_rex-1.4.0.tar.gz swe_rex-1.4.0/tests
            fi
            cp examples/integrations/swe-rex/*.py "$home/swe-rex"
            mkdir "$home/swe-rex/rextests"
            cp tests/long/integrations/swe-rex/conftest.py "$kept/swe-rex/tests/test_execution.py" "$home/swe-rex/rextests"
            touch "$home/swe-rex/rextests/__init__.py"
            tested swe-rex -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=session \
                -o asyncio_default_test_loop_scope=session "$home/swe-rex/rextests"
            ;;
        openai-agents)
            installed openai-agents openai-agents==0.24.0 pytest==9.2.0 pytest-asyncio==1.5.0
            python_root
            cp target/roots/python.tar "$home/python.tar"
            chmod 644 "$home/python.tar"
            cp examples/integrations/openai-agents/*.py tests/long/integrations/openai-agents/*.py "$home/openai-agents"
            tested openai-agents -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=module \
                -o asyncio_default_test_loop_scope=module "$home/openai-agents/test_session.py"
            ;;
        harbor)
            newer_python || give_up "harbor takes Python 3.12 or later, and there is none"
            installed harbor harbor==0.26.0 pytest==9.2.0 pytest-asyncio==1.5.0
            python_root
            cp target/roots/python.tar "$home/python.tar"
            chmod 644 "$home/python.tar"
            cp examples/integrations/harbor/*.py tests/long/integrations/harbor/*.py "$home/harbor"
            tested harbor -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=module "$home/harbor/test_environment.py"
            python=/usr/bin/python3
            ;;
        *) give_up "unknown integration $wanted" ;;
    esac
    [ "$status" = 0 ] || failed=1
done
exit "$failed"
