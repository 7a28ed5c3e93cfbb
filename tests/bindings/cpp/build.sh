# C++: examples/cpp. Sourced; see ../common.sh.

cpp_compile() {
    c++ -std=c++17 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -g "$@"
}

cpp_with_cmake() {
    PKG_CONFIG_PATH=$bindings/shared cmake -S examples/cpp -B "$work/cpp/cmake" -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON && cmake --build "$work/cpp/cmake"
}

check "cpp/size" below_lines 1060 examples/cpp/sbx.hpp
if wanted_any cpp/http_server cpp/no-library cpp/tests cpp/sanitized cpp/cmake; then
    need_packages cmake:cmake make:make
    if ! pkg-config --exists libcurl; then
        need_packages "/usr/include/$(cc -dumpmachine)/curl/curl.h:libcurl4-openssl-dev"
    fi
    mkdir -p "$work/cpp"
    cpp_flags=$(PKG_CONFIG_PATH=$bindings/shared pkg-config --cflags --libs sbx libcurl)
    check "cpp/http_server compiles" cpp_compile examples/cpp/http_server.cpp $cpp_flags -o "$work/cpp/http_server"
    add_case cpp/http_server status "$work/cpp/http_server"
    add_case cpp/no-library status "env LD_LIBRARY_PATH= $work/cpp/http_server 2>&1 | grep 'libsbx.so.0: cannot open'"

    check "cpp/cmake builds" cpp_with_cmake
    add_case cpp/cmake status "$work/cpp/cmake/http_server"

    cpp_flags=$(PKG_CONFIG_PATH=$bindings/shared pkg-config --cflags --libs sbx)
    cpp_tests="tests/bindings/cpp/tests.cpp tests/bindings/cpp/contract.cpp tests/bindings/cpp/images.cpp tests/bindings/cpp/volumes.cpp"
    check "cpp/tests compile" cpp_compile -O2 -Iexamples/cpp $cpp_tests $cpp_flags -o "$work/cpp/tests"
    add_case cpp/tests rust "export SBX_TEST_CERTIFICATE=tests/bindings/certificate.pem SBX_TEST_PLUGIN=$work/plugin/libplugin.so; status=0; for test in \${SBX_TEST_PART:-\"\"}; do $work/cpp/tests \"\$test\" || status=\$?; done; exit \$status"
    check "cpp/sanitized compiles" cpp_compile -fsanitize=address,undefined -fno-sanitize-recover=all \
        -Iexamples/cpp $cpp_tests $cpp_flags -o "$work/cpp/sanitized"
    add_case cpp/sanitized rust "SBX_TEST_CERTIFICATE=tests/bindings/certificate.pem SBX_TEST_PLUGIN=$work/plugin/libplugin.so $work/cpp/sanitized"
fi
