# Figures: many runs in, a median, a line of text and a line of JSON out. Sourced by run.sh.

# record NAME SIDE VALUE: one run's value. SIDE is "ours" or a peer.
record() {
    case $3 in
    '' | *[!0-9.]*) give_up "$1 of $2: \"$3\" is not a number" ;;
    esac
    echo "$3" >>"$work/runs.$1.$2"
}

median() {
    sort -n "$1" | awk '{ value[NR] = $1 }
        END { printf "%.10g", NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

# figure NAME PEER UNIT [BUDGET]: ours against a peer's. A budget is "<=RATIO" or ">=RATIO", or "" for none.
figure() {
    ours=$(median "$work/runs.$1.ours")
    theirs=$(median "$work/runs.$1.$2")
    measured=$(wc -l <"$work/runs.$1.ours")
    awk -v what="$1" -v peer="$2" -v unit="$3" -v budget="${4-}" -v ours="$ours" -v theirs="$theirs" -v runs="$measured" \
        -v results="$results" 'BEGIN {
        ratio = theirs > 0 ? ours / theirs : 0
        verdict = ""
        if (budget != "") {
            bound = substr(budget, 3)
            met = substr(budget, 1, 2) == "<=" ? ratio <= bound + 0 : ratio >= bound + 0
            verdict = "  (budget " budget ": " (met ? "met" : "MISSED") ")"
        }
        printf "%-22s %10.6g %-10s %-11s %10.6g   ratio %.3f%s\n", what, ours, unit, peer, theirs, ratio, verdict
        printf "{\"what\":\"%s\",\"peer\":\"%s\",\"unit\":\"%s\",\"ours\":%.10g,\"theirs\":%.10g,\"ratio\":%.4f,\"runs\":%d}\n",
            what, peer, unit, ours, theirs, ratio, runs >>results
    }'
}
