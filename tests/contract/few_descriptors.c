/* F8: without descriptors create is an error that leaves nothing, and works again when there are some. */
#include "self.h"

static int attempt(sbx_error *error) {
    sbx_config *config = script("exec sleep 1000");
    sbx_sandbox *sandbox = NULL;
    sbx_config_add_port(config, 8000, SBX_PORT_ENCRYPTED);
    int code = sbx_create(NULL, config, &sandbox, error);
    sbx_config_free(config);
    if (code == 0) {
        CHECK(sbx_terminate(sandbox, NULL) == 0);
        CHECK(ended(sandbox).code == 137);
        sbx_sandbox_free(sandbox);
    } else {
        CHECK(sandbox == NULL);
    }
    return code;
}

int main(void) {
    sbx_error error = SBX_ERROR_INIT;
    /* A limit too low for the library's share: said before anything is made. */
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlim_t was = limit.rlim_cur;
    limit.rlim_cur = 64;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    sbx_runtime *runtime = NULL;
    int code = sbx_runtime_new(NULL, &runtime, &error);
    if (code == 0) {
        sbx_config *config = script("true");
        sbx_sandbox *sandbox = NULL;
        CHECK(sbx_create(runtime, config, &sandbox, &error) == SBX_ELIMIT);
        CHECK(strstr(error.message, "ulimit -n") != NULL);
        sbx_config_free(config);
        sbx_runtime_free(runtime);
    }
    limit.rlim_cur = was;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(attempt(&error) == 0);
    CHECK(childless());

    /* The host itself has used them up: every system call of a creation that needs one fails in turn. */
    int fds = descriptors(), failed = 0;
    for (int spare = 0; spare < 64; spare++) {
        int highest = dup(0);
        CHECK(highest >= 0);
        close(highest);
        limit.rlim_cur = (rlim_t)(highest + spare);
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        code = attempt(&error);
        limit.rlim_cur = was;
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        if (code != 0) {
            failed++;
            if (code != SBX_ELIMIT && code != SBX_ESYSTEM && code != SBX_EENGINE && code != SBX_EHOST)
                printf("spare %d: %d %s\n", spare, code, error.message);
            CHECK(code == SBX_ELIMIT || code == SBX_ESYSTEM || code == SBX_EENGINE || code == SBX_EHOST);
            CHECK(error.message[0] != 0);
        }
        for (int i = 0; i < 5000 && !childless(); i++)
            nap(1000);
        CHECK(childless());
        settle(fds);
    }
    CHECK(failed > 3);
    CHECK(attempt(&error) == 0);
    return 0;
}
