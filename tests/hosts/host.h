/* What the host programs share. */
#ifndef HOST_H
#define HOST_H
#define _GNU_SOURCE 1
#include "check.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PATIENCE
#define PATIENCE 30000
#endif

/* Success, or the library's own text. */
#define OK(call)                                                                               \
    do {                                                                                       \
        sbx_error error = SBX_ERROR_INIT;                                                      \
        int got_ = (call);                                                                     \
        if (got_ < 0) {                                                                        \
            printf("%s:%d: %s: %d %s\n", __FILE__, __LINE__, #call, got_, error.message);      \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

/* A config of `sh -c SCRIPT`. */
__attribute__((unused)) static sbx_config *script(const char *text) {
    const char *argv[] = {"sh", "-c", text};
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    CHECK(config != NULL);
    CHECK(sbx_config_set_command(config, argv, 3) == 0);
    return config;
}

/* The port on the host that leads to a port inside. */
__attribute__((unused)) static int port_of(const sbx_tunnel_map *tunnels, uint32_t inside) {
    sbx_tunnel tunnel = SBX_TUNNEL_INIT;
    for (size_t index = 0; sbx_tunnel_map_tunnel(tunnels, index, &tunnel) == 0; index++)
        if (tunnel.container_port == inside)
            return (int)tunnel.port;
    return -1;
}

/* A sandbox of it, started. */
__attribute__((unused)) static sbx_sandbox *started(const char *text) {
    sbx_config *config = script(text);
    sbx_sandbox *sandbox = NULL;
    OK(sbx_create(NULL, config, &sandbox, &error));
    sbx_config_free(config);
    return sandbox;
}

/* How it ended. */
__attribute__((unused)) static sbx_exit ended(sbx_sandbox *sandbox) {
    sbx_exit result = SBX_EXIT_INIT;
    OK(sbx_wait(sandbox, PATIENCE, &result, &error));
    return result;
}

/* Runs a script to its end: its code. */
__attribute__((unused)) static int code_of(const char *text) {
    sbx_sandbox *sandbox = started(text);
    sbx_exit result = ended(sandbox);
    CHECK(result.reason == SBX_EXIT_EXITED);
    sbx_sandbox_free(sandbox);
    return result.code;
}

/* A connection to 127.0.0.1. */
__attribute__((unused)) static int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

__attribute__((unused)) static void nap(long microseconds) {
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR)
        ;
}
#endif
