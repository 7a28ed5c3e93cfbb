/* The library's threads are there only while they are needed: without a sandbox they end after a moment, and the next
 * sandbox has them again. So a process whose main thread has left ends with its last other thread, and by SIGTERM. */
#include "self.h"

static void use(void) {
    sbx_sandbox *sandbox = NULL;
    sbx_config *config = script("exit 5");
    sbx_exit ended = SBX_EXIT_INIT;
    OK(sbx_create(NULL, config, &sandbox, &error));
    OK(sbx_wait(sandbox, PATIENCE, &ended, &error));
    CHECK(ended.code == 5);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);
}

/* Waits until the library's threads are gone; a minute is never. */
static void alone(void) {
    for (int moment = 0; moment < 6000 && threads() > 1; moment++)
        usleep(10000);
    CHECK(threads() == 1);
}

/* A child whose main thread leaves while the library's threads run. How it has ended. */
static int left(int number) {
    int status = 0;
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    /* This process itself never uses the library before, so the child may. */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        use();
        CHECK(threads() > 1);
        CHECK(write(pipes[1], "x", 1) == 1);
        pthread_exit(NULL);
    }
    close(pipes[1]);
    char byte;
    CHECK(read(pipes[0], &byte, 1) == 1);
    close(pipes[0]);
    if (number != 0)
        CHECK(kill(child, number) == 0);
    for (int moment = 0; moment < 6000; moment++) {
        pid_t ended = waitpid(child, &status, WNOHANG);
        CHECK(ended >= 0);
        if (ended == child)
            return status;
        usleep(10000);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK(!"it stays for ever");
    return -1;
}

int main(void) {
    int status = left(0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    status = left(SIGTERM);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM));
    for (int round = 0; round < 2; round++) {
        use();
        alone();
    }
    /* And while they are gone the runtime can be used and freed as ever. */
    sbx_runtime *runtime = NULL;
    OK(sbx_runtime_new(NULL, &runtime, &error));
    alone();
    sbx_runtime_free(runtime);
    use();
    return 0;
}
