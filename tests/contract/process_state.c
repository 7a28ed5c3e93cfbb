/* Nothing that belongs to the whole process is changed: directory, mask, environment, limits, names ... */
#include "probe.h"

extern char **environ;

typedef struct {
    char directory[4096], names[512], environment[65536];
    char **variables;
    mode_t mask;
    struct rlimit limits[RLIM_NLIMITS];
    int subreaper, dumpable, no_new_privs, pdeathsig, keepcaps, priority;
    pid_t session, group;
    void (*handlers[65])(int);
    int flags[65];
    stack_t stack;
    unsigned long long caps;
    char root[64], mounts[64], user[64], network[64], locale[64];
} state;

static void link_of(const char *path, char text[64]) {
    ssize_t length = readlink(path, text, 63);
    CHECK(length > 0);
    text[length] = 0;
}

static void look(state *now) {
    struct sigaction action;
    memset(now, 0, sizeof *now);
    CHECK(getcwd(now->directory, sizeof now->directory) != NULL);
    now->mask = umask(0);
    umask(now->mask);
    now->variables = environ;
    for (char **one = environ; *one != NULL; one++) {
        CHECK(strlen(now->environment) + strlen(*one) + 2 < sizeof now->environment);
        strcat(strcat(now->environment, *one), "\n");
    }
    for (int i = 0; i < RLIM_NLIMITS; i++)
        CHECK(getrlimit((__rlimit_resource_t)i, &now->limits[i]) == 0);
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &now->subreaper) == 0);
    CHECK(prctl(PR_GET_PDEATHSIG, &now->pdeathsig) == 0);
    now->dumpable = prctl(PR_GET_DUMPABLE);
    now->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    now->keepcaps = prctl(PR_GET_KEEPCAPS);
    now->priority = getpriority(PRIO_PROCESS, 0);
    now->session = getsid(0);
    now->group = getpgrp();
    for (int signal = 1; signal <= 64; signal++)
        if (sigaction(signal, NULL, &action) == 0) {
            now->handlers[signal] = action.sa_handler;
            now->flags[signal] = action.sa_flags;
        }
    CHECK(sigaltstack(NULL, &now->stack) == 0);
    now->caps = status_of("self", "CapEff");
    link_of("/proc/self/root", now->root);
    link_of("/proc/self/ns/mnt", now->mounts);
    link_of("/proc/self/ns/user", now->user);
    link_of("/proc/self/ns/net", now->network);
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        char path[300], name[32];
        snprintf(path, sizeof path, "self/task/%s", entry->d_name);
        name_of(path, name);
        if (entry->d_name[0] != '.' && strncmp(name, "sbx-", 4) != 0)
            strcat(strcat(now->names, name), "\n");
    }
    closedir(tasks);
}

static state before, after;

static void same(void) {
    for (size_t i = 0; i < sizeof before; i++)
        if (((const char *)&before)[i] != ((const char *)&after)[i]) {
            printf("the state differs at byte %zu of %zu; names are at %zu, limits at %zu, signals at %zu\n", i,
                   sizeof before, offsetof(state, names), offsetof(state, limits), offsetof(state, handlers));
            exit(1);
        }
}

static void *other(void *begin) {
    prctl(PR_SET_NAME, "the-host-s-own");
    pthread_barrier_wait(begin);
    pthread_barrier_wait(begin);
    return NULL;
}

int main(void) {
    pthread_barrier_t begin;
    pthread_t thread;
    pthread_barrier_init(&begin, NULL, 2);
    CHECK(pthread_create(&thread, NULL, other, &begin) == 0);
    pthread_barrier_wait(&begin);
    umask(0027);
    look(&before);
    sbx_sandbox *sandbox = server(NULL, NULL);
    look(&after);
    same();
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    ended(sandbox);
    sbx_sandbox_free(sandbox);
    sbx_report *report = NULL;
    OK(sbx_runtime_check(NULL, &report, &error));
    sbx_report_free(report);
    sbx_runtime *runtime = NULL;
    OK(sbx_runtime_new(NULL, &runtime, &error));
    sbx_runtime_free(runtime);
    look(&after);
    same();
    pthread_barrier_wait(&begin);
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
