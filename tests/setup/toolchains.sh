# The compilers that strangers install by themselves: Rust and Go. Sourced, after say.sh.

# find_in DIRECTORY PROGRAM: puts the directory into PATH if the program is only there. Installers leave that
# to login shells, which a script isn't.
find_in() {
    if ! command -v "$2" >/dev/null 2>&1 && [ -x "$1/$2" ]; then
        PATH=$1:$PATH
        export PATH
    fi
}

need_rust() {
    find_in "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin" cargo
    command -v cargo >/dev/null 2>&1 || give_up "cargo is missing: the library is built with Rust" \
        "install it from https://rustup.rs (curl -sSf https://sh.rustup.rs | sh) and start again"
}

# Components that a minimal installation of Rust leaves out.
need_rust_components() {
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        command -v rustup >/dev/null 2>&1 || give_up "cargo fmt or cargo clippy is missing" \
            "install rustfmt and clippy from where Rust came from and start again"
        rustup component add rustfmt clippy
    fi
}

# need_toolchain NAME [COMPONENT...]: another Rust, below target/rustup: the machine's own stays as it is. It is used by
# "cargo +NAME" from then on. In the checkout's root.
nightly=nightly-2026-10-30
need_toolchain() {
    command -v rustup >/dev/null 2>&1 || give_up "rustup is missing: it installs Rust $1" \
        "install it from https://rustup.rs and start again"
    RUSTUP_HOME=$(pwd)/target/rustup
    export RUSTUP_HOME
    toolchain_stamp=$RUSTUP_HOME/$(printf '%s' "$*" | tr ' ' '+').installed
    if [ ! -e "$toolchain_stamp" ]; then
        say "installing Rust $1"
        rustup --quiet toolchain install "$1" --profile minimal --no-self-update ||
            give_up "rustup could not install Rust $1; it said why above"
        toolchain_name=$1
        shift
        for toolchain_component in "$@"; do
            rustup --quiet component add --toolchain "$toolchain_name" "$toolchain_component" ||
                give_up "rustup could not install $toolchain_component of Rust $toolchain_name; it said why above"
        done
        : >"$toolchain_stamp"
    fi
}

need_go() {
    find_in /usr/local/go/bin go
    command -v go >/dev/null 2>&1 || give_up "go is missing: runsc is built with it" \
        "install Go 1.21 or later from https://go.dev/dl and start again," \
        "or name a runsc of yours in SBX_RUNSC (https://gvisor.dev/docs/user_guide/install)"
    go_version=$(go env GOVERSION)
    case $go_version in
        go1.[0-9] | go1.[0-9].* | go1.1[0-9] | go1.1[0-9].* | go1.20 | go1.20.*)
            give_up "$go_version is too old to fetch the Go release that runsc wants; 1.21 or later can" \
                "install it from https://go.dev/dl, or name a runsc of yours in SBX_RUNSC"
            ;;
    esac
}
