# The library in other languages: what tests/bindings/LANGUAGE/build.sh uses. Sourced by tests/run.sh, in the
# checkout's root, after the library and the C programs were built.
#
# A build.sh names its cases, builds below $work what every identity can read, and adds each case that was built.
# Cases run from the copy in $work/checkout, where nothing can be built and nothing outside can be reached.

# wanted_any NAME...: whether the filter is a part of any of these names.
wanted_any() {
    for wanted_name in "$@"; do
        if wanted "$wanted_name"; then
            return 0
        fi
    done
    return 1
}

# add_case NAME KIND COMMAND: run COMMAND under each identity, with the library where the loader finds it and
# SBX_RUNSC set. KIND says how the results are read: status, rust or go (tests/harness/report.sh).
add_case() {
    printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$work/cases"
}

# The library as it was just built, for who asks pkg-config: the shared one, and the static one by itself.
make_pkg_config() {
    mkdir -p "$work/pkgconfig" "$work/static"
    ln -sf "$(pwd)/target/debug/libsbx.a" "$work/static/libsbx.a"
    sed "s|^prefix=.*|prefix=$(pwd)|; s|^libdir=.*|libdir=$work/target/debug/deps|; s| -Wl,-rpath,.*||" \
        examples/pkgconfig/sbx.pc >"$work/pkgconfig/sbx.pc"
    sed "s|^prefix=.*|prefix=$(pwd)|; s|^libdir=.*|libdir=$work/static|; s| -Wl,-rpath,.*||" \
        examples/pkgconfig/sbx.pc >"$work/static/sbx.pc"
}
need_packages pkg-config:pkgconf
make_pkg_config
