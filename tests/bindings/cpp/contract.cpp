// The embedding contract from C++: hosts that do what hosts do. Each is this same program, started as
// "tests --host NAME"; the test is who looks at what it leaves.

#include "sbx.hpp"

#include "tests.hpp"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

using namespace std::chrono_literals;

namespace {

sbx::config script(const std::string &text) {
    sbx::config config;
    config.command({"sh", "-c", text});
    return config;
}

// ---- The hosts ----

int children_of_ones_own() {
    // Somebody else's children come and go while sandboxes do.
    const sbx::sandbox sandbox(script("sleep 0.3; exit 7"));
    for (int i = 0; i < 20; ++i) {
        const pid_t child = ::fork();
        if (child == 0)
            ::_exit(i);
        int status = 0;
        if (::waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != i)
            return 1;
    }
    return sandbox.wait().code;
}

int sigchld_ignored() {
    ::signal(SIGCHLD, SIG_IGN);
    return sbx::sandbox(script("exit 7")).wait().code;
}

int every_child_reaped() {
    const sbx::sandbox sandbox(script("sleep 0.2; exit 7"));
    std::thread([] {
        while (::waitpid(-1, nullptr, 0) > 0)
            continue;
    }).detach();
    return sandbox.wait().code;
}

// Whether it throws that, as all does in a forked child.
template <class Call> bool throws_forked(Call call) {
    try {
        call();
        return false;
    } catch (const sbx::error &problem) {
        return problem.code() == sbx::code::forked;
    }
}

int forked() {
    auto *sandbox = new sbx::sandbox(script("sleep 0.5; exit 7"));
    const pid_t child = ::fork();
    if (child == 0) {
        const bool refused = throws_forked([&] { sandbox->terminate(); }) && throws_forked([] { sbx::config(); }) &&
                             throws_forked([] { sbx::command({"true"}); }) && throws_forked([] { sbx::policy::open(); });
        delete sandbox; // the child's copy: it must not end the parent's
        ::_exit(refused ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    const int code = sandbox->wait().code;
    delete sandbox;
    return status == 0 ? code : 1;
}

int exit_in_the_middle() {
    static const sbx::sandbox sandbox(script("sleep 100")); // its destructor runs at exit
    auto *other = new sbx::sandbox(script("sleep 100"));    // nobody's does
    std::thread([other] {
        try {
            other->wait();
        } catch (const sbx::error &) {
        }
    }).detach();
    std::exit(7);
}

int exception_in_the_middle() {
    try {
        const sbx::sandbox sandbox(script("sleep 100"));
        throw std::runtime_error("something else");
    } catch (const std::runtime_error &) {
        return 7; // gone or going: who started this host looks
    }
}

int lives_until_killed() {
    const auto config = script("sleep 100");
    std::vector<sbx::sandbox> sandboxes;
    std::printf("x");
    std::fflush(stdout);
    for (;;) {
        if (sandboxes.size() > 3)
            sandboxes.erase(sandboxes.begin());
        sandboxes.emplace_back(config);
    }
}

int two_copies() {
    // The other copy is inside a plug-in, linked statically.
    const char *const plugin = std::getenv("SBX_TEST_PLUGIN");
    void *const handle = plugin == nullptr ? nullptr : ::dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        std::printf("SBX_TEST_PLUGIN: %s\n", plugin == nullptr ? "not set" : ::dlerror());
        return 1;
    }
    const auto run = reinterpret_cast<int (*)(const char *)>(::dlsym(handle, "plugin_run"));
    const auto state = reinterpret_cast<int (*)(sbx_sandbox *)>(::dlsym(handle, "plugin_state"));
    if (run == nullptr || state == nullptr)
        return 2;
    const sbx::sandbox sandbox(script("sleep 0.5; exit 4"));
    if (state(sandbox.get()) != SBX_EHANDLE) // a handle of another copy is an error
        return 3;
    return run("exit 3") + sandbox.wait().code;
}

struct host {
    const char *name;
    int (*run)();
};

constexpr host hosts[] = {
    {"children", children_of_ones_own},     {"ignored", sigchld_ignored},
    {"reaped", every_child_reaped},         {"forked", forked},
    {"exit", exit_in_the_middle},           {"exception", exception_in_the_middle},
    {"killed", lives_until_killed},         {"two-copies", two_copies},
};

// ---- Who looks ----

// Everything below this process, by /proc. Orphans come to us: we are their reaper.
std::vector<pid_t> descendants() {
    std::vector<std::pair<pid_t, pid_t>> parents;
    DIR *const proc = ::opendir("/proc");
    while (const dirent *const entry = ::readdir(proc)) {
        const pid_t number = std::atoi(entry->d_name);
        std::ifstream file("/proc/" + std::string(entry->d_name) + "/stat");
        std::stringstream text;
        text << file.rdbuf();
        const auto after = text.str().rfind(") ");
        if (number > 0 && after != std::string::npos)
            parents.emplace_back(number, std::atoi(text.str().c_str() + after + 4));
    }
    ::closedir(proc);
    std::vector<pid_t> found{::getpid()};
    for (std::size_t i = 0; i < found.size(); ++i)
        for (const auto &[child, parent] : parents)
            if (parent == found[i])
                found.push_back(child);
    found.erase(found.begin());
    return found;
}

void nothing_is_left() {
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    do {
        while (::waitpid(-1, nullptr, WNOHANG) > 0)
            continue;
        if (descendants().empty())
            return;
        std::this_thread::sleep_for(5ms);
    } while (std::chrono::steady_clock::now() < deadline);
    CHECK(!"processes are left");
}

pid_t start(const std::string &name, int output) {
    const pid_t child = ::fork();
    if (child == 0) {
        if (output >= 0)
            ::dup2(output, STDOUT_FILENO);
        ::execl("/proc/self/exe", "tests", "--host", name.c_str(), static_cast<char *>(nullptr));
        ::_exit(127);
    }
    CHECK(child > 0);
    return child;
}

void ends_with_7(const std::string &name) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    int status = 0;
    const pid_t child = start(name, -1);
    CHECK(::waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7)
        tests::fail(__FILE__, __LINE__, name + " ended with status " + std::to_string(status));
    nothing_is_left();
}

} // namespace

namespace tests {

int be_host(const std::string &name) {
    for (const auto &one : hosts)
        if (one.name == name)
            return one.run();
    return 126;
}

} // namespace tests

TEST(children_of_the_hosts_own_are_left_to_it) { ends_with_7("children"); }
TEST(exit_codes_are_right_where_sigchld_is_ignored) { ends_with_7("ignored"); }
TEST(exit_codes_are_right_where_every_child_is_reaped) { ends_with_7("reaped"); }
TEST(a_forked_child_can_neither_use_nor_harm) { ends_with_7("forked"); }
TEST(an_exit_in_the_middle_leaves_nothing) { ends_with_7("exit"); }
TEST(an_exception_ends_what_it_leaves) { ends_with_7("exception"); }
TEST(two_copies_live_in_one_process) { ends_with_7("two-copies"); }

TEST(a_killed_host_leaves_nothing) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int i = 0; i < 12; ++i) {
        int ends[2];
        CHECK(::pipe2(ends, O_CLOEXEC) == 0);
        const sbx::descriptor from(ends[0]);
        sbx::descriptor to(ends[1]);
        const pid_t child = start("killed", to.get());
        to.reset();
        char byte = 0;
        CHECK(::read(from.get(), &byte, 1) == 1);
        // Before, during and after the first sandboxes' start.
        std::this_thread::sleep_for(i * 37ms);
        ::kill(child, SIGKILL);
        CHECK(::waitpid(child, nullptr, 0) == child);
        nothing_is_left();
    }
}
