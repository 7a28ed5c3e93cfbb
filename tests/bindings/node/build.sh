# Node: types, then each file here under each identity, over both FFI packages. Sourced by tests/run.sh.

. tests/bindings/packages.sh
node_tests='abi embedding examples files images network policy sandbox volumes'

if wanted_any node/types $(printf 'node-koffi/%s node-ffi-napi/%s\n' $(for name in $node_tests; do echo "$name" "$name"; done)); then
    need_node_packages
    # Above the checkout's copy, where Node looks by itself.
    cp -R "$node_packages/node_modules" "$work/node_modules"
    check "node/types" node "$node_packages/node_modules/typescript/bin/tsc" --noEmit --strict --target es2022 \
        --lib es2022,esnext.disposable --module nodenext --types node --typeRoots "$node_packages/node_modules/@types" \
        tests/bindings/node/types.ts
    for node_test in $node_tests; do
        for node_ffi in koffi @2060.io/ffi-napi; do
            add_case "node-${node_ffi##*/}/$node_test" node \
                "SBX_FFI=$node_ffi exec node --test-reporter=tap \$SBX_TEST_PART tests/bindings/node/$node_test.test.js"
        done
    done
fi
