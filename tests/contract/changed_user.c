/* A process whose effective user isn't its real one: an error that says so, or a sandbox; never a hang. */
#include "self.h"

int main(void) {
    if (geteuid() != 0)
        return 0;
    CHECK(setresgid(65534, 65534, 65534) == 0);
    CHECK(setresuid(65534, 1, 0) == 0);
    sbx_config *config = script("exit 6");
    sbx_sandbox *sandbox = NULL;
    sbx_error error = SBX_ERROR_INIT;
    int code = sbx_create(NULL, config, &sandbox, &error);
    if (code == 0)
        CHECK(ended(sandbox).code == 6);
    else
        CHECK(error.message[0] != 0 && strstr(error.message, "user") != NULL);
    printf("%d %s\n", code, error.message);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);
    CHECK(childless());
    return 0;
}
