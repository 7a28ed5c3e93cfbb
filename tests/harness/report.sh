# Results: a line for each case in $results, from which everything that is said at the end comes. Sourced.
#
# A line is: passed, failed, ignored, name, log; separated by tabs.

# begin_clock, end_clock NAME: how long a case takes, and how much of it all its processes calculate. A line for
# each in $times: milliseconds, milliseconds of processors, name.
took=0
begin_clock() {
    times >"$clock.begin"
    clock_began=$(date +%s%3N)
}
end_clock() {
    took=$(($(date +%s%3N) - clock_began))
    times >"$clock.end"
    awk -v OFS='\t' -v took="$took" -v name="$1" '
        # Of what was waited for, "0m1.5s 0m0.2s"; what this shell itself took stands before it.
        function milliseconds(text) { split(text, part, "m"); return part[1] * 60000 + part[2] * 1000 }
        FNR == 2 { sum = milliseconds($1) + milliseconds($2); if (FILENAME ~ /begin$/) sum = -sum; cpu += sum }
        END { print took, int(cpu + 0.5), name }' "$clock.begin" "$clock.end" >>"$times"
}

# slowest TIMES: the 30 cases that took longest.
slowest() {
    printf '  seconds  processor  case\n'
    sort -rn "$1" | head -n 30 | awk -F '\t' '{ printf "%9.1f  %9.1f  %s\n", $1 / 1000, $2 / 1000, $3 }'
}

# record PASSED FAILED IGNORED NAME LOG: said with the seconds that it took, if a clock ran.
recorded=0 # how many cases, by this shell
record() {
    recorded_passed=$1
    recorded_ignored=$3
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" >>"$results"
    if [ "$1 $2" = '0 0' ]; then
        return 0 # nothing in it that the filter named
    fi
    recorded=$((recorded + 1))
    if [ "$2" = 0 ]; then
        printf 'ok      %-44s %5s s  %s passed\n' "$4" $((took / 1000)) "$1"
    else
        printf 'FAILED  %-44s %5s s  %s passed, %s failed\n' "$4" $((took / 1000)) "$1" "$2"
    fi
    took=0
}

# record_status NAME STATUS LOG: a case that is one command.
record_status() {
    if [ "$2" = 0 ]; then
        record 1 0 0 "$1" "$3"
    else
        printf '\nexited with %s%s\n' "$2" "$(meaning_of "$2")" >>"$3"
        record 0 1 0 "$1" "$3"
    fi
}

# record_rust NAME STATUS LOG: Rust's test programs say themselves how many passed. One that ended badly without
# saying that anything failed (a crash, a time-out, an abort) is one failure more.
record_rust() {
    rust_counts=$(sed -n 's/^test result: [A-Za-z]*\. \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored;.*/\1 \2 \3/p' \
        "$3" | awk '{ p += $1; f += $2; i += $3; n++ } END { print p + 0, f + 0, i + 0, n + 0 }')
    set -- "$1" "$2" "$3" $rust_counts
    if { [ "$2" != 0 ] && [ "$5" = 0 ]; } || [ "$7" = 0 ]; then
        printf '\nexited with %s%s; %s results\n' "$2" "$(meaning_of "$2")" "$7" >>"$3"
        set -- "$1" "$2" "$3" "$4" $(($5 + 1)) "$6" "$7"
    fi
    record "$4" "$5" "$6" "$1" "$3"
}

# record_go NAME STATUS LOG: Go's test programs, started with -test.v, say what became of each test.
record_go() {
    go_passed=$(grep -c '^--- PASS' "$3") || :
    go_failed=$(grep -c '^--- FAIL' "$3") || :
    go_skipped=$(grep -c '^--- SKIP' "$3") || :
    if [ "$2" != 0 ] && [ "$go_failed" = 0 ]; then
        printf '\nexited with %s%s\n' "$2" "$(meaning_of "$2")" >>"$3"
        go_failed=1
    fi
    record "$go_passed" "$go_failed" "$go_skipped" "$1" "$3"
}

# record_python NAME STATUS LOG: unittest says how many tests it ran, and how many of them did not pass.
record_python() {
    python_ran=$(sed -n 's/^Ran \([0-9]*\) tests\{0,1\} in .*/\1/p' "$3" | tail -n 1)
    python_end=$(sed -n 's/^\(OK\|FAILED\) (\(.*\))$/\2/p' "$3" | tail -n 1)
    python_failed=$(printf '%s\n' "$python_end" | tr ',' '\n' | awk -F = '/failures|errors/ { n += $2 } END { print n + 0 }')
    python_skipped=$(printf '%s\n' "$python_end" | tr ',' '\n' | awk -F = '/skipped/ { n += $2 } END { print n + 0 }')
    if [ "$2" != 0 ] && [ "$python_failed" = 0 ]; then
        printf '\nexited with %s%s\n' "$2" "$(meaning_of "$2")" >>"$3"
        python_failed=1
    fi
    if [ -z "$python_ran" ]; then
        python_failed=1
    fi
    python_passed=$((${python_ran:-0} - python_failed - python_skipped))
    record $((python_passed > 0 ? python_passed : 0)) "$python_failed" "$python_skipped" "$1" "$3"
}

# record_node NAME STATUS LOG: Node's test programs, told to say it as TAP, count at their end.
record_node() {
    node_counts=$(sed -n 's/^# \(pass\|fail\|cancelled\|skipped\) \([0-9]*\)$/\1 \2/p' "$3" |
        awk '{ n[$1] = $2 } END { print n["pass"] + 0, n["fail"] + n["cancelled"], n["skipped"] + 0 }')
    set -- "$1" "$2" "$3" $node_counts
    if [ -n "${test_part:-}" ]; then
        # What isn't in the part of it that was asked for counts as skipped.
        set -- "$1" "$2" "$3" "$4" "$5" 0
    fi
    if { [ "$2" != 0 ] && [ "$5" = 0 ]; } || [ "$4 $5 $6" = '0 0 0' ]; then
        printf '\nexited with %s%s\n' "$2" "$(meaning_of "$2")" >>"$3"
        set -- "$1" "$2" "$3" "$4" 1 "$6"
    fi
    record "$4" "$5" "$6" "$1" "$3"
}

meaning_of() {
    case $1 in
        124 | 137) printf ' (the time limit, or killed)' ;;
        139) printf ' (a segmentation fault)' ;;
        134) printf ' (aborted)' ;;
    esac
}

# What failed, with the end of its log; then the counts. Returns whether all is well.
conclude() {
    while IFS='	' read -r passed failed ignored name log; do
        if [ "$failed" != 0 ]; then
            printf '\n---- %s\n' "$name"
            # Rust names what failed; the rest is in the log's end.
            if [ ! -r "$log" ]; then
                printf 'there is no log\n'
                continue
            fi
            sed -n 's/^test \(.*\) \.\.\. FAILED$/failed: \1/p; s/^--- FAIL: /failed: /p' "$log" | head -n 50
            tail -n 40 "$log"
        fi
    done <"$results"
    awk -F '\t' '
        { passed += $1; failed += $2; ignored += $3 }
        END {
            if (ignored) printf "\n%d ignored: they run with --long\n", ignored
            printf "\n%d passed, %d failed\n", passed, failed
            exit failed > 0 || passed == 0
        }' "$results"
}
