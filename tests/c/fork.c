/* A child of fork gets SBX_EFORKED, also while other threads of its parent hold the library's locks. */
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int stop;

static void *busy(void *unused) {
    (void)unused;
    while (!stop) {
        sbx_config *config = NULL;
        CHECK(sbx_config_new(&config, NULL) == 0);
        sbx_config_set_workdir(config, "/a");
        sbx_config_free(config);
    }
    return NULL;
}

int main(void) {
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, busy, NULL) == 0);
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            sbx_error error = SBX_ERROR_INIT;
            sbx_config *none = NULL;
            sbx_policy *policy = NULL;
            int ok = sbx_config_check(config, &error) == SBX_EFORKED && error.code == SBX_EFORKED &&
                     sbx_config_new(&none, NULL) == SBX_EFORKED && none == NULL &&
                     sbx_policy_new(SBX_POLICY_OPEN, &policy, NULL) == SBX_EFORKED && policy == NULL &&
                     sbx_log_set_fd(2, 5) == SBX_EFORKED && sbx_sandbox_state(NULL) == SBX_EFORKED &&
                     sbx_version() != NULL;
            sbx_config_free(config); /* nothing, and no wait */
            _exit(ok ? 0 : 1);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    stop = 1;
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(sbx_config_set_workdir(config, "/still/mine") == 0);
    sbx_config_free(config);
    return 0;
}
