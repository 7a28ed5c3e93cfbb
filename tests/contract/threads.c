/* Two threads, with one sandbox and with twenty. */
#include "probe.h"

int main(void) {
    sbx_sandbox *sandboxes[20];
    int tasks = threads(), last = 0;
    for (int i = 0; i < 20; i++) {
        sandboxes[i] = started("exec sleep 1000");
        CHECK(threads() == tasks + 2);
        int fds = descriptors();
        /* And a bounded number of descriptors each. */
        CHECK(i == 0 || fds - last <= 16);
        last = fds;
    }
    for (int i = 0; i < 20; i++)
        CHECK(sbx_terminate(sandboxes[i], NULL) == 0);
    for (int i = 0; i < 20; i++) {
        CHECK(ended(sandboxes[i]).reason == SBX_EXIT_TERMINATED);
        sbx_sandbox_free(sandboxes[i]);
    }
    CHECK(threads() == tasks + 2);
    return 0;
}
