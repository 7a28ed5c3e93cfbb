/* Moving this process into a sandbox's gateway namespace: the one of the keeper with the given id. */
#ifndef BENCH_NAMESPACE_H
#define BENCH_NAMESPACE_H

#include <fcntl.h>
#include <sched.h>

#include "common.h"

static inline void enter_one(long pid, const char *name, int kind)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/ns/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die("%s can't be opened", path);
    if (setns(fd, kind) < 0)
        die("setns into %s", path);
    close(fd);
}

/* The network namespace only. An ordinary user has to become owner of it first, in its user namespace. */
static inline void enter_network_of(long pid)
{
    if (geteuid() != 0)
        enter_one(pid, "user", CLONE_NEWUSER);
    enter_one(pid, "net", CLONE_NEWNET);
}

#endif
