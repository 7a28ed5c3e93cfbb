/* Two copies of the library in one process, each with sandboxes; neither takes the other's handles. Not linked. */
#include "dynamic.h"

int main(int argc, char **argv) {
    CHECK(argc == 3);
    api one = load(argv[1]), two = load(argv[2]);
    CHECK((void *)one.create != (void *)two.create);
    sbx_sandbox *first = start(&one, "sleep 1; exit 1"), *second = start(&two, "sleep 1; exit 2");
    sbx_exit result = SBX_EXIT_INIT;
    CHECK(one.state(second) == SBX_EHANDLE && two.state(first) == SBX_EHANDLE);
    CHECK(one.terminate(second, NULL) == SBX_EHANDLE && two.wait(first, 0, &result, NULL) == SBX_EHANDLE);
    one.free(second); /* ignored */
    CHECK(two.state(second) >= SBX_STATE_RUNNING);
    CHECK(one.wait(first, PATIENCE, &result, NULL) == 0 && result.code == 1);
    CHECK(two.wait(second, PATIENCE, &result, NULL) == 0 && result.code == 2);
    one.free(first);
    two.free(second);
    return 0;
}
