# What tests may leave behind: processes, mounts, network namespaces, files. Sourced.
#
# $watched names the directories whose files count. $contained says whether this shell is process 1
# of namespaces made for the run: then everything seen belongs to the run. Else only what is new, belongs to this user and carries a sandbox's names is looked at: the same
# user's other sandboxes are in the way then.

# mine PROCESS-DIRECTORY: whether it runs as this user. The directory's owner doesn't say so for a process that
# isn't dumpable.
mine() {
    while read -r key uid others; do
        if [ "$key" = Uid: ]; then
            [ "$uid" = "$own_uid" ]
            return
        fi
    done <"$1/status"
    return 1
}
own_uid=$(id -u)

# snapshot FILE: what there is now, a line each, sorted.
snapshot() {
    # In this shell, without a pipe: every process that the listing itself needs would be in the list.
    for entry in /proc/[0-9]*; do
        if [ "$entry" = "/proc/$$" ]; then
            continue
        fi
        { read -r name <"$entry/comm"; } 2>/dev/null || continue
        case $contained:$name in
            true:*) ;;
            false:runsc* | false:sbx-keeper* | false:sbx-image* | false:exe) mine "$entry" 2>/dev/null || continue ;;
            *) continue ;;
        esac
        printf 'process %s %s\n' "${entry#/proc/}" "$name"
    done >"$1.unsorted"
    sed 's/^/mount /' /proc/self/mounts >>"$1.unsorted"
    if [ "$contained" = true ]; then
        # A namespace that something still holds, by a process or by a mount.
        readlink /proc/[0-9]*/ns/net 2>/dev/null | sort -u | sed 's/^/network namespace /' >>"$1.unsorted"
    fi
    for directory in $watched; do
        find "$directory" -mindepth 1 2>/dev/null | sed 's/^/file /' >>"$1.unsorted"
    done
    sort "$1.unsorted" >"$1"
}

# nothing_left BEFORE LOG: whether all is as before, within 20 seconds: the kernel takes namespaces down after
# the last process is gone. What is left is written to the log.
tries_before_giving_up=100
nothing_left() {
    tries=$tries_before_giving_up
    while :; do
        snapshot "$1.now"
        diff "$1" "$1.now" | sed -n 's/^> /left over: /p; s/^< /gone: /p' >"$1.changes"
        if [ "$contained" = false ]; then
            sed -i '/^gone: /d' "$1.changes"
        fi
        if ! [ -s "$1.changes" ]; then
            return 0
        fi
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then
            cat "$1.changes" >>"$2"
            return 1
        fi
        sleep 0.2
    done
}
