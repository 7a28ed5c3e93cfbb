#!/bin/sh
# The packages of Node, installed: sh node.sh DIRECTORY, with node_modules and the bundles in it.
set -eu
cd "$1"
for program in esm.mjs cjs.cjs esm-bundle.mjs cjs-bundle.cjs; do
    printf '%s: ' "$program"
    said=$(node --throw-deprecation "$program")
    printf '%s\n' "$said"
    [ "$said" = '42 runsc of the package' ]
done
