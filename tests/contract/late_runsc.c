/* The default runtime works once its runsc is there, or is named: no failure before is remembered. */
#include "self.h"

static int create(sbx_error *error) {
    sbx_config *config = script("exit 3");
    sbx_sandbox *sandbox = NULL, *begun = NULL;
    int code = sbx_create(NULL, config, &sandbox, error);
    if (code == 0)
        CHECK(ended(sandbox).code == 3);
    /* Begun, it fails with the same error, later. */
    OK(sbx_create_begin(NULL, config, &begun, &error));
    sbx_error failure = SBX_ERROR_INIT;
    CHECK(sbx_wait(begun, PATIENCE, NULL, &failure) == code);
    if (code < 0) {
        CHECK(strcmp(failure.message, error->message) == 0);
        CHECK(sbx_sandbox_failure(begun, &failure) == code && strcmp(failure.message, error->message) == 0);
    }
    sbx_sandbox_free(sandbox);
    sbx_sandbox_free(begun);
    sbx_config_free(config);
    return code;
}

int main(void) {
    char real[4096], path[4096];
    sbx_error error = SBX_ERROR_INIT;
    CHECK(snprintf(real, sizeof real, "%s", getenv("SBX_RUNSC")) > 0);
    CHECK(snprintf(path, sizeof path, "%s/late", getenv("TMPDIR")) > 0);
    CHECK(setenv("SBX_RUNSC", "/no/where", 1) == 0);
    CHECK(create(&error) == SBX_ERUNSC_MISSING && strstr(error.message, "/no/where") != NULL);
    /* Named otherwise. */
    CHECK(setenv("SBX_RUNSC", path, 1) == 0);
    CHECK(create(&error) == SBX_ERUNSC_MISSING && strstr(error.message, path) != NULL);
    /* Put there. */
    CHECK(symlink(real, path) == 0);
    CHECK(create(&error) == 0);
    /* From now on the environment counts no more, and the place does. */
    CHECK(setenv("SBX_RUNSC", "/no/where", 1) == 0);
    CHECK(create(&error) == 0);
    CHECK(unlink(path) == 0);
    CHECK(create(&error) == SBX_ERUNSC_MISSING && strstr(error.message, path) != NULL);
    CHECK(symlink(real, path) == 0);
    CHECK(create(&error) == 0);
    CHECK(unlink(path) == 0);
    return 0;
}
