# A command in place, in namespaces of its own: sh offline.sh CONTAINED SNAPSHOT COMMAND...
# SNAPSHOT is a file of ours.
#
# For what needs the checkout or a compiler. It sees the machine's files, so that those aren't counted; processes,
# mounts and network namespaces are. What is left over makes the status 99 and is said on standard output.
set -eu
harness=$(dirname "$0")
contained=$1
before=$2
shift 2
. "$harness/leftovers.sh"
watched=
if [ "$contained" = true ]; then
    ip link set lo up
fi
snapshot "$before"
status=0
"$@" || status=$?
if ! nothing_left "$before" "$before.left"; then
    cat "$before.left"
    if [ "$status" = 0 ]; then
        status=99
    fi
fi
exit "$status"
