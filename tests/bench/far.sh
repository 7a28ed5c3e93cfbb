# A far host, reached through a gateway as the Internet is. Sourced, in a network namespace of the caller's own, which
# stands for the host; started lists what is to be ended.

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
    in_far "$bin/server" sink:7001 source:7002 echo:7003 hold:7004 </dev/null >"$work/far.log" 2>&1 &
    started="$started $!"
}
