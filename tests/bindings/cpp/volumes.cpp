// Volumes in C++: made, shared, listed, removed.

#include "sbx.hpp"

#include "tests.hpp"

#include <algorithm>
#include <fstream>

namespace {

std::string said(const std::string &script, const std::function<void(sbx::config &)> &mount) {
    sbx::config config;
    config.command({"sh", "-c", script}).capture(sbx::stream::out);
    mount(config);
    sbx::sandbox sandbox(config);
    CHECK(sandbox.wait().code == 0);
    return sandbox.captured(sbx::stream::out).head;
}

} // namespace

TEST(volumes_outlive_sandboxes_and_are_shared) {
    const auto data = [](std::uint32_t flags) {
        return [flags](sbx::config &config) { config.mount_volume("data-1", "/data", flags); };
    };
    said("echo hello >/data/file", data(SBX_VOLUME_CREATE));
    CHECK(said("cat /data/file; (echo x >/data/file) 2>/dev/null || echo refused", data(SBX_VOLUME_READ_ONLY)) ==
          "hello\nrefused\n");
    CHECK(said("touch /a/new; ls /a", [](sbx::config &config) {
              config.mount_volume("data-1", "/a", SBX_VOLUME_CREATE_SUB_PATH, "a/b");
          }) == "new\n");
    const auto info = sbx::find_volume("data-1");
    CHECK(info.name == "data-1" && !info.in_use && info.created <= std::chrono::system_clock::now());
    std::string line;
    CHECK(std::getline(std::ifstream(info.path + "/file"), line) && line == "hello");

    CHECK(sbx::create_volume("made").name == "made");
    THROWS(sbx::error, sbx::code::exists, "", sbx::create_volume("made"));
    sbx::create_volume("made", true);
    const auto all = sbx::volumes();
    CHECK(std::any_of(all.begin(), all.end(), [](const sbx::volume_info &one) { return one.name == "made"; }));
    {
        sbx::config idle;
        sbx::sandbox sandbox(idle.mount_volume("made", "/v"));
        THROWS(sbx::error, sbx::code::state, "", sbx::remove_volume("made"));
        CHECK(sbx::find_volume("made").in_use);
        sandbox.terminate();
        sandbox.wait();
    }
    sbx::remove_volume("made");
    THROWS(sbx::error, sbx::code::not_found, "", sbx::remove_volume("made"));
    sbx::config wrong;
    THROWS(sbx::error, sbx::code::invalid, "", wrong.mount_volume("Bad", "/v"));
    THROWS(sbx::error, sbx::code::invalid, "", wrong.mount_volume("x", "/v", 0, "../y"));
}
