# Many sandboxes at once, many in one process, and what filling the warm pool costs a creation. Sourced by run.sh.

storm_rootfs() {
    rootfs=$work/storm-rootfs
    mkdir -p "$rootfs/proc" "$rootfs/dev" "$rootfs/sys" "$rootfs/tmp" "$rootfs/etc" "$work/storm-bundle"
    cp "$bin/server" "$rootfs/server"
    sed "s|@ROOT@|$rootfs|" "$here/bundle.json" >"$work/storm-bundle/config.json"
}

# nth_of PART NAME SIDE: that part of the sorted figures, such as 0.99.
nth_of() {
    awk -v name="$2" -v side="$3" '$1 == name && $2 == side { print $3 }' "$work/storm" | sort -n |
        awk -v part="$1" '{ value[NR] = $1 } END { at = int(NR * part + 0.999); print NR ? value[at < 1 ? 1 : at] : 0 }'
}

measure_storm() {
    storm_rootfs
    for count in ${BENCH_STORMS:-1 8 32 128}; do
        state=$work/state/storm-$count
        mkdir -p "$state"
        [ "$(id -u)" != 0 ] || chown "$user" "$state"
        # A storm of 128 takes as long as many of one.
        rounds=${BENCH_ROUNDS:-$((count > 16 ? 3 : count > 4 ? 5 : 15))}
        (as_user "$bin/storm" storm "$rounds" "${BENCH_MAX_STARTS:-0}" "$count" "$rootfs" "$bin/server" \
            "$bin/raw" "$bin/runsc" "$work/storm-bundle" "$state" storm) >"$work/storm" || give_up "storm of $count failed"
        for name in cold warm drained; do
            # Sandboxes a second.
            awk -v name="whole-$name" -v count="$count" '$1 == name { printf "%.3f\n", count * 1000000 / $3 }' "$work/storm" \
                >"$work/runs.storm-$name-$count.ours"
            awk -v count="$count" '$1 == "whole-raw" { printf "%.3f\n", count * 1000000 / $3 }' "$work/storm" \
                >"$work/runs.storm-$name-$count.runsc"
        done
        figure "storm-cold-$count" runsc "/s" ">=0.95"
        figure "storm-warm-$count" runsc "/s" ">=5"
        figure "storm-drained-$count" runsc "/s"
        for name in cold warm drained raw; do
            side=ours
            [ "$name" != raw ] || side=theirs
            printf '  %-20s each p50 %9s us  p99 %9s us    a tunnel meanwhile p50 %6s us  p99 %7s us\n' "$name" \
                "$(nth_of 0.5 "each-$name" $side)" "$(nth_of 0.99 "each-$name" $side)" \
                "$(nth_of 0.5 "tunnel-$name" $side)" "$(nth_of 0.99 "tunnel-$name" $side)"
        done
        printf '  %-20s %s us p50, %s us p99\n' "a tunnel, quiet" "$(nth_of 0.5 tunnel-quiet ours)" \
            "$(nth_of 0.99 tunnel-quiet ours)"
        awk -v count="$count" '$1 == "hits-warm" { all += count; warm += $3 } $1 == "hits-drained" { drained += $3 } END {
            printf "  warm sandboxes taken: %d of %d, and %d of %d when none was left\n", warm, all, drained, all }' "$work/storm"
    done
}

measure_scale() {
    storm_rootfs
    free=$(awk '$1 == "MemAvailable:" { print int($2 / 1024 / 48) }' /proc/meminfo)
    count=${BENCH_SCALE:-500}
    [ "$count" -le "$free" ] || count=$free
    (as_user "$bin/storm" scale "$count" 0 "$rootfs" "$bin/server") >"$work/scale" || give_up "scale failed"
    cat "$work/scale"
    awk -v results="$results" '$1 == "created" { if (!first) first = $5; last = $5; count = $3 } END {
        ratio = last / first
        printf "%-22s %10.6g us         first       %10.6g   ratio %.3f  (of %d sandboxes, budget <=1.1: %s)\n", "scale-create", last,
            first, ratio, count, ratio <= 1.1 ? "met" : "MISSED"
        printf "{\"what\":\"scale-create\",\"peer\":\"first\",\"unit\":\"us\",\"ours\":%d,\"theirs\":%d,\"ratio\":%.4f}\n", last, first,
            ratio >>results }' "$work/scale"
}

# A creation beside a pool that is being filled, against one alone.
measure_filling() {
    storm_rootfs
    (as_user "$bin/storm" filling "$starts" "$rootfs" "$bin/server") >"$work/storm" || give_up "filling failed"
    awk '$1 == "whole-filling" { print $3 }' "$work/storm" >"$work/runs.filling.ours"
    awk '$1 == "whole-alone" { print $3 }' "$work/storm" >"$work/runs.filling.alone"
    figure filling alone us "<=1.1"
}
