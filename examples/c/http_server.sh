#!/bin/sh
# Runs http_server, compiled, and looks at it from outside: sh examples/c/http_server.sh path/to/http_server
#
# Shows the sandbox's life, fetches its page with curl, and counts what is left when it has ended: processes,
# mounts, network namespaces and files. Anything missing or left over is an error.
set -eu

program=$1
scratch=$(mktemp -d)
server=
exec 3>/dev/null

# Whatever happens, the server goes with us: it ends when its standard input does.
clean_up() {
    exec 3>&-
    if [ -n "$server" ]; then
        wait "$server" || :
    fi
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

give_up() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

# The state directories of sandboxes lie where they can be counted.
unset XDG_RUNTIME_DIR
TMPDIR=$scratch/tmp
export TMPDIR
mkdir "$TMPDIR"

# Processes of this user that belong to sandboxes. runsc starts itself again as /proc/self/exe.
processes() {
    cat /proc/[0-9]*/status 2>/dev/null | awk -v uid="$(id -u)" '
        /^Name:/ { name = $2 }
        /^Uid:/ && $2 == uid && name ~ /^(sbx-keeper|runsc|exe)/ { count++ }
        END { print count + 0 }'
}

mounts() {
    awk 'END { print NR }' /proc/self/mounts
}

namespaces() {
    readlink /proc/[0-9]*/ns/net 2>/dev/null | sort -u | awk 'END { print NR }'
}

files() {
    find "$TMPDIR" -mindepth 1 | awk 'END { print NR }'
}

counts() {
    printf '%s processes, %s mounts, %s network namespaces, %s files' \
        "$(processes)" "$(mounts)" "$(namespaces)" "$(files)"
}

before=$(counts)
processes_before=$(processes)
printf 'before:      %s\n' "$before"

mkfifo "$scratch/hold"
"$program" "$scratch/ca.pem" <"$scratch/hold" >"$scratch/out" 2>&1 &
server=$!
exec 3>"$scratch/hold"
until grep -q '^serving' "$scratch/out"; do
    if ! kill -0 "$server" 2>/dev/null; then
        sed 's/^/  /' "$scratch/out" >&2
        give_up "http_server ended early"
    fi
    sleep 0.1
done
printf 'http_server, which fetches its own page over TLS:\n'
sed 's/^/  /' "$scratch/out"
grep -q 'Directory listing for /' "$scratch/out" || give_up "http_server fetched no directory listing"
url=$(grep '^https://' "$scratch/out") || give_up "http_server printed no https:// url"
printf 'while it runs: %s\n' "$(counts)"
if [ "$(processes)" -le "$processes_before" ]; then
    give_up "the sandbox's processes can't be seen: the counts would prove nothing"
fi

printf 'curl --cacert ca.pem %s\n' "$url"
curl --silent --show-error --fail --max-time 30 --cacert "$scratch/ca.pem" "$url" >"$scratch/page"
sed 's/^/  /' "$scratch/page"
grep -q 'Directory listing for /' "$scratch/page" || give_up "curl fetched no directory listing"
if curl --silent --max-time 30 "$url" >/dev/null 2>&1; then
    give_up "curl trusts the sandbox's certificate without the authority"
fi

exec 3>&-
status=0
wait "$server" || status=$?
server=
sed -n 's/^ended/the sandbox ended/p' "$scratch/out"
[ "$status" = 0 ] || give_up "http_server exited with $status"

# The kernel takes namespaces and mounts down after the last process is gone.
tries=100
until [ "$(counts)" = "$before" ]; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || give_up "something is left: $(counts)"
    sleep 0.1
done
printf 'after:       %s\n' "$before"
