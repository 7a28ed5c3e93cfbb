# What measures across a network has in common: a far host, reached through a gateway as the Internet is. Sourced by a
# script of its own process, in a network namespace of its own, which stands for the host. Sets started, the processes
# that are ended with the script; streams to them are descriptors 3 to 8.

started=
give_up() {
    echo "bench: $*" >&2
    exit 1
}

as_user() {
    unset XDG_RUNTIME_DIR
    exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups --inh-caps=-all "$@"
}

clean_up() {
    status=$?
    trap - EXIT INT TERM
    exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&-
    for pid in $started; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    exit $status
}
trap clean_up EXIT
trap 'exit 130' INT TERM

far_address=44.1.1.1
# The host's own address on the link to its gateway.
near_address=44.9.9.2

# A process that holds a network namespace: sets held.
hold_namespace() {
    rm -f "$work/held"
    unshare --net sh -c 'echo $$ >"$0"; exec sleep 100000' "$work/held" &
    started="$started $!"
    until [ -s "$work/held" ]; do sleep 0.05; done
    held=$(cat "$work/held")
}

# in_far COMMAND...: in the far namespace.
in_far() { nsenter "--net=/proc/$far/ns/net" "$@"; }

# run_far COMMAND...: the same in the background, until the script ends. Of in_far with a & the shell's id would be kept,
# and killing that would leave the command.
run_far() {
    nsenter "--net=/proc/$far/ns/net" "$@" </dev/null >"$work/far.log" 2>&1 &
    started="$started $!"
}

# lay_far: the far host answers at $far_address, with the server's kinds on their ports.
lay_far() {
    ip link set lo up
    hold_namespace
    far=$held
    ip link add up0 type veth peer name far0 netns "$far"
    ip address add $near_address/24 dev up0
    ip link set up0 up
    in_far ip address add 44.9.9.1/24 dev far0
    in_far ip link set lo up
    in_far ip address add $far_address/32 dev lo
    in_far ip link set far0 up
    ip route add default via 44.9.9.1
    run_far "$bin/server" sink:7001 source:7002 echo:7003 hold:7004
}
