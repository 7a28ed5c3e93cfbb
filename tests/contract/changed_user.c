/* A process whose real, effective and saved user differ (setuid programs): an error that says what to do. */
#include "self.h"

int main(void) {
    /* Only who may change users can get there. */
    if (setresuid(-1, 65534, -1) != 0)
        return 0;
    CHECK(setresuid(-1, 0, -1) == 0);
    sbx_config *config = script("exit 6");
    sbx_sandbox *sandbox = NULL;
    sbx_error error = SBX_ERROR_INIT;
    CHECK(setresuid(-1, 65534, -1) == 0);
    CHECK(sbx_create(NULL, config, &sandbox, &error) == SBX_EHOST);
    CHECK(strstr(error.message, "setresuid") != NULL && sandbox == NULL);
    CHECK(setresuid(-1, 0, -1) == 0);
    CHECK(setresgid(-1, 65534, -1) == 0);
    CHECK(sbx_create(NULL, config, &sandbox, &error) == SBX_EHOST);
    CHECK(setresgid(-1, 0, -1) == 0);
    CHECK(childless());
    /* One again: it works. */
    CHECK(code_of("exit 6") == 6);
    /* Another for good: it works too, as that one. */
    CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    sbx_config_free(config);
    CHECK(code_of("exit 6") == 6);
    return 0;
}
