/* SIGPIPE kills the host where it is not ignored: no write of the library's may raise it. */
#include "probe.h"

/* A client of an encrypted tunnel that is killed while it receives. */
static void encrypted_client(int port) {
    int pipes[2];
    char url[64], buffer[65536];
    snprintf(url, sizeof url, "127.0.0.1:%d", port);
    CHECK(pipe2(pipes, O_CLOEXEC) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 2);
        dup2(pipes[1], 1);
        /* Its standard input stays open, so it doesn't end by itself. */
        int idle[2];
        if (pipe(idle) == 0)
            dup2(idle[0], 0);
        execlp("openssl", "openssl", "s_client", "-quiet", "-connect", url, (char *)NULL);
        _exit(1);
    }
    close(pipes[1]);
    size_t total = 0;
    while (total < 1 << 20) {
        ssize_t got = read(pipes[0], buffer, sizeof buffer);
        CHECK(got > 0);
        total += (size_t)got;
    }
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    close(pipes[0]);
}

int main(void) {
    struct sigaction action;
    int plain, encrypted;
    char buffer[65536];
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    sbx_sandbox *sandbox = server(&plain, &encrypted);
    for (int i = 0; i < 20; i++) {
        int fd = dial(plain);
        CHECK(fd >= 0 && read(fd, buffer, sizeof buffer) > 0);
        if (i % 2 == 0) { /* a reset instead of an end */
            struct linger now = {1, 0};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        }
        close(fd);
        fd = sbx_connect(sandbox, 8000, NULL);
        CHECK(fd >= 0);
        struct pollfd ready = {fd, POLLIN, 0};
        CHECK(poll(&ready, 1, PATIENCE) == 1 && read(fd, buffer, sizeof buffer) > 0);
        close(fd);
    }
    /* The server of the encrypted port is the other's: reached by its own tunnel. */
    (void)encrypted;
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    ended(sandbox);
    sbx_sandbox_free(sandbox);

    const char *argv[] = {"python3", "-c",
                          "import socket\n"
                          "s = socket.create_server(('0.0.0.0', 8001), backlog=64)\n"
                          "while True:\n"
                          "    c = s.accept()[0]\n"
                          "    try:\n"
                          "        while c.send(b'x' * 65536): pass\n"
                          "    except OSError: pass\n"};
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    sbx_config_set_command(config, argv, 3);
    sbx_config_add_port(config, 8001, SBX_PORT_ENCRYPTED);
    sbx_config_set_tcp_probe(config, 8001, 20);
    sbx_config_set_stream(config, SBX_STDIN, SBX_STREAM_DESCRIPTOR);
    sbx_tunnel_map *tunnels = NULL;
    OK(sbx_create(NULL, config, &sandbox, &error));
    OK(sbx_wait_ready(sandbox, PATIENCE, &error));
    OK(sbx_tunnels(sandbox, PATIENCE, &tunnels, &error));
    for (int i = 0; i < 5; i++)
        encrypted_client(port_of(tunnels, 8001));
    sbx_tunnel_map_free(tunnels);

    /* The reader of standard input is gone with the sandbox. */
    int input = sbx_sandbox_open_fd(sandbox, SBX_STDIN, NULL);
    CHECK(input >= 0);
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    ended(sandbox);
    ssize_t sent = 0;
    for (int i = 0; i < 5000 && sent >= 0; i++) {
        sent = send(input, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        nap(1000);
    }
    CHECK(sent == -1 && errno == EPIPE);
    close(input);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);

    /* The reader of the log is gone. */
    int log[2];
    CHECK(pipe(log) == 0);
    OK(sbx_log_set_fd(log[1], 5));
    close(log[0]);
    close(log[1]);
    CHECK(code_of("exit 4") == 4);
    return 0;
}
