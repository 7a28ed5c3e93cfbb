# Go: examples/go. Sourced; see ../common.sh.

go_sources=$(pwd)/examples/go

# in_go COMMAND...: in the module, which needs no other: nothing is downloaded.
in_go() (
    cd "$go_sources" || exit 1
    GOPROXY=off GOFLAGS= GOWORK=off PKG_CONFIG_PATH="${go_pkg_config:-$work/pkgconfig}" CGO_ENABLED=1 exec "$@"
)

go_formatted() {
    go_badly=$(in_go gofmt -l .)
    if [ -n "$go_badly" ]; then
        printf 'gofmt: %s\n' "$go_badly"
        return 1
    fi
}

if wanted_any go/format go/vet go/http_server go/race; then
    need_go
    mkdir -p "$work/go"
    check "go/format" go_formatted
    check "go/vet" in_go go vet ./...
    check "go/http_server builds" in_go go build -o "$work/go/http_server" ./cmd/http_server
    add_case go/http_server status "$work/go/http_server"
    check "go/race builds" in_go go test -c -race -o "$work/go/race" .
    add_case go/race go "$work/go/race -test.v"
fi
