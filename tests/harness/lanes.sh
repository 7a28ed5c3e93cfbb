# Lanes side by side: which of them takes a case, and when it may run. Sourced; $work is what all of them see.

# take RUN NAME: takes that case; fails if another lane has it.
take() {
    mkdir "$work/taken/$1--$(printf '%s' "$2" | tr ' /' '--')" 2>/dev/null
}

# comes_now PART KIND TURN: whether a lane has such a case now. Without a part it has all. Rust's tests are built first, so they are
# early; then come other languages' cases, and what is to be alone not before the rest is built. What waits most of its time has a
# lane more.
comes_now() {
    case $1:$2:$3 in
        :* | early:program:beside | early:program:counts | early:program:waits | waits:program:waits) return 0 ;;
        languages:*:beside | languages:*:counts | languages:*:waits) return 0 ;;
        *) return 1 ;;
    esac
}

# take_turn TURN: waits until a case of that turn may run: "alone" beside no other. A case that waits to be alone is overtaken by
# none. give_turn ends the turn.
take_turn() {
    exec 8>"$work/gate" 9>"$work/turn"
    flock 8
    case $1 in
        alone) flock 9 ;;
        *) flock --shared 9 ;;
    esac
    exec 8>&-
}
give_turn() {
    exec 9>&-
}

# make_groups NAME: control groups of version 1 for a lane, below our own, so that tests that count sandboxes' groups
# don't see another lane's. Returns whether there are any.
make_groups() {
    while IFS=: read -r group_number group_controllers group_path; do
        case ,$group_controllers, in
            *,memory,* | *,cpu,* | *,cpuacct,* | *,pids,*)
                mkdir "/sys/fs/cgroup/$group_controllers$group_path/$1" 2>/dev/null || return 1
                printf '%s\n' "/sys/fs/cgroup/$group_controllers$group_path/$1"
                ;;
        esac
    done </proc/self/cgroup >"$work/groups.$1"
    grep -q /memory "$work/groups.$1"
}

# enter_groups NAME: this process, and what it starts from now on.
enter_groups() {
    while read -r group; do
        echo 0 >"$group/cgroup.procs"
    done <"$work/groups.$1"
}

# remove_groups LIST: those of that list. What has just ended may still be leaving them.
remove_groups() {
    while read -r group; do
        group_tries=100
        until rmdir "$group" 2>/dev/null || [ "$group_tries" = 0 ]; do
            group_tries=$((group_tries - 1))
            sleep 0.1
        done
    done <"$1"
    rm -f "$1"
}
