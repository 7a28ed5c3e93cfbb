# What every script says and how it gives up. Sourced, not run.

say() {
    printf '%s\n' "$*"
}

# give_up MESSAGE...: a line for each, and the end of the script.
give_up() {
    printf 'error: %s\n' "$1" >&2
    shift
    for give_up_line in "$@"; do
        printf '       %s\n' "$give_up_line" >&2
    done
    exit 1
}

# able CAPABILITY-NUMBER: whether this process has that capability. Capability decides, never uid 0: the
# root of a container often has few.
able() {
    able_set=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
    [ $(((0x$able_set >> $1) & 1)) = 1 ]
}
