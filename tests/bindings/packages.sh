# Packages that the tests of Python and Node take from their registries. Sourced after say.sh and packages.sh, in the
# checkout's root.
#
# They are kept in target/packages and fetched again only when their list or the language's version changes:
# otherwise nothing is contacted.

# fetch_into DIRECTORY VERSION LIST COMMAND...: runs the command, with a new directory's name behind it, unless the
# directory is there already, from this list and version.
fetch_into() {
    fetch_directory=$1
    fetch_stamp=$(printf '%s\n' "$2" && cat "$3")
    shift 3
    if [ -d "$fetch_directory" ] && [ "$fetch_stamp" = "$(cat "$fetch_directory.from" 2>/dev/null)" ]; then
        return 0
    fi
    say "fetching packages into ${fetch_directory#"$(pwd)"/}"
    rm -rf "$fetch_directory" "$fetch_directory.new" "$fetch_directory.from"
    mkdir -p "$fetch_directory.new"
    "$@" "$fetch_directory.new" || give_up "$1 could not fetch what the tests of a binding take; it said why above"
    mv "$fetch_directory.new" "$fetch_directory"
    printf '%s\n' "$fetch_stamp" >"$fetch_directory.from"
}

# need_python_packages: sets python_packages, for PYTHONPATH. The interpreter is the system's, which every user can
# run, wherever the one in PATH may be.
need_python_packages() {
    if ! /usr/bin/python3 -m pip --version >/dev/null 2>&1; then
        need_packages /usr/lib/python3/dist-packages/pip:python3-pip
    fi
    python_packages=$(pwd)/target/packages/python
    fetch_into "$python_packages" "$(/usr/bin/python3 --version)" tests/bindings/python/packages.txt \
        /usr/bin/python3 -m pip --quiet --disable-pip-version-check install --no-compile --root-user-action ignore \
        --requirement tests/bindings/python/packages.txt --target
}

# need_node_packages: sets node_packages, a directory with node_modules in it.
need_node_packages() {
    need_packages node:nodejs npm:npm
    node_prefix=$(node -p 'path.dirname(path.dirname(process.execPath))')
    need_packages "$node_prefix/include/node/node.h:libnode-dev" make:make c++:g++
    node_packages=$(pwd)/target/packages/node
    fetch_into "$node_packages" "$(node --version)" tests/bindings/node/package-lock.json fetch_node_packages
}

# koffi comes with its binaries; ffi-napi is compiled, with the headers of the Node that is here.
fetch_node_packages() (
    cp tests/bindings/node/package.json tests/bindings/node/package-lock.json "$1"
    cd "$1"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null || exit 1
    npm_config_nodedir=$node_prefix npm rebuild --loglevel=error @2060.io/ref-napi @2060.io/ffi-napi >/dev/null &&
        node -e 'require("@2060.io/ffi-napi")'
)
