#!/bin/sh
# The documentation's site: sh tests/long/docs.sh
#
# Builds it as examples/packages/docs.sh does, which checks its links, and shows that a page that is missing, an anchor that
# is missing, and a link of a page to nothing are found.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh

site=$(pwd)/target/site
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 130' INT TERM
sh examples/packages/docs.sh "$site"

# found WHAT COMMAND...: the command fails, and names it.
found() {
    what=$1
    shift
    if "$@" >"$copy/said" 2>&1; then
        give_up "this was not found: $what"
    fi
    grep -q -- "$what" "$copy/said" || give_up "another thing than $what was found:" "$(cat "$copy/said")"
}
cp -r "$site" "$copy/site"
rm "$copy/site/guide/limits.html"
found 'limits.html.*: there is no such file' python3 -B examples/packages/docs/links.py "$copy/site"
cp "$site/guide/limits.html" "$copy/site/guide/limits.html"
sed -i 's/id="budgets"/id="other"/' "$copy/site/guide/limits.html"
found 'limits.html#budgets: there is no such anchor' python3 -B examples/packages/docs/links.py "$copy/site"

mkdir "$copy/repository" "$copy/book"
cp -r ./*.md LICENSE-* include examples tests "$copy/repository"
printf '\n[gone](tests/gone.md)\n' >>"$copy/repository/SECURITY.md"
found 'tests/gone.md is neither a page nor a file' python3 -B "$copy/repository/examples/packages/docs/site.py" "$copy/book"
