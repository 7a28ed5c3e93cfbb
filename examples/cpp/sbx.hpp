// libsbx for C++17: gVisor sandboxes inside your own process.
//
//   sbx::config config;
//   config.command({"python3", "-m", "http.server", "12345"}).encrypted_port(12345);
//   sbx::sandbox sandbox(config);                       // ends with its scope
//   std::string url = sandbox.tunnels().at(12345).url;  // https://127.0.0.1:41873
//
// One header over the C library's sbx.h, whose comments are the manual. Handles are move-only and free what they
// own; using one that was moved from throws like any other bad handle. Every failure throws sbx::error or a class
// derived from it. Time-outs are std::chrono durations: without one a wait is for ever; zero only looks, and so does a
// negative one, other than in C.
// Threads are as in C: anybody may use a sandbox or a queue at any time, one thread at a time a config or policy.

#ifndef SBX_HPP
#define SBX_HPP

#include <sbx.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace sbx {

// ---- Errors ----

enum class code : int {
    invalid = SBX_EINVALID,
    handle = SBX_EHANDLE,
    size = SBX_ESIZE,
    timed_out = SBX_ETIMEDOUT,
    closed = SBX_ECLOSED,
    state = SBX_ESTATE,
    exists = SBX_EEXISTS,
    not_found = SBX_ENOTFOUND,
    unsupported = SBX_EUNSUPPORTED,
    limit = SBX_ELIMIT,
    host = SBX_EHOST,
    runsc_missing = SBX_ERUNSC_MISSING,
    runsc_unusable = SBX_ERUNSC_UNUSABLE,
    engine = SBX_EENGINE,
    forked = SBX_EFORKED,
    panic = SBX_EPANIC,
    system = SBX_ESYSTEM,
    refused = SBX_EREFUSED,
    exec = SBX_EEXEC,
    internal = SBX_EINTERNAL,
    image = SBX_EIMAGE,
};

// What the library refuses or can't do. what() names the value or call, the rule, and what to do.
class error : public std::runtime_error {
public:
    error(sbx::code code, int os_error, const std::string &text)
        : std::runtime_error(text), code_(code), os_error_(os_error) {}
    sbx::code code() const noexcept { return code_; }
    int os_error() const noexcept { return os_error_; } // the errno of the system call that failed, or 0

private:
    sbx::code code_;
    int os_error_;
};

// Those that programs tell apart most often.
struct invalid : error { using error::error; };      // a value that is not allowed
struct timed_out : error { using error::error; };    // nothing was changed; the call may be made again
struct closed : error { using error::error; };       // the object was freed while the call waited
struct unsupported : error { using error::error; };  // this library can't do that
struct host_lacks : error { using error::error; };   // the machine, or runsc, is missing something
struct exec_failed : error { using error::error; };  // the program could not be started in the sandbox
struct refused : error { using error::error; };      // nothing in the sandbox accepts connections there

namespace detail {

[[noreturn]] inline void fail(int number, const sbx_error &error) {
    const auto what = static_cast<code>(number);
    std::string text = error.code == number ? std::string(error.message) : "libsbx: error " + std::to_string(number);
    if (what == code::host && text.find("the limits of memory and processor") != std::string::npos)
        text += ". Or call limit_mode(SBX_LIMITS_WATCHDOG), and not cpu(): memory is watched then, and a sandbox with "
                "more is ended";
    switch (what) {
    case code::invalid: throw invalid(what, error.os_error, text);
    case code::timed_out: throw timed_out(what, error.os_error, text);
    case code::closed: throw closed(what, error.os_error, text);
    case code::unsupported: throw unsupported(what, error.os_error, text);
    case code::host:
    case code::runsc_missing:
    case code::runsc_unusable: throw host_lacks(what, error.os_error, text);
    case code::exec: throw exec_failed(what, error.os_error, text);
    case code::refused: throw refused(what, error.os_error, text);
    default: throw sbx::error(what, error.os_error, text);
    }
}

// Calls with an error struct of its own as the last argument; returns what is not negative.
template <class Function, class... Arguments> int call(Function function, Arguments... arguments) {
    sbx_error error = SBX_ERROR_INIT;
    const int result = function(arguments..., &error);
    if (result < 0)
        fail(result, error);
    return result;
}

inline int checked(int result) {
    const sbx_error none = SBX_ERROR_INIT;
    if (result < 0)
        fail(result, none);
    return result;
}

// The same for a function that gives out a handle.
template <class Handle, class Function, class... Arguments>
Handle *make(Function function, Arguments... arguments) {
    Handle *handle = nullptr;
    sbx_error error = SBX_ERROR_INIT;
    const int result = function(arguments..., &handle, &error);
    if (result < 0)
        fail(result, error);
    return handle;
}

template <auto Free> struct freer {
    template <class Handle> void operator()(Handle *handle) const noexcept { Free(handle); }
};
template <class Handle, auto Free> using owner = std::unique_ptr<Handle, freer<Free>>;

inline std::string text(const char *pointer) { return pointer == nullptr ? std::string() : std::string(pointer); }

inline std::vector<const char *> pointers(const std::vector<std::string> &texts) {
    std::vector<const char *> all;
    all.reserve(texts.size() + 1);
    for (const auto &one : texts)
        all.push_back(one.c_str());
    all.push_back(nullptr);
    return all;
}

// Rounded up, so that a short time is not none; what milliseconds can't say is for ever.
template <class Rep, class Period> std::int64_t milliseconds(std::chrono::duration<Rep, Period> time) {
    if (time <= time.zero())
        return 0;
    if (std::chrono::duration<long double, std::milli>(time).count() > 9e18L)
        return -1;
    return static_cast<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(time).count());
}

} // namespace detail

// ---- The library ----

inline std::string version() { return sbx_version(); }

// Sends log lines to a descriptor: 1 errors, 2 warnings, 3 information, 4 debugging, 5 tracing; 0 ends that.
inline void log_to(int descriptor, int level) { detail::checked(sbx_log_set_fd(descriptor, level)); }

// A descriptor that is closed with its scope.
class descriptor {
public:
    descriptor() noexcept = default;
    explicit descriptor(int number) noexcept : number_(number) {}
    descriptor(descriptor &&other) noexcept : number_(other.release()) {}
    descriptor &operator=(descriptor &&other) noexcept {
        if (this != &other)
            reset(other.release());
        return *this;
    }
    ~descriptor() { reset(); }
    int get() const noexcept { return number_; }
    int release() noexcept { return std::exchange(number_, -1); }
    void reset(int number = -1) noexcept {
        if (number_ >= 0)
            ::close(number_);
        number_ = number;
    }
    explicit operator bool() const noexcept { return number_ >= 0; }

private:
    int number_ = -1;
};

struct runtime_options {
    std::string runsc;              // the runsc to use; empty: SBX_RUNSC, PATH, and the well-known places
    std::string keeper;             // an installed copy of the keeper instead of the embedded one
    bool no_user_namespace = false; // only for a host with CAP_SYS_ADMIN and CAP_NET_ADMIN
};

namespace detail {
inline sbx_runtime_config plain(const runtime_options &options) {
    sbx_runtime_config config = SBX_RUNTIME_CONFIG_INIT;
    config.runsc = options.runsc.empty() ? nullptr : options.runsc.c_str();
    config.keeper = options.keeper.empty() ? nullptr : options.keeper.c_str();
    config.flags = options.no_user_namespace ? SBX_RUNTIME_NO_USER_NAMESPACE : 0;
    return config;
}
} // namespace detail

enum class state : int {
    starting = SBX_STATE_STARTING,
    running = SBX_STATE_RUNNING,
    ending = SBX_STATE_ENDING,
    ended = SBX_STATE_ENDED,
};

// Two threads, however many sandboxes. Who makes none uses the process's default one.
class runtime {
public:
    explicit runtime(const runtime_options &options = {}) {
        const sbx_runtime_config config = detail::plain(options);
        handle_.reset(detail::make<sbx_runtime>(sbx_runtime_new, &config));
    }
    sbx_runtime *get() const noexcept { return handle_.get(); }

private:
    detail::owner<sbx_runtime, sbx_runtime_free> handle_;
};

struct finding {
    int status; // SBX_FINDING_...
    std::string name, detail, remedy;
};

namespace detail {
inline owner<sbx_report, sbx_report_free> checked_host(const runtime_options &options) {
    const sbx_runtime_config config = plain(options);
    return owner<sbx_report, sbx_report_free>(make<sbx_report>(sbx_runtime_check, &config));
}
} // namespace detail

// The doctor: what sandboxes need of this machine, and what to do about what is missing.
inline std::vector<finding> check(const runtime_options &options = {}) {
    const auto report = detail::checked_host(options);
    std::vector<finding> findings;
    const auto count = static_cast<std::size_t>(detail::checked(sbx_report_count(report.get())));
    for (std::size_t i = 0; i < count; ++i) {
        sbx_finding raw = SBX_FINDING_INIT;
        detail::checked(sbx_report_finding(report.get(), i, &raw));
        findings.push_back({raw.status, raw.name, raw.detail, raw.remedy});
    }
    return findings;
}

// The doctor's report as one line of JSON: sbx_report_json.
inline std::string check_json(const runtime_options &options = {}) {
    return sbx_report_json(detail::checked_host(options).get());
}

// ---- Events ----

enum class event_kind : std::uint32_t {
    started = SBX_EVENT_STARTED,
    failed = SBX_EVENT_FAILED,
    ready = SBX_EVENT_READY,
    exited = SBX_EVENT_EXITED,
    denied = SBX_EVENT_DENIED,
    policy_applied = SBX_EVENT_POLICY_APPLIED,
    limit = SBX_EVENT_LIMIT,
    process_started = SBX_EVENT_PROCESS_STARTED,
    process_exited = SBX_EVENT_PROCESS_EXITED,
    unreachable = SBX_EVENT_UNREACHABLE,
    operation_done = SBX_EVENT_OPERATION_DONE,
    progress = SBX_EVENT_PROGRESS,
    exit_snapshot = SBX_EVENT_EXIT_SNAPSHOT, // detail: the image's id; or code and why there is none
};

// Something that happened. Skip kinds you don't know: later libraries have more.
struct event {
    event_kind kind;
    std::uint64_t cookie, sequence, lost;
    std::chrono::milliseconds time; // of CLOCK_MONOTONIC
    int code, reason, entry; // the entry is a place among the policy's entries, or -1
    std::uint32_t protocol, port, count;
    std::string address, detail;
    std::array<std::uint64_t, 2> value; // the generation of policy_applied; of operation_done and
                                        // progress the bytes done and in all; else 0
};

// The events of as many sandboxes as the host likes.
class queue {
public:
    explicit queue(std::uint32_t capacity = 1024)
        : handle_(detail::make<sbx_queue>(sbx_queue_new, capacity)) {}

    // Readable when the queue becomes non-empty: read its bytes away, then call next() until there is none.
    descriptor open() const { return descriptor(detail::call(sbx_queue_open_fd, handle_.get())); }

    // The oldest event. Never waits.
    std::optional<event> next() const {
        sbx_event raw = SBX_EVENT_INIT;
        if (detail::call(sbx_queue_next, handle_.get(), &raw) == 0)
            return std::nullopt;
        return event{static_cast<event_kind>(raw.kind), raw.cookie, raw.sequence, raw.lost,
                     std::chrono::milliseconds(raw.time_ms), raw.code, raw.reason, raw.entry, raw.protocol,
                     raw.port, raw.count, raw.address, raw.detail, {raw.value[0], raw.value[1]}};
    }
    sbx_queue *get() const noexcept { return handle_.get(); }

private:
    detail::owner<sbx_queue, sbx_queue_free> handle_;
};

// ---- Policies ----

// A name for SBX_REASON_..., of a verdict or of a denied event.
inline std::string reason_name(int reason) {
    switch (reason) {
    case SBX_REASON_OPEN: return "open";
    case SBX_REASON_LISTED: return "listed";
    case SBX_REASON_DOMAIN: return "domain";
    case SBX_REASON_BLOCKED: return "blocked";
    case SBX_REASON_DENIED: return "denied";
    case SBX_REASON_NOT_LISTED: return "not listed";
    case SBX_REASON_PROTECTED: return "protected";
    case SBX_REASON_METADATA: return "metadata";
    case SBX_REASON_HOST: return "host";
    case SBX_REASON_RESERVED: return "reserved";
    case SBX_REASON_PROTOCOL: return "protocol";
    case SBX_REASON_DNS_NAME: return "DNS name";
    case SBX_REASON_REBINDING: return "rebinding";
    case SBX_REASON_NOT_TLS: return "not TLS";
    case SBX_REASON_NO_SERVER_NAME: return "no server name";
    case SBX_REASON_SERVER_NAME: return "server name";
    case SBX_REASON_NOT_RESOLVED: return "not resolved";
    case SBX_REASON_TLS_TIMEOUT: return "TLS timeout";
    case SBX_REASON_GATEWAY: return "gateway";
    case SBX_REASON_ON_LINK: return "on link";
    default: return "unknown";
    }
}

struct verdict {
    bool allowed;
    int reason; // SBX_REASON_...: reason_name
    int entry;  // the place of the policy's entry that decided, from 0; -1 if none did
    std::string detail;
};

// What a sandbox may reach. It names its mode: nothing empty can mean "everything".
class policy {
public:
    static policy open() { return of(SBX_POLICY_OPEN); }
    static policy allowlist() { return of(SBX_POLICY_ALLOWLIST); }
    static policy blocked() { return of(SBX_POLICY_BLOCKED); }

    policy &allow_cidr(const std::string &cidr) { return set(sbx_policy_allow_cidr(get(), cidr.c_str())); }
    // Neighbours on the host's own links at public addresses, which an open policy denies otherwise.
    policy &allow_local_cidr(const std::string &cidr) { return set(sbx_policy_allow_local_cidr(get(), cidr.c_str())); }
    policy &deny_cidr(const std::string &cidr) { return set(sbx_policy_deny_cidr(get(), cidr.c_str())); }
    policy &allow_domain(const std::string &name) { return set(sbx_policy_allow_domain(get(), name.c_str())); }
    policy &tls_port(std::uint16_t port) { return set(sbx_policy_add_domain_port(get(), port)); }
    policy &dns(int mode) { return set(sbx_policy_set_dns(get(), mode)); } // SBX_DNS_...

    int mode() const { return summary().mode; } // SBX_POLICY_...
    int dns() const { return summary().dns; }   // SBX_DNS_...
    std::vector<std::string> entries() const {
        std::vector<std::string> all;
        const std::size_t count = summary().entry_count;
        for (std::size_t i = 0; i < count; ++i)
            all.push_back(detail::text(sbx_policy_entry(get(), i)));
        return all;
    }
    // On which its domains are reached, beside 443.
    std::vector<std::uint16_t> tls_ports() const {
        std::vector<std::uint16_t> all;
        const std::size_t count = summary().domain_port_count;
        for (std::size_t i = 0; i < count; ++i)
            all.push_back(static_cast<std::uint16_t>(detail::checked(sbx_policy_domain_port(get(), i))));
        return all;
    }

    // What it says of an address, and why; nothing is sent. Protocol 6 is TCP, 17 UDP.
    verdict check(const std::string &address, std::uint16_t port, std::uint32_t protocol = 6) const {
        sbx_verdict raw = SBX_VERDICT_INIT;
        detail::call(sbx_policy_check, handle_.get(), address.c_str(), port, protocol, &raw);
        return {raw.allowed == 1, raw.reason, raw.entry, raw.detail};
    }
    sbx_policy *get() const noexcept { return handle_.get(); }

private:
    friend class sandbox;
    explicit policy(sbx_policy *handle) : handle_(handle) {}
    static policy of(std::int32_t mode) { return policy(detail::make<sbx_policy>(sbx_policy_new, mode)); }

    sbx_policy_summary summary() const {
        sbx_policy_summary said = SBX_POLICY_SUMMARY_INIT;
        detail::checked(sbx_policy_info(get(), &said));
        return said;
    }
    // What is wrong with an entry is said by what uses the policy.
    policy &set(int result) {
        if (result < 0) {
            check("192.0.2.1", 1);
            detail::checked(result);
        }
        return *this;
    }
    detail::owner<sbx_policy, sbx_policy_free> handle_;
};

// ---- Images ----

// What is known of an image in the store.
struct image_info {
    std::string id;                // "sha256:" and 64 hexadecimal digits
    std::vector<std::string> tags; // its names
    std::string source;            // where it came from, for people
    std::string config;            // its settings: the JSON of the OCI image specification; empty in images()
    std::uint64_t bytes;           // in the store
    std::chrono::system_clock::time_point created, last_used;
};

namespace detail {
inline image_info plain(const sbx_image_summary &raw) {
    const auto time = [](std::int64_t milliseconds) {
        return std::chrono::system_clock::from_time_t(0) + std::chrono::milliseconds(milliseconds);
    };
    image_info info{raw.id, {}, raw.source, text(raw.config), raw.bytes, time(raw.created_ms), time(raw.last_used_ms)};
    const std::string tags = text(raw.tags);
    for (std::size_t start = 0; start < tags.size();) {
        const auto end = std::min(tags.find('\n', start), tags.size());
        info.tags.push_back(tags.substr(start, end - start));
        start = end + 1;
    }
    return info;
}

class operation;
} // namespace detail

// A root file system with its settings, for config::image and config::mount_image: pull_image(), import_image(),
// find_image(), sandbox::snapshot(). It doesn't change, and stays usable when it is removed from the store.
class image {
public:
    std::string id() const { return info().id; }
    // As it was when the image was found or made.
    image_info info() const {
        sbx_image_summary raw = SBX_IMAGE_SUMMARY_INIT;
        detail::checked(sbx_image_info(get(), &raw));
        return detail::plain(raw);
    }
    sbx_image *get() const noexcept { return handle_.get(); }

private:
    friend class detail::operation;
    friend class sandbox;
    explicit image(sbx_image *handle) : handle_(handle) {}
    detail::owner<sbx_image, sbx_image_free> handle_;
};

// Is called with the bytes done and the bytes in all, as far as they are known, at most ten times a second, on the
// thread that waits. What it throws cancels the operation.
using progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

// How an image is pulled or imported. What is empty or 0 is the default; sbx_image_options has the manual.
struct image_options {
    std::string tag;      // the name it is stored under; a pulled one has its reference's, an imported one none
    std::string platform; // "linux/arm64/v8"; empty: this machine's

    int format = SBX_IMAGE_FORMAT_AUTO; // import_image: SBX_IMAGE_FORMAT_...
    std::string select;                 // import_image: which image of an archive that has several

    std::string username, password;   // pull_image: of the registry; empty: as ~/.docker/config.json says
    std::string ca_pem;               // pull_image: authorities that are trusted beside the system's
    std::string credential_helper;    // pull_image: the absolute path of a docker credential helper
    std::vector<std::string> mirrors; // pull_image: "registry=host", asked first, in this order

    std::uint64_t limit_bytes = 0, limit_entries = 0, limit_ratio = 0, limit_memory_bytes = 0;
    std::uint32_t limit_depth = 0, limit_layers = 0;

    sbx::progress progress;
};

// What prune_images() has removed.
struct pruned {
    std::uint64_t images, bytes;
};

// ---- Configs ----

using texts = std::vector<std::string>;
enum class stream : std::int32_t { in = SBX_STDIN, out = SBX_STDOUT, err = SBX_STDERR, terminal = SBX_TERMINAL };

// What a sandbox is asked to be; every setter's comment is that of its C namesake. A setter that throws has
// spoilt its config. One config makes any number of sandboxes.
class config {
public:
    config() : handle_(detail::make<sbx_config>(sbx_config_new)) {}

    config &command(const texts &arguments) {
        return set(sbx_config_set_command(get(), detail::pointers(arguments).data(), arguments.size()));
    }
    config &env(const std::string &name, const std::string &value) {
        return set(sbx_config_set_env(get(), name.c_str(), value.c_str()));
    }
    config &secret(const std::string &name, const std::string &value) {
        return set(sbx_config_set_secret(get(), name.c_str(), value.c_str()));
    }
    config &tag(const std::string &name, const std::string &value) {
        return set(sbx_config_set_tag(get(), name.c_str(), value.c_str()));
    }
    config &workdir(const std::string &path) { return set(sbx_config_set_workdir(get(), path.c_str())); }
    config &user(const std::string &user) { return set(sbx_config_set_user(get(), user.c_str())); }
    config &hostname(const std::string &name) { return set(sbx_config_set_hostname(get(), name.c_str())); }
    config &name(const std::string &name) { return set(sbx_config_set_name(get(), name.c_str())); }
    config &rootfs(const std::string &directory) { return set(sbx_config_set_rootfs(get(), directory.c_str())); }
    config &image(const sbx::image &image) { return set(sbx_config_set_image(get(), image.get())); }
    config &mount_image(const sbx::image &image, const std::string &destination) {
        return set(sbx_config_add_image_mount(get(), image.get(), destination.c_str()));
    }
    // In place of the image's; {} is none.
    config &entrypoint(const texts &arguments) {
        return set(sbx_config_set_entrypoint(get(), detail::pointers(arguments).data(), arguments.size()));
    }
    config &no_command() { return set(sbx_config_set_no_command(get())); } // the image's program doesn't run
    // Stores what it has in its root file system at its end: sandbox::exit_image().
    config &exit_snapshot(const std::string &tag = {}) {
        return set(sbx_config_set_exit_snapshot(get(), tag.empty() ? nullptr : tag.c_str()));
    }
    config &mount_read_only(const std::string &source, const std::string &destination) {
        return set(sbx_config_add_mount(get(), source.c_str(), destination.c_str(), SBX_MOUNT_READ_ONLY));
    }
    config &mount_writable(const std::string &source, const std::string &destination) {
        return set(sbx_config_add_mount(get(), source.c_str(), destination.c_str(), SBX_MOUNT_WRITABLE));
    }
    // A named directory that outlives the sandbox; flags are SBX_VOLUME_..., added up.
    config &mount_volume(const std::string &name, const std::string &destination, std::uint32_t flags = 0,
                         const std::string &sub_path = {}) {
        return set(sbx_config_add_volume(get(), name.c_str(), destination.c_str(), sub_path.c_str(), flags));
    }
    template <class Rep, class Period> config &timeout(std::chrono::duration<Rep, Period> time) {
        return set(sbx_config_set_timeout_ms(get(), detail::milliseconds(time)));
    }
    template <class Rep, class Period> config &idle_timeout(std::chrono::duration<Rep, Period> time) {
        return set(sbx_config_set_idle_timeout_ms(get(), detail::milliseconds(time)));
    }

    config &memory(std::uint64_t bytes) { return set(sbx_config_set_memory_bytes(get(), bytes)); }
    config &cpu(std::uint32_t millicpus) { return set(sbx_config_set_millicpus(get(), millicpus)); }
    config &max_processes(std::uint32_t count) { return set(sbx_config_set_max_processes(get(), count)); }
    config &max_open_files(std::uint32_t count) { return set(sbx_config_set_max_open_files(get(), count)); }
    config &disk(std::uint64_t bytes) { return set(sbx_config_set_disk_bytes(get(), bytes)); }
    config &limit_mode(std::int32_t mode) { return set(sbx_config_set_limit_mode(get(), mode)); } // SBX_LIMITS_...

    config &encrypted_port(std::uint16_t port) { return set(sbx_config_add_port(get(), port, SBX_PORT_ENCRYPTED)); }
    config &h2_port(std::uint16_t port) { return set(sbx_config_add_port(get(), port, SBX_PORT_H2)); }
    config &unencrypted_port(std::uint16_t port) { return set(sbx_config_add_port(get(), port, SBX_PORT_UNENCRYPTED)); }
    config &bind_port(std::uint16_t port, const std::string &address, std::uint16_t host_port = 0) {
        return set(sbx_config_bind_port(get(), port, address.c_str(), host_port));
    }
    config &inbound_cidr_allowlist(const texts &ranges) {
        return set(sbx_config_set_inbound_cidr_allowlist(get(), detail::pointers(ranges).data(), ranges.size()));
    }
    config &tls_certificate(const std::string &chain_pem, const std::string &key_pem) {
        return set(sbx_config_set_tls_certificate(get(), chain_pem.c_str(), key_pem.c_str()));
    }
    config &tls_name(const std::string &name) { return set(sbx_config_add_tls_name(get(), name.c_str())); }
    // New connections a second while another sandbox is served; 0 is the default, a negative number no limit.
    config &tunnel_rate(std::int32_t new_connections_per_second) {
        return set(sbx_config_set_tunnel_rate(get(), new_connections_per_second));
    }
    config &policy(const sbx::policy &policy) { return set(sbx_config_set_policy(get(), policy.get())); }
    // A port of the host's, such as "127.0.0.1:8080", reached inside at 192.0.0.1 and this port.
    config &host_service(std::uint16_t port, const std::string &address) {
        return set(sbx_config_add_host_service(get(), port, address.c_str()));
    }
    // A server that its resolver asks instead of the host's: "192.0.2.53", "127.0.0.1:5353".
    config &nameserver(const std::string &address) { return set(sbx_config_add_nameserver(get(), address.c_str())); }
    config &egress_limits(std::uint32_t flows, std::uint32_t new_flows_per_second, std::uint64_t bytes_per_second = 0,
                          std::uint64_t total_bytes = 0) { // 0: the default
        return set(
            sbx_config_set_egress_limits(get(), flows, new_flows_per_second, bytes_per_second, total_bytes));
    }
    config &mtu(std::uint32_t bytes) { return set(sbx_config_set_mtu(get(), bytes)); }

    config &pipe(stream which) { return mode(which, SBX_STREAM_DESCRIPTOR); } // sandbox::open
    config &merge_err() { return mode(stream::err, SBX_STREAM_MERGED); }
    config &capture(stream which, std::size_t head = 65536, std::size_t tail = 65536) {
        return set(sbx_config_capture_stream(get(), static_cast<std::int32_t>(which), head, tail));
    }
    template <class Rep, class Period>
    config &tcp_probe(std::uint16_t port, std::chrono::duration<Rep, Period> interval) {
        return set(sbx_config_set_tcp_probe(get(), port, detail::milliseconds(interval)));
    }
    template <class Rep, class Period>
    config &exec_probe(const texts &arguments, std::chrono::duration<Rep, Period> interval) {
        return set(sbx_config_set_exec_probe(get(), detail::pointers(arguments).data(), arguments.size(),
                                             detail::milliseconds(interval)));
    }
    config &queue(const sbx::queue &queue, std::uint64_t cookie) {
        return set(sbx_config_set_queue(get(), queue.get(), cookie));
    }

    // Throws what is wrong, also between settings.
    void check() const { detail::call(sbx_config_check, handle_.get()); }
    sbx_config *get() const noexcept { return handle_.get(); }

private:
    config &mode(stream which, std::int32_t mode) {
        return set(sbx_config_set_stream(get(), static_cast<std::int32_t>(which), mode));
    }
    // The config has kept the text.
    config &set(int result) {
        if (result < 0) {
            check();
            detail::checked(result);
        }
        return *this;
    }
    detail::owner<sbx_config, sbx_config_free> handle_;
};

// ---- Builds ----

// What an image is built from, for build_image(); every setter's comment is that of its C namesake. What is wrong with a
// value is thrown by build_image().
class build {
public:
    // The Dockerfile's text, not its path.
    explicit build(const std::string &dockerfile) : handle_(detail::make<sbx_build>(sbx_build_new)) {
        sbx_build_set_dockerfile(get(), bytes(dockerfile), dockerfile.size());
    }
    build &context(const std::string &directory) { return set(sbx_build_set_context(get(), directory.c_str())); }
    // In the place of its .dockerignore; {} leaves out nothing.
    build &ignore(const texts &by) { return set(sbx_build_set_ignore(get(), detail::pointers(by).data(), by.size())); }
    // For COPY --from=NAME.
    build &context(const std::string &name, const std::string &directory) {
        return set(sbx_build_add_context(get(), name.c_str(), directory.c_str()));
    }
    build &arg(const std::string &name, const std::string &value) {
        return set(sbx_build_add_arg(get(), name.c_str(), value.c_str()));
    }
    // For RUN --mount=type=secret,id=ID.
    build &secret(const std::string &id, const std::string &value) {
        return set(sbx_build_add_secret(get(), id.c_str(), bytes(value), value.size()));
    }
    // Policy and limits of the steps' sandboxes; without it they reach nothing.
    build &config(const sbx::config &config) { return set(sbx_build_set_config(get(), config.get())); }
    build &no_cache() { return set(sbx_build_set_no_cache(get())); }
    template <class Rep, class Period> build &max_age(std::chrono::duration<Rep, Period> age) {
        return set(sbx_build_set_max_age_ms(get(), detail::milliseconds(age)));
    }
    template <class Rep, class Period> build &timeout(std::chrono::duration<Rep, Period> time) {
        return set(sbx_build_set_timeout_ms(get(), detail::milliseconds(time)));
    }
    // That its steps add, together; by default 64 GiB.
    build &max_bytes(std::uint64_t bytes) { return set(sbx_build_set_max_bytes(get(), bytes)); }
    build &tag(const std::string &tag) { return set(sbx_build_set_tag(get(), tag.c_str())); }
    // Where it says what it does, with what the steps' programs say: STDERR_FILENO, for one.
    build &output(int descriptor) { return set(sbx_build_set_output_fd(get(), descriptor)); }
    sbx_build *get() const noexcept { return handle_.get(); }

private:
    static const std::uint8_t *bytes(const std::string &text) {
        return reinterpret_cast<const std::uint8_t *>(text.data());
    }
    // The build has kept what is wrong.
    build &set(int) { return *this; }
    detail::owner<sbx_build, sbx_build_free> handle_;
};

// ---- Sandboxes ----

// How a sandbox ended.
struct exit_status {
    int reason; // SBX_EXIT_...
    int code;   // the program's own; 128 + n for signal n; 124 when time ran out; 137 when terminated
    int signal; // or 0
    std::chrono::milliseconds runtime;
};

// Where a port is reached. Plain data; it outlives the sandbox.
struct tunnel {
    std::uint16_t container_port;
    std::string host;
    std::uint16_t port;
    std::string url, ca_pem, spki_sha256; // empty for a plain tunnel
};

struct captured {
    std::string head, tail;
    std::uint64_t dropped; // bytes between them that were not kept
};

namespace detail {
// The bytes of a part of a capture: without any there is no address.
inline std::string bytes(const std::uint8_t *start, std::size_t length) {
    return length == 0 ? std::string() : std::string(reinterpret_cast<const char *>(start), length);
}

inline sbx::captured taken(sbx_capture *capture) {
    const owner<sbx_capture, sbx_capture_free> all(capture);
    sbx_output raw = SBX_OUTPUT_INIT;
    checked(sbx_capture_output(capture, &raw));
    return {bytes(raw.head, raw.head_length), bytes(raw.tail, raw.tail_length), raw.dropped};
}

// Waits with one of the C library's functions; nothing when the time runs out.
template <class Function, class Handle>
std::optional<exit_status> wait(Function function, Handle *handle, std::int64_t timeout) {
    sbx_exit raw = SBX_EXIT_INIT;
    try {
        call(function, handle, timeout, &raw);
    } catch (const timed_out &) {
        return std::nullopt;
    }
    return exit_status{raw.reason, raw.code, raw.signal, std::chrono::milliseconds(raw.runtime_ms)};
}
} // namespace detail

// A program to run in a running sandbox. What isn't set is as for the sandbox's own program.
class command {
public:
    explicit command(const std::vector<std::string> &arguments)
        : handle_(detail::make<sbx_exec_config>(sbx_exec_config_new)) {
        set(sbx_exec_config_set_command(get(), detail::pointers(arguments).data(), arguments.size()));
    }
    command &env(const std::string &name, const std::string &value) {
        return set(sbx_exec_config_set_env(get(), name.c_str(), value.c_str()));
    }
    command &secret(const std::string &name, const std::string &value) {
        return set(sbx_exec_config_set_secret(get(), name.c_str(), value.c_str()));
    }
    command &workdir(const std::string &path) { return set(sbx_exec_config_set_workdir(get(), path.c_str())); }
    command &user(const std::string &user) { return set(sbx_exec_config_set_user(get(), user.c_str())); }
    command &pipe(stream which) { return mode(which, SBX_STREAM_DESCRIPTOR); } // process::open
    command &merge_err() { return mode(stream::err, SBX_STREAM_MERGED); }
    command &capture(stream which, std::size_t head = 65536, std::size_t tail = 65536) {
        return set(sbx_exec_config_capture_stream(get(), static_cast<std::int32_t>(which), head, tail));
    }
    template <class Rep, class Period> command &timeout(std::chrono::duration<Rep, Period> time) {
        return set(sbx_exec_config_set_timeout_ms(get(), detail::milliseconds(time)));
    }
    command &terminal(std::uint16_t rows, std::uint16_t columns) { // process::open(stream::terminal)
        return set(sbx_exec_config_set_pty(get(), rows, columns));
    }
    command &queue(const sbx::queue &queue, std::uint64_t cookie) {
        return set(sbx_exec_config_set_queue(get(), queue.get(), cookie));
    }
    sbx_exec_config *get() const noexcept { return handle_.get(); }

private:
    command &mode(stream which, std::int32_t mode) {
        return set(sbx_exec_config_set_stream(get(), static_cast<std::int32_t>(which), mode));
    }
    command &set(int result) {
        if (result < 0) {
            detail::call(sbx_exec_config_check, handle_.get());
            detail::checked(result);
        }
        return *this;
    }
    detail::owner<sbx_exec_config, sbx_exec_config_free> handle_;
};

// A program that runs in a sandbox, or has. The end of its scope doesn't end it; that of its sandbox does.
class process {
public:
    exit_status wait() const { return *detail::wait(sbx_process_wait, get(), -1); }
    template <class Rep, class Period>
    std::optional<exit_status> wait_for(std::chrono::duration<Rep, Period> time) const {
        return detail::wait(sbx_process_wait, get(), detail::milliseconds(time));
    }
    void signal(int number) const { detail::call(sbx_process_signal, get(), number); }
    void resize(std::uint16_t rows, std::uint16_t columns) const {
        detail::call(sbx_process_resize, get(), rows, columns);
    }
    descriptor open(stream which) const {
        return descriptor(detail::call(sbx_process_open_fd, get(), static_cast<std::int32_t>(which)));
    }
    sbx::captured captured(stream which) const {
        return detail::taken(
            detail::make<sbx_capture>(sbx_process_capture, get(), static_cast<std::int32_t>(which)));
    }
    // Throws why it could not be started, after sandbox::exec_begin().
    void rethrow_failure() const { detail::call(sbx_process_failure, get()); }
    sbx_process *get() const noexcept { return handle_.get(); }

private:
    friend class sandbox;
    explicit process(sbx_process *handle) : handle_(handle) {}
    detail::owner<sbx_process, sbx_process_free> handle_;
};

// What a file is, as the sandbox says.
struct file_info {
    std::uint32_t kind, mode, user, group, links; // SBX_FILE_KIND_..., and permissions from 0 to 07777
    std::uint64_t bytes;
    std::int64_t modified_ns; // since 1970
};

struct file_entry {
    std::string name, target; // where a symbolic link leads
    file_info info;
};

namespace detail {
// Something that was begun. It is cancelled with its scope, if it still goes on.
class operation {
public:
    template <class Function, class... Arguments>
    explicit operation(Function begin, Arguments... arguments)
        : handle_(make<sbx_operation>(begin, arguments..., static_cast<sbx_queue *>(nullptr), std::uint64_t{0})) {}
    // With events for wait().
    template <class Function, class... Arguments>
    static operation reporting(const queue &events, Function begin, Arguments... arguments) {
        return operation(make<sbx_operation>(begin, arguments..., events.get(), std::uint64_t{0}));
    }
    sbx_operation *get() const noexcept { return handle_.get(); }
    void wait() const { call(sbx_operation_wait, get(), std::int64_t{-1}); }
    void wait(const queue &events, const progress &report) const {
        const descriptor doorbell = events.open();
        for (;;) {
            while (const auto event = events.next()) {
                if (event->kind == event_kind::operation_done)
                    return wait();
                if (event->kind == event_kind::progress && report)
                    report(event->value[0], event->value[1]);
            }
            char rings[64];
            pollfd one{doorbell.get(), POLLIN, 0};
            if (::poll(&one, 1, -1) > 0 && ::read(doorbell.get(), rings, sizeof rings) < 0 && !again())
                give_up("reading");
        }
    }
    bool goes_on() const { return sbx_operation_count(get()) == SBX_ESTATE; }

    // Begins one whose result is an image, and waits for it.
    template <class Function, class... Arguments>
    static sbx::image image(const progress &report, Function begin, Arguments... arguments) {
        const queue events;
        const auto done = reporting(events, begin, arguments...);
        done.wait(events, report);
        return sbx::image(make<sbx_image>(sbx_operation_image, done.get()));
    }

    file_entry entry(std::size_t index) const {
        sbx_file_entry raw = SBX_FILE_ENTRY_INIT;
        call(sbx_operation_entry, get(), index, &raw);
        return {text(raw.name), text(raw.target),
                {raw.kind, raw.mode, raw.user, raw.group, raw.links, raw.bytes, raw.modified_ns}};
    }

    // Moves all between its stream and a descriptor of the caller's, then waits until all was done.
    void receive(int to) const {
        const descriptor stream(call(sbx_operation_open_fd, get()));
        move(stream.get(), to, stream.get());
        wait();
    }
    void send(int from) const {
        descriptor stream(call(sbx_operation_open_fd, get()));
        move(from, stream.get(), stream.get());
        stream.reset(); // the end of what is sent
        wait();
    }

private:
    explicit operation(sbx_operation *handle) : handle_(handle) {}
    // The stream's other end is the sandbox's, which need not close it: the operation's end counts, too.
    void move(int from, int to, int stream) const {
        char piece[65536];
        for (;;) {
            if (!ready(from, POLLIN))
                return;
            const auto length = ::read(from, piece, sizeof piece);
            if (length == 0)
                return;
            if (length < 0 && !again())
                give_up("reading");
            for (::ssize_t sent = 0; sent < length;) {
                if (!ready(to, POLLOUT))
                    return;
                const auto rest = static_cast<std::size_t>(length - sent);
                const auto more =
                    to == stream ? ::send(to, piece + sent, rest, MSG_NOSIGNAL) : ::write(to, piece + sent, rest);
                if (more >= 0)
                    sent += more;
                else if (to == stream && errno == EPIPE)
                    return; // the operation knows why
                else if (!again())
                    give_up("writing");
            }
        }
    }
    // Whether it can be read or written; false once the operation has ended and it doesn't move.
    bool ready(int fd, short events) const {
        for (;;) {
            pollfd one{fd, events, 0};
            const int found = ::poll(&one, 1, 1000);
            if (found > 0)
                return true;
            if (found == 0 && !goes_on())
                return false;
        }
    }
    static bool again() { return errno == EAGAIN || errno == EINTR; }
    [[noreturn]] void give_up(const char *what) const {
        const int number = errno;
        sbx_operation_cancel(get(), nullptr); // before the stream's end is seen: what was sent is not the whole
        throw error(code::system, number, std::string(what) + " the descriptor given: " + std::strerror(number));
    }
    owner<sbx_operation, sbx_operation_free> handle_;
};
} // namespace detail

class sandbox {
public:
    // Creates it and waits until its program was started.
    explicit sandbox(const config &config) : sandbox(create, nullptr, config) {}
    sandbox(const runtime &runtime, const config &config) : sandbox(create, runtime.get(), config) {}

    // Begins to create it: the config's queue tells the rest.
    static sandbox begin(const config &config) { return sandbox(sbx_create_begin, nullptr, config); }
    static sandbox begin(const runtime &runtime, const config &config) {
        return sandbox(sbx_create_begin, runtime.get(), config);
    }

    // Another handle to the sandbox of that name; the last one that goes ends it.
    static sandbox find(const std::string &name) {
        return sandbox(detail::make<sbx_sandbox>(sbx_sandbox_find, static_cast<sbx_runtime *>(nullptr), name.c_str()));
    }

    std::string id() const { return detail::text(sbx_sandbox_id(handle_.get())); }
    std::string name() const { return detail::text(sbx_sandbox_name(handle_.get())); }
    std::string tag(const std::string &name) const { return detail::text(sbx_sandbox_tag(get(), name.c_str())); }
    sbx::state state() const {
        return static_cast<sbx::state>(detail::checked(sbx_sandbox_state(handle_.get())));
    }
    // Throws why it could not be created, after begin().
    void rethrow_failure() const { detail::call(sbx_sandbox_failure, handle_.get()); }

    // By container port. That a tunnel exists doesn't mean that the server inside answers: wait_ready().
    std::map<std::uint16_t, tunnel> tunnels() const { return tunnels_within(-1); }
    template <class Rep, class Period>
    std::map<std::uint16_t, tunnel> tunnels(std::chrono::duration<Rep, Period> time) const {
        return tunnels_within(detail::milliseconds(time));
    }

    void wait_ready() const { detail::call(sbx_wait_ready, handle_.get(), -1); }
    template <class Rep, class Period> void wait_ready(std::chrono::duration<Rep, Period> time) const {
        detail::call(sbx_wait_ready, handle_.get(), detail::milliseconds(time));
    }

    // Waits until it has ended and nothing of it is left.
    exit_status wait() const { return *detail::wait(sbx_wait, get(), -1); }
    // Nothing when the time runs out.
    template <class Rep, class Period>
    std::optional<exit_status> wait_for(std::chrono::duration<Rep, Period> time) const {
        return detail::wait(sbx_wait, get(), detail::milliseconds(time));
    }

    // A graceful end: the signal (0: the image's, or SIGTERM), and after the grace what is left is killed. Doesn't wait; nor
    // does terminate().
    template <class Rep, class Period> void stop(int number, std::chrono::duration<Rep, Period> grace) const {
        detail::call(sbx_stop, get(), number, detail::milliseconds(grace));
    }
    void terminate() const { detail::call(sbx_terminate, handle_.get()); }
    void signal(int number) const { detail::call(sbx_signal, handle_.get(), number); }

    // A stream socket to a port inside, without any port on the host.
    descriptor connect(std::uint16_t port) const {
        return descriptor(detail::call(sbx_connect, handle_.get(), std::uint32_t{port}));
    }
    // The host's end of a stream that config::pipe named; non-blocking.
    descriptor open(stream which) const {
        return descriptor(detail::call(sbx_sandbox_open_fd, handle_.get(), static_cast<std::int32_t>(which)));
    }
    // What config::capture has kept so far.
    sbx::captured captured(stream which) const {
        return detail::taken(
            detail::make<sbx_capture>(sbx_sandbox_capture, handle_.get(), static_cast<std::int32_t>(which)));
    }

    // Runs a program in the sandbox and waits until it was started.
    process exec(const command &command) const {
        return process(detail::make<sbx_process>(sbx_exec, get(), command.get()));
    }
    // Begins to: the command's queue tells the rest.
    process exec_begin(const command &command) const {
        return process(detail::make<sbx_process>(sbx_exec_begin, get(), command.get()));
    }

    // Files in it, with root's rights there. Links in it lead to nothing of the host's.
    std::string read_file(const std::string &path) const {
        const auto done = finished(sbx_file_read_begin, path.c_str(), no_options);
        std::size_t length = 0;
        const auto *bytes = reinterpret_cast<const char *>(sbx_operation_bytes(done.get(), &length));
        return std::string(bytes, length);
    }
    void write_file(const std::string &path, const std::string &bytes, std::uint32_t mode = 0) const {
        sbx_file_options options = SBX_FILE_OPTIONS_INIT;
        options.mode = mode;
        finished(sbx_file_write_begin, path.c_str(), reinterpret_cast<const std::uint8_t *>(bytes.data()), bytes.size(),
                 &options);
    }
    std::vector<file_entry> list_directory(const std::string &path) const {
        const auto done = finished(sbx_file_list_begin, path.c_str(), no_options);
        std::vector<file_entry> entries;
        const auto count = static_cast<std::size_t>(detail::checked(sbx_operation_count(done.get())));
        for (std::size_t i = 0; i < count; ++i)
            entries.push_back(done.entry(i));
        return entries;
    }
    file_info stat(const std::string &path) const {
        return finished(sbx_file_stat_begin, path.c_str(), no_options).entry(0).info;
    }
    void make_directories(const std::string &path) const {
        const sbx_file_options options = flags(SBX_FILE_PARENTS);
        finished(sbx_file_make_directory_begin, path.c_str(), &options);
    }
    void remove(const std::string &path, bool with_everything_below = false) const {
        const sbx_file_options options = flags(with_everything_below ? SBX_FILE_RECURSIVE : 0);
        finished(sbx_file_remove_begin, path.c_str(), &options);
    }
    void rename(const std::string &from, const std::string &to) const {
        finished(sbx_file_rename_begin, from.c_str(), to.c_str(), no_options);
    }
    // As a tar archive, read from or written to a descriptor.
    void copy_in(const std::string &directory, int from) const {
        detail::operation(sbx_file_copy_in_begin, get(), directory.c_str(), no_options).send(from);
    }
    void copy_out(const std::string &path, int to) const {
        detail::operation(sbx_file_copy_out_begin, get(), path.c_str(), no_options).receive(to);
    }

    // Stores what it has in its root file system, without /tmp, as a new image. It must have been started from one. Its
    // programs are paused while the changes are written.
    sbx::image snapshot(const std::string &tag = {}, const progress &report = {}) const {
        return detail::operation::image(report, sbx_sandbox_snapshot_begin, get(), tag.empty() ? nullptr : tag.c_str());
    }

    // The same of a directory, on any root, also in /tmp and in mounts. The directory is the image's root.
    sbx::image snapshot_directory(const std::string &path, const std::string &tag = {}, const progress &report = {}) const {
        return detail::operation::image(report, sbx_sandbox_snapshot_directory_begin, get(), path.c_str(),
                                        tag.empty() ? nullptr : tag.c_str());
    }
    // Copies an image's files into a directory. It counts as what the sandbox has written.
    void copy_image(const sbx::image &image, const std::string &path) const {
        finished(sbx_sandbox_copy_image_begin, image.get(), path.c_str());
    }
    // Of config::exit_snapshot(), once it has ended.
    sbx::image exit_image() const { return sbx::image(detail::make<sbx_image>(sbx_sandbox_exit_image, get())); }

    // Replaces the sandbox's policy; what it denies has been reset then. Its generation.
    std::uint64_t set_policy(const sbx::policy &policy) const {
        std::uint64_t generation = 0;
        detail::call(sbx_set_policy, get(), policy.get(), &generation);
        return generation;
    }
    // Begins to: event_kind::policy_applied with this cookie reports the end.
    void set_policy_begin(const sbx::policy &policy, const sbx::queue &queue, std::uint64_t cookie) const {
        sbx_operation_free(
            detail::make<sbx_operation>(sbx_set_policy_begin, get(), policy.get(), queue.get(), cookie));
    }
    // What is in force, read back from the kernel.
    sbx::policy policy() const {
        sbx_policy *copy = nullptr;
        detail::call(sbx_sandbox_policy, get(), &copy, static_cast<std::uint64_t *>(nullptr));
        return sbx::policy(copy);
    }

    // What it uses and has done; of an ended one, what it had used in all.
    sbx_stats stats() const {
        sbx_stats stats = SBX_STATS_INIT;
        detail::call(sbx_sandbox_stats, get(), &stats);
        return stats;
    }

    // Frees it, which ends it if it still runs; calls that wait on it throw closed.
    void close() noexcept { handle_.reset(); }
    sbx_sandbox *get() const noexcept { return handle_.get(); }

private:
    using creator = int (*)(sbx_runtime *, const sbx_config *, sbx_sandbox **, sbx_error *);
    static constexpr creator create = sbx_create;
    explicit sandbox(sbx_sandbox *handle) : handle_(handle) {}
    sandbox(creator function, sbx_runtime *runtime, const config &config)
        : handle_(detail::make<sbx_sandbox>(function, runtime, config.get())) {}

    static constexpr const sbx_file_options *no_options = nullptr;
    static sbx_file_options flags(int flags) {
        sbx_file_options options = SBX_FILE_OPTIONS_INIT;
        options.flags = static_cast<std::uint32_t>(flags);
        return options;
    }
    template <class Function, class... Arguments>
    detail::operation finished(Function start, Arguments... arguments) const {
        detail::operation operation(start, get(), arguments...);
        operation.wait();
        return operation;
    }

    std::map<std::uint16_t, tunnel> tunnels_within(std::int64_t timeout) const {
        const detail::owner<sbx_tunnel_map, sbx_tunnel_map_free> all(
            detail::make<sbx_tunnel_map>(sbx_tunnels, handle_.get(), timeout));
        std::map<std::uint16_t, tunnel> tunnels;
        const auto count = static_cast<std::size_t>(detail::checked(sbx_tunnel_map_count(all.get())));
        for (std::size_t i = 0; i < count; ++i) {
            sbx_tunnel raw = SBX_TUNNEL_INIT;
            detail::checked(sbx_tunnel_map_tunnel(all.get(), i, &raw));
            const auto port = static_cast<std::uint16_t>(raw.container_port);
            tunnels[port] = {port,
                             raw.host,
                             static_cast<std::uint16_t>(raw.port),
                             detail::text(raw.url),
                             detail::text(raw.ca_pem),
                             detail::text(raw.spki_sha256)};
        }
        return tunnels;
    }

    detail::owner<sbx_sandbox, sbx_sandbox_free> handle_;
};

// A sandbox of a runtime as it was at a moment.
struct listed {
    std::string id, name;
    sbx::state state;
};

namespace detail {
inline std::vector<listed> list(sbx_runtime *runtime) {
    const owner<sbx_sandbox_list, sbx_sandbox_list_free> all(
        make<sbx_sandbox_list>(sbx_runtime_sandboxes, runtime));
    std::vector<listed> sandboxes;
    const auto count = static_cast<std::size_t>(checked(sbx_sandbox_list_count(all.get())));
    for (std::size_t i = 0; i < count; ++i) {
        sbx_sandbox_entry raw = SBX_SANDBOX_ENTRY_INIT;
        checked(sbx_sandbox_list_entry(all.get(), i, &raw));
        sandboxes.push_back({raw.id, text(raw.name), static_cast<state>(raw.state)});
    }
    return sandboxes;
}
} // namespace detail

// ---- The store of images, which all of the user's programs share ----

namespace detail {
constexpr sbx_runtime *default_runtime = nullptr;

// The options as C has them; `mirrors` must live as long.
inline sbx_image_options plain(const image_options &options, std::string &mirrors) {
    const auto set = [](const std::string &value) { return value.empty() ? nullptr : value.c_str(); };
    for (const auto &mirror : options.mirrors)
        mirrors += (mirrors.empty() ? "" : "\n") + mirror;
    sbx_image_options raw = SBX_IMAGE_OPTIONS_INIT;
    raw.format = options.format;
    raw.tag = set(options.tag);
    raw.platform = set(options.platform);
    raw.select = set(options.select);
    raw.username = set(options.username);
    raw.password = set(options.password);
    raw.ca_pem = set(options.ca_pem);
    raw.credential_helper = set(options.credential_helper);
    raw.mirrors = set(mirrors);
    raw.limit_bytes = options.limit_bytes;
    raw.limit_entries = options.limit_entries;
    raw.limit_ratio = options.limit_ratio;
    raw.limit_memory_bytes = options.limit_memory_bytes;
    raw.limit_depth = options.limit_depth;
    raw.limit_layers = options.limit_layers;
    return raw;
}
} // namespace detail

// Pulls an image from a registry: "python:3.12". What the store has already is not downloaded again.
inline image pull_image(const std::string &reference, const image_options &options = {}) {
    std::string mirrors;
    const sbx_image_options raw = detail::plain(options, mirrors);
    return detail::operation::image(options.progress, sbx_image_pull_begin, detail::default_runtime, reference.c_str(),
                                    &raw);
}

// Stores the image at a path: an OCI layout, an archive of docker save, a tar archive of a root file system, or a
// directory that is one. Archives may be compressed by gzip or zstd.
inline image import_image(const std::string &path, const image_options &options = {}) {
    std::string mirrors;
    const sbx_image_options raw = detail::plain(options, mirrors);
    return detail::operation::image(options.progress, sbx_image_import_begin, detail::default_runtime, path.c_str(), -1,
                                    &raw);
}

// Builds an image by a Dockerfile; `report` gets the steps that are done, and all. The results of steps are stored, and
// used again where nothing has changed.
inline image build_image(const build &build, const progress &report = {}) {
    return detail::operation::image(report, sbx_image_build_begin, detail::default_runtime,
                                    static_cast<const sbx_build *>(build.get()));
}

// By one of its names, its id, or at least 12 digits of it; code::not_found if there is none.
inline image find_image(const std::string &name) {
    return detail::operation::image({}, sbx_image_find_begin, detail::default_runtime, name.c_str());
}

// All of them, the one that was used last first.
inline std::vector<image_info> images() {
    const detail::operation done(sbx_image_list_begin, detail::default_runtime);
    done.wait();
    const detail::owner<sbx_image_list, sbx_image_list_free> all(
        detail::make<sbx_image_list>(sbx_operation_images, done.get()));
    std::vector<image_info> found;
    const auto count = static_cast<std::size_t>(detail::checked(sbx_image_list_count(all.get())));
    for (std::size_t i = 0; i < count; ++i) {
        sbx_image_summary raw = SBX_IMAGE_SUMMARY_INIT;
        detail::checked(sbx_image_list_entry(all.get(), i, &raw));
        found.push_back(detail::plain(raw));
    }
    return found;
}

// Gives an image one more name. Another image that has that name loses it.
inline void tag_image(const std::string &name, const std::string &tag) {
    detail::operation(sbx_image_tag_begin, detail::default_runtime, name.c_str(), tag.c_str()).wait();
}

// By one of its names, which is all that goes if it has others; by its id with all of its names. Sandboxes that run on
// it go on.
inline void remove_image(const std::string &name) {
    detail::operation(sbx_image_remove_begin, detail::default_runtime, name.c_str()).wait();
}

// Removes images until the store has at most so many bytes, those that builds have left without a name first, then those
// that were not used for longest: 0 removes all.
inline pruned prune_images(std::uint64_t max_bytes) {
    const detail::operation done(sbx_image_prune_begin, detail::default_runtime, max_bytes);
    done.wait();
    sbx_file_totals raw = SBX_FILE_TOTALS_INIT;
    detail::call(sbx_operation_totals, done.get(), &raw);
    return {raw.entries, raw.bytes};
}

// ---- Volumes, which all of the user's programs share ----

// What is known of a volume: a named directory that outlives sandboxes. What sandboxes wrote in its path is theirs: follow
// no links there, and trust no content.
struct volume_info {
    std::string name, path;
    std::chrono::system_clock::time_point created;
    bool in_use; // a sandbox has it mounted
};

namespace detail {
template <class Function, class... Arguments>
std::vector<volume_info> volumes(Function begin, Arguments... arguments) {
    const operation done(begin, default_runtime, arguments...);
    done.wait();
    const owner<sbx_volume_list, sbx_volume_list_free> all(make<sbx_volume_list>(sbx_operation_volumes, done.get()));
    std::vector<volume_info> found;
    const auto count = static_cast<std::size_t>(checked(sbx_volume_list_count(all.get())));
    for (std::size_t i = 0; i < count; ++i) {
        sbx_volume_summary raw = SBX_VOLUME_SUMMARY_INIT;
        checked(sbx_volume_list_entry(all.get(), i, &raw));
        const auto created = std::chrono::system_clock::from_time_t(0) + std::chrono::milliseconds(raw.created_ms);
        found.push_back({raw.name, raw.path, created, raw.in_use != 0});
    }
    return found;
}
} // namespace detail

// Makes a volume; one that exists is an error unless it may exist.
inline volume_info create_volume(const std::string &name, bool may_exist = false) {
    const std::uint32_t flags = may_exist ? 0 : SBX_VOLUME_EXCLUSIVE;
    return detail::volumes(sbx_volume_create_begin, name.c_str(), flags).at(0);
}
inline volume_info find_volume(const std::string &name) {
    return detail::volumes(sbx_volume_find_begin, name.c_str()).at(0);
}
inline std::vector<volume_info> volumes() { return detail::volumes(sbx_volume_list_begin); } // by name

// With everything in it. Refused while a sandbox of any of the user's programs has it mounted.
inline void remove_volume(const std::string &name) {
    detail::operation(sbx_volume_remove_begin, detail::default_runtime, name.c_str()).wait();
}

// ---- Warm sandboxes ----

// Keeps sandboxes warm for configs like this one: sandbox() has only to apply its own config and to start its program. 0
// ends them. sbx_runtime_keep_warm says what has to be the same.
inline void keep_warm(const config &config, std::uint32_t count) {
    detail::call(sbx_runtime_keep_warm, detail::default_runtime, config.get(), count);
}
inline void keep_warm(const runtime &runtime, const config &config, std::uint32_t count) {
    detail::call(sbx_runtime_keep_warm, runtime.get(), config.get(), count);
}

// What a runtime's warm sandboxes are and have done; with a config, those for configs like it.
inline sbx_warm_stats warm_stats(sbx_runtime *runtime = nullptr, const sbx_config *config = nullptr) {
    sbx_warm_stats stats = SBX_WARM_STATS_INIT;
    detail::call(sbx_runtime_warm_stats, runtime, config, &stats);
    return stats;
}

// How many sandboxes start at once at most; 0 sets the default. sbx_runtime_set_max_starts says what the others do.
inline void set_max_starts(std::uint32_t count, sbx_runtime *runtime = nullptr) {
    detail::call(sbx_runtime_set_max_starts, runtime, count);
}
inline int max_starts(const sbx_runtime *runtime = nullptr) {
    return detail::call(sbx_runtime_max_starts, runtime);
}

// How many spares there are, sandboxes that are started in part, for those like the last two; sbx_runtime_set_spares says more.
inline void set_spares(std::uint32_t count, sbx_runtime *runtime = nullptr) {
    detail::call(sbx_runtime_set_spares, runtime, count);
}
inline int spares(const sbx_runtime *runtime = nullptr) { return detail::call(sbx_runtime_spares, runtime); }

// The sandboxes that have not ended.
inline std::vector<listed> sandboxes() { return detail::list(nullptr); }
inline std::vector<listed> sandboxes(const runtime &runtime) { return detail::list(runtime.get()); }

} // namespace sbx

#endif
