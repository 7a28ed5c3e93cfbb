# The inside of a run's own namespaces, which unshare has just made. Sourced by process 1.

# contain: nothing outside is there to be contacted, and no file of the machine is in the way of counting.
contain() {
    if [ $$ != 1 ]; then
        echo "this mounts over /tmp and /run: it is for process 1 of namespaces of its own" >&2
        exit 1
    fi
    ip link set lo up
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    # For tests of full disks.
    mkdir /tmp/small-disk
    mount -t tmpfs -o mode=700,size=128m,nr_inodes=2000 tmpfs /tmp/small-disk
    mount -t tmpfs -o mode=755 tmpfs /run
    if [ -d /dev/shm ]; then
        mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    fi
}
