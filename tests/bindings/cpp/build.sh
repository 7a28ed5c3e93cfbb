# C++: examples/cpp. Sourced; see ../common.sh.

cpp_compile() {
    c++ -std=c++17 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -g "$@"
}

if wanted_any cpp/http_server; then
    if ! pkg-config --exists libcurl; then
        need_packages "/usr/include/$(cc -dumpmachine)/curl/curl.h:libcurl4-openssl-dev"
    fi
    mkdir -p "$work/cpp"
    cpp_flags=$(PKG_CONFIG_PATH=$work/pkgconfig pkg-config --cflags --libs sbx libcurl)
    check "cpp/http_server compiles" cpp_compile examples/cpp/http_server.cpp $cpp_flags -o "$work/cpp/http_server"
    add_case cpp/http_server status "$work/cpp/http_server"
fi
