/* churn CYCLES: create, use, terminate, free, over and over; what the host has is the same after. */
#include "self.h"

static void cycle(sbx_config *config) {
    sbx_sandbox *sandbox = NULL;
    sbx_tunnel_map *tunnels = NULL;
    OK(sbx_create(NULL, config, &sandbox, &error));
    OK(sbx_tunnels(sandbox, PATIENCE, &tunnels, &error));
    /* Nobody listens inside; the connection is accepted, tried for, and reset with the sandbox. */
    int fd = dial(port_of(tunnels, 8000));
    CHECK(fd >= 0);
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    sbx_exit result = ended(sandbox);
    CHECK(result.reason == SBX_EXIT_TERMINATED && result.code == 137);
    /* That it has ended means that nothing is left. */
    CHECK(childless());
    CHECK(dial(port_of(tunnels, 8000)) < 0);
    close(fd);
    sbx_tunnel_map_free(tunnels);
    sbx_sandbox_free(sandbox);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    int cycles = atoi(argv[1]);
    sbx_config *config = script("exec sleep 1000");
    sbx_config_add_port(config, 8000, SBX_PORT_UNENCRYPTED);
    sbx_config_add_port(config, 8001, SBX_PORT_ENCRYPTED);
    sbx_config_capture_stream(config, SBX_STDOUT, 65536, 65536);
    /* The first ones make the runtime and fill what is kept for the next. */
    int warm = cycles / 4;
    for (int i = 0; i < warm; i++)
        cycle(config);
    int fds = descriptors(), tasks = threads();
    long before = memory();
    for (int i = warm; i < cycles; i++)
        cycle(config);
    settle(fds);
    CHECK(threads() == tasks);
    long after = memory();
    printf("%d cycles: %d descriptors, %d threads, RssAnon %ld KiB after %d and %ld KiB at the end\n", cycles,
           fds - 3, tasks, before, warm, after);
    /* 4 KiB a cycle would be a leak of about one sandbox's state each. */
    CHECK(after - before < 4L * (cycles - warm));
    sbx_config_free(config);
    return 0;
}
