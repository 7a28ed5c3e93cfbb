#!/bin/sh
# Installs the library: sh examples/install.sh [--prefix DIR] [--libdir DIR] [--destdir DIR] [--built DIR]
#                                              [--no-runsc] [--no-debug] [--uninstall]
#
# Builds what isn't built yet and installs libsbx.so with its links, libsbx.a, sbx.h, sbx.hpp, files for pkg-config and
# CMake, the keeper's program, and runsc. No program called sbx is among them. --prefix is /usr/local if nothing is said,
# --libdir is lib below it (a relative one is below the prefix); --destdir is put before every path, for packages.
# --built names a directory with libsbx.so, libsbx.a and sbx-keeper, so that nothing is built. A runsc that is there
# and not ours stays.
#
# What was installed is listed in share/libsbx/manifest below the prefix: --uninstall removes that, and nothing else.
set -eu
cd "$(dirname "$0")/.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. examples/packages/build.sh

usage() {
    give_up "$1" "usage: sh examples/install.sh [--prefix DIR] [--libdir DIR] [--destdir DIR] [--built DIR]" \
        "       [--no-runsc] [--no-debug] [--uninstall]"
}

prefix=/usr/local
libdir=lib
destdir=
built=
with_runsc=yes
with_debug=yes
uninstall=
while [ $# -gt 0 ]; do
    case $1 in
        --prefix=* | --libdir=* | --destdir=* | --built=*)
            option=${1%%=*}
            value=${1#*=}
            ;;
        --prefix | --libdir | --destdir | --built)
            [ $# -gt 1 ] || usage "$1 needs a directory"
            option=$1
            value=$2
            shift
            ;;
        --no-runsc | --no-debug | --uninstall)
            option=$1
            value=
            ;;
        *) usage "unknown option $1" ;;
    esac
    shift
    case $option in
        --prefix) prefix=${value%/} ;;
        --libdir) libdir=${value%/} ;;
        --destdir) destdir=${value%/} ;;
        --built) built=$value ;;
        --no-runsc) with_runsc= ;;
        --no-debug) with_debug= ;;
        --uninstall) uninstall=yes ;;
    esac
done
case $prefix in
    /*) ;;
    *) usage "--prefix must be an absolute path: $prefix" ;;
esac
case $destdir in
    '' | /*) ;;
    *) usage "--destdir must be an absolute path: $destdir" ;;
esac
case $libdir in
    "$prefix"/*) libdir=${libdir#"$prefix"/} ;;
    '' | /* | .. | ../* | */../* | */..) usage "--libdir must be below the prefix: $libdir" ;;
esac
root=$destdir$prefix
manifest=$root/share/libsbx/manifest

# The loader's list of libraries, where the loader looks for them by itself.
refresh_loader() {
    if [ -z "$destdir" ] && [ "$(id -u)" = 0 ] && command -v ldconfig >/dev/null 2>&1; then
        case $prefix in
            /usr | /usr/local) ldconfig ;;
        esac
    fi
}

# listed MANIFEST: what it lists, if that is below the prefix.
listed() {
    [ ! -f "$1" ] || grep -vE '^/|(^|/)\.\.(/|$)|^$' "$1" || :
}

# take_away LIST: removes those files, and those directories that are empty then, the deepest first.
take_away() {
    sort -r "$1" | while IFS= read -r item; do
        case $item in
            */) rmdir "$root/$item" 2>/dev/null || : ;;
            *) rm -f "$root/$item" ;;
        esac
    done
}

scratch=$(mktemp -d)
# An installation that ends early leaves a list of what is there by then, for --uninstall and for the next one.
leave() {
    if [ -s "$scratch/installed" ] && [ ! -e "$scratch/complete" ]; then
        directory share/libsbx
        printf 'share/libsbx/manifest\n' | cat - "$scratch/before" "$scratch/installed" | sort -u >"$manifest.new"
        mv -f "$manifest.new" "$manifest"
    fi
    rm -rf "$scratch"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
listed "$manifest" >"$scratch/before"

if [ -n "$uninstall" ]; then
    [ -f "$manifest" ] || give_up "nothing was installed there by this script: $manifest is missing"
    take_away "$scratch/before"
    refresh_loader
    say "removed from $root: $(grep -cv '/$' "$scratch/before") files"
    exit 0
fi

need_packages objcopy:binutils
if [ -z "$built" ]; then
    need_build_packages
    need_rust
    say "building the library (some minutes the first time)"
    built=$scratch/built
    built_library "$built" cargo build --release --quiet || give_up "the library could not be built; cargo said why above"
fi
for name in libsbx.so libsbx.a sbx-keeper; do
    [ -f "$built/$name" ] || give_up "$built/$name is missing"
done
if [ -n "$with_runsc" ] && [ -e "$root/bin/runsc" ] && ! grep -qx bin/runsc "$scratch/before"; then
    say "$root/bin/runsc stays: it was not installed by this script"
    with_runsc=
fi
if [ -n "$with_runsc" ]; then
    need_runsc
fi

: >"$scratch/installed"

# directory PATH: below the prefix. One that was not there before is ours to remove.
directory() {
    [ "$1" != . ] || { mkdir -p "$root" && return; }
    [ ! -d "$root/$1" ] || return 0
    directory "$(dirname "$1")"
    mkdir "$root/$1"
    printf '%s/\n' "$1" >>"$scratch/installed"
}

# place MODE FILE PATH: a file below the prefix, by a rename: a running program keeps what it has.
place() {
    directory "$(dirname "$3")"
    printf '%s\n' "$3" "$3.new" >>"$scratch/installed"
    cp "$2" "$root/$3.new"
    chmod "$1" "$root/$3.new"
    mv -f "$root/$3.new" "$root/$3"
}

# link TARGET PATH
link() {
    ln -sf "$1" "$scratch/link"
    mv -f "$scratch/link" "$root/$2" 2>/dev/null || ln -sf "$1" "$root/$2"
    printf '%s\n' "$2" >>"$scratch/installed"
}

version=$(sbx_version)
# From the CMake package's directory to the prefix.
up=$(printf '%s/cmake/sbx' "$libdir" | sed 's|[^/][^/]*|..|g')
# What the archive needs beside itself, as flags and as CMake's list; a test compares it with what Rust says.
private=$(sed -n 's/^Libs.private: *//p' examples/pkgconfig/sbx.pc)
private_cmake=$(printf '%s' "$private" | sed 's/ *-l/;/g; s/^;//')
filled() {
    sed "s|@prefix@|$prefix|g; s|@libdir@|$libdir|g; s|@version@|$version|g; s|@up@|$up|g; s|@private@|$private|g
        s|@private_cmake@|$private_cmake|g" "$1" >"$scratch/filled"
}

stripped_library "$built/libsbx.so" "$scratch/libsbx.so.$version"
objcopy --strip-debug "$built/libsbx.a" "$scratch/libsbx.a"
place 644 "$scratch/libsbx.so.$version" "$libdir/libsbx.so.$version"
link "libsbx.so.$version" "$libdir/libsbx.so.0"
link libsbx.so.0 "$libdir/libsbx.so"
if [ -n "$with_debug" ]; then
    place 644 "$scratch/.debug/libsbx.so.$version.debug" "$libdir/.debug/libsbx.so.$version.debug"
fi
place 644 "$scratch/libsbx.a" "$libdir/libsbx.a"
place 644 include/sbx.h include/sbx.h
place 644 examples/cpp/sbx.hpp include/sbx.hpp
filled examples/packages/sbx.pc.in
place 644 "$scratch/filled" "$libdir/pkgconfig/sbx.pc"
for name in sbx-config.cmake sbx-config-version.cmake; do
    filled "examples/packages/$name.in"
    place 644 "$scratch/filled" "$libdir/cmake/sbx/$name"
done
place 755 "$built/sbx-keeper" libexec/sbx-keeper
if [ -n "$with_runsc" ]; then
    place 755 "$SBX_RUNSC" bin/runsc
fi
for name in LICENSE-MIT LICENSE-APACHE; do
    place 644 "$name" "share/libsbx/$name"
done

# Directories of an earlier installation are still ours; files of it that are no more go.
printf 'share/libsbx/manifest\n' >>"$scratch/installed"
grep '/$' "$scratch/before" >>"$scratch/installed" || :
grep -v '\.new$' "$scratch/installed" | sort -u >"$scratch/manifest"
sort -u "$scratch/before" | comm -23 - "$scratch/manifest" >"$scratch/gone"
take_away "$scratch/gone"
place 644 "$scratch/manifest" share/libsbx/manifest
: >"$scratch/complete"
refresh_loader
say "installed below $root; sh examples/install.sh --uninstall with the same --prefix removes it"
