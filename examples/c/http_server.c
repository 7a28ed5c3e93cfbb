/*
 * A web server in a gVisor sandbox, reached over TLS.
 *
 *   cc -std=c99 -Iinclude examples/c/http_server.c -Ltarget/release -lsbx -Wl,-rpath,"$PWD/target/release" -o http_server
 *   ./http_server ca.pem
 *
 * It starts the server, fetches a page from it, and serves until its standard input ends (Ctrl-D). The
 * certificate authority that the library made goes to ca.pem: whoever has it can check the server's certificate.
 */

#define _POSIX_C_SOURCE 200809L

#include <sbx.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const sbx_error *error) {
    fprintf(stderr, "error %d: %s\n", error->code, error->message);
    exit(1);
}

static int save(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return -1;
    int written = fputs(text, file);
    return fclose(file) == 0 && written >= 0 ? 0 : -1;
}

/* Runs curl, which trusts that authority and no other. */
static int fetch(const char *url, const char *ca_file) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execlp("curl", "curl", "--silent", "--show-error", "--fail", "--max-time", "30", "--cacert", ca_file,
               url, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

int main(int argc, char **argv) {
    const char *ca_file = argc > 1 ? argv[1] : "ca.pem";
    const char *command[] = {"python3", "-m", "http.server", "12345"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_config *config = NULL;
    if (sbx_config_new(&config, &error) < 0)
        fail(&error);
    sbx_config_set_command(config, command, 4);
    sbx_config_add_port(config, 12345, SBX_PORT_ENCRYPTED);
    sbx_config_set_tcp_probe(config, 12345, 100);

    sbx_sandbox *sandbox = NULL;
    if (sbx_create(NULL, config, &sandbox, &error) < 0)
        fail(&error);
    sbx_config_free(config);
    printf("created %s\n", sbx_sandbox_id(sandbox));

    sbx_tunnel_map *tunnels = NULL;
    if (sbx_tunnels(sandbox, 50000, &tunnels, &error) < 0)
        fail(&error);
    const char *url = sbx_tunnel_map_url(tunnels, 12345); /* https://127.0.0.1:41873 */
    printf("%s\n", url);
    if (sbx_wait_ready(sandbox, 50000, &error) < 0)
        fail(&error);

    int failed = save(ca_file, sbx_tunnel_map_ca_pem(tunnels, 12345)) < 0 || fetch(url, ca_file) < 0;
    if (failed)
        fprintf(stderr, "error: %s could not be fetched with the authority in %s\n", url, ca_file);
    else {
        printf("serving until standard input ends: curl --cacert %s %s\n", ca_file, url);
        fflush(stdout);
        while (getchar() != EOF)
            continue;
    }

    sbx_exit end = SBX_EXIT_INIT;
    if (sbx_terminate(sandbox, &error) < 0 || sbx_wait(sandbox, 30000, &end, &error) < 0)
        fail(&error);
    printf("ended with %d\n", end.code); /* 137: terminated by its host */
    sbx_tunnel_map_free(tunnels);
    sbx_sandbox_free(sandbox);
    return failed;
}
