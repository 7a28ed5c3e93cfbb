#!/bin/sh
# The packages for Python: sh examples/packages/wheel.sh DIRECTORY [BUILT]
#
# Leaves in the directory the wheel and the source distribution of libsbx, and the wheel of libsbx-runsc. BUILT is what
# portable_library (build.sh) has made; without it, that is made first. auditwheel checks each wheel's tag.
set -eu
out=$(mkdir -p "$1" && cd "$1" && pwd)
built=${2:-}
[ -z "$built" ] || built=$(cd "$built" && pwd)
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. examples/packages/build.sh

need_rust
need_runsc
need_go
need_packages objcopy:binutils
need_packaging_tools
if [ -z "$built" ]; then
    built=$(pwd)/target/packages/portable
    portable_library "$built" || give_up "the library could not be built; cargo said why above"
fi
python_build() {
    LIBSBX_BUILT=$built PYTHONPATH=examples/python /usr/bin/python3 -B -c \
        'import sys, build_backend; print(getattr(build_backend, sys.argv[1])(sys.argv[2]))' "$@"
}
wheel=$(python_build build_wheel "$out")
python_build build_sdist "$out"
notices=$(mktemp)
trap 'rm -f "$notices"' EXIT
python3 -B examples/packages/notices.py go "$SBX_RUNSC" >"$notices"
runsc_wheel=$(/usr/bin/python3 -B examples/packages/runsc.py "$SBX_RUNSC" "$notices" "$out")

# A tag is true if auditwheel finds that the wheel's files ask for nothing newer. It doesn't look at functions without a
# version, which a linker for an old glibc leaves as they are: to be found by whatever has them.
unversioned=$(nm -D --undefined-only "$built/libsbx.so" | awk '$1 == "U" && $2 !~ /@/ { print $2 }')
[ -z "$unversioned" ] || give_up "glibc $portable_glibc doesn't have" $unversioned
for name in "$wheel" "$runsc_wheel"; do
    said=$(PYTHONPATH=$packaging PATH=$packaging/bin:$PATH /usr/bin/python3 -B -m auditwheel show "$out/$name" | tr '\n' ' ')
    found=$(printf '%s' "$said" | sed -n 's/.*platform tag: *"manylinux_2_\([0-9]*\)_.*/\1/p')
    stated=$(printf '%s' "$name" | sed -n 's/.*-manylinux_2_\([0-9]*\)_.*/\1/p')
    if [ -z "$found" ] || [ -z "$stated" ] || [ "$found" -gt "$stated" ]; then
        give_up "$name: its tag is not what auditwheel finds: $said"
    fi
    say "$name"
done
