/* What a place has to allow: place [DIRECTORY]. Programs, files, a tunnel, and the denial of what the policy forbids, in a sandbox
 * that shows the busybox of the place; with a directory also in one on an image made of it, which is snapshotted. Says
 * "works" at the end. */
#include "check.h"
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static sbx_error error = SBX_ERROR_INIT;

#define DO(call)                                                                        \
    do {                                                                                \
        if ((call) < 0) {                                                               \
            printf("%s:%d: error %d: %s\n", __FILE__, __LINE__, error.code, error.message); \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

static void finish(sbx_operation *operation) {
    DO(sbx_operation_wait(operation, -1, &error));
    sbx_operation_free(operation);
}

/* Runs a shell's line and compares what it prints. */
static void shell(sbx_sandbox *sandbox, const char *line, const char *expected) {
    const char *argv[] = {"sh", "-c", line};
    sbx_exec_config *config = NULL;
    sbx_process *process = NULL;
    sbx_capture *capture = NULL;
    sbx_output output = SBX_OUTPUT_INIT;
    DO(sbx_exec_config_new(&config, &error));
    DO(sbx_exec_config_set_command(config, argv, 3));
    DO(sbx_exec_config_capture_stream(config, SBX_STDOUT, 4096, 0));
    DO(sbx_exec(sandbox, config, &process, &error));
    DO(sbx_process_wait(process, 120000, NULL, &error));
    DO(sbx_process_capture(process, SBX_STDOUT, &capture, &error));
    DO(sbx_capture_output(capture, &output));
    if (output.head_length != strlen(expected) || memcmp(output.head, expected, output.head_length) != 0) {
        printf("%s: printed \"%.*s\"\n", line, (int)output.head_length, (const char *)output.head);
        exit(1);
    }
    sbx_capture_free(capture);
    sbx_process_free(process);
    sbx_exec_config_free(config);
}

static void through(const sbx_tunnel *tunnel) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)tunnel->port)};
    const char *request = "GET / HTTP/1.0\r\n\r\n";
    char answer[5];
    CHECK(inet_pton(AF_INET, tunnel->host, &address.sin_addr) == 1);
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connection >= 0 && connect(connection, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(send(connection, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request));
    struct pollfd ready = {.fd = connection, .events = POLLIN};
    CHECK(poll(&ready, 1, 60000) == 1 && read(connection, answer, 5) == 5 && memcmp(answer, "HTTP/", 5) == 0);
    close(connection);
}

/* All of it in one sandbox, which is snapshotted if it is on an image. */
static void use(const sbx_image *image) {
    const char *command[] = {"busybox", "httpd", "-f", "-p", "8080"};
    const char *text = "of the host's\n";
    sbx_config *config = NULL;
    sbx_sandbox *sandbox = NULL;
    sbx_operation *written = NULL, *stored = NULL;
    sbx_tunnel_map *tunnels = NULL;
    sbx_tunnel tunnel = SBX_TUNNEL_INIT;
    DO(sbx_config_new(&config, &error));
    if (image != NULL)
        DO(sbx_config_set_image(config, image));
    DO(sbx_config_set_command(config, command, 5));
    DO(sbx_config_add_port(config, 8080, SBX_PORT_UNENCRYPTED));
    DO(sbx_config_set_tcp_probe(config, 8080, 100));
    DO(sbx_create(NULL, config, &sandbox, &error));
    sbx_config_free(config);
    DO(sbx_tunnels(sandbox, 120000, &tunnels, &error));
    DO(sbx_wait_ready(sandbox, 120000, &error));
    DO(sbx_tunnel_map_tunnel(tunnels, 0, &tunnel));
    through(&tunnel);
    sbx_tunnel_map_free(tunnels);
    shell(sandbox, "echo of the sandbox", "of the sandbox\n");
    DO(sbx_file_write_begin(sandbox, "/file", (const uint8_t *)text, strlen(text), NULL, NULL, 0, &written, &error));
    finish(written);
    shell(sandbox, "cat /file", text);
    /* A metadata service's address: denied at once, not left to a time-out. */
    shell(sandbox, "busybox nc -w 20 169.254.169.254 80 </dev/null 2>&1 | grep -o -i refused", "refused\n");
    if (image != NULL) {
        DO(sbx_sandbox_snapshot_begin(sandbox, NULL, NULL, 0, &stored, &error));
        finish(stored);
    }
    DO(sbx_terminate(sandbox, &error));
    sbx_sandbox_free(sandbox);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    use(NULL);
    if (argc > 1) {
        sbx_operation *import = NULL;
        sbx_image *image = NULL;
        DO(sbx_image_import_begin(NULL, argv[1], -1, NULL, NULL, 0, &import, &error));
        DO(sbx_operation_wait(import, -1, &error));
        DO(sbx_operation_image(import, &image, &error));
        sbx_operation_free(import);
        puts("on an image");
        use(image);
        sbx_image_free(image);
    }
    puts("works");
    return 0;
}
