/*
 * Times are monotonic: no call of the library asks for the wall clock to time something. The interposed
 * clock_gettime stands in for a clock that jumps a year at each look.
 */
#include "host.h"
#include <sys/syscall.h>

static volatile long long jump;

int clock_gettime(clockid_t clock, struct timespec *time) {
    int done = (int)syscall(SYS_clock_gettime, clock, time);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && jump != 0)
        time->tv_sec += (jump = -jump);
    return done;
}

int main(void) {
    CHECK(code_of("exit 0") == 0); /* makes the CA, whose validity is of the true time */
    jump = 365LL * 24 * 3600;
    sbx_sandbox *sandbox = started("exec sleep 1000");
    sbx_exit result = SBX_EXIT_INIT;
    CHECK(sbx_wait(sandbox, 100, &result, NULL) == SBX_ETIMEDOUT);
    CHECK(sbx_sandbox_state(sandbox) == SBX_STATE_RUNNING);
    CHECK(sbx_terminate(sandbox, NULL) == 0);
    result = ended(sandbox);
    CHECK(result.reason == SBX_EXIT_TERMINATED);
    CHECK(result.runtime_ms >= 0 && result.runtime_ms < PATIENCE);
    sbx_sandbox_free(sandbox);
    CHECK(code_of("exit 8") == 8);
    return 0;
}
