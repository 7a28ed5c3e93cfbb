/* A child of fork can't use the library, and whatever it does, its parent's sandbox lives on. */
#include "probe.h"

static sbx_sandbox *sandbox;
static sbx_queue *queue;

static void at_exit(void) {
    /* What a host's own clean-up does, in parent and child alike. */
    sbx_terminate(sandbox, NULL);
    sbx_sandbox_free(sandbox);
    sbx_queue_free(queue);
}

int main(void) {
    sbx_config *config = script("exec sleep 1000");
    OK(sbx_queue_new(16, &queue, &error));
    OK(sbx_config_set_queue(config, queue, 7));
    OK(sbx_create(NULL, config, &sandbox, &error));
    CHECK(atexit(at_exit) == 0);
    /* Warm sandboxes are made meanwhile, and end with the parent. */
    OK(sbx_runtime_keep_warm(NULL, config, 1, &error));
    for (int i = 0; i < 20; i++) {
        fflush(stdout);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            sbx_sandbox *another = NULL;
            sbx_exit result = SBX_EXIT_INIT;
            sbx_error error = SBX_ERROR_INIT;
            sbx_runtime *runtime = NULL;
            sbx_event event = SBX_EVENT_INIT;
            int ok = sbx_create(NULL, config, &another, &error) == SBX_EFORKED && error.code == SBX_EFORKED &&
                     sbx_create_begin(NULL, config, &another, NULL) == SBX_EFORKED &&
                     sbx_wait(sandbox, -1, &result, NULL) == SBX_EFORKED &&
                     sbx_terminate(sandbox, NULL) == SBX_EFORKED &&
                     sbx_connect(sandbox, 80, NULL) == SBX_EFORKED &&
                     sbx_queue_next(queue, &event, NULL) == SBX_EFORKED &&
                     sbx_runtime_new(NULL, &runtime, NULL) == SBX_EFORKED &&
                     sbx_runtime_keep_warm(NULL, config, 2, NULL) == SBX_EFORKED &&
                     sbx_sandbox_state(sandbox) == SBX_EFORKED;
            if (i % 4 == 3)
                abort(); /* with every descriptor of the parent's */
            exit(ok ? 0 : 1); /* by way of at_exit */
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(i % 4 == 3 ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(sbx_sandbox_state(sandbox) == SBX_STATE_RUNNING);
    }
    sbx_exit result = SBX_EXIT_INIT;
    CHECK(sbx_wait(sandbox, 100, &result, NULL) == SBX_ETIMEDOUT);
    sbx_warm_stats warm = SBX_WARM_STATS_INIT;
    CHECK(sbx_runtime_warm_stats(NULL, NULL, &warm, NULL) == 0 && warm.wanted == 1 && warm.failures == 0);
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    CHECK(ended(sandbox).reason == SBX_EXIT_TERMINATED);
    sbx_config_free(config);
    return 0;
}
