# Node: what the library takes of its event loop while sandboxes start and stream. Sourced by run.sh.

node_sandboxes=${BENCH_NODE_SANDBOXES:-50}

measure_node() {
    . "$top/tests/setup/say.sh"
    . "$top/tests/setup/packages.sh"
    (cd "$top" && . tests/bindings/packages.sh && need_node_packages) || give_up "no FFI package for Node"
    # The ordinary user needn't be able to read this repository; Node looks for packages above what it runs.
    mkdir -p "$work/node/tests/bench/client"
    cp "$here/client/node.mjs" "$work/node/tests/bench/client/"
    mkdir -p "$work/node/examples"
    cp -R "$top/examples/node" "$work/node/examples/"
    cp -R "$top/target/packages/node/node_modules" "$work/node/"
    for ffi in koffi @2060.io/ffi-napi; do
        name=node-${ffi##*/}
        turn=0
        while [ $turn -lt "$runs" ]; do
            run_node control
            record "$name-delay-p99" control "$node_delay"
            expected=$node_bytes
            run_node ours
            record "$name-delay-p99" ours "$node_delay"
            [ "$node_bytes" = "$expected" ] || give_up "$name read $node_bytes bytes, and $expected from outside"
            record "$name-call-wall" ours "$node_wall"
            record "$name-call-held" ours "$node_held"
            turn=$((turn + 1))
        done
        figure "$name-delay-p99" control us "<=1.5"
        for what in wall held; do
            awk -v name="$name-call" -v what="$what" -v longest="$node_longest" '$1 > most { most = $1 } END {
                meaning = what == "held" ? "without waiting for a processor" : "with it"
                verdict = what == "held" ? "  (budget <=2000: " (most <= 2000 ? "met" : "MISSED") ")" : ""
                printf "%-22s %10d us         the longest of all runs, %s%s\n", name, most, meaning, verdict
                if (what == "held") printf "%-22s %10s            in the last run: %s\n", name, "", longest
            }' "$work/runs.$name-call-$what.ours"
        done
    done
}

# run_node MODE: one run; what it printed is in node_...
run_node() {
    (as_user env SBX_FFI="$ffi" SBX_LIBRARY="$bin/libsbx.so" \
        node "$work/node/tests/bench/client/node.mjs" "$1" "$node_sandboxes") >"$work/node.out" ||
        give_up "node $1 failed"
    read -r node_delay node_bytes node_wall node_held node_longest <"$work/node.out"
}
