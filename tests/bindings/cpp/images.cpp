// Images in C++: imported, named, run, taken from a sandbox, removed.

#include "sbx.hpp"

#include "tests.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace {

// A directory that goes with its scope.
class scratch {
public:
    scratch() {
        std::string name = (std::filesystem::temp_directory_path() / "sbx-cpp-XXXXXX").string();
        CHECK(::mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~scratch() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    scratch(const scratch &) = delete;
    std::string at(const std::string &name) const { return (path_ / name).string(); }
    void write(const std::string &name, const std::string &text) const { std::ofstream(path_ / name) << text; }

private:
    std::filesystem::path path_;
};

// A root file system with a shell, the libraries that it names, and a user.
std::string root_tarball(const scratch &directory) {
    const std::string script = "set -e; umask 022; cd '" + directory.at("") + R"('; mkdir etc
        printf 'root:x:0:0::/root:/bin/sh\napp:x:7:8::/home:/bin/sh\n' >etc/passwd
        echo hidden >etc/secret
        chmod 600 etc/secret
        libraries=$(ldd /bin/sh | grep -o '/[^ )]*' | sed 's,^/,,')
        tar -chf root.tar --owner=0 --group=0 etc -C / bin/sh $libraries)";
    CHECK(std::system(script.c_str()) == 0);
    return directory.at("root.tar");
}

sbx::config script(const sbx::image &image, const std::string &text) {
    sbx::config config;
    config.image(image).command({"/bin/sh", "-c", text}).capture(sbx::stream::out);
    return config;
}

} // namespace

static_assert(!std::is_copy_constructible_v<sbx::image> && std::is_nothrow_move_constructible_v<sbx::image>);

namespace tests {

int with_own_store(const std::function<int()> &run) {
    const scratch store;
    ::setenv("XDG_CACHE_HOME", store.at("").c_str(), 1);
    ::setenv("XDG_DATA_HOME", store.at("").c_str(), 1);
    return run();
}

} // namespace tests

TEST(an_image_is_imported_named_listed_run_and_removed) {
    const scratch directory;
    const auto tarball = root_tarball(directory);
    bool right = true;
    sbx::image_options options;
    options.tag = "cpp/test:one";
    options.progress = [&](std::uint64_t done, std::uint64_t total) { right = right && done <= total; };
    const sbx::image image = sbx::import_image(tarball, options);
    const auto info = image.info();
    CHECK(right && info.id == image.id() && info.id.size() == 7 + 64 && info.tags.size() == 1 && info.bytes > 0);
    CHECK(info.config.front() == '{' && std::chrono::system_clock::now() - info.created < std::chrono::hours(1));
    CHECK(sbx::find_image(info.id.substr(0, 7 + 12)).id() == info.id);

    // A program, as a user that only the image knows.
    auto config = script(image, "read line </mnt/again/etc/passwd; echo $line; read secret </etc/secret || exit 7");
    const sbx::sandbox sandbox(config.user("app").mount_image(image, "/mnt/again"));
    CHECK(sandbox.wait().code == 7 && sandbox.captured(sbx::stream::out).head == "root:x:0:0::/root:/bin/sh\n");
    CHECK(sbx::sandbox(sbx::config().image(image).entrypoint({"/bin/sh", "-c"}).command({"exit 4"})).wait().code == 4);
    const sbx::sandbox idle(sbx::config().image(image).no_command());
    CHECK(idle.exec(sbx::command({"/bin/sh", "-c", "read secret </etc/secret"})).wait().code == 0);

    sbx::tag_image("cpp/test:one", "cpp/test:two");
    const auto images = sbx::images();
    const auto found = std::find_if(images.begin(), images.end(), [&](const auto &one) { return one.id == info.id; });
    CHECK(found != images.end() && found->tags.size() == 2 && found->config.empty());
    sbx::remove_image("cpp/test:one");
    THROWS(sbx::error, sbx::code::not_found, "cpp/test:one", sbx::find_image("cpp/test:one"));
    CHECK(sbx::find_image("cpp/test:two").id() == info.id);
    const auto pruned = sbx::prune_images(0);
    CHECK(pruned.images > 0 && pruned.bytes >= info.bytes && sbx::images().empty());
    // The handle keeps what is removed.
    CHECK(sbx::sandbox(script(image, "exit 3")).wait().code == 3);
}

TEST(a_snapshot_is_an_image) {
    const scratch directory;
    const sbx::image image = sbx::import_image(root_tarball(directory));
    const sbx::sandbox sandbox(sbx::config().image(image).no_command());
    sandbox.write_file("/etc/kept", "kept\n");
    sandbox.write_file("/tmp/gone", "gone\n");
    const sbx::image snapshot = sandbox.snapshot("cpp/snapshot");
    CHECK(snapshot.id() != image.id() && sbx::find_image("cpp/snapshot").id() == snapshot.id());
    const sbx::sandbox second(script(snapshot, "read line </etc/kept; echo $line; [ ! -e /tmp/gone ]"));
    CHECK(second.wait().code == 0 && second.captured(sbx::stream::out).head == "kept\n");
    THROWS(sbx::unsupported, sbx::code::unsupported, "image", sbx::sandbox(sbx::config()).snapshot());
}

TEST(an_image_is_built_and_what_was_done_is_not_done_again) {
    const scratch directory;
    sbx::image_options options;
    options.tag = "cpp/base";
    sbx::import_image(root_tarball(directory), options);
    directory.write("copied", "from the context\n");
    const std::string text = "FROM cpp/base\nARG WHO\nCOPY copied /copied\n"
                             "RUN --mount=type=secret,id=key read key </run/secrets/key; echo $WHO ${#key} >/made\n"
                             "CMD [\"/bin/sh\", \"-c\", \"read a </copied; read b </made; echo $a, $b\"]\n";
    std::uint64_t done = 0, all = 0;
    const auto built = [&](const std::string &who, bool fresh = false) {
        sbx::build build(text);
        build.context(directory.at("")).arg("WHO", who).secret("key", "12345").tag("cpp/built");
        build.timeout(std::chrono::minutes(5)).max_age(std::chrono::hours(1)).max_bytes(1 << 30);
        if (fresh)
            build.no_cache();
        return sbx::build_image(build, [&](std::uint64_t now, std::uint64_t of) { done = now, all = of; });
    };
    const sbx::image image = built("me");
    CHECK(image.info().tags.at(0) == "docker.io/cpp/built:latest" && all == 4 && done <= all);
    const sbx::sandbox sandbox(sbx::config().image(image).capture(sbx::stream::out));
    CHECK(sandbox.wait().code == 0 && sandbox.captured(sbx::stream::out).head == "from the context, me 5\n");
    CHECK(built("me").id() == image.id() && built("you").id() != image.id() && built("me", true).info().bytes > 0);

    directory.write(".dockerignore", "copied\n");
    const auto without = [&](const sbx::texts &patterns) {
        sbx::build build("FROM cpp/base\nCOPY copied /copied\n");
        return sbx::build_image(build.context(directory.at("")).ignore(patterns));
    };
    CHECK(without({}).info().bytes > 0);
    THROWS(sbx::error, sbx::code::not_found, "ignore patterns", without({"*", "!x"}));
    THROWS(sbx::invalid, sbx::code::invalid, "\"a[\"", without({"a["}));

    sbx::build failing("FROM cpp/base\nRUN echo the reason; exit 3\n");
    THROWS(sbx::error, sbx::code::image, "the reason", sbx::build_image(failing));
    THROWS(sbx::invalid, sbx::code::invalid, "must not be set for a build",
           sbx::build_image(sbx::build("FROM cpp/base\n").config(sbx::config().name("it"))));
    THROWS(sbx::unsupported, sbx::code::unsupported, "ONBUILD", sbx::build_image(sbx::build("FROM a\nONBUILD RUN b\n")));
}

TEST(a_directory_is_an_image_and_an_image_is_copied) {
    const scratch directory;
    const sbx::image image = sbx::import_image(root_tarball(directory));
    const sbx::sandbox sandbox(sbx::config().image(image).no_command());
    sandbox.write_file("/tmp/kept", "kept\n");
    const sbx::image made = sandbox.snapshot_directory("/tmp", "cpp/directory");
    CHECK(sbx::find_image("cpp/directory").id() == made.id());
    sandbox.copy_image(made, "/data/copy");
    CHECK(sandbox.read_file("/data/copy/kept") == "kept\n");
    THROWS(sbx::error, sbx::code::not_found, "/none", sandbox.snapshot_directory("/none"));
    THROWS(sbx::invalid, sbx::code::invalid, "below the root", sandbox.copy_image(made, "/"));
}

TEST(an_exit_snapshot_is_what_a_sandbox_had_at_its_end) {
    const scratch directory;
    const sbx::image image = sbx::import_image(root_tarball(directory));
    const sbx::sandbox sandbox(script(image, "echo kept >/etc/kept").exit_snapshot("cpp/exit"));
    CHECK(sandbox.wait().code == 0);
    CHECK(sandbox.exit_image().id() == sbx::find_image("cpp/exit").id());
    const sbx::sandbox again(script(sandbox.exit_image(), "read line </etc/kept; echo $line"));
    CHECK(again.wait().code == 0 && again.captured(sbx::stream::out).head == "kept\n");
    const sbx::sandbox given(sbx::config().image(image).no_command().exit_snapshot());
    given.terminate();
    given.terminate();
    given.wait();
    THROWS(sbx::error, sbx::code::state, "terminated again", given.exit_image());
}

TEST(bad_images_are_clear_errors) {
    const scratch directory;
    directory.write("garbage", "garbage, and no archive");
    const auto garbage = directory.at("garbage");
    THROWS(sbx::error, sbx::code::not_found, "none", sbx::import_image(directory.at("none")));
    THROWS(sbx::error, sbx::code::image, "garbage", sbx::import_image(garbage));
    sbx::image_options options;
    options.username = "somebody";
    THROWS(sbx::invalid, sbx::code::invalid, "username", sbx::import_image(garbage, options));
    THROWS(sbx::invalid, sbx::code::invalid, "Not A Reference", sbx::pull_image("Not A Reference"));
    THROWS(sbx::invalid, sbx::code::invalid, "Not A Reference", sbx::find_image("Not A Reference"));
    THROWS(sbx::error, sbx::code::not_found, "cpp/none", sbx::tag_image("cpp/none", "cpp/other"));
    THROWS(sbx::error, sbx::code::not_found, "cpp/none", sbx::remove_image("cpp/none"));
    options = {};
    options.mirrors = {"docker.io"};
    THROWS(sbx::invalid, sbx::code::invalid, "docker.io", sbx::pull_image("cpp/none", options));

    sbx::image gone = sbx::import_image(root_tarball(directory));
    const sbx::image kept = std::move(gone);
    THROWS(sbx::error, sbx::code::handle, "", sbx::config().image(gone));
    THROWS(sbx::error, sbx::code::handle, "", gone.id());
    THROWS(sbx::invalid, sbx::code::invalid, "/proc/image", sbx::config().mount_image(kept, "/proc/image"));
}

TEST(what_a_progress_callback_throws_cancels_the_import) {
    const scratch directory;
    // Sparse, so that it is made at once, and slow to read.
    const std::string script = "cd '" + directory.at("") + "' && mkdir root && truncate -s 2G root/large";
    CHECK(std::system(script.c_str()) == 0);
    struct enough {};
    sbx::image_options options;
    options.tag = "cpp/given-up";
    options.progress = [](std::uint64_t, std::uint64_t) { throw enough(); };
    bool given_up = false;
    try {
        sbx::import_image(directory.at("root"), options);
    } catch (const enough &) {
        given_up = true;
    }
    CHECK(given_up);
    THROWS(sbx::error, sbx::code::not_found, "cpp/given-up", sbx::find_image("cpp/given-up"));
}
