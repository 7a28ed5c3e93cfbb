/* Structs say their size: 0, exact, too short, longer with and without something in the tail. */
#include "check.h"

struct long_config { sbx_runtime_config known; uint64_t tail; };
struct long_error { sbx_error known; uint64_t tail; };

static int check_with(sbx_runtime_config *config, sbx_error *error) {
    sbx_report *before = (sbx_report *)error, *report = before;
    int code = sbx_runtime_check(config, &report, error);
    /* Written on success only. */
    CHECK((code == 0) == (report != before));
    if (code == 0)
        sbx_report_free(report);
    return code;
}

int main(void) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_runtime_config config = SBX_RUNTIME_CONFIG_INIT;
    CHECK(check_with(&config, &error) != SBX_ESIZE);
    config.size = 0;
    CHECK(check_with(&config, &error) != SBX_ESIZE);
    config.size = sizeof config - 1;
    CHECK(check_with(&config, &error) == SBX_ESIZE && strstr(error.message, "sbx_runtime_config") != NULL);
    config.size = sizeof config;
    config.flags = 1u << 31;
    CHECK(check_with(&config, &error) == SBX_EINVALID);
    config.flags = 0;
    config.runsc = "\xff";
    CHECK(check_with(&config, &error) == SBX_EINVALID);

    struct long_config longer = {SBX_RUNTIME_CONFIG_INIT, 0};
    longer.known.size = sizeof longer;
    CHECK(check_with(&longer.known, &error) != SBX_ESIZE);
    longer.tail = 1;
    CHECK(check_with(&longer.known, &error) == SBX_ESIZE);

    struct long_error failure = {SBX_ERROR_INIT, 0x5a5a5a5a5a5a5a5a};
    failure.known.size = sizeof failure;
    CHECK(sbx_config_check(NULL, &failure.known) == SBX_EHANDLE);
    CHECK(failure.known.code == SBX_EHANDLE && failure.known.size == sizeof failure);
    CHECK(failure.tail == 0x5a5a5a5a5a5a5a5a);

    memset(&error, 0, sizeof error);
    CHECK(sbx_config_check(NULL, &error) == SBX_EHANDLE && error.size == 0 && error.message[0] != 0);
    error.size = 100;
    error.code = 7;
    CHECK(sbx_config_check(NULL, &error) == SBX_ESIZE && error.code == 7);
    error.size = 0xcccccccc;
    CHECK(sbx_config_check(NULL, &error) == SBX_ESIZE && error.code == 7);
    return 0;
}
