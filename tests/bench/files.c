/*
 * The library's file operations against cat in the same sandbox, over its C API.
 *
 *   files RUNS MEGABYTES     RUNS times: a file of that size in and out, and a small one, in turns with cat
 *
 * The peer is a program of the sandbox's own that sbx_exec starts: cat, from or to the descriptor that the host gets
 * for its standard input or output. Both sides' bytes come from and go to this program's memory.
 *
 * Prints a line for every figure: NAME SIDE VALUE, in megabytes a second, the small one in microseconds.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "host.h"

static char piece[1 << 20];

static void await(int fd, short events)
{
    struct pollfd ready = {.fd = fd, .events = events};
    if (poll(&ready, 1, 60000) <= 0 && errno != EINTR)
        die("a stream of the sandbox doesn't move");
}

/* Writes that many bytes into a stream, and ends it. */
static void give(int fd, long bytes)
{
    for (long left = bytes; left > 0;) {
        size_t most = left < (long)sizeof piece ? (size_t)left : sizeof piece;
        ssize_t sent = send(fd, piece, most, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            await(fd, POLLOUT);
        else if (sent < 0)
            die("the sandbox takes no more");
        else
            left -= sent;
    }
    close(fd);
}

/* Reads a stream to its end, which must come after that many bytes. */
static void take(int fd, long bytes)
{
    long got = 0;
    for (;;) {
        ssize_t count = read(fd, piece, sizeof piece);
        if (count < 0 && errno == EAGAIN)
            await(fd, POLLIN);
        else if (count <= 0)
            break;
        else
            got += count;
    }
    if (got != bytes)
        die("%ld bytes came of %ld", got, bytes);
    close(fd);
}

/* Waits for what was begun. */
static void finish(int begun, sbx_operation **operation, const char *what)
{
    must(begun, what);
    must(sbx_operation_wait(*operation, 60000, &error), what);
    sbx_operation_free(*operation);
}

static void remove_file(sbx_sandbox *sandbox, const char *path)
{
    sbx_operation *operation = NULL;
    finish(sbx_file_remove_begin(sandbox, path, NULL, NULL, 0, &operation, &error), &operation, "removing a file");
}

static void ours_in(sbx_sandbox *sandbox, long bytes)
{
    sbx_operation *operation = NULL;
    must(sbx_file_upload_begin(sandbox, "/tmp/ours", NULL, NULL, 0, &operation, &error), "sbx_file_upload_begin");
    int fd = sbx_operation_open_fd(operation, &error);
    must(fd, "sbx_operation_open_fd");
    give(fd, bytes);
    must(sbx_operation_wait(operation, 60000, &error), "sbx_operation_wait");
    sbx_operation_free(operation);
}

static void ours_out(sbx_sandbox *sandbox, long bytes)
{
    sbx_operation *operation = NULL;
    must(sbx_file_download_begin(sandbox, "/tmp/ours", NULL, NULL, 0, &operation, &error), "sbx_file_download_begin");
    int fd = sbx_operation_open_fd(operation, &error);
    must(fd, "sbx_operation_open_fd");
    take(fd, bytes);
    must(sbx_operation_wait(operation, 60000, &error), "sbx_operation_wait");
    sbx_operation_free(operation);
}

static void cat(sbx_sandbox *sandbox, int stream, const char *script, long bytes)
{
    const char *const command[] = {"sh", "-c", script};
    sbx_exec_config *config = NULL;
    must(sbx_exec_config_new(&config, &error), "sbx_exec_config_new");
    sbx_exec_config_set_command(config, command, 3);
    sbx_exec_config_set_stream(config, stream, SBX_STREAM_DESCRIPTOR);
    sbx_process *process = NULL;
    sbx_exit end = SBX_EXIT_INIT;
    must(sbx_exec(sandbox, config, &process, &error), "sbx_exec");
    int fd = sbx_process_open_fd(process, stream, &error);
    must(fd, "sbx_process_open_fd");
    if (stream == SBX_STDIN)
        give(fd, bytes);
    else
        take(fd, bytes);
    must(sbx_process_wait(process, 60000, &end, &error), "sbx_process_wait");
    if (end.code != 0)
        die("cat ended with %d", end.code);
    sbx_process_free(process);
    sbx_exec_config_free(config);
}

static void say(const char *name, const char *side, int64_t since, long megabytes)
{
    int64_t took = now_ns() - since;
    if (megabytes > 0)
        printf("%s %s %.1f\n", name, side, (double)megabytes * 1048.576 * 1e6 / (double)took);
    else
        printf("%s %s %lld\n", name, side, (long long)took / 1000);
}

static void one_of_ours(sbx_sandbox *sandbox, long megabytes)
{
    int64_t before = now_ns();
    ours_in(sandbox, megabytes << 20);
    say("files-in", "ours", before, megabytes);
    before = now_ns();
    ours_out(sandbox, megabytes << 20);
    say("files-out", "ours", before, megabytes);
    remove_file(sandbox, "/tmp/ours");
    for (int turn = 0; turn < 20; turn++) {
        sbx_operation *operation = NULL;
        before = now_ns();
        must(sbx_file_read_begin(sandbox, "/tmp/small", NULL, NULL, 0, &operation, &error), "sbx_file_read_begin");
        must(sbx_operation_wait(operation, 60000, &error), "sbx_operation_wait");
        say("files-read-4k", "ours", before, 0);
        sbx_operation_free(operation);
    }
}

static void one_of_theirs(sbx_sandbox *sandbox, long megabytes)
{
    int64_t before = now_ns();
    cat(sandbox, SBX_STDIN, "exec cat >/tmp/theirs", megabytes << 20);
    say("files-in", "cat", before, megabytes);
    before = now_ns();
    cat(sandbox, SBX_STDOUT, "exec cat /tmp/theirs", megabytes << 20);
    say("files-out", "cat", before, megabytes);
    remove_file(sandbox, "/tmp/theirs");
    for (int turn = 0; turn < 20; turn++) {
        before = now_ns();
        cat(sandbox, SBX_STDOUT, "exec cat /tmp/small", 4096);
        say("files-read-4k", "cat", before, 0);
    }
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc != 3) {
        fprintf(stderr, "usage: files RUNS MEGABYTES\n");
        return 2;
    }
    long runs = number(argv[1], 1, 1000), megabytes = number(argv[2], 1, 1 << 20);
    sbx_config *config = NULL;
    must(sbx_config_new(&config, &error), "sbx_config_new");
    sbx_config_set_timeout_ms(config, 3600 * 1000);
    sbx_sandbox *sandbox = NULL;
    must(sbx_create(NULL, config, &sandbox, &error), "sbx_create");
    sbx_config_free(config);
    memset(piece, 'x', sizeof piece);
    sbx_operation *small = NULL;
    finish(sbx_file_write_begin(sandbox, "/tmp/small", (const uint8_t *)piece, 4096, NULL, NULL, 0, &small, &error),
           &small, "writing a file");
    /* Every other run goes the other way about: no side always comes after the same one. */
    for (long run = 0; run < 2 * runs; run++) {
        if ((run & 3) == 0 || (run & 3) == 3)
            one_of_ours(sandbox, megabytes);
        else
            one_of_theirs(sandbox, megabytes);
    }
    must(sbx_terminate(sandbox, &error), "sbx_terminate");
    must(sbx_wait(sandbox, 10000, NULL, &error), "sbx_wait");
    sbx_sandbox_free(sandbox);
    return 0;
}
