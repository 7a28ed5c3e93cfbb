/*
 * The host program of the benchmark: the library's side of every figure, over its C API.
 *
 *   host lifecycle RUNS ROOTFS|- SERVER PEER RAW... [, PEER RAW...]...
 *                                                RUNS times: a sandbox whose program writes one byte, against
 *                                                one run of each peer's program RAW... (client/raw.c), in turns
 *   host first TURN ROOTFS|- SERVER PEER RAW...  the same once, as the first sandbox of this process; in an even TURN
 *                                                before the peer, else after it
 *   host exec RUNS ROOTFS PROGRAM RAW...         RUNS times: PROGRAM executed in a running sandbox to its end,
 *                                                against the same by RAW... (client/raw.c), in turns
 *   host serve SERVER [CHAIN KEY]                a sandbox with the server and a tunnel to each of its ports,
 *                                                until standard input ends; CHAIN and KEY are PEM files
 *   host outbound ROOTFS                         a sandbox with /load --lines of that root, its standard streams
 *                                                joined with this program's
 *   host times RUNS ROOTFS|-|@DIRECTORY SERVER   RUNS times: a sandbox whose program writes one byte; with @ the directory
 *                                                becomes an image first, which is the root
 *   host policies ROOTFS RUNS COUNT...           RUNS times, for each COUNT: a sandbox with an allowlist of so many
 *                                                ranges is created, all of them are replaced, and it is ended
 *
 * lifecycle and first print a line for every figure: NAME SIDE MICROSECONDS. With a ROOTFS directory the server is
 * /server in it, as for RAW; with "-" the library's own root file system is used, with SERVER mounted.
 * times prints a line a sandbox: sbx_create's call, its return and the byte, in nanoseconds of the monotonic clock, and
 * the processor time of this process and of everything of the sandbox, to its end, in microseconds.
 * policies prints "create" or "change", COUNT and MICROSECONDS. serve prints the keeper's process id and the tunnels' ports.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>

#include "host.h"
#include "peer.h"

enum { SINK, SOURCE, ECHO, HOLD, KINDS };
static const char *const kinds[KINDS] = {"sink", "source", "echo", "hold"};
static const uint32_t plain_base = 7001, encrypted_base = 7011;
static const char mounted[] = "/bench/server";

/* Whole reads from a stream of a sandbox, whether or not its descriptor blocks; half a minute each. */
static int stream_read(int fd, char *data, size_t length)
{
    while (length > 0) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        int count = poll(&ready, 1, 30000);
        if (count == 0)
            errno = ETIMEDOUT;
        if (count == 0 || (count < 0 && errno != EINTR))
            return -1;
        ssize_t got = read(fd, data, length);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got <= 0)
            return -1;
        data += got;
        length -= (size_t)got;
    }
    return 0;
}

/* Stores a directory as an image. */
static sbx_image *image_of(const char *directory)
{
    sbx_operation *operation = NULL;
    sbx_image *image = NULL;
    must(sbx_image_import_begin(NULL, directory, -1, NULL, NULL, 0, &operation, &error), "sbx_image_import_begin");
    must(sbx_operation_wait(operation, 60000, &error), "sbx_image_import_begin");
    must(sbx_operation_image(operation, &image, &error), "sbx_operation_image");
    sbx_operation_free(operation);
    return image;
}

static sbx_config *config_of(const char *const *command, size_t length, const char *rootfs, const char *server)
{
    sbx_config *config = NULL;
    must(sbx_config_new(&config, &error), "sbx_config_new");
    sbx_config_set_command(config, command, length);
    sbx_config_set_timeout_ms(config, 3600 * 1000);
    sbx_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR);
    if (rootfs[0] == '@') {
        sbx_image *image = image_of(rootfs + 1);
        must(sbx_config_set_image(config, image), "sbx_config_set_image");
        sbx_image_free(image);
    } else if (strcmp(rootfs, "-") != 0)
        sbx_config_set_rootfs(config, rootfs);
    else
        sbx_config_add_mount(config, server, mounted, SBX_MOUNT_READ_ONLY);
    return config;
}

/* What a figure is called. */
enum kind { COLD, WARM, FIRST, SPARE, UNCOUNTED };
static const char *const kind_name[] = {"start", "warm", "first", "spare"};
/* How many of a side come one after the other, so that what is done beside one comes out of the time of the next. */
enum { IN_A_ROW = 3 };

static void one_of_ours(const sbx_config *config, enum kind kind)
{
    sbx_sandbox *sandbox = NULL;
    char byte;
    int64_t before = now_ns();
    must(sbx_create(NULL, config, &sandbox, &error), "sbx_create");
    int64_t created = now_ns();
    int output = sbx_sandbox_open_fd(sandbox, SBX_STDOUT, &error);
    must(output, "sbx_sandbox_open_fd");
    if (stream_read(output, &byte, 1) < 0)
        die("the program in the sandbox wrote nothing");
    int64_t first = now_ns();
    must(sbx_terminate(sandbox, &error), "sbx_terminate");
    must(sbx_wait(sandbox, 10000, NULL, &error), "sbx_wait");
    int64_t gone = now_ns();
    close(output);
    sbx_sandbox_free(sandbox);
    if (kind == UNCOUNTED)
        return;
    if (kind != COLD) {
        const char *name = kind_name[kind];
        printf("create-%s ours %lld\n%s ours %lld\n", name, (long long)(created - before) / 1000, name,
               (long long)(first - before) / 1000);
        if (kind == SPARE)
            printf("whole ours %lld\n", (long long)(gone - before) / 1000);
        return;
    }
    printf("create ours %lld\nstart ours %lld\nterminate ours %lld\n", (long long)(created - before) / 1000,
           (long long)(first - before) / 1000, (long long)(gone - first) / 1000);
}

/* Waits until a sandbox is kept warm. */
static void until_warm(void)
{
    for (int looks = 0;; looks++) {
        sbx_warm_stats stats = SBX_WARM_STATS_INIT;
        must(sbx_runtime_warm_stats(NULL, NULL, &stats, &error), "sbx_runtime_warm_stats");
        if (stats.ready == stats.wanted && stats.filling == 0)
            return;
        if (looks == 10000)
            die("no warm sandbox: %s", stats.last_failure);
        usleep(3000);
    }
}

static int times(int argc, char **argv)
{
    if (argc != 5)
        return -1;
    const char *const command[] = {strcmp(argv[3], "-") == 0 ? mounted : "/server", "byte"};
    long runs = number(argv[2], 1, 100000);
    sbx_config *config = config_of(command, 2, argv[3], argv[4]);
    /* One more, for whatever the first one finds out. */
    for (long run = 0; run <= runs; run++) {
        sbx_sandbox *sandbox = NULL;
        char byte;
        int64_t used = processor_us(true), before = now_ns();
        must(sbx_create(NULL, config, &sandbox, &error), "sbx_create");
        int64_t created = now_ns();
        int output = sbx_sandbox_open_fd(sandbox, SBX_STDOUT, &error);
        must(output, "sbx_sandbox_open_fd");
        if (stream_read(output, &byte, 1) < 0)
            die("the program in the sandbox wrote nothing");
        int64_t first = now_ns();
        must(sbx_terminate(sandbox, &error), "sbx_terminate");
        must(sbx_wait(sandbox, 10000, NULL, &error), "sbx_wait");
        close(output);
        sbx_sandbox_free(sandbox);
        if (run > 0)
            printf("%lld %lld %lld %lld\n", (long long)before, (long long)created, (long long)first,
                   (long long)(processor_us(true) - used));
        fflush(stdout);
        /* What a sandbox leaves to the kernel (network namespaces) is not to count for the next. */
        usleep(100000);
    }
    sbx_config_free(config);
    return 0;
}

enum { MOST_PEERS = 8 };
static struct peer peers[MOST_PEERS];
static int peer_count;

/* A peer's name and its program's words, and so on behind each comma. */
static void start_peers(int argc, char **argv)
{
    for (int at = 0; at < argc;) {
        int end = at;
        while (end < argc && strcmp(argv[end], ",") != 0)
            end++;
        if (end < at + 2 || peer_count == MOST_PEERS)
            die("peers: \"%s\" has no program, or there are more than %d", argv[at], MOST_PEERS);
        /* The list's end is there already; a comma becomes one. */
        argv[end] = NULL;
        peers[peer_count++] = start_peer(argv[at], argv + at + 1);
        at = end + 1;
    }
}

static void one_of_theirs(struct peer *peer, enum kind kind)
{
    long long first, gone;
    fputc('\n', peer->to);
    fflush(peer->to);
    if (fscanf(peer->from, "%lld %lld", &first, &gone) != 2)
        die("%s gave no figures", peer->name);
    if (kind != COLD)
        printf("%s %s %lld\n", kind_name[kind], peer->name, first);
    if (kind == SPARE)
        printf("whole %s %lld\n", peer->name, first + gone);
    if (kind == COLD)
        printf("start %s %lld\nterminate %s %lld\n", peer->name, first, peer->name, gone);
}

/* All sides once. Every other turn goes the other way about: no side always comes after the same one. */
static void one_of_each(const sbx_config *config, enum kind kind, long turn)
{
    int sides = peer_count + 1;
    for (int at = 0; at < sides; at++) {
        int side = turn % 2 == 0 ? at : sides - 1 - at;
        if (kind == WARM)
            until_warm();
        for (int row = 0; row < (kind == SPARE ? IN_A_ROW : 1); row++) {
            if (side == 0)
                one_of_ours(config, kind);
            else
                one_of_theirs(&peers[side - 1], kind);
        }
    }
}

static int first(int argc, char **argv)
{
    if (argc < 7)
        return -1;
    const char *const command[] = {strcmp(argv[3], "-") == 0 ? mounted : "/server", "byte"};
    start_peers(argc - 5, argv + 5);
    sbx_config *config = config_of(command, 2, argv[3], argv[4]);
    one_of_each(config, FIRST, number(argv[2], 0, 100000));
    sbx_config_free(config);
    for (int at = 0; at < peer_count; at++)
        stop_peer(&peers[at]);
    return 0;
}

static int lifecycle(int argc, char **argv)
{
    if (argc < 7)
        return -1;
    long runs = number(argv[2], 1, 100000);
    const char *path = strcmp(argv[3], "-") == 0 ? mounted : "/server";
    const char *const command[] = {path, "byte"};
    start_peers(argc - 5, argv + 5);
    sbx_config *config = config_of(command, 2, argv[3], argv[4]);
    must(sbx_config_check(config, &error), "sbx_config_check");
    for (long run = 0; run < runs; run++)
        one_of_each(config, COLD, run);
    /* The same with a spare, in the steady state: the first two are created without. */
    must(sbx_runtime_set_spares(NULL, 1, &error), "sbx_runtime_set_spares");
    one_of_ours(config, UNCOUNTED);
    one_of_ours(config, UNCOUNTED);
    for (long run = 0; run < runs; run++)
        one_of_each(config, SPARE, run);
    must(sbx_runtime_set_spares(NULL, 0, &error), "sbx_runtime_set_spares");
    /* The same with a sandbox that is ready: what it takes to make one isn't counted, and isn't done meanwhile. */
    must(sbx_runtime_keep_warm(NULL, config, 1, &error), "sbx_runtime_keep_warm");
    for (long run = 0; run < runs; run++)
        one_of_each(config, WARM, run);
    sbx_config_free(config);
    for (int at = 0; at < peer_count; at++)
        stop_peer(&peers[at]);
    return 0;
}

static int exec_in_turns(int argc, char **argv)
{
    if (argc < 6)
        return -1;
    long runs = number(argv[2], 1, 100000);
    const char *const server[] = {"/server", "byte"};
    const char *const program[] = {argv[4]};
    start_raw(argv + 5);
    sbx_config *config = config_of(server, 2, argv[3], NULL);
    sbx_sandbox *sandbox = NULL;
    must(sbx_create(NULL, config, &sandbox, &error), "sbx_create");
    sbx_config_free(config);
    sbx_exec_config *exec = NULL;
    must(sbx_exec_config_new(&exec, &error), "sbx_exec_config_new");
    sbx_exec_config_set_command(exec, program, 1);
    /* The first is slower on both sides: it is not counted. */
    for (long run = 0; run <= runs; run++) {
        sbx_process *process = NULL;
        sbx_exit ended = SBX_EXIT_INIT;
        long long theirs;
        int64_t before = now_ns();
        must(sbx_exec(sandbox, exec, &process, &error), "sbx_exec");
        int64_t started = now_ns();
        must(sbx_process_wait(process, 10000, &ended, &error), "sbx_process_wait");
        int64_t over = now_ns();
        sbx_process_free(process);
        if (ended.code != 0) {
            fprintf(stderr, "%s ended with %d\n", argv[4], ended.code);
            exit(1);
        }
        fprintf(to_raw, "%s\n", argv[4]);
        fflush(to_raw);
        if (fscanf(from_raw, "%lld", &theirs) != 1)
            die("the peer gave no figure");
        if (run > 0)
            printf("started ours %lld\nexec ours %lld\nexec theirs %lld\n", (long long)(started - before) / 1000,
                   (long long)(over - before) / 1000, theirs);
    }
    sbx_exec_config_free(exec);
    stop_raw();
    must(sbx_terminate(sandbox, &error), "sbx_terminate");
    must(sbx_wait(sandbox, 10000, NULL, &error), "sbx_wait");
    sbx_sandbox_free(sandbox);
    return 0;
}

/* The keeper is a child of this process; only its name tells. */
static long keeper_of_mine(void)
{
    DIR *tasks = opendir("/proc/self/task");
    long keeper = 0;
    for (struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
        char path[512], name[32];
        snprintf(path, sizeof path, "/proc/self/task/%s/children", task->d_name);
        FILE *children = fopen(path, "re");
        for (long child; children != NULL && fscanf(children, "%ld", &child) == 1;) {
            snprintf(path, sizeof path, "/proc/%ld/comm", child);
            FILE *comm = fopen(path, "re");
            if (comm != NULL && fgets(name, sizeof name, comm) != NULL && strncmp(name, "sbx-keeper", 10) == 0)
                keeper = child;
            if (comm != NULL)
                fclose(comm);
        }
        if (children != NULL)
            fclose(children);
    }
    if (tasks != NULL)
        closedir(tasks);
    if (keeper == 0) {
        fprintf(stderr, "no child named sbx-keeper\n");
        exit(1);
    }
    return keeper;
}

static char *text_of(const char *path)
{
    static const size_t most = 1 << 20;
    char *text = calloc(1, most);
    FILE *file = fopen(path, "re");
    if (file == NULL || text == NULL || fread(text, 1, most - 1, file) == 0)
        die("%s can't be read", path);
    fclose(file);
    return text;
}

static int serve(int argc, char **argv)
{
    if (argc != 3 && argc != 5)
        return -1;
    char arguments[2 * KINDS][32];
    const char *command[1 + 2 * KINDS] = {mounted};
    for (int kind = 0; kind < KINDS; kind++) {
        snprintf(arguments[kind], sizeof arguments[kind], "%s:%u", kinds[kind], plain_base + (unsigned)kind);
        snprintf(arguments[KINDS + kind], sizeof arguments[kind], "%s:%u", kinds[kind],
                 encrypted_base + (unsigned)kind);
        command[1 + kind] = arguments[kind];
        command[1 + KINDS + kind] = arguments[KINDS + kind];
    }
    sbx_config *config = config_of(command, argc == 5 ? 1 + 2 * KINDS : 1 + KINDS, "-", argv[2]);
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        sbx_config_add_port(config, plain_base + kind, SBX_PORT_UNENCRYPTED);
        if (argc == 5)
            sbx_config_add_port(config, encrypted_base + kind, SBX_PORT_ENCRYPTED);
    }
    if (argc == 5) {
        char *chain = text_of(argv[3]), *key = text_of(argv[4]);
        sbx_config_set_tls_certificate(config, chain, key);
        free(chain);
        free(key);
    }
    sbx_sandbox *sandbox = NULL;
    sbx_tunnel_map *tunnels = NULL;
    must(sbx_create(NULL, config, &sandbox, &error), "sbx_create");
    sbx_config_free(config);
    int output = sbx_sandbox_open_fd(sandbox, SBX_STDOUT, &error);
    must(output, "sbx_sandbox_open_fd");
    char line[6];
    if (stream_read(output, line, sizeof line) < 0)
        die("the server in the sandbox didn't get ready");
    must(sbx_tunnels(sandbox, 10000, &tunnels, &error), "sbx_tunnels");
    printf("keeper %ld\n", keeper_of_mine());
    sbx_tunnel tunnel = SBX_TUNNEL_INIT;
    for (size_t index = 0; sbx_tunnel_map_tunnel(tunnels, index, &tunnel) == 0; index++)
        printf("tunnel %u %u\n", tunnel.container_port, tunnel.port);
    printf("ready\n");
    fflush(stdout);
    while (read(STDIN_FILENO, line, 1) > 0)
        ;
    sbx_tunnel_map_free(tunnels);
    must(sbx_terminate(sandbox, &error), "sbx_terminate");
    must(sbx_wait(sandbox, 10000, NULL, &error), "sbx_wait");
    close(output);
    sbx_sandbox_free(sandbox);
    return 0;
}

/* Everything from one descriptor to the other; the library's descriptors don't block. */
static bool pump(int from, int to)
{
    char data[4096];
    ssize_t got = read(from, data, sizeof data);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got <= 0)
        return false;
    if (write_all(to, data, (size_t)got) < 0)
        die("write");
    return true;
}

static int outbound(int argc, char **argv)
{
    if (argc != 3)
        return -1;
    const char *const command[] = {"/load", "--lines"};
    sbx_config *config = config_of(command, 2, argv[2], NULL);
    sbx_config_set_stream(config, SBX_STDIN, SBX_STREAM_DESCRIPTOR);
    sbx_config_set_stream(config, SBX_STDERR, SBX_STREAM_MERGED);
    sbx_sandbox *sandbox = NULL;
    must(sbx_create(NULL, config, &sandbox, &error), "sbx_create");
    sbx_config_free(config);
    int input = sbx_sandbox_open_fd(sandbox, SBX_STDIN, &error);
    must(input, "sbx_sandbox_open_fd");
    int output = sbx_sandbox_open_fd(sandbox, SBX_STDOUT, &error);
    must(output, "sbx_sandbox_open_fd");
    struct pollfd ends[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = output, .events = POLLIN}};
    while (poll(ends, 2, -1) > 0 || errno == EINTR) {
        if (ends[0].revents != 0 && !pump(STDIN_FILENO, input))
            break;
        if (ends[1].revents != 0 && !pump(output, STDOUT_FILENO))
            break;
    }
    must(sbx_terminate(sandbox, &error), "sbx_terminate");
    must(sbx_wait(sandbox, 10000, NULL, &error), "sbx_wait");
    close(input);
    close(output);
    sbx_sandbox_free(sandbox);
    return 0;
}

/* Every other /24 from 11.0.0.0 on, or from 11.0.1.0 on: none merges with its neighbour. */
static sbx_policy *policy_of(long count, long first)
{
    sbx_policy *policy = NULL;
    must(sbx_policy_new(SBX_POLICY_ALLOWLIST, &policy, &error), "sbx_policy_new");
    for (long index = 0; index < count; index++) {
        char range[32];
        long base = 11L * 65536 + first + 2 * index;
        snprintf(range, sizeof range, "%ld.%ld.%ld.0/24", base >> 16, base >> 8 & 255, base & 255);
        must(sbx_policy_allow_cidr(policy, range), range);
    }
    return policy;
}

static int policies(int argc, char **argv)
{
    if (argc < 5)
        return -1;
    const char *const command[] = {"/load", "--lines"};
    sbx_config *config = config_of(command, 2, argv[2], NULL);
    sbx_config_set_stream(config, SBX_STDIN, SBX_STREAM_DESCRIPTOR);
    for (long run = number(argv[3], 1, 1000); run > 0; run--)
        for (int at = 4; at < argc; at++) {
            long count = number(argv[at], 0, 130000);
            sbx_policy *policy = policy_of(count, 0), *other = policy_of(count, 1);
            must(sbx_config_set_policy(config, policy), "sbx_config_set_policy");
            sbx_sandbox *sandbox = NULL;
            int64_t before = now_ns();
            must(sbx_create(NULL, config, &sandbox, &error), "sbx_create");
            printf("create %ld %lld\n", count, (long long)(now_ns() - before) / 1000);
            before = now_ns();
            must(sbx_set_policy(sandbox, other, NULL, &error), "sbx_set_policy");
            printf("change %ld %lld\n", count, (long long)(now_ns() - before) / 1000);
            fflush(stdout);
            sbx_policy_free(policy);
            sbx_policy_free(other);
            sbx_sandbox_free(sandbox);
        }
    sbx_config_free(config);
    return 0;
}

int main(int argc, char **argv)
{
    int result = -1;
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "lifecycle") == 0)
        result = lifecycle(argc, argv);
    else if (argc > 1 && strcmp(argv[1], "first") == 0)
        result = first(argc, argv);
    else if (argc > 1 && strcmp(argv[1], "times") == 0)
        result = times(argc, argv);
    else if (argc > 1 && strcmp(argv[1], "exec") == 0)
        result = exec_in_turns(argc, argv);
    else if (argc > 1 && strcmp(argv[1], "serve") == 0)
        result = serve(argc, argv);
    else if (argc > 1 && strcmp(argv[1], "outbound") == 0)
        result = outbound(argc, argv);
    else if (argc > 1 && strcmp(argv[1], "policies") == 0)
        result = policies(argc, argv);
    if (result < 0) {
        fprintf(stderr, "usage: host lifecycle RUNS ROOTFS|- SERVER PEER RAW... [, PEER RAW...]... | host serve SERVER [CHAIN KEY]\n"
                        "       host first TURN ROOTFS|- SERVER PEER RAW...\n"
                        "       host times RUNS ROOTFS|-|@DIRECTORY SERVER\n"
                        "       host exec RUNS ROOTFS PROGRAM RAW... | host outbound ROOTFS | host policies ROOTFS RUNS COUNT...\n");
        return 2;
    }
    return result;
}
