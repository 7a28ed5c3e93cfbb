# Go: examples/go. Sourced; see ../common.sh.

# in_go DIRECTORY COMMAND...: in that module, which needs no other: nothing is downloaded.
in_go() (
    cd "$1" || exit 1
    shift
    GOPROXY=off GOFLAGS= GOWORK=off CGO_ENABLED=1 PKG_CONFIG_PATH="$bindings/shared" exec "$@"
)

go_formatted() {
    go_badly=$(gofmt -l examples/go tests)
    if [ -n "$go_badly" ]; then
        printf 'gofmt: %s\n' "$go_badly"
        return 1
    fi
}

# Only libsbx.a is there, and what it needs comes from pkg-config --static.
go_static() {
    in_go examples/go env PKG_CONFIG_PATH="$bindings/static" go build -tags sbx_static -o "$work/go/static" ./cmd/http_server &&
        ! readelf -d "$work/go/static" | grep libsbx
}

check "go/size" below_lines 2450 $(find examples/go -maxdepth 1 -name '*.go' ! -name '*_test.go')
if wanted_any go/format go/vet go/http_server go/no-library go/race go/cgocheck2 go/static go/two-copies; then
    need_go
    mkdir -p "$work/go"
    check "go/format" go_formatted
    check "go/vet" in_go examples/go go vet ./...
    check "go/http_server builds" in_go examples/go go build -o "$work/go/http_server" ./cmd/http_server
    add_case go/http_server status "$work/go/http_server"
    add_case go/no-library status "env LD_LIBRARY_PATH= $work/go/http_server 2>&1 | grep 'libsbx.so.0: cannot open'"
    # One build of Go's own packages for both checks.
    check "go/race builds" in_go examples/go env GOEXPERIMENT=cgocheck2 go test -c -race -o "$work/go/race" .
    add_case go/race go "SBX_TEST_CERTIFICATE=tests/bindings/certificate.pem $work/go/race -test.v \$SBX_TEST_PART"
    if [ -n "${SBX_LONG:-}" ] || [ "$filter" = go/cgocheck2 ]; then
        check "go/cgocheck2 builds" in_go examples/go env GOEXPERIMENT=cgocheck2 go test -c -o "$work/go/cgocheck2" .
        add_case go/cgocheck2 go "SBX_TEST_CERTIFICATE=tests/bindings/certificate.pem $work/go/cgocheck2 -test.v"
    fi
    check "go/static builds" go_static
    add_case go/static status "env LD_LIBRARY_PATH= $work/go/static"
    check "go/two-copies builds" in_go tests/bindings/go/twocopies go build -o "$work/go/two-copies" .
    add_case go/two-copies status "$work/go/two-copies $work/plugin/libplugin.so"
fi
