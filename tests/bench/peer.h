/* The program of a peer (client/raw.c) that a host program runs in turns with the library: a line is a request of it. */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <fcntl.h>
#include <sys/wait.h>

#include "client/common.h"

static FILE *to_raw, *from_raw;
static pid_t raw;

/* Before the library is used: it refuses children of fork. */
static void start_raw(char *const *command)
{
    int request[2], answer[2];
    if (pipe2(request, O_CLOEXEC) < 0 || pipe2(answer, O_CLOEXEC) < 0)
        die("pipe");
    raw = fork();
    if (raw < 0)
        die("fork");
    if (raw == 0) {
        dup2(request[0], STDIN_FILENO);
        dup2(answer[1], STDOUT_FILENO);
        execv(command[0], command);
        die("%s can't be executed", command[0]);
    }
    close(request[0]);
    close(answer[1]);
    to_raw = fdopen(request[1], "w");
    from_raw = fdopen(answer[0], "r");
    if (to_raw == NULL || from_raw == NULL)
        die("fdopen");
}

static void stop_raw(void)
{
    fclose(to_raw);
    fclose(from_raw);
    waitpid(raw, NULL, 0);
}

#endif
