# A dockerd for the Internet of our own. Sourced, after say.sh and packages.sh, in the checkout's root.

# need_docker: sets docker_programs, a list of directories like PATH. One that is installed is used; else it is taken out
# of Debian's packages into target/docker, not installed: that would start it, beside the machine's own network.
need_docker() {
    docker_programs=/usr/sbin:/usr/bin
    if command -v dockerd >/dev/null 2>&1; then
        return 0
    fi
    docker_multiarch=$(cc -dumpmachine)
    need_packages iptables:iptables "/lib/$docker_multiarch/libdevmapper.so.1.02.1:libdevmapper1.02.1" \
        "/lib/$docker_multiarch/libseccomp.so.2:libseccomp2"
    docker_kept=$(pwd)/target/docker
    docker_programs=$docker_kept/usr/sbin:$docker_kept/usr/bin
    if [ -x "$docker_kept/usr/sbin/dockerd" ]; then
        return 0
    fi
    say "fetching docker"
    rm -rf "$docker_kept" "$docker_kept.new"
    mkdir -p "$docker_kept.new"
    if ! fetch_docker "$docker_kept.new"; then
        give_up "Debian's packages docker.io, containerd and runc could not be fetched; apt-get said why above" \
            "install dockerd and start again"
    fi
    mv "$docker_kept.new" "$docker_kept"
}

# place_docker DIRECTORY: the programs where every run sees them. target may be below /tmp, which each run has for itself.
place_docker() {
    [ "$docker_programs" != /usr/sbin:/usr/bin ] || return 0
    cp -al "$docker_kept" "$1" 2>/dev/null || cp -a "$docker_kept" "$1"
    docker_programs=$1/usr/sbin:$1/usr/bin
}

fetch_docker() (
    cd "$1" || exit 1
    apt-get -qq download docker.io containerd runc >/dev/null ||
        { apt-get -qq update && apt-get -qq download docker.io containerd runc >/dev/null; } || exit 1
    for package in ./*.deb; do
        dpkg-deb --extract "$package" . || exit 1
    done
    rm -f ./*.deb
)
