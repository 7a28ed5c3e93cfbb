// A web server in a gVisor sandbox, fetched from over TLS with libcurl.

#include "sbx.hpp"

#include <curl/curl.h>

#include <cstdlib>
#include <iostream>

namespace {

std::size_t print(char *bytes, std::size_t size, std::size_t count, void *) {
    std::cout.write(bytes, static_cast<std::streamsize>(size * count));
    return size * count;
}

// Trusts the tunnel's authority and no other.
void fetch(const sbx::tunnel &tunnel) {
    const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), curl_easy_cleanup);
    if (curl == nullptr)
        throw std::runtime_error("libcurl can't be used");
    curl_blob authority{const_cast<char *>(tunnel.ca_pem.data()), tunnel.ca_pem.size(), CURL_BLOB_COPY};
    curl_easy_setopt(curl.get(), CURLOPT_URL, tunnel.url.c_str());
    curl_easy_setopt(curl.get(), CURLOPT_CAINFO_BLOB, &authority);
    curl_easy_setopt(curl.get(), CURLOPT_CAPATH, nullptr);
    curl_easy_setopt(curl.get(), CURLOPT_PROXY, "");
    curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, print);
    const CURLcode result = curl_easy_perform(curl.get());
    if (result != CURLE_OK)
        throw std::runtime_error(tunnel.url + ": " + curl_easy_strerror(result));
}

} // namespace

int main() try {
    using namespace std::chrono_literals;
    sbx::config config;
    config.command({"python3", "-m", "http.server", "12345"}).encrypted_port(12345);

    const sbx::sandbox sandbox(config);
    const sbx::tunnel tunnel = sandbox.tunnels(50s).at(12345);
    std::cout << tunnel.url << '\n'; // https://127.0.0.1:41873
    sandbox.wait_ready(50s);
    fetch(tunnel);

    sandbox.terminate();
    std::cout << "ended with " << sandbox.wait().code << '\n'; // 137: terminated by its host
    return EXIT_SUCCESS;
} catch (const std::exception &error) {
    std::cerr << "error: " << error.what() << '\n';
    return EXIT_FAILURE;
}
