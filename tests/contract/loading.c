/* dlclose does nothing, also while the library's threads run; a sandbox lives through it. Not linked. */
#include "dynamic.h"

int main(int argc, char **argv) {
    CHECK(argc == 2);
    api first = load(argv[1]);
    sbx_sandbox *sandbox = start(&first, "sleep 1; exit 9");
    for (int i = 0; i < 100; i++) {
        dlclose(first.library);
        first = load(argv[1]);
        CHECK(first.state(sandbox) >= SBX_STATE_RUNNING);
    }
    dlclose(first.library);
    sbx_exit result = SBX_EXIT_INIT;
    CHECK(first.wait(sandbox, PATIENCE, &result, NULL) == 0 && result.code == 9);
    first.free(sandbox);
    /* And the end of the process with the library's threads running is an ordinary one. */
    return 0;
}
