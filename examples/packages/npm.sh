#!/bin/sh
# The packages for Node: sh examples/packages/npm.sh DIRECTORY [BUILT [ESBUILD]]
#
# Leaves three tarballs in the directory: libsbx (ES modules, one CommonJS file, types), its platform package with
# libsbx.so, and one with runsc. BUILT is what portable_library (build.sh) has made, which is made first without it;
# ESBUILD is that program, without it the one that the tests take from its registry.
set -eu
out=$(mkdir -p "$1" && cd "$1" && pwd)
built=${2:-}
[ -z "$built" ] || built=$(cd "$built" && pwd)
esbuild=${3:-}
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. tests/setup/runsc.sh
. tests/bindings/packages.sh
. examples/packages/build.sh

need_packages node:nodejs npm:npm objcopy:binutils
need_rust
need_runsc
if [ -z "$built" ]; then
    built=$(pwd)/target/packages/portable
    portable_library "$built" || give_up "the library could not be built; cargo said why above"
fi
if [ -z "$esbuild" ]; then
    need_node_packages
    esbuild=$node_packages/node_modules/.bin/esbuild
fi
version=$(sbx_version)
platform=$(node -p 'process.platform + "-" + process.arch')
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

pack() {
    (cd "$1" && npm pack --silent --pack-destination "$out")
}

# The package itself.
mkdir "$stage/libsbx"
for file in examples/node/*.js examples/node/sbx.d.ts examples/node/README.md LICENSE-MIT LICENSE-APACHE; do
    case $file in
        */http_server.js) ;;
        *) cp "$file" "$stage/libsbx/" ;;
    esac
done
cp examples/node/sbx.d.ts "$stage/libsbx/sbx.d.cts"
"$esbuild" --log-level=error --log-override:empty-import-meta=silent --bundle --platform=node --target=node20 \
    --format=cjs --outfile="$stage/libsbx/sbx.cjs" examples/node/sbx.js
node -e '
    const [from, to, platform] = process.argv.slice(1);
    const manifest = JSON.parse(fs.readFileSync(from));
    delete manifest.private;
    const { version, peerDependencies: peers, peerDependenciesMeta: meta } = manifest;
    manifest.exports["."] = {
      import: { types: "./sbx.d.ts", default: "./sbx.js" },
      require: { types: "./sbx.d.cts", default: "./sbx.cjs" },
    };
    manifest.optionalDependencies = { koffi: peers.koffi, [`@libsbx/${platform}`]: version };
    delete peers.koffi;
    delete meta.koffi;
    fs.writeFileSync(to, `${JSON.stringify(manifest, null, 2)}\n`);' \
    examples/node/package.json "$stage/libsbx/package.json" "$platform"
pack "$stage/libsbx"

# carrier NAME VERSION DESCRIPTION LICENSE FILE: a package that is that file.
carrier() {
    cat >"$stage/$1/package.json" <<END
{
  "name": "@libsbx/$1",
  "version": "$2",
  "description": "$3",
  "license": "$4",
  "os": ["$(node -p process.platform)"],
  "cpu": ["$(node -p process.arch)"],
  "files": ["$5", "LICENSE*", "NOTICE", "THIRD-PARTY"]
}
END
    pack "$stage/$1"
}

mkdir "$stage/$platform" "$stage/runsc-$platform"
stripped_library "$built/libsbx.so" "$stage/$platform/libsbx.so"
cp LICENSE-MIT LICENSE-APACHE examples/packages/NOTICE "$built/THIRD-PARTY" "$stage/$platform/"
carrier "$platform" "$version" "The shared library of libsbx" "MIT OR Apache-2.0" libsbx.so

need_go
cp "$SBX_RUNSC" "$stage/runsc-$platform/runsc"
chmod 755 "$stage/runsc-$platform/runsc"
cp LICENSE-APACHE "$stage/runsc-$platform/"
python3 -B examples/packages/notices.py go "$SBX_RUNSC" >"$stage/runsc-$platform/THIRD-PARTY"
dated=$("$SBX_RUNSC" --version | sed -n 's/.*\(20[0-9]\{6\}\).*/\1/p' | head -n 1)
carrier "runsc-$platform" "${dated:?}.0.0" "gVisor's runsc for libsbx" "Apache-2.0" runsc
