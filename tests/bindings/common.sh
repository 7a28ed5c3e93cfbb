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

# The library as it was just built, for who asks pkg-config: the shared one, and the static one by itself. The
# paths are the same in every run: Go's build cache doesn't look at what pkg-config answers.
bindings=$(pwd)/target/bindings
make_pkg_config() {
    mkdir -p "$bindings/shared" "$bindings/static"
    ln -sf "$(pwd)/target/debug/libsbx.a" "$bindings/static/libsbx.a"
    sed "s|^prefix=.*|prefix=$(pwd)|; s|^libdir=.*|libdir=$(pwd)/target/debug|; s| -Wl,-rpath,.*||" \
        examples/pkgconfig/sbx.pc >"$bindings/shared/sbx.pc"
    sed "s|^prefix=.*|prefix=$(pwd)|; s|^libdir=.*|libdir=$bindings/static|; s| -Wl,-rpath,.*||" \
        examples/pkgconfig/sbx.pc >"$bindings/static/sbx.pc"
}
need_packages pkg-config:pkgconf
make_pkg_config

# A plug-in with a second copy of the library, linked statically and hidden, for hosts that have one already.
make_plugin() {
    mkdir -p "$work/plugin"
    c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -shared -fPIC -fvisibility=hidden -Wl,--exclude-libs,ALL \
        -Iexamples/cpp tests/bindings/plugin.cpp \
        $(PKG_CONFIG_PATH=$bindings/static pkg-config --static --cflags --libs sbx) -o "$work/plugin/libplugin.so"
}
# Whatever the filter: the cases that use it say so if it isn't there.
if wanted_any cpp/tests cpp/sanitized go/two-copies && ! make_plugin >"$logs/plugin.log" 2>&1; then
    record_status "plugin compiles" 1 "$logs/plugin.log"
fi

# below_lines MOST FILE...: a package is to be read as a whole. Blank lines and comments
# don't count.
below_lines() {
    most_lines=$1
    shift
    lines=$(cat "$@" | grep -cvE '^[[:space:]]*(//.*)?$')
    printf '%s lines\n' "$lines"
    [ "$lines" -lt "$most_lines" ]
}

# README's table of what the packages offer; SBX_BLESS=1 python3 tests/bindings/features.py writes it.
check "bindings/features" python3 -B tests/bindings/features.py
