// The C++ package: what it promises beyond the C library under it.

#include "sbx.hpp"

#include "tests.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>
#include <type_traits>

using namespace std::chrono_literals;

namespace {

sbx::config script(const std::string &text) {
    sbx::config config;
    config.command({"sh", "-c", text});
    return config;
}

// Reads until the end of the file.
std::string all_of(const sbx::descriptor &from) {
    std::string text;
    char buffer[4096];
    for (;;) {
        const ssize_t count = ::read(from.get(), buffer, sizeof buffer);
        if (count == 0)
            return text;
        if (count > 0) {
            text.append(buffer, static_cast<std::size_t>(count));
            continue;
        }
        pollfd waits{from.get(), POLLIN, 0};
        CHECK(::poll(&waits, 1, 60000) == 1);
    }
}

} // namespace

static_assert(!std::is_copy_constructible_v<sbx::sandbox> && std::is_nothrow_move_constructible_v<sbx::sandbox>);
static_assert(!std::is_copy_assignable_v<sbx::queue> && std::is_nothrow_move_assignable_v<sbx::queue>);
static_assert(!std::is_copy_constructible_v<sbx::config> && !std::is_copy_constructible_v<sbx::policy>);
static_assert(!std::is_copy_constructible_v<sbx::runtime> && !std::is_copy_constructible_v<sbx::descriptor>);

TEST(exit_codes_and_reasons) {
    const auto exit = sbx::sandbox(script("exit 7")).wait();
    CHECK(exit.code == 7 && exit.reason == SBX_EXIT_EXITED && exit.signal == 0);
    const auto killed = sbx::sandbox(script("kill -9 $$")).wait();
    CHECK(killed.code == 137 && killed.reason == SBX_EXIT_SIGNALLED && killed.signal == 9);
    auto short_lived = script("sleep 100");
    short_lived.timeout(0.3s);
    const auto late = sbx::sandbox(short_lived).wait();
    CHECK(late.code == 124 && late.reason == SBX_EXIT_TIMED_OUT && late.runtime >= 300ms);
    const sbx::sandbox told(script("exec sleep 100"));
    told.signal(10);
    CHECK(told.wait().code == 138);
}

TEST(a_wait_that_runs_out_is_nothing) {
    const sbx::sandbox sandbox(script("sleep 100"));
    CHECK(!sandbox.wait_for(0s));
    CHECK(!sandbox.wait_for(-5s));
    CHECK(!sandbox.wait_for(1.5ms));
    sandbox.terminate();
    const auto exit = sandbox.wait_for(std::chrono::hours::max());
    CHECK(exit && exit->reason == SBX_EXIT_TERMINATED && exit->code == 137);
}

TEST(durations_are_rounded_up_and_never_become_for_ever) {
    CHECK(sbx::detail::milliseconds(1us) == 1);
    CHECK(sbx::detail::milliseconds(1500us) == 2);
    CHECK(sbx::detail::milliseconds(-1h) == 0);
    CHECK(sbx::detail::milliseconds(0.25s) == 250);
    CHECK(sbx::detail::milliseconds(std::chrono::hours::max()) == -1);
    CHECK(sbx::detail::milliseconds(std::chrono::duration<double>(1e300)) == -1);
}

TEST(errors_are_typed_and_say_what_to_do) {
    sbx::config config;
    THROWS(sbx::invalid, sbx::code::invalid, "no such\\nuser", config.user("no such\nuser"));
    THROWS(sbx::invalid, sbx::code::invalid, "no such\\nuser", sbx::sandbox{config});
    THROWS(sbx::exec_failed, sbx::code::exec, "/no/such/program",
           sbx::sandbox(sbx::config().command({"/no/such/program"})));
    sbx::runtime_options elsewhere;
    elsewhere.runsc = "/no/such/runsc";
    THROWS(sbx::host_lacks, sbx::code::runsc_missing, "/no/such/runsc", sbx::runtime{elsewhere});
    const sbx::sandbox sandbox(script("sleep 100").name("taken"));
    THROWS(sbx::error, sbx::code::exists, "taken", sbx::sandbox(script("true").name("taken")));
    THROWS(sbx::refused, sbx::code::refused, "", sandbox.connect(80));
    const sbx::sandbox silent(script("sleep 100").unencrypted_port(80));
    THROWS(sbx::timed_out, sbx::code::timed_out, silent.id(), silent.wait_ready(1ms));
    THROWS(sbx::invalid, sbx::code::invalid, "no readiness probe and no port", sandbox.wait_ready(1ms));
}

TEST(a_limit_that_can_not_be_held_names_the_watchdog) {
    sbx::config limited;
    limited.memory(512u << 20);
    try {
        const sbx::sandbox held{limited}; // where this user has control groups
    } catch (const sbx::host_lacks &) {
        THROWS(sbx::host_lacks, sbx::code::host, "Or call limit_mode(SBX_LIMITS_WATCHDOG)", sbx::sandbox{limited});
        const sbx::sandbox watched{limited.limit_mode(SBX_LIMITS_WATCHDOG)};
    }
}

TEST(a_handle_that_is_gone_is_an_error) {
    sbx::sandbox one(script("sleep 100"));
    const sbx::sandbox two = std::move(one);
    THROWS(sbx::error, sbx::code::handle, "NULL", one.terminate());
    CHECK(one.id().empty());
    sbx_sandbox *raw = two.get();
    {
        const sbx::sandbox three = std::move(const_cast<sbx::sandbox &>(two));
    }
    CHECK(sbx_terminate(raw, nullptr) == SBX_EHANDLE);
    sbx_sandbox_free(raw); // once more: ignored
    sbx::sandbox four(script("sleep 100"));
    four.close();
    four.close();
    THROWS(sbx::error, sbx::code::handle, "", four.wait());
}

TEST(a_wrong_kind_of_handle_is_an_error) {
    const sbx::queue queue;
    auto *wrong = reinterpret_cast<sbx_sandbox *>(queue.get());
    THROWS(sbx::error, sbx::code::handle, "queue", sbx::detail::call(sbx_terminate, wrong));
    sbx_sandbox_free(wrong); // ignored
    CHECK(!queue.next());
}

TEST(who_waits_hears_of_the_end_of_its_scope) {
    auto sandbox = std::make_unique<sbx::sandbox>(script("sleep 100"));
    std::atomic<bool> waits{false};
    sbx_sandbox *raw = sandbox->get();
    int result = 0;
    std::thread waiter([&] {
        waits = true;
        result = sbx_wait(raw, -1, nullptr, nullptr);
    });
    while (!waits)
        std::this_thread::yield();
    sandbox.reset();
    waiter.join();
    CHECK(result == SBX_ECLOSED || result == SBX_EHANDLE);
}

TEST(events_come_to_the_queue_with_their_cookie) {
    const sbx::queue queue(16);
    const sbx::descriptor doorbell = queue.open();
    const auto sandbox = sbx::sandbox::begin(script("exit 3").queue(queue, 42));
    std::vector<sbx::event> events;
    while (events.empty() || events.back().kind != sbx::event_kind::exited) {
        pollfd waits{doorbell.get(), POLLIN, 0};
        CHECK(::poll(&waits, 1, 60000) == 1);
        char rings[64];
        CHECK(::read(doorbell.get(), rings, sizeof rings) > 0);
        while (const auto event = queue.next())
            events.push_back(*event);
    }
    CHECK(events.front().kind == sbx::event_kind::started && events.front().cookie == 42);
    CHECK(events.back().code == 3 && events.back().reason == SBX_EXIT_EXITED);
    CHECK(sandbox.state() == sbx::state::ended);
    sandbox.rethrow_failure();
    const auto fails = sbx::sandbox::begin(sbx::config().command({"/no/such/program"}));
    THROWS(sbx::exec_failed, sbx::code::exec, "/no/such/program", fails.wait());
    THROWS(sbx::exec_failed, sbx::code::exec, "/no/such/program", fails.rethrow_failure());
}

TEST(streams_are_descriptors_and_captures) {
    const sbx::sandbox sandbox(script("cat; echo problem >&2")
                                   .pipe(sbx::stream::in)
                                   .pipe(sbx::stream::out)
                                   .capture(sbx::stream::err, 4, 4));
    sbx::descriptor in = sandbox.open(sbx::stream::in);
    CHECK(::send(in.get(), "hello\n", 6, MSG_NOSIGNAL) == 6);
    in.reset();
    CHECK(all_of(sandbox.open(sbx::stream::out)) == "hello\n");
    THROWS(sbx::error, sbx::code::state, "", sandbox.open(sbx::stream::out));
    CHECK(sandbox.wait().code == 0);
    const auto captured = sandbox.captured(sbx::stream::err);
    CHECK(captured.head == "prob" && captured.tail == "lem\n" && captured.dropped == 0);
}

TEST(programs_run_in_a_running_sandbox) {
    const sbx::sandbox sandbox(sbx::config().env("A", "outer").env("B", "outer").name("idle").tag("kind", "test"));
    CHECK(sandbox.tag("kind") == "test" && sandbox.tag("other").empty());
    CHECK(sbx::sandbox::find("idle").id() == sandbox.id());
    const auto process = sandbox.exec(sbx::command({"sh", "-c", "cat; echo $A $B $C $PWD >&2; exit 9"})
                                          .env("A", "inner")
                                          .secret("C", "secret")
                                          .workdir("/tmp")
                                          .pipe(sbx::stream::in)
                                          .pipe(sbx::stream::out)
                                          .capture(sbx::stream::err));
    sbx::descriptor in = process.open(sbx::stream::in);
    CHECK(::send(in.get(), "typed", 5, MSG_NOSIGNAL) == 5);
    in.reset();
    CHECK(all_of(process.open(sbx::stream::out)) == "typed");
    CHECK(process.wait().code == 9 && process.captured(sbx::stream::err).head == "inner outer secret /tmp\n");
    THROWS(sbx::exec_failed, sbx::code::exec, "/no/such/program", sandbox.exec(sbx::command({"/no/such/program"})));
    const auto fails = sandbox.exec_begin(sbx::command({"/no/such/program"}));
    THROWS(sbx::exec_failed, sbx::code::exec, "/no/such/program", fails.wait());
    THROWS(sbx::exec_failed, sbx::code::exec, "", fails.rethrow_failure());
    const auto sleeps = sandbox.exec(sbx::command({"sleep", "100"}));
    CHECK(!sleeps.wait_for(0s));
    sleeps.signal(15);
    CHECK(sleeps.wait().code == 128 + 15);
    CHECK(sandbox.exec(sbx::command({"sleep", "100"}).timeout(100ms)).wait().code == 124);
    const auto shell = sandbox.exec(sbx::command({"sh"}).terminal(11, 22));
    shell.resize(33, 44);
    const sbx::descriptor terminal = shell.open(sbx::stream::terminal);
    // What is typed may overtake the size, which goes another way.
    const std::string typed = "until stty size | grep -x '33 44'; do sleep 0.05; done; exit 5\n";
    CHECK(::send(terminal.get(), typed.data(), typed.size(), MSG_NOSIGNAL) == ssize_t(typed.size()));
    CHECK(all_of(terminal).find("33 44\r\n") != std::string::npos && shell.wait().code == 5);
    sandbox.stop(15, 1s);
    CHECK(sandbox.wait().reason == SBX_EXIT_TERMINATED);
}

TEST(files_are_read_and_written) {
    const sbx::sandbox sandbox{sbx::config()};
    const std::string bytes("one\0two", 7);
    sandbox.make_directories("/data/below");
    sandbox.write_file("/data/file", bytes, 0600);
    CHECK(sandbox.read_file("/data/file") == bytes);
    CHECK(sandbox.stat("/data/file").bytes == 7 && sandbox.stat("/data/file").mode == 0600);
    sandbox.rename("/data/file", "/data/other");
    CHECK(sandbox.list_directory("/data").size() == 2 && sandbox.list_directory("/data/below").empty());
    THROWS(sbx::error, sbx::code::not_found, "/data/file", sandbox.read_file("/data/file"));
    const std::unique_ptr<std::FILE, decltype(&std::fclose)> archive(std::tmpfile(), std::fclose);
    sandbox.copy_out("/data", ::fileno(archive.get()));
    sandbox.remove("/data", true);
    THROWS(sbx::error, sbx::code::not_found, "/data", sandbox.stat("/data"));
    ::lseek(::fileno(archive.get()), 0, SEEK_SET);
    sandbox.make_directories("/copy");
    sandbox.copy_in("/copy", ::fileno(archive.get()));
    const auto entries = sandbox.list_directory("/copy");
    CHECK(!entries.empty() && entries[0].info.kind != 0);
}

TEST(sandboxes_are_kept_warm) {
    const auto like = [] { return std::move(script("hostname; exit 5").hostname("warm")); };
    const auto config = like();
    sbx::keep_warm(config, 1);
    const auto until_ready = [&](std::uint32_t count) {
        for (int i = 0; sbx::warm_stats(nullptr, config.get()).ready != count; ++i) {
            CHECK(i < 6000);
            std::this_thread::sleep_for(10ms);
        }
    };
    until_ready(1);
    CHECK(sbx::sandbox(like()).wait().code == 5);
    const auto stats = sbx::warm_stats(nullptr, config.get());
    CHECK(stats.hits == 1 && stats.misses_empty == 0 && stats.last_miss[0] == 0);
    CHECK(sbx::sandbox(script("exit 6")).wait().code == 6);
    CHECK(std::string(sbx::warm_stats().last_miss) == "different from the template: hostname");
    sbx::keep_warm(config, 0);
    until_ready(0);
    THROWS(sbx::error, sbx::code::invalid, "257", sbx::keep_warm(config, 257));
    const sbx::runtime runtime;
    sbx::keep_warm(runtime, config, 0);
    CHECK(sbx::warm_stats(runtime.get()).wanted == 0);
}

TEST(only_so_many_sandboxes_start_at_once) {
    const sbx::runtime runtime;
    const int by_default = sbx::max_starts(runtime.get());
    CHECK(by_default >= 4 && by_default == sbx::max_starts());
    sbx::set_max_starts(1, runtime.get());
    CHECK(sbx::max_starts(runtime.get()) == 1 && sbx::max_starts() == by_default);
    THROWS(sbx::error, sbx::code::invalid, "257", sbx::set_max_starts(257));
    sbx::set_max_starts(1);
    const sbx::sandbox one(script("exit 1")), two(script("exit 2"));
    CHECK(one.wait().code == 1 && two.wait().code == 2);
    sbx::set_max_starts(0);
    CHECK(sbx::max_starts() == by_default);
}

TEST(spares) {
    const sbx::runtime runtime;
    CHECK(sbx::spares() == 0 && sbx::spares(runtime.get()) == 0);
    sbx::set_spares(2, runtime.get());
    CHECK(sbx::spares(runtime.get()) == 2 && sbx::spares() == 0);
    THROWS(sbx::error, sbx::code::invalid, "17", sbx::set_spares(17));
    sbx::set_spares(1);
    for (int code = 1; code < 4; code++) CHECK(sbx::sandbox(script("exit " + std::to_string(code))).wait().code == code);
    sbx::set_spares(0);
}

TEST(limits_and_statistics) {
    const sbx::sandbox sandbox(
        script("sleep 100").max_processes(50).max_open_files(64).disk(1 << 20).idle_timeout(1h));
    CHECK(sandbox.stats().uptime_ms >= 0 && sandbox.stats().tunnel_connections == 0);
    const auto process = sandbox.exec(sbx::command({"sh", "-c", "ulimit -n"}).capture(sbx::stream::out));
    CHECK(process.wait().code == 0 && process.captured(sbx::stream::out).head == "64\n");
}

TEST(a_connection_needs_no_port_on_the_host) {
    const sbx::sandbox sandbox(sbx::config().command({"python3", "-m", "http.server", "8000"}).tcp_probe(8000, 20ms));
    sandbox.wait_ready(60s);
    CHECK(sandbox.tunnels().empty());
    const sbx::descriptor connection = sandbox.connect(8000);
    const std::string request = "GET / HTTP/1.0\r\n\r\n";
    CHECK(::send(connection.get(), request.data(), request.size(), MSG_NOSIGNAL) == ssize_t(request.size()));
    CHECK(all_of(connection).find("Directory listing") != std::string::npos);
}

TEST(tunnels_are_plain_data_that_outlives_the_sandbox) {
    auto sandbox = std::make_unique<sbx::sandbox>(
        script("sleep 100").encrypted_port(443).h2_port(8443).unencrypted_port(80));
    const auto tunnels = sandbox->tunnels(60s);
    sandbox.reset();
    CHECK(tunnels.size() == 3 && tunnels.at(443).container_port == 443);
    CHECK(tunnels.at(443).url == "https://127.0.0.1:" + std::to_string(tunnels.at(443).port));
    CHECK(tunnels.at(8443).ca_pem == tunnels.at(443).ca_pem && !tunnels.at(443).spki_sha256.empty());
    CHECK(tunnels.at(80).url.empty() && tunnels.at(80).host == "127.0.0.1" && tunnels.at(80).ca_pem.empty());
}

TEST(tunnels_listen_elsewhere_with_a_certificate_of_ones_own) {
    const char *file = std::getenv("SBX_TEST_CERTIFICATE");
    CHECK(file != nullptr);
    std::stringstream pem;
    pem << std::ifstream(file).rdbuf();
    const auto split = pem.str().find("-----BEGIN PRIVATE KEY");
    const auto chain = pem.str().substr(0, split), key = pem.str().substr(split);
    const sbx::sandbox sandbox(
        script("sleep 100").encrypted_port(443).bind_port(443, "127.0.0.2").tls_certificate(chain, key));
    const auto tunnel = sandbox.tunnels(60s).at(443);
    CHECK(tunnel.host == "127.0.0.2" && tunnel.port != 0);
    // The pin of that certificate's key.
    CHECK(tunnel.spki_sha256 == "sha256//N+G85K42EmOrsT7MPgcNAN14duhMQHbekisLmIT59ww=");
    THROWS(sbx::invalid, sbx::code::invalid, "443", sbx::config().bind_port(443, "127.0.0.1"));
    THROWS(sbx::invalid, sbx::code::invalid, "localhost", sbx::config().encrypted_port(443).bind_port(443, "localhost"));
    THROWS(sbx::invalid, sbx::code::invalid, "", sbx::config().tls_certificate(chain, "hunter2"));
}

TEST(a_sandbox_asks_its_own_name_server) {
    const sbx::descriptor server(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    CHECK(::bind(server.get(), reinterpret_cast<sockaddr *>(&address), size) == 0);
    CHECK(::getsockname(server.get(), reinterpret_cast<sockaddr *>(&address), &size) == 0);
    // Every name has one address. It ends when the socket is shut down.
    std::thread answers([&server] {
        char question[512];
        for (;;) {
            sockaddr_in peer{};
            socklen_t length = sizeof peer;
            const auto count = ::recvfrom(server.get(), question, sizeof question, 0,
                                          reinterpret_cast<sockaddr *>(&peer), &length);
            if (count < 17)
                return;
            const auto end = 12 + std::strlen(question + 12) + 5;
            std::string answer(question, end);
            const bool is_a = question[end - 3] == 1;
            answer.replace(2, 10, std::string("\x81\x80\0\1\0\0\0\0\0\0", 10));
            answer[7] = is_a ? 1 : 0;
            if (is_a)
                answer += std::string("\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x5d\xb8\xd8\x22", 16);
            ::sendto(server.get(), answer.data(), answer.size(), MSG_NOSIGNAL,
                     reinterpret_cast<const sockaddr *>(&peer), length);
        }
    });
    sbx::config config;
    config.command({"python3", "-c", "import socket; print(socket.gethostname(), socket.gethostbyname('some.example.com'))"});
    config.hostname("crate-7").tag("owner", "tests").capture(sbx::stream::out).timeout(60s);
    config.nameserver("127.0.0.1:" + std::to_string(ntohs(address.sin_port)));
    const sbx::sandbox sandbox(config);
    sandbox.wait();
    ::shutdown(server.get(), SHUT_RDWR);
    answers.join();
    CHECK(sandbox.captured(sbx::stream::out).head == "crate-7 93.184.216.34\n" && sandbox.tag("owner") == "tests");
    THROWS(sbx::invalid, sbx::code::invalid, "dns.example", sbx::config().nameserver("dns.example"));
}

TEST(reasons_have_names) {
    CHECK(sbx::reason_name(sbx::policy::open().check("10.0.0.1", 443).reason) == "protected");
    CHECK(sbx::reason_name(sbx::policy::allowlist().check("8.8.8.8", 443).reason) == "not listed");
    CHECK(sbx::reason_name(SBX_REASON_ON_LINK) == "on link" && sbx::reason_name(-99) == "unknown");
}

TEST(a_policy_explains_itself_and_names_its_bad_entry) {
    auto policy = sbx::policy::allowlist();
    policy.allow_cidr("198.51.100.0/24").deny_cidr("198.51.100.7/32");
    CHECK(!policy.check("198.51.100.7", 443).allowed && policy.check("198.51.100.7", 443).entry == 1);
    policy.allow_domain("*.example.com").tls_port(8443).dns(SBX_DNS_ON);
    CHECK(policy.mode() == SBX_POLICY_ALLOWLIST && policy.entries().size() == 3);
    CHECK(policy.tls_ports() == std::vector<std::uint16_t>{8443});
    THROWS(sbx::invalid, sbx::code::invalid, "198.51.100.7/8", policy.deny_cidr("198.51.100.7/8"));
    auto open = sbx::policy::open();
    open.allow_local_cidr("93.184.216.0/24").dns(SBX_DNS_ADDRESSES);
    CHECK(open.entries() == std::vector<std::string>{"local 93.184.216.0/24"} && open.dns() == SBX_DNS_ADDRESSES);
    auto listed = sbx::policy::allowlist();
    THROWS(sbx::invalid, sbx::code::invalid, "93.184.216.0/24", listed.allow_local_cidr("93.184.216.0/24"));
    THROWS(sbx::invalid, sbx::code::invalid, "198.51.100.7/8", sbx::config().policy(policy));
    THROWS(sbx::invalid, sbx::code::invalid, "",
           sbx::sandbox(script("true").unencrypted_port(80).policy(sbx::policy::blocked())));
}

TEST(a_rate_of_tunnels_has_bounds) {
    for (const std::int32_t rate : {-1, 0, 1, 1'000'000}) {
        script("true").unencrypted_port(80).tunnel_rate(rate).check();
    }
    THROWS(sbx::invalid, sbx::code::invalid, "tunnel rate 1000001", sbx::sandbox(script("true").tunnel_rate(1'000'001)));
}

TEST(a_policy_is_changed_while_the_sandbox_runs) {
    const sbx::queue queue;
    const sbx::sandbox sandbox(
        sbx::config().policy(sbx::policy::allowlist()).egress_limits(10, 10).queue(queue, 1));
    auto policy = sbx::policy::allowlist();
    CHECK(sandbox.set_policy(policy.allow_cidr("198.51.100.0/24")) == 1);
    CHECK(sandbox.policy().entries() == std::vector<std::string>{"allow 198.51.100.0/24"});
    CHECK(sandbox.set_policy(sbx::policy::open()) == 2 && sandbox.policy().mode() == SBX_POLICY_OPEN);
    sandbox.set_policy_begin(policy, queue, 7);
    for (;;) {
        const auto event = queue.next();
        if (event && event->kind == sbx::event_kind::policy_applied && event->cookie == 7) {
            CHECK(event->code == 0 && event->value[0] == 3);
            break;
        }
        std::this_thread::yield();
    }
}

TEST(one_config_makes_sandboxes_on_many_threads) {
    const auto config = script("exit 5");
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([&] { right += sbx::sandbox(config).wait().code == 5 ? 1 : 0; });
    for (auto &thread : threads)
        thread.join();
    CHECK(right == 8);
}

TEST(a_runtime_of_ones_own_lists_and_ends_its_sandboxes) {
    auto own = std::make_unique<sbx::runtime>();
    const sbx::sandbox sandbox(*own, script("sleep 100").name("own"));
    const auto listed = sbx::sandboxes(*own);
    CHECK(listed.size() == 1 && listed[0].name == "own" && listed[0].id == sandbox.id());
    CHECK(listed[0].state == sbx::state::running);
    own.reset();
    try {
        CHECK(sandbox.wait().code == 137);
    } catch (const sbx::closed &) { // the runtime was gone before the answer
    }
}

TEST(the_doctor_says_what_is_missing) {
    for (const auto &finding : sbx::check())
        CHECK(finding.status != SBX_FINDING_MISSING && !finding.name.empty());
    sbx::runtime_options elsewhere;
    elsewhere.runsc = "/no/such/runsc";
    const auto findings = sbx::check(elsewhere);
    CHECK(std::any_of(findings.begin(), findings.end(), [](const auto &finding) {
        return finding.status == SBX_FINDING_MISSING && !finding.remedy.empty();
    }));
    CHECK(sbx::check_json().find("\"usable\":true") != std::string::npos);
    CHECK(sbx::check_json(elsewhere).find("/no/such/runsc") != std::string::npos);
}

int main(int argc, char **argv) {
    if (argc > 2 && std::string(argv[1]) == "--host")
        return tests::be_host(argv[2]);
    return tests::with_own_store([&] { return tests::run(argc > 1 ? argv[1] : ""); });
}
