/* No signal handler is installed, no host thread's mask changed; the library's threads block all signals. */
#include "probe.h"

static void *other(void *begin) {
    pthread_barrier_wait(begin);
    pthread_barrier_wait(begin);
    return NULL;
}

int main(void) {
    pthread_barrier_t begin;
    pthread_t thread;
    char masks[2][2][32] = {{{0}}};
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &some, NULL);
    pthread_barrier_init(&begin, NULL, 2);
    CHECK(pthread_create(&thread, NULL, other, &begin) == 0);
    pthread_barrier_wait(&begin);
    /* libc takes a signal of its own with the first thread. */
    unsigned long long caught = status_of("self", "SigCgt"), ignored = status_of("self", "SigIgn");
    for (int round = 0; round < 2; round++) {
        int found = 0;
        DIR *tasks = opendir("/proc/self/task");
        for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
            char path[300], name[32] = "";
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "self/task/%s", entry->d_name);
            unsigned long long blocked = status_of(path, "SigBlk");
            name_of(path, name);
            /* Lives for the moment of a plan; one that is ending shows no mask any more, and then no name. */
            if (name[0] == '\0' || strcmp(name, "sbx-plan") == 0)
                continue;
            if (strncmp(name, "sbx-", 4) == 0) {
                CHECK((blocked & ALL_SIGNALS) == ALL_SIGNALS);
                found++;
            } else if (atoi(entry->d_name) == getpid()) {
                snprintf(masks[round][0], 32, "%llx", blocked);
            } else {
                snprintf(masks[round][1], 32, "%llx", blocked);
            }
        }
        closedir(tasks);
        CHECK(found == 2 * round);
        if (round == 0) {
            sbx_sandbox *sandbox = server(NULL, NULL);
            CHECK(sbx_terminate(sandbox, NULL) == 0);
            ended(sandbox);
            sbx_sandbox_free(sandbox);
            /* The doctor too, which runs runsc. */
            sbx_report *report = NULL;
            OK(sbx_runtime_check(NULL, &report, &error));
            sbx_report_free(report);
        }
    }
    CHECK(strcmp(masks[0][0], masks[1][0]) == 0 && masks[0][0][0] != 0);
    CHECK(strcmp(masks[0][1], masks[1][1]) == 0 && masks[0][1][0] != 0);
    CHECK(status_of("self", "SigCgt") == caught);
    CHECK(status_of("self", "SigIgn") == ignored);
    pthread_barrier_wait(&begin);
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
