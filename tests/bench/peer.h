/* The programs of peers (client/raw.c) that a host program runs in turns with the library: a line is a request of one. */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <fcntl.h>
#include <sys/wait.h>

#include "client/common.h"

struct peer {
    const char *name;
    FILE *to, *from;
    pid_t process;
};

static FILE *to_raw, *from_raw;
static struct peer only;

/* Before the library is used: it refuses children of fork. */
static struct peer start_peer(const char *name, char *const *command)
{
    int request[2], answer[2];
    if (pipe2(request, O_CLOEXEC) < 0 || pipe2(answer, O_CLOEXEC) < 0)
        die("pipe");
    struct peer peer = {.name = name, .process = fork()};
    if (peer.process < 0)
        die("fork");
    if (peer.process == 0) {
        dup2(request[0], STDIN_FILENO);
        dup2(answer[1], STDOUT_FILENO);
        execvp(command[0], command);
        die("%s can't be executed", command[0]);
    }
    close(request[0]);
    close(answer[1]);
    peer.to = fdopen(request[1], "w");
    peer.from = fdopen(answer[0], "r");
    if (peer.to == NULL || peer.from == NULL)
        die("fdopen");
    return peer;
}

static void stop_peer(struct peer *peer)
{
    fclose(peer->to);
    fclose(peer->from);
    waitpid(peer->process, NULL, 0);
}

/* Where there is one peer. */
static inline void start_raw(char *const *command)
{
    only = start_peer("raw", command);
    to_raw = only.to;
    from_raw = only.from;
}

static inline void stop_raw(void)
{
    stop_peer(&only);
}

#endif
