/*
 * sandbox MODE COMMAND...
 *
 * Runs the command in a sandbox with a network, under the default policy or an allowlist without entries, and
 * passes on its output. At a line that begins with "done" it connects to the command's server on port 8421, prints
 * "inbound" and the answer, then "holding", and keeps the sandbox until its own standard input ends.
 */

#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <sbx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *what, const sbx_error *error) {
    fprintf(stderr, "%s: error %d: %s\n", what, error->code, error->message);
    exit(1);
}

/* The library's descriptors don't block; reads here are to wait. */
static void make_blocking(int descriptor) {
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0 || fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK) < 0) {
        perror("fcntl");
        exit(1);
    }
}

static void show_inbound(sbx_sandbox *sandbox) {
    sbx_error error = SBX_ERROR_INIT;
    char answer[64];
    size_t have = 0;
    ssize_t got;
    int connection = sbx_connect(sandbox, 8421, &error);
    if (connection < 0)
        fail("sbx_connect", &error);
    make_blocking(connection);
    while (have < sizeof answer - 1 && (got = read(connection, answer + have, sizeof answer - 1 - have)) > 0)
        have += (size_t)got;
    close(connection);
    answer[have] = '\0';
    printf("inbound %s", have > 0 ? answer : "nothing\n");
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    sbx_error error = SBX_ERROR_INIT;
    sbx_policy *policy = NULL;
    if (strcmp(argv[1], "allowlist") == 0 && sbx_policy_new(SBX_POLICY_ALLOWLIST, &policy, &error) < 0)
        fail("sbx_policy_new", &error);
    sbx_config *config = NULL;
    if (sbx_config_new(&config, &error) < 0)
        fail("sbx_config_new", &error);
    sbx_config_set_command(config, (const char *const *)(argv + 2), (size_t)argc - 2);
    sbx_config_add_port(config, 8421, SBX_PORT_UNENCRYPTED);
    if (policy != NULL)
        sbx_config_set_policy(config, policy);
    sbx_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR);
    sbx_config_set_stream(config, SBX_STDERR, SBX_STREAM_MERGED);

    sbx_sandbox *sandbox = NULL;
    if (sbx_create(NULL, config, &sandbox, &error) < 0)
        fail("sbx_create", &error);
    int descriptor = sbx_sandbox_open_fd(sandbox, SBX_STDOUT, &error);
    if (descriptor < 0)
        fail("sbx_sandbox_open_fd", &error);

    make_blocking(descriptor);
    FILE *output = fdopen(descriptor, "r");
    if (output == NULL) {
        perror("the program's output");
        return 1;
    }
    char line[4096];
    int done = 0;
    while (!done && fgets(line, sizeof line, output) != NULL) {
        fputs(line, stdout);
        done = strncmp(line, "done ", 5) == 0;
    }
    if (done) {
        show_inbound(sandbox);
        puts("holding");
        fflush(stdout);
        while (getchar() != EOF)
            continue;
    }
    sbx_exit end = SBX_EXIT_INIT;
    if (sbx_terminate(sandbox, &error) < 0 || sbx_wait(sandbox, 30000, &end, &error) < 0)
        fail("sbx_wait", &error);
    fclose(output);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);
    sbx_policy_free(policy);
    return done ? 0 : 1;
}
