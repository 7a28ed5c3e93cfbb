# A victim's waiting beside each attack, against the same beside a sandbox that only burns as much processor time.
# Sourced by run.sh.

attacks="dns-tcp dns-udp dns-cached tls-records handshakes tunnel-connects egress-connects deaf-flows udp output execs
    files denials syn stopped-init"

measure_neighbour() {
    if [ "$(id -u)" != 0 ]; then
        echo "neighbour: left out, network namespaces and the raw sender need root"
        return
    fi
    samples=${BENCH_SAMPLES:-700}
    # shellcheck disable=SC2086 # words
    unshare --net --mount sh "$here/neighbour.sh" "$here" "$work" "$bin" "$user" "${BENCH_ROUNDS:-3}" "$samples" \
        "$(((samples + 19) / 20))" ${BENCH_ATTACKS:-$attacks} || give_up "neighbour failed"
    for attack in ${BENCH_ATTACKS:-$attacks}; do
        report_neighbour "$attack"
    done
}

# tail_of FIGURE ATTACK SIDE: count, median, 99th percentile (95th of what is slow) and longest, in microseconds.
tail_of() {
    awk -v figure="$1" -v attack="$2" -v side="$3" \
        '$1 == "sample" && $2 == figure && $3 == attack && $4 == side { print $5 }' "$work/neighbour.samples" |
        sort -n | awk -v part="$part" '{ value[NR] = $1 / 1000 }
            END { if (NR) printf "%d %.1f %.1f %.1f", NR, value[int((NR + 1) / 2)], value[int(NR * part + 0.999)], value[NR]
                  else printf "0 0 0 0" }'
}

# milli_of ATTACK SIDE WHOSE: the median over the rounds.
milli_of() {
    awk -v attack="$1" -v side="$2" -v whose="$3" \
        '$1 == "time" && $2 == attack && $3 == side && $4 == whose { print $5 }' "$work/neighbour.samples" >"$work/milli"
    if [ -s "$work/milli" ]; then median "$work/milli"; else echo 0; fi
}

report_neighbour() {
    printf '%s: thousandths of a processor: sandbox %s, outside %s, library %s (control: %s, %s, %s)\n' "$1" \
        "$(milli_of "$1" attack sandbox)" "$(milli_of "$1" attack outside)" "$(milli_of "$1" attack library)" \
        "$(milli_of "$1" control sandbox)" "$(milli_of "$1" control outside)" "$(milli_of "$1" control library)"
    # Two sandboxes have something to do.
    grep -q "^time $1 attack share" "$work/neighbour.samples" || give_up "$1: the library's time wasn't measured"
    awk -v what="neighbour-$1-share" -v ours="$(milli_of "$1" attack share)" -v results="$results" 'BEGIN {
        printf "  %-34s %.3f of the library'\''s time goes to the attacker, beside a busy victim (budget 0.5 + 0.1: %s)\n",
            what, ours / 1000, ours <= 600 ? "met" : "MISSED"
        printf "{\"what\":\"%s\",\"peer\":\"share\",\"unit\":\"part\",\"ours\":%.4f,\"theirs\":0.5,\"ratio\":%.4f}\n",
            what, ours / 1000, ours / 500 >>results
    }'
    for figure in rtt connect tls-handshake egress-rtt exec policy create terminate; do
        case $figure in
        policy | create | terminate) part=0.95 longest=1000000 ;;
        *) part=0.99 longest=1000000 ;;
        esac
        [ "$figure" != create ] || longest=5000000
        # shellcheck disable=SC2046 # words
        set -- "$1" $(tail_of "$figure" "$1" attack) $(tail_of "$figure" "$1" control) $(tail_of "$figure" quiet quiet)
        awk -v what="neighbour-$1-$figure" -v count="$2" -v p50="$3" -v ours="$4" -v most="$5" -v theirs50="$7" \
            -v theirs="$8" -v quiet="${12}" -v stopped="$longest" -v part="$part" -v results="$results" 'BEGIN {
            bound = 2 * theirs + 5000
            verdict = most > stopped ? "STOPPED" : ours <= bound ? "met" : ours <= 3 * theirs + 5000 ? "missed" : "MISSED"
            ratio = theirs > 0 ? ours / theirs : 0
            printf "  %-34s p%d %9.0f us  control %9.0f  quiet %9.0f  ratio %.2f  longest %9.0f  (budget 2x + 5 ms: %s)\n",
                what, part * 100, ours, theirs, quiet, ratio, most, verdict
            printf "{\"what\":\"%s\",\"peer\":\"control\",\"unit\":\"us\",\"ours\":%.10g,\"theirs\":%.10g,\"ratio\":%.4f,\"runs\":%d,\"quiet\":%.10g,\"median\":%.10g,\"control_median\":%.10g,\"longest\":%.10g,\"verdict\":\"%s\"}\n",
                what, ours, theirs, ratio, count, quiet, p50, theirs50, most, verdict >>results
        }'
    done
}
