#!/bin/sh
# The main job, from nothing: sh examples/quickstart.sh
#
# Installs what is missing, builds the library, compiles examples/c/http_server.c, and runs it: a web server in
# a gVisor sandbox, reached over TLS. Started by root it does so once more as an ordinary user.
set -eu
cd "$(dirname "$0")/.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh

need_build_packages
need_rust
need_runsc
say "runsc: $SBX_RUNSC"

say "building the library (some minutes the first time)"
cargo build --release --locked --quiet
library=$(pwd)/target/release
mkdir -p target/examples
cc -std=c99 -Wall -Wextra -Wpedantic -Iinclude examples/c/http_server.c "-L$library" -lsbx \
    "-Wl,-rpath,$library" -o target/examples/http_server

say ""
say "== as $(id -un 2>/dev/null || id -u) (uid $(id -u)) =="
sh examples/c/http_server.sh target/examples/http_server

if [ "$(id -u)" = 0 ]; then
    # CAP_SETGID, CAP_SETUID, CAP_SETPCAP: what becoming somebody else takes.
    if able 6 && able 7 && able 8 && command -v setpriv >/dev/null 2>&1; then
        uid=54321
        say ""
        say "== as an ordinary user (uid $uid, no capability) =="
        # That user may not be able to read this directory.
        copy=$(mktemp -d)
        trap 'rm -rf "$copy"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        cp target/examples/http_server examples/c/http_server.sh "$library/libsbx.so" "$copy"
        ln -s libsbx.so "$copy/libsbx.so.0"
        cp "$SBX_RUNSC" "$copy/runsc"
        chmod -R a+rX "$copy"
        env -i PATH="$PATH" LANG=C.UTF-8 SBX_RUNSC="$copy/runsc" LD_LIBRARY_PATH="$copy" \
            setpriv --reuid=$uid --regid=$uid --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
            sh -c 'cd "$1" && exec sh ./http_server.sh ./http_server' sh "$copy"
    else
        say ""
        say "not shown as an ordinary user: this root can't become one (CAP_SETUID, CAP_SETGID, CAP_SETPCAP)"
    fi
fi
say ""
say "Everything worked. The program is examples/c/http_server.c, compiled: target/examples/http_server"
