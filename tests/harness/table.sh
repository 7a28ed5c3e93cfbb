# Which cases run as whom: reads tests/harness/cases. Sourced; $table is that file,
# and $work has what was built.

# The examples in C.
c_programs='http_server plain_tunnel egress limits files exec image doctor'

# available: a line for each case in $work that is run under identities: name, kind, command.
available() {
    while IFS='	' read -r name path once <&4; do
        if [ "$once" = once ]; then
            continue
        fi
        if [ "$name" = internet ]; then
            name=internet/egress
        fi
        printf '%s\tprogram\t%s\n' "$name" "$work/target/debug/deps/${path##*/}"
    done 4<"$work/executables"
    for program in $c_programs; do
        if [ -e "examples/c/$program.sh" ]; then
            printf 'c/%s\tstatus\tsh examples/c/%s.sh %s\n' "$program" "$program" "$work/c/$program"
        else
            printf 'c/%s\tstatus\t%s\n' "$program" "$work/c/$program"
        fi
    done
    # Programs in other languages, as tests/bindings has built them.
    cat "$work/cases"
    printf 'internet/%s\tinternet\t\n' docker allowlist default example live quic flood oracle
}

# rows: the table, a line each: name, runs, turn, part ("-" if there is none), separated by tabs.
rows() {
    awk -v OFS='\t' '
        function flush() { if (name != "") print name, runs, turn, part }
        /^#/ || NF == 0 { next }
        /^[[:space:]]/ { $1 = $1; gsub("\t", " "); part = (part == "-" ? "" : part " ") $0; next }
        { flush(); name = $1; runs = $2; turn = $3; part = "-" }
        END { flush() }' "$table"
}

# jobs RUN AVAILABLE: what that run has to do of what there is, in the table's order. AVAILABLE has a line for each case
# that there is: name, kind, command. A line of the answer: name, turn, part, kind, command; the turn is "missing" where
# the table doesn't have the case, and the part "-" where it is the whole case, as with SBX_LONG everywhere.
jobs() {
    rows | awk -F '\t' -v OFS='\t' -v run="$1" -v long="${SBX_LONG:-}" '
        NR == FNR { kind[$1] = $2; command[$1] = $3; order[++count] = $1; next }
        {
            known[$1] = 1
            if (!($1 in kind)) next
            said = "," $2 ","
            starred = index(said, "," run "*,")
            whole = run == "self" || run == "long" || index(said, "," run ",") || starred && long != ""
            if (whole) print $1, $3, "-", kind[$1], command[$1]
            else if (starred) print $1, $3, $4, kind[$1], command[$1]
        }
        END {
            for (i = 1; i <= count; i++)
                if (!(order[i] in known)) print order[i], "missing", "-", kind[order[i]], command[order[i]]
        }' "$2" -
}

# odd_rows AVAILABLE: what is wrong with the table itself: rows of cases that there aren't, words that mean nothing, a
# part that isn't named, a case twice.
odd_rows() {
    rows | awk -F '\t' '
        NR == FNR { there[$1] = 1; next }
        seen[$1]++ { print $1 ": twice" }
        !($1 in there) { print $1 ": there is no such case" }
        $3 !~ /^(beside|waits|alone|counts)$/ { print $1 ": \"" $3 "\" is none of beside, waits, alone, counts" }
        {
            starred = 0
            words = split($2, run, ",")
            for (i = 1; i <= words; i++) {
                if (run[i] !~ /^(once|user|(root|nocap)\*?)$/) print $1 ": \"" run[i] "\" is no run"
                if (run[i] ~ /\*$/) starred = 1
            }
            if (starred != ($4 != "-")) print $1 ": a part is named where a run has a *, and only there"
        }' "$1" -
}
