/*
 * A victim and its neighbour, two sandboxes of one process: what the victim's user waits for.
 *
 *   neighbour RESULTS ROOTFS FAR SAMPLES SLOW ATTACK...
 *
 * RESULTS is a file that is added to. ROOTFS holds /server, /attack and nothing else that is needed; FAR is the address of the far host, with an echo server
 * on 7003, one that holds connections on 7004, one that never reads on 7005 and a name server on 5353. SAMPLES is how
 * many times each figure is taken in a phase, SLOW the same for creating, terminating and changing the policy.
 *
 * For each ATTACK there are two phases: the victim beside the attacker, and beside a sandbox that burns as much
 * processor time as the attacker's took, without the library's. "quiet" has one, beside nothing. A phase writes to RESULTS
 *
 *   sample FIGURE ATTACK SIDE NANOSECONDS      for each sample; SIDE is attack, control or quiet
 *   time ATTACK SIDE WHOSE MILLI               processor time, in thousandths of a processor: of the neighbour's sandbox
 *                                              (sandbox), the program outside (outside), the library's threads (library)
 *   time ATTACK attack share MILLI             the library's time on the attacker alone, while the victim's user moves as
 *                                              much as goes through the victim's tunnel
 *
 * What has to run outside as another user is asked for: "start WORDS..." and "stop" on standard output, answered by a line
 * on standard input, which after "stop" is the MILLI that it has used.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "client/common.h"
#include "sbx.h"

enum { ECHO = 7003, HOLD = 7004, DEAF = 7005, NAMES = 5353, PROBE = 7006, SECURE = 7014 };
enum { LINE = 256, DRIVERS = 4, MOVERS = 4 };

/* How long the share of the library's time is looked at. */
static const int64_t SHARE_NS = 2000000000;

/* Longer than this, and a figure counts as stopped: no use in waiting on. */
static const int64_t PATIENCE_MS = 20000;

struct attack {
    const char *name;
    /* What runs inside, with @FAR in place of the far host's address; or NULL. */
    const char *inside[5];
    /* What runs outside, with @PORT in place of a tunnel's port, @PID of a process in the sandbox's network; or NULL. */
    const char *outside;
    /* What the host itself does with the sandbox, over and over; or NULL. */
    void (*drive)(sbx_sandbox *sandbox);
};

static void drive_exec(sbx_sandbox *sandbox);
static void drive_files(sbx_sandbox *sandbox);
static void drive_probes(sbx_sandbox *sandbox);

static const struct attack attacks[] = {
    {"dns-tcp", {"/attack", "dns-tcp", "16"}, NULL, NULL},
    {"dns-udp", {"/attack", "dns-udp"}, NULL, NULL},
    {"dns-cached", {"/attack", "dns-cached", "16", "many.example"}, NULL, NULL},
    {"tls-records", {NULL}, "attack_tls records @SECURE 16", NULL},
    {"handshakes", {NULL}, "attack_tls handshakes @SECURE 32", NULL},
    {"tunnel-connects", {NULL}, "attack connects 127.0.0.1:@HOLD 8", NULL},
    {"egress-connects", {"/attack", "connects", "@FAR:7004", "8"}, NULL, NULL},
    {"deaf-flows", {"/attack", "flows", "@FAR:7005", "2000"}, NULL, NULL},
    {"udp", {"/attack", "udp", "@FAR"}, NULL, NULL},
    {"output", {"/attack", "output"}, NULL, NULL},
    {"execs", {NULL}, NULL, drive_exec},
    {"files", {NULL}, NULL, drive_files},
    {"denials", {"/attack", "denials"}, NULL, NULL},
    {"syn", {NULL}, "attack syn @PID @FAR", NULL},
    {"stopped-init", {"/attack", "stop-init"}, NULL, drive_probes},
};

static FILE *results;
static const char *rootfs, *far_address;
static long samples, slow_samples;
static sbx_sandbox *victim;
static sbx_tunnel_map *victim_tunnels;
static SSL_CTX *tls;

static void must(int result, const char *what, const sbx_error *error)
{
    if (result >= 0)
        return;
    fprintf(stderr, "%s: %d: %s\n", what, result, error->message);
    exit(1);
}

/* The port on the host that leads to a port inside. */
static int port_of(const sbx_tunnel_map *tunnels, uint32_t inside)
{
    sbx_tunnel tunnel = SBX_TUNNEL_INIT;
    for (size_t index = 0; sbx_tunnel_map_tunnel(tunnels, index, &tunnel) == 0; index++)
        if (tunnel.container_port == inside)
            return (int)tunnel.port;
    return -1;
}

/* --- sandboxes --------------------------------------------------------------------------------------------- */

static sbx_config *config_of(const char *const *command, size_t length)
{
    sbx_error error = SBX_ERROR_INIT;
    sbx_config *config = NULL;
    must(sbx_config_new(&config, &error), "sbx_config_new", &error);
    char server[64];
    snprintf(server, sizeof server, "%s:%d", far_address, NAMES);
    sbx_config_set_rootfs(config, rootfs);
    if (length > 0)
        sbx_config_set_command(config, command, length);
    sbx_config_set_timeout_ms(config, 3600 * 1000);
    sbx_config_add_nameserver(config, server);
    return config;
}

static sbx_sandbox *created(sbx_config *config, const char *what)
{
    sbx_error error = SBX_ERROR_INIT;
    sbx_sandbox *sandbox = NULL;
    must(sbx_create(NULL, config, &sandbox, &error), what, &error);
    sbx_config_free(config);
    return sandbox;
}

static void ended(sbx_sandbox *sandbox)
{
    sbx_error error = SBX_ERROR_INIT;
    must(sbx_terminate(sandbox, &error), "sbx_terminate", &error);
    must(sbx_wait(sandbox, 60000, NULL, &error), "sbx_wait", &error);
    sbx_sandbox_free(sandbox);
}

static void start_victim(void)
{
    static const char *const command[] = {"/server", "echo:7003", "hold:7004", "hold:7014"};
    char far[64];
    const char *const prober[] = {"/attack", "probe", "7006", far};
    sbx_error error = SBX_ERROR_INIT;
    sbx_process *process = NULL;
    snprintf(far, sizeof far, "%s:%d", far_address, ECHO);
    sbx_config *config = config_of(command, 4);
    sbx_config_add_port(config, ECHO, SBX_PORT_UNENCRYPTED);
    sbx_config_add_port(config, HOLD, SBX_PORT_UNENCRYPTED);
    sbx_config_add_port(config, PROBE, SBX_PORT_UNENCRYPTED);
    sbx_config_add_port(config, SECURE, SBX_PORT_ENCRYPTED);
    victim = created(config, "the victim");
    sbx_exec_config *exec = NULL;
    must(sbx_exec_config_new(&exec, &error), "sbx_exec_config_new", &error);
    sbx_exec_config_set_command(exec, prober, 4);
    must(sbx_exec(victim, exec, &process, &error), "the victim's prober", &error);
    sbx_exec_config_free(exec);
    sbx_process_free(process);
    must(sbx_tunnels(victim, 10000, &victim_tunnels, &error), "sbx_tunnels", &error);
    must(sbx_wait_ready(victim, 10000, &error), "sbx_wait_ready", &error);
}

/* --- processor time ---------------------------------------------------------------------------------------- */

/* Its own, and with `children` what those had that it has waited for: a thread's file has its process's there. */
static int64_t ticks_of(const char *path, bool children, char *name, size_t size, long *parent)
{
    char text[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    long user, system, user_children, system_children;
    if (fd >= 0)
        close(fd);
    if (got <= 0)
        return -1;
    text[got] = '\0';
    char *open_at = strchr(text, '('), *close_at = strrchr(text, ')');
    if (open_at == NULL || close_at == NULL ||
        sscanf(close_at + 2, "%*c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld %ld %ld", parent, &user, &system,
               &user_children, &system_children) != 5)
        return -1;
    snprintf(name, size, "%.*s", (int)(close_at - open_at - 1), open_at + 1);
    return user + system + (children ? user_children + system_children : 0);
}

struct process {
    long pid, parent;
    int64_t ticks;
    bool counted;
    char name[32];
};

static size_t all_processes(struct process *list, size_t most)
{
    DIR *directory = opendir("/proc");
    size_t count = 0;
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL && count < most;) {
        char path[300];
        struct process *process = &list[count];
        process->pid = strtol(entry->d_name, NULL, 10);
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        process->ticks = process->pid > 0 ? ticks_of(path, true, process->name, sizeof process->name, &process->parent) : -1;
        process->counted = false;
        count += process->ticks >= 0;
    }
    if (directory != NULL)
        closedir(directory);
    return count;
}

enum { MOST_PROCESSES = 8192 };
static struct process processes[MOST_PROCESSES];

static bool known_keeper(long pid, const long *known, size_t count)
{
    for (size_t index = 0; index < count; index++)
        if (known[index] == pid)
            return true;
    return false;
}

/* The keepers of this process; at most `most`. */
static size_t keepers(long *found, size_t most)
{
    size_t count = all_processes(processes, MOST_PROCESSES), keeper_count = 0;
    for (size_t index = 0; index < count && keeper_count < most; index++)
        if (processes[index].parent == getpid() && strncmp(processes[index].name, "sbx-keeper", 10) == 0)
            found[keeper_count++] = processes[index].pid;
    return keeper_count;
}

/* It runs as /proc/self/exe, so that only its command line tells. */
static bool is_sentry(long pid)
{
    static const char name[] = "runsc-sandbox";
    char path[64], line[sizeof name] = "";
    snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, line, sizeof line - 1);
    close(fd);
    return got > 0 && strcmp(line, name) == 0;
}

/* Of the process and all below it; and one of them that is in the sandbox's network namespace. */
static int64_t ticks_below(long pid, long *inside)
{
    size_t count = all_processes(processes, MOST_PROCESSES);
    int64_t sum = 0;
    for (size_t index = 0; index < count; index++)
        processes[index].counted = processes[index].pid == pid;
    for (bool more = true; more;) {
        more = false;
        for (size_t index = 0; index < count; index++)
            for (size_t other = 0; !processes[index].counted && other < count; other++)
                if (processes[other].counted && processes[other].pid == processes[index].parent)
                    more = processes[index].counted = true;
    }
    for (size_t index = 0; index < count; index++)
        if (processes[index].counted) {
            sum += processes[index].ticks;
            if (inside != NULL && is_sentry(processes[index].pid))
                *inside = processes[index].pid;
        }
    return sum;
}

/* Of the library's threads in this process. */
static int64_t library_ticks(void)
{
    DIR *directory = opendir("/proc/self/task");
    int64_t sum = 0;
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        char path[300], name[32];
        long parent;
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", entry->d_name);
        int64_t ticks = entry->d_name[0] == '.' ? -1 : ticks_of(path, false, name, sizeof name, &parent);
        if (ticks > 0 && strncmp(name, "sbx-", 4) == 0)
            sum += ticks;
    }
    if (directory != NULL)
        closedir(directory);
    return sum;
}

static long milli(int64_t ticks, int64_t ns)
{
    return ns > 0 ? (long)((double)ticks / (double)sysconf(_SC_CLK_TCK) * 1e12 / (double)ns) : 0;
}

/* --- what the victim's user waits for ---------------------------------------------------------------------- */

struct phase {
    const char *attack, *side;
};

static void sample(const struct phase *phase, const char *figure, int64_t nanoseconds)
{
    fprintf(results, "sample %s %s %s %lld\n", figure, phase->attack, phase->side, (long long)nanoseconds);
}

/* A connection to a tunnel of the victim's whose reads and writes end in time; -1 if there is none. */
static int dial(int port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    address.sin_port = htons((uint16_t)port_of(victim_tunnels, (uint32_t)port));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static bool echoes(int fd)
{
    char byte = 'k';
    return write_all(fd, &byte, 1) == 0 && read_all(fd, &byte, 1) == 0;
}

/* Each takes one sample; false if it got no answer in time, or a failure. */
static bool round_trip(void)
{
    static int fd = -1;
    if (fd < 0)
        fd = dial(ECHO);
    if (fd >= 0 && echoes(fd))
        return true;
    if (fd >= 0)
        close(fd);
    fd = -1;
    return false;
}

static bool connection(void)
{
    int fd = dial(HOLD);
    bool well = fd >= 0 && echoes(fd);
    if (fd >= 0)
        close(fd);
    return well;
}

static bool handshake(void)
{
    int fd = dial(SECURE);
    SSL *ssl = SSL_new(tls);
    char byte = 'k';
    bool well = fd >= 0 && ssl != NULL && SSL_set_fd(ssl, fd) == 1 && SSL_connect(ssl) == 1 &&
                SSL_write(ssl, &byte, 1) == 1 && SSL_read(ssl, &byte, 1) == 1;
    SSL_free(ssl);
    if (fd >= 0)
        close(fd);
    return well;
}

static bool execution(void)
{
    static const char *const command[] = {"/attack", "true"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_exec_config *exec = NULL;
    must(sbx_exec_config_new(&exec, &error), "sbx_exec_config_new", &error);
    sbx_process *process = NULL;
    sbx_exit exit = SBX_EXIT_INIT;
    sbx_exec_config_set_command(exec, command, 2);
    bool well = sbx_exec(victim, exec, &process, NULL) >= 0 &&
                sbx_process_wait(process, PATIENCE_MS, &exit, NULL) >= 0 && exit.code == 0;
    sbx_process_free(process);
    sbx_exec_config_free(exec);
    return well;
}

static bool policy_change(void)
{
    static bool second;
    sbx_error error = SBX_ERROR_INIT;
    sbx_policy *policy = NULL;
    must(sbx_policy_new(SBX_POLICY_OPEN, &policy, &error), "sbx_policy_new", &error);
    second = !second;
    sbx_policy_deny_cidr(policy, second ? "203.0.112.0/24" : "203.0.114.0/24");
    bool well = sbx_set_policy(victim, policy, NULL, NULL) >= 0;
    sbx_policy_free(policy);
    return well;
}

/* The samples come one by one through the tunnel, taken inside. Those that a stop leaves out count as that long. */
static void egress_round_trips(const struct phase *phase)
{
    int64_t count = samples, taken = 0, took, begin = now_ns();
    int fd = dial(PROBE);
    bool well = fd >= 0 && write_all(fd, &count, sizeof count) == 0;
    for (; well && taken < count; taken++) {
        begin = now_ns();
        well = read_all(fd, &took, sizeof took) == 0;
        if (well)
            sample(phase, "egress-rtt", took);
    }
    if (!well)
        sample(phase, "egress-rtt", now_ns() - begin);
    if (fd >= 0)
        close(fd);
}

static void take(const struct phase *phase, const char *figure, long count, bool (*once)(void))
{
    for (long index = 0; index < count; index++) {
        int64_t begin = now_ns();
        bool well = once();
        int64_t took = now_ns() - begin;
        /* A failure at once is no good time. */
        sample(phase, figure, well ? took : (took > PATIENCE_MS * 1000000 ? took : PATIENCE_MS * 1000000));
        if (!well)
            return;
    }
}

static void creations(const struct phase *phase)
{
    static const char *const command[] = {"/server", "byte"};
    for (long index = 0; index < slow_samples; index++) {
        sbx_config *config = config_of(command, 2);
        sbx_error error = SBX_ERROR_INIT;
        sbx_sandbox *sandbox = NULL;
        char byte;
        sbx_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR);
        int64_t begin = now_ns();
        must(sbx_create(NULL, config, &sandbox, &error), "another sandbox", &error);
        int output = sbx_sandbox_open_fd(sandbox, SBX_STDOUT, &error);
        must(output, "sbx_sandbox_open_fd", &error);
        fcntl(output, F_SETFL, 0);
        if (read_all(output, &byte, 1) < 0)
            die("another sandbox wrote nothing");
        int64_t first = now_ns();
        ended(sandbox);
        sample(phase, "create", first - begin);
        sample(phase, "terminate", now_ns() - first);
        close(output);
        sbx_config_free(config);
    }
}

static void measure(const struct phase *phase)
{
    take(phase, "rtt", samples, round_trip);
    take(phase, "connect", samples, connection);
    take(phase, "tls-handshake", samples, handshake);
    egress_round_trips(phase);
    take(phase, "exec", samples, execution);
    take(phase, "policy", slow_samples, policy_change);
    creations(phase);
    fflush(results);
}

/* --- the library's time ------------------------------------------------------------------------------------- */

static atomic_bool moving;

/* As much as goes, there and back. */
static void *mover(void *unused)
{
    char block[1 << 15];
    int fd = dial(ECHO);
    (void)unused;
    memset(block, 'm', sizeof block);
    while (fd >= 0 && atomic_load(&moving) && write_all(fd, block, sizeof block) == 0 &&
           read_all(fd, block, sizeof block) == 0)
        ;
    if (fd >= 0)
        close(fd);
    return NULL;
}

static int64_t library_us(sbx_sandbox *sandbox)
{
    sbx_stats stats = SBX_STATS_INIT;
    sbx_error error = SBX_ERROR_INIT;
    must(sbx_sandbox_stats(sandbox, &stats, &error), "sbx_sandbox_stats", &error);
    return stats.library_us;
}

/* Threads that run as long as `flag` is set. */
static void begin_threads(pthread_t *threads, int count, atomic_bool *flag, void *(*run)(void *), void *argument)
{
    atomic_store(flag, true);
    for (int index = 0; index < count; index++)
        if ((errno = pthread_create(&threads[index], NULL, run, argument)) != 0)
            die("pthread_create");
}

static void end_threads(const pthread_t *threads, int count, atomic_bool *flag)
{
    atomic_store(flag, false);
    for (int index = 0; index < count; index++)
        pthread_join(threads[index], NULL);
}

/* In thousandths of the time that passes. */
static long share_of(sbx_sandbox *attacker)
{
    pthread_t threads[MOVERS];
    begin_threads(threads, MOVERS, &moving, mover, NULL);
    int64_t begin = now_ns(), before = library_us(attacker);
    nanosleep(&(struct timespec){.tv_sec = SHARE_NS / 1000000000}, NULL);
    int64_t used = library_us(attacker) - before, passed = now_ns() - begin;
    end_threads(threads, MOVERS, &moving);
    return (long)(used * 1000000 / passed);
}

/* --- the neighbour ----------------------------------------------------------------------------------------- */

static atomic_bool driving;
static void (*drive_once)(sbx_sandbox *sandbox);

static void drive_exec(sbx_sandbox *sandbox)
{
    static const char *const command[] = {"/attack", "true"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_exec_config *exec = NULL;
    must(sbx_exec_config_new(&exec, &error), "sbx_exec_config_new", &error);
    sbx_process *process = NULL;
    sbx_exec_config_set_command(exec, command, 2);
    if (sbx_exec(sandbox, exec, &process, NULL) >= 0)
        sbx_process_wait(process, PATIENCE_MS, NULL, NULL);
    sbx_process_free(process);
    sbx_exec_config_free(exec);
}

static void drive_files(sbx_sandbox *sandbox)
{
    sbx_operation *operation = NULL;
    sbx_file_read_begin(sandbox, "/server", NULL, NULL, 0, &operation, NULL);
    sbx_operation_wait(operation, -1, NULL);
    sbx_operation_free(operation);
}

/* To an init that is stopped; each of these comes back with an error in the end. */
static void drive_probes(sbx_sandbox *sandbox)
{
    sbx_file_options options = SBX_FILE_OPTIONS_INIT;
    sbx_operation *operation = NULL;
    options.time_limit_ms = 100;
    sbx_file_read_begin(sandbox, "/server", &options, NULL, 0, &operation, NULL);
    sbx_operation_wait(operation, -1, NULL);
    sbx_operation_free(operation);
}

static void *driver(void *sandbox)
{
    while (atomic_load(&driving)) {
        int64_t begin = now_ns();
        drive_once(sandbox);
        /* Where the sandbox has ended, all fails at once. */
        if (now_ns() - begin < 50000)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return NULL;
}

/* A word of a command: @FAR and the like replaced. */
static const char *filled(const char *word, char *into, size_t size, const sbx_tunnel_map *tunnels, long inside)
{
    const char *at = strchr(word, '@');
    char value[64];
    if (at == NULL)
        return word;
    size_t name = strspn(at + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    if (strncmp(at + 1, "FAR", name) == 0)
        snprintf(value, sizeof value, "%s", far_address);
    else if (strncmp(at + 1, "PID", name) == 0)
        snprintf(value, sizeof value, "%ld", inside);
    else
        snprintf(value, sizeof value, "%d", port_of(tunnels, at[1] == 'S' ? SECURE : HOLD));
    snprintf(into, size, "%.*s%s%s", (int)(at - word), word, value, at + 1 + name);
    return into;
}

static long answer(void)
{
    char line[LINE];
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        die("no answer");
    return strtol(line, NULL, 10);
}

static void start_outside(const char *words, const sbx_tunnel_map *tunnels, long inside)
{
    char copy[LINE], line[LINE] = "", part[LINE], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        size_t length = strlen(line);
        snprintf(line + length, sizeof line - length, " %s", filled(word, part, sizeof part, tunnels, inside));
    }
    printf("start%s\n", line);
    answer();
}

struct cost {
    long sandbox, outside;
};

/* The victim beside a sandbox that runs `attack`, or burns what `burn` says if there is no attack. */
static struct cost run_phase(const struct phase *phase, const struct attack *attack, struct cost burn)
{
    static const char *const serve[] = {"/server", "hold:7004", "hold:7014"};
    char parts[5][LINE], text[32], outside[LINE];
    const char *command[5];
    size_t length = 0;
    sbx_error error = SBX_ERROR_INIT;
    sbx_tunnel_map *tunnels = NULL;
    long before[64], after[64], keeper = 0, inside = 0;
    size_t count = keepers(before, 64);

    sbx_config *config;
    if (attack == NULL) {
        snprintf(text, sizeof text, "%ld", burn.sandbox);
        command[0] = "/attack", command[1] = "burn", command[2] = text, length = 3;
        config = config_of(command, length);
    } else if (attack->inside[0] == NULL) {
        config = config_of(serve, 3);
    } else {
        while (length < 5 && attack->inside[length] != NULL) {
            command[length] = filled(attack->inside[length], parts[length], LINE, NULL, 0);
            length++;
        }
        config = config_of(command, length);
    }
    sbx_config_add_port(config, HOLD, SBX_PORT_UNENCRYPTED);
    sbx_config_add_port(config, SECURE, SBX_PORT_ENCRYPTED);
    sbx_config_capture_stream(config, SBX_STDOUT, 65536, 65536);
    sbx_config_capture_stream(config, SBX_STDERR, 65536, 65536);
    sbx_sandbox *sandbox = created(config, "the neighbour");
    must(sbx_tunnels(sandbox, 10000, &tunnels, &error), "sbx_tunnels", &error);
    size_t now = keepers(after, 64);
    for (size_t index = 0; index < now; index++)
        if (!known_keeper(after[index], before, count))
            keeper = after[index];
    ticks_below(keeper, &inside);

    bool outer = attack == NULL ? burn.outside > 0 : attack->outside != NULL;
    if (outer) {
        snprintf(outside, sizeof outside, "attack burn %ld", burn.outside);
        start_outside(attack == NULL ? outside : attack->outside, tunnels, inside);
    }
    pthread_t threads[DRIVERS];
    bool driven = attack != NULL && attack->drive != NULL;
    if (driven) {
        drive_once = attack->drive;
        begin_threads(threads, DRIVERS, &driving, driver, sandbox);
    }
    /* It is under way before anything is measured. */
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);

    int64_t begin = now_ns(), ticks = ticks_below(keeper, NULL), library = library_ticks();
    measure(phase);
    int64_t took = now_ns() - begin;
    struct cost cost = {milli(ticks_below(keeper, NULL) - ticks, took), 0};
    fprintf(results, "time %s %s library %ld\n", phase->attack, phase->side, milli(library_ticks() - library, took));
    if (cost.sandbox < 0)
        cost.sandbox = 0;
    if (attack != NULL)
        fprintf(results, "time %s %s share %ld\n", phase->attack, phase->side, share_of(sandbox));

    if (driven)
        end_threads(threads, DRIVERS, &driving);
    if (outer) {
        printf("stop\n");
        cost.outside = answer();
    }
    fprintf(results, "time %s %s sandbox %ld\ntime %s %s outside %ld\n", phase->attack, phase->side, cost.sandbox,
            phase->attack, phase->side, cost.outside);
    fflush(results);
    sbx_tunnel_map_free(tunnels);
    ended(sandbox);
    return cost;
}

int main(int argc, char **argv)
{
    sbx_error error = SBX_ERROR_INIT;
    if (argc < 7) {
        fprintf(stderr, "usage: neighbour RESULTS ROOTFS FAR SAMPLES SLOW quiet|ATTACK...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    results = fopen(argv[1], "ae");
    if (results == NULL)
        die("%s can't be written", argv[1]);
    rootfs = argv[2];
    far_address = argv[3];
    samples = number(argv[4], 1, 1000000);
    slow_samples = number(argv[5], 1, 1000000);
    tls = SSL_CTX_new(TLS_client_method());
    if (tls == NULL || SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1)
        die("TLS set-up");
    SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    start_victim();
    for (int at = 6; at < argc; at++) {
        if (strcmp(argv[at], "quiet") == 0) {
            struct phase quiet = {"quiet", "quiet"};
            measure(&quiet);
            continue;
        }
        const struct attack *attack = NULL;
        for (size_t index = 0; index < sizeof attacks / sizeof *attacks; index++)
            if (strcmp(attacks[index].name, argv[at]) == 0)
                attack = &attacks[index];
        if (attack == NULL) {
            fprintf(stderr, "there is no attack \"%s\"\n", argv[at]);
            return 2;
        }
        struct phase attacked = {attack->name, "attack"}, control = {attack->name, "control"};
        struct cost cost = run_phase(&attacked, attack, (struct cost){0, 0});
        run_phase(&control, NULL, cost);
    }
    sbx_tunnel_map_free(victim_tunnels);
    must(sbx_terminate(victim, &error), "sbx_terminate", &error);
    sbx_sandbox_free(victim);
    SSL_CTX_free(tls);
    fclose(results);
    return 0;
}
