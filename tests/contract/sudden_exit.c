/* A host that exits while its first sandbox is being created, keys and certificates included, exits with its own code:
 * nothing of the library's that runs on has lost what it needs to the exit's destructors. */
#include "self.h"

static void *create(void *moment) {
    sbx_sandbox *sandbox = NULL;
    sbx_config *config = script("exec sleep 1000");
    CHECK(sbx_config_add_port(config, 1, SBX_PORT_ENCRYPTED) == 0);
    /* It may succeed, fail, or never return. */
    (void)sbx_create(NULL, config, &sandbox, NULL);
    return moment;
}

static void exits_at(useconds_t moment) {
    int status = 0;
    /* This process itself never uses the library, so the child may. */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, create, NULL) == 0);
        usleep(moment);
        exit(3);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
}

int main(void) {
    for (useconds_t moment = 0; moment < 40; moment++)
        exits_at(moment * 1500);
    return 0;
}
