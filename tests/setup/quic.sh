# A QUIC server and client for the Internet of our own, built from its Go module. Sourced, after say.sh and
# toolchains.sh, in the checkout's root.

# build_quic FILE: one static program, which runs inside a sandbox too. What it is made of is fixed by go.sum; Go
# keeps it, so that it is fetched once.
build_quic() (
    need_go
    cd tests/harness/internet/quic || exit 1
    CGO_ENABLED=0 GOFLAGS= GOWORK=off go build -trimpath -ldflags "-s -w" -o "$1" .
)
