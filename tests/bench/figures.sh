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

# spread_of FILE: its least, lower quartile, upper quartile and greatest value.
spread_of() {
    sort -n "$1" | awk '{ value[NR] = $1 }
        function nth(part) { return value[int((NR - 1) * part + 0.5) + 1] }
        END { if (NR) printf "%.10g %.10g %.10g %.10g", value[1], nth(0.25), nth(0.75), value[NR] }'
}

# ratios_of NAME PEER: ours to the peer's, turn by turn. Nothing where one side has more runs than the other.
ratios_of() {
    paste -d " " "$work/runs.$1.ours" "$work/runs.$1.$2" | awk 'NF != 2 { exit } $2 > 0 { printf "%.4f\n", $1 / $2 }'
}

# figure NAME PEER UNIT [BUDGET]: ours against a peer's. A budget is "<=RATIO" or ">=RATIO", or "" for none.
figure() {
    ours=$(median "$work/runs.$1.ours")
    theirs=$(median "$work/runs.$1.$2")
    measured=$(wc -l <"$work/runs.$1.ours")
    ratios_of "$1" "$2" >"$work/ratios"
    [ "$(wc -l <"$work/ratios")" = "$measured" ] || : >"$work/ratios"
    awk -v what="$1" -v peer="$2" -v unit="$3" -v budget="${4-}" -v ours="$ours" -v theirs="$theirs" -v runs="$measured" \
        -v ours_spread="$(spread_of "$work/runs.$1.ours")" -v theirs_spread="$(spread_of "$work/runs.$1.$2")" \
        -v ratio_spread="$(spread_of "$work/ratios")" -v results="$results" '
    function spread(name, values, each) {
        return split(values, each, " ") == 4 ? ",\"" name "_spread\":[" each[1] "," each[2] "," each[3] "," each[4] "]" : ""
    }
    BEGIN {
        ratio = theirs > 0 ? ours / theirs : 0
        verdict = ""
        if (budget != "") {
            bound = substr(budget, 3)
            met = substr(budget, 1, 2) == "<=" ? ratio <= bound + 0 : ratio >= bound + 0
            verdict = "  (budget " budget ": " (met ? "met" : "MISSED") ")"
        }
        printf "%-22s %10.6g %-10s %-11s %10.6g   ratio %.3f%s\n", what, ours, unit, peer, theirs, ratio, verdict
        printf "{\"what\":\"%s\",\"peer\":\"%s\",\"unit\":\"%s\",\"ours\":%.10g,\"theirs\":%.10g,\"ratio\":%.4f,\"runs\":%d%s%s%s,\"budget\":\"%s\"}\n",
            what, peer, unit, ours, theirs, ratio, runs, spread("ours", ours_spread), spread("theirs", theirs_spread),
            spread("ratio", ratio_spread), budget >>results
    }'
}
