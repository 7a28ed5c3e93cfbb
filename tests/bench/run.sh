#!/bin/sh
# The benchmark: libsbx against its peers, side by side in one run, as ratios.
#
#   sh tests/bench/run.sh [start|terminate|exec|storm|scale|filling|tunnel|tls|memory|egress|files|node|image|neighbour]...     without a word: all
#   sh tests/bench/run.sh cold     where the time of a start goes (COLD.md); needs root and perf
#
# DATA.md says why tunnel, tls, egress, exec and neighbour miss what they miss.
#
# Every figure is the median of several runs, ours and the peers' in turns; it is printed, and appended as one
# JSON line to target/bench/results.jsonl: the medians, the least, the quartiles and the greatest of each side's runs and of
# their ratios turn by turn, and the budget, below one line on the machine and the versions. A missed budget is printed,
# not an error: how fast a machine is today is no test. At the end report.py prints them as a table and writes charts beside
# results.jsonl; `python3 tests/bench/report.py --write` makes that run the one that the repository shows.
#
# Environment:
#   SBX_RUNSC        the runsc to use (default: the one in PATH)
#   BENCH_USER       as root: the ordinary user that the library and plain runsc run as (default nobody)
#   BENCH_RUNS       runs of each figure of tunnel and tls (5), and of memory (5)
#   BENCH_STARTS     runs of start, of first sandboxes and of terminate (15), and a quarter of those of exec
#   BENCH_NODE_SANDBOXES  how many sandboxes node starts (50)
#   BENCH_MS         milliseconds of each throughput run (1000)
#   BENCH_IMAGE_MB   size of the image that is pulled, in MiB (200)
#   BENCH_FILE_MB    size of the large file of files, in MiB (1024; it lies in the sandbox's memory)
#   BENCH_ROUNDS     rounds of neighbour (3), each with every attack and its control
#   BENCH_SAMPLES    samples of each figure in a round of neighbour (700), and a twentieth of it for what is slow
#   BENCH_ATTACKS    the attacks of neighbour (all; neighbour.c names them)
#   BENCH_STORMS     how many sandboxes storm creates at once ("1 8 32 128"), and BENCH_ROUNDS how often
#   BENCH_MAX_STARTS how many of them start at once (0: the library's default)
#   BENCH_SCALE      how many sandboxes scale has in one process (500, as memory allows)
#   BENCH_LIBRARY    a directory with libsbx.so to measure instead of building one
#
# Needs a C compiler, OpenSSL's headers, HAProxy, nginx with its stream module, for egress slirp4netns and nft, from
# Debian's packages, and for image docker-registry, skopeo and umoci; root installs what is missing.
# Further peers are left out where they are missing and this isn't root: for start crun and bubblewrap, for egress pasta
# (package passt). gVisor's Python SDK comes from PyPI, into target/bench/sdk; without it start and exec leave it out. Without root the
# peers join the sandbox's gateway as its owner, and egress is left out. 10,000 connections need a limit of 54,000
# descriptors, which is raised where that is allowed; else they are as many as fit.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=$top/target/bench
results=$out/results.jsonl
runs=${BENCH_RUNS:-5}
starts=${BENCH_STARTS:-15}
duration=${BENCH_MS:-1000}
user=${BENCH_USER:-nobody}
started=

give_up() {
    echo "bench: $*" >&2
    exit 1
}

. "$here/figures.sh"
. "$here/machine.sh"
. "$here/peers.sh"
. "$here/runtimes.sh"
. "$here/measures.sh"
. "$here/neighbours.sh"
. "$here/node.sh"
. "$here/image.sh"
. "$here/storm.sh"

install_peers() {
    missing=
    command -v cc >/dev/null || missing="$missing gcc libc6-dev"
    [ -e /usr/include/openssl/ssl.h ] || missing="$missing libssl-dev"
    command -v openssl >/dev/null || missing="$missing openssl"
    PATH=$PATH:/usr/sbin:/sbin
    command -v haproxy >/dev/null || missing="$missing haproxy"
    [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing="$missing nginx-light libnginx-mod-stream"
    case " $* " in
    *" egress "*)
        command -v slirp4netns >/dev/null || missing="$missing slirp4netns"
        command -v nft >/dev/null || missing="$missing nftables"
        ;;
    esac
    case " $* " in
    *" image "*)
        command -v docker-registry >/dev/null || missing="$missing docker-registry"
        command -v skopeo >/dev/null || missing="$missing skopeo"
        command -v umoci >/dev/null || missing="$missing umoci"
        ;;
    esac
    if [ -n "$missing" ]; then
        [ "$(id -u)" = 0 ] || give_up "missing:$missing; install them: apt-get install$missing"
        install_packages $missing
    fi
    # Without these a side is left out, and says so.
    optional=
    case " $* " in
    *" start "* | *" terminate "*)
        command -v crun >/dev/null || optional="$optional crun"
        command -v bwrap >/dev/null || optional="$optional bubblewrap"
        ;;
    esac
    case " $* " in *" egress "*) command -v pasta >/dev/null || optional="$optional passt" ;; esac
    if [ "$(id -u)" = 0 ]; then
        for package in $optional; do
            install_packages "$package" || echo "$package can't be installed" >&2
        done
    fi
}

install_packages() {
    echo "installing $*" >&2
    # Only the programs are wanted, not services that start by themselves.
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && ours_policy=$policy; }
    installed=0
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2 ||
        { apt-get update >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2; } || installed=1
    [ -z "${ours_policy-}" ] || rm "$ours_policy"
    ours_policy=
    return $installed
}

build() {
    library=${BENCH_LIBRARY:-$top/target/release}
    [ -n "${BENCH_LIBRARY-}" ] || (cd "$top" && cargo build --release --lib)
    flags="-std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror"
    cc $flags -static -pthread "$here/client/server.c" -o "$bin/server"
    cc $flags -pthread "$here/client/load.c" -o "$bin/load" -lssl -lcrypto
    cc $flags -static -pthread -Wl,--no-warnings "$here/client/load.c" -o "$bin/load-static" -lssl -lcrypto
    cc $flags "$here/client/into.c" -o "$bin/into"
    cc $flags "$here/client/raw.c" -o "$bin/raw"
    cc $flags -static -pthread "$here/client/attack.c" -o "$bin/attack"
    cc $flags -pthread "$here/client/attack_tls.c" -o "$bin/attack_tls" -lssl -lcrypto
    cp "$library"/libsbx.so* "$bin/"
    for program in host files image; do
        cc $flags -I"$top/include" "$here/$program.c" -o "$bin/$program" -L"$bin" -lsbx -Wl,-rpath,"$bin"
    done
    cc $flags -pthread -I"$top/include" "$here/storm.c" -o "$bin/storm" -L"$bin" -lsbx -Wl,-rpath,"$bin"
    cc $flags -pthread -I"$top/include" "$here/neighbour.c" -o "$bin/neighbour" -L"$bin" -lsbx -Wl,-rpath,"$bin" \
        -lssl -lcrypto
}

# An ordinary user's command, in this process: call it in a subshell or in the background.
as_user() {
    [ "$(id -u)" = 0 ] || exec "$@"
    # The directories of root's session are not this user's.
    unset XDG_RUNTIME_DIR
    exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups --inh-caps=-all "$@"
}

clean_up() {
    status=$?
    trap - EXIT INT TERM
    exec 6>&- 7>&- 8>&- 9>&-
    for pid in $started; do
        tell_to_end "$pid"
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work" ${stores:+"$stores"}
    exit $status
}

[ $# -gt 0 ] || set -- start terminate exec storm scale filling tunnel tls memory egress files node image neighbour
for what in "$@"; do
    case $what in
    start | terminate | exec | storm | scale | filling | tunnel | tls | memory | egress | files | node | image | neighbour | cold) ;;
    *) give_up "\"$what\" is none of cold, start, terminate, exec, storm, scale, filling, tunnel, tls, memory, egress, files, node, image, neighbour" ;;
    esac
done
runsc=${SBX_RUNSC:-$(command -v runsc || true)}
[ -x "$runsc" ] || give_up "no runsc: put it in PATH or set SBX_RUNSC"

# Before our own building counts.
read -r load _ </proc/loadavg
echo "$(nproc) processors, load $load before the start$(awk -v load="$load" 'BEGIN {
    if (load > 0.5) printf ": others are at work, the figures will be rough" }')"

install_peers "$@"
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
# A connection takes two descriptors, and one sandbox's tunnels get three eighths of what the library has.
most_idle=$(((($(ulimit -n) - 256) * 3 / 8 - 100) / 2))
[ "$most_idle" -le 10000 ] || most_idle=10000
[ "$most_idle" -gt 1000 ] || give_up "$(ulimit -n) descriptors are too few: ulimit -n 54000"
mkdir -p "$out"
# Everything the ordinary user runs or reads is here: it needn't be able to read this repository.
work=$(mktemp -d "${TMPDIR:-/tmp}/sbx-bench.XXXXXX")
trap clean_up EXIT
trap 'exit 130' INT TERM
chmod 755 "$work"
bin=$work/bin
mkdir "$bin" "$work/state"
[ "$(id -u)" != 0 ] || chown "$user" "$work/state"
build
cp "$runsc" "$bin/runsc"
export SBX_RUNSC="$bin/runsc"
[ "$*" = cold ] || record_machine "$@"

lifecycle=
for what in "$@"; do
    case $what in
    # Both come out of the same runs.
    start | terminate)
        [ -n "$lifecycle" ] || measure_lifecycle
        lifecycle=done
        "report_$what"
        ;;
    *) "measure_$what" ;;
    esac
done
echo
# Below everything that was said meanwhile: the same as a table with spread, and charts.
[ "$*" = cold ] || python3 -B "$here/report.py" "$results"
