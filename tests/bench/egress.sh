#!/bin/sh
# What leaves a sandbox, against its peers: sh egress.sh HERE WORK BIN USER RUNS MS
#
# run.sh starts it in network and mount namespaces of its own; they stand for the host and go with it, so nothing of
# the machine's own network is touched. Figures are left in WORK.
#
# Every side is runsc with the same root file system and the same load client in it, and reaches the same server in a
# network namespace of its own. They differ in what is between: the library's relay; the kernel's NAT, as a bridge of
# docker's has it (a veth pair, ip_forward, nftables' masquerade); slirp4netns; pasta, where that runs.
set -eu
here=$1
work=$2
bin=$3
user=$4
runs=$5
duration=$6
. "$here/figures.sh"
. "$here/far.sh"
. "$here/peers.sh"

# in_natted COMMAND...: in the namespace behind the kernel's NAT.
in_natted() { nsenter "--net=/proc/$natted/ns/net" "$@"; }

lay_egress() {
    lay_far
    hold_namespace
    natted=$held
    ip link add nat0 type veth peer name eth0 netns "$natted"
    ip address add 10.99.0.1/24 dev nat0
    ip link set nat0 up
    in_natted ip address add 10.99.0.2/24 dev eth0
    in_natted ip link set lo up
    in_natted ip link set eth0 up
    in_natted ip route add default via 10.99.0.1
    echo 1 >/proc/sys/net/ipv4/ip_forward
    nft -f - <<'END'
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname "up0" masquerade
    }
}
table ip filter {
    chain forward {
        type filter hook forward priority filter
        ct state established,related accept
    }
}
END
}

# side_command SIDE: runs the load client in runsc, its streams joined with ours.
runsc_command="$bin/runsc --ignore-cgroups --overlay2=root:memory --network=sandbox"
side_command() {
    case $1 in
    ours) as_user "$bin/host" outbound "$work/egress-root" ;;
    nat) exec nsenter "--net=/proc/$natted/ns/net" $runsc_command "--root=$work/nat-state" \
        run "--bundle=$work/egress-bundle" egress-nat ;;
    slirp | pasta) as_user unshare --user --map-root-user --net --mount sh -c '
        echo $$ >"$0.pid"
        until ip route | grep -q default; do sleep 0.05; done
        : >"$0.up"
        exec "$@"' "$work/state/$1" \
        $runsc_command "--root=$work/state/$1-state" run "--bundle=$work/egress-bundle" "egress-$1" ;;
    esac
}

# start_side SIDE: from here on it can be asked, over two descriptors of this shell's.
start_side() {
    mkfifo "$work/$1.in" "$work/$1.out"
    side_command "$1" <"$work/$1.in" >"$work/$1.out" 2>"$work/$1.err" &
    started="$started $!"
    case $1 in
    ours) exec 3>"$work/$1.in" 4<"$work/$1.out" ;;
    nat) exec 5>"$work/$1.in" 6<"$work/$1.out" ;;
    slirp)
        exec 7>"$work/$1.in" 8<"$work/$1.out"
        until [ -s "$work/state/slirp.pid" ]; do sleep 0.05; done
        (as_user slirp4netns --configure --mtu=65520 --disable-host-loopback "$(cat "$work/state/slirp.pid")" tap0 \
            </dev/null >"$work/slirp4netns.log" 2>&1) &
        started="$started $!"
        ;;
    esac
}

# start_pasta: the same for pasta. Where it doesn't run, or nothing is answered through it, nothing of it is left, and a line
# says why.
start_pasta() {
    mkfifo "$work/pasta.in" "$work/pasta.out"
    # It holds its own way in open: a shell has descriptors up to 9 only.
    side_command pasta <>"$work/pasta.in" >"$work/pasta.out" 2>"$work/pasta.err" &
    behind=$!
    started="$started $behind"
    exec 9<"$work/pasta.out"
    until [ -s "$work/state/pasta.pid" ] || ! alive "$behind"; do sleep 0.05; done
    # It copies the host's address and route. No port of either side's is forwarded.
    (as_user pasta --config-net --foreground --quiet --ipv4-only --tcp-ports none --udp-ports none --tcp-ns none \
        --udp-ns none "$(cat "$work/state/pasta.pid")" </dev/null >"$work/pasta.log" 2>&1) &
    pasta=$!
    started="$started $pasta"
    looks=0
    while [ ! -e "$work/state/pasta.up" ] && alive "$pasta" && [ "$looks" -lt 200 ]; do
        looks=$((looks + 1))
        sleep 0.1
    done
    value=
    if [ -e "$work/state/pasta.up" ]; then
        echo "connects $far_address:7004 1 1" 1<>"$work/pasta.in"
        value=$(timeout 30 head -n 1 <&9 || true)
    fi
    case $value in
    '' | *[!0-9.]*) ;;
    *) return 0 ;;
    esac
    stop "$pasta"
    stop "$behind"
    exec 9<&-
    echo "egress: pasta is left out: $(cat "$work/pasta.err" "$work/pasta.log" | grep . | tail -n 1 | grep . || echo "nothing is answered through it")"
    return 1
}

# ask SIDE WORDS...: sets value.
ask() {
    asked=$1
    shift
    case $asked in
    ours) echo "$*" >&3; read -r value <&4 || value= ;;
    nat) echo "$*" >&5; read -r value <&6 || value= ;;
    slirp) echo "$*" >&7; read -r value <&8 || value= ;;
    pasta) echo "$*" 1<>"$work/pasta.in"; read -r value <&9 || value= ;;
    esac
    case $value in
    '' | *[!0-9.]*) cat "$work/$asked.err" >&2; give_up "$asked: $*: ${value:-no answer}" ;;
    esac
}

# One run of everything, the sides right after each other.
egress_round() {
    for line in "up sink:7001 up 1 $duration" "up-4 sink:7001 up 4 $duration" "down source:7002 down 1 $duration" \
        "down-4 source:7002 down 4 $duration" "rtt echo:7003 rtt 1 3000" "connects hold:7004 connects 1 500" \
        "connects-8 hold:7004 connects 8 800"; do
        # shellcheck disable=SC2086 # words
        set -- $line
        for side in $sides; do
            ask "$side" "$3" "$far_address:${2#*:}" "$4" "$5"
            record "egress-$1" "$side" "$value"
        done
    done
}

# How long a live flow's round trips take at worst while a list is loaded, and how long that takes.
measure_policies() {
    (as_user "$bin/host" policies "$work/egress-root" "$runs" 1 10000 100000) >"$work/policies" ||
        give_up "sandboxes with long lists failed"
    while read -r what count microseconds; do
        record "egress-$what-$count" ours "$microseconds"
    done <"$work/policies"
    ask ours rtt99 $far_address:7003 1 20000
    record egress-rtt99-quiet ours "$value"
    (as_user "$bin/host" policies "$work/egress-root" 3 100000) >/dev/null &
    loading=$!
    ask ours rtt99 $far_address:7003 1 20000
    record egress-rtt99-loading ours "$value"
    wait "$loading"
}

# reversed WORDS...
reversed() {
    turned=
    for word in "$@"; do
        turned="$word $turned"
    done
    echo "$turned"
}

egress_main() {
    sides="ours nat slirp"
    mkdir -p "$work/egress-root/proc" "$work/egress-root/dev" "$work/egress-root/sys" "$work/egress-root/tmp" \
        "$work/egress-root/etc" "$work/egress-bundle" "$work/nat-state"
    cp "$bin/load-static" "$work/egress-root/load"
    sed -e "s|@ROOT@|$work/egress-root|" -e 's|\["/server", "byte"\]|["/load", "--lines"]|' \
        -e 's|"namespaces": \[|&{ "type": "network", "path": "/proc/self/ns/net" }, |' \
        "$here/bundle.json" >"$work/egress-bundle/config.json"
    lay_egress
    # slirp4netns opens it as an ordinary user, which some machines don't allow; here, for this mount namespace only.
    mknod -m 666 "$work/tun" c 10 200
    mount --bind "$work/tun" /dev/net/tun
    for side in $sides; do
        start_side "$side"
    done
    if command -v pasta >/dev/null && start_pasta; then
        sides="$sides pasta"
    fi
    round=1
    while [ "$round" -le "$runs" ]; do
        egress_round
        # shellcheck disable=SC2086 # words
        sides=$(reversed $sides)
        round=$((round + 1))
    done
    # What the policy's sets refuse, and what the library's own verdict does (an address of the host's).
    ask ours denied 10.1.2.3:80 1 500
    record egress-denied-by-sets ours "$value"
    ask ours denied "$near_address:80" 1 500
    record egress-denied-by-verdict ours "$value"
    measure_policies
}

egress_main
