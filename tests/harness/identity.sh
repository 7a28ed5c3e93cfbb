# Who a test runs as. Sourced.

# Nobody's: it isn't in /etc/passwd, and no file belongs to it.
ordinary_uid=54321

# as RUN COMMAND...: becomes that and runs the command in its place.
as() {
    as_run=$1
    shift
    case $as_run in
        user)
            # A real uid, never root of a user namespace: what an ordinary user's process has, and no more.
            exec setpriv --reuid="$ordinary_uid" --regid="$ordinary_uid" --clear-groups \
                --inh-caps=-all --bounding-set=-all --no-new-privs "$@"
            ;;
        nocap)
            # Root as a container has it: uid 0, and nothing of what makes it powerful. The one capability left
            # is what the kernel demands of uid 0 to map itself into a new user namespace: CAP_SETFCAP, since
            # Linux 5.12 (user_namespaces(7)).
            exec setpriv --bounding-set=-all,+setfcap --inh-caps=-all "$@"
            ;;
        root | self)
            exec "$@"
            ;;
    esac
}
