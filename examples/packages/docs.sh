#!/bin/sh
# The documentation as one site: sh examples/packages/docs.sh [DIRECTORY]
#
# Makes target/site, or the directory, of the pages of this repository: the parts of README.md, the packages' and the
# integrations' own, and references of C, C++, Go, Node, Python and Rust made of the sources. mdBook renders it (cargo
# installs that below target/). Links are checked. Nothing in it needs a server: open index.html.
set -eu
cd "$(dirname "$0")/../.."
site=${1:-$(pwd)/target/site}
case $site in /*) ;; *) site=$(pwd)/$site ;; esac
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh

mdbook_version=0.5.4
need_rust
need_go
need_packages python3:python3
mdbook=$(pwd)/target/mdbook/bin/mdbook
if [ "$("$mdbook" --version 2>/dev/null)" != "mdbook v$mdbook_version" ]; then
    say "building mdBook $mdbook_version"
    CARGO_TARGET_DIR=$(pwd)/target/mdbook/target cargo install --quiet --locked --no-default-features --features search \
        --root target/mdbook --version "$mdbook_version" mdbook
    rm -rf target/mdbook/target
fi

book=$(mktemp -d)
trap 'rm -rf "$book"' EXIT
trap 'exit 130' INT TERM
cp examples/packages/docs/book.toml "$book"
mkdir "$book/src"
python3 -B examples/packages/docs/site.py "$book/src"
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps --lib
cp -r "${CARGO_TARGET_DIR:-target}/doc" "$book/src/rust"
rm -rf "$site"
"$mdbook" build --dest-dir "$site" "$book"
python3 -B examples/packages/docs/links.py "$site"
say "the site is $site/index.html"
