/*
 * Files in a gVisor sandbox: a program goes in, runs, and what it has made comes out.
 *
 *   cc -std=c99 -Iinclude examples/c/files.c -Ltarget/release -lsbx -Wl,-rpath,"$PWD/target/release" -o files
 *   ./files results.tar
 *
 * Everything the program left in its directory is in results.tar afterwards. What is in there is the sandbox's
 * word: look at it with "tar -t", and unpack it as you would unpack a stranger's archive.
 */

#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <poll.h>
#include <sbx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char program[] = "import math\n"
                              "for n in (3, 5, 8):\n"
                              "    with open(f'/srv/out/{n}.txt', 'w') as file:\n"
                              "        print(f'{n}! = {math.factorial(n)}', file=file)\n";

static void fail(const sbx_error *error) {
    fprintf(stderr, "error %d: %s\n", error->code, error->message);
    exit(1);
}

/* Runs the program that was put in, and waits for it. */
static void run(sbx_sandbox *sandbox) {
    const char *command[] = {"python3", "/srv/program.py"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_exec_config *config = NULL;
    if (sbx_exec_config_new(&config, &error) < 0)
        fail(&error);
    sbx_exec_config_set_command(config, command, 2);

    sbx_process *process = NULL;
    sbx_exit end = SBX_EXIT_INIT;
    if (sbx_exec(sandbox, config, &process, &error) < 0 || sbx_process_wait(process, 30000, &end, &error) < 0)
        fail(&error);
    printf("the program ended with %d\n", end.code);
    sbx_process_free(process);
    sbx_exec_config_free(config);
}

/* Waits for what was begun; its result can be read until it is freed. */
static void finish(int begun, sbx_operation *const *operation, sbx_error *error) {
    if (begun < 0 || sbx_operation_wait(*operation, -1, error) < 0)
        fail(error);
}

/* Prints a directory and the files in it. Names are bytes: a real program escapes them first. */
static void show(sbx_sandbox *sandbox, const char *directory) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *list = NULL;
    finish(sbx_file_list_begin(sandbox, directory, NULL, NULL, 0, &list, &error), &list, &error);
    for (int index = 0; index < sbx_operation_count(list); index++) {
        sbx_file_entry entry = SBX_FILE_ENTRY_INIT;
        char path[4096];
        sbx_operation *read = NULL;
        size_t length = 0;
        if (sbx_operation_entry(list, (size_t)index, &entry, &error) < 0)
            fail(&error);
        snprintf(path, sizeof path, "%s/%s", directory, entry.name);
        finish(sbx_file_read_begin(sandbox, path, NULL, NULL, 0, &read, &error), &read, &error);
        const uint8_t *bytes = sbx_operation_bytes(read, &length);
        printf("%s, %" PRIu64 " bytes: %.*s", path, entry.bytes, (int)length, (const char *)bytes);
        sbx_operation_free(read);
    }
    sbx_operation_free(list);
}

/* Copies the sandbox's archive to a file of ours, and waits until all of it was packed. */
static void copy_out(sbx_sandbox *sandbox, const char *path, const char *archive) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *packing = NULL;
    FILE *file = fopen(archive, "wb");
    if (file == NULL) {
        perror(archive);
        exit(1);
    }
    if (sbx_file_copy_out_begin(sandbox, path, NULL, NULL, 0, &packing, &error) < 0)
        fail(&error);
    int stream = sbx_operation_open_fd(packing, &error);
    if (stream < 0)
        fail(&error);
    for (;;) {
        static char piece[65536];
        struct pollfd ready = {.fd = stream, .events = POLLIN};
        /* The other end is the sandbox's, which may keep it open: the operation's end counts. */
        if (poll(&ready, 1, 1000) == 0 && sbx_operation_count(packing) != SBX_ESTATE)
            break;
        ssize_t length = read(stream, piece, sizeof piece);
        if (length == 0)
            break;
        if (length > 0 && fwrite(piece, 1, (size_t)length, file) != (size_t)length) {
            perror(archive);
            exit(1);
        }
    }
    close(stream);
    finish(0, &packing, &error);
    sbx_operation_free(packing);
    if (fclose(file) != 0) {
        perror(archive);
        exit(1);
    }
}

int main(int argc, char **argv) {
    const char *archive = argc > 1 ? argv[1] : "/dev/null";
    sbx_error error = SBX_ERROR_INIT;
    sbx_sandbox *sandbox = NULL;
    sbx_config *config = NULL; /* without a command: it waits for what is done in it */
    if (sbx_config_new(&config, &error) < 0)
        fail(&error);
    if (sbx_create(NULL, config, &sandbox, &error) < 0)
        fail(&error);
    sbx_config_free(config);

    sbx_file_options parents = SBX_FILE_OPTIONS_INIT;
    parents.flags = SBX_FILE_PARENTS;
    sbx_operation *written = NULL, *made = NULL;
    finish(sbx_file_write_begin(sandbox, "/srv/program.py", (const uint8_t *)program, strlen(program), &parents, NULL, 0,
                                &written, &error),
           &written, &error);
    finish(sbx_file_make_directory_begin(sandbox, "/srv/out", NULL, NULL, 0, &made, &error), &made, &error);
    sbx_operation_free(written);
    sbx_operation_free(made);
    run(sandbox);
    show(sandbox, "/srv/out");

    copy_out(sandbox, "/srv", archive);
    printf("copied to %s\n", archive);

    /* What goes wrong inside is told with the number it has there. */
    sbx_operation *nothing = NULL;
    if (sbx_file_read_begin(sandbox, "/srv/nothing", NULL, NULL, 0, &nothing, &error) < 0)
        fail(&error);
    if (sbx_operation_wait(nothing, -1, &error) >= 0 || error.code != SBX_ENOTFOUND)
        return 1;
    sbx_operation_free(nothing);
    printf("as it should be: %s\n", error.message);
    sbx_sandbox_free(sandbox);
    return 0;
}
