/*
 * A host that dies at a moment: dies HOW MICROSECONDS FORK.
 *
 * It creates a sandbox with a server, a plain and an encrypted tunnel, and keeps traffic on the plain one.
 * After MICROSECONDS another thread writes a byte to standard output and ends the process the way HOW says;
 * with FORK 1 a child that holds every descriptor lives on.
 */
#include "host.h"

static const char *how;
static long after;
static bool fork_first;

static void *death(void *unused) {
    (void)unused;
    nap(after);
    if (fork_first && fork() == 0) {
        prctl(PR_SET_NAME, "survivor");
        for (;;)
            pause();
    }
    if (write(1, "x", 1) != 1)
        _exit(3);
    if (strcmp(how, "kill") == 0)
        kill(getpid(), SIGKILL);
    else if (strcmp(how, "abort") == 0)
        abort();
    else if (strcmp(how, "_exit") == 0)
        _exit(0);
    else if (strcmp(how, "exit") == 0)
        exit(0);
    else if (strcmp(how, "segv") == 0)
        raise(SIGSEGV);
    else if (strcmp(how, "exec") == 0)
        execl("/bin/sleep", "sleep", "1000", (char *)NULL);
    _exit(2);
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    how = argv[1];
    after = atol(argv[2]);
    fork_first = argv[3][0] == '1';
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, death, NULL) == 0);

    const char *server[] = {"python3", "-m", "http.server", "12345"};
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    sbx_config_set_command(config, server, 4);
    sbx_config_add_port(config, 12345, SBX_PORT_UNENCRYPTED);
    sbx_config_add_port(config, 12346, SBX_PORT_ENCRYPTED);
    /* With control groups where they can be had. */
    sbx_config_set_memory_bytes(config, 512u << 20);
    sbx_config_set_limit_mode(config, SBX_LIMITS_WATCHDOG);
    sbx_sandbox *sandbox = NULL;
    OK(sbx_create(NULL, config, &sandbox, &error));
    sbx_tunnel_map *tunnels = NULL;
    OK(sbx_tunnels(sandbox, PATIENCE, &tunnels, &error));
    int port = port_of(tunnels, 12345);
    for (;;) {
        char buffer[4096];
        int fd = dial(port);
        if (fd < 0)
            continue;
        const char request[] = "GET / HTTP/1.0\r\n\r\n";
        if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0)
            while (read(fd, buffer, sizeof buffer) > 0)
                ;
        close(fd);
    }
}
