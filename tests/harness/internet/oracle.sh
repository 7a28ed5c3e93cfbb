#!/bin/sh
# That nothing_leaves.sh can fail: sh oracle.sh SANDBOX INTERNET
#
# A test that looks for nothing is worth what it would find. Each host program here runs the sandbox as it should
# and leaks one thing beside it; each has to be caught, for that reason and no other.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
sandbox=$1
internet=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# caught NAME REASON CODE: the host program runs that Python code first.
caught() {
    {
        printf '#!/bin/sh\n'
        printf '/usr/bin/python3 -I -c '\''import socket\n%s'\'' || exit 9\n' "$3"
        printf 'exec "%s" "$@"\n' "$sandbox"
    } >"$scratch/host"
    chmod 755 "$scratch/host"
    if sh "$here/nothing_leaves.sh" "$scratch/host" "$internet" allowlist >"$scratch/log" 2>&1; then
        printf 'error: %s went unnoticed\n' "$1" >&2
        exit 1
    fi
    if ! grep -q "^error: .*$2" "$scratch/log"; then
        printf 'error: %s was to be caught as "%s", and was not:\n' "$1" "$2" >&2
        sed 's/^/  /' "$scratch/log" >&2
        exit 1
    fi
    printf 'caught: %s\n' "$1"
}

caught 'one datagram to a metadata address' 'packets left the machine' \
    'socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("169.254.169.254", 80))'
caught 'one IPv6 datagram' 'packets left the machine' \
    'socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"x", ("2606:4700:4700::1111", 53))'
caught 'a TCP connection' 'packets left the machine' \
    'socket.create_connection(("10.1.2.3", 443), 5).close()'
caught 'a connection to the host itself' 'sockets of the host itself were reached' \
    'socket.create_connection(("5.5.5.2", 4242), 5).close()'

# The probe says "reached" of what it reaches: here, in the host's own namespace, it reaches everything.
timeout -s KILL 20 /usr/bin/python3 -I "$here/probe.py" 8.8.8.8 169.254.169.254 2606:4700:4700::1111 5.5.5.2 \
    >"$scratch/probe" 2>&1 || :
for must in 'tcp 8.8.8.8 443 reached' 'udp 169.254.169.254 53 reached' 'tcp 2606:4700:4700::1111 853 reached' \
    'udp 2606:4700:4700::1111 123 reached' 'tcp 5.5.5.2 4242 reached' 'done 48'; do
    if ! grep -qx "$must" "$scratch/probe"; then
        printf 'error: the probe does not say: %s\n' "$must" >&2
        sed 's/^/  /' "$scratch/probe" >&2
        exit 1
    fi
done
printf 'the probe sees what it reaches\n'
