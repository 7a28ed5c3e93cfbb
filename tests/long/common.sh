# What the cases of the long tier that run programs of others share. Sourced, after the scripts of tests/setup, in the checkout's root.

# need_library: sets SBX_LIBRARY to the release build, unless it names a library already.
need_library() {
    if [ -z "${SBX_LIBRARY:-}" ]; then
        need_rust
        cargo build --quiet --release --locked
        SBX_LIBRARY=$(pwd)/target/release/libsbx.so
    fi
}

# need_venvs: the packages of the distribution that make_venv takes.
need_venvs() {
    need_packages /usr/bin/python3:python3
    need_packages "$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')/ensurepip/__init__.py:python3-venv"
}

# make_root NAME PACKAGES: target/roots/NAME.tar, a root file system of the release that runs here, from the same sources, unless
# it is there.
make_root() {
    [ ! -e "target/roots/$1.tar" ] || return 0
    mkdir -p target/roots
    say "making a root with $2"
    (
        . /etc/os-release
        set -- "target/roots/$1" "$2" "$VERSION_CODENAME"
        sources=$(find /etc/apt/sources.list* -type f -name '*.list' -o -type f -name '*.sources')
        # shellcheck disable=SC2086 # words
        mmdebstrap --quiet --variant=minbase --include="$2" "$3" "$1.part.tar" $sources
        mv "$1.part.tar" "$1.tar"
    )
}

# make_venv PYTHON DIRECTORY REQUIREMENT...: a venv with these, unless it is there with the very same.
make_venv() {
    (
        python=$1
        venv=$2
        shift 2
        if [ "$(cat "$venv/what" 2>/dev/null)" != "$*" ]; then
            say "installing $*"
            rm -rf "$venv"
            "$python" -m venv "$venv"
            "$venv/bin/pip" install --quiet "$@"
            printf '%s\n' "$*" >"$venv/what"
        fi
    )
}

# install_integration VENV NAME: an integration of examples/integrations, of a copy, since setuptools writes beside what it builds.
install_integration() {
    rm -rf "$1/source"
    cp -r "examples/integrations/$2" "$1/source"
    "$1/bin/pip" install --quiet --no-deps --no-build-isolation --force-reinstall "$1/source"
}

# say_passed NAME REPORT: "NAME: N passed of M", of pytest's report in JUnit's form.
say_passed() {
    /usr/bin/python3 - "$1" "$2" <<'END'
import sys, xml.etree.ElementTree as tree

suite = tree.parse(sys.argv[2]).find("testsuite")
total, *others = (int(suite.get(each)) for each in ("tests", "failures", "errors", "skipped"))
print(f"{sys.argv[1]}: {total - sum(others)} passed of {total}")
END
}
