/* odd_process WHAT: the process is in a state that few are in. */
#include "self.h"

int main(int argc, char **argv) {
    CHECK(argc == 2);
    const char *what = argv[1];
    if (strcmp(what, "no-directory") == 0) {
        char directory[] = "/tmp/sbx-test-gone-XXXXXX";
        CHECK(mkdtemp(directory) != NULL && chdir(directory) == 0 && rmdir(directory) == 0);
    } else if (strcmp(what, "umask-000") == 0) {
        umask(0);
    } else if (strcmp(what, "umask-777") == 0) {
        umask(0777);
    } else if (strcmp(what, "no-stdio") == 0) {
        /* 0, 1 and 2 are the first that the library gets. */
        close(0);
        close(1);
        close(2);
    } else if (strcmp(what, "small-files") == 0) {
        /* Too small for the keeper's program: an error that says so, not SIGXFSZ. */
        struct rlimit limit = {4096, RLIM_INFINITY};
        sbx_runtime *runtime = NULL;
        sbx_error error = SBX_ERROR_INIT;
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        CHECK(sbx_runtime_new(NULL, &runtime, &error) == SBX_EHOST);
        CHECK(strstr(error.message, "RLIMIT_FSIZE") != NULL);
        /* Large enough for that, but not for gVisor's memory: not gVisor's limit. */
        limit.rlim_cur = 4 << 20;
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        CHECK(code_of("head -c 20000000 /dev/zero >/tmp/file && exit 5") == 5);
    } else if (strcmp(what, "small-locked-memory") == 0) {
        struct rlimit limit = {0, 0};
        CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    } else if (strcmp(what, "no-environment") == 0) {
        char *runsc = strdup(getenv("SBX_RUNSC"));
        CHECK(clearenv() == 0 && setenv("SBX_RUNSC", runsc, 1) == 0);
        free(runsc);
    } else {
        CHECK(!"known");
    }
    CHECK(code_of("exit 0") == 0);
    CHECK(code_of("echo much >/tmp/file && test -s /tmp/file && exit 5") == 5);
    return 0;
}
