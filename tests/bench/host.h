/* What the host programs of the benchmark share: the library's last error and giving up with it, and processor time. */
#ifndef BENCH_HOST_H
#define BENCH_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "client/common.h"
#include "sbx.h"

static sbx_error error = SBX_ERROR_INIT;

static inline void must(int result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "%s: %d: %s\n", what, result, error.message);
    exit(1);
}

/* What this process has used, or it and its children that have ended. */
static inline int64_t processor_us(bool with_children)
{
    int64_t sum = 0;
    const int whose[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
    for (int at = 0; at < (with_children ? 2 : 1); at++) {
        struct rusage used;
        getrusage(whose[at], &used);
        sum += (int64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 + used.ru_utime.tv_usec +
               used.ru_stime.tv_usec;
    }
    return sum;
}

#endif
