/*
 * A tunnel without TLS: the bytes of a TCP connection go to the sandbox and back as they are.
 *
 *   cc -std=c99 -Iinclude examples/c/plain_tunnel.c -Ltarget/release -lsbx -Wl,-rpath,"$PWD/target/release" -o plain_tunnel
 *   ./plain_tunnel
 */

#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <sbx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const sbx_error *error) {
    fprintf(stderr, "error %d: %s\n", error->code, error->message);
    exit(1);
}

/* A TCP connection to there, or -1. A plain tunnel has a host and a port, and no url. */
static int reach(const char *host, uint32_t port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        return -1;
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connection >= 0 && connect(connection, (struct sockaddr *)&address, sizeof address) < 0) {
        close(connection);
        return -1;
    }
    return connection;
}

/* Sends a request and prints the answer. Returns how many bytes came, or -1. */
static long ask(int connection, const char *request) {
    char buffer[4096];
    long total = 0;
    ssize_t got;
    if (send(connection, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request))
        return -1;
    while ((got = read(connection, buffer, sizeof buffer)) > 0) {
        fwrite(buffer, 1, (size_t)got, stdout);
        total += got;
    }
    return got < 0 ? -1 : total;
}

int main(void) {
    const char *command[] = {"python3", "-m", "http.server", "12345"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_config *config = NULL;
    if (sbx_config_new(&config, &error) < 0)
        fail(&error);
    sbx_config_set_command(config, command, 4);
    sbx_config_add_port(config, 12345, SBX_PORT_UNENCRYPTED);
    sbx_config_set_tcp_probe(config, 12345, 100);

    sbx_sandbox *sandbox = NULL;
    if (sbx_create(NULL, config, &sandbox, &error) < 0)
        fail(&error);
    sbx_config_free(config);

    sbx_tunnel_map *tunnels = NULL;
    if (sbx_tunnels(sandbox, 50000, &tunnels, &error) < 0 || sbx_wait_ready(sandbox, 50000, &error) < 0)
        fail(&error);
    sbx_tunnel tunnel = SBX_TUNNEL_INIT;
    if (sbx_tunnel_map_tunnel(tunnels, 0, &tunnel) < 0)
        return 1;
    printf("%s %u\n", tunnel.host, tunnel.port);

    int connection = reach(tunnel.host, tunnel.port);
    int failed = connection < 0 || ask(connection, "GET / HTTP/1.0\r\n\r\n") <= 0;
    if (failed)
        perror("error: no answer through the tunnel");
    if (connection >= 0)
        close(connection);

    sbx_tunnel_map_free(tunnels);
    sbx_sandbox_free(sandbox); /* ends it, too */
    return failed;
}
