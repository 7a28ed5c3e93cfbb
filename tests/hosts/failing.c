/*
 * failing ERROR STEP: creates sandboxes while one call of the C library after another fails with this error, every
 * STEPth of them. Each time creating must end with an error of its own or succeed all the same, nothing may be left,
 * and a sandbox that is created after it must be none the worse.
 *
 * This program defines the functions, so that the library's calls come here (ELF symbol interposition). The keeper
 * is static and another process: it isn't concerned.
 */
#include "self.h"
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static const char *failing;  /* the function whose calls are counted, and fail; NULL for none */
static long countdown, seen; /* which one fails; how many there were */
static int with;             /* what it fails with */

/* Whether this call is the one. It may be made by a child that shares our memory and has not executed yet. */
static bool fails(const char *name) {
    const char *now = __atomic_load_n(&failing, __ATOMIC_SEQ_CST);
    if (now == NULL || strcmp(now, name) != 0)
        return false;
    __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    return __atomic_sub_fetch(&countdown, 1, __ATOMIC_SEQ_CST) == 0;
}

#define FAILING(type, name, parameters, arguments, failure)    \
    type name parameters {                                     \
        static type(*next) parameters;                         \
        if (next == NULL)                                      \
            *(void **)&next = dlsym(RTLD_NEXT, #name);         \
        if (fails(#name)) {                                    \
            errno = with;                                      \
            return failure;                                    \
        }                                                      \
        return next arguments;                                 \
    }

FAILING(int, socketpair, (int f, int k, int p, int fds[2]), (f, k, p, fds), -1)
FAILING(int, socket, (int f, int k, int p), (f, k, p), -1)
FAILING(int, bind, (int fd, const struct sockaddr *a, socklen_t l), (fd, a, l), -1)
FAILING(int, listen, (int fd, int n), (fd, n), -1)
FAILING(int, getsockname, (int fd, struct sockaddr *restrict a, socklen_t *restrict l), (fd, a, l), -1)
FAILING(int, setsockopt, (int fd, int l, int o, const void *v, socklen_t n), (fd, l, o, v, n), -1)
FAILING(ssize_t, sendmsg, (int fd, const struct msghdr *m, int f), (fd, m, f), -1)
FAILING(ssize_t, recvmsg, (int fd, struct msghdr *m, int f), (fd, m, f), -1)
FAILING(int, pipe2, (int fds[2], int f), (fds, f), -1)
FAILING(int, eventfd, (unsigned n, int f), (n, f), -1)
FAILING(int, epoll_create1, (int f), (f), -1)
FAILING(int, epoll_ctl, (int e, int o, int fd, struct epoll_event *v), (e, o, fd, v), -1)
FAILING(int, epoll_wait, (int e, struct epoll_event *v, int n, int t), (e, v, n, t), -1)
FAILING(int, memfd_create, (const char *n, unsigned f), (n, f), -1)
FAILING(int, poll, (struct pollfd *s, nfds_t n, int t), (s, n, t), -1)
FAILING(ssize_t, read, (int fd, void *b, size_t n), (fd, b, n), -1)
FAILING(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), -1)
FAILING(void *, mmap, (void *a, size_t n, int p, int f, int fd, off_t o), (a, n, p, f, fd, o), MAP_FAILED)
FAILING(void *, mmap64, (void *a, size_t n, int p, int f, int fd, off64_t o), (a, n, p, f, fd, o), MAP_FAILED)
FAILING(int, stat64, (const char *restrict p, struct stat64 *restrict s), (p, s), -1)
FAILING(int, fstat64, (int fd, struct stat64 *s), (fd, s), -1)
FAILING(ssize_t, readlink, (const char *restrict p, char *restrict b, size_t n), (p, b, n), -1)

/* Rust's hash tables ask with flags, and take no for an answer only where the kernel gives it: not for want of memory. */
ssize_t getrandom(void *bytes, size_t length, unsigned flags) {
    static ssize_t (*next)(void *, size_t, unsigned);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "getrandom");
    if (flags == 0 && fails("getrandom")) {
        errno = with;
        return -1;
    }
    return next(bytes, length, flags);
}

int open64(const char *path, int flags, ...) {
    static int (*next)(const char *, int, ...);
    va_list more;
    va_start(more, flags);
    int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, int) : 0;
    va_end(more);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "open64");
    if (fails("open64")) {
        errno = with;
        return -1;
    }
    return next(path, flags, mode);
}

int fcntl(int fd, int command, ...) {
    static int (*next)(int, int, ...);
    va_list more;
    va_start(more, command);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "fcntl");
    if (fails("fcntl")) {
        errno = with;
        return -1;
    }
    return next(fd, command, argument);
}

long syscall(long number, ...) {
    static long (*next)(long, ...);
    va_list more;
    va_start(more, number);
    long a[6];
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(more, long);
    va_end(more);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    /* Not futex(2), whose failure is a lock that doesn't lock, and not getrandom(2), which works always if it does once:
     * the kernel doesn't fail them so. */
    if (number != SYS_futex && number != SYS_getrandom && fails("syscall")) {
        errno = with;
        return -1;
    }
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int clone(int (*run)(void *), void *stack, int flags, void *argument, ...) {
    static int (*next)(int (*)(void *), void *, int, void *, ...);
    va_list more;
    va_start(more, argument);
    void *first = va_arg(more, void *), *second = va_arg(more, void *), *third = va_arg(more, void *);
    va_end(more);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "clone");
    if (fails("clone")) {
        errno = with;
        return -1;
    }
    return next(run, stack, flags, argument, first, second, third);
}

int pthread_create(pthread_t *restrict t, const pthread_attr_t *restrict a, void *(*run)(void *), void *restrict x) {
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
    return fails("pthread_create") ? with : next(t, a, run, x);
}

static const char *const functions[] = {
    "socketpair", "socket", "bind", "listen", "getsockname", "setsockopt", "sendmsg", "recvmsg", "pipe2", "eventfd",
    "epoll_create1", "epoll_ctl", "epoll_wait", "memfd_create", "poll", "read", "write", "getrandom", "mmap", "mmap64",
    "stat64", "fstat64", "readlink", "open64", "fcntl", "syscall", "clone", "pthread_create"};

/* A runtime, and a sandbox that comes to its end in it. Says how creating it went, having undone all of it. */
static int attempt(sbx_config *config, sbx_error *error) {
    sbx_runtime *runtime = NULL;
    sbx_sandbox *sandbox = NULL;
    int made = sbx_runtime_new(NULL, &runtime, error);
    if (made >= 0)
        made = sbx_create(runtime, config, &sandbox, error);
    failing = NULL;
    if (made >= 0) {
        sbx_exit result = SBX_EXIT_INIT;
        OK(sbx_wait(sandbox, PATIENCE, &result, &error));
        /* Its keeper may have been lost by what failed. */
        CHECK(result.reason == SBX_EXIT_EXITED || result.reason == SBX_EXIT_ENGINE_LOST);
    }
    sbx_sandbox_free(sandbox);
    sbx_runtime_free(runtime);
    return made;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    int step = atoi(argv[2]);
    sbx_config *config = script("exit 0");
    sbx_config_add_port(config, 8000, SBX_PORT_ENCRYPTED);
    sbx_config_capture_stream(config, SBX_STDOUT, 4096, 4096);
    sbx_error error = SBX_ERROR_INIT;
    if (attempt(config, &error) < 0) {
        printf("nothing fails, and yet: %s\n", error.message);
        return 1;
    }
    int fds = descriptors(), tasks = threads(), tried = 0, refused = 0;
    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
        /* Until there are fewer calls than that. */
        for (long n = 1 + (long)f % step;; n += step) {
            seen = 0;
            countdown = n;
            with = atoi(argv[1]);
            memset(error.message, 0, sizeof error.message);
            __atomic_store_n(&failing, functions[f], __ATOMIC_SEQ_CST);
            int made = attempt(config, &error);
            if (seen < n)
                break;
            tried++;
            refused += made < 0;
            printf("%s %ld of %ld: %d %s\n", functions[f], n, seen, made, made < 0 ? error.message : "");
            fflush(stdout);
            CHECK(made == 0 || (made < -1000 && error.message[0] != 0 && made != SBX_EPANIC && made != SBX_EINTERNAL));
            settle(fds);
            CHECK(threads() == tasks && childless());
        }
    }
    OK(attempt(config, &error));
    printf("%d calls failed, %d times creating did\n", tried, refused);
    CHECK(refused > 0);
    return 0;
}
