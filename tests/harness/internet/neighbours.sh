# Others who care for the host's network: their rules, bridge and settings stay as they are, byte for byte. Sourced.
#
# No firewalld is started, and dockerd only for a case of its own (docker.sh): these are tables of the kind that they
# lay, with a policy to drop what is forwarded and a rule that rejects what comes in.

lay_neighbours() {
    echo 1 >/proc/sys/net/ipv4/ip_forward
    ip link add docker0 type bridge
    ip link set docker0 addrgenmode none
    ip address add 172.17.0.1/16 dev docker0
    ip link set docker0 up
    nft -f - <<'END'
table ip nat {
    chain DOCKER {
        iifname "docker0" return
    }
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        oifname != "docker0" ip saddr 172.17.0.0/16 masquerade
    }
    chain PREROUTING {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local jump DOCKER
    }
}
table ip filter {
    chain DOCKER-USER {
        return
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        jump DOCKER-USER
        oifname "docker0" ct state related,established accept
        iifname "docker0" oifname != "docker0" accept
    }
}
table inet firewalld {
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state established,related accept
        ct state invalid drop
        iifname "lo" accept
        tcp dport 4242 accept
        udp dport 4242 accept
        reject with icmpx admin-prohibited
    }
}
END
}

# host_network FILE: writes down all that could be changed of the host's network.
host_network() {
    {
        nft list ruleset
        ip -details link show
        ip address show
        ip rule show
        ip route show table all
        ip -6 rule show
        ip -6 route show table all
        # But for what counts by itself.
        sysctl -a 2>/dev/null | grep '^net\.' | grep -v 'nf_conntrack_count\|nr_dentry'
    } | sed 's/ expires [0-9]*sec//; s/\([a-z_]*_timer\) *[0-9.]*//g' >"$1"
}
