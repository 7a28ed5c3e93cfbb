// The smallest test runner that says what tests/harness/report.sh reads.
#ifndef TESTS_HPP
#define TESTS_HPP

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace tests {

struct test {
    const char *name;
    std::function<void()> body;
};

inline std::vector<test> &all() {
    static std::vector<test> tests;
    return tests;
}

struct registered {
    registered(const char *name, std::function<void()> body) { all().push_back({name, std::move(body)}); }
};

[[noreturn]] inline void fail(const char *file, int line, const std::string &what) {
    throw std::logic_error(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

int be_host(const std::string &name); // contract.cpp

// With stores of images and of volumes of its own, which the library looks for when it is first used; images.cpp.
int with_own_store(const std::function<int()> &run);

// Runs those whose name has the filter in it.
inline int run(const std::string &filter) {
    int passed = 0, failed = 0;
    for (const auto &one : all()) {
        if (std::string(one.name).find(filter) == std::string::npos)
            continue;
        try {
            one.body();
            std::printf("test %s ... ok\n", one.name);
            ++passed;
        } catch (const std::exception &problem) {
            std::printf("test %s ... FAILED\n%s\n", one.name, problem.what());
            ++failed;
        }
        std::fflush(stdout);
    }
    std::printf("test result: %s. %d passed; %d failed; 0 ignored;\n", failed == 0 ? "ok" : "FAILED", passed, failed);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

} // namespace tests

#define TEST(name)                                                                                             \
    static void name();                                                                                        \
    static const tests::registered registered_##name(#name, name);                                             \
    static void name()

#define CHECK(...)                                                                                             \
    do {                                                                                                       \
        if (!(__VA_ARGS__))                                                                                    \
            tests::fail(__FILE__, __LINE__, #__VA_ARGS__);                                                     \
    } while (false)

// It throws this type with this code, and the text says this.
#define THROWS(type, number, part, ...)                                                                        \
    do {                                                                                                       \
        bool thrown = false;                                                                                   \
        try {                                                                                                  \
            __VA_ARGS__;                                                                                       \
        } catch (const type &problem) {                                                                        \
            thrown = true;                                                                                     \
            if (problem.code() != (number))                                                                    \
                tests::fail(__FILE__, __LINE__, "code " + std::to_string(static_cast<int>(problem.code())));   \
            if (std::string(problem.what()).find(part) == std::string::npos)                                   \
                tests::fail(__FILE__, __LINE__, problem.what());                                               \
        }                                                                                                      \
        if (!thrown)                                                                                           \
            tests::fail(__FILE__, __LINE__, "nothing was thrown by " #__VA_ARGS__);                            \
    } while (false)

#endif
