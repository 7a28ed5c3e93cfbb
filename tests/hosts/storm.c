/*
 * storm THREADS ROUNDS: sandboxes are created, terminated, waited for and freed by many threads at once, in
 * every order. Nobody hangs, every answer is right, nothing stays.
 */
/* Hundreds of sandboxes start at once on however few processors. */
#define PATIENCE 300000
#include "self.h"

static int rounds;
static unsigned done[6], limits;
static pthread_barrier_t begin;

static void *wait_closed(void *sandbox) {
    sbx_exit result = SBX_EXIT_INIT;
    int code = sbx_wait(sandbox, -1, &result, NULL);
    /* Freed while waiting, or just before the wait. */
    CHECK(code == SBX_ECLOSED || code == SBX_EHANDLE || code == 0);
    return NULL;
}

static void *wait_ended(void *sandbox) {
    sbx_exit result = ended(sandbox);
    CHECK(result.reason == SBX_EXIT_TERMINATED && result.code == 137);
    return NULL;
}

static void *terminate(void *sandbox) {
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    return NULL;
}

/* Creates one; NULL if the process can't hold more at the moment. */
static sbx_sandbox *make(const char *text, bool begin_only) {
    sbx_config *config = script(text);
    sbx_config_add_port(config, 8000, SBX_PORT_UNENCRYPTED);
    sbx_sandbox *sandbox = NULL;
    sbx_error error = SBX_ERROR_INIT;
    int code = begin_only ? sbx_create_begin(NULL, config, &sandbox, &error)
                          : sbx_create(NULL, config, &sandbox, &error);
    sbx_config_free(config);
    if (code == SBX_ELIMIT) {
        __atomic_add_fetch(&limits, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    if (code != 0)
        printf("create: %d %s\n", code, error.message);
    CHECK(code == 0);
    return sandbox;
}

static void play(unsigned what, unsigned *seed) {
    pthread_t one, two;
    sbx_exit result;
    sbx_sandbox *sandbox = make(what == 3 ? "exit 7" : "exec sleep 1000", what == 1 || what == 2);
    if (sandbox == NULL) {
        nap(rand_r(seed) % 100000);
        return;
    }
    switch (what) {
    case 0: /* twice */
        CHECK(sbx_terminate(sandbox, NULL) == 0);
        CHECK(sbx_terminate(sandbox, NULL) == 0);
        wait_ended(sandbox);
        CHECK(sbx_terminate(sandbox, NULL) == 0);
        break;
    case 1: { /* while it is being created */
        nap(rand_r(seed) % 80000);
        CHECK(sbx_terminate(sandbox, NULL) == 0);
        sbx_error error = SBX_ERROR_INIT;
        result = (sbx_exit)SBX_EXIT_INIT;
        int code = sbx_wait(sandbox, 2 * PATIENCE, &result, &error);
        /* Before its program was started it was never created. */
        if (code != 0 && code != SBX_ELIMIT && code != SBX_ECLOSED)
            printf("wait: %d %s\n", code, error.message);
        CHECK(code == SBX_ELIMIT || code == SBX_ECLOSED ||
              (code == 0 && result.reason == SBX_EXIT_TERMINATED));
        break;
    }
    case 2: /* freed while another waits */
        CHECK(pthread_create(&one, NULL, wait_closed, sandbox) == 0);
        nap(rand_r(seed) % 80000);
        sbx_sandbox_free(sandbox);
        sbx_sandbox_free(sandbox);
        CHECK(pthread_join(one, NULL) == 0);
        break;
    case 3: /* ends by itself */
        result = ended(sandbox);
        CHECK(result.reason == SBX_EXIT_EXITED && result.code == 7);
        break;
    case 4: /* several wait, several terminate */
        CHECK(pthread_create(&one, NULL, wait_ended, sandbox) == 0);
        CHECK(pthread_create(&two, NULL, terminate, sandbox) == 0);
        CHECK(sbx_terminate(sandbox, NULL) == 0);
        CHECK(pthread_join(one, NULL) == 0);
        CHECK(pthread_join(two, NULL) == 0);
        break;
    default: /* freed alive */
        break;
    }
    if (what != 2)
        sbx_sandbox_free(sandbox);
    __atomic_add_fetch(&done[what], 1, __ATOMIC_RELAXED);
}

static void *player(void *number) {
    unsigned seed = 1 + (unsigned)(size_t)number;
    pthread_barrier_wait(&begin);
    for (int i = 0; i < rounds; i++)
        play((unsigned)rand_r(&seed) % 6, &seed);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    int count = atoi(argv[1]);
    rounds = atoi(argv[2]);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(code_of("exit 3") == 3); /* makes the runtime */
    CHECK(childless());
    int fds = descriptors(), tasks = threads();
    pthread_t *players = calloc((size_t)count, sizeof *players);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    pthread_barrier_init(&begin, NULL, (unsigned)count);
    for (int i = 0; i < count; i++)
        CHECK(pthread_create(&players[i], &small, player, (void *)(size_t)i) == 0);
    for (int i = 0; i < count; i++)
        CHECK(pthread_join(players[i], NULL) == 0);
    free(players);
    /* Those that were freed alive end a moment later. */
    for (int i = 0; i < 30000 && !childless(); i++)
        nap(1000);
    CHECK(childless());
    settle(fds);
    CHECK(threads() == tasks);
    sbx_sandbox_list *list = NULL;
    OK(sbx_runtime_sandboxes(NULL, &list, &error));
    CHECK(sbx_sandbox_list_count(list) == 0);
    sbx_sandbox_list_free(list);
    printf("%d threads: terminated twice %u, while created %u, freed while waited for %u, ended %u, by several "
           "%u, freed alive %u; at the limit of descriptors %u\n",
           count, done[0], done[1], done[2], done[3], done[4], done[5], limits);
    return 0;
}
