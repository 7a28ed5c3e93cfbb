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

#include <fcntl.h>
#include <inttypes.h>
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

/* Prints a directory and the files in it. Names are bytes: a real program escapes them first. */
static void show(sbx_sandbox *sandbox, const char *directory) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_file_operation *list = NULL;
    if (sbx_file_list(sandbox, directory, NULL, &list, &error) < 0)
        fail(&error);
    for (int index = 0; index < sbx_file_operation_count(list); index++) {
        sbx_file_info info = SBX_FILE_INFO_INIT;
        char path[4096];
        sbx_file_operation *read = NULL;
        size_t length = 0;
        if (sbx_file_operation_info(list, (size_t)index, &info, &error) < 0)
            fail(&error);
        snprintf(path, sizeof path, "%s/%s", directory, sbx_file_operation_name(list, (size_t)index));
        if (sbx_file_read(sandbox, path, NULL, &read, &error) < 0)
            fail(&error);
        const uint8_t *bytes = sbx_file_operation_bytes(read, &length);
        printf("%s, %" PRIu64 " bytes: %.*s", path, info.bytes, (int)length, (const char *)bytes);
        sbx_file_operation_free(read);
    }
    sbx_file_operation_free(list);
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
    if (sbx_file_write(sandbox, "/srv/program.py", (const uint8_t *)program, strlen(program), &parents, &error) < 0 ||
        sbx_file_make_directory(sandbox, "/srv/out", NULL, &error) < 0)
        fail(&error);
    run(sandbox);
    show(sandbox, "/srv/out");

    int fd = open(archive, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        perror(archive);
        return 1;
    }
    if (sbx_file_copy_out(sandbox, "/srv", fd, NULL, &error) < 0)
        fail(&error);
    close(fd);
    printf("copied to %s\n", archive);

    /* What goes wrong inside is told with the number it has there. */
    sbx_file_operation *read = NULL;
    if (sbx_file_read(sandbox, "/srv/nothing", NULL, &read, &error) >= 0 || error.code != SBX_ENOTFOUND)
        return 1;
    printf("as it should be: %s\n", error.message);
    sbx_sandbox_free(sandbox);
    return 0;
}
