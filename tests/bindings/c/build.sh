# C, beyond what tests/run.sh compiles: the static archive, and an installed library. Sourced; see ../common.sh.

# What the archive needs beside itself is what Rust says that it needs: in sbx.pc, and so in every README. It says so for
# any archive with the crates of this one, which are compiled by now.
native_static_libs() {
    printf 'pub use sbx;\n' | rustc --edition 2024 --crate-name sbx_static --crate-type staticlib \
        --extern "sbx=$CARGO_TARGET_DIR/debug/libsbx.rlib" -L "dependency=$CARGO_TARGET_DIR/debug/deps" \
        --print "native-static-libs=$bindings/native-static-libs" -o "$work/native-static-libs.a" - || return 1
    rm "$work/native-static-libs.a"
    native_seen=$(cat "$bindings/native-static-libs")
    native_noted=$(sed -n 's/^Libs.private: *//p' examples/pkgconfig/sbx.pc)
    printf 'Rust says:   %s\nsbx.pc says: %s\n' "$native_seen" "$native_noted"
    [ -n "$native_seen" ] && [ "$native_seen" = "$native_noted" ]
}

c_static() {
    cc -std=c99 -Wall -Wextra -Wpedantic -Werror examples/c/http_server.c \
        $(PKG_CONFIG_PATH=$bindings/static pkg-config --static --cflags --libs sbx) -o "$work/c/static" &&
        ! readelf -d "$work/c/static" | grep libsbx
}

# As who installs the library sees it: header, pkg-config file, both libraries, no program; and a C program with it.
installed() {
    rm -rf "$bindings/prefix" &&
        cargo cinstall --locked --debug --prefix "$bindings/prefix" --libdir "$bindings/prefix/lib" \
            --target-dir "$bindings/capi" &&
        (cd "$bindings/prefix" && find . ! -type d | sort) >"$bindings/installed" &&
        diff tests/bindings/c/installed.txt "$bindings/installed" &&
        cc -std=c99 -Wall -Wextra -Wpedantic -Werror examples/c/http_server.c \
            $(PKG_CONFIG_PATH=$bindings/prefix/lib/pkgconfig pkg-config --cflags --libs sbx) -o "$work/c/installed" &&
        cp "$bindings"/prefix/lib/libsbx.so.0 "$work/c/"
}

check "c/native-static-libs" native_static_libs
if wanted_any c/static; then
    check "c/static compiles" c_static
    add_case c/static status "env LD_LIBRARY_PATH= sh examples/c/http_server.sh $work/c/static"
fi

# It builds everything once more, for some minutes.
if { [ -n "${SBX_LONG:-}" ] || [ "$filter" = c/installed ]; } && wanted_any c/installed; then
    if cargo cinstall --version >/dev/null 2>&1; then
        check "c/installed builds" installed
        add_case c/installed status "env LD_LIBRARY_PATH=$work/c sh examples/c/http_server.sh $work/c/installed"
    else
        say "left out: c/installed, since cargo-c isn't there (cargo install cargo-c)"
    fi
fi
