#!/bin/sh
# What a sandbox may not reach gets no packet: sh nothing_leaves.sh SANDBOX INTERNET POLICY
#
# SANDBOX is sandbox.c, compiled; INTERNET the directory of an internet.py that is ready; POLICY is allowlist (one
# without entries: nothing may leave) or default (nothing to the destinations marked "never"). Runs as anybody, in
# the network namespace that internet.py laid. Tried from inside gVisor and with frames written to the sandbox's
# interface, as a compromised sentry could. A refused connection proves nothing: the capture must be empty.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
sandbox=$1
internet=$2
policy=$3
python=/usr/bin/python3
scratch=$(mktemp -d)
host=
exec 3>/dev/null

clean_up() {
    exec 3>&-
    if [ -n "$host" ]; then
        wait "$host" || :
    fi
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

give_up() {
    printf 'error: %s\n' "$1" >&2
    if [ -s "$scratch/out" ]; then
        sed 's/^/  /' "$scratch/out" | tail -n 60 >&2
    fi
    exit 1
}

[ -e "$internet/ready" ] || give_up "no internet.py is ready in $internet"

# mark TEXT: a packet that must be seen. What the capture has before it, it has for certain.
mark() {
    "$python" -I -c 'import socket, sys
bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
bound.settimeout(10)
bound.sendto(sys.argv[1].encode(), ("8.8.8.8", 9))
bound.recv(64)' "$1" || give_up "the internet doesn't answer the host itself: nothing here would prove anything"
    mark_tries=100
    until grep -q "$1" "$internet/packets"; do
        mark_tries=$((mark_tries - 1))
        [ "$mark_tries" -gt 0 ] || give_up "the capture doesn't see what the host itself sends"
        sleep 0.1
    done
}

if [ "$policy" = default ]; then
    destinations=$(awk '$1 == "never" { print $2 }' "$here/destinations")
else
    destinations=$(awk '$1 == "open" || $1 == "never" { print $2 }' "$here/destinations")
fi

contacts_before=$(wc -l <"$internet/contacts")
# What an earlier case left incomplete is answered by the kernel when it gives it up, and is no packet of this one.
incomplete_tries=100
until [ "$(awk '$1 ~ /^FRAG/ { sum += $3 } END { print sum + 0 }' /proc/net/sockstat /proc/net/sockstat6)" = 0 ]; do
    incomplete_tries=$((incomplete_tries - 1))
    [ "$incomplete_tries" != 0 ] || give_up "datagrams of an earlier case are still incomplete"
    sleep 0.1
done
mark "begin-$$-$policy-"

# The probe's text is an argument: no file has to be shown to the sandbox.
: >"$scratch/out"
mkfifo "$scratch/hold"
# shellcheck disable=SC2086 # a word each
"$sandbox" "$policy" "$python" -I -c "$(cat "$here/probe.py")" $destinations \
    <"$scratch/hold" >"$scratch/out" 2>&1 &
host=$!
exec 3>"$scratch/hold"
until grep -q '^holding' "$scratch/out"; do
    kill -0 "$host" 2>/dev/null || give_up "the sandbox ended early"
    sleep 0.1
done

# What must have worked, so that the rest means something.
for must in 'own 127.0.0.1 8421 reached' 'own 192.0.0.2 8421 reached' 'inbound reached'; do
    grep -qx "$must" "$scratch/out" || give_up "missing: $must"
done
attempts=$(sed -n 's/^done //p' "$scratch/out")
tried=$(grep -cE '^(tcp|udp|icmp|raw) ' "$scratch/out")
[ "$attempts" = "$tried" ] || give_up "$attempts attempts, $tried results"
if grep -E '^(tcp|udp|icmp|raw) .* reached$' "$scratch/out" >"$scratch/reached"; then
    sed 's/^/  /' "$scratch/reached" >&2
    give_up "reached from inside"
fi

# The same from the sandbox's interface: the keeper stands in G, the sentry in S.
keeper=$("$python" -I "$here/find.py" keeper "$host") || give_up "no keeper below process $host"
sentry=$("$python" -I "$here/find.py" sentry "$keeper") || give_up "no process of S below the keeper, process $keeper"
arrived() {
    nsenter --target "$keeper" --user --net --preserve-credentials \
        "$python" -I -c 'print(next(line.split()[2] for line in open("/proc/net/dev") if line.strip().startswith("gw0:")))'
}
arrived_before=$(arrived)
# shellcheck disable=SC2086 # a word each
frames=$(nsenter --target "$keeper" --user --preserve-credentials nsenter "--net=/proc/$sentry/ns/net" \
    "$python" -I "$here/raw.py" $destinations)
arrived_now=$(arrived)
[ "$((arrived_now - arrived_before))" -ge "$frames" ] ||
    give_up "of $frames frames only $((arrived_now - arrived_before)) came to the gateway"

# The kernel remembers nothing of what was allowed once.
tracked=$(nsenter --target "$keeper" --user --net --preserve-credentials \
    sh -c 'cat /proc/sys/net/netfilter/nf_conntrack_count 2>/dev/null || echo 0')
[ "$tracked" = 0 ] || give_up "$tracked connections are tracked in the gateway"

exec 3>&-
status=0
wait "$host" || status=$?
host=
[ "$status" = 0 ] || give_up "the host program ended with $status"

mark "end-$$-$policy-"
awk -v begin="begin-$$-$policy-" -v end="end-$$-$policy-" '
    index($0, begin) { between = 1; next }
    index($0, end) { between = 0 }
    between' "$internet/packets" >"$scratch/leaked"
if [ -s "$scratch/leaked" ]; then
    head -n 20 "$scratch/leaked" | sed 's/^/  /' >&2
    give_up "$(wc -l <"$scratch/leaked") packets left the machine"
fi
contacts=$(($(wc -l <"$internet/contacts") - contacts_before))
if [ "$contacts" != 0 ]; then
    tail -n "$contacts" "$internet/contacts" | head -n 20 | sed 's/^/  /' >&2
    give_up "sockets of the host itself were reached"
fi
printf '%s: %s attempts from inside and %s frames from the interface: no packet outside, no socket of the host reached\n' \
    "$policy" "$attempts" "$frames"
