/* A thousand signals a second don't disturb any call, on whatever thread of the host they arrive. */
#include "probe.h"

static volatile sig_atomic_t alarms;
static void on_alarm(int signal) {
    (void)signal;
    alarms++;
}

int main(void) {
    char buffer[65536];
    int plain;
    struct sigaction action = {.sa_handler = on_alarm}; /* without SA_RESTART */
    struct itimerval every = {{0, 1000}, {0, 1000}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
    for (int code = 0; code < 5; code++) {
        char text[32];
        snprintf(text, sizeof text, "exit %d", code);
        CHECK(code_of(text) == code);
    }
    sbx_sandbox *sandbox = server(&plain, NULL);
    for (int i = 0; i < 10; i++) {
        int fd = sbx_connect(sandbox, 8000, NULL);
        CHECK(fd >= 0);
        struct pollfd ready = {fd, POLLIN, 0};
        while (poll(&ready, 1, PATIENCE) < 0 && errno == EINTR)
            ;
        CHECK(read(fd, buffer, sizeof buffer) > 0);
        close(fd);
    }
    sbx_report *report = NULL;
    OK(sbx_runtime_check(NULL, &report, &error));
    CHECK(sbx_report_usable(report) == 1);
    sbx_report_free(report);
    sbx_exit result = SBX_EXIT_INIT;
    CHECK(sbx_wait(sandbox, 200, &result, NULL) == SBX_ETIMEDOUT);
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    CHECK(ended(sandbox).reason == SBX_EXIT_TERMINATED);
    sbx_sandbox_free(sandbox);
    CHECK(alarms > 100);
    return 0;
}
