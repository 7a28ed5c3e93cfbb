/* A runsc that hangs holds up nobody: not who begins to create, not what is asked of a sandbox, not its end, and
 * not the runtime's. */
#include "self.h"

static char path[4096];

/* A script in the place of runsc that says nothing, ever. */
static void hang(void) {
    char fresh[4200];
    snprintf(fresh, sizeof fresh, "%s.fresh", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    CHECK(fd >= 0 && dprintf(fd, "#!/bin/sh\nexec sleep 86399\n") > 0 && fchmod(fd, 0755) == 0 && close(fd) == 0);
    CHECK(rename(fresh, path) == 0);
}

/* It is given up after 20 seconds: what is there sooner has not waited for it. */
#define SOONER 10000

static void is_closed(sbx_sandbox *sandbox) {
    CHECK(sbx_wait(sandbox, SOONER, NULL, NULL) == SBX_ECLOSED);
    CHECK(sbx_sandbox_state(sandbox) == SBX_STATE_ENDED);
    CHECK(sbx_sandbox_failure(sandbox, NULL) == SBX_ECLOSED);
}

static void default_runtime(void) {
    enum { MANY = 50 };
    sbx_queue *queue = NULL;
    sbx_sandbox *sandbox = NULL, *others[MANY], *found = NULL;
    sbx_config *config = script("true"), *named = script("true");
    sbx_event event = SBX_EVENT_INIT;
    CHECK(setenv("SBX_RUNSC", path, 1) == 0);
    hang();
    OK(sbx_queue_new(16, &queue, &error));
    OK(sbx_config_set_queue(named, queue, 7));
    OK(sbx_config_set_name(named, "one"));
    int tasks = threads();
    OK(sbx_create_begin(NULL, named, &sandbox, &error));
    CHECK(sbx_sandbox_state(sandbox) == SBX_STATE_STARTING);
    CHECK(sbx_sandbox_failure(sandbox, NULL) == 0);
    /* Its own two, one that plans, and one that looks at the host's programs the first time. */
    CHECK(threads() <= tasks + 4);
    for (int i = 0; i < MANY; i++)
        OK(sbx_create_begin(NULL, config, &others[i], &error));
    /* What needs no look at the host is said by the call. */
    CHECK(sbx_create_begin(NULL, named, &found, NULL) == SBX_EEXISTS);
    OK(sbx_sandbox_find(NULL, "one", &found, &error));
    CHECK(found != NULL);
    sbx_sandbox_free(found);
    CHECK(sbx_wait(sandbox, 0, NULL, NULL) == SBX_ETIMEDOUT);
    CHECK(sbx_queue_next(queue, &event, NULL) == 0);
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    is_closed(sandbox);
    CHECK(sbx_queue_next(queue, &event, NULL) == 1);
    CHECK(event.kind == SBX_EVENT_FAILED && event.cookie == 7 && event.code == SBX_ECLOSED);
    sbx_sandbox_free(sandbox);
    /* Its name is free again. */
    OK(sbx_create_begin(NULL, named, &sandbox, &error));
    CHECK(sbx_stop(sandbox, 15, 60000, NULL) == 0);
    is_closed(sandbox);
    sbx_sandbox_free(sandbox);
    for (int i = 0; i < MANY; i++) {
        CHECK(sbx_terminate(others[i], NULL) == 0);
        is_closed(others[i]);
        sbx_sandbox_free(others[i]);
    }
    sbx_config_free(config);
    sbx_config_free(named);
    sbx_queue_free(queue);
}

static void own_runtime(const char *real) {
    sbx_runtime_config way = SBX_RUNTIME_CONFIG_INIT;
    sbx_runtime *runtime = NULL;
    sbx_sandbox *sandbox = NULL;
    sbx_config *config = script("exit 3");
    way.runsc = path;
    CHECK(unlink(path) == 0 && symlink(real, path) == 0);
    OK(sbx_runtime_new(&way, &runtime, &error));
    OK(sbx_create(runtime, config, &sandbox, &error));
    CHECK(ended(sandbox).code == 3);
    sbx_sandbox_free(sandbox);
    hang();
    OK(sbx_create_begin(runtime, config, &sandbox, &error));
    sbx_runtime_free(runtime);
    is_closed(sandbox);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);
}

int main(void) {
    char real[4096];
    CHECK(snprintf(real, sizeof real, "%s", getenv("SBX_RUNSC")) > 0);
    CHECK(snprintf(path, sizeof path, "%s/runsc", getenv("TMPDIR")) > 0);
    default_runtime();
    own_runtime(real);
    CHECK(unlink(path) == 0);
    /* The end of this process is the end of those that hang. */
    return 0;
}
