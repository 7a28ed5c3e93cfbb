/*
 * raw RUNSC BUNDLE STATE [exec | storm]
 * raw run [--after COMMAND] COMMAND...
 * raw time COMMAND...
 *
 * The other side of start and terminate: plain "runsc run" of the same program by the same user. This process
 * stands once for all in a user, mount and network namespace with only a loopback in it, so that what it
 * measures is runsc alone, without the making of namespaces. For every line on standard input it runs one
 * container, and answers with two numbers in microseconds:
 *
 *   from fork to the first byte of the program's output
 *   from SIGKILL of "runsc run" until it, the sentry, the gofer and everything under them are gone
 *
 * With "storm" a line says how many containers to run at the same moment. The answer is as many numbers, each from the
 * moment to a first byte; then all are killed, and it says "gone" when nothing is left of them.
 *
 * With "exec" it runs one container for all lines, and "runsc exec" in it of the program that a line names; it
 * answers with the microseconds from fork to the end. With "run" it runs COMMAND... in place of runsc, with the run's number
 * for each {} in it, and at the end, uncounted, what is to be run by sh behind --after. With "time" it does so for COMMAND... and that program,
 * wherever that runs it, in no namespaces of its own.
 */
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common.h"

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write_all(fd, text, strlen(text)) < 0)
        die("%s can't be written", path);
    close(fd);
}

static void enter_namespaces(void)
{
    char map[64];
    unsigned user = geteuid(), group = getegid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) < 0)
        die("unshare of user, mount and network namespace");
    write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %u 1", user);
    write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "0 %u 1", group);
    write_file("/proc/self/gid_map", map);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        die("private mounts");
    struct ifreq request = {.ifr_flags = IFF_UP};
    strcpy(request.ifr_name, "lo");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        die("lo can't be set up");
    close(fd);
}

/* In a child: no input, that output, and an end with this process. */
static void set_up_child(int output, const char *program)
{
    int null = open("/dev/null", O_RDWR);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0)
        die("set-up of the child for %s", program);
}

/* Every run has a state directory and an id of its own, since a killed runsc leaves its state behind. */
static pid_t start(const char *runsc, const char *bundle, const char *state, unsigned run, int output)
{
    char root[4096], id[32];
    snprintf(root, sizeof root, "--root=%s/%u", state, run);
    snprintf(id, sizeof id, "bench-%u", run);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child > 0)
        return child;
    /* If this process dies, so does runsc, and with it its sentry. */
    set_up_child(output, "runsc");
    char *environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "TMPDIR=/tmp", NULL};
    execle(runsc, "runsc", root, "--network=sandbox", "--ignore-cgroups", "--overlay2=root:memory", "run", "--bundle",
           bundle, id, (char *)NULL, environment);
    die("%s can't be executed", runsc);
}

static void measure(const char *runsc, const char *bundle, const char *state, unsigned run)
{
    int output[2];
    char byte;
    if (pipe2(output, O_CLOEXEC) < 0)
        die("pipe");
    int64_t before = now_ns();
    pid_t child = start(runsc, bundle, state, run, output[1]);
    close(output[1]);
    if (read(output[0], &byte, 1) != 1)
        die("the program under plain runsc wrote nothing");
    int64_t first = now_ns();
    if (kill(child, SIGKILL) < 0)
        die("kill of runsc");
    /* The sentry and the gofer come to us, their subreaper. */
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    int64_t gone = now_ns();
    close(output[0]);
    printf("%lld %lld\n", (long long)(first - before) / 1000, (long long)(gone - first) / 1000);
    fflush(stdout);
}

/* Runs so many containers at once. Each has to write its byte. */
static void storm(const char *runsc, const char *bundle, const char *state, unsigned *run, long count)
{
    struct pollfd outputs[256];
    pid_t children[256];
    char byte;
    int64_t before = now_ns();
    for (long at = 0; at < count; at++) {
        int output[2];
        if (pipe2(output, O_CLOEXEC) < 0)
            die("pipe");
        children[at] = start(runsc, bundle, state, ++*run, output[1]);
        close(output[1]);
        outputs[at] = (struct pollfd){.fd = output[0], .events = POLLIN};
    }
    for (long left = count; left > 0;) {
        if (poll(outputs, (nfds_t)count, -1) < 0)
            die("poll");
        for (long at = 0; at < count; at++) {
            if (outputs[at].fd < 0 || outputs[at].revents == 0)
                continue;
            if (read(outputs[at].fd, &byte, 1) != 1)
                die("a program under plain runsc wrote nothing");
            printf("%lld\n", (long long)(now_ns() - before) / 1000);
            close(outputs[at].fd);
            outputs[at].fd = -1;
            left--;
        }
    }
    for (long at = 0; at < count; at++)
        kill(children[at], SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    printf("gone\n");
    fflush(stdout);
}

/* A word of a command with the run's number in place of {}. */
static char *numbered(const char *word, unsigned run)
{
    const char *mark = strstr(word, "{}");
    char *whole = NULL;
    int length = mark == NULL ? asprintf(&whole, "%s", word)
                              : asprintf(&whole, "%.*s%u%s", (int)(mark - word), word, run, mark + 2);
    if (length < 0)
        die("memory for \"%s\"", word);
    return whole;
}

static pid_t start_other(char *const *command, unsigned run, int output)
{
    char *words[64] = {0};
    for (int at = 0; command[at] != NULL; at++) {
        if (at == 63)
            die("too many arguments");
        words[at] = numbered(command[at], run);
    }
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        set_up_child(output, words[0]);
        execvp(words[0], words);
        die("%s can't be executed", words[0]);
    }
    for (int at = 0; words[at] != NULL; at++)
        free(words[at]);
    return child;
}

/* What a runtime leaves behind when it is killed comes to us, its subreaper, until nothing is left. */
static void end_children(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    for (;;) {
        FILE *children = fopen(path, "r");
        int pid, count = 0;
        if (children == NULL)
            die("%s can't be read", path);
        for (; fscanf(children, "%d", &pid) == 1; count++)
            kill(pid, SIGKILL);
        fclose(children);
        if (count == 0)
            return;
        if (waitpid(-1, NULL, 0) < 0 && errno != EINTR && errno != ECHILD)
            die("waitpid");
    }
}

static void measure_other(char *const *command, const char *after, unsigned run)
{
    int output[2];
    char byte;
    if (pipe2(output, O_CLOEXEC) < 0)
        die("pipe");
    int64_t before = now_ns();
    start_other(command, run, output[1]);
    close(output[1]);
    if (read(output[0], &byte, 1) != 1)
        die("the program under %s wrote nothing", command[0]);
    int64_t first = now_ns();
    end_children();
    int64_t gone = now_ns();
    close(output[0]);
    if (after != NULL) {
        char *script = numbered(after, run);
        if (system(script) != 0)
            die("\"%s\" failed", script);
        free(script);
    }
    printf("%lld %lld\n", (long long)(first - before) / 1000, (long long)(gone - first) / 1000);
    fflush(stdout);
}

/* Runs a command to its end, which has to be a good one. */
static void time_one(char *const *command)
{
    int status = 0;
    int64_t before = now_ns();
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
            die("set-up of the child for %s", command[0]);
        execvp(command[0], command);
        die("%s can't be executed", command[0]);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        die("%s ended with status %d", command[0], status);
    printf("%lld\n", (long long)(now_ns() - before) / 1000);
    fflush(stdout);
}

/* For every line the command with the line's program behind it. */
static void time_all(char *const *command, int length)
{
    char line[4096];
    char *whole[64] = {0};
    if (length > 60)
        die("too many arguments");
    memcpy(whole, command, sizeof(char *) * (size_t)length);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = 0;
        whole[length] = line;
        time_one(whole);
    }
}

static void exec_all(char *runsc, const char *bundle, const char *state)
{
    int output[2];
    char byte, root[4096];
    if (pipe2(output, O_CLOEXEC) < 0)
        die("pipe");
    pid_t child = start(runsc, bundle, state, 1, output[1]);
    close(output[1]);
    if (read(output[0], &byte, 1) != 1)
        die("the program under plain runsc wrote nothing");
    snprintf(root, sizeof root, "--root=%s/1", state);
    char *command[] = {runsc, root, "--network=sandbox", "--ignore-cgroups", "exec", "bench-1"};
    time_all(command, sizeof command / sizeof *command);
    kill(child, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "time") == 0) {
        time_all(argv + 2, argc - 2);
        return 0;
    }
    if (argc > 2 && strcmp(argv[1], "run") == 0) {
        const char *after = argc > 4 && strcmp(argv[2], "--after") == 0 ? argv[3] : NULL;
        char line[16];
        /* A client of a daemon is in the namespaces of its caller. */
        if (after == NULL)
            enter_namespaces();
        if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
            die("prctl");
        for (unsigned run = 1; fgets(line, sizeof line, stdin) != NULL; run++)
            measure_other(argv + (after == NULL ? 2 : 4), after, run);
        return 0;
    }
    const int storms = argc == 5 && strcmp(argv[4], "storm") == 0;
    if (argc != 4 && !storms && (argc != 5 || strcmp(argv[4], "exec") != 0)) {
        fprintf(stderr, "usage: raw RUNSC BUNDLE STATE [exec | storm] | raw run [--after COMMAND] COMMAND... |\n"
                        "       raw time COMMAND...\n");
        return 2;
    }
    enter_namespaces();
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        die("prctl");
    char line[16];
    unsigned run = 0;
    if (storms) {
        while (fgets(line, sizeof line, stdin) != NULL) {
            line[strcspn(line, "\n")] = 0;
            storm(argv[1], argv[2], argv[3], &run, number(line, 1, 256));
        }
        return 0;
    }
    if (argc == 5) {
        exec_all(argv[1], argv[2], argv[3]);
        return 0;
    }
    while (fgets(line, sizeof line, stdin) != NULL)
        measure(argv[1], argv[2], argv[3], ++run);
    return 0;
}
