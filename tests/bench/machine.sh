# What a run was made on: one line of JSON at its head. Sourced by run.sh.

# json_text: standard input's first line as a JSON string.
json_text() {
    head -n 1 | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/^/"/; s/$/"/' | grep . || printf '""'
}

# version_of PEER: as it says itself, without its name.
version_of() {
    case $1 in
    runsc) "$bin/runsc" --version | sed -n 's/^runsc version //p' ;;
    crun) crun --version | sed -n 's/^crun version //p' ;;
    bwrap) bwrap --version | sed 's/^bubblewrap //' ;;
    sdk) echo "$sdk_release" ;;
    haproxy) haproxy -v | sed -n 's/^HAProxy version \([^ ]*\).*/\1/p' ;;
    pasta) dpkg-query --show --showformat='${Version}' passt ;;
    nginx) nginx -v 2>&1 | sed 's|.*/||' ;;
    slirp4netns) slirp4netns --version | sed -n 's/^slirp4netns version //p' ;;
    umoci) umoci --version | sed -n 's/.*version //p' ;;
    skopeo) skopeo --version | sed 's/.* version \([^ ]*\).*/\1/' ;;
    esac
}

# peers_of PART...: whose versions matter.
peers_of() {
    echo runsc
    case " $* " in *" start "*) printf '%s\n' crun bwrap ;; esac
    case " $* " in *" start "* | *" exec "*) echo sdk ;; esac
    case " $* " in *" tunnel "* | *" tls "* | *" memory "*) echo haproxy ;; esac
    case " $* " in *" tunnel "*) echo nginx ;; esac
    case " $* " in *" egress "*) printf '%s\n' slirp4netns pasta ;; esac
    case " $* " in *" image "*) printf '%s\n' umoci skopeo ;; esac
}

# record_version PEER VERSION: of one that wasn't there at the run's first line.
record_version() {
    printf '{"what":"version","peer":"%s","version":%s}\n' "$1" "$(printf '%s\n' "$2" | json_text)" >>"$results"
}

libsbx_version() {
    sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1
}

# The user that the library and plain runsc run as.
measured_as() {
    if [ "$(id -u)" = 0 ]; then echo "$user"; else id -un; fi
}

# record_machine PART...: a run's first line.
record_machine() {
    versions=
    for peer in $(peers_of "$@"); do
        version=$(version_of "$peer" 2>/dev/null || true)
        [ -z "$version" ] || versions="$versions${versions:+,}\"$peer\":$(printf '%s\n' "$version" | json_text)"
    done
    model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | json_text)
    memory=$(awk '$1 == "MemTotal:" { printf "%d", $2 / 1024 }' /proc/meminfo)
    printf '{"what":"machine","date":"%s","parts":%s,"processors":%d,"model":%s,"memory_mib":%d,"kernel":%s,"load":%s,"user":%s,"libsbx":%s,"versions":{%s}}\n' \
        "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(echo "$*" | json_text)" "$(nproc)" "$model" "$memory" \
        "$(uname -r | json_text)" "$load" "$(measured_as | json_text)" \
        "$(libsbx_version | json_text)" "$versions" >>"$results"
}
