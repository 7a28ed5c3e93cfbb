/*
 * Many sandboxes at once, and many in one process: the library's side, over its C API.
 *
 *   storm storm ROUNDS STARTS COUNT ROOTFS SERVER RAW...
 *       ROUNDS times, COUNT sandboxes created at the same moment by as many threads, against as many runs of runsc by the
 *       program RAW... (client/raw.c storm), in turns: cold; with a sandbox kept warm for each; and at once again, when none
 *       is left. STARTS is how many may start at once (0: the default). All the time a client asks an echo server through a
 *       tunnel of another sandbox. hits-warm and hits-drained are how many took a warm sandbox.
 *   storm bounds ROUNDS COUNT ROOTFS SERVER RAW...
 *       The same cold, with each of several bounds on how many start at once: what the default was chosen by. "whole-N", and "processor-N":
 *       what each took of the processors, to its end.
 *   storm scale COUNT STARTS ROOTFS SERVER
 *       COUNT sandboxes, which stay: how fast the first and the last fifty of each hundred are created, what the process
 *       uses while they idle, and whose memory they take.
 *   storm filling ROUNDS ROOTFS SERVER
 *       ROUNDS times, a sandbox created cold without a pool and beside one that is being filled, in turns.
 *
 * storm prints NAME SIDE MICROSECONDS: "whole" is from the moment to the last first byte, "each" to every one, and
 * "tunnel" is one round trip meanwhile. scale and filling say what their numbers are.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "host.h"
#include "peer.h"

enum { MOST = 1024, ECHO_PORT = 7003 };

static const char *const byte_command[] = {"/server", "byte"};

static sbx_config *config_of(const char *rootfs, const char *hostname)
{
    sbx_config *config = NULL;
    must(sbx_config_new(&config, &error), "sbx_config_new");
    sbx_config_set_command(config, byte_command, 2);
    sbx_config_set_timeout_ms(config, 3600 * 1000);
    sbx_config_set_rootfs(config, rootfs);
    sbx_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR);
    if (hostname != NULL)
        sbx_config_set_hostname(config, hostname);
    must(sbx_config_check(config, &error), "sbx_config_check");
    return config;
}

/* ---- A client of a tunnel, all the time ---- */

static struct {
    pthread_mutex_t lock;
    const char *name, *side;
    int socket;
    bool ends;
} client = {.lock = PTHREAD_MUTEX_INITIALIZER, .name = "quiet", .side = "ours"};

static void *ask_on(void *unused)
{
    (void)unused;
    for (;;) {
        char data[64] = {0};
        int64_t before = now_ns();
        if (write_all(client.socket, data, sizeof data) < 0 || read_all(client.socket, data, sizeof data) < 0)
            die("the tunnel's connection is broken");
        int64_t after = now_ns();
        pthread_mutex_lock(&client.lock);
        bool ends = client.ends;
        if (client.name != NULL)
            printf("tunnel-%s %s %lld\n", client.name, client.side, (long long)(after - before) / 1000);
        pthread_mutex_unlock(&client.lock);
        if (ends)
            return NULL;
        usleep(1000);
    }
}

static void now_beside(const char *name, const char *side)
{
    pthread_mutex_lock(&client.lock);
    client.name = name;
    client.side = side;
    pthread_mutex_unlock(&client.lock);
}

static sbx_sandbox *serve(const char *rootfs)
{
    static const char *const command[] = {"/server", "echo:7003"};
    sbx_config *config = NULL;
    sbx_sandbox *sandbox = NULL;
    sbx_tunnel_map *map = NULL;
    sbx_tunnel tunnel = SBX_TUNNEL_INIT;
    must(sbx_config_new(&config, &error), "sbx_config_new");
    sbx_config_set_command(config, command, 2);
    sbx_config_set_timeout_ms(config, 24 * 3600 * 1000);
    sbx_config_set_rootfs(config, rootfs);
    must(sbx_config_add_port(config, ECHO_PORT, SBX_PORT_UNENCRYPTED), "sbx_config_add_port");
    must(sbx_create(NULL, config, &sandbox, &error), "sbx_create");
    sbx_config_free(config);
    must(sbx_wait_ready(sandbox, 60000, &error), "sbx_wait_ready");
    must(sbx_tunnels(sandbox, 60000, &map, &error), "sbx_tunnels");
    must(sbx_tunnel_map_tunnel(map, 0, &tunnel), "sbx_tunnel_map_tunnel");
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)tunnel.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sbx_tunnel_map_free(map);
    int one = 1;
    client.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(client.socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(client.socket, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect to the tunnel");
    return sandbox;
}

/* ---- Creations ---- */

struct creation {
    pthread_t thread;
    const sbx_config *config;
    pthread_barrier_t *moment;
    sbx_sandbox *sandbox;
    int64_t before, first;
};

static void *create_one(void *given)
{
    struct creation *one = given;
    sbx_error failure = SBX_ERROR_INIT;
    char byte;
    pthread_barrier_wait(one->moment);
    one->before = now_ns();
    if (sbx_create(NULL, one->config, &one->sandbox, &failure) < 0) {
        fprintf(stderr, "sbx_create: %s\n", failure.message);
        exit(1);
    }
    int output = sbx_sandbox_open_fd(one->sandbox, SBX_STDOUT, &failure);
    struct pollfd ready = {.fd = output, .events = POLLIN};
    if (output < 0 || poll(&ready, 1, 60000) != 1 || read(output, &byte, 1) != 1)
        die("the program in the sandbox wrote nothing");
    one->first = now_ns();
    close(output);
    return NULL;
}

static void end_all(struct creation *all, long count)
{
    for (long at = 0; at < count; at++)
        must(sbx_terminate(all[at].sandbox, &error), "sbx_terminate");
    for (long at = 0; at < count; at++) {
        must(sbx_wait(all[at].sandbox, 60000, NULL, &error), "sbx_wait");
        sbx_sandbox_free(all[at].sandbox);
    }
}

static void create_all(const char *name, const sbx_config *config, struct creation *all, long count)
{
    pthread_barrier_t moment;
    int64_t before = INT64_MAX, last = 0;
    now_beside(NULL, NULL);
    pthread_barrier_init(&moment, NULL, (unsigned)count);
    now_beside(name, "ours");
    for (long at = 0; at < count; at++) {
        all[at] = (struct creation){.config = config, .moment = &moment};
        if (pthread_create(&all[at].thread, NULL, create_one, &all[at]) != 0)
            die("a thread");
    }
    for (long at = 0; at < count; at++)
        pthread_join(all[at].thread, NULL);
    now_beside(NULL, NULL);
    pthread_barrier_destroy(&moment);
    for (long at = 0; at < count; at++) {
        printf("each-%s ours %lld\n", name, (long long)(all[at].first - all[at].before) / 1000);
        before = all[at].before < before ? all[at].before : before;
        last = all[at].first > last ? all[at].first : last;
    }
    printf("whole-%s ours %lld\n", name, (long long)(last - before) / 1000);
}

static void run_all(long count)
{
    char line[32];
    long long most = 0;
    now_beside("raw", "theirs");
    fprintf(to_raw, "%ld\n", count);
    fflush(to_raw);
    for (long at = 0; at < count; at++) {
        if (fgets(line, sizeof line, from_raw) == NULL)
            die("plain runsc gave no figures");
        most = atoll(line) > most ? atoll(line) : most;
        printf("each-raw theirs %lld\n", atoll(line));
    }
    now_beside(NULL, NULL);
    if (fgets(line, sizeof line, from_raw) == NULL || strcmp(line, "gone\n") != 0)
        die("plain runsc left something");
    printf("whole-raw theirs %lld\n", most);
}

static sbx_warm_stats warm_stats(void)
{
    sbx_warm_stats stats = SBX_WARM_STATS_INIT;
    must(sbx_runtime_warm_stats(NULL, NULL, &stats, &error), "sbx_runtime_warm_stats");
    return stats;
}

static sbx_warm_stats until_warm(uint32_t count)
{
    for (int looks = 0;; looks++) {
        sbx_warm_stats stats = warm_stats();
        if (stats.ready == count && stats.filling == 0)
            return stats;
        if (looks == 200000)
            die("no warm sandboxes: %s", stats.last_failure);
        usleep(3000);
    }
}

static int storm(int argc, char **argv)
{
    static struct creation all[MOST], again[MOST];
    if (argc < 8)
        return -1;
    long rounds = number(argv[2], 1, 1000), starts = number(argv[3], 0, 256), count = number(argv[4], 1, 256);
    start_raw(argv + 7);
    must(sbx_runtime_set_max_starts(NULL, (uint32_t)starts, &error), "sbx_runtime_set_max_starts");
    sbx_config *config = config_of(argv[5], NULL);
    sbx_sandbox *server = serve(argv[5]);
    pthread_t asking;
    if (pthread_create(&asking, NULL, ask_on, NULL) != 0)
        die("a thread");
    sleep(1);
    for (long round = 0; round < rounds; round++) {
        create_all("cold", config, all, count);
        end_all(all, count);
        run_all(count);
        must(sbx_runtime_keep_warm(NULL, config, (uint32_t)count, &error), "sbx_runtime_keep_warm");
        sbx_warm_stats before = until_warm((uint32_t)count);
        create_all("warm", config, all, count);
        sbx_warm_stats between = warm_stats();
        /* No member is begun while sandboxes are created, but one can be in the 20 ms after that and before these: whoever
           takes it is a hit, and not one of those above. */
        create_all("drained", config, again, count);
        sbx_warm_stats after = warm_stats();
        printf("hits-warm ours %llu\nhits-drained ours %llu\n", (unsigned long long)(between.hits - before.hits),
               (unsigned long long)(after.hits - between.hits));
        must(sbx_runtime_keep_warm(NULL, config, 0, &error), "sbx_runtime_keep_warm");
        end_all(all, count);
        end_all(again, count);
        until_warm(0);
        run_all(count);
    }
    pthread_mutex_lock(&client.lock);
    client.ends = true;
    pthread_mutex_unlock(&client.lock);
    pthread_join(asking, NULL);
    sbx_config_free(config);
    stop_raw();
    must(sbx_terminate(server, &error), "sbx_terminate");
    must(sbx_wait(server, 10000, NULL, &error), "sbx_wait");
    sbx_sandbox_free(server);
    return 0;
}

static int bounds(int argc, char **argv)
{
    static struct creation all[MOST];
    static const uint32_t bound[] = {1, 2, 3, 4, 6, 8, 16, 256};
    if (argc < 7)
        return -1;
    long rounds = number(argv[2], 1, 1000), count = number(argv[3], 1, 256);
    start_raw(argv + 6);
    sbx_config *config = config_of(argv[4], NULL);
    for (long round = 0; round < rounds; round++) {
        for (size_t at = 0; at < sizeof bound / sizeof *bound; at++) {
            char name[16];
            snprintf(name, sizeof name, "%u", bound[at]);
            must(sbx_runtime_set_max_starts(NULL, bound[at], &error), "sbx_runtime_set_max_starts");
            int64_t before = processor_us(true);
            create_all(name, config, all, count);
            end_all(all, count);
            printf("processor-%s ours %lld\n", name, (long long)(processor_us(true) - before) / count);
        }
        run_all(count);
        fflush(stdout);
    }
    sbx_config_free(config);
    stop_raw();
    return 0;
}

/* ---- Many in one process ---- */

/* A process's private memory and its part of what it shares, in KiB. */
static void memory_of(long pid, long *private, long *proportional)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", pid);
    FILE *file = fopen(path, "re");
    *private = *proportional = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        long kib = 0;
        if (sscanf(line, "Private_%*[^:]: %ld", &kib) == 1)
            *private += kib;
        if (sscanf(line, "Pss: %ld", &kib) == 1)
            *proportional = kib;
    }
    if (file != NULL)
        fclose(file);
}

/* A file of a process; 0 if it has ended. */
static ssize_t read_of(long pid, const char *file, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", pid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = 0;
    return got > 0 ? got : 0;
}

static long parent_of(long pid)
{
    char text[512], state;
    long parent = 0;
    char *end = read_of(pid, "stat", text, sizeof text) > 0 ? strrchr(text, ')') : NULL;
    return end != NULL && sscanf(end + 2, "%c %ld", &state, &parent) == 2 ? parent : 0;
}

/* What a process calls itself: "runsc-sandbox", say. */
static void name_of(long pid, char *name, size_t size)
{
    char text[4096];
    if (read_of(pid, "cmdline", text, sizeof text) == 0)
        read_of(pid, "comm", text, sizeof text);
    const char *slash = strrchr(text, '/');
    snprintf(name, size, "%.*s", (int)size - 1, slash == NULL ? text : slash + 1);
    name[strcspn(name, " \n")] = 0;
}

/* Whose memory the sandboxes take, by the name of the process, below this one. */
static void print_memory(long count)
{
    struct { char name[64]; long processes, private, proportional; } kinds[16] = {0};
    DIR *all = opendir("/proc");
    for (struct dirent *entry; all != NULL && (entry = readdir(all)) != NULL;) {
        char name[64];
        long pid = atol(entry->d_name), above = pid, private, proportional;
        if (pid <= 0)
            continue;
        for (int depth = 0; above > 1 && above != getpid() && depth < 8; depth++)
            above = parent_of(above);
        if (above != getpid() || pid == getpid())
            continue;
        memory_of(pid, &private, &proportional);
        name_of(pid, name, sizeof name);
        for (size_t at = 0; at < sizeof kinds / sizeof *kinds; at++) {
            if (kinds[at].processes > 0 && strcmp(kinds[at].name, name) != 0)
                continue;
            strcpy(kinds[at].name, name);
            kinds[at].processes++;
            kinds[at].private += private;
            kinds[at].proportional += proportional;
            break;
        }
    }
    if (all != NULL)
        closedir(all);
    for (size_t at = 0; at < sizeof kinds / sizeof *kinds && kinds[at].processes > 0; at++)
        printf("memory-%s processes %.2f private-KiB %ld proportional-KiB %ld, each of %ld sandboxes\n", kinds[at].name,
               (double)kinds[at].processes / (double)count, kinds[at].private / count, kinds[at].proportional / count, count);
}

static void print_idle(long count)
{
    const int seconds = 5;
    sleep(1);
    int64_t before = processor_us(false);
    sleep(seconds);
    printf("idle sandboxes %ld processor-us-a-second %lld\n", count, (long long)(processor_us(false) - before) / seconds);
}

static int scale(int argc, char **argv)
{
    static struct creation all[MOST];
    if (argc != 6)
        return -1;
    long count = number(argv[2], 10, MOST), starts = number(argv[3], 0, 256), step = count >= 100 ? 50 : count / 2;
    must(sbx_runtime_set_max_starts(NULL, (uint32_t)starts, &error), "sbx_runtime_set_max_starts");
    sbx_config *config = config_of(argv[4], NULL);
    long own, with, ignored;
    memory_of(getpid(), &own, &ignored);
    for (long done = 0; done < count; done += step) {
        long now = count - done < step ? count - done : step;
        pthread_barrier_t moment;
        pthread_barrier_init(&moment, NULL, (unsigned)now);
        int64_t before = now_ns();
        for (long at = done; at < done + now; at++) {
            all[at] = (struct creation){.config = config, .moment = &moment};
            if (pthread_create(&all[at].thread, NULL, create_one, &all[at]) != 0)
                die("a thread");
        }
        for (long at = done; at < done + now; at++)
            pthread_join(all[at].thread, NULL);
        printf("created sandboxes %ld each-us %lld\n", done + now, (long long)(now_ns() - before) / 1000 / now);
        fflush(stdout);
        pthread_barrier_destroy(&moment);
        if (done == 0 || done + now == count)
            print_idle(done + now);
    }
    memory_of(getpid(), &with, &ignored);
    printf("memory-library private-KiB %ld, each of %ld sandboxes\n", (with - own) / count, count);
    print_memory(count);
    int64_t before = now_ns();
    end_all(all, count);
    printf("ended sandboxes %ld each-us %lld\n", count, (long long)(now_ns() - before) / 1000 / count);
    sbx_config_free(config);
    return 0;
}

/* ---- What filling costs ---- */

static int filling(int argc, char **argv)
{
    if (argc != 5)
        return -1;
    long rounds = number(argv[2], 1, 1000);
    sbx_config *config = config_of(argv[3], NULL), *template = config_of(argv[3], "template");
    for (long round = 0; round <= rounds; round++) {
        struct creation one;
        for (int pool = 0; pool < 2; pool++) {
            if (pool == 1) {
                /* It is being filled when the creation comes, and would be for long. */
                must(sbx_runtime_keep_warm(NULL, template, 16, &error), "sbx_runtime_keep_warm");
                usleep(50000 + (unsigned)(round % 10) * 10000);
            }
            create_all(pool ? "filling" : "alone", config, &one, 1);
            end_all(&one, 1);
            if (pool == 1) {
                must(sbx_runtime_keep_warm(NULL, template, 0, &error), "sbx_runtime_keep_warm");
                until_warm(0);
            }
            usleep(100000);
        }
    }
    sbx_config_free(template);
    sbx_config_free(config);
    return 0;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    client.name = "quiet";
    int result = -1;
    if (argc > 1 && strcmp(argv[1], "storm") == 0)
        result = storm(argc, argv);
    if (argc > 1 && strcmp(argv[1], "bounds") == 0)
        result = bounds(argc, argv);
    if (argc > 1 && strcmp(argv[1], "scale") == 0)
        result = scale(argc, argv);
    if (argc > 1 && strcmp(argv[1], "filling") == 0)
        result = filling(argc, argv);
    if (result < 0)
        fprintf(stderr, "usage: storm storm|bounds|scale|filling ...; the first comment of storm.c says the rest\n");
    return result < 0 ? 2 : 0;
}
