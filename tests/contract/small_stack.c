/* Every call works on a thread with a stack of 64 KiB. */
#include "probe.h"

static void *all(void *unused) {
    (void)unused;
    sbx_runtime *runtime = NULL;
    OK(sbx_runtime_new(NULL, &runtime, &error));
    sbx_runtime_free(runtime);
    sbx_report *report = NULL;
    OK(sbx_runtime_check(NULL, &report, &error));
    sbx_report_free(report);
    sbx_sandbox *sandbox = server(NULL, NULL);
    int fd = sbx_connect(sandbox, 8000, NULL);
    CHECK(fd >= 0);
    close(fd);
    CHECK(sbx_signal(sandbox, SIGTERM, NULL) == 0);
    CHECK(ended(sandbox).signal == SIGTERM);
    sbx_sandbox_free(sandbox);
    return NULL;
}

int main(void) {
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    CHECK(pthread_attr_setstacksize(&small, 64 * 1024) == 0);
    CHECK(pthread_create(&thread, &small, all, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
