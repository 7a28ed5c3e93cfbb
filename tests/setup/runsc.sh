# gVisor's runsc, built from its Go module. Sourced, after say.sh and toolchains.sh, in the checkout's root.

runsc_version=v0.0.0-20260905035102-160fafc42237

# need_runsc: sets and exports SBX_RUNSC, building runsc on the first time. One that is named already is used.
need_runsc() {
    if [ -n "${SBX_RUNSC:-}" ]; then
        { [ -f "$SBX_RUNSC" ] && [ -x "$SBX_RUNSC" ]; } || give_up "SBX_RUNSC names $SBX_RUNSC, which is not an executable file"
        export SBX_RUNSC
        return 0
    fi
    SBX_RUNSC=$(pwd)/target/runsc/$runsc_version-filters/runsc
    export SBX_RUNSC
    if [ -x "$SBX_RUNSC" ]; then
        return 0
    fi
    need_go
    say "building runsc $runsc_version (about two minutes)"
    mkdir -p "${SBX_RUNSC%/*}"
    # Beside its final place, so that it gets there by a rename: whoever looks meanwhile sees all or nothing.
    runsc_build=$(mktemp -d "${SBX_RUNSC%/*}/build.XXXXXX")
    if ! build_runsc; then
        rm -rf "$runsc_build"
        give_up "runsc could not be built; go said why above"
    fi
    chmod 755 "$runsc_build/runsc"
    mv "$runsc_build/runsc" "$SBX_RUNSC"
    rm -rf "$runsc_build"
}

# The same file comes out on every machine: no paths, no time, no C compiler. The filters of system calls are compiled before, as
# in gVisor's releases: that saves some 10 ms of each start.
build_runsc() (
    filters=$(pwd)/tests/setup/runsc/filters.go
    cd "$runsc_build" || exit 1
    cat >go.mod <<END
module runsc

go 1.26.3

require gvisor.dev/gvisor $runsc_version
END
    export CGO_ENABLED=0 GOFLAGS=-mod=mod GOWORK=off
    go mod download gvisor.dev/gvisor || exit 1
    # A copy, since go doesn't build changed files of its cache.
    cp -R "$(go list -m -f '{{.Dir}}' gvisor.dev/gvisor)" gvisor || exit 1
    chmod -R u+w gvisor || exit 1
    go mod edit -replace gvisor.dev/gvisor=./gvisor || exit 1
    mkdir filters || exit 1
    cp "$filters" filters/main.go || exit 1
    go run -trimpath ./filters gvisor || exit 1
    go build -trimpath -ldflags "-s -w -X gvisor.dev/gvisor/runsc/version.version=$runsc_version" \
        -o runsc gvisor.dev/gvisor/runsc
)
