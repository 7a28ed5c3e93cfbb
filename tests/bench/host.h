/* What the host programs of the benchmark share: the library's last error, and giving up with it. */
#ifndef BENCH_HOST_H
#define BENCH_HOST_H

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

#endif
