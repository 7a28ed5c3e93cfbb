/*
 * The library's side of the figures of images, over its C API. All of them use the store in XDG_CACHE_HOME.
 *
 *   image pull REFERENCE             pulls it, and prints the microseconds that took
 *   image lifecycle RUNS ROOTFS PATH RAW...
 *                                    RUNS times: a sandbox on the image that PATH has, whose program /server writes one
 *                                    byte, then one on the directory ROOTFS, then one run of RAW... (client/raw.c):
 *                                    "image", "directory" or "raw", and MICROSECONDS from before to the byte; then as often
 *                                    one on the image with a spare, "spare", and RAW..., "beside-spare"
 *   image hold COUNT image|directory PATH
 *                                    COUNT sandboxes at once, until standard input ends; prints "ready"
 *   image snapshot RUNS PATH MIB...  RUNS times, for each MIB: a sandbox on the image that PATH has writes so much, and
 *                                    is stored: "pause" or "snapshot", MIB and MICROSECONDS
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>

#include "host.h"
#include "peer.h"

static void read_byte(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char byte;
    if (poll(&ready, 1, 60000) != 1 || read(fd, &byte, 1) != 1)
        die("the program in the sandbox wrote nothing");
}

static sbx_image *image_of(const char *path)
{
    sbx_operation *operation = NULL;
    sbx_image *image = NULL;
    must(sbx_image_import_begin(NULL, path, -1, NULL, NULL, 0, &operation, &error), "sbx_image_import_begin");
    must(sbx_operation_wait(operation, -1, &error), path);
    must(sbx_operation_image(operation, &image, &error), path);
    sbx_operation_free(operation);
    return image;
}

/* A sandbox whose program is /server with that argument. */
static sbx_config *config_of(const sbx_image *image, const char *rootfs, const char *argument)
{
    const char *const command[] = {"/server", argument};
    sbx_config *config = NULL;
    must(sbx_config_new(&config, &error), "sbx_config_new");
    sbx_config_set_command(config, command, 2);
    sbx_config_set_timeout_ms(config, 3600 * 1000);
    sbx_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR);
    if (image != NULL)
        must(sbx_config_set_image(config, image), "sbx_config_set_image");
    else
        must(sbx_config_set_rootfs(config, rootfs), "sbx_config_set_rootfs");
    must(sbx_config_check(config, &error), "sbx_config_check");
    return config;
}

static sbx_sandbox *started(const sbx_config *config)
{
    sbx_sandbox *sandbox = NULL;
    must(sbx_create(NULL, config, &sandbox, &error), "sbx_create");
    int output = sbx_sandbox_open_fd(sandbox, SBX_STDOUT, &error);
    must(output, "sbx_sandbox_open_fd");
    read_byte(output);
    close(output);
    return sandbox;
}

static void end(sbx_sandbox *sandbox)
{
    must(sbx_terminate(sandbox, &error), "sbx_terminate");
    must(sbx_wait(sandbox, 10000, NULL, &error), "sbx_wait");
    sbx_sandbox_free(sandbox);
}

static int pull(int argc, char **argv)
{
    if (argc != 3)
        return -1;
    sbx_operation *operation = NULL;
    int64_t before = now_ns();
    must(sbx_image_pull_begin(NULL, argv[2], NULL, NULL, 0, &operation, &error), "sbx_image_pull_begin");
    must(sbx_operation_wait(operation, -1, &error), argv[2]);
    printf("%lld\n", (long long)(now_ns() - before) / 1000);
    sbx_operation_free(operation);
    return 0;
}

static int lifecycle(int argc, char **argv)
{
    if (argc < 6)
        return -1;
    long runs = number(argv[2], 1, 100000);
    start_raw(argv + 5);
    sbx_image *image = image_of(argv[4]);
    sbx_config *configs[] = {config_of(image, NULL, "byte"), config_of(NULL, argv[3], "byte")};
    const char *const names[] = {"image", "directory"};
    sbx_image_free(image);
    /* The first of each is slower: it isn't counted. */
    for (long run = 0; run <= runs; run++) {
        long long first, gone;
        for (int which = 0; which < 2; which++) {
            int64_t before = now_ns();
            sbx_sandbox *sandbox = started(configs[which]);
            long long passed = (now_ns() - before) / 1000;
            end(sandbox);
            if (run > 0)
                printf("%s %lld\n", names[which], passed);
        }
        fputc('\n', to_raw);
        fflush(to_raw);
        if (fscanf(from_raw, "%lld %lld", &first, &gone) != 2)
            die("plain runsc gave no figures");
        if (run > 0)
            printf("raw %lld\n", first);
    }
    /* On the image with a spare: the first two are created without. */
    must(sbx_runtime_set_spares(NULL, 1, &error), "sbx_runtime_set_spares");
    for (long run = -1; run <= runs; run++) {
        long long first, gone;
        int64_t before = now_ns();
        sbx_sandbox *sandbox = started(configs[0]);
        long long passed = (now_ns() - before) / 1000;
        end(sandbox);
        fputc('\n', to_raw);
        fflush(to_raw);
        if (fscanf(from_raw, "%lld %lld", &first, &gone) != 2)
            die("plain runsc gave no figures");
        if (run > 0)
            printf("spare %lld\nbeside-spare %lld\n", passed, first);
    }
    sbx_config_free(configs[0]);
    sbx_config_free(configs[1]);
    stop_raw();
    return 0;
}

static int hold(int argc, char **argv)
{
    enum { MOST = 100 };
    sbx_sandbox *sandboxes[MOST];
    if (argc != 5)
        return -1;
    long count = number(argv[2], 1, MOST);
    bool of_image = strcmp(argv[3], "image") == 0;
    sbx_image *image = of_image ? image_of(argv[4]) : NULL;
    sbx_config *config = config_of(image, argv[4], "byte");
    for (long at = 0; at < count; at++)
        sandboxes[at] = started(config);
    sbx_image_free(image);
    sbx_config_free(config);
    printf("ready\n");
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    for (long at = 0; at < count; at++)
        end(sandboxes[at]);
    return 0;
}

static void one_snapshot(const sbx_config *config, long mib)
{
    sbx_sandbox *sandbox = started(config);
    sbx_exec_config *exec = NULL;
    sbx_process *process = NULL;
    sbx_exit ended = SBX_EXIT_INIT;
    char size[32];
    snprintf(size, sizeof size, "fill:%ld", mib);
    const char *const command[] = {"/server", size};
    must(sbx_exec_config_new(&exec, &error), "sbx_exec_config_new");
    sbx_exec_config_set_command(exec, command, 2);
    must(sbx_exec(sandbox, exec, &process, &error), "sbx_exec");
    sbx_exec_config_free(exec);
    must(sbx_process_wait(process, 120000, &ended, &error), "sbx_process_wait");
    sbx_process_free(process);
    if (ended.code != 0)
        die("/server %s ended with %d", size, ended.code);

    sbx_queue *queue = NULL;
    sbx_operation *operation = NULL;
    sbx_event event = SBX_EVENT_INIT;
    must(sbx_queue_new(64, &queue, &error), "sbx_queue_new");
    int64_t before = now_ns();
    must(sbx_sandbox_snapshot_begin(sandbox, NULL, queue, 1, &operation, &error), "sbx_sandbox_snapshot_begin");
    must(sbx_operation_wait(operation, -1, &error), "the snapshot");
    long long passed = (now_ns() - before) / 1000;
    do
        must(sbx_queue_next(queue, &event, &error) == 1 ? 0 : -1, "sbx_queue_next");
    while (event.kind != SBX_EVENT_OPERATION_DONE);
    printf("snapshot %ld %lld\npause %ld %llu\n", mib, passed, mib, (unsigned long long)event.value[1]);
    sbx_operation_free(operation);
    sbx_queue_free(queue);
    end(sandbox);
}

static int snapshot(int argc, char **argv)
{
    if (argc < 5)
        return -1;
    long runs = number(argv[2], 1, 1000);
    sbx_image *image = image_of(argv[3]);
    sbx_config *config = config_of(image, NULL, "byte");
    sbx_image_free(image);
    for (long run = 0; run < runs; run++)
        for (int at = 4; at < argc; at++)
            one_snapshot(config, number(argv[at], 1, 4096));
    sbx_config_free(config);
    return 0;
}

int main(int argc, char **argv)
{
    int result = -1;
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "pull") == 0)
        result = pull(argc, argv);
    else if (argc > 1 && strcmp(argv[1], "lifecycle") == 0)
        result = lifecycle(argc, argv);
    else if (argc > 1 && strcmp(argv[1], "hold") == 0)
        result = hold(argc, argv);
    else if (argc > 1 && strcmp(argv[1], "snapshot") == 0)
        result = snapshot(argc, argv);
    if (result < 0) {
        fprintf(stderr, "usage: see the top of image.c\n");
        return 2;
    }
    return result;
}
