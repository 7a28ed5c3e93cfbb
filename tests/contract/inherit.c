/*
 * Nothing of the host's reaches the sandbox's processes: no descriptor, no variable, no signal disposition, no
 * mask. And every descriptor of the library's is close-on-exec.
 */
#include "probe.h"

#define OPENED 1000

/* Descriptors of the library's own, after the host's have been counted off. */
static int check_close_on_exec(const bool *hosts) {
    int count = 0;
    DIR *fds = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(fds)) != NULL;) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(fds) || hosts[fd])
            continue;
        int flags = fcntl(fd, F_GETFD);
        if ((flags & FD_CLOEXEC) == 0)
            printf("descriptor %d is not close-on-exec\n", fd);
        CHECK(flags & FD_CLOEXEC);
        count++;
    }
    closedir(fds);
    return count;
}

static void check_process(int pid, const char *directory, const char *name) {
    char path[128], target[4096], text[65536];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *fds = opendir(path);
    CHECK(fds != NULL);
    for (struct dirent *entry; (entry = readdir(fds)) != NULL;) {
        char link[400];
        struct stat theirs, ours;
        snprintf(link, sizeof link, "/proc/%d/fd/%s", pid, entry->d_name);
        ssize_t length = entry->d_name[0] == '.' ? -1 : readlink(link, target, sizeof target - 1);
        if (length <= 0)
            continue;
        target[length] = 0;
        bool bad = strncmp(target, directory, strlen(directory)) == 0;
        /* The host's socket and pipes, by their inodes. */
        if (stat(link, &theirs) == 0)
            for (int fd = 3; fd < OPENED + 3; fd++)
                bad = bad || (fstat(fd, &ours) == 0 && ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino);
        if (bad)
            printf("%s (%d) has descriptor %s: %s\n", name, pid, entry->d_name, target);
        CHECK(!bad);
    }
    closedir(fds);
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        size_t length = fread(text, 1, sizeof text, file);
        CHECK(memmem(text, length, "SECRET", 6) == NULL && memmem(text, length, "HOME=", 5) == NULL);
        fclose(file);
    }
}

int main(void) {
    static bool hosts[65536];
    char template[] = "./inherit-XXXXXX", directory[4096], name[32], number[16];
    int pids[64];
    CHECK(close_range(3, ~0U, 0) == 0); /* what the caller of this program left open */
    CHECK(mkdtemp(template) != NULL && realpath(template, directory) != NULL);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max > 2 * OPENED);
    limit.rlim_cur = 4096 < limit.rlim_max ? 4096 : limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(setenv("SECRET_OF_THE_HOST", "SECRET", 1) == 0);
    /* Without close-on-exec, as hosts leak them. */
    for (int i = 0; i < OPENED; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%d", template, i);
        int fd = i == 0   ? open(directory, O_RDONLY | O_DIRECTORY)
                 : i == 1 ? socket(AF_INET, SOCK_STREAM, 0)
                          : open(path, O_CREAT | O_RDWR, 0600);
        CHECK(fd == i + 3);
    }
    for (int fd = 0; fd < OPENED + 3; fd++)
        hosts[fd] = true;
    /* Ignored and blocked signals are inherited across execve. */
    for (int signal = 1; signal < 32; signal++)
        if (signal != SIGKILL && signal != SIGSTOP && signal != SIGSEGV)
            (void)!sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    sigset_t all;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);

    sbx_sandbox *sandbox = server(NULL, NULL);
    CHECK(check_close_on_exec(hosts) > 5);
    int count = below(pids, 64), keepers = 0, deeper = 0;
    for (int i = 0; i < count; i++) {
        snprintf(number, sizeof number, "%d", pids[i]);
        name_of(number, name);
        check_process(pids[i], directory, name);
        if (strcmp(name, "sbx-keeper") == 0) {
            /* The keeper blocks SIGCHLD to wait for it, and nothing else. */
            CHECK(status_of(number, "SigBlk") == 1ULL << (SIGCHLD - 1));
            /* Rust's start-up ignores SIGPIPE for it. */
            CHECK((status_of(number, "SigIgn") & ~(1ULL << (SIGPIPE - 1))) == 0);
            keepers++;
        } else if (strncmp(name, "runsc", 5) == 0 || strcmp(name, "exe") == 0) {
            deeper++;
        }
    }
    CHECK(keepers == 1);
    CHECK(deeper >= 3); /* runsc, sentry, gofer */
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    ended(sandbox);
    sbx_sandbox_free(sandbox);
    for (int i = 2; i < OPENED; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%d", template, i);
        CHECK(unlink(path) == 0);
    }
    CHECK(rmdir(directory) == 0);
    return 0;
}
