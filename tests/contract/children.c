/* children ignored|nocldwait|reaped: what the host does about its children doesn't change exit codes. */
#include "probe.h"

static volatile int stop;

static void *reaper(void *unused) {
    (void)unused;
    while (!stop)
        if (waitpid(-1, NULL, 0) < 0)
            sched_yield();
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    pthread_t thread;
    struct sigaction action = {0};
    bool reaped = strcmp(argv[1], "reaped") == 0;
    if (strcmp(argv[1], "ignored") == 0) {
        action.sa_handler = SIG_IGN;
        CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    } else if (strcmp(argv[1], "nocldwait") == 0) {
        action.sa_handler = SIG_DFL;
        action.sa_flags = SA_NOCLDWAIT;
        CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    } else {
        CHECK(reaped && pthread_create(&thread, NULL, reaper, NULL) == 0);
    }
    for (int code = 0; code < 6; code++) {
        char text[32];
        snprintf(text, sizeof text, "exit %d", code);
        CHECK(code_of(text) == code);
    }
    sbx_sandbox *sandbox = started("exec sleep 1000");
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    sbx_exit result = ended(sandbox);
    CHECK(result.reason == SBX_EXIT_TERMINATED && result.code == 137);
    sbx_sandbox_free(sandbox);
    const char *nothing[] = {"/no/such/program"};
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    sbx_config_set_command(config, nothing, 1);
    CHECK(sbx_create(NULL, config, &sandbox, NULL) == SBX_EEXEC);
    sbx_config_free(config);
    /* The doctor waits for a program of its own. */
    sbx_report *report = NULL;
    OK(sbx_runtime_check(NULL, &report, &error));
    CHECK(sbx_report_usable(report) == 1);
    sbx_report_free(report);
    stop = 1;
    if (reaped)
        CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
