# The library as people get it: installed by examples/install.sh, and in the packages of Go, Node and Python. Sourced; see
# ../common.sh. tests/long/packages.sh has what takes longer: other machines, and the library as it is released.

. tests/bindings/packages.sh
prefix=$work/prefix

# The debug library of this run, as packages take it.
built_debug() (
    . examples/packages/build.sh
    built_library "$bindings/built" cargo build --all-features --quiet &&
        python3 -B examples/packages/notices.py cargo >"$bindings/built/THIRD-PARTY"
)

installed_files() {
    (cd "$1" && find . ! -type d | sort)
}

install_library() {
    sh examples/install.sh --prefix "$prefix" --built "$bindings/built" &&
        installed_files "$prefix" | diff tests/bindings/install/installed.txt -
}

# Uninstalling leaves what is not the library's, and its directories; installing twice is installing once.
uninstall() {
    place=$work/uninstall
    mkdir -p "$place/usr/include" "$place/usr/bin"
    echo mine >"$place/usr/include/sbx-mine.h"
    echo mine >"$place/usr/bin/runsc"
    for option in --no-debug ''; do
        sh examples/install.sh --destdir "$place" --prefix=/usr --libdir /usr/lib/somewhere --built "$bindings/built" \
            $option || return 1
    done
    grep -qx 'prefix=/usr' "$place/usr/lib/somewhere/pkgconfig/sbx.pc" &&
        [ -e "$place/usr/lib/somewhere/.debug/libsbx.so.$(sed -n 's/^Version: //p' "$place/usr/lib/somewhere/pkgconfig/sbx.pc").debug" ] &&
        # A manifest that someone has written into is believed no further than the prefix.
        printf '../outside\n/etc/sbx-outside\n' >>"$place/usr/share/libsbx/manifest" && echo mine >"$place/outside" &&
        sh examples/install.sh --destdir "$place" --prefix /usr --uninstall &&
        printf './outside\n./usr/bin/runsc\n./usr/include/sbx-mine.h\n' >"$place.expected" &&
        installed_files "$place" | diff "$place.expected" - &&
        [ "$(find "$place" -type d | wc -l)" = 4 ] &&
        ! sh examples/install.sh --destdir "$place" --prefix /usr --uninstall
}

# What was there by then is removed, although the installation ended early: here where a directory can't be made.
interrupted() {
    place=$work/interrupted
    mkdir -p "$place/usr"
    echo mine >"$place/usr/libexec"
    ! sh examples/install.sh --destdir "$place" --prefix /usr --built "$bindings/built" &&
        [ -e "$place/usr/include/sbx.h" ] &&
        sh examples/install.sh --destdir "$place" --prefix /usr --uninstall &&
        [ "$(find "$place")" = "$(printf '%s\n' "$place" "$place/usr" "$place/usr/libexec")" ]
}

# The prefix, and nothing of this checkout.
installed_pkg_config() {
    PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config "$@" sbx
}

install_c() {
    cp examples/c/http_server.c examples/cpp/http_server.cpp "$work/install/" &&
        cc -std=c99 -Wall -Wextra -Wpedantic -Werror "$work/install/http_server.c" $(installed_pkg_config --cflags --libs) \
            -o "$work/install/c" &&
        cc -std=c99 "$work/install/http_server.c" $(installed_pkg_config --cflags) "$prefix/lib/libsbx.a" \
            $(installed_pkg_config --static --libs-only-l | sed 's/-lsbx//') -o "$work/install/c-static" &&
        ! readelf -d "$work/install/c-static" | grep libsbx &&
        c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror "$work/install/http_server.cpp" $(installed_pkg_config --cflags --libs) \
            $(pkg-config --cflags --libs libcurl) -o "$work/install/cpp"
}

install_cmake() {
    cp tests/bindings/install/CMakeLists.txt "$work/install/" &&
        cmake -S "$work/install" -B "$work/install/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release &&
        cmake --build "$work/install/cmake"
}

# A module of one's own gets the package from a module proxy, and pkg-config says where the library is.
install_go() (
    proxy=$work/install/proxy
    python3 -B examples/packages/go.py "$proxy" || exit 1
    mkdir -p "$work/install/go-module"
    cp examples/go/cmd/http_server/main.go "$work/install/go-module/"
    cd "$work/install/go-module" || exit 1
    export GOPROXY="file://$proxy" GOSUMDB=off GOFLAGS=-modcacherw GOWORK=off GOMODCACHE="$work/install/go-cache" \
        GOTOOLCHAIN=local PKG_CONFIG_PATH="$prefix/lib/pkgconfig" CGO_LDFLAGS="-Wl,-rpath,$prefix/lib"
    go mod init sbx.example && go get github.com/libsbx/libsbx-go@latest && go mod tidy && go vet . &&
        go build -o "$work/install/go" . || exit 1
    if CGO_ENABLED=0 go build -o /dev/null . 2>"$work/install/no-cgo"; then
        echo "it was built without cgo"
        exit 1
    fi
    # What is printed first says what to do.
    cat "$work/install/no-cgo"
    grep -v '^#' "$work/install/no-cgo" | head -n 1 | grep 'set_CGO_ENABLED_1'
)

# Wheels into a virtual environment, without any registry.
install_python() {
    LIBSBX_BUILT=$bindings/built PYTHONPATH=examples/python /usr/bin/python3 -B -c \
        "import build_backend as b; b.build_wheel('$work/install'), b.build_sdist('$work/install')" &&
        printf 'none\n' >"$work/install/none" &&
        /usr/bin/python3 -B examples/packages/runsc.py "$SBX_RUNSC" "$work/install/none" "$work/install" &&
        /usr/bin/python3 -m venv "$work/install/venv" &&
        "$work/install/venv/bin/pip" install --quiet --no-index --find-links "$work/install" 'libsbx[runsc]' &&
        cp examples/python/http_server.py "$work/install/" &&
        mv "$work/install/libsbx-"*.tar.gz "$work/install/sdist.tar.gz" &&
        tar -tf "$work/install/sdist.tar.gz" | grep -q '/source/src/keeper/member/Cargo.toml$'
}

# The three packages of Node into a project; bundles of both kinds; types for both kinds.
install_node() (
    sh examples/packages/npm.sh "$work/install/npm" "$bindings/built" "$node_packages/node_modules/.bin/esbuild" || exit 1
    mkdir -p "$work/install/node"
    cp tests/bindings/install/node/* "$work/install/node/"
    cd "$work/install/node" || exit 1
    tar -c -C "$node_packages/node_modules" koffi | tar -x -C "$work/install/npm" || exit 1
    npm install --install-links --offline --no-audit --no-fund --loglevel=error "$work"/install/npm/*.tgz "$work/install/npm/koffi" &&
        "$node_packages/node_modules/.bin/esbuild" --bundle --platform=node --format=esm --outfile=esm-bundle.mjs esm.mjs &&
        "$node_packages/node_modules/.bin/esbuild" --bundle --platform=node --format=cjs --outfile=cjs-bundle.cjs cjs.cjs &&
        node "$node_packages/node_modules/typescript/bin/tsc" --noEmit --strict --target es2022 --skipLibCheck \
            --lib es2022,esnext.disposable --module node16 --types node --typeRoots "$node_packages/node_modules/@types" \
            types.mts types.cts
)

if wanted_any install/uninstall install/c install/c-static install/cpp install/cmake install/go install/python install/node; then
    need_go
    need_packages cmake:cmake make:make objcopy:binutils
    need_packages "$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')/ensurepip/__init__.py:python3-venv"
    need_node_packages
    mkdir -p "$work/install"
    built_debug >"$logs/install-built.log" 2>&1 || record_status "install: the library's files" 1 "$logs/install-built.log"
    install_library >"$logs/install-library.log" 2>&1 || record_status "install: the library" 1 "$logs/install-library.log"
    check "install/uninstall" uninstall
    check "install/interrupted" interrupted
    check "install/c builds" install_c
    check "install/cmake builds" install_cmake
    check "install/go builds" install_go
    check "install/python builds" install_python
    check "install/node builds" install_node
    # Nothing but the prefix tells where library and runsc are.
    from_prefix="env SBX_RUNSC= LD_LIBRARY_PATH=$prefix/lib PATH=$prefix/bin:\$PATH"
    add_case install/c status "$from_prefix sh examples/c/http_server.sh $work/install/c"
    add_case install/c-static status "$from_prefix LD_LIBRARY_PATH= sh examples/c/http_server.sh $work/install/c-static"
    add_case install/cpp status "$from_prefix $work/install/cpp"
    add_case install/cmake status "$from_prefix LD_LIBRARY_PATH= $work/install/cmake/http_server"
    add_case install/go status "$from_prefix LD_LIBRARY_PATH= $work/install/go"
    add_case install/python status "env SBX_RUNSC= LD_LIBRARY_PATH= sh tests/bindings/install/python.sh $work/install"
    add_case install/node status "env SBX_RUNSC= LD_LIBRARY_PATH= sh tests/bindings/install/node.sh $work/install/node"
fi
